//! How real servers are picked for new flows.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;

use pgha_common::maps::Scheduler;
use pgha_common::verdict::Reason;
use pgha_machine::{EffectiveWeight, table};
use pgha_tests::dataplane::{FAMILIES, Family, Segment, real, service};

use crate::harness::{Bench, cpus, entries, named, on_cpu, three, three_by};

#[test]
fn xdp_round_robin_is_strict_on_all_cpus() {
    for family in FAMILIES {
        let from = |number| family.segment(number);
        let mut reals = [real(1), real(2), real(3)];
        reals[1].weight = EffectiveWeight::new(3).unwrap();
        let mut bench = Bench::new([service(family.vip(), Scheduler::RoundRobin, reals)]);
        let ring = table::ring(&entries(&bench.plan.services[0]));
        assert_eq!(ring.len(), 5);
        let cpus = cpus();
        for (number, expected) in (0..).zip(ring.iter().cycle().take(100)) {
            let cpu = cpus[(number as usize / 2) % cpus.len()];
            let syn = from(number).syn();
            let outcome = on_cpu(cpu, || bench.expect(Reason::NewFlow, &syn));
            assert_eq!(outcome.real(), *expected, "flow {number}");
        }
    }
}

#[test]
fn xdp_round_robin_gives_a_retransmitted_syn_no_turn() {
    for family in FAMILIES {
        let from = |number| family.segment(number);
        let mut bench = Bench::new([three_by(family, Scheduler::RoundRobin)]);
        for number in 0..9 {
            let first = bench.expect(Reason::NewFlow, &from(number).syn()).real();
            assert_eq!(u32::from(first), number % 3 + 1);
            assert_eq!(bench.expect(Reason::SynAgain, &from(number).syn()).real(), first);
        }
    }
}

#[test]
fn xdp_a_drained_server_keeps_its_flows_and_gets_no_new_ones() {
    for family in FAMILIES {
        let from = |number| family.segment(number);
        for scheduler in [Scheduler::Maglev, Scheduler::RoundRobin] {
            let mut bench = Bench::new([three_by(family, scheduler)]);
            let before: Vec<_> = (0..60).map(|number| bench.establish(number)).collect();
            assert!(before.contains(&2));
            bench.change(2, |real| real.weight = EffectiveWeight::ZERO);
            for (number, real) in (0..60).zip(before) {
                let kept = bench.expect(Reason::EstablishedFlow, &from(number).ack(2200));
                assert_eq!(kept.real(), real);
            }
            for number in 100..160 {
                assert_ne!(bench.expect(Reason::NewFlow, &from(number).syn()).real(), 2);
            }
        }
    }
}

#[test]
fn xdp_maglev_moves_only_the_clients_of_the_server_that_left() {
    for family in FAMILIES {
        let from = |number| family.segment(number);
        let mut bench = three(family);
        let before = named(&bench.plan.services[0], 0..600);
        bench.change(3, |real| real.weight = EffectiveWeight::ZERO);
        let moved = (0..600)
            .zip(before)
            .filter(|(number, before)| {
                let now = bench.expect(Reason::NewFlow, &from(*number).syn()).real();
                now != *before && *before != 3
            })
            .count();
        // 0.3 % of the slots, tenfold.
        assert!(moved <= 18, "{moved} clients of other servers moved");
    }
}

#[test]
fn xdp_the_scheduler_can_be_changed() {
    for family in FAMILIES {
        let from = |number| family.segment(number);
        let mut bench = three(family);
        let real = bench.establish(1);
        bench.plan.services[0].scheduler = Scheduler::RoundRobin;
        bench.apply();
        for (number, id) in (10..).zip([1, 2, 3, 1, 2, 3]) {
            assert_eq!(bench.expect(Reason::NewFlow, &from(number).syn()).real(), id);
        }
        assert_eq!(bench.expect(Reason::EstablishedFlow, &from(1).ack(2200)).real(), real);
        assert_eq!(bench.established().get(&family.key(1)).unwrap().real().id, real);
    }
}

/// A client by number of its address, of its port.
fn client(family: Family, host: u16, port: u16) -> SocketAddr {
    let [high, low] = host.to_be_bytes();
    let ipv6 = [0xfd11, 0, 0, 0, 0, 0, 7, host];
    SocketAddr::new(family.pick(IpAddr::from([11, 7, high, low]), IpAddr::from(ipv6)), port)
}

#[test]
fn xdp_source_sends_all_connections_of_a_client_to_one_server() {
    for family in FAMILIES {
        let mut bench = Bench::new([three_by(family, Scheduler::Source)]);
        let mut used = BTreeMap::<u16, u32>::new();
        for host in 0..200 {
            let from = |port| Segment::new(client(family, host, port), family.vip());
            let real = bench.expect(Reason::NewFlow, &from(1).syn()).real();
            for port in [2, 40_000, u16::MAX] {
                assert_eq!(bench.expect(Reason::NewFlow, &from(port).syn()).real(), real);
            }
            // As would a director that takes over.
            assert_eq!(bench.expect(Reason::UnknownFlow, &from(3).ack(77)).real(), real);
            assert_eq!(bench.expect(Reason::UnknownReset, &from(4).rst()).real(), real);
            *used.entry(real).or_default() += 1;
        }
        assert!(used.len() == 3 && used.values().all(|clients| *clients > 30), "{used:?}");
    }
}

#[test]
fn xdp_source_moves_the_clients_of_the_server_that_left() {
    for family in FAMILIES {
        let mut bench = Bench::new([three_by(family, Scheduler::Source)]);
        let syn = |host, port| Segment::new(client(family, host, port), family.vip()).syn();
        let before: Vec<_> =
            (0..600).map(|host| bench.expect(Reason::NewFlow, &syn(host, 1)).real()).collect();
        bench.change(3, |real| real.weight = EffectiveWeight::ZERO);
        let moved = (0..600)
            .zip(before)
            .filter(|(host, before)| {
                let now = bench.expect(Reason::NewFlow, &syn(*host, 2)).real();
                assert_ne!(now, 3);
                now != *before && *before != 3
            })
            .count();
        assert!(moved <= 18, "{moved} clients of other servers moved");
    }
}

/// How many of these clients' new connections each server gets.
fn opened(bench: &mut Bench, numbers: Range<u32>) -> BTreeMap<u16, u32> {
    let mut got = BTreeMap::new();
    for number in numbers {
        let syn = bench.segment(number).syn();
        *got.entry(bench.expect(Reason::NewFlow, &syn).real()).or_default() += 1;
    }
    got
}

#[test]
fn xdp_least_prefers_the_server_with_fewer_open_flows() {
    for family in FAMILIES {
        let reals = [real(1), real(2)];
        let mut bench = Bench::new([service(family.vip(), Scheduler::Least, reals)]);
        // All go to one, which is what a server that was down long finds when it comes back.
        bench.change(2, |real| real.weight = EffectiveWeight::ZERO);
        for number in 0..400 {
            assert_eq!(bench.establish(number), 1);
        }
        bench.change(2, |real| real.weight = EffectiveWeight::ONE);
        // Of two choices at least one is the idle server three times in four.
        let got = opened(&mut bench, 1000..1200);
        assert!(got[&2] > 120, "{got:?}");
        // Its flows end, by FIN and by RST, each of which counts once however often it is sent.
        for number in 0..400 {
            let from = |number| family.segment(number);
            let end =
                if number % 2 == 0 { from(number).fin().ack(2100) } else { from(number).rst() };
            bench.expect(Reason::EstablishedFlow, &end);
            bench.expect(Reason::EstablishedFlow, &end);
        }
        let got = opened(&mut bench, 2000..2050);
        assert!(got[&1] > 30, "{got:?}");
    }
}

#[test]
fn xdp_least_follows_the_weights() {
    for family in FAMILIES {
        let mut reals = [real(1), real(2), real(3)];
        reals[2].weight = EffectiveWeight::new(4).unwrap();
        let mut bench = Bench::new([service(family.vip(), Scheduler::Least, reals)]);
        let got = opened(&mut bench, 0..3000);
        let share = |id| f64::from(got[&id]) / 3000.0;
        for (id, expected) in [(1, 1.0 / 6.0), (2, 1.0 / 6.0), (3, 4.0 / 6.0)] {
            assert!((share(id) - expected).abs() < 0.05, "{got:?}");
        }
        bench.change(3, |real| real.weight = EffectiveWeight::ZERO);
        assert!(!opened(&mut bench, 5000..5300).contains_key(&3));
    }
}

#[test]
fn xdp_an_unknown_flow_of_least_goes_by_the_maglev_table() {
    for family in FAMILIES {
        let mut bench = Bench::new([three_by(family, Scheduler::Least)]);
        let named = named(&bench.plan.services[0], 0..100);
        for (number, id) in (0..100).zip(named) {
            let segment = family.segment(number).ack(5000);
            assert_eq!(bench.expect(Reason::UnknownFlow, &segment).real(), id);
        }
    }
}

#[test]
fn xdp_shares_follow_the_weights() {
    const CLIENTS: u32 = 20_000;
    for family in FAMILIES {
        for scheduler in [Scheduler::Maglev, Scheduler::RoundRobin] {
            let mut reals = [real(1), real(2), real(3)];
            reals[1].weight = EffectiveWeight::new(2).unwrap();
            reals[2].weight = EffectiveWeight::new(5).unwrap();
            let mut bench = Bench::new([service(family.vip(), scheduler, reals)]);
            let got = opened(&mut bench, 0..CLIENTS);
            for (id, weight) in [(1, 1.0), (2, 2.0), (3, 5.0)] {
                let share = f64::from(got[&id]) / f64::from(CLIENTS);
                assert!((share - weight / 8.0).abs() <= 0.01, "{scheduler:?}: {got:?}");
            }
        }
    }
}
