//! Two directors whose orders are in one etcd.
use std::collections::BTreeSet;
use std::ffi::OsStr;

use anyhow::{Context as _, Result, bail, ensure};
use pgha_ctl::check::{Check, Level, Report};
use pgha_tests::lab::etcd::{Members, program};
use pgha_tests::lab::{Director, Lab, READER_VIP, SOON, config, wait_for};
use pgha_tests::skip::skipped;
use serde_json::Value;

use crate::cluster::{Cluster, edited, servers, success, withheld};

const HOSTS: [&str; 3] = ["etcd1", "etcd2", "etcd3"];
/// Checks may be late on a machine of tests, which is remarked upon where they may be later than they are frequent.
const CALM: (&str, &str) = ("interval = \"200ms\"", "interval = \"1s\"");

struct Two {
    cluster: Cluster,
    second: Director,
    members: Members,
}

impl Two {
    /// lb1 and lb2 serve db2 and db3, and an etcd holds their orders; nothing where there is no etcd.
    fn up(test: &str) -> Result<Option<Self>> {
        let Some(program) = program() else {
            skipped(
                test,
                "there is no etcd; `cargo xtask setup` installs Debian's where it can be had",
            )?;
            return Ok(None);
        };
        let lab = Lab::new()?;
        lab.hosts(&["lb1", "lb2"])?;
        let members = Members::start(&lab, &program, &HOSTS, &["lb1", "lb2"])?;
        let cluster = Cluster::prepared_in(lab, &[READER_VIP.into()], &["db2", "db3"])?;
        let second = cluster.lab.director("lb2")?;
        members.leader(cluster.director.host())?;
        for director in [&cluster.director, &second] {
            let seen = director.store_path().with_extension("seen");
            let local = format!("[store]\npath = \"{}\"\n", director.store_path().display());
            let shared = members.section(director.host(), &seen);
            let text = config::basic(&cluster.lab, director, &["db1"])?;
            director.write_config(&edited(text, &[(&local, &shared), CALM])?)?;
            director.start()?;
        }
        Ok(Some(Self { cluster, second, members }))
    }

    fn directors(&self) -> [&Director; 2] {
        [&self.cluster.director, &self.second]
    }

    /// Waits until both say of db2 that it is drained by that user, or not at all.
    fn wait_drained(&self, by: Option<&str>) -> Result<()> {
        for director in self.directors() {
            let what = format!("db2 to be drained by {by:?} on {}", director.host().name());
            wait_for(what, SOON, || {
                let db2 = of(director, "db2")?;
                let is = (db2["drained"]["by"].as_str(), withheld(&db2).contains(&"drained"));
                ensure!(is == (by, by.is_some()), "{db2:#}");
                Ok(Some(()))
            })?;
        }
        Ok(())
    }

    fn wait_answers(&self, answers: bool) -> Result<()> {
        for director in self.directors() {
            let what = format!("the store to answer {}: {answers}", director.host().name());
            wait_for(what, SOON * 2, || {
                let store = &director.status()?["store"];
                ensure!(store["answers"] == answers, "{store:#}");
                Ok(Some(()))
            })?;
        }
        Ok(())
    }
}

/// What a director says of one server.
fn of(director: &Director, name: &str) -> Result<Value> {
    let mut all = servers(&director.status()?, "reader")?;
    all.remove(name).with_context(|| format!("{name} is no member"))
}

/// The checks of the store that `pgha check` makes on that director.
fn checks(two: &Two, director: &Director) -> Result<Vec<Check>> {
    let state = two.cluster.lab.directory().join("state");
    let arguments =
        [OsStr::new("check"), "--json".as_ref(), "--state-dir".as_ref(), state.as_ref()];
    let output = director.pgha(arguments)?;
    let report: Report = serde_json::from_slice(&output.stdout)
        .with_context(|| String::from_utf8_lossy(&output.stderr).into_owned())?;
    let mut checks = report.checks;
    checks.retain(|check| check.id.starts_with("store"));
    Ok(checks)
}

/// Of what was asked of etcd itself: as a whole, and of each of three members. What the controller says of it
/// comes last, and later.
fn levels(checks: &[Check]) -> Vec<Level> {
    checks.iter().take(4).map(|check| check.level).collect()
}

#[test]
fn netns_directors_share_their_orders_in_an_etcd() -> Result<()> {
    let test = "netns_directors_share_their_orders_in_an_etcd";
    let Some(two) = Two::up(test)? else { return Ok(()) };
    let [first, second] = two.directors();

    // What is set on one is in force on both, with who set it and when.
    success(first.pgha(["drain", "db2"])?)?;
    two.wait_drained(Some("root"))?;
    let at =
        two.directors().map(|director| of(director, "db2").map(|db2| db2["drained"]["at"].clone()));
    let [one, other] = at;
    let (one, other) = (one?, other?);
    ensure!(one.is_u64() && one == other, "{one} and {other}");
    let stores = [first.status()?["store"].clone(), second.status()?["store"].clone()];
    assert_eq!(stores[0]["kind"], "etcd");
    assert_eq!(stores[0]["endpoints"].as_array().map(Vec::len), Some(3), "{}", stores[0]);
    assert_eq!(
        [&stores[0]["incarnation"], &stores[0]["revision"]],
        [&stores[1]["incarnation"], &stores[1]["revision"]]
    );
    let log = second.log()?;
    assert!(log.contains("root drained 10.77.0.12 behind 10.77.0.100:5432"), "{log}");

    // The leader is lost: what is set elsewhere still arrives.
    let leader = two.members.leader(first.host())?;
    two.members.kill(&leader)?;
    wait_for("an order to be taken by the others", SOON, || {
        let output = second.pgha(["undrain", "db2"])?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(Some(()))
    })?;
    two.wait_drained(None)?;
    two.members.start_all()?;
    Ok(())
}

#[test]
fn netns_directors_go_on_without_their_etcd() -> Result<()> {
    let test = "netns_directors_go_on_without_their_etcd";
    let Some(two) = Two::up(test)? else { return Ok(()) };
    let [first, second] = two.directors();
    success(first.pgha(["weight", "db3", "3"])?)?;
    success(first.pgha(["drain", "db2"])?)?;
    two.wait_drained(Some("root"))?;
    two.members.kill_all()?;
    two.wait_answers(false)?;

    // Fail static: what is known stays, and nothing new is taken.
    let refused = first.pgha(["undrain", "db2"])?;
    let said = String::from_utf8(refused.stderr)?;
    assert!(!refused.status.success() && said.contains("not kept, so not in force: "), "{said}");
    two.wait_drained(Some("root"))?;
    // Nor is it forgotten by a controller that starts meanwhile: the data plane knows all but who it was.
    second.kill()?;
    second.start()?;
    wait_for("lb2 to go on with what its maps remember", SOON, || {
        let (db2, db3) = (of(second, "db2")?, of(second, "db3")?);
        let weights = (&db2["effective_weight"], &db3["effective_weight"]);
        ensure!(weights == (&0.into(), &3.into()) && withheld(&db2) == ["drained"], "{db2:#}");
        Ok(Some(()))
    })?;

    two.members.start_all()?;
    two.wait_answers(true)?;
    two.wait_drained(Some("root"))?;
    success(second.pgha(["undrain", "db2"])?)?;
    two.wait_drained(None)?;
    let db3 = of(first, "db3")?;
    assert_eq!((&db3["weight"], &db3["weight_set"]["by"]), (&3.into(), &"root".into()), "{db3:#}");
    Ok(())
}

#[test]
fn netns_check_says_how_an_etcd_is() -> Result<()> {
    let Some(two) = Two::up("netns_check_says_how_an_etcd_is")? else { return Ok(()) };
    let [first, _] = two.directors();
    let leader = two.members.leader(first.host())?;
    let address = two.cluster.lab.host(&leader)?.address();
    let wait_levels = |wanted: &[&[Level]]| {
        wait_for(format_args!("one of {wanted:?}"), SOON, || {
            let checks = checks(&two, first)?;
            if !wanted.contains(&&*levels(&checks)) {
                bail!("{checks:#?}");
            }
            Ok(Some(checks))
        })
    };
    use Level::{Fail, Ok as Well, Warn};
    // On a slow disk a read may take longer than is well.
    let well = wait_levels(&[&[Well; 4]])?;
    let told = &well[0].found;
    assert_eq!(well.last().map(|check| &*check.found), Some("it answers the controller"));
    assert!(told.starts_with("3 of 3 serve reads, 2 are needed; "), "{told}");
    assert!(told.contains(&format!("https://{address}:2379 leads")), "{told}");

    two.members.kill(&leader)?;
    let one_down = BTreeSet::from(["store", "store-member"]);
    let checks = wait_for("one member to be told as down", SOON, || {
        let checks = checks(&two, first)?;
        let warned: BTreeSet<_> =
            checks.iter().filter(|c| c.level == Warn).map(|c| &*c.id).collect();
        ensure!(warned == one_down && !levels(&checks).contains(&Fail), "{checks:#?}");
        ensure!(checks[0].found.starts_with("2 of 3 serve reads"), "{checks:#?}");
        Ok(Some(checks))
    })?;
    let down = checks.iter().find(|check| check.of.contains(&address.to_string()));
    assert!(down.is_some_and(|check| check.found.contains("no connection to")), "{checks:#?}");

    two.members.kill_all()?;
    let none = wait_levels(&[&[Fail, Warn, Warn, Warn]])?;
    assert!(none[0].found.contains("none of them serves a linearizable read"), "{none:#?}");
    Ok(())
}
