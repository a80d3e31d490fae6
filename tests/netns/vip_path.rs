//! What a client would find behind a VIP on each server: it is found out before one does.
use std::collections::BTreeMap;
use std::net::IpAddr;

use anyhow::{Context as _, Result, ensure};
use pgha_tests::dataplane::frame::arp_frame;
use pgha_tests::lab::{
    Capture, Host, READER_VIP, READER_VIP6, SOON, Session, wait_for, wait_until,
};
use serde_json::Value;

use crate::cluster::{Cluster, Shares, edited, servers, service, weight, withheld};
use crate::families::SECOND;

const VIPS: [IpAddr; 2] = [IpAddr::V4(READER_VIP), IpAddr::V6(READER_VIP6)];
const SERVICES: [&str; 2] = ["reader", "reader6"];
/// Operation of an ARP request (RFC 826).
const REQUEST: u8 = 1;

/// Has a host answer ARP for whatever addresses it has, on whichever interface.
fn leak(host: &Host) -> Result<()> {
    for interface in ["all", "lo", "eth0"] {
        let file = format!("/proc/sys/net/ipv4/conf/{interface}/arp_ignore");
        host.run(["sh", "-c", &format!("echo 0 > {file}")])?;
    }
    Ok(())
}

/// What the status says of the path to a server.
fn vip(server: &Value) -> Result<&str> {
    server["vip"].as_str().context("a standing")
}

/// Waits until a server of both services stands like that.
fn wait_vip(cluster: &Cluster, name: &str, wanted: &str) -> Result<()> {
    wait_standing(cluster, name, |server| Ok(vip(server)? == wanted))
}

/// Waits until these servers have a weight above 0 in both services.
fn wait_serving(cluster: &Cluster, names: &[&str]) -> Result<()> {
    names.iter().try_for_each(|name| wait_standing(cluster, name, |server| Ok(weight(server)? > 0)))
}

/// Whom the data plane gave as many new sessions over each VIP, one after the other.
fn given(cluster: &Cluster, count: u64) -> Result<[Shares; 2]> {
    let flows = |service: &str| -> Result<Shares> {
        let status = cluster.director.status()?;
        let traffic = &self::service(&status, service)?["traffic"];
        let flows_of = |(name, server): (String, Value)| {
            let flows = traffic[server["id"].to_string()]["flows"].as_u64().context("flows")?;
            Ok((name, flows))
        };
        servers(&status, service)?.into_iter().map(flows_of).collect()
    };
    let mut given = [Shares::new(), Shares::new()];
    for ((vip, service), given) in VIPS.into_iter().zip(SERVICES).zip(&mut given) {
        let before = flows(service)?;
        for _ in 0..count {
            Session::open(&cluster.client, vip)?.server()?;
        }
        *given = flows(service)?;
        for (name, flows) in given.iter_mut() {
            *flows -= before.get(name).copied().unwrap_or_default();
        }
        ensure!(given.values().sum::<u64>() == count, "{vip}: {given:?}");
    }
    Ok(given)
}

fn setup(cluster: &Cluster, host: &str) -> Result<()> {
    cluster.lab.realserver_setup_for(host, &VIPS)
}

fn undo(cluster: &Cluster, host: &str) -> Result<()> {
    cluster.lab.realserver(host, &["undo"])?.run().map(drop)
}

/// Packets of the client at a server, and RSTs from the VIPs to the client.
struct Witness {
    to_server: Capture,
    resets: Capture,
}

impl Witness {
    fn of(cluster: &Cluster, server: &str) -> Result<Self> {
        let client = &cluster.client;
        let server = cluster.lab.host(server)?;
        let clients =
            format!("tcp and (src host {} or src host {})", client.address(), client.address6());
        // For IPv6, the flags of a segment without extension headers.
        let resets = format!(
            "(src host {READER_VIP} and tcp[tcpflags] & tcp-rst != 0) or \
             (src host {READER_VIP6} and ip6[6] = 6 and ip6[53] & 4 != 0)"
        );
        Ok(Self {
            to_server: Capture::at_port(&server, &clients)?,
            resets: Capture::at_port(&cluster.client, &resets)?,
        })
    }
}

#[test]
fn netns_a_reader_without_the_vip_never_gets_a_client() -> Result<()> {
    let cluster = Cluster::prepared_for(&VIPS, &["db2", "db3", "db4"])?;
    undo(&cluster, "db4")?;
    let witness = Witness::of(&cluster, "db4")?;
    cluster.director.write_config(&edited(cluster.config(&[])?, &[SECOND])?)?;
    cluster.director.start()?;
    wait_serving(&cluster, &["db2", "db3"])?;
    wait_vip(&cluster, "db4", "silent")?;
    let db4 = cluster.server("db4")?;
    assert_eq!((db4["health"].as_str(), withheld(&db4)), (Some("up"), vec!["vip_silent"]));
    let table = String::from_utf8(cluster.director.pgha(["status"])?.stdout)?;
    ensure!(table.contains("does not answer on the VIP: is it on lo there?"), "{table}");
    for shares in given(&cluster, 40)? {
        ensure!(shares["db4"] == 0 && shares["db2"] > 0 && shares["db3"] > 0, "{shares:?}");
    }
    assert_eq!(witness.to_server.lines()?, Vec::<String>::new());

    // With the VIP it is in.
    setup(&cluster, "db4")?;
    wait_serving(&cluster, &["db2", "db3", "db4"])?;
    assert_eq!(vip(&cluster.server("db4")?)?, "proven");
    let sessions = BTreeMap::from([
        ("db2", cluster.session_with("db2")?),
        ("db4", cluster.session_with("db4")?),
    ]);
    // What the capture calls none above, it does see.
    witness.to_server.wait_for_frames(1)?;

    // Without it again it is out, and nobody is told that its session is over: it is not.
    undo(&cluster, "db4")?;
    wait_vip(&cluster, "db4", "silent")?;
    let db4 = cluster.server("db4")?;
    assert_eq!((weight(&db4)?, db4["dead"].as_bool()), (0, Some(false)));
    let silent = cluster.director.status()?["services"][0]["probes"]["10.77.0.14"].clone();
    println!("probes of db4: {silent}");
    for shares in given(&cluster, 40)? {
        ensure!(shares["db4"] == 0, "{shares:?}");
    }
    setup(&cluster, "db4")?;
    wait_serving(&cluster, &["db2", "db3", "db4"])?;
    for (server, session) in &sessions {
        assert_eq!(session.server()?, *server);
    }
    witness.resets.stop()?;
    assert_eq!(witness.resets.lines()?, Vec::<String>::new());
    Ok(())
}

#[test]
fn netns_each_fault_of_a_path_is_named_in_both_families() -> Result<()> {
    let readers = ["db2", "db3", "db4", "db5", "db6"];
    let cluster = Cluster::prepared_for(&VIPS, &readers)?;
    let db3 = cluster.reader("db3")?;
    db3.stop()?;
    db3.set_guc("listen_addresses", "10.77.0.13,fd77::13")?;
    db3.start()?;
    undo(&cluster, "db4")?;
    cluster.director.write_config(&edited(cluster.config(&[])?, &[SECOND])?)?;
    cluster.director.start()?;
    let host = |name: &str| cluster.lab.host(name);
    wait_standing(&cluster, "db6", |server| Ok(weight(server)? > 0))?;
    leak(&host("db6")?)?;
    // Neighbour discovery is about the addresses of the interface it is asked on (RFC 4861, 7.2.3).
    let leaking = ["ip", "address", "add", "fd77::100/128", "dev", "eth0", "nodad"];
    host("db6")?.run(leaking)?;
    wait_standing(&cluster, "db5", |server| Ok(weight(server)? > 0))?;
    host("db5")?.link_down()?;

    // Host gone; port closed; VIP missing; answers for the VIP; in recovery; not in recovery.
    let faults: [(&str, &str, &[&str], &str); 5] = [
        ("db5", "down", &["silent"], "does not answer"),
        ("db3", "up", &["vip_refused"], "nobody listens on the VIP's port"),
        ("db4", "up", &["vip_silent"], "does not answer on the VIP: is it on lo there?"),
        ("db2", "up", &[], ""),
        ("db1", "down", &["not_in_recovery"], "is not a standby"),
    ];
    for (name, health, reasons, _) in faults {
        wait_standing(&cluster, name, |server| {
            let found = withheld(server);
            ensure!(reasons.iter().all(|reason| found.contains(reason)), "{found:?}");
            ensure!(reasons.is_empty() == (weight(server)? > 0), "{server:#}");
            Ok(server["health"] == health && server["answers_arp"] == false)
        })?;
    }
    wait_standing(&cluster, "db6", |server| {
        Ok(server["answers_arp"] == true && weight(server)? > 0)
    })?;
    let table = String::from_utf8(cluster.director.pgha(["status"])?.stdout)?;
    for (name, _, _, phrase) in faults {
        // The reasons stand on the line below.
        let lines: Vec<_> =
            table.lines().skip_while(|line| !line.trim_start().starts_with(name)).take(2).collect();
        ensure!(lines.join(" ").contains(phrase), "{name}: {table}");
    }
    println!("{table}");
    // Told at least once for each VIP.
    ensure!(cluster.logged("answers ARP or neighbour solicitations for the VIP")? >= 2);
    Ok(())
}

/// Waits until a server stands like that in both services.
fn wait_standing(
    cluster: &Cluster,
    name: &str,
    stands: impl Fn(&Value) -> Result<bool>,
) -> Result<()> {
    wait_for(format_args!("what is wrong with {name}"), SOON, || {
        let status = cluster.director.status()?;
        for service in SERVICES {
            let server = servers(&status, service)?.remove(name).context("a member")?;
            ensure!(stands(&server)?, "{service}: {server:#}");
        }
        Ok(Some(()))
    })
}

#[test]
fn netns_a_leaking_server_moves_no_role_and_is_named() -> Result<()> {
    let cluster = Cluster::prepared(&["db2", "db3"])?;
    // Another director is known, and not there.
    cluster.lab.host("lb2")?;
    cluster.configure(&[])?;
    cluster.director.start()?;
    cluster.wait_serving(&["db2", "db3"])?;
    let role = || Ok::<_, anyhow::Error>(cluster.director.status()?["director"]["role"].clone());
    let leaks = |name: &str| {
        wait_until(format_args!("{name} to be seen to leak"), SOON, || {
            Ok(cluster.server(name)?["answers_arp"] == true)
        })
    };
    assert_eq!(role()?, "active");
    // What a server announces is heard, and is no director's word.
    let db2 = cluster.lab.host("db2")?;
    let claim = arp_frame(REQUEST, (db2.mac(), READER_VIP), ([0; 6], READER_VIP));
    db2.frames()?.send(&claim)?;
    leaks("db2")?;
    // What one answers is found by asking.
    leak(&cluster.lab.host("db3")?)?;
    leaks("db3")?;
    assert_eq!(role()?, "active");
    assert_eq!(cluster.weights()?["db2"], 1);
    let log = cluster.director.log()?;
    let warned = |address: &str| {
        log.lines().any(|line| {
            line.contains("WARN")
                && line.contains(address)
                && line.contains("pgha realserver setup")
        })
    };
    ensure!(warned("10.77.0.12") && warned("10.77.0.13"), "{log}");

    // Nobody starts beside it, and is told who it is.
    ensure!(cluster.director.terminate()?.success(), "ended");
    ensure!(cluster.director.pgha(["detach"])?.status.success(), "detached");
    let (code, said) = cluster.director.start_expecting_failure()?;
    let named = "which is the real server db3 (10.77.0.13); run there: pgha realserver setup";
    ensure!(code == 1 && said.contains(named), "{said}");
    Ok(())
}
