//! Tests on real hosts made of network namespaces. They need root.
mod cluster;
mod families;
mod forwarding;
mod interfaces;
mod lab;
mod membership;
mod neighbours;
mod network;
mod orders;
mod primary_lost;
mod protect;
mod reader_lost;
mod realserver;
mod refusals;
mod reload;
mod restart;
mod upgrade;
