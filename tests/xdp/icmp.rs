//! ICMP to the VIPs: echo requests are answered, errors reach the server whose segment they quote.

use std::net::IpAddr;

use pgha_common::verdict::Reason;
use pgha_ctl::bpf::xdp::Active;
use pgha_tests::dataplane::frame::{ErrorKind, Extension, Ip};
use pgha_tests::dataplane::{FAMILIES, Family, Icmp, Segment};

use crate::harness::{Bench, PEER_MAC, peer, three};

/// A router on the way to the clients, which speaks from an address of its own.
fn router(family: Family) -> IpAddr {
    family.pick([10, 99, 0, 1].into(), [0xfd99, 0, 0, 0, 0, 0, 0, 1].into())
}

/// The packet that a server sent to a client, as the VIP.
fn reply(family: Family, number: u32) -> Segment {
    Segment::new(family.vip(), family.client(number)).ack(1500).data(100)
}

/// An error with that packet, which quotes so many of its bytes.
fn error(family: Family, kind: ErrorKind, quoted: &[u8]) -> Icmp {
    Icmp::error(kind, router(family), family.vip().ip(), quoted)
}

/// The first 8 bytes behind the IP header: the least that an error quotes (RFC 792).
fn least(segment: &Segment) -> Vec<u8> {
    segment.packet()[..segment.ip.length() + 8].to_vec()
}

fn echo(family: Family, length: usize) -> Icmp {
    Icmp::echo_request(family.client(1).ip(), family.vip().ip(), length)
}

#[test]
fn xdp_echo_requests_to_a_vip_are_answered() {
    for family in FAMILIES {
        let mut bench = three(family);
        // The harness compares the reply with the request and computes its checksums.
        for length in [0, 1, 2, 7, 8, 56, 57, 511, 1024, 1399, 1432] {
            let answer = bench.expect_frame(Reason::EchoAnswered, &echo(family, length).frame());
            assert_eq!(answer.frame.len(), 14 + family.header_length() + 8 + length);
        }
        // Sums that come out as 0 or 0xffff, and everything between.
        for sequence in 0..=2000u16 {
            let [high, low] = sequence.wrapping_mul(37).to_be_bytes();
            let request = echo(family, 3).with(|echo| echo.rest = [high, low, low, high]);
            bench.expect_frame(Reason::EchoAnswered, &request.frame());
        }
    }
}

/// Of zeros alone the checksum is 0xffff, and 0 is wrong (RFC 1071: there are two zeros).
#[test]
fn xdp_echo_requests_of_zeros_are_answered() {
    for family in FAMILIES {
        let mut bench = three(family);
        for length in [0, 1, 56] {
            let zeros = echo(family, length).with(|echo| {
                echo.rest = [0; 4];
                echo.body.fill(0);
            });
            bench.expect_frame(Reason::EchoAnswered, &zeros.frame());
        }
    }
}

#[test]
fn xdp_echo_requests_with_options_are_answered() {
    for family in FAMILIES {
        let mut bench = three(family);
        for length in [8, 24, 40] {
            let request = echo(family, 57).with(|echo| echo.ip.set_options(length));
            bench.expect_frame(Reason::EchoAnswered, &request.frame());
        }
    }
}

#[test]
fn xdp_padded_echo_requests_are_answered() {
    for family in FAMILIES {
        let mut bench = three(family);
        let mut request = echo(family, 3).frame();
        request.resize(request.len() + 19, 0);
        bench.expect_frame(Reason::EchoAnswered, &request);
    }
}

/// Whether this director is the active one is for ARP to say: who sends it a frame has its address.
#[test]
fn xdp_echo_requests_are_answered_without_a_server() {
    for family in FAMILIES {
        let mut bench = three(family);
        bench.director.active = Active::No;
        bench.plan.services[0].reals.clear();
        bench.apply();
        bench.expect_frame(Reason::EchoAnswered, &echo(family, 56).frame());
    }
}

#[test]
fn xdp_echo_requests_to_the_host_pass() {
    for family in FAMILIES {
        let mut bench = three(family);
        for address in [family.host(), family.looks_like_vip()] {
            let request = Icmp::echo_request(family.client(1).ip(), address, 56);
            bench.expect_frame(Reason::NotVip, &request.frame());
        }
    }
}

#[test]
fn xdp_echo_requests_that_are_not_for_us_pass() {
    for family in FAMILIES {
        let mut bench = three(family);
        let astray = echo(family, 56).with(|echo| echo.destination = PEER_MAC);
        bench.expect_frame(Reason::NotOurMac, &astray.frame());
        bench.director.peers = [(pgha_tests::dataplane::mac(PEER_MAC), peer(family))].into();
        bench.apply();
        let again = echo(family, 56).with(|echo| echo.source = PEER_MAC);
        bench.expect_frame(Reason::OtherDirector, &again.frame());
    }
}

#[test]
fn xdp_echo_requests_that_cannot_be_are_dropped() {
    for family in FAMILIES {
        let mut bench = three(family);
        bench.dropped(Reason::TtlExpired, &echo(family, 9).with(|e| e.ip.set_hops(1)).frame());
        bench.dropped(
            Reason::Fragment,
            &echo(family, 64).with(|echo| echo.ip.set_fragment(0, true)).frame(),
        );
        let land = echo(family, 9).with(|echo| echo.ip.set_source(family.vip().ip()));
        bench.dropped(Reason::FromVip, &land.frame());
    }
}

#[test]
fn xdp_icmp_errors_go_to_the_server_of_the_flow_they_quote() {
    for family in FAMILIES {
        let mut bench = three(family);
        for number in 0..30 {
            let real = if number % 2 == 0 {
                bench.establish(number)
            } else {
                bench.expect(Reason::NewFlow, &family.segment(number).syn()).real()
            };
            let before = flow(&bench, number);
            for kind in ErrorKind::ALL {
                for quoted in [least(&reply(family, number)), reply(family, number).packet()] {
                    let error = error(family, kind, &quoted).frame();
                    // The harness sees that nothing but the MAC addresses changes.
                    assert_eq!(bench.expect_frame(Reason::IcmpError, &error).real(), real);
                }
            }
            assert_eq!(flow(&bench, number), before, "an error says nothing of its flow");
        }
    }
}

/// What either table holds of a client's flow.
fn flow(bench: &Bench, number: u32) -> [Option<pgha_common::flow::Flow>; 2] {
    let key = bench.family.key(number);
    [bench.pending().get(&key), bench.established().get(&key)]
}

#[test]
fn xdp_icmp_errors_that_quote_ip_options_find_their_flow() {
    for family in FAMILIES {
        let mut bench = three(family);
        let real = bench.establish(1);
        for length in [8, 16] {
            let sent = reply(family, 1).with(|sent| sent.ip.set_options(length));
            let error = error(family, ErrorKind::TooBig(1400), &least(&sent));
            // Where its own header has options too.
            for options in [0, 8] {
                let error = error.clone().with(|error| error.ip.set_options(options)).frame();
                assert_eq!(bench.expect_frame(Reason::IcmpError, &error).real(), real);
            }
        }
    }
}

/// It matters to the server and to nobody else whether the flow's server is drained by now.
#[test]
fn xdp_icmp_errors_follow_the_flow_and_not_the_table() {
    for family in FAMILIES {
        let mut bench = three(family);
        let real = bench.establish(1);
        bench.change(real, |real| real.weight = pgha_machine::EffectiveWeight::ZERO);
        let error = error(family, ErrorKind::TooBig(1400), &least(&reply(family, 1)));
        assert_eq!(bench.expect_frame(Reason::IcmpError, &error.frame()).real(), real);
    }
}

#[test]
fn xdp_icmp_errors_of_the_local_servers_flows_pass() {
    for family in FAMILIES {
        let mut bench = three(family);
        for id in 1..=3 {
            bench.change(id, |real| (real.local, real.neighbour) = (true, None));
        }
        bench.expect(Reason::LocalServer, &family.segment(1).syn());
        let error = error(family, ErrorKind::TooBig(1400), &least(&reply(family, 1)));
        bench.expect_frame(Reason::LocalServer, &error.frame());
    }
}

#[test]
fn xdp_icmp_errors_of_unknown_flows_pass() {
    for family in FAMILIES {
        let mut bench = three(family);
        bench.establish(1);
        let client = family.client(1);
        let other_port = std::net::SocketAddr::new(family.vip().ip(), 5433);
        for sent in [
            reply(family, 2),
            // Not from the VIP, not from the service, the wrong way round, not over TCP.
            Segment::new(std::net::SocketAddr::new(family.host(), 5432), client),
            Segment::new(other_port, client),
            family.segment(1),
            reply(family, 1).with(|sent| sent.ip.set_carried(etherparse::IpNumber::UDP)),
        ] {
            for kind in ErrorKind::ALL {
                bench.expect_frame(Reason::IcmpOther, &error(family, kind, &sent.packet()).frame());
            }
        }
        assert!(bench.pending().is_empty());
    }
}

#[test]
fn xdp_icmp_errors_of_a_dead_servers_flow_pass() {
    for family in FAMILIES {
        let mut bench = three(family);
        let real = bench.establish(1);
        bench.kill(real);
        let error = error(family, ErrorKind::Unreachable(1), &reply(family, 1).packet());
        bench.expect_frame(Reason::IcmpOther, &error.frame());
    }
}

#[test]
fn xdp_icmp_errors_that_quote_too_little_are_dropped() {
    for family in FAMILIES {
        let mut bench = three(family);
        bench.establish(1);
        let quoted = least(&reply(family, 1));
        for kind in ErrorKind::ALL {
            for length in family.header_length()..quoted.len() {
                let short = error(family, kind, &quoted[..length]);
                bench.dropped(Reason::ShortQuote, &short.frame());
                // Padding is no quote.
                bench.dropped(Reason::ShortQuote, &[short.frame(), vec![0; 40]].concat());
            }
        }
        // Not even a whole IP header.
        for length in 0..family.header_length() {
            let short = error(family, ErrorKind::TooBig(1400), &quoted[..length]);
            let outcome = bench.send(&short.frame());
            assert!(
                matches!(outcome.reason, Reason::ShortQuote | Reason::BadIcmp),
                "{length}: {outcome:?}"
            );
        }
    }
}

#[test]
fn xdp_icmp_messages_cut_short_are_dropped() {
    for family in FAMILIES {
        let mut bench = three(family);
        for message in [echo(family, 0), error(family, ErrorKind::TimeExceeded, &[])] {
            let whole = message.message();
            for length in 0..8 {
                let ip = &message.ip;
                let frame = ip.frame(message.destination, message.source, &whole[..length]);
                bench.dropped(Reason::BadIcmp, &frame);
                bench.dropped(Reason::BadIcmp, &[frame, vec![0; 40]].concat());
            }
        }
    }
}

#[test]
fn xdp_other_icmp_to_a_vip_passes() {
    for family in FAMILIES {
        let mut bench = three(family);
        bench.establish(1);
        let (from, vip) = (router(family), family.vip().ip());
        // Echo reply, redirect, router advertisement, timestamp; their like in ICMPv6.
        let kinds: &[u8] =
            family.pick(&[0, 4, 5, 9, 10, 13, 14, 255], &[129, 133, 134, 137, 143, 255]);
        for kind in kinds {
            let message = Icmp::new(from, vip, *kind).with(|message| {
                message.body = reply(family, 1).packet();
            });
            bench.expect_frame(Reason::IcmpOther, &message.frame());
        }
    }
}

/// Where one fragment of the segment got lost, only the first one quotes ports.
#[test]
fn xdp_icmp_errors_that_quote_a_later_fragment_go_nowhere() {
    for family in FAMILIES {
        let mut bench = three(family);
        bench.establish(1);
        let whole = reply(family, 1);
        let part = |offset, more| {
            let mut ip: Ip = whole.ip.clone();
            ip.set_fragment(offset, more);
            ip.packet(&whole.payload())
        };
        let outcome = bench.send(&error(family, ErrorKind::TimeExceeded, &part(20, false)).frame());
        assert!(matches!(outcome.reason, Reason::IcmpOther | Reason::ShortQuote), "{outcome:?}");
    }
    // More of these than anybody looks at is no flow, and no reason to fail.
    let mut bench = three(Family::Ipv6);
    bench.establish(1);
    let sent = reply(Family::Ipv6, 1).with(|sent| {
        sent.ip.extensions_mut().extend(vec![Extension::destination_options(8); 12]);
    });
    let error = error(Family::Ipv6, ErrorKind::TooBig(1400), &sent.packet());
    assert_ne!(bench.send(&error.frame()).reason, Reason::IcmpError);
}
