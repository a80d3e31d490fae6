//! The network of this node: interfaces and addresses, the kernel's neighbour table, ARP for the
//! VIPs, the set-up of a real server, and the capabilities all of it needs.
//!
//! Sockets belong to the network namespace of the thread that opens them: a process that changes
//! the namespace of one thread only must call these functions on that thread.

mod addresses;
pub mod arp;
pub mod caps;
mod error;
mod link;
mod neighbour;
mod netlink;
pub mod realserver;

pub use addresses::local_addresses;
pub use error::NetError;
pub use link::{IfIndex, Interface, XdpAttachment};
pub use neighbour::{Change, NeighbourEvent, NeighbourWatch};
pub use netlink::Netlink;
