use super::*;

const CLIENT: IpAddr = IpAddr::V6(std::net::Ipv6Addr::LOCALHOST);

#[test]
fn a_failure_says_what_to_do() {
    let failed = |errno| failure(io::Error::from_raw_os_error(errno), CLIENT, 60);
    for errno in [libc::EAGAIN, libc::ENOBUFS] {
        assert!(matches!(failed(errno), RawError::Busy { destination: CLIENT }));
    }
    for errno in [libc::ENETUNREACH, libc::EHOSTUNREACH, libc::ENETDOWN] {
        let text = failed(errno).to_string();
        assert!(text.ends_with("look at: ip route get ::1"), "{text}");
    }
    assert!(matches!(failed(libc::EMSGSIZE), RawError::TooLong { length: 60, .. }));
    assert!(matches!(failed(libc::EPERM), RawError::Send { .. }));
}
