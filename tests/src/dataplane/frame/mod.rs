//! Frames, written by etherparse: none of it shares code with the program under test.

mod checksum;
mod icmp;
mod ip;
mod link;
mod neighbour;
mod segment;

pub use checksum::{assert_checksums, has_right_checksums};
pub use icmp::{ErrorKind, Icmp, kind};
pub use ip::{Extension, Ip};
pub use link::{SERVICE_TAG, TAG, arp_frame, ethernet, tagged};
pub use neighbour::{
    advertisement, flag, group_mac, option, solicitation, solicited_node, unicast_solicitation,
};
pub use segment::Segment;

#[cfg(test)]
mod tests;
