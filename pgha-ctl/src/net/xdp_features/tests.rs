use nix::libc;

use super::{GENERIC, HEADER, attribute, attributes_of, find, number};

#[test]
fn attributes_are_found_behind_those_of_other_lengths() {
    let all =
        [attribute(2, b"netdev\0"), attribute(1, &31_u16.to_ne_bytes()), attribute(3, &[1; 8])];
    let all = all.concat();
    assert_eq!(all.len() % 4, 0);
    assert_eq!(find(&all, 1).and_then(number), Some(31));
    assert_eq!(find(&all, 2), Some(&b"netdev\0"[..]));
    assert_eq!(find(&all, 3).and_then(number), Some(0x0101_0101_0101_0101));
    assert_eq!(find(&all, 4), None);
    // Cut short anywhere, it is no number, and nothing is read beyond the end.
    for cut in 0..all.len() {
        assert_eq!(find(&all[..cut], 3), None);
    }
    // A length of nothing leads nowhere.
    assert_eq!(find(&[0, 0, 9, 0, 0, 0, 0, 0], 1), None);
}

#[test]
fn an_error_of_the_kernel_is_one() {
    let mut message = vec![0; HEADER + GENERIC];
    message[4] = 2;
    message[HEADER..].copy_from_slice(&(-libc::ENODEV).to_ne_bytes());
    let error = attributes_of(&message).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ENODEV));
    message[4] = 30;
    assert!(attributes_of(&message).unwrap().is_empty());
    assert!(attributes_of(&message[..HEADER]).is_err());
}
