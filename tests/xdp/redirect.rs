//! Real servers behind other interfaces of the director than the one that a frame came by.

use anyhow::Result;
use pgha_common::maps::Scheduler;
use pgha_common::verdict::Reason;
use pgha_ctl::bpf::PinDirectory;
use pgha_ctl::bpf::xdp::{DataPlane, DirectorPlan, Mode, Port, Settings};
use pgha_machine::Neighbour;
use pgha_machine::balancer::Plan;
use pgha_tests::dataplane::frame::TAG;
use pgha_tests::dataplane::{self, FAMILIES, Family, Segment, mac, real, service, tagged};
use pgha_tests::lab::plan::{BACK_INTERFACE, INTERFACE};
use pgha_tests::lab::{Host, Lab, SOON, wait_until};

use crate::harness::{port, three};

const XDP_TX: u32 = 3;
const XDP_REDIRECT: u32 = 4;

/// A director between two networks, with one real server in each: number 1 in front, 2 behind.
struct Place {
    director: Host,
    servers: [Host; 2],
    data_plane: DataPlane,
    plan: Plan,
    lab: Lab,
}

impl Place {
    fn new(family: Family) -> Result<Self> {
        let lab = Lab::new()?;
        let [director, front] = lab.hosts(&["lb1", "db1"])?.try_into().unwrap();
        let [back] = lab.back_hosts(&["db2"])?.try_into().unwrap();
        lab.second_interface("lb1")?;
        for host in [&director, &front, &back] {
            host.receive_xdp_tx()?;
        }
        let settings = Settings {
            pins: PinDirectory::new(lab.bpffs(), "test")?,
            interfaces: 2,
            capacity: dataplane::capacity(1024, 1024),
            log_packets: false,
        };
        let mut data_plane = DataPlane::load(settings)?;
        let ports = [port(&director, INTERFACE)?, port(&director, BACK_INTERFACE)?];
        let plan = Self::plan(family, &front, &back);
        data_plane.apply(&director_plan(&ports), &plan)?;
        let attached = director.inside(|| Ok(data_plane.attach(&ports)?))?;
        assert_eq!((attached.taken_over, attached.mode), (false, Mode::Native));
        Ok(Self { director, servers: [front, back], data_plane, plan, lab })
    }

    fn plan(family: Family, front: &Host, back: &Host) -> Plan {
        let mut reals = [real(1), real(2)];
        for ((real, host), interface) in reals.iter_mut().zip([front, back]).zip(0..) {
            real.neighbour = Some(Neighbour { interface, mac: mac(host.mac()) });
        }
        Plan { services: vec![service(family.vip(), Scheduler::RoundRobin, reals)] }
    }

    /// The segment, to the director's interface in front.
    fn addressed(&self, segment: Segment) -> Segment {
        segment.with(|segment| segment.destination = self.director.mac())
    }

    fn counted(&self, reason: Reason) -> Result<u64> {
        Ok(self.data_plane.counters()?.reasons[reason as usize])
    }
}

fn director_plan(ports: &[Port]) -> DirectorPlan {
    let macs = ports.iter().map(|port| port.mac).collect();
    DirectorPlan { macs, forward_tagged: true, ..dataplane::director() }
}

/// One run of the program on a frame: nothing leaves.
#[test]
fn xdp_a_server_behind_another_interface_gets_a_redirected_frame() -> Result<()> {
    for family in FAMILIES {
        let mut place = Place::new(family)?;
        let own = [place.director.mac(), place.director.back_mac()];
        for number in 0..6 {
            let behind = number % 2 == 1;
            for segment in [family.segment(number).syn(), family.segment(number).ack(2001)] {
                let plain = place.addressed(segment).frame();
                for frame in [tagged(&plain, TAG, 7), plain] {
                    let mut out = vec![0; 4096];
                    let (action, length) = dataplane::run(&mut place.data_plane, &frame, &mut out)?;
                    let server = &place.servers[usize::from(behind)];
                    assert_eq!(action, if behind { XDP_REDIRECT } else { XDP_TX });
                    assert_eq!(out[..12], [server.mac(), own[usize::from(behind)]].concat());
                    assert_eq!(out[12..length], frame[12..]);
                }
            }
        }
        assert_eq!(place.counted(Reason::NewFlow)?, 6);
    }
    Ok(())
}

/// Frames on the cable: they arrive in the other network, and only there.
#[test]
fn xdp_a_redirected_frame_arrives() -> Result<()> {
    for family in FAMILIES {
        let place = Place::new(family)?;
        let client = place.lab.host("client")?.frames()?;
        let [front, back] = &place.servers;
        let (at_front, at_back) = (front.frames()?, back.frames()?);
        let (first, second) = (
            place.addressed(family.segment(1).syn()).frame(),
            place.addressed(family.segment(2).syn()).frame(),
        );
        client.send(&first)?;
        at_front.receive(SOON, |seen| seen[12..] == first[12..] && seen[..6] == front.mac())?;
        client.send(&second)?;
        let seen = at_back.receive(SOON, |seen| seen[12..] == second[12..])?;
        assert_eq!(seen[..12], [back.mac(), place.director.back_mac()].concat());
        wait_until("both to be counted", SOON, || Ok(place.counted(Reason::NewFlow)? == 2))?;
        assert_eq!(place.data_plane.traffic(2)?.packets, 1);
    }
    Ok(())
}

/// A server that moves to the other network is followed there, with its flows.
#[test]
fn xdp_a_server_that_moves_behind_another_interface_is_followed() -> Result<()> {
    for family in FAMILIES {
        let mut place = Place::new(family)?;
        let syn = place.addressed(family.segment(1).syn()).frame();
        let mut out = vec![0; 4096];
        assert_eq!(dataplane::run(&mut place.data_plane, &syn, &mut out)?.0, XDP_TX);
        let neighbour = Neighbour { interface: 1, mac: mac([2, 0, 10, 78, 0, 99]) };
        place.plan.services[0].reals[0].neighbour = Some(neighbour);
        let ports = [port(&place.director, INTERFACE)?, port(&place.director, BACK_INTERFACE)?];
        place.data_plane.apply(&director_plan(&ports), &place.plan)?;
        let ack = place.addressed(family.segment(1).ack(2001)).frame();
        assert_eq!(dataplane::run(&mut place.data_plane, &ack, &mut out)?.0, XDP_REDIRECT);
        assert_eq!(out[..12], [[2, 0, 10, 78, 0, 99], place.director.back_mac()].concat());
    }
    Ok(())
}

/// The director has no such interface, or nobody has said yet what its MAC address is.
#[test]
fn xdp_a_server_behind_an_interface_that_is_none_gets_nothing() {
    for family in FAMILIES {
        let mut bench = three(family);
        for id in 1..=3 {
            bench.change(id, |real| {
                let neighbour = real.neighbour.as_mut().expect("a neighbour");
                neighbour.interface = 1;
            });
        }
        bench.expect_frame(Reason::RedirectFailed, &family.segment(1).syn().frame());
    }
}
