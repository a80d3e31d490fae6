//! Sessions with PostgreSQL, and what the balancer asks.
//!
//! [`Connector`] holds what any session needs: the login, and TLS (`tls`). [`Session`] is one that is
//! open; [`ask`] puts the one question there is (`server.sql`), [`Report`] is its answer. [`check()`]
//! judges a server by it, and by how it meets new sessions (`wire`); [`inspect`] asks once and for more.
//! [`PgError`] says what went wrong, and by that whose fault it is.

mod check;
mod connector;
mod encrypted;
mod error;
#[cfg(test)]
mod heard;
pub mod inspect;
mod report;
pub mod server;
mod session;
mod tls;
mod wire;

use std::net::SocketAddr;
use std::time::Duration;

pub use check::{Checked, check, log_in_and_ask};
pub use connector::Connector;
pub use error::PgError;
pub(crate) use error::quoted;
pub use report::{NamedWalsender, PrimaryReport, Report};
pub use session::{Session, ask};
pub use tls::TlsFileError;

/// Where a server listens.
pub type Server = SocketAddr;

async fn within<T>(timeout: Duration, work: impl Future<Output = T>) -> Result<T, PgError> {
    tokio::time::timeout(timeout, work).await.map_err(|_| PgError::Timeout(timeout))
}
