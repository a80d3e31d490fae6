use super::{OLDEST, Version, parse, running};

#[test]
fn versions_are_read_from_what_kernels_call_themselves() {
    for (release, version) in [
        ("6.18.5", Some(Version(6, 18))),
        ("5.15.0-91-generic", Some(Version(5, 15))),
        ("6.1-rc3+", Some(Version(6, 1))),
        ("5.9", Some(Version(5, 9))),
        ("six", None),
        ("6", None),
        ("", None),
    ] {
        assert_eq!(parse(release), version, "{release}");
    }
    assert!(Version(5, 9) < OLDEST && Version(10, 0) > OLDEST);
    assert!(running().1.is_some(), "{}", running().0);
}
