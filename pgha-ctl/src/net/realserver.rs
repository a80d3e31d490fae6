//! A database node as a real server of direct server return: each VIP on `lo`, and ARP kept quiet
//! about it (`arp_ignore`, `arp_announce`: Documentation/networking/ip-sysctl.rst).
//!
//! Whatever [`setup`] changes is recorded durably before the change, so that [`undo`] restores
//! exactly what was there, whenever `setup` may have been killed. Both work in the network
//! namespace of the calling thread, and take the state directory's lock.

mod error;
mod record;
mod report;
mod sysctl;
#[cfg(test)]
mod tests;

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use futures_util::TryStreamExt as _;
use ipnet::Ipv4Net;
use nix::errno::Errno;
use nix::net::if_::if_indextoname;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::address::AddressScope;

use super::addresses::interface_addresses;
use super::error::{NetError, errno};
use super::link::IfIndex;
use super::netlink::Netlink;
pub use error::RealServerError;
use record::{Record, StateDir};
pub use report::{Report, Step};
pub use sysctl::Setting;
use sysctl::WANTED;

/// Where the record of a set-up lives unless told otherwise. It vanishes at a reboot, as the
/// settings themselves do.
pub const STATE_DIR: &str = "/run/pgha";

/// The loopback interface is the first of every network namespace.
const LOOPBACK: u32 = 1;
const HOST_PREFIX: u8 = 32;

/// Makes this node a real server for `vips`. Repeating it is harmless and adds new VIPs; the
/// record keeps the values found the first time.
///
/// # Errors
/// A VIP is on another interface, an interface overrides `arp_ignore`, the kernel refused, or the
/// record cannot be kept. Then what this call changed has been taken back.
pub async fn setup(vips: &[Ipv4Addr], state_dir: &Path) -> Result<Report, RealServerError> {
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
    let nothing = || Report::from(vec![Step::NothingToUndo { state_dir: state_dir.to_owned() }]);
    let Some(state) = StateDir::open(state_dir)? else { return Ok(nothing()) };
    let Some(record) = state.load()? else { return Ok(nothing()) };
    let kernel = Kernel::connect().await?;
    let mut report = Report::default();
    // Addresses first: without the sysctls this node would answer ARP for them.
    for vip in &record.addresses {
        report.push(kernel.remove(*vip).await?);
    }
    for setting in record.sysctls.iter().rev() {
        report.push(restore(setting)?);
    }
    state.forget()?;
    Ok(report)
}

/// One run of [`setup`].
struct Job<'s> {
    kernel: Kernel,
    record: Record,
    state: &'s StateDir,
    report: Report,
}

impl Job<'_> {
    /// Sysctls first: a VIP on `lo` without them would be answered for at once.
    async fn set_up(&mut self, vips: &[Ipv4Addr]) -> Result<(), RealServerError> {
        for vip in vips {
            if let Some(interface) = self.kernel.elsewhere(*vip) {
                return Err(RealServerError::VipElsewhere { vip: *vip, interface });
            }
        }
        if let Some((interface, value)) = sysctl::overriding_interface()? {
            return Err(RealServerError::Overridden { interface, value });
        }
        for wanted in WANTED {
            self.sysctl(wanted)?;
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

    async fn address(&mut self, vip: Ipv4Addr) -> Result<(), RealServerError> {
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
    addresses: Vec<(IfIndex, Ipv4Net)>,
}

impl Kernel {
    async fn connect() -> Result<Self, RealServerError> {
        let netlink = Netlink::connect()?;
        let addresses = interface_addresses(netlink.handle()).await?;
        Ok(Self { netlink, addresses })
    }

    fn on_loopback(&self, vip: Ipv4Addr) -> bool {
        self.addresses.iter().any(|(index, net)| index.get() == LOOPBACK && net.addr() == vip)
    }

    /// The name of an interface other than `lo` that has the VIP.
    fn elsewhere(&self, vip: Ipv4Addr) -> Option<String> {
        let found =
            |(index, net): &&(IfIndex, Ipv4Net)| index.get() != LOOPBACK && net.addr() == vip;
        let (index, _) = self.addresses.iter().find(found)?;
        let name = if_indextoname(index.get()).ok();
        Some(name.map_or_else(|| index.to_string(), |name| name.to_string_lossy().into_owned()))
    }

    /// Scope host keeps the VIP from being chosen as the source of this node's own connections.
    async fn add(&self, vip: Ipv4Addr) -> Result<(), RealServerError> {
        let mut request =
            self.netlink.handle().address().add(LOOPBACK, IpAddr::V4(vip), HOST_PREFIX);
        request.message_mut().header.scope = AddressScope::Host;
        match request.execute().await {
            Err(error) if errno(&error) == Some(Errno::EEXIST) => Ok(()),
            result => result.map_err(NetError::netlink("add a VIP to lo")).map_err(Into::into),
        }
    }

    async fn remove(&self, vip: Ipv4Addr) -> Result<Step, RealServerError> {
        let handle = self.netlink.handle();
        let mut request = handle
            .address()
            .get()
            .set_link_index_filter(LOOPBACK)
            .set_prefix_length_filter(HOST_PREFIX)
            .set_address_filter(IpAddr::V4(vip));
        request.message_mut().header.family = AddressFamily::Inet;
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
