//! A world that breaks its word: what the core relies on does not hold, and the oracle must notice.

/// What does not hold. Each is the end of one thing that an oracle looks for, so that it is known to be able to
/// find it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Breach {
    /// New voters are said to be in use while processes still go by the old ones.
    EarlyVoters,
    /// A commit waits for nobody, whatever `synchronous_standby_names` says.
    WaitsForNobody,
    /// The gate does not close by itself.
    OpenGate,
    /// PostgreSQL admits clients when it comes up after a crash.
    EarlyClients,
    /// A fence device says that it has turned off a node, and has not.
    LyingDevice,
    /// A standby that has stopped is said to have more than it has.
    LongLog,
    /// What is to be kept on disk is not.
    Forgets,
    /// A receiver is said to have ended, and goes on.
    EarlyStop,
    /// PostgreSQL is said to be ended, and goes on with its gate open.
    EarlyEnd,
    /// A node that ends PostgreSQL keeps the writer VIP.
    KeptAddress,
}

impl Breach {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::EarlyVoters,
        Self::WaitsForNobody,
        Self::OpenGate,
        Self::EarlyClients,
        Self::LyingDevice,
        Self::LongLog,
        Self::Forgets,
        Self::EarlyStop,
        Self::EarlyEnd,
        Self::KeptAddress,
    ];
}
