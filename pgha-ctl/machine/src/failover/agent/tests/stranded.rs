//! A standby whose primary has no longer what it would stream next.

use super::*;
use crate::failover::message::Report;

/// When it has lacked it for long enough: two leases.
const LONG: u64 = NOW + 2000;

/// `b` streams from `a`, whose log begins at 130, and has not more than 120 itself.
fn behind() -> Play {
    let mut play = Play::begin(kept(1, None), standby(Some("a")));
    play.effects();
    play.at(NOW).reads(&cluster(SYNC));
    assert_eq!(play.orders(begins("a", 1, 130)), "");
    play
}

/// And has a copy, but hears nothing of the store.
fn copied() -> Play {
    let mut play = behind();
    assert_eq!(play.at(LONG).orders(Event::Tick), "copy 1 of a");
    assert_eq!(play.orders(Event::Store(Answer::Read(None))), "");
    assert_eq!(play.orders(Event::Copied { number: 1, to: Some(Lsn::new(500)) }), "");
    play
}

/// What that node says of where its log begins.
fn begins(from: &str, epoch: u64, lsn: u64) -> Event {
    let (epoch, begins) = (Epoch::new(epoch), Some(Lsn::new(lsn)));
    let report = Report { epoch, begins, ..Report::default() };
    Event::Heard { from: name(from), message: Message::Report(report) }
}

impl Play {
    /// What it has done by an event; without reports and looks at the store.
    fn orders(&mut self, event: Event) -> String {
        let told = self.does(event);
        let orders = told.split("; ").filter(|part| !part.starts_with("tell") && *part != "read");
        orders.collect::<Vec<_>>().join("; ")
    }

    /// The store is heard of again, with what it said before.
    fn rereads(&mut self) -> String {
        let record = self.record.clone().unwrap();
        let mark = Mark { incarnation: 1, revision: self.revision };
        let reading = Reading { mark, record: Some(Box::new(record)) };
        self.orders(Event::Store(Answer::Read(Some(reading))))
    }
}

#[test]
fn who_is_left_behind_is_copied_while_it_runs_and_then_exchanged() {
    let mut play = behind();
    // A moment is not enough: it may be catching up.
    assert_eq!(play.at(LONG - 1).orders(Event::Tick), "");
    assert!(matches!(play.agent.stranded(), Stranded::Since(..)));
    assert_eq!(play.agent.poll_timeout(play.now), Some(START + Duration::from_millis(LONG)));
    assert_eq!(play.at(LONG).orders(Event::Tick), "copy 1 of a");
    assert_eq!(play.agent.role(), &Role::Standby { upstream: Some(name("a")) });
    // One at a time, as long as it takes.
    assert_eq!(play.at(LONG + 60_000).orders(Event::Tick), "");
    assert_eq!(play.orders(Event::Copied { number: 7, to: Some(Lsn::new(500)) }), "");
    // By what the store says now.
    assert_eq!(play.rereads(), "");
    let done = play.orders(Event::Copied { number: 1, to: Some(Lsn::new(500)) });
    assert_eq!(done, "exchange for the copy of a");
    assert_eq!(play.agent.role(), &Role::Down);
    assert_eq!(play.ends(Outcome::Stopped(Some(wal(500)))), "follow a in 1");
    assert_eq!(play.agent.stranded(), &Stranded::Not);
}

#[test]
fn who_gets_on_or_can_is_not_left_behind() {
    // By an archive, say.
    let mut play = behind();
    assert_eq!(play.at(LONG - 1).orders(Event::Log(wal(121))), "");
    assert_eq!(play.at(LONG).orders(Event::Tick), "");
    assert_eq!(play.at(LONG + 1999).orders(Event::Tick), "copy 1 of a");
    // At the first byte that is there.
    let mut play = behind();
    assert_eq!(play.orders(Event::Log(wal(130))), "");
    assert_eq!(play.at(LONG).orders(Event::Tick), "");
    assert_eq!(play.agent.stranded(), &Stranded::Not);
    // What others say, or what was said in another epoch, is not the primary's word.
    for said in [begins("c", 1, 130), begins("a", 0, 130)] {
        let mut play = Play::begin(kept(1, None), standby(Some("a")));
        play.effects();
        play.at(NOW).reads(&cluster(SYNC));
        play.orders(said);
        assert_eq!(play.at(LONG).orders(Event::Tick), "");
    }
}

#[test]
fn a_copy_that_fails_is_made_again_after_a_while() {
    let mut play = behind();
    assert_eq!(play.at(LONG).orders(Event::Tick), "copy 1 of a");
    assert_eq!(play.orders(Event::Copied { number: 1, to: None }), "");
    assert_eq!(play.at(LONG + 1999).orders(Event::Tick), "");
    assert_eq!(play.at(LONG + 2000).orders(Event::Tick), "copy 2 of a");
}

#[test]
fn a_copy_without_all_that_the_node_has_never_takes_its_place() {
    let mut play = behind();
    assert_eq!(play.at(LONG).orders(Event::Tick), "copy 1 of a");
    assert_eq!(play.orders(Event::Log(wal(126))), "");
    assert_eq!(play.rereads(), "");
    assert_eq!(play.orders(Event::Copied { number: 1, to: Some(Lsn::new(125)) }), "");
    assert!(matches!(play.agent.stranded(), Stranded::Since(..)));
}

#[test]
fn nothing_is_exchanged_in_a_freeze_or_by_what_may_be_of_the_past() {
    // Suspended: it stops with the log that it has, while the copy is made.
    let mut play = behind();
    assert_eq!(play.at(LONG).orders(Event::Tick), "copy 1 of a");
    let told = play.hears_of(&suspended());
    assert!(told.contains("keep epoch 1, freeze 1"), "{told}");
    assert_eq!(play.ends(Outcome::Done), "stop streaming");
    assert!(play.ends(Outcome::Stopped(Some(wal(120)))).contains("frozen 1 at 1:120"));
    assert_eq!(play.orders(Event::Copied { number: 1, to: Some(Lsn::new(500)) }), "");
    assert_eq!(play.agent.role(), &Role::Frozen { freeze: 1 });
    assert_eq!(play.agent.stranded(), &Stranded::Not);
    // The store is not heard.
    let mut play = copied();
    assert!(matches!(play.agent.stranded(), Stranded::Copied { .. }));
    assert_eq!(play.rereads(), "exchange for the copy of a");
    // Another epoch: the copy may have what the cluster has not.
    let mut play = behind();
    assert_eq!(play.at(LONG).orders(Event::Tick), "copy 1 of a");
    let rules = Rules::default();
    let stopped = stopped(&[("b", 110), ("c", 130)]);
    let nominated = suspended().nominate(name("c"), name("k1"), Proof::Quorum, &stopped, rules);
    let taken = nominated.unwrap().take(&name("c"), 30, &wal(130), rules).unwrap();
    play.hears_of(&taken.promoted(&name("c"), at(1, 130)).unwrap());
    play.orders(Event::Copied { number: 1, to: Some(Lsn::new(500)) });
    assert_eq!(play.agent.stranded(), &Stranded::Not);
}

#[test]
fn an_exchange_that_fails_is_followed_by_a_start_of_what_is_there() {
    let mut play = copied();
    assert_eq!(play.rereads(), "exchange for the copy of a");
    assert_eq!(play.ends(Outcome::Failed), "kill");
    play.now = play.now + Duration::from_millis(300);
    let told = play.ends(Outcome::Killed);
    assert!(told.starts_with("start"), "{told}");
}
