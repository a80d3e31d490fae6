//! Segments to the VIP find the real server of their flow.

use std::collections::BTreeMap;

use pgha_common::maps::Scheduler;
use pgha_common::verdict::Reason;
use pgha_machine::Weight;
use pgha_tests::dataplane::{real, service};

use crate::harness::{Bench, from, named, three};

#[test]
fn xdp_syn_goes_to_the_server_that_the_table_names() {
    let mut reals = [real(1), real(2), real(300)];
    reals[1].weight = Weight::new(5).unwrap();
    let mut bench = Bench::new([service(Scheduler::Maglev, reals)]);
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
        assert_eq!((traffic.flows, traffic.packets, traffic.bytes), (flows, flows, flows * 54));
    }
}

#[test]
fn xdp_later_segments_follow_their_syn() {
    let mut bench = three();
    for number in 0..50 {
        let real = bench.establish(number);
        let pushed = from(number).ack(2100).data(1200);
        assert_eq!(bench.expect(Reason::EstablishedFlow, &pushed).real(), real);
    }
}

#[test]
fn xdp_a_known_flow_keeps_its_server_when_the_table_changes() {
    let mut bench = three();
    let before: Vec<_> = (0..60).map(|number| bench.establish(number)).collect();
    let waiting = bench.expect(Reason::NewFlow, &from(99).syn()).real();
    bench.plan.services[0].reals.extend([real(4), real(5), real(6)]);
    bench.apply();
    let moved =
        named(&bench.plan.services[0], 0..60).iter().zip(&before).filter(|(a, b)| a != b).count();
    assert!(moved > 0, "the change moves none of these clients");
    for (number, real) in (0..60).zip(before) {
        let outcome = bench.expect(Reason::EstablishedFlow, &from(number).ack(2200));
        assert_eq!(outcome.real(), real);
    }
    assert_eq!(bench.expect(Reason::SynAgain, &from(99).syn()).real(), waiting);
    assert_eq!(bench.expect(Reason::PendingFlow, &from(99).ack(2001)).real(), waiting);
}

#[test]
fn xdp_a_syn_again_stays_on_its_server() {
    let mut bench = three();
    let retransmitted = bench.expect(Reason::NewFlow, &from(1).syn()).real();
    let reused = bench.establish(2);
    // A table that names only one other for each of the two.
    bench.plan.services[0].reals.extend([real(4)]);
    for id in 1..=3 {
        bench.change(id, |real| real.weight = Weight::ZERO);
    }
    assert_eq!(bench.expect(Reason::SynAgain, &from(1).syn()).real(), retransmitted);
    assert_eq!(bench.expect(Reason::SynAgain, &from(2).syn().sequence(77)).real(), reused);
    assert_eq!(bench.expect(Reason::NewFlow, &from(3).syn()).real(), 4);
}

#[test]
fn xdp_type_of_service_and_congestion_bits_are_preserved() {
    let mut bench = three();
    for (dscp, ecn) in [(0x23, 0), (0, 3), (0x3f, 1)] {
        let marked = from(1).syn().with(|segment| {
            segment.ipv4.dscp = dscp.try_into().unwrap();
            segment.ipv4.ecn = ecn.try_into().unwrap();
        });
        let outcome = bench.send(&marked.frame());
        assert_eq!(outcome.real(), named(&bench.plan.services[0], [1])[0]);
        assert_eq!(outcome.frame[15], dscp << 2 | ecn);
    }
    // ECN-setup SYN (RFC 3168, section 6.1.1).
    let negotiates = from(2).syn().with(|segment| {
        segment.tcp.ece = true;
        segment.tcp.cwr = true;
    });
    bench.expect(Reason::NewFlow, &negotiates);
}

#[test]
fn xdp_ip_options_before_tcp_are_no_obstacle() {
    let mut bench = three();
    let number = |length| u32::try_from(length).unwrap();
    for length in (4..=40).step_by(4) {
        let optional = |segment: &mut pgha_tests::dataplane::Segment| {
            // No operation (RFC 791, section 3.1).
            segment.ipv4.options = vec![1u8; length].as_slice().try_into().unwrap();
        };
        let syn = from(number(length)).syn().with(optional);
        let real = bench.expect(Reason::NewFlow, &syn).real();
        assert_eq!(real, named(&bench.plan.services[0], [number(length)])[0]);
        let ack = from(number(length)).ack(2001).data(10).with(optional);
        assert_eq!(bench.expect(Reason::PendingFlow, &ack).real(), real);
    }
}

#[test]
fn xdp_tcp_options_are_no_obstacle() {
    let mut bench = three();
    for (number, length) in (0..).zip((0..=40).step_by(4)) {
        let syn = from(number).syn().with(|segment| {
            segment.tcp.set_options_raw(&vec![1; length]).unwrap();
        });
        bench.expect(Reason::NewFlow, &syn);
    }
}

#[test]
fn xdp_padding_after_the_packet_is_carried_along() {
    let mut bench = three();
    let mut padded = from(1).syn().frame();
    padded.resize(60, 0);
    let outcome = bench.expect_frame(Reason::NewFlow, &padded);
    assert_eq!(outcome.frame.len(), 60);
    bench.expect(Reason::PendingFlow, &from(1).ack(2001).data(1460));
}

#[test]
fn xdp_a_segment_of_an_unknown_flow_goes_where_the_table_names() {
    let mut bench = three();
    let named = named(&bench.plan.services[0], 0..100);
    for (number, id) in (0..100).zip(named) {
        let outcome = bench.expect(Reason::UnknownFlow, &from(number).ack(5000).data(30));
        assert_eq!(outcome.real(), id);
        // It is remembered from here on, by the same evidence as any other.
        bench.expect(Reason::PendingFlow, &from(number).ack(5000));
        assert_eq!(bench.expect(Reason::EstablishedFlow, &from(number).ack(5001)).real(), id);
    }
}

#[test]
fn xdp_an_unknown_flow_of_round_robin_goes_by_the_same_table() {
    let mut bench = Bench::new([service(Scheduler::RoundRobin, [real(1), real(2), real(3)])]);
    let named = named(&bench.plan.services[0], 0..100);
    for (number, id) in (0..100).zip(named) {
        let outcome = bench.expect(Reason::UnknownFlow, &from(number).ack(5000));
        assert_eq!(outcome.real(), id);
    }
}

#[test]
fn xdp_a_reset_of_an_unknown_flow_leaves_no_entry() {
    let mut bench = three();
    let named = named(&bench.plan.services[0], 0..20);
    for (number, id) in (0..20).zip(named) {
        for reset in [from(number).rst(), from(number).rst().ack(9)] {
            assert_eq!(bench.expect(Reason::UnknownReset, &reset).real(), id);
        }
    }
    assert!(bench.pending().is_empty());
    assert!(bench.established().is_empty());
}

#[test]
fn xdp_each_service_has_its_own_servers() {
    let other = (std::net::Ipv4Addr::new(10, 77, 1, 7), 6432);
    let mut second = service(Scheduler::RoundRobin, [real(3), real(4)]);
    (second.index, second.vip, second.port) = (1, other.0, other.1);
    let mut bench = Bench::new([service(Scheduler::Maglev, [real(1), real(2)]), second]);
    for number in 0..20 {
        assert!(bench.expect(Reason::NewFlow, &from(number).syn()).real() <= 2);
        let elsewhere = from(number).syn().with(|segment| {
            segment.ipv4.destination = other.0.octets();
            segment.tcp.destination_port = other.1;
        });
        assert!(bench.expect(Reason::NewFlow, &elsewhere).real() >= 3);
        // Each VIP has the one port only.
        let crossed = from(number).syn().with(|segment| segment.tcp.destination_port = other.1);
        bench.expect(Reason::NoService, &crossed);
    }
}

#[test]
fn xdp_a_service_that_is_taken_away_passes_its_new_flows() {
    let mut bench = three();
    bench.expect(Reason::NewFlow, &from(1).syn());
    bench.plan.services.clear();
    bench.apply();
    bench.expect(Reason::NotVip, &from(2).syn());
}
