use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard};

use super::*;
use crate::store::EtcdError;
use crate::store::record::Incarnation;

/// What becomes of a write.
#[derive(Clone, Copy, Debug)]
enum Fate {
    /// It gets no answer, and is under way still.
    Delayed,
    /// What was delayed comes first.
    Overtaken,
    /// Somebody else is quicker.
    Forestalled,
    Fails,
}

#[derive(Debug)]
struct State {
    revision: u64,
    value: Vec<u8>,
    fates: VecDeque<Fate>,
    /// The fate of every write after those.
    then: Option<Fate>,
    delayed: Option<(Mark, Vec<u8>)>,
    /// So many reads are answered.
    reads: usize,
}

/// A store of one record, whose writes fare as they are told.
struct Fated(Mutex<State>);

impl Fated {
    fn new(fates: &[Fate], then: Option<Fate>, reads: usize) -> Self {
        let fates = fates.iter().copied().collect();
        let value = b"0".to_vec();
        Self(Mutex::new(State { revision: 1, value, fates, then, delayed: None, reads }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }
}

impl State {
    fn mark(&self) -> Mark {
        Mark { incarnation: Incarnation::from_bytes([1; 16]), revision: self.revision }
    }

    fn put(&mut self, expected: Mark, value: Vec<u8>) -> Result<Mark, CasError> {
        if expected != self.mark() {
            return Err(CasError::Conflict(self.mark()));
        }
        self.revision += 1;
        self.value = value;
        Ok(self.mark())
    }
}

fn broken() -> StoreError {
    EtcdError::Random.into()
}

impl Store for Fated {
    async fn get(&self, _: &Key) -> Result<Reading, StoreError> {
        let mut state = self.state();
        state.reads = state.reads.checked_sub(1).ok_or_else(broken)?;
        Ok(Reading { mark: state.mark(), value: Some(state.value.clone()) })
    }

    async fn cas(&self, _: &Key, expected: Mark, value: Vec<u8>) -> Result<Mark, CasError> {
        let mut state = self.state();
        match state.fates.pop_front().or(state.then) {
            None => {}
            Some(Fate::Delayed) => {
                state.delayed = Some((expected, value));
                return Err(CasError::Unknown(broken()));
            }
            Some(Fate::Overtaken) => {
                let (expected, value) = state.delayed.take().unwrap();
                state.put(expected, value).unwrap();
            }
            Some(Fate::Forestalled) => {
                let mark = state.mark();
                state.put(mark, b"other".to_vec()).unwrap();
            }
            Some(Fate::Fails) => return Err(CasError::Failed(broken())),
        }
        state.put(expected, value)
    }

    async fn watch(&self, _: &Key, _: Mark) -> Result<Reading, StoreError> {
        unreachable!("a change watches nothing")
    }
}

/// Appends to what is there, so that twice is not once.
async fn append(store: &Fated) -> Result<Reading, ChangeError<std::convert::Infallible>> {
    let next = |found: &Reading| Ok([found.value.as_deref().unwrap_or_default(), b"+"].concat());
    change(store, &"a".parse().unwrap(), next).await
}

const MANY: usize = 1000;

#[tokio::test]
async fn after_a_delayed_write_no_failure_says_that_nothing_was_written() {
    use Fate::{Delayed, Fails, Forestalled};
    type Case = (&'static [Fate], Option<Fate>, usize);
    let cases: [Case; 4] = [
        (&[Delayed, Fails], None, MANY),
        // Read first, and back; then no more.
        (&[Delayed, Forestalled], None, 2),
        (&[Delayed], None, 1),
        (&[Delayed], Some(Forestalled), MANY),
    ];
    for (fates, then, reads) in cases {
        let changed = append(&Fated::new(fates, then, reads)).await;
        let unknown = matches!(changed, Err(ChangeError::Store(CasError::Unknown(_))));
        assert!(unknown, "{fates:?} {then:?} {reads}: {changed:?}");
    }
    // Without it that is certain.
    for (fates, reads) in [(&[Fails][..], MANY), (&[Forestalled], 1), (&[], 0)] {
        let changed = append(&Fated::new(fates, None, reads)).await;
        let failed = matches!(changed, Err(ChangeError::Store(CasError::Failed(_))));
        assert!(failed, "{fates:?} {reads}: {changed:?}");
    }
    let crowded = append(&Fated::new(&[], Some(Forestalled), MANY)).await;
    assert!(matches!(crowded, Err(ChangeError::Crowded)), "{crowded:?}");
}

#[tokio::test]
async fn a_delayed_write_that_comes_after_all_is_the_change() {
    let store = Fated::new(&[Fate::Delayed, Fate::Overtaken], None, MANY);
    let changed = append(&store).await.unwrap();
    assert_eq!((changed.mark.revision, changed.value.as_deref()), (2, Some(&b"0+"[..])));
    assert_eq!(store.state().value, b"0+");
}
