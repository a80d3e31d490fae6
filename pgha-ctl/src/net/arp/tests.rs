use proptest::prelude::*;

use super::frame::{Frame, LENGTH, Operation};
use super::*;

const VIP: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 100);
const OTHER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 7);

fn mac(last: u8) -> Mac {
    Mac::new([2, 0, 0, 0, 0, last]).unwrap()
}

#[test]
fn a_probe_is_a_broadcast_request_from_nobody() {
    let mut wanted = vec![0xff; 6];
    wanted.extend([2, 0, 0, 0, 0, 1, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
    wanted.extend([2, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 10, 0, 0, 100]);
    assert_eq!(Frame::probe(mac(1), VIP).encode().as_slice(), wanted);
}

#[test]
fn an_announcement_names_the_vip_twice() {
    let bytes = Frame::announcement(mac(1), VIP).encode();
    assert_eq!(bytes[20..22], [0, 1]);
    assert_eq!((&bytes[28..32], &bytes[38..42]), (&VIP.octets()[..], &VIP.octets()[..]));
}

#[test]
fn a_user_is_who_claims_answers_or_probes() {
    let reply = Frame {
        operation: Operation::Reply,
        sender_mac: mac(2),
        sender: VIP,
        target_mac: Some(mac(1)),
        target: Ipv4Addr::UNSPECIFIED,
    };
    let question = Frame { sender: OTHER, target: VIP, ..Frame::probe(mac(2), VIP) };
    for (frame, user) in [
        (reply, Some(mac(2))),
        (Frame::announcement(mac(2), VIP), Some(mac(2))),
        (Frame::probe(mac(2), VIP), Some(mac(2))),
        (Frame::probe(mac(1), VIP), None),
        (Frame::probe(mac(2), OTHER), None),
        (question, None),
        (Frame { sender: OTHER, ..reply }, None),
    ] {
        assert_eq!(frame.other_user(VIP, mac(1)), user, "{frame:?}");
    }
}

#[test]
fn what_is_not_arp_for_ipv4_over_ethernet_is_not_read() {
    let good = Frame::probe(mac(1), VIP).encode();
    assert!(Frame::decode(&good).is_some());
    for length in 0..LENGTH {
        assert_eq!(Frame::decode(&good[..length]), None);
    }
    for changed in 12..22 {
        let mut bad = good;
        bad[changed] ^= 0x40;
        assert_eq!(Frame::decode(&bad), None, "byte {changed}");
    }
}

proptest! {
    #[test]
    fn a_frame_survives_bytes(
        sender_mac: [u8; 6],
        target_mac: [u8; 6],
        sender: u32,
        target: u32,
        reply: bool,
        padding in prop::collection::vec(any::<u8>(), 0..30),
    ) {
        if let Some(sender_mac) = Mac::new(sender_mac) {
            let frame = Frame {
                operation: if reply { Operation::Reply } else { Operation::Request },
                sender_mac,
                sender: sender.into(),
                target_mac: Mac::new(target_mac),
                target: target.into(),
            };
            let bytes = [frame.encode().as_slice(), &padding].concat();
            prop_assert_eq!(Frame::decode(&bytes), Some(frame));
        }
    }

    #[test]
    fn no_frame_panics(bytes: Vec<u8>) {
        let _ = Frame::decode(&bytes);
    }
}
