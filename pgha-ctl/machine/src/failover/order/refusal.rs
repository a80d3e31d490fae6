use crate::failover::record::Record;
use crate::{Epoch, NodeName};

/// Why a write is not made.
#[derive(Clone, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Refusal {
    /// Another node, or nobody, holds the lease.
    #[error("{node} does not hold the lease of epoch {epoch}")]
    NotHolder {
        /// Who wanted to write.
        node: NodeName,
        /// The epoch of the record.
        epoch: Epoch,
    },
    /// A candidate may be taking the next epoch.
    #[error("{0} is nominated for the next epoch")]
    Nominated(NodeName),
    /// Voters may have stopped.
    #[error("the voters of epoch {0} are frozen")]
    Frozen(Epoch),
    /// It did not stop, or its log is not known.
    #[error("{0} is not frozen with its log known")]
    Unfrozen(NodeName),
    /// An operator wants another primary.
    #[error("an operator has ordered another primary than that of epoch {0}")]
    Ordered(Epoch),
    /// Nobody said that what was acknowledged may be lost.
    #[error("no operator has ordered that {0} be the primary whatever it lacks")]
    NotOrdered(NodeName),
    /// There is nothing to prove anything about.
    #[error("the voters of epoch {0} are not frozen")]
    NotFrozen(Epoch),
    /// Somebody else was nominated, or nobody.
    #[error("{0} is not nominated")]
    NotNominated(NodeName),
    /// Nobody would ask it when the store is gone.
    #[error("the primary has not yet confirmed {0} as a member")]
    Unconfirmed(NodeName),
    /// There is no such member.
    #[error("{0} is no member")]
    Stranger(NodeName),
    /// Its log has something that the cluster's does not have.
    #[error("the log of {0} is not a beginning of the cluster's")]
    Diverged(NodeName),
    /// It lacks what it was chosen for.
    #[error("the log of {0} is not what it was when it was nominated")]
    Shorter(NodeName),
    /// It is the primary, or may become it.
    #[error("{0} holds the lease or may take it")]
    InCharge(NodeName),
    /// It lacks what may have been acknowledged.
    #[error("the log of {node} does not reach the floor of epoch {epoch}")]
    BelowFloor {
        /// Who.
        node: NodeName,
        /// Whose floor.
        epoch: Epoch,
    },
    /// A set of voters follows another and PostgreSQL has not come to the last one.
    #[error("the voters change already")]
    Changing,
    /// Only with the last set alone can the change be ended.
    #[error("there is no change of the voters to be ended")]
    NotChanging,
    /// `strict` waits for voters, whoever is gone.
    #[error("the mode does not allow that a commit waits for fewer voters than its quorum")]
    MustWait,
    /// It was said already.
    #[error("nothing is to be written")]
    Nothing,
}

/// The next state of the record, or why there is none.
pub(super) type Next = Result<Record, Refusal>;
