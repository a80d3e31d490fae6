//! A client inside an open transaction, byte by byte: whatever the server ever says to it is kept, however late
//! it comes (PostgreSQL's documentation, "Message Formats").
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};

use super::host::Host;
use super::postgres::PORT;
use super::process::POSTGRES_USER;
use super::wait::{SOON, wait_for};

/// How long one look for more bytes takes.
const LOOK: Duration = Duration::from_millis(20);
/// `CommandComplete` and `ReadyForQuery`.
const COMPLETE: u8 = b'C';
const READY: u8 = b'Z';

/// A connection that has begun a transaction. Dropping it closes it.
#[derive(Debug)]
pub struct Transaction {
    stream: TcpStream,
    /// What has come and is no whole message yet.
    heard: Vec<u8>,
    /// What the server said it has done.
    done: Vec<String>,
    /// How often it said that it waits for the next statement.
    ready: usize,
    over: bool,
}

impl Transaction {
    /// Connects from a host to a server, begins, and has these statements done.
    ///
    /// # Errors
    /// When the server does not say that it is inside the transaction.
    pub fn begin(from: &Host, at: impl Into<IpAddr>, sql: &str) -> Result<Self> {
        let at = SocketAddr::new(at.into(), PORT);
        let stream = from.inside(|| Ok(TcpStream::connect_timeout(&at, SOON)?))?;
        stream.set_read_timeout(Some(LOOK))?;
        let (heard, done) = (Vec::new(), Vec::new());
        let mut transaction = Self { stream, heard, done, ready: 0, over: false };
        transaction.send(None, &startup())?;
        transaction.wait_ready(1)?;
        transaction.say(&format!("begin; {sql}"))?;
        transaction.wait_ready(2)?;
        ensure!(transaction.done.first().is_some_and(|tag| tag == "BEGIN"), "{transaction:?}");
        transaction.done.clear();
        Ok(transaction)
    }

    /// Its own port, by which the server's socket is found.
    ///
    /// # Errors
    /// Never, unless the kernel has forgotten the socket.
    pub fn port(&self) -> Result<u16> {
        Ok(self.stream.local_addr()?.port())
    }

    /// Sends a statement, and waits for nothing.
    ///
    /// # Errors
    /// When the connection is over.
    pub fn say(&mut self, sql: &str) -> Result<()> {
        self.send(Some(b'Q'), format!("{sql}\0").as_bytes())
    }

    /// What the server said is done since the transaction began, as far as it has come. After the end of the
    /// connection nothing more comes.
    ///
    /// # Errors
    /// When it says something that is no message.
    pub fn done(&mut self) -> Result<&[String]> {
        let mut part = [0; 4096];
        while !self.over {
            match self.stream.read(&mut part) {
                Ok(0) => self.over = true,
                Ok(length) => {
                    self.heard.extend(&part[..length]);
                    self.understand()?;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // Reset, or given up by the kernel.
                Err(_) => self.over = true,
            }
        }
        Ok(&self.done)
    }

    /// Sees that the server never said that anything is done.
    ///
    /// # Errors
    /// Naming what it said.
    pub fn heard_nothing(&mut self) -> Result<()> {
        let done = self.done()?;
        ensure!(done.is_empty(), "the client was told {done:?}");
        Ok(())
    }

    fn send(&mut self, kind: Option<u8>, body: &[u8]) -> Result<()> {
        // The length counts itself.
        let length = u32::try_from(body.len() + 4)?.to_be_bytes();
        let message: Vec<u8> = kind.into_iter().chain(length).chain(body.iter().copied()).collect();
        self.stream.write_all(&message).context("the connection is over")
    }

    fn wait_ready(&mut self, times: usize) -> Result<()> {
        wait_for("a server that waits for a statement", SOON, || {
            self.done()?;
            if self.over && self.ready < times {
                bail!("the connection is over");
            }
            Ok((self.ready >= times).then_some(()))
        })
    }

    /// Takes whole messages off what was heard.
    fn understand(&mut self) -> Result<()> {
        while let Some((&kind, rest)) = self.heard.split_first()
            && let Some(length) = rest.first_chunk()
        {
            let length = usize::try_from(u32::from_be_bytes(*length))?;
            let Some(body) = rest.get(4..length) else { return Ok(()) };
            match kind {
                COMPLETE => {
                    let tag = String::from_utf8_lossy(body);
                    self.done.push(tag.trim_end_matches('\0').to_owned());
                }
                READY => self.ready += 1,
                _ => {}
            }
            self.heard.drain(..=length);
        }
        Ok(())
    }
}

/// Version 3.0, the user, and the database.
fn startup() -> Vec<u8> {
    let parameters = format!("user\0{POSTGRES_USER}\0database\0{POSTGRES_USER}\0\0");
    [&196_608_u32.to_be_bytes(), parameters.as_bytes()].concat()
}
