//! Frames with their verdicts as pcapng (draft-ietf-opsawg-pcapng), and their comments read back.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::mem;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use pcap_file::pcapng::PcapNgWriter;
use pcap_file::pcapng::blocks::enhanced_packet::{EnhancedPacketBlock, EnhancedPacketOption};
use pcap_file::pcapng::blocks::interface_description::{
    InterfaceDescriptionBlock, InterfaceDescriptionOption,
};
use pcap_file::pcapng::blocks::interface_statistics::{
    InterfaceStatisticsBlock, InterfaceStatisticsOption,
};
use pcap_file::{DataLink, Endianness, PcapError};
use pgha_common::verdict::Reason;

use super::action_name;
use crate::bpf::xdp::TracedFrame;
use crate::clock::boot_time;

/// `if_tsresol`: the unit of time is 10^-9 seconds.
const NANOSECONDS: u8 = 9;

/// A file that cannot be written or read.
#[derive(Debug, thiserror::Error)]
#[error("pcapng: {0}")]
pub(crate) struct CaptureError(#[from] PcapError);

/// What is written of a frame's verdict: "forward new_flow — SYN of a new flow: ...".
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Comment {
    /// What happened to the frame.
    pub(crate) action: String,
    /// Why.
    pub(crate) reason: String,
}

impl Comment {
    fn write(reason: Reason) -> String {
        format!("{} {} — {}", action_name(reason.action()), reason.name(), reason.meaning())
    }

    /// Reads what [`Self::write`] wrote.
    pub(crate) fn read(text: &str) -> Option<Self> {
        let (verdict, _) = text.split_once(" — ")?;
        let (action, reason) = verdict.split_once(' ')?;
        Some(Self { action: action.to_owned(), reason: reason.to_owned() })
    }
}

/// A pcapng file that grows.
pub(super) struct Capture {
    writer: PcapNgWriter<Vec<u8>>,
    /// Frames lost so far, by interface.
    lost: Vec<u64>,
}

impl Capture {
    /// A file of frames that come in by these interfaces.
    pub(super) fn new(interfaces: &[&str]) -> Result<Self, CaptureError> {
        // The library writes the time of statistics as one number, which is what the format says, high
        // half first, in this order of bytes alone.
        let mut writer = PcapNgWriter::with_endianness(Vec::new(), Endianness::Big)?;
        for name in interfaces {
            writer.write_pcapng_block(InterfaceDescriptionBlock {
                linktype: DataLink::ETHERNET,
                snaplen: 0,
                options: vec![
                    InterfaceDescriptionOption::IfName(Cow::Borrowed(name)),
                    InterfaceDescriptionOption::IfTsResol(NANOSECONDS),
                ],
            })?;
        }
        Ok(Self { writer, lost: vec![0; interfaces.len()] })
    }

    /// Appends frames, and how many were lost since the last.
    pub(super) fn write(
        &mut self,
        frames: &[TracedFrame],
        lost: &BTreeMap<u32, u64>,
    ) -> Result<(), CaptureError> {
        let offset = wall_time().saturating_sub(Duration::from_nanos(boot_time()));
        for frame in frames {
            self.writer.write_pcapng_block(EnhancedPacketBlock {
                interface_id: frame.interface,
                timestamp: offset + Duration::from_nanos(frame.time),
                original_len: u32::try_from(frame.bytes.len()).unwrap_or(u32::MAX),
                data: Cow::Borrowed(&frame.bytes),
                options: vec![EnhancedPacketOption::Comment(Comment::write(frame.reason).into())],
            })?;
        }
        for (interface, count) in lost {
            if let Some(sum) = self.lost.get_mut(*interface as usize) {
                *sum += count;
            }
        }
        if lost.is_empty() { Ok(()) } else { self.write_statistics() }
    }

    /// Appends how many frames each interface has lost by now.
    pub(super) fn write_statistics(&mut self) -> Result<(), CaptureError> {
        let now = u64::try_from(wall_time().as_nanos()).unwrap_or(u64::MAX);
        for (interface, lost) in (0..).zip(&self.lost) {
            self.writer.write_pcapng_block(InterfaceStatisticsBlock {
                interface_id: interface,
                timestamp: now,
                options: vec![InterfaceStatisticsOption::IsbOsDrop(*lost)],
            })?;
        }
        Ok(())
    }

    /// What has been written since this was asked last.
    pub(super) fn part(&mut self) -> Vec<u8> {
        mem::take(self.writer.get_mut())
    }
}

fn wall_time() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
