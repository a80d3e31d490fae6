//! What the tests, the benches and the demonstrations of pgha stand on: the [`lab`], a cluster
//! of hosts made of network namespaces on one machine, and the [`dataplane`], the XDP program by
//! itself.
pub mod bench;
pub mod dataplane;
pub mod lab;
pub mod skip;
pub mod store;
