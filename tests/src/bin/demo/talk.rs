//! A person's psql: on a terminal, because only there psql connects anew by itself when its
//! connection is lost.

use std::io::{Read as _, Write as _};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use anyhow::{Context as _, Result};
use pgha_tests::lab::process::client_environment;
use pgha_tests::lab::{Host, SOON, wait_for};

const PROMPT: &str = "postgres=# ";

/// One running psql.
pub(super) struct Talk {
    child: Child,
    keyboard: ChildStdin,
    screen: Arc<Mutex<String>>,
}

impl Talk {
    /// Starts psql on a host, connected to `address`, and waits for its prompt.
    pub(super) fn begin(host: &Host, address: &str) -> Result<Self> {
        let psql = format!("psql -X -q -P pager=off -h {address} -d postgres");
        let mut child = host.inside(move || {
            let mut command = Command::new("script");
            client_environment(&mut command);
            command.args(["-qefc", &psql, "/dev/null"]);
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
            command.spawn().context("start psql on a terminal with `script`")
        })?;
        let keyboard = child.stdin.take().context("the keyboard of psql")?;
        let mut output = child.stdout.take().context("the screen of psql")?;
        let screen = Arc::new(Mutex::new(String::new()));
        let shown = screen.clone();
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length @ 1..) = output.read(&mut buffer) {
                let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
                shown.lock().unwrap_or_else(PoisonError::into_inner).push_str(&text);
            }
        });
        let talk = Self { child, keyboard, screen };
        talk.wait_for_prompt()?;
        Ok(talk)
    }

    /// Types a line; what psql shows until its next prompt, without the echo.
    pub(super) fn say(&mut self, line: &str) -> Result<String> {
        self.screen.lock().unwrap_or_else(PoisonError::into_inner).clear();
        writeln!(self.keyboard, "{line}")?;
        self.keyboard.flush()?;
        let shown = self.wait_for_prompt()?;
        let lines = shown.lines().map(str::trim_end).filter(|shown| !shown.contains(line));
        Ok(lines.filter(|shown| !shown.is_empty()).collect::<Vec<_>>().join("\n"))
    }

    fn wait_for_prompt(&self) -> Result<String> {
        wait_for("the prompt of psql", SOON, || {
            let screen = self.screen.lock().unwrap_or_else(PoisonError::into_inner).clone();
            // A terminal's bracketed paste and the like say nothing to a reader.
            let plain = screen.replace("\u{1b}[?2004h", "").replace("\u{1b}[?2004l", "");
            Ok(plain.strip_suffix(PROMPT).map(str::to_owned))
        })
    }
}

impl Drop for Talk {
    fn drop(&mut self) {
        // It may have ended already; nothing else can go wrong with a child of ours.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
