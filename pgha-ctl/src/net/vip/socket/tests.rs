use std::net::{Ipv4Addr, Ipv6Addr};

use pgha_machine::Mac;

use super::*;
use crate::net::filter::admits;

/// Frames of both families, and whether the filter of a claim and of a use lets them in.
fn frames() -> Vec<(&'static str, Vec<u8>, bool, bool)> {
    let own = Mac::new([2, 0, 0, 0, 0, 1]).unwrap();
    let vip = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x100).into();
    let solicitation = frame::probe(own, vip);
    let advertisement = frame::announcement(own, vip);
    let with = |at: usize, byte: u8| {
        let mut frame = advertisement.clone();
        frame[at] = byte;
        frame
    };
    vec![
        ("an advertisement", advertisement.clone(), true, true),
        ("a solicitation", solicitation, false, true),
        ("a router's advertisement", with(54, 134), false, false),
        ("a redirect", with(54, 137), false, false),
        ("TCP", with(20, 6), false, false),
        ("what a router forwarded", with(21, 254), false, false),
        ("a short one", advertisement[..50].to_vec(), false, false),
    ]
}

#[test]
fn only_what_is_listened_for_wakes_the_process() {
    let vip = IpAddr::V6(Ipv6Addr::LOCALHOST);
    let claims = Hears::whoever_claims(vip).filter().unwrap();
    let uses = Hears::whoever_uses(vip).filter().unwrap();
    for (what, frame, claimed, used) in frames() {
        assert_eq!(admits(&claims, &frame), claimed, "claims: {what}");
        assert_eq!(admits(&uses, &frame), used, "uses: {what}");
    }
    assert!(Hears::whoever_claims(Ipv4Addr::LOCALHOST.into()).filter().is_none());
}
