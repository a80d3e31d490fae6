//! The XDP program by itself: loaded and planned for, fed with frames by `BPF_PROG_TEST_RUN`. It
//! needs root, and no interface.

mod bpffs;
mod family;
mod flows;
pub mod former;
pub mod frame;
mod random;

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};

use anyhow::Result;
use pgha_common::flow::RealRef;
use pgha_common::maps::Scheduler;
use pgha_ctl::bpf::PinDirectory;
use pgha_ctl::bpf::xdp::{Active, DataPlane, DirectorPlan, FlowCapacity, Settings};
use pgha_machine::balancer::{RealPlan, ServicePlan, Steering};
use pgha_machine::{EffectiveWeight, Mac, Neighbour};

pub use bpffs::PrivateBpffs;
pub use family::{FAMILIES, Family, VIP, VIP6, client, client6};
pub use flows::{FlowTable, Key};
pub use frame::{Icmp, Segment, arp_frame, assert_checksums, ethernet, tagged};
pub use random::Random;

/// MAC address of the director's interface.
pub const DIRECTOR_MAC: [u8; 6] = [2, 0, 10, 77, 0, 21];
/// MAC address of the clients.
pub const CLIENT_MAC: [u8; 6] = [2, 0, 10, 77, 0, 31];

/// What a data plane is loaded with: its pins on `bpffs`, and tables of that many flows for each
/// family.
///
/// # Errors
/// When `bpffs` is none.
pub fn settings(bpffs: &PrivateBpffs, flows: u32, pending_flows: u32) -> Result<Settings> {
    let pins = PinDirectory::new(bpffs.path(), "test")?;
    Ok(Settings {
        pins,
        interfaces: 1,
        capacity: capacity(flows, pending_flows),
        log_packets: false,
    })
}

/// Tables of that many flows for each family.
#[must_use]
pub const fn capacity(flows: u32, pending_flows: u32) -> FlowCapacity {
    FlowCapacity { flows, flows_ipv6: flows, pending_flows, pending_flows_ipv6: pending_flows }
}

/// The director of [`DIRECTOR_MAC`]: active, and alone. It leaves tagged frames to the kernel.
#[must_use]
pub fn director() -> DirectorPlan {
    DirectorPlan {
        macs: vec![mac(DIRECTOR_MAC)],
        active: Active::ForGood,
        forward_tagged: false,
        peers: BTreeSet::new(),
    }
}

/// The service at `vip`, number 0, open to everybody.
#[must_use]
pub fn service(
    vip: SocketAddr,
    scheduler: Scheduler,
    reals: impl Into<Vec<RealPlan>>,
) -> ServicePlan {
    ServicePlan {
        index: 0,
        vip: vip.ip(),
        port: vip.port(),
        scheduler,
        allowed_clients: Vec::new(),
        syn_limit: None,
        reals: reals.into(),
    }
}

/// The real server with that id, at 10.78 and the id, behind the first interface: in service, of
/// weight 1.
#[must_use]
pub fn real(id: u16) -> RealPlan {
    let [high, low] = id.to_be_bytes();
    let mac = mac([2, 0, 10, 78, high, low]);
    RealPlan {
        real: RealRef { id, generation: 0 },
        address: Ipv4Addr::new(10, 78, high, low).into(),
        neighbour: Some(Neighbour { interface: 0, mac }),
        local: false,
        dead: false,
        weight: EffectiveWeight::ONE,
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

/// Runs the program once on a frame, on this very CPU.
///
/// # Errors
/// When the kernel refuses to.
pub fn run(data_plane: &mut DataPlane, frame: &[u8], out: &mut [u8]) -> Result<(u32, usize)> {
    use aya::programs::{TestRun as _, TestRunOptions};
    let result = data_plane.program(0)?.test_run(TestRunOptions {
        data_in: Some(frame),
        data_out: Some(out),
        ..TestRunOptions::default()
    })?;
    Ok((result.return_value, usize::try_from(result.data_size_out)?))
}
