//! Probes through a VIP, against the kernels and the PostgreSQL at their other ends.
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::ErrorKind;
use std::net::{IpAddr, TcpListener};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use pgha_ctl::net::probe::{Pace, Probed, Prober, Settings, startup};
use pgha_machine::balancer::{Path, ProbeFinding, Via};
use pgha_machine::{Mac, Neighbour};
use pgha_tests::lab::postgres::PORT;
use pgha_tests::lab::{
    Capture, Host, Lab, PostgresOptions, READER_VIP, READER_VIP6, SOON, wait_for, wait_until,
};
use tokio::sync::mpsc;

use crate::network::on;

const VIPS: [IpAddr; 2] = [IpAddr::V4(READER_VIP), IpAddr::V6(READER_VIP6)];
/// How long an answer may take that is to come: it is told as soon as it is there.
const ANSWER: Duration = Duration::from_secs(20);
/// How long is listened where none is to come.
const SILENCE: Duration = Duration::from_millis(400);
/// Hop limit of what a probe sends, which nothing of the kernel's has.
const ONE_HOP: u8 = 1;
/// The packet sockets of the calling thread's network namespace.
const PACKET_SOCKETS: &str = "/proc/thread-self/net/packet";

fn settings(timeout: Duration, questions: BTreeMap<(IpAddr, u16), Vec<u8>>) -> Settings {
    Settings {
        interfaces: vec!["eth0".to_owned()],
        pace: Pace { interval: Duration::from_millis(100), timeout },
        questions,
        vips: BTreeSet::from(VIPS),
    }
}

fn path(vip: IpAddr, server: &Host) -> Path {
    Path { vip, port: PORT, address: server.address().into() }
}

fn via(server: &Host) -> Via {
    let mac = Mac::new(server.mac()).expect("a host's MAC");
    Via::Neighbour(Neighbour { interface: 0, mac })
}

/// How the first probes of these paths ended, told from that host.
fn probe(
    from: &Host,
    paths: &[(Path, Via)],
    timeout: Duration,
    questions: BTreeMap<(IpAddr, u16), Vec<u8>>,
) -> Result<BTreeMap<Path, Probed>> {
    on(from, async || {
        let (tell, mut found) = mpsc::channel(8);
        let prober = Prober::new(settings(timeout, questions), tell);
        for (path, via) in paths {
            prober.probe(*path, *via);
        }
        let mut ended = BTreeMap::new();
        while ended.len() < paths.len() {
            let probed = found.recv().await.context("a finding")?;
            ended.entry(probed.path).or_insert(probed);
        }
        Ok(ended)
    })
}

/// The finding of one probe by SYN alone, which somebody is to answer.
fn syn(from: &Host, server: &Host, vip: IpAddr) -> Result<(ProbeFinding, Option<String>)> {
    syn_within(ANSWER, from, server, vip)
}

fn syn_within(
    timeout: Duration,
    from: &Host,
    server: &Host,
    vip: IpAddr,
) -> Result<(ProbeFinding, Option<String>)> {
    let path = path(vip, server);
    let mut ended = probe(from, &[(path, via(server))], timeout, BTreeMap::new())?;
    let Probed { finding, because, .. } = ended.remove(&path).context("the path")?;
    Ok((finding, because))
}

fn set(host: &Host, sysctl: &str, value: &str) -> Result<()> {
    host.run(["sh", "-c", &format!("echo {value} > /proc/sys/net/{sysctl}")]).map(drop)
}

/// Gives a host a VIP on its loopback, in whose name it asks nobody.
fn give(host: &Host, vip: IpAddr) -> Result<()> {
    set(host, "ipv4/conf/all/arp_announce", "2")?;
    let length = if vip.is_ipv4() { 32 } else { 128 };
    let address = format!("{vip}/{length}");
    let command = host.command(["ip", "address", "add", &address, "dev", "lo"])?;
    let nodad: &[&str] = if vip.is_ipv6() { &["nodad"] } else { &[] };
    command.args(nodad).run()?;
    // The kernel makes an IPv6 address reachable after it has added it.
    let family = if vip.is_ipv4() { "-4" } else { "-6" };
    wait_until(format_args!("{vip} to be local"), SOON, || {
        let routes = host.run(["ip", family, "route", "show", "table", "local"])?;
        Ok(routes.contains(&format!("local {vip} ")))
    })
}

/// Hosts that may use their link-local addresses, which a server of an IPv6 VIP asks its neighbours by.
fn hosts<const N: usize>(lab: &Lab, names: [&str; N]) -> Result<[Host; N]> {
    let hosts: [Host; N] = lab.hosts(&names)?.try_into().expect("as many hosts as names");
    for host in &hosts {
        wait_until("an address that is not tentative", SOON, || {
            let link =
                host.run(["ip", "-6", "-o", "address", "show", "dev", "eth0", "scope", "link"])?;
            Ok(link.contains("fe80") && !link.contains("tentative"))
        })?;
    }
    Ok(hosts)
}

#[test]
fn netns_probe_tells_what_a_client_would_find() -> Result<()> {
    let lab = Lab::new()?;
    let [lb1, db1] = hosts(&lab, ["lb1", "db1"])?;
    for vip in VIPS {
        let found = syn_within(SILENCE, &lb1, &db1, vip)?;
        assert_eq!(found, (ProbeFinding::Silent, None), "{vip}: not on lo");
        give(&db1, vip)?;
        assert_eq!(syn(&lb1, &db1, vip)?, (ProbeFinding::Refused, None), "{vip}: closed");
        // On another address of the host.
        let elsewhere: IpAddr =
            if vip.is_ipv4() { db1.address().into() } else { db1.address6().into() };
        let other = db1.inside(|| Ok(TcpListener::bind((elsewhere, PORT))?))?;
        assert_eq!(syn(&lb1, &db1, vip)?, (ProbeFinding::Refused, None), "{vip}: elsewhere");
        drop(other);
        let listener = bind(&db1, vip)?;
        listener.set_nonblocking(true)?;
        for _ in 0..3 {
            assert_eq!(syn(&lb1, &db1, vip)?, (ProbeFinding::Open, None), "{vip}: open");
        }
        // It was half open each time.
        let accepted = listener.accept().expect_err("nobody connected");
        assert_eq!(accepted.kind(), ErrorKind::WouldBlock);
    }
    db1.link_down()?;
    for vip in VIPS {
        let found = syn_within(SILENCE, &lb1, &db1, vip)?;
        assert_eq!(found, (ProbeFinding::Silent, None), "{vip}: cut off");
    }
    Ok(())
}

/// Once the address is free: a child that another test forks keeps a socket until it executes.
fn bind(host: &Host, vip: IpAddr) -> Result<TcpListener> {
    wait_for(format_args!("{vip} to be free"), SOON, || {
        Ok(Some(host.inside(|| Ok(TcpListener::bind((vip, PORT))?))?))
    })
}

#[test]
fn netns_probe_of_a_server_that_forwards_goes_no_further() -> Result<()> {
    let lab = Lab::new()?;
    let [lb1, db1, db2] = hosts(&lab, ["lb1", "db1", "db2"])?;
    set(&db1, "ipv4/ip_forward", "1")?;
    set(&db1, "ipv6/conf/all/forwarding", "1")?;
    let mut listeners = Vec::new();
    for vip in VIPS {
        // db1 knows who has it, and would pass on whatever may go further.
        give(&db2, vip)?;
        listeners.push(bind(&db2, vip)?);
        let mac = pgha_tests::lab::plan::mac_text(db2.mac());
        db1.run(["ip", "neigh", "replace", &vip.to_string(), "lladdr", &mac, "dev", "eth0"])?;
    }
    for vip in VIPS {
        let own: IpAddr = if vip.is_ipv4() { db1.address().into() } else { db1.address6().into() };
        let (finding, because) = syn(&lb1, &db1, vip)?;
        assert_eq!(finding, ProbeFinding::Silent, "{vip}");
        let said = because.context("an ICMP error")?;
        let forwards = format!("{own} says: it forwards what is sent to the VIP");
        ensure!(said.starts_with(&forwards), "{said}");
        assert_eq!(syn(&lb1, &db2, vip)?, (ProbeFinding::Open, None), "{vip}");
    }
    Ok(())
}

#[test]
fn netns_probe_of_this_very_node() -> Result<()> {
    let lab = Lab::new()?;
    let [lb1] = hosts(&lab, ["lb1"])?;
    let of = |vip| -> Result<(ProbeFinding, Option<String>)> {
        let path = path(vip, &lb1);
        let mut ended = probe(&lb1, &[(path, Via::Local)], ANSWER, BTreeMap::new())?;
        let Probed { finding, because, .. } = ended.remove(&path).context("the path")?;
        Ok((finding, because))
    };
    for vip in VIPS {
        let missing = Some(format!("this node has no address {vip}"));
        assert_eq!(of(vip)?, (ProbeFinding::Silent, missing));
        give(&lb1, vip)?;
        assert_eq!(of(vip)?, (ProbeFinding::Refused, None), "{vip}");
        let listener = bind(&lb1, vip)?;
        listener.set_nonblocking(true)?;
        assert_eq!(of(vip)?, (ProbeFinding::Open, None), "{vip}");
        assert_eq!(listener.accept().expect_err("half open").kind(), ErrorKind::WouldBlock);
    }
    Ok(())
}

#[test]
fn netns_probe_that_cannot_be_made_says_why() -> Result<()> {
    let lab = Lab::new()?;
    let [lb1, db1] = hosts(&lab, ["lb1", "db1"])?;
    // A VIP on the director's loopback is no address to ask from, and answers from it get through all the same.
    for vip in VIPS {
        give(&lb1, vip)?;
        give(&db1, vip)?;
        assert_eq!(syn(&lb1, &db1, vip)?, (ProbeFinding::Refused, None), "{vip}");
    }
    lb1.run(["ip", "-4", "address", "flush", "dev", "eth0"])?;
    let (finding, _) = syn(&lb1, &db1, READER_VIP.into())?;
    let ProbeFinding::Undecided(why) = finding else { panic!("{finding:?}") };
    ensure!(why.starts_with("interface eth0 has no IPv4 address of its own"), "{why}");
    assert_eq!(syn(&lb1, &db1, READER_VIP6.into())?, (ProbeFinding::Refused, None));
    lb1.run(["ip", "link", "set", "eth0", "down"])?;
    let (finding, _) = syn(&lb1, &db1, READER_VIP6.into())?;
    let ProbeFinding::Undecided(why) = finding else { panic!("{finding:?}") };
    ensure!(why.contains("interface eth0 is down"), "{why}");
    Ok(())
}

/// TCP flags of a captured frame, and its hop limit if it goes to the VIP.
fn segments(capture: &Capture) -> Result<Vec<(u8, Option<u8>)>> {
    let read = |frame: &Vec<u8>| {
        let (flags, hops, to) = match frame.get(12..14)? {
            [8, 0] => (frame.get(47)?, frame.get(22)?, frame.get(30..34)? == READER_VIP.octets()),
            _ => (frame.get(67)?, frame.get(21)?, frame.get(38..54)? == READER_VIP6.octets()),
        };
        Some((*flags, to.then_some(*hops)))
    };
    capture.frames()?.iter().map(|frame| read(frame).context("a segment")).collect()
}

#[test]
fn netns_probe_is_three_segments_and_the_kernel_adds_none() -> Result<()> {
    const SYN: u8 = 2;
    const RST: u8 = 4;
    const SYN_ACK: u8 = 0x12;
    let lab = Lab::new()?;
    let [lb1, db1] = hosts(&lab, ["lb1", "db1"])?;
    for vip in VIPS {
        give(&db1, vip)?;
        let _listener = bind(&db1, vip)?;
        let capture = Capture::at_port(&lb1, &format!("tcp and host {vip}"))?;
        assert_eq!(syn(&lb1, &db1, vip)?.0, ProbeFinding::Open);
        // Another, whose segments come after all that the first could have caused.
        assert_eq!(syn(&lb1, &db1, vip)?.0, ProbeFinding::Open);
        capture.wait_for_frames(6)?;
        capture.stop()?;
        let mut segments = segments(&capture)?;
        // A SYN is sent again where the answer takes long.
        segments.dedup();
        let one = [(SYN, Some(ONE_HOP)), (SYN_ACK, None), (RST, Some(ONE_HOP))];
        assert_eq!(segments, [one, one].concat(), "{vip}");
    }
    Ok(())
}

#[test]
fn netns_probe_by_startup_hears_postgresql_and_leaves_its_log_alone() -> Result<()> {
    let lab = Lab::new()?;
    let [lb1, db1] = hosts(&lab, ["lb1", "db1"])?;
    let primary =
        lab.primary_with("db1", &PostgresOptions::default().guc("listen_addresses", "*"))?;
    let question = startup::message("pgha", "postgres");
    let questions: BTreeMap<_, _> =
        VIPS.iter().map(|vip| ((*vip, PORT), question.clone())).collect();
    let ask = |vip| -> Result<ProbeFinding> {
        let path = path(vip, &db1);
        let mut ended = probe(&lb1, &[(path, via(&db1))], ANSWER, questions.clone())?;
        Ok(ended.remove(&path).context("the path")?.finding)
    };
    for vip in VIPS {
        give(&db1, vip)?;
    }
    let before = primary.log()?;
    for vip in VIPS {
        for _ in 0..3 {
            assert_eq!(ask(vip)?, ProbeFinding::Open, "{vip}");
            assert_eq!(syn(&lb1, &db1, vip)?.0, ProbeFinding::Open, "{vip}");
        }
    }
    // Its backends are gone, and none of them complained.
    wait_until("the probes' backends to end", SOON, || {
        let backends =
            "select count(*) from pg_stat_activity where backend_type = 'client backend'";
        Ok(primary.psql(backends)? == "1")
    })?;
    let log = primary.log()?;
    let said = log.strip_prefix(&before).context("the same log")?;
    ensure!(said.is_empty(), "{said}");
    println!("what PostgreSQL logged of 6 probes by SYN and 6 by startup message: nothing");

    // Nor does who would have to prove who he is; only who may not log in at all without TLS is told of.
    for (method, logged) in
        [("host all all all scram-sha-256", false), ("hostssl all all all trust", true)]
    {
        let line = format!("1i {method}");
        let hba = primary.data().join("pg_hba.conf");
        let hba = hba.to_str().context("a path of letters")?;
        db1.run(["sed", "-i", "-e", "/^host/d", "-e", &line, hba])?;
        primary.reload()?;
        let before = primary.log()?;
        assert_eq!(ask(VIPS[0])?, ProbeFinding::Open, "{method}");
        let backends =
            "select count(*) from pg_stat_activity where backend_type = 'client backend'";
        wait_until("the probe's backend to end", SOON, || Ok(primary.psql(backends)? == "1"))?;
        let log = primary.log()?;
        let said = log.strip_prefix(&before).context("the same log")?;
        println!("{method}: {said:?}");
        assert_eq!(said.contains("FATAL:  no pg_hba.conf entry"), logged, "{said}");
        ensure!(logged || said.is_empty(), "{said}");
    }
    db1.run([
        "sed",
        "-i",
        "1i host all all all trust",
        primary.data().join("pg_hba.conf").to_str().context("a path")?,
    ])?;
    primary.reload()?;

    // A smart shutdown waits for the session, and takes no other.
    let session = pgha_tests::lab::Session::open(&db1, db1.address())?;
    assert_eq!(session.query("select 1")?, "1");
    primary.signal_postmaster(nix::sys::signal::Signal::SIGTERM)?;
    wait_for("PostgreSQL to take no sessions", SOON, || {
        let finding = ask(VIPS[0])?;
        let ProbeFinding::NotAccepting(said) = &finding else { anyhow::bail!("{finding:?}") };
        ensure!(said.contains("shutting down (SQLSTATE 57P03)"), "{said}");
        Ok(Some(()))
    })?;
    // Somebody listens still: a SYN alone cannot tell.
    assert_eq!(syn(&lb1, &db1, VIPS[0])?.0, ProbeFinding::Open);
    drop(session);
    primary.wait_stopped(SOON)?;
    assert_eq!(ask(VIPS[0])?, ProbeFinding::Refused);
    Ok(())
}

#[test]
fn netns_probe_closes_its_sockets_with_the_last_path() -> Result<()> {
    let lab = Lab::new()?;
    let [lb1, db1] = hosts(&lab, ["lb1", "db1"])?;
    on(&lb1, async || {
        // A line for each, after a heading.
        let open =
            || Ok::<_, anyhow::Error>(fs::read_to_string(PACKET_SOCKETS)?.lines().count() - 1);
        let (tell, mut found) = mpsc::channel(64);
        let prober = Prober::new(settings(SILENCE, BTreeMap::new()), tell);
        ensure!(open()? == 0, "open before the first path");
        // And again, after they were closed.
        for _ in 0..2 {
            let path = path(VIPS[0], &db1);
            prober.probe(path, via(&db1));
            found.recv().await.context("a finding")?;
            ensure!(open()? == 2, "{} packet sockets", open()?);
            prober.unprobe(&path);
            tokio::time::timeout(SOON, async {
                while open()? > 0 {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                Ok::<_, anyhow::Error>(())
            })
            .await
            .context("sockets are still open")??;
        }
        Ok(())
    })
}
