//! Words that are not believed, or not for ever: of a primary that most standbys contradict, of one that is
//! asked no more, of a standby that is gone, and of a store that has not spoken.

use super::super::{
    Balancer, Discovery, Effect, Event, Finding, Inherited, InheritedReal, LagLimits, Limit, News,
    Orders, Path, PrimaryAnswer, Standby, Steering, SyncState, Withheld,
};
use super::{
    GOOD, NOW, SILENT_ABOUT_ITSELF, VIP, answer, answers, at, bring_up, config, effects, host,
    readers, service, streaming, target, walsender, withheld,
};
use crate::{Lsn, Timeline};

fn says(number: u8, timeline: u32, system: u64, end: u64, streaming: &[u8]) -> PrimaryAnswer {
    PrimaryAnswer {
        host: host(number),
        timeline: Some(Timeline::new(timeline)),
        system: Some(system),
        lsn: Some(Lsn::new(end)),
        walsenders: streaming.iter().map(|n| walsender(*n, SyncState::Async)).collect(),
    }
}

fn standby(timeline: u32, replayed: u64) -> Finding {
    Finding::Standby(Standby {
        replayed: Some(Lsn::new(replayed)),
        timeline: Some(Timeline::new(timeline)),
        system: Some(7),
        ..SILENT_ABOUT_ITSELF
    })
}

fn two(discovery: Discovery) -> Balancer {
    let mut balancer = Balancer::new(config(discovery, &[2, 3]), &Inherited::default());
    for number in [2, 3] {
        balancer.handle(NOW, Event::Neighbour(host(number), Some(at(0, number))));
        for _ in 0..2 {
            balancer.handle(NOW, Event::Checked(target(number), standby(3, 500)));
        }
    }
    effects(&mut balancer);
    balancer
}

/// A zombie on an older timeline, and a host where a cluster was made anew, by a controller that has just
/// started.
#[test]
fn a_primary_that_most_standbys_contradict_is_told_and_not_believed() {
    for discovery in [Discovery::Direct, Discovery::Both] {
        for claim in [says(4, 2, 7, 900, &[]), says(4, 1, 8, 900, &[])] {
            let mut balancer = two(discovery);
            for _ in 0..10 {
                balancer.handle(NOW, Event::Primary(claim.clone()));
                balancer.handle(NOW, Event::Checked(target(2), standby(3, 500)));
                balancer.handle(NOW, Event::Checked(target(3), standby(3, 500)));
                assert_eq!(readers(&balancer), [host(2), host(3)], "{claim:?}");
                assert!(!balancer.primary_answers());
            }
            assert_eq!(effects(&mut balancer), [Effect::Tell(News::NotBelieved(claim))]);
            balancer.handle(NOW, Event::Primary(says(1, 3, 7, 500, &[2, 3])));
            assert!(balancer.primary_answers());
        }
    }
}

#[test]
fn a_primary_that_came_first_is_believed_until_the_standbys_have_spoken() {
    let claim = says(4, 1, 8, 900, &[]);
    let mut balancer = Balancer::new(config(Discovery::Both, &[2, 3]), &Inherited::default());
    balancer.handle(NOW, Event::Primary(claim.clone()));
    for number in [2, 3] {
        balancer.handle(NOW, Event::Neighbour(host(number), Some(at(0, number))));
        balancer.handle(NOW, Event::Checked(target(number), standby(3, 500)));
        balancer.handle(NOW, Event::Checked(target(number), standby(3, 500)));
    }
    assert_eq!(readers(&balancer), [host(2), host(3)]);
    assert!(effects(&mut balancer).contains(&Effect::Tell(News::NotBelieved(claim))));
    assert!(balancer.is_settled());
}

#[test]
fn one_foreign_standby_of_three_does_not_speak_for_all() {
    let mut balancer = two(Discovery::Both);
    balancer.handle(NOW, Event::Primary(says(1, 3, 7, 500, &[2, 3])));
    let Finding::Standby(own) = standby(3, 500) else { unreachable!() };
    let foreign = Finding::Standby(Standby { system: Some(8), ..own });
    balancer.handle(NOW, Event::Checked(target(3), foreign));
    assert!(balancer.primary_answers());
    assert_eq!(readers(&balancer), [host(2)]);
}

/// On the same timeline nothing but the end of the WAL tells: a primary that was set back to a backup.
#[test]
fn by_a_primary_from_which_nobody_streams_the_last_readers_do_not_go() {
    for (streams, left) in [(&[][..], vec![host(2), host(3)]), (&[2, 3][..], vec![])] {
        let mut balancer = two(Discovery::Direct);
        for _ in 0..5 {
            balancer.handle(NOW, Event::Primary(says(1, 3, 7, 400, streams)));
            balancer.handle(NOW, Event::Checked(target(2), standby(3, 500)));
            balancer.handle(NOW, Event::Checked(target(3), standby(3, 500)));
        }
        assert_eq!(readers(&balancer), left, "{streams:?}");
    }
}

#[test]
fn a_former_primary_is_no_fallback() {
    let of = |timeline, system| Finding::NotInRecovery {
        timeline: Some(Timeline::new(timeline)),
        system: Some(system),
    };
    for (finding, primary, serves) in [
        (of(3, 7), 9, true),
        (of(4, 7), 9, true),
        (of(2, 7), 9, false),
        (of(3, 8), 9, false),
        // The one that is asked is a member, and it is another.
        (of(3, 7), 2, false),
    ] {
        let mut config = config(Discovery::Direct, &[2, 3]);
        config.services[0].fallback_to_primary = true;
        let mut balancer = Balancer::new(config, &Inherited::default());
        bring_up(&mut balancer, &[2, 3]);
        let said = says(primary, 3, 7, 500, &[]);
        // Asked by a loopback address it is no member.
        let elsewhere =
            PrimaryAnswer { host: std::net::Ipv4Addr::LOCALHOST.into(), ..said.clone() };
        balancer.handle(NOW, Event::Primary(if primary == 9 { elsewhere } else { said }));
        balancer.handle(NOW, Event::Checked(target(2), Finding::Refused));
        balancer.handle(NOW, Event::Checked(target(3), finding.clone()));
        assert_eq!(readers(&balancer).contains(&host(3)), serves, "{finding:?} {primary}");
    }
}

#[test]
fn what_a_primary_said_that_is_asked_no_more_holds_no_longer() {
    let mut config = config(Discovery::Both, &[2, 3]);
    config.services[0].lag = LagLimits { bytes: Some(Limit { drain: 10, back: 5 }), time: None };
    let mut balancer = Balancer::new(config, &Inherited::default());
    bring_up(&mut balancer, &[2, 3]);
    for _ in 0..3 {
        balancer.handle(NOW, Event::Primary(says(1, 3, 7, 500, &[3])));
        balancer.handle(NOW, Event::Checked(target(3), standby(3, 500)));
    }
    balancer.handle(NOW, Event::Checked(target(2), standby(3, 100)));
    assert_eq!(withheld(&balancer, 2), [Withheld::NotStreaming, Withheld::Lagging]);
    balancer.handle(NOW, Event::PrimaryForgotten);
    assert_eq!(readers(&balancer), [host(2), host(3)]);
    assert!(!balancer.primary_answers());
}

#[test]
fn a_cascaded_standby_is_the_primarys_to_speak_of_once_its_upstream_is_gone() {
    let mut balancer = streaming(&[2, 4]);
    let behind =
        Standby { walsenders: vec![walsender(3, SyncState::Async)], ..SILENT_ABOUT_ITSELF };
    balancer.handle(NOW, Event::Checked(target(2), Finding::Standby(behind)));
    bring_up(&mut balancer, &[3]);
    assert_eq!(readers(&balancer), [host(2), host(3), host(4)]);
    balancer.handle(NOW, Event::Checked(target(2), Finding::Refused));
    for missed in 1..=3 {
        assert!(readers(&balancer).contains(&host(3)), "{missed}");
        balancer.handle(NOW, answer(&[(4, SyncState::Async)]));
    }
    assert_eq!(readers(&balancer), [host(4)]);
    assert_eq!(withheld(&balancer, 3), [Withheld::NotStreaming]);
}

/// An added reader neither is listed nor streams, and only the store knows that it was added.
#[test]
fn who_had_clients_keeps_them_until_the_store_has_said_who_was_added() {
    for discovery in [Discovery::Direct, Discovery::Walsenders, Discovery::Both] {
        let reals = service(&streaming(&[2, 3])).reals;
        let left = |index: usize| InheritedReal {
            service: 0,
            real: reals[index].real,
            address: reals[index].address,
            neighbour: reals[index].neighbour,
            dead: false,
            in_service: true,
            steering: Steering::default(),
        };
        let inherited = Inherited {
            services: vec![(0, VIP, 5432)],
            reals: vec![left(0), left(1)],
            ids: reals.iter().map(|real| real.real).collect(),
        };
        let mut balancer = Balancer::new(config(discovery, &[2]), &inherited);
        for _ in 0..10 {
            answers(&mut balancer, &[(2, SyncState::Async)]);
            balancer.handle(NOW, Event::Checked(target(3), GOOD));
            assert_eq!(readers(&balancer), [host(2), host(3)], "{discovery:?}");
        }
        balancer.handle(NOW, Event::Ordered { orders: Orders::default(), wall: 0 });
        assert_eq!(readers(&balancer), [host(2)], "{discovery:?}");
    }
}

#[test]
fn who_found_no_id_joins_when_one_comes_back_and_is_told_once() {
    let mut config = config(Discovery::Direct, &[2]);
    let path = |number: u8| Path { vip: VIP, port: 5432, address: host(number) };
    let mut balancer = Balancer::new(config.clone(), &Inherited::default());
    while balancer.ids.take().is_some() {}
    let node = |number: u8| super::config(Discovery::Direct, &[number]).nodes.remove(0);
    config.nodes.push(node(3));
    balancer.handle(NOW, Event::Configured(config.clone()));
    let node3 = config.nodes.pop().unwrap();
    balancer.handle(NOW, Event::Configured(config.clone()));
    assert_eq!(balancer.without_id(), [], "nobody lists it");
    config.nodes.push(node3);
    balancer.handle(NOW, Event::Configured(config.clone()));
    let told = effects(&mut balancer);
    let full = Effect::Tell(News::Full(target(3)));
    assert_eq!(told.iter().filter(|effect| **effect == full).count(), 1, "{told:?}");
    assert_eq!(balancer.without_id(), [path(3)]);
    // The other one is gone for good.
    config.nodes.remove(0);
    balancer.handle(NOW, Event::Configured(config));
    balancer.handle(NOW, Event::Checked(target(2), Finding::Refused));
    let told = effects(&mut balancer);
    assert!(told.contains(&Effect::Tell(News::Joined(target(3)))), "{told:?}");
    assert_eq!(balancer.without_id(), []);
}
