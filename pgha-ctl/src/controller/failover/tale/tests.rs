use pgha_machine::failover::record::Ordered;
use pgha_machine::failover::rules::Rules;

use super::*;
use crate::controller::failover::fixture::{cluster, name, wal};

fn told(noted: &[Noted]) -> Vec<String> {
    let text = |noted: &Noted| match noted {
        Noted::Incident(incident) => format!("{:?}: {}", incident.kind, incident.text),
        Noted::Terms(terms, seen, at) => {
            let gap = seen.and_then(|seen| seen.gap).map(|gap| gap.as_millis());
            format!("{} terms at {at}, gap {gap:?}", terms.len())
        }
    };
    noted.iter().map(text).collect()
}

#[test]
fn a_failover_is_told_step_by_step_by_the_controller_that_does_it() {
    let mut tale = Tale::default();
    let mut at = 0;
    let mut step = |tale: &mut Tale, record: &Record, renewed: Option<(u64, u64)>| {
        at += 100;
        let renewed = renewed.map(|(epoch, at)| (Epoch::new(epoch), Moment::new(at)));
        told(&tale.tell(&name("lb1"), record, renewed, Now { moment: Moment::new(at), wall: at }))
    };
    let record = cluster();
    assert_eq!(step(&mut tale, &record, Some((1, 50))), ["1 terms at 100, gap None"]);
    assert_eq!(step(&mut tale, &record, Some((1, 150))), [""; 0]);
    let ordered = Ordered { takeover: Takeover::Best, by: "anna".to_owned(), at: 7 };
    let relieved = record.take_over(name("lb1"), ordered).unwrap();
    assert_eq!(
        step(&mut tale, &relieved, Some((1, 150))),
        ["Ordered: anna ordered that another node be the primary"]
    );
    let released = relieved.release(&name("db1")).unwrap();
    assert_eq!(step(&mut tale, &released, None), [""; 0]);
    let (rules, frozen) = (Rules::default(), [(name("db2"), wal(100))].into());
    let nominated =
        released.nominate(name("db2"), name("lb1"), Proof::Released, &frozen, rules).unwrap();
    assert_eq!(
        step(&mut tale, &nominated, None),
        [
            "Nominated: db2 may take the next epoch; db1 can acknowledge nothing more: it ended PostgreSQL and gave the \
          lease back"
        ]
    );
    let taken = nominated.take(&name("db2"), 1, &wal(100), rules).unwrap();
    assert_eq!(step(&mut tale, &taken, Some((2, 600))), [""; 0]);
    let promoted = taken.promoted(&name("db2"), wal(100).end).unwrap();
    assert_eq!(
        step(&mut tale, &promoted, Some((2, 600))),
        ["2 terms at 700, gap Some(550)", "Promoted: db2 is the primary of epoch 2, timeline 2"]
    );
}

#[test]
fn what_another_controller_does_is_its_to_tell() {
    let mut tale = Tale::default();
    let now = Now { moment: Moment::new(1), wall: 1 };
    let record = cluster();
    let mut look = |record: &Record| told(&tale.tell(&name("lb1"), record, None, now));
    look(&record);
    let theirs = record.freeze(name("lb2"), Suspicion::Silent).unwrap();
    assert_eq!(look(&theirs), [""; 0]);
    assert_eq!(look(&theirs.thaw().unwrap()), [""; 0]);
    let mine = record.freeze(name("lb1"), Suspicion::Silent).unwrap();
    assert_eq!(
        look(&mine),
        [
            "Frozen: db1 is suspected (two others heard nothing of it, and it renewed no more): its voters stop"
        ]
    );
    let why = Some("1 of 2".to_owned());
    assert!(tale.nobody(&name("lb1"), why.clone(), now).is_some());
    assert!(tale.nobody(&name("lb1"), why, now).is_none(), "it was told");
}
