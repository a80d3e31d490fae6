//! Standard output.

use std::io::{self, Write as _};

use serde::Serialize;

/// Prints a value as JSON or as text, with one line feed at its end.
pub(super) fn print<T: Serialize>(
    json: bool,
    value: &T,
    text: impl FnOnce(&T) -> String,
) -> anyhow::Result<()> {
    let shown = if json { serde_json::to_string_pretty(value)? } else { text(value) };
    put(format!("{}\n", shown.trim_end()).as_bytes())?;
    Ok(())
}

/// Writes to standard output. It is no failure that whoever reads has enough: `pgha flows | head`.
pub(super) fn put(bytes: &[u8]) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        put => put,
    }
}
