//! The program on a bench: frames in, verdicts out, every counter accounted for.

use std::net::IpAddr;
use std::time::{SystemTime, UNIX_EPOCH};
use std::{env, mem};

use anyhow::{Context as _, Result};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use pgha_common::maps::{Counters, Scheduler};
use pgha_common::verdict::{Action, Reason};
use pgha_ctl::bpf::PinDirectory;
use pgha_ctl::bpf::xdp::{Active, DataPlane, DirectorPlan, Mode, Port, Running};
use pgha_machine::balancer::{Plan, RealPlan, ServicePlan};
use pgha_machine::table::{self, Entry};
use pgha_tests::dataplane::{self, Family, FlowTable, PrivateBpffs, Segment, real, service};
use pgha_tests::lab::Host;

use crate::answer;

const XDP_DROP: u32 = 1;
const XDP_PASS: u32 = 2;
const XDP_TX: u32 = 3;
const XDP_REDIRECT: u32 = 4;

/// MAC address of another director.
pub(crate) const PEER_MAC: [u8; 6] = [2, 0, 10, 77, 0, 22];

/// With this variable set, what is left to chance is that of the seed it names.
pub(crate) const SEED: &str = "PGHA_SEED";

/// What a director may be, and whether it answers for the VIPs then. Of the deadlines one is long past, the
/// other centuries ahead.
pub(crate) const ROLES: [(Active, bool); 4] = [
    (Active::No, false),
    (Active::ForGood, true),
    (Active::Until(1), false),
    (Active::Until(u64::MAX - 1), true),
];

/// The seed of this run.
pub(crate) fn seed() -> u64 {
    let since = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().subsec_nanos().into();
    env::var(SEED).map_or_else(|_| since(), |seed| seed.parse().unwrap())
}

/// The loaded program, not attached to anything.
pub(crate) struct Bench {
    /// That of the first service: of the clients and tables that are meant where none is named.
    pub(crate) family: Family,
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
        let services = services.into();
        let family = Family::of(services[0].vip);
        println!("{family:?}");
        let bpffs = PrivateBpffs::mount().unwrap();
        let settings = dataplane::settings(&bpffs, flows, pending_flows).unwrap();
        Self {
            family,
            pins: settings.pins.clone(),
            data_plane: DataPlane::load(settings).unwrap(),
            director: dataplane::director(),
            plan: Plan { services },
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
            real.weight = pgha_machine::EffectiveWeight::ZERO;
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
            Action::Answer => {
                assert_eq!(action, XDP_TX);
                answer::assert_answer(frame, &outcome);
            }
            Action::Forward => self.assert_forwarded(frame, action, &outcome),
        }
        outcome
    }

    /// Asserts that a frame went to a real server's address, out of the interface that one is behind,
    /// and that nothing but its MAC addresses changed.
    #[track_caller]
    fn assert_forwarded(&self, frame: &[u8], action: u32, outcome: &Outcome) {
        let to = outcome.destination();
        let mut reals = self.plan.services.iter().flat_map(|service| &service.reals);
        let neighbour = reals
            .find_map(|real| real.neighbour.filter(|neighbour| neighbour.mac.bytes() == to))
            .unwrap_or_else(|| panic!("sent to nobody's address: {to:x?}"));
        let source = self.director.macs[usize::from(neighbour.interface)].bytes();
        assert_eq!(outcome.frame[6..12], source, "sent from another address");
        assert_eq!(outcome.frame[12..], frame[12..], "more than MAC addresses changed");
        let expected = if source == frame[..6] { XDP_TX } else { XDP_REDIRECT };
        assert_eq!(action, expected);
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

    /// [`Self::expect_frame`] of a frame that enters no table.
    #[track_caller]
    pub(crate) fn dropped(&mut self, reason: Reason, frame: &[u8]) {
        let (pending, established) = (self.pending().len(), self.established().len());
        self.expect_frame(reason, frame);
        assert_eq!((self.pending().len(), self.established().len()), (pending, established));
    }

    /// Opens a client's connection as far as it takes to be established, the last acknowledgement
    /// being 2,100, and returns the real server.
    #[track_caller]
    pub(crate) fn establish(&mut self, number: u32) -> u16 {
        let real = self.expect(Reason::NewFlow, &self.segment(number).syn()).real();
        assert_eq!(self.expect(Reason::PendingFlow, &self.segment(number).ack(2001)).real(), real);
        assert_eq!(
            self.expect(Reason::EstablishedFlow, &self.segment(number).ack(2100)).real(),
            real
        );
        real
    }

    /// A segment of that client, with no flag set.
    pub(crate) fn segment(&self, number: u32) -> Segment {
        self.family.segment(number)
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
        FlowTable::established(&self.pins, self.family).unwrap()
    }

    pub(crate) fn pending(&self) -> FlowTable {
        FlowTable::pending(&self.pins, self.family).unwrap()
    }
}

/// Another director's own address.
pub(crate) fn peer(family: Family) -> IpAddr {
    family.pick([10, 77, 0, 22].into(), [0xfd77, 0, 0, 0, 0, 0, 0, 0x22].into())
}

/// Three real servers, by Maglev.
pub(crate) fn three(family: Family) -> Bench {
    Bench::new([three_by(family, Scheduler::Maglev)])
}

/// A service with three real servers.
pub(crate) fn three_by(family: Family, scheduler: Scheduler) -> ServicePlan {
    service(family.vip(), scheduler, [real(1), real(2), real(3)])
}

/// The real server that the service's Maglev table names for each client, by user space's own
/// look-up.
pub(crate) fn named(service: &ServicePlan, clients: impl IntoIterator<Item = u32>) -> Vec<u16> {
    let (table, family) = (table::maglev(&entries(service)), Family::of(service.vip));
    clients.into_iter().map(|number| table[family.key(number).slot()]).collect()
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

/// An interface of a host as it is now.
pub(crate) fn port(host: &Host, name: &str) -> Result<Port> {
    let links = host.run(["ip", "-j", "-d", "link", "show", "dev", name])?;
    let links: serde_json::Value = serde_json::from_str(&links)?;
    let link = links.get(0).context("an interface")?;
    let number = |value: &serde_json::Value| value.as_u64().and_then(|id| id.try_into().ok());
    // `XDP_ATTACHED_SKB` of linux/if_link.h.
    let mode = if link["xdp"]["mode"] == 2 { Mode::Generic } else { Mode::Native };
    Ok(Port {
        name: name.to_owned(),
        index: number(&link["ifindex"]).context("an index")?,
        mac: link["address"].as_str().context("an address")?.parse()?,
        program: number(&link["xdp"]["prog"]["id"]).map(|id| Running { id, mode }),
    })
}
