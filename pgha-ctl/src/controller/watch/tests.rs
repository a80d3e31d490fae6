use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicU32, Ordering};

use pgha_machine::balancer::Finding;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;

use super::*;
use crate::postgres::NamedWalsender;

/// A message of PostgreSQL's protocol (PostgreSQL documentation, "Message Formats").
fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap();
    [&[kind][..], &length.to_be_bytes(), body].concat()
}

/// One row of text; `None` for null.
fn row(columns: &[(&str, Option<&str>)]) -> Vec<u8> {
    let count = u16::try_from(columns.len()).unwrap().to_be_bytes();
    let (mut names, mut values) = (count.to_vec(), count.to_vec());
    for (name, value) in columns {
        names.extend(name.as_bytes());
        names.extend([0; 1 + 4 + 2]);
        names.extend(25u32.to_be_bytes());
        names.extend([0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0]);
        let length = value.map_or(-1, |value| i32::try_from(value.len()).unwrap());
        values.extend(length.to_be_bytes());
        values.extend(value.unwrap_or_default().as_bytes());
    }
    [message(b'T', &names), message(b'D', &values), message(b'C', b"SELECT 1\0")].concat()
}

/// Lets the client in, answers one query, and closes.
async fn answer_and_close(mut stream: TcpStream, answer: Vec<u8>) {
    let ready = message(b'Z', b"I");
    assert_ne!(stream.read(&mut [0; 4096]).await.unwrap(), 0);
    stream.write_all(&[message(b'R', &[0; 4]), ready.clone()].concat()).await.unwrap();
    assert_ne!(stream.read(&mut [0; 4096]).await.unwrap(), 0);
    stream.write_all(&[answer, ready].concat()).await.unwrap();
}

/// A server on a port of its own that ends each session after one answer, with the number of its
/// sessions.
async fn hasty(at: impl Into<IpAddr>, answer: Vec<u8>) -> (u16, Arc<AtomicU32>) {
    let listener = TcpListener::bind((at.into(), 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let sessions = Arc::new(AtomicU32::new(0));
    let count = sessions.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            count.fetch_add(1, Ordering::Relaxed);
            tokio::spawn(answer_and_close(stream, answer.clone()));
        }
    });
    (port, sessions)
}

fn manner() -> Manner {
    let text = "cluster = \"main\"\n[director]\ninterface = \"eth0\"\n[[node]]\nname = \"a\"\n\
                address = \"10.0.0.1\"\n[[service]]\nname = \"reader\"\nvip = \"10.0.0.100\"\n\
                discovery = \"direct\"\n";
    let config = Config::parse(text, std::path::Path::new("pgha.toml")).unwrap();
    let second = Duration::from_secs(1);
    Manner { login: config.login().clone(), interval: second, timeout: second }
}

#[tokio::test]
async fn a_server_that_ends_each_session_is_not_checked_without_pause() {
    let standby = [("in_recovery", Some("t")), ("received", None), ("replayed", None)];
    let (port, sessions) = hasty(Ipv4Addr::LOCALHOST, row(&standby)).await;
    let (_orders, ordered) = watch::channel(manner());
    let (tell, mut told) = mpsc::channel(64);
    let target = Target { address: Ipv4Addr::LOCALHOST.into(), port };
    let mut watchers = Watchers::new(ordered, tell);
    watchers.watch(target);
    let ended = async {
        while let Some(Told::Event(event)) = told.recv().await {
            if let Event::SessionEnded(target) = event {
                watchers.check_now(target);
            } else {
                assert!(matches!(event, Event::Checked(_, Finding::Standby(_))), "{event:?}");
            }
        }
    };
    let _ = tokio::time::timeout(Duration::from_millis(400), ended).await;
    let sessions = sessions.load(Ordering::Relaxed);
    assert!((2..=21).contains(&sessions), "{sessions} sessions in 400 ms");
}

#[tokio::test]
async fn a_primary_that_ends_each_session_is_not_asked_without_pause() {
    let primary = [("in_recovery", Some("f")), ("lsn", Some("0/1")), ("pid", None)];
    let (port, sessions) = hasty(Ipv4Addr::LOCALHOST, row(&primary)).await;
    let text = format!(
        "cluster = \"main\"\n[director]\ninterface = \"eth0\"\n[primary]\nhosts = [\"127.0.0.1\"]\n\
         port = {port}\n[[service]]\nname = \"reader\"\nvip = \"10.0.0.100\"\n"
    );
    let config = Config::parse(&text, std::path::Path::new("pgha.toml")).unwrap();
    let (_orders, ordered) = watch::channel(manner());
    let (tell, mut told) = mpsc::channel(64);
    let task = tokio::spawn(watch_primary(config.primary().unwrap().clone(), ordered, tell));
    sleep(Duration::from_millis(450)).await;
    task.abort();
    assert!(matches!(told.recv().await, Some(Told::Primary(..))));
    let sessions = sessions.load(Ordering::Relaxed);
    assert!((2..=5).contains(&sessions), "{sessions} sessions in 450 ms");
}

#[tokio::test]
async fn a_primary_at_an_ipv6_address_names_walsenders_of_both_families() {
    for (client, wanted) in [("fd00::7", "fd00::7"), ("10.0.0.7", "10.0.0.7")] {
        let answer = row(&[
            ("in_recovery", Some("f")),
            ("lsn", Some("0/1")),
            ("pid", Some("7")),
            ("application_name", Some("walreceiver")),
            ("client", Some(client)),
            ("state", Some("streaming")),
            ("sync_state", Some("async")),
        ]);
        let (port, _) = hasty(Ipv6Addr::LOCALHOST, answer).await;
        let text = format!(
            "cluster = \"main\"\n[director]\ninterface = \"eth0\"\n[primary]\nhosts = [\"::1\"]\n\
             port = {port}\n[[service]]\nname = \"reader\"\nvip = \"fd00::100\"\n"
        );
        let config = Config::parse(&text, std::path::Path::new("pgha.toml")).unwrap();
        let Manner { login, timeout, .. } = manner();
        let (host, _, report) =
            find_primary(config.primary().unwrap(), &login, timeout).await.unwrap();
        assert_eq!(host, Ipv6Addr::LOCALHOST);
        let [NamedWalsender { client, .. }] = &report.walsenders[..] else {
            panic!("{report:?}");
        };
        assert_eq!(*client, Some(wanted.parse().unwrap()));
    }
}
