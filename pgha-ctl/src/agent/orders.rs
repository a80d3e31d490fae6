//! The machine's commands, one at a time, on a task beside the loop.

#[cfg(test)]
mod tests;

use std::sync::Arc;

use pgha_machine::failover::agent::{Command, Event, Outcome};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::sight::Told;

/// Who carries out a command.
pub(super) trait Hands: Send + Sync + 'static {
    /// Does it. A future that is dropped has no effect from then on that a later command does not undo.
    fn carry_out(&self, command: Command) -> impl Future<Output = Outcome> + Send;
}

/// What is under way. It ends with the value.
pub(super) struct Orders<H> {
    hands: Arc<H>,
    tell: mpsc::Sender<Told>,
    under_way: Option<JoinHandle<()>>,
}

impl<H: Hands> Orders<H> {
    pub(super) const fn new(hands: Arc<H>, tell: mpsc::Sender<Told>) -> Self {
        Self { hands, tell, under_way: None }
    }

    /// Begins a command, and tells its end by [`Event::Ended`]. What is under way is abandoned, and nothing of
    /// it goes on when this one begins.
    pub(super) fn begin(&mut self, number: u64, command: Command) {
        let former = self.under_way.take();
        if let Some(former) = &former {
            former.abort();
        }
        let (hands, tell) = (Arc::clone(&self.hands), self.tell.clone());
        self.under_way = Some(tokio::spawn(async move {
            if let Some(former) = former {
                let _ = former.await;
            }
            let outcome = hands.carry_out(command).await;
            let _ = tell.send(Told::Event(Event::Ended { number, outcome })).await;
        }));
    }
}

impl<H> Drop for Orders<H> {
    fn drop(&mut self) {
        if let Some(task) = &self.under_way {
            task.abort();
        }
    }
}
