//! What operators order.

use super::*;
use crate::failover::fixture::{ASYNC, STRICT};
use crate::failover::record::{Ordered, Takeover};

fn order(number: u64, takeover: Takeover) -> Event {
    Event::Ordered { number, ordered: Ordered { takeover, by: "root".to_owned(), at: 7 } }
}

fn to(node: &str) -> Takeover {
    Takeover::To(name(node))
}

fn force(node: &str) -> Takeover {
    Takeover::Force(name(node))
}

/// A coordinator that hears these.
fn hearing(record: &Record, nodes: &[&str]) -> Play {
    let mut play = Play::watching(record);
    for node in nodes {
        assert_eq!(play.hears(node, Report::default()), "");
    }
    play
}

/// The record as an order made it, by this coordinator.
fn ordered(record: &Record, takeover: Takeover) -> Record {
    let ordered = Ordered { takeover, by: "root".to_owned(), at: 7 };
    record.take_over(name("k1"), ordered).unwrap()
}

#[test]
fn an_order_is_a_freeze_and_is_answered_when_it_is_written() {
    let record = cluster(SYNC);
    let mut play = hearing(&record, &["a", "b", "c"]);
    assert_eq!(play.does(order(3, to("c"))), "put freeze 1 by k1: Ordered, to c");
    // Nothing is known before that: another one was quicker, or the answer was lost.
    assert_eq!(play.does(Event::Store(Answer::Written(Written::Conflict))), "read");
    let next = renewed(&record);
    assert_eq!(play.reads(&next), "put freeze 1 by k1: Ordered, to c");
    play.revision += 1;
    let revision = play.revision;
    play.record = Some(ordered(&next, to("c")));
    assert_eq!(
        play.does(Event::Store(Answer::Written(Written::Done(revision)))),
        "order 3: freeze 1"
    );
    // The same from another operator is that one.
    assert_eq!(play.does(order(4, to("c"))), "order 4: freeze 1");
}

#[test]
fn a_lost_answer_is_found_in_the_record_also_when_all_is_over() {
    let record = cluster(SYNC);
    let mut play = hearing(&record, &["a", "b", "c"]);
    assert_eq!(play.does(order(1, Takeover::Best)), "put freeze 1 by k1: Ordered, best");
    assert_eq!(play.does(Event::Store(Answer::Written(Written::Unknown))), "");
    assert_eq!(play.at(250).does(Event::Tick), "read");
    let released = ordered(&record, Takeover::Best).release(&name("a")).unwrap();
    let rules = Rules::default();
    let stopped = stopped(&[("b", 120), ("c", 120)]);
    let nominated =
        released.nominate(name("b"), name("k2"), Proof::Released, &stopped, rules).unwrap();
    let taken = nominated.take(&name("b"), 8, &wal(120), rules).unwrap();
    assert_eq!(play.reads(&taken), "order 1: freeze 1");
    let cause = taken.term().cause.clone().unwrap();
    assert_eq!(
        (cause.reason, cause.proof, cause.forced),
        (Suspicion::Ordered, Proof::Released, false)
    );
    assert_eq!(cause.ordered.unwrap().by, "root");
}

#[test]
fn nothing_is_frozen_where_nobody_could_follow() {
    let declined = |mode, heard: &[&str], takeover| {
        let record = cluster(mode);
        hearing(&record, heard).does(order(1, takeover))
    };
    let play = |mode, heard: &[&str], takeover| {
        let record = cluster(mode);
        let mut play = hearing(&record, &["a", "b", "c"]);
        let said: Vec<_> = heard.iter().map(|node| (*node, Report::default())).collect();
        let said: Vec<_> = said.iter().map(|(node, report)| (*node, report)).collect();
        assert_eq!(play.waits(350, &said), "");
        play.does(order(1, takeover))
    };
    assert_eq!(declined(SYNC, &["a", "b", "c"], to("x")), "order 1: x is no member");
    assert_eq!(
        declined(SYNC, &["a", "b", "c"], to("a")),
        "order 1: a holds the lease or may take it"
    );
    assert_eq!(
        play(SYNC, &["a", "b"], Takeover::Best),
        "order 1: nobody could follow: 1 of 2 voters are heard, and 2 are needed to be sure that nothing is lost"
    );
    assert_eq!(
        play(ASYNC, &["a", "b"], to("c")),
        "order 1: c cannot become the primary: its agent is not heard"
    );
    assert_eq!(
        play(ASYNC, &["a"], Takeover::Best),
        "order 1: nobody could follow: a: it is the primary; b: its agent is not heard; c: its agent is not heard"
    );
    let mut tagged = cluster(SYNC).tag(&name("b"), true, 0).unwrap();
    assert_eq!(
        hearing(&tagged, &["a", "b", "c"]).does(order(1, to("b"))),
        "order 1: b cannot become the primary: it is marked nofailover"
    );
    tagged.doubts.insert(Doubt::Impersonated(name("c")));
    tagged.mode = STRICT;
    assert_eq!(
        hearing(&tagged, &["a", "b", "c"]).does(order(1, to("c"))),
        "order 1: nobody could follow: somebody else streamed under the name of c, so that what was acknowledged \
         need not be on a voter"
    );
    let faulty = Report { faulty: true, ..Report::default() };
    let mut play = hearing(&cluster(SYNC), &["a", "b"]);
    play.hears("c", faulty);
    assert_eq!(
        play.does(order(1, to("c"))),
        "order 1: c cannot become the primary: its disk does not write, or its link is down"
    );
    let joined =
        cluster(SYNC).join(name("d"), &crate::failover::fixture::member(false, 0)).unwrap();
    assert_eq!(
        hearing(&joined, &["a", "b", "c", "d"]).does(order(1, to("d"))),
        "order 1: d cannot become the primary: the primary has not confirmed it as a member yet"
    );
}

#[test]
fn without_the_store_an_order_is_declined_in_time() {
    let mut play = Play::begin(&[]);
    assert_eq!(play.does(order(1, Takeover::Best)), "read");
    assert_eq!(play.at(100).does(Event::Tick), format!("order 1: {}", Declined::Unread));
    let mut play = hearing(&cluster(SYNC), &["a", "b", "c"]);
    assert_eq!(play.at(250).does(Event::Tick), "read");
    assert_eq!(play.does(Event::Store(Answer::Read(None))), "");
    assert_eq!(play.does(order(2, Takeover::Best)), "");
    assert_eq!(play.at(1_250).does(Event::Tick), format!("read; order 2: {}", Declined::Unread));
}

#[test]
fn a_primary_that_renews_and_is_heard_is_not_forced_aside() {
    let record = cluster(SYNC);
    let mut play = hearing(&record, &["a", "b", "c"]);
    let declined = format!("order 1: {}", Declined::GoesOn(name("a")));
    assert_eq!(play.does(order(1, force("b"))), declined);
    // It is not heard any more, but renews: it will see the order.
    assert_eq!(play.waits(350, &[("b", &Report::default())]), "");
    assert_eq!(play.hears_of(&renewed(&record)), "");
    assert_eq!(play.does(order(2, force("b"))), "put freeze 1 by k1: Ordered, force b");
}

#[test]
fn a_forced_node_that_is_not_there_is_declined() {
    let record = frozen(&cluster(SYNC));
    let mut play = hearing(&record, &[]);
    assert_eq!(play.waits(350, &[("b", &Report::default())]), "");
    assert_eq!(
        play.does(order(1, force("c"))),
        "order 1: c cannot become the primary: its agent is not heard"
    );
    assert_eq!(play.does(order(2, force("a"))), "order 2: a holds the lease or may take it");
    assert_eq!(play.does(order(3, force("b"))), "put freeze 1 by k1: Silent, force b");
}

#[test]
fn a_relieved_primary_is_not_turned_off_nor_is_the_freeze_undone() {
    let record = cluster(SYNC);
    let record = ordered(&record, Takeover::Best);
    let mut play = Play::with_devices(&record, &["a"]);
    // It still renews, and says that it is well: it does not know yet.
    for node in ["a", "b", "c"] {
        assert_eq!(play.hears(node, Report::default()), "");
    }
    assert_eq!(play.waits(350, &[("a", &Report::default())]), "");
    assert_eq!(play.hears_of(&renewed(&record)), "");
    assert_eq!(play.waits(700, &[("a", &Report::default())]), "");
    assert_eq!(
        renewed(&record).thaw(),
        Err(crate::failover::order::Refusal::Ordered(Epoch::new(1)))
    );
}

#[test]
fn the_named_one_follows_while_it_is_there_and_another_one_otherwise() {
    let released = ordered(&cluster(SYNC), to("c")).release(&name("a")).unwrap();
    let mut play = Play::watching(&released);
    assert_eq!(play.hears("a", Report::default()), "");
    assert_eq!(play.hears("c", Report::default()), "");
    assert_eq!(play.hears_frozen("b", &wal(130)), "");
    // It lacks something, and is given it first.
    assert_eq!(play.hears_frozen("c", &wal(120)), "c catches up from b in freeze 1");
    assert_eq!(play.hears_frozen("c", &wal(130)), "put c nominated by k1: Released, voters b");
    let mut play = Play::watching(&released);
    let (well, b) = (Report::default(), play.stopped(&wal(130)));
    let a = play.stopped(&wal(130));
    assert_eq!(play.waits(250, &[("c", &well), ("b", &b), ("a", &a)]), "");
    // It is gone: 300 ms of silence.
    assert_eq!(
        play.waits(600, &[("b", &b), ("a", &a)]),
        "put b nominated by k1: Released, voters a"
    );
}

#[test]
fn a_primary_that_was_relieved_gives_what_it_has_and_follows_itself_where_nobody_else_does() {
    let released = ordered(&cluster(ASYNC), Takeover::Best).release(&name("a")).unwrap();
    let mut play = Play::watching(&released);
    let well = Report::default();
    let (a, b) = (play.stopped(&wal(150)), play.stopped(&wal(120)));
    // Commits waited for nobody: it is waited for, since it has all of them.
    assert_eq!(play.waits(200, &[("a", &well), ("b", &b)]), "");
    assert_eq!(play.hears("a", a.clone()), "b catches up from a in freeze 1");
    let mut play = Play::watching(&released);
    assert_eq!(play.waits(950, &[("a", &a)]), "");
    assert_eq!(play.waits(1_100, &[("a", &a)]), "put a nominated by k1: Released, voters ");
}

#[test]
fn a_forced_node_follows_with_votes_missing_but_never_without_a_proof_of_the_end() {
    let forced = ordered(&frozen(&cluster(SYNC)), force("b"));
    let mut play = Play::watching(&forced);
    let below = wal(FLOOR - 1);
    let b = play.stopped(&below);
    let faulty = Report { faulty: true, ..b.clone() };
    assert_eq!(play.waits(1_100, &[("b", &faulty)]), "");
    assert_eq!(play.hears("b", b), "put b nominated by k1: Lease, voters , forced");
    let mut play = Play::watching(&forced);
    let b = play.stopped(&below);
    assert_eq!(play.waits(1_000, &[("b", &b)]), "");
    assert_eq!(play.coordinator.why_not().unwrap().to_string().split(' ').next(), Some("1"));
    assert_eq!(play.waits(1_100, &[("b", &b)]), "put b nominated by k1: Lease, voters , forced");
}

#[test]
fn frozen_voters_are_no_proof_for_a_forced_node() {
    // Every quorum is stopped, but none of them has the floor.
    let forced = ordered(&frozen(&cluster(SYNC)), force("b"));
    let mut play = Play::watching(&forced);
    let (b, c) = (play.stopped(&wal(FLOOR - 2)), play.stopped(&wal(FLOOR - 2)));
    assert_eq!(play.waits(1_000, &[("b", &b), ("c", &c)]), "");
    assert_eq!(
        play.waits(1_100, &[("b", &b), ("c", &c)]),
        "put b nominated by k1: Lease, voters c, forced"
    );
    let stopped = stopped(&[("b", FLOOR - 2), ("c", FLOOR - 2)]);
    let (by, rules) = (name("k1"), Rules::default());
    let nominate =
        |node, proof| forced.nominate_forced(name(node), by.clone(), proof, &stopped, rules);
    let refused = crate::failover::order::Refusal::NotOrdered(name("b"));
    assert_eq!(nominate("b", Proof::Quorum), Err(refused));
    let refused = crate::failover::order::Refusal::NotOrdered(name("c"));
    assert_eq!(nominate("c", Proof::Lease), Err(refused));
    let nominated = nominate("b", Proof::Lease).unwrap();
    let taken = nominated.take(&name("b"), 8, &wal(FLOOR - 2), rules).unwrap();
    assert!(taken.term().is_forced());
    assert_eq!(taken.voters.floor, wal(FLOOR - 2).end);
}

#[test]
fn a_forced_node_takes_first_what_another_has_that_is_there() {
    let forced = ordered(&frozen(&cluster(SYNC)), force("b")).release(&name("a")).unwrap();
    let mut play = Play::watching(&forced);
    let (b, c) = (play.stopped(&wal(FLOOR - 4)), play.stopped(&wal(FLOOR - 2)));
    assert_eq!(play.hears("b", b.clone()), "");
    // Whoever is heard and has not stopped yet is waited for.
    assert_eq!(play.hears("c", Report::default()), "");
    assert_eq!(play.hears("a", Report::default()), "");
    assert_eq!(play.at(50).hears("c", c.clone()), "");
    let all = play.waits(1_050, &[("b", &b), ("c", &c)]);
    assert!(all.ends_with("b catches up from c in freeze 1"), "{all}");
}

#[test]
fn a_diverged_log_is_not_forced() {
    let mut record = cluster(SYNC);
    record.terms[0].timeline = crate::Timeline::new(2);
    record.voters.floor = crate::failover::fixture::at(2, FLOOR);
    let forced = ordered(&frozen(&record), force("b")).release(&name("a")).unwrap();
    let mut play = Play::watching(&forced);
    let b = play.stopped(&wal(500));
    assert_eq!(play.waits(3_000, &[("b", &b)]), "");
    let now = play.now;
    let candidates = play.coordinator.candidates(now);
    assert_eq!(candidates[&name("b")], Some(Unfit::Diverged));
    assert_eq!(candidates[&name("c")], Some(Unfit::Silent));
}
