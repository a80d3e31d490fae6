use super::*;

fn acknowledgement(code: i32) -> Vec<u8> {
    let mut answer = vec![0; 36];
    answer[KIND_AT..KIND_AT + 2].copy_from_slice(&ERROR.to_ne_bytes());
    answer[CODE_AT..CODE_AT + 4].copy_from_slice(&code.to_ne_bytes());
    answer
}

#[test]
fn an_acknowledgement_is_read() {
    assert!(verdict(&acknowledgement(0)).is_ok());
    let refused = verdict(&acknowledgement(-libc::EPERM)).unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(libc::EPERM));
    assert!(verdict(&acknowledgement(i32::MIN)).is_err());
    for length in 0..CODE_AT + 4 {
        assert!(verdict(&acknowledgement(0)[..length]).is_err(), "{length}");
    }
    assert!(verdict(&[0; 36]).is_err(), "another kind of message");
}

#[test]
fn what_cannot_be_opened_is_named() {
    let charge =
        Charge { start: 1, cgroup: "/nowhere".into(), vips: Vec::new(), until: Moment::default() };
    let why = Means::prepare(&charge).err().unwrap();
    assert!(why.starts_with("open /nowhere/cgroup.kill: "), "{why}");
}

#[test]
fn what_failed_is_reported() {
    let mut means = Means {
        start: 7,
        kill: File::open("/dev/null").unwrap(),
        killed: Ok(()),
        netlink: netlink().unwrap(),
        removals: vec![Removal::of(&Vip {
            address: "192.0.2.1".parse().unwrap(),
            prefix: 32,
            interface: u32::MAX >> 1,
        })],
    };
    // Not open for writing. The interface is not there, which is as good as done; without rights it is refused.
    means.surrender();
    let report = means.report(Moment::new(5));
    assert_eq!((report.start, report.at), (7, Moment::new(5)));
    assert!(report.kill.is_some());
    if nix::unistd::geteuid().is_root() {
        assert_eq!(report.vips, []);
    }
}
