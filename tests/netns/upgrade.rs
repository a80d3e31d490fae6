//! Controllers end and others begin, each with a program of its own: no frame is lost, none doubled.
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use aya::programs::links::{FdLink, PinnedLink};
use pgha_tests::dataplane::{Segment, VIP, client};
use pgha_tests::lab::frames::FrameSocket;
use pgha_tests::lab::{Host, SOON, wait_until};

use crate::cluster::Cluster;

/// How many controllers follow each other.
const CONTROLLERS: usize = 100;
const FLOWS: u32 = 200;
/// Frames in a second.
const RATE: u32 = 20_000;
/// How many frames may be on their way. A veth and the kernel behind it queue some hundreds, so that
/// on a machine that is busy elsewhere it is not their queues that lose one.
const UNDERWAY: u64 = 128;
/// The number of a frame that comes after all others.
const LAST: u64 = u64::MAX;
/// For frames that nobody has had the time to receive.
const BUFFER: usize = 64 << 20;

#[test]
fn netns_a_hundred_upgrades_lose_and_double_no_frame() -> Result<()> {
    let cluster = Cluster::up(&["db2", "db3"], &[])?;
    let director = cluster.director.host();
    let flows: Vec<_> = (0..FLOWS).map(|flow| established(&cluster, director, flow)).collect();
    let sender = cluster.client.frames()?;
    for frame in flows.iter().flat_map(|flow| &flow.opening) {
        sender.send(frame)?;
    }
    wait_until("all flows to be established", SOON, || {
        Ok(counted(&cluster, "established_flow")? >= FLOWS.into())
    })?;
    let before = cluster.director.status()?;
    let receiver = |host| Receiver::at(host, director, flows[0].frame.len());
    let receivers: Vec<Receiver> =
        cluster.readers.iter().map(|reader| receiver(reader.host())).collect::<Result<_>>()?;

    let (received, done) = (AtomicU64::new(0), AtomicBool::new(false));
    let start = Instant::now();
    let (sent, seen) = thread::scope(|scope| -> Result<_> {
        let receiving: Vec<_> =
            receivers.iter().map(|receiver| scope.spawn(|| receiver.numbers(&received))).collect();
        let sending = scope.spawn(|| send(&sender, &flows, &received, &done));
        let upgraded = upgrade(&cluster);
        done.store(true, Ordering::Release);
        let sent = sending.join().expect("no panic")?;
        upgraded?;
        let seen = receiving.into_iter().map(|receiving| receiving.join().expect("no panic"));
        Ok((sent, seen.collect::<Result<Vec<_>>>()?))
    })?;
    let elapsed = start.elapsed();
    println!(
        "{CONTROLLERS} controllers in {elapsed:.1?}, {sent} frames, {:.0} in a second",
        sent as f64 / elapsed.as_secs_f64()
    );

    let mut numbers = seen.concat();
    numbers.sort_unstable();
    let lost: Vec<u64> = (0..sent).filter(|n| numbers.binary_search(n).is_err()).collect();
    let doubled: Vec<u64> =
        numbers.windows(2).filter(|pair| pair[0] == pair[1]).map(|pair| pair[0]).collect();
    assert_eq!((lost, doubled), (vec![], vec![]), "of {sent} frames");
    let [first, second] = [&seen[0], &seen[1]].map(|numbers| flows_of(numbers));
    assert!(!first.is_empty() && !second.is_empty(), "one reader got everything");
    assert_eq!(first.intersection(&second).next(), None, "a flow changed its server");

    let after = cluster.director.status()?;
    let risen = |counter: &dyn Fn(&serde_json::Value) -> &serde_json::Value| -> Result<u64> {
        let number = |status| counter(status).as_u64().context("a counter");
        Ok(number(&after)? - number(&before)?)
    };
    assert!(risen(&|status| &status["received"])? >= sent);
    // With the last frame of each flow.
    assert_eq!(risen(&|status| &status["reasons"]["established_flow"])?, sent + u64::from(FLOWS));
    for reason in ["unknown_flow", "new_flow", "pending_flow", "dead_server", "no_server"] {
        assert_eq!(risen(&|status| &status["reasons"][reason])?, 0, "{reason}");
    }
    Ok(())
}

fn counted(cluster: &Cluster, reason: &str) -> Result<u64> {
    cluster.director.status()?["reasons"][reason].as_u64().context("a reason")
}

/// Exchanges the controller, and with it the program, again and again; the link stays.
fn upgrade(cluster: &Cluster) -> Result<()> {
    let pin = cluster.director.pins().join("link");
    let running = || -> Result<(u32, u32)> {
        let info = FdLink::from(PinnedLink::from_pin(&pin)?).info()?;
        Ok((info.id(), info.program_id()))
    };
    let mut programs = BTreeSet::new();
    let (link, program) = running()?;
    programs.insert(program);
    for _ in 1..CONTROLLERS {
        cluster.director.kill()?;
        // Not a moment longer, so that most of them have just begun when they end.
        cluster.director.start_until(|| Ok(!programs.contains(&running()?.1)))?;
        let (same, program) = running()?;
        ensure!(same == link, "another link");
        programs.insert(program);
    }
    cluster.director.kill()?;
    cluster.director.start()?;
    let status = cluster.director.status()?;
    ensure!(status["director"]["taken_over"] == true, "{:#}", status["director"]);
    Ok(())
}

/// A connection that only the director knows of: to the readers its segments are none, for their
/// checksum is wrong.
struct Flow {
    /// What makes it established.
    opening: [Vec<u8>; 3],
    /// A segment of it that ends in 8 bytes for a number.
    frame: Vec<u8>,
}

fn established(cluster: &Cluster, director: &Host, number: u32) -> Flow {
    let segment = Segment::new(client(number), VIP).with(|segment| {
        (segment.destination, segment.source) = (director.mac(), cluster.client.mac());
    });
    let opening = [segment.clone().syn(), segment.clone().ack(2001), segment.clone().ack(2100)];
    let frame = segment.ack(2100).data(size_of::<u64>()).frame();
    Flow { opening: opening.map(|segment| unanswered(segment.frame())), frame: unanswered(frame) }
}

/// With a TCP checksum that is wrong.
fn unanswered(mut frame: Vec<u8>) -> Vec<u8> {
    const CHECKSUM: usize = 14 + 20 + 16;
    frame[CHECKSUM] ^= 0xff;
    frame
}

/// Sends numbered frames until `done`, and says how many; then the last of each flow.
fn send(
    sender: &FrameSocket,
    flows: &[Flow],
    received: &AtomicU64,
    done: &AtomicBool,
) -> Result<u64> {
    let mut frames: Vec<_> = flows.iter().map(|flow| flow.frame.clone()).collect();
    let mut numbered = |number: u64, flow: usize| {
        let frame = &mut frames[flow];
        let at = frame.len() - size_of::<u64>();
        frame[at..].copy_from_slice(&number.to_be_bytes());
        sender.send(frame)
    };
    let (start, mut sent) = (Instant::now(), 0);
    for flow in (0..flows.len()).cycle() {
        if done.load(Ordering::Acquire) {
            break;
        }
        let due = start + Duration::from_secs(1) / RATE * u32::try_from(sent)?;
        wait_until("frames to arrive", SOON, || {
            Ok(Instant::now() >= due && sent - received.load(Ordering::Acquire) < UNDERWAY)
        })?;
        numbered(sent, flow)?;
        sent += 1;
    }
    // The last ones go even where some are lost: what is missing is said by number.
    let arrived = || Ok(received.load(Ordering::Acquire) >= sent);
    let _ = wait_until("all frames to arrive", SOON, arrived);
    (0..flows.len()).try_for_each(|flow| numbered(LAST, flow))?;
    Ok(sent)
}

/// What arrives at a reader.
struct Receiver {
    socket: FrameSocket,
    /// How a frame of the director's begins.
    start: Vec<u8>,
    length: usize,
}

impl Receiver {
    fn at(host: &Host, director: &Host, length: usize) -> Result<Self> {
        let socket = host.frames()?;
        socket.buffer(BUFFER)?;
        Ok(Self { socket, start: [host.mac(), director.mac()].concat(), length })
    }

    /// The numbers of the frames before the last.
    fn numbers(&self, received: &AtomicU64) -> Result<Vec<u64>> {
        let mut numbers = Vec::new();
        self.socket.receive(Duration::from_secs(120), |frame| {
            let number = self.number(frame);
            if let Some(number) = number.filter(|number| *number != LAST) {
                numbers.push(number);
                received.fetch_add(1, Ordering::Release);
            }
            number == Some(LAST)
        })?;
        Ok(numbers)
    }

    /// That of a numbered frame.
    fn number(&self, frame: &[u8]) -> Option<u64> {
        let ours = frame.len() == self.length && frame[..self.start.len()] == self.start;
        ours.then(|| frame.last_chunk().map(|bytes| u64::from_be_bytes(*bytes)))?
    }
}

fn flows_of(numbers: &[u64]) -> BTreeSet<u64> {
    numbers.iter().map(|number| number % u64::from(FLOWS)).collect()
}
