//! Frames that truly leave: the kernel makes a million of them, the program sends them out of a veth,
//! and the peer drops them.

use anyhow::{Context as _, Result, ensure};
use aya::Ebpf;
use aya::programs::xdp::XdpMode;
use aya::programs::{TestRun as _, TestRunAttrs, TestRunOptions, Xdp};
use nix::net::if_::if_nametoindex;
use pgha_common::maps::Scheduler;
use pgha_common::verdict::Reason;
use pgha_ctl::bpf::xdp::DataPlane;
use pgha_machine::Neighbour;
use pgha_machine::balancer::Plan;
use serde_json::Value;

use super::dataplane::{load, stub, stubs};
use super::samples::Samples;
use crate::dataplane::{
    DIRECTOR_MAC, PrivateBpffs, Segment, VIP, client, director, mac, real, run, service, settings,
};
use crate::lab::{Host, Lab};

/// Frames a call: of each call about 20 ms are its own.
const FRAMES: u32 = 1_000_000;
const ROUNDS: usize = 9;
/// Frames the kernel hands over at a time, as a driver does (`NAPI_POLL_WEIGHT`).
const BATCH: u32 = 64;
/// The end of the cable that sends, and the one that drops.
const SENDER: &str = "sender";
const RECEIVER: &str = "receiver";

/// Medians in nanoseconds a frame.
pub(super) struct Figures {
    /// Dropped at once.
    pub(super) floor: f64,
    /// Sent as it is.
    pub(super) sent: f64,
    /// Balanced, and sent.
    pub(super) balanced: f64,
}

pub(super) fn measure() -> Result<Figures> {
    eprintln!("live frames ...");
    let lab = Lab::new()?;
    let host = lab.host("lb1")?;
    host.run(["ip", "link", "add", SENDER, "type", "veth", "peer", "name", RECEIVER])?;
    for end in [SENDER, RECEIVER] {
        host.run(["ip", "link", "set", end, "up"])?;
    }
    let bpffs = PrivateBpffs::mount()?;
    let figures = host.inside(|| on_cable(&bpffs))?;
    // Two of the three programs send; a cable that does not take their frames would look fast.
    let sent = 2 * ROUNDS as u64 * u64::from(FRAMES);
    let arrived = arrived(&host)?;
    ensure!(arrived >= sent / 100 * 99, "{arrived} of {sent} live frames arrived");
    Ok(figures)
}

/// How many frames the receiving end has taken.
fn arrived(host: &Host) -> Result<u64> {
    let links = host.run(["ip", "-j", "-s", "link", "show", "dev", RECEIVER])?;
    let links: Value = serde_json::from_str(&links)?;
    links[0]["stats64"]["rx"]["packets"].as_u64().context("a count of received frames")
}

fn on_cable(bpffs: &PrivateBpffs) -> Result<Figures> {
    // A veth has the receive queue that a live frame claims to come from only with XDP on it.
    let mut stubs = stubs()?;
    attach(&mut stubs, "xdp_pass", SENDER)?;
    attach(&mut stubs, "xdp_drop", RECEIVER)?;
    load(&mut stubs, "xdp_tx")?;

    let mut data_plane = DataPlane::load(settings(bpffs, 1024, 1024)?)?;
    // The kernel hands the same pages in again as the program left them: the real server's address is
    // the director's here, so that a balanced frame can be balanced once more.
    let mut real = real(1);
    real.neighbour = Some(Neighbour { interface: 0, mac: mac(DIRECTOR_MAC) });
    let plan = Plan { services: vec![service(VIP, Scheduler::Maglev, [real])] };
    data_plane.apply(&director(), &plan)?;
    let from = || Segment::new(client(1), VIP);
    for segment in [from().syn(), from().ack(1), from().ack(2)] {
        run(&mut data_plane, &segment.frame(), &mut [0; 2048])?;
    }
    let frame = from().ack(3).data(10).frame();
    let context = context(&frame)?;
    let mut samples: [Samples; 3] = std::array::from_fn(|_| Samples::default());
    let before = data_plane.counters()?;
    for _ in 0..ROUNDS {
        samples[0].push(time(stub(&stubs, "xdp_drop")?, &frame, &context)?);
        samples[1].push(time(stub(&stubs, "xdp_tx")?, &frame, &context)?);
        samples[2].push(time(data_plane.program(0)?, &frame, &context)?);
    }
    let reason = Reason::EstablishedFlow as usize;
    let counted = data_plane.counters()?.reasons[reason] - before.reasons[reason];
    ensure!(counted == u64::from(FRAMES) * ROUNDS as u64, "{counted} frames were balanced");
    let [floor, sent, balanced] = samples.map(|samples| samples.median());
    Ok(Figures { floor, sent, balanced })
}

fn attach(stubs: &mut Ebpf, program: &'static str, interface: &str) -> Result<()> {
    load(stubs, program)?.attach_to_if_index(if_nametoindex(interface)?, XdpMode::Driver)?;
    Ok(())
}

/// `struct xdp_md` (linux/bpf.h) of a frame that came in at [`SENDER`]: data, its end, no metadata,
/// ingress interface, its first queue, no egress.
fn context(frame: &[u8]) -> Result<Vec<u8>> {
    let words = [0, u32::try_from(frame.len())?, 0, if_nametoindex(SENDER)?, 0, 0];
    Ok(words.into_iter().flat_map(u32::to_ne_bytes).collect())
}

/// How long a frame takes, in nanoseconds.
fn time(program: &Xdp, frame: &[u8], context: &[u8]) -> Result<u32> {
    let run = program.test_run(TestRunOptions {
        data_in: Some(frame),
        ctx_in: Some(context),
        repeat: FRAMES,
        attrs: TestRunAttrs::new().xdp_live_frames(BATCH),
        ..TestRunOptions::default()
    })?;
    Ok(run.duration.as_nanos().try_into()?)
}
