//! The lease gate under a server that goes on: nothing of it gets through after the moment.
use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use anyhow::{Result, ensure};
use pgha_ctl::bpf::PinDirectory;
use pgha_ctl::bpf::gate::{self, Gate, State};
use pgha_ctl::clock;
use pgha_machine::Moment;
use pgha_tests::lab::cgroup::Cgroup;
use pgha_tests::lab::pulse::{Patient, Pulse};
use pgha_tests::lab::{Host, Lab, SOON, wait_until};

/// A lease, long enough for a loaded machine to say something within it.
const LEASE: Duration = Duration::from_secs(2);
/// How long is watched after the moment, that nothing comes.
const AFTER: Duration = Duration::from_millis(1500);
/// Long enough for somebody who would answer.
const REFUSED: Duration = Duration::from_millis(500);
const PORT: u16 = 5432;

/// A server on db1 behind a gate, and a client.
struct Place {
    server: Pulse,
    cgroup: Cgroup,
    client: Host,
    host: Host,
    pins: PinDirectory,
    lab: Lab,
}

#[derive(Clone, Copy, Debug)]
enum Family {
    Ipv4,
    Ipv6,
}

impl Place {
    fn new(family: Family) -> Result<(Self, Gate)> {
        let lab = Lab::new()?;
        let (host, client) = (lab.host("db1")?, lab.host("client")?);
        let pins = PinDirectory::new(lab.bpffs(), "test")?;
        let cgroup = lab.cgroup("start-1")?;
        let gate = Gate::attach(&pins, 1, cgroup.path())?;
        let server = Pulse::start(&host, address(&host, family), &cgroup)?;
        Ok((Self { server, cgroup, client, host, pins, lab }, gate))
    }

    fn connect(&self) -> Result<Patient> {
        self.server.connect(&self.client, SOON)
    }

    /// Watches that the server goes on long after `until`, and that nothing which it sent then or later comes, and
    /// nothing that is sent to it.
    fn assert_cut_off(&self, clients: &mut [Patient], until: Moment) -> Result<()> {
        wait_until("the moment", SOON, || Ok(clock::now() > until))?;
        let end = clock::now() + AFTER;
        for client in &mut *clients {
            client.say("after the end")?;
        }
        let got = self.server.got()?;
        while clock::now() < end {
            for client in &mut *clients {
                if let Some(at) = client.listen()? {
                    ensure!(at < until, "{at:?} was sent after {until:?}");
                }
            }
        }
        self.server.goes_on_after(end)?;
        ensure!(self.server.got()? == got, "the server was told something after the end");
        Ok(())
    }
}

fn address(host: &Host, family: Family) -> SocketAddr {
    match family {
        Family::Ipv4 => (host.address(), PORT).into(),
        Family::Ipv6 => (host.address6(), PORT).into(),
    }
}

fn closes_at_its_moment(family: Family) -> Result<()> {
    let (place, gate) = Place::new(family)?;
    let mut client = place.connect()?;
    client.hear_after(Moment::default())?;
    client.say("hello")?;
    wait_until("a word to arrive", SOON, || Ok(place.server.got()? == 5))?;

    // Renewals move the moment.
    gate.arm(clock::now() + LEASE).map(drop)?;
    let armed = clock::now();
    let until = armed + LEASE;
    assert_eq!(gate.arm(until)?, State::ArmedUntil(until));
    client.hear_after(armed)?;
    place.assert_cut_off(&mut [client], until)?;
    assert_eq!(gate.state()?, State::Closed);
    let passage = gate.passage()?;
    assert!(passage.passed > 0 && passage.dropped > 0, "{passage:?}");

    // Whatever a late agent says, old connections and new ones stay cut off.
    assert_eq!(gate.arm(clock::now() + LEASE * 100)?, State::Closed);
    assert!(place.server.connect(&place.client, REFUSED).is_err());
    place.assert_cut_off(&mut [], until)
}

#[test]
fn netns_gate_closes_an_open_connection_at_its_moment() -> Result<()> {
    closes_at_its_moment(Family::Ipv4)
}

#[test]
fn netns_gate_closes_an_open_ipv6_connection_at_its_moment() -> Result<()> {
    closes_at_its_moment(Family::Ipv6)
}

#[test]
fn netns_gate_closed_by_hand_stays_closed() -> Result<()> {
    let (place, gate) = Place::new(Family::Ipv4)?;
    let mut clients = [place.connect()?, place.connect()?];
    for client in &mut clients {
        client.hear_after(Moment::default())?;
    }
    gate.close()?;
    let closed = clock::now();
    assert_eq!(gate.arm(clock::now() + LEASE * 100)?, State::Closed);
    // What was sent within the same millisecond may have been before it.
    place.assert_cut_off(&mut clients, closed + Duration::from_millis(1))
}

#[test]
fn netns_gate_of_a_frozen_server_lets_nothing_out_when_it_thaws() -> Result<()> {
    let (place, gate) = Place::new(Family::Ipv4)?;
    let mut client = place.connect()?;
    client.hear_after(Moment::default())?;
    place.cgroup.freeze()?;
    // The kernel takes it for the server, which reads it when it thaws.
    client.say("commit")?;
    let until = clock::now() + LEASE;
    assert_eq!(gate.arm(until)?, State::ArmedUntil(until));
    wait_until("the moment", SOON, || Ok(clock::now() > until))?;
    // The agent was frozen, too, and goes on where it was: with a renewal that came in time once.
    assert_eq!(gate.arm(clock::now() + LEASE * 100)?, State::Closed);
    place.cgroup.thaw()?;
    wait_until("the word to be read", SOON, || Ok(place.server.got()? == 6))?;
    while let Some(at) = client.listen()? {
        ensure!(at < until, "{at:?} was sent after {until:?}");
    }
    place.assert_cut_off(&mut [client], until)
}

#[test]
fn netns_gate_of_a_standby_and_other_cgroups_are_open() -> Result<()> {
    let (place, gate) = Place::new(Family::Ipv4)?;
    let second = place.lab.cgroup("start-2")?;
    let beside = Gate::attach(&place.pins, 2, second.path())?;
    let third = place.lab.cgroup("without-a-gate")?;
    let at = |port| SocketAddr::from((place.host.address(), port));
    let servers = [
        Pulse::start(&place.host, at(PORT + 1), &second)?,
        Pulse::start(&place.host, at(PORT + 2), &third)?,
    ];
    gate.close()?;
    for server in &servers {
        let mut client = server.connect(&place.client, SOON)?;
        client.hear_after(clock::now())?;
    }
    assert_eq!(beside.state()?, State::Standby);
    assert!(beside.passage()?.passed > 0);
    assert_eq!(beside.passage()?.dropped, 0);
    assert!(place.server.connect(&place.client, REFUSED).is_err());
    Ok(())
}

#[test]
fn netns_gate_holds_sockets_of_a_process_that_was_moved_away() -> Result<()> {
    let (place, gate) = Place::new(Family::Ipv4)?;
    let pid = u32::try_from(place.server.pid())?;
    let elsewhere = place.lab.cgroup("elsewhere")?;
    let outside = |cgroup: &Cgroup| place.host.inside(|| Ok(gate::outside(pid, cgroup.path())?));
    let all = place.host.inside(|| Ok(gate::listeners(pid)?))?;
    assert_eq!(all.len(), 1);
    assert_eq!((all[0].address, all[0].cgroup), (place.server.address(), place.cgroup.id()?));
    assert_eq!(outside(&place.cgroup)?, []);
    assert_eq!(outside(&elsewhere)?, all);
    elsewhere.take(place.server.pid())?;
    assert!(place.cgroup.processes()?.is_empty());
    // Its sockets, and those that it accepts from now on, meet the gate all the same.
    assert_eq!(outside(&place.cgroup)?, []);
    let mut client = place.connect()?;
    client.hear_after(clock::now())?;
    gate.close()?;
    place.assert_cut_off(&mut [client], clock::now() + Duration::from_millis(1))
}

#[test]
fn netns_gate_drops_what_a_killed_servers_sockets_still_send() -> Result<()> {
    let (place, gate) = Place::new(Family::Ipv4)?;
    let mut client = place.connect()?;
    client.hear_after(Moment::default())?;
    gate.close()?;
    let closed = clock::now() + Duration::from_millis(1);
    drop(gate);
    // What it wrote waits in the socket, and the kernel goes on sending that when the process is gone.
    place.server.goes_on_after(closed)?;
    place.cgroup.remove()?;
    let end = clock::now() + AFTER;
    while clock::now() < end {
        gate::remove_ended(&place.pins)?;
        if let Some(at) = client.listen()? {
            ensure!(at < closed, "{at:?} came out of a dead socket");
        }
        thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}
