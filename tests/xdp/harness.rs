//! The program on a bench: frames in, verdicts out, every counter accounted for.

use std::mem;

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use pgha_common::maps::{Counters, FlowKey, Scheduler, name};
use pgha_common::table as lookup;
use pgha_common::verdict::{Action, Reason};
use pgha_ctl::bpf::PinDirectory;
use pgha_ctl::bpf::xdp::{DataPlane, DirectorPlan};
use pgha_machine::balancer::{Plan, RealPlan, ServicePlan};
use pgha_machine::table::{self, Entry};
use pgha_tests::dataplane::{
    self, FlowTable, PrivateBpffs, Segment, VIP, client, key, real, service,
};

use crate::answer;

const XDP_DROP: u32 = 1;
const XDP_PASS: u32 = 2;
const XDP_TX: u32 = 3;

/// The loaded program, not attached to anything.
pub(crate) struct Bench {
    // Dropped before the file system that its pins are in.
    data_plane: DataPlane,
    pub(crate) director: DirectorPlan,
    pub(crate) plan: Plan,
    pins: PinDirectory,
    counters: Counters,
    _bpffs: PrivateBpffs,
}

/// What became of one frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) reason: Reason,
    pub(crate) frame: Vec<u8>,
}

impl Outcome {
    /// The MAC address the frame goes to.
    pub(crate) fn destination(&self) -> [u8; 6] {
        self.frame[..6].try_into().unwrap()
    }

    /// The id of the real server it goes to.
    #[track_caller]
    pub(crate) fn real(&self) -> u16 {
        assert_eq!(self.reason.action(), Action::Forward, "{self:?}");
        let [.., high, low] = self.destination();
        u16::from_be_bytes([high, low])
    }
}

impl Bench {
    pub(crate) fn new(services: impl Into<Vec<ServicePlan>>) -> Self {
        Self::with_tables(16_384, 4096, services)
    }

    /// With tables of that many established and pending flows.
    pub(crate) fn with_tables(
        flows: u32,
        pending_flows: u32,
        services: impl Into<Vec<ServicePlan>>,
    ) -> Self {
        let mut bench = Self::unwritten(flows, pending_flows, services);
        bench.apply();
        bench
    }

    /// As it is loaded: no map is written yet.
    pub(crate) fn unwritten(
        flows: u32,
        pending_flows: u32,
        services: impl Into<Vec<ServicePlan>>,
    ) -> Self {
        let bpffs = PrivateBpffs::mount().unwrap();
        let settings = dataplane::settings(&bpffs, flows, pending_flows).unwrap();
        Self {
            pins: settings.pins.clone(),
            data_plane: DataPlane::load(settings).unwrap(),
            director: dataplane::director(),
            plan: Plan { services: services.into() },
            counters: Counters::default(),
            _bpffs: bpffs,
        }
    }

    /// Makes the maps equal to `director` and `plan`.
    pub(crate) fn apply(&mut self) {
        self.data_plane.apply(&self.director, &self.plan).unwrap();
    }

    /// Changes one real server of the first service.
    pub(crate) fn change(&mut self, id: u16, change: impl FnOnce(&mut RealPlan)) {
        let reals = &mut self.plan.services[0].reals;
        change(reals.iter_mut().find(|real| real.real.id == id).unwrap());
        self.apply();
    }

    /// Kills one real server of the first service.
    pub(crate) fn kill(&mut self, id: u16) {
        self.change(id, |real| {
            real.dead = true;
            real.weight = pgha_machine::Weight::ZERO;
        });
    }

    /// Runs the program on a frame. Whatever it is: one reason rises by one, and the frame is what an
    /// action of that kind makes of it.
    #[track_caller]
    pub(crate) fn send(&mut self, frame: &[u8]) -> Outcome {
        let mut out = vec![0; 4096];
        let (action, length) = dataplane::run(&mut self.data_plane, frame, &mut out).unwrap();
        out.truncate(length);
        let reason = self.counted();
        let outcome = Outcome { reason, frame: out };
        match reason.action() {
            Action::Pass => assert_eq!((action, &outcome.frame[..]), (XDP_PASS, frame)),
            Action::Drop => assert_eq!((action, &outcome.frame[..]), (XDP_DROP, frame)),
            Action::Answer => assert_eq!(action, XDP_TX),
            Action::Forward => {
                assert_eq!(action, XDP_TX);
                assert_eq!(outcome.frame[6..12], frame[..6], "sent from another address");
                assert_eq!(outcome.frame[12..], frame[12..], "more than MAC addresses changed");
                let to = outcome.destination();
                let known = |real: &RealPlan| real.mac.is_some_and(|mac| mac.bytes() == to);
                let mut reals = self.plan.services.iter().flat_map(|service| &service.reals);
                assert!(reals.any(known), "sent to nobody's address: {to:x?}");
            }
        }
        if matches!(reason, Reason::NoServer | Reason::DeadServer) {
            answer::assert_reset(frame, &outcome.frame);
        }
        outcome
    }

    /// Sends a segment and asserts its reason.
    #[track_caller]
    pub(crate) fn expect(&mut self, reason: Reason, segment: &Segment) -> Outcome {
        self.expect_frame(reason, &segment.frame())
    }

    #[track_caller]
    pub(crate) fn expect_frame(&mut self, reason: Reason, frame: &[u8]) -> Outcome {
        let outcome = self.send(frame);
        assert_eq!(outcome.reason, reason, "{frame:02x?}");
        outcome
    }

    /// Opens a client's connection as far as it takes to be established, the last acknowledgement
    /// being 2,100, and returns the real server.
    #[track_caller]
    pub(crate) fn establish(&mut self, number: u32) -> u16 {
        let real = self.expect(Reason::NewFlow, &from(number).syn()).real();
        assert_eq!(self.expect(Reason::PendingFlow, &from(number).ack(2001)).real(), real);
        assert_eq!(self.expect(Reason::EstablishedFlow, &from(number).ack(2100)).real(), real);
        real
    }

    /// The reason that rose by one since the last frame; there is no other change.
    #[track_caller]
    fn counted(&mut self) -> Reason {
        let now = self.data_plane.counters().unwrap();
        let before = mem::replace(&mut self.counters, now);
        assert_eq!(now.received, before.received + 1);
        assert_eq!(now.received, now.reasons.iter().sum::<u64>());
        let risen: Vec<_> = Reason::ALL
            .iter()
            .filter(|reason| now.reasons[**reason as usize] != before.reasons[**reason as usize])
            .collect();
        let [reason] = risen[..] else { panic!("{risen:?} for one frame") };
        *reason
    }

    pub(crate) fn counters(&self) -> Counters {
        self.counters
    }

    pub(crate) fn data_plane(&self) -> &DataPlane {
        &self.data_plane
    }

    pub(crate) fn established(&self) -> FlowTable {
        FlowTable::open(&self.pins, name::ESTABLISHED).unwrap()
    }

    pub(crate) fn pending(&self) -> FlowTable {
        FlowTable::open(&self.pins, name::PENDING).unwrap()
    }
}

/// Three real servers, by Maglev.
pub(crate) fn three() -> Bench {
    Bench::new([service(Scheduler::Maglev, [real(1), real(2), real(3)])])
}

/// A segment from a client to the VIP, with no flag set.
pub(crate) fn from(number: u32) -> Segment {
    Segment::new(client(number), VIP)
}

/// The key of that client's flow.
pub(crate) fn flow(number: u32) -> FlowKey {
    key(client(number), VIP)
}

/// The real server that the service's Maglev table names for each client, by user space's own
/// look-up.
pub(crate) fn named(service: &ServicePlan, clients: impl IntoIterator<Item = u32>) -> Vec<u16> {
    let table = table::maglev(&entries(service));
    let slot = |number| lookup::slot(lookup::hash(&flow(number)));
    clients.into_iter().map(|number| table[slot(number)]).collect()
}

/// What the tables of a service are built from.
pub(crate) fn entries(service: &ServicePlan) -> Vec<Entry> {
    let entry =
        |real: &RealPlan| Entry { id: real.real.id, address: real.address, weight: real.weight };
    service.reals.iter().map(entry).collect()
}

/// Runs a task on one CPU.
pub(crate) fn on_cpu<T>(cpu: usize, task: impl FnOnce() -> T) -> T {
    let this = Pid::from_raw(0);
    let before = sched_getaffinity(this).unwrap();
    let mut only = CpuSet::new();
    only.set(cpu).unwrap();
    sched_setaffinity(this, &only).unwrap();
    let result = task();
    sched_setaffinity(this, &before).unwrap();
    result
}

/// The CPUs this thread may run on.
pub(crate) fn cpus() -> Vec<usize> {
    let allowed = sched_getaffinity(Pid::from_raw(0)).unwrap();
    (0..CpuSet::count()).filter(|cpu| allowed.is_set(*cpu).unwrap_or(false)).collect()
}
