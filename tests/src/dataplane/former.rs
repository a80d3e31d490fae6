//! Pins as pgha left them before schema 2.
use std::ffi::CString;
use std::fs;
use std::io;
use std::mem::{offset_of, size_of};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use aya::maps::{Array, HashMap, Map, MapData};
use aya::programs::loaded_programs;
use nix::libc;
use pgha_common::maps::{MAX_PEERS, MAX_SERVICES, RealServer, name};

/// The maps of schema 1 that later ones have in another layout.
pub const REPLACED: [&str; 5] =
    [name::DIRECTOR, name::VIPS, name::PEERS, name::SERVICES, name::COUNTERS];
/// Those that are the same today.
pub const KEPT: [&str; 6] =
    [name::TABLES, name::CURSORS, name::REALS, name::TRAFFIC, name::PENDING, name::ESTABLISHED];

/// Kinds of maps and commands (linux/bpf.h).
const HASH: u32 = 1;
const ARRAY: u32 = 2;
const PERCPU_ARRAY: u32 = 6;
const MAP_CREATE: libc::c_int = 0;
const OBJ_PIN: libc::c_int = 6;

/// Where `schema` is in a `DIRECTOR` of schema 1: behind the filter of VIPs.
const SCHEMA_AT: usize = 32;
/// Where it says that it answers for the VIPs: behind the MAC address.
const ACTIVE_AT: usize = 42;
/// Reasons that were counted, and the frames received.
const COUNTERS: u32 = 8 * 27;

/// A service as schema 1 had it.
#[derive(Clone, Copy, Debug)]
pub struct Service {
    /// Its virtual address.
    pub vip: [u8; 4],
    /// Its port.
    pub port: u16,
    /// Its number.
    pub index: u16,
    /// Whether it goes by round robin.
    pub rotates: bool,
    /// The bank in use.
    pub bank: u32,
}

/// Another director as schema 1 knew it: its MAC address, and the address it has.
pub type Peer = ([u8; 6], [u8; 4]);

/// Makes what schema 1 had beside [`KEPT`], with these services and other directors, under a directory of
/// pins. The director answers for the VIPs.
///
/// # Errors
/// When the kernel refuses.
pub fn make(pins: &Path, services: &[Service], peers: &[Peer]) -> Result<()> {
    create(pins, name::VIPS, HASH, [4, 4, MAX_SERVICES])?;
    create(pins, name::PEERS, HASH, [6, 4, MAX_PEERS])?;
    create(pins, name::COUNTERS, PERCPU_ARRAY, [4, COUNTERS, 1])?;
    create(pins, name::DIRECTOR, ARRAY, [4, 48, 1])?;
    create(pins, name::SERVICES, HASH, [8, 8, MAX_SERVICES])?;
    let mut director: Array<_, [u8; 48]> = Map::Array(open(pins, name::DIRECTOR)?).try_into()?;
    let mut vips: HashMap<_, [u8; 4], u32> = Map::HashMap(open(pins, name::VIPS)?).try_into()?;
    let mut map: HashMap<_, [u8; 8], [u8; 8]> =
        Map::HashMap(open(pins, name::SERVICES)?).try_into()?;
    let mut value = [0; 48];
    value[SCHEMA_AT..SCHEMA_AT + 4].copy_from_slice(&1_u32.to_ne_bytes());
    value[ACTIVE_AT] = 1;
    director.set(0, value, 0)?;
    let mut known: HashMap<_, [u8; 6], [u8; 4]> =
        Map::HashMap(open(pins, name::PEERS)?).try_into()?;
    for (mac, address) in peers {
        known.insert(mac, address, 0)?;
    }
    for Service { vip, port, index, rotates, bank } in services {
        let [a, b, c, d] = *vip;
        let [high, low] = port.to_be_bytes();
        let mut value = [0; 8];
        value[..2].copy_from_slice(&index.to_ne_bytes());
        value[2..4].copy_from_slice(&u16::from(*rotates).to_ne_bytes());
        value[4..].copy_from_slice(&bank.to_ne_bytes());
        map.insert([a, b, c, d, high, low, 0, 0], value, 0)?;
        vips.insert(vip, 1, 0)?;
    }
    Ok(())
}

/// Takes out of `REALS` what schema 1 did not write there.
///
/// # Errors
/// When it is not pinned.
pub fn age_reals(pins: &Path) -> Result<()> {
    const SHARE: usize = offset_of!(RealServer, share);
    let mut reals: Array<_, [u8; size_of::<RealServer>()]> =
        Map::Array(open(pins, name::REALS)?).try_into()?;
    for id in 0..reals.len() {
        let mut real = reals.get(&id, 0)?;
        if real != [0; size_of::<RealServer>()] {
            real[SHARE..SHARE + 2].fill(0);
            reals.set(id, real, 0)?;
        }
    }
    Ok(())
}

/// The names of all pins in a directory, in order.
///
/// # Errors
/// When it is not there.
pub fn pinned(pins: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(pins)? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

fn open(pins: &Path, map: &str) -> Result<MapData> {
    MapData::from_pin(pins.join(map)).with_context(|| format!("pin of {map}"))
}

/// Makes a map of that kind, and of these sizes of keys and values and number of entries, and pins it.
///
/// # Errors
/// When the kernel refuses.
pub fn create(pins: &Path, map: &str, kind: u32, [key, value, entries]: [u32; 3]) -> Result<()> {
    /// The beginning of `union bpf_attr` for `BPF_MAP_CREATE`.
    #[repr(C)]
    struct Create {
        kind: u32,
        key: u32,
        value: u32,
        entries: u32,
    }
    let created = bpf(MAP_CREATE, &Create { kind, key, value, entries })
        .with_context(|| format!("make {map}"))?;
    // SAFETY: the kernel has just opened it for this call, and nobody else knows it.
    let created = unsafe { OwnedFd::from_raw_fd(created) };
    pin(created.as_fd(), &pins.join(map)).with_context(|| format!("pin {map}"))
}

/// Pins the program with that id.
///
/// # Errors
/// When there is none, or the kernel refuses.
pub fn pin_program(id: u32, path: &Path) -> Result<()> {
    let mut programs = loaded_programs().filter_map(Result::ok);
    let program = programs.find(|program| program.id() == id).context("no such program")?;
    pin(program.fd()?.as_fd(), path).with_context(|| format!("pin program {id}"))
}

fn pin(object: BorrowedFd<'_>, path: &Path) -> Result<()> {
    /// The beginning of `union bpf_attr` for `BPF_OBJ_PIN`.
    #[repr(C)]
    struct Pin {
        path: u64,
        fd: u32,
        flags: u32,
    }
    let path = CString::new(path.as_os_str().as_bytes())?;
    let fd = object.as_raw_fd().try_into()?;
    bpf(OBJ_PIN, &Pin { path: path.as_ptr() as u64, fd, flags: 0 })?;
    Ok(())
}

fn bpf<T>(command: libc::c_int, attributes: &T) -> io::Result<libc::c_int> {
    // SAFETY: the pointer is to the whole of `attributes`, whose size is given, and what those point
    // to outlives the call; the kernel only reads them.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attributes), size_of::<T>())
    };
    libc::c_int::try_from(result)
        .ok()
        .filter(|result| *result >= 0)
        .ok_or_else(io::Error::last_os_error)
}
