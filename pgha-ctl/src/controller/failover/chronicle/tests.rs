use pgha_machine::Lsn;
use pgha_machine::failover::record::{Proof, Suspicion};

use super::*;

fn term(epoch: u64, promoted: bool) -> Term {
    let timeline = Timeline::new(1);
    Term {
        epoch: Epoch::new(epoch),
        node: "db1".parse().unwrap(),
        timeline,
        fork: Position { timeline, lsn: Lsn::new(7) },
        promoted,
        degraded: Vec::new(),
        cause: (epoch > 1).then_some(Cause {
            reason: Suspicion::Silent,
            proof: Proof::Quorum,
            ordered: None,
            forced: false,
        }),
    }
}

fn seen(epoch: u64) -> Option<Witnessed> {
    Some(Witnessed { epoch: Epoch::new(epoch), gap: Some(Duration::from_millis(350)) })
}

#[test]
fn a_term_is_written_once_and_by_whoever_has_seen_it() {
    let mut history = History::default();
    // A controller that has just begun knows of what was before, and not when that began.
    history.add(Noted::Terms(vec![term(1, true), term(2, true)], None, 1_000));
    let told: Vec<_> =
        history.terms.iter().map(|it| (it.epoch.get(), it.at, it.witnessed)).collect();
    assert_eq!(told, [(1, 1_000, false), (2, 1_000, false)]);
    // One that saw it knows better; nobody after it does.
    history.add(Noted::Terms(vec![term(1, true), term(2, true)], seen(2), 900));
    history.add(Noted::Terms(vec![term(2, true)], seen(2), 5_000));
    history.add(Noted::Terms(vec![term(2, true)], None, 6_000));
    let last = history.terms.last().unwrap();
    assert_eq!((last.at, last.witnessed, last.gap_ms), (900, true, Some(350)));
    assert_eq!(last.cause.as_ref().unwrap().proof, Proof::Quorum);
    assert_eq!(history.terms.len(), 2);
    // What is not promoted yet has no fork yet.
    history.add(Noted::Terms(vec![term(3, false)], seen(3), 7_000));
    assert_eq!(history.terms.len(), 2);
    // A degraded time may end after the term was written.
    let degraded = vec![Degraded { from: Lsn::new(7), until: Some(Lsn::new(9)) }];
    history.add(Noted::Terms(
        vec![Term { degraded: degraded.clone(), ..term(2, true) }],
        None,
        8_000,
    ));
    assert_eq!(history.terms.last().unwrap().degraded, degraded);
}

#[test]
fn the_history_is_bounded_and_fits_the_store() {
    let mut history = History::default();
    let terms = (1..=TERMS as u64 + 5).map(|epoch| term(epoch, true)).collect();
    history.add(Noted::Terms(terms, None, 1));
    assert_eq!(history.terms.len(), TERMS);
    assert_eq!(history.terms[0].epoch, Epoch::new(6));
    for at in 0..INCIDENTS as u64 + 3 {
        let incident = Incident {
            at,
            seen_by: "lb1".parse().unwrap(),
            kind: IncidentKind::Nobody,
            epoch: Some(Epoch::new(1)),
            text: "nobody becomes the primary yet: ".repeat(8),
        };
        history.add(Noted::Incident(incident.clone()));
        history.add(Noted::Incident(incident));
    }
    assert_eq!((history.incidents.len(), history.incidents[0].at), (INCIDENTS, 3));
    let size = serde_json::to_vec(&history).unwrap().len();
    assert!(size < store::MAX_VALUE / 2, "{size} bytes");
}

#[test]
fn what_is_there_is_read_and_what_is_newer_is_left_alone() {
    assert_eq!(decode(None).unwrap(), History::default());
    let mut history = History::default();
    history.add(Noted::Terms(vec![term(1, true)], None, 1));
    assert_eq!(decode(Some(&serde_json::to_vec(&history).unwrap())).unwrap(), history);
    let newer = decode(Some(br#"{"format":2,"more":1}"#)).unwrap_err();
    assert!(newer.to_string().contains("format 2"), "{newer}");
    assert!(matches!(decode(Some(b"none")), Err(ChronicleError::Unreadable(_))));
}
