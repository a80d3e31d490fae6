use std::net::IpAddr;

use super::{checksum, is_reply, request};

const V4: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
const V6: IpAddr = IpAddr::V6(std::net::Ipv6Addr::LOCALHOST);

#[test]
fn a_request_is_as_long_as_asked_and_its_checksum_checks() {
    for (host, header) in [(V4, 20), (V6, 40)] {
        for length in [84, 1499, 1500] {
            assert_eq!(request(host, length, 7).len() + header, length, "{host}");
        }
    }
    // The sum over a message with its checksum is nothing (RFC 1071).
    assert_eq!(checksum(&request(V4, 85, 0x1234)), [0, 0]);
    assert_eq!(request(V6, 84, 7)[..8], [128, 0, 0, 0, 0, 7, 0, 1]);
}

#[test]
fn only_the_reply_to_its_own_request_counts() {
    let mut header = [0; 24];
    header[0] = 0x46;
    let v4 = |message: &[u8]| [&header[..], message].concat();
    let reply = [0, 0, 9, 9, 0, 7, 0, 1, b'p'];
    assert!(is_reply(V4, &v4(&reply), 7));
    assert!(!is_reply(V4, &v4(&reply), 8), "another identifier");
    assert!(!is_reply(V4, &v4(&[8, 0, 9, 9, 0, 7, 0, 1]), 7), "a request");
    assert!(!is_reply(V4, &v4(&[3, 4, 9, 9, 0, 7, 0, 1]), 7), "an error");
    assert!(is_reply(V6, &[129, 0, 9, 9, 0, 7, 0, 1, b'p'], 7));
    for cut in 0..8 {
        assert!(!is_reply(V4, &v4(&reply[..cut]), 7));
        assert!(!is_reply(V6, &[129, 0, 9, 9, 0, 7, 0, 1][..cut], 7));
    }
    assert!(!is_reply(V4, &[], 7));
    assert!(!is_reply(V4, &[0x4f], 7));
}
