//! Read, change, write: with others who do the same, and answers that get lost.

use std::time::Duration;

use super::record::{Key, Mark, Reading};
use super::{CasError, Store, StoreError};

#[cfg(test)]
mod tests;

/// How often a change begins anew. Each time somebody else was quicker, so the store itself is alive.
const ATTEMPTS: u32 = 100;
/// How long a store that gave no answer may take to give one when it is asked again.
const READ_BACK: Duration = Duration::from_secs(5);
/// Between two such questions.
const PAUSE: Duration = Duration::from_millis(100);

/// A change was not made, or nobody knows.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError<E> {
    /// Not made: it is not wanted on what is there.
    #[error(transparent)]
    Unwanted(E),
    /// Not made, or not known to be made: the error says which.
    #[error(transparent)]
    Store(#[from] CasError),
    /// Not made, and no write is left that may still be.
    #[error("others change the record all the time; try again")]
    Crowded,
}

/// Replaces what is under a key by what `next` makes of it, and returns that. An answer that got lost is read
/// back: the change counts as made where the value is there. Where it is not, the write may still be on its way,
/// so from there on nothing but a write that was answered is certain.
///
/// # Errors
/// When `next` refuses, or the store cannot be used. After a write without an answer every other error is
/// [`CasError::Unknown`].
pub async fn change<S: Store, E>(
    store: &S,
    key: &Key,
    mut next: impl FnMut(&Reading) -> Result<Vec<u8>, E>,
) -> Result<Reading, ChangeError<E>> {
    let mut lost: Option<Lost> = None;
    let mut found = store.get(key).await.map_err(CasError::Failed)?;
    for _ in 0..ATTEMPTS {
        // The lost write came after all.
        if lost.as_ref().is_some_and(|lost| lost.is_made(&found)) {
            return Ok(found);
        }
        let value = next(&found).map_err(ChangeError::Unwanted)?;
        found = match store.cas(key, found.mark, value.clone()).await {
            Ok(mark) => return Ok(Reading { mark, value: Some(value) }),
            Err(CasError::Conflict(_)) => match store.get(key).await {
                Ok(now) => now,
                Err(error) => return Err(failed(lost, error).into()),
            },
            Err(CasError::Failed(error)) => return Err(failed(lost, error).into()),
            Err(CasError::Unknown(error)) => {
                lost = Some(Lost { before: found.mark, value, error });
                // If it still comes, it meets the mark of the next one and is refused, or the next one meets
                // its value, which is the one wanted.
                let Some(now) = read_back(store, key).await else { break };
                now
            }
        };
    }
    // Too often forestalled, or not even read back.
    Err(lost.map_or(ChangeError::Crowded, |lost| CasError::Unknown(lost.error).into()))
}

/// A write without an answer: it may have been made, or be made yet.
struct Lost {
    before: Mark,
    value: Vec<u8>,
    error: StoreError,
}

impl Lost {
    fn is_made(&self, now: &Reading) -> bool {
        now.mark != self.before && now.value.as_ref() == Some(&self.value)
    }
}

/// What is known when the store fails: not even that nothing was written, after a write without an answer.
fn failed(lost: Option<Lost>, error: StoreError) -> CasError {
    lost.map_or(CasError::Failed(error), |lost| CasError::Unknown(lost.error))
}

/// `None` where the store gives no answer in time.
async fn read_back<S: Store>(store: &S, key: &Key) -> Option<Reading> {
    let asking = async {
        loop {
            if let Ok(reading) = store.get(key).await {
                return reading;
            }
            tokio::time::sleep(PAUSE).await;
        }
    };
    tokio::time::timeout(READ_BACK, asking).await.ok()
}
