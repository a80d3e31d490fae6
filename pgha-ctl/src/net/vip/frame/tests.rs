use std::net::{Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use super::*;

const VIP: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 100);
const VIP6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0x12, 0x3456);
const OTHER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 7);
const MESSAGE: usize = 54;

fn mac(last: u8) -> Mac {
    Mac::new([2, 0, 0, 0, 0, last]).unwrap()
}

fn word(address: impl Into<IpAddr>, by: u8, said: Said) -> Option<Word> {
    Some(Word { address: address.into(), mac: mac(by), said })
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<_> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

/// Puts the right length and ICMPv6 checksum into a frame that was changed, by the definition: 16-bit
/// words of both addresses, length, protocol and message.
fn mend(frame: &mut [u8]) {
    let length = u16::try_from(frame.len() - MESSAGE).unwrap();
    frame[18..20].copy_from_slice(&length.to_be_bytes());
    frame[MESSAGE + 2..MESSAGE + 4].fill(0);
    let mut sum = u64::from(length) + 58;
    for pair in frame[22..].chunks(2) {
        sum += u64::from(pair[0]) << 8 | u64::from(*pair.get(1).unwrap_or(&0));
    }
    let sum = !u16::try_from(sum % 0xffff).unwrap();
    frame[MESSAGE + 2..MESSAGE + 4].copy_from_slice(&sum.to_be_bytes());
}

#[test]
fn an_arp_probe_is_a_broadcast_request_from_nobody() {
    assert_eq!(
        probe(mac(1), VIP.into()),
        bytes(
            "ffffffffffff 020000000001 0806 0001 0800 06 04 0001 \
             020000000001 00000000 000000000000 0a000064"
        )
    );
}

#[test]
fn a_question_is_that_of_any_host() {
    assert_eq!(
        question(mac(1), OTHER.into(), VIP.into()).unwrap(),
        bytes(
            "ffffffffffff 020000000001 0806 0001 0800 06 04 0001 \
             020000000001 0a000007 000000000000 0a000064"
        )
    );
    let own = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 7);
    let solicitation = question(mac(1), own.into(), VIP6.into()).unwrap();
    assert_eq!(solicitation[..6], bytes("3333ff123456"));
    // Who hears it knows where to answer, and takes it for no claim of the VIP.
    assert_eq!(read(&solicitation), word(own, 1, Said::Uses));
    assert_eq!(question(mac(1), own.into(), VIP.into()), None);
}

#[test]
fn an_arp_announcement_names_the_vip_twice() {
    let frame = announcement(mac(1), VIP.into());
    assert_eq!(frame[20..22], [0, 1]);
    assert_eq!((&frame[28..32], &frame[38..42]), (&VIP.octets()[..], &VIP.octets()[..]));
}

#[test]
fn a_solicitation_goes_from_nobody_to_the_solicited_node() {
    assert_eq!(
        probe(mac(1), VIP6.into()),
        bytes(
            "3333ff123456 020000000001 86dd 60000000 0018 3a ff \
             00000000000000000000000000000000 ff0200000000000000000001ff123456 \
             87 00 e41e 00000000 20010db8000000000000000000123456"
        )
    );
}

#[test]
fn an_advertisement_goes_from_the_vip_to_all_nodes_and_overrides() {
    assert_eq!(
        announcement(mac(1), VIP6.into()),
        bytes(
            "333300000001 020000000001 86dd 60000000 0020 3a ff \
             20010db8000000000000000000123456 ff020000000000000000000000000001 \
             88 00 905c 20000000 20010db8000000000000000000123456 \
             02 01 020000000001"
        )
    );
}

#[test]
fn arp_claims_uses_or_probes() {
    let request = announcement(mac(2), VIP.into());
    let changed = |at: usize, to: &[u8]| {
        let mut frame = request.clone();
        frame[at..at + to.len()].copy_from_slice(to);
        read(&frame)
    };
    assert_eq!(read(&request), word(VIP, 2, Said::Claims));
    assert_eq!(read(&probe(mac(2), VIP.into())), word(VIP, 2, Said::Probes));
    // A question, and the answer to one.
    assert_eq!(changed(38, &OTHER.octets()), word(VIP, 2, Said::Uses));
    assert_eq!(changed(28, &OTHER.octets()), word(OTHER, 2, Said::Uses));
    let mut reply = request.clone();
    reply[21] = 2;
    // A reply is an announcement where everybody gets it, or where it asks for nobody else.
    reply[38..42].copy_from_slice(&OTHER.octets());
    assert_eq!(read(&reply), word(VIP, 2, Said::Claims));
    reply[..6].copy_from_slice(&mac(1).bytes());
    assert_eq!(read(&reply), word(VIP, 2, Said::Answers));
    reply[38..42].copy_from_slice(&VIP.octets());
    assert_eq!(read(&reply), word(VIP, 2, Said::Claims));
    // Another format, another operation, no sender.
    for at in 12..22 {
        assert_eq!(changed(at, &[0x40]), None, "byte {at}");
    }
    assert_eq!(changed(22, &[0xff; 6]), None);
}

#[test]
fn neighbour_discovery_claims_uses_or_probes() {
    let advertisement = announcement(mac(2), VIP6.into());
    let changed = |change: fn(&mut Vec<u8>)| {
        let mut frame = advertisement.clone();
        change(&mut frame);
        mend(&mut frame);
        read(&frame)
    };
    assert_eq!(read(&advertisement), word(VIP6, 2, Said::Claims));
    assert_eq!(changed(|_| {}), word(VIP6, 2, Said::Claims));
    assert_eq!(changed(|frame| frame[MESSAGE + 4] = 0x60), word(VIP6, 2, Said::Answers));
    assert_eq!(read(&probe(mac(2), VIP6.into())), word(VIP6, 2, Said::Probes));
    // The MAC of the option counts, else that of the frame; an option of another kind is passed over.
    assert_eq!(changed(|frame| frame[11] = 9), word(VIP6, 2, Said::Claims));
    assert_eq!(changed(|frame| frame.truncate(78)), word(VIP6, 2, Said::Claims));
    assert_eq!(
        changed(|frame| {
            frame[11] = 9;
            frame[78] = 14;
        }),
        word(VIP6, 9, Said::Claims)
    );
    // A solicitation for another address in the VIP's name.
    assert_eq!(
        changed(|frame| {
            frame[MESSAGE] = 135;
            frame[77] = 9;
            frame[78] = 1;
        }),
        word(VIP6, 2, Said::Uses)
    );
    let refused: [fn(&mut Vec<u8>); 8] = [
        |frame| frame[MESSAGE] = 134,
        |frame| frame[MESSAGE + 1] = 1,
        |frame| frame[21] = 254,
        |frame| frame[20] = 59,
        |frame| frame[13] = 0,
        |frame| frame[79] = 0,
        |frame| frame[79] = 2,
        |frame| frame.push(0),
    ];
    for (case, change) in refused.into_iter().enumerate() {
        assert_eq!(changed(change), None, "case {case}");
    }
    let mut wrong_sum = advertisement.clone();
    wrong_sum[MESSAGE + 3] ^= 1;
    assert_eq!(read(&wrong_sum), None);
}

#[test]
fn the_solicited_node_has_the_last_24_bits() {
    assert_eq!(solicited_node(VIP6).to_string(), "ff02::1:ff12:3456");
    assert_eq!(
        solicited_node("2001:db8::1:2:3:89ab:cdef".parse().unwrap()).to_string(),
        "ff02::1:ffab:cdef"
    );
}

#[test]
fn frames_cut_short_say_nothing() {
    for address in [IpAddr::from(VIP), VIP6.into()] {
        for frame in [probe(mac(1), address), announcement(mac(1), address)] {
            assert!(read(&frame).is_some());
            for length in 0..frame.len() {
                assert_eq!(read(&frame[..length]), None);
            }
        }
    }
}

proptest! {
    #[test]
    fn what_is_said_is_read(address: IpAddr, own: [u8; 6], padding in prop::collection::vec(any::<u8>(), 0..30)) {
        if let Some(own) = Mac::new(own).filter(|_| !address.is_unspecified()) {
            for (frame, said) in
                [(probe(own, address), Said::Probes), (announcement(own, address), Said::Claims)]
            {
                let padded = [frame, padding.clone()].concat();
                prop_assert_eq!(read(&padded), Some(Word { address, mac: own, said }));
            }
        }
    }

    #[test]
    fn no_frame_panics(mut frame: Vec<u8>, ethertype in 0..3) {
        if let (Some(bytes), 1..) = (frame.get_mut(12..14), ethertype) {
            bytes.copy_from_slice(if ethertype == 1 { &ETHERTYPE_ARP } else { &ETHERTYPE_IPV6 });
        }
        let _ = read(&frame);
    }

    #[test]
    fn no_option_panics(options in prop::collection::vec(0u8..4, 0..40)) {
        let mut frame = probe(mac(1), VIP6.into());
        frame.extend(&options);
        mend(&mut frame);
        let _ = read(&frame);
    }
}
