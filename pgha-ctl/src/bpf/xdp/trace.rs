//! Frames with their verdicts, while somebody looks.
//!
//! The program that hands them over is another one, loaded for that and exchanged for the usual one through
//! the links, and back: while nobody traces, the code is absent.

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use aya::maps::perf::{PerfEvent, PerfEventArrayBuffer};
use aya::maps::{MapData, PerfEventArray};
use aya::programs::links::{FdLink, PinnedLink};
use aya::util::online_cpus;
use pgha_common::maps::{Traced, name};
use pgha_common::verdict::Reason;
use zerocopy::FromBytes as _;

use super::{DataPlane, XdpError, load_programs};

/// Pages of the buffer of each CPU and interface: 1 MiB where a page is 4 KiB.
const PAGES: usize = 256;

/// A frame as it left the program: what is forwarded or answered is already rewritten.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TracedFrame {
    /// When: nanoseconds of `CLOCK_BOOTTIME`.
    pub time: u64,
    /// Number of the interface it came in by.
    pub interface: u32,
    /// What was decided.
    pub reason: Reason,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// The frames of one trace.
pub struct Frames {
    /// One for each CPU and interface, with the interface's number.
    buffers: Vec<(u32, PerfEventArrayBuffer<MapData>)>,
}

/// What came in since somebody took it last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// The frames, in the order of time.
    pub frames: Vec<TracedFrame>,
    /// How many came faster than they were taken, and are lost, by number of the interface.
    pub lost: BTreeMap<u32, u64>,
}

impl Frames {
    /// The frames since the last call.
    pub fn take(&mut self) -> Taken {
        let mut taken = Taken::default();
        for (interface, buffer) in &mut self.buffers {
            buffer.for_each(|event| match event {
                PerfEvent::Sample { head, tail } => {
                    taken.frames.extend(frame(&[head, tail].concat()));
                }
                PerfEvent::Lost { count } => *taken.lost.entry(*interface).or_default() += count,
            });
        }
        taken.frames.sort_by_key(|frame| frame.time);
        taken
    }
}

fn frame(sample: &[u8]) -> Option<TracedFrame> {
    let (traced, rest) = Traced::read_from_prefix(sample).ok()?;
    let bytes = rest.get(..traced.length as usize)?.to_vec();
    let reason = *Reason::ALL.get(traced.reason as usize)?;
    Some(TracedFrame { time: traced.time, interface: traced.interface, reason, bytes })
}

impl DataPlane {
    /// Exchanges the programs for such as hand over one frame in `sample`, by chance.
    ///
    /// # Errors
    /// What the kernel refuses; the programs that run go on then.
    pub fn trace(&mut self, sample: NonZeroU32) -> Result<Frames, XdpError> {
        self.exchange_all(sample.get())?;
        self.open_buffers().inspect_err(|_| {
            // What keeps the buffers from being opened is told; the next start exchanges the programs too.
            let _ = self.end_trace();
        })
    }

    fn open_buffers(&mut self) -> Result<Frames, XdpError> {
        let cpus = online_cpus().map_err(|(_, source)| XdpError::Trace(source.to_string()))?;
        let mut buffers = Vec::new();
        for (interface, ebpf) in (0..).zip(&mut self.programs) {
            let map = ebpf.take_map(name::TRACE).ok_or(XdpError::Incomplete(name::TRACE))?;
            let mut array: PerfEventArray<MapData> =
                map.try_into().map_err(XdpError::map(name::TRACE))?;
            for cpu in &cpus {
                let opened = array.open(*cpu, Some(PAGES));
                let buffer = opened.map_err(|error| XdpError::Trace(error.to_string()))?;
                buffers.push((interface, buffer));
            }
        }
        Ok(Frames { buffers })
    }

    /// Exchanges them back.
    ///
    /// # Errors
    /// What the kernel refuses; the next start of a controller exchanges them, too.
    pub fn end_trace(&mut self) -> Result<(), XdpError> {
        self.exchange_all(0)
    }

    fn exchange_all(&mut self, sample: u32) -> Result<(), XdpError> {
        let programs = load_programs(&self.settings, sample)?;
        let former = std::mem::replace(&mut self.programs, programs);
        let count = self.programs.len();
        if let Err(error) = (0..count).try_for_each(|number| self.exchange_on(number)) {
            // All or none: those that were exchanged go back. The first error is the one to tell.
            self.programs = former;
            let _ = (0..count).try_for_each(|number| self.exchange_on(number));
            return Err(error);
        }
        Ok(())
    }

    fn exchange_on(&mut self, number: usize) -> Result<(), XdpError> {
        let link = PinnedLink::from_pin(self.settings_pins().link(number))?;
        self.exchange(number, FdLink::from(link))
    }
}
