use std::net::SocketAddr;

use super::super::segment::{Ends, Segment, frame};
use super::*;
use crate::net::filter::admits;

const PORT: u16 = 40123;

/// What the VIP sends to that port.
fn answer(family: &str, port: u16) -> Vec<u8> {
    let (own, vip): (IpAddr, IpAddr) = match family {
        "IPv4" => ("10.0.0.5".parse().unwrap(), "10.0.0.100".parse().unwrap()),
        _ => ("fd00::5".parse().unwrap(), "fd00::100".parse().unwrap()),
    };
    // An answer is a question the other way round.
    let ends = Ends { own: SocketAddr::new(vip, 5432), vip: SocketAddr::new(own, port) };
    let mac = |last| Mac::new([2, 0, 0, 0, 0, last]).unwrap();
    frame(mac(1), mac(2), &ends, &Segment::default())
}

fn with(mut frame: Vec<u8>, at: usize, byte: u8) -> Vec<u8> {
    frame[at] = byte;
    frame
}

#[test]
fn only_what_may_be_an_answer_wakes_the_process() {
    let ipv4 = answer("IPv4", PORT);
    let cases = [
        ("an answer", ipv4.clone(), true),
        ("one to another port", answer("IPv4", PORT + 1), false),
        ("UDP", with(ipv4.clone(), 23, 17), false),
        ("a later fragment", with(ipv4.clone(), 21, 1), false),
        ("unreachable", with(with(ipv4.clone(), 23, 1), 34, 3), true),
        ("time exceeded", with(with(ipv4.clone(), 23, 1), 34, 11), true),
        ("an echo reply", with(with(ipv4.clone(), 23, 1), 34, 0), false),
        ("a short one", ipv4[..30].to_vec(), false),
    ];
    for (what, frame, admitted) in cases {
        assert_eq!(admits(&ipv4_filter(PORT), &frame), admitted, "{what}");
    }
    let mut options = ipv4;
    options[14] = 0x46;
    options.splice(34..34, [1; 4]);
    assert!(admits(&ipv4_filter(PORT), &options), "options");
    let ipv6 = answer("IPv6", PORT);
    let cases = [
        ("an answer", ipv6.clone(), true),
        ("one to another port", answer("IPv6", PORT - 1), false),
        ("UDP", with(ipv6.clone(), 20, 17), false),
        ("unreachable", with(with(ipv6.clone(), 20, 58), 54, 1), true),
        ("time exceeded", with(with(ipv6.clone(), 20, 58), 54, 3), true),
        ("an advertisement", with(with(ipv6.clone(), 20, 58), 54, 136), false),
        ("a short one", ipv6[..40].to_vec(), false),
    ];
    for (what, frame, admitted) in cases {
        assert_eq!(admits(&ipv6_filter(PORT), &frame), admitted, "{what}");
    }
}
