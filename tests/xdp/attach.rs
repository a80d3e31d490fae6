//! On an interface: taken over without losing a frame, never at the cost of somebody else's program,
//! and without a trace where it fails.

mod failures;

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};
use aya::maps::{Array, Map, MapData};
use pgha_common::maps::{Director, SCHEMA, Scheduler, name};
use pgha_common::verdict::Reason;
use pgha_ctl::bpf::xdp::{
    Attached, DataPlane, DirectorPlan, Mode, Port, Settings, XdpError, detach,
};
use pgha_ctl::bpf::{PinDirectory, PinError};
use pgha_machine::Neighbour;
use pgha_machine::balancer::Plan;
use pgha_tests::dataplane::{self, PrivateBpffs, Segment, VIP, client, mac, real, service};
use pgha_tests::lab::maps::pin;
use pgha_tests::lab::plan::{BRIDGE_INTERFACE, INTERFACE};
use pgha_tests::lab::{Host, Lab, SOON, Stub, wait_until};
use zerocopy::{FromBytes as _, IntoBytes as _};

use crate::confined::confined;
use crate::harness::port;

const NEW: Attached = Attached { taken_over: false, mode: Mode::Native };
const TAKEN_OVER: Attached = Attached { taken_over: true, mode: Mode::Native };

/// A lab with a director, and pins for it.
struct Place {
    lab: Lab,
    director: Host,
    pins: PinDirectory,
}

impl Place {
    fn new() -> Result<Self> {
        let lab = Lab::new()?;
        let director = lab.host("lb1")?;
        let pins = PinDirectory::new(lab.bpffs(), "test")?;
        Ok(Self { lab, director, pins })
    }

    fn load(&self) -> Result<DataPlane, XdpError> {
        self.load_for(1)
    }

    fn load_for(&self, interfaces: u8) -> Result<DataPlane, XdpError> {
        load_for(&self.pins, interfaces)
    }

    fn port(&self, name: &str) -> Result<Port> {
        port(&self.director, name)
    }

    fn attach(&self, data_plane: &mut DataPlane, name: &str) -> Result<Attached, XdpError> {
        let port = self.port(name).unwrap();
        self.director.inside(|| Ok(data_plane.attach(&[port]))).unwrap()
    }

    fn apply(&self, data_plane: &mut DataPlane) -> Result<()> {
        let director =
            DirectorPlan { macs: vec![mac(self.director.mac())], ..dataplane::director() };
        let mut server = real(1);
        let host = self.lab.host("db1")?;
        server.address = host.address().into();
        server.neighbour = Some(Neighbour { interface: 0, mac: mac(host.mac()) });
        let plan = Plan { services: vec![service(VIP, Scheduler::Maglev, [server])] };
        Ok(data_plane.apply(&director, &plan)?)
    }

    fn segment(&self, number: u32) -> Segment {
        Segment::new(client(number), VIP).with(|segment| segment.destination = self.director.mac())
    }
}

fn load(pins: &PinDirectory) -> Result<DataPlane, XdpError> {
    load_for(pins, 1)
}

fn load_for(pins: &PinDirectory, interfaces: u8) -> Result<DataPlane, XdpError> {
    DataPlane::load(Settings {
        pins: pins.clone(),
        interfaces,
        capacity: dataplane::capacity(1024, 1024),
        log_packets: false,
    })
}

fn reasons(data_plane: &DataPlane, reason: Reason) -> u64 {
    data_plane.counters().unwrap().reasons[reason as usize]
}

#[test]
fn xdp_a_new_program_takes_over_flows_counters_and_every_frame() -> Result<()> {
    const FRAMES: u64 = 3000;
    let place = Place::new()?;
    place.director.receive_xdp_tx()?;
    let sender = place.lab.host("client")?.frames()?;
    let server = place.lab.host("db1")?.frames()?;

    let mut first = place.load()?;
    assert_eq!(place.attach(&mut first, INTERFACE)?, NEW);
    place.apply(&mut first)?;
    for frame in [place.segment(1).syn(), place.segment(1).ack(5), place.segment(1).ack(6)] {
        sender.send(&frame.frame())?;
        let mut forwarded = [place.lab.host("db1")?.mac(), place.director.mac()].concat();
        forwarded.extend(&frame.frame()[12..]);
        server.receive(SOON, |seen| seen == forwarded)?;
    }
    let (counters, traffic) = (first.counters()?, first.traffic(1)?);
    assert_eq!(reasons(&first, Reason::EstablishedFlow), 1);
    let program = place.port(INTERFACE)?.program;
    drop(first);
    assert_eq!(place.port(INTERFACE)?.program, program, "detached with its controller");

    // Frames all the while, one controller after another.
    let done = AtomicBool::new(false);
    let established = place.segment(1).ack(6).frame();
    let exchanged = thread::scope(|scope| -> Result<u32> {
        let sending = scope.spawn(|| {
            let sent = (0..FRAMES).try_for_each(|_| {
                thread::sleep(Duration::from_micros(100));
                sender.send(&established)
            });
            done.store(true, Ordering::Release);
            sent
        });
        let mut exchanged = 0;
        let mut program = program;
        while !done.load(Ordering::Acquire) || exchanged == 0 {
            let mut next = place.load()?;
            assert_eq!(place.attach(&mut next, INTERFACE)?, TAKEN_OVER);
            let now = place.port(INTERFACE)?.program;
            assert_ne!(now, program);
            (program, exchanged) = (now, exchanged + 1);
        }
        sending.join().unwrap()?;
        Ok(exchanged)
    })?;
    println!("{exchanged} programs under {FRAMES} frames");

    let last = place.load()?;
    wait_until("every frame to be counted", SOON, || {
        Ok(reasons(&last, Reason::EstablishedFlow) > FRAMES)
    })?;
    assert_eq!(reasons(&last, Reason::EstablishedFlow), 1 + FRAMES);
    // The hosts have frames of their own to send, as group reports.
    let now = last.counters()?;
    assert!(now.received >= counters.received + FRAMES);
    assert_eq!(last.traffic(1)?.packets, traffic.packets + FRAMES);
    let inherited = last.inherited();
    assert_eq!(inherited.services, [(0, VIP.ip(), VIP.port())]);
    assert_eq!(inherited.reals.len(), 1);
    assert!(inherited.reals[0].in_service && !inherited.reals[0].dead);
    assert_eq!(last.flow_capacity()?, dataplane::capacity(1024, 1024));
    drop(last);

    assert!(detach(&place.pins)?);
    assert!(!place.pins.path().exists());
    // The kernel lets go of a link in a work queue.
    wait_until("the program to be gone", SOON, || Ok(place.port(INTERFACE)?.program.is_none()))?;
    assert!(!detach(&place.pins)?);
    Ok(())
}

#[test]
fn xdp_a_start_cut_short_is_gone_on_with() -> Result<()> {
    let place = Place::new()?;
    // Before it was attached: whatever pin that left is not used.
    let first = place.load()?;
    let left = MapData::from_pin(place.pins.join(&pin(name::COUNTERS)))?;
    drop(first);
    std::fs::create_dir(place.pins.path())?;
    left.pin(place.pins.join(name::REALS))?;
    assert!(!place.pins.join("link").exists());
    // After it was attached and before it wrote a map.
    let mut second = place.load()?;
    assert_eq!(place.attach(&mut second, INTERFACE)?, NEW);
    drop(second);
    let mut third = place.load()?;
    assert_eq!(place.attach(&mut third, INTERFACE)?, TAKEN_OVER);
    Ok(())
}

#[test]
fn xdp_an_interface_that_was_made_anew_is_attached_with_the_maps_that_are_there() -> Result<()> {
    let place = Place::new()?;
    let spare = ["ip", "link", "add", "spare", "type", "veth", "peer", "spare2"];
    place.director.run(spare)?;
    let mut first = place.load()?;
    place.attach(&mut first, "spare")?;
    place.apply(&mut first)?;
    drop(first);
    place.director.run(["ip", "link", "del", "spare"])?;
    place.director.run(spare)?;
    // The link is still pinned, and has no interface.
    let mut second = place.load()?;
    assert_eq!(place.attach(&mut second, "spare")?, NEW);
    assert_eq!(second.inherited().reals.len(), 1);
    assert!(place.port("spare")?.program.is_some());
    Ok(())
}

#[test]
fn xdp_a_data_plane_that_runs_elsewhere_is_not_moved() -> Result<()> {
    let place = Place::new()?;
    let mut first = place.load()?;
    place.attach(&mut first, INTERFACE)?;
    place.apply(&mut first)?;
    drop(first);
    let running = place.port(INTERFACE)?.program;
    place.director.run(["ip", "link", "add", "spare", "type", "veth", "peer", "spare2"])?;
    let mut second = place.load()?;
    let refused = place.attach(&mut second, "spare").unwrap_err();
    let XdpError::Elsewhere { interface, running: on } = &refused else { panic!("{refused}") };
    assert_eq!((interface.as_str(), on.as_str()), ("spare", INTERFACE));
    drop(second);
    assert_eq!(place.port(INTERFACE)?.program, running);
    assert_eq!(place.port("spare")?.program, None);
    assert_eq!(place.load()?.inherited().reals.len(), 1);
    Ok(())
}

#[test]
fn xdp_a_foreign_program_is_never_replaced() -> Result<()> {
    let place = Place::new()?;
    place.director.attach_stub(Stub::Drop)?;
    let foreign = place.port(INTERFACE)?.program.context("the stub")?;
    let mut data_plane = place.load()?;
    let refused = place.attach(&mut data_plane, INTERFACE).unwrap_err();
    let XdpError::Foreign { interface, id, name } = &refused else { panic!("{refused}") };
    assert_eq!((interface.as_str(), *id, name.as_str()), (INTERFACE, foreign.id, "xdp_drop"));
    // A controller may not ask for its name.
    let port = place.port(INTERFACE)?;
    let refused = confined(|| data_plane.judge(&[port])).unwrap_err();
    let XdpError::Foreign { id, name, .. } = &refused else { panic!("{refused}") };
    let named = format!("named by bpftool prog show id {id}");
    assert_eq!((*id, name), (foreign.id, &named));
    drop(data_plane);
    assert!(!place.pins.path().exists());
    assert_eq!(place.port(INTERFACE)?.program, Some(foreign));
    Ok(())
}

/// The same frames, behind the driver: a bridge has no XDP of its own.
#[test]
fn xdp_an_interface_without_native_xdp_gets_the_program_in_generic_mode() -> Result<()> {
    let place = Place::new()?;
    place.director.bridge()?;
    let sender = place.lab.host("client")?.frames()?;
    let server = place.lab.host("db1")?.frames()?;
    let mut data_plane = place.load()?;
    let attached = place.attach(&mut data_plane, BRIDGE_INTERFACE)?;
    assert_eq!(attached, Attached { taken_over: false, mode: Mode::Generic });
    place.apply(&mut data_plane)?;
    for frame in [place.segment(1).syn(), place.segment(1).ack(5), place.segment(1).ack(6)] {
        let frame = frame.frame();
        sender.send(&frame)?;
        let mut forwarded = [place.lab.host("db1")?.mac(), place.director.mac()].concat();
        forwarded.extend(&frame[12..]);
        server.receive(SOON, |seen| seen == forwarded)?;
    }
    assert_eq!(reasons(&data_plane, Reason::EstablishedFlow), 1);
    drop(data_plane);
    // The next controller goes on in the same mode.
    let mut next = place.load()?;
    let attached = place.attach(&mut next, BRIDGE_INTERFACE)?;
    assert_eq!(attached, Attached { taken_over: true, mode: Mode::Generic });
    Ok(())
}

#[test]
fn xdp_pins_have_one_holder() -> Result<()> {
    let bpffs = PrivateBpffs::mount()?;
    let pins = PinDirectory::new(bpffs.path(), "test")?;
    let data_plane = load(&pins)?;
    let locked = |refused: &XdpError| matches!(refused, XdpError::Pin(PinError::Locked(_)));
    assert!(load(&pins).is_err_and(|refused| locked(&refused)));
    assert!(detach(&pins).is_err_and(|refused| locked(&refused)));
    assert!(pins.join(name::REALS).exists());
    // Another cluster on the same node.
    load(&PinDirectory::new(bpffs.path(), "other")?)?;
    drop(data_plane);
    assert!(!pins.path().exists());
    load(&pins)?;
    Ok(())
}

#[test]
fn xdp_only_a_bpffs_takes_pins() {
    let refused = PinDirectory::new(std::path::Path::new("/tmp"), "test").unwrap_err();
    assert!(matches!(refused, PinError::NotBpffs(_)));
}

#[test]
fn xdp_maps_of_another_schema_are_not_touched() -> Result<()> {
    let place = Place::new()?;
    let mut first = place.load()?;
    place.attach(&mut first, INTERFACE)?;
    place.apply(&mut first)?;
    drop(first);
    let program = place.port(INTERFACE)?.program;
    let pinned = Map::Array(MapData::from_pin(place.pins.join(&pin(name::DIRECTOR)))?);
    let mut map: Array<_, [u8; size_of::<Director>()]> = pinned.try_into()?;
    let mut director = Director::read_from_bytes(&map.get(&0, 0)?).unwrap();
    director.schema = SCHEMA + 1;
    map.set(0, <[u8; size_of::<Director>()]>::try_from(director.as_bytes())?, 0)?;
    let refused = place.load().err().context("an error")?;
    assert!(matches!(refused, XdpError::Schema { found, .. } if found == SCHEMA + 1), "{refused}");
    assert_eq!(place.port(INTERFACE)?.program, program);
    assert!(detach(&place.pins)?);
    place.load()?;
    Ok(())
}
