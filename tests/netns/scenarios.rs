//! What must hold of health and membership, and which test holds it.
//!
//! | given, when, must hold | test |
//! |---|---|
//! | `ANY k`, sync state `quorum`: all readers in the map | `netns_sync_states_all_count` (as it changes), [`netns_no_reader_is_missing_under_any_k`] (from the start) |
//! | the primary down for 10 s: healthy readers unchanged | [`netns_a_primary_down_for_ten_seconds_changes_no_reader`], `netns_primary_lost_leaves_readers_alone` |
//! | a reader's PostgreSQL ended by SIGTERM or SIGKILL: out at once; psql reconnects elsewhere | `netns_killed_reader_is_out_at_once`, `netns_smart_shutdown_lets_sessions_end`, `netns_psql_reconnects_to_another_reader` |
//! | an unlisted standby whose `application_name` is its address joins; `pg_receivewal` and `pg_basebackup` never do | `netns_unlisted_standby_joins_and_wal_tools_never_do` |
//! | default weight 0 and a list; weights 3:1: shares within 5 % | `netns_weights_share_out_connections` |
//! | discovery `direct`, primary unreachable: healthy standbys pooled | `netns_primary_unreachable_from_the_start` |
//! | a reader beyond the lag limit drains, its sessions stay, it returns with hysteresis | [`netns_a_reader_beyond_the_lag_limit_drains_and_returns_late`] |
//! | hot reload; a bad file leaves the old configuration, the error names key, value and fix | `netns_reload_takes_what_is_right_and_refuses_the_rest`, `netns_reload_adds_and_removes_nodes_and_services` |
//! | a health flap of one server leaves the others' tables as they are, byte by byte | [`netns_a_flap_of_one_server_leaves_every_other_table_alone`] |
//!
//! Defects of the systems that pgha replaces, each shown absent here:
//!
//! | defect | test |
//! |---|---|
//! | readers empty under `ANY k`, whose sync state is neither sync nor async | [`netns_no_reader_is_missing_under_any_k`] |
//! | every reader deleted when the primary cannot be asked | [`netns_a_primary_down_for_ten_seconds_changes_no_reader`] |
//! | what a former process noted of a server's health is believed after a restart | [`netns_no_health_of_a_former_controller_is_believed`] |
use std::collections::BTreeSet;
use std::thread;

use anyhow::{Result, ensure};
use nix::sys::signal::Signal;
use pgha_common::maps::state;
use pgha_tests::lab::maps::ServiceMaps;
use pgha_tests::lab::{Postgres, PostgresOptions, READER_VIP, SOON, Session, hold_until, wait_for};

use crate::cluster::{Cluster, servers, weight, withheld};

#[test]
fn netns_no_reader_is_missing_under_any_k() -> Result<()> {
    for discovery in ["walsenders", "both"] {
        let cluster = Cluster::prepared(&["db2", "db3"])?;
        cluster.primary.set_guc("synchronous_standby_names", "ANY 1 (db2, db3)")?;
        let edit = format!("discovery = \"{discovery}\"");
        cluster.configure(&[("discovery = \"both\"", &edit)])?;
        cluster.director.start()?;
        cluster.wait_serving(&["db2", "db3"])?;
        for name in ["db2", "db3"] {
            let server = cluster.server(name)?;
            assert_eq!(server["sync_state"], "quorum", "{discovery}: {server:#}");
        }
        let served: BTreeSet<_> = cluster.served(40)?.into_keys().collect();
        assert_eq!(served, BTreeSet::from(["db2".to_owned(), "db3".to_owned()]), "{discovery}");
    }
    Ok(())
}

#[test]
fn netns_a_primary_down_for_ten_seconds_changes_no_reader() -> Result<()> {
    // Side by side: most of it is those ten seconds.
    thread::scope(|scope| {
        let both = ["walsenders", "both"]
            .map(|discovery| scope.spawn(move || down_for_ten_seconds(discovery)));
        both.into_iter().try_for_each(|one| one.join().expect("no panic"))
    })
}

fn down_for_ten_seconds(discovery: &str) -> Result<()> {
    let edit = format!("discovery = \"{discovery}\"");
    let cluster = Cluster::up(&["db2", "db3"], &[("discovery = \"both\"", &edit)])?;
    let sessions = ["db2", "db3"].map(|name| cluster.session_with(name));
    let [on_db2, on_db3] = sessions;
    let (on_db2, on_db3) = (on_db2?, on_db3?);
    let maps = cluster.director.maps(READER_VIP)?;
    let before = (cluster.weights()?, maps.bytes()?);

    // Its host is gone: nothing refuses, everything waits.
    let unchanged = || {
        ensure!(maps.bytes()? == before.1, "the tables changed: {:#?}", cluster.servers()?);
        ensure!(cluster.weights()? == before.0, "{:#?}", cluster.servers()?);
        Ok(())
    };
    cluster.primary.host().link_down()?;
    hold_until("a primary that has been silent for 10 s", SOON, unchanged, || {
        let primary = &cluster.director.status()?["primary"];
        let stale = primary["stale_ms"].as_u64();
        ensure!(stale.is_some_and(|age| age > 10_000), "{primary:#}");
        Ok(Some(()))
    })?;
    for reader in ["10.77.0.12", "10.77.0.13"] {
        let lost = format!("{reader}:5432 gets no new connections");
        assert_eq!(cluster.logged(&lost)?, 0, "{}", cluster.director.log()?);
    }
    assert_eq!((on_db2.server()?, on_db3.server()?), ("db2".to_owned(), "db3".to_owned()));
    assert_eq!(cluster.served(40)?.len(), 2, "{discovery}");

    cluster.primary.host().link_up()?;
    hold_until("the primary to be asked again", SOON, unchanged, || {
        Ok((cluster.director.status()?["primary"]["answers"] == true).then_some(()))
    })?;
    assert_eq!((on_db2.server()?, on_db3.server()?), ("db2".to_owned(), "db3".to_owned()));
    Ok(())
}

/// Nothing but the ids and orders is taken from a former controller: dead or alive is found out anew.
#[test]
fn netns_no_health_of_a_former_controller_is_believed() -> Result<()> {
    let cluster = Cluster::up(&["db2", "db3"], &[])?;
    let db2 = cluster.reader("db2")?;
    let (id, maps) = (cluster.id("db2")?, cluster.director.maps(READER_VIP)?);
    db2.signal_all(Signal::SIGKILL)?;
    db2.wait_stopped(SOON)?;
    wait_for("db2 to be known dead", SOON, || {
        Ok((maps.state(id)? == state::DEAD && !maps.serves(id)?).then_some(()))
    })?;

    // It comes back while nobody looks.
    cluster.director.kill()?;
    wait_for("its orphans to end", SOON, || Ok(db2.processes()?.is_empty().then_some(())))?;
    db2.start()?;
    assert_eq!(maps.state(id)?, state::DEAD);
    cluster.director.start()?;
    cluster.wait_serving(&["db2", "db3"])?;
    assert_eq!(maps.state(id)?, state::ALIVE);
    cluster.session_with("db2").map(drop)?;

    // It goes away while nobody looks.
    cluster.director.kill()?;
    db2.signal_all(Signal::SIGKILL)?;
    db2.wait_stopped(SOON)?;
    assert!(maps.serves(id)?);
    cluster.director.start()?;
    wait_for("db2 to be known dead again", SOON, || {
        Ok((maps.state(id)? == state::DEAD && !maps.serves(id)?).then_some(()))
    })?;
    assert_eq!(cluster.served(12)?.into_keys().collect::<Vec<_>>(), ["db3"]);
    Ok(())
}

/// A second service, of the listed nodes alone, to which db2 does not belong.
const LISTED: (&str, &str) = (
    "\n[[node]]",
    r#"
[[service]]
name = "listed"
vip = "10.77.0.101"
port = 5432
discovery = "direct"

[[node]]"#,
);
const DB2: (&str, &str) = ("\n[[node]]\nname = \"db2\"\naddress = \"10.77.0.12\"\n", "");
const LISTED_VIP: std::net::Ipv4Addr = std::net::Ipv4Addr::new(10, 77, 0, 101);

#[test]
fn netns_a_flap_of_one_server_leaves_every_other_table_alone() -> Result<()> {
    let readers = ["db2", "db3", "db4"];
    let cluster = Cluster::prepared_for(&[READER_VIP.into(), LISTED_VIP.into()], &readers)?;
    cluster.configure(&[("discovery = \"both\"", "discovery = \"walsenders\""), LISTED, DB2])?;
    cluster.director.start()?;
    cluster.wait_serving(&readers)?;
    wait_for("the listed servers to serve", SOON, || {
        let listed = servers(&cluster.director.status()?, "listed")?;
        ensure!(!listed.contains_key("db2"), "{listed:#?}");
        let serve = ["db3", "db4"].iter().all(|name| {
            listed.get(*name).is_some_and(|server| weight(server).is_ok_and(|weight| weight == 1))
        });
        Ok(serve.then_some(()))
    })?;
    let flapping = cluster.director.maps(READER_VIP)?;
    let other = cluster.director.maps(LISTED_VIP)?;
    let bystanders = ["db3", "db4"].map(|name| cluster.session_with(name));
    let listed = Session::open(&cluster.client, LISTED_VIP)?;
    let on_listed = listed.server()?;
    let db2 = cluster.reader("db2")?;
    let flap = Flap { id: cluster.id("db2")?, flapping: &flapping, other: &other };

    flap.run(
        "killed",
        || {
            db2.signal_all(Signal::SIGKILL)?;
            db2.wait_stopped(SOON)
        },
        || start_again(db2),
    )?;
    flap.run("cut off", || db2.host().link_down(), || db2.host().link_up())?;
    flap.run("halted", || db2.signal_all(Signal::SIGSTOP), || db2.signal_all(Signal::SIGCONT))?;
    for (name, session) in ["db3", "db4"].into_iter().zip(bystanders) {
        assert_eq!(session?.server()?, name);
    }
    assert_eq!(listed.server()?, on_listed);
    for name in ["db3", "db4"] {
        let lost =
            format!("{}:5432 gets no new connections", cluster.reader(name)?.host().address());
        assert_eq!(cluster.logged(&lost)?, 0, "{}", cluster.director.log()?);
    }
    Ok(())
}

fn start_again(db: &Postgres) -> Result<()> {
    wait_for("its orphans to end", SOON, || Ok(db.processes()?.is_empty().then_some(())))?;
    db.start()
}

struct Flap<'m> {
    /// The server that flaps, in `flapping`.
    id: u16,
    flapping: &'m ServiceMaps,
    /// The maps of a service that it does not belong to.
    other: &'m ServiceMaps,
}

impl Flap<'_> {
    /// The server leaves and comes back, and whatever is not its own stays as it was.
    fn run(
        &self,
        manner: &str,
        leave: impl FnOnce() -> Result<()>,
        come_back: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        let (table, other) = (self.flapping.table()?, self.other.bytes()?);
        let untouched = || {
            ensure!(self.other.bytes()? == other, "{manner}: the other service's tables changed");
            Ok(())
        };
        ensure!(self.flapping.serves(self.id)?, "{manner}: it serves nobody");
        leave()?;
        hold_until(format_args!("it to be out: {manner}"), SOON, untouched, || {
            Ok((!self.flapping.serves(self.id)?).then_some(()))
        })?;
        let during = self.flapping.table()?;
        let own = table.iter().filter(|slot| **slot == self.id).count();
        let moved = table.iter().zip(&during).filter(|(was, is)| was != is).count();
        // Beyond its own slots, as many as one change may move.
        let excess = moved - own;
        println!("{manner}: {own} slots were its own, {excess} others moved");
        ensure!(excess * 1000 <= table.len() * 3, "{manner}: {excess} slots of others moved");
        come_back()?;
        hold_until(format_args!("it to be back: {manner}"), SOON, untouched, || {
            Ok((self.flapping.table()? == table).then_some(()))
        })
    }
}

/// A reader is held at a chosen place of the WAL by a lock that its replay has to wait for, so that it lags
/// by as much as is written after that.
#[test]
fn netns_a_reader_beyond_the_lag_limit_drains_and_returns_late() -> Result<()> {
    let patient = PostgresOptions::default().guc("max_standby_streaming_delay", "-1");
    let cluster = Cluster::prepared_with(&["db2", "db3"], &patient)?;
    cluster.configure(&[(
        "default_weight = 1",
        "default_weight = 1\nmax_lag_bytes = 4194304\nreturn_lag_bytes = 1048576",
    )])?;
    cluster.director.start()?;
    cluster.wait_serving(&["db2", "db3"])?;
    let (primary, db2) = (&cluster.primary, cluster.reader("db2")?);
    primary.psql("create table held()")?;
    primary.psql("create table held_again()")?;
    wait_for("the tables on db2", SOON, || {
        let tables = db2.psql("select count(*) from pg_class where relname like 'held%'")?;
        Ok((tables == "2").then_some(()))
    })?;
    let session = cluster.session_with("db2")?;
    let [early, late] = ["held", "held_again"].map(|table| -> Result<Session> {
        let holder = Session::open(db2.host(), db2.host().address())?;
        // The lock stays until the transaction ends.
        holder.query(&format!("begin; select count(*) from {table}"))?;
        Ok(holder)
    });
    let (early, late) = (early?, late?);
    let write = |bytes: u32| {
        let sql = format!("select pg_logical_emit_message(true, 'lab', repeat('x', {bytes}))");
        primary.psql(&sql).map(drop)
    };
    let lag = || -> Result<u64> {
        let server = cluster.server("db2")?;
        server["lag_bytes"].as_u64().ok_or_else(|| anyhow::anyhow!("no lag: {server:#}"))
    };
    let server = |weight: u64, reasons: &[&str], between: std::ops::Range<u64>| {
        let what = format!("weight {weight} for {reasons:?} at a lag in {between:?}");
        wait_for(what, SOON, || {
            let server = cluster.server("db2")?;
            let lag = lag()?;
            ensure!(self::weight(&server)? == weight && withheld(&server) == reasons, "{server:#}");
            ensure!(between.contains(&lag), "{lag}");
            Ok(Some(()))
        })
    };

    // Behind, and not too far: between the two limits it goes on.
    primary.psql("drop table held")?;
    write(2 << 20)?;
    server(1, &[], 1 << 20..4 << 20)?;
    // Too far behind.
    primary.psql("drop table held_again")?;
    write(3 << 20)?;
    server(0, &["lagging"], 4 << 20..16 << 20)?;
    assert_eq!(session.server()?, "db2");
    assert_eq!(cluster.served(20)?.into_keys().collect::<Vec<_>>(), ["db3"]);
    let status = String::from_utf8(cluster.director.pgha(["status"])?.stdout)?;
    assert!(status.contains("lag"), "{status}");

    // Nearer, between the limits again: it stays out, for many rounds.
    early.query("select 1; commit")?;
    server(0, &["lagging"], 1 << 20..4 << 20)?;
    let stays_out = || {
        let seen = cluster.server("db2")?;
        ensure!(weight(&seen)? == 0 && withheld(&seen) == ["lagging"], "{seen:#}");
        Ok(())
    };
    let mut rounds = 0;
    hold_until("twenty looks at it between the limits", SOON, stays_out, || {
        let lag = lag()?;
        ensure!((1 << 20..4 << 20).contains(&lag), "{lag}");
        rounds += 1;
        Ok((rounds == 20).then_some(()))
    })?;
    assert_eq!(session.server()?, "db2");

    late.query("select 1; commit")?;
    server(1, &[], 0..1 << 20)?;
    assert_eq!(session.server()?, "db2");
    cluster.session_with("db2").map(drop)?;
    assert_eq!(cluster.logged("10.77.0.13:5432 gets no new connections")?, 0);
    Ok(())
}
