//! Frames of chance: whatever comes in, the program ends well, every frame is counted once, and what
//! is not for a VIP passes byte-identical (the harness asserts the first two and the last).

use std::collections::BTreeSet;
use std::env;
use std::net::Ipv4Addr;
use std::time::{SystemTime, UNIX_EPOCH};

use pgha_common::maps::Scheduler;
use pgha_common::verdict::{Action, Reason};
use pgha_tests::dataplane::{
    CLIENT_MAC, DIRECTOR_MAC, Random, VIP, arp_frame, client, mac, real, service,
};

use crate::harness::{Bench, from};

/// With this variable set, the frames are those of that seed.
const SEED: &str = "PGHA_SEED";
const FRAMES: usize = 30_000;
/// Another director.
const PEER: ([u8; 6], Ipv4Addr) = ([2, 0, 10, 77, 0, 22], Ipv4Addr::new(10, 77, 0, 22));

fn seed() -> u64 {
    env::var(SEED).map_or_else(
        |_| SystemTime::now().duration_since(UNIX_EPOCH).unwrap().subsec_nanos().into(),
        |seed| seed.parse().unwrap(),
    )
}

/// A frame that a client could send, or almost.
fn likely(random: &mut Random) -> Vec<u8> {
    let number = random.below(40) as u32;
    if random.one_in(8) {
        let sender = random.of(&[*client(number).ip(), *VIP.ip()]);
        return arp_frame(
            random.of(&[1, 1, 2]),
            (random.of(&[CLIENT_MAC, DIRECTOR_MAC]), sender),
            ([0; 6], random.of(&[*VIP.ip(), sender])),
        );
    }
    let mut segment = from(number).data(random.of(&[0, 0, 1, 6, 100, 1400]));
    let flags = random.bits();
    segment.tcp.syn = flags.is_multiple_of(4);
    segment.tcp.ack = !segment.tcp.syn || flags & 0x100 == 0 && flags & 0x200 == 0;
    segment.tcp.fin = flags & 0x7000 == 0;
    segment.tcp.rst = flags & 0x70000 == 0;
    segment.tcp.psh = flags & 0x80000 == 0;
    segment.tcp.acknowledgment_number = random.of(&[0, 1, 1000, 5000, u32::MAX]);
    segment.ipv4.options = vec![1; random.of(&[0, 0, 0, 4, 40])].as_slice().try_into().unwrap();
    segment.tcp.set_options_raw(&vec![1; random.of(&[0, 0, 12, 40])]).unwrap();
    if random.one_in(16) {
        segment.ipv4.destination = [10, 99, 99, 100];
    }
    if random.one_in(16) {
        segment.ipv4.source = VIP.ip().octets();
    }
    if random.one_in(16) {
        segment.source = PEER.0;
    }
    segment.frame()
}

/// Bytes changed, cut off, added.
fn mutate(random: &mut Random, frame: &mut Vec<u8>) {
    for _ in 0..random.of(&[0, 1, 1, 2, 5]) {
        // Headers more than data.
        let end = if random.one_in(3) { frame.len() } else { frame.len().min(54) };
        let at = random.below(end);
        frame[at] = match random.below(3) {
            0 => random.byte(),
            1 => frame[at] ^ 1 << random.below(8),
            _ => random.of(&[0, 1, 0x7f, 0x80, 0xff]),
        };
    }
    match random.below(6) {
        0 => frame.truncate(14 + random.below(frame.len() - 13)),
        1 => frame.extend((0..random.below(64)).map(|_| 0)),
        _ => {}
    }
}

/// Whether a frame asks anything of a VIP: an IPv4 packet to it, or ARP that names it.
fn concerns_vip(frame: &[u8]) -> bool {
    let vip = VIP.ip().octets();
    match frame.get(12..14) {
        Some([8, 0]) => frame.get(30..34) == Some(&vip),
        Some([8, 6]) => frame.get(38..42) == Some(&vip) || frame.get(28..32) == Some(&vip),
        _ => false,
    }
}

#[test]
fn xdp_no_frame_of_chance_gets_an_unsound_verdict() {
    let seed = seed();
    println!("{SEED}={seed}");
    let mut random = Random::new(seed);
    let mut bench = Bench::new([service(Scheduler::Maglev, [real(1), real(2), real(3)])]);
    bench.director.peers = [(mac(PEER.0), PEER.1)].into();
    bench.change(3, |real| (real.local, real.mac) = (true, None));
    let mut reasons = BTreeSet::new();
    for frame in 0..FRAMES {
        if frame % 5000 == 4999 {
            bench.director.active = !bench.director.active;
            bench.change(1, |real| real.dead = !real.dead);
        }
        let mut frame = if random.one_in(10) {
            (0..14 + random.below(150)).map(|_| random.byte()).collect()
        } else {
            likely(&mut random)
        };
        mutate(&mut random, &mut frame);
        let outcome = bench.send(&frame);
        reasons.insert(outcome.reason);
        if !concerns_vip(&frame) {
            assert_eq!(outcome.reason.action(), Action::Pass, "{outcome:?} of {frame:02x?}");
        }
        if frame[..6] != DIRECTOR_MAC && frame[12..14] == [8, 0] {
            assert_eq!(outcome.reason.action(), Action::Pass, "{outcome:?} of {frame:02x?}");
        }
    }
    assert_eq!(bench.counters().received, FRAMES as u64);
    // That the frames reach what they are to test.
    let missed: Vec<_> = Reason::ALL.iter().filter(|reason| !reasons.contains(reason)).collect();
    println!("{} of {} reasons met, not {missed:?}", reasons.len(), Reason::COUNT);
    assert!(missed.len() <= 4, "{missed:?}");
}
