//! A reader is gone without a word: all its clients are told, also those that only wait.
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail, ensure};
use pgha_tests::lab::postgres::PORT;
use pgha_tests::lab::{Capture, Host, PostgresOptions, READER_VIP, SOON, Session, plan, wait_for};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Config, NoTls, SimpleQueryMessage};

use crate::cluster::{Cluster, withheld};

const SESSIONS: usize = 510;
const READERS: [&str; 3] = ["db2", "db3", "db4"];
/// How long after the decision the last client may be told, ten times over.
const TOLD: Duration = Duration::from_secs(10);
/// How long after the decision its last round of telling is over.
const ROUNDS: Duration = Duration::from_secs(2);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const SLEEP: &str = "select pg_sleep(600)";

/// What a sleeping session does.
enum Sleeper {
    /// It is with this server and sleeps from now on.
    Asleep(String),
    /// Its connection was over then.
    Lost(String, Duration),
    /// It was woken, and answers still.
    Answers(String),
}

/// Sessions through the VIP that sleep, all on one thread on the client's host.
fn crowd(client: &Host, tell: &Sender<Result<Sleeper>>) -> Result<()> {
    client.inside(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let mut all = tokio::task::JoinSet::new();
            for _ in 0..SESSIONS {
                let tell = tell.clone();
                let seated = tokio::sync::oneshot::channel();
                all.spawn(async move {
                    let ended = sleeper(&tell, seated.0).await;
                    // Nobody listens only when the test has failed.
                    let _ = tell.send(ended);
                });
                // One after the other: their servers fork for each.
                let _ = seated.1.await;
            }
            all.join_all().await;
            Ok(())
        })
    })
}

async fn sleeper(
    tell: &Sender<Result<Sleeper>>,
    seated: tokio::sync::oneshot::Sender<()>,
) -> Result<Sleeper> {
    let mut config = Config::new();
    config.hostaddr(READER_VIP.into()).port(PORT).user("postgres").dbname("postgres");
    let (client, connection) = config.connect(NoTls).await.context("connect")?;
    tokio::spawn(connection);
    let rows = client.simple_query("show cluster_name").await?;
    let row = rows.iter().find_map(|message| {
        if let SimpleQueryMessage::Row(row) = message { row.get(0) } else { None }
    });
    let name = row.context("a name")?.to_owned();
    tell.send(Ok(Sleeper::Asleep(name.clone())))?;
    let _ = seated.send(());
    let Err(error) = client.simple_query(SLEEP).await else { bail!("it slept ten minutes") };
    if error.code() == Some(&SqlState::QUERY_CANCELED) {
        client.simple_query("select 1").await.context("after it was woken")?;
        return Ok(Sleeper::Answers(name));
    }
    ensure!(client.is_closed() || error.is_closed() || error.code().is_none(), "{error}");
    Ok(Sleeper::Lost(name, time_of_day()?))
}

/// UTC.
fn time_of_day() -> Result<Duration> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    Ok(Duration::from_nanos(u64::try_from(now.as_nanos() % DAY.as_nanos())?))
}

/// When the controller decided last that a server is gone, by its log (`2026-01-31T23:59:59.999999Z`).
fn decided(cluster: &Cluster, server: &str) -> Result<Duration> {
    let log = cluster.director.log()?;
    let said =
        format!("{}:{PORT} gets no new connections: does not answer", plan::address(server)?);
    let line = log.lines().rfind(|line| line.contains(&said)).context("no such decision")?;
    let time = line.get(11..26).context("a time")?;
    let parts: Vec<f64> = time.split(':').map(str::parse).collect::<Result<_, _>>()?;
    let [hours, minutes, seconds] = parts[..] else { bail!("{time}") };
    Ok(Duration::from_secs_f64((hours * 60.0 + minutes) * 60.0 + seconds))
}

/// From one time of day to another, which is later.
fn since(start: Duration, end: Duration) -> Duration {
    if end < start { end + DAY - start } else { end - start }
}

fn wait_dead(cluster: &Cluster, server: &str) -> Result<()> {
    wait_for(format_args!("{server} to be known dead"), SOON, || {
        let status = cluster.server(server)?;
        ensure!(status["dead"] == true && withheld(&status).contains(&"silent"), "{status:#}");
        Ok(Some(()))
    })
}

fn next(heard: &Receiver<Result<Sleeper>>) -> Result<Sleeper> {
    heard.recv_timeout(SOON).context("a session says nothing")?
}

#[test]
fn netns_dead_sessions_are_told_and_no_others() -> Result<()> {
    let options = PostgresOptions::default().guc("max_connections", "600");
    let cluster = Cluster::prepared_with(&READERS, &options)?;
    cluster.configure(&[])?;
    cluster.director.start()?;
    cluster.wait_serving(&READERS)?;
    let (tell, heard) = channel();
    thread::scope(|scope| {
        let crowd = scope.spawn(|| crowd(&cluster.client, &tell));
        let mut asleep = BTreeMap::<String, usize>::new();
        for _ in 0..SESSIONS {
            match next(&heard)? {
                Sleeper::Asleep(name) => *asleep.entry(name).or_default() += 1,
                Sleeper::Lost(name, _) | Sleeper::Answers(name) => bail!("{name}: too early"),
            }
        }
        ensure!(asleep.len() == READERS.len(), "{asleep:?}");
        cluster.reader("db2")?.host().link_down()?;
        let mut lost = Vec::new();
        for _ in 0..asleep["db2"] {
            match next(&heard)? {
                Sleeper::Lost(name, when) => {
                    ensure!(name == "db2", "a session of {name} was lost");
                    lost.push(when);
                }
                Sleeper::Asleep(name) | Sleeper::Answers(name) => bail!("{name}: not told"),
            }
        }
        wait_dead(&cluster, "db2")?;
        let decided = decided(&cluster, "db2")?;
        let slowest = lost.iter().map(|when| since(decided, *when)).max().context("some")?;
        println!(
            "{asleep:?}: the last of {} was told {slowest:.1?} after the decision",
            lost.len()
        );
        assert!(slowest <= TOLD, "{slowest:?}");
        // All rounds are over: nobody else was touched.
        wait_for("three rounds", SOON, || {
            Ok((since(decided, time_of_day()?) > ROUNDS).then_some(()))
        })?;
        ensure!(heard.try_recv().is_err(), "a session of another server ended");
        let told = format!("told {} clients that their server is gone", lost.len());
        assert_eq!(cluster.logged(&told)?, 1, "{}", cluster.director.log()?);
        for name in ["db3", "db4"] {
            let cancel = format!(
                "select count(pg_cancel_backend(pid)) from pg_stat_activity where query = '{SLEEP}'"
            );
            assert_eq!(cluster.reader(name)?.psql(&cancel)?, asleep[name].to_string());
        }
        for _ in 0..asleep["db3"] + asleep["db4"] {
            match next(&heard)? {
                Sleeper::Answers(_) => {}
                Sleeper::Lost(name, _) | Sleeper::Asleep(name) => bail!("{name}: lost"),
            }
        }
        crowd.join().expect("no panic")
    })
}

fn reason(cluster: &Cluster, name: &str) -> Result<u64> {
    cluster.director.status()?["reasons"][name].as_u64().context("a counter")
}

/// Where frames for the VIP go from the client's host.
fn vip_at(client: &Host, mac: [u8; 6], state: &str) -> Result<()> {
    let (vip, mac) = (READER_VIP.to_string(), plan::mac_text(mac));
    let line = ["ip", "neigh", "replace", &vip, "lladdr", &mac, "dev", "eth0", "nud", state];
    client.run(line).map(drop)
}

/// A segment between client and VIP.
#[derive(Debug)]
struct Seen {
    from_vip: bool,
    client_port: u16,
    sequence: u32,
    acknowledgement: u32,
    flags: u8,
}

const RST: u8 = 4;

fn seen(frame: &[u8]) -> Option<Seen> {
    let ip = frame.get(14..)?;
    let from_vip = ip.get(12..16)? == READER_VIP.octets();
    let tcp = ip.get(usize::from(ip.first()? & 15) * 4..)?;
    let half = |at: usize| Some(u16::from_be_bytes(tcp.get(at..at + 2)?.try_into().ok()?));
    let word = |at: usize| Some(u32::from_be_bytes(tcp.get(at..at + 4)?.try_into().ok()?));
    Some(Seen {
        from_vip,
        client_port: half(if from_vip { 2 } else { 0 })?,
        sequence: word(4)?,
        acknowledgement: word(8)?,
        flags: *tcp.get(13)?,
    })
}

/// Whether a RST that was not exact was followed by an acknowledgement and the exact RST for that.
fn was_corrected(segments: &[Seen]) -> bool {
    segments.windows(2).any(|pair| {
        let [asked, answer] = pair else { return false };
        !asked.from_vip
            && answer.from_vip
            && answer.flags == RST
            && answer.sequence == asked.acknowledgement
            && segments.iter().any(|other| {
                other.from_vip && other.flags == RST && other.sequence != asked.acknowledgement
            })
    })
}

/// Ends a server without a word while a session sleeps of which the director does not know what it has
/// acknowledged last.
fn inexact(
    cluster: &Cluster,
    victim: &str,
    manner: &str,
    mislead: impl FnOnce(&Session, &Capture) -> Result<()>,
) -> Result<()> {
    let host = cluster.reader(victim)?.host();
    let mut session = cluster.session_with(victim)?;
    // A switch floods what the director sends to a server whose port is gone: its probes.
    let director = cluster.director.host().address();
    let of_client = format!("tcp and host {READER_VIP} and not host {director}");
    let capture = Capture::at_port(&cluster.client, &of_client)?;
    mislead(&session, &capture)?;
    let before = reason(cluster, "dead_server")?;
    host.link_down()?;
    session.wait_ended(SOON)?;
    let ended = time_of_day()?;
    wait_dead(cluster, victim)?;
    let told = since(decided(cluster, victim)?, ended);
    let answered = reason(cluster, "dead_server")? - before;
    println!("{manner}: told {told:.1?} after the decision; {answered} answers");
    assert!(told <= TOLD && answered > 0, "{manner}: {told:?}, {answered} answers");
    capture.stop()?;
    let segments: Vec<_> = capture.frames()?.iter().filter_map(|frame| seen(frame)).collect();
    let port = segments.iter().rfind(|segment| segment.flags == RST).context("a RST")?.client_port;
    let of_session: Vec<_> =
        segments.into_iter().filter(|segment| segment.client_port == port).collect();
    assert!(was_corrected(&of_session), "{manner}: {of_session:#?}");
    host.link_up()?;
    cluster.wait_serving(&["db2", "db3"])
}

#[test]
fn netns_dead_sessions_are_told_whatever_the_director_saw() -> Result<()> {
    let cluster = Cluster::up(&["db2", "db3"], &[])?;
    let client = &cluster.client;
    let lb1 = cluster.director.host().mac();

    // The client has acknowledged more, past the director.
    inexact(&cluster, "db2", "past the director", |session, _| {
        vip_at(client, cluster.reader("db2")?.host().mac(), "permanent")?;
        for _ in 0..3 {
            session.server()?;
        }
        // The kernel acknowledges the last answer by itself.
        wait_for("the last acknowledgement", SOON, || {
            let sockets = client.run(["ss", "-tinH", "dst", &READER_VIP.to_string()])?;
            ensure!(sockets.contains("lastack"), "{sockets}");
            let db2 = cluster.reader("db2")?.host();
            let queue = db2.run(["ss", "-tinH", "src", &READER_VIP.to_string()])?;
            Ok((!queue.contains("unacked")).then_some(()))
        })?;
        vip_at(client, lb1, "reachable")
    })?;

    // The director has seen an acknowledgement of what the client has not received: the server dropped
    // that segment for its checksum, which the director has no business with.
    inexact(&cluster, "db3", "ahead of the client", |session, capture| {
        session.server()?;
        let frame = wait_for("an acknowledgement", SOON, || {
            let to_vip = |frame: &&Vec<u8>| seen(frame).is_some_and(|seen| !seen.from_vip);
            Ok(capture.frames()?.into_iter().rfind(|frame| to_vip(&frame)))
        })?;
        let mut forged = frame;
        let at = 14 + 20 + 8;
        let last = u32::from_be_bytes(forged[at..at + 4].try_into()?);
        forged[at..at + 4].copy_from_slice(&(last + 1000).to_be_bytes());
        let before = reason(&cluster, "established_flow")?;
        client.frames()?.send(&forged)?;
        wait_for("the director to see it", SOON, || {
            Ok((reason(&cluster, "established_flow")? > before).then_some(()))
        })
    })?;
    connecting(&cluster)?;
    removed(&cluster)
}

/// Clients whose SYN nobody answers.
fn connecting(cluster: &Cluster) -> Result<()> {
    let host = cluster.reader("db2")?.host();
    host.link_down()?;
    let vip = SocketAddr::new(IpAddr::V4(READER_VIP), PORT);
    let results = cluster.client.inside(|| {
        thread::scope(|scope| {
            let connects: Vec<_> = (0..16)
                .map(|_| {
                    scope.spawn(move || {
                        let connected = TcpStream::connect_timeout(&vip, SOON);
                        Ok((connected.map(drop).map_err(|error| error.kind()), time_of_day()?))
                    })
                })
                .collect();
            let join = |connect: thread::ScopedJoinHandle<'_, Result<_>>| {
                connect.join().expect("no panic")
            };
            connects.into_iter().map(join).collect::<Result<Vec<_>>>()
        })
    })?;
    wait_dead(cluster, "db2")?;
    let decided = decided(cluster, "db2")?;
    let refused: Vec<_> = results.iter().filter(|(result, _)| result.is_err()).collect();
    println!("{} of {} that connected were refused", refused.len(), results.len());
    ensure!(!refused.is_empty() && refused.len() < results.len(), "{results:?}");
    for (result, when) in refused {
        let told = since(decided, *when);
        ensure!(*result == Err(std::io::ErrorKind::ConnectionRefused), "{result:?}");
        assert!(told <= TOLD, "{told:?}");
    }
    host.link_up()?;
    cluster.wait_serving(&["db2", "db3"])
}

/// Clients of a service that the configuration has no more.
fn removed(cluster: &Cluster) -> Result<()> {
    let mut session = cluster.session()?;
    // The service has another address, so that none of its servers is served where it was.
    let moved = [("\"10.77.0.100\"", "\"10.77.0.101\"")];
    cluster.configure(&moved)?;
    cluster.director.reload()?;
    session.wait_ended(SOON)?;
    ensure!(session.query("select 1").is_err());
    assert!(cluster.logged("told 1 clients that their server is gone")? > 0);
    cluster.configure(&[])?;
    cluster.director.reload()?;
    cluster.wait_serving(&["db2", "db3"])?;
    assert_eq!(cluster.served(10)?.into_values().sum::<u64>(), 10);
    Ok(())
}
