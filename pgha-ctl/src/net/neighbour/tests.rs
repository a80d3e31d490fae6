use rtnetlink::packet_route::neighbour::{NeighbourAddress, NeighbourAttribute};

use super::*;

const ONE: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const TWO: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);

fn mac(last: u8) -> Mac {
    Mac::new([2, 0, 0, 0, 0, last]).unwrap()
}

fn event(address: Ipv4Addr, mac: Option<Mac>) -> NeighbourEvent {
    NeighbourEvent { address, mac }
}

fn message(state: NeighbourState, lladdr: Option<[u8; 6]>) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = AddressFamily::Inet;
    message.header.ifindex = 2;
    message.header.state = state;
    message.attributes.push(NeighbourAttribute::Destination(NeighbourAddress::Inet(ONE)));
    message.attributes.extend(lladdr.map(|mac| NeighbourAttribute::LinkLayerAddress(mac.into())));
    message
}

#[test]
fn only_changes_are_reported() {
    let mut table = Table::default();
    let steps = [
        (News::Nothing, None),
        (News::Known(mac(1)), Some(event(ONE, Some(mac(1))))),
        (News::Known(mac(1)), None),
        (News::Known(mac(2)), Some(event(ONE, Some(mac(2))))),
        (News::Failed, Some(event(ONE, None))),
        (News::Nothing, None),
        (News::Failed, None),
        (News::Removed, None),
        (News::Removed, None),
        (News::Failed, Some(event(ONE, None))),
        (News::Known(mac(2)), Some(event(ONE, Some(mac(2))))),
        (News::Removed, Some(event(ONE, None))),
    ];
    for (step, (news, wanted)) in steps.into_iter().enumerate() {
        assert_eq!(table.apply(ONE, news), wanted, "step {step}");
    }
}

#[test]
fn a_full_read_reports_what_was_missed() {
    let mut table = Table::default();
    table.apply(ONE, News::Known(mac(1)));
    table.apply(TWO, News::Known(mac(2)));
    assert_eq!(
        table.replace([(TWO, News::Known(mac(3)))]),
        [event(ONE, None), event(TWO, Some(mac(3)))]
    );
    assert_eq!(table.replace([(TWO, News::Known(mac(3)))]), []);
}

#[test]
fn a_message_counts_for_its_interface_and_state() {
    let ours = IfIndex::new(2).unwrap();
    let valid = Some([2, 0, 0, 0, 0, 1]);
    let read = |state, lladdr| entry(&message(state, lladdr), ours);
    assert_eq!(read(NeighbourState::Stale, valid), Some((ONE, News::Known(mac(1)))));
    assert_eq!(read(NeighbourState::Failed, valid), Some((ONE, News::Failed)));
    assert_eq!(read(NeighbourState::Incomplete, None), Some((ONE, News::Nothing)));
    assert_eq!(read(NeighbourState::Noarp, Some([0; 6])), Some((ONE, News::Nothing)));
    assert_eq!(entry(&message(NeighbourState::Stale, valid), IfIndex::new(3).unwrap()), None);
    let mut bridge = message(NeighbourState::Stale, valid);
    bridge.header.family = AddressFamily::Bridge;
    assert_eq!(entry(&bridge, ours), None);
}

/// The loopback interface of any network namespace has this number.
fn loopback() -> IfIndex {
    IfIndex::new(1).unwrap()
}

#[tokio::test]
async fn a_full_read_that_fails_is_tried_again() {
    let mut watch = NeighbourWatch::new(loopback()).unwrap();
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
    let mut watch = NeighbourWatch::new(loopback()).unwrap();
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
