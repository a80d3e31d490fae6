//! New servers: the first primary of a lab and its standbys are copies of the [template], as long as that makes no
//! difference; others are made by initdb and pg_basebackup.
use std::ffi::OsString;

use anyhow::Result;

use super::super::host::Host;
use super::super::plan::Network;
use super::{PORT, Postgres, PostgresOptions, append, conninfo, template};

/// The lab's usual server: it loses data only with the whole machine, and it is quick to notice.
const SETTINGS: [(&str, &str); 16] = [
    ("listen_addresses", "*"),
    ("max_connections", "200"),
    ("shared_buffers", "16MB"),
    ("fsync", "off"),
    ("wal_level", "replica"),
    ("wal_log_hints", "on"),
    ("wal_keep_size", "256MB"),
    ("max_wal_senders", "20"),
    ("max_replication_slots", "20"),
    ("hot_standby", "on"),
    ("wal_receiver_status_interval", "1s"),
    ("wal_retrieve_retry_interval", "200ms"),
    ("restart_after_crash", "off"),
    // In its directory, which goes with the lab: one that is killed leaves in /dev/shm what only its next start removes.
    ("dynamic_shared_memory_type", "mmap"),
    ("logging_collector", "off"),
    ("log_line_prefix", "%m [%p] %q%u@%d %r %a "),
];

/// Makes and starts a primary with the role pgha logs in as. A second one in a lab is of another cluster than the
/// first.
pub(in crate::lab) fn primary(host: Host, options: &PostgresOptions) -> Result<Postgres> {
    let server = Postgres::new(host);
    make_home(&server)?;
    if server.host.shared.found() {
        template::copy(&server)?;
    } else {
        template::initialize(&server.host, &server.data())?;
    }
    let port = PORT.to_string();
    let port = [("port", port.as_str())];
    write_settings(&server, SETTINGS.into_iter().chain(port))?;
    write_options(&server, options)?;
    let admitted: String = Network::ALL
        .iter()
        .flat_map(|network| network.cidrs())
        .map(|cidr| format!("host all all {cidr} trust\nhost replication all {cidr} trust\n"))
        .collect();
    append(&server.data().join("pg_hba.conf"), &admitted)?;
    server.start()?;
    Ok(server)
}

/// Makes and starts a standby.
pub(in crate::lab) fn standby(
    host: Host,
    upstream: &Host,
    options: &PostgresOptions,
) -> Result<Postgres> {
    let server = Postgres::new(host);
    make_home(&server)?;
    let name = options.application_name.as_deref().unwrap_or(server.host.name());
    let conninfo = conninfo(upstream.address(), name);
    let mut known = None;
    if template::begins(upstream)? {
        known = Some(Postgres::new(upstream.clone()).psql(template::KNOWN)?);
        template::copy(&server)?;
        template::follow(&server, upstream, &conninfo)?;
    } else {
        server
            .tool("pg_basebackup")?
            .args([OsString::from("-D"), server.data().into()])
            // The connection string becomes primary_conninfo (-R), application_name with it.
            .args(["-d", &conninfo, "-R", "-X", "stream"])
            .args(["--checkpoint=fast", "--no-sync"])
            .run()?;
    }
    write_options(&server, options)?;
    server.start()?;
    if let Some(known) = known {
        template::wait_until_it_has(&server, &known)?;
    }
    Ok(server)
}

fn make_home(server: &Postgres) -> Result<()> {
    server.host.command(["mkdir", "-p"])?.args([server.home()]).as_postgres()?.run().map(drop)
}

fn write_options(server: &Postgres, options: &PostgresOptions) -> Result<()> {
    write_settings(server, options.gucs.iter().map(|(name, value)| (name.as_str(), value.as_str())))
}

fn write_settings<'a>(
    server: &Postgres,
    settings: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> Result<()> {
    let lines: String = settings
        .into_iter()
        .map(|(name, value)| format!("{name} = '{}'\n", value.replace('\'', "''")))
        .collect();
    append(&server.data().join("postgresql.conf"), &lines)
}
