use std::time::Duration;

use super::{CROSSING, Director, Effect, Event, HANDOVER, Heard, REPEAT, Role, first_role};
use crate::Mac;

const SOME_TIME: Duration = Duration::from_secs(100);
const LATER: Duration = Duration::from_secs(110);

fn mac(last: u8) -> Mac {
    Mac::new([2, 0, 0, 0, 0, last]).unwrap()
}

fn claimed(own: u8, by: u8) -> Event {
    Event::Claimed { own: mac(own), by: mac(by) }
}

#[test]
fn every_role_meets_every_event() {
    let taking = Role::TakingOver { since: SOME_TIME, again: false };
    let (active, standby) = (Role::Active, Role::Standby);
    let gives_up = (Role::Standby, Some(Effect::Withdraw));
    for (role, event, wanted) in [
        (standby, Event::Take, (taking, Some(Effect::Announce))),
        (standby, Event::Release, (standby, None)),
        (standby, Event::Announced, (standby, None)),
        (standby, claimed(1, 2), (standby, None)),
        (standby, Event::Tick, (standby, None)),
        (taking, Event::Take, (taking, None)),
        (taking, Event::Release, gives_up),
        (taking, Event::Announced, (taking, None)),
        (taking, claimed(1, 2), gives_up),
        (taking, Event::Tick, (taking, None)),
        (active, Event::Take, (active, None)),
        (active, Event::Release, gives_up),
        (active, Event::Announced, (active, None)),
        (active, claimed(1, 2), gives_up),
        (active, Event::Tick, (active, None)),
    ] {
        let mut director = Director::new(role);
        let effect = director.handle(SOME_TIME, event);
        assert_eq!((director.role(), effect), wanted, "{role:?} {event:?}");
    }
    let mut director = Director::new(taking);
    let mut tick = |wanted| {
        let due = director.deadline().unwrap();
        assert_eq!(director.handle(due - Duration::from_nanos(1), Event::Tick), None);
        assert_eq!(director.handle(due, Event::Tick), Some(wanted));
        due
    };
    assert_eq!(tick(Effect::Announce), SOME_TIME + REPEAT);
    assert_eq!(tick(Effect::Answer), SOME_TIME + HANDOVER);
    assert_eq!((director.role(), director.deadline()), (Role::Active, None));
}

#[test]
fn whoever_announces_later_has_it() {
    let mut director = Director::new(Role::Active);
    director.handle(SOME_TIME, Event::Announced);
    let heard = SOME_TIME + CROSSING;
    assert_eq!(director.handle(heard, claimed(1, 2)), Some(Effect::Withdraw));
}

#[test]
fn who_has_just_announced_hears_the_second_announcement() {
    let [mut active, mut taker] = [Role::Active, Role::Standby].map(Director::new);
    active.handle(SOME_TIME, Event::Announced);
    taker.handle(SOME_TIME, claimed(2, 1));
    let soon = SOME_TIME + CROSSING / 2;
    assert_eq!(taker.handle(soon, Event::Take), Some(Effect::Announce));
    taker.handle(soon, Event::Announced);
    assert_eq!(active.handle(soon, claimed(1, 2)), None);
    let again = taker.deadline().unwrap();
    assert_eq!(taker.handle(again, Event::Tick), Some(Effect::Announce));
    assert_eq!(active.handle(again, claimed(1, 2)), Some(Effect::Withdraw));
    assert_eq!(taker.handle(taker.deadline().unwrap(), Event::Tick), Some(Effect::Answer));
}

#[test]
fn of_two_announcements_that_cross_one_counts() {
    // An active one that repeats, against one that takes over; two that take over.
    for roles in [[Role::Active, Role::Standby], [Role::Standby, Role::Standby]] {
        for macs in [[1, 2], [2, 1]] {
            let mut directors = roles.map(Director::new);
            for director in &mut directors {
                director.handle(SOME_TIME, Event::Take);
                director.handle(SOME_TIME, Event::Announced);
            }
            let soon = SOME_TIME + CROSSING / 2;
            directors[0].handle(soon, claimed(macs[0], macs[1]));
            directors[1].handle(soon, claimed(macs[1], macs[0]));
            for director in &mut directors {
                director.handle(LATER, Event::Tick);
                director.handle(LATER, Event::Tick);
            }
            let active = directors.map(|director| director.role() == Role::Active);
            assert_eq!(active, [macs[0] < macs[1], macs[0] > macs[1]], "{roles:?}");
        }
    }
}

fn heard(by: u8, asks: bool) -> Heard {
    Heard { vip: [10, 0, 0, 100].into(), by: mac(by), own: mac(5), asks }
}

#[test]
fn a_start_stands_by_for_a_peer_and_refuses_a_stranger() {
    let begin = |inherited, heard: &[Heard]| first_role(inherited, heard, |by| by < mac(10));
    assert_eq!(begin(None, &[]), Ok(Role::Active));
    assert_eq!(begin(None, &[heard(7, false)]), Ok(Role::Standby));
    assert_eq!(begin(None, &[heard(7, false), heard(12, true)]), Err(heard(12, true)));
    // Two that start at the same time.
    assert_eq!(begin(None, &[heard(7, true)]), Ok(Role::Active));
    assert_eq!(begin(None, &[heard(3, true)]), Ok(Role::Standby));
    // A data plane that serves is not given up because a stranger answers too.
    for who in [&[][..], &[heard(12, false)], &[heard(3, true)]] {
        assert_eq!(begin(Some(true), who), Ok(Role::Active), "{who:?}");
        assert_eq!(begin(Some(false), who), Ok(Role::Standby), "{who:?}");
    }
    assert_eq!(begin(Some(true), &[heard(7, false)]), Ok(Role::Standby));
}
