//! The commands of bpf(2) that aya has no call for.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use nix::libc::{self, c_long};

use zerocopy::{FromBytes, Immutable, IntoBytes};

/// Of `enum bpf_cmd` (linux/bpf.h).
const BPF_OBJ_GET: c_long = 7;
const BPF_OBJ_GET_INFO_BY_FD: c_long = 15;
const BPF_MAP_FREEZE: c_long = 22;
/// Maps of one program at most (`MAX_USED_MAPS`, linux/bpf.h in the kernel).
const MAX_MAPS: usize = 64;

/// The part of `union bpf_attr` for `BPF_OBJ_GET_INFO_BY_FD`.
#[repr(C)]
#[derive(IntoBytes, Immutable)]
struct InfoRequest {
    fd: u32,
    length: u32,
    info: u64,
}

/// The part of it for `BPF_OBJ_GET`.
#[repr(C)]
#[derive(IntoBytes, Immutable)]
struct OpenRequest {
    path: u64,
    fd: u32,
    flags: u32,
}

/// The beginning of `struct bpf_prog_info`.
#[repr(C)]
#[derive(Default, FromBytes, IntoBytes, Immutable)]
struct Program {
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

/// The beginning of `struct bpf_link_info`, as it is for links on a cgroup.
#[repr(C)]
#[derive(Default, FromBytes, IntoBytes, Immutable)]
struct CgroupLink {
    kind: u32,
    id: u32,
    program: u32,
    reserved: u32,
    cgroup: u64,
    attach_type: u32,
    reserved2: u32,
}

/// The ids of the maps that a program uses. (aya opens the program by its id for that, which takes
/// CAP_SYS_ADMIN.)
///
/// # Errors
/// What the kernel says.
pub(super) fn map_ids(program: BorrowedFd<'_>) -> io::Result<Vec<u32>> {
    let mut ids = vec![0_u32; MAX_MAPS];
    let mut info = Program {
        map_count: u32::try_from(ids.len()).unwrap_or(u32::MAX),
        maps: ids.as_mut_ptr() as u64,
        ..Program::default()
    };
    // SAFETY: the kernel writes at most `map_count` ids, for which there is room and which outlive the call. It
    // writes instructions only where lengths ask for them; they are 0.
    unsafe { ask(program, &mut info) }?;
    ids.truncate(info.map_count as usize);
    Ok(ids)
}

/// The id of the cgroup that a link is on, which is the inode number of its directory. 0 when the cgroup is
/// gone: the kernel takes a link off with the last socket of a cgroup that was removed.
///
/// # Errors
/// What the kernel says.
pub(super) fn cgroup_of(link: BorrowedFd<'_>) -> io::Result<u64> {
    let mut info = CgroupLink::default();
    // SAFETY: nothing in `info` is a pointer to write to.
    unsafe { ask(link, &mut info) }?;
    Ok(info.cgroup)
}

/// Opens whatever is pinned at a path.
///
/// # Errors
/// What the kernel says.
pub(super) fn open_pin(path: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut request = OpenRequest { path: path.as_ptr() as u64, fd: 0, flags: 0 };
    // SAFETY: the kernel reads the request and the path it leads to; both outlive the call.
    let fd = unsafe { bpf(BPF_OBJ_GET, &mut request) }?;
    let fd = i32::try_from(fd).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
    // SAFETY: the kernel has just made this descriptor for the caller.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Takes the right to write a map from user space, for good. Programs keep theirs.
///
/// # Errors
/// What the kernel says.
pub(super) fn freeze(map: BorrowedFd<'_>) -> io::Result<()> {
    let mut request = map.as_raw_fd().cast_unsigned();
    // SAFETY: the kernel only reads the request.
    unsafe { bpf(BPF_MAP_FREEZE, &mut request) }.map(drop)
}

/// Has the kernel fill in `info`.
///
/// # Safety
/// Addresses in `info` lead to memory that the kernel may write to, as far as the lengths beside them say.
unsafe fn ask<I: FromBytes + IntoBytes>(object: BorrowedFd<'_>, info: &mut I) -> io::Result<()> {
    let mut request = InfoRequest {
        fd: object.as_raw_fd().cast_unsigned(),
        length: u32::try_from(size_of::<I>()).unwrap_or(u32::MAX),
        info: (&raw mut *info) as u64,
    };
    // SAFETY: the kernel writes `info` within the size given, and any bytes are an `I`. For what `info` leads to
    // the caller answers.
    unsafe { bpf(BPF_OBJ_GET_INFO_BY_FD, &mut request) }.map(drop)
}

/// One call of bpf(2).
///
/// # Safety
/// Addresses in the request lead to what the command reads or writes there.
unsafe fn bpf<R: IntoBytes + Immutable>(command: c_long, request: &mut R) -> io::Result<c_long> {
    // SAFETY: the kernel reads and writes the request within its size; for the rest the caller answers.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command, &raw mut *request, size_of::<R>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
