//! What a successor takes over from a former controller, and a reload from the configuration before.

use super::super::{
    Balancer, Discovery, Event, Finding, Inherited, InheritedReal, Steering, SyncState, Withheld,
};
use super::{
    NOW, VIP, answer, answers, at, bring_up, config, host, readers, service, streaming, target,
    withheld,
};
use crate::Weight;

#[test]
fn a_successor_goes_on_with_what_it_finds() {
    let before = streaming(&[2, 3]);
    let plan = service(&before);
    let drained = Steering { drained: true, weight: Weight::new(5) };
    let left = |index: usize, steering| InheritedReal {
        service: 0,
        real: plan.reals[index].real,
        address: plan.reals[index].address,
        neighbour: plan.reals[index].neighbour,
        dead: false,
        in_service: true,
        steering,
    };
    let inherited = Inherited {
        services: vec![(0, VIP, 5432)],
        reals: vec![left(0, drained), left(1, Steering::default())],
        ids: plan.reals.iter().map(|real| real.real).collect(),
    };
    let mut after = Balancer::new(config(Discovery::Walsenders, &[]), &inherited);
    after.handle(NOW, Event::PrimaryLost);
    assert_eq!(readers(&after), [host(3)], "before anybody was asked, with the operator's drain");
    let reals = service(&after).reals;
    assert_eq!(reals[0].real, plan.reals[0].real);
    assert_eq!(reals[0].steering, drained);
    after.handle(
        NOW,
        answer(&[(2, SyncState::Async), (3, SyncState::Async), (4, SyncState::Async)]),
    );
    after.handle(NOW, Event::Neighbour(host(4), Some(at(0, 4))));
    let newcomer = service(&after).reals[2].real;
    assert!(plan.reals.iter().all(|real| real.real.id != newcomer.id));
}

#[test]
fn a_successor_spares_the_sessions_of_a_server_out_of_the_pool() {
    let before = streaming(&[2, 3]);
    let reals = service(&before).reals;
    let left = |index: usize, in_service| InheritedReal {
        service: 0,
        real: reals[index].real,
        address: reals[index].address,
        neighbour: reals[index].neighbour,
        dead: false,
        in_service,
        steering: Steering::default(),
    };
    let inherited = Inherited {
        services: vec![(0, VIP, 5432)],
        reals: vec![left(0, false), left(1, true)],
        ids: reals.iter().map(|real| real.real).collect(),
    };
    let mut after = Balancer::new(config(Discovery::Walsenders, &[]), &inherited);
    answers(&mut after, &[(3, SyncState::Async)]);
    let kept = &service(&after).reals[0];
    assert_eq!((kept.real, kept.dead), (reals[0].real, false));
    assert_eq!(readers(&after), [host(3)]);
    after.handle(NOW, Event::Checked(target(2), Finding::Refused));
    assert_eq!(service(&after).reals.len(), 1);
}

#[test]
fn a_reload_keeps_the_members_it_still_has() {
    let mut balancer = Balancer::new(config(Discovery::Direct, &[2, 3]), &Inherited::default());
    bring_up(&mut balancer, &[2, 3]);
    let before = service(&balancer).reals;
    balancer.handle(NOW, Event::Configured(config(Discovery::Direct, &[3, 4])));
    let after = service(&balancer).reals;
    assert_eq!(after[1], before[1]);
    assert_eq!(withheld(&balancer, 2), [Withheld::NotListed]);
    assert!(!after[0].dead, "its sessions go on");
    let mut nothing = config(Discovery::Direct, &[3]);
    nothing.services.clear();
    balancer.handle(NOW, Event::Configured(nothing));
    assert_eq!(balancer.plan().services, []);
}
