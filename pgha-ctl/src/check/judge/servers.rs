//! Each PostgreSQL: can it be asked, and may the role see what pgha needs.

use crate::check::facts::{Server, Trouble, TroubleKind};
use crate::check::{Check, about};
use crate::config::{Config, Login};
use crate::postgres::quoted;

/// The oldest `server_version_num` whose views and functions are those that pgha asks.
const OLDEST: u32 = 130_000;

pub(super) fn judge(config: &Config, servers: &[Server]) -> Vec<Check> {
    servers.iter().flat_map(|server| one(config.login(), server)).collect()
}

fn one(login: &Login, server: &Server) -> Vec<Check> {
    let check = about("postgres-login", server.title(), "PostgreSQL answers and takes the login");
    let seen = match &server.answer {
        Ok(seen) => seen,
        Err(trouble) => return vec![unanswered(login, server, trouble)],
    };
    let role = login.user();
    let mut checks = vec![check.ok(format!(
        "{} on timeline {}",
        if seen.in_recovery { "a standby" } else { "a primary" },
        seen.timeline.map_or_else(|| "unknown".to_owned(), |timeline| timeline.to_string())
    ))];
    let version = about("postgres-version", server.title(), "the version is one that pgha knows");
    if seen.version < OLDEST {
        checks.push(
            version
                .fail(format!("{}", seen.version / 10_000))
                .wanted("13 or later")
                .mend("upgrade PostgreSQL"),
        );
    }
    let rights = about("postgres-rights", server.title(), "the role sees walsenders and settings");
    checks.push(if seen.monitor {
        rights.ok(format!("{role} is a member of pg_monitor"))
    } else {
        rights
            .fail(format!("{role} is no member of pg_monitor, and sees no walsender's state"))
            .mend("as a superuser on the primary; the standbys have it with the next WAL")
            .sql(format!("GRANT pg_monitor TO {};", quoted(role)))
    });
    checks
}

fn unanswered(login: &Login, server: &Server, trouble: &Trouble) -> Check {
    let check = about("postgres-login", server.title(), "PostgreSQL answers and takes the login");
    let Trouble { kind, told } = trouble;
    let (ip, port) = (server.at.ip(), server.at.port());
    let role = quoted(login.user());
    match kind {
        TroubleKind::Refused => check.fail(format!("the connection is refused: {told}")).mend(format!(
            "start PostgreSQL there, and have it listen on {ip} (listen_addresses) and port {port}; a firewall that rejects looks the same"
        )),
        TroubleKind::Silent => check.fail(format!("it is silent: {told}")).mend(format!(
            "see whether the host is up and whether a firewall drops what goes to port {port}"
        )),
        TroubleKind::NotAccepting => check.fail(format!("it takes no sessions: {told}")).mend(
            "wait until it has started; a standby takes sessions only with hot_standby = on",
        ),
        TroubleKind::Here => check.fail(format!("this node is the reason: {told}")).mend(
            "see the password file, certificates, routes and limits of this node",
        ),
        // It says itself what to do.
        TroubleKind::Tls => check.fail(told.clone()).mend(
            "see [postgres] sslmode, sslrootcert, sslcert and sslkey, and ssl and pg_hba.conf there",
        ),
        TroubleKind::Answered => check.fail(told.clone()).mend("see the log of PostgreSQL there"),
        TroubleKind::Login => check
            .fail(format!("it refuses role {}: {told}", login.user()))
            .mend(format!(
                "on the primary, what is missing of these; in pg_hba.conf of every server, for each director: host {} {} ADDRESS/32 scram-sha-256",
                login.dbname(),
                login.user()
            ))
            .sql(format!("CREATE ROLE {role} LOGIN PASSWORD '...' IN ROLE pg_monitor;"))
            .sql(format!("GRANT CONNECT ON DATABASE {} TO {role};", quoted(login.dbname()))),
    }
}
