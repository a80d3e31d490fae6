//! Why a server gets no new connections.

use serde::{Deserialize, Serialize};

/// Why a server gets no new connections. All that apply are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Withheld {
    /// An operator drains it.
    Drained,
    /// Its weight is 0.
    WeightZero,
    /// It has not passed `rise` checks yet.
    Unproven,
    /// See [`super::Down::Refused`].
    Refused,
    /// See [`super::Down::Silent`].
    Silent,
    /// See [`super::Down::NotAccepting`].
    NotAccepting,
    /// See [`super::Down::Failing`].
    Failing,
    /// See [`super::Down::NotInRecovery`].
    NotInRecovery,
    /// It may become the primary at any moment: the record nominates it.
    Nominated,
    /// Writers are sent to the primary alone, and by the record it is not that.
    NotPrimary,
    /// It belongs to another cluster: its system identifier is not the primary's.
    ForeignSystem,
    /// It has WAL that the primary has not: it left the primary's history before the primary's timeline
    /// began, or follows another primary.
    Diverged,
    /// The configuration does not list it any more.
    NotListed,
    /// It does not stream from the primary, says the primary.
    NotStreaming,
    /// It lags more than the service allows.
    Lagging,
    /// Nobody answers ARP or neighbour discovery for its address.
    NoMac,
    /// No probe through the VIP has come through yet.
    VipUnproven,
    /// Probes through the VIP get no answer: the VIP is missing on its `lo`, or it is not reached.
    VipSilent,
    /// Nobody listens on the VIP's port there.
    VipRefused,
    /// PostgreSQL takes no sessions on the VIP there.
    VipNotAccepting,
    /// Probes through the VIP are answered, but end without a session.
    VipFailing,
}

impl Withheld {
    /// Whether a server may serve in spite of this when no other can: it is alive and a standby, as
    /// far as anybody knows.
    #[must_use]
    pub const fn is_tolerable(self) -> bool {
        matches!(self, Self::NotStreaming | Self::Failing | Self::Lagging | Self::VipFailing)
    }

    /// Whether it is what the primary's word makes of a server's data.
    #[must_use]
    pub const fn is_of_kinship(self) -> bool {
        matches!(self, Self::ForeignSystem | Self::Diverged)
    }

    /// Whether it is what a probe through the VIP found.
    #[must_use]
    pub const fn is_of_vip(self) -> bool {
        matches!(
            self,
            Self::VipUnproven
                | Self::VipSilent
                | Self::VipRefused
                | Self::VipNotAccepting
                | Self::VipFailing
        )
    }

    /// Whether people are told when it begins and ends. The others are news of a server's health, or of
    /// what an operator did.
    #[must_use]
    pub const fn is_news(self) -> bool {
        match self {
            Self::ForeignSystem
            | Self::Diverged
            | Self::NotStreaming
            | Self::Lagging
            | Self::VipSilent
            | Self::VipRefused
            | Self::VipNotAccepting
            | Self::VipFailing => true,
            Self::Drained
            | Self::WeightZero
            | Self::Unproven
            | Self::Refused
            | Self::Silent
            | Self::NotAccepting
            | Self::Failing
            | Self::NotInRecovery
            | Self::Nominated
            | Self::NotPrimary
            | Self::NotListed
            | Self::NoMac
            | Self::VipUnproven => false,
        }
    }

    /// One short phrase for people.
    #[must_use]
    pub const fn phrase(self) -> &'static str {
        match self {
            Self::Drained => "drained by an operator",
            Self::WeightZero => "weight is 0",
            Self::Unproven => "not enough good checks yet",
            Self::Refused => "its port refuses connections",
            Self::Silent => "does not answer",
            Self::NotAccepting => "accepts no new sessions",
            Self::Failing => "answers checks with errors",
            Self::NotInRecovery => "is not a standby",
            Self::Nominated => "is about to be the primary",
            Self::NotPrimary => "is not the primary",
            Self::ForeignSystem => "belongs to another cluster",
            Self::Diverged => "has WAL that the primary has not",
            Self::NotListed => "no longer in the node table",
            Self::NotStreaming => "does not stream from the primary",
            Self::Lagging => "lags too much",
            Self::NoMac => "its MAC address is unknown",
            Self::VipUnproven => "not probed through the VIP yet",
            Self::VipSilent => "does not answer on the VIP: is it on lo there?",
            Self::VipRefused => "nobody listens on the VIP's port",
            Self::VipNotAccepting => "accepts no new sessions on the VIP",
            Self::VipFailing => "gives no session to probes through the VIP",
        }
    }
}
