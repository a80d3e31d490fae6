//! What goes wrong with PostgreSQL as a process.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use pgha_machine::{Lsn, NodeName, Timeline};

use super::cgroup::CgroupError;
use super::history::HistoryError;
use super::rewinding::Stage;
use crate::postgres::PgError;

/// What another part of the agent has against something.
pub type Objection = Box<dyn std::error::Error + Send + Sync>;

/// A command was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The kernel's part.
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    /// A file.
    #[error("cannot {what} {}: {error}", .path.display())]
    File {
        /// What was tried.
        what: &'static str,
        /// With which.
        path: PathBuf,
        /// Why not.
        error: io::Error,
    },
    /// A directory that is the user's cannot be used by it.
    #[error(
        "user {user} cannot use {}: {error}; let it through each directory above (chmod o+x), or correct [agent] state \
         and runtime",
        .path.display()
    )]
    Closed {
        /// Which.
        path: PathBuf,
        /// Whose.
        user: String,
        /// Why not.
        error: io::Error,
    },
    /// The user of the operating system.
    #[error(
        "user {user} of the operating system: {error}; PostgreSQL does not run as root, name its user"
    )]
    User {
        /// Which.
        user: String,
        /// Why not.
        error: io::Error,
    },
    /// A program of PostgreSQL's could not be begun.
    #[error("cannot run {}: {error}", .program.display())]
    Run {
        /// Which.
        program: PathBuf,
        /// Why not.
        error: io::Error,
    },
    /// A program of PostgreSQL's failed.
    #[error("{program} failed ({how}):\n{words}")]
    Tool {
        /// Which.
        program: &'static str,
        /// How.
        how: String,
        /// What it said last.
        words: String,
    },
    /// Somebody who has to agree before PostgreSQL begins does not.
    #[error("PostgreSQL is not started: {0}")]
    Refused(Objection),
    /// PostgreSQL runs already.
    #[error("PostgreSQL runs already, as process {0}")]
    Running(i32),
    /// PostgreSQL runs in this data directory, and this agent has not begun it.
    #[error(
        "process {pid} runs PostgreSQL in {} outside of pgha's cgroups, where no lease could end it: stop it \
         (pg_ctl stop -m fast, or the unit that runs it, and disable that), then pgha starts it anew",
        .data.display()
    )]
    Foreign {
        /// Its postmaster.
        pid: i32,
        /// Where.
        data: PathBuf,
    },
    /// PostgreSQL does not run.
    #[error("PostgreSQL does not run")]
    Down,
    /// PostgreSQL ended while something else was waited for.
    #[error("PostgreSQL ended {during}; it said last:\n{words}")]
    Ended {
        /// What was waited for.
        during: &'static str,
        /// The end of its log.
        words: String,
    },
    /// It took too long.
    #[error("{what} did not come within {} ms; last seen: {seen}", .within.as_millis())]
    Late {
        /// What.
        what: &'static str,
        /// How long was waited.
        within: Duration,
        /// What was there instead.
        seen: String,
    },
    /// The node's own server does not answer the agent.
    #[error("the server of this node: {0}")]
    Session(#[source] Box<PgError>),
    /// The node's own server does not let the agent in.
    #[error(
        "the server of this node refuses role {role}: {error}; give it a line \"local all {role} peer\" in {}, and \
         make the role: CREATE ROLE {role} LOGIN IN ROLE pg_monitor",
        .hba.display()
    )]
    Unwelcome {
        /// The agent's role.
        role: String,
        /// What PostgreSQL says.
        error: Box<PgError>,
        /// Where that is decided.
        hba: PathBuf,
    },
    /// A setting that is pgha's has another value.
    #[error(
        "{name} is {value:?} and not what pgha set, by {source_file}: ALTER SYSTEM RESET {name}, and reload"
    )]
    Overridden {
        /// Which.
        name: &'static str,
        /// What it is.
        value: String,
        /// By whom.
        source_file: String,
    },
    /// No such node in the configuration.
    #[error("{0} is no node of this cluster's configuration")]
    Unknown(NodeName),
    /// PostgreSQL is out of recovery where it must not be.
    #[error("PostgreSQL came up out of recovery, and nobody ordered that: it was killed")]
    OutOfRecovery,
    /// PostgreSQL is in recovery where it must not be.
    #[error("PostgreSQL is in recovery, it was never the primary of this timeline")]
    InRecovery,
    /// The log ends before what was to be there.
    #[error("{node} has no more than {at}, and {to} was wanted")]
    Short {
        /// From whom.
        node: NodeName,
        /// How far it went.
        at: Lsn,
        /// How far it was to go.
        to: Lsn,
    },
    /// Histories of the log.
    #[error(transparent)]
    History(#[from] HistoryError),
    /// It was promoted to another timeline.
    #[error("PostgreSQL took timeline {taken} instead of {ordered}: it was killed")]
    Timeline {
        /// What it was to take.
        ordered: Timeline,
        /// What it took.
        taken: Timeline,
    },
    /// It is to come up as the primary that it never was.
    #[error(
        "PostgreSQL was to be promoted to timeline {timeline} and has been on {reached} at most: it does not come up as \
         the primary before it is promoted"
    )]
    Unpromoted {
        /// To which it was to be promoted.
        timeline: Timeline,
        /// The newest that its control file tells of.
        reached: Timeline,
    },
    /// The answer of a server lacks something.
    #[error("the answer of PostgreSQL has no usable {0}")]
    Answer(&'static str),
    /// A rewind or a copy did not come to its end.
    #[error(
        "{} is not whole: {stage} was interrupted ({}); it is not started before a rewind comes to its end",
        .data.display(),
        .marker.display()
    )]
    Unfinished {
        /// What.
        data: PathBuf,
        /// How far it came.
        stage: Stage,
        /// What says so.
        marker: PathBuf,
    },
    /// The data directory is another cluster's.
    #[error(
        "{} belongs to another cluster: its system identifier is {ours}, that of {node} is {theirs}; move it away, \
         then this node can be made anew",
        .data.display()
    )]
    OtherCluster {
        /// Which.
        data: PathBuf,
        /// Its system identifier.
        ours: u64,
        /// Who is of the cluster.
        node: NodeName,
        /// Its system identifier.
        theirs: u64,
    },
    /// The log is elsewhere, and a new copy would have it in the data directory.
    #[error(
        "{} is a link to {}: pgha makes no copy that keeps it there; make one by pg_basebackup --waldir into {}, with \
         nothing running there",
        .link.display(),
        .to.display(),
        .data.display()
    )]
    LinkedWal {
        /// The link.
        link: PathBuf,
        /// Where it leads.
        to: PathBuf,
        /// The data directory.
        data: PathBuf,
    },
    /// A new copy cannot be made by itself.
    #[error(
        "{node} has tablespaces outside of its data directory ({names}): pgha makes no copy of those; make one by \
         pg_basebackup --tablespace-mapping into {}, with nothing running there",
        .data.display()
    )]
    Tablespaces {
        /// Whose.
        node: NodeName,
        /// Which.
        names: String,
        /// Where to.
        data: PathBuf,
    },
}

impl ServerError {
    /// For a step with a file that fails.
    pub(super) fn file(
        what: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |error| Self::File { what, path, error }
    }
}
