//! Servers that speak as much of PostgreSQL's protocol as checks need: they ask for a password in
//! clear, answer every question with the same rows, and count (PostgreSQL documentation, "Message
//! Flow" and "Message Formats").
use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::lab::Host;
use crate::lab::postgres::PORT;

/// AuthenticationCleartextPassword.
const ASKS: [u8; 4] = [0, 0, 0, 3];
/// SSLRequest, behind its length.
const SSL_REQUEST: [u8; 4] = [0x04, 0xd2, 0x16, 0x2f];

/// What one server was asked.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    /// Connections it took.
    pub(super) connections: u64,
    /// Connections that got as far as a session.
    pub(super) sessions: u64,
    /// Queries it answered.
    pub(super) queries: u64,
}

/// All servers of one host, told apart by the address a client connects to.
#[derive(Clone, Default)]
pub(super) struct Mocks {
    answers: Arc<BTreeMap<IpAddr, Vec<u8>>>,
    counts: Arc<Mutex<BTreeMap<IpAddr, Counts>>>,
}

impl Mocks {
    /// Serves on every address of the host: these answers on theirs, and nothing elsewhere. It ends
    /// with the runtime it is called in.
    pub(super) fn serve(host: &Host, answers: BTreeMap<IpAddr, Vec<u8>>) -> Result<Self> {
        let mocks = Self { answers: Arc::new(answers), counts: Arc::default() };
        let listener = host.inside(|| {
            let listener = std::net::TcpListener::bind(("0.0.0.0", PORT))?;
            listener.set_nonblocking(true)?;
            Ok(listener)
        })?;
        let listener = TcpListener::from_std(listener)?;
        let this = mocks.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let this = this.clone();
                // Who goes away in the middle ends it.
                tokio::spawn(async move { this.meet(stream).await });
            }
        });
        Ok(mocks)
    }

    /// What each of them was asked so far.
    pub(super) fn counts(&self) -> BTreeMap<IpAddr, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn count(&self, at: IpAddr, add: fn(&mut Counts)) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        add(counts.entry(at).or_default());
    }

    async fn meet(&self, mut stream: TcpStream) -> io::Result<()> {
        let at = stream.local_addr()?.ip();
        let Some(answer) = self.answers.get(&at) else { return Ok(()) };
        self.count(at, |counts| counts.connections += 1);
        stream.set_nodelay(true)?;
        let mut startup = packet(&mut stream).await?;
        if startup == SSL_REQUEST {
            stream.write_all(b"N").await?;
            startup = packet(&mut stream).await?;
        }
        if startup.is_empty() {
            return Ok(());
        }
        stream.write_all(&message(b'R', &ASKS)).await?;
        let ready = message(b'Z', b"I");
        let welcome = [message(b'R', &[0; 4]), ready.clone()].concat();
        let answer = [answer, &ready[..]].concat();
        loop {
            let kind = stream.read_u8().await?;
            packet(&mut stream).await?;
            match kind {
                b'p' => {
                    self.count(at, |counts| counts.sessions += 1);
                    stream.write_all(&welcome).await?;
                }
                b'Q' => {
                    self.count(at, |counts| counts.queries += 1);
                    stream.write_all(&answer).await?;
                }
                _ => return Ok(()),
            }
        }
    }
}

/// What stands behind a length.
async fn packet(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let length = stream.read_u32().await?;
    let length = usize::try_from(length).unwrap_or_default().saturating_sub(4);
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    Ok(body)
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap_or(u32::MAX);
    [&[kind][..], &length.to_be_bytes(), body].concat()
}

/// Rows of text with these columns, as the answer to a simple query.
pub(super) fn rows(columns: &[&str], rows: &[Vec<Option<String>>]) -> Vec<u8> {
    let count = u16::try_from(columns.len()).unwrap_or(u16::MAX).to_be_bytes();
    let mut description = count.to_vec();
    for name in columns {
        description.extend(name.as_bytes());
        // No table, no column, the type `text`, of any length, in text format.
        description.extend([0; 1 + 4 + 2]);
        description.extend(25u32.to_be_bytes());
        description.extend([0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0]);
    }
    let mut answer = message(b'T', &description);
    for row in rows {
        let mut data = count.to_vec();
        for value in row {
            let length = value.as_ref().map_or(-1, |text| i32::try_from(text.len()).unwrap_or(-1));
            data.extend(length.to_be_bytes());
            data.extend(value.as_deref().unwrap_or_default().as_bytes());
        }
        answer.extend(message(b'D', &data));
    }
    answer.extend(message(b'C', b"SELECT\0"));
    answer
}
