//! What the primary, the standbys behind standbys and the operators say, and who serves by that.

use std::time::Duration;

use super::super::{
    Balancer, Config, Connections, Discovery, Effect, Event, Finding, Inherited, LagLimits, Limit,
    News, OrderChange, Orders, Path, PrimaryAnswer, Standby, SyncState, WeightReason, Withheld,
};
use super::{
    GOOD, NOT_IN_RECOVERY, NOW, SILENT_ABOUT_ITSELF, VIP, answer, answers, at, bring_up, config,
    drain, effects, host, ordered, readers, service, streaming, target, undrain, walsender,
    withheld,
};
use crate::{EffectiveWeight, Lsn, Moment, Timeline, Weight};

fn path(number: u8) -> Path {
    Path { vip: VIP, port: 5432, address: host(number) }
}

fn later(seconds: u64) -> Moment {
    NOW + Duration::from_secs(seconds)
}

fn says(timeline: u32, end: u64, streaming: &[u8]) -> PrimaryAnswer {
    PrimaryAnswer {
        host: host(1),
        timeline: Some(Timeline::new(timeline)),
        system: Some(7),
        lsn: Some(Lsn::new(end)),
        walsenders: streaming.iter().map(|n| walsender(*n, SyncState::Async)).collect(),
    }
}

fn standby(timeline: u32, replayed: u64) -> Standby {
    Standby {
        received: Some(Lsn::new(replayed)),
        replayed: Some(Lsn::new(replayed)),
        timeline: Some(Timeline::new(timeline)),
        system: Some(7),
        receiving: true,
        ..SILENT_ABOUT_ITSELF
    }
}

fn checked(balancer: &mut Balancer, now: Moment, number: u8, standby: Standby) {
    balancer.handle(now, Event::Checked(target(number), Finding::Standby(standby)));
}

fn limited(discovery: Discovery, nodes: &[u8]) -> Config {
    let mut config = config(discovery, nodes);
    config.services[0].lag = LagLimits {
        bytes: Some(Limit { drain: 1_000, back: 500 }),
        time: Some(Limit { drain: Duration::from_secs(10), back: Duration::from_secs(5) }),
    };
    config
}

fn two_with_limits() -> Balancer {
    let mut balancer = Balancer::new(limited(Discovery::Walsenders, &[]), &Inherited::default());
    balancer.handle(NOW, Event::Primary(says(1, 10_000, &[2, 3])));
    bring_up(&mut balancer, &[2, 3]);
    balancer
}

#[test]
fn a_standby_that_lags_drains_and_returns_at_the_lower_edge() {
    let mut balancer = two_with_limits();
    let mut config = limited(Discovery::Walsenders, &[]);
    config.services[0].lag.time = None;
    balancer.handle(NOW, Event::Configured(config));
    checked(&mut balancer, NOW, 3, standby(1, 10_000));
    for (replayed, lags) in
        [(9_000, false), (8_999, true), (9_499, true), (9_500, false), (9_000, false)]
    {
        checked(&mut balancer, NOW, 2, standby(1, replayed));
        assert_eq!(withheld(&balancer, 2).contains(&Withheld::Lagging), lags, "{replayed}");
        assert!(!service(&balancer).reals[0].dead, "its sessions stay");
    }
    let lagging = |news: fn(Path, Withheld) -> News| Effect::Tell(news(path(2), Withheld::Lagging));
    assert_eq!(
        effects(&mut balancer),
        [lagging(News::Withheld), Effect::Program, lagging(News::Mended), Effect::ProgramSoon]
    );
}

#[test]
fn a_standby_lags_in_time_by_this_controllers_clock() {
    let mut balancer = two_with_limits();
    checked(&mut balancer, NOW, 3, standby(1, 10_000));
    balancer.handle(later(1), Event::Primary(says(1, 10_001, &[2, 3])));
    for (second, lags) in [(2, false), (11, false), (12, true)] {
        checked(&mut balancer, later(second), 3, standby(1, 10_001));
        checked(&mut balancer, later(second), 2, standby(1, 10_000));
        assert_eq!(withheld(&balancer, 2) == [Withheld::Lagging], lags, "{second}");
        let view = &balancer.view()[0].servers[0];
        assert_eq!((view.lag_bytes, view.lag_ms), (Some(1), Some((second - 1) * 1_000)));
    }
    assert_eq!(readers(&balancer), [host(3)]);
}

#[test]
fn lag_empties_no_service_and_a_lost_primary_changes_no_verdict() {
    let mut balancer = two_with_limits();
    checked(&mut balancer, NOW, 2, standby(1, 1));
    assert_eq!(readers(&balancer), [host(3)]);
    balancer.handle(NOW, Event::PrimaryLost);
    // It has caught up, or so it would seem beside what the primary said last.
    checked(&mut balancer, later(30), 2, standby(1, 10_000));
    assert_eq!(readers(&balancer), [host(3)]);
    checked(&mut balancer, later(60), 3, standby(1, 1));
    assert_eq!(readers(&balancer), [host(3)]);
    balancer.handle(later(61), Event::Primary(says(1, 10_000, &[2, 3])));
    checked(&mut balancer, later(61), 3, standby(1, 1));
    checked(&mut balancer, later(61), 2, standby(1, 1));
    assert_eq!(readers(&balancer), [host(2), host(3)], "better these than none");
    assert_eq!(withheld(&balancer, 2), []);
    let reasons = balancer.view()[0].servers[0].weight_reasons.clone();
    assert_eq!(reasons[1..], [WeightReason::Tolerated { of: Withheld::Lagging }]);
}

#[test]
fn a_standby_behind_a_standby_is_found_through_it() {
    for discovery in [Discovery::Walsenders, Discovery::Both] {
        let mut balancer = Balancer::new(config(discovery, &[2]), &Inherited::default());
        balancer.handle(NOW, answer(&[(2, SyncState::Async)]));
        bring_up(&mut balancer, &[2]);
        let behind = |numbers: &[u8]| Standby {
            walsenders: numbers.iter().map(|n| walsender(*n, SyncState::Async)).collect(),
            ..SILENT_ABOUT_ITSELF
        };
        checked(&mut balancer, NOW, 2, behind(&[3]));
        let joined = effects(&mut balancer);
        assert!(joined.contains(&Effect::Tell(News::Joined(target(3)))), "{joined:?}");
        bring_up(&mut balancer, &[3]);
        assert_eq!(readers(&balancer), [host(2), host(3)]);
        assert_eq!(balancer.view()[0].servers[1].upstream, Some(host(2)));
        // The primary does not know it, and that is no reason.
        for _ in 0..10 {
            balancer.handle(NOW, answer(&[(2, SyncState::Async)]));
            assert_eq!(readers(&balancer), [host(2), host(3)]);
        }
        // Nor is that its upstream is down.
        for _ in 0..10 {
            balancer.handle(NOW, Event::Checked(target(2), Finding::Refused));
            balancer.handle(NOW, answer(&[]));
            assert_eq!(readers(&balancer), [host(3)]);
        }
        balancer.handle(NOW, answer(&[(2, SyncState::Async)]));
        bring_up(&mut balancer, &[2]);
        checked(&mut balancer, NOW, 2, behind(&[3]));
        // That its upstream answers and does not name it, again and again, drains it.
        for round in 1..=5 {
            checked(&mut balancer, NOW, 2, behind(&[]));
            let gone = round >= 3;
            assert_eq!(withheld(&balancer, 3) == [Withheld::NotStreaming], gone, "{round}");
        }
        assert!(!service(&balancer).reals[1].dead);
        // Now it streams from the primary.
        balancer.handle(NOW, answer(&[(2, SyncState::Async), (3, SyncState::Async)]));
        assert_eq!(readers(&balancer), [host(2), host(3)]);
        assert_eq!(balancer.view()[0].servers[1].upstream, None);
    }
}

#[test]
fn two_primaries_change_nothing_but_what_is_told() {
    let mut balancer = streaming(&[2, 3]);
    let plan = balancer.plan();
    let two = || {
        let other = PrimaryAnswer { host: host(4), ..says(1, 5, &[]) };
        several(vec![says(1, 5, &[2]), other])
    };
    for round in 0..20 {
        balancer.handle(NOW, two());
        let told = effects(&mut balancer);
        let once = [Effect::Tell(News::SeveralPrimaries(vec![host(1), host(4)]))];
        assert_eq!(told, if round == 0 { &once[..] } else { &[] });
    }
    assert_eq!(balancer.plan(), plan);
    assert!(!balancer.primary_answers());
    balancer.handle(NOW, answer(&[(2, SyncState::Async), (3, SyncState::Async)]));
    assert_eq!(effects(&mut balancer), [Effect::Tell(News::PrimaryAnswers(2))]);
}

/// The first of them said it just now.
fn several(answers: Vec<PrimaryAnswer>) -> Event {
    let answered = answers.first().map(|answer| answer.host);
    Event::SeveralPrimaries { answers, answered }
}

#[test]
fn what_one_of_several_primaries_said_before_is_no_evidence_that_others_answer() {
    let mut config = config(Discovery::Walsenders, &[]);
    // This very node, whose own answers tell nothing of the network.
    config.local = [host(1)].into();
    let mut balancer = Balancer::new(config, &Inherited::default());
    balancer.handle(NOW, answer(&[(2, SyncState::Async)]));
    bring_up(&mut balancer, &[2]);
    let silent = || Event::Checked(target(2), Finding::Silent("no answer".to_owned()));
    let other = || PrimaryAnswer { host: host(4), ..says(1, 5, &[]) };
    // The link of this node is gone: the other claim is an old one, told again with each answer.
    for _ in 0..10 {
        balancer.handle(NOW, several(vec![says(1, 5, &[2]), other()]));
        balancer.handle(NOW, silent());
    }
    assert_eq!(readers(&balancer), [host(2)]);
    // The other one answers, and this server does not.
    for _ in 0..5 {
        balancer.handle(NOW, several(vec![other(), says(1, 5, &[2])]));
        balancer.handle(NOW, silent());
    }
    assert!(readers(&balancer).is_empty());
}

#[test]
fn the_primary_serves_only_when_no_standby_is_left() {
    let mut config = config(Discovery::Walsenders, &[]);
    config.services[0].fallback_to_primary = true;
    let mut balancer = Balancer::new(config, &Inherited::default());
    balancer.handle(NOW, answer(&[(2, SyncState::Async)]));
    balancer.handle(NOW, Event::Neighbour(host(1), Some(at(0, 1))));
    bring_up(&mut balancer, &[2]);
    balancer.handle(NOW, Event::Checked(target(1), NOT_IN_RECOVERY));
    assert_eq!(readers(&balancer), [host(2)]);
    assert_eq!(withheld(&balancer, 1), [Withheld::NotInRecovery]);
    effects(&mut balancer);
    balancer.handle(NOW, Event::Checked(target(2), Finding::Refused));
    assert_eq!(readers(&balancer), [host(1)]);
    assert!(effects(&mut balancer).contains(&Effect::Tell(News::FallsBack(path(1)))));
    let reasons = balancer.view()[0].servers[0].weight_reasons.clone();
    assert_eq!(reasons.last(), Some(&WeightReason::Fallback));
    // It stays while nobody knows better.
    balancer.handle(NOW, Event::PrimaryLost);
    balancer.handle(NOW, several(vec![says(1, 1, &[]), says(1, 1, &[])]));
    assert_eq!(readers(&balancer), [host(1)]);
    balancer.handle(NOW, Event::Checked(target(2), GOOD));
    assert_eq!(readers(&balancer), [host(1)]);
    balancer.handle(NOW, Event::Checked(target(2), GOOD));
    assert_eq!(readers(&balancer), [host(2)]);
    assert!(effects(&mut balancer).contains(&Effect::Tell(News::FallsBackNoMore(path(1)))));
}

#[test]
fn without_the_setting_the_primary_never_serves() {
    let mut balancer = Balancer::new(config(Discovery::Both, &[1, 2]), &Inherited::default());
    balancer.handle(NOW, answer(&[(2, SyncState::Async)]));
    bring_up(&mut balancer, &[2]);
    balancer.handle(NOW, Event::Neighbour(host(1), Some(at(0, 1))));
    balancer.handle(NOW, Event::Checked(target(1), NOT_IN_RECOVERY));
    balancer.handle(NOW, Event::Checked(target(2), Finding::Refused));
    assert!(readers(&balancer).is_empty());
}

#[test]
fn a_promoted_standby_leaves_and_the_former_primary_enters_once_it_streams() {
    let mut balancer = Balancer::new(config(Discovery::Walsenders, &[]), &Inherited::default());
    balancer.handle(NOW, Event::Primary(says(1, 100, &[2, 3])));
    bring_up(&mut balancer, &[2, 3]);
    balancer.handle(NOW, Event::PrimaryLost);
    balancer.handle(NOW, Event::Checked(target(2), NOT_IN_RECOVERY));
    assert_eq!(readers(&balancer), [host(3)]);
    let new = |streaming| PrimaryAnswer { host: host(2), ..says(2, 200, streaming) };
    balancer.handle(NOW, Event::Primary(new(&[3])));
    assert_eq!(readers(&balancer), [host(3)]);
    balancer.handle(NOW, Event::Primary(new(&[1, 3])));
    bring_up(&mut balancer, &[1]);
    assert_eq!(readers(&balancer), [host(1), host(3)]);
}

#[test]
fn a_standby_ahead_of_the_fork_leaves_and_is_named() {
    let mut balancer = Balancer::new(config(Discovery::Direct, &[2, 3]), &Inherited::default());
    balancer.handle(NOW, Event::Primary(says(1, 1_000, &[])));
    bring_up(&mut balancer, &[2, 3]);
    // A promotion whose fork lies before what one standby has.
    for _ in 0..2 {
        checked(&mut balancer, NOW, 2, Standby { receiving: false, ..standby(1, 990) });
        checked(&mut balancer, NOW, 3, standby(2, 950));
        balancer.handle(NOW, Event::Primary(says(2, 950, &[3])));
        assert_eq!(readers(&balancer), [host(2), host(3)]);
    }
    balancer.handle(NOW, Event::Primary(says(2, 960, &[3])));
    assert_eq!(readers(&balancer), [host(3)]);
    assert_eq!(withheld(&balancer, 2), [Withheld::Diverged]);
    assert!(
        effects(&mut balancer).contains(&Effect::Tell(News::Withheld(path(2), Withheld::Diverged)))
    );
    // Rewound, it streams again.
    checked(&mut balancer, NOW, 2, standby(2, 960));
    assert_eq!(readers(&balancer), [host(2), host(3)]);
}

#[test]
fn a_server_of_another_cluster_serves_nobody() {
    let mut balancer = Balancer::new(config(Discovery::Direct, &[2, 3]), &Inherited::default());
    balancer.handle(NOW, Event::Primary(says(1, 1_000, &[])));
    bring_up(&mut balancer, &[2, 3]);
    checked(&mut balancer, NOW, 3, Standby { system: Some(8), ..standby(1, 1_000) });
    assert_eq!(readers(&balancer), [host(2)]);
    assert_eq!(withheld(&balancer, 3), [Withheld::ForeignSystem]);
    balancer.handle(NOW, Event::PrimaryLost);
    assert_eq!(readers(&balancer), [host(2)]);
}

#[test]
fn an_added_reader_is_a_member_however_others_are_found() {
    for discovery in [Discovery::Walsenders, Discovery::Direct, Discovery::Both] {
        let mut balancer = Balancer::new(config(discovery, &[2]), &Inherited::default());
        balancer.handle(NOW, answer(&[(2, SyncState::Async)]));
        bring_up(&mut balancer, &[2]);
        let name = "archive".parse().ok();
        let add = OrderChange::AddReader { address: host(7), name, weight: Weight::new(3) };
        let order = ordered(&balancer, &add);
        balancer.handle(NOW, order);
        bring_up(&mut balancer, &[7]);
        answers(&mut balancer, &[(2, SyncState::Async)]);
        assert_eq!(readers(&balancer), [host(2), host(7)], "{discovery:?}: it need not stream");
        let view = &balancer.view()[0].servers[1];
        assert_eq!(view.name.as_ref().map(ToString::to_string).as_deref(), Some("archive"));
        assert_eq!(view.reader.as_ref().map(|stamp| stamp.by.as_str()), Some("alice"));
        assert_eq!(view.effective_weight, EffectiveWeight::new(3).unwrap());
        assert_eq!(balancer.address_named("archive"), Some(host(7)));
        // Removed, it keeps its sessions and gets no more.
        let order = ordered(&balancer, &OrderChange::RemoveReader { address: host(7) });
        balancer.handle(NOW, order);
        assert_eq!(readers(&balancer), [host(2)], "{discovery:?}");
        assert!(service(&balancer).reals.iter().any(|real| real.address == host(7) && !real.dead));
        balancer.handle(NOW, Event::Checked(target(7), Finding::Refused));
        assert_eq!(service(&balancer).reals.len(), 1, "{discovery:?}");
    }
}

#[test]
fn what_the_store_says_replaces_what_the_maps_told() {
    let mut balancer = streaming(&[2, 3]);
    let order = ordered(&balancer, &drain(2));
    balancer.handle(NOW, order);
    assert_eq!(balancer.view()[0].servers[0].drained.as_ref().unwrap().by, "alice");
    balancer.handle(NOW, Event::Ordered { orders: Orders::default(), wall: 0 });
    assert_eq!(readers(&balancer), [host(2), host(3)]);
    assert_eq!(balancer.view()[0].servers[0].drained, None);
}

#[test]
fn sessions_left_are_reset_when_a_drain_says_so_until_it_ends() {
    let mut balancer = streaming(&[2, 3]);
    let mut orders = balancer.orders();
    let reset_at = Some(1_700_000_005_000);
    let until = OrderChange::Drain { vip: VIP, port: 5432, address: host(2), reset_at };
    orders.change(&until, "alice", 1_700_000_000);
    balancer.handle(NOW, Event::Ordered { orders, wall: 1_700_000_000_000 });
    assert_eq!(readers(&balancer), [host(3)]);
    assert!(!service(&balancer).reals[0].dead);
    assert_eq!(balancer.view()[0].servers[0].reset_ms, Some(5_000));
    assert_eq!(balancer.poll_timeout(), Some(later(5)));
    effects(&mut balancer);
    balancer.handle(later(5), Event::Tick);
    assert_eq!(effects(&mut balancer), [Effect::Program]);
    assert!(service(&balancer).reals[0].dead, "its clients are told");
    assert_eq!(balancer.poll_timeout(), None);
    balancer.handle(later(9), Event::Checked(target(2), GOOD));
    assert!(service(&balancer).reals[0].dead, "its health does not end that");
    assert_eq!(balancer.view()[0].servers[0].reset_ms, Some(0));
    let order = ordered(&balancer, &undrain(2));
    balancer.handle(later(10), order);
    assert_eq!(readers(&balancer), [host(2), host(3)]);
    assert!(!service(&balancer).reals[0].dead);
}

#[test]
fn a_server_that_joins_others_begins_slowly_and_a_first_one_does_not() {
    let mut config = config(Discovery::Direct, &[2, 3]);
    config.services[0].slow_start = Duration::from_secs(10);
    let mut balancer = Balancer::new(config, &Inherited::default());
    let weight =
        |balancer: &Balancer, index: usize| service(balancer).reals[index].weight.to_string();
    bring_up(&mut balancer, &[2]);
    balancer.begin();
    assert_eq!(weight(&balancer, 0), "1", "nobody else has its clients");
    bring_up(&mut balancer, &[3]);
    assert_eq!((weight(&balancer, 0), weight(&balancer, 1)), ("1".into(), "0.1".into()));
    let mut weights = Vec::new();
    while let Some(due) = balancer.poll_timeout() {
        balancer.handle(due, Event::Tick);
        assert_eq!(effects(&mut balancer), [Effect::ProgramSoon]);
        weights.push(weight(&balancer, 1));
    }
    assert_eq!(
        weights,
        ["0.19", "0.28", "0.37", "0.46", "0.55", "0.64", "0.73", "0.82", "0.91", "1"]
    );
    // It does so again when it comes back, but not after a drain.
    let now = later(100);
    balancer.handle(now, Event::Checked(target(3), Finding::Refused));
    balancer.handle(now, Event::Checked(target(3), GOOD));
    balancer.handle(now, Event::Checked(target(3), GOOD));
    assert_eq!(weight(&balancer, 1), "0.1");
    let order = ordered(&balancer, &drain(2));
    balancer.handle(now, order);
    let order = ordered(&balancer, &undrain(2));
    balancer.handle(now, order);
    assert_eq!(weight(&balancer, 0), "1");
}

#[test]
fn busy_servers_get_fewer_new_connections() {
    let mut config = config(Discovery::Direct, &[2, 3]);
    config.services[0].auto_weight.connections = true;
    let mut balancer = Balancer::new(config, &Inherited::default());
    bring_up(&mut balancer, &[2, 3]);
    let busy = |used| Standby {
        connections: Some(Connections { used, most: 100 }),
        ..SILENT_ABOUT_ITSELF
    };
    for (used, weight, programmed) in
        [(4, "1", false), (40, "0.6", true), (45, "0.6", false), (100, "0.1", true)]
    {
        checked(&mut balancer, NOW, 2, busy(used));
        assert_eq!(service(&balancer).reals[0].weight.to_string(), weight, "{used}");
        let program = if programmed { &[Effect::Program][..] } else { &[] };
        assert_eq!(effects(&mut balancer), program, "{used}");
    }
    // What it said last stands while it says nothing.
    balancer.handle(NOW, Event::Checked(target(2), Finding::Silent(String::new())));
    assert_eq!(service(&balancer).reals[0].weight.to_string(), "0.1");
}
