//! What a lab leaves on disk, so that any process can find it, judge it and tear it down.
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, chown};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail};
use nix::fcntl::{Flock, FlockArg};
use nix::mount::{MsFlags, mount};
use serde::{Deserialize, Serialize};

use super::process::postgres_user;

const RUN_ROOT: &str = "/run/pgha-lab";
const DATA_ROOT: &str = "/var/tmp/pgha-lab";
const STATE_FILE: &str = "state.json";
const LOCK_FILE: &str = ".lock";
/// The name of the switch among the hosts of a lab.
pub(super) const SWITCH: &str = "switch";

/// A process, told apart from a later one with the same id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// Its process id.
    pub pid: u32,
    /// When it started, in clock ticks since boot.
    pub start: u64,
}

impl Owner {
    fn this_process() -> Result<Self> {
        let pid = std::process::id();
        let start = start_of(pid).context("the start time of this process")?;
        Ok(Self { pid, start })
    }

    /// Whether that process still runs.
    pub fn lives(&self) -> bool {
        start_of(self.pid) == Some(self.start)
    }
}

/// The start time of a process (proc_pid_stat(5), field 22); none for a dead or a zombie one.
fn start_of(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the command in brackets, which may itself hold brackets and spaces.
    let (_, after_command) = stat.rsplit_once(')')?;
    let mut fields = after_command.split_whitespace();
    let state = fields.next()?;
    if matches!(state, "Z" | "X") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

/// The record of one lab.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct State {
    /// The lab.
    pub id: String,
    /// The process the lab ends with; none for a kept lab.
    pub owner: Option<Owner>,
    /// When it was made, in seconds since the Unix epoch.
    pub created: u64,
    /// Its hosts, the switch not among them. A host is recorded before it is made.
    pub hosts: Vec<String>,
}

impl State {
    /// Whether it stays until it is taken down by hand.
    pub fn is_kept(&self) -> bool {
        self.owner.is_none()
    }

    /// Whether its owner ended without taking it down.
    pub fn is_left_over(&self) -> bool {
        self.owner.as_ref().is_some_and(|owner| !owner.lives())
    }

    /// Its directories.
    pub fn places(&self) -> Places {
        Places::of(&self.id)
    }

    pub(super) fn namespaces(&self) -> impl Iterator<Item = String> {
        self.hosts.iter().map(String::as_str).chain([SWITCH]).map(|host| namespace(&self.id, host))
    }

    /// Replaces the record on disk in one step.
    pub(super) fn save(&self) -> Result<()> {
        let path = self.places().run.join(STATE_FILE);
        let new = path.with_extension("new");
        fs::write(&new, serde_json::to_vec_pretty(self)?)?;
        fs::rename(&new, &path).with_context(|| format!("state file {}", path.display()))
    }

    pub(super) fn keep(&mut self) -> Result<()> {
        self.owner = None;
        self.save()
    }
}

/// The name of a host's namespace.
pub fn namespace(id: &str, host: &str) -> String {
    format!("pgha-{id}-{host}")
}

/// Where the data of a lab's servers is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Storage {
    /// In a tmpfs of the lab. A thousand files for each server are made and removed at once there; a disk's file system
    /// may take as long for that as the whole test for the rest (ext4 without a journal looks for a file number that
    /// was not freed in the last seconds).
    Memory,
    /// On the disk of [`DATA_ROOT`], for who measures how long it takes until something is durable.
    Disk,
}

/// The directories of one lab.
#[derive(Debug, Clone)]
pub struct Places {
    /// State, control sockets and configuration.
    pub run: PathBuf,
    /// The logs of every process, in `run`.
    pub log: PathBuf,
    /// The lab's own bpffs, in `run`.
    pub bpf: PathBuf,
    /// PostgreSQL's; the user `postgres` can reach it.
    pub data: PathBuf,
}

impl Places {
    fn of(id: &str) -> Self {
        let run = Path::new(RUN_ROOT).join(id);
        let data = Path::new(DATA_ROOT).join(id);
        Self { log: run.join("log"), bpf: run.join("bpf"), run, data }
    }

    fn make(&self, storage: Storage) -> Result<()> {
        fs::create_dir(&self.log)?;
        fs::create_dir(&self.bpf)?;
        mount(
            Some("bpf"),
            &self.bpf,
            Some("bpf"),
            MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC,
            Some("mode=0700"),
        )
        .with_context(|| format!("mount a bpffs at {}", self.bpf.display()))?;
        make_root(Path::new(DATA_ROOT))?;
        fs::create_dir(&self.data)?;
        if storage == Storage::Memory {
            let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
            mount(Some("tmpfs"), &self.data, Some("tmpfs"), flags, Some("mode=0755"))
                .with_context(|| format!("mount a tmpfs at {}", self.data.display()))?;
        }
        let postgres = postgres_user()?;
        chown(&self.data, Some(postgres.uid.as_raw()), Some(postgres.gid.as_raw()))?;
        Ok(())
    }
}

/// Makes the directories and the record of a new lab, which this process owns.
pub(super) fn create(storage: Storage) -> Result<State> {
    static COUNTER: AtomicU32 = AtomicU32::new(0);
    let owner = Owner::this_process()?;
    let created = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    // Until the lock is released nobody judges a directory that has no record yet.
    let _lock = lock()?;
    loop {
        let id = format!("{}-{}", owner.pid, COUNTER.fetch_add(1, Ordering::Relaxed));
        let places = Places::of(&id);
        match fs::create_dir(&places.run) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
            made => made.with_context(|| format!("directory {}", places.run.display()))?,
        }
        let state = State { id, owner: Some(owner), created, hosts: Vec::new() };
        state.save()?;
        places.make(storage)?;
        return Ok(state);
    }
}

/// The record of a lab; none when there is no such lab.
///
/// # Errors
/// When the record cannot be read.
pub fn load(id: &str) -> Result<Option<State>> {
    if !is_id(id) {
        bail!("`{id}` is no lab's id");
    }
    let path = Places::of(id).run.join(STATE_FILE);
    match fs::read(&path) {
        Ok(bytes) => Ok(Some(
            serde_json::from_slice(&bytes)
                .with_context(|| format!("state file {}", path.display()))?,
        )),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("state file {}", path.display())),
    }
}

/// The records of all labs on this machine, the newest last.
///
/// # Errors
/// When they cannot be read.
pub fn all() -> Result<Vec<State>> {
    let _lock = lock()?;
    let mut states = Vec::new();
    for entry in fs::read_dir(RUN_ROOT)? {
        let entry = entry?;
        let Some(id) = entry.file_name().into_string().ok().filter(|id| is_id(id)) else {
            continue;
        };
        match load(&id)? {
            Some(state) => states.push(state),
            // Its maker died before it had written the record, and so before it made anything
            // else; or another process is just removing it.
            None => drop(fs::remove_dir_all(entry.path())),
        }
    }
    states.sort_by(|a, b| (a.created, &a.id).cmp(&(b.created, &b.id)));
    Ok(states)
}

fn is_id(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-')
}

/// A directory that outlives labs and processes, for what every lab begins with.
pub(super) fn lasting() -> Result<PathBuf> {
    let root = Path::new(DATA_ROOT);
    make_root(root)?;
    Ok(root.to_owned())
}

/// Serializes the making of labs with looking at all of them.
fn lock() -> Result<Flock<File>> {
    let root = Path::new(RUN_ROOT);
    make_root(root)?;
    let file = File::create(root.join(LOCK_FILE))?;
    Flock::lock(file, FlockArg::LockExclusive)
        .map_err(|(_, errno)| errno)
        .context("lock the list of labs")
}

fn make_root(path: &Path) -> Result<()> {
    use std::os::unix::fs::MetadataExt as _;
    DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(path)
        .with_context(|| format!("directory {}", path.display()))?;
    if fs::symlink_metadata(path)?.uid() != 0 {
        bail!("{} belongs to another user than root: remove it", path.display());
    }
    Ok(())
}
