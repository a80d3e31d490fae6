//! A VIP of each family at once, served by the same readers.
use std::collections::BTreeSet;
use std::net::IpAddr;

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::signal::Signal;
use pgha_tests::dataplane::{Icmp, assert_checksums};
use pgha_tests::lab::plan::mac_text;
use pgha_tests::lab::{Capture, Cmd, Host, Lab, READER_VIP, READER_VIP6, SOON, Session, wait_for};

use crate::cluster::{Cluster, Edits, edited, servers, service, weight};

const VIPS: [IpAddr; 2] = [IpAddr::V4(READER_VIP), IpAddr::V6(READER_VIP6)];
const SERVICES: [&str; 2] = ["reader", "reader6"];
pub(crate) const SECOND: (&str, &str) = (
    "\n[[node]]",
    "\n[[service]]\nname = \"reader6\"\nvip = \"fd77::100\"\nport = 5432\nscheduler = \"maglev\"\n\
     discovery = \"both\"\ndefault_weight = 1\n\n[[node]]",
);

/// A cluster whose readers own both VIPs, behind a director that serves both, but for these edits.
fn up(readers: &[&str], edits: &Edits<'_>) -> Result<Cluster> {
    let cluster = Cluster::prepared_for(&VIPS, readers)?;
    cluster.director.write_config(&edited(cluster.config(&[SECOND])?, edits)?)?;
    cluster.director.start()?;
    wait_weighted(&cluster, readers.len())?;
    Ok(cluster)
}

/// Waits until each service has that many servers that get new connections.
fn wait_weighted(cluster: &Cluster, count: usize) -> Result<()> {
    wait_for(format_args!("{count} servers in each service"), SOON, || {
        let status = cluster.director.status()?;
        for name in SERVICES {
            let servers = service(&status, name)?["servers"].as_array().context("servers")?;
            let weights = servers.iter().map(weight).collect::<Result<Vec<_>>>()?;
            ensure!(weights.iter().filter(|weight| **weight > 0).count() == count, "{servers:#?}");
        }
        Ok(Some(()))
    })
}

/// A session over that VIP that happens to be with that server.
fn session_with(from: &Host, vip: IpAddr, server: &str) -> Result<Session> {
    for _ in 0..200 {
        let session = Session::open(from, vip)?;
        if session.server()? == server {
            return Ok(session);
        }
    }
    bail!("none of 200 sessions over {vip} was with {server}")
}

/// Who served that many sessions over a VIP.
fn served(from: &Host, vip: IpAddr, count: usize) -> Result<BTreeSet<String>> {
    (0..count).map(|_| Session::open(from, vip)?.server()).collect()
}

/// Frames by that verdict.
fn counted(cluster: &Cluster, reason: &str) -> Result<u64> {
    cluster.director.status()?["reasons"][reason].as_u64().context("a reason")
}

#[test]
fn netns_a_killed_reader_ends_its_sessions_of_both_families_and_no_others() -> Result<()> {
    let cluster = up(&["db2", "db3"], &[])?;
    let sessions = |server| -> Result<Vec<Session>> {
        VIPS.iter().map(|vip| session_with(&cluster.client, *vip, server)).collect()
    };
    let (lost, kept) = (sessions("db2")?, sessions("db3")?);
    for session in &lost {
        assert_eq!(session.server()?, "db2");
    }

    cluster.reader("db2")?.signal_all(Signal::SIGKILL)?;
    for (mut session, vip) in lost.into_iter().zip(VIPS) {
        session.wait_ended(SOON).with_context(|| format!("over {vip}"))?;
    }
    wait_weighted(&cluster, 1)?;
    for (session, vip) in kept.iter().zip(VIPS) {
        assert_eq!(session.server()?, "db3", "over {vip}");
        assert_eq!(served(&cluster.client, vip, 8)?, BTreeSet::from(["db3".to_owned()]));
    }

    let reader = cluster.reader("db2")?;
    reader.wait_stopped(SOON)?;
    reader.start()?;
    wait_weighted(&cluster, 2)?;
    VIPS.iter().try_for_each(|vip| session_with(&cluster.client, *vip, "db2").map(drop))
}

/// A server is reached by its MAC address: of which family its address is plays no part.
#[test]
fn netns_servers_are_reached_by_addresses_of_either_family() -> Result<()> {
    let edits = [
        ("discovery = \"both\"", "discovery = \"direct\""),
        ("discovery = \"both\"", "discovery = \"direct\""),
        ("\"10.77.0.13\"", "\"fd77::13\""),
    ];
    let cluster = up(&["db2", "db3"], &edits)?;
    let status = cluster.director.status()?;
    for (name, vip) in SERVICES.into_iter().zip(VIPS) {
        let members: BTreeSet<_> = service(&status, name)?["servers"]
            .as_array()
            .context("servers")?
            .iter()
            .filter_map(|server| server["address"].as_str())
            .collect();
        assert_eq!(members, BTreeSet::from(["10.77.0.11", "10.77.0.12", "fd77::13"]));
        for server in ["db2", "db3"] {
            let session = session_with(&cluster.client, vip, server)?;
            assert_eq!(session.query("select inet_server_addr()")?, vip.to_string());
        }
    }
    Ok(())
}

/// The way to the clients takes less than what leads to the servers: a router tells them.
#[test]
fn netns_path_mtu_is_told_to_the_server_of_the_flow_and_to_no_other() -> Result<()> {
    const MTU: &str = "1300";
    let cluster = up(&["db2", "db3"], &[])?;
    let [client] = cluster.lab.back_hosts(&["client2"])?.try_into().expect("one host");
    narrow(&cluster.lab, MTU)?;
    let addresses: [IpAddr; 2] = [client.address().into(), client.address6().into()];
    for (vip, address) in VIPS.into_iter().zip(addresses) {
        let captures = cluster
            .readers
            .iter()
            .map(|reader| Capture::at_port(reader.host(), TOO_BIG))
            .collect::<Result<Vec<_>>>()?;
        let before = counted(&cluster, "icmp_error")?;
        let session = session_with(&client, vip, "db3")?;
        assert_eq!(session.query("select repeat('x', 100000)")?.len(), 100_000);
        assert!(counted(&cluster, "icmp_error")? > before, "nobody was told over {vip}");
        let route = |name: &str| -> Result<String> {
            let get = ["ip", "route", "get", &address.to_string(), "from", &vip.to_string()];
            cluster.reader(name)?.host().run(get)
        };
        assert!(route("db3")?.contains(&format!("mtu {MTU}")), "{}", route("db3")?);
        assert!(!route("db2")?.contains("mtu"), "{}", route("db2")?);
        captures[1].wait_for_frames(1)?;
        assert_eq!(captures[0].lines()?, Vec::<String>::new(), "over {vip}");
    }
    Ok(())
}

/// "Fragmentation needed" and "packet too big".
const TOO_BIG: &str = "(icmp[0] == 3 and icmp[1] == 4) or (icmp6 and ip6[40] == 2)";

/// Has the network behind take shorter packets only.
fn narrow(lab: &Lab, mtu: &str) -> Result<()> {
    let host = lab.host("client")?;
    let set = Cmd::new(["ip", "link", "set", "dev", "br1", "mtu", mtu]);
    set.in_namespace(host.port().0)?.run().map(drop)
}

/// The director itself answers for its VIPs, whatever the readers are up to.
#[test]
fn netns_both_vips_are_found_and_answer_echo_requests_without_any_reader() -> Result<()> {
    let cluster = up(&["db2", "db3"], &[])?;
    let director = mac_text(cluster.director.host().mac());
    for vip in VIPS {
        Session::open(&cluster.client, vip)?;
        let entry = cluster.client.run(["ip", "neigh", "show", &vip.to_string()])?;
        assert!(entry.contains(&director), "{entry}");
    }
    ping(&cluster)?;

    for reader in &cluster.readers {
        reader.signal_all(Signal::SIGKILL)?;
    }
    wait_for("no server to be left", SOON, || {
        let status = cluster.director.status()?;
        for name in SERVICES {
            for (server, state) in servers(&status, name)? {
                let left = server.starts_with("db1") || state["dead"] == true;
                ensure!(left, "{state:#}");
            }
        }
        Ok(Some(()))
    })?;
    ping(&cluster)
}

/// Sends an echo request to each VIP, which comes back as a reply.
fn ping(cluster: &Cluster) -> Result<()> {
    let (client, director) = (&cluster.client, cluster.director.host());
    let socket = client.frames()?;
    let from: [IpAddr; 2] = [client.address().into(), client.address6().into()];
    for (vip, from) in VIPS.into_iter().zip(from) {
        let request = Icmp::echo_request(from, vip, 56).with(|request| {
            (request.destination, request.source) = (director.mac(), client.mac());
        });
        let reply = Icmp::new(vip, from, if vip.is_ipv4() { 0 } else { 129 });
        let message =
            reply.with(|reply| (reply.rest, reply.body) = (request.rest, request.body.clone()));
        let message = message.message();
        socket.send(&request.frame())?;
        let macs = [client.mac(), director.mac()].concat();
        let answer = socket
            .receive(SOON, |frame| frame.starts_with(&macs) && frame.ends_with(&message))
            .with_context(|| format!("no answer of {vip}"))?;
        assert_checksums(&answer);
    }
    Ok(())
}
