//! Frames with their verdicts, and what tracing leaves behind: nothing.
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use aya::programs::ProgramInfo;
use nix::sys::signal::Signal;
use pcap_file::pcapng::blocks::enhanced_packet::EnhancedPacketOption;
use pcap_file::pcapng::{Block, PcapNgParser};
use pgha_tests::lab::{SOON, wait_for, wait_until};

use crate::cluster::Cluster;

/// A frame of a capture: its verdict, its destination and source MAC address, its time.
type Seen = (String, Vec<u8>, Duration);

/// Size of the running program, as the verifier left it.
fn size(cluster: &Cluster) -> Result<u32> {
    let program = ProgramInfo::from_pin(cluster.director.pins().join("program"))?;
    program.size_translated().context("a size")
}

fn wait_size(cluster: &Cluster, wanted: impl Fn(u32) -> bool) -> Result<u32> {
    wait_for("the program to be exchanged", SOON, || {
        let size = size(cluster)?;
        Ok(wanted(size).then_some(size))
    })
}

fn frames(file: &[u8]) -> Result<Vec<Seen>> {
    let (mut rest, mut parser) = PcapNgParser::new(file)?;
    let mut frames = Vec::new();
    while !rest.is_empty() {
        let (after, block) = parser.next_block(rest)?;
        rest = after;
        let Block::EnhancedPacket(packet) = block else { continue };
        let comment = packet.options.iter().find_map(|option| {
            if let EnhancedPacketOption::Comment(text) = option { Some(text) } else { None }
        });
        let (verdict, _) = comment.context("a comment")?.split_once(" — ").context("a verdict")?;
        frames.push((verdict.to_owned(), packet.data[..12].to_vec(), packet.timestamp));
    }
    Ok(frames)
}

#[test]
fn netns_a_trace_shows_what_happens_and_leaves_nothing_behind() -> Result<()> {
    let cluster = Cluster::up(&["db2"], &[])?;
    let before = size(&cluster)?;
    let path = cluster.director.host().log_path("trace.pcapng");
    let output = path.to_str().context("a path")?;
    let client = cluster.client.address().to_string();
    let arguments = ["trace", "--client", &client, "--output", output];
    let trace = cluster.director.start_pgha(arguments, "trace")?;
    let during = wait_size(&cluster, |size| size != before)?;
    assert!(during > before, "{before}, {during}");

    // One at a time.
    let second = cluster.director.pgha(["trace", "--count", "1"])?;
    assert_eq!(second.status.code(), Some(5), "{second:?}");
    let said = String::from_utf8(second.stderr)?;
    assert!(said.starts_with("pgha: somebody traces already"), "{said}");

    assert_eq!(cluster.psql("show cluster_name")?, "db2");
    let started = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
    let macs = [cluster.reader("db2")?.host().mac(), cluster.director.host().mac()].concat();
    wait_for("the connection in the capture", SOON, || {
        let seen = frames(&std::fs::read(&path)?)?;
        for reason in ["new_flow", "pending_flow", "established_flow"] {
            let verdict = format!("forward {reason}");
            let found = seen.iter().find(|(found, ..)| *found == verdict);
            let (_, found, time) = found.with_context(|| format!("{verdict} in {seen:?}"))?;
            // As it left, at a time of today.
            ensure!(*found == macs, "{found:x?}");
            ensure!(started.abs_diff(*time) < SOON, "{time:?}");
        }
        Ok(Some(()))
    })?;

    trace.signal(Signal::SIGINT)?;
    assert!(trace.wait(SOON)?.success(), "{}", trace.log());
    assert!(trace.log().ends_with(" frames, 0 lost\n"), "{}", trace.log());
    assert_eq!(wait_size(&cluster, |size| size == before)?, before);
    assert_eq!(cluster.psql("show cluster_name")?, "db2");
    Ok(())
}

#[test]
fn netns_a_trace_ends_by_itself_and_with_the_controller() -> Result<()> {
    let cluster = Cluster::up(&["db2"], &[])?;
    let before = size(&cluster)?;
    let syns = ["trace", "--reason", "new_flow", "--count", "2"];
    let trace = cluster.director.start_pgha(syns, "lines")?;
    wait_size(&cluster, |size| size > before)?;
    for _ in 0..3 {
        cluster.psql("select 1")?;
    }
    assert!(trace.wait(SOON)?.success(), "{}", trace.log());
    let log = trace.log();
    let lines: Vec<_> = log.lines().collect();
    assert_eq!(lines.len(), 3, "{log}");
    for line in &lines[..2] {
        assert!(line.contains(" eth0 forward new_flow 10.77.0.31:"), "{line}");
        assert!(line.contains(" -> 10.77.0.100:5432 SYN "), "{line}");
    }
    assert_eq!(lines[2], "2 frames, 0 lost");
    wait_size(&cluster, |size| size == before)?;

    let briefly = cluster.director.pgha(["trace", "--duration", "10ms", "--reason", "syn_ack"])?;
    assert!(briefly.status.success(), "{briefly:?}");
    assert_eq!(String::from_utf8(briefly.stderr)?, "0 frames, 0 lost\n");
    wait_size(&cluster, |size| size == before)?;

    // Nothing comes, and still nobody traces once he who did has gone.
    let gone = cluster.director.start_pgha(["trace", "--reason", "syn_ack"], "gone")?;
    wait_size(&cluster, |size| size > before)?;
    gone.kill()?;
    wait_size(&cluster, |size| size == before)?;

    let last = cluster.director.start_pgha(["trace"], "last")?;
    wait_size(&cluster, |size| size > before)?;
    assert!(cluster.director.terminate()?.success());
    assert_eq!(size(&cluster)?, before);
    wait_until("the end of the trace", SOON, || Ok(!last.is_running()?))?;
    let wrong = cluster.director.pgha(["trace", "--reason", "new_flw"])?;
    assert_eq!(wrong.status.code(), Some(2), "{wrong:?}");
    assert!(cluster.director.pins().exists());
    Ok(())
}
