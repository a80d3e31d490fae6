//! The agent's side.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use pgha_machine::Moment;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::process::Command;
use tokio::time::{Instant, sleep, timeout};

use super::said::{Answer, Charge, Numbered, Order, Surrendered, line};
use super::watch::Refusal;

/// How long a guardian has to start. It locks its memory first, which takes as long as reading it does.
const START: Duration = Duration::from_secs(10);
/// How long it has to answer. It runs before every ordinary process.
const PATIENCE: Duration = Duration::from_millis(500);
/// Between two looks whether one that was just started listens.
const LOOK: Duration = Duration::from_millis(5);

/// How a guardian is started where none is running.
#[derive(Clone, Debug)]
pub struct Spawn {
    /// The `pgha` to start; [`Spawn::OWN`] for the program that this process is.
    pub program: PathBuf,
    /// Its socket, of this agent alone.
    pub socket: PathBuf,
    /// It may be an ordinary process where locked memory or real-time priority is refused.
    pub may_be_ordinary: bool,
}

impl Spawn {
    /// The program that this process is, also when its file was exchanged for a newer one.
    pub const OWN: &str = "/proc/self/exe";
}

/// The connection of an agent to its guardian. When it ends, the guardian goes on counting.
#[derive(Debug)]
pub struct Client {
    answers: Lines<BufReader<OwnedReadHalf>>,
    orders: OwnedWriteHalf,
    /// The guardian's.
    process: Option<i32>,
    /// Of the last order.
    number: u64,
}

/// The guardian does not do what it should. The two other layers still hold: the agent itself, and the gate.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the message of each variant says what it and its fields mean")]
pub enum GuardianError {
    #[error("no guardian listens at {path}: {source}")]
    Absent { path: PathBuf, source: io::Error },
    #[error("the guardian cannot be started: {source}")]
    Spawn { source: io::Error },
    #[error("the guardian ended at its start ({0}); its reason is in this log")]
    Ended(std::process::ExitStatus),
    #[error("the guardian does not listen at {path} after {} s", .patience.as_secs())]
    Slow { path: PathBuf, patience: Duration },
    #[error("the guardian is gone: {0}")]
    Gone(io::Error),
    #[error("the guardian gave no answer within {} ms", PATIENCE.as_millis())]
    Silent,
    #[error("the guardian did not follow: {0}")]
    Refused(Refusal),
    #[error("the guardian gave start {} up: its moment had come", .0.start)]
    Surrendered(Surrendered),
    #[error("the guardian's answer cannot be read: {0}; is it of another pgha?")]
    Unclear(serde_json::Error),
}

impl Client {
    /// Connects to a guardian that runs. It then listens to this connection and to no other.
    ///
    /// # Errors
    /// There is none at that socket, or it takes no orders from this user.
    pub async fn connect(socket: &Path) -> Result<Self, GuardianError> {
        let stream = UnixStream::connect(socket).await;
        let stream =
            stream.map_err(|source| GuardianError::Absent { path: socket.to_owned(), source })?;
        let process = stream.peer_cred().ok().and_then(|peer| peer.pid());
        let (answers, orders) = stream.into_split();
        let answers = BufReader::new(answers).lines();
        let mut client = Self { answers, orders, process, number: 0 };
        // One that is about to end takes connections, too.
        client.ask(Order::Look).await?;
        Ok(client)
    }

    /// Whether that guardian runs the same program as this process: after an upgrade it does not.
    #[must_use]
    pub fn is_of_this_program(&self) -> bool {
        let file = |process: &str| {
            let file = std::fs::metadata(format!("/proc/{process}/exe")).ok()?;
            Some((file.dev(), file.ino()))
        };
        let theirs = self.process.and_then(|process| file(&process.to_string()));
        // What cannot be known is no reason for another.
        theirs.is_none() || theirs == file("self")
    }

    /// Has it guard nothing any more, whatever that is, and lets it end.
    ///
    /// # Errors
    /// It does not answer, or does not do it.
    pub async fn dismiss(mut self) -> Result<(), GuardianError> {
        match self.stand_down(0).await {
            Err(GuardianError::Refused(Refusal::OtherStart { guarded })) => {
                self.stand_down(guarded).await
            }
            answered => answered,
        }
    }

    /// Connects to the guardian that runs, or starts one. It outlives this process, and logs where this one
    /// does.
    ///
    /// # Errors
    /// It cannot be started: [`GuardianError::Ended`] where it refuses by itself, for want of rights.
    pub async fn spawn(settings: &Spawn) -> Result<Self, GuardianError> {
        match Self::connect(&settings.socket).await {
            Err(GuardianError::Absent { .. } | GuardianError::Gone(_)) => {}
            answered => return answered,
        }
        let mut command = Command::new(&settings.program);
        command.arg("guardian").arg("--socket").arg(&settings.socket);
        if settings.may_be_ordinary {
            command.arg("--may-be-ordinary");
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).current_dir("/");
        for of_the_agent in ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"] {
            command.env_remove(of_the_agent);
        }
        let mut child = command.spawn().map_err(|source| GuardianError::Spawn { source })?;
        let begin = Instant::now();
        while begin.elapsed() < START {
            if let Ok(client) = Self::connect(&settings.socket).await {
                return Ok(client);
            }
            match child.try_wait() {
                Ok(Some(status)) => return Err(GuardianError::Ended(status)),
                Ok(None) => sleep(LOOK).await,
                Err(source) => return Err(GuardianError::Spawn { source }),
            }
        }
        Err(GuardianError::Slow { path: settings.socket.clone(), patience: START })
    }

    /// Has a start guarded until the moment in the charge, in the place of what was told of that start before.
    /// Said before PostgreSQL may be promoted, again when the VIPs change, and again by an agent that is back.
    ///
    /// # Errors
    /// It guards another start, cannot open what it would need, or does not answer.
    pub async fn guard(&mut self, charge: &Charge) -> Result<(), GuardianError> {
        self.ask(Order::Guard(charge.clone())).await
    }

    /// Moves the moment of a start.
    ///
    /// # Errors
    /// [`GuardianError::Surrendered`], once, when the moment before has come, and [`Refusal::Nothing`] from then
    /// on; or it does not answer.
    pub async fn surrender_at(&mut self, start: u64, until: Moment) -> Result<(), GuardianError> {
        self.ask(Order::Renew { start, until }).await
    }

    /// Has it guard that start no more.
    ///
    /// # Errors
    /// It guards another start, or does not answer.
    pub async fn stand_down(&mut self, start: u64) -> Result<(), GuardianError> {
        self.ask(Order::StandDown { start }).await
    }

    /// Waits until it gives something up. Cancel-safe, so it can be waited for beside other things, between
    /// orders.
    ///
    /// # Errors
    /// The guardian is gone: another must be started.
    pub async fn surrendered(&mut self) -> Result<Surrendered, GuardianError> {
        loop {
            // An answer that came too late for its order says nothing any more.
            if let Answer::Surrendered(surrendered) = self.next().await? {
                return Ok(surrendered);
            }
        }
    }

    async fn ask(&mut self, order: Order) -> Result<(), GuardianError> {
        self.number += 1;
        let order = line(&Numbered { number: self.number, order });
        let asked = async {
            self.orders.write_all(&order).await.map_err(GuardianError::Gone)?;
            loop {
                match self.next().await? {
                    Answer::Done { number } if number == self.number => return Ok(()),
                    Answer::Refused { number, refusal } if number == self.number || number == 0 => {
                        return Err(GuardianError::Refused(refusal));
                    }
                    Answer::Surrendered(surrendered) => {
                        return Err(GuardianError::Surrendered(surrendered));
                    }
                    // To an order that nobody waits for any more.
                    Answer::Done { .. } | Answer::Refused { .. } => {}
                }
            }
        };
        timeout(PATIENCE, asked).await.map_err(|_| GuardianError::Silent)?
    }

    async fn next(&mut self) -> Result<Answer, GuardianError> {
        let heard = self.answers.next_line().await.map_err(GuardianError::Gone)?;
        let heard =
            heard.ok_or_else(|| GuardianError::Gone(io::ErrorKind::UnexpectedEof.into()))?;
        serde_json::from_str(&heard).map_err(GuardianError::Unclear)
    }
}
