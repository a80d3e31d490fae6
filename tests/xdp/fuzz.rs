//! Frames of chance: whatever comes in, the program ends well, every frame is counted once, and what
//! is not for a VIP passes byte-identical (the harness asserts the first two and the last).

mod frames;

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::thread;

use pgha_common::maps::Scheduler;
use pgha_common::verdict::{Action, Reason};
use pgha_ctl::bpf::xdp::Active;
use pgha_machine::EffectiveWeight;
use pgha_machine::balancer::{ServicePlan, SynLimit};
use pgha_tests::dataplane::{DIRECTOR_MAC, FAMILIES, Family, Random, VIP, mac, real, service};
use pgha_tests::lab::{READER_VIP, READER_VIP6};

use crate::harness::{Bench, PEER_MAC, SEED, peer, seed};
use frames::{GUARDED_PORT, Sender};

/// Frames of each of [`RUNS`], which have a seed each: that of the test, and the one after it.
const FRAMES: usize = 500_000;
const RUNS: u64 = 2;
/// After so many frames the world changes.
const ROUND: usize = 2500;

/// Of each family a service for everybody, and one that is restricted and limited.
fn services() -> Vec<ServicePlan> {
    let mut services = Vec::new();
    for (family, first) in FAMILIES.into_iter().zip([1, 11]) {
        let mut open =
            service(family.vip(), Scheduler::Maglev, [first, first + 1, first + 2].map(real));
        (open.reals[2].local, open.reals[2].neighbour) = (true, None);
        let mut guarded =
            service(family.vip(), Scheduler::RoundRobin, [first + 3, first + 4].map(real));
        guarded.port = GUARDED_PORT;
        // The first half of the clients of `frames`.
        let allowed = family.pick("11.0.0.0/31", "fd11::/127");
        guarded.allowed_clients = vec![allowed.parse().unwrap()];
        let one = NonZeroU32::MIN;
        guarded.syn_limit =
            Some(SynLimit { rate: one.saturating_add(4), burst: one.saturating_add(1) });
        services.extend([open, guarded]);
    }
    (0..).zip(&mut services).for_each(|(index, service)| service.index = index);
    services
}

/// Another director role, other tags, other servers alive, another scheduler.
fn change(random: &mut Random, bench: &mut Bench) {
    bench.director.active = if random.one_in(3) { Active::No } else { Active::ForGood };
    bench.director.forward_tagged = !random.one_in(3);
    let everybody_drained = random.one_in(4);
    for service in &mut bench.plan.services {
        service.scheduler = random.of(&[
            Scheduler::Maglev,
            Scheduler::RoundRobin,
            Scheduler::Source,
            Scheduler::Least,
        ]);
        for real in &mut service.reals {
            real.dead = !real.local && random.one_in(3);
            let drained = everybody_drained || random.one_in(4);
            real.weight =
                if real.dead || drained { EffectiveWeight::ZERO } else { EffectiveWeight::ONE };
        }
    }
    bench.apply();
}

/// Whether anything but passing a frame may be right: it is an IP packet to a VIP, or ARP or a neighbour
/// solicitation that names one, with one tag at most.
fn may_concern_vip(frame: &[u8]) -> bool {
    let packet = match frame.get(12..14) {
        Some([0x81, 0]) => &frame[4..],
        _ => frame,
    };
    let has = |at: usize, bytes: &[u8]| packet.get(at..at + bytes.len()) == Some(bytes);
    let (vip, vip6) = (READER_VIP.octets(), READER_VIP6.octets());
    match packet.get(12..14) {
        Some([8, 0]) => has(30, &vip),
        Some([8, 6]) => has(38, &vip),
        // As a target it lies behind extension headers too, 8 bytes each or a multiple of that.
        Some([0x86, 0xdd]) => {
            has(38, &vip6) || (62..packet.len()).step_by(8).any(|at| has(at, &vip6))
        }
        _ => false,
    }
}

/// One run; how often each reason was met.
fn run(seed: u64) -> BTreeMap<Reason, u64> {
    let mut random = Random::new(seed);
    let mut bench = Bench::new(services());
    bench.director.peers = FAMILIES.map(|family| (mac(PEER_MAC), peer(family))).into();
    bench.apply();
    let mut met = BTreeMap::new();
    for number in 0..FRAMES {
        if number % ROUND == ROUND - 1 {
            change(&mut random, &mut bench);
        }
        let frame = Sender(&mut random).frame();
        let outcome = bench.send(&frame);
        *met.entry(outcome.reason).or_default() += 1;
        let passed = outcome.reason.action() == Action::Pass;
        assert!(passed || may_concern_vip(&frame), "{SEED}={seed}: {outcome:?} of {frame:02x?}");
        // Whom a question for an address is sent to does not matter: the answer is the same.
        let asked = matches!(outcome.reason, Reason::ArpAnswered | Reason::NeighbourAnswered);
        let to_us = frame[..6] == DIRECTOR_MAC;
        assert!(passed || asked || to_us, "{SEED}={seed}: {outcome:?} of {frame:02x?}");
    }
    assert_eq!(bench.counters().received, FRAMES as u64);
    met
}

#[test]
fn xdp_no_frame_of_chance_gets_an_unsound_verdict() {
    assert_eq!(Family::of(VIP.ip()), Family::Ipv4);
    let seed = seed();
    println!("{SEED}={seed}");
    let mut met = BTreeMap::<Reason, u64>::new();
    thread::scope(|scope| {
        let runs: Vec<_> =
            (0..RUNS).map(|run| scope.spawn(move || self::run(seed.wrapping_add(run)))).collect();
        for run in runs {
            for (reason, count) in run.join().unwrap() {
                *met.entry(reason).or_default() += count;
            }
        }
    });
    for (reason, count) in &met {
        println!("{count:>9} {}", reason.name());
    }
    assert_eq!(met.values().sum::<u64>(), RUNS * FRAMES as u64);
    // That the frames reach what they are to test. An answer fails only where a frame cannot shrink, and one
    // interface has nowhere to send to that fails.
    const UNREACHED: [Reason; 2] = [Reason::AnswerFailed, Reason::RedirectFailed];
    let missed: Vec<_> = Reason::ALL
        .iter()
        .filter(|reason| !met.contains_key(reason) && !UNREACHED.contains(reason))
        .collect();
    assert!(missed.is_empty(), "never met: {missed:?}");
}
