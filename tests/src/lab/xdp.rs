//! XDP programs of one verdict, on the lab's own interfaces.
use std::path::Path;

use anyhow::{Context as _, Result};
use aya::Ebpf;
use aya::programs::links::FdLink;
use aya::programs::{Xdp, XdpMode};
use nix::net::if_::if_nametoindex;

use super::artifacts::ebpf_object;
use super::netns::Namespace;

/// A program of the object `stubs`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stub {
    /// Passes every frame to the kernel.
    Pass,
    /// Sends every frame back, unchanged.
    Tx,
    /// Drops every frame.
    Drop,
}

impl Stub {
    fn program(self) -> &'static str {
        match self {
            Self::Pass => "xdp_pass",
            Self::Tx => "xdp_tx",
            Self::Drop => "xdp_drop",
        }
    }
}

/// Attaches a stub in native mode. It stays for as long as its link is pinned: removing `pin`
/// detaches it, and so does unmounting the bpffs that `pin` is on.
pub(super) fn attach(namespace: &Namespace, interface: &str, stub: Stub, pin: &Path) -> Result<()> {
    let object = ebpf_object("stubs")?;
    let name = stub.program();
    namespace
        .inside(|| {
            let mut ebpf = Ebpf::load_file(&object)?;
            let program: &mut Xdp = ebpf
                .program_mut(name)
                .with_context(|| format!("{} has no program `{name}`", object.display()))?
                .try_into()?;
            program.load()?;
            let id = program.attach_to_if_index(if_nametoindex(interface)?, XdpMode::Driver)?;
            let link = FdLink::try_from(program.take_link(id)?)?;
            link.pin(pin)?;
            Ok(())
        })
        .with_context(|| format!("attach {name} to {interface} in {}", namespace.name()))
}
