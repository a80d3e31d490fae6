//! Tests on real hosts made of network namespaces. They need root.
mod lab;
