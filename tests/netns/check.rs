//! `pgha check`: faults planted one by one, each found by the check that is named after it.
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use pgha_ctl::check::{Check, Level, Report};
use pgha_tests::lab::artifacts::pgha_binary;
use pgha_tests::lab::{Cmd, Host, READER_VIP, SOON, wait_for};

use crate::api::asked;
use crate::cluster::{Cluster, edited};

/// The lab's timeouts are longer than its intervals, which is remarked upon.
const CALM: (&str, &str) = ("interval = \"200ms\"", "interval = \"1s\"");

/// What `pgha check --json` on that host says; its exit code must be what the report means.
fn check(cluster: &Cluster, on: &Host, arguments: &[&str]) -> Result<Report> {
    let output = command(cluster, on)?.args(["--json"]).args(arguments).output()?;
    let (stdout, stderr) = (String::from_utf8(output.stdout)?, output.stderr);
    let report: Report = serde_json::from_str(&stdout)
        .with_context(|| format!("{stdout}{}", String::from_utf8_lossy(&stderr)))?;
    let code = if report.is_well() { 0 } else { 3 };
    ensure!(output.status.code() == Some(code), "{}: {stdout}", output.status);
    ensure!(stderr.is_empty(), "{}", String::from_utf8_lossy(&stderr));
    Ok(report)
}

fn command(cluster: &Cluster, on: &Host) -> Result<Cmd> {
    let state = cluster.lab.directory().join(on.name());
    let command = on.command([pgha_binary()?])?.args(["check", "--config"]);
    Ok(command.args([config_of(cluster, on)?]).args([OsStr::new("--state-dir"), state.as_os_str()]))
}

/// The director's file. Another host gets a copy of its own, because hosts of a lab share their files: it
/// would find the director's socket and pins.
fn config_of(cluster: &Cluster, on: &Host) -> Result<PathBuf> {
    let (director, path) = (&cluster.director, cluster.director.config_path());
    if on.name() == director.host().name() {
        return Ok(path);
    }
    let text = fs::read_to_string(&path)?;
    let copy = path.with_file_name(format!("{}.toml", on.name()));
    let control = director.control_path().with_file_name(format!("{}.sock", on.name()));
    let edits = [(director.control_path(), control), (director.bpffs(), PathBuf::from("/nowhere"))];
    let quoted = |path: &Path| format!("\"{}\"", path.display());
    let edits = edits.map(|(from, to)| (quoted(&from), quoted(&to)));
    let edits = edits.each_ref().map(|(from, to)| (from.as_str(), to.as_str()));
    fs::write(&copy, edited(text, &edits)?)?;
    Ok(copy)
}

/// What does not work, as `check of what`.
fn failed(report: &Report) -> BTreeSet<String> {
    let failed = report.checks.iter().filter(|check| check.level == Level::Fail);
    failed.map(|Check { id, of, .. }| format!("{id} {of}").trim_end().to_owned()).collect()
}

/// Waits until exactly these checks fail on the director; returns the last report.
fn wait_failed(cluster: &Cluster, wanted: &[&str]) -> Result<Report> {
    let wanted: BTreeSet<_> = wanted.iter().map(|&id| id.to_owned()).collect();
    wait_for(format_args!("{wanted:?} to fail and nothing else"), SOON, || {
        let report = check(cluster, cluster.director.host(), &[])?;
        let seen = failed(&report);
        ensure!(seen == wanted, "{seen:?}: {:#?}", report.checks);
        Ok(Some(report))
    })
}

/// The check of that id and subject.
fn one<'r>(report: &'r Report, id: &str, of: &str) -> Result<&'r Check> {
    let mut found = report.checks.iter().filter(|check| check.id == id && check.of == of);
    found.next().with_context(|| format!("no {id} of {of:?}: {:#?}", report.checks))
}

#[test]
fn netns_check_disturbs_nobody_where_all_is_well() -> Result<()> {
    let cluster = Cluster::up(&["db2", "db3"], &[CALM])?;
    let settled = wait_failed(&cluster, &[])?;
    let session = cluster.session()?;
    let server = session.server()?;
    let director = || -> Result<_> {
        let mut director = cluster.director.status()?["director"].clone();
        director["in_use"] = serde_json::Value::Null;
        Ok(director)
    };
    // What a check could cause: a VIP that seems claimed, another role, orders.
    let caused = || -> Result<_> {
        let mut caused = asked(&cluster, "GET", "/v1/events", "")?["events"].take();
        let could = ["attached", "role", "vip_claimed", "reloaded", "reload_refused", "ordered"];
        let kind = |event: &serde_json::Value| could.iter().any(|kind| event["kind"] == *kind);
        caused.as_array_mut().context("events")?.retain(kind);
        Ok(caused)
    };
    let (before, events) = (director()?, caused()?);
    let table = cluster.director.maps(READER_VIP)?.table()?;
    for _ in 0..5 {
        let report = check(&cluster, cluster.director.host(), &["--fix"])?;
        assert_eq!(report.count(Level::Fail) + report.count(Level::Warn), 0, "{report:#?}");
        assert_eq!(report.checks.len(), settled.checks.len());
        assert!(report.fixed.is_empty() && report.unfixed.is_empty(), "{report:#?}");
    }
    assert_eq!(director()?, before);
    assert_eq!(caused()?, events);
    assert_eq!(cluster.director.maps(READER_VIP)?.table()?, table);
    assert_eq!(session.server()?, server);

    assert_eq!(settled.schema, 1);
    assert!(settled.role.director && !settled.role.real_server);
    let pid = cluster.director.pid().context("a pid")?;
    let controller = one(&settled, "controller", "")?;
    assert!(controller.found.contains(&format!("pid {pid}, active")), "{controller:?}");
    for name in ["db1", "db2", "db3"] {
        assert_eq!(one(&settled, "path-mtu", name)?.found, "1500 bytes");
    }

    // A real server is looked at as one.
    let db2 = check(&cluster, cluster.reader("db2")?.host(), &[])?;
    assert!(!db2.role.director && db2.role.real_server);
    assert_eq!(failed(&db2), BTreeSet::new(), "{db2:#?}");
    assert_eq!(one(&db2, "real-server-vip", "10.77.0.100")?.found, "on lo");
    Ok(())
}

#[test]
fn netns_check_finds_what_is_planted() -> Result<()> {
    let cluster = Cluster::up(&["db2", "db3"], &[CALM])?;
    wait_failed(&cluster, &[])?;
    let [db2, db3] = [cluster.reader("db2")?, cluster.reader("db3")?];
    let primary = &cluster.primary;

    primary.psql("revoke pg_monitor from pgha")?;
    let report = wait_failed(
        &cluster,
        &[
            "postgres-rights db1 10.77.0.11:5432",
            "postgres-rights db2 10.77.0.12:5432",
            "postgres-rights db3 10.77.0.13:5432",
        ],
    )?;
    let rights = one(&report, "postgres-rights", "db1 10.77.0.11:5432")?;
    assert_eq!(rights.sql, ["GRANT pg_monitor TO pgha;"]);
    // The printed statement mends it.
    primary.psql(&rights.sql[0])?;
    wait_failed(&cluster, &[])?;

    primary.psql("alter role pgha nologin")?;
    let report = wait_failed(
        &cluster,
        &[
            "postgres-login db1 10.77.0.11:5432",
            "postgres-login db2 10.77.0.12:5432",
            "postgres-login db3 10.77.0.13:5432",
        ],
    )?;
    let login = one(&report, "postgres-login", "db2 10.77.0.12:5432")?;
    assert!(login.found.contains("not permitted to log in"), "{login:?}");
    primary.psql("alter role pgha login")?;

    db3.host().link_down()?;
    let report = wait_failed(&cluster, &["postgres-login db3 10.77.0.13:5432"])?;
    let silent = one(&report, "postgres-login", "db3 10.77.0.13:5432")?;
    assert!(silent.found.starts_with("it is silent: "), "{silent:?}");
    assert_eq!(one(&report, "path-mtu", "db3")?.level, Level::Skipped);
    db3.host().link_up()?;
    wait_failed(&cluster, &[])?;

    db2.host().run(["ip", "link", "set", "dev", "eth0", "mtu", "1400"])?;
    let report = wait_failed(&cluster, &["path-mtu db2"])?;
    let path = one(&report, "path-mtu", "db2")?;
    assert!(path.found.contains("of 1500 bytes not"), "{path:?}");
    db2.host().run(["ip", "link", "set", "dev", "eth0", "mtu", "1500"])?;

    let impostor = primary.receivewal(&cluster.client, "db2")?;
    let report = wait_failed(&cluster, &["application-names db1 10.77.0.11:5432"])?;
    let names = &one(&report, "application-names", "db1 10.77.0.11:5432")?.found;
    for client in ["10.77.0.12", "10.77.0.31"] {
        assert!(names.contains(client) && names.contains("\"db2\""), "{names}");
    }
    drop(impostor);
    wait_failed(&cluster, &[])?;

    // No transaction waits for it: a check writes nothing.
    primary.set_guc("synchronous_standby_names", "FIRST 2 (db2, db9)")?;
    let report = wait_failed(&cluster, &["synchronous-standbys db1 10.77.0.11:5432"])?;
    assert_eq!(one(&report, "synchronous-standbys", "db1 10.77.0.11:5432")?.sql.len(), 2);
    primary.set_guc("synchronous_standby_names", "")?;

    db2.signal_all(nix::sys::signal::Signal::SIGKILL)?;
    let report = wait_failed(&cluster, &["postgres-login db2 10.77.0.12:5432"])?;
    let refused = one(&report, "postgres-login", "db2 10.77.0.12:5432")?;
    assert!(refused.found.starts_with("the connection is refused: "), "{refused:?}");
    Ok(())
}

#[test]
fn netns_check_tells_two_clusters_apart() -> Result<()> {
    let cluster = Cluster::up(&["db2"], &[CALM])?;
    // Another cluster, whose server is a node by mistake.
    cluster.lab.primary("db3")?;
    cluster.configure(&[CALM])?;
    let report = wait_failed(&cluster, &["primary", "system-identifier"])?;
    let found = &one(&report, "system-identifier", "")?.found;
    assert!(found.contains("db1 and db2") && found.contains("db3 "), "{found}");
    let found = &one(&report, "primary", "")?.found;
    assert!(found.contains("db1 10.77.0.11:5432 (timeline 1) and db3"), "{found}");
    Ok(())
}

#[test]
fn netns_check_mends_a_real_server() -> Result<()> {
    let cluster = Cluster::up(&["db2"], &[CALM])?;
    wait_failed(&cluster, &[])?;
    let db2 = cluster.reader("db2")?.host();
    let arp_ignore = |value: &str| {
        let path = "/proc/sys/net/ipv4/conf/all/arp_ignore";
        db2.run(["sh", "-c", &format!("echo {value} > {path}; echo {value} > {path}")])
    };
    // The VIP on lo, and a node that answers for it.
    db2.run(["sh", "-c", "echo 0 > /proc/sys/net/ipv4/conf/lo/arp_ignore"])?;
    arp_ignore("0")?;
    let report = wait_failed(&cluster, &["vip-in-use 10.77.0.100"])?;
    let leak = one(&report, "vip-in-use", "10.77.0.100")?;
    assert!(leak.found.starts_with("db2 (02:00:0a:4d:00:0c) answers for it"), "{leak:?}");
    assert!(leak.mend.as_ref().is_some_and(|mend| mend.starts_with("on db2: ")), "{leak:?}");

    db2.run(["ip", "address", "del", "10.77.0.100/32", "dev", "lo"])?;
    let names = ["all", "lo"].map(|i| format!("real-server-arp net.ipv4.conf.{i}.arp_ignore"));
    let names =
        BTreeSet::from_iter(names.into_iter().chain(["real-server-vip 10.77.0.100".into()]));
    // Nothing is changed without --fix.
    for _ in 0..2 {
        let report = check(&cluster, db2, &[])?;
        assert_eq!(failed(&report), names, "{report:#?}");
        assert!(report.checks.iter().all(|c| c.fixable == (c.level == Level::Fail)), "{report:#?}");
    }
    let report = check(&cluster, db2, &["--fix"])?;
    assert_eq!(failed(&report), BTreeSet::new(), "{report:#?}");
    let [fixed] = report.fixed.as_slice() else { bail!("{report:#?}") };
    for part in ["set net.ipv4.conf.all.arp_ignore = 1 (was 0)", "added 10.77.0.100/32 to lo"] {
        assert!(fixed.done.contains(part), "`{part}` is not in {fixed:?}");
    }
    wait_failed(&cluster, &[])?;
    let again = check(&cluster, db2, &["--fix"])?;
    assert!(again.fixed.is_empty(), "{again:#?}");
    // What it says takes it back, the set-up that the lab began with too: it is one record.
    let (undo, rest) = fixed.take_back.split_once(" # ").context("a word of the earlier set-up")?;
    assert_eq!(rest, "with it all of the earlier set-up of this node");
    let words: Vec<_> = undo.split(' ').skip(1).collect();
    db2.command([pgha_binary()?])?.args(words).run()?;
    assert_eq!(failed(&check(&cluster, db2, &[])?).len(), 5);
    Ok(())
}

/// A mount that ends with the test.
struct Mounted(PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        if let Err(error) = Cmd::new(["umount"]).args([&self.0]).run() {
            eprintln!("{error:#}");
        }
    }
}

#[test]
fn netns_check_mounts_a_bpf_file_system() -> Result<()> {
    let cluster = Cluster::prepared(&["db2"])?;
    let bpffs = cluster.lab.directory().join("mounted");
    let usual = format!("bpffs = \"{}\"", cluster.director.bpffs().display());
    let edited = format!("bpffs = \"{}\"", bpffs.display());
    cluster.configure(&[CALM, (&usual, &edited)])?;
    let failed_on = |report: &Report| failed(report).into_iter().collect::<Vec<_>>();
    let bare = format!("bpffs {}", bpffs.display());

    // There is nothing to mount it at.
    let report = check(&cluster, cluster.director.host(), &["--fix"])?;
    assert_eq!(failed_on(&report), [bare.as_str()], "{report:#?}");
    assert!(report.fixed.is_empty(), "{report:#?}");
    let [why] = report.unfixed.as_slice() else { bail!("{report:#?}") };
    assert!(why.contains("is no directory") && why.contains("mkdir -p"), "{why}");

    fs::create_dir(&bpffs)?;
    let report = check(&cluster, cluster.director.host(), &[])?;
    assert_eq!(failed_on(&report), [bare.as_str()], "{report:#?}");
    assert!(!is_mounted(&bpffs)?);
    let report = check(&cluster, cluster.director.host(), &["--fix"])?;
    let mounted = Mounted(bpffs.clone());
    assert_eq!(failed(&report), BTreeSet::new(), "{report:#?}");
    assert_eq!(report.fixed.len(), 1, "{report:#?}");
    assert_eq!(report.fixed[0].take_back, format!("umount {}", bpffs.display()));
    assert!(is_mounted(&bpffs)?);

    // A controller starts by what was mended.
    cluster.director.start()?;
    cluster.wait_serving(&["db2"])?;
    cluster.director.terminate()?;
    ensure!(cluster.director.pgha(["detach"])?.status.success());
    drop(mounted);
    assert!(!is_mounted(&bpffs)?);
    Ok(())
}

fn is_mounted(path: &Path) -> Result<bool> {
    Ok(fs::read_to_string("/proc/self/mountinfo")?.contains(&format!(" {} ", path.display())))
}

#[test]
fn netns_check_says_all_that_is_wrong_with_a_file() -> Result<()> {
    let cluster = Cluster::prepared(&[])?;
    let text = edited(
        cluster.config(&[])?,
        &[("rise = 2", "rise = 0"), ("scheduler =", "schedular ="), ("fall = 3", "fall = 1")],
    )?;
    cluster.director.write_config(&text)?;
    let report = check(&cluster, cluster.director.host(), &["--fix"])?;
    assert_eq!((report.cluster.as_deref(), report.checks.len()), (None, 3), "{report:#?}");
    let output = command(&cluster, cluster.director.host())?.output()?;
    let said = String::from_utf8(output.stdout)?;
    for wrong in ["health.rise = 0", "did you mean \"scheduler\"?", "health.fall = 1", "3 failed"] {
        assert!(said.contains(wrong), "`{wrong}` is not in {said}");
    }
    assert_eq!(output.status.code(), Some(3));
    Ok(())
}
