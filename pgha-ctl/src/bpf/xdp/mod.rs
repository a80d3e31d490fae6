//! The XDP balancer in the kernel: loaded with its maps, attached by pinned links, taken over by the
//! next controller without losing a frame.
//!
//! The order is that of a controller's start: [`DataPlane::load`] opens the pinned maps or makes them
//! ([`pins`]), [`DataPlane::inherited`] tells what a former controller left, [`DataPlane::attach`] puts
//! the program on the interfaces or exchanges the ones that are there, [`DataPlane::apply`] makes the
//! maps equal to a plan. Beside that, [`flows`] lists connections, [`explain`] says what would become of
//! one, and [`trace`] shows frames.

mod apply;
mod attach;
mod explain;
mod flows;
mod inherit;
mod look;
mod maps;
mod packet_log;
mod pins;
mod tables;
mod trace;

use std::collections::BTreeSet;
use std::path::PathBuf;

use aya::maps::{MapError, MapInfo};
use aya::programs::links::LinkError;
use aya::programs::{ProgramError, Xdp};
use aya::{Ebpf, EbpfError, EbpfLoader};
use pgha_common::maps::{Counters, SCHEMA, Traffic, constant, name, state};

pub use apply::{Active, DirectorPlan};
pub(crate) use attach::program_name;
pub use attach::{Attached, Mode, Port, Running};
pub use explain::{Choice, Explanation, KnownFlow, Reading};
pub use flows::{AnyFlow, FlowReader, FlowState, Survey};
pub use look::{Pinned, look};
pub use packet_log::PacketLog;
pub use trace::{Frames, Taken, TracedFrame};

use super::{PinDirectory, PinError, PinLock};
use maps::Maps;
use pins::{Found, Pins};
use tables::Built;

pub(super) use pins::is_link;

/// Name of the program in the object.
const ENTRY: &str = "pgha_balancer";

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/balancer"));

/// What the program is loaded with.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where it is pinned.
    pub pins: PinDirectory,
    /// How many interfaces it is for, at least 1.
    pub interfaces: u8,
    /// Sizes of the flow tables.
    pub capacity: FlowCapacity,
    /// Whether every verdict is logged.
    pub log_packets: bool,
}

/// Entries of the flow tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowCapacity {
    /// Established, IPv4.
    pub flows: u32,
    /// Established, IPv6.
    pub flows_ipv6: u32,
    /// Pending, IPv4.
    pub pending_flows: u32,
    /// Pending, IPv6.
    pub pending_flows_ipv6: u32,
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
    /// The pin of the link.
    #[error("the XDP link cannot be pinned: {source}")]
    Pinning {
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
        "{path} holds maps of schema {found}, and this pgha reads schemas 1 to {SCHEMA}; start the pgha \
         that made them, or, to go on with empty flow tables (established connections continue by the \
         Maglev table): pgha detach"
    )]
    Schema {
        /// Where.
        path: String,
        /// The schema of the maps; 0 when not even that can be read.
        found: u32,
    },
    /// The map of interfaces.
    #[error("BPF map INTERFACES: {0}")]
    Interfaces(String),
    /// Frames cannot be handed over.
    #[error("frames cannot be traced: {0}")]
    Trace(String),
    /// A table could not be read as a whole.
    #[error("BPF map {map} cannot be read: {source}")]
    Walk {
        /// Its name.
        map: &'static str,
        /// What.
        source: std::io::Error,
    },
    /// The log of verdicts.
    #[error("the XDP program has no log: {0}")]
    Log(aya_log::Error),
    /// The driver has no XDP of its own, and the other interfaces' programs run in drivers.
    #[error(
        "interface {interface} has no native XDP (its driver does not offer it), and the programs on the \
         other interfaces run natively; pgha detach, then start again: all of them run in generic mode then"
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
    const fn pin(source: aya::pin::PinError) -> Self {
        Self::Pinning { source }
    }

    fn map(map: &'static str) -> impl FnOnce(MapError) -> Self {
        move |source| Self::Map { map, source }
    }
}

/// What is to be removed again when this data plane is dropped before it is attached.
enum Leftover {
    /// Everything pinned: there was nothing before.
    Everything,
    /// The maps that this process pinned, beside those that were there.
    AllBut(Vec<PathBuf>),
}

/// The program and its maps. While it is not attached, dropping it leaves nothing behind.
pub struct DataPlane {
    /// The program, once for each interface, by number.
    programs: Vec<Ebpf>,
    maps: Maps,
    seen: inherit::Seen,
    built: Built,
    /// Id and generation of real servers that ended since somebody asked.
    ended: BTreeSet<(u16, u16)>,
    settings: Settings,
    leftover: Option<Leftover>,
    _lock: PinLock,
}

impl DataPlane {
    /// Loads the program on the maps that are pinned, or on new ones.
    ///
    /// # Errors
    /// Pins of another schema or held by another controller, and what the kernel refuses.
    pub fn load(settings: Settings) -> Result<Self, XdpError> {
        let lock = settings.pins.lock()?;
        let pins = Pins(settings.pins.clone());
        let found = pins.found()?;
        let leftover = match found {
            Found::Nothing => {
                // Maps without a link are what is left of a start that was cut short.
                settings.pins.clear()?;
                Leftover::Everything
            }
            Found::Ours | Found::Older => {
                let inherited = pins.inherited(found);
                // What is left of a start over an older data plane that was cut short.
                pins.remove_but(&inherited)?;
                Leftover::AllBut(inherited)
            }
        };
        Self::load_locked(lock, settings, found, leftover)
    }

    fn load_locked(
        lock: PinLock,
        settings: Settings,
        found: Found,
        leftover: Leftover,
    ) -> Result<Self, XdpError> {
        let pins = Pins(settings.pins.clone());
        let loaded = load_programs(&settings, 0).and_then(|mut programs| {
            let first = programs.first_mut().ok_or(XdpError::Incomplete("program"))?;
            let mut maps = Maps::take(first)?;
            if found != Found::Ours {
                // Before a link can exist: a start cut short after that one is then gone on with.
                maps.write_schema()?;
            }
            if found == Found::Older {
                pins.migrate(&mut maps)?;
            }
            let seen = inherit::Seen::read(&maps)?;
            Ok((programs, maps, seen))
        });
        match loaded {
            Ok((programs, maps, seen)) => {
                // Clients of a server that was found dead or taken out by a controller that ended at that
                // moment may not know.
                let ended = seen.reals.iter().filter(|(_, real)| real.state != state::ALIVE);
                let ended = ended.map(|(id, real)| (*id, real.generation)).collect();
                let built = Built::default();
                let leftover = Some(leftover);
                Ok(Self { programs, maps, seen, built, ended, settings, leftover, _lock: lock })
            }
            Err(error) => {
                leftover.remove(&pins)?;
                Err(error)
            }
        }
    }

    /// How many flows the tables hold: what they were made with, which an inherited table keeps.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn flow_capacity(&self) -> Result<FlowCapacity, XdpError> {
        let entries = |map| {
            MapInfo::from_pin(self.settings_pins().map(map))
                .map(|info| info.max_entries())
                .map_err(XdpError::map(map))
        };
        Ok(FlowCapacity {
            flows: entries(name::ESTABLISHED)?,
            flows_ipv6: entries(name::ESTABLISHED6)?,
            pending_flows: entries(name::PENDING)?,
            pending_flows_ipv6: entries(name::PENDING6)?,
        })
    }

    /// The program of an interface, for test runs.
    ///
    /// # Errors
    /// An object without it.
    pub fn program(&mut self, interface: usize) -> Result<&mut Xdp, XdpError> {
        let ebpf = self.programs.get_mut(interface).ok_or(XdpError::Incomplete("program"))?;
        Ok(ebpf.program_mut(ENTRY).ok_or(XdpError::Incomplete("program"))?.try_into()?)
    }

    fn settings_pins(&self) -> Pins {
        Pins(self.settings.pins.clone())
    }

    /// Whether nothing was pinned before this data plane, and nothing is attached yet.
    const fn is_fresh(&self) -> bool {
        matches!(self.leftover, Some(Leftover::Everything))
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

impl Leftover {
    fn remove(&self, pins: &Pins) -> Result<(), PinError> {
        match self {
            Self::Everything => pins.0.remove(),
            Self::AllBut(kept) => pins.remove_but(kept),
        }
    }
}

impl Drop for DataPlane {
    fn drop(&mut self) {
        if let Some(leftover) = &self.leftover {
            // Nothing is left to tell about a failure here: the next start removes these pins.
            let _ = leftover.remove(&self.settings_pins());
        }
    }
}

/// Takes the programs of a cluster off their interfaces and removes its maps: new connections to the
/// VIPs go nowhere from then on.
///
/// # Errors
/// A running controller, and what the file system says.
pub fn detach(pins: &PinDirectory) -> Result<bool, XdpError> {
    if !pins.path().exists() {
        return Ok(false);
    }
    let lock = pins.lock()?;
    let attached = Pins(pins.clone()).attached();
    pins.remove()?;
    drop(lock);
    Ok(attached)
}

/// Loads the program for each interface, on the maps that are pinned; those that are not are made. One
/// frame in `sample` is traced, none with 0.
fn load_programs(settings: &Settings, sample: u32) -> Result<Vec<Ebpf>, XdpError> {
    (0..settings.interfaces)
        .map(|interface| {
            let mut ebpf = load_object(settings, u32::from(interface), sample)?;
            let program: &mut Xdp =
                ebpf.program_mut(ENTRY).ok_or(XdpError::Incomplete("program"))?.try_into()?;
            program.load()?;
            Ok(ebpf)
        })
        .collect()
}

fn load_object(settings: &Settings, interface: u32, sample: u32) -> Result<Ebpf, XdpError> {
    let log_packets = u32::from(settings.log_packets);
    let pins = Pins(settings.pins.clone());
    let mut loader = EbpfLoader::new();
    for (map, _) in name::PINNED {
        loader.map_pin_path(map, pins.map(map));
    }
    let FlowCapacity { flows, flows_ipv6, pending_flows, pending_flows_ipv6 } = settings.capacity;
    loader
        .override_global(constant::INTERFACE, &interface, true)
        .override_global(constant::LOG_PACKETS, &log_packets, true)
        .override_global(constant::TRACE_SAMPLE, &sample, true)
        .map_max_entries(name::ESTABLISHED, flows)
        .map_max_entries(name::PENDING, pending_flows)
        .map_max_entries(name::ESTABLISHED6, flows_ipv6)
        .map_max_entries(name::PENDING6, pending_flows_ipv6);
    Ok(loader.load(OBJECT)?)
}
