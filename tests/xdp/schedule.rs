//! How real servers are picked for new flows.

use pgha_common::maps::Scheduler;
use pgha_common::verdict::Reason;
use pgha_machine::{Weight, table};
use pgha_tests::dataplane::{real, service};

use crate::harness::{Bench, cpus, entries, flow, from, named, on_cpu, three};

#[test]
fn xdp_round_robin_is_strict_on_all_cpus() {
    let mut reals = [real(1), real(2), real(3)];
    reals[1].weight = Weight::new(3).unwrap();
    let mut bench = Bench::new([service(Scheduler::RoundRobin, reals)]);
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

#[test]
fn xdp_round_robin_gives_a_retransmitted_syn_no_turn() {
    let mut bench = Bench::new([service(Scheduler::RoundRobin, [real(1), real(2), real(3)])]);
    for number in 0..9 {
        let first = bench.expect(Reason::NewFlow, &from(number).syn()).real();
        assert_eq!(u32::from(first), number % 3 + 1);
        assert_eq!(bench.expect(Reason::SynAgain, &from(number).syn()).real(), first);
    }
}

#[test]
fn xdp_a_drained_server_keeps_its_flows_and_gets_no_new_ones() {
    for scheduler in [Scheduler::Maglev, Scheduler::RoundRobin] {
        let mut bench = Bench::new([service(scheduler, [real(1), real(2), real(3)])]);
        let before: Vec<_> = (0..60).map(|number| bench.establish(number)).collect();
        assert!(before.contains(&2));
        bench.change(2, |real| real.weight = Weight::ZERO);
        for (number, real) in (0..60).zip(before) {
            let kept = bench.expect(Reason::EstablishedFlow, &from(number).ack(2200));
            assert_eq!(kept.real(), real);
        }
        for number in 100..160 {
            assert_ne!(bench.expect(Reason::NewFlow, &from(number).syn()).real(), 2);
        }
    }
}

#[test]
fn xdp_maglev_moves_only_the_clients_of_the_server_that_left() {
    let mut bench = three();
    let before = named(&bench.plan.services[0], 0..600);
    bench.change(3, |real| real.weight = Weight::ZERO);
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

#[test]
fn xdp_the_scheduler_can_be_changed() {
    let mut bench = three();
    let real = bench.establish(1);
    bench.plan.services[0].scheduler = Scheduler::RoundRobin;
    bench.apply();
    for (number, id) in (10..).zip([1, 2, 3, 1, 2, 3]) {
        assert_eq!(bench.expect(Reason::NewFlow, &from(number).syn()).real(), id);
    }
    assert_eq!(bench.expect(Reason::EstablishedFlow, &from(1).ack(2200)).real(), real);
    assert_eq!(bench.established().get(&flow(1)).unwrap().real().id, real);
}
