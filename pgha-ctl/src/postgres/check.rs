//! Checks of one server.

use std::time::Duration;

use pgha_machine::balancer::Finding;
use tokio::time::Instant;

use super::{Connector, NamedWalsender, PgError, Report, Server, Session, ask, within};

/// What a check found out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// What it says of the server; a standby is without its walsenders yet.
    pub finding: Finding,
    /// The streaming walsenders of a standby.
    pub walsenders: Vec<NamedWalsender>,
}

/// Checks a server: by a question in the session `kept` and, side by side with it, by how the server
/// meets a new one; where none is kept, by logging in. The session to keep is returned.
///
/// Logging in anew each time would show no more, and cost the server a whole session and this side
/// the 4,096 rounds of SCRAM each time.
pub async fn check(
    connector: &Connector,
    server: Server,
    kept: Option<Session>,
    timeout: Duration,
) -> (Checked, Option<Session>) {
    let until = Instant::now() + timeout;
    let log_in = async |timeout| match log_in_and_ask(connector, server, None, timeout).await {
        Ok((report, session)) => (report.into(), Some(session)),
        Err(error) => (Checked::from(&error), None),
    };
    let Some(session) = kept.filter(|session| !session.is_over() && session.is_of(connector))
    else {
        return log_in(timeout).await;
    };
    match tokio::join!(session.knock(timeout), ask(&session, timeout)) {
        (Ok(()), Ok(report)) => (report.into(), Some(session)),
        (Err(error), asked) => {
            let checked = Checked::from(&error);
            // A session kept through a smart shutdown would keep the server from ever ending; and in one
            // that does not answer, each round would leave one more question behind.
            let keep = asked.is_ok() && checked.finding != Finding::NotAccepting;
            (checked, keep.then_some(session))
        }
        (Ok(()), Err(error @ PgError::Timeout(_))) => (Checked::from(&error), None),
        // The session is over, or was ended there: another tells why.
        (Ok(()), Err(_)) => log_in(until.saturating_duration_since(Instant::now())).await,
    }
}

/// Asks a server in the session `kept`, or else in a new one, which is returned; all within `timeout`.
///
/// # Errors
/// Whatever keeps the server from answering.
pub async fn log_in_and_ask(
    connector: &Connector,
    server: Server,
    kept: Option<Session>,
    timeout: Duration,
) -> Result<(Report, Session), PgError> {
    within(timeout, async {
        let session = match kept {
            Some(session) => session,
            None => Session::open(connector, server, timeout).await?,
        };
        Ok((ask(&session, timeout).await?, session))
    })
    .await?
}

impl From<&PgError> for Checked {
    fn from(error: &PgError) -> Self {
        Self { finding: error.finding(), walsenders: Vec::new() }
    }
}

impl From<Report> for Checked {
    fn from(report: Report) -> Self {
        match report {
            Report::Standby(standby, walsenders) => {
                Self { finding: Finding::Standby(standby), walsenders }
            }
            Report::Primary(primary) => {
                let (timeline, system) = (primary.timeline, primary.system);
                Self {
                    finding: Finding::NotInRecovery { timeline, system },
                    walsenders: Vec::new(),
                }
            }
        }
    }
}
