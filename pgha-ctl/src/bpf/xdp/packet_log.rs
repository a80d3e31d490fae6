//! The log of verdicts: the program logs two numbers for each frame, here they become words.

use aya_log::EbpfLogger;
use log::{Log, Metadata, Record};
use pgha_common::verdict::Reason;

use super::{DataPlane, XdpError};
use crate::telemetry::PACKET_LOG_TARGET;

/// Verdicts as the program logs them; each [`flush`](EbpfLogger::flush) writes out what came in since
/// the last, at level trace under the target
/// [`PACKET_LOG_TARGET`].
pub type PacketLog = EbpfLogger<Verdicts>;

/// Turns "length reason" into words.
#[derive(Debug)]
pub struct Verdicts;

impl Log for Verdicts {
    fn enabled(&self, _metadata: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let text = record.args().to_string();
        let numbers: Vec<usize> = text.split(' ').filter_map(|word| word.parse().ok()).collect();
        if let [bytes, reason] = numbers[..]
            && let Some(reason) = Reason::ALL.get(reason)
        {
            tracing::trace!(target: PACKET_LOG_TARGET, bytes, "{}", reason.name());
        }
    }

    fn flush(&self) {}
}

impl DataPlane {
    /// The logs of verdicts, one for each interface, of programs that were loaded with
    /// [`super::Settings::log_packets`].
    ///
    /// # Errors
    /// An object without a log, or one whose log was taken already.
    pub fn packet_logs(&mut self) -> Result<Vec<PacketLog>, XdpError> {
        let log = |ebpf| EbpfLogger::init_with_logger(ebpf, Verdicts).map_err(XdpError::Log);
        self.programs.iter_mut().map(log).collect()
    }
}
