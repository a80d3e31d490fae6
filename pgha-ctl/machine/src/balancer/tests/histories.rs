//! Random histories, and the rules that none of them may break.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::super::{
    Balancer, Discovery, Effect, Event, Finding, Inherited, Orders, SyncState, Target,
};
use super::{
    GOOD, NOT_IN_RECOVERY, NOW, answer, at, config, drain, effects, host, service, target,
};
use crate::EffectiveWeight;

fn events() -> impl Strategy<Value = Event> {
    let finding = prop_oneof![
        4 => Just(GOOD),
        1 => Just(Finding::Refused),
        1 => Just(Finding::NotAccepting),
        1 => Just(NOT_IN_RECOVERY),
        1 => Just(Finding::Answered("x".to_owned())),
        1 => Just(Finding::Silent("x".to_owned())),
        1 => Just(Finding::Undecided("x".to_owned())),
    ];
    let state = prop::sample::select(&[SyncState::Async, SyncState::Quorum]);
    prop_oneof![
        prop::collection::vec((1..8u8, state), 0..6).prop_map(|streaming| answer(&streaming)),
        Just(Event::PrimaryLost),
        (1..8u8, finding).prop_map(|(n, finding)| Event::Checked(target(n), finding)),
        (1..8u8, prop::option::of(0..3u8)).prop_map(|(n, interface)| {
            Event::Neighbour(host(n), interface.map(|interface| at(interface, n)))
        }),
        prop::collection::btree_set(1..8u8, 0..4).prop_map(|drained| {
            let mut orders = Orders::default();
            drained.into_iter().for_each(|n| orders.change(&drain(n), "alice", 1));
            Event::Ordered { orders, wall: 0 }
        }),
        (
            prop::sample::select(&[Discovery::Walsenders, Discovery::Direct, Discovery::Both]),
            prop::collection::btree_set(1..8u8, 0..4)
        )
            .prop_map(|(discovery, nodes)| {
                Event::Configured(config(discovery, &nodes.into_iter().collect::<Vec<_>>()))
            }),
    ]
}

proptest! {
    #[test]
    fn random_histories_keep_the_rules(events in prop::collection::vec(events(), 0..120)) {
        let mut balancer = Balancer::new(config(Discovery::Both, &[1, 2]), &Inherited::default());
        let mut last = std::collections::BTreeMap::new();
        let mut watched = BTreeSet::new();
        let mut programmed = balancer.plan();
        for event in events {
            if let Event::Checked(target, finding) = &event {
                last.insert(target.address, finding.clone());
            }
            let before = balancer.plan();
            let lost = matches!(event, Event::PrimaryLost);
            let silent = matches!(event, Event::Checked(_, Finding::Silent(_)));
            balancer.handle(NOW, event);
            for effect in effects(&mut balancer) {
                match effect {
                    Effect::Watch(target) => prop_assert!(watched.insert(target)),
                    Effect::Unwatch(target) => prop_assert!(watched.remove(&target)),
                    Effect::Program => programmed = balancer.plan(),
                    Effect::CheckNow(_) | Effect::Resolve(_) | Effect::Tell(_) => {}
                    Effect::Probe(..) | Effect::Unprobe(_) => {}
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
                    // I4: nobody is sent to a primary, nor to a server known to be gone.
                    let unfit = matches!(
                        last.get(&real.address),
                        None | Some(
                            Finding::NotInRecovery { .. }
                                | Finding::Refused
                                | Finding::NotAccepting
                        )
                    );
                    prop_assert!(!unfit);
                }
            }
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
}
