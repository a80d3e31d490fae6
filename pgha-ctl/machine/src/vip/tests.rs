use proptest::prelude::*;

use super::*;

const EPOCH: Epoch = Epoch::new(7);
const LEASE: Moment = Moment::new(60_000);

fn at(milliseconds: u64) -> Moment {
    Moment::new(1_000 + milliseconds)
}

fn mac(last: u8) -> Mac {
    Mac::new([2, 0, 0, 0, 0, last]).unwrap()
}

fn seen(here: bool, link: Link) -> Event {
    Event::Seen(Sight { here, link, mac: Some(mac(1)) })
}

const fn ordered(wanted: Wanted, until: Moment) -> Event {
    Event::Ordered(Orders { wanted, until })
}

/// What follows from an event.
fn after(keeper: &mut Keeper, now: Moment, event: Event) -> Vec<Effect> {
    keeper.handle(now, event);
    std::iter::from_fn(|| keeper.poll_effect()).collect()
}

fn found(here: bool) -> Keeper {
    let undecided = Orders { wanted: Wanted::Undecided, until: Moment::new(u64::MAX) };
    let mut keeper = Keeper::new(undecided);
    assert_eq!(after(&mut keeper, at(0), seen(here, Link::Up)), []);
    keeper
}

/// One that holds it, and has said so as often as it does at first.
fn holder() -> Keeper {
    let mut keeper = found(true);
    after(&mut keeper, at(0), ordered(Wanted::Here(EPOCH), LEASE));
    after(&mut keeper, at(6_000), Event::Tick);
    keeper
}

#[test]
fn a_promotion_asks_who_has_it_then_puts_it_on_and_tells_everybody_again_and_again() {
    use Effect::{Announce, Ask, Probe, PutOn, Tell};
    let mut keeper = found(false);
    assert_eq!(after(&mut keeper, at(0), ordered(Wanted::Soon, LEASE)), [Probe]);
    assert_eq!(after(&mut keeper, at(10), ordered(Wanted::Here(EPOCH), LEASE)), [PutOn]);
    let told = after(&mut keeper, at(11), seen(true, Link::Up));
    assert_eq!(told, [Tell(News::Here(EPOCH)), Announce, Ask]);
    let mut announced = Vec::new();
    let mut now = at(11);
    while let Some(due) = keeper.poll_timeout(now).filter(|due| *due < at(5_012)) {
        now = due;
        let follows = after(&mut keeper, now, Event::Tick);
        announced.extend(follows.contains(&Announce).then(|| now.since(at(11)).as_millis()));
    }
    assert_eq!(announced, [50, 200, 750, 2_000, 5_000]);
    assert!(keeper.is_here(now));
}

#[test]
fn what_a_former_agent_left_stays_until_it_is_known_whose_it_is() {
    let mut keeper = found(true);
    assert_eq!(after(&mut keeper, at(1), ordered(Wanted::Undecided, at(500))), []);
    assert_eq!(after(&mut keeper, at(2), seen(true, Link::Up)), []);
    assert_eq!(keeper.poll_timeout(at(2)), Some(at(500)));
    // Its lease has ended.
    assert_eq!(after(&mut keeper, at(500), Event::Tick), [Effect::TakeOff]);
    assert!(!keeper.is_off());
    let gone = after(&mut keeper, at(501), seen(false, Link::Up));
    assert_eq!(gone, [Effect::Tell(News::Gone)]);
    assert!(keeper.is_off() && keeper.is_settled(at(501)));
}

#[test]
fn whoever_takes_it_off_it_is_put_on_again_while_the_lease_lasts() {
    use Effect::{Announce, PutOn, Tell};
    let mut keeper = holder();
    let now = at(7_000);
    let removed = after(&mut keeper, now, seen(false, Link::Up));
    assert_eq!(removed, [Tell(News::Removed), PutOn]);
    let back = after(&mut keeper, now, seen(true, Link::Up));
    assert_eq!(back, [Tell(News::Here(EPOCH)), Announce]);
    // Again and again, but not as fast as somebody takes it off.
    assert_eq!(after(&mut keeper, now, seen(false, Link::Up)), [Tell(News::Removed)]);
    assert_eq!(keeper.poll_timeout(now), Some(now + AGAIN));
    assert_eq!(after(&mut keeper, now + AGAIN, Event::Tick), [PutOn]);
    // Without a lease nobody puts it on.
    assert_eq!(after(&mut keeper, LEASE, seen(false, Link::Up)), []);
}

#[test]
fn a_refusal_of_the_kernel_is_no_end() {
    let mut keeper = holder();
    let now = at(7_000);
    assert_eq!(after(&mut keeper, now, Event::Ordered(Orders::OFF)), [Effect::TakeOff]);
    assert_eq!(after(&mut keeper, now, Event::Refused), []);
    assert_eq!(keeper.poll_timeout(now), Some(now + AGAIN));
    assert_eq!(after(&mut keeper, now + AGAIN, Event::Tick), [Effect::TakeOff]);
    assert!(!keeper.is_settled(now + AGAIN));
}

#[test]
fn who_is_not_the_primary_takes_it_off_whoever_puts_it_on() {
    let mut keeper = found(false);
    after(&mut keeper, at(0), Event::Ordered(Orders::OFF));
    let stray = after(&mut keeper, at(10), seen(true, Link::Up));
    assert_eq!(stray, [Effect::Tell(News::Stray), Effect::TakeOff]);
}

#[test]
fn a_rival_is_told_of_and_answered_at_a_bounded_rate() {
    use Effect::{Announce, Tell};
    let rival = Event::Heard { by: mac(9), way: Way::Announces };
    let told = Tell(News::Rival { mac: mac(9), way: Way::Announces });
    let mut keeper = holder();
    assert_eq!(after(&mut keeper, at(7_000), rival), [told, Announce]);
    assert_eq!(keeper.rivals().collect::<Vec<_>>(), [(mac(9), Way::Announces)]);
    let mut announced = 0;
    for now in 1..3_000 {
        announced += usize::from(after(&mut keeper, at(7_000 + now), rival).contains(&Announce));
    }
    assert_eq!(announced, 2, "in three seconds, after the first");
    // Once more for whoever took no notice of one so soon after another, and no more.
    let silent = (3_000..6_000)
        .filter(|now| after(&mut keeper, at(7_000 + now), Event::Tick).contains(&Announce));
    assert_eq!(silent.count(), 2, "the one that is due, and the last");
    // Forgotten after a while, and told again then.
    let quiet = after(&mut keeper, at(9_999) + FORGOTTEN, Event::Tick);
    assert!(quiet.contains(&Tell(News::Quiet { mac: mac(9) })), "{quiet:?}");
    assert_eq!(keeper.rivals().count(), 0);
    assert!(after(&mut keeper, at(30_000), rival).contains(&told));
    // Whoever does not have it hears others have it rightly.
    after(&mut keeper, at(30_001), Event::Ordered(Orders::OFF));
    assert_eq!(keeper.rivals().count(), 0);
    assert!(!after(&mut keeper, at(30_002), rival).contains(&told));
}

#[test]
fn who_has_it_before_it_is_here_is_told_of_and_delays_nothing() {
    let mut keeper = found(false);
    after(&mut keeper, at(0), ordered(Wanted::Soon, LEASE));
    let heard = Event::Heard { by: mac(9), way: Way::Answers };
    let news = Effect::Tell(News::Rival { mac: mac(9), way: Way::Answers });
    assert_eq!(after(&mut keeper, at(1), heard), [news]);
    let claim = after(&mut keeper, at(2), ordered(Wanted::Here(EPOCH), LEASE));
    assert_eq!(claim, [Effect::PutOn]);
}

#[test]
fn a_link_that_does_not_carry_it_is_a_fault_and_one_that_flaps_is_none() {
    use Effect::Fault;
    let mut keeper = holder();
    assert_eq!(after(&mut keeper, at(7_000), seen(true, Link::Down)), []);
    let back = after(&mut keeper, at(7_050), seen(true, Link::Up));
    assert_eq!(back, [Effect::Tell(News::Here(EPOCH)), Effect::Announce]);
    // It says no more of itself by then.
    after(&mut keeper, at(12_100), Event::Tick);
    assert_eq!(after(&mut keeper, at(13_000), seen(true, Link::Down)), []);
    assert_eq!(keeper.poll_timeout(at(13_000)), Some(at(13_000) + FLAP));
    assert_eq!(after(&mut keeper, at(13_000) + FLAP, Event::Tick), [Fault(Some(Link::Down))]);
    assert!(keeper.is_faulty());
    assert_eq!(after(&mut keeper, at(13_500), seen(true, Link::Down)), []);
    assert!(after(&mut keeper, at(14_000), seen(true, Link::Up)).contains(&Fault(None)));
    assert!(!keeper.is_faulty());
    let absent = after(&mut keeper, at(15_000), seen(false, Link::Absent));
    assert!(absent.contains(&Fault(Some(Link::Absent))), "{absent:?}");
}

fn events() -> impl Strategy<Value = Event> {
    let wanted = prop_oneof![
        Just(Wanted::Undecided),
        Just(Wanted::Off),
        Just(Wanted::Soon),
        Just(Wanted::Here(EPOCH)),
    ];
    let link = prop_oneof![4 => Just(Link::Up), 1 => Just(Link::Down), 1 => Just(Link::Absent)];
    let way = prop_oneof![Just(Way::Announces), Just(Way::Answers), Just(Way::Probes)];
    prop_oneof![
        (wanted, 0_u64..20_000).prop_map(|(wanted, until)| ordered(wanted, at(until))),
        (any::<bool>(), link).prop_map(|(here, link)| seen(here, link)),
        Just(Event::Refused),
        (2_u8..4, way).prop_map(|(by, way)| Event::Heard { by: mac(by), way }),
        Just(Event::Tick),
    ]
}

proptest! {
    /// Without a lease nothing is put on and nothing said; what is not wanted is taken off; nobody defends faster
    /// than he may; and there is always a moment at which more is done.
    #[test]
    fn random_histories_keep_the_rules(
        history in prop::collection::vec((0_u64..400, events()), 1..120),
    ) {
        let mut keeper = found(false);
        let (mut now, mut orders) = (at(0), keeper.orders);
        let mut announced: Vec<Moment> = Vec::new();
        for (later, event) in history {
            now = now + Duration::from_millis(later);
            if let Event::Ordered(other) = event {
                orders = other;
            }
            for effect in after(&mut keeper, now, event) {
                match effect {
                    Effect::PutOn | Effect::Ask => prop_assert!(orders.allow(now)),
                    Effect::Announce => {
                        prop_assert!(orders.allow(now));
                        announced.push(now);
                    }
                    Effect::TakeOff => prop_assert!(!orders.bear(now)),
                    Effect::Probe => prop_assert_eq!(orders.wanted, Wanted::Soon),
                    Effect::Fault(_) | Effect::Tell(_) => {}
                }
            }
            let wrong = keeper.wrong(now).is_some() && !keeper.trying;
            prop_assert!(!wrong || keeper.poll_timeout(now).is_some());
        }
        // The kernel does what it is told from here on.
        let mut here = true;
        for _ in 0..4 {
            now = now + AGAIN;
            for effect in after(&mut keeper, now, seen(here, Link::Up)) {
                here = effect == Effect::PutOn || (here && effect != Effect::TakeOff);
            }
        }
        after(&mut keeper, now, seen(here, Link::Up));
        prop_assert!(keeper.is_settled(now));
        let right = if here { orders.bear(now) } else { !orders.allow(now) };
        prop_assert!(right);
    }
}
