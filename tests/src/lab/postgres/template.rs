//! A data directory that labs copy instead of making one each: initdb takes as long as a server takes to start.
//!
//! It stays on the machine for later runs; whoever removes it has the next lab make it again.
use std::ffi::OsString;
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use anyhow::{Context as _, Result};
use nix::fcntl::{Flock, FlockArg};

use super::super::host::Host;
use super::super::process::Cmd;
use super::super::state::lasting;
use super::super::wait::{SOON, wait_until};
use super::{MONITOR, Postgres, append, bin_directory, tool_on};

/// How far a server is: what it shows to those who ask it.
pub(super) const KNOWN: &str = "select case when pg_is_in_recovery() then pg_last_wal_replay_lsn() \
     else pg_current_wal_lsn() end";
const INITDB: [&str; 5] =
    ["--no-sync", "--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C"];
/// The segment in which the log of the template ends.
const SEGMENT: &str = "000000010000000000000001";
/// Of the files at the top of a data directory those that are not settings, and no other server's.
const OF_THE_SERVER: [&str; 3] = ["postmaster.pid", "postmaster.opts", "standby.signal"];

/// A new cluster in that directory, with the role that pgha logs in as. It does not run.
pub(super) fn initialize(host: &Host, data: &Path) -> Result<()> {
    tool_on(host, "initdb")?.args([OsString::from("-D"), data.into()]).args(INITDB).run()?;
    tool_on(host, "postgres")?
        .args([OsString::from("--single"), "-D".into(), data.into(), "postgres".into()])
        .stdin(&role())
        .run()
        .map(drop)
}

/// What [`initialize`] has the new cluster do: one statement a line.
fn role() -> String {
    format!("create role {MONITOR} login in role pg_monitor;\n")
}

/// Gives a server that has none the data directory of the template.
pub(super) fn copy(server: &Postgres) -> Result<()> {
    let template = made(&server.host)?;
    duplicate(&server.host, &template, &server.data())
}

/// Whether a copy of the template can follow that host's server: that still has the log from there on.
pub(super) fn begins(upstream: &Host) -> Result<bool> {
    let data = Postgres::new(upstream.clone()).data();
    let system = |data: &Path| -> Result<Vec<u8>> {
        let path = data.join("global/pg_control");
        let control = fs::read(&path).with_context(|| path.display().to_string())?;
        // The system identifier comes first (ControlFileData in PostgreSQL's pg_control.h).
        Ok(control.get(..8).context("a control file")?.to_owned())
    };
    let log = data.join("pg_wal").join(SEGMENT).exists();
    Ok(log && system(&data)? == system(&made(upstream)?)?)
}

/// Has a copy of the template follow another server, with the settings of that: what pg_basebackup does.
pub(super) fn follow(server: &Postgres, upstream: &Host, conninfo: &str) -> Result<()> {
    let (from, data) = (Postgres::new(upstream.clone()).data(), server.data());
    let template = made(&server.host)?;
    for entry in fs::read_dir(&from)? {
        let entry = entry?;
        let name = entry.file_name();
        let own = entry.file_type()?.is_dir() && template.join(&name).exists();
        if !own && OF_THE_SERVER.iter().all(|of| name != *of) {
            duplicate(&server.host, &entry.path(), &data.join(name))?;
        }
    }
    append(&data.join("postgresql.auto.conf"), &format!("primary_conninfo = '{conninfo}'\n"))?;
    server.host.command(["touch"])?.args([data.join("standby.signal")]).as_postgres()?.run()?;
    Ok(())
}

/// Waits until it has what its upstream had when it was made, as it would have after pg_basebackup.
pub(super) fn wait_until_it_has(server: &Postgres, known: &str) -> Result<()> {
    let what = format!("{} to have all up to {known}", server.host.name());
    let has = format!("select pg_last_wal_replay_lsn() >= '{known}'");
    wait_until(what, SOON, || Ok(server.psql(&has)? == "t"))
}

fn duplicate(host: &Host, from: &Path, to: &Path) -> Result<()> {
    let command: Cmd = host.command(["cp", "-aT"])?;
    command.args([from, to]).as_postgres()?.run().map(drop)
}

/// Where the template is, once it has been made. That of another version, or of another recipe, is another one.
fn made(host: &Host) -> Result<PathBuf> {
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    if let Some(path) = MADE.get() {
        return Ok(path.clone());
    }
    let path = find_or_make(host)?;
    Ok(MADE.get_or_init(|| path).clone())
}

fn find_or_make(host: &Host) -> Result<PathBuf> {
    let version = tool_on(host, "postgres")?.args(["--version"]).run()?;
    let mut recipe = DefaultHasher::new();
    (&version, bin_directory()?, INITDB, role()).hash(&mut recipe);
    let path = lasting()?.join(format!("template-{:016x}", recipe.finish()));
    if path.exists() {
        return Ok(path);
    }
    let lock = path.with_extension("lock");
    let lock = File::create(&lock).with_context(|| lock.display().to_string())?;
    let _lock = Flock::lock(lock, FlockArg::LockExclusive).map_err(|(_, errno)| errno)?;
    if !path.exists() {
        let home = path.with_extension("new");
        match fs::remove_dir_all(&home) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
            Ok(()) | Err(_) => {}
        }
        make(host, &home)?;
        fs::rename(home.join("data"), &path).with_context(|| path.display().to_string())?;
        fs::remove_dir(&home)?;
    }
    Ok(path)
}

fn make(host: &Host, home: &Path) -> Result<()> {
    fs::create_dir(home)?;
    let user = super::super::process::postgres_user()?;
    std::os::unix::fs::chown(home, Some(user.uid.as_raw()), Some(user.gid.as_raw()))?;
    initialize(host, &home.join("data"))
}
