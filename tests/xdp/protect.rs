//! Who may connect to a service, and how often.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::time::Instant;

use pgha_common::maps::Scheduler;
use pgha_common::verdict::Reason;
use pgha_machine::balancer::{ServicePlan, SynLimit};
use pgha_tests::dataplane::{FAMILIES, Family, Segment, real, service};
use pgha_tests::lab::{SOON, wait_until};

use crate::harness::{Bench, three};

/// A client in one of 256 networks of 64 bits (IPv4: of 24), with that host number.
fn client(family: Family, network: u8, host: u8, port: u16) -> SocketAddr {
    let ipv6 = [0xfd11, 0, 0, u16::from(network), 0, 0, 0xabcd, u16::from(host)];
    SocketAddr::new(family.pick(IpAddr::from([11, 0, network, host]), IpAddr::from(ipv6)), port)
}

fn from(client: SocketAddr) -> Segment {
    Segment::new(client, Family::of(client.ip()).vip())
}

/// Opens a client's connection as far as it takes to be established.
#[track_caller]
fn establish(bench: &mut Bench, client: SocketAddr) -> u16 {
    let real = bench.expect(Reason::NewFlow, &from(client).syn()).real();
    bench.expect(Reason::PendingFlow, &from(client).ack(2001));
    assert_eq!(bench.expect(Reason::EstablishedFlow, &from(client).ack(2100)).real(), real);
    real
}

/// Lets only these networks connect; of IPv6 those under `fd11::/32`, of IPv4 under `11.0.0.0/16`.
fn allow(bench: &mut Bench, networks: [&[&str]; 2]) {
    let networks = networks[bench.family as usize];
    bench.plan.services[0].allowed_clients =
        networks.iter().map(|network| network.parse().unwrap()).collect();
    bench.apply();
}

#[test]
fn xdp_everybody_may_connect_by_default() {
    for family in FAMILIES {
        let mut bench = three(family);
        for (network, port) in (0..=u8::MAX).zip(40_000..) {
            bench.expect(Reason::NewFlow, &from(client(family, network, 1, port)).syn());
        }
        allow(&mut bench, [&["0.0.0.0/0"], &["::/0"]]);
        bench.expect(Reason::NewFlow, &from(client(family, 3, 3, 3)).syn());
        bench.expect(Reason::NewFlow, &family.segment(3).syn());
    }
}

#[test]
fn xdp_only_allowed_clients_may_connect() {
    for family in FAMILIES {
        let mut bench = three(family);
        // A network of hosts, one host, and one network inside another.
        allow(
            &mut bench,
            [
                &["11.0.1.0/24", "11.0.2.7/32", "11.0.4.0/22", "11.0.5.128/25"],
                &[
                    "fd11:0:0:1::/64",
                    "fd11:0:0:2::abcd:7/128",
                    "fd11:0:0:4::/62",
                    "fd11:0:0:5::/80",
                ],
            ],
        );
        for (network, host, allowed) in [
            (1, 0, true),
            (1, 255, true),
            (0, 255, false),
            (2, 7, true),
            (2, 6, false),
            (2, 8, false),
            (3, 7, false),
            (4, 1, true),
            (5, 1, true),
            (5, 200, true),
            (7, 255, true),
            (8, 0, false),
        ] {
            let client = client(family, network, host, 40_000);
            if allowed {
                bench.expect(Reason::NewFlow, &from(client).syn());
                continue;
            }
            // Whatever it sends.
            for segment in [from(client).syn(), from(client).ack(3), from(client).rst()] {
                bench.dropped(Reason::NotAllowed, &segment.frame());
            }
        }
    }
}

#[test]
fn xdp_each_service_allows_its_own_clients() {
    for family in FAMILIES {
        let mut bench = three(family);
        let mut second = bench.plan.services[0].clone();
        (second.index, second.port) = (1, 6432);
        second.reals = vec![real(4)];
        bench.plan.services.push(second);
        allow(&mut bench, [&["11.0.1.0/24"], &["fd11:0:0:1::/64"]]);
        let client = client(family, 2, 2, 40_000);
        bench.expect(Reason::NotAllowed, &from(client).syn());
        let other = SocketAddr::new(family.vip().ip(), 6432);
        bench.expect(Reason::NewFlow, &Segment::new(client, other).syn());
    }
}

#[test]
fn xdp_flows_of_a_client_that_is_allowed_no_longer_stay() {
    for family in FAMILIES {
        let mut bench = three(family);
        let (gone, kept) = (client(family, 1, 1, 40_000), client(family, 2, 1, 40_000));
        let servers = [establish(&mut bench, gone), establish(&mut bench, kept)];
        allow(&mut bench, [&["11.0.2.0/24"], &["fd11:0:0:2::/64"]]);
        for (client, server) in [gone, kept].into_iter().zip(servers) {
            let next = from(client).ack(2200);
            assert_eq!(bench.expect(Reason::EstablishedFlow, &next).real(), server);
        }
        let again = |client: SocketAddr| from(SocketAddr::new(client.ip(), 40_001)).syn();
        bench.expect(Reason::NotAllowed, &again(gone));
        bench.expect(Reason::NewFlow, &again(kept));
        // Nobody at all, then everybody once more.
        allow(&mut bench, [&["192.0.2.1/32"], &["2001:db8::1/128"]]);
        bench.expect(Reason::NotAllowed, &from(SocketAddr::new(kept.ip(), 40_002)).syn());
        allow(&mut bench, [&[], &[]]);
        bench.expect(Reason::NewFlow, &again(gone));
    }
}

/// A service that lets each source open connections at `rate` a second, `burst` of them at once.
fn limited(family: Family, rate: u32, burst: u32) -> ServicePlan {
    let number = |number| NonZeroU32::new(number).unwrap();
    let syn_limit = Some(SynLimit { rate: number(rate), burst: number(burst) });
    ServicePlan { syn_limit, ..service(family.vip(), Scheduler::Maglev, [real(1), real(2)]) }
}

/// Opens connections of one client until it is told to slow down; how many it got.
#[track_caller]
fn exhaust(bench: &mut Bench, client: SocketAddr) -> u32 {
    for (opened, port) in (0..).zip(1..) {
        let outcome = bench.send(&from(SocketAddr::new(client.ip(), port)).syn().frame());
        if outcome.reason == Reason::SynLimited {
            return opened;
        }
        assert_eq!(outcome.reason, Reason::NewFlow);
    }
    unreachable!("ports end")
}

#[test]
fn xdp_a_source_may_open_its_burst_and_then_its_rate() {
    const RATE: u32 = 2;
    for family in FAMILIES {
        for burst in [1, 20] {
            let mut bench = Bench::new([limited(family, RATE, burst)]);
            let start = Instant::now();
            let opened = exhaust(&mut bench, client(family, 1, 1, 1));
            // What came back while it was spent, on however slow a machine.
            let earned = RATE * (u32::try_from(start.elapsed().as_secs()).unwrap() + 1);
            assert!((burst..=burst + earned).contains(&opened), "{opened} of {burst} at once");
            let mut next = 50_000;
            wait_until("the next one to be granted", SOON, || {
                next += 1;
                let syn = from(client(family, 1, 1, next)).syn();
                Ok(bench.send(&syn.frame()).reason == Reason::NewFlow)
            })
            .unwrap();
        }
    }
}

#[test]
fn xdp_a_limited_source_takes_nothing_from_others() {
    for family in FAMILIES {
        let mut bench = Bench::new([limited(family, 1, 5)]);
        exhaust(&mut bench, client(family, 1, 1, 1));
        for network in 2..=u8::MAX {
            bench.expect(Reason::NewFlow, &from(client(family, network, 1, 1)).syn());
        }
        // The neighbours of an IPv6 host are that host, as far as can be told.
        let neighbour = from(client(family, 1, 2, 1)).syn();
        let shared = family.pick(Reason::NewFlow, Reason::SynLimited);
        bench.expect(shared, &neighbour);
    }
}

#[test]
fn xdp_what_is_no_new_connection_is_not_limited() {
    for family in FAMILIES {
        let mut bench = Bench::new([limited(family, 1, 3)]);
        let known = client(family, 1, 1, 60_000);
        let server = establish(&mut bench, known);
        let waiting = client(family, 1, 1, 60_001);
        let waits_for = bench.expect(Reason::NewFlow, &from(waiting).syn()).real();
        exhaust(&mut bench, known);
        for _ in 0..20 {
            let again = bench.expect(Reason::SynAgain, &from(waiting).syn());
            assert_eq!(again.real(), waits_for);
            let segment = from(known).ack(2200).data(100);
            assert_eq!(bench.expect(Reason::EstablishedFlow, &segment).real(), server);
        }
        // A flow that began at another director.
        bench.expect(Reason::UnknownFlow, &from(client(family, 1, 1, 60_002)).ack(7));
        let syn = from(client(family, 1, 1, 60_003)).syn();
        bench.dropped(Reason::SynLimited, &syn.frame());
    }
}

#[test]
fn xdp_new_connections_are_not_limited_by_default() {
    for family in FAMILIES {
        let mut bench = three(family);
        for port in 1..3000 {
            bench.expect(Reason::NewFlow, &from(client(family, 1, 1, port)).syn());
        }
        // And again, once a limit is taken away.
        bench.plan.services[0].syn_limit = limited(family, 1, 2).syn_limit;
        bench.apply();
        exhaust(&mut bench, client(family, 2, 1, 1));
        bench.plan.services[0].syn_limit = None;
        bench.apply();
        for port in 10_000..10_100 {
            bench.expect(Reason::NewFlow, &from(client(family, 2, 1, port)).syn());
        }
    }
}

/// Who is not allowed costs nobody a turn, and is told apart from who is too quick.
#[test]
fn xdp_a_client_that_is_not_allowed_is_not_limited() {
    for family in FAMILIES {
        let mut bench = Bench::new([limited(family, 1, 1)]);
        allow(&mut bench, [&["11.0.1.0/24"], &["fd11:0:0:1::/64"]]);
        for port in 1..20 {
            bench.expect(Reason::NotAllowed, &from(client(family, 2, 1, port)).syn());
        }
        bench.expect(Reason::NewFlow, &from(client(family, 1, 1, 1)).syn());
        bench.expect(Reason::SynLimited, &from(client(family, 1, 1, 2)).syn());
    }
}
