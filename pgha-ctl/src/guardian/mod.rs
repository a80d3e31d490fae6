//! The guardian: a small process beside the agent that ends PostgreSQL when the agent does not.
//!
//! The agent says ([`Client::guard`]) which cgroup and which writer VIPs are to be given up at which moment, and
//! moves the moment on with each renewal of its lease. At the moment itself, without a newer one, the guardian
//! kills the cgroup and takes the VIPs off, whether the agent hangs, is stopped or is gone. It is locked in
//! memory, runs before every ordinary process, and does nothing then but write to what it opened before.
//!
//! | file | does |
//! |---|---|
//! | [`watch`] | decides: what is guarded, until when, and which order counts. Pure. |
//! | [`means`] | what is opened beforehand, and the surrender itself |
//! | [`process`] | the loop of `pgha guardian`, on one thread without a runtime |
//! | [`priority`] | memory and scheduling |
//! | [`said`] | what is said, as lines of JSON over one Unix socket |
//! | [`client`] | the agent's side |
//!
//! When the agent's connection ends, the moment stays: an agent that is back in time says again what it says in
//! [`Client::guard`], with the number of the same start. A guardian that guards nothing ends with its connection.

mod client;
mod means;
mod priority;
mod process;
mod said;
mod watch;

pub use client::{Client, GuardianError, Spawn};
pub use process::{ProcessError, Settings, run};
pub use said::{Charge, Surrendered, Vip};
pub use watch::Refusal;
