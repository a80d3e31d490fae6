//! `GET /v1/trace`: frames with their verdicts, as they leave the program, in the pcapng format.
//!
//! While somebody looks, the programs are such as hand frames over; when he has gone, or got as much as
//! he asked for, or this controller ends, they are exchanged back. A controller that is killed leaves
//! them to its successor, which exchanges the programs anyway.

mod capture;
mod frame;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::num::{NonZeroU32, NonZeroU64};
use std::sync::mpsc as sync;
use std::time::{Duration, Instant};

use hyper::body::Bytes;
use pgha_common::verdict::{Action, Reason};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tokio::task::{JoinHandle, spawn_blocking};

use super::Controller;
use super::named::Clients;
use super::status::Refusal;
use crate::bpf::xdp::{Frames, Taken, TracedFrame};
use capture::Capture;

pub(crate) use capture::Comment;
pub(crate) use frame::Decoded;

/// How often the buffers are emptied: each holds what comes in meanwhile at 20 MB/s.
const TICK: Duration = Duration::from_millis(50);
/// How long to wait for room where the reader is behind.
const PAUSE: Duration = Duration::from_millis(5);
/// How long after its end a trace waits for a reader that is behind.
const GRACE: Duration = Duration::from_secs(1);

/// Which frames are meant.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TraceQuery {
    /// One frame in so many, by chance; every frame when missing.
    pub(crate) sample: Option<NonZeroU32>,
    /// It ends after so many frames.
    pub(crate) count: Option<NonZeroU64>,
    /// It ends after so many milliseconds.
    pub(crate) duration_ms: Option<u64>,
    /// From or to this client: an address, with or without port, or a network.
    pub(crate) client: Option<String>,
    /// For one of these reasons, with commas between them.
    pub(crate) reason: Option<String>,
}

/// The name of an action in output.
pub(crate) const fn action_name(action: Action) -> &'static str {
    match action {
        Action::Forward => "forward",
        Action::Answer => "answer",
        Action::Pass => "pass",
        Action::Drop => "drop",
    }
}

/// The reason of that name.
///
/// # Errors
/// What is none, and the name that may have been meant.
pub(crate) fn reason_named(name: &str) -> Result<Reason, Refusal> {
    let named = Reason::ALL.iter().find(|reason| reason.name() == name);
    named.copied().ok_or_else(|| {
        let near = |reason: &&Reason| strsim::damerau_levenshtein(reason.name(), name);
        let meant = Reason::ALL.iter().min_by_key(near).filter(|reason| near(reason) <= 3);
        let meant = meant.map(|reason| format!("; did you mean {:?}?", reason.name()));
        let known = "; docs/verdicts.md lists them";
        Refusal { error: format!("{name:?} is no reason{}", meant.as_deref().unwrap_or(known)) }
    })
}

/// What a frame must be to be handed on.
#[derive(Debug, Default)]
struct Filter {
    clients: Option<Clients>,
    /// Empty: whatever the reason.
    reasons: BTreeSet<Reason>,
}

impl Filter {
    fn new(query: &TraceQuery) -> Result<Self, Refusal> {
        let reasons = query.reason.as_deref().into_iter().flat_map(|names| names.split(','));
        Ok(Self {
            clients: query.client.as_deref().map(Clients::parse).transpose()?,
            reasons: reasons.map(reason_named).collect::<Result<_, _>>()?,
        })
    }

    fn means(&self, frame: &TracedFrame) -> bool {
        let reason = self.reasons.is_empty() || self.reasons.contains(&frame.reason);
        reason
            && self.clients.is_none_or(|clients| {
                let decoded = Decoded::of(&frame.bytes);
                [decoded.source, decoded.destination]
                    .into_iter()
                    .flatten()
                    .any(|end| clients.include(end))
            })
    }
}

/// What is handed on, and for how long.
struct Wanted {
    filter: Filter,
    count: Option<NonZeroU64>,
    deadline: Option<Instant>,
}

impl Wanted {
    /// As many of the frames as are still wanted.
    fn select(&self, frames: &mut Vec<TracedFrame>, so_far: u64) {
        frames.retain(|frame| self.filter.means(frame));
        if let Some(count) = self.count {
            let left = count.get().saturating_sub(so_far);
            frames.truncate(usize::try_from(left).unwrap_or(usize::MAX));
        }
    }

    fn is_full(&self, so_far: u64) -> bool {
        self.count.is_some_and(|count| so_far >= count.get())
    }

    fn is_late(&self) -> bool {
        self.deadline.is_some_and(|deadline| deadline <= Instant::now())
    }

    /// How long to wait for more frames.
    fn tick(&self) -> Duration {
        let left = |deadline: Instant| deadline.saturating_duration_since(Instant::now());
        self.deadline.map_or(TICK, |deadline| left(deadline).min(TICK))
    }
}

/// Who gets the file in parts. He may stop reading.
struct Reader {
    send: mpsc::Sender<Bytes>,
    /// Its other end is dropped when the controller ends the trace.
    ended: sync::Receiver<Infallible>,
}

impl Reader {
    /// Waits that long, or until the trace was ended; whether somebody still wants it then.
    fn pause(&self, length: Duration) -> bool {
        self.ended.recv_timeout(length) == Err(sync::RecvTimeoutError::Timeout)
            && !self.send.is_closed()
    }

    /// Hands a part on, for which there must be room by `end`; whether he has it.
    fn hand(&self, mut part: Bytes, end: Option<Instant>) -> bool {
        loop {
            part = match self.send.try_send(part) {
                Ok(()) => return true,
                Err(TrySendError::Closed(_)) => return false,
                Err(TrySendError::Full(part)) => part,
            };
            let late = end.is_some_and(|end| end <= Instant::now());
            if late || !self.pause(PAUSE) {
                return false;
            }
        }
    }
}

impl Controller {
    /// Begins to trace; the receiver gets the file in parts.
    pub(super) fn begin_trace(
        &mut self,
        query: &TraceQuery,
    ) -> Result<mpsc::Receiver<Bytes>, Refusal> {
        if self.trace.is_some() {
            let error =
                "somebody traces already, and there is one trace at a time; wait for its end";
            return Err(Refusal::of(error));
        }
        if self.attached.is_none() {
            let error =
                "the XDP program is not on the interfaces yet; `pgha status` says when it is";
            return Err(Refusal::of(error));
        }
        let deadline =
            query.duration_ms.map(|length| Instant::now() + Duration::from_millis(length));
        let wanted = Wanted { filter: Filter::new(query)?, count: query.count, deadline };
        let capture = Capture::new(&self.interfaces.names()).map_err(Refusal::of)?;
        let frames =
            self.plane.trace(query.sample.unwrap_or(NonZeroU32::MIN)).map_err(Refusal::of)?;
        self.renew_packet_logs();
        tracing::info!("a trace begins");
        // A client that reads more slowly than frames come in makes the kernel lose some, and count them.
        let (send, receive) = mpsc::channel(4);
        let (end, ended) = sync::channel();
        let reader = Reader { send, ended };
        self.trace = Some(tokio::spawn(async move {
            let thread = spawn_blocking(move || {
                if let Err(error) = hand_on(frames, capture, &wanted, &reader) {
                    tracing::warn!("the trace ended: {error}");
                }
            });
            // However it ended, it is over.
            let _ = thread.await;
            // Held until here: where this task is aborted, its end is that of the thread.
            drop(end);
        }));
        Ok(receive)
    }

    /// Exchanges the programs back.
    pub(super) fn end_trace(&mut self) {
        let Some(task) = self.trace.take() else { return };
        task.abort();
        match self.plane.end_trace() {
            Ok(()) => tracing::info!("the trace is over"),
            Err(error) => tracing::warn!("the program goes on tracing: {error}"),
        }
        self.renew_packet_logs();
    }

    /// The logs of exchanged programs are over, and others have begun.
    fn renew_packet_logs(&mut self) {
        if self.config.director().log_packets() {
            match self.plane.packet_logs() {
                Ok(logs) => self.packet_logs = logs,
                Err(error) => tracing::warn!("verdicts are not logged any more: {error}"),
            }
        }
    }
}

/// Until the trace is over; for ever while there is none.
pub(super) async fn over(trace: &mut Option<JoinHandle<()>>) {
    match trace {
        // However it ended, it is over.
        Some(task) => drop(task.await),
        None => std::future::pending().await,
    }
}

/// Hands frames on until there are enough, or nobody wants them any more. On a thread of its own: there
/// may be more of them than leave the controller time for its checks.
fn hand_on(
    mut frames: Frames,
    mut capture: Capture,
    wanted: &Wanted,
    reader: &Reader,
) -> Result<(), capture::CaptureError> {
    let end = wanted.deadline.map(|deadline| deadline + GRACE);
    let mut so_far = 0;
    while reader.pause(wanted.tick()) {
        let is_late = wanted.is_late();
        let Taken { frames: mut taken, lost } = frames.take();
        wanted.select(&mut taken, so_far);
        so_far += u64::try_from(taken.len()).unwrap_or(u64::MAX);
        let is_over = is_late || wanted.is_full(so_far);
        capture.write(&taken, &lost)?;
        if is_over {
            capture.write_statistics()?;
        }
        let part = capture.part();
        if (!part.is_empty() && !reader.hand(part.into(), end)) || is_over {
            break;
        }
    }
    Ok(())
}
