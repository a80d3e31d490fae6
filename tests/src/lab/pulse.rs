//! A TCP server that says on each connection, over and over, what time it is: whatever gets through to a client
//! tells when it was sent. It says the same to its log, so that one can see that it goes on.
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use pgha_ctl::clock;
use pgha_machine::Moment;

use super::artifacts::lab_binary;
use super::cgroup::Cgroup;
use super::host::Host;
use super::process::Running;
use super::wait::{SOON, wait_for, wait_until};

/// Between two words on a connection, and in the log.
const INTERVAL: Duration = Duration::from_millis(5);
/// How long a client waits for the next word before it looks around.
const LOOK: Duration = Duration::from_millis(50);

/// The server, in a cgroup.
pub struct Pulse {
    process: Running,
    address: SocketAddr,
}

/// A connection to it.
#[derive(Debug)]
pub struct Patient {
    stream: BufReader<TcpStream>,
    line: String,
}

impl Pulse {
    /// Starts one on a host, in a cgroup.
    ///
    /// # Errors
    /// When it does not listen.
    pub fn start(host: &Host, address: SocketAddr, cgroup: &Cgroup) -> Result<Self> {
        let name = format!("pulse-{}", address.port());
        let command = host.command([lab_binary()?])?.args(["pulse", &address.to_string()]);
        let process = command.in_cgroup(cgroup)?.start(&host.log_path(&name))?;
        let pulse = Self { process, address };
        pulse.goes_on_after(clock::now())?;
        Ok(pulse)
    }

    /// Its process id.
    pub fn pid(&self) -> i32 {
        self.process.pid()
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Connects to it from a host.
    ///
    /// # Errors
    /// When there is no answer in time.
    pub fn connect(&self, from: &Host, patience: Duration) -> Result<Patient> {
        let stream = from.inside(|| Ok(TcpStream::connect_timeout(&self.address, patience)?))?;
        stream.set_read_timeout(Some(LOOK))?;
        Ok(Patient { stream: BufReader::new(stream), line: String::new() })
    }

    /// Waits until it has run at a moment after this one.
    ///
    /// # Errors
    /// When it does not.
    pub fn goes_on_after(&self, moment: Moment) -> Result<()> {
        wait_until("the server to go on", SOON, || {
            Ok(self.last()?.is_some_and(|(at, _)| at > moment))
        })
    }

    /// How many bytes it has got from all clients so far.
    ///
    /// # Errors
    /// When its log cannot be read.
    pub fn got(&self) -> Result<u64> {
        Ok(self.last()?.map_or(0, |(_, got)| got))
    }

    fn last(&self) -> Result<Option<(Moment, u64)>> {
        let log = self.process.log();
        // The last line may not be there as a whole.
        let Some((whole, _)) = log.rsplit_once('\n') else { return Ok(None) };
        let line = whole.lines().next_back().unwrap_or_default();
        let (at, got) = line.split_once(' ').with_context(|| format!("a word: {line}"))?;
        Ok(Some((Moment::new(at.parse()?), got.parse()?)))
    }
}

impl Patient {
    /// The next thing that the server said: when it did. `None` when nothing came for a while.
    ///
    /// # Errors
    /// When the connection has ended.
    pub fn listen(&mut self) -> Result<Option<Moment>> {
        match self.stream.read_line(&mut self.line) {
            Ok(0) => bail!("the connection has ended"),
            Ok(_) if self.line.ends_with('\n') => {
                let at = self.line.trim().parse()?;
                self.line.clear();
                Ok(Some(Moment::new(at)))
            }
            Ok(_) => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Waits for something that was said after this moment.
    ///
    /// # Errors
    /// When nothing of the kind comes.
    pub fn hear_after(&mut self, moment: Moment) -> Result<()> {
        wait_for("a word of the server", SOON, || {
            let said = self.listen()?;
            if said.is_none() {
                bail!("silence");
            }
            Ok(said.filter(|at| *at > moment))
        })
        .map(drop)
    }

    /// Says something to the server.
    ///
    /// # Errors
    /// When the connection has ended.
    pub fn say(&self, text: &str) -> Result<()> {
        Ok(self.stream.get_ref().write_all(text.as_bytes())?)
    }
}

/// Serves until it is killed.
///
/// # Errors
/// When it cannot listen.
pub fn serve(address: SocketAddr) -> Result<()> {
    let listener = TcpListener::bind(address)?;
    let got = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&got);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let counted = Arc::clone(&counted);
            if let Ok(reader) = stream.try_clone() {
                thread::spawn(move || count(reader, &counted));
            }
            thread::spawn(move || pulse(stream));
        }
    });
    loop {
        let (at, got) = (clock::now().milliseconds(), got.load(Ordering::Relaxed));
        println!("{at} {got}");
        thread::sleep(INTERVAL);
    }
}

fn count(mut stream: TcpStream, got: &AtomicU64) {
    let mut part = [0; 1024];
    while let Ok(length @ 1..) = stream.read(&mut part) {
        got.fetch_add(length as u64, Ordering::Relaxed);
    }
}

/// The clock is read before the word is sent: what a client hears was sent at that moment or later.
fn pulse(mut stream: TcpStream) {
    // Each word at once, and not with the next.
    let _ = stream.set_nodelay(true);
    while stream.write_all(format!("{}\n", clock::now().milliseconds()).as_bytes()).is_ok() {
        thread::sleep(INTERVAL);
    }
}
