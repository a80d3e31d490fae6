//! Read, change, write: with others who do the same, and answers that get lost.

use std::time::Duration;

use super::record::{Key, Mark, Reading};
use super::{CasError, Store, StoreError};

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
    /// Not made.
    #[error("others change the record all the time; try again")]
    Crowded,
}

/// Replaces what is under a key by what `next` makes of it, and returns that. An answer that got lost is read
/// back: the change counts as made where the value is there.
///
/// # Errors
/// When `next` refuses, or the store cannot be used.
pub async fn change<S: Store, E>(
    store: &S,
    key: &Key,
    mut next: impl FnMut(&Reading) -> Result<Vec<u8>, E>,
) -> Result<Reading, ChangeError<E>> {
    let mut found = store.get(key).await.map_err(CasError::Failed)?;
    for _ in 0..ATTEMPTS {
        let value = next(&found).map_err(ChangeError::Unwanted)?;
        match store.cas(key, found.mark, value.clone()).await {
            Ok(mark) => return Ok(Reading { mark, value: Some(value) }),
            Err(CasError::Conflict(_)) => {
                found = store.get(key).await.map_err(CasError::Failed)?;
            }
            Err(CasError::Failed(error)) => return Err(CasError::Failed(error).into()),
            Err(CasError::Unknown(error)) => {
                let now = read_back(store, key, error).await?;
                if is_made(&now, found.mark, &value) {
                    return Ok(now);
                }
                // If the lost request still comes, it meets the mark of the next one and is refused, or
                // the next one meets its value, which is the one wanted.
                found = now;
            }
        }
    }
    Err(ChangeError::Crowded)
}

fn is_made(now: &Reading, before: Mark, value: &[u8]) -> bool {
    now.mark != before && now.value.as_deref() == Some(value)
}

async fn read_back<S: Store>(store: &S, key: &Key, lost: StoreError) -> Result<Reading, CasError> {
    let asking = async {
        loop {
            if let Ok(reading) = store.get(key).await {
                return reading;
            }
            tokio::time::sleep(PAUSE).await;
        }
    };
    tokio::time::timeout(READ_BACK, asking).await.map_err(|_| CasError::Unknown(lost))
}
