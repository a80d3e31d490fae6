//! Logs.

pub(crate) mod service;

use std::io::IsTerminal as _;

use tracing::Level;
use tracing_subscriber::filter::{Directive, EnvFilter};

/// Name of the environment variable that filters logs.
pub const FILTER: &str = "PGHA_LOG";

/// Target of the XDP program's verdicts.
pub const PACKET_LOG_TARGET: &str = "packets";

/// Sends logs to standard error: role and membership changes and what needs a person, or what
/// [`FILTER`] says (such as `PGHA_LOG=debug`).
pub fn init() {
    let filter = EnvFilter::builder()
        .with_env_var(FILTER)
        .with_default_directive(Level::INFO.into())
        .from_env_lossy()
        // It warns of every answer that nobody waited for.
        .add_directive(fixed("netlink_proto=error"))
        // The verdicts of the XDP program, which is silent unless it is loaded with `log_packets`.
        .add_directive(fixed(&format!("{PACKET_LOG_TARGET}=trace")));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_target(false)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .init();
}

fn fixed(directive: &str) -> Directive {
    directive.parse().unwrap_or_else(|_| Level::ERROR.into())
}
