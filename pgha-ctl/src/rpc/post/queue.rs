//! What waits to be sent or taken.

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use pgha_machine::failover::message::{Message, Report};
use tokio::sync::Notify;

/// How many messages wait, besides a report. Each is given again by whoever means it.
const MOST: usize = 16;

/// Messages of one process to another: the last report, and the last few others.
#[derive(Debug, Default)]
pub(super) struct Queue {
    report: Option<Report>,
    others: VecDeque<Message>,
}

impl Queue {
    /// Adds one. A report takes the place of the one before; of the others the oldest makes room.
    pub(super) fn push(&mut self, message: Message) {
        match message {
            Message::Report(report) => self.report = Some(report),
            other @ (Message::Ask { .. }
            | Message::Grant { .. }
            | Message::CatchUp { .. }
            | Message::Clear) => {
                if self.others.len() == MOST {
                    self.others.pop_front();
                }
                self.others.push_back(other);
            }
        }
    }

    /// Takes one. What waits for an answer goes before a report.
    pub(super) fn pop(&mut self) -> Option<Message> {
        self.others.pop_front().or_else(|| self.report.take().map(Message::Report))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.report.is_none() && self.others.is_empty()
    }
}

/// A queue that one side fills and another empties, each at its own pace.
#[derive(Debug, Default)]
pub(super) struct Mailbox {
    queue: Mutex<Queue>,
    filled: Notify,
}

impl Mailbox {
    pub(super) fn put(&self, message: Message) {
        self.queue().push(message);
        self.filled.notify_one();
    }

    /// Takes the next message, when there is one. Cancel-safe.
    pub(super) async fn take(&self) -> Message {
        loop {
            if let Some(message) = self.queue().pop() {
                return message;
            }
            self.filled.notified().await;
        }
    }

    /// Waits until there is something to take.
    pub(super) async fn wait(&self) {
        while self.queue().is_empty() {
            self.filled.notified().await;
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
