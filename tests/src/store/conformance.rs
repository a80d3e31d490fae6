//! The tests, each for a store that nobody has written to. They fail by panicking.
use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::future::join_all;
use pgha_ctl::store::{CasError, ChangeError, Key, MAX_VALUE, Mark, Reading, Store, change};

use super::Harness;

/// How long anything may take: generous, as only a hang is meant.
const SOON: Duration = Duration::from_secs(60);

fn key(name: &str) -> Key {
    name.parse().expect("a key")
}

async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(SOON, what).await.expect("no hang")
}

async fn get(store: &impl Store, name: &str) -> Reading {
    soon(store.get(&key(name))).await.expect("a reading")
}

async fn put(store: &impl Store, name: &str, expected: Mark, value: &str) -> Mark {
    soon(store.cas(&key(name), expected, value.into())).await.expect("a write")
}

fn text(reading: &Reading) -> Option<&str> {
    reading.value.as_deref().map(|value| str::from_utf8(value).expect("text"))
}

/// What was never put is not there; the first put expects that.
pub async fn a_record_is_created_once(harness: &impl Harness) {
    let store = harness.client().await;
    let nothing = get(&store, "a").await;
    assert_eq!((nothing.mark.revision, &nothing.value), (0, &None));
    let mark = put(&store, "a", nothing.mark, "one").await;
    assert!(mark.revision > 0 && mark.incarnation == nothing.mark.incarnation);
    let reading = get(&store, "a").await;
    assert_eq!((reading.mark, text(&reading)), (mark, Some("one")));
    let again = soon(store.cas(&key("a"), nothing.mark, b"two".into())).await;
    assert!(matches!(again, Err(CasError::Conflict(found)) if found == mark), "{again:?}");
    assert_eq!(get(&store, "a").await, reading);
}

/// A value is put where exactly what was read is there, and nowhere else.
pub async fn only_what_was_read_is_replaced(harness: &impl Harness) {
    let store = harness.client().await;
    let first = put(&store, "a", get(&store, "a").await.mark, "one").await;
    let second = put(&store, "a", first, "two").await;
    let reading = get(&store, "a").await;
    for wrong in [
        first,
        Mark { revision: 0, ..second },
        Mark { revision: second.revision + 1, ..second },
        Mark { revision: u64::MAX, ..second },
    ] {
        let refused = soon(store.cas(&key("a"), wrong, b"three".into())).await;
        assert!(
            matches!(refused, Err(CasError::Conflict(found)) if found == second),
            "{refused:?}"
        );
    }
    assert_eq!(get(&store, "a").await, reading);
    // The value that is there already is a change like another.
    let third = put(&store, "a", second, "two").await;
    assert!(third.is_after(second));
}

/// Another key's changes make no difference, but revisions grow over all.
pub async fn keys_are_apart_and_revisions_grow(harness: &impl Harness) {
    let store = harness.client().await;
    let mut last = 0;
    for round in 0..5 {
        for name in ["a", "b", "c"] {
            let before = get(&store, name).await;
            let value = format!("{name}{round}");
            let mark = put(&store, name, before.mark, &value).await;
            assert!(mark.revision > last, "{mark} after {last}");
            last = mark.revision;
        }
    }
    for name in ["a", "b", "c"] {
        assert_eq!(text(&get(&store, name).await), Some(&*format!("{name}4")));
    }
}

/// Any bytes are a value, up to the longest.
pub async fn values_are_bytes(harness: &impl Harness) {
    let store = harness.client().await;
    let mut mark = get(&store, "a").await.mark;
    let every: Vec<u8> = (0..=255).collect();
    for value in [Vec::new(), every.clone(), every.repeat(MAX_VALUE / 256)] {
        mark = soon(store.cas(&key("a"), mark, value.clone())).await.expect("a write");
        assert_eq!(get(&store, "a").await, Reading { mark, value: Some(value) });
    }
    let before = get(&store, "a").await;
    let long = soon(store.cas(&key("a"), mark, vec![0; MAX_VALUE + 1])).await;
    assert!(matches!(long, Err(CasError::Failed(_))), "{long:?}");
    assert_eq!(get(&store, "a").await, before);
}

/// Of those who replace the same reading at once exactly one does; nothing that was answered is lost, and
/// who reads later sees no less. A write of which nobody knows counts or not.
pub async fn changes_at_once_are_one_after_the_other(harness: &impl Harness) {
    const CLIENTS: usize = 8;
    const ROUNDS: usize = 10;
    let client = async |number: usize| {
        let store = harness.client().await;
        let (mut won, mut seen, mut unknown) = (0, 0, 0);
        while won < ROUNDS {
            let found = get(&store, "a").await;
            assert!(found.mark.revision >= seen, "{} after {seen}", found.mark);
            // Each client's values are its own, so that it knows them again.
            let next = format!("{} {number}", count_of(&found) + 1);
            match soon(store.cas(&key("a"), found.mark, next.into())).await {
                Ok(mark) => {
                    assert!(mark.is_after(found.mark));
                    seen = mark.revision;
                    won += 1;
                }
                Err(CasError::Conflict(now)) => assert!(now.is_after(found.mark)),
                Err(CasError::Unknown(_)) => unknown += 1,
                Err(error @ CasError::Failed(_)) => panic!("client {number}: {error}"),
            }
        }
        unknown
    };
    let unknown: usize = join_all((0..CLIENTS).map(client)).await.into_iter().sum();
    let count = count_of(&get(&harness.client().await, "a").await);
    let known = CLIENTS * ROUNDS;
    assert!((known..=known + unknown).contains(&count), "{count}: {known} and {unknown} unknown");
}

fn count_of(reading: &Reading) -> usize {
    text(reading).map_or(0, |value| {
        let count = value.split(' ').next().expect("a word");
        count.parse().expect("a number")
    })
}

/// [`change()`] loses no change of many that are made at once.
pub async fn a_change_begins_anew_when_it_is_forestalled(harness: &impl Harness) {
    const CLIENTS: usize = 6;
    let client = async |number: usize| {
        let store = harness.client().await;
        let name = key("a");
        let changed = change(&store, &name, |found| {
            let mut all = found.value.clone().unwrap_or_default();
            all.push(u8::try_from(number).expect("a few"));
            Ok::<_, std::fmt::Error>(all)
        });
        let changed = soon(changed).await.expect("a change");
        assert!(
            changed.value.is_some_and(|all| all.contains(&u8::try_from(number).expect("a few")))
        );
    };
    join_all((0..CLIENTS).map(client)).await;
    let all = get(&harness.client().await, "a").await.value.expect("a value");
    let each: BTreeSet<u8> = all.iter().copied().collect();
    assert_eq!((all.len(), each.len()), (CLIENTS, CLIENTS), "{all:?}");

    let store = harness.client().await;
    let unwanted = soon(change(&store, &key("a"), |_| Err(std::fmt::Error))).await;
    assert!(matches!(unwanted, Err(ChangeError::Unwanted(_))), "{unwanted:?}");
    assert_eq!(get(&store, "a").await.value, Some(all));
}

/// Who watches learns of what is there already, of each later change that stays, in order, and of nothing
/// else.
pub async fn a_watcher_sees_what_stays_in_order(harness: &impl Harness) {
    const LAST: u32 = 30;
    let (writer, watcher) = (harness.client().await, harness.client().await);
    let nothing = get(&watcher, "a").await.mark;
    let watching = async {
        let (mut seen, mut values) = (nothing, Vec::new());
        loop {
            let reading = soon(watcher.watch(&key("a"), seen)).await.expect("a change");
            assert!(reading.mark.is_after(seen), "{} after {seen}", reading.mark);
            seen = reading.mark;
            let value: u32 = text(&reading).expect("a value").parse().expect("a number");
            values.push(value);
            if value == LAST {
                return values;
            }
        }
    };
    let writing = async {
        let mut mark = nothing;
        for value in 1..=LAST {
            mark = put(&writer, "a", mark, &value.to_string()).await;
            let other = get(&writer, "b").await.mark;
            put(&writer, "b", other, "noise").await;
        }
    };
    let (values, ()) = tokio::join!(watching, writing);
    assert!(values.is_sorted_by(|a, b| a < b), "{values:?}");
    // What was there before the watch is no news where it was read, and is where it was not.
    let latest = get(&watcher, "a").await;
    let known = watcher.watch(&key("a"), latest.mark).await_for(Duration::from_millis(300)).await;
    assert!(known.is_none(), "{known:?}");
    assert_eq!(soon(watcher.watch(&key("a"), nothing)).await.expect("a reading"), latest);
}

/// One that was forgotten in the middle of its wait takes nothing with it.
pub async fn a_watch_that_is_dropped_costs_nothing(harness: &impl Harness) {
    let store = harness.client().await;
    let mut mark = get(&store, "a").await.mark;
    for round in 0..10 {
        let wait = store.watch(&key("a"), mark).await_for(Duration::from_millis(20)).await;
        assert!(wait.is_none());
        mark = put(&store, "a", mark, &round.to_string()).await;
    }
    assert_eq!(text(&get(&store, "a").await), Some("9"));
}

/// What was answered is there after a crash, revisions go on, and a watcher misses nothing by it.
pub async fn what_was_answered_outlives_a_crash(harness: &mut impl Harness) {
    let mut mark = get(&harness.client().await, "a").await.mark;
    for round in 0..5 {
        let value = format!("round {round}");
        // Each round with a client of its own: that of before the crash may be broken.
        mark = put(&harness.client().await, "a", mark, &value).await;
        harness.restart().await;
        let store = harness.client().await;
        let reading = get(&store, "a").await;
        assert_eq!((reading.mark, text(&reading)), (mark, Some(&*value)));
        let seen = Mark { revision: 0, ..mark };
        assert_eq!(soon(store.watch(&key("a"), seen)).await.expect("a reading"), reading);
        let next = put(&store, "a", mark, "again").await;
        assert!(next.is_after(mark) && next.incarnation == mark.incarnation);
        mark = next;
    }
}

/// A watcher that waits while the store restarts learns of the change after it, by trying again.
pub async fn a_watcher_survives_a_restart(harness: &mut impl Harness) {
    let store = harness.client().await;
    let mark = put(&store, "a", get(&store, "a").await.mark, "before").await;
    let watcher = harness.client().await;
    let cut = watcher.watch(&key("a"), mark).await_for(Duration::from_millis(50)).await;
    assert!(cut.is_none(), "{cut:?}");
    harness.restart().await;
    let store = harness.client().await;
    let after = put(&store, "a", mark, "after").await;
    let reading = soon(async {
        loop {
            // The former connection may be gone.
            if let Ok(reading) = harness.client().await.watch(&key("a"), mark).await {
                return reading;
            }
        }
    })
    .await;
    assert_eq!((reading.mark, text(&reading)), (after, Some("after")));
}

/// A watch that is under way while the store restarts ends: with the change after it, or with an error, and then
/// the next one has the change.
pub async fn a_watch_under_way_ends_with_a_restart(harness: &mut impl Harness) {
    if !harness.watchers_outlive_restarts() {
        return;
    }
    let store = harness.client().await;
    let mark = put(&store, "a", get(&store, "a").await.mark, "before").await;
    let mut watching = tokio::spawn(async move { store.watch(&key("a"), mark).await });
    let begun = (&mut watching).await_for(Duration::from_millis(200)).await;
    assert!(begun.is_none(), "{begun:?}");
    harness.restart().await;
    let store = harness.client().await;
    let after = put(&store, "a", mark, "after").await;
    let ended = soon(watching).await.expect("no panic");
    let reading = match ended {
        Ok(reading) => reading,
        Err(_) => soon(store.watch(&key("a"), mark)).await.expect("a reading"),
    };
    assert_eq!((reading.mark, text(&reading)), (after, Some("after")));
}

/// A store that lost everything is another: nothing read before is good for a write, and watchers are
/// told, whatever its revisions are.
pub async fn a_store_made_anew_is_another(harness: &mut impl Harness) {
    let store = harness.client().await;
    let before = put(&store, "a", get(&store, "a").await.mark, "before").await;
    harness.replace().await;
    let store = harness.client().await;
    let nothing = get(&store, "a").await;
    assert_ne!(nothing.mark.incarnation, before.incarnation);
    assert_eq!((nothing.mark.revision, &nothing.value), (0, &None));
    let refused = soon(store.cas(&key("a"), before, b"x".into())).await;
    assert!(matches!(refused, Err(CasError::Conflict(_))), "{refused:?}");
    assert_eq!(soon(store.watch(&key("a"), before)).await.expect("a reading"), nothing);
    // Also where the revision happens to be the same.
    let after = put(&store, "a", nothing.mark, "after").await;
    assert_eq!(after.revision, before.revision);
    let refused = soon(store.cas(&key("a"), before, b"x".into())).await;
    assert!(matches!(refused, Err(CasError::Conflict(found)) if found == after), "{refused:?}");
    assert_eq!(soon(store.watch(&key("a"), before)).await.expect("a reading").mark, after);
}

/// A future that is given up after a while.
trait AwaitFor: Future + Sized {
    fn await_for(self, time: Duration) -> impl Future<Output = Option<Self::Output>> {
        async move { tokio::time::timeout(time, self).await.ok() }
    }
}

impl<F: Future> AwaitFor for F {}

/// All of the above, each on a store that `make` makes.
pub async fn all<H: Harness>(make: impl AsyncFn() -> H) {
    a_record_is_created_once(&make().await).await;
    only_what_was_read_is_replaced(&make().await).await;
    keys_are_apart_and_revisions_grow(&make().await).await;
    values_are_bytes(&make().await).await;
    changes_at_once_are_one_after_the_other(&make().await).await;
    a_change_begins_anew_when_it_is_forestalled(&make().await).await;
    a_watcher_sees_what_stays_in_order(&make().await).await;
    a_watch_that_is_dropped_costs_nothing(&make().await).await;
    what_was_answered_outlives_a_crash(&mut make().await).await;
    a_watcher_survives_a_restart(&mut make().await).await;
    a_watch_under_way_ends_with_a_restart(&mut make().await).await;
    a_store_made_anew_is_another(&mut make().await).await;
}
