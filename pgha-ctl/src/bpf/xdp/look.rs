//! What a cluster has pinned, without taking its lock or changing any of it.

use aya::programs::links::{FdLink, PinnedLink};

use super::super::PinDirectory;
use super::XdpError;
use super::pins::{Found, Pins};

/// What is pinned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pinned {
    /// No program.
    Nothing,
    /// A data plane that this pgha goes on with.
    Ours {
        /// It is of an older schema, and is taken over with its flows.
        older: bool,
        /// The id of the program that runs on each interface, by number; `None` where there is none.
        programs: Vec<Option<u32>>,
    },
}

/// Looks at what is pinned for `interfaces` interfaces.
///
/// # Errors
/// Maps of a schema that this pgha cannot read.
pub fn look(pins: &PinDirectory, interfaces: usize) -> Result<Pinned, XdpError> {
    let pins = Pins(pins.clone());
    let older = match pins.found()? {
        Found::Nothing => return Ok(Pinned::Nothing),
        Found::Ours => false,
        Found::Older => true,
    };
    let program = |number| {
        let link = FdLink::from(PinnedLink::from_pin(pins.link(number)).ok()?);
        Some(link.info().ok()?.program_id())
    };
    Ok(Pinned::Ours { older, programs: (0..interfaces).map(program).collect() })
}
