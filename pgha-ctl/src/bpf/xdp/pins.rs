//! What is pinned under which name, and going on with what an older pgha pinned.
//!
//! A map's pin says the layout of its values: `REALS` is layout 1, `DIRECTOR-2` layout 2. A newer pgha
//! goes on with the maps whose layout it shares, flows among them, makes the others anew beside the old
//! ones, and has the link exchange the programs. Until that moment the old program runs on the old maps,
//! and a start that fails removes what it made.

use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use aya::maps::{Array, HashMap, Map, MapData, MapError, MapInfo};
use aya::programs::Xdp;
use aya::programs::links::{FdLink, PinnedLink};
use aya_obj::programs::XdpAttachType;
use pgha_common::family::Address as _;
use pgha_common::maps::{
    ACTIVE_FOR_GOOD, Director, MAX_INTERFACES, OLDEST_SCHEMA, PeerKey, SCHEMA, Scheduler, Service,
    ServiceKey, name,
};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::super::{PinDirectory, PinError, syscall, unpin};
use super::XdpError;
use super::maps::{Maps, Raw};

/// Name of the pinned link of the first interface; those of others end in their number.
const LINK: &str = "link";
/// Name of its pinned program, likewise.
const PROGRAM: &str = "program";

/// Whether a pin of that name is a link.
#[must_use]
pub(in crate::bpf) fn is_link(pin: &str) -> bool {
    pin == LINK || pin.strip_prefix(LINK).is_some_and(|rest| rest.starts_with('-'))
}

/// What a data plane of this cluster has pinned already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// Nothing that runs.
    Nothing,
    /// A data plane of this schema.
    Ours,
    /// A data plane of an older schema, to be gone on with.
    Older,
}

/// The pins of the XDP program.
#[derive(Clone, Debug)]
pub(super) struct Pins(pub(super) PinDirectory);

impl Pins {
    /// Where the link of an interface is pinned.
    pub(super) fn link(&self, interface: usize) -> PathBuf {
        self.numbered(LINK, interface)
    }

    /// Where the program of an interface is pinned.
    pub(super) fn program(&self, interface: usize) -> PathBuf {
        self.numbered(PROGRAM, interface)
    }

    /// Where a map of this schema is pinned.
    pub(super) fn map(&self, map: &str) -> PathBuf {
        let layout = name::PINNED.iter().find(|(known, _)| *known == map).map_or(1, |(_, l)| *l);
        self.0.join(&map_pin(map, layout))
    }

    fn numbered(&self, what: &str, interface: usize) -> PathBuf {
        match interface {
            0 => self.0.join(what),
            number => self.0.join(&format!("{what}-{number}")),
        }
    }

    /// Whether a program of this cluster is attached anywhere.
    pub(super) fn attached(&self) -> bool {
        (0..MAX_INTERFACES as usize).any(|interface| self.link(interface).exists())
    }

    /// What there is to go on with.
    ///
    /// # Errors
    /// Maps of a schema that this pgha cannot read.
    pub(super) fn found(&self) -> Result<Found, XdpError> {
        if !self.attached() {
            return Ok(Found::Nothing);
        }
        let refused = |found| XdpError::Schema { path: self.0.path().display().to_string(), found };
        if let Some(newer) = self.newer() {
            return Err(refused(newer));
        }
        let director = self.map(name::DIRECTOR);
        let former = self.0.join(&map_pin(name::DIRECTOR, 1));
        // Both are there when a start over the older one was cut short: it counts whose program runs.
        if director.exists() && (!former.exists() || self.runs_on(&director)) {
            let schema = schema_of::<Director>(director).ok_or_else(|| refused(0))?;
            return if schema == SCHEMA { Ok(Found::Ours) } else { Err(refused(schema)) };
        }
        match schema_of::<former::Director>(former) {
            Some(schema) if (OLDEST_SCHEMA..SCHEMA).contains(&schema) => Ok(Found::Older),
            schema => Err(refused(schema.unwrap_or(0))),
        }
    }

    /// Whether the program that is attached uses the map pinned there; also when that cannot be known: only
    /// a start that ended right after it had exchanged the programs leaves a pin of another one.
    fn runs_on(&self, map: &Path) -> bool {
        let used = || {
            let link = FdLink::from(PinnedLink::from_pin(self.link(0)).ok()?);
            let program = self.running_program(0, &link)?;
            let used = syscall::map_ids(program.fd().ok()?.as_fd()).ok()?;
            Some(used.contains(&MapInfo::from_pin(map).ok()?.id()))
        };
        used().unwrap_or(true)
    }

    /// The program that runs through a link, by its pin: opening it by its id takes CAP_SYS_ADMIN.
    pub(super) fn running_program(&self, interface: usize, link: &FdLink) -> Option<Xdp> {
        let running = link.info().ok()?.program_id();
        let program = Xdp::from_pin(self.program(interface), XdpAttachType::Interface).ok()?;
        (program.info().ok()?.id() == running).then_some(program)
    }

    /// A layout that a pgha after this one has pinned.
    fn newer(&self) -> Option<u32> {
        let layout = |(map, ours): &(&str, u32)| {
            (ours + 1..ours + 8).rev().find(|later| self.0.join(&map_pin(map, *later)).exists())
        };
        name::PINNED.iter().filter_map(layout).max()
    }

    /// The pins of maps that are gone on with as they are.
    pub(super) fn inherited(&self, found: Found) -> Vec<PathBuf> {
        let kept = |map: &str| match found {
            Found::Nothing => false,
            Found::Ours => true,
            Found::Older => former::KEPT.contains(&map),
        };
        let paths = name::PINNED.iter().filter(|(map, _)| kept(map)).map(|(map, _)| self.map(map));
        paths.filter(|path| path.exists()).collect()
    }

    /// Removes the pins of maps that are not in `kept`.
    pub(super) fn remove_but(&self, kept: &[PathBuf]) -> Result<(), PinError> {
        let made = name::PINNED.iter().map(|(map, _)| self.map(map));
        made.filter(|path| !kept.contains(path)).try_for_each(|path| unpin(&path))
    }

    /// Removes the maps of older layouts, which no program uses any more.
    pub(super) fn remove_older(&self) -> Result<(), PinError> {
        for (map, layout) in name::PINNED {
            for older in 1..*layout {
                unpin(&self.0.join(&map_pin(map, older)))?;
            }
        }
        Ok(())
    }

    /// Takes the programs off interfaces that the configuration does not name any more.
    pub(super) fn remove_links_from(&self, interfaces: usize) -> Result<(), PinError> {
        for number in interfaces..MAX_INTERFACES as usize {
            unpin(&self.link(number))?;
            unpin(&self.program(number))?;
        }
        Ok(())
    }

    /// Writes into the new maps what the old ones say and the next controller has to know: the services,
    /// so that their numbers and tables stay theirs, the other directors, whose frames are not balanced
    /// again while they are looked for anew, and whether this one answers for the VIPs.
    pub(super) fn migrate(&self, maps: &mut Maps) -> Result<(), XdpError> {
        self.migrate_services(maps)
            .and_then(|()| self.migrate_peers(maps))
            .and_then(|()| self.migrate_role(maps))
    }

    fn migrate_services(&self, maps: &mut Maps) -> Result<(), XdpError> {
        let failed = || XdpError::map(name::SERVICES);
        let old: HashMap<MapData, Raw<former::ServiceKey>, Raw<former::Service>> =
            self.former(name::SERVICES, Map::HashMap)?;
        for entry in &old {
            let (Raw(key), Raw(service)) = entry.map_err(failed())?;
            let key = ServiceKey::new(key.vip, key.port);
            maps.services.insert(Raw(key), Raw(service.now()), 0).map_err(failed())?;
        }
        Ok(())
    }

    fn migrate_peers(&self, maps: &mut Maps) -> Result<(), XdpError> {
        let failed = || XdpError::map(name::PEERS);
        let old: HashMap<MapData, [u8; 6], [u8; 4]> = self.former(name::PEERS, Map::HashMap)?;
        for entry in &old {
            let (mac, address) = entry.map_err(failed())?;
            for peer in [PeerKey::director(mac), PeerKey::address(mac, address.mapped())] {
                maps.peers.insert(Raw(peer), 1, 0).map_err(failed())?;
            }
        }
        Ok(())
    }

    fn migrate_role(&self, maps: &mut Maps) -> Result<(), XdpError> {
        let failed = || XdpError::map(name::DIRECTOR);
        let old: Array<MapData, Raw<former::Director>> = self.former(name::DIRECTOR, Map::Array)?;
        let Raw(old) = old.get(&0, 0).map_err(failed())?;
        let active_until = if old.active == 0 { 0 } else { ACTIVE_FOR_GOOD };
        let director = Director { schema: SCHEMA, active_until, ..Director::default() };
        (0..MAX_INTERFACES)
            .try_for_each(|interface| maps.director.set(interface, Raw(director), 0))
            .map_err(failed())
    }

    /// A map of schema 1.
    fn former<T>(&self, map: &'static str, kind: fn(MapData) -> Map) -> Result<T, XdpError>
    where
        T: TryFrom<Map, Error = MapError>,
    {
        MapData::from_pin(self.0.join(&map_pin(map, 1)))
            .and_then(|pinned| kind(pinned).try_into())
            .map_err(XdpError::map(map))
    }
}

/// The name under which a map with that layout is pinned. A BPF file system takes no dots.
fn map_pin(map: &str, layout: u32) -> String {
    if layout == 1 { map.to_owned() } else { format!("{map}-{layout}") }
}

/// The schema that the first entry of a pinned `DIRECTOR` names; `None` for what is no such map.
fn schema_of<D: HasSchema>(path: PathBuf) -> Option<u32> {
    let pinned = MapData::from_pin(path).ok()?;
    let director: Array<MapData, Raw<D>> = Map::Array(pinned).try_into().ok()?;
    let read: Result<Raw<D>, MapError> = director.get(&0, 0);
    read.ok().map(|Raw(director)| director.schema())
}

/// A layout of `DIRECTOR`.
trait HasSchema: FromBytes + IntoBytes + Immutable + Copy + 'static {
    fn schema(&self) -> u32;
}

impl HasSchema for Director {
    fn schema(&self) -> u32 {
        self.schema
    }
}

impl HasSchema for former::Director {
    fn schema(&self) -> u32 {
        self.schema
    }
}

/// Layouts of schema 1, as far as they are read.
mod former {
    use super::{FromBytes, Immutable, IntoBytes, Scheduler, name};

    /// The maps that are the same today.
    pub(super) const KEPT: &[&str] = &[
        name::TABLES,
        name::CURSORS,
        name::REALS,
        name::TRAFFIC,
        name::PENDING,
        name::ESTABLISHED,
    ];

    #[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
    #[repr(C)]
    pub(super) struct Director {
        vip_filter: [u64; 4],
        pub(super) schema: u32,
        mac: [u8; 6],
        pub(super) active: u8,
        has_peers: u8,
        reserved: [u8; 4],
    }

    #[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
    #[repr(C)]
    pub(super) struct ServiceKey {
        pub(super) vip: [u8; 4],
        pub(super) port: [u8; 2],
        reserved: [u8; 2],
    }

    #[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
    #[repr(C)]
    pub(super) struct Service {
        index: u16,
        scheduler: u16,
        bank: u32,
    }

    impl Service {
        /// The same service in the layout of today.
        pub(super) fn now(self) -> super::Service {
            let scheduler =
                if self.scheduler == 1 { Scheduler::RoundRobin } else { Scheduler::Maglev };
            super::Service {
                index: self.index,
                scheduler: scheduler as u8,
                flags: 0,
                bank: self.bank,
                syn_interval: 0,
                syn_tolerance: 0,
            }
        }
    }
}
