//! A data plane of an older pgha is gone on with, one of a newer pgha is left alone: by whoever has the
//! capabilities of a controller, and no others.

use std::fs;
use std::net::IpAddr;

use anyhow::{Context as _, Result};
use aya::maps::{HashMap, Map, MapData};
use aya::programs::links::{FdLink, PinnedLink};
use pgha_common::maps::{SCHEMA, Scheduler, ServiceKey, name};
use pgha_common::verdict::Reason;
use pgha_ctl::bpf::PinDirectory;
use pgha_ctl::bpf::xdp::{
    Attached, DataPlane, DirectorPlan, Mode, Port, Running, Settings, XdpError, detach,
};
use pgha_machine::balancer::{Plan, ServicePlan};
use pgha_tests::dataplane::former::{self, pinned};
use pgha_tests::dataplane::{self, Family, FlowTable, Segment, VIP, client, mac, real, service};
use pgha_tests::lab::maps::pin;
use pgha_tests::lab::plan::INTERFACE;
use pgha_tests::lab::{Host, Lab, SOON, Stub, wait_until};
use zerocopy::{FromBytes as _, IntoBytes as _};

use crate::confined::confined;
use crate::harness::port;

const ARRAY: u32 = 2;
const FLOWS: u32 = 20;
/// Their numbers are not those that they would get.
const NUMBERS: [u16; 2] = [7, 3];
/// Another director that schema 1 knew.
const PEER: former::Peer = ([2, 0, 10, 77, 0, 22], [10, 77, 0, 22]);
const TAKEN_OVER: Attached = Attached { taken_over: true, mode: Mode::Native };

/// A director on which a data plane of schema 1 is attached: its program is a stub, its maps are real.
struct Place {
    lab: Lab,
    director: Host,
    pins: PinDirectory,
    /// What its real servers are to be.
    plan: Plan,
    /// The servers of its flows, by number of the client.
    servers: Vec<[u8; 6]>,
}

impl Place {
    fn new() -> Result<Self> {
        let lab = Lab::new()?;
        let director = lab.host("lb1")?;
        let pins = PinDirectory::new(lab.bpffs(), "test")?;
        let mut place = Self { lab, director, pins, plan: plan(), servers: Vec::new() };
        let mut data_plane = place.load()?;
        place.apply(&mut data_plane)?;
        for number in 0..FLOWS {
            for segment in opening(number) {
                place.run(&mut data_plane, &segment)?;
            }
            place.servers.push(place.run(&mut data_plane, &last(number))?);
        }
        assert_eq!(established(&data_plane), u64::from(2 * FLOWS));
        place.attach(&mut data_plane, INTERFACE)?;
        drop(data_plane);
        place.age()?;
        Ok(place)
    }

    /// Makes schema 1 of it.
    fn age(&self) -> Result<()> {
        let pins = self.pins.path();
        let banks = self.banks()?;
        for left in pinned(pins)? {
            if !former::KEPT.contains(&left.as_str()) {
                fs::remove_file(pins.join(left))?;
            }
        }
        let services: Vec<_> =
            self.plan.services.iter().zip(banks).map(|(plan, bank)| old(plan, bank)).collect();
        former::make(pins, &services, &[PEER])?;
        former::age_reals(pins)?;
        wait_until("the interface to be bare", SOON, || {
            Ok(self.port(INTERFACE)?.program.is_none())
        })?;
        self.director.attach_stub(Stub::Pass)?;
        fs::rename(self.lab.bpffs().join("lb1-eth0"), pins.join("link"))?;
        former::pin_program(self.running()?.1, &pins.join("program"))
    }

    /// The bank in use of each service.
    fn banks(&self) -> Result<Vec<u32>> {
        type Entries = HashMap<MapData, [u8; 20], [u8; 24]>;
        let map = MapData::from_pin(self.pins.join(&pin(name::SERVICES)))?;
        let map: Entries = Map::HashMap(map).try_into()?;
        let bank = |plan: &ServicePlan| -> Result<u32> {
            let IpAddr::V4(vip) = plan.vip else { panic!("{}", plan.vip) };
            let key = ServiceKey::new(vip.octets(), plan.port.to_be_bytes());
            let value = map.get(&<[u8; 20]>::try_from(key.as_bytes())?, 0)?;
            Ok(pgha_common::maps::Service::read_from_bytes(&value).unwrap().bank)
        };
        self.plan.services.iter().map(bank).collect()
    }

    fn load(&self) -> Result<DataPlane, XdpError> {
        self.load_for(1)
    }

    fn load_for(&self, interfaces: u8) -> Result<DataPlane, XdpError> {
        load(&self.pins, interfaces)
    }

    fn port(&self, name: &str) -> Result<Port> {
        port(&self.director, name)
    }

    fn apply(&self, data_plane: &mut DataPlane) -> Result<()> {
        let director =
            DirectorPlan { macs: vec![mac(self.director.mac())], ..dataplane::director() };
        Ok(data_plane.apply(&director, &self.plan)?)
    }

    fn attach(&self, data_plane: &mut DataPlane, name: &str) -> Result<Attached> {
        let port = self.port(name)?;
        self.attach_all(data_plane, &[port])
    }

    fn attach_all(&self, data_plane: &mut DataPlane, ports: &[Port]) -> Result<Attached> {
        self.director.inside(|| confined(|| Ok(data_plane.attach(ports)?)))
    }

    /// A link of a second interface that is gone, and the interface as it seemed before.
    fn second_link(&self) -> Result<Port> {
        let spare = ["ip", "link", "add", "spare", "type", "veth", "peer", "spare2"];
        self.director.run(spare)?;
        let other = PinDirectory::new(self.lab.bpffs(), "other")?;
        let mut data_plane = load(&other, 1)?;
        self.attach(&mut data_plane, "spare")?;
        drop(data_plane);
        let program = self.port("spare")?.program;
        for moved in ["link", "program"] {
            fs::rename(other.join(moved), self.pins.join(&format!("{moved}-1")))?;
        }
        other.remove()?;
        self.director.run(["ip", "link", "del", "spare"])?;
        self.director.run(spare)?;
        Ok(Port { program, ..self.port("spare")? })
    }

    /// The MAC address that a segment is sent to.
    fn run(&self, data_plane: &mut DataPlane, segment: &Segment) -> Result<[u8; 6]> {
        let mut out = vec![0; 4096];
        let segment = segment.clone().with(|segment| segment.destination = self.director.mac());
        dataplane::run(data_plane, &segment.frame(), &mut out)?;
        Ok(out[..6].try_into()?)
    }

    /// The link and its program.
    fn running(&self) -> Result<(u32, u32)> {
        let info = FdLink::from(PinnedLink::from_pin(self.pins.join("link"))?).info()?;
        Ok((info.id(), info.program_id()))
    }

    /// All that a start that fails must leave as it is.
    fn state(&self) -> Result<(Vec<String>, (u32, u32), usize)> {
        let flows = FlowTable::established(&self.pins, Family::Ipv4)?.len();
        Ok((pinned(self.pins.path())?, self.running()?, flows))
    }

    /// Goes on with the data plane, and asserts that its services and flows are there.
    fn go_on(&self) -> Result<()> {
        let (link, program) = self.running()?;
        let mut data_plane = self.load()?;
        let mut services = data_plane.inherited().services;
        services.sort_unstable();
        let number = |plan: &ServicePlan| (plan.index, plan.vip, plan.port);
        let mut expected: Vec<_> = self.plan.services.iter().map(number).collect();
        expected.sort_unstable();
        assert_eq!(services, expected);
        assert!(data_plane.inherited().reals.iter().all(|real| real.in_service && !real.dead));
        assert_eq!(data_plane.inherited().reals.len(), 6);
        self.apply(&mut data_plane)?;
        assert_eq!(self.attach(&mut data_plane, INTERFACE)?, TAKEN_OVER);
        let (now, exchanged) = self.running()?;
        assert_eq!(now, link);
        assert_ne!(exchanged, program);
        assert_eq!(self.port(INTERFACE)?.program.context("a program")?.id, exchanged);

        let before = established(&data_plane);
        for (number, server) in (0..).zip(&self.servers) {
            assert_eq!(self.run(&mut data_plane, &last(number))?, *server);
        }
        assert_eq!(established(&data_plane), before + u64::from(FLOWS));
        drop(data_plane);
        self.is_of_today()
    }

    /// Asserts that all maps are pinned, those of today and no others.
    fn is_of_today(&self) -> Result<()> {
        let maps = name::PINNED.iter().map(|(map, _)| pin(map));
        let mut expected: Vec<_> = maps.chain(["link", "program"].map(str::to_owned)).collect();
        expected.sort();
        assert_eq!(pinned(self.pins.path())?, expected);
        for replaced in former::REPLACED {
            assert!(!expected.contains(&replaced.to_owned()));
        }
        Ok(())
    }
}

fn load(pins: &PinDirectory, interfaces: u8) -> Result<DataPlane, XdpError> {
    let settings = Settings {
        pins: pins.clone(),
        interfaces,
        capacity: dataplane::capacity(1024, 1024),
        log_packets: false,
    };
    confined(|| DataPlane::load(settings))
}

/// A service of each scheduler that there was, with three servers each.
fn plan() -> Plan {
    let ids = [[1, 2, 3], [11, 12, 13]];
    let schedulers = [Scheduler::Maglev, Scheduler::RoundRobin];
    let services = (0..).zip(ids).zip(schedulers).zip(NUMBERS);
    let service = |(((offset, ids), scheduler), index): (((u16, [u16; 3]), _), _)| {
        let vip = (VIP.ip(), VIP.port() + offset).into();
        ServicePlan { index, ..service(vip, scheduler, ids.map(real)) }
    };
    Plan { services: services.map(service).collect() }
}

/// A service of the plan as schema 1 had it.
fn old(plan: &ServicePlan, bank: u32) -> former::Service {
    let IpAddr::V4(vip) = plan.vip else { panic!("{}", plan.vip) };
    former::Service {
        vip: vip.octets(),
        port: plan.port,
        index: plan.index,
        rotates: plan.scheduler == Scheduler::RoundRobin,
        bank,
    }
}

/// What makes a flow of the service by round robin established, for no look-up table names its server.
fn opening(number: u32) -> [Segment; 3] {
    [segment(number).syn(), segment(number).ack(2001), segment(number).ack(2100)]
}

fn last(number: u32) -> Segment {
    segment(number).ack(2200)
}

fn segment(number: u32) -> Segment {
    Segment::new(client(number), (VIP.ip(), VIP.port() + 1).into())
}

fn established(data_plane: &DataPlane) -> u64 {
    data_plane.counters().unwrap().reasons[Reason::EstablishedFlow as usize]
}

#[test]
fn xdp_a_data_plane_of_schema_1_is_gone_on_with() -> Result<()> {
    Place::new()?.go_on()
}

#[test]
fn xdp_the_role_and_the_other_directors_of_schema_1_are_kept() -> Result<()> {
    let place = Place::new()?;
    let mut data_plane = place.load()?;
    assert!(data_plane.is_active());
    let peers = data_plane.peers();
    let (peer, address) = PEER;
    assert_eq!(peers, [(mac(peer), address.into())].into());
    // Before a neighbour is known: its frames were balanced there.
    let macs = vec![mac(place.director.mac())];
    let director = DirectorPlan { macs, peers, ..dataplane::director() };
    data_plane.apply(&director, &place.plan)?;
    let segment = segment(FLOWS).syn().with(|segment| segment.source = peer);
    place.run(&mut data_plane, &segment)?;
    assert_eq!(data_plane.counters()?.reasons[Reason::OtherDirector as usize], 1);
    Ok(())
}

/// The second interface is made anew after it was looked at: its link takes no program any more.
#[test]
fn xdp_a_program_that_was_exchanged_goes_back_when_the_next_is_not() -> Result<()> {
    let place = Place::new()?;
    let gone = place.second_link()?;
    let before = place.state()?;
    let mut data_plane = place.load_for(2)?;
    place.apply(&mut data_plane)?;
    let ports = [place.port(INTERFACE)?, gone];
    let refused = place.attach_all(&mut data_plane, &ports).unwrap_err();
    assert!(matches!(refused.downcast()?, XdpError::Program(_)));
    assert_eq!(place.port(INTERFACE)?.program, ports[0].program);
    drop(data_plane);
    assert_eq!(place.state()?, before);
    place.go_on()
}

/// The same without a pin of the former program: its successor stays, with its maps.
#[test]
fn xdp_a_program_that_cannot_go_back_keeps_its_maps() -> Result<()> {
    let place = Place::new()?;
    let gone = place.second_link()?;
    fs::remove_file(place.pins.join("program"))?;
    let mut data_plane = place.load_for(2)?;
    place.apply(&mut data_plane)?;
    let ports = [place.port(INTERFACE)?, gone];
    assert!(place.attach_all(&mut data_plane, &ports).is_err());
    let running = place.port(INTERFACE)?.program;
    assert_ne!(running, ports[0].program);
    drop(data_plane);
    assert_eq!(place.port(INTERFACE)?.program, running);
    for (map, _) in name::PINNED {
        assert!(place.pins.join(&pin(map)).exists(), "{map}");
    }
    place.go_on()
}

#[test]
fn xdp_a_start_that_fails_leaves_schema_1_as_it_is() -> Result<()> {
    let place = Place::new()?;
    let before = place.state()?;
    place.director.run(["ip", "link", "add", "spare", "type", "veth", "peer", "spare2"])?;
    let spare = place.port("spare")?;
    // It runs on another interface.
    let mut data_plane = place.load()?;
    assert!(pinned(place.pins.path())?.contains(&pin(name::DIRECTOR)));
    place.apply(&mut data_plane)?;
    let elsewhere = place.attach(&mut data_plane, "spare").unwrap_err();
    assert!(matches!(elsewhere.downcast()?, XdpError::Elsewhere { .. }));
    drop(data_plane);
    assert_eq!(place.state()?, before);
    // Somebody else's program is on a second one.
    let mut data_plane = place.load()?;
    let foreign = Running { id: u32::MAX, mode: Mode::Native };
    let ports = [place.port(INTERFACE)?, Port { program: Some(foreign), ..spare }];
    assert!(matches!(data_plane.judge(&ports), Err(XdpError::Foreign { .. })));
    assert!(matches!(data_plane.attach(&ports), Err(XdpError::Foreign { .. })));
    drop(data_plane);
    assert_eq!(place.state()?, before);
    place.go_on()
}

/// Killed before it wrote a map: its maps are there, empty, and the old program runs.
#[test]
fn xdp_a_start_over_schema_1_that_was_cut_short_begins_again() -> Result<()> {
    let place = Place::new()?;
    let empty = |map: &str, kind, sizes| former::create(place.pins.path(), &pin(map), kind, sizes);
    empty(name::DIRECTOR, ARRAY, [4, 56, 8])?;
    empty(name::OPEN, ARRAY, [4, 8, 4096])?;
    place.go_on()
}

/// Killed before it removed the old maps: its program runs on the new ones.
#[test]
fn xdp_old_maps_beside_the_program_of_today_are_removed() -> Result<()> {
    let place = Place::new()?;
    place.go_on()?;
    let stale = former::Service { index: 9, ..old(&place.plan.services[0], 0) };
    former::make(place.pins.path(), &[stale], &[])?;
    place.go_on()
}

#[test]
fn xdp_a_data_plane_of_a_newer_schema_is_refused_in_one_sentence() -> Result<()> {
    let place = Place::new()?;
    let pins = place.pins.path();
    let newer = format!("{}-{}", name::DIRECTOR, SCHEMA + 1);
    former::create(pins, &newer, ARRAY, [4, 64, 8])?;
    let before = place.state()?;
    let said = place.load().err().context("an error")?.to_string();
    for part in [
        &pins.display().to_string(),
        &format!("schema {}", SCHEMA + 1),
        &format!("schemas 1 to {SCHEMA}"),
        "pgha detach",
    ] {
        assert!(said.contains(part), "{said}");
    }
    assert_eq!(place.state()?, before);
    assert!(detach(&place.pins)?);
    assert!(!pins.exists());
    Ok(())
}
