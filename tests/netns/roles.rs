//! Three nodes, each of them a director and a server: the role moves, and nobody notices.
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, Scope, ScopedJoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use pgha_tests::dataplane::frame::arp_frame;
use pgha_tests::lab::frames::FrameSocket;
use pgha_tests::lab::plan::mac_text;
use pgha_tests::lab::{
    Capture, Director, Host, Lab, Postgres, READER_VIP, SOON, Session, config, wait_for,
};

use crate::cluster::{edited, psql, servers, weight};

const NODES: [&str; 3] = ["db1", "db2", "db3"];
const MOVES: usize = 100;
/// How long answers to one ARP request are waited for: many times what the data plane takes.
const ANSWERS: Duration = Duration::from_millis(10);
/// How long moving the role may take, ten times over.
const MOVED: Duration = Duration::from_secs(3);
/// Operations of ARP (RFC 826).
const REQUEST: u8 = 1;
const REPLY: u8 = 2;

/// db1 is the primary, the others stream from it, and each has a controller with the others as peers.
struct Trio {
    lab: Lab,
    directors: Vec<Director>,
    client: Host,
    /// They run until the lab ends.
    _servers: Vec<Postgres>,
}

impl Trio {
    fn up() -> Result<Self> {
        let lab = Lab::new()?;
        lab.hosts(&[&NODES[..], &["client"]].concat())?;
        let client = lab.host("client")?;
        let mut servers = vec![lab.primary("db1")?];
        for reader in &NODES[1..] {
            lab.realserver_setup(reader)?;
        }
        servers.extend(lab.standbys(&NODES[1..], "db1")?);
        let mut directors = Vec::new();
        for node in NODES {
            let director = lab.director(node)?;
            let peers: String = lab
                .hosts(&NODES)?
                .iter()
                .filter(|host| host.name() != node)
                .map(|host| {
                    format!(
                        "[[director.peer]]\nname = \"{}\"\naddress = [\"{}\", \"{}\"]\n",
                        host.name(),
                        host.address(),
                        host.address6()
                    )
                })
                .collect();
            let peers = format!("{peers}\n[postgres]");
            let text = config::basic(&lab, &director, &["db1"])?;
            director.write_config(&edited(text, &[("[postgres]", &peers)])?)?;
            director.start()?;
            directors.push(director);
        }
        let trio = Self { lab, directors, client, _servers: servers };
        for director in &trio.directors {
            wait_for(format_args!("{} to know its readers", name(director)), SOON, || {
                let servers = servers_of(director)?;
                ensure!(servers == [("db1", 0), ("db2", 1), ("db3", 1)].map(owned), "{servers:?}");
                Ok(Some(()))
            })?;
        }
        Ok(trio)
    }

    /// The roles of all directors, in their order.
    fn roles(&self) -> Result<Vec<String>> {
        self.directors.iter().map(role).collect()
    }

    fn wait_roles(&self, wanted: [&str; 3]) -> Result<()> {
        wait_for(format_args!("the roles {wanted:?}"), SOON, || {
            let roles = self.roles()?;
            ensure!(roles == wanted, "{roles:?}");
            Ok(Some(()))
        })
    }
}

fn name(director: &Director) -> &str {
    director.host().name()
}

fn role(director: &Director) -> Result<String> {
    Ok(director.status()?["director"]["role"].as_str().context("a role")?.to_owned())
}

fn servers_of(director: &Director) -> Result<Vec<(String, u64)>> {
    let servers = servers(&director.status()?, "reader")?;
    servers.iter().map(|(name, server)| Ok((name.clone(), weight(server)?))).collect()
}

fn owned((name, weight): (&str, u64)) -> (String, u64) {
    (name.to_owned(), weight)
}

fn steer(director: &Director, verb: &str) -> Result<String> {
    let output = director.pgha(["director", verb])?;
    ensure!(output.status.success(), "{}: {output:?}", name(director));
    Ok(String::from_utf8(output.stdout)?.trim_end().to_owned())
}

/// What the world saw while the role moved.
#[derive(Debug, Default)]
struct Seen {
    connections: usize,
    queries: usize,
    asked: usize,
    /// ARP requests that nobody answered: a client asks again.
    unanswered: usize,
    slowest: Duration,
}

#[test]
fn netns_roles_move_among_nodes_that_serve_themselves() -> Result<()> {
    let trio = Trio::up()?;
    // The first found nobody, the others found it.
    assert_eq!(trio.roles()?, ["active", "standby", "standby"]);
    let filter = format!("tcp and dst host {READER_VIP} and src host {}", trio.client.address());
    let captures = trio.directors.iter().map(|d| Capture::at_port(d.host(), &filter));
    let captures = captures.collect::<Result<Vec<_>>>()?;
    let over = AtomicBool::new(false);
    let (seen, moved) = thread::scope(|scope| {
        let world = watch(scope, &trio.client, &over)?;
        let moved = move_about(&trio);
        over.store(true, Ordering::Relaxed);
        Ok::<_, anyhow::Error>((world.join()?, moved?))
    })?;
    println!("{MOVES} moves, the slowest in {moved:.0?}; {seen:?}");
    ensure!(seen.connections > MOVES && seen.queries > MOVES, "{seen:?}");
    let mut hops = BTreeMap::<Packet, BTreeSet<[u8; 6]>>::new();
    let macs: BTreeSet<_> = trio.directors.iter().map(|d| d.host().mac()).collect();
    for capture in &captures {
        capture.stop()?;
        for frame in capture.frames()? {
            let (packet, from) = read(&frame).context("a TCP segment")?;
            let by = hops.entry(packet).or_default();
            by.extend(Some(from).filter(|from| macs.contains(from)));
        }
    }
    for (packet, by) in &hops {
        assert!(by.len() <= 1, "{packet:?} was forwarded by {by:02x?}");
    }
    let forwarded = hops.values().filter(|by| !by.is_empty()).count();
    println!("{} packets, {forwarded} of them forwarded", hops.len());
    ensure!(forwarded > MOVES && forwarded < hops.len(), "{forwarded} of {}", hops.len());
    Ok(())
}

/// Moves the role, and has a client on each node connect through the VIP; how long the slowest move took.
fn move_about(trio: &Trio) -> Result<Duration> {
    let mut slowest = Duration::ZERO;
    for step in 1..=MOVES {
        let director = &trio.directors[step % NODES.len()];
        let start = Instant::now();
        assert_eq!(steer(director, "take")?, "this director is active");
        slowest = slowest.max(start.elapsed());
        if step % 10 == 0 {
            let mut wanted = ["standby"; 3];
            wanted[step % NODES.len()] = "active";
            trio.wait_roles(wanted)?;
            // A node without the VIP finds it at another director.
            let clients = trio
                .directors
                .iter()
                .filter(|client| name(client) != "db1" || name(director) != "db1");
            for client in clients {
                let served = psql(client.host(), "show cluster_name")?.run()?;
                ensure!(NODES[1..].contains(&&*served), "{} got {served}", name(client));
            }
        }
    }
    assert!(slowest <= MOVED, "{slowest:?}");
    Ok(slowest)
}

/// Threads that use the VIP until they are told that it is over.
struct World<'scope> {
    connecting: ScopedJoinHandle<'scope, Result<usize>>,
    querying: ScopedJoinHandle<'scope, Result<usize>>,
    asking: ScopedJoinHandle<'scope, Result<Seen>>,
}

fn watch<'scope>(
    scope: &'scope Scope<'scope, '_>,
    client: &'scope Host,
    over: &'scope AtomicBool,
) -> Result<World<'scope>> {
    let going = || !over.load(Ordering::Relaxed);
    let long = (0..4).map(|_| Session::open(client, READER_VIP)).collect::<Result<Vec<_>>>()?;
    let frames = client.frames()?;
    Ok(World {
        connecting: scope.spawn(move || {
            let mut count = 0;
            while going() {
                let server = Session::open(client, READER_VIP)?.server()?;
                ensure!(server != "db1", "a client got the primary");
                count += 1;
            }
            Ok(count)
        }),
        querying: scope.spawn(move || {
            let servers = long.iter().map(Session::server).collect::<Result<Vec<_>>>()?;
            let mut count = 0;
            while going() {
                for (session, server) in long.iter().zip(&servers) {
                    ensure!(session.server()? == *server, "a session moved");
                    count += 1;
                }
            }
            Ok(count)
        }),
        asking: scope.spawn(move || {
            let mut seen = Seen::default();
            while going() {
                ask(client, &frames, &mut seen)?;
            }
            Ok(seen)
        }),
    })
}

impl World<'_> {
    fn join(self) -> Result<Seen> {
        let connections = self.connecting.join().expect("no panic").context("connecting")?;
        let queries = self.querying.join().expect("no panic").context("querying")?;
        let seen = self.asking.join().expect("no panic").context("asking")?;
        Ok(Seen { connections, queries, ..seen })
    }
}

/// Asks once who has the VIP, as a host of its own would: one answers at most.
fn ask(client: &Host, frames: &FrameSocket, seen: &mut Seen) -> Result<()> {
    // An address of its own for each request of the last seconds tells whom an answer is for.
    let asker = Ipv4Addr::new(10, 77, 0, 150 + u8::try_from(seen.asked % 100)?);
    let mac = client.mac();
    let request = arp_frame(REQUEST, (mac, asker), ([0; 6], READER_VIP));
    let start = Instant::now();
    frames.send(&request)?;
    seen.asked += 1;
    let is_answer = |frame: &[u8]| {
        frame.get(12..14) == Some(&[8, 6][..])
            && frame.get(20..22) == Some(&[0, REPLY][..])
            && frame.get(38..42) == Some(&asker.octets()[..])
    };
    let mut owners = BTreeSet::new();
    while let Ok(frame) = frames.receive(ANSWERS, is_answer) {
        if owners.is_empty() {
            seen.slowest = seen.slowest.max(start.elapsed());
        }
        owners.insert(<[u8; 6]>::try_from(&frame[22..28])?);
    }
    ensure!(owners.len() <= 1, "{owners:02x?} all have the VIP");
    seen.unanswered += usize::from(owners.is_empty());
    Ok(())
}

/// What tells packets apart: client's port, IP identification, sequence number, flags.
type Packet = (u16, u16, u32, u8);

fn read(frame: &[u8]) -> Option<(Packet, [u8; 6])> {
    let ip = frame.get(14..)?;
    let tcp = ip.get(usize::from(ip.first()? & 15) * 4..)?;
    let number = |bytes: &[u8]| Some(u16::from_be_bytes(bytes.try_into().ok()?));
    let sequence = u32::from_be_bytes(tcp.get(4..8)?.try_into().ok()?);
    let packet = (number(tcp.get(..2)?)?, number(ip.get(4..6)?)?, sequence, *tcp.get(13)?);
    Some((packet, frame.get(6..12)?.try_into().ok()?))
}

#[test]
fn netns_roles_are_kept_released_and_given_up() -> Result<()> {
    let trio = Trio::up()?;
    let [db1, db2, _] = &*trio.directors else { bail!("three directors") };
    // A successor goes on with the role that it finds.
    for director in [db1, db2] {
        director.kill()?;
        director.start()?;
    }
    assert_eq!(trio.roles()?, ["active", "standby", "standby"]);
    assert_eq!(steer(db1, "release")?, "this director is standby");
    db1.kill()?;
    db1.start()?;
    assert_eq!(trio.roles()?, ["standby"; 3]);
    let table = String::from_utf8(db1.pgha(["status"])?.stdout)?;
    assert!(table.starts_with("cluster lab: director on eth0 (02:00:0a:4d:00:0b), standing by\n"));
    assert_eq!(steer(db2, "take")?, "this director is active");
    assert_eq!(steer(db2, "take")?, "this director is active");
    trio.wait_roles(["standby", "active", "standby"])?;

    // One whose controller is dead answers on; when that is back, it finds that another has the role.
    db2.kill()?;
    steer(db1, "take")?;
    db2.start()?;
    trio.wait_roles(["active", "standby", "standby"])?;

    // One that was cut off while another took the role hears of it when it is back.
    db1.host().link_down()?;
    steer(db2, "take")?;
    trio.wait_roles(["active", "active", "standby"])?;
    db1.host().link_up()?;
    trio.wait_roles(["standby", "active", "standby"])?;
    steer(db1, "take")?;
    trio.wait_roles(["active", "standby", "standby"])?;

    // Who is no director takes nothing over by announcing the VIP.
    let client = trio.lab.host("client")?;
    let mac = client.mac();
    let claim = arp_frame(REQUEST, (mac, READER_VIP), ([0; 6], READER_VIP));
    client.frames()?.send(&claim)?;
    let said = format!("{} announces VIP {READER_VIP} too", mac_text(mac));
    wait_for("the announcement to be told of", SOON, || {
        let log = db1.log()?;
        ensure!(log.lines().any(|line| line.contains("WARN") && line.contains(&said)), "{log}");
        Ok(Some(()))
    })?;
    assert_eq!(trio.roles()?, ["active", "standby", "standby"]);

    // What is no peer's keeps a director from starting, a peer's does not.
    assert!(db1.terminate()?.success() && db1.pgha(["detach"])?.status.success());
    client.run(["ip", "address", "add", "10.77.0.100/32", "dev", "eth0"])?;
    let (code, said) = db1.start_expecting_failure()?;
    assert!(code == 1 && said.contains("VIP 10.77.0.100 is in use"), "{said}");
    client.run(["ip", "address", "del", "10.77.0.100/32", "dev", "eth0"])?;
    steer(db2, "take")?;
    db1.start()?;
    trio.wait_roles(["standby", "active", "standby"])
}
