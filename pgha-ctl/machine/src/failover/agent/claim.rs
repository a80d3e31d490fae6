//! When the writer VIP is claimed: once nobody else can have it.
//!
//! Frozen voters prove that nothing more is acknowledged, not that the former primary has let its address go: that it
//! does when it ends PostgreSQL, of which it tells as one of those who have stopped or who know of the next epoch, and
//! at the end of its lease at the latest, which it cannot renew since another was nominated.

use std::collections::BTreeMap;

use crate::failover::hearing::Hearing;
use crate::failover::message::Report;
use crate::failover::record::{Proof, Record, Term};
use crate::{Epoch, Moment, NodeName};

/// Whether the writer VIP is to be claimed, and what stands against it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Claim {
    /// It is to be claimed.
    pub(super) wanted: bool,
    /// Before that a primary may have it that was granted to go on (S8), or that another was nominated against before
    /// this process began; `None`: no lease was known then.
    from: Option<Moment>,
    /// The primaries that were followed on the word of their voters.
    former: BTreeMap<NodeName, Former>,
    /// Somebody is nominated on that word, which is noted.
    nominated: bool,
    /// How each epoch up to this one came about is noted; `None`: nothing was read yet.
    looked: Option<Epoch>,
}

/// One that may have the writer VIP still.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Former {
    /// Who has stopped for this freeze or a later one has let it go; `None`: nobody knows for which.
    freeze: Option<u64>,
    /// Who has ended PostgreSQL and knows this epoch, or a later one, has let it go, too.
    epoch: Epoch,
    /// From then on it has not.
    until: Moment,
}

impl Claim {
    pub(super) const fn new(from: Option<Moment>) -> Self {
        let former = BTreeMap::new();
        Self { wanted: false, from, former, nominated: false, looked: None }
    }

    /// Notes what the record says for the first time.
    pub(super) fn look(&mut self, now: Moment, record: &Record) {
        self.former.retain(|_, former| now < former.until);
        let until = now + record.pace.lease.proven_after();
        let by_quorum =
            |term: &Term| term.cause.as_ref().map(|cause| cause.proof) == Some(Proof::Quorum);
        if self.looked.is_none() && record.terms.len() > 1 {
            self.from.get_or_insert(until);
        }
        let looked = self.looked.unwrap_or(record.epoch);
        for pair in record.terms.windows(2) {
            if pair[1].epoch > looked && by_quorum(&pair[1]) {
                let former = Former { freeze: None, epoch: pair[1].epoch, until };
                self.former.insert(pair[0].node.clone(), former);
            }
        }
        self.looked = Some(looked.max(record.epoch));
        let proof = record.nomination.as_ref().map(|nomination| nomination.proof);
        let nominated = proof == Some(Proof::Quorum);
        if nominated && !self.nominated {
            let (freeze, epoch) = (Some(record.freezes), record.epoch.next());
            self.former.insert(record.lease.node().clone(), Former { freeze, epoch, until });
            self.looked = Some(epoch);
        }
        self.nominated = nominated;
    }

    /// Whether nobody but `own` can have it.
    pub(super) fn is_free(&self, now: Moment, own: &NodeName, hearing: &Hearing) -> bool {
        let says_so = |report: &Report, former: &Former| {
            let stopped = report.frozen.as_ref().zip(former.freeze);
            stopped.is_some_and(|(stopped, of)| stopped.freeze >= of)
                || (report.ended && report.epoch >= former.epoch)
        };
        let has_let_go = |node: &NodeName, former: &Former| {
            now >= former.until
                || hearing.report(node).is_some_and(|report| says_so(report, former))
        };
        self.from.is_none_or(|from| now >= from)
            && self.former.iter().all(|(node, former)| node == own || has_let_go(node, former))
    }

    /// When something that stands against it ends.
    pub(super) fn due(&self) -> impl Iterator<Item = Moment> {
        self.from.into_iter().chain(self.former.values().map(|former| former.until))
    }
}
