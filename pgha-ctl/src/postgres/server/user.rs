//! PostgreSQL's user of the operating system: its files are handled in its name, and its programs run as it.
//!
//! The agent belongs to another user, and has no right over all files. So that what it does in PostgreSQL's
//! directories needs none, the thread that does it takes that user's identity for files while it lasts
//! (setfsuid(2), which is a thread's alone and takes CAP_SETUID). Then a link that PostgreSQL's user has put there
//! leads the agent nowhere where that user could not go by itself.

use std::ffi::{CString, OsStr};
use std::io;
use std::os::unix::fs::{MetadataExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use nix::unistd::{
    Gid, Uid, User, geteuid, getgrouplist, setfsgid, setfsuid, setgid, setgroups, setuid,
};

use crate::net::caps;

#[cfg(test)]
mod tests;

/// A user of the operating system, with the groups it is in.
#[derive(Clone, Debug)]
pub struct OsUser {
    uid: Uid,
    gid: Gid,
    groups: Vec<Gid>,
}

impl OsUser {
    /// The user of that name.
    ///
    /// # Errors
    /// There is none, or who is in which group is not known.
    pub fn named(name: &str) -> io::Result<Self> {
        let missing = || io::Error::new(io::ErrorKind::NotFound, "there is no such user");
        let user = User::from_name(name)?.ok_or_else(missing)?;
        let groups = getgrouplist(&CString::new(name)?, user.gid)?;
        Ok(Self { uid: user.uid, gid: user.gid, groups })
    }

    /// Whether this process is of that user.
    pub(crate) fn is_own(&self) -> bool {
        geteuid() == self.uid
    }

    /// Does something with files as this user does it, on this thread.
    ///
    /// # Errors
    /// The kernel does not let this thread do that: it takes CAP_SETUID and CAP_SETGID.
    pub(crate) fn with_files<T>(&self, job: impl FnOnce() -> T) -> io::Result<T> {
        if self.is_own() {
            return Ok(job());
        }
        let _own = Borrowed::identity(self)?;
        Ok(job())
    }

    /// Gives it a directory, where it has not got it. Takes CAP_CHOWN then.
    pub(super) fn give(&self, path: &Path) -> io::Result<()> {
        if self.other_owner(path).is_none() {
            return Ok(());
        }
        chown(path, Some(self.uid.as_raw()), Some(self.gid.as_raw()))
    }

    /// The number of the user that has a file or a directory, where that is another one.
    pub(crate) fn other_owner(&self, path: &Path) -> Option<u32> {
        let owner = path.metadata().ok()?.uid();
        (owner != self.uid.as_raw()).then_some(owner)
    }

    /// A program that runs as this user, without any capability.
    pub(crate) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command.current_dir("/");
        let user = self.clone();
        // SAFETY: the closure runs in the forked child and makes only system calls; it allocates nothing unless it
        // fails, takes no lock, and what it uses was read before the fork.
        unsafe { command.pre_exec(move || user.become_it()) };
        command
    }

    /// This process, with its one thread, is this user from here on, and has no capability.
    pub(super) fn become_it(&self) -> io::Result<()> {
        if !self.is_own() {
            setgroups(&self.groups)?;
            setgid(self.gid)?;
            setuid(self.uid)?;
        }
        caps::give_up_all()
    }
}

/// Another user's identity for files. It ends with this.
struct Borrowed {
    uid: Uid,
    gid: Gid,
}

impl Borrowed {
    fn identity(of: &OsUser) -> io::Result<Self> {
        // The user last: as another one than root, this thread has the rights of that user only.
        let own = Self { gid: setfsgid(of.gid), uid: setfsuid(of.uid) };
        // They do not fail, but change nothing where it is not allowed (setfsuid(2)); an impossible value asks.
        if setfsgid(Gid::from_raw(u32::MAX)) == of.gid
            && setfsuid(Uid::from_raw(u32::MAX)) == of.uid
        {
            return Ok(own);
        }
        drop(own);
        Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            "this process may not handle files in the name of PostgreSQL's user; it takes CAP_SETUID and CAP_SETGID",
        ))
    }
}

impl Drop for Borrowed {
    fn drop(&mut self) {
        setfsuid(self.uid);
        setfsgid(self.gid);
    }
}
