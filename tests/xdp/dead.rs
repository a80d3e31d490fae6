//! A real server that is dead, was replaced, or is not there: clients are told at once, in answers
//! that the harness compares in every field.

use pgha_common::maps::Scheduler;
use pgha_common::verdict::Reason;
use pgha_machine::EffectiveWeight;
use pgha_tests::dataplane::{FAMILIES, real, service};

use crate::harness::{Bench, three};

#[test]
fn xdp_no_server_is_told_by_reset() {
    for family in FAMILIES {
        let from = |number| family.segment(number);
        for scheduler in [Scheduler::Maglev, Scheduler::RoundRobin] {
            let mut bench = Bench::new([service(family.vip(), scheduler, [])]);
            bench.expect(Reason::NoServer, &from(1).syn());
            bench.expect(Reason::NoServer, &from(1).syn().sequence(u32::MAX));
            bench.expect(Reason::NoServer, &from(1).syn().data(100));
            bench.expect(Reason::NoServer, &from(1).ack(4_000_000_000));
            bench.expect(Reason::NoServer, &from(1).ack(77).data(1400));
            bench.expect(Reason::NoServer, &from(1).fin().ack(77));
            bench.expect(Reason::NoServer, &from(1).fin().data(3).sequence(u32::MAX - 2));
            bench.expect(Reason::ResetUnanswered, &from(1).rst());
            bench.expect(Reason::ResetUnanswered, &from(1).rst().ack(77));
            assert!(bench.pending().is_empty());
        }
    }
}

#[test]
fn xdp_servers_that_are_all_drained_are_none() {
    for family in FAMILIES {
        let from = |number| family.segment(number);
        let mut bench = three(family);
        bench.establish(1);
        for id in 1..=3 {
            bench.change(id, |real| real.weight = EffectiveWeight::ZERO);
        }
        bench.expect(Reason::NoServer, &from(2).syn());
        bench.expect(Reason::EstablishedFlow, &from(1).ack(2200));
    }
}

#[test]
fn xdp_segments_to_a_dead_server_are_answered_by_reset() {
    for family in FAMILIES {
        let from = |number| family.segment(number);
        let mut bench = three(family);
        let id = bench.establish(1);
        bench.expect(Reason::NewFlow, &from(2).syn());
        for id in 1..=3 {
            bench.kill(id);
        }
        for segment in [
            from(1).ack(2100),
            from(1).ack(2345).data(1460),
            from(1).fin().ack(2345),
            from(1).fin().sequence(8),
            from(2).ack(2001),
        ] {
            bench.expect(Reason::DeadServer, &segment);
        }
        bench.expect(Reason::ResetUnanswered, &from(1).rst());
        let mut padded = from(1).ack(2100).frame();
        padded.resize(padded.len() + 6, 0);
        bench.expect_frame(Reason::DeadServer, &padded);
        let optional = from(1).ack(2100).with(|segment| {
            segment.ip.set_options(16);
            segment.tcp.set_options_raw(&[1; 12]).unwrap();
        });
        bench.expect(Reason::DeadServer, &optional);
        // Forwarded are only the three of the handshake.
        assert_eq!(bench.data_plane().traffic(id).unwrap().packets.min(3), 3);
    }
}

#[test]
fn xdp_a_syn_of_a_dead_servers_flow_goes_to_another() {
    for family in FAMILIES {
        let from = |number| family.segment(number);
        let mut bench = three(family);
        let (established, waiting) = (bench.establish(1), 2);
        let pending = bench.expect(Reason::NewFlow, &from(waiting).syn()).real();
        bench.kill(established);
        if pending != established {
            bench.kill(pending);
        }
        for number in [1, waiting] {
            let other = bench.expect(Reason::NewFlow, &from(number).syn().sequence(9)).real();
            assert!(other != established && other != pending);
            assert_eq!(bench.established().get(&family.key(number)), None);
            assert_eq!(bench.pending().get(&family.key(number)).unwrap().real().id, other);
            assert_eq!(bench.expect(Reason::PendingFlow, &from(number).ack(1)).real(), other);
        }
    }
}

#[test]
fn xdp_only_the_dead_servers_flows_change() {
    for family in FAMILIES {
        let from = |number| family.segment(number);
        let mut bench = three(family);
        let servers: Vec<_> = (0..90).map(|number| bench.establish(number)).collect();
        bench.kill(2);
        for (number, server) in (0..90).zip(servers) {
            let segment = from(number).ack(2200);
            if server == 2 {
                bench.expect(Reason::DeadServer, &segment);
            } else {
                assert_eq!(bench.expect(Reason::EstablishedFlow, &segment).real(), server);
            }
            assert_ne!(bench.expect(Reason::NewFlow, &from(number + 1000).syn()).real(), 2);
        }
    }
}

#[test]
fn xdp_a_server_that_comes_back_keeps_its_flows() {
    for family in FAMILIES {
        let from = |number| family.segment(number);
        let mut bench = three(family);
        let id = bench.establish(1);
        bench.kill(id);
        bench.expect(Reason::DeadServer, &from(1).ack(2100));
        bench.change(id, |real| (real.dead, real.weight) = (false, EffectiveWeight::ONE));
        assert_eq!(bench.expect(Reason::EstablishedFlow, &from(1).ack(2100)).real(), id);
    }
}

#[test]
fn xdp_an_id_that_another_server_has_inherits_no_flow() {
    for family in FAMILIES {
        let from = |number| family.segment(number);
        let mut bench = three(family);
        let id = bench.establish(1);
        bench.expect(Reason::NewFlow, &from(2).syn());
        let reals = bench.plan.services[0].reals.clone();
        // First nobody has the ids, then others.
        bench.plan.services[0].reals.clear();
        bench.apply();
        bench.expect(Reason::DeadServer, &from(1).ack(2100));
        for mut other in reals {
            other.address = real(other.real.id + 0x100).address;
            other.real.generation += 1;
            bench.plan.services[0].reals.push(other);
        }
        bench.apply();
        assert_eq!(bench.data_plane().traffic(id).unwrap().packets, 0);
        bench.expect(Reason::DeadServer, &from(1).ack(2100));
        bench.expect(Reason::DeadServer, &from(2).ack(2001));
        bench.expect(Reason::NewFlow, &from(1).syn());
        bench.expect(Reason::PendingFlow, &from(1).ack(5));
        bench.expect(Reason::NewFlow, &from(3).syn());
    }
}
