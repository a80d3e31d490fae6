//! A copy of another node's data directory, made beside everything else that is done.

use std::sync::Arc;
use std::time::Duration;

use pgha_machine::failover::agent::{Event, Stranded};
use pgha_machine::{Lsn, NodeName};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, interval_at};

use super::sight::Told;
use super::works::Works;

/// How often it is told how far a copy has come.
const TELL: Duration = Duration::from_secs(10);

/// The copy that is made. It is given up with the value, or when another is begun.
#[derive(Default)]
pub(super) struct Copies(JoinSet<()>);

impl Copies {
    /// Begins a copy, and tells its end by [`Event::Copied`].
    pub(super) fn begin(
        &mut self,
        works: Arc<Works>,
        tell: mpsc::Sender<Told>,
        number: u64,
        from: NodeName,
    ) {
        self.0.abort_all();
        while self.0.try_join_next().is_some() {}
        self.0.spawn(async move {
            let to = make(&works, &from).await;
            let _ = tell.send(Told::Event(Event::Copied { number, to })).await;
        });
    }
}

async fn make(works: &Works, from: &NodeName) -> Option<Lsn> {
    tracing::warn!(
        "{from} has no longer the log that this node would stream next: it is copied anew from there, and PostgreSQL \
         goes on with what it has meanwhile"
    );
    let begun = Instant::now();
    let mut rounds = interval_at(begun + TELL, TELL);
    let mut copy = std::pin::pin!(works.server.copy(from));
    loop {
        tokio::select! {
            made = &mut copy => return match made {
                Ok(to) => {
                    let took = begun.elapsed().as_millis();
                    tracing::info!("a copy of {from} is made, with its log up to {to}, after {took} ms");
                    Some(to)
                }
                Err(error) => {
                    tracing::warn!("no copy of {from} is made: {error}");
                    None
                }
            },
            _ = rounds.tick() => {
                let so_far = works.server.copy_progress().unwrap_or_default();
                tracing::info!("the copy of {from} is made: {so_far}");
            }
        }
    }
}

/// How it is with a node that was left behind, in words; `None`: it was not.
pub(super) fn text(stranded: &Stranded, works: &Works) -> Option<String> {
    match stranded {
        Stranded::Not => None,
        Stranded::Since(_, end) => {
            Some(format!("the primary has no longer the log after {}", end.lsn))
        }
        Stranded::Copying { of, .. } => {
            let so_far = works.server.copy_progress().unwrap_or_else(|| "it begins".to_owned());
            Some(format!("copied anew from {of}: {so_far}"))
        }
        Stranded::Copied { of, .. } => Some(format!("about to go on with a copy of {of}")),
    }
}
