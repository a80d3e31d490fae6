//! `pgha agent`: PostgreSQL on one node, under a lease that does not outlive itself.
//!
//! What is decided is decided by the machine ([`pgha_machine::failover::agent`]); here the world is turned into
//! its events, and its effects into I/O. A failover can be read through the files in this order:
//!
//! 1. [`rights`]: what the agent may do; [`start`]: what a former agent left, and what runs;
//! 2. [`driver`]: one loop takes in what happens, hands it to the machine, and carries out what comes back;
//! 3. [`orders`]: commands, one at a time on a task of its own; [`kept`] is what must be known after a crash;
//!    [`copies`] are made beside them, for a node that was left behind;
//! 4. [`works`]: PostgreSQL behind its gate, watched by its guardian;
//! 5. [`address`]: the writer VIP; [`readers`]: the reader VIPs of a standby; [`clients`]: who
//!    hears that a primary is gone;
//! 6. [`sight`]: what is seen of PostgreSQL; [`faults`]: what speaks against this node;
//! 7. [`news`] and [`status`]: what people are told.
//!
//! The end of an agent leaves PostgreSQL running: the next one takes it over within the lease, so that an
//! upgrade costs no connection. What its end leaves to nobody, the guardian and the gate end in time.

mod address;
mod api;
mod clients;
mod copies;
mod driver;
mod error;
pub mod failures;
mod faults;
mod guard;
mod kept;
mod news;
mod orders;
mod origin;
mod postgres;
mod readers;
mod rights;
mod sight;
mod start;
pub mod status;
mod works;

pub use address::NotReleased;
pub use error::AgentError;
pub use kept::KeptError;
pub use origin::OriginError;
pub use start::{Prepared, prepare, run};
