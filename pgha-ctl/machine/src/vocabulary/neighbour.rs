use super::Mac;

/// Where another host of the link is reached from the director.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Neighbour {
    /// Number of the director's interface behind which it is, in the order of the configuration.
    pub interface: u8,
    /// Its MAC address there.
    pub mac: Mac,
}
