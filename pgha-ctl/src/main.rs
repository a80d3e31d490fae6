//! pgha: the read load balancer for PostgreSQL.

use std::process::ExitCode;

fn main() -> ExitCode {
    pgha_ctl::cli::main()
}
