//! Segments to the VIP find the real server of their flow.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use pgha_common::maps::Scheduler;
use pgha_common::verdict::Reason;
use pgha_machine::EffectiveWeight;
use pgha_tests::dataplane::{FAMILIES, Segment, real, service};

use crate::harness::{Bench, named, three, three_by};

/// A second VIP of each family.
const OTHER_VIP: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(10, 77, 1, 7)),
    IpAddr::V6(Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 1, 7)),
];

#[test]
fn xdp_syn_goes_to_the_server_that_the_table_names() {
    for family in FAMILIES {
        let from = |number| family.segment(number);
        let mut reals = [real(1), real(2), real(300)];
        reals[1].weight = EffectiveWeight::new(5).unwrap();
        let mut bench = Bench::new([service(family.vip(), Scheduler::Maglev, reals)]);
        let named = named(&bench.plan.services[0], 0..500);
        let mut shares = BTreeMap::<u16, u64>::new();
        for (number, id) in (0..500).zip(named) {
            let outcome = bench.expect(Reason::NewFlow, &from(number).syn());
            assert_eq!(outcome.real(), id);
            *shares.entry(id).or_default() += 1;
        }
        assert_eq!(shares.len(), 3);
        for (id, flows) in shares {
            let traffic = bench.data_plane().traffic(id).unwrap();
            assert_eq!(
                (traffic.flows, traffic.packets, traffic.bytes),
                (flows, flows, flows * family.headers() as u64)
            );
        }
    }
}

#[test]
fn xdp_later_segments_follow_their_syn() {
    for family in FAMILIES {
        let from = |number| family.segment(number);
        let mut bench = three(family);
        for number in 0..50 {
            let real = bench.establish(number);
            let pushed = from(number).ack(2100).data(1200);
            assert_eq!(bench.expect(Reason::EstablishedFlow, &pushed).real(), real);
        }
    }
}

#[test]
fn xdp_a_known_flow_keeps_its_server_when_the_table_changes() {
    for family in FAMILIES {
        let from = |number| family.segment(number);
        let mut bench = three(family);
        let before: Vec<_> = (0..60).map(|number| bench.establish(number)).collect();
        let waiting = bench.expect(Reason::NewFlow, &from(99).syn()).real();
        bench.plan.services[0].reals.extend([real(4), real(5), real(6)]);
        bench.apply();
        let moved = named(&bench.plan.services[0], 0..60)
            .iter()
            .zip(&before)
            .filter(|(a, b)| a != b)
            .count();
        assert!(moved > 0, "the change moves none of these clients");
        for (number, real) in (0..60).zip(before) {
            let outcome = bench.expect(Reason::EstablishedFlow, &from(number).ack(2200));
            assert_eq!(outcome.real(), real);
        }
        assert_eq!(bench.expect(Reason::SynAgain, &from(99).syn()).real(), waiting);
        assert_eq!(bench.expect(Reason::PendingFlow, &from(99).ack(2001)).real(), waiting);
    }
}

#[test]
fn xdp_a_syn_again_stays_on_its_server() {
    for family in FAMILIES {
        let from = |number| family.segment(number);
        let mut bench = three(family);
        let retransmitted = bench.expect(Reason::NewFlow, &from(1).syn()).real();
        let reused = bench.establish(2);
        // A table that names only one other for each of the two.
        bench.plan.services[0].reals.extend([real(4)]);
        for id in 1..=3 {
            bench.change(id, |real| real.weight = EffectiveWeight::ZERO);
        }
        assert_eq!(bench.expect(Reason::SynAgain, &from(1).syn()).real(), retransmitted);
        assert_eq!(bench.expect(Reason::SynAgain, &from(2).syn().sequence(77)).real(), reused);
        assert_eq!(bench.expect(Reason::NewFlow, &from(3).syn()).real(), 4);
    }
}

#[test]
fn xdp_tcp_options_are_no_obstacle() {
    for family in FAMILIES {
        let from = |number| family.segment(number);
        let mut bench = three(family);
        for (number, length) in (0..).zip((0..=40).step_by(4)) {
            let syn = from(number).syn().with(|segment| {
                segment.tcp.set_options_raw(&vec![1; length]).unwrap();
            });
            bench.expect(Reason::NewFlow, &syn);
        }
    }
}

#[test]
fn xdp_a_syn_that_negotiates_congestion_notification_is_forwarded() {
    for family in FAMILIES {
        let mut bench = three(family);
        // ECN-setup SYN (RFC 3168, section 6.1.1).
        let negotiates = family.segment(2).syn().with(|segment| {
            (segment.tcp.ece, segment.tcp.cwr) = (true, true);
        });
        bench.expect(Reason::NewFlow, &negotiates);
    }
}

#[test]
fn xdp_a_segment_of_an_unknown_flow_goes_where_the_table_names() {
    for family in FAMILIES {
        let from = |number| family.segment(number);
        let mut bench = three(family);
        let named = named(&bench.plan.services[0], 0..100);
        for (number, id) in (0..100).zip(named) {
            let outcome = bench.expect(Reason::UnknownFlow, &from(number).ack(5000).data(30));
            assert_eq!(outcome.real(), id);
            // It is remembered from here on, by the same evidence as any other.
            bench.expect(Reason::PendingFlow, &from(number).ack(5000));
            assert_eq!(bench.expect(Reason::EstablishedFlow, &from(number).ack(5001)).real(), id);
        }
    }
}

#[test]
fn xdp_an_unknown_flow_of_round_robin_goes_by_the_same_table() {
    for family in FAMILIES {
        let from = |number| family.segment(number);
        let mut bench = Bench::new([three_by(family, Scheduler::RoundRobin)]);
        let named = named(&bench.plan.services[0], 0..100);
        for (number, id) in (0..100).zip(named) {
            let outcome = bench.expect(Reason::UnknownFlow, &from(number).ack(5000));
            assert_eq!(outcome.real(), id);
        }
    }
}

#[test]
fn xdp_a_reset_of_an_unknown_flow_leaves_no_entry() {
    for family in FAMILIES {
        let from = |number| family.segment(number);
        let mut bench = three(family);
        let named = named(&bench.plan.services[0], 0..20);
        for (number, id) in (0..20).zip(named) {
            for reset in [from(number).rst(), from(number).rst().ack(9)] {
                assert_eq!(bench.expect(Reason::UnknownReset, &reset).real(), id);
            }
        }
        assert!(bench.pending().is_empty());
        assert!(bench.established().is_empty());
    }
}

#[test]
fn xdp_each_service_has_its_own_servers() {
    for family in FAMILIES {
        let other = SocketAddr::new(OTHER_VIP[family as usize], 6432);
        let mut second = service(other, Scheduler::RoundRobin, [real(3), real(4)]);
        second.index = 1;
        let first = service(family.vip(), Scheduler::Maglev, [real(1), real(2)]);
        let mut bench = Bench::new([first, second]);
        for number in 0..20 {
            let syn = family.segment(number).syn();
            assert!(bench.expect(Reason::NewFlow, &syn).real() <= 2);
            let elsewhere = Segment::new(family.client(number), other).syn();
            assert!(bench.expect(Reason::NewFlow, &elsewhere).real() >= 3);
            // Each VIP has the one port only.
            let crossed = syn.with(|segment| segment.tcp.destination_port = other.port());
            bench.expect(Reason::NoService, &crossed);
        }
    }
}

/// One data plane, and the same real servers by whatever address a client comes.
#[test]
fn xdp_services_of_both_families_stand_side_by_side() {
    let mut services = FAMILIES.map(|family| three_by(family, Scheduler::RoundRobin));
    services[1].index = 1;
    for real in &mut services[1].reals {
        (real.real.id, real.neighbour) =
            (real.real.id + 10, self::real(real.real.id + 10).neighbour);
    }
    let mut bench = Bench::new(services);
    for number in 0..30 {
        for (family, ids) in FAMILIES.into_iter().zip([1..=3, 11..=13]) {
            let real = bench.expect(Reason::NewFlow, &family.segment(number).syn()).real();
            assert!(ids.contains(&real), "{family:?}");
            let ack = family.segment(number).ack(1);
            assert_eq!(bench.expect(Reason::PendingFlow, &ack).real(), real);
        }
    }
    assert_eq!(bench.pending().len(), 30);
}

#[test]
fn xdp_a_service_that_is_taken_away_passes_its_new_flows() {
    for family in FAMILIES {
        let from = |number| family.segment(number);
        let mut bench = three(family);
        bench.expect(Reason::NewFlow, &from(1).syn());
        bench.plan.services.clear();
        bench.apply();
        bench.expect(Reason::NotVip, &from(2).syn());
    }
}
