//! Start and stop.

use std::ffi::OsString;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use nix::sys::signal::Signal;
use pgha_machine::Wal;
use tokio::time::{Instant, sleep, timeout};

use super::disk::{Files, real};
use super::hba::Hba;
use super::process::{self, Process, command, directory, last_words};
use super::rewinding::Unfinished;
use super::session::is_not_yet;
use super::settings::Settings;
use super::{Run, Server, ServerError, Starting};

/// Between two looks at a server on its way up.
pub(super) const LOOK: Duration = Duration::from_millis(5);
/// How soon a standby that lost its upstream tries it again (`wal_retrieve_retry_interval`, 5 s by default): after a
/// crash of the primary its clients wait until voters are back.
const RETRY: &str = "100ms";
/// How often it is said what a start that takes long is at.
const TELL: Duration = Duration::from_secs(10);

/// How a stop came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// With a checkpoint at the end; walsenders had sent all of it.
    Fast,
    /// Without, as after a crash.
    Immediate,
    /// By the kernel.
    Killed,
}

impl Server {
    /// Starts PostgreSQL in a new cgroup as a standby that streams from nobody (`Command::Start`), and returns
    /// its log where the end of that is known.
    ///
    /// # Errors
    /// What keeps it from that; nothing of PostgreSQL runs then.
    pub async fn start(&self) -> Result<Option<Wal>, ServerError> {
        self.begin_standby(&[]).await?;
        self.settled_wal().await
    }

    /// The same, with further settings on the command line.
    pub(super) async fn begin_standby(&self, further: &[&str]) -> Result<(), ServerError> {
        self.begin_with(&Settings::default(), further).await
    }

    /// Starts a standby that streams as its settings say.
    pub(super) async fn begin_with(
        &self,
        settings: &Settings,
        further: &[&str],
    ) -> Result<(), ServerError> {
        self.prepare(settings, false).await?;
        let begun = async {
            self.begin(false, further).await?;
            self.wait_until_it_answers(true).await
        };
        let begun = begun.await;
        self.or_kill(begun).await
    }

    /// What fails leaves nothing running.
    pub(super) async fn or_kill<T>(
        &self,
        result: Result<T, ServerError>,
    ) -> Result<T, ServerError> {
        if result.is_err() {
            self.kill().await?;
        }
        result
    }

    /// Has on disk what the next start is to find. Nothing runs then.
    pub(super) async fn prepare(
        &self,
        settings: &Settings,
        as_primary: bool,
    ) -> Result<(), ServerError> {
        if let Ok(run) = self.run()
            && !run.postmaster.has_ended()
        {
            return Err(ServerError::Running(run.postmaster.pid()));
        }
        // What a former start or a former agent left.
        self.kill().await?;
        self.0.disk.make_directories().await?;
        let settings = settings.clone();
        self.0
            .disk
            .run(move |files| {
                let config = &files.config;
                let streams = !settings.primary_conninfo.is_empty();
                let unfinished = files.unfinished()?;
                let exchanging = unfinished.as_ref().is_some_and(Unfinished::is_exchanging);
                let exchanging = exchanging && !as_primary;
                let whole = |u: &Unfinished| exchanging || (u.is_made() && streams);
                if let Some(unfinished) = unfinished.filter(|u| !whole(u)) {
                    let (data, marker) = (config.data.clone(), files.marker());
                    return Err(ServerError::Unfinished { data, stage: unfinished.stage, marker });
                }
                if let Some(pid) = process::servers()
                    .find(|pid| directory(*pid).is_some_and(|at| real(&at) == real(&config.data)))
                {
                    return Err(ServerError::Foreign { pid, data: config.data.clone() });
                }
                if exchanging {
                    files.end_exchange()?;
                }
                files.remove_locks()?;
                if !as_primary {
                    files.as_standby()?;
                }
                files.valve(streams)?;
                files.set(&settings)?;
                files.mend_auto_conf()
            })
            .await?;
        self.settle_promotion(as_primary).await?;
        for timeline in self.0.disk.run(Files::forget_unused).await? {
            tracing::info!("timeline {timeline}, which nobody was ever on, is forgotten");
        }
        Ok(())
    }

    /// Where the operator says who is admitted.
    pub(super) async fn operators_hba(&self) -> Result<Hba, ServerError> {
        let config = &self.0.config;
        let arguments = [
            OsString::from("-C"),
            "hba_file".into(),
            "-D".into(),
            config.data.clone().into(),
            "-c".into(),
            named("config_file", &config.config_file),
        ];
        let said = self.tool("postgres", arguments, config.deadlines.answer).await?;
        let path = said.lines().last().map(str::trim).filter(|line| line.starts_with('/'));
        Ok(Hba { operators: path.ok_or(ServerError::Answer("hba_file"))?.into() })
    }

    /// Begins the postmaster.
    pub(super) async fn begin(
        &self,
        as_primary: bool,
        further: &[&str],
    ) -> Result<Arc<Run>, ServerError> {
        let config = &self.0.config;
        // After a crash those settings count by which it ran: it is the primary that it was, and its clients wait.
        let before = self.0.hba.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let hba = match before.filter(|_| as_primary) {
            Some(hba) => hba,
            None => self.operators_hba().await?,
        };
        let link = hba.clone();
        self.0
            .disk
            .run(
                move |files| {
                    if as_primary { files.admit_nobody(&link) } else { files.admit(&link) }
                },
            )
            .await?;
        // Not on another thread: a start that is given up arms nothing later.
        let cgroup = self.0.cgroups.fresh("start")?;
        let starting = Starting { number: cgroup.number(), cgroup: cgroup.path(), as_primary };
        (self.0.before_start)(&starting).map_err(ServerError::Refused)?;
        let log = process::log(&config.log).map_err(ServerError::file("write", &config.log))?;
        let length = log.metadata().map_err(ServerError::file("read", &config.log))?.len();
        let program = config.programs.join("postgres");
        let failed = |error| ServerError::Run { program: program.clone(), error };
        let mut command = command(&program, &cgroup, &self.0.user, &log).map_err(failed)?;
        command.args(self.arguments(&hba)).args(further.iter().flat_map(|set| ["-c", *set]));
        command.env("PGSERVICEFILE", config.valve());
        if as_primary {
            // As late as can be: whoever starts it by hand from here on gets a primary.
            self.0.disk.run(Files::as_primary).await?;
        }
        let child = match command.spawn() {
            Ok(child) => child,
            Err(error) => {
                self.0.disk.run(Files::as_standby).await?;
                return Err(failed(error));
            }
        };
        let postmaster = Process::of(child).map_err(failed)?;
        tracing::info!(
            "PostgreSQL begins as process {} in {}",
            postmaster.pid(),
            cgroup.path().display()
        );
        let run = Arc::new(Run { cgroup, postmaster, hba, log: length });
        self.runs_as(Arc::clone(&run));
        Ok(run)
    }

    /// What goes before every file: nobody changes these by ALTER SYSTEM.
    fn arguments(&self, hba: &Hba) -> Vec<OsString> {
        let config = &self.0.config;
        let sockets = std::iter::once(config.socket()).chain(config.local_sockets.iter().cloned());
        // Commas separate them, and quotes keep those in a name.
        let sockets: Vec<_> = sockets.map(|path| format!("\"{}\"", path.display())).collect();
        let settings = [
            named("config_file", config.own_config()),
            named("hba_file", hba.link()),
            named("unix_socket_directories", sockets.join(", ")),
            named("port", config.port.to_string()),
            named("cluster_name", config.node.as_str()),
            named("restart_after_crash", "off"),
            named("hot_standby", "on"),
            named("recovery_target_timeline", "latest"),
            named("wal_retrieve_retry_interval", RETRY),
        ];
        let mut arguments = vec!["-D".into(), config.data.clone().into()];
        arguments.extend(settings.into_iter().flat_map(|set| [OsString::from("-c"), set]));
        arguments
    }

    /// Waits until the agent gets a session, and sees that PostgreSQL is what it is to be.
    pub(super) async fn wait_until_it_answers(&self, in_recovery: bool) -> Result<(), ServerError> {
        let deadlines = self.0.config.deadlines;
        let run = self.run()?;
        let (begun, mut told) = (Instant::now(), Instant::now());
        loop {
            let seen = match self.session().await {
                Ok(session) => {
                    let now = session.row("SELECT pg_is_in_recovery() AS in_recovery").await?;
                    let took = begun.elapsed().as_millis();
                    self.keep(Some(Arc::new(session)));
                    return match (now.is("in_recovery")?, in_recovery) {
                        (true, true) | (false, false) => {
                            tracing::info!("PostgreSQL answers after {took} ms");
                            Ok(())
                        }
                        (false, true) => Err(ServerError::OutOfRecovery),
                        (true, false) => Err(ServerError::InRecovery),
                    };
                }
                Err(ServerError::Session(error)) if is_not_yet(&error) => error.to_string(),
                Err(error) => return Err(error),
            };
            if run.postmaster.has_ended() {
                return Err(self.obituary("while it started"));
            }
            if begun.elapsed() >= deadlines.start {
                return Err(ServerError::Late { what: "a start", within: deadlines.start, seen });
            }
            if told.elapsed() >= TELL {
                told = Instant::now();
                let took = begun.elapsed().as_secs();
                tracing::info!("PostgreSQL starts since {took} s: {}", self.startup(&run));
            }
            sleep(LOOK).await;
        }
    }

    /// What its startup process says that it does.
    pub(super) fn startup(&self, run: &Run) -> String {
        self.titles(run)
            .into_iter()
            .find_map(|(_, title)| title.starts_with("startup").then_some(title))
            .unwrap_or_else(|| "it has no startup process".to_owned())
    }

    /// What each of its processes calls itself.
    pub(super) fn titles(&self, run: &Run) -> Vec<(i32, String)> {
        let processes = run.cgroup.processes().unwrap_or_default();
        let name = self.0.config.node.as_str();
        processes.into_iter().filter_map(|pid| Some((pid, process::title(pid, name)?))).collect()
    }

    /// An end that nobody ordered, with the end of the log.
    pub(super) fn obituary(&self, during: &'static str) -> ServerError {
        let since = self.run().map_or(0, |run| run.log);
        ServerError::Ended { during, words: last_words(&self.0.config.log, since) }
    }

    /// Stops PostgreSQL in good order: fast, then immediately, then by the kernel, each in its time. Nothing of it
    /// runs then.
    ///
    /// # Errors
    /// Where not even that ends it.
    pub async fn stop(&self) -> Result<Stopped, ServerError> {
        let deadlines = self.0.config.deadlines;
        let run = self.run()?;
        let begun = Instant::now();
        let ways = [
            (Signal::SIGINT, deadlines.fast, Stopped::Fast),
            (Signal::SIGQUIT, deadlines.immediate, Stopped::Immediate),
        ];
        for (signal, within, stopped) in ways {
            if run.postmaster.signal(signal).is_ok()
                && timeout(within, run.postmaster.ended()).await.is_ok()
            {
                self.kill().await?;
                let took = begun.elapsed().as_millis();
                tracing::info!("PostgreSQL is stopped ({stopped:?}) after {took} ms");
                return Ok(stopped);
            }
            tracing::warn!("PostgreSQL goes on {} ms after {signal}", within.as_millis());
        }
        self.kill().await?;
        Ok(Stopped::Killed)
    }
}

fn named(name: &str, value: impl Into<OsString>) -> OsString {
    let mut set = OsString::from(format!("{name}="));
    set.push(value.into());
    set
}
