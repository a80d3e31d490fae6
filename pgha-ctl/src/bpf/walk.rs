//! Reading a whole hash map in few system calls (`BPF_MAP_LOOKUP_BATCH`, Linux 5.6): one by one, a million
//! entries are two million calls.

#[cfg(test)]
mod tests;

use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _};

use aya::maps::MapData;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// `BPF_MAP_LOOKUP_BATCH` of `enum bpf_cmd` (linux/bpf.h).
const LOOKUP_BATCH: nix::libc::c_long = 24;
/// Entries asked for at a time; more where one bucket holds more than that.
const AT_A_TIME: usize = 4096;

/// The part of `union bpf_attr` (linux/bpf.h) for batches.
#[repr(C)]
#[derive(IntoBytes, Immutable)]
struct Batch {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map_fd: u32,
    elem_flags: u64,
    flags: u64,
}

/// Shows each entry to `each`. Entries that come or go meanwhile may or may not be seen; the kernel does
/// not count this as a use of any.
///
/// # Errors
/// What the kernel says, and a map whose keys or values have another size.
pub(super) fn walk<K, V>(map: &MapData, each: impl FnMut(K, V)) -> io::Result<()>
where
    K: FromBytes + IntoBytes + Immutable + Copy,
    V: FromBytes + IntoBytes + Immutable + Copy,
{
    let info = map.info().map_err(io::Error::other)?;
    // SAFETY of the calls below rests on this: the kernel writes entries of the map's own sizes.
    if (info.key_size() as usize, info.value_size() as usize) != (size_of::<K>(), size_of::<V>()) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a map of another layout"));
    }
    batches(AT_A_TIME, |position, keys, values| lookup(map, position, keys, values), each)
}

/// Shows each entry of the batches that `lookup` fills, which are of `room` entries at first.
fn batches<K, V>(
    mut room: usize,
    mut lookup: impl FnMut(Option<u64>, &mut [K], &mut [V]) -> (u64, usize, io::Result<()>),
    mut each: impl FnMut(K, V),
) -> io::Result<()>
where
    K: FromBytes + Copy,
    V: FromBytes + Copy,
{
    let mut position: Option<u64> = None;
    loop {
        let mut keys = vec![K::new_zeroed(); room];
        let mut values = vec![V::new_zeroed(); room];
        let (next, count, outcome) = lookup(position, &mut keys, &mut values);
        match outcome {
            Err(error) if error.raw_os_error() == Some(nix::libc::ENOSPC) => {
                room *= 2;
                continue;
            }
            Err(error) if error.raw_os_error() != Some(nix::libc::ENOENT) => return Err(error),
            _ => {}
        }
        keys.iter().zip(&values).take(count).for_each(|(key, value)| each(*key, *value));
        if outcome.is_err() {
            return Ok(());
        }
        position = Some(next);
    }
}

/// One batch, from a position on: the next position, how many entries there were, and how it ended
/// (`ENOENT`: there is no more).
fn lookup<K: IntoBytes + FromBytes, V: IntoBytes + FromBytes>(
    map: &MapData,
    position: Option<u64>,
    keys: &mut [K],
    values: &mut [V],
) -> (u64, usize, io::Result<()>) {
    let mut next = 0u64;
    let mut batch = Batch {
        in_batch: position.as_ref().map_or(0, |position| (&raw const *position) as u64),
        out_batch: (&raw mut next) as u64,
        keys: keys.as_mut_ptr() as u64,
        values: values.as_mut_ptr() as u64,
        count: u32::try_from(keys.len().min(values.len())).unwrap_or(u32::MAX),
        map_fd: map.fd().as_fd().as_raw_fd().cast_unsigned(),
        elem_flags: 0,
        flags: 0,
    };
    // SAFETY: the kernel reads and writes `batch` within its size; it writes at most `count` keys and
    // values, whose sizes are the map's (the caller has asked), and a position of a hash map, which is a
    // number of 32 bits. All of them outlive the call.
    let result = unsafe {
        nix::libc::syscall(nix::libc::SYS_bpf, LOOKUP_BATCH, &raw mut batch, size_of::<Batch>())
    };
    let outcome = if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) };
    // A failed call says nothing about a count, except that it came to the end.
    let ended =
        outcome.as_ref().is_err_and(|error| error.raw_os_error() != Some(nix::libc::ENOENT));
    (next, if ended { 0 } else { batch.count as usize }, outcome)
}
