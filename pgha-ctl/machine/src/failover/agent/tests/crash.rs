//! Who goes on after a crash of PostgreSQL on the primary.

use super::*;
use crate::failover::fixture::set;

/// Who is heard when PostgreSQL crashes, and what it says.
#[derive(Clone)]
struct Around {
    record: Record,
    hand_over: bool,
    controllers: bool,
    voters: Vec<(&'static str, Report)>,
}

/// `b` is the primary, and a commit waits for one of `a` and `c`.
fn around() -> Around {
    let mut record = holder();
    record.voters.sets = vec![set(&["a", "c"], 1)];
    let voters = vec![("a", Report::default()), ("c", Report::default())];
    Around { record, hand_over: true, controllers: true, voters }
}

/// What `b` does when its PostgreSQL has ended, and when nothing is left of it.
fn crashes(around: Around) -> (String, String) {
    let Around { record, hand_over, controllers, voters } = around;
    let mut play = Play::begin(kept(2, None), primary(NOW + 500, true));
    play.agent.hand_over = hand_over;
    play.effects();
    play.at(NOW).reads(&record);
    play.done();
    for (node, report) in voters {
        play.at(NOW + 10).hears(node, Message::Report(report));
    }
    if controllers {
        play.hears("k1", Message::Report(Report::default()));
    }
    let ended = play.at(NOW + 20).does(Event::Gone);
    // Whoever goes away by then changes nothing.
    (ended, play.at(NOW + 500).ends(Outcome::Killed))
}

#[test]
fn another_node_takes_over_at_once_where_it_can() {
    let (ended, killed) = crashes(around());
    assert_eq!(ended, "kill; tell fault");
    assert!(killed.starts_with("put released by b at 150, freeze 2 by b: Released"), "{killed}");
}

#[test]
fn a_crash_is_a_restart_in_place_where_another_would_be_less_safe() {
    let in_place = |why: &str, around: Around| {
        let (ended, killed) = crashes(around);
        assert_eq!(ended, "kill", "{why}");
        assert!(killed.starts_with("put renewal"), "{why}: {killed}");
    };
    in_place("nobody wants that", Around { hand_over: false, ..around() });
    in_place("nobody would nominate", Around { controllers: false, ..around() });
    let mut one = around();
    one.voters.pop();
    in_place("one voter is silent", one);
    let mut both = around();
    both.record.voters.sets = vec![set(&["a", "c"], 2)];
    in_place("nobody is left to wait for", both);
    let mut open = around();
    open.record.voters.sets.push(set(&[], 0));
    in_place("commits may have waited for nobody", open);
    let mut unfit = around();
    for node in ["a", "c"] {
        unfit.record.members.get_mut(&name(node)).unwrap().nofailover = true;
    }
    in_place("none may be chosen", unfit);
    let mut ill = around();
    for (_, report) in &mut ill.voters {
        report.faulty = true;
    }
    in_place("none would do it", ill);
}

#[test]
fn one_candidate_is_enough() {
    let mut around = around();
    around.record.members.get_mut(&name("a")).unwrap().nofailover = true;
    let (ended, _) = crashes(around);
    assert_eq!(ended, "kill; tell fault");
}
