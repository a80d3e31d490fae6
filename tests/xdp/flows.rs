//! What is remembered of a flow.

use pgha_common::maps::Scheduler;
use pgha_common::verdict::Reason;
use pgha_machine::EffectiveWeight;
use pgha_tests::dataplane::{FAMILIES, Family, Random, real, service};

use crate::harness::{Bench, SEED, seed, three, three_by};

#[test]
fn xdp_a_flow_is_established_once_its_acknowledgement_advances() {
    for family in FAMILIES {
        let from = |number| family.segment(number);
        let mut bench = three(family);
        bench.expect(Reason::NewFlow, &from(1).syn());
        assert_eq!(bench.pending().get(&family.key(1)).unwrap().acknowledgement(), None);
        for _ in 0..3 {
            // The handshake's ACK, and the query it may come again with.
            bench.expect(Reason::PendingFlow, &from(1).ack(2001).data(80));
            assert_eq!(bench.pending().get(&family.key(1)).unwrap().acknowledgement(), Some(2001));
            assert_eq!(bench.established().get(&family.key(1)), None);
        }
        bench.expect(Reason::PendingFlow, &from(1).ack(1999));
        bench.expect(Reason::EstablishedFlow, &from(1).ack(2002));
        assert_eq!(bench.established().get(&family.key(1)).unwrap().acknowledgement(), Some(2002));
        assert_eq!(bench.pending().get(&family.key(1)), None);
    }
}

#[test]
fn xdp_the_last_acknowledgement_never_goes_back() {
    for family in FAMILIES {
        let from = |number| family.segment(number);
        let mut bench = three(family);
        bench.establish(1);
        for (sent, noted) in [(2500, 2500), (2400, 2500), (u32::MAX, 2500), (2501, 2501)] {
            bench.expect(Reason::EstablishedFlow, &from(1).ack(sent));
            assert_eq!(
                bench.established().get(&family.key(1)).unwrap().acknowledgement(),
                Some(noted)
            );
        }
        // Through the end of the sequence numbers.
        for step in [1u32 << 30, 1 << 31, 3 << 30, 100] {
            bench.expect(Reason::EstablishedFlow, &from(1).ack(step));
            assert_eq!(
                bench.established().get(&family.key(1)).unwrap().acknowledgement(),
                Some(step)
            );
        }
    }
}

#[test]
fn xdp_a_reset_establishes_nothing() {
    for family in FAMILIES {
        let from = |number| family.segment(number);
        let mut bench = three(family);
        bench.expect(Reason::NewFlow, &from(1).syn());
        bench.expect(Reason::PendingFlow, &from(1).ack(2001));
        bench.expect(Reason::PendingFlow, &from(1).rst().ack(3000));
        bench.expect(Reason::PendingFlow, &from(1).rst());
        assert!(bench.established().is_empty());
        assert_eq!(bench.pending().get(&family.key(1)).unwrap().acknowledgement(), Some(2001));
    }
}

#[test]
fn xdp_fin_and_reset_only_mark_a_flow() {
    for family in FAMILIES {
        let from = |number| family.segment(number);
        let mut bench = three(family);
        let real = bench.establish(1);
        let closing = |bench: &Bench| bench.established().get(&family.key(1)).unwrap().is_closing();
        for end in [from(1).fin().ack(2100), from(1).rst()] {
            assert!(!closing(&bench));
            assert_eq!(bench.expect(Reason::EstablishedFlow, &end).real(), real);
            assert!(closing(&bench));
            assert_eq!(bench.expect(Reason::EstablishedFlow, &from(1).ack(2101)).real(), real);
            assert!(closing(&bench), "the server's FIN is acknowledged");
            assert_eq!(
                bench.expect(Reason::EstablishedFlow, &from(1).ack(2101).data(9)).real(),
                real
            );
            assert!(!closing(&bench), "the client goes on");
        }
    }
}

/// A client that has used all its ports begins with the first again: what its old connections were on
/// is no reason to send new ones there.
#[test]
fn xdp_a_port_used_anew_goes_where_the_scheduler_says() {
    for family in FAMILIES {
        let from = |number| family.segment(number);
        let mut bench = Bench::new([three_by(family, Scheduler::RoundRobin)]);
        let first = bench.establish(1);
        bench.expect(Reason::EstablishedFlow, &from(1).fin().ack(2101));
        bench.expect(Reason::EstablishedFlow, &from(1).ack(2102));
        bench.change(first, |real| real.weight = EffectiveWeight::ZERO);
        let second = bench.expect(Reason::NewFlow, &from(1).syn().sequence(5_000_000)).real();
        assert_ne!(second, first);
        // Sent again before the server answered: no other turn.
        let again = bench.expect(Reason::SynAgain, &from(1).syn().sequence(5_000_000));
        assert_eq!(again.real(), second);
        let ack = |number| from(1).sequence(5_000_001).ack(number);
        for number in [1_000_000_001, 1_000_000_001] {
            assert_eq!(bench.expect(Reason::PendingFlow, &ack(number)).real(), second);
        }
        assert_eq!(bench.expect(Reason::EstablishedFlow, &ack(1_000_000_500)).real(), second);
        let flow_now = bench.established().get(&family.key(1)).unwrap();
        assert_eq!((flow_now.real().id, flow_now.is_closing()), (second, false));
        assert_eq!(bench.pending().get(&family.key(1)), None);
    }
}

/// Blindly forged segments: RST and SYN with any numbers but the connection's own.
#[test]
fn xdp_a_forged_reset_and_syn_take_no_established_flow_away() {
    for family in FAMILIES {
        let from = |number| family.segment(number);
        let mut bench = Bench::new([three_by(family, Scheduler::RoundRobin)]);
        let server = bench.establish(1);
        let mut number = 2100;
        for round in 0..100u32 {
            bench.expect(Reason::EstablishedFlow, &from(1).rst());
            // The first is taken for a new flow; the others for the same, sent again.
            let reason = if round == 0 { Reason::NewFlow } else { Reason::SynAgain };
            bench.expect(reason, &from(1).syn().sequence(1_000_000 + round * 1_000_000));
            // The client sends, and the server streams to it.
            for advance in [0, 1400, 65_000, 4_000_000] {
                number += advance;
                let segment = from(1).ack(number).data(usize::from(advance == 0) * 50);
                assert_eq!(bench.expect(Reason::EstablishedFlow, &segment).real(), server);
            }
        }
    }
}

/// Blindly forged ends, with any numbers, and forged acknowledgements: they move no flow, and what the client
/// acknowledged is found again.
#[test]
fn xdp_forged_numbers_take_no_established_flow_away() {
    for family in FAMILIES {
        let from = |number| family.segment(number);
        let mut bench = Bench::new([three_by(family, Scheduler::RoundRobin)]);
        let server = bench.establish(1);
        let mut number = 2100u32;
        for round in 1..100u32 {
            let forged = number.wrapping_add(round.wrapping_mul(0x9e37_79b1));
            for segment in [
                from(1).fin().ack(forged),
                from(1).ack(forged),
                from(1).rst().ack(forged),
                from(1).ack(forged.wrapping_add(1 << 31)),
            ] {
                assert_eq!(bench.expect(Reason::EstablishedFlow, &segment).real(), server);
                number = number.wrapping_add(1400);
                let segment = from(1).ack(number).data(50);
                assert_eq!(bench.expect(Reason::EstablishedFlow, &segment).real(), server);
            }
        }
        assert_eq!(bench.pending().get(&family.key(1)), None);
    }
}

#[test]
fn xdp_a_syn_on_an_open_flow_stays_on_its_server() {
    for family in FAMILIES {
        let from = |number| family.segment(number);
        let mut bench = three(family);
        let real = bench.establish(1);
        assert_eq!(bench.expect(Reason::SynAgain, &from(1).syn().sequence(5)).real(), real);
        let reopened = bench.established().get(&family.key(1)).unwrap();
        assert_eq!(reopened.acknowledgement(), Some(2100), "a SYN may be forged, or late");
        assert_eq!(bench.expect(Reason::EstablishedFlow, &from(1).ack(1_000_000_001)).real(), real);
        let followed = bench.established().get(&family.key(1)).unwrap();
        assert_eq!(followed.acknowledgement(), Some(1_000_000_001));
    }
}

#[test]
fn xdp_a_pending_flow_whose_port_is_reused_can_be_established() {
    for family in FAMILIES {
        let from = |number| family.segment(number);
        let mut bench = three(family);
        bench.expect(Reason::NewFlow, &from(1).syn());
        bench.expect(Reason::PendingFlow, &from(1).ack(3_000_000_000));
        bench.expect(Reason::SynAgain, &from(1).syn().sequence(5));
        bench.expect(Reason::PendingFlow, &from(1).ack(1_000_000_001));
        bench.expect(Reason::EstablishedFlow, &from(1).ack(1_000_000_500));
    }
}

/// A flood of SYNs, of lone ACKs, of RSTs, each ten times the table of established flows.
#[test]
fn xdp_floods_evict_no_established_flow() {
    const FLOWS: u32 = 4096;
    const PENDING: u32 = 1024;
    for family in FAMILIES {
        let from = |number| family.segment(number);
        let mut bench = Bench::with_tables(FLOWS, PENDING, [three_by(family, Scheduler::Maglev)]);
        let servers: Vec<_> = (0..500).map(|number| bench.establish(number)).collect();
        let mut number = 1000;
        for kind in 0..3 {
            for _ in 0..10 * FLOWS {
                number += 1;
                match kind {
                    0 => bench.expect(Reason::NewFlow, &from(number).syn()),
                    1 => bench.expect(Reason::UnknownFlow, &from(number).ack(number)),
                    _ => bench.expect(Reason::UnknownReset, &from(number).rst()),
                };
            }
        }
        assert!(bench.pending().len() <= PENDING as usize);
        assert_eq!(bench.established().len(), 500);
        stay(&mut bench, family, &servers);
    }
}

/// A flood that comes back to the same clients, each time with another number: a few are taken for answered.
#[test]
fn xdp_a_flood_of_forged_acknowledgements_evicts_no_established_flow() {
    const FLOWS: u32 = 4096;
    for family in FAMILIES {
        let mut random = Random::new(seed());
        let mut bench = Bench::with_tables(FLOWS, 1024, [three_by(family, Scheduler::Maglev)]);
        let servers: Vec<_> = (0..500).map(|number| bench.establish(number)).collect();
        for _ in 0..10 * FLOWS {
            let number = 1000 + u32::try_from(random.below(500)).unwrap();
            let forged = u32::try_from(random.below(1 << 32)).unwrap();
            bench.send(&family.segment(number).ack(forged).frame());
        }
        stay(&mut bench, family, &servers);
    }
}

/// Asserts that the first clients are on these servers.
#[track_caller]
fn stay(bench: &mut Bench, family: Family, servers: &[u16]) {
    for (number, server) in (0..).zip(servers) {
        let segment = family.segment(number).ack(2100);
        assert_eq!(bench.expect(Reason::EstablishedFlow, &segment).real(), *server);
    }
}

#[test]
fn xdp_a_connection_can_be_made_during_a_flood() {
    const PENDING: u32 = 1024;
    for family in FAMILIES {
        let from = |number| family.segment(number);
        let mut bench = Bench::with_tables(4096, PENDING, [three_by(family, Scheduler::Maglev)]);
        for number in 1000..1000 + 2 * PENDING {
            bench.expect(Reason::NewFlow, &from(number).syn());
        }
        bench.establish(1);
    }
}

/// One change of a service that has 16 places for real servers: a weight, or who is there.
fn change(random: &mut Random, bench: &mut Bench) {
    let id = u16::try_from(1 + random.below(16)).unwrap();
    let reals = &mut bench.plan.services[0].reals;
    let at = reals.iter().position(|real| real.real.id == id);
    match at {
        Some(at) => {
            reals[at].weight = EffectiveWeight::new(random.of(&[0, 0, 1, 1, 2, 7, 100])).unwrap();
        }
        // It joins, and stays: those that flows are on leave in another test.
        None => reals.push(real(id)),
    }
    if reals.iter().all(|real| real.weight == EffectiveWeight::ZERO) {
        reals[0].weight = EffectiveWeight::ONE;
    }
    let order = random.below(reals.len());
    reals.rotate_left(order);
    bench.plan.services[0].scheduler =
        random.of(&[Scheduler::Maglev, Scheduler::RoundRobin, Scheduler::Source, Scheduler::Least]);
    bench.apply();
}

/// Whatever becomes of weights, members and schedulers, whether between two segments or between SYN
/// and ACK, no flow moves.
#[test]
fn xdp_no_change_moves_a_flow() {
    const FLOWS: u32 = 10_000;
    const CHANGES: u32 = 1000;
    for family in FAMILIES {
        let seed = seed();
        println!("{SEED}={seed}");
        let mut random = Random::new(seed);
        let services =
            [service(family.vip(), Scheduler::Maglev, (1..=4).map(real).collect::<Vec<_>>())];
        let mut bench = Bench::with_tables(2 * FLOWS, FLOWS, services);
        let mut servers: Vec<_> = (0..FLOWS).map(|number| bench.establish(number)).collect();
        for round in 0..CHANGES {
            // A flow that begins before the change and goes on after it, never established twice.
            let number = FLOWS + round;
            let opened = bench.expect(Reason::NewFlow, &family.segment(number).syn()).real();
            change(&mut random, &mut bench);
            let pending = bench.expect(Reason::PendingFlow, &family.segment(number).ack(2001));
            assert_eq!(pending.real(), opened, "flow {number}, change {round}");
            for _ in 0..10 {
                let number = random.below(servers.len());
                let ack = family.segment(u32::try_from(number).unwrap()).ack(2200).data(1);
                let outcome = bench.send(&ack.frame());
                assert!(matches!(outcome.reason, Reason::EstablishedFlow | Reason::PendingFlow));
                assert_eq!(outcome.real(), servers[number], "flow {number}, change {round}");
            }
            servers.push(opened);
        }
        for (number, server) in (0..).zip(&servers) {
            assert_eq!(bench.send(&family.segment(number).ack(2300).frame()).real(), *server);
        }
    }
}

/// An id whose user left, and was given to another, again and again.
#[test]
fn xdp_a_removed_servers_id_inherits_nothing() {
    for family in FAMILIES {
        let mut bench = three(family);
        for generation in 1..50 {
            let number = u32::from(generation) * 10;
            let (open, waiting) = (number, number + 1);
            let id = bench.establish(open);
            bench.expect(Reason::NewFlow, &family.segment(waiting).syn());
            bench.plan.services[0].reals.clear();
            bench.apply();
            bench.expect(Reason::DeadServer, &family.segment(open).ack(2100));
            bench.plan.services[0].reals = [1, 2, 3]
                .map(real)
                .map(|mut real| {
                    real.real.generation = generation;
                    real
                })
                .into();
            bench.apply();
            assert_eq!(bench.data_plane().traffic(id).unwrap().packets, 0);
            bench.expect(Reason::DeadServer, &family.segment(open).ack(2100));
            bench.expect(Reason::DeadServer, &family.segment(waiting).ack(2001));
        }
    }
}
