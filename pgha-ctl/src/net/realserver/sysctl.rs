use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::RealServerError;

/// Sysctls of the network namespace of the reading thread.
const ROOT: &str = "/proc/sys";

/// A sysctl as a real server needs it.
pub(super) struct Wanted {
    pub(super) name: &'static str,
    pub(super) value: i32,
    /// Whether a value found serves as well as `value` and may stay.
    pub(super) enough: fn(i32) -> bool,
}

/// Said of an IPv4 VIP. The greater of the values for `all` and for the interface counts, for both settings.
pub(super) const WANTED: &[Wanted] = &[
    Wanted { name: "net.ipv4.conf.all.arp_ignore", value: 1, enough: ignores },
    Wanted { name: "net.ipv4.conf.lo.arp_ignore", value: 1, enough: ignores },
    Wanted { name: "net.ipv4.conf.all.arp_announce", value: 2, enough: |value| value == 2 },
    Wanted { name: "net.ipv4.conf.lo.arp_announce", value: 2, enough: |value| value == 2 },
];

/// Whether `arp_ignore` keeps quiet about an address of `lo` that is asked for on another
/// interface: 1, 2 and 8 do, 3 answers for addresses of global scope, 4 to 7 are reserved.
const fn ignores(value: i32) -> bool {
    matches!(value, 1 | 2 | 8)
}

/// A sysctl changed by us.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Setting {
    /// Such as `net.ipv4.conf.all.arp_ignore`.
    pub name: String,
    /// The value found.
    pub before: i32,
    /// The value given.
    pub set: i32,
}

/// An interface whose own `arp_ignore` outweighs `all` = 1 and answers for the VIPs.
pub(super) fn overriding_interface() -> Result<Option<(String, i32)>, RealServerError> {
    let directory = Path::new(ROOT).join("net/ipv4/conf");
    let unreadable =
        |source| RealServerError::File { what: "read", path: directory.clone(), source };
    for entry in fs::read_dir(&directory).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        let interface = entry.file_name().to_string_lossy().into_owned();
        if matches!(interface.as_str(), "all" | "default" | "lo") {
            continue;
        }
        let value = read_path(&entry.path().join("arp_ignore"))?;
        if value > 1 && !ignores(value) {
            return Ok(Some((interface, value)));
        }
    }
    Ok(None)
}

/// Where IPv6 is off the kernel refuses an address as if a capability were missing.
pub(super) fn ipv6_on_loopback() -> Result<(), RealServerError> {
    match read("net.ipv6.conf.lo.disable_ipv6")? {
        0 => Ok(()),
        value => Err(RealServerError::Ipv6Off { value }),
    }
}

pub(super) fn read(name: &str) -> Result<i32, RealServerError> {
    read_path(&path(name))
}

/// A setting of one interface, whose name may have dots.
pub(super) fn of_interface(interface: &str, setting: &str) -> Result<i32, RealServerError> {
    read_path(&Path::new(ROOT).join("net/ipv4/conf").join(interface).join(setting))
}

fn read_path(path: &Path) -> Result<i32, RealServerError> {
    let text = fs::read_to_string(path).map_err(|source| RealServerError::File {
        what: "read",
        path: path.to_owned(),
        source,
    })?;
    text.trim().parse().map_err(|_| RealServerError::NotANumber {
        path: path.to_owned(),
        value: text.trim().to_owned(),
    })
}

pub(super) fn write(name: &str, value: i32) -> Result<(), RealServerError> {
    let path = path(name);
    fs::write(&path, format!("{value}\n")).map_err(|source| RealServerError::File {
        what: "written",
        path,
        source,
    })
}

/// Only constant names come here, in which a dot is always a separator.
fn path(name: &str) -> PathBuf {
    Path::new(ROOT).join(name.replace('.', "/"))
}

/// The inode that identifies the calling thread's network namespace.
pub(super) fn namespace() -> Result<u64, RealServerError> {
    let path = Path::new("/proc/thread-self/ns/net");
    fs::metadata(path).map(|metadata| metadata.ino()).map_err(|source| RealServerError::File {
        what: "read",
        path: path.to_owned(),
        source,
    })
}
