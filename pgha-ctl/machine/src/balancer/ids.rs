//! Ids for real servers, and their generations.

use std::collections::VecDeque;

use pgha_common::flow::{GENERATIONS, RealRef};
use pgha_common::maps::MAX_REALS;

/// Gives out ids so that a flow of an id's former user is never taken for one of its next user: each
/// user has the next generation, and the id that has been free for longest is given first, so that a
/// generation returns only after [`GENERATIONS`] users.
#[derive(Debug, Default)]
pub(super) struct Ids {
    /// Ids below this one (and above 0) were used at some time.
    first_unused: u16,
    /// Free ones among them with the generation of their last user, the longest free first.
    free: VecDeque<RealRef>,
}

impl Ids {
    /// Goes on where a former controller ended: every id up to the highest that was ever used, with
    /// its generation; `taken` tells which are in use.
    pub(super) fn inherit(known: &[RealRef], taken: impl Fn(RealRef) -> bool) -> Self {
        let first_unused = known.iter().map(|real| real.id + 1).max().unwrap_or(1);
        let free = known.iter().copied().filter(|real| !taken(*real)).collect();
        Self { first_unused, free }
    }

    /// An id nobody has. `None` when all are in use.
    pub(super) fn take(&mut self) -> Option<RealRef> {
        let fresh = self.first_unused.max(1);
        if u32::from(fresh) < MAX_REALS {
            self.first_unused = fresh + 1;
            return Some(RealRef { id: fresh, generation: 0 });
        }
        let RealRef { id, generation } = self.free.pop_front()?;
        Some(RealRef { id, generation: (generation + 1) % GENERATIONS })
    }

    /// Its user is gone.
    pub(super) fn give_back(&mut self, real: RealRef) {
        self.free.push_back(real);
    }
}

#[cfg(test)]
mod tests;
