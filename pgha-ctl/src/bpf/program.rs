//! What the kernel says of a program to whoever has it open.

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};

use zerocopy::{Immutable, IntoBytes};

/// `BPF_OBJ_GET_INFO_BY_FD` of `enum bpf_cmd` (linux/bpf.h).
const GET_INFO: nix::libc::c_long = 15;
/// Maps of one program at most (`MAX_USED_MAPS`, linux/bpf.h in the kernel).
const MAX_MAPS: usize = 64;

/// The part of `union bpf_attr` for that.
#[repr(C)]
#[derive(IntoBytes, Immutable)]
struct Request {
    fd: u32,
    length: u32,
    info: u64,
}

/// The beginning of `struct bpf_prog_info`.
#[repr(C)]
#[derive(Default, IntoBytes, Immutable)]
struct Info {
    kind: u32,
    id: u32,
    tag: [u8; 8],
    jited_length: u32,
    translated_length: u32,
    jited: u64,
    translated: u64,
    loaded_at: u64,
    user: u32,
    map_count: u32,
    maps: u64,
}

/// The ids of the maps that a program uses. (aya opens the program by its id for that, which takes
/// CAP_SYS_ADMIN.)
///
/// # Errors
/// What the kernel says.
pub(super) fn map_ids(program: BorrowedFd<'_>) -> io::Result<Vec<u32>> {
    let mut ids = vec![0_u32; MAX_MAPS];
    let mut info = Info {
        map_count: u32::try_from(ids.len()).unwrap_or(u32::MAX),
        maps: ids.as_mut_ptr() as u64,
        ..Info::default()
    };
    let mut request = Request {
        fd: program.as_raw_fd().cast_unsigned(),
        length: u32::try_from(size_of::<Info>()).unwrap_or(u32::MAX),
        info: (&raw mut info) as u64,
    };
    // SAFETY: the kernel reads and writes `request` and `info` within the sizes given, and writes at most
    // `map_count` ids, for which there is room. It writes instructions only where lengths ask for them;
    // they are 0. All of them outlive the call.
    let result = unsafe {
        nix::libc::syscall(nix::libc::SYS_bpf, GET_INFO, &raw mut request, size_of::<Request>())
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    ids.truncate(info.map_count as usize);
    Ok(ids)
}
