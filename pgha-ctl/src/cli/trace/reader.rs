//! A capture read while it comes in.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::time::UNIX_EPOCH;

use pcap_file::PcapError;
use pcap_file::pcapng::blocks::enhanced_packet::{EnhancedPacketBlock, EnhancedPacketOption};
use pcap_file::pcapng::blocks::interface_description::InterfaceDescriptionOption;
use pcap_file::pcapng::blocks::interface_statistics::InterfaceStatisticsOption;
use pcap_file::pcapng::{Block, PcapNgParser};
use serde::Serialize;

use crate::controller::status::SCHEMA;
use crate::controller::trace::{Comment, Decoded};

/// Reads the parts of a capture, and counts.
#[derive(Default)]
pub(super) struct Reader {
    /// What came in and is no whole block yet.
    rest: Vec<u8>,
    parser: Option<PcapNgParser>,
    frames: u64,
    /// By interface.
    lost: BTreeMap<u32, u64>,
}

/// A frame, as a line shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Line {
    schema: u32,
    time: String,
    interface: String,
    action: String,
    reason: String,
    source: Option<SocketAddr>,
    destination: Option<SocketAddr>,
    what: String,
    length: u32,
    #[serde(skip)]
    ends: String,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { time, interface, action, reason, what, length, ends, .. } = self;
        write!(f, "{time} {interface} {action} {reason} {ends} {what} {length} bytes")
    }
}

impl Reader {
    /// Takes in one more part.
    pub(super) fn read(&mut self, part: &[u8]) -> Result<Vec<Line>, PcapError> {
        let mut bytes = std::mem::take(&mut self.rest);
        bytes.extend_from_slice(part);
        let mut rest = &bytes[..];
        let mut lines = Vec::new();
        loop {
            match self.block(rest, &mut lines) {
                Ok(after) => rest = after,
                Err(PcapError::IncompleteBuffer) => break,
                Err(error) => return Err(error),
            }
        }
        self.rest = rest.to_vec();
        Ok(lines)
    }

    /// Reads one block; what comes after it.
    fn block<'a>(&mut self, bytes: &'a [u8], lines: &mut Vec<Line>) -> Result<&'a [u8], PcapError> {
        let Some(parser) = &mut self.parser else {
            let (rest, parser) = PcapNgParser::new(bytes)?;
            self.parser = Some(parser);
            return Ok(rest);
        };
        let (rest, block) = parser.next_block(bytes)?;
        if let Block::EnhancedPacket(packet) = &block {
            self.frames += 1;
            lines.push(line(packet, interface(parser, packet)));
        }
        if let Block::InterfaceStatistics(statistics) = &block {
            for option in &statistics.options {
                if let InterfaceStatisticsOption::IsbOsDrop(count) = option {
                    self.lost.insert(statistics.interface_id, *count);
                }
            }
        }
        Ok(rest)
    }

    /// How many frames came in.
    pub(super) const fn frames(&self) -> u64 {
        self.frames
    }

    /// How many were lost before they could be handed over.
    pub(super) fn lost(&self) -> u64 {
        self.lost.values().sum()
    }
}

fn interface(parser: &PcapNgParser, packet: &EnhancedPacketBlock<'_>) -> String {
    let options = parser.packet_interface(packet).map_or(&[][..], |interface| &interface.options);
    let name = options.iter().find_map(|option| {
        if let InterfaceDescriptionOption::IfName(name) = option {
            Some(name.to_string())
        } else {
            None
        }
    });
    name.unwrap_or_else(|| packet.interface_id.to_string())
}

fn line(packet: &EnhancedPacketBlock<'_>, interface: String) -> Line {
    let comment = packet.options.iter().find_map(|option| {
        if let EnhancedPacketOption::Comment(text) = option { Comment::read(text) } else { None }
    });
    let (action, reason) = comment.map_or_else(
        || ("-".to_owned(), "-".to_owned()),
        |Comment { action, reason }| (action, reason),
    );
    let decoded = Decoded::of(&packet.data);
    Line {
        schema: SCHEMA,
        time: humantime::format_rfc3339_nanos(UNIX_EPOCH + packet.timestamp).to_string(),
        interface,
        action,
        reason,
        ends: decoded.ends(),
        source: decoded.source,
        destination: decoded.destination,
        what: decoded.what,
        length: packet.original_len,
    }
}
