//! A store in a real etcd of three members: the same tests as of every store, while its members fail; and what
//! only etcd can do to its clients.
use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures_util::future::join_all;
use pgha_ctl::store::{CasError, Etcd, EtcdError, Key, Mark, Reading, Store, StoreError, change};
use pgha_tests::lab::etcd::{Access, Members, program};
use pgha_tests::lab::{Host, Lab};
use pgha_tests::skip::skipped;
use pgha_tests::store::{Harness, conformance};

const HOSTS: [&str; 3] = ["etcd1", "etcd2", "etcd3"];
/// How long the whole suite may take: each test of it begins with an etcd of its own.
const LONG: Duration = Duration::from_secs(900);
/// With which request of its clients a member fails: when something is there already, and more is to come.
const MIDDLE: usize = 3;

/// How often the leader is killed and a member cut off while others write.
const ROUNDS: usize = 3;
/// Who write at once.
const WRITERS: usize = 3;

/// What happens to a member in the middle of each test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    /// SIGKILL, to the one that the clients ask first, which does not lead.
    KillFollower,
    /// SIGKILL.
    KillLeader,
    /// Its cable is pulled.
    CutOff,
}

/// A lab with an etcd, or nothing where there is none to be had, which is told.
fn etcd(test: &str) -> Result<Option<(Lab, Members, Host)>> {
    etcd_for(test, Access::Certificates)
}

fn etcd_for(test: &str, access: Access) -> Result<Option<(Lab, Members, Host)>> {
    let Some(program) = program() else {
        skipped(
            test,
            "there is no etcd; `cargo xtask setup` installs Debian's where it can be had",
        )?;
        return Ok(None);
    };
    let lab = Lab::new()?;
    let client = lab.host("client")?;
    let members = Members::start_for(&lab, &program, &HOSTS, &["client"], access)?;
    Ok(Some((lab, members, client)))
}

/// Runs a future on a thread inside a host.
fn inside<T: Send>(host: &Host, task: impl AsyncFnOnce() -> Result<T> + Send) -> Result<T> {
    host.inside(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async { tokio::time::timeout(LONG, task()).await })?
    })
}

/// An etcd as the conformance tests handle it.
struct Real {
    lab: Arc<Lab>,
    members: Arc<Members>,
    client: Host,
    failing: Arc<Failing>,
}

/// A member that fails with the request of that number.
struct Failing {
    members: Arc<Members>,
    host: Host,
    fault: Fault,
    requests: AtomicUsize,
    /// Who has it fail.
    hand: Mutex<Option<JoinHandle<()>>>,
}

impl Failing {
    /// Another request is about to be made: the fault comes while it is under way.
    fn request(self: &Arc<Self>) {
        if self.fault == Fault::None || self.requests.fetch_add(1, Ordering::SeqCst) + 1 != MIDDLE {
            return;
        }
        let this = Arc::clone(self);
        let hand = thread::spawn(move || match this.fault {
            Fault::None => {}
            Fault::KillFollower | Fault::KillLeader => {
                this.members.kill(this.host.name()).expect("a member that runs");
            }
            Fault::CutOff => this.host.link_down().expect("a cable"),
        });
        *self.hand.lock().expect("no panic") = Some(hand);
    }

    /// Waits for the fault to be over, and says whether there was one where there should be.
    fn happened(&self) -> bool {
        let hand = self.hand.lock().ok().and_then(|mut hand| hand.take());
        self.fault == Fault::None || hand.is_some_and(|hand| hand.join().is_ok())
    }
}

impl Drop for Real {
    fn drop(&mut self) {
        // A fault that is under way would be one of the next test.
        let happened = self.failing.happened();
        assert!(
            std::thread::panicking() || happened,
            "{:?} of {} did not happen in a test",
            self.failing.fault,
            self.failing.host.name()
        );
    }
}

impl Real {
    /// An empty etcd whose members all run.
    fn make(lab: &Arc<Lab>, members: &Arc<Members>, fault: Fault) -> Result<Self> {
        members.hosts().try_for_each(Host::link_up)?;
        members.wipe()?;
        members.start_all()?;
        let client = lab.host("client")?;
        let leader = members.leader(&client)?;
        // The clients ask the first endpoint first.
        let first = members.hosts().find(|host| match fault {
            Fault::KillLeader => host.name() == leader,
            Fault::None | Fault::KillFollower | Fault::CutOff => host.name() != leader,
        });
        let failing = Failing {
            members: Arc::clone(members),
            host: first.context("such a member")?.clone(),
            fault,
            requests: AtomicUsize::new(0),
            hand: Mutex::default(),
        };
        let (lab, members) = (Arc::clone(lab), Arc::clone(members));
        Ok(Self { lab, members, client, failing: Arc::new(failing) })
    }

    fn seen(&self) -> PathBuf {
        static COUNTER: AtomicUsize = AtomicUsize::new(0);
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        self.lab.directory().join(format!("client-{number}.seen"))
    }
}

impl Harness for Real {
    type Store = Settled;

    async fn client(&self) -> Settled {
        let store = self.members.client(&self.client, &self.seen()).expect("settings");
        Settled { store, failing: Arc::clone(&self.failing) }
    }

    async fn restart(&mut self) {
        self.members.kill_all().expect("an end");
        self.members.start_all().expect("a start");
    }

    async fn replace(&mut self) {
        self.members.wipe().expect("an end");
        self.members.start_all().expect("a start");
    }
}

/// The store of somebody who asks again where etcd had no leader or no time, as a machine under load has it, and
/// who reads back what is not known.
#[derive(Clone)]
struct Settled {
    store: Etcd,
    failing: Arc<Failing>,
}

/// Whether asking again may be answered.
fn passes(error: &StoreError) -> bool {
    use EtcdError::{Connect, Late, Lost, NotMost, Refused};
    matches!(
        error,
        StoreError::Etcd(
            Connect { .. } | Late { .. } | Lost { .. } | NotMost { .. } | Refused { .. }
        )
    )
}

impl Settled {
    async fn read(&self, key: &Key) -> Result<Reading, StoreError> {
        loop {
            match self.store.get(key).await {
                Err(error) if passes(&error) => {}
                answered => return answered,
            }
        }
    }
}

impl Store for Settled {
    async fn get(&self, key: &Key) -> Result<Reading, StoreError> {
        self.failing.request();
        self.read(key).await
    }

    async fn cas(&self, key: &Key, expected: Mark, value: Vec<u8>) -> Result<Mark, CasError> {
        let before = self.read(key).await.map_err(CasError::Failed)?.mark;
        self.failing.request();
        loop {
            let unknown = match self.store.cas(key, expected, value.clone()).await {
                Err(CasError::Unknown(error)) => error,
                Err(CasError::Failed(error)) if passes(&error) => continue,
                known => return known,
            };
            let now = self.read(key).await.map_err(CasError::Unknown)?;
            if before != expected {
                return Err(CasError::Conflict(now.mark));
            } else if now.mark == expected {
                continue;
            } else if now.value.as_ref() == Some(&value) {
                return Ok(now.mark);
            }
            // Made, and replaced by somebody else; or forestalled.
            return Err(CasError::Unknown(unknown));
        }
    }

    async fn watch(&self, key: &Key, seen: Mark) -> Result<Reading, StoreError> {
        loop {
            match self.store.watch(key, seen).await {
                Err(error) if passes(&error) => {}
                answered => return answered,
            }
        }
    }
}

fn conforms(test: &str, fault: Fault) -> Result<()> {
    let Some((lab, members, client)) = etcd(test)? else { return Ok(()) };
    let (lab, members) = (Arc::new(lab), Arc::new(members));
    inside(&client, async || {
        conformance::all(async || Real::make(&lab, &members, fault).expect("an etcd")).await;
        Ok(())
    })
}

#[test]
fn netns_etcd_is_a_store() -> Result<()> {
    conforms("netns_etcd_is_a_store", Fault::None)
}

#[test]
fn netns_etcd_is_a_store_while_a_member_is_killed() -> Result<()> {
    conforms("netns_etcd_is_a_store_while_a_member_is_killed", Fault::KillFollower)
}

#[test]
fn netns_etcd_is_a_store_while_its_leader_is_killed() -> Result<()> {
    conforms("netns_etcd_is_a_store_while_its_leader_is_killed", Fault::KillLeader)
}

#[test]
fn netns_etcd_is_a_store_while_a_member_is_cut_off() -> Result<()> {
    conforms("netns_etcd_is_a_store_while_a_member_is_cut_off", Fault::CutOff)
}

#[test]
fn netns_etcd_that_went_back_is_told_from_the_one_before() -> Result<()> {
    let test = "netns_etcd_that_went_back_is_told_from_the_one_before";
    let Some((lab, members, client)) = etcd(test)? else { return Ok(()) };
    members.leader(&client)?;
    let (seen, backup) = (lab.directory().join("a.seen"), lab.directory().join("backup"));
    let settings = members.settings(&client, &seen)?;
    let (key, name): (Key, _) = ("a".parse()?, "lab".parse()?);
    let running = Etcd::new(&settings, &name);

    let [early, late] = inside(&client, async || {
        let nothing = running.get(&key).await?;
        let early = running.cas(&key, nothing.mark, b"early".into()).await?;
        members.etcdctl(&client, &["snapshot", "save"])?.args([&backup]).run()?;
        let late = running.cas(&key, early, b"late".into()).await?;
        running.tend().await?;
        Ok([early, late])
    })?;

    // The backup, in a cluster that etcd itself cannot tell from the one before.
    members.restore(&backup, "first")?;
    members.leader(&client)?;
    inside(&client, async || {
        for store in [&running, &Etcd::new(&settings, &name)] {
            let error = store.get(&key).await.expect_err("it went back").to_string();
            ensure!(error.contains("it went back, as when a backup is restored"), "{error}");
            ensure!(error.contains(&format!("remove {}", seen.display())), "{error}");
            let refused = store.cas(&key, late, b"x".into()).await.expect_err("it went back");
            ensure!(matches!(refused, CasError::Failed(_)), "{refused:?}");
        }
        // Who has never seen it cannot know.
        let stranger = members.client(&client, &lab.directory().join("b.seen"))?;
        let reading = stranger.get(&key).await?;
        ensure!((reading.mark, reading.value) == (early, Some(b"early".to_vec())));
        Ok(())
    })?;

    // And in one that it can tell: what was read before is good for nothing there.
    members.restore(&backup, "second")?;
    members.leader(&client)?;
    inside(&client, async || {
        let error = running.get(&key).await.expect_err("another cluster").to_string();
        ensure!(error.contains("see that store.endpoints names members of one etcd"), "{error}");
        let new = Etcd::new(&settings, &name);
        let reading = new.get(&key).await?;
        ensure!(reading.value.as_deref() == Some(b"early"), "{reading:?}");
        ensure!(reading.mark.incarnation != early.incarnation, "{reading:?}");
        let refused = new.cas(&key, early, b"x".into()).await.expect_err("another store");
        ensure!(
            matches!(refused, CasError::Conflict(found) if found == reading.mark),
            "{refused:?}"
        );
        Ok(())
    })
}

/// Numbers, each put once by somebody, in the order in which they were put.
fn numbers(value: &[u8]) -> Vec<u32> {
    let text = str::from_utf8(value).expect("text");
    text.split_whitespace().map(|number| number.parse().expect("a number")).collect()
}

/// Puts number after number behind those that are there, until told to stop; returns those that were answered.
async fn append(store: &Etcd, key: &Key, first: u32, stop: &AtomicBool) -> Vec<u32> {
    let mut answered = Vec::new();
    for number in (first..).step_by(WRITERS) {
        if stop.load(Ordering::SeqCst) {
            break;
        }
        let changed = change(store, key, |found| {
            let mut text = found.value.clone().unwrap_or_default();
            // It names itself, so that one whose answer was lost is seen to have been made.
            if !numbers(&text).contains(&number) {
                text.extend_from_slice(format!(" {number}").as_bytes());
            }
            Ok::<_, std::fmt::Error>(text)
        });
        if changed.await.is_ok() {
            answered.push(number);
        }
    }
    answered
}

/// Follows a key until told to stop, and then to what is there; returns all that it saw.
async fn follow(store: &Etcd, key: &Key, stop: &AtomicBool) -> Result<Vec<Vec<u32>>> {
    let (mut seen, mut all) = (store.get(key).await?.mark, Vec::new());
    while !stop.load(Ordering::SeqCst) {
        let watched = tokio::time::timeout(Duration::from_millis(200), store.watch(key, seen));
        if let Ok(Ok(reading)) = watched.await {
            ensure!(reading.mark.is_after(seen), "{} after {seen}", reading.mark);
            seen = reading.mark;
            all.push(numbers(&reading.value.unwrap_or_default()));
        }
    }
    Ok(all)
}

/// Kills and cuts off one member after the other, and the leader too, while the others write on.
fn disturb(members: &Members, client: &Host) -> Result<()> {
    for round in 0..ROUNDS {
        let leader = members.leader(client)?;
        members.kill(&leader)?;
        // Most of them are left, so writes go on; one that is back may lead again.
        members.start_all()?;
        members.leader(client)?;
        let cut = members.hosts().nth(round % HOSTS.len()).context("a member")?;
        cut.link_down()?;
        let others: Vec<_> = members.hosts().filter(|host| host.name() != cut.name()).collect();
        members.leader_among(client, &others)?;
        cut.link_up()?;
    }
    members.leader(client).map(drop)
}

#[test]
fn netns_etcd_loses_nothing_that_was_answered() -> Result<()> {
    let test = "netns_etcd_loses_nothing_that_was_answered";
    let Some((lab, members, client)) = etcd(test)? else { return Ok(()) };
    members.leader(&client)?;
    let (key, stop): (Key, _) = ("a".parse()?, AtomicBool::new(false));
    let store = |name: &str| members.client(&client, &lab.directory().join(name));
    let stores = [store("0.seen")?, store("1.seen")?, store("2.seen")?];
    let watcher = store("w.seen")?;
    // A store is made where most members answer, so before any of them is disturbed.
    inside(&client, async || Ok(watcher.get(&key).await?))?;
    let (answered, watched) = std::thread::scope(|scope| {
        let disturbing = scope.spawn(|| {
            let disturbed = disturb(&members, &client);
            stop.store(true, Ordering::SeqCst);
            disturbed
        });
        let used = inside(&client, async || {
            let writers =
                stores.iter().zip(0..).map(|(store, first)| append(store, &key, first, &stop));
            let (answered, watched) =
                tokio::join!(join_all(writers), follow(&watcher, &key, &stop));
            Ok((answered.concat(), watched?))
        });
        disturbing.join().expect("no panic")?;
        used
    })?;
    let last = inside(&client, async || Ok(watcher.get(&key).await?.value.context("a value")?))?;
    let last = numbers(&last);
    let each: BTreeSet<_> = last.iter().collect();
    ensure!(each.len() == last.len(), "twice there: {last:?}");
    let lost: Vec<_> = answered.iter().filter(|number| !each.contains(number)).collect();
    ensure!(lost.is_empty(), "answered and lost: {lost:?}");
    // Whatever was seen is a beginning of what came of it.
    ensure!(watched.is_sorted_by(|before, after| after.starts_with(before)), "{watched:?}");
    ensure!(watched.iter().all(|seen| last.starts_with(seen)), "{watched:?}");
    ensure!(answered.len() > ROUNDS && watched.len() > ROUNDS, "nothing happened: {answered:?}");
    eprintln!(
        "{} answered, {} there, {} seen by the watcher",
        answered.len(),
        last.len(),
        watched.len()
    );
    Ok(())
}

#[test]
fn netns_etcd_asks_who_it_is() -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let test = "netns_etcd_asks_who_it_is";
    let Some((lab, members, client)) = etcd_for(test, Access::Users)? else { return Ok(()) };
    members.leader(&client)?;
    for arguments in [
        &["user", "add", "root:boss"][..],
        &["user", "grant-role", "root", "root"],
        &["role", "add", "pgha"],
        &["role", "grant-permission", "pgha", "readwrite", "--prefix=true", "/pgha/lab/"],
        &["user", "add", "pgha:secret"],
        &["user", "grant-role", "pgha", "pgha"],
        &["auth", "enable"],
    ] {
        members.etcdctl(&client, arguments)?.run()?;
    }
    let password = lab.directory().join("password");
    let settings = |of: &str, user: &str| {
        fs::write(&password, format!("{of}\n"))?;
        fs::set_permissions(&password, fs::Permissions::from_mode(0o600))?;
        let file = password.display();
        let user = format!("user = {user:?}\npassword_file = \"{file}\"\n");
        members.settings_with(&client, &lab.directory().join("seen"), &user)
    };
    let key: Key = "a".parse()?;
    let (name, stranger) = ("lab".parse()?, members.client(&client, &lab.directory().join("s"))?);
    let wrong = Etcd::new(&settings("guess", "pgha")?, &name);
    inside(&client, async || {
        let error = stranger.get(&key).await.expect_err("nobody").to_string();
        ensure!(error.contains("user name is empty"), "{error}");
        let error = wrong.get(&key).await.expect_err("a wrong password").to_string();
        ensure!(error.contains("authentication failed"), "{error}");
        Ok(())
    })?;

    let own = Etcd::new(&settings("secret", "pgha")?, &name);
    let other = Etcd::new(&settings("secret", "pgha")?, &"other".parse()?);
    let mark = inside(&client, async || {
        let mark = own.cas(&key, own.get(&key).await?.mark, b"one".into()).await?;
        let error = other.get(&key).await.expect_err("not its own").to_string();
        ensure!(error.contains("permission denied"), "{error}");
        Ok(mark)
    })?;
    // Members that start anew know no token of before.
    members.kill_all()?;
    members.start_all()?;
    inside(&client, async || {
        let next = own.cas(&key, own.get(&key).await?.mark, b"two".into()).await?;
        ensure!(next.is_after(mark) && next.incarnation == mark.incarnation, "{next} after {mark}");
        Ok(())
    })?;
    Ok(())
}
