//! A database node as a real server of direct server return: each VIP on `lo`, and ARP kept quiet
//! about it (`arp_ignore`, `arp_announce`: Documentation/networking/ip-sysctl.rst).
//!
//! For an IPv6 VIP nothing has to be kept quiet: Linux answers a neighbour solicitation only for
//! addresses of the interface it came in on (ndisc_recv_ns in ndisc.c looks there, and nowhere else
//! unless `proxy_ndp` is set and an entry for the address was made).
//!
//! Whatever [`setup`] changes is recorded durably before the change, so that [`undo`] restores
//! exactly what was there, whenever `setup` may have been killed. Both work in the network
//! namespace of the calling thread, and take the state directory's lock.

mod error;
mod look;
mod record;
mod report;
mod sysctl;
#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::path::Path;

use futures_util::TryStreamExt as _;
use ipnet::IpNet;
use nix::errno::Errno;
use nix::net::if_::if_indextoname;
use rtnetlink::packet_route::address::{AddressAttribute, AddressScope, CacheInfo};

use super::addresses::interface_addresses;
use super::error::{NetError, errno};
use super::link::IfIndex;
use super::netlink::Netlink;
pub use error::RealServerError;
pub use look::{Look, SysctlSeen, VipSeen, look, on_another_interface, rp_filters};
use record::{Record, StateDir};
pub use report::{Report, Step};
pub use sysctl::Setting;
use sysctl::WANTED;

/// Where the record of a set-up lives unless told otherwise. It vanishes at a reboot, as the
/// settings themselves do.
pub const STATE_DIR: &str = "/run/pgha";

/// The loopback interface is the first of every network namespace.
const LOOPBACK: u32 = 1;
/// A lifetime without end (INFINITY_LIFE_TIME in addrconf.h).
const FOR_EVER: u32 = u32::MAX;

/// Makes this node a real server for `vips`. Repeating it is harmless and adds new VIPs; the
/// record keeps the values found the first time.
///
/// # Errors
/// A VIP is on another interface, an interface overrides `arp_ignore`, IPv6 is off for an IPv6 VIP,
/// the kernel refused, or the record cannot be kept. Then what this call changed has been taken back.
pub async fn setup(vips: &[IpAddr], state_dir: &Path) -> Result<Report, RealServerError> {
    let state = StateDir::create(state_dir)?;
    let earlier = state.load()?;
    let mut job = Job {
        kernel: Kernel::connect().await?,
        record: earlier.clone().unwrap_or_else(|| Record::empty(state.namespace())),
        state: &state,
        report: Report::default(),
    };
    if let Err(error) = job.set_up(vips).await {
        return Err(match job.take_back(earlier.as_ref()).await {
            Ok(()) => error,
            Err(second) => {
                RealServerError::TakeBack { error: Box::new(error), second: Box::new(second) }
            }
        });
    }
    Ok(job.report)
}

/// Restores what [`setup`] changed, and forgets it. Addresses that were there before stay; a
/// sysctl that somebody changed since keeps that value. Without a record there is nothing to undo,
/// which the report says.
///
/// # Errors
/// The kernel refused, or the record is damaged, of another version or of another network
/// namespace. The record stays then.
pub async fn undo(state_dir: &Path) -> Result<Report, RealServerError> {
    undo_but(&[], state_dir).await
}

/// As [`undo`], but for these VIPs, and for the sysctls where one of these is IPv4.
///
/// # Errors
/// As of [`undo`].
pub async fn undo_but(kept: &[IpAddr], state_dir: &Path) -> Result<Report, RealServerError> {
    let nothing = || Report::from(vec![Step::NothingToUndo { state_dir: state_dir.to_owned() }]);
    let Some(state) = StateDir::open(state_dir)? else { return Ok(nothing()) };
    let Some(mut record) = state.load()? else { return Ok(nothing()) };
    let kernel = Kernel::connect().await?;
    let mut report = Report::default();
    // Addresses first: without the sysctls this node would answer ARP for them.
    for vip in record.addresses.iter().filter(|vip| !kept.contains(vip)) {
        report.push(kernel.remove(*vip).await?);
    }
    record.addresses.retain(|vip| kept.contains(vip));
    if !kept.iter().any(IpAddr::is_ipv4) {
        for setting in record.sysctls.drain(..).rev() {
            report.push(restore(&setting)?);
        }
    }
    if record.is_empty() {
        state.forget()?;
    } else {
        state.save(&record)?;
    }
    Ok(report)
}

/// Whether a [`setup`] of this node is on record, which [`undo`] would take back.
///
/// # Errors
/// As of [`undo`].
pub fn is_recorded(state_dir: &Path) -> Result<bool, RealServerError> {
    let Some(state) = StateDir::open(state_dir)? else { return Ok(false) };
    Ok(state.load()?.is_some())
}

/// The VIPs that a [`setup`] of this node added, by the record.
///
/// # Errors
/// As of [`undo`].
pub fn recorded(state_dir: &Path) -> Result<Vec<IpAddr>, RealServerError> {
    let Some(state) = StateDir::open(state_dir)? else { return Ok(Vec::new()) };
    Ok(state.load()?.map(|record| record.addresses).unwrap_or_default())
}

/// One run of [`setup`].
struct Job<'s> {
    kernel: Kernel,
    record: Record,
    state: &'s StateDir,
    report: Report,
}

impl Job<'_> {
    /// Sysctls first: an IPv4 VIP on `lo` without them would be answered for at once.
    async fn set_up(&mut self, vips: &[IpAddr]) -> Result<(), RealServerError> {
        for vip in vips {
            if let Some(interface) = self.kernel.elsewhere(*vip) {
                return Err(RealServerError::VipElsewhere { vip: *vip, interface });
            }
        }
        if vips.iter().any(IpAddr::is_ipv6) {
            sysctl::ipv6_on_loopback()?;
        }
        if vips.iter().any(IpAddr::is_ipv4) {
            if let Some((interface, value)) = sysctl::overriding_interface()? {
                return Err(RealServerError::Overridden { interface, value });
            }
            for wanted in WANTED {
                self.sysctl(wanted)?;
            }
        }
        for vip in vips {
            self.address(*vip).await?;
        }
        Ok(())
    }

    fn sysctl(&mut self, wanted: &sysctl::Wanted) -> Result<(), RealServerError> {
        let name = wanted.name;
        let found = sysctl::read(name)?;
        if (wanted.enough)(found) {
            self.report.push(Step::SysctlKept { name: name.to_owned(), value: found });
            return Ok(());
        }
        let setting = Setting { name: name.to_owned(), before: found, set: wanted.value };
        if !self.record.sysctls.iter().any(|known| known.name == name) {
            self.record.sysctls.push(setting.clone());
            self.state.save(&self.record)?;
        }
        self.report.push(Step::SysctlSet(setting));
        sysctl::write(name, wanted.value)
    }

    async fn address(&mut self, vip: IpAddr) -> Result<(), RealServerError> {
        if self.kernel.on_loopback(vip) {
            self.report.push(Step::AddressKept(vip));
            return Ok(());
        }
        if !self.record.addresses.contains(&vip) {
            self.record.addresses.push(vip);
            self.state.save(&self.record)?;
        }
        self.report.push(Step::AddressAdded(vip));
        self.kernel.add(vip).await
    }

    /// Takes back what this run did, latest first, and puts the earlier record back.
    async fn take_back(&mut self, earlier: Option<&Record>) -> Result<(), RealServerError> {
        for step in self.report.take().into_iter().rev() {
            if let Step::AddressAdded(vip) = step {
                self.kernel.remove(vip).await?;
            } else if let Step::SysctlSet(setting) = step {
                restore(&setting)?;
            }
        }
        match earlier {
            Some(record) => self.state.save(record),
            None => self.state.forget(),
        }
    }
}

/// Gives a sysctl its earlier value, unless somebody else changed it since.
fn restore(setting: &Setting) -> Result<Step, RealServerError> {
    let found = sysctl::read(&setting.name)?;
    if found == setting.set {
        sysctl::write(&setting.name, setting.before)?;
        return Ok(Step::SysctlRestored(setting.clone()));
    }
    Ok(if found == setting.before {
        Step::SysctlKept { name: setting.name.clone(), value: found }
    } else {
        Step::SysctlLeft { setting: setting.clone(), found }
    })
}

/// The addresses of this network namespace.
struct Kernel {
    netlink: Netlink,
    addresses: Vec<(IfIndex, IpNet)>,
}

impl Kernel {
    async fn connect() -> Result<Self, RealServerError> {
        let netlink = Netlink::connect()?;
        let addresses = interface_addresses(netlink.handle()).await?;
        Ok(Self { netlink, addresses })
    }

    fn on_loopback(&self, vip: IpAddr) -> bool {
        self.addresses.iter().any(|(index, net)| index.get() == LOOPBACK && net.addr() == vip)
    }

    /// The name of an interface other than `lo` that has the VIP.
    fn elsewhere(&self, vip: IpAddr) -> Option<String> {
        let found = |(index, net): &&(IfIndex, IpNet)| index.get() != LOOPBACK && net.addr() == vip;
        self.addresses.iter().find(found).map(|(index, _)| name_of(*index))
    }

    /// The VIP is not to be chosen as the source of this node's own connections: of an IPv4 address
    /// the scope host says so, of an IPv6 one that it is deprecated (RFC 6724, section 5, rule 3).
    async fn add(&self, vip: IpAddr) -> Result<(), RealServerError> {
        let mut request = self.netlink.handle().address().add(LOOPBACK, vip, host_prefix(vip));
        let message = request.message_mut();
        match vip {
            IpAddr::V4(_) => message.header.scope = AddressScope::Host,
            IpAddr::V6(_) => {
                let mut lifetimes = CacheInfo::default();
                (lifetimes.ifa_preferred, lifetimes.ifa_valid) = (0, FOR_EVER);
                message.attributes.push(AddressAttribute::CacheInfo(lifetimes));
            }
        }
        match request.execute().await {
            Err(error) if errno(&error) == Some(Errno::EEXIST) => Ok(()),
            result => result.map_err(NetError::netlink("add a VIP to lo")).map_err(Into::into),
        }
    }

    async fn remove(&self, vip: IpAddr) -> Result<Step, RealServerError> {
        let handle = self.netlink.handle();
        let request = handle
            .address()
            .get()
            .set_link_index_filter(LOOPBACK)
            .set_prefix_length_filter(host_prefix(vip))
            .set_address_filter(vip);
        let found: Vec<_> =
            request.execute().try_collect().await.map_err(NetError::netlink("list addresses"))?;
        let Some(message) = found.into_iter().next() else { return Ok(Step::AddressGone(vip)) };
        match handle.address().del(message).execute().await {
            Err(error) if errno(&error) == Some(Errno::EADDRNOTAVAIL) => Ok(Step::AddressGone(vip)),
            Err(error) => Err(NetError::netlink("remove a VIP from lo")(error).into()),
            Ok(()) => Ok(Step::AddressRemoved(vip)),
        }
    }
}

/// The name of an interface, or its number when it is gone.
fn name_of(index: IfIndex) -> String {
    let name = if_indextoname(index.get()).ok();
    name.map_or_else(|| index.to_string(), |name| name.to_string_lossy().into_owned())
}

/// The prefix length of an address that is a network by itself.
const fn host_prefix(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}
