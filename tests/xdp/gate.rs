//! The lease gate: each packet by `BPF_PROG_TEST_RUN`, and the gate on a cgroup as an agent handles it.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::id;
use std::time::Duration;

use anyhow::{Context as _, Result};
use aya::maps::{Array, Map, MapData, PerCpuArray};
use aya::programs::{CgroupSkb, TestRun as _, TestRunOptions};
use aya::{Ebpf, EbpfLoader};
use etherparse::IpNumber;
use pgha_common::gate::{CLOSED, Passage, STANDBY, name};
use pgha_ctl::bpf::PinDirectory;
use pgha_ctl::bpf::gate::{self, Gate, GateError, State};
use pgha_ctl::clock;
use pgha_tests::dataplane::frame::{Extension, Ip};
use pgha_tests::dataplane::{FAMILIES, Family, Segment};
use pgha_tests::lab::artifacts::ebpf_object;
use pgha_tests::lab::cgroup::Cgroup;
use pgha_tests::lab::{Lab, SOON, wait_until};
use zerocopy::FromBytes as _;

use crate::confined::confined;

/// Far enough ahead for any machine.
const AHEAD: Duration = Duration::from_secs(3600);
/// Soon over.
const BRIEF: Duration = Duration::from_millis(20);

/// The object of the gate, on no cgroup.
struct Bench(Ebpf);

impl Bench {
    fn new() -> Result<Self> {
        let mut ebpf = EbpfLoader::new().load_file(ebpf_object("gate")?)?;
        for program in [name::PROGRAM, name::ORDER] {
            let program: &mut CgroupSkb = ebpf.program_mut(program).context(program)?.try_into()?;
            program.load()?;
        }
        Ok(Self(ebpf))
    }

    fn run(&self, program: &str, frame: &[u8]) -> Result<bool> {
        let program: &CgroupSkb = self.0.program(program).context("a program")?.try_into()?;
        let options = TestRunOptions { data_in: Some(frame), ..TestRunOptions::default() };
        Ok(program.test_run(options)?.return_value == 1)
    }

    fn passes(&self, frame: &[u8]) -> Result<bool> {
        self.run(name::PROGRAM, frame)
    }

    fn order(&self, word: u64) -> Result<()> {
        let frame = [&[0; 14][..], &word.to_ne_bytes()].concat();
        assert!(self.run(name::ORDER, &frame)?, "{word}");
        Ok(())
    }

    fn word(&self) -> Result<u64> {
        let map: Array<_, u64> = self.0.map(name::WORD).context("the word")?.try_into()?;
        Ok(map.get(&0, 0)?)
    }

    fn passage(&self) -> Result<(u64, u64)> {
        let map: PerCpuArray<_, [u8; size_of::<Passage>()]> =
            self.0.map(name::PASSAGE).context("the passage")?.try_into()?;
        let (mut passed, mut dropped) = (0, 0);
        for cpu in map.get(&0, 0)?.iter() {
            let cpu = Passage::read_from_bytes(cpu).unwrap();
            passed += cpu.passed;
            dropped += cpu.dropped;
        }
        Ok((passed, dropped))
    }
}

fn segment(family: Family) -> Segment {
    Segment::new(family.client(1), family.vip()).ack(1).data(100)
}

/// A packet that is not TCP.
fn other(family: Family, protocol: IpNumber) -> Vec<u8> {
    let ip = Ip::new(family.client(1).ip(), family.vip().ip(), protocol);
    ip.frame([2; 6], [4; 6], &[0; 64])
}

#[test]
fn xdp_gate_lets_packets_pass_until_its_moment() -> Result<()> {
    for family in FAMILIES {
        let bench = Bench::new()?;
        let frame = segment(family).frame();
        assert_eq!(bench.word()?, STANDBY);
        assert!(bench.passes(&frame)?, "{family:?} of a standby");
        let until = clock::boot_time() + u64::try_from(AHEAD.as_nanos())?;
        bench.order(until)?;
        assert!(bench.passes(&frame)?, "{family:?} before the moment");
        let until = clock::boot_time() + u64::try_from(BRIEF.as_nanos())?;
        bench.order(until)?;
        wait_until("the moment", SOON, || Ok(clock::boot_time() >= until))?;
        // The packet itself closes the gate.
        assert_eq!(bench.word()?, until);
        assert!(!bench.passes(&frame)?, "{family:?} after it");
        assert_eq!(bench.word()?, CLOSED);
        bench.order(clock::boot_time() + u64::try_from(AHEAD.as_nanos())?)?;
        assert!(!bench.passes(&frame)?, "{family:?} opened again");
        assert_eq!(bench.passage()?, (2, 2));
    }
    Ok(())
}

#[test]
fn xdp_gate_that_is_closed_drops_all_of_tcp_and_nothing_else() -> Result<()> {
    let bench = Bench::new()?;
    bench.order(CLOSED)?;
    for family in FAMILIES {
        for segment in [segment(family), segment(family).syn(), segment(family).fin()] {
            assert!(!bench.passes(&segment.frame())?, "{segment:?}");
        }
        let hidden = segment(family).with(|segment| {
            if family.vip().is_ipv6() {
                segment.ip.extensions_mut().push(Extension::hop_by_hop(8));
            } else {
                segment.ip.set_options(8);
            }
        });
        assert!(!bench.passes(&hidden.frame())?, "{family:?} behind options");
        assert!(!bench.passes(&other(family, IpNumber::SCTP))?, "{family:?} SCTP");
        assert!(bench.passes(&other(family, IpNumber::UDP))?, "{family:?} UDP");
        let echo = if family.vip().is_ipv6() { IpNumber::IPV6_ICMP } else { IpNumber::ICMP };
        assert!(bench.passes(&other(family, echo))?, "{family:?} echo");
    }
    assert_eq!(bench.passage()?, (0, 10));
    Ok(())
}

/// A cgroup without processes, and pins.
struct Place {
    cgroup: Cgroup,
    pins: PinDirectory,
    lab: Lab,
}

impl Place {
    fn new() -> Result<Self> {
        let lab = Lab::new()?;
        let pins = PinDirectory::new(lab.bpffs(), "test")?;
        Ok(Self { cgroup: lab.cgroup("start-1")?, pins, lab })
    }

    fn attach(&self) -> Result<Gate, GateError> {
        Gate::attach(&self.pins, 1, self.cgroup.path())
    }

    fn open(&self) -> Result<Gate, GateError> {
        Gate::open(&self.pins, 1, self.cgroup.path())
    }

    fn pin(&self, name: &str) -> PathBuf {
        self.pins.join("gate/1").join(name)
    }
}

#[test]
fn xdp_gate_goes_on_without_its_loader_and_is_found_again() -> Result<()> {
    let place = Place::new()?;
    let gate = place.attach()?;
    assert_eq!(gate.state()?, State::Standby);
    let until = clock::now() + AHEAD;
    assert_eq!(gate.arm(until)?, State::ArmedUntil(until));
    drop(gate);
    let gate = place.open()?;
    assert_eq!((gate.start(), gate.state()?), (1, State::ArmedUntil(until)));
    let later = until + AHEAD;
    assert_eq!(gate.arm(later)?, State::ArmedUntil(later));
    assert_eq!(gate.arm(until)?, State::ArmedUntil(until), "a moment may come nearer");
    gate.close()?;
    drop(gate);
    assert_eq!(place.open()?.state()?, State::Closed);
    Ok(())
}

#[test]
fn xdp_gate_whose_moment_passed_without_a_packet_is_not_armed_again() -> Result<()> {
    let place = Place::new()?;
    let gate = place.attach()?;
    let until = clock::now() + BRIEF;
    assert_ne!(gate.arm(until)?, State::Standby);
    wait_until("the moment", SOON, || Ok(clock::now() >= until))?;
    assert_eq!(gate.state()?, State::Closed);
    assert_eq!(gate.arm(clock::now() + AHEAD)?, State::Closed);
    assert_eq!(gate.state()?, State::Closed);
    Ok(())
}

#[test]
fn xdp_gate_told_a_moment_that_has_passed_is_closed() -> Result<()> {
    let place = Place::new()?;
    let gate = place.attach()?;
    assert_eq!(gate.arm(clock::now())?, State::Closed);
    assert_eq!(gate.arm(clock::now() + AHEAD)?, State::Closed);
    gate.close()?;
    Ok(())
}

#[test]
fn xdp_gate_cannot_be_written_by_user_space() -> Result<()> {
    let place = Place::new()?;
    let gate = place.attach()?;
    gate.close()?;
    let word = Map::Array(MapData::from_pin(place.pin(name::WORD))?);
    let mut word: Array<_, u64> = word.try_into()?;
    let refused = word.set(0, STANDBY, 0).unwrap_err();
    let source = format!("{:?}", anyhow::Error::from(refused));
    assert!(source.contains("not permitted"), "{source}");
    assert_eq!(word.get(&0, 0)?, CLOSED);
    Ok(())
}

#[test]
fn xdp_gate_needs_no_more_rights_than_the_agent_has() -> Result<()> {
    let place = Place::new()?;
    confined(|| -> Result<()> {
        let gate = place.attach()?;
        let until = clock::now() + AHEAD;
        assert_eq!(gate.arm(until)?, State::ArmedUntil(until));
        let gate = place.open()?;
        gate.close()?;
        gate.passage()?;
        gate::remove_ended(&place.pins)?;
        Ok(())
    })
}

#[test]
fn xdp_gate_is_one_program_beside_others() -> Result<()> {
    let place = Place::new()?;
    let another = PinDirectory::new(place.lab.bpffs(), "other")?;
    let first = place.attach()?;
    let second = Gate::attach(&another, 1, place.cgroup.path())?;
    first.close()?;
    assert_eq!(second.state()?, State::Standby);
    assert_eq!(place.open()?.state()?, State::Closed);
    assert_eq!(Gate::open(&another, 1, place.cgroup.path())?.state()?, State::Standby);
    Ok(())
}

#[test]
fn xdp_gate_refusals_say_what_where_and_how_to_mend() -> Result<()> {
    let place = Place::new()?;
    let missing = place.open().unwrap_err();
    assert!(matches!(missing, GateError::Missing { start: 1, .. }), "{missing}");
    drop(place.attach()?);
    let exists = place.attach().unwrap_err();
    assert!(matches!(exists, GateError::Exists { start: 1 }), "{exists}");
    let other = place.lab.cgroup("start-2")?;
    let elsewhere = Gate::open(&place.pins, 1, other.path()).unwrap_err();
    let GateError::Elsewhere { found, .. } = elsewhere else { panic!("{elsewhere}") };
    assert_eq!(found, place.cgroup.id()?);
    let none = Gate::attach(&place.pins, 2, Path::new("/nowhere")).unwrap_err();
    assert!(none.to_string().starts_with("cgroup /nowhere cannot be opened"), "{none}");
    let none = Gate::attach(&place.pins, 2, Path::new("/tmp")).unwrap_err();
    assert!(none.to_string().contains("is it a cgroup v2 directory?"), "{none}");
    // What was begun is gone.
    assert_eq!(gate::starts(&place.pins)?, [1]);
    assert_eq!(fs::read_dir(place.pins.join("gate"))?.count(), 1);
    Ok(())
}

#[test]
fn xdp_gates_of_ended_starts_are_removed_and_others_are_not() -> Result<()> {
    let place = Place::new()?;
    drop(place.attach()?);
    let second = place.lab.cgroup("start-2")?;
    drop(Gate::attach(&place.pins, 2, second.path())?);
    // What a crash left while it was made.
    fs::create_dir(place.pins.join("gate/3-new"))?;
    assert_eq!(gate::remove_ended(&place.pins)?, Vec::<u64>::new());
    assert_eq!(gate::starts(&place.pins)?, [1, 2]);
    place.cgroup.remove()?;
    // The kernel lets go of a cgroup in a work queue.
    wait_until("the first to be removed", SOON, || Ok(gate::remove_ended(&place.pins)? == [1]))?;
    assert_eq!(gate::starts(&place.pins)?, [2]);
    assert!(Gate::open(&place.pins, 2, second.path()).is_ok());
    assert_eq!(fs::read_dir(place.pins.join("gate"))?.count(), 1);
    Ok(())
}

#[test]
fn xdp_gates_of_all_starts_but_the_one_that_runs_are_closed() -> Result<()> {
    let place = Place::new()?;
    let first = place.attach()?;
    let (running, ended) = (place.lab.cgroup("start-2")?, place.lab.cgroup("start-3")?);
    let running = Gate::attach(&place.pins, 2, running.path())?;
    let over = Gate::attach(&place.pins, 3, ended.path())?;
    assert_eq!(over.arm(clock::now() + AHEAD)?, over.state()?);
    // Its sockets may be there longer than its cgroup.
    ended.remove()?;
    assert_eq!(gate::close_others(&place.pins, Some(2))?, [1, 3]);
    assert_eq!([first.state()?, over.state()?], [State::Closed; 2]);
    assert_eq!(running.state()?, State::Standby);
    assert_eq!(gate::close_others(&place.pins, Some(2))?, Vec::<u64>::new());
    assert_eq!(gate::close_others(&place.pins, None)?, [2]);
    Ok(())
}

#[test]
fn xdp_gates_survive_a_controller_that_clears_its_pins() -> Result<()> {
    let place = Place::new()?;
    drop(place.attach()?);
    let left = MapData::from_pin(place.pin(name::PASSAGE))?;
    left.pin(place.pins.join("LEFT"))?;
    place.pins.remove()?;
    assert!(!place.pins.join("LEFT").exists());
    assert_eq!(place.open()?.state()?, State::Standby);
    Ok(())
}

#[test]
fn xdp_gate_knows_whose_sockets_it_holds() -> Result<()> {
    let place = Place::new()?;
    let addresses: [SocketAddr; 2] = ["127.0.0.1:0".parse()?, "[::1]:0".parse()?];
    for address in addresses {
        let listener = TcpListener::bind(address)?;
        let all = gate::listeners(id())?;
        let own =
            all.iter().find(|found| Ok(found.address) == listener.local_addr().map_err(|_| ()));
        let own = own.context("the listener of this process")?;
        assert_ne!(own.cgroup, place.cgroup.id()?);
        assert!(gate::outside(id(), place.cgroup.path())?.contains(own));
        let address = own.address;
        drop(listener);
        assert!(!gate::listeners(id())?.iter().any(|found| found.address == address));
    }
    assert!(gate::listeners(0).is_err());
    Ok(())
}
