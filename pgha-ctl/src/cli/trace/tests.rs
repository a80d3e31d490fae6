use std::borrow::Cow;

use pcap_file::pcapng::PcapNgWriter;
use pcap_file::pcapng::blocks::enhanced_packet::{EnhancedPacketBlock, EnhancedPacketOption};
use pcap_file::pcapng::blocks::interface_description::{
    InterfaceDescriptionBlock, InterfaceDescriptionOption,
};
use pcap_file::{DataLink, Endianness};

use super::*;

fn capture() -> Vec<u8> {
    let mut writer = PcapNgWriter::with_endianness(Vec::new(), Endianness::Big).unwrap();
    let mut interface = InterfaceDescriptionBlock::new(DataLink::ETHERNET, 0);
    interface.options = vec![
        InterfaceDescriptionOption::IfName("eth7".into()),
        InterfaceDescriptionOption::IfTsResol(9),
    ];
    writer.write_pcapng_block(interface).unwrap();
    for number in 0..3 {
        let frame = EnhancedPacketBlock {
            interface_id: 0,
            timestamp: Duration::from_nanos(1_700_000_000_000_000_000 + number),
            original_len: 3,
            data: Cow::Borrowed(&[1, 2, 3]),
            options: vec![EnhancedPacketOption::Comment("pass runt — Too short.".into())],
        };
        writer.write_pcapng_block(frame).unwrap();
    }
    writer.into_inner()
}

#[test]
fn a_capture_is_read_in_whatever_parts_it_comes() {
    let capture = capture();
    for size in [1, 2, 7, 64, capture.len()] {
        let mut reader = Reader::default();
        let parts = capture.chunks(size).map(|part| reader.read(part).unwrap());
        let lines: Vec<_> = parts.flatten().map(|line| line.to_string()).collect();
        let time = "2023-11-14T22:13:20.000000002Z";
        assert_eq!(lines[2], format!("{time} eth7 pass runt ? -> ? frame 3 bytes"), "{size}");
        assert_eq!((reader.frames(), reader.lost()), (3, 0));
    }
}
