//! PostgreSQL's programs, run to their end.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::PathBuf;
use std::time::Duration;

use super::cgroup::Cgroup;
use super::process::{Process, command, last_words};
use super::{Server, ServerError};

impl Server {
    /// Runs a program of PostgreSQL's as its user, in a cgroup of its own, and returns what it said.
    ///
    /// Given up, it is ended.
    pub(super) async fn tool<S: AsRef<OsStr>>(
        &self,
        program: &'static str,
        arguments: impl IntoIterator<Item = S>,
        within: Duration,
    ) -> Result<String, ServerError> {
        self.tool_called("tool", program, arguments, within).await
    }

    /// The same, in a cgroup called that.
    pub(super) async fn tool_called<S: AsRef<OsStr>>(
        &self,
        called: &'static str,
        program: &'static str,
        arguments: impl IntoIterator<Item = S>,
        within: Duration,
    ) -> Result<String, ServerError> {
        let config = &self.0.config;
        let path: PathBuf = config.programs.join(program);
        let said = config.runtime.join(format!("{program}.out"));
        self.0.disk.make_directories().await?;
        let out = File::create(&said).map_err(ServerError::file("write", &said))?;
        let cgroup = Tool(self.0.cgroups.fresh(called)?);
        let failed = |error| ServerError::Run { program: path.clone(), error };
        let mut command = command(&path, &cgroup.0, &self.0.user, &out).map_err(failed)?;
        let process =
            Process::of(command.args(arguments).spawn().map_err(failed)?).map_err(failed)?;
        let ended = tokio::time::timeout(within, process.ended()).await;
        // Whatever it left running goes with it.
        cgroup.0.kill()?;
        cgroup.0.emptied(config.deadlines.kill).await?;
        cgroup.0.remove()?;
        let how = match ended {
            Ok(Some(status)) if status.success() => {
                return fs::read_to_string(&said).map_err(ServerError::file("read", said));
            }
            Ok(Some(status)) => status.to_string(),
            Ok(None) => "its end was not seen".to_owned(),
            Err(_) => format!("killed after {} ms", within.as_millis()),
        };
        Err(ServerError::Tool { program, how, words: last_words(&said, 0) })
    }
}

/// A program that runs, and is ended with this.
struct Tool(Cgroup);

impl Drop for Tool {
    fn drop(&mut self) {
        // Gone already is what is wanted.
        let _ = self.0.kill();
    }
}
