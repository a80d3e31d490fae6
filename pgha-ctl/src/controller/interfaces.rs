//! The director's interfaces: which has an address on its link, and which number it has.

#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::net::IpAddr;

use ipnet::IpNet;
use pgha_machine::balancer::Inherited;
use pgha_machine::{Mac, Neighbour};
use rtnetlink::Handle;

use super::error::InterfacesError;
use super::status::InterfaceStatus;
use crate::bpf::xdp::{Mode, Port, Running};
use crate::config::{Config, Vlan};
use crate::net::{IfIndex, Interface, NetError, offload};

/// The interfaces in the order of the configuration, which numbers them; at least one.
#[derive(Debug)]
pub(crate) struct Interfaces(Vec<Interface>);

impl Interfaces {
    /// Asks the kernel for those of a configuration.
    pub(crate) async fn find(handle: &Handle, config: &Config) -> Result<Self, NetError> {
        let mut found = Vec::new();
        for name in config.director().interfaces() {
            found.push(Interface::find(handle, name).await?);
        }
        Ok(Self(found))
    }

    /// Whether each can serve the VIPs that are on its link, and each VIP is on the link of one.
    pub(crate) fn usable_for(&self, vips: &[IpAddr]) -> Result<(), InterfacesError> {
        for (number, interface) in self.0.iter().enumerate() {
            let own = vips.iter().copied().filter(|vip| self.position_of(*vip) == number);
            // Of several, the first cannot say where a VIP would belong that none reaches.
            let own = own.filter(|vip| self.0.len() == 1 || interface.reaches(*vip));
            interface.usable_for(&own.collect::<Vec<_>>())?;
        }
        match vips.iter().find(|vip| !self.0.iter().any(|interface| interface.reaches(**vip))) {
            Some(vip) => {
                Err(InterfacesError::VipOutside { vip: *vip, interfaces: self.names().join(", ") })
            }
            None => Ok(()),
        }
    }

    /// Warns of each that takes the tags off the frames that the configuration wants forwarded with theirs.
    pub(super) fn warn_of_lost_tags(&self, vlan: Vlan) {
        if vlan != Vlan::Forward {
            return;
        }
        for name in self.names() {
            match offload::takes_tags_off(name) {
                Ok(false) => {}
                Ok(true) => tracing::warn!(
                    "interface {name} takes VLAN tags off before XDP sees them, so that tagged frames would be \
                     forwarded untagged; run: ethtool -K {name} rxvlan off"
                ),
                Err(error) => tracing::warn!("{error}"),
            }
        }
    }

    /// The interface in whose subnet an address lies, by the longest prefix as the kernel routes; the
    /// first for one that lies in none.
    pub(crate) fn of(&self, address: IpAddr) -> &Interface {
        &self.0[self.position_of(address)]
    }

    /// Each interface that has VIPs on its link, with these.
    pub(super) fn with_vips(&self, vips: &[IpAddr]) -> Vec<(&Interface, Vec<IpAddr>)> {
        let own = |number: usize| {
            vips.iter().copied().filter(move |vip| self.position_of(*vip) == number).collect()
        };
        let all = self.0.iter().enumerate().map(|(number, interface)| (interface, own(number)));
        all.filter(|(_, vips): &(_, Vec<_>)| !vips.is_empty()).collect()
    }

    fn position_of(&self, address: IpAddr) -> usize {
        position(self.0.iter().map(Interface::subnets), address).unwrap_or(0)
    }

    /// Corrects where a former controller reached its servers, whose interfaces may have had other
    /// numbers.
    pub(super) fn renumber(&self, inherited: &mut Inherited) {
        for real in &mut inherited.reals {
            let number = u8::try_from(self.position_of(real.address)).unwrap_or_default();
            if let Some(neighbour) = &mut real.neighbour {
                neighbour.interface = number;
            }
        }
    }

    /// Where an address is reached, by what the kernel says of it on one interface: `None` of an
    /// interface other than the one on whose link it is.
    pub(super) fn neighbour(&self, on: IfIndex, address: IpAddr, mac: Mac) -> Option<Neighbour> {
        let interface = u8::try_from(self.position_of(address)).ok()?;
        (self.of(address).index() == on).then_some(Neighbour { interface, mac })
    }

    /// Whether one of them has that address itself.
    pub(super) fn have(&self, address: IpAddr) -> bool {
        self.0.iter().flat_map(Interface::subnets).any(|net| net.addr() == address)
    }

    /// The interface with that number of the kernel's.
    pub(super) fn at(&self, index: IfIndex) -> Option<&Interface> {
        self.0.iter().find(|interface| interface.index() == index)
    }

    /// Puts an interface as it is now in the place of what was known of it.
    pub(super) fn renew(&mut self, now: Interface) {
        if let Some(known) = self.0.iter_mut().find(|known| known.name() == now.name()) {
            *known = now;
        }
    }

    /// Whether addresses may lie on other links than by what was known before.
    pub(super) fn reach_differently(&self, before: &Self) -> bool {
        let reach = |interfaces: &Self| -> Vec<_> {
            let of = |interface: &Interface| (interface.index(), interface.subnets().to_vec());
            interfaces.0.iter().map(of).collect()
        };
        reach(self) != reach(before)
    }

    pub(crate) fn indices(&self) -> Vec<IfIndex> {
        self.0.iter().map(Interface::index).collect()
    }

    /// The name of the one with that number.
    pub(super) fn name(&self, number: u8) -> &str {
        self.0.get(usize::from(number)).map_or("no interface", Interface::name)
    }

    pub(super) fn names(&self) -> Vec<&str> {
        self.0.iter().map(Interface::name).collect()
    }

    pub(super) fn macs(&self) -> Vec<Mac> {
        self.0.iter().map(Interface::mac).collect()
    }

    /// As the data plane wants them.
    pub(super) fn ports(&self) -> Vec<Port> {
        let port = |interface: &Interface| Port {
            name: interface.name().to_owned(),
            index: interface.index().get(),
            mac: interface.mac(),
            program: interface.xdp().map(|attachment| Running {
                id: attachment.prog_id,
                mode: if attachment.generic { Mode::Generic } else { Mode::Native },
            }),
        };
        self.0.iter().map(port).collect()
    }

    /// As operators see them.
    pub(super) fn status(&self) -> Vec<InterfaceStatus> {
        let status = |interface: &Interface| InterfaceStatus {
            name: interface.name().to_owned(),
            mac: interface.mac().to_string(),
        };
        self.0.iter().map(status).collect()
    }
}

/// The place of those subnets of which the longest prefix contains an address, the first of several with
/// one as long.
fn position<'a>(interfaces: impl Iterator<Item = &'a [IpNet]>, address: IpAddr) -> Option<usize> {
    let longest = |subnets: &[IpNet]| {
        subnets.iter().filter(|net| net.contains(&address)).map(IpNet::prefix_len).max()
    };
    interfaces
        .enumerate()
        .filter_map(|(number, subnets)| Some((longest(subnets)?, Reverse(number))))
        .max()
        .map(|(_, Reverse(number))| number)
}
