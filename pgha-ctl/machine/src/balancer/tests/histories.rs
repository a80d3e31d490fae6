//! Random histories, and the rules that none of them may break.

use std::collections::BTreeSet;
use std::time::Duration;

use proptest::prelude::*;

use super::super::{
    Balancer, Concerned, Config, Discovery, Effect, Event, Finding, Inherited, LagLimits, Limit,
    Orders, Path, PrimaryAnswer, Probe, ProbeFinding, RealPlan, Standby, SyncState, Target,
};
use super::{
    GOOD, NOT_IN_RECOVERY, NOW, SILENT_ABOUT_ITSELF, VIP, answer, at, bring_up, config, drain,
    effects, host, ordered, service, target, undrain, walsender,
};
use crate::table::{Entry, excess_remap, maglev};
use crate::{EffectiveWeight, Lsn, Weight};

fn events() -> impl Strategy<Value = Event> {
    let finding = prop_oneof![
        4 => Just(GOOD),
        1 => Just(Finding::Refused),
        1 => Just(Finding::NotAccepting),
        1 => Just(NOT_IN_RECOVERY),
        1 => Just(Finding::Answered("x".to_owned())),
        1 => Just(Finding::Silent("x".to_owned())),
        1 => Just(Finding::LoginRefused("x".to_owned())),
        1 => Just(Finding::Undecided("x".to_owned())),
    ];
    let far = (0..6u64, prop::collection::vec(1..8u8, 0..3)).prop_map(|(replayed, behind)| {
        Finding::Standby(Standby {
            replayed: Some(Lsn::new(replayed * 1_000)),
            age: Some(Duration::from_secs(replayed)),
            walsenders: behind.into_iter().map(|n| walsender(n, SyncState::Async)).collect(),
            ..SILENT_ABOUT_ITSELF
        })
    });
    let finding = prop_oneof![2 => finding, 1 => far];
    let probe = prop::sample::select(vec![
        ProbeFinding::Open,
        ProbeFinding::Open,
        ProbeFinding::Silent,
        ProbeFinding::Refused,
        ProbeFinding::NotAccepting(String::new()),
        ProbeFinding::Failing(String::new()),
        ProbeFinding::Undecided(String::new()),
    ]);
    let state = prop::sample::select(&[SyncState::Async, SyncState::Quorum]);
    prop_oneof![
        prop::collection::vec((1..8u8, state), 0..6).prop_map(|streaming| answer(&streaming)),
        (0..6u64, prop::collection::vec(1..8u8, 0..6)).prop_map(|(end, streaming)| {
            Event::Primary(PrimaryAnswer { lsn: Some(Lsn::new(end * 1_000)), ..says(&streaming) })
        }),
        Just(Event::PrimaryLost),
        Just(Event::SeveralPrimaries {
            answers: vec![says(&[2]), says(&[3])],
            answered: Some(host(1)),
        }),
        Just(Event::Tick),
        (1..8u8, probe).prop_map(|(n, finding)| Event::Probed(path(n), finding)),
        (1..8u8).prop_map(|n| Event::VipAnswered { vip: VIP, mac: at(0, n).mac }),
        (1..8u8, finding).prop_map(|(n, finding)| Event::Checked(target(n), finding)),
        (1..8u8, prop::option::of(0..3u8)).prop_map(|(n, interface)| {
            Event::Neighbour(host(n), interface.map(|interface| at(interface, n)))
        }),
        prop::collection::btree_set(1..8u8, 0..4).prop_map(|drained| {
            let mut orders = Orders::default();
            drained.into_iter().for_each(|n| orders.change(&drain(n), "alice", 1));
            Event::Ordered { orders, wall: 0 }
        }),
        configs().prop_map(Event::Configured),
    ]
}

fn path(number: u8) -> Path {
    Path { vip: VIP, port: 5432, address: host(number) }
}

fn says(streaming: &[u8]) -> PrimaryAnswer {
    let streaming: Vec<_> = streaming.iter().map(|n| (*n, SyncState::Async)).collect();
    let Event::Primary(answer) = answer(&streaming) else { unreachable!() };
    answer
}

fn configs() -> impl Strategy<Value = Config> {
    (
        prop::sample::select(&[Discovery::Walsenders, Discovery::Direct, Discovery::Both]),
        prop::collection::btree_set(1..8u8, 0..4),
        prop::sample::select(&[Probe::Off, Probe::Off, Probe::Syn]),
        any::<[bool; 4]>(),
    )
        .prop_map(|(discovery, nodes, probe, [fallback, lag, auto, slow])| {
            let mut config = config(discovery, &nodes.into_iter().collect::<Vec<_>>());
            let service = &mut config.services[0];
            service.probe = probe;
            service.fallback_to_primary = fallback;
            if lag {
                service.lag = LagLimits {
                    bytes: Some(Limit { drain: 2_000, back: 1_000 }),
                    time: Some(Limit { drain: Duration::from_secs(3), back: Duration::ZERO }),
                };
            }
            service.auto_weight.lag = auto;
            service.slow_start = Duration::from_secs(if slow { 10 } else { 0 });
            config
        })
}

proptest! {
    #[test]
    fn random_histories_keep_the_rules(
        events in prop::collection::vec((0..2_000u64, events()), 0..120),
    ) {
        let mut balancer = Balancer::new(config(Discovery::Both, &[1, 2]), &Inherited::default());
        let mut last = std::collections::BTreeMap::new();
        let mut watched = BTreeSet::new();
        let mut programmed = balancer.plan();
        let mut probed = std::collections::BTreeMap::new();
        let mut now = NOW;
        balancer.begin();
        for (millis, event) in events {
            now = now + Duration::from_millis(millis);
            if let Event::Probed(path, finding) = &event {
                probed.entry(*path).and_modify(|last| *last = Some(finding.clone()));
            }
            if let Event::Checked(target, finding) = &event {
                last.insert(target.address, finding.clone());
            }
            let before = balancer.plan();
            let lost = matches!(event, Event::PrimaryLost | Event::SeveralPrimaries { .. });
            let silent = matches!(event, Event::Checked(_, Finding::Silent(_)));
            // What the clock alone changes is no doing of the event.
            if silent {
                balancer.handle(now, Event::Tick);
            }
            let before = if silent { balancer.plan() } else { before };
            balancer.handle(now, event);
            for effect in effects(&mut balancer) {
                match effect {
                    Effect::Watch(target) => prop_assert!(watched.insert(target)),
                    Effect::Unwatch(target) => prop_assert!(watched.remove(&target)),
                    Effect::Program => programmed = balancer.plan(),
                    Effect::ProgramSoon => {
                        let plan = service(&balancer);
                        for had in &programmed.services[0].reals {
                            let has = plan.reals.iter().find(|has| has.real == had.real);
                            let keeps = has.is_some_and(|has| {
                                has.weight >= had.weight
                                    && has.neighbour == had.neighbour
                                    && (had.dead || !has.dead)
                            });
                            prop_assert!(keeps, "{had:?} is to lose at leisure");
                        }
                        programmed = balancer.plan();
                    }
                    Effect::CheckNow(_) | Effect::Resolve(_) | Effect::Tell(_) => {}
                    Effect::Probe(path, _) => {
                        probed.entry(path).or_insert(None);
                    }
                    Effect::Unprobe(path) => {
                        prop_assert!(probed.remove(&path).is_some(), "{path:?} was not probed");
                    }
                }
            }
            let plan = service(&balancer);
            prop_assert_eq!(&programmed, &balancer.plan(), "the data plane was not told");
            for real in &plan.reals {
                let at = Target { address: real.address, port: 5432 };
                prop_assert!(watched.contains(&at));
                prop_assert!(!real.dead || real.weight == EffectiveWeight::ZERO);
                prop_assert!(real.weight == EffectiveWeight::ZERO || real.neighbour.is_some());
                if real.weight > EffectiveWeight::ZERO {
                    // I4: nobody is sent to a server known to be gone, nor to a primary, unless that is
                    // wanted and no standby is left.
                    let found = last.get(&real.address);
                    let primary = matches!(found, Some(Finding::NotInRecovery { .. }));
                    let serving = plan.reals.iter().filter(|real| real.weight > EffectiveWeight::ZERO);
                    let wanted = balancer.config().services[0].fallback_to_primary;
                    prop_assert!(!primary || (wanted && serving.count() == 1));
                    let gone = matches!(found, None | Some(Finding::Refused | Finding::NotAccepting));
                    prop_assert!(!gone);
                    // Nor where the last probe said for sure that no client gets through.
                    let path = Path { vip: VIP, port: 5432, address: real.address };
                    let shut = matches!(
                        probed.get(&path),
                        Some(Some(ProbeFinding::Refused | ProbeFinding::NotAccepting(_)))
                    );
                    prop_assert!(!shut, "{path:?}");
                }
                let view = balancer.view();
                let view = view[0].servers.iter().find(|server| server.address == real.address);
                let view = view.unwrap();
                prop_assert_eq!(view.effective_weight, real.weight);
                prop_assert_eq!(view.withheld.is_empty(), view.effective_weight > EffectiveWeight::ZERO);
                let full = EffectiveWeight::from(view.weight);
                prop_assert!(
                    view.effective_weight == full || view.weight_reasons.len() > 1,
                    "a lower weight without a reason: {view:?}"
                );
            }
            prop_assert!(balancer.poll_timeout().is_none_or(|due| due > now), "due already");
            // Who was left out was left out rightly: nothing follows from judging everybody anew.
            let due = balancer.poll_timeout();
            balancer.settle(Concerned::All);
            prop_assert_eq!(effects(&mut balancer), vec![], "somebody was not judged");
            prop_assert_eq!(&programmed, &balancer.plan(), "a judgement was out of date");
            prop_assert_eq!(due, balancer.poll_timeout(), "the time was out of date");
            if lost {
                // Fail static: losing the primary takes no reader away.
                for real in &before.services[0].reals {
                    let now = plan.reals.iter().find(|r| r.address == real.address);
                    prop_assert!(now.is_some_and(|now| now.weight >= real.weight && now.dead == real.dead));
                }
            }
            if silent {
                let changed = before.services[0].reals.iter().filter(|r| !plan.reals.contains(r)).count();
                prop_assert!(changed <= 1, "one server's silence changed others");
            }
        }
    }

    /// Two services with servers of their own weights; one server dies, refuses or lags for a while.
    #[test]
    fn a_flap_leaves_the_other_tables_as_they_are(
        weights in prop::collection::vec(1..=20u16, 3..7usize),
        flapping: prop::sample::Index,
        flap in prop::sample::select(vec![
            Finding::Refused,
            Finding::NotAccepting,
            Finding::Silent(String::new()),
            Finding::Answered(String::new()),
        ]),
        orders: bool,
    ) {
        let numbers: Vec<u8> = (1..=weights.len() as u8).collect();
        let mut config = config(Discovery::Direct, &numbers);
        for (node, weight) in config.nodes.iter_mut().zip(&weights) {
            node.weight = Weight::new(*weight);
        }
        let mut other = config.services[0].clone();
        (other.name, other.port) = ("other".parse().unwrap(), 6432);
        config.services.push(other);
        let mut balancer = Balancer::new(config, &Inherited::default());
        bring_up(&mut balancer, &numbers);
        for number in &numbers {
            let there = Target { address: host(*number), port: 6432 };
            balancer.handle(NOW, Event::Checked(there, GOOD));
            balancer.handle(NOW, Event::Checked(there, GOOD));
        }
        balancer.begin();
        let before = tables(&balancer);
        let flapping = *flapping.get(&numbers);
        for _ in 0..3 {
            // Its silence counts while others answer.
            for number in numbers.iter().filter(|number| **number != flapping) {
                balancer.handle(NOW, Event::Checked(target(*number), GOOD));
            }
            balancer.handle(NOW, Event::Checked(target(flapping), flap.clone()));
        }
        if orders {
            let order = ordered(&balancer, &drain(flapping));
            balancer.handle(NOW, order);
        }
        let during = tables(&balancer);
        prop_assert!(during[0] != before[0], "it was to leave");
        prop_assert!(during[1] == before[1], "the other service's table moved");
        let excess = excess_remap(&before[0], &during[0]);
        // As many as the tables' own tests grant any change: those that keep shares exact.
        prop_assert!(excess <= 0.003, "{excess} of the slots moved without need");
        if orders {
            let order = ordered(&balancer, &undrain(flapping));
            balancer.handle(NOW, order);
        }
        for _ in 0..2 {
            balancer.handle(NOW, Event::Checked(target(flapping), GOOD));
        }
        prop_assert!(tables(&balancer) == before, "the tables are not what they were");
    }
}

/// The tables of all services.
fn tables(balancer: &Balancer) -> Vec<Vec<u16>> {
    let entries = |reals: Vec<RealPlan>| {
        let of =
            |real: RealPlan| Entry { id: real.real.id, address: real.address, weight: real.weight };
        reals.into_iter().map(of).collect::<Vec<_>>()
    };
    let services = balancer.plan().services;
    services.into_iter().map(|service| maglev(&entries(service.reals))).collect()
}
