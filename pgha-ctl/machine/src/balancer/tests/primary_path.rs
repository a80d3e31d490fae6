//! A primary is among the nodes, and nobody gives it the readers' VIP.

use super::super::{Path, ProbeFinding};
use super::*;

fn path(number: u8) -> Path {
    Path { vip: VIP, port: 5432, address: host(number) }
}

/// What people are told of the VIP, since they were told last.
fn told(balancer: &mut Balancer) -> Vec<(Path, Withheld)> {
    let told = |effect| {
        if let Effect::Tell(News::Withheld(path, of)) = effect { Some((path, of)) } else { None }
    };
    effects(balancer).into_iter().filter_map(told).collect()
}

#[test]
fn nobody_is_told_that_the_primary_lacks_the_readers_vip() {
    let mut config = config(Discovery::Direct, &[1, 2]);
    config.services[0].probe = Probe::Syn;
    let mut balancer = Balancer::new(config, &Inherited::default());
    for (number, finding) in [(1, NOT_IN_RECOVERY), (2, GOOD)] {
        balancer.handle(NOW, Event::Neighbour(host(number), Some(at(0, number))));
        for _ in 0..2 {
            balancer.handle(NOW, Event::Checked(target(number), finding.clone()));
        }
        for _ in 0..3 {
            balancer.handle(NOW, Event::Probed(path(number), ProbeFinding::Silent));
        }
    }
    assert_eq!(told(&mut balancer), [(path(2), Withheld::VipSilent)]);
    assert_eq!(withheld(&balancer, 1), [Withheld::NotInRecovery]);
    // As soon as it matters it is.
    for _ in 0..2 {
        balancer.handle(NOW, Event::Checked(target(1), GOOD));
    }
    assert_eq!(told(&mut balancer), [(path(1), Withheld::VipSilent)]);
}

#[test]
fn a_primary_that_is_fallen_back_to_needs_the_vip() {
    let mut config = config(Discovery::Both, &[1, 2]);
    config.services[0].probe = Probe::Syn;
    config.services[0].fallback_to_primary = true;
    let mut balancer = Balancer::new(config, &Inherited::default());
    balancer.handle(NOW, Event::Neighbour(host(1), Some(at(0, 1))));
    balancer.handle(NOW, answer(&[(2, SyncState::Async)]));
    let primary = balancer.primary.as_ref().unwrap().host;
    assert_eq!(primary, host(1), "the primary of these tests");
    for _ in 0..3 {
        balancer.handle(NOW, Event::Checked(target(1), NOT_IN_RECOVERY));
        balancer.handle(NOW, Event::Probed(path(1), ProbeFinding::Silent));
    }
    assert!(withheld(&balancer, 1).contains(&Withheld::VipSilent));
}
