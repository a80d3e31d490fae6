//! The XDP balancer.
fn main() {}
