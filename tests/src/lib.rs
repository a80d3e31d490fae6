//! What the tests, the benches and the demonstrations of pgha stand on: the [`lab`], a cluster
//! of hosts made of network namespaces on one machine.
pub mod lab;
