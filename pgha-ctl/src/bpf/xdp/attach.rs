//! Putting the program on its interfaces, and finding out beforehand whether that can be.

use std::fs;
use std::num::NonZeroU32;

use aya::programs::links::{FdLink, PinnedLink};
use aya::programs::xdp::{XdpLink, XdpMode};
use aya::programs::{ProgramError, loaded_programs};
use nix::net::if_::if_indextoname;
use pgha_machine::Mac;

use super::super::unpin;
use super::{DataPlane, XdpError};

/// An interface that it is attached to.
#[derive(Clone, Debug)]
pub struct Port {
    /// Its name.
    pub name: String,
    /// Its index.
    pub index: u32,
    /// Its MAC address.
    pub mac: Mac,
    /// The XDP program it has, if any.
    pub program: Option<Running>,
}

/// An XDP program on an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Running {
    /// The kernel's id of it.
    pub id: u32,
    /// Where in the kernel it runs.
    pub mode: Mode,
}

/// Where in the kernel an XDP program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// In the driver, before a socket buffer is made.
    Native,
    /// Behind the driver, on socket buffers: on any device, and several times slower.
    Generic,
}

impl Mode {
    const fn kernel(self) -> XdpMode {
        match self {
            Self::Native => XdpMode::Driver,
            Self::Generic => XdpMode::Skb,
        }
    }

    /// The name in output.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Generic => "generic",
        }
    }
}

/// How [`DataPlane::attach`] ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attached {
    /// A former controller's program was exchanged for this one; otherwise the interfaces had none.
    pub taken_over: bool,
    /// Where the program runs, the same on all interfaces: a frame goes from one to another only
    /// between programs of one mode.
    pub mode: Mode,
}

/// What is there to be attached to.
enum Place {
    /// An interface without a program.
    Bare,
    /// A former controller's link on it, and how that runs.
    Former(FdLink, Mode),
}

impl DataPlane {
    /// Whether [`Self::attach`] has places to go to. Changes nothing, so that it can be asked before
    /// the maps of a running data plane are written for another interface.
    ///
    /// # Errors
    /// A foreign program on an interface, or this cluster's program on another.
    pub fn judge(&self, ports: &[Port]) -> Result<(), XdpError> {
        self.places(ports).map(drop)
    }

    /// Puts the program on the interfaces. Where a former controller's program is, it is exchanged in
    /// one step of the kernel: every frame meets the one or the other. Where a driver has no native XDP,
    /// all of them get the program in generic mode.
    ///
    /// # Errors
    /// As [`Self::judge`], and what the kernel refuses. A former controller's programs go on then; on
    /// a bare interface nothing stays.
    pub fn attach(&mut self, ports: &[Port]) -> Result<Attached, XdpError> {
        let places = self.places(ports)?;
        for (number, port) in (0..).zip(ports) {
            self.maps
                .interfaces
                .set(number, port.index, None, 0)
                .map_err(|error| XdpError::Interfaces(error.to_string()))?;
        }
        let bare = numbers_of_bare(&places);
        let attached = self.attach_to(ports, places);
        if attached.is_err() {
            for number in bare {
                unpin(&self.settings_pins().link(number))?;
                unpin(&self.settings_pins().program(number))?;
            }
        } else {
            self.leftover = None;
            self.settings_pins().remove_links_from(ports.len())?;
            self.settings_pins().remove_older()?;
        }
        attached
    }

    fn attach_to(&mut self, ports: &[Port], places: Vec<Place>) -> Result<Attached, XdpError> {
        let former = places.iter().find_map(|place| match place {
            Place::Former(_, mode) => Some(*mode),
            Place::Bare => None,
        });
        let mode = self.attach_bare(ports, &places, former)?;
        for (number, place) in places.into_iter().enumerate() {
            if let Place::Former(link, _) = place {
                self.exchange(number, link)?;
            }
        }
        Ok(Attached { taken_over: former.is_some(), mode })
    }

    fn places(&self, ports: &[Port]) -> Result<Vec<Place>, XdpError> {
        ports.iter().enumerate().map(|(number, port)| self.place(number, port)).collect()
    }

    fn place(&self, number: usize, port: &Port) -> Result<Place, XdpError> {
        let pin = self.settings_pins().link(number);
        let former =
            if self.is_fresh() { None } else { PinnedLink::from_pin(&pin).ok().map(FdLink::from) };
        let Some(former) = former else { return bare(port) };
        let info = former.info()?;
        if let Some(running) = port.program.filter(|running| running.id == info.program_id()) {
            return Ok(Place::Former(former, running.mode));
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

    /// Attaches to the interfaces without a program: in the mode that the others have, else natively,
    /// else generically.
    fn attach_bare(
        &mut self,
        ports: &[Port],
        places: &[Place],
        former: Option<Mode>,
    ) -> Result<Mode, XdpError> {
        let bare: Vec<_> =
            numbers_of_bare(places).into_iter().map(|number| (number, &ports[number])).collect();
        let mode = former.unwrap_or(Mode::Native);
        match self.attach_all(&bare, mode) {
            Err(XdpError::NoNativeXdp { .. }) if former.is_none() => {
                self.attach_all(&bare, Mode::Generic).map(|()| Mode::Generic)
            }
            attached => attached.map(|()| mode),
        }
    }

    /// Attaches to each, or to none.
    fn attach_all(&mut self, ports: &[(usize, &Port)], mode: Mode) -> Result<(), XdpError> {
        // Pinned only when all are there: the kernel lets go of a link at once with its last file
        // descriptor, but some time after its pin, and until then the interface takes no other mode.
        let mut links = Vec::new();
        for (number, port) in ports {
            links.push((*number, self.attach_new(*number, port, mode)?));
        }
        links.into_iter().try_for_each(|(number, link)| {
            link.pin(self.settings_pins().link(number)).map_err(XdpError::pin("link"))?;
            self.pin_program(number)
        })
    }

    fn attach_new(&mut self, number: usize, port: &Port, mode: Mode) -> Result<FdLink, XdpError> {
        unpin(&self.settings_pins().link(number))?;
        let program = self.program(number)?;
        let id = program.attach_to_if_index(port.index, mode.kernel()).map_err(|error| {
            if is_unsupported(&error) {
                XdpError::NoNativeXdp { interface: port.name.clone() }
            } else {
                error.into()
            }
        })?;
        Ok(program.take_link(id)?.try_into()?)
    }

    /// Exchanges the program of a link for this one's.
    pub(super) fn exchange(&mut self, number: usize, former: FdLink) -> Result<(), XdpError> {
        let link = XdpLink::try_from(former)?;
        self.program(number)?.attach_to_link(link)?;
        self.pin_program(number)
    }

    /// Pins the program too, for people with `bpftool`.
    fn pin_program(&mut self, number: usize) -> Result<(), XdpError> {
        let pin = self.settings_pins().program(number);
        unpin(&pin)?;
        self.program(number)?.pin(pin).map_err(XdpError::pin("program"))
    }
}

fn numbers_of_bare(places: &[Place]) -> Vec<usize> {
    let numbered = places.iter().enumerate().filter(|(_, place)| matches!(place, Place::Bare));
    numbered.map(|(number, _)| number).collect()
}

fn bare(port: &Port) -> Result<Place, XdpError> {
    match port.program {
        None => Ok(Place::Bare),
        Some(Running { id, .. }) => {
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
