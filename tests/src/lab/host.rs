//! A host: a namespace with one address on a cable to the switch.
use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use super::frames::FrameSocket;
use super::netns::{Namespace, ip_batch};
use super::plan::{BRIDGE_INTERFACE, INTERFACE, Network, ipv6, mac, mac_text};
use super::process::{Cmd, Daemon};
use super::state::Places;
use super::switch;
use super::wait::SOON;
use super::xdp::{self, Stub};

/// The MAC address of no host.
const NOBODY: [u8; 6] = [0x02, 0, 0, 0, 0, 0xfe];

/// What all hosts of a lab share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) id: String,
    pub(super) places: Places,
    pub(super) switch: Namespace,
    /// Whether it has a primary already.
    founded: AtomicBool,
    /// Children that outlive their handles, to be waited for once they are killed.
    daemons: Mutex<Vec<Daemon>>,
}

impl Shared {
    pub(super) fn new(id: String, places: Places, switch: Namespace) -> Self {
        Self { id, places, switch, founded: AtomicBool::default(), daemons: Mutex::default() }
    }

    /// True for who asks first.
    pub(super) fn found(&self) -> bool {
        !self.founded.swap(true, Ordering::Relaxed)
    }

    pub(super) fn adopt(&self, daemon: Daemon) {
        self.daemons.lock().unwrap_or_else(PoisonError::into_inner).push(daemon);
    }

    /// Leaves no zombies behind after the lab has killed its processes.
    pub(super) fn wait_for_daemons(&self) -> Result<()> {
        let mut daemons = self.daemons.lock().unwrap_or_else(PoisonError::into_inner);
        daemons.drain(..).try_for_each(|daemon| daemon.wait(SOON).map(drop))
    }
}

/// A host of a lab. A handle: clones are the same host.
#[derive(Clone)]
pub struct Host {
    name: Arc<str>,
    address: Ipv4Addr,
    namespace: Arc<Namespace>,
    pub(super) shared: Arc<Shared>,
}

impl Host {
    pub(super) fn new(
        name: &str,
        address: Ipv4Addr,
        namespace: Namespace,
        shared: Arc<Shared>,
    ) -> Self {
        Self { name: name.into(), address, namespace: Arc::new(namespace), shared }
    }

    /// Its name in the lab, as `db1`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its address.
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// Its IPv6 address.
    pub fn address6(&self) -> Ipv6Addr {
        ipv6(self.address)
    }

    /// The MAC address of the interface in the network behind, if it has one there too.
    pub fn back_mac(&self) -> [u8; 6] {
        mac(Network::Back.at(self.address))
    }

    /// The MAC address of its interface.
    pub fn mac(&self) -> [u8; 6] {
        mac(self.address)
    }

    /// Its network namespace.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// The switch's end of its cable: the switch's namespace and the name of the port.
    pub fn port(&self) -> (&Namespace, &str) {
        (&self.shared.switch, &self.name)
    }

    /// A command on this host.
    ///
    /// # Errors
    /// When this process is out of file descriptors.
    pub fn command<S: AsRef<OsStr>>(&self, argv: impl IntoIterator<Item = S>) -> Result<Cmd> {
        Cmd::new(argv).in_namespace(&self.namespace)
    }

    /// Runs a command to a successful end and returns what it printed.
    ///
    /// # Errors
    /// As [`Cmd::run`].
    pub fn run<S: AsRef<OsStr>>(&self, argv: impl IntoIterator<Item = S>) -> Result<String> {
        self.command(argv)?.run()
    }

    /// Runs a closure on a thread inside this host's namespace: sockets it makes are the host's.
    ///
    /// # Errors
    /// As [`Namespace::inside`].
    pub fn inside<T: Send>(&self, task: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        self.namespace.inside(task)
    }

    /// A socket for raw frames on its interface.
    ///
    /// # Errors
    /// When the kernel refuses it.
    pub fn frames(&self) -> Result<FrameSocket> {
        self.inside(|| FrameSocket::open(INTERFACE))
    }

    /// Pulls its cable: the interface has no carrier, and keeps its addresses.
    ///
    /// # Errors
    /// When `ip` fails.
    pub fn link_down(&self) -> Result<()> {
        self.set_port("down")
    }

    /// Puts the cable back.
    ///
    /// # Errors
    /// When `ip` fails.
    pub fn link_up(&self) -> Result<()> {
        self.set_port("up")
    }

    fn set_port(&self, state: &str) -> Result<()> {
        let (switch, port) = self.port();
        ip_batch(Some(switch), [format!("link set dev {port} {state}")])
    }

    /// Has nothing reach this host that another one sends, nor the other way round: each sends its frames to a MAC
    /// address that nobody has. What others send to either arrives as before. IPv4 alone.
    ///
    /// # Errors
    /// When `ip` fails.
    pub fn cut_from(&self, other: &Self) -> Result<()> {
        self.lead_to_nobody(other)?;
        other.lead_to_nobody(self)
    }

    /// Undoes [`Host::cut_from`].
    ///
    /// # Errors
    /// When `ip` fails.
    pub fn join(&self, other: &Self) -> Result<()> {
        for (from, to) in [(self, other), (other, self)] {
            let line = format!("neigh del {} dev {INTERFACE}", to.address);
            ip_batch(Some(&from.namespace), [line])?;
        }
        Ok(())
    }

    fn lead_to_nobody(&self, other: &Self) -> Result<()> {
        let nobody = mac_text(NOBODY);
        let line = format!(
            "neigh replace {} lladdr {nobody} dev {INTERFACE} nud permanent",
            other.address
        );
        ip_batch(Some(&self.namespace), [line])
    }

    /// Puts a bridge between its cable and its addresses, as virtualization does: from here on its
    /// interface is [`BRIDGE_INTERFACE`], with the same MAC address, and has no native XDP.
    ///
    /// # Errors
    /// When `ip` fails, as when it has a bridge already.
    pub fn bridge(&self) -> Result<()> {
        let routes = switch::routes(Network::of(self.address), BRIDGE_INTERFACE);
        let lines = [
            format!(
                "link add {BRIDGE_INTERFACE} address {} type bridge stp_state 0 forward_delay 0 \
                 mcast_snooping 0",
                mac_text(self.mac())
            ),
            format!("address flush dev {INTERFACE}"),
            format!("link set {INTERFACE} master {BRIDGE_INTERFACE}"),
        ];
        let addresses = switch::addresses(self.address, BRIDGE_INTERFACE);
        ip_batch(Some(&self.namespace), lines.into_iter().chain(addresses).chain(routes))
    }

    /// Attaches an XDP program of one verdict to its interface, until the lab ends.
    ///
    /// # Errors
    /// When there is a program already, or the kernel refuses.
    pub fn attach_stub(&self, stub: Stub) -> Result<()> {
        let pin = self.shared.places.bpf.join(format!("{}-{INTERFACE}", self.name));
        xdp::attach(&self.namespace, INTERFACE, stub, &pin)
    }

    /// Makes the switch receive what an XDP program of this host sends back by `XDP_TX`, or sends on
    /// by `XDP_REDIRECT`: a veth takes such frames only if its peer has an XDP program too. Done once
    /// for each of its cables, however often it is called.
    ///
    /// # Errors
    /// When the program cannot be attached.
    pub fn receive_xdp_tx(&self) -> Result<()> {
        let (switch, port) = self.port();
        for port in [port, &format!("{port}-back")] {
            let pin = self.shared.places.bpf.join(format!("{port}-port"));
            if !pin.exists() && switch::has(switch, port)? {
                xdp::attach(switch, port, Stub::Pass, &pin)?;
            }
        }
        Ok(())
    }

    /// Has the switch take this host's frames in a thread of the kernel. Otherwise all that becomes of a frame, as
    /// far as another host's answer, is done in the time of the process that sends it, and counted as its own.
    ///
    /// # Errors
    /// When the kernel refuses, as when nothing at the port makes it poll ([`Host::receive_xdp_tx`] does).
    pub fn switch_in_a_thread(&self) -> Result<()> {
        let (switch, port) = self.port();
        switch.inside(|| {
            // The interfaces in /sys are those of the namespace that it was mounted in.
            unshare(CloneFlags::CLONE_NEWNS).context("a mount namespace")?;
            let none = None::<&str>;
            mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
            mount(Some("sysfs"), "/sys", Some("sysfs"), MsFlags::empty(), none)?;
            let knob = format!("/sys/class/net/{port}/threaded");
            fs::write(&knob, "1").with_context(|| knob)
        })
    }

    /// Where a process of this host logs.
    pub fn log_path(&self, process: &str) -> PathBuf {
        self.shared.places.log.join(format!("{}-{process}.log", self.name))
    }

    /// The home of its PostgreSQL, and of what PostgreSQL's tools write there.
    pub(super) fn data(&self) -> PathBuf {
        data_of(&self.shared.places.data, &self.name)
    }

    /// The home of the PostgreSQL of another host of this lab.
    pub(super) fn data_of(&self, name: &str) -> PathBuf {
        data_of(&self.shared.places.data, name)
    }
}

fn data_of(root: &Path, name: &str) -> PathBuf {
    root.join(name)
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}) of lab {}", self.name, self.address, self.shared.id)
    }
}
