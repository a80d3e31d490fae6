//! What is logged: each change of this node's part, with epoch, LSN and reason.

use pgha_machine::failover::agent::{Agent, Command, Event, Outcome, Role, Standing};
use pgha_machine::failover::order::Refusal;
use pgha_machine::failover::{Answer, Written};
use pgha_machine::{Epoch, NodeName};

/// What was told last.
#[derive(Debug, Default)]
pub(super) struct News {
    role: Option<Role>,
    standing: Option<Standing>,
    epoch: Option<Epoch>,
    alone: bool,
    refusal: Option<Refusal>,
}

impl News {
    /// Tells what has become of this node by what happened.
    pub(super) fn tell(&mut self, agent: &Agent, because: &str) {
        let epoch = agent.record().map(|record| record.epoch);
        let (lsn, timeline) = match agent.wal() {
            Some(wal) => (wal.end.lsn.to_string(), wal.end.timeline.get()),
            None => ("unknown".to_owned(), 0),
        };
        let number = epoch.map_or(0, Epoch::get);
        let (role, standing) = (agent.role(), agent.standing());
        if self.standing.as_ref() != Some(&standing) || self.epoch != epoch {
            let standing = standing_text(&standing);
            tracing::info!(epoch = number, %lsn, timeline, reason = because, "the record: this node is {standing}");
        }
        if self.role.as_ref() != Some(role) {
            let role = role_text(role);
            tracing::info!(epoch = number, %lsn, timeline, reason = because, "PostgreSQL here is {role}");
        }
        let alone = agent.goes_on_alone();
        if alone && !self.alone {
            tracing::warn!(epoch = number, %lsn, timeline, "the store is gone; the primary goes on by what every member granted");
        } else if self.alone && !alone {
            tracing::info!(epoch = number, %lsn, timeline, "the primary goes on by its lease again, or has ended");
        }
        let refusal = agent.refusal();
        if let Some(why) = refusal.as_ref().filter(|why| self.refusal.as_ref() != Some(*why)) {
            tracing::warn!(epoch = number, %lsn, timeline, "this node is nominated and does not become the primary: {why}");
        }
        *self = Self { role: Some(role.clone()), standing: Some(standing), epoch, alone, refusal };
    }
}

/// A command, for the log.
pub(super) fn order(agent: &Agent, command: &Command, because: &str) {
    let epoch = agent.record().map_or(0, |record| record.epoch.get());
    let lsn = agent.wal().map_or_else(|| "unknown".to_owned(), |wal| wal.end.lsn.to_string());
    let text = command_text(command);
    if matches!(command, Command::Keep(_)) {
        tracing::debug!(epoch, %lsn, reason = because, "order: {text}");
    } else {
        tracing::info!(epoch, %lsn, reason = because, "order: {text}");
    }
}

/// What PostgreSQL is, in words.
pub(super) fn role_text(role: &Role) -> String {
    match role {
        Role::Down => "down".to_owned(),
        Role::Standby { upstream: Some(upstream) } => format!("a standby of {upstream}"),
        Role::Standby { upstream: None } => "a standby of nobody".to_owned(),
        Role::Frozen { freeze } => format!("a standby, stopped for freeze {freeze}"),
        Role::Restarted { end } => {
            format!("the primary after a crash, for nobody until its voters have {end}")
        }
        Role::Primary => "the primary".to_owned(),
    }
}

/// What the record says of this node, in words.
pub(super) fn standing_text(standing: &Standing) -> String {
    match standing {
        Standing::Unknown => "unknown to it".to_owned(),
        Standing::Holder => "the holder of the lease".to_owned(),
        Standing::Nominee { freeze } => format!("nominated (freeze {freeze})"),
        Standing::Suspended { freeze } => format!("to stop (freeze {freeze})"),
        Standing::Follower { of } => format!("a follower of {of}"),
    }
}

fn names<'a>(names: impl IntoIterator<Item = &'a NodeName>) -> String {
    names.into_iter().map(NodeName::as_str).collect::<Vec<_>>().join(", ")
}

fn command_text(command: &Command) -> String {
    match command {
        Command::Keep(_) => "keep what must be known after a crash".to_owned(),
        Command::Start => "start as a standby of nobody".to_owned(),
        Command::Restart { voters } => {
            format!("start as the primary, for nobody but {}", names(&voters.nodes))
        }
        Command::StopStreaming => "stop streaming".to_owned(),
        Command::CatchUp { from, to } => format!("catch up with {from} to {}", to.lsn),
        Command::Follow { of, .. } => format!("stream from {of}"),
        Command::Exchange { from } => format!("go on with the copy of {from}"),
        Command::Rewind { from } => format!("take back what {from} does not have"),
        Command::Promote { timeline, voters } => format!(
            "promote to timeline {timeline}; a commit waits for {} of: {}",
            voters.quorum,
            names(&voters.nodes)
        ),
        Command::UseVoters(voters) => {
            format!("have a commit wait for {} of: {}", voters.quorum, names(&voters.nodes))
        }
        Command::Admit => "admit clients".to_owned(),
        Command::Kill => "close the gate for good and end every process of PostgreSQL".to_owned(),
    }
}

/// Why something is done, as far as what happened says it.
pub(super) fn reason(event: &Event) -> String {
    match event {
        Event::Store(Answer::Read(None)) => "the store cannot be reached".to_owned(),
        Event::Store(Answer::Read(Some(_)) | Answer::Changed(_)) => "the record says so".to_owned(),
        Event::Store(Answer::Written(Written::Done(_))) => "it is written".to_owned(),
        Event::Store(Answer::Written(_)) => "it was not written".to_owned(),
        Event::Heard { from, .. } => format!("word of {from}"),
        Event::Ended { outcome: Outcome::Failed, .. } => "the order before did not work".to_owned(),
        Event::Ended { .. } => "the order before is done".to_owned(),
        Event::Gone => "PostgreSQL ended by itself".to_owned(),
        Event::OutOfRecovery => "somebody promoted PostgreSQL".to_owned(),
        Event::GateClosed => "the gate is closed".to_owned(),
        Event::Faulty(true) => "this node cannot write, or its link is down".to_owned(),
        Event::Faulty(false) => "this node is well again".to_owned(),
        Event::Log(_) => "the log has grown".to_owned(),
        Event::Restores(_) => "restore_command changed".to_owned(),
        Event::Begins(_) => "log was removed".to_owned(),
        Event::Copied { to: Some(_), .. } => "a copy is made".to_owned(),
        Event::Copied { to: None, .. } => "no copy is made".to_owned(),
        Event::Standbys(_) => "the standbys are others, or further".to_owned(),
        Event::Doubts(_) => "what a quorum proves has changed".to_owned(),
        Event::Tick => "a deadline has passed".to_owned(),
    }
}
