use std::collections::BTreeMap;

use zerocopy::FromZeros;

use super::{Alive, Decision, Known, World, decide};
use crate::flow::{Flow, RealRef, Segment};
use crate::maps::{FlowKey, RealServer, Scheduler, Service, ServiceKey, service_flag, state};
use crate::table::{SLOTS, again, hash, slot};
use crate::verdict::Reason;
use crate::wire::{Tcp, flag};

const VIP: [u8; 4] = [10, 0, 0, 100];
const PORT: [u8; 2] = [0x15, 0x38];

/// A world of real servers 1 to 4; slot by slot, the table names them in turn.
struct Model {
    service: Service,
    established: BTreeMap<[u8; 2], Flow>,
    pending: BTreeMap<[u8; 2], Flow>,
    reals: Vec<RealServer>,
    open: [u64; 5],
    allows: bool,
    admits: bool,
}

impl Model {
    fn new(scheduler: Scheduler) -> Self {
        let real = |id: u16| RealServer {
            state: if id == 0 { state::ABSENT } else { state::ALIVE },
            share: 1,
            ..RealServer::default()
        };
        Self {
            service: Service { scheduler: scheduler as u8, ..Service::new_zeroed() },
            established: BTreeMap::new(),
            pending: BTreeMap::new(),
            reals: (0..5).map(real).collect(),
            open: [0; 5],
            allows: true,
            admits: true,
        }
    }

    fn decide(&self, port: u16, segment: Segment) -> Decision<'_, Flow> {
        decide(self, &key(port), segment)
    }

    #[track_caller]
    fn begins_at(&self, port: u16) -> u16 {
        let decided = self.decide(port, syn());
        let Decision::Begin(Alive { id, .. }, _) = decided else { panic!("{decided:?}") };
        id
    }
}

fn named_by(slot: usize) -> u16 {
    1 + u16::try_from(slot % 4).unwrap()
}

impl World<[u8; 4]> for Model {
    type Entry = Flow;

    fn established(&self, key: &FlowKey<[u8; 4]>) -> Option<Flow> {
        self.established.get(&key.ports[..2]).copied()
    }
    fn pending(&self, key: &FlowKey<[u8; 4]>) -> Option<Flow> {
        self.pending.get(&key.ports[..2]).copied()
    }
    fn flow(&self, entry: Flow) -> Flow {
        entry
    }
    fn service(&self, key: &ServiceKey) -> Option<Service> {
        (*key == ServiceKey::new(VIP, PORT)).then_some(self.service)
    }
    fn is_vip(&self, address: [u8; 4]) -> bool {
        address == VIP
    }
    fn allows(&self, _: &Service, _: [u8; 4]) -> bool {
        self.allows
    }
    fn admits(&self, _: &Service, _: [u8; 4]) -> bool {
        self.admits
    }
    fn slot(&self, _: &Service, slot: usize) -> Option<u16> {
        assert!(slot < SLOTS);
        Some(named_by(slot))
    }
    fn turn(&self, _: &Service) -> Option<u16> {
        Some(3)
    }
    fn open_flows(&self, id: u16) -> u64 {
        self.open[usize::from(id)]
    }
    fn real(&self, id: u16) -> Option<&RealServer> {
        self.reals.get(usize::from(id))
    }
}

fn key(port: u16) -> FlowKey<[u8; 4]> {
    let [a, b] = port.to_be_bytes();
    FlowKey { client: [10, 0, 0, 31], vip: VIP, ports: [a, b, PORT[0], PORT[1]] }
}

fn segment(flags: u8) -> Segment {
    Segment::read(&Tcp { flags, ..Tcp::new_zeroed() }, 0).unwrap()
}

fn syn() -> Segment {
    segment(flag::SYN)
}

fn flow_of(id: u16) -> Flow {
    Flow::new(RealRef { id, generation: 0 }, segment(flag::ACK))
}

#[test]
fn each_scheduler_picks_in_its_way() {
    let maglev = Model::new(Scheduler::Maglev);
    let rr = Model::new(Scheduler::RoundRobin);
    let source = Model::new(Scheduler::Source);
    for port in 1..100 {
        assert_eq!(maglev.begins_at(port), named_by(slot(hash(&key(port)))));
        assert_eq!(rr.begins_at(port), 3);
        assert_eq!(source.begins_at(port), source.begins_at(1));
    }
}

#[test]
fn least_takes_the_less_loaded_of_two_for_their_weights() {
    let mut model = Model::new(Scheduler::Least);
    let choices = |port| {
        let first = hash(&key(port));
        (named_by(slot(first)), named_by(slot(again(first))))
    };
    let port = (1..1000).find(|port| choices(*port) == (2, 4)).unwrap();
    assert_eq!(model.begins_at(port), 2, "the first where they are equal");
    model.open[2] = 10;
    model.open[4] = 9;
    assert_eq!(model.begins_at(port), 4);
    model.reals[2].share = 2;
    assert_eq!(model.begins_at(port), 2, "10 of weight 2 are less than 9 of weight 1");
    model.reals[2].state = state::DEAD;
    assert_eq!(model.begins_at(port), 4);
}

#[test]
fn what_is_no_syn_goes_by_the_table_whatever_the_scheduler() {
    for scheduler in [Scheduler::Maglev, Scheduler::RoundRobin, Scheduler::Least] {
        let model = Model::new(scheduler);
        for port in 1..100 {
            let Decision::Begin(real, None) = model.decide(port, segment(flag::ACK)) else {
                panic!("port {port}");
            };
            assert_eq!(real.id, named_by(slot(hash(&key(port)))));
        }
    }
}

#[test]
fn a_known_flow_is_asked_neither_for_its_network_nor_for_its_rate() {
    let mut model = Model::new(Scheduler::Maglev);
    (model.allows, model.admits) = (false, false);
    model.service.flags = service_flag::RESTRICTED | service_flag::SYN_LIMITED;
    model.established.insert([0, 1], flow_of(2));
    let followed = model.decide(1, segment(flag::ACK));
    assert!(matches!(followed, Decision::Follow(Known::Established(_), Alive { id: 2, .. })));
    let refused = |model: &Model| {
        if let Decision::Refuse(reason) = model.decide(2, syn()) { Some(reason) } else { None }
    };
    assert_eq!(refused(&model), Some(Reason::NotAllowed));
    model.allows = true;
    assert_eq!(refused(&model), Some(Reason::SynLimited));
    model.admits = true;
    assert_eq!(refused(&model), None);
}

#[test]
fn a_dead_servers_flow_ends_and_its_port_can_be_used_anew() {
    let mut model = Model::new(Scheduler::RoundRobin);
    model.pending.insert([0, 1], flow_of(2));
    model.reals[2].state = state::DEAD;
    let answered = model.decide(1, segment(flag::ACK));
    assert!(matches!(answered, Decision::Refuse(Reason::DeadServer)));
    let begun = model.decide(1, syn());
    assert!(matches!(begun, Decision::Begin(Alive { id: 3, .. }, Some(Known::Pending(_)))));
}

#[test]
fn another_generation_is_another_server() {
    let mut model = Model::new(Scheduler::Maglev);
    model.established.insert([0, 1], flow_of(2));
    model.reals[2].generation = 1;
    let answered = model.decide(1, segment(flag::ACK));
    assert!(matches!(answered, Decision::Refuse(Reason::DeadServer)));
}

#[test]
fn without_a_service_a_vip_is_told_from_other_addresses() {
    let model = Model::new(Scheduler::Maglev);
    let elsewhere = |vip| FlowKey { vip, ports: [0, 1, 0, 2], ..key(1) };
    let reason = |key| {
        let decided = decide(&model, &key, syn());
        let Decision::Refuse(reason) = decided else { panic!("{decided:?}") };
        reason
    };
    assert_eq!(reason(elsewhere(VIP)), Reason::NoService);
    assert_eq!(reason(elsewhere([10, 0, 0, 101])), Reason::NotVip);
}
