//! A web browser on a host: Debian's Chromium without a window, told what to do by the DevTools Protocol
//! (<https://chromedevtools.github.io/devtools-protocol/>) over a pair of pipes, so that it needs no port.
use std::collections::VecDeque;
use std::env;
use std::ffi::OsString;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::Instant;

use anyhow::{Context as _, Result, anyhow, bail};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde_json::{Value, json};

use super::host::Host;
use super::wait::{SOON, wait_for};

/// The browser's program, in the path.
const PROGRAM: &str = "chromium";

/// Names another program to be the browser; none, where it is empty.
const VARIABLE: &str = "PGHA_CHROMIUM";

/// Where the browser is, if it is there.
pub fn chromium() -> Option<PathBuf> {
    if let Some(program) = env::var_os(VARIABLE) {
        return Some(program).filter(|program| !program.is_empty()).map(PathBuf::from);
    }
    let path = env::var_os("PATH").unwrap_or_else(|| OsString::from("/usr/bin"));
    env::split_paths(&path).map(|folder| folder.join(PROGRAM)).find(|program| program.is_file())
}

/// How a page is looked at.
#[derive(Debug, Clone, Copy)]
pub struct Look {
    /// Width of the window in pixels.
    pub width: u32,
    /// Height of the window in pixels.
    pub height: u32,
    /// Whether the person prefers dark colours.
    pub dark: bool,
}

/// A browser with one page. Dropping it ends it.
#[derive(Debug)]
pub struct Browser {
    child: Child,
    commands: ChildStdin,
    messages: Receiver<Value>,
    /// What it said by itself, and nobody has asked for yet.
    told: VecDeque<Value>,
    session: Option<String>,
    last: u64,
}

impl Browser {
    /// Starts one on that host with an empty page; what it keeps is in the folder.
    ///
    /// # Errors
    /// When it cannot be started or does not answer.
    pub fn start(host: &Host, program: &Path, folder: &Path) -> Result<Self> {
        let mut command = Command::new("sh");
        // It reads commands from descriptor 3 and writes to descriptor 4.
        command
            .args(["-c", "exec \"$@\" 3<&0 4>&1 </dev/null >/dev/null", "sh"])
            .arg(program)
            .args([
                "--headless=new",
                "--remote-debugging-pipe",
                // Root's processes have no sandbox, and a virtual machine may have no graphics.
                "--no-sandbox",
                "--disable-gpu",
                "--disable-dev-shm-usage",
                // It is to ask for nothing but the page.
                "--no-first-run",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
            ]);
        command.arg(format!("--user-data-dir={}", folder.display()));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = host.inside(|| {
            command.process_group(0).spawn().with_context(|| format!("start {}", program.display()))
        })?;
        let commands = child.stdin.take().context("a pipe to the browser")?;
        let output = child.stdout.take().context("a pipe from the browser")?;
        let (sender, messages) = mpsc::channel();
        thread::spawn(move || {
            for message in BufReader::new(output).split(0).map_while(Result::ok) {
                // Whoever started it may be gone, and it ends with them.
                let Ok(message) = serde_json::from_slice(&message) else { break };
                if sender.send(message).is_err() {
                    break;
                }
            }
        });
        let mut browser =
            Self { child, commands, messages, told: VecDeque::new(), session: None, last: 0 };
        browser.open_page()?;
        Ok(browser)
    }

    fn open_page(&mut self) -> Result<()> {
        let page = self.call("Target.createTarget", &json!({ "url": "about:blank" }))?;
        let attach = json!({ "targetId": page["targetId"], "flatten": true });
        let session = self.call("Target.attachToTarget", &attach)?;
        self.session = Some(session["sessionId"].as_str().context("a session")?.to_owned());
        for domain in ["Page", "Runtime", "Log", "Network"] {
            self.call(&format!("{domain}.enable"), &json!({}))?;
        }
        Ok(())
    }

    /// Opens a URL. The page goes on by itself afterwards.
    ///
    /// # Errors
    /// When it cannot be reached.
    pub fn open(&mut self, url: &str) -> Result<()> {
        let opened = self.call("Page.navigate", &json!({ "url": url }))?;
        match opened["errorText"].as_str() {
            Some(error) => bail!("{url}: {error}"),
            None => Ok(()),
        }
    }

    /// The size of the window and the preferred colours.
    ///
    /// # Errors
    /// When the browser refuses.
    pub fn look(&mut self, look: Look) -> Result<()> {
        let Look { width, height, dark } = look;
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600 });
        self.call("Emulation.setDeviceMetricsOverride", &size)?;
        let scheme = if dark { "dark" } else { "light" };
        let features = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        self.call("Emulation.setEmulatedMedia", &json!({ "features": features })).map(drop)
    }

    /// The value of a JavaScript expression in the page.
    ///
    /// # Errors
    /// When it throws.
    pub fn evaluate(&mut self, expression: &str) -> Result<Value> {
        let question = json!({ "expression": expression, "returnByValue": true });
        let mut answer = self.call("Runtime.evaluate", &question)?;
        if let Some(thrown) = answer.get("exceptionDetails") {
            bail!("`{expression}`: {thrown}");
        }
        Ok(answer["result"]["value"].take())
    }

    /// Waits until an expression is true in the page.
    ///
    /// # Errors
    /// When it is not by the deadline; with the text of the page.
    pub fn wait_until(&mut self, what: &str, condition: &str) -> Result<()> {
        wait_for(what, SOON, || {
            if self.evaluate(condition)? == true {
                return Ok(Some(()));
            }
            bail!("the page says: {}", self.evaluate("document.body.innerText")?)
        })
    }

    /// The whole page as a picture (PNG).
    ///
    /// # Errors
    /// When the browser cannot draw it.
    pub fn picture(&mut self, path: &Path) -> Result<()> {
        let size = "[Math.max(innerWidth, document.documentElement.scrollWidth), \
                     document.documentElement.scrollHeight]";
        let size = self.evaluate(size)?;
        let clip = json!({ "x": 0, "y": 0, "width": size[0], "height": size[1], "scale": 1 });
        let shot = json!({ "captureBeyondViewport": true, "clip": clip });
        let picture = self.call("Page.captureScreenshot", &shot)?;
        let text = picture["data"].as_str().context("a picture")?;
        std::fs::write(path, decoded(text)?).with_context(|| path.display().to_string())
    }

    /// The URLs of everything the page has asked for since this was called last.
    pub fn requests(&mut self) -> Vec<String> {
        let url = |message: &Value| Some(message["params"]["request"]["url"].as_str()?.to_owned());
        self.take_told("Network.requestWillBeSent").iter().filter_map(url).collect()
    }

    /// What the page complained of since this was called last: exceptions, and what the browser or the page
    /// wrote to the console.
    pub fn complaints(&mut self) -> Vec<String> {
        let methods = ["Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded"];
        let said = methods.into_iter().flat_map(|method| self.take_told(method));
        said.map(|message| message["params"].to_string()).collect()
    }

    fn take_told(&mut self, method: &str) -> Vec<Value> {
        self.told.extend(self.messages.try_iter());
        let told = self.told.drain(..);
        let (wanted, others): (Vec<_>, Vec<_>) = told.partition(|told| told["method"] == method);
        self.told = others.into();
        wanted
    }

    fn call(&mut self, method: &str, parameters: &Value) -> Result<Value> {
        self.last += 1;
        let mut command = json!({ "id": self.last, "method": method, "params": parameters });
        if let Some(session) = &self.session {
            command["sessionId"] = session.as_str().into();
        }
        let mut line = serde_json::to_vec(&command)?;
        line.push(0);
        self.commands.write_all(&line).with_context(|| format!("{method}: the browser is gone"))?;
        let deadline = Instant::now() + SOON;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let mut message = self.messages.recv_timeout(left).map_err(|error| match error {
                RecvTimeoutError::Timeout => anyhow!("{method}: no answer within {SOON:?}"),
                RecvTimeoutError::Disconnected => anyhow!("{method}: the browser ended"),
            })?;
            if message["id"] != self.last {
                self.told.push_back(message);
            } else if let Some(error) = message.get("error") {
                bail!("{method}: {error}");
            } else {
                return Ok(message["result"].take());
            }
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Its processes are a group of their own, and gone already is what is wanted.
        let _ = killpg(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGKILL);
        let _ = self.child.wait();
    }
}

/// Bytes written as Base64 (RFC 4648, section 4).
fn decoded(text: &str) -> Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut count) = (0_u32, 0);
    for digit in text.bytes().filter(|digit| *digit != b'=') {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => bail!("{digit} is no digit of Base64"),
        };
        bits = bits << 6 | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
            bits &= (1 << count) - 1;
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests;
