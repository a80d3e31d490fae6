//! What stops a WAL receiver from beginning.
//!
//! An empty `primary_conninfo` is not enough: between a reload and the moment the startup process takes it in, that
//! may ask for another receiver by the value it had, and nothing outside shows whether it has taken it in. So the
//! connection string names a *service* besides, which libpq looks up in a file when it connects
//! (`PGSERVICEFILE`). Without the service in it every attempt fails, whatever anybody remembers. A receiver that
//! looked before is a process that calls itself one by then, and can be waited for.
//!
//! PostgreSQL's own processes see this file instead of `~/.pg_service.conf`; what they look for and do not find is
//! looked for in the machine's `pg_service.conf` as before.

use std::io;
use std::path::Path;

use crate::rpc::durable;

/// The service that every `primary_conninfo` of pgha's names.
pub(super) const SERVICE: &str = "pgha";

/// Lets receivers begin, or none.
pub(super) fn set(path: &Path, open: bool) -> io::Result<()> {
    let text = if open { format!("[{SERVICE}]\nkeepalives=1\n") } else { String::new() };
    durable::replace(path, text.as_bytes(), 0o640)
}
