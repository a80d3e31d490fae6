use std::io;

use super::batches;

/// A hash map as the kernel reads it out: whole buckets, as many as there is room for.
fn lookup(
    buckets: &[Vec<u32>],
    position: Option<u64>,
    keys: &mut [u32],
    values: &mut [u64],
) -> (u64, usize, io::Result<()>) {
    let failed = |errno| Err(io::Error::from_raw_os_error(errno));
    let (mut at, mut count) = (usize::try_from(position.unwrap_or(0)).unwrap(), 0);
    while let Some(bucket) = buckets.get(at) {
        if bucket.len() > keys.len() - count {
            let outcome = if count == 0 { failed(nix::libc::ENOSPC) } else { Ok(()) };
            return (at as u64, count, outcome);
        }
        for key in bucket {
            (keys[count], values[count]) = (*key, u64::from(*key) * 3);
            count += 1;
        }
        at += 1;
    }
    (at as u64, count, failed(nix::libc::ENOENT))
}

fn read(room: usize, buckets: &[Vec<u32>]) -> Vec<u32> {
    let mut seen = Vec::new();
    let each = |key: u32, value: u64| {
        assert_eq!(value, u64::from(key) * 3);
        seen.push(key);
    };
    let lookup = |position, keys: &mut _, values: &mut _| lookup(buckets, position, keys, values);
    batches(room, lookup, each).unwrap();
    seen
}

#[test]
fn every_entry_is_shown_once_whatever_the_room() {
    let buckets = [vec![1], vec![], (2..12).collect(), vec![12, 13], (14..47).collect(), vec![47]];
    let all: Vec<u32> = (1..48).collect();
    for room in 1..60 {
        assert_eq!(read(room, &buckets), all, "room for {room}");
    }
}

#[test]
fn an_empty_map_shows_nothing() {
    assert!(read(4, &[]).is_empty());
    assert!(read(4, &[vec![], vec![]]).is_empty());
}

#[test]
fn what_else_the_kernel_says_is_told() {
    let refused = |_: Option<u64>, _: &mut [u32], _: &mut [u64]| {
        (0, 7, Err(io::Error::from_raw_os_error(nix::libc::EFAULT)))
    };
    let told = batches(4, refused, |_, _| panic!("an entry")).unwrap_err();
    assert_eq!(told.raw_os_error(), Some(nix::libc::EFAULT));
}
