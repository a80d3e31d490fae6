//! The XDP balancer in the kernel: loaded with its maps, attached by a pinned link, taken over by the
//! next controller without losing a frame.
//!
//! The order is that of a controller's start: [`DataPlane::load`] opens the pinned maps or makes them,
//! [`DataPlane::inherited`] tells what a former controller left, [`DataPlane::attach`] puts the
//! program on the interface or exchanges the one that is there, [`DataPlane::apply`] makes the maps
//! equal to a plan.

mod apply;
mod attach;
mod inherit;
mod maps;
mod packet_log;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

use aya::maps::{MapData, MapError, MapInfo};
use aya::programs::links::LinkError;
use aya::programs::{ProgramError, Xdp};
use aya::{Ebpf, EbpfError, EbpfLoader};
use pgha_common::maps::{Counters, SCHEMA, Tables, Traffic, name};
use pgha_machine::table::Entry;

pub use apply::DirectorPlan;
pub use attach::{Attached, Port};
pub use packet_log::PacketLog;

use super::{PinDirectory, PinError, PinLock};
use maps::{Maps, Raw};

/// Name of the pinned link.
pub const LINK: &str = "link";
/// Name of the pinned program.
const PROGRAM: &str = "program";
/// Name of the program in the object.
const ENTRY: &str = "pgha_balancer";

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/balancer"));

/// What the program is loaded with.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where it is pinned.
    pub pins: PinDirectory,
    /// Entries of the table of established flows.
    pub flows: u32,
    /// Entries of the table of pending flows.
    pub pending_flows: u32,
    /// Whether every verdict is logged.
    pub log_packets: bool,
}

/// The data plane could not be loaded, attached, read or written.
#[derive(Debug, thiserror::Error)]
pub enum XdpError {
    /// The pins.
    #[error(transparent)]
    Pin(#[from] PinError),
    /// The kernel refused the object.
    #[error("the kernel does not load the XDP program: {0}")]
    Load(#[from] EbpfError),
    /// The kernel refused the program.
    #[error("the kernel does not take the XDP program: {0}")]
    Program(#[from] ProgramError),
    /// The link.
    #[error("the XDP link cannot be used: {0}")]
    Link(#[from] LinkError),
    /// A pin of the program or the link.
    #[error("the XDP {what} cannot be pinned: {source}")]
    Pinning {
        /// Which.
        what: &'static str,
        /// What.
        source: aya::pin::PinError,
    },
    /// A map.
    #[error("BPF map {map}: {source}")]
    Map {
        /// Its name.
        map: &'static str,
        /// What.
        source: MapError,
    },
    /// No thread to read look-up tables in.
    #[error("no thread can be started: {source}")]
    Thread {
        /// What.
        source: std::io::Error,
    },
    /// The object lacks a map or the program.
    #[error("the XDP object has no {0}: this pgha was not built by `cargo xtask build`")]
    Incomplete(&'static str),
    /// Another pgha left maps that this one cannot read.
    #[error(
        "{path} holds maps of schema {found}, this pgha has schema {SCHEMA}; to go on with empty \
         flow tables (established connections continue by the Maglev table): pgha detach"
    )]
    Schema {
        /// Where.
        path: String,
        /// The schema of the maps; 0 when not even that can be read.
        found: u32,
    },
    /// The log of verdicts.
    #[error("the XDP program has no log: {0}")]
    Log(aya_log::Error),
    /// The driver has no XDP.
    #[error(
        "interface {interface} has no native XDP (its driver does not offer it); choose another \
         interface in [director]"
    )]
    NoNativeXdp {
        /// Which.
        interface: String,
    },
    /// The program runs on another interface.
    #[error(
        "this cluster's XDP program runs on interface {running}, not on {interface}; to move it: pgha \
         detach, which forgets all flows, then start again"
    )]
    Elsewhere {
        /// The one of the configuration.
        interface: String,
        /// Where it runs.
        running: String,
    },
    /// The interface belongs to somebody else's program.
    #[error(
        "interface {interface} has a foreign XDP program already (id {id}, {name}); pgha never \
         replaces it: detach it (ip link set dev {interface} xdp off) or choose another interface"
    )]
    Foreign {
        /// Which.
        interface: String,
        /// The program's id.
        id: u32,
        /// Its name.
        name: String,
    },
}

impl XdpError {
    fn pin(what: &'static str) -> impl FnOnce(aya::pin::PinError) -> Self {
        move |source| Self::Pinning { what, source }
    }

    fn map(map: &'static str) -> impl FnOnce(MapError) -> Self {
        move |source| Self::Map { map, source }
    }
}

/// The program and its maps. While it is not attached, dropping it leaves nothing behind.
pub struct DataPlane {
    ebpf: Ebpf,
    maps: Maps,
    seen: inherit::Seen,
    /// What the tables of each service were built for, because building them takes milliseconds.
    built: BTreeMap<u16, (Vec<Entry>, Arc<Raw<Tables>>)>,
    settings: Settings,
    /// The pins were made by this process and no interface uses them yet.
    provisional: bool,
    _lock: PinLock,
}

impl DataPlane {
    /// Loads the program on the maps that are pinned, or on new ones.
    ///
    /// # Errors
    /// Pins of another schema or held by another controller, and what the kernel refuses.
    pub fn load(settings: Settings) -> Result<Self, XdpError> {
        let lock = settings.pins.lock()?;
        let inherited = settings.pins.join(LINK).exists();
        if inherited {
            check_schema(&settings.pins)?;
        } else {
            // Maps without a link are what is left of a start that was cut short.
            settings.pins.remove()?;
            drop(lock);
            return Self::load_locked(settings.pins.lock()?, settings, true);
        }
        Self::load_locked(lock, settings, false)
    }

    fn load_locked(lock: PinLock, settings: Settings, fresh: bool) -> Result<Self, XdpError> {
        let loaded = load_object(&settings).and_then(|mut ebpf| {
            let program: &mut Xdp =
                ebpf.program_mut(ENTRY).ok_or(XdpError::Incomplete("program"))?.try_into()?;
            program.load()?;
            let mut maps = Maps::take(&mut ebpf)?;
            if fresh {
                // Before a link can exist: a start cut short after that one is then gone on with.
                maps.write_schema()?;
            }
            let seen = inherit::Seen::read(&maps)?;
            Ok((ebpf, maps, seen))
        });
        match loaded {
            Ok((ebpf, maps, seen)) => {
                let built = BTreeMap::new();
                Ok(Self { ebpf, maps, seen, built, settings, provisional: fresh, _lock: lock })
            }
            Err(error) => {
                if fresh {
                    settings.pins.remove()?;
                }
                Err(error)
            }
        }
    }

    /// How many flows the two tables hold (established, pending): what they were made with, which an
    /// inherited table keeps.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn flow_capacity(&self) -> Result<(u32, u32), XdpError> {
        let entries = |map| {
            MapInfo::from_pin(self.settings.pins.join(map))
                .map(|info| info.max_entries())
                .map_err(XdpError::map(map))
        };
        Ok((entries(name::ESTABLISHED)?, entries(name::PENDING)?))
    }

    /// The program, for test runs.
    ///
    /// # Errors
    /// An object without it.
    pub fn program(&mut self) -> Result<&mut Xdp, XdpError> {
        let program = self.ebpf.program_mut(ENTRY).ok_or(XdpError::Incomplete("program"))?;
        Ok(program.try_into()?)
    }

    /// Frames received and their reasons, since the maps were made.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn counters(&self) -> Result<Counters, XdpError> {
        self.maps.counters()
    }

    /// What was forwarded to the real server with this id, since it has it.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn traffic(&self, id: u16) -> Result<Traffic, XdpError> {
        self.maps.traffic(id)
    }
}

impl Drop for DataPlane {
    fn drop(&mut self) {
        if self.provisional {
            // Nothing is left to tell about a failure here: the next start removes these pins.
            let _ = self.settings.pins.remove();
        }
    }
}

/// Takes the program of a cluster off its interface and removes its maps: new connections to the VIPs
/// go nowhere from then on.
///
/// # Errors
/// A running controller, and what the file system says.
pub fn detach(pins: &PinDirectory) -> Result<bool, XdpError> {
    let attached = pins.join(LINK).exists();
    if !pins.path().exists() {
        return Ok(false);
    }
    let lock = pins.lock()?;
    pins.remove()?;
    drop(lock);
    Ok(attached)
}

fn load_object(settings: &Settings) -> Result<Ebpf, XdpError> {
    let log_packets = u32::from(settings.log_packets);
    let mut loader = EbpfLoader::new();
    for map in name::ALL {
        loader.map_pin_path(map, settings.pins.join(map));
    }
    loader
        .override_global("LOG_PACKETS", &log_packets, true)
        .map_max_entries(name::ESTABLISHED, settings.flows)
        .map_max_entries(name::PENDING, settings.pending_flows);
    Ok(loader.load(OBJECT)?)
}

fn check_schema(pins: &PinDirectory) -> Result<(), XdpError> {
    let wrong = |found| XdpError::Schema { path: pins.path().display().to_string(), found };
    let pinned = MapData::from_pin(pins.join(name::DIRECTOR)).map_err(|_| wrong(0))?;
    let map = aya::maps::Map::Array(pinned);
    let director: aya::maps::Array<MapData, Raw<pgha_common::maps::Director>> =
        map.try_into().map_err(|_| wrong(0))?;
    let Raw(director) = director.get(&0, 0).map_err(|_| wrong(0))?;
    if director.schema == SCHEMA { Ok(()) } else { Err(wrong(director.schema)) }
}

/// The four bytes of an address inside an IPv4-mapped one.
fn unmapped(address: [u8; 16]) -> Option<Ipv4Addr> {
    std::net::Ipv6Addr::from(address).to_ipv4_mapped()
}
