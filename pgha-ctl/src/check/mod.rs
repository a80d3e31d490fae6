//! `pgha check`: what keeps this node, or the servers it is to balance, from working, and how to mend it.
//!
//! What is there is gathered first ([`gather`]: it asks, side by side, each question with a deadline,
//! and changes nothing); what it means is judged from that alone ([`judge`]: pure). Nothing is locked:
//! a controller on this node goes on undisturbed. [`fix`] carries out what is safe and can be taken back.

mod facts;
mod fix;
mod gather;
mod judge;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::config::{Config, ConfigErrors};
use crate::controller::status::Status;
pub use facts::Role;
pub use fix::{FixError, Fixed};

/// Number of the form of a [`Report`] as JSON; a field is only ever added without a new one.
pub const SCHEMA: u32 = 1;

/// What a check came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// As it should be.
    Ok,
    /// It could not be found out, or has no meaning here; [`Check::found`] says why.
    Skipped,
    /// It works, less well than it could or not for long.
    Warn,
    /// It does not work.
    Fail,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// Which check it is; stable, for scripts.
    pub id: String,
    /// What it was done on: an interface, a VIP, a server; empty where there is only one.
    pub of: String,
    /// What it came to.
    pub level: Level,
    /// What is looked at, in a few words.
    pub what: String,
    /// What was found.
    pub found: String,
    /// What should be, where that is not so.
    pub wanted: Option<String>,
    /// How to mend it.
    pub mend: Option<String>,
    /// Statements for PostgreSQL that mend it; pgha never runs them.
    pub sql: Vec<String>,
    /// Whether `pgha check --fix` mends it.
    pub fixable: bool,
}

/// The beginning of a [`Check`].
#[derive(Clone, Debug)]
struct About {
    id: &'static str,
    of: String,
    what: &'static str,
}

/// Something to be checked, before it is known what it comes to.
fn about(id: &'static str, of: impl Into<String>, what: &'static str) -> About {
    About { id, of: of.into(), what }
}

impl About {
    fn come_to(self, level: Level, found: impl Into<String>) -> Check {
        Check {
            id: self.id.to_owned(),
            of: self.of,
            level,
            what: self.what.to_owned(),
            found: found.into(),
            wanted: None,
            mend: None,
            sql: Vec::new(),
            fixable: false,
        }
    }

    fn ok(self, found: impl Into<String>) -> Check {
        self.come_to(Level::Ok, found)
    }

    fn skipped(self, why: impl Into<String>) -> Check {
        self.come_to(Level::Skipped, why)
    }

    fn warn(self, found: impl Into<String>) -> Check {
        self.come_to(Level::Warn, found)
    }

    fn fail(self, found: impl Into<String>) -> Check {
        self.come_to(Level::Fail, found)
    }
}

impl Check {
    fn wanted(self, wanted: impl Into<String>) -> Self {
        Self { wanted: Some(wanted.into()), ..self }
    }

    fn mend(self, mend: impl Into<String>) -> Self {
        Self { mend: Some(mend.into()), ..self }
    }

    fn sql(mut self, statement: impl Into<String>) -> Self {
        self.sql.push(statement.into());
        self
    }

    fn fixable(self) -> Self {
        Self { fixable: true, ..self }
    }
}

/// Everything that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The configuration file.
    pub file: PathBuf,
    /// The cluster; `None` with a configuration that cannot be used.
    pub cluster: Option<String>,
    /// What this node was looked at as.
    pub role: Role,
    /// In the order in which they are best mended.
    pub checks: Vec<Check>,
    /// What `--fix` did, in order.
    pub fixed: Vec<Fixed>,
    /// What `--fix` could not do.
    pub unfixed: Vec<String>,
}

impl Report {
    /// How many checks came to that.
    #[must_use]
    pub fn count(&self, level: Level) -> usize {
        self.checks.iter().filter(|check| check.level == level).count()
    }

    /// Whether nothing is found that does not work.
    #[must_use]
    pub fn is_well(&self) -> bool {
        self.count(Level::Fail) == 0
    }
}

/// What to look at, and what to do about it.
#[derive(Debug)]
pub struct Request<'r> {
    /// The configuration file.
    pub file: &'r Path,
    /// What to look at this node as; `None` leaves that to its addresses.
    pub role: Option<Role>,
    /// Where the record of a set-up as a real server is kept.
    pub state_dir: &'r Path,
    /// Whether to mend what is safe to mend.
    pub fix: bool,
    /// What the controller of this node says, or why it was not asked with success.
    pub controller: Result<Box<Status>, String>,
}

/// Looks at everything, and with [`Request::fix`] mends what it can and looks again. `tell` hears what is
/// being waited for.
pub async fn run(request: &Request<'_>, tell: &dyn Fn(&str)) -> Report {
    let config = match Config::load(request.file) {
        Ok(config) => config,
        Err(errors) => return unusable(request, &errors),
    };
    let mut report = Report {
        schema: SCHEMA,
        file: request.file.to_owned(),
        cluster: Some(config.cluster().to_string()),
        role: Role::default(),
        checks: Vec::new(),
        fixed: Vec::new(),
        unfixed: Vec::new(),
    };
    look(request, &config, tell, &mut report).await;
    if request.fix && report.checks.iter().any(|check| check.fixable) {
        for fix in fix::wanted(&report.checks, &config) {
            tell(&fix.to_string());
            match fix::carry_out(&fix, request.state_dir).await {
                Ok(fixed) => report.fixed.push(fixed),
                Err(error) => report.unfixed.push(error.to_string()),
            }
        }
        look(request, &config, tell, &mut report).await;
    }
    report
}

async fn look(request: &Request<'_>, config: &Config, tell: &dyn Fn(&str), report: &mut Report) {
    let facts = gather::facts(request, config, tell).await;
    report.role = facts.role;
    report.checks = judge::file(config, request.file);
    report.checks.extend(judge::all(config, &facts));
}

/// Nothing else can be looked at by a configuration with errors.
fn unusable(request: &Request<'_>, errors: &ConfigErrors) -> Report {
    Report {
        schema: SCHEMA,
        file: request.file.to_owned(),
        cluster: None,
        role: request.role.unwrap_or_default(),
        checks: judge::errors(errors),
        fixed: Vec::new(),
        unfixed: Vec::new(),
    }
}
