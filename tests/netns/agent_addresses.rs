//! The addresses of managed nodes: the writer VIP on the primary alone, whoever meddles, and the reader VIPs on
//! the readers.
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use pgha_ctl::net::{Interface, Netlink, vip};
use pgha_tests::lab::observers::Excused;
use pgha_tests::lab::plan::{BACK_INTERFACE, INTERFACE, mac_text};
use pgha_tests::lab::{
    Agent, AgentOptions, Host, Managed, READER_VIP, SOON, Session, WRITER_VIP, Writer, wait_for,
    wait_until,
};

use crate::network::on;

/// In the network behind, so that its link may fail alone.
const BACK_VIP6: Ipv6Addr = Ipv6Addr::new(0xfd78, 0, 0, 0, 0, 0, 0, 0x99);

fn options() -> AgentOptions {
    AgentOptions { controller: Some("lb1"), ..AgentOptions::default() }
}

/// Whether an address is on an interface, by the kernel's word.
fn has(host: &Host, interface: &str, address: impl Into<IpAddr>) -> Result<bool> {
    let listed = host.run(["ip", "-o", "address", "show", "dev", interface])?;
    let wanted = format!(" {}/", address.into());
    Ok(listed.contains(&wanted))
}

fn change(host: &Host, verb: &str, interface: &str, address: impl Into<IpAddr>) -> Result<()> {
    let address = address.into();
    let (length, nodad): (_, &[&str]) =
        if address.is_ipv6() { (128, &["nodad"]) } else { (32, &[]) };
    let address = format!("{address}/{length}");
    let command = host.command(["ip", "address", verb, &address, "dev", interface])?;
    command.args(if verb == "add" { nodad } else { &[] }).run().map(drop)
}

fn wait_on(agent: &Agent, interface: &str, address: IpAddr, wanted: bool) -> Result<()> {
    let host = agent.host();
    let what = format!("{address} on {interface} of {} to be {wanted}", host.name());
    wait_until(what, SOON, || Ok(has(host, interface, address)? == wanted))
        .with_context(|| agent.tail())
}

/// Somebody announces the address as its own.
fn announce(from: &Host, interface: &str, address: IpAddr) -> Result<()> {
    on(from, async || {
        let netlink = Netlink::connect()?;
        let own = Interface::find(netlink.handle(), interface).await?;
        Ok(vip::announce(&own, address)?)
    })
}

/// Another host has the writer VIP: the primary's agent names it, announces again, and clients come back.
fn rival_is_named(
    primary: &Agent,
    rival: &Host,
    interface: &str,
    vip: IpAddr,
    mac: [u8; 6],
) -> Result<()> {
    change(rival, "add", interface, vip)?;
    announce(rival, interface, vip)?;
    let mac = mac_text(mac);
    wait_until("the rival to be named", SOON, || {
        let rivals = primary.status()?.addresses.rivals;
        ensure!(rivals.iter().any(|rival| rival.mac == mac), "{rivals:?}");
        Ok(true)
    })?;
    let text = primary.pgha(&["agent", "status"])?.run()?;
    ensure!(text.contains(&mac), "{text}");
    ensure!(
        primary.log().contains(&format!("{mac} announces the writer VIP")),
        "{}",
        primary.tail()
    );
    change(rival, "del", interface, vip)
}

/// Sessions with both readers through the reader VIP.
fn sessions(client: &Host) -> Result<Vec<(String, Session)>> {
    let mut open = Vec::new();
    wait_for("a session with each reader", SOON * 2, || {
        let session = Session::open(client, READER_VIP)?;
        open.push((session.server()?, session));
        let with = |name: &str| open.iter().any(|(server, _)| server == name);
        Ok((with("db2") && with("db3")).then_some(()))
    })?;
    Ok(open)
}

/// The writer VIP stays on the primary while somebody meddles, and goes with it; the reader VIP leaves who is promoted
/// before it is out of recovery, with the sessions that were there, and comes to who streams again.
#[test]
fn netns_agent_addresses_follow_their_servers() -> Result<()> {
    let test = "netns_agent_addresses_follow_their_servers";
    let Some(managed) = Managed::up(test, &options())? else { return Ok(()) };
    let (vip, reader) = (IpAddr::from(WRITER_VIP), IpAddr::from(READER_VIP));
    let [db1, db2, db3] = ["db1", "db2", "db3"].map(|name| managed.agent(name));
    let (db1, db2, db3) = (db1?, db2?, db3?);
    db1.wait_voters(2)?;
    let client = managed.lab.host("client")?;
    let writer = Writer::start(&client, WRITER_VIP)?;
    writer.wait_after(Instant::now(), SOON)?;
    for standby in [db2, db3] {
        wait_on(standby, "lo", reader, true)?;
        let quiet = "/proc/sys/net/ipv4/conf/all/arp_ignore";
        ensure!(standby.host().run(["cat", quiet])?.trim() == "1");
        wait_until("it to say so", SOON, || Ok(standby.status()?.addresses.readers == [reader]))?;
    }
    ensure!(!has(db1.host(), "lo", reader)?);

    // Whoever takes it off, and whoever puts it elsewhere.
    change(db1.host(), "del", INTERFACE, vip)?;
    wait_on(db1, INTERFACE, vip, true)?;
    ensure!(db1.log().contains("somebody took the writer VIP"), "{}", db1.tail());
    change(db2.host(), "add", INTERFACE, vip)?;
    wait_on(db2, INTERFACE, vip, false)?;
    ensure!(db2.log().contains("this node is not the primary; it is taken off"), "{}", db2.tail());
    change(db2.host(), "del", "lo", reader)?;
    wait_on(db2, "lo", reader, true)?;
    let stranger = managed.lab.host("client2")?;
    rival_is_named(db1, &stranger, INTERFACE, vip, stranger.mac())?;
    writer.wait_after(Instant::now(), SOON)?;

    let open = sessions(&client)?;
    let mut waiting = Session::open(&client, WRITER_VIP)?;
    for standby in [db2, db3] {
        wait_until("the clients of db1 to be known", SOON, || {
            Ok(standby.log().contains("2 clients of db1 are known"))
        })?;
    }
    db1.host().link_down()?;
    let successor = managed.wait_successor("db1")?;
    writer.wait_after(Instant::now(), SOON * 2)?;
    ensure!(!has(successor.host(), "lo", reader)?, "{}", successor.tail());
    ensure!(has(successor.host(), INTERFACE, vip)?, "{}", successor.tail());
    let off = logged(&successor.log(), "reader VIPs: removed")?.replace('T', " ");
    let recovery = successor.postgres().home().join("agent/postgresql.log");
    let promoted = logged(&std::fs::read_to_string(recovery)?, "received promote request")?;
    ensure!(off[..23] < promoted[..23], "off at {off}, promoted at {promoted}");
    // It sends nothing, and has no keep-alives: somebody has to tell it.
    waiting.wait_ended(SOON)?;
    for (server, mut session) in open {
        if server == successor.host().name() {
            session.wait_ended(SOON)?;
        } else {
            ensure!(session.server()? == server);
        }
    }

    db1.host().link_up()?;
    db1.wait_streaming()?;
    wait_on(db1, "lo", reader, true)?;
    ensure!(!has(db1.host(), INTERFACE, vip)?);
    writer.wait_after(Instant::now(), SOON)?;
    let rivals = vec![stranger.mac()];
    managed.finish_but([writer], &Excused { rivals, ..Excused::default() }).map(drop)
}

/// The last line with that in it.
fn logged(log: &str, what: &str) -> Result<String> {
    let line = log.lines().rfind(|line| line.contains(what));
    line.map(str::to_owned).with_context(|| format!("`{what}` in {log}"))
}

/// An IPv6 writer VIP whose link alone fails: the primary says so itself, and is followed long before its lease would
/// have ended.
#[test]
fn netns_agent_gives_way_when_the_link_of_the_writer_vip_fails() -> Result<()> {
    let test = "netns_agent_gives_way_when_the_link_of_the_writer_vip_fails";
    let vip = IpAddr::from(BACK_VIP6);
    let lease = Duration::from_secs(60);
    let options = AgentOptions { writer_vip: vip, lease, ..options() };
    let Some(managed) = Managed::up(test, &options)? else { return Ok(()) };
    let db1 = managed.agent("db1")?;
    db1.wait_voters(2)?;
    wait_on(db1, BACK_INTERFACE, vip, true)?;
    let client = managed.lab.host("client")?;
    managed.lab.second_interface("client")?;
    let writer = Writer::start(&client, vip)?;
    writer.wait_after(Instant::now(), SOON)?;
    // It talks to its neighbours from an address of its own.
    let route = db1.host().run(["ip", "-6", "route", "get", "fd78::12"])?;
    ensure!(route.contains("src fd78::11"), "{route}");
    change(db1.host(), "del", BACK_INTERFACE, vip)?;
    wait_on(db1, BACK_INTERFACE, vip, true)?;
    rival_is_named(db1, &client, BACK_INTERFACE, vip, client.back_mac())?;

    let down = Instant::now();
    db1.host().run(["ip", "link", "set", BACK_INTERFACE, "down"])?;
    managed.wait_successor("db1")?;
    writer.wait_after(Instant::now(), SOON)?;
    let took = down.elapsed();
    ensure!(took < lease, "{took:?} by silence, and not by its own word\n{}", db1.tail());
    println!("link down to the next commit: {} ms", took.as_millis());
    let faults = db1.status()?.faults;
    ensure!(faults.iter().any(|fault| fault.contains(BACK_INTERFACE)), "{faults:?}");
    db1.host().run(["ip", "link", "set", BACK_INTERFACE, "up"])?;
    wait_until("it to be well again", SOON, || Ok(db1.status()?.faults.is_empty()))?;
    db1.wait_streaming()?;
    if has(db1.host(), BACK_INTERFACE, vip)? {
        bail!("{}", db1.tail());
    }
    writer.wait_after(Instant::now(), SOON)?;
    managed.finish([writer]).map(drop)
}
