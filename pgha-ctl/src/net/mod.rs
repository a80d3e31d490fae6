//! The network of this node, IPv4 and IPv6: interfaces and addresses, the kernel's neighbour table,
//! the VIPs as the network sees them, packets in a VIP's name, the set-up of a real server, and the
//! capabilities all of it needs.
//!
//! Sockets belong to the network namespace of the thread that opens them: a process that changes
//! the namespace of one thread only must call these functions on that thread.

mod addresses;
pub mod caps;
mod changes;
mod error;
mod filter;
mod link;
mod neighbour;
mod netlink;
pub mod offload;
pub mod ping;
pub mod probe;
pub mod raw;
pub mod realserver;
pub mod vip;
pub mod xdp_features;

pub use addresses::{local_addresses, local_macs};
pub use changes::Changes;
pub use error::NetError;
pub use link::{IfIndex, Interface, XdpAttachment};
pub use neighbour::{Change, NeighbourEvent, NeighbourWatch};
pub use netlink::Netlink;
