//! The XDP program by itself: loaded and planned for, fed with frames by `BPF_PROG_TEST_RUN`. It
//! needs root, and no interface.

mod bpffs;
mod frame;
mod random;

use std::net::{Ipv4Addr, SocketAddrV4};

use aya::maps::{HashMap, IterableMap as _, Map, MapData};
use pgha_common::flow::{Flow, RealRef};
use pgha_common::maps::{FlowKey, Scheduler};
use pgha_ctl::bpf::PinDirectory;
use pgha_ctl::bpf::xdp::{DataPlane, DirectorPlan, Settings};
use pgha_machine::balancer::{RealPlan, ServicePlan, Steering};
use pgha_machine::{Mac, Weight};
use zerocopy::{FromBytes as _, IntoBytes as _};

use anyhow::{Context as _, Result};

pub use bpffs::PrivateBpffs;
pub use frame::{Segment, arp_frame, ethernet, ipv4_frame, ipv4_header};
pub use random::Random;

/// Where clients connect.
pub const VIP: SocketAddrV4 = SocketAddrV4::new(crate::lab::READER_VIP, 5432);
/// MAC address of the director's interface.
pub const DIRECTOR_MAC: [u8; 6] = [2, 0, 10, 77, 0, 21];
/// MAC address of the clients.
pub const CLIENT_MAC: [u8; 6] = [2, 0, 10, 77, 0, 31];

/// What a data plane is loaded with: its pins on `bpffs`, and tables of that many flows.
///
/// # Errors
/// When `bpffs` is none.
pub fn settings(bpffs: &PrivateBpffs, flows: u32, pending_flows: u32) -> Result<Settings> {
    let pins = PinDirectory::new(bpffs.path(), "test")?;
    Ok(Settings { pins, flows, pending_flows, log_packets: false })
}

/// The director of [`DIRECTOR_MAC`]: active, and alone.
#[must_use]
pub fn director() -> DirectorPlan {
    DirectorPlan { mac: mac(DIRECTOR_MAC), active: true, peers: std::collections::BTreeMap::new() }
}

/// The service at [`VIP`].
#[must_use]
pub fn service(scheduler: Scheduler, reals: impl Into<Vec<RealPlan>>) -> ServicePlan {
    ServicePlan { index: 0, vip: *VIP.ip(), port: VIP.port(), scheduler, reals: reals.into() }
}

/// The real server with that id, at 10.78 and the id: in service, of weight 1.
#[must_use]
pub fn real(id: u16) -> RealPlan {
    let [high, low] = id.to_be_bytes();
    RealPlan {
        real: RealRef { id, generation: 0 },
        address: Ipv4Addr::new(10, 78, high, low),
        mac: Mac::new([2, 0, 10, 78, high, low]),
        local: false,
        dead: false,
        weight: Weight::ONE,
        steering: Steering::default(),
    }
}

/// The MAC address of one interface.
///
/// # Panics
/// When `bytes` are the address of none, or of a group.
#[must_use]
pub fn mac(bytes: [u8; 6]) -> Mac {
    Mac::new(bytes).expect("the address of an interface")
}

/// A client by number: no two have the same address and port.
#[must_use]
pub fn client(number: u32) -> SocketAddrV4 {
    let [_, a, b, c] = (number / 32_768).to_be_bytes();
    let port = 32_768 + u16::try_from(number % 32_768).unwrap_or_default();
    SocketAddrV4::new(Ipv4Addr::from([11, a, b, c]), port)
}

/// The key of a client's flow to a service.
#[must_use]
pub fn key(client: SocketAddrV4, vip: SocketAddrV4) -> FlowKey {
    let [a, b] = client.port().to_be_bytes();
    let [c, d] = vip.port().to_be_bytes();
    FlowKey { client: client.ip().octets(), vip: vip.ip().octets(), ports: [a, b, c, d] }
}

/// A flow table of a data plane, read past the program.
#[derive(Debug)]
pub struct FlowTable(HashMap<MapData, [u8; 12], u64>);

impl FlowTable {
    /// Opens the pinned map of that name.
    ///
    /// # Errors
    /// When there is none.
    pub fn open(pins: &PinDirectory, map: &str) -> Result<Self> {
        let pinned = MapData::from_pin(pins.join(map)).with_context(|| format!("pin of {map}"))?;
        Ok(Self(Map::LruHashMap(pinned).try_into()?))
    }

    /// What it holds of a flow; the kernel does not count this as a use of the entry.
    #[must_use]
    pub fn get(&self, key: &FlowKey) -> Option<Flow> {
        let bytes = <[u8; 12]>::try_from(key.as_bytes()).ok()?;
        let word = self.0.get(&bytes, 0).ok()?;
        Flow::read_from_bytes(&word.to_ne_bytes()).ok()
    }

    /// How many flows it holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.keys().filter(Result::is_ok).count()
    }

    /// Whether it holds none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The map.
    #[must_use]
    pub fn map(&self) -> &MapData {
        self.0.map()
    }
}

/// Runs the program once on a frame, on this very CPU.
///
/// # Errors
/// When the kernel refuses to.
pub fn run(data_plane: &mut DataPlane, frame: &[u8], out: &mut [u8]) -> Result<(u32, usize)> {
    use aya::programs::{TestRun as _, TestRunOptions};
    let result = data_plane.program()?.test_run(TestRunOptions {
        data_in: Some(frame),
        data_out: Some(out),
        ..TestRunOptions::default()
    })?;
    Ok((result.return_value, usize::try_from(result.data_size_out)?))
}
