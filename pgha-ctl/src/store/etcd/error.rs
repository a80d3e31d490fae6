use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use crate::config::Endpoint;
use crate::config::private_file::PrivateFileError;
use crate::rpc::credentials::CredentialsError;
use crate::store::record::{MAX_VALUE, Revision};

/// An etcd cannot be used.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the message of each variant says what it and its fields mean")]
pub enum EtcdError {
    #[error(
        "no connection to {at}: {source}; see that etcd runs there, and that store.endpoints names what it listens on"
    )]
    Connect { at: Endpoint, source: io::Error },
    #[error(
        "{at} is not trusted, or does not trust: {source}; see that store.ca has its authority, that its certificate names the host in store.endpoints, and that it trusts the authority of store.cert"
    )]
    Tls { at: Endpoint, source: io::Error },
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    #[error("store.password_file: {0}")]
    Password(#[from] PrivateFileError),
    #[error("the connection to {at} ended before its answer: {source}")]
    Lost { at: Endpoint, source: io::Error },
    #[error(
        "{at} gave no answer within {} ms; see that most members of etcd run and reach each other",
        .patience.as_millis()
    )]
    Late { at: Endpoint, patience: Duration },
    #[error("{at} refuses: {message} ({code})")]
    Refused { at: Endpoint, message: String, code: Code },
    #[error(
        "{at} takes no certificate with a common name where users log in, which would not be the user; leave out store.cert and store.key (and --client-cert-auth and --trusted-ca-file of etcd), or use a certificate without one"
    )]
    CommonName { at: Endpoint },
    #[error(
        "the answer of {at} cannot be read: {what}; is it an etcd of version 3.4 or later, with its JSON gateway (--enable-grpc-gateway)?"
    )]
    Unreadable { at: Endpoint, what: String },
    #[error(
        "{at} is a member of cluster {found:016x}, and this process began with {known:016x}; see that store.endpoints names members of one etcd; if it was made anew, restart this process"
    )]
    OtherCluster { at: Endpoint, found: u64, known: u64 },
    #[error("the etcd at {at} is at revision {found}, and was at {known} before: it went back, as when a backup is restored; if that is meant, remove {} and restart this process", .seen.display())]
    WentBack { at: Endpoint, found: Revision, known: Revision, seen: PathBuf },
    #[error(
        "{at} has no space left within its quota ({message}); have etcd compact and defragment, or give it a larger --quota-backend-bytes, and disarm its alarm (etcdctl alarm disarm)"
    )]
    Full { at: Endpoint, message: String },
    #[error(
        "there is no store yet, and {agree} of {of} endpoints, which is not most of them, are of one etcd to make it in; see that store.endpoints names members of one etcd, and that they run"
    )]
    NotMost { agree: usize, of: usize },
    #[error("the watch at {at} was ended: {why}")]
    WatchEnded { at: Endpoint, why: String },
    #[error("{} remembers how far the store had come and cannot be used: {source}; see that its directory is there and writable", .path.display())]
    Seen { path: PathBuf, source: io::Error },
    #[error("{} remembers how far the store had come and holds no such thing; remove it: then a store that went back is not noticed once", .path.display())]
    NotSeen { path: PathBuf },
    #[error("a value of {0} bytes is too long for a store, which takes {MAX_VALUE}")]
    TooLong(usize),
    #[error("the kernel gives no random numbers")]
    Random,
    #[error(
        "others make the store anew all the time; see that no two clusters of this name use it"
    )]
    Contested,
}

impl EtcdError {
    /// The member answered, for a store that is not the one of before.
    pub(super) const fn is_of_another_store(&self) -> bool {
        matches!(self, Self::OtherCluster { .. } | Self::WentBack { .. })
    }

    /// Members agree on it.
    pub(super) const fn is_refusal(&self) -> bool {
        matches!(self, Self::Refused { .. } | Self::CommonName { .. } | Self::Full { .. })
    }
}

/// gRPC's code of a refusal (gRPC documentation, "Status codes and their use").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct Code(u32);

impl Code {
    /// The request was looked at and turned down, so it was not carried out and will not be: wrong argument,
    /// no permission, no room, wrong state, beyond the range, not implemented, who are you. What remains
    /// (a timeout, a leader that was lost) may have been carried out.
    pub(super) const fn is_definite(self) -> bool {
        matches!(self.0, 3 | 7 | 8 | 9 | 11 | 12 | 16)
    }

    /// Out of room, or of patience: the message tells which.
    pub(super) const fn is_exhausted(self) -> bool {
        self.0 == 8
    }

    /// Another login may mend it: the token has expired (16), or users were changed since (3, "revision of
    /// auth store is old").
    pub(super) const fn may_be_stale(self) -> bool {
        matches!(self.0, 3 | 16)
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "gRPC code {}", self.0)
    }
}
