//! Captures by tcpdump.
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Result, bail};
use nix::sys::signal::Signal;

use super::host::Host;
use super::netns::Namespace;
use super::plan::INTERFACE;
use super::process::{Cmd, Running};
use super::wait::{SOON, wait_for};

/// Bytes before the first record of a file that tcpdump wrote (pcap-savefile(5)), and before the
/// frame of each record: two of time, the captured length, the length.
const FILE_HEADER: usize = 24;
const RECORD_HEADER: usize = 16;

/// Bytes before the network layer in a capture [`Capture::at_switch`]; the first two are the EtherType.
pub const COOKED: usize = 20;

/// A capture in progress; dropped, it ends, and its file stays until the lab ends.
#[derive(Debug)]
pub struct Capture {
    tcpdump: Running,
    pcap: PathBuf,
}

impl Capture {
    /// Captures on a host's interface what matches a filter of pcap-filter(7), which may be empty.
    ///
    /// What XDP drops or sends back is not seen here, only what it passes: see
    /// [`Capture::at_port`].
    ///
    /// # Errors
    /// When tcpdump does not get ready, as with a wrong filter.
    pub fn start(host: &Host, filter: &str) -> Result<Self> {
        Self::on(host, host.namespace(), &["-i", INTERFACE], filter)
    }

    /// Captures on the switch's end of a host's cable: all that arrives at the host, before its XDP
    /// program, and all that leaves it, also by `XDP_TX`.
    ///
    /// # Errors
    /// As [`Capture::start`].
    pub fn at_port(host: &Host, filter: &str) -> Result<Self> {
        let (switch, port) = host.port();
        Self::on(host, switch, &["-i", port], filter)
    }

    /// Captures on all ports of the switch that a host is at: whatever anybody sends, whoever gets it. Each frame
    /// begins with what the kernel says of it ([`COOKED`] bytes, LINKTYPE_LINUX_SLL2) instead of its addresses, and may
    /// be there more than once.
    ///
    /// # Errors
    /// As [`Capture::start`].
    pub fn at_switch(host: &Host, filter: &str) -> Result<Self> {
        let (switch, _) = host.port();
        Self::on(host, switch, &["-i", "any", "-y", "LINUX_SLL2", "-Q", "in"], filter)
    }

    fn on(host: &Host, namespace: &Namespace, place: &[&str], filter: &str) -> Result<Self> {
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        let name = format!("capture{}", COUNTER.fetch_add(1, Ordering::Relaxed));
        let log = host.log_path(&name);
        let pcap = log.with_extension("pcap");
        // As root (-Z), for another user could not write among the logs.
        let options = ["-U", "--immediate-mode", "-n", "-Z", "root"];
        let tcpdump = Cmd::new(["tcpdump"])
            .args(options)
            .args(place)
            .args(["-w"])
            .args([pcap.as_os_str()])
            .args(filter.split_whitespace())
            .in_namespace(namespace)?
            .start(&log)?;
        let ready = wait_for("tcpdump to listen", SOON, || {
            if tcpdump.log().contains("listening on") {
                return Ok(Some(true));
            }
            Ok((!tcpdump.is_running()?).then_some(false))
        })?;
        if !ready {
            bail!("tcpdump with filter `{filter}`: {}", tcpdump.log().trim());
        }
        Ok(Self { tcpdump, pcap })
    }

    /// Ends the capture and returns its file.
    ///
    /// # Errors
    /// When tcpdump does not end.
    pub fn stop(&self) -> Result<&Path> {
        self.tcpdump.signal(Signal::SIGINT)?;
        self.tcpdump.wait(SOON)?;
        Ok(&self.pcap)
    }

    /// The frames so far, one line each, with the time in seconds and the link-layer header.
    ///
    /// # Errors
    /// When tcpdump cannot be run.
    pub fn lines(&self) -> Result<Vec<String>> {
        // Its exit code is no use: the last frame may be half written still.
        let output = Cmd::new(["tcpdump", "-e", "-nn", "-tt", "-r"])
            .args([self.pcap.as_os_str()])
            .output()?;
        Ok(String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect())
    }

    /// The frames so far, as they were on the cable.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn frames(&self) -> Result<Vec<Vec<u8>>> {
        let file = fs::read(&self.pcap)?;
        let mut rest = file.get(FILE_HEADER..).unwrap_or_default();
        let mut frames = Vec::new();
        while let Some((header, behind)) = rest.split_at_checked(RECORD_HEADER) {
            let length = u32::from_ne_bytes(header[8..12].try_into()?).try_into()?;
            // The last one may be half written still.
            let Some((frame, behind)) = behind.split_at_checked(length) else { break };
            frames.push(frame.to_vec());
            rest = behind;
        }
        Ok(frames)
    }

    /// Waits until that many frames have been captured, and returns their lines.
    ///
    /// # Errors
    /// When they have not been; with those that have.
    pub fn wait_for_frames(&self, count: usize) -> Result<Vec<String>> {
        wait_for(format_args!("{count} captured frames"), SOON, || {
            let lines = self.lines()?;
            if lines.len() < count {
                bail!("{} frames: {lines:#?}", lines.len());
            }
            Ok(Some(lines))
        })
    }
}
