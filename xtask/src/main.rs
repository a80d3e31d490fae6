//! Set-up, build, lint and test.
fn main() {}
