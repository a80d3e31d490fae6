use std::net::{Ipv4Addr, Ipv6Addr};

use rtnetlink::packet_route::link::{LinkAttribute, LinkFlags};
use rtnetlink::packet_route::neighbour::{NeighbourAddress, NeighbourAttribute};

use super::*;

const ONE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
const TWO: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2));

fn interface(index: u32) -> IfIndex {
    IfIndex::new(index).unwrap()
}

fn on(index: u32, address: IpAddr) -> Key {
    (interface(index), address)
}

fn mac(last: u8) -> Mac {
    Mac::new([2, 0, 0, 0, 0, last]).unwrap()
}

fn event((interface, address): Key, mac: Option<Mac>) -> NeighbourEvent {
    NeighbourEvent { interface, address, mac }
}

fn message(address: IpAddr, state: NeighbourState, lladdr: Option<[u8; 6]>) -> NeighbourMessage {
    let (family, destination) = match address {
        IpAddr::V4(address) => (AddressFamily::Inet, NeighbourAddress::Inet(address)),
        IpAddr::V6(address) => (AddressFamily::Inet6, NeighbourAddress::Inet6(address)),
    };
    let mut message = NeighbourMessage::default();
    message.header.family = family;
    message.header.ifindex = 2;
    message.header.state = state;
    message.attributes.push(NeighbourAttribute::Destination(destination));
    message.attributes.extend(lladdr.map(|mac| NeighbourAttribute::LinkLayerAddress(mac.into())));
    message
}

#[test]
fn only_changes_are_reported() {
    let mut table = Table::default();
    for key in [on(2, ONE), on(2, TWO), on(3, TWO)] {
        let told = |mac| Some(event(key, mac));
        let steps = [
            (News::Nothing, None),
            (News::Known(mac(1)), told(Some(mac(1)))),
            (News::Known(mac(1)), None),
            (News::Known(mac(2)), told(Some(mac(2)))),
            (News::Failed, told(None)),
            (News::Nothing, None),
            (News::Failed, None),
            (News::Removed, None),
            (News::Removed, None),
            (News::Failed, told(None)),
            (News::Known(mac(2)), told(Some(mac(2)))),
            (News::Removed, told(None)),
            (News::Known(mac(3)), told(Some(mac(3)))),
        ];
        for (step, (news, wanted)) in steps.into_iter().enumerate() {
            assert_eq!(table.apply(key, news), wanted, "step {step} of {key:?}");
        }
    }
}

#[test]
fn a_full_read_reports_what_was_missed() {
    let mut table = Table::default();
    table.apply(on(2, ONE), News::Known(mac(1)));
    table.apply(on(2, TWO), News::Known(mac(2)));
    table.apply(on(3, TWO), News::Known(mac(2)));
    let now = [(on(2, TWO), News::Known(mac(3))), (on(3, TWO), News::Known(mac(2)))];
    assert_eq!(table.replace(now), [event(on(2, ONE), None), event(on(2, TWO), Some(mac(3)))]);
    assert_eq!(table.replace(now), []);
}

#[test]
fn the_end_of_an_interface_ends_its_neighbours_only() {
    let mut table = Table::default();
    table.apply(on(2, ONE), News::Known(mac(1)));
    table.apply(on(2, TWO), News::Failed);
    table.apply(on(3, ONE), News::Known(mac(3)));
    assert_eq!(table.forget(interface(2)), [event(on(2, ONE), None)]);
    assert_eq!(table.forget(interface(2)), []);
    assert_eq!(table.apply(on(3, ONE), News::Known(mac(3))), None);
}

#[test]
fn a_message_counts_by_its_state() {
    let valid = Some([2, 0, 0, 0, 0, 1]);
    for address in [ONE, TWO] {
        let read = |state, lladdr| entry(&message(address, state, lladdr));
        let said = |news| Some((on(2, address), news));
        assert_eq!(read(NeighbourState::Stale, valid), said(News::Known(mac(1))));
        assert_eq!(read(NeighbourState::Failed, valid), said(News::Failed));
        assert_eq!(read(NeighbourState::Incomplete, None), said(News::Nothing));
        assert_eq!(read(NeighbourState::Noarp, Some([0; 6])), said(News::Nothing));
        // The MAC of a multicast group.
        assert_eq!(
            read(NeighbourState::Noarp, Some([0x33, 0x33, 0, 0, 0, 1])),
            said(News::Nothing)
        );
    }
    let mut bridge = message(ONE, NeighbourState::Stale, valid);
    bridge.header.family = AddressFamily::Bridge;
    assert_eq!(entry(&bridge), None);
}

fn link(index: u32, last: u8) -> LinkMessage {
    let mut link = LinkMessage::default();
    link.header.index = index;
    link.header.flags = LinkFlags::Up | LinkFlags::LowerUp;
    link.attributes.push(LinkAttribute::Address(mac(last).bytes().into()));
    link
}

fn take(watch: &mut NeighbourWatch, message: RouteNetlinkMessage) -> Vec<Change> {
    watch.take(NetlinkPayload::InnerMessage(message));
    watch.pending.drain(..).collect()
}

#[tokio::test]
async fn only_the_watched_interfaces_count_and_each_by_itself() {
    let mut watch = NeighbourWatch::new(&[interface(2), interface(3)]).unwrap();
    let up = |index, last| {
        let index = interface(index);
        Change::Interface { index, mac: Some(mac(last)), up: true }
    };
    let known = message(ONE, NeighbourState::Stale, Some([2, 0, 0, 0, 0, 9]));
    let neighbour = RouteNetlinkMessage::NewNeighbour(known);
    let event = |mac| Change::Neighbour(event(on(2, ONE), mac));
    assert_eq!(take(&mut watch, RouteNetlinkMessage::NewLink(link(2, 1))), [up(2, 1)]);
    assert_eq!(take(&mut watch, RouteNetlinkMessage::NewLink(link(3, 1))), [up(3, 1)]);
    assert_eq!(take(&mut watch, RouteNetlinkMessage::NewLink(link(2, 1))), []);
    assert_eq!(take(&mut watch, RouteNetlinkMessage::NewLink(link(4, 1))), []);
    assert_eq!(take(&mut watch, neighbour.clone()), [event(Some(mac(9)))]);
    let mut port = link(2, 1);
    port.header.interface_family = AddressFamily::Bridge;
    assert_eq!(take(&mut watch, RouteNetlinkMessage::DelLink(port)), []);
    assert_eq!(
        take(&mut watch, RouteNetlinkMessage::DelLink(link(2, 1))),
        [event(None), Change::InterfaceGone(interface(2))]
    );
    // Watched no more.
    assert_eq!(take(&mut watch, neighbour), []);
    assert_eq!(take(&mut watch, RouteNetlinkMessage::NewLink(link(2, 1))), []);
    assert_eq!(take(&mut watch, RouteNetlinkMessage::NewLink(link(3, 2))), [up(3, 2)]);
}

/// The loopback interface of any network namespace has this number.
fn loopback() -> IfIndex {
    IfIndex::new(1).unwrap()
}

#[tokio::test]
async fn a_full_read_that_fails_is_tried_again() {
    let mut watch = NeighbourWatch::new(&[loopback()]).unwrap();
    for failure in 1..=RETRIES {
        watch.caught_up(Err(NetError::NetlinkClosed { what: "read" })).unwrap();
        assert_eq!(watch.failures, failure);
    }
    let due = watch.behind.unwrap();
    assert!(due > Instant::now());
    assert!(matches!(watch.next().await, Ok(Change::Interface { .. })));
    assert!(Instant::now() >= due);
    assert_eq!((watch.behind, watch.failures), (None, 0));
}

#[tokio::test]
async fn full_reads_that_go_on_failing_end_the_watch() {
    let mut watch = NeighbourWatch::new(&[loopback()]).unwrap();
    watch.failures = RETRIES;
    let closed = Netlink::connect().unwrap();
    closed.close();
    watch.requests = closed;
    assert!(watch.next().await.is_err());
}

#[tokio::test]
async fn an_answer_that_does_not_come_is_an_error() {
    let error = answer::<()>("ask", std::future::pending()).await.unwrap_err();
    assert_eq!(error.to_string(), "could not ask: the kernel gave no answer within 1000 ms");
}
