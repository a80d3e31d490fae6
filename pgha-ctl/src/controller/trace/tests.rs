use std::collections::BTreeMap;

use etherparse::PacketBuilder;
use pcap_file::pcapng::blocks::interface_statistics::InterfaceStatisticsOption;
use pcap_file::pcapng::{Block, PcapNgParser};

use super::*;

fn tcp(
    flags: impl FnOnce(etherparse::PacketBuilderStep<etherparse::TcpHeader>) -> Vec<u8>,
) -> Vec<u8> {
    flags(
        PacketBuilder::ethernet2([2; 6], [4; 6])
            .ipv4([10, 0, 0, 7], [10, 0, 0, 100], 64)
            .tcp(40_000, 5432, 1, 64),
    )
}

fn written(builder: etherparse::PacketBuilderStep<etherparse::TcpHeader>) -> Vec<u8> {
    let mut bytes = Vec::new();
    builder.write(&mut bytes, &[]).unwrap();
    bytes
}

fn frame(reason: Reason, interface: u32) -> TracedFrame {
    TracedFrame { time: 5, interface, reason, bytes: tcp(|tcp| written(tcp.syn())) }
}

#[test]
fn a_frame_is_decoded_into_one_line() {
    let segment = Decoded::of(&tcp(|tcp| written(tcp.fin().ack(7))));
    assert_eq!(
        (segment.ends().as_str(), &*segment.what),
        ("10.0.0.7:40000 -> 10.0.0.100:5432", "FIN,ACK")
    );
    let mut echo = Vec::new();
    PacketBuilder::ethernet2([2; 6], [4; 6])
        .ipv6([1; 16], [2; 16], 64)
        .icmpv6_echo_request(1, 1)
        .write(&mut echo, &[])
        .unwrap();
    assert_eq!(Decoded::of(&echo).what, "ICMPv6");
    // Whatever its length.
    for end in 0..echo.len() {
        Decoded::of(&echo[..end]);
    }
    assert_eq!(Decoded::of(&[]).ends(), "? -> ?");
}

#[test]
fn a_capture_is_read_back_as_it_was_written() {
    let mut capture = Capture::new(&["eth0", "eth1"]).unwrap();
    let frames = [frame(Reason::NewFlow, 0), frame(Reason::NotVip, 1)];
    capture.write(&frames, &BTreeMap::from([(1, 3)])).unwrap();
    let file = capture.part();
    assert!(capture.part().is_empty());
    let (mut rest, mut parser) = PcapNgParser::new(&file).unwrap();
    let (mut comments, mut lost) = (Vec::new(), Vec::new());
    while !rest.is_empty() {
        let (after, block) = parser.next_block(rest).unwrap();
        rest = after;
        if let Block::EnhancedPacket(packet) = &block {
            assert_eq!(&*packet.data, frames[comments.len()].bytes);
            // The time since boot has become the time of day.
            assert!(packet.timestamp > Duration::from_secs(1_600_000_000), "{packet:?}");
            assert_eq!(packet.interface_id, frames[comments.len()].interface);
            comments.push(format!("{:?}", packet.options));
        }
        if let Block::InterfaceStatistics(statistics) = &block {
            let InterfaceStatisticsOption::IsbOsDrop(count) = statistics.options[0] else {
                panic!("{statistics:?}")
            };
            lost.push((statistics.interface_id, count));
        }
    }
    assert!(comments[0].contains("forward new_flow — SYN of a new flow: "), "{comments:?}");
    assert!(comments[1].contains("pass not_vip — Not addressed to a VIP."), "{comments:?}");
    assert_eq!(lost, [(0, 0), (1, 3)]);
    assert_eq!(parser.interfaces().len(), 2);
}

#[test]
fn a_comment_names_action_and_reason() {
    let read = Comment::read("drop syn_ack — SYN-ACK to a VIP.").unwrap();
    assert_eq!((read.action.as_str(), read.reason.as_str()), ("drop", "syn_ack"));
    assert_eq!(Comment::read("somebody's own words"), None);
}

#[test]
fn reasons_and_clients_choose_frames() {
    let filter = |client: Option<&str>, reason: Option<&str>| {
        let query = TraceQuery {
            client: client.map(str::to_owned),
            reason: reason.map(str::to_owned),
            ..TraceQuery::default()
        };
        Filter::new(&query).unwrap()
    };
    let syn = frame(Reason::NewFlow, 0);
    assert!(filter(None, None).means(&syn));
    assert!(filter(Some("10.0.0.0/24"), Some("syn_ack,new_flow")).means(&syn));
    assert!(!filter(None, Some("syn_ack")).means(&syn));
    assert!(!filter(Some("10.0.0.8"), None).means(&syn));
    assert!(filter(Some("10.0.0.7:40000"), None).means(&syn));
}

#[test]
fn a_reason_that_is_none_is_refused_with_the_one_that_may_be_meant() {
    let refused = |name| reason_named(name).unwrap_err().error;
    assert_eq!(refused("new_flw"), "\"new_flw\" is no reason; did you mean \"new_flow\"?");
    assert_eq!(
        refused("nothing_like_it"),
        "\"nothing_like_it\" is no reason; docs/verdicts.md lists them"
    );
}

#[test]
fn a_reader_that_stops_reading_does_not_keep_the_trace() {
    let (send, receive) = mpsc::channel(1);
    let (end, ended) = sync::channel();
    let reader = Reader { send, ended };
    let part = Bytes::from_static(b"part");
    assert!(reader.hand(part.clone(), None));
    // There is no room for another.
    assert!(!reader.hand(part.clone(), Some(Instant::now())));
    assert!(reader.pause(Duration::ZERO));
    drop(end);
    assert!(!reader.pause(TICK));
    assert!(!reader.hand(part.clone(), None));
    drop(receive);
    assert!(!reader.hand(part, None));
}

#[test]
fn a_trace_waits_for_frames_no_longer_than_it_lasts() {
    let wanted = |deadline| Wanted { filter: Filter::default(), count: None, deadline };
    assert_eq!(wanted(None).tick(), TICK);
    assert!(!wanted(None).is_late());
    let over = wanted(Some(Instant::now()));
    assert_eq!(over.tick(), Duration::ZERO);
    assert!(over.is_late());
}
