//! Whole tables, read in batches.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};

use anyhow::Result;
use pgha_ctl::bpf::PinDirectory;
use pgha_ctl::bpf::xdp::{DataPlane, FlowState, Settings};
use pgha_tests::dataplane::{self, Family, FlowTable, PrivateBpffs, VIP};
use zerocopy::IntoBytes as _;

const FLOWS: u32 = 130_000;
/// Twice as many, so that nothing is evicted.
const ROOM: u32 = 1 << 18;

#[test]
fn xdp_a_table_of_more_than_100_000_flows_is_read_whole() -> Result<()> {
    let bpffs = PrivateBpffs::mount()?;
    let pins = PinDirectory::new(bpffs.path(), "test")?;
    let data_plane = DataPlane::load(Settings {
        pins: pins.clone(),
        interfaces: 1,
        capacity: dataplane::capacity(ROOM, 1024),
        log_packets: false,
    })?;
    let reader = data_plane.flow_reader()?;
    reader.walk(|flow| panic!("{flow:?} in empty tables"))?;

    let FlowTable::V4(mut table) = FlowTable::established(&pins, Family::Ipv4)? else {
        panic!("a table of IPv6");
    };
    let client = |number: u32| SocketAddr::new(Ipv4Addr::from(0x0a00_0000 + number).into(), 40_000);
    for number in 0..FLOWS {
        let dataplane::Key::V4(key) = dataplane::Key::new(client(number), VIP) else {
            panic!("a key of IPv6");
        };
        table.insert(<[u8; 12]>::try_from(key.as_bytes())?, u64::from(number), 0)?;
    }
    let mut seen: HashMap<SocketAddr, u32> = HashMap::new();
    reader.walk(|flow| {
        assert_eq!((flow.state, flow.vip()), (FlowState::Established, VIP));
        *seen.entry(flow.client()).or_default() += 1;
    })?;
    assert_eq!(seen.len(), FLOWS as usize);
    assert!((0..FLOWS).all(|number| seen[&client(number)] == 1));
    Ok(())
}
