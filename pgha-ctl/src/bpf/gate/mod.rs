//! The lease gate of one start of PostgreSQL: what goes over TCP passes until a moment, and never after it,
//! whatever becomes of the process that set the moment.
//!
//! A gate is an eBPF program on the cgroup that PostgreSQL is started in. [`Gate::attach`] puts it there before
//! the postmaster runs; [`Gate::open`] finds it again in a later process. It begins open, as a standby's;
//! [`Gate::arm`] sets the moment, before a promotion and with each renewal; [`Gate::close`] ends it. The kernel's
//! program judges each of these orders when it carries it out, so a gate whose moment has passed stays closed:
//! [`pgha_common::gate`] says why no order of events opens it again.
//!
//! Everything is pinned, under `<bpffs>/pgha/<cluster>/gate/<start>/`, and goes on without this process. Sockets
//! keep the cgroup that they were made in, and the kernel keeps the program until the last of them is gone: a
//! killed server's last bytes meet it, too. [`remove_ended`] therefore waits for the kernel to let go.
//!
//! Outside are Unix sockets, which the program never sees, and what is neither TCP nor like it.

mod error;
mod pins;
mod sockets;

use std::fmt;
use std::fs::File;
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use aya::Ebpf;
use aya::maps::{Array, Map, MapData, PerCpuArray};
use aya::programs::{
    CgroupAttachMode, CgroupSkb, CgroupSkbAttachType, ProgramError, TestRun as _, TestRunOptions,
};
use pgha_common::gate::{CLOSED, Passage, STANDBY, name};
use pgha_machine::Moment;

use super::raw::Raw;
use super::{PinDirectory, syscall};
use crate::clock;
pub use error::GateError;
use pins::Pins;
pub use pins::{remove_ended, starts};
pub use sockets::{Listener, listeners, outside};

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/gate"));

/// Bytes of an Ethernet header, which the kernel takes off a packet before it runs an order's program on it.
const ETHERNET: usize = 14;
/// How often an order is given again that met others each time. One process gives them, so once is enough.
const TRIES: u32 = 100;

/// What passes a gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a gate that is closed stays closed, and what was asked of it was not done"]
pub enum State {
    /// Everything, until it is armed.
    Standby,
    /// Everything until that moment, and nothing from it on.
    ArmedUntil(Moment),
    /// Nothing over TCP, for good: it was closed, or its moment has passed.
    Closed,
}

/// The gate of one start of PostgreSQL. Dropping it changes nothing in the kernel.
pub struct Gate {
    start: u64,
    word: Array<MapData, u64>,
    passage: PerCpuArray<MapData, Raw<Passage>>,
    orders: CgroupSkb,
}

/// A gate that is on no cgroup yet. To have one takes longer than to put it there, most of it for the kernel's types,
/// so it is best had before it is needed.
#[derive(Debug)]
pub struct Spare(Ebpf);

impl Spare {
    /// Loads the object, its word where only the program can write it.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub fn load() -> Result<Self, GateError> {
        let mut ebpf = Ebpf::load(OBJECT).map_err(GateError::load)?;
        let Some(Map::Array(word)) = ebpf.map(name::WORD) else {
            return Err(GateError::Incomplete(name::WORD));
        };
        syscall::freeze(word.fd().as_fd()).map_err(GateError::freeze)?;
        for name in [name::ORDER, name::PROGRAM] {
            let loaded = program(&mut ebpf, name)?.load();
            loaded.map_err(GateError::program("load", Path::new(name)))?;
        }
        Ok(Self(ebpf))
    }

    /// [`Gate::attach`] with this.
    ///
    /// # Errors
    /// As that.
    pub fn attach(
        mut self,
        pins: &PinDirectory,
        start: u64,
        cgroup: &Path,
    ) -> Result<Gate, GateError> {
        let directory = open_cgroup(cgroup)?;
        let pins = Pins::make(pins, start)?;
        if let Err(error) = put_on(&mut self.0, &pins, &directory, cgroup) {
            // The next start of that number finds nothing, or removes what is left.
            let _ = pins.remove();
            return Err(error);
        }
        Gate::of(&pins.finish()?, start)
    }
}

impl Gate {
    /// Puts a gate on the cgroup of a start that has none yet, in the state [`State::Standby`]. Other programs on
    /// the cgroup, above it and below it stay and have their say too.
    ///
    /// It is there as a whole or not at all: with an error, and after a crash on the way, nothing is attached.
    ///
    /// # Errors
    /// A start that has one, a path that is no cgroup v2, and what the kernel refuses.
    pub fn attach(pins: &PinDirectory, start: u64, cgroup: &Path) -> Result<Self, GateError> {
        Spare::load()?.attach(pins, start, cgroup)
    }

    /// The gate that a former process put on the cgroup of a start.
    ///
    /// # Errors
    /// There is none, or not on that cgroup; or the pins cannot be used.
    pub fn open(pins: &PinDirectory, start: u64, cgroup: &Path) -> Result<Self, GateError> {
        let directory = open_cgroup(cgroup)?;
        let wanted = directory.metadata().map_err(GateError::cgroup(cgroup))?.ino();
        let pins = Pins::of(pins, start)?;
        for link in pins.cgroups()? {
            if link != wanted {
                return Err(GateError::Elsewhere { start, cgroup: cgroup.to_owned(), found: link });
            }
        }
        Self::of(&pins, start)
    }

    fn of(pins: &Pins, start: u64) -> Result<Self, GateError> {
        let map = |name| MapData::from_pin(pins.map(name)).map_err(GateError::map(start, name));
        let word = Map::Array(map(name::WORD)?).try_into();
        let passage = Map::PerCpuArray(map(name::PASSAGE)?).try_into();
        Ok(Self {
            start,
            word: word.map_err(GateError::map(start, name::WORD))?,
            passage: passage.map_err(GateError::map(start, name::PASSAGE))?,
            orders: CgroupSkb::from_pin(pins.orders(), CgroupSkbAttachType::Ingress)
                .map_err(GateError::program("open", &pins.orders()))?,
        })
    }

    /// The number of the start it belongs to.
    #[must_use]
    pub const fn start(&self) -> u64 {
        self.start
    }

    /// Lets everything pass until `until`, and nothing from then on. The answer is what the gate does now:
    /// [`State::Closed`] when it was closed already, or `until` is no moment that lies ahead.
    ///
    /// # Errors
    /// The kernel does not carry out the order: then the moment before still holds.
    pub fn arm(&self, until: Moment) -> Result<State, GateError> {
        // The last nanosecond of the clock means another thing, and lies 584 years ahead.
        self.order(clock::nanoseconds(until).min(CLOSED - 1))?;
        self.state()
    }

    /// Closes the gate for good: when this returns, nothing passes any more, whoever asks.
    ///
    /// # Errors
    /// The kernel does not carry out the order: then the gate is as before.
    pub fn close(&self) -> Result<(), GateError> {
        self.order(CLOSED)?;
        match self.state()? {
            State::Closed => Ok(()),
            State::Standby | State::ArmedUntil(_) => Err(GateError::Ignored { start: self.start }),
        }
    }

    /// What passes now.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn state(&self) -> Result<State, GateError> {
        let word = self.word.get(&0, 0).map_err(GateError::map(self.start, name::WORD))?;
        Ok(match word {
            STANDBY => State::Standby,
            // Whoever asks the program from now on, packet or order, finds the same.
            until if until == CLOSED || until <= clock::boot_time() => State::Closed,
            until => State::ArmedUntil(clock::moment(until)),
        })
    }

    /// The packets over TCP that came to it, in both directions.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn passage(&self) -> Result<Passage, GateError> {
        let cpus = self.passage.get(&0, 0).map_err(GateError::map(self.start, name::PASSAGE))?;
        Ok(cpus.iter().fold(Passage::default(), |sum, Raw(cpu)| Passage {
            passed: sum.passed + cpu.passed,
            dropped: sum.dropped + cpu.dropped,
        }))
    }

    /// Has the kernel's program change the word, which user space cannot.
    fn order(&self, word: u64) -> Result<(), GateError> {
        let mut packet = [0; ETHERNET + size_of::<u64>()];
        packet[ETHERNET..].copy_from_slice(&word.to_ne_bytes());
        for _ in 0..TRIES {
            let options = TestRunOptions { data_in: Some(&packet), ..TestRunOptions::default() };
            let ran = self.orders.test_run(options).map_err(GateError::order(self.start))?;
            if ran.return_value != 0 {
                return Ok(());
            }
        }
        Err(GateError::Ignored { start: self.start })
    }
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the gate of start {}", self.start)
    }
}

/// Closes the gates of all starts but one, for good, and says of which they were that were open: a start that is over
/// has nothing more to say, whatever its sockets still have to send.
///
/// # Errors
/// What the kernel says. Then some may be open.
pub fn close_others(pins: &PinDirectory, runs: Option<u64>) -> Result<Vec<u64>, GateError> {
    let mut closed = Vec::new();
    for start in starts(pins)?.into_iter().filter(|start| Some(*start) != runs) {
        let gate = Gate::of(&Pins::of(pins, start)?, start)?;
        if gate.state()? != State::Closed {
            gate.close()?;
            closed.push(start);
        }
    }
    Ok(closed)
}

fn open_cgroup(cgroup: &Path) -> Result<File, GateError> {
    File::open(cgroup).map_err(GateError::cgroup(cgroup))
}

/// Pins the maps and the program for orders, and attaches the gate in both directions.
fn put_on(ebpf: &mut Ebpf, pins: &Pins, directory: &File, cgroup: &Path) -> Result<(), GateError> {
    for map in [name::WORD, name::PASSAGE] {
        let made = ebpf.map(map).ok_or(GateError::Incomplete(map))?;
        made.pin(pins.map(map)).map_err(GateError::pin(&pins.map(map)))?;
    }
    let orders = program(ebpf, name::ORDER)?;
    orders.pin(pins.orders()).map_err(GateError::pin(&pins.orders()))?;
    let gate = program(ebpf, name::PROGRAM)?;
    for direction in [CgroupSkbAttachType::Ingress, CgroupSkbAttachType::Egress] {
        // Through a link it is one program among others whatever the mode (`cgroup_bpf_link_attach` in the
        // kernel); the others are flags, which links do not take.
        let id = gate
            .attach(directory, direction, CgroupAttachMode::Single)
            .map_err(GateError::attach(cgroup))?;
        pins.pin_link(gate.take_link(id).map_err(GateError::attach(cgroup))?, direction)?;
    }
    Ok(())
}

fn program<'a>(ebpf: &'a mut Ebpf, name: &'static str) -> Result<&'a mut CgroupSkb, GateError> {
    let program = ebpf.program_mut(name).ok_or(GateError::Incomplete(name))?;
    program.try_into().map_err(|_: ProgramError| GateError::Incomplete(name))
}
