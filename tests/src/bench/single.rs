//! One run of the program at a time, timed by the kernel itself.
//!
//! `repeat = 1` in a loop: with more, the kernel does not restore the packet between the runs, and a
//! rewritten frame takes another way through the program. The price is a higher floor, which an
//! empty program has too: it is measured in turn with the subjects.

use std::fs;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::ops::Range;
use std::os::fd::{AsFd as _, AsRawFd as _};

use anyhow::{Context as _, Result, ensure};
use aya::programs::{TestRun as _, TestRunOptions, Xdp};
use pgha_common::maps::{Scheduler, name};
use pgha_common::verdict::Reason;
use pgha_ctl::bpf::xdp::DataPlane;
use pgha_machine::balancer::Plan;

use super::samples::Samples;
use crate::dataplane::{
    FlowTable, PrivateBpffs, Random, Segment, VIP, client, director, real, service, settings,
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

/// Medians in nanoseconds a frame, the floor included.
pub(super) struct Figures {
    pub(super) floor: f64,
    pub(super) established: f64,
    pub(super) established_many: f64,
    pub(super) new_flow: f64,
    pub(super) new_flow_full: f64,
    pub(super) pass: f64,
    pub(super) drop: f64,
    pub(super) bytes_per_flow: f64,
}

pub(super) fn measure(floor: &Xdp) -> Result<Figures> {
    let bpffs = PrivateBpffs::mount()?;
    let settings = settings(&bpffs, FLOWS, PENDING_FLOWS)?;
    let pins = settings.pins.clone();
    let mut plane = Plane { data_plane: DataPlane::load(settings)?, random: Random::new(1) };
    let reals: Vec<_> = (1..=4).map(real).collect();
    let plan = Plan { services: vec![service(Scheduler::Maglev, reals)] };
    plane.data_plane.apply(&director(), &plan)?;
    let bytes_per_flow = bytes_per_entry(&FlowTable::open(&pins, name::ESTABLISHED)?)?;

    let mut floors = Samples::default();
    eprintln!("{FEW} established flows, frames of others, frames to drop ...");
    plane.establish(0..FEW)?;
    let few = plane.in_disorder(FEW);
    let [established, pass, drop] = plane.alternate(
        floor,
        &mut floors,
        [
            Subject::new(Reason::EstablishedFlow, &from().ack(3), &few),
            Subject::new(Reason::NotVip, &elsewhere().ack(3), &few),
            Subject::new(Reason::SynFin, &from().syn().fin(), &few),
        ],
    )?;

    eprintln!("{MANY} established flows ...");
    plane.establish(FEW..MANY)?;
    let many = plane.in_disorder(MANY);
    let [established_many] = plane.alternate(
        floor,
        &mut floors,
        [Subject::new(Reason::EstablishedFlow, &from().ack(3), &many)],
    )?;

    let runs = u32::try_from(ROUNDS * RUNS)?;
    let mut new_flows = |message: &str, first: u32| {
        eprintln!("{message} ...");
        let clients: Vec<_> = (first..first + runs).collect();
        let subject = Subject::new(Reason::NewFlow, &from().syn(), &clients);
        let mut syn = from().syn().frame();
        let [samples] = plane.alternate(floor, &mut floors, [subject])?;
        for number in first + runs..first + runs + PENDING_FLOWS {
            address(&mut syn, number);
            plane.run(&syn)?;
        }
        anyhow::Ok(samples)
    };
    let new_flow = new_flows("new flows", MANY)?;
    let new_flow_full = new_flows("new flows into a full table", 10 * MANY)?;

    Ok(Figures {
        floor: floors.median(),
        established: established.median(),
        established_many: established_many.median(),
        new_flow: new_flow.median(),
        new_flow_full: new_flow_full.median(),
        pass: pass.median(),
        drop: drop.median(),
        bytes_per_flow,
    })
}

struct Plane {
    data_plane: DataPlane,
    random: Random,
}

impl Plane {
    fn run(&mut self, frame: &[u8]) -> Result<u32> {
        time(self.data_plane.program()?, frame)
    }

    fn establish(&mut self, numbers: Range<u32>) -> Result<()> {
        let segments = [from().syn(), from().ack(1), from().ack(2)];
        let mut frames = segments.map(|segment| segment.frame());
        for number in numbers {
            for frame in &mut frames {
                address(frame, number);
                self.run(frame)?;
            }
        }
        Ok(())
    }

    /// The first clients, in an order of chance.
    fn in_disorder(&mut self, count: u32) -> Vec<u32> {
        let mut numbers: Vec<_> = (0..count).collect();
        self.random.shuffle(&mut numbers);
        numbers
    }

    /// Runs floor and subjects in turn, so that a drift of the machine meets all of them, and sees to
    /// it that every frame of a subject got the verdict that is to be measured.
    fn alternate<const N: usize>(
        &mut self,
        floor: &Xdp,
        floors: &mut Samples,
        mut subjects: [Subject<'_>; N],
    ) -> Result<[Samples; N]> {
        let mut samples: [Samples; N] = std::array::from_fn(|_| Samples::default());
        let before = self.data_plane.counters()?;
        for round in 0..ROUNDS {
            for (subject, samples) in subjects.iter_mut().zip(&mut samples) {
                subject.each(round, floors, |frame| time(floor, frame))?;
                subject.each(round, samples, |frame| self.run(frame))?;
            }
        }
        let after = self.data_plane.counters()?;
        for Subject { reason, .. } in subjects {
            let counted = after.reasons[reason as usize] - before.reasons[reason as usize];
            ensure!(
                counted == (ROUNDS * RUNS) as u64,
                "{counted} of {} frames got the verdict `{}`",
                ROUNDS * RUNS,
                reason.name()
            );
        }
        Ok(samples)
    }
}

/// A frame of each of some clients, all in one buffer: a million frames in memory would take the
/// processor's caches from the program.
struct Subject<'a> {
    reason: Reason,
    frame: Vec<u8>,
    clients: &'a [u32],
}

impl<'a> Subject<'a> {
    fn new(reason: Reason, segment: &Segment, clients: &'a [u32]) -> Self {
        Self { reason, frame: segment.frame(), clients }
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
    let client = client(number);
    frame[26..30].copy_from_slice(&client.ip().octets());
    frame[34..36].copy_from_slice(&client.port().to_be_bytes());
}

fn from() -> Segment {
    Segment::new(client(0), VIP)
}

/// To an address that the program's filter tells from a VIP.
fn elsewhere() -> Segment {
    Segment::new(client(0), SocketAddrV4::new(Ipv4Addr::new(10, 99, 9, 9), VIP.port()))
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
