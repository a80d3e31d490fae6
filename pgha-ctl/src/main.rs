//! pgha: the read load balancer for PostgreSQL.
fn main() {}
