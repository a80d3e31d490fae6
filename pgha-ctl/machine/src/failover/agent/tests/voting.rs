//! Changing the voters (S3).

use super::*;
use crate::failover::fixture::{STRICT, set};
use crate::failover::record::{Doubt, Mode};

/// `b` is the primary of epoch 2 since [`NOW`], with `c` as its voter.
fn voting(mode: Mode, sets: &[VoterSet]) -> Play {
    let mut record = Record { mode, ..holder() };
    record.voters.sets = sets.to_vec();
    let mut play = Play::begin(kept(2, None), primary(NOW + 500, true));
    play.effects();
    play.at(NOW).reads(&record);
    play.ends(Outcome::Flushed(Lsn::new(150)));
    play.done();
    play
}

fn standbys(flushed: &[(&str, u64)]) -> Event {
    Event::Standbys(flushed.iter().map(|(node, lsn)| (name(node), Lsn::new(*lsn))).collect())
}

impl Play {
    /// What it does in so many milliseconds, without reports, where the store answers at once.
    fn goes_on(&mut self, milliseconds: u64) -> Vec<String> {
        let mut all = Vec::new();
        for _ in 0..milliseconds / 10 {
            self.now = self.now + Duration::from_millis(10);
            let mut told = self.does(Event::Tick);
            while !told.is_empty() {
                let put = told.contains("put ");
                let parts = told.split("; ").filter(|part| !part.starts_with("tell"));
                all.extend(parts.map(ToOwned::to_owned));
                told = if put { self.done() } else { String::new() };
            }
        }
        let renewal = |told: &String| {
            told.starts_with("arm ") || !told.contains(", ") && told.starts_with("put renewal")
        };
        all.retain(|told| !renewal(told));
        all
    }
}

/// What a write changes besides the lease.
fn besides(put: &str) -> &str {
    put.split_once(", ").unwrap().1
}

#[test]
fn a_change_goes_step_by_step() {
    let mut play = voting(SYNC, &[set(&["c"], 1)]);
    play.does(standbys(&[("a", 150), ("c", 150)]));
    // It must be right for long enough.
    assert_eq!(play.goes_on(290), [] as [&str; 0]);
    // Announced first; PostgreSQL is changed only when that is in the record.
    let steps = play.goes_on(50);
    assert_eq!(steps.len(), 2, "{steps:?}");
    assert_eq!(besides(&steps[0]), "voters 1 of {c} then 1 of {a c}");
    assert_eq!(steps[1], "use 1 of {a c}");
    // PostgreSQL uses the new set, and its flush position was read after that: nobody has that yet.
    play.ends(Outcome::Flushed(Lsn::new(200)));
    assert_eq!(play.goes_on(500), [] as [&str; 0]);
    play.does(standbys(&[("a", 199), ("c", 199)]));
    assert_eq!(play.goes_on(100), [] as [&str; 0]);
    let told = play.does(standbys(&[("a", 200), ("c", 199)]));
    assert_eq!(besides(told.split("; ").next().unwrap()), "voters 1 of {a c}, floor 2:200");
    play.done();
    assert_eq!(play.goes_on(1000), [] as [&str; 0]);
}

#[test]
fn who_comes_and_goes_changes_nothing() {
    let mut play = voting(SYNC, &[set(&["c"], 1)]);
    for _ in 0..5 {
        play.does(standbys(&[("a", 150), ("c", 150)]));
        assert_eq!(play.goes_on(200), [] as [&str; 0]);
        play.does(standbys(&[("c", 150)]));
        assert_eq!(play.goes_on(200), [] as [&str; 0]);
    }
    // Nobody but members.
    play.does(standbys(&[("c", 150), ("x", 150)]));
    assert_eq!(play.goes_on(1000), [] as [&str; 0]);
}

#[test]
fn a_change_that_does_not_end_is_followed_by_another() {
    let mut play = voting(SYNC, &[set(&["c"], 1)]);
    play.does(standbys(&[("a", 150)]));
    let steps = play.goes_on(350);
    assert_eq!(besides(&steps[0]), "voters 1 of {c} then 1 of {a}");
    play.ends(Outcome::Flushed(Lsn::new(200)));
    // `a` flushes nothing, and `c` is back.
    play.does(standbys(&[("c", 150)]));
    let steps = play.goes_on(350);
    assert_eq!(besides(&steps[0]), "voters 1 of {a} then 1 of {c}");
    assert_eq!(steps[1], "use 1 of {c}");
    play.ends(Outcome::Flushed(Lsn::new(210)));
    // What the last set has ends all of it.
    play.does(standbys(&[("c", 209)]));
    assert_eq!(play.goes_on(100), [] as [&str; 0]);
    let told = play.does(standbys(&[("c", 210)]));
    assert_eq!(besides(told.split("; ").next().unwrap()), "voters 1 of {c}, floor 2:210");
}

#[test]
fn the_first_set_is_not_settled_before_postgresql_is_known_to_use_it() {
    let mut play = voting(SYNC, &[set(&["a"], 1), set(&["c"], 1)]);
    // The agent found it running: it sets the voters, and reads the position after that.
    let told = play.does(standbys(&[("c", 150)]));
    assert_eq!(besides(told.split("; ").next().unwrap()), "voters 1 of {c}, floor 2:150");
    let mut play = Play::begin(kept(2, None), primary(NOW + 500, true));
    play.effects();
    let changing = holder().announce(&name("b"), set(&["a"], 1)).unwrap();
    play.does(standbys(&[("a", 900), ("c", 900)]));
    let told = play.at(NOW).reads(&changing);
    assert_eq!(told, "use 1 of {a}; put renewal 1 of b run 20 at 150; claim in 2; tell");
}

#[test]
fn while_the_voters_are_frozen_nothing_changes() {
    let mut play = voting(SYNC, &[set(&["c"], 1), set(&["a"], 1)]);
    let suspected = frozen(play.agent.record().unwrap());
    play.hears_of(&suspected);
    play.does(standbys(&[("a", 900)]));
    assert_eq!(play.goes_on(900), [] as [&str; 0]);
}

#[test]
fn sync_waits_for_nobody_when_there_is_nobody_and_comes_back() {
    let mut play = voting(SYNC, &[set(&["c"], 1)]);
    play.does(standbys(&[]));
    let steps = play.goes_on(350);
    assert_eq!(besides(&steps[0]), "voters 1 of {c} then 0 of {}, degraded from 150");
    assert_eq!(steps[1], "use 0 of {}");
    let told = play.ends(Outcome::Flushed(Lsn::new(200)));
    assert_eq!(besides(told.split("; ").next().unwrap()), "voters 0 of {}, floor 2:200");
    play.done();
    play.does(standbys(&[("c", 100)]));
    let steps = play.goes_on(350);
    assert_eq!(besides(&steps[0]), "voters 0 of {} then 1 of {c}");
    assert_eq!(steps[1], "use 1 of {c}");
    play.ends(Outcome::Flushed(Lsn::new(220)));
    // A candidate must have what was acknowledged alone.
    assert_eq!(play.goes_on(100), [] as [&str; 0]);
    let told = play.does(standbys(&[("c", 220)]));
    assert_eq!(
        besides(told.split("; ").next().unwrap()),
        "voters 1 of {c}, floor 2:220, degraded from 150 to 220"
    );
}

#[test]
fn strict_shrinks_to_its_quorum_and_never_below() {
    let mut play = voting(STRICT, &[set(&["a", "c"], 1)]);
    play.does(standbys(&[("c", 150)]));
    let steps = play.goes_on(350);
    assert_eq!(besides(&steps[0]), "voters 1 of {a c} then 1 of {c}");
    play.ends(Outcome::Flushed(Lsn::new(150)));
    play.done();
    play.does(standbys(&[]));
    assert_eq!(play.goes_on(2000), [] as [&str; 0]);
    let two = Mode::Strict { quorum: 2 };
    let mut play = voting(two, &[set(&["a", "c"], 2)]);
    play.does(standbys(&[("c", 150)]));
    assert_eq!(play.goes_on(2000), [] as [&str; 0]);
}

#[test]
fn who_is_no_primary_wishes_nothing() {
    let mut play = Play::begin(kept(1, None), standby(Some("a")));
    play.effects();
    play.at(NOW).reads(&cluster(SYNC));
    play.does(standbys(&[("c", 900)]));
    assert!(!play.at(NOW + 900).does(Event::Tick).contains("put"));
}

#[test]
fn a_doubt_ends_with_a_position_that_was_read_after_it() {
    let doubted = || holder().doubt(&name("b"), &[doubt()].into()).unwrap();
    let doubt_ends = |play: &mut Play| play.does(Event::Doubts(BTreeSet::new()));
    // The agent began in the middle of it, and had set the voters by the time it looked.
    let mut play = Play::begin(kept(2, None), primary(NOW + 500, true));
    play.effects();
    play.does(standbys(&[("c", 900)]));
    let told = play.at(NOW).reads(&doubted());
    assert!(told.starts_with("use 1 of {c}"), "{told}");
    // What is being set was ordered before.
    assert_eq!(doubt_ends(&mut play), "");
    assert_eq!(play.ends(Outcome::Flushed(Lsn::new(200))), "use 1 of {c}");
    play.done();
    let told = play.ends(Outcome::Flushed(Lsn::new(210)));
    assert_eq!(besides(told.split("; ").next().unwrap()), "floor 2:210, doubts {}");
    // Told as soon as it is seen.
    let mut play = voting(SYNC, &[set(&["c"], 1)]);
    let told = play.does(Event::Doubts([doubt()].into()));
    assert!(told.contains("doubts {Impersonated"), "{told}");
}

fn doubt() -> Doubt {
    Doubt::Impersonated(name("c"))
}
