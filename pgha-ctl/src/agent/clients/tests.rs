use pgha_common::wire::{Ipv4, Ipv6, PROTOCOL_TCP, Tcp, flag};
use zerocopy::FromBytes as _;

use super::*;

fn ends(client: &str, server: &str) -> Ends {
    Ends { client: client.parse().unwrap(), server: server.parse().unwrap() }
}

#[test]
fn a_keep_alive_goes_from_the_vip_to_the_client_and_differs_each_time() {
    let ends4 = ends("10.0.0.31:40000", "10.0.0.99:5432");
    let packet = keep_alive(ends4);
    let (ip, rest) = Ipv4::read_from_prefix(&packet).unwrap();
    assert_eq!((ip.source, ip.destination), ([10, 0, 0, 99], [10, 0, 0, 31]));
    assert_eq!(ip.protocol, PROTOCOL_TCP);
    let tcp = Tcp::read_from_bytes(rest).unwrap();
    let [a, b] = 5432_u16.to_be_bytes();
    let [c, d] = 40_000_u16.to_be_bytes();
    assert_eq!((tcp.ports, tcp.flags), ([a, b, c, d], flag::ACK));
    assert_ne!(packet, keep_alive(ends4), "a window may admit one number, and not the next");

    let packet = keep_alive(ends("[fd00::31]:40000", "[fd00::99]:5432"));
    let (ip, _) = Ipv6::read_from_prefix(&packet).unwrap();
    assert_eq!((ip.source[15], ip.destination[15]), (0x99, 0x31));
}

#[test]
fn clients_are_told_in_words_that_can_be_read_again() {
    let clients = vec![ends("10.0.0.31:40000", "10.0.0.99:5432")];
    let text = serde_json::to_string(&clients).unwrap();
    assert_eq!(text, r#"[{"client":"10.0.0.31:40000","server":"10.0.0.99:5432"}]"#);
    assert_eq!(serde_json::from_str::<Vec<Ends>>(&text).unwrap(), clients);
}
