//! What systemd is told of this process, where systemd started it (sd_notify(3)): that it serves, in a line how it is,
//! and that its loop goes round. Elsewhere nothing is said.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::time::{Instant, sleep_until};

/// How often within the time of the watchdog it is told that the loop goes round.
const BEATS: u32 = 3;
/// What may wait to be told.
const ROOM: usize = 8;
/// How long the end of this process waits for its last word to be told, and how often it looks.
const FAREWELL: Duration = Duration::from_millis(200);
const LOOK: Duration = Duration::from_millis(1);

/// The one who says it: the loop, so that nothing is said when that hangs. Telling is a thread's of its own: it waits
/// for systemd, and a lease waits for nobody.
#[derive(Debug)]
pub(crate) struct Service {
    say: Option<SyncSender<Said>>,
    teller: Option<JoinHandle<()>>,
    is_ready: bool,
    status: String,
    every: Option<Duration>,
    next: Option<Instant>,
}

#[derive(Debug)]
enum Said {
    Ready,
    Status(String),
    GoesRound,
    Stopping,
}

impl Service {
    /// Nothing is told yet.
    pub(crate) fn new() -> Self {
        let every = sd_notify::watchdog_enabled().map(|within| within / BEATS);
        let (say, hear) = sync_channel(ROOM);
        let teller = std::env::var_os("NOTIFY_SOCKET").and_then(|_| {
            let thread = std::thread::Builder::new().name("systemd".to_owned());
            thread.spawn(move || tell(&hear)).ok()
        });
        let say = teller.is_some().then_some(say);
        let next = every.map(|_| Instant::now());
        Self { say, teller, is_ready: false, status: String::new(), every, next }
    }

    /// It serves; told once.
    pub(crate) fn ready(&mut self) {
        if !self.is_ready {
            self.is_ready = self.say(Said::Ready);
        }
    }

    /// How it is, for `systemctl status`; told when that changes.
    pub(crate) fn status(&mut self, status: String) {
        if self.status != status && self.say(Said::Status(status.clone())) {
            self.status = status;
        }
    }

    /// The loop goes round: told when it is due. Called in each round.
    pub(crate) fn beat(&mut self) {
        if self.next.is_some_and(|next| next <= Instant::now()) {
            self.say(Said::GoesRound);
            self.next = self.every.map(|every| Instant::now() + every);
        }
    }

    /// Returns when the next beat is due, never without a watchdog. Cancel-safe.
    pub(crate) async fn due(&self) {
        match self.next {
            Some(next) => sleep_until(next).await,
            None => std::future::pending().await,
        }
    }

    /// It ends in good order.
    pub(crate) fn stopping(&mut self) {
        self.say(Said::Stopping);
        self.say = None;
        let end = std::time::Instant::now() + FAREWELL;
        while let Some(teller) = &self.teller
            && !teller.is_finished()
            && std::time::Instant::now() < end
        {
            std::thread::sleep(LOOK);
        }
    }

    /// Whether there is room for it.
    fn say(&self, said: Said) -> bool {
        self.say.as_ref().is_none_or(|say| say.try_send(said).is_ok())
    }
}

fn tell(hear: &Receiver<Said>) {
    while let Ok(said) = hear.recv() {
        let state = match &said {
            Said::Ready => NotifyState::Ready,
            Said::Status(status) => NotifyState::Status(status),
            Said::GoesRound => NotifyState::Watchdog,
            Said::Stopping => NotifyState::Stopping,
        };
        // Whoever listened may be gone; then nobody wants to know.
        if let Err(error) = sd_notify::notify(&[state]) {
            tracing::debug!("systemd is not told: {error}");
        }
    }
}
