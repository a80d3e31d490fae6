//! The cases, each with what it is for.

use pgha_machine::failover::record::Mode;
use pgha_sim::model::{Begins, Case, Fault};

const OPEN: Mode = Mode::Async { max_lag: 0 };

/// The machine of the primary is lost, or another controller suspects it wrongly; only the end of the lease
/// is a proof.
pub(crate) fn by_lease() -> Case {
    Case {
        mode: Mode::Sync { quorum: 1, max_lag: 0 },
        by_lease_only: true,
        faults: vec![Fault::Off(0).within(0, 0), Fault::Suspicion.within(0, 0)],
        writes: 1,
        ..Case::small("a primary and a standby, by the end of the lease")
    }
}

/// The same, where commits wait for nobody: the end of the lease alone keeps two from writing.
pub(crate) fn open() -> Case {
    Case {
        mode: OPEN,
        voters: 0,
        faults: vec![Fault::Paused(0).within(0, 300), Fault::Suspicion.within(0, 0)],
        writes: 1,
        ..Case::small("a primary that waits for nobody, and a standby")
    }
}

/// The same, and one thing that is under way comes at any later time.
pub(crate) fn late() -> Case {
    Case {
        faults: vec![Fault::Paused(0).within(0, 0)],
        late: 1,
        writes: 0,
        horizon: 1_200,
        name: "a primary that waits for nobody, and something is late",
        ..open()
    }
}

/// The primary stands still, while PostgreSQL goes on: the frozen voters are the proof. Followed to where the
/// new primary's voters have grown.
pub(crate) fn by_quorum() -> Case {
    Case {
        nodes: 3,
        voters: 2,
        faults: vec![Fault::Paused(0).within(0, 0)],
        writes: 1,
        coarse: true,
        ..Case::small("a primary that stands still, and any 1 of 2 standbys")
    }
}

/// The same with one standby, where one thing that is under way comes at any later time.
pub(crate) fn by_quorum_late() -> Case {
    Case {
        nodes: 2,
        voters: 1,
        late: 1,
        coarse: false,
        horizon: 1_200,
        name: "a primary that stands still, and something is late",
        ..by_quorum()
    }
}

/// The same, where one request to the store goes without an answer.
pub(crate) fn by_quorum_lost() -> Case {
    Case {
        late: 0,
        lost: 1,
        name: "a primary that stands still, and a request is lost",
        ..by_quorum_late()
    }
}

/// The machine of the primary is lost with what it had not sent yet, and comes back at any step of the failover.
pub(crate) fn comes_back() -> Case {
    Case {
        faults: vec![Fault::Off(0).within(0, 0).mended(600, 1_000)],
        writes: 1,
        coarse: true,
        horizon: 1_200,
        ..Case::small("a primary that is lost and comes back")
    }
}

/// The store is gone, and back at another moment for each; the primary goes on by what its only member grants,
/// and the member is nominated as soon as that may be.
pub(crate) fn failsafe() -> Case {
    Case {
        mode: OPEN,
        voters: 0,
        faults: vec![
            Fault::Store.within(0, 0).mended(0, 300),
            Fault::StoreOf(0).within(0, 0).mended(0, 300),
        ],
        ..Case::small("a primary without the store, and its only member")
    }
}

/// The store is gone, and so is one of two members: the primary must not go on. The store is back at the
/// horizon.
pub(crate) fn failsafe_alone() -> Case {
    Case {
        nodes: 3,
        faults: vec![Fault::Store.within(0, 300), Fault::Off(2).within(0, 300)],
        writes: 1,
        coarse: true,
        name: "a primary without the store and without a member",
        ..failsafe()
    }
}

/// The store is back for all but the primary, which goes on by what its only member has granted; the agent of
/// that one is restarted in the meantime.
pub(crate) fn failsafe_restarted() -> Case {
    Case {
        faults: vec![
            Fault::Store.within(0, 0).mended(300, 600),
            Fault::StoreOf(0).within(0, 0),
            Fault::Agent(1).within(300, 900).mended(300, 900),
        ],
        coarse: true,
        horizon: 2_100,
        name: "a primary without the store, and its only member is restarted",
        ..failsafe()
    }
}

/// A second standby becomes a voter, and the primary dies at any point of that. Followed to where the new
/// primary's voters have grown.
pub(crate) fn voters_change() -> Case {
    Case {
        nodes: 3,
        faults: vec![Fault::Off(0).within(400, 600)],
        writes: 1,
        coarse: true,
        ..Case::small("a second standby becomes a voter while the primary dies")
    }
}

/// The same, and the primary's agent only stands still, before PostgreSQL uses the new set or after: it goes on.
pub(crate) fn voters_change_paused() -> Case {
    Case {
        faults: vec![Fault::Paused(0).within(400, 400)],
        horizon: 1_000,
        name: "a second standby becomes a voter while the primary's agent stands still",
        ..voters_change()
    }
}

/// PostgreSQL crashes at the beginning, and is restarted in place; one request to the store goes without an
/// answer, and is carried out later or never.
pub(crate) fn crash() -> Case {
    Case {
        faults: vec![Fault::Crash(0).within(0, 0)],
        writes: 1,
        lost: 1,
        horizon: 600,
        ..Case::small("PostgreSQL crashes, and is restarted in place")
    }
}

/// PostgreSQL crashes while another controller suspects the primary: it is restarted in place, or another one
/// takes over in the middle of that.
pub(crate) fn crash_suspected() -> Case {
    Case {
        faults: vec![Fault::Crash(0).within(0, 300), Fault::Suspicion.within(0, 0)],
        writes: 1,
        coarse: true,
        horizon: 1_200,
        ..Case::small("PostgreSQL crashes while the primary is suspected")
    }
}

/// PostgreSQL crashes and may not be restarted: the primary gives its lease back.
pub(crate) fn released() -> Case {
    Case {
        restarts: 0,
        faults: vec![Fault::Crash(0).within(0, 300)],
        writes: 1,
        coarse: true,
        horizon: 900,
        ..Case::small("PostgreSQL crashes, and the primary gives its lease back")
    }
}

/// The primary's agent ends at any step of a renewal, and another one begins at any later step.
pub(crate) fn agent_of_the_primary() -> Case {
    Case {
        faults: vec![Fault::Agent(0).within(300, 300).mended(300, 1_000)],
        writes: 1,
        coarse: true,
        horizon: 1_000,
        ..Case::small("the primary's agent is restarted")
    }
}

/// The primary is lost, and the agent of the one who takes over ends at any step of that.
pub(crate) fn agent_of_the_nominee() -> Case {
    Case {
        faults: vec![Fault::Off(0).within(0, 0), Fault::Agent(1).within(0, 1_500).mended(0, 1_500)],
        writes: 1,
        coarse: true,
        ..Case::small("a failover, and the nominee's agent is restarted")
    }
}

/// The primary is lost, and the controller ends at any step of the failover.
pub(crate) fn controller_ends() -> Case {
    Case {
        faults: vec![Fault::Off(0).within(0, 0), Fault::Controller(0).within(0, 1_500)],
        writes: 1,
        ..Case::small("a failover, and the controller is restarted")
    }
}

/// Two controllers both coordinate, and one thing that is under way comes at any later time.
pub(crate) fn two_controllers_late() -> Case {
    Case {
        controllers: 2,
        faults: vec![Fault::Paused(0).within(0, 0)],
        late: 1,
        horizon: 1_000,
        ..Case::small("two controllers, and something is late")
    }
}

/// The same, and one request to the store goes without an answer instead.
pub(crate) fn two_controllers_lost() -> Case {
    Case {
        late: 0,
        lost: 1,
        coarse: true,
        horizon: 1_200,
        name: "two controllers, and a request is lost",
        ..two_controllers_late()
    }
}

/// The primary is cut off alone from the store and all others, for good or until any step.
pub(crate) fn alone() -> Case {
    Case {
        mode: OPEN,
        voters: 0,
        faults: vec![Fault::Alone(0).within(0, 0).mended(0, 1_500)],
        writes: 1,
        coarse: true,
        ..Case::small("a primary that waits for nobody is cut off alone")
    }
}

/// The same, where it waits for its standby, and is heard again at any step of the failover.
pub(crate) fn alone_and_back() -> Case {
    Case {
        faults: vec![Fault::Alone(0).within(0, 0).mended(700, 1_200)],
        writes: 1,
        coarse: true,
        horizon: 1_500,
        ..Case::small("a primary is cut off alone and comes back")
    }
}

/// The same, where it waits for any one of two standbys, and is heard again at the horizon.
pub(crate) fn alone_of_three() -> Case {
    Case {
        nodes: 3,
        faults: vec![Fault::Alone(0).within(0, 0)],
        writes: 1,
        coarse: true,
        ..Case::small("a primary is cut off alone from any 1 of 2 standbys")
    }
}

/// Who took the epoch is lost before it is promoted, at any step of that, or is not; one request to the store
/// goes without an answer.
pub(crate) fn taken() -> Case {
    Case {
        begins: Begins::Taken,
        faults: vec![Fault::Off(0).within(0, 0)],
        lost: 1,
        coarse: true,
        horizon: 1_200,
        ..Case::small("a nominee is lost before it is promoted")
    }
}

/// An operator relieves the primary, at any step; that ends itself, or its agent is gone by then.
pub(crate) fn relieved() -> Case {
    Case {
        faults: vec![Fault::Ordered.within(0, 0), Fault::Agent(0).within(0, 0)],
        writes: 1,
        coarse: true,
        ..Case::small("an operator relieves the primary, whose agent may be gone")
    }
}

/// An operator forces the one standby in the place of a primary that is there, whatever it lacks.
pub(crate) fn forced() -> Case {
    Case {
        faults: vec![Fault::Forced(1).within(0, 0), Fault::Paused(0).within(0, 0)],
        writes: 1,
        coarse: true,
        ..Case::small("an operator forces a standby, while the primary may stand still")
    }
}

/// The primary stands still, and somebody hears late of how the record was before.
pub(crate) fn stale() -> Case {
    Case {
        faults: vec![Fault::Paused(0).within(0, 0)],
        writes: 1,
        stale: 1,
        ..Case::small("a failover, and somebody hears of what was before")
    }
}
