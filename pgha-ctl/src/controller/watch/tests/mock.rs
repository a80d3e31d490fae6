//! A server that speaks PostgreSQL's protocol, and no more.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::Server;

/// A message of PostgreSQL's protocol (PostgreSQL documentation, "Message Formats").
fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap();
    [&[kind][..], &length.to_be_bytes(), body].concat()
}

/// One row of text.
fn row(columns: &[(&str, &str)]) -> Vec<u8> {
    let count = u16::try_from(columns.len()).unwrap().to_be_bytes();
    let (mut names, mut values) = (count.to_vec(), count.to_vec());
    for (name, value) in columns {
        names.extend(name.as_bytes());
        names.extend([0; 1 + 4 + 2]);
        names.extend(25u32.to_be_bytes());
        names.extend([0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0]);
        values.extend(i32::try_from(value.len()).unwrap().to_be_bytes());
        values.extend(value.as_bytes());
    }
    [message(b'T', &names), message(b'D', &values), message(b'C', b"SELECT 1\0")].concat()
}

/// What a server does.
#[derive(Clone, Debug)]
pub(super) enum Doing {
    /// It answers questions with this row.
    Answer(Vec<(&'static str, &'static str)>),
    /// It does so once in each session, and ends it.
    Hasty(Vec<(&'static str, &'static str)>),
    /// It takes connections and never says anything.
    Nothing,
    /// It ends each connection without a word.
    HangUp,
    /// It answers like this after a while.
    Late(Duration, Vec<(&'static str, &'static str)>),
    /// It refuses new sessions, as there are too many, and answers nothing in those it has.
    Stuck,
    /// It refuses new sessions as while it shuts down, and serves those it has.
    ShutDown(Vec<(&'static str, &'static str)>),
}

/// A standby of the cluster of [`primary`].
pub(super) fn follower(timeline: &'static str) -> Doing {
    Doing::Answer(vec![("in_recovery", "t"), ("followed_timeline", timeline), ("system", "7")])
}

pub(super) fn standby() -> Doing {
    Doing::Answer(vec![("in_recovery", "t")])
}

pub(super) fn primary(timeline: &'static str) -> Doing {
    Doing::Answer(vec![
        ("in_recovery", "f"),
        ("lsn", "0/1"),
        ("written_timeline", timeline),
        ("system", "7"),
    ])
}

/// A server on a port of its own.
#[derive(Clone)]
pub(super) struct Mock {
    pub(super) at: Server,
    doing: Arc<Mutex<Doing>>,
    connections: Arc<AtomicU32>,
    questions: Arc<AtomicU32>,
}

impl Mock {
    pub(super) async fn new(doing: Doing) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let mock = Self {
            at: listener.local_addr().unwrap(),
            doing: Arc::new(Mutex::new(doing)),
            connections: Arc::default(),
            questions: Arc::default(),
        };
        let this = mock.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                this.connections.fetch_add(1, Ordering::Relaxed);
                // Who goes away in the middle ends it.
                tokio::spawn({
                    let this = this.clone();
                    async move { this.serve(stream).await }
                });
            }
        });
        mock
    }

    pub(super) fn does(&self, doing: Doing) {
        *self.doing.lock().unwrap() = doing;
    }

    fn doing(&self) -> Doing {
        self.doing.lock().unwrap().clone()
    }

    async fn serve(&self, mut stream: TcpStream) -> std::io::Result<()> {
        let length = stream.read_u32().await?;
        stream.read_exact(&mut vec![0; usize::try_from(length).unwrap() - 4]).await?;
        let ready = message(b'Z', b"I");
        match self.doing() {
            Doing::Nothing => std::future::pending().await,
            Doing::HangUp => return Ok(()),
            Doing::ShutDown(_) => {
                let error = b"SFATAL\0C57P03\0Mthe database system is shutting down\0\0";
                return stream.write_all(&message(b'E', error)).await;
            }
            Doing::Stuck => {
                let error = b"SFATAL\0C53300\0Msorry, too many clients already\0\0";
                return stream.write_all(&message(b'E', error)).await;
            }
            Doing::Late(after, _) => tokio::time::sleep(after).await,
            Doing::Answer(_) | Doing::Hasty(_) => {}
        }
        stream.write_all(&[message(b'R', &[0; 4]), ready.clone()].concat()).await?;
        while stream.read_u8().await? == b'Q' {
            let length = stream.read_u32().await?;
            stream.read_exact(&mut vec![0; usize::try_from(length).unwrap() - 4]).await?;
            self.questions.fetch_add(1, Ordering::Relaxed);
            let (columns, hasty) = match self.doing() {
                Doing::Answer(columns) | Doing::ShutDown(columns) => (columns, false),
                Doing::Late(after, columns) => {
                    tokio::time::sleep(after).await;
                    (columns, false)
                }
                Doing::Hasty(columns) => (columns, true),
                Doing::Nothing | Doing::Stuck => std::future::pending().await,
                Doing::HangUp => return Ok(()),
            };
            stream.write_all(&[row(&columns), ready.clone()].concat()).await?;
            if hasty {
                break;
            }
        }
        Ok(())
    }

    pub(super) fn connections(&self) -> u32 {
        self.connections.load(Ordering::Relaxed)
    }

    pub(super) fn questions(&self) -> u32 {
        self.questions.load(Ordering::Relaxed)
    }
}
