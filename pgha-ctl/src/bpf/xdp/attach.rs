//! Putting the program on its interface, and finding out beforehand whether that can be.

use std::fs;
use std::num::NonZeroU32;

use aya::programs::links::{FdLink, PinnedLink};
use aya::programs::xdp::{XdpLink, XdpMode};
use aya::programs::{ProgramError, loaded_programs};
use nix::net::if_::if_indextoname;
use pgha_machine::Mac;

use super::super::unpin;
use super::{DataPlane, LINK, PROGRAM, XdpError};

/// The interface it is attached to.
#[derive(Clone, Debug)]
pub struct Port {
    /// Its name.
    pub name: String,
    /// Its index.
    pub index: u32,
    /// Its MAC address.
    pub mac: Mac,
    /// The id of the XDP program it has, if any.
    pub program: Option<u32>,
}

/// How [`DataPlane::attach`] ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attached {
    /// The interface had no program.
    New,
    /// The program of a former controller was exchanged for this one.
    TakenOver,
}

/// What is there to be attached to.
enum Place {
    /// An interface without a program.
    Bare,
    /// A former controller's link on it.
    Former(FdLink),
}

impl DataPlane {
    /// Whether [`Self::attach`] has a place to go to. Changes nothing, so that it can be asked before
    /// the maps of a running data plane are written for another interface.
    ///
    /// # Errors
    /// A foreign program on the interface, or this cluster's program on another.
    pub fn judge(&self, port: &Port) -> Result<(), XdpError> {
        self.place(port).map(drop)
    }

    /// Puts the program on the interface. Where a former controller's program is, it is exchanged in
    /// one step of the kernel: every frame meets the one or the other.
    ///
    /// # Errors
    /// As [`Self::judge`], a driver without XDP, and what the kernel refuses. A former controller's
    /// program goes on then; on a bare interface nothing stays.
    pub fn attach(&mut self, port: &Port) -> Result<Attached, XdpError> {
        match self.place(port)? {
            Place::Former(link) => self.exchange(link),
            Place::Bare => self.attach_new(port),
        }
    }

    fn place(&self, port: &Port) -> Result<Place, XdpError> {
        let pin = self.settings.pins.join(LINK);
        let former =
            if self.provisional { None } else { PinnedLink::from_pin(&pin).ok().map(FdLink::from) };
        let Some(former) = former else { return bare(port) };
        let info = former.info()?;
        if port.program == Some(info.program_id()) {
            return Ok(Place::Former(former));
        }
        // A link whose interface is gone says 0, and ends with its pin.
        match interface_of(info.id()) {
            Some(index) if index.get() != port.index => Err(XdpError::Elsewhere {
                interface: port.name.clone(),
                running: if_indextoname(index.get())
                    .map_or_else(|_| index.to_string(), |name| name.to_string_lossy().into_owned()),
            }),
            _ => bare(port),
        }
    }

    fn attach_new(&mut self, port: &Port) -> Result<Attached, XdpError> {
        unpin(&self.settings.pins.join(LINK))?;
        // Until the last step has succeeded, whatever is pinned goes with this value.
        self.provisional = true;
        let program = self.program()?;
        let id = program.attach_to_if_index(port.index, XdpMode::Driver).map_err(|error| {
            if is_unsupported(&error) {
                XdpError::NoNativeXdp { interface: port.name.clone() }
            } else {
                error.into()
            }
        })?;
        let link: FdLink = program.take_link(id)?.try_into()?;
        link.pin(self.settings.pins.join(LINK)).map_err(XdpError::pin(LINK))?;
        self.pin_program()?;
        self.provisional = false;
        Ok(Attached::New)
    }

    fn exchange(&mut self, former: FdLink) -> Result<Attached, XdpError> {
        let link = XdpLink::try_from(former)?;
        self.program()?.attach_to_link(link)?;
        self.pin_program()?;
        Ok(Attached::TakenOver)
    }

    /// Pins the program too, for people with `bpftool`.
    fn pin_program(&mut self) -> Result<(), XdpError> {
        let pin = self.settings.pins.join(PROGRAM);
        unpin(&pin)?;
        self.program()?.pin(pin).map_err(XdpError::pin(PROGRAM))
    }
}

fn bare(port: &Port) -> Result<Place, XdpError> {
    match port.program {
        None => Ok(Place::Bare),
        Some(id) => {
            Err(XdpError::Foreign { interface: port.name.clone(), id, name: program_name(id) })
        }
    }
}

/// The interface a link is on, as the kernel tells whoever has it open (`bpf_xdp_link_show_fdinfo`).
fn interface_of(link: u32) -> Option<NonZeroU32> {
    let value = |text: &str, key: &str| -> Option<u32> {
        text.lines().find_map(|line| line.strip_prefix(key)?.trim().parse().ok())
    };
    fs::read_dir("/proc/self/fdinfo")
        .ok()?
        .filter_map(Result::ok)
        .find_map(|entry| {
            let text = fs::read_to_string(entry.path()).ok()?;
            (value(&text, "link_id:")? == link).then(|| value(&text, "ifindex:"))?
        })
        .and_then(NonZeroU32::new)
}

fn program_name(id: u32) -> String {
    loaded_programs()
        .filter_map(Result::ok)
        .find(|program| program.id() == id)
        .and_then(|program| program.name_as_str().map(str::to_owned))
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| "without a name".to_owned())
}

fn is_unsupported(error: &ProgramError) -> bool {
    let ProgramError::SyscallError(refused) = error else { return false };
    refused.io_error.raw_os_error() == Some(nix::libc::EOPNOTSUPP)
}
