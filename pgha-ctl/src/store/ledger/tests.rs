use std::collections::BTreeMap;
use std::time::Duration;

use pgha_machine::failover::pace::Pace;
use pgha_machine::failover::record::{Member, Mode};
use pgha_machine::failover::timing::Timings;
use pgha_machine::{Lsn, Position, Timeline, Wal};

use super::*;
use crate::store::{Local, MAX_VALUE};

const PATIENCE: Duration = Duration::from_secs(30);

fn founded() -> Record {
    let end = Position { timeline: Timeline::new(3), lsn: Lsn::new(0x0500_0060) };
    let wal = Wal { end, left: Vec::new() };
    let pace = Pace {
        lease: Timings::default(),
        heartbeat: Duration::from_millis(100),
        silence: Duration::from_millis(300),
    };
    let mode = Mode::Sync { quorum: 1, max_lag: 1 << 20 };
    Record::founded(&"db1".parse().unwrap(), &wal, &BTreeMap::new(), mode, pace).unwrap()
}

fn ledger() -> (tempfile::TempDir, Ledger<Local>) {
    let folder = tempfile::tempdir().unwrap();
    let store = Local::open(&folder.path().join("store")).unwrap();
    (folder, Ledger::new(store, PATIENCE))
}

fn done((written, error): &(Written, Option<LedgerError>)) -> Option<u64> {
    match (written, error) {
        (Written::Done(revision), None) => Some(*revision),
        (Written::Done(_) | Written::Conflict | Written::Failed | Written::Unknown, _) => None,
    }
}

/// What is written is read, by the mark that the answer named; who comes second is told so.
#[tokio::test]
async fn a_record_is_written_over_what_was_read_and_over_nothing_else() {
    let (_folder, ledger) = ledger();
    let empty = ledger.read().await.unwrap();
    assert_eq!((empty.mark.revision, &empty.record), (0, &None));
    let record = founded();
    let revision = done(&ledger.put(empty.mark, &record).await).expect("written");
    let read = ledger.read().await.unwrap();
    assert_eq!(
        read,
        Reading { mark: Mark { revision, ..empty.mark }, record: Some(Box::new(record.clone())) }
    );
    let late = ledger.put(empty.mark, &record).await;
    assert!(matches!(late, (Written::Conflict, None)), "{late:?}");
}

#[tokio::test]
async fn a_change_is_seen_by_who_waits() {
    let (_folder, ledger) = ledger();
    let seen = ledger.read().await.unwrap().mark;
    let waits = {
        let ledger = ledger.clone();
        tokio::spawn(async move { ledger.watch(seen).await.unwrap() })
    };
    let put = ledger.put(seen, &founded()).await;
    let found = tokio::time::timeout(PATIENCE, waits).await.expect("it is told").unwrap();
    assert_eq!((Some(found.mark.revision), found.record), (done(&put), Some(Box::new(founded()))));
}

/// What this version does not know is named, and never taken for a cluster that is not there.
#[tokio::test]
async fn what_is_no_record_is_said_to_be_none() {
    let (_folder, ledger) = ledger();
    for (value, told) in [
        (&b""[..], "cannot be read"),
        (b"{}", "missing field `format`"),
        (br#"{"format":2,"new":true}"#, "has format 2, and this pgha knows format 1; update pgha"),
        (br#"{"format":1,"record":{}}"#, "missing field `members`"),
    ] {
        let mark = ledger.store.get(&ledger.key).await.unwrap().mark;
        ledger.store.cas(&ledger.key, mark, value.to_vec()).await.unwrap();
        let error = ledger.read().await.unwrap_err().to_string();
        assert!(error.contains(told), "{error}");
    }
}

/// A store that says nothing has perhaps written.
#[tokio::test]
async fn no_answer_is_not_a_no() {
    #[derive(Clone)]
    struct Silent;
    impl Store for Silent {
        async fn get(&self, _: &Key) -> Result<record::Reading, StoreError> {
            std::future::pending().await
        }
        async fn cas(
            &self,
            _: &Key,
            _: record::Mark,
            _: Vec<u8>,
        ) -> Result<record::Mark, CasError> {
            std::future::pending().await
        }
        async fn watch(&self, _: &Key, _: record::Mark) -> Result<record::Reading, StoreError> {
            std::future::pending().await
        }
    }
    let ledger = Ledger::new(Silent, Duration::from_millis(5));
    assert!(matches!(ledger.read().await, Err(LedgerError::Late(_))));
    let mark = Mark { incarnation: 1, revision: 1 };
    let put = ledger.put(mark, &founded()).await;
    assert!(matches!(put, (Written::Unknown, Some(LedgerError::Late(_)))), "{put:?}");
}

/// A cluster of many failovers still fits into a value of the store.
#[test]
fn five_thousand_terms_fit() {
    let mut record = founded();
    let member = Member { confirmed: true, nofailover: false, priority: 0 };
    for number in 0..16 {
        record.members.insert(format!("node-{number}").parse().unwrap(), member.clone());
    }
    let term = record.term().clone();
    record.terms = vec![term; 5_000];
    let bytes = encode(&record).unwrap();
    assert!(bytes.len() < MAX_VALUE, "{} bytes", bytes.len());
    assert_eq!(decode(&bytes).unwrap(), record);
}
