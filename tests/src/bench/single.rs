//! One run of the program at a time, timed by the kernel itself.
//!
//! `repeat = 1` in a loop: with more, the kernel does not restore the packet between the runs, and a
//! rewritten frame takes another way through the program. The price is a higher floor, which an
//! empty program has too: it is measured in turn with the subjects.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::os::fd::{AsFd as _, AsRawFd as _};

use anyhow::{Context as _, Result, bail, ensure};
use aya::Ebpf;
use aya::maps::{HashMap, Map, MapData};
use aya::programs::{TestRun as _, TestRunOptions, Xdp};
use pgha_common::maps::Scheduler;
use pgha_common::verdict::Reason;
use pgha_ctl::bpf::xdp::DataPlane;
use pgha_machine::balancer::{Plan, ServicePlan};

use super::dataplane::stub;
use super::samples::Samples;
use crate::dataplane::{
    FAMILIES, Family, FlowTable, PrivateBpffs, Random, Segment, VIP, VIP6, client, client6,
    director, real, service, settings,
};

/// Tables of the size that the configuration has by default.
const FLOWS: u32 = 1_048_576;
const PENDING_FLOWS: u32 = 65_536;

const FEW: u32 = 1000;
const MANY: u32 = 100_000;
/// With [`RUNS`], less than there are pending flows.
const ROUNDS: usize = 12;
/// Runs of each subject in a round: enough to meet each of a few flows again while it is still warm in
/// the processor's caches, as it is under traffic.
const RUNS: usize = 5000;

/// The median of one kind of frame, in nanoseconds, the floor included.
pub(super) struct Timed {
    pub(super) key: &'static str,
    pub(super) meaning: &'static str,
    pub(super) nanoseconds: f64,
}

/// Everything that is measured frame by frame.
pub(super) struct Figures {
    /// The median of an empty program.
    pub(super) floor: f64,
    pub(super) timed: Vec<Timed>,
    /// Bytes of map memory for a flow of each family.
    pub(super) bytes_per_flow: Vec<f64>,
}

pub(super) fn measure(stubs: &Ebpf) -> Result<Figures> {
    let bpffs = PrivateBpffs::mount()?;
    let settings = settings(&bpffs, FLOWS, PENDING_FLOWS)?;
    let pins = settings.pins.clone();
    let mut plane = Plane {
        data_plane: DataPlane::load(settings)?,
        random: Random::new(1),
        floor: stub(stubs, "xdp_pass")?,
        floors: Samples::default(),
        timed: Vec::new(),
    };
    let reals: Vec<_> = (1..=4).map(real).collect();
    let ipv4 = service(VIP, Scheduler::Maglev, reals);
    let ipv6 = ServicePlan {
        index: 1,
        reals: (5..=8).map(real).collect(),
        ..service(VIP6, Scheduler::Maglev, [])
    };
    plane.data_plane.apply(&director(), &Plan { services: vec![ipv4, ipv6] })?;

    eprintln!("{FEW} established flows, frames of others, frames to drop ...");
    plane.establish(Family::Ipv4, 0..FEW)?;
    plane.establish(Family::Ipv6, 0..FEW)?;
    let few = plane.in_disorder(FEW);
    let established = Reason::EstablishedFlow;
    plane.measure([
        Subject::new(
            "established",
            "established flow, 1,000 of them",
            established,
            &from().ack(3),
            &few,
        ),
        Subject::new("established_v6", "IPv6, 1,000 of them", established, &from6().ack(3), &few),
        Subject::new("pass", "not for a VIP: passed", Reason::NotVip, &elsewhere().ack(3), &few),
        Subject::new(
            "drop",
            "SYN+FIN to a VIP: dropped",
            Reason::SynFin,
            &from().syn().fin(),
            &few,
        ),
    ])?;

    eprintln!("{MANY} established flows ...");
    plane.establish(Family::Ipv4, FEW..MANY)?;
    let many = plane.in_disorder(MANY);
    plane.measure([Subject::new(
        "established_100k",
        "established flow, 100,000 of them",
        established,
        &from().ack(3),
        &many,
    )])?;

    eprintln!("a bare LRU look-up for comparison ...");
    plane.compare(stubs, &few, &many)?;

    let runs = u32::try_from(ROUNDS * RUNS)?;
    eprintln!("new flows ...");
    plane.opens("new_flow", "new flow", FLOWS..FLOWS + runs)?;

    eprintln!("{FLOWS} established flows ...");
    plane.establish(Family::Ipv4, MANY..FLOWS)?;
    let all = plane.in_disorder(FLOWS);
    // By chance a few were evicted on the way: the table is full.
    plane.establish(Family::Ipv4, 0..FLOWS)?;
    plane.measure_most(Subject::new(
        "established_1m",
        "established flow, 1,048,576 of them",
        established,
        &from().ack(3),
        &all,
    ))?;
    let first = 2 * FLOWS;
    plane.pend(first..first + PENDING_FLOWS)?;
    let first = first + PENDING_FLOWS;
    plane.opens("new_flow_full", "new flow, both tables full", first..first + runs)?;
    let first = first + runs;
    plane.establishes(first..first + runs)?;

    let bytes = |family| bytes_per_entry(&FlowTable::established(&pins, family)?);
    Ok(Figures {
        floor: plane.floors.median(),
        timed: plane.timed,
        bytes_per_flow: FAMILIES.into_iter().map(bytes).collect::<Result<_>>()?,
    })
}

struct Plane<'a> {
    data_plane: DataPlane,
    random: Random,
    floor: &'a Xdp,
    floors: Samples,
    timed: Vec<Timed>,
}

impl Plane<'_> {
    fn run(&mut self, frame: &[u8]) -> Result<u32> {
        time(self.data_plane.program(0)?, frame)
    }

    fn send(&mut self, segments: &[Segment], numbers: Range<u32>) -> Result<()> {
        let mut frames: Vec<_> = segments.iter().map(Segment::frame).collect();
        for number in numbers {
            for frame in &mut frames {
                address(frame, number);
                self.run(frame)?;
            }
        }
        Ok(())
    }

    fn establish(&mut self, family: Family, numbers: Range<u32>) -> Result<()> {
        let from = || Segment::new(family.client(0), family.vip());
        self.send(&[from().syn(), from().ack(1), from().ack(2)], numbers)
    }

    /// Fills the table of pending flows.
    fn pend(&mut self, numbers: Range<u32>) -> Result<()> {
        self.send(&[from().syn()], numbers)
    }

    /// The first clients, in an order of chance.
    fn in_disorder(&mut self, count: u32) -> Vec<u32> {
        let mut numbers: Vec<_> = (0..count).collect();
        self.random.shuffle(&mut numbers);
        numbers
    }

    /// Flows that begin.
    fn opens(
        &mut self,
        key: &'static str,
        meaning: &'static str,
        numbers: Range<u32>,
    ) -> Result<()> {
        let clients: Vec<_> = numbers.collect();
        self.measure([Subject::new(key, meaning, Reason::NewFlow, &from().syn(), &clients)])
    }

    /// Flows whose server is seen to answer, each of which takes another's place in the full table.
    fn establishes(&mut self, numbers: Range<u32>) -> Result<()> {
        self.send(&[from().syn(), from().ack(1)], numbers.clone())?;
        let clients: Vec<_> = numbers.collect();
        self.measure_most(Subject::new(
            "establish_full",
            "established anew, both tables full",
            Reason::EstablishedFlow,
            &from().ack(2),
            &clients,
        ))
    }

    /// Measures what every frame must get the verdict for that is to be measured.
    fn measure<const N: usize>(&mut self, subjects: [Subject<'_>; N]) -> Result<()> {
        self.alternate(subjects, ROUNDS * RUNS)
    }

    /// As above, where the tables may have evicted a few of the flows.
    fn measure_most(&mut self, subject: Subject<'_>) -> Result<()> {
        self.alternate([subject], ROUNDS * RUNS / 10 * 8)
    }

    /// Runs floor and subjects in turn, so that a drift of the machine meets all of them, and sees to
    /// it that so many frames of a subject got its verdict.
    fn alternate<const N: usize>(
        &mut self,
        mut subjects: [Subject<'_>; N],
        at_least: usize,
    ) -> Result<()> {
        let mut samples: [Samples; N] = std::array::from_fn(|_| Samples::default());
        let before = self.data_plane.counters()?;
        for round in 0..ROUNDS {
            for (subject, samples) in subjects.iter_mut().zip(&mut samples) {
                let floor = self.floor;
                subject.each(round, &mut self.floors, |frame| time(floor, frame))?;
                subject.each(round, samples, |frame| self.run(frame))?;
            }
        }
        let after = self.data_plane.counters()?;
        for (Subject { key, meaning, reason, .. }, samples) in subjects.into_iter().zip(samples) {
            let rivals = N * ROUNDS * RUNS;
            let counted = after.reasons[reason as usize] - before.reasons[reason as usize];
            ensure!(
                (at_least as u64..=rivals as u64).contains(&counted),
                "{counted} of {} frames got the verdict `{}`",
                ROUNDS * RUNS,
                reason.name()
            );
            self.timed.push(Timed { key, meaning, nanoseconds: samples.median() });
        }
        Ok(())
    }

    /// The least that a balancer does, for the same frames.
    fn compare(&mut self, stubs: &Ebpf, few: &[u32], many: &[u32]) -> Result<()> {
        let program = stub(stubs, "lru_forwarder")?;
        let map = stubs.map("SERVERS").context("SERVERS")?;
        let Map::LruHashMap(servers) = map else { bail!("SERVERS is no LRU map") };
        let servers = MapData::from_id(servers.info()?.id())?;
        let mut servers: HashMap<_, [u8; 12], [u8; 8]> = Map::LruHashMap(servers).try_into()?;
        let mut frame = from().ack(3).frame();
        for number in 0..MANY {
            address(&mut frame, number);
            servers.insert(<[u8; 12]>::try_from(&frame[26..38])?, [2, 0, 0, 0, 0, 1, 0, 0], 0)?;
        }
        for (key, meaning, clients) in [
            ("bare_lru", "bare look-up, 1,000 flows", few),
            ("bare_lru_100k", "bare look-up, 100,000 flows", many),
        ] {
            let mut samples = Samples::default();
            let mut subject =
                Subject::new(key, meaning, Reason::EstablishedFlow, &from().ack(3), clients);
            for round in 0..ROUNDS {
                let floor = self.floor;
                subject.each(round, &mut self.floors, |frame| time(floor, frame))?;
                subject.each(round, &mut samples, |frame| time(program, frame))?;
            }
            self.timed.push(Timed { key, meaning, nanoseconds: samples.median() });
        }
        Ok(())
    }
}

/// A frame of each of some clients, all in one buffer: a million frames in memory would take the
/// processor's caches from the program.
struct Subject<'a> {
    key: &'static str,
    meaning: &'static str,
    reason: Reason,
    frame: Vec<u8>,
    clients: &'a [u32],
}

impl<'a> Subject<'a> {
    fn new(
        key: &'static str,
        meaning: &'static str,
        reason: Reason,
        segment: &Segment,
        clients: &'a [u32],
    ) -> Self {
        Self { key, meaning, reason, frame: segment.frame(), clients }
    }

    /// Times the frames of a round.
    fn each(
        &mut self,
        round: usize,
        samples: &mut Samples,
        mut run: impl FnMut(&[u8]) -> Result<u32>,
    ) -> Result<()> {
        let first = round * RUNS % self.clients.len();
        for number in self.clients.iter().cycle().skip(first).take(RUNS) {
            address(&mut self.frame, *number);
            samples.push(run(&self.frame)?);
        }
        Ok(())
    }
}

/// Makes a frame one of that client. Its checksums stay behind: nobody reads them on the way.
fn address(frame: &mut [u8], number: u32) {
    let family = if frame[12] == 0x08 { Family::Ipv4 } else { Family::Ipv6 };
    let client = family.client(number);
    match client.ip() {
        IpAddr::V4(address) => frame[26..30].copy_from_slice(&address.octets()),
        IpAddr::V6(address) => frame[22..38].copy_from_slice(&address.octets()),
    }
    let port_at = family.pick(34, 54);
    frame[port_at..port_at + 2].copy_from_slice(&client.port().to_be_bytes());
}

fn from() -> Segment {
    Segment::new(client(0), VIP)
}

fn from6() -> Segment {
    Segment::new(client6(0), VIP6)
}

/// To an address that the program's filter tells from a VIP.
fn elsewhere() -> Segment {
    Segment::new(client(0), SocketAddr::new([10, 99, 9, 9].into(), VIP.port()))
}

/// How long one run takes, in nanoseconds.
fn time(program: &Xdp, frame: &[u8]) -> Result<u32> {
    let run = TestRunOptions { data_in: Some(frame), ..TestRunOptions::default() };
    Ok(program.test_run(run)?.duration.as_nanos().try_into()?)
}

/// The memory of a map, as the kernel accounts it, by its entries.
fn bytes_per_entry(table: &FlowTable) -> Result<f64> {
    let fd = table.map().fd().as_fd().as_raw_fd();
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{fd}"))?;
    let field = |name: &str| {
        let line = info.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|value| value.trim().parse::<f64>().ok()).with_context(|| name.to_owned())
    };
    Ok((field("memlock:")? / field("max_entries:")? * 10.0).round() / 10.0)
}
