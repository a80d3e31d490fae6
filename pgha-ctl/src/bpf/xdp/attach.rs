//! Putting the program on its interfaces, and finding out beforehand whether that can be.

use std::fs;
use std::num::NonZeroU32;

use aya::programs::links::{FdLink, PinnedLink};
use aya::programs::xdp::{XdpLink, XdpMode};
use aya::programs::{ProgramError, Xdp, loaded_programs};
use nix::net::if_::if_indextoname;
use pgha_machine::Mac;

use super::super::{PinError, unpin};
use super::pins::Pins;
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
    /// Behind the driver, on socket buffers: on any device, and slower.
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
    /// As [`Self::judge`], and what the kernel refuses. A former controller's programs go on then, and on
    /// a bare interface nothing stays. A former program that was exchanged already and cannot be put back
    /// has its successor go on in its place, on the maps that are pinned.
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
        if attached.is_ok() {
            self.leftover = None;
            self.tidy(ports.len());
        } else if self.detach_from(&bare).is_err() {
            // What is attached still keeps its maps.
            self.leftover = None;
        }
        attached
    }

    fn attach_to(&mut self, ports: &[Port], places: Vec<Place>) -> Result<Attached, XdpError> {
        let former = places.iter().find_map(|place| match place {
            Place::Former(_, mode) => Some(*mode),
            Place::Bare => None,
        });
        let mode = self.attach_bare(ports, &places, former)?;
        let links = places.into_iter().enumerate().filter_map(|(number, place)| match place {
            Place::Former(link, _) => Some((number, link)),
            Place::Bare => None,
        });
        self.take_over(links.collect())?;
        Ok(Attached { taken_over: former.is_some(), mode })
    }

    /// Exchanges the programs of all the links, or of none.
    fn take_over(&mut self, links: Vec<(usize, FdLink)>) -> Result<(), XdpError> {
        let pins = self.settings_pins();
        let mut leftover = None;
        let mut exchanged = Vec::new();
        for (number, link) in links {
            // Its pin is the successor's afterwards.
            let former = pins.running_program(number, &link);
            if let Err(error) = self.exchange(number, link) {
                let stays = |(number, former): (usize, Option<Xdp>)| {
                    former.is_none_or(|former| put_back(&pins, number, former).is_err())
                };
                // Each is tried; one that stays keeps the maps.
                if exchanged.into_iter().map(stays).filter(|stays| *stays).count() == 0 {
                    self.leftover = leftover.or(self.leftover.take());
                }
                return Err(error);
            }
            // A program runs on the maps.
            leftover = leftover.or(self.leftover.take());
            exchanged.push((number, former));
        }
        Ok(())
    }

    /// Takes the program off these interfaces, as far as it is there.
    fn detach_from(&self, numbers: &[usize]) -> Result<(), PinError> {
        let pins = self.settings_pins();
        let paths = numbers.iter().flat_map(|number| [pins.link(*number), pins.program(*number)]);
        // Each, also after one that failed.
        paths.map(|path| unpin(&path)).fold(Ok(()), Result::and)
    }

    /// Removes what nothing needs once the program is on that many interfaces.
    fn tidy(&self, interfaces: usize) {
        let pins = self.settings_pins();
        for removed in [pins.remove_links_from(interfaces), pins.remove_older()] {
            if let Err(error) = removed {
                tracing::warn!("what is not needed any more stays until the next start: {error}");
            }
        }
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
            let pins = self.settings_pins();
            link.pin(pins.link(number)).map_err(XdpError::pin)?;
            pin_program(&pins, number, self.program(number)?);
            Ok(())
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
        let pins = self.settings_pins();
        let link = XdpLink::try_from(former)?;
        let program = self.program(number)?;
        program.attach_to_link(link)?;
        pin_program(&pins, number, program);
        Ok(())
    }
}

/// Exchanges the program of a link for the one that it had before.
fn put_back(pins: &Pins, number: usize, mut former: Xdp) -> Result<(), XdpError> {
    let link = FdLink::from(PinnedLink::from_pin(pins.link(number))?);
    former.attach_to_link(XdpLink::try_from(link)?)?;
    pin_program(pins, number, &mut former);
    Ok(())
}

/// Pins the program that runs beside its link. Without that pin it runs as well: it tells the next start
/// which maps are in use, where there are two sets of them, and people with `bpftool` where it is.
fn pin_program(pins: &Pins, number: usize, program: &mut Xdp) {
    let pin = pins.program(number);
    let pinned = unpin(&pin)
        .map_err(|error| error.to_string())
        .and_then(|()| program.pin(&pin).map_err(|error| error.to_string()));
    if let Err(error) = pinned {
        tracing::warn!("the XDP program runs, but cannot be pinned at {}: {error}", pin.display());
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

/// The name of somebody's program, which only CAP_SYS_ADMIN may ask for.
pub(crate) fn program_name(id: u32) -> String {
    loaded_programs()
        .filter_map(Result::ok)
        .find(|program| program.id() == id)
        .and_then(|program| program.name_as_str().map(str::to_owned))
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| format!("named by bpftool prog show id {id}"))
}

fn is_unsupported(error: &ProgramError) -> bool {
    let ProgramError::SyscallError(refused) = error else { return false };
    refused.io_error.raw_os_error() == Some(nix::libc::EOPNOTSUPP)
}
