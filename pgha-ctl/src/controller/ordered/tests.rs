use pgha_machine::Weight;

use super::*;

const VIP: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 100));

fn host(last: u8) -> IpAddr {
    [10, 0, 0, last].into()
}

fn weight(last: u8, weight: Option<u16>) -> OrderChange {
    let weight = weight.map(|weight| Weight::new(weight).unwrap());
    OrderChange::Weight { vip: VIP, port: 5432, address: host(last), weight }
}

fn drain(last: u8, reset_at: Option<u64>) -> OrderChange {
    OrderChange::Drain { vip: VIP, port: 5432, address: host(last), reset_at }
}

fn undrain(last: u8) -> OrderChange {
    OrderChange::Undrain { vip: VIP, port: 5432, address: host(last) }
}

fn add(last: u8, name: Option<&str>) -> OrderChange {
    let name = name.map(|name| name.parse().unwrap());
    OrderChange::AddReader { address: host(last), name, weight: Weight::new(2) }
}

fn sentence(change: &OrderChange, by: Option<&str>) -> String {
    let sent = told(change, by);
    let expected = Happening::info(Kind::Ordered, sent.text()).of(host(2));
    assert_eq!(sent, expected, "it is about the server");
    sent.text().to_owned()
}

#[test]
fn an_order_is_told_with_who_and_what() {
    for (change, by, text) in [
        (weight(2, Some(3)), Some("ann"), "ann gave 10.0.0.2 behind 10.0.0.100:5432 weight 3"),
        (
            weight(2, None),
            Some("ann"),
            "ann gave 10.0.0.2 behind 10.0.0.100:5432 the weight of the configuration again",
        ),
        (drain(2, None), Some("ann"), "ann drained 10.0.0.2 behind 10.0.0.100:5432"),
        (
            drain(2, Some(1_795_315_863_000)),
            Some("ann"),
            "ann drained 10.0.0.2 behind 10.0.0.100:5432; the sessions left at \
             2026-11-22T02:51:03Z are reset then",
        ),
        (undrain(2), None, "somebody took back the drain of 10.0.0.2 behind 10.0.0.100:5432"),
        (
            add(2, Some("db2")),
            Some("bob"),
            "bob added 10.0.0.2 as a reader, named db2, of weight 2",
        ),
        (
            OrderChange::RemoveReader { address: host(2) },
            Some("bob"),
            "bob removed 10.0.0.2, which was added as a reader",
        ),
    ] {
        assert_eq!(sentence(&change, by), text);
    }
}

/// Orders after those changes, made by ann one second after the other.
fn after(changes: &[OrderChange]) -> Orders {
    let mut orders = Orders::default();
    for (at, change) in (0..).zip(changes) {
        orders.change(change, "ann", at);
    }
    orders
}

#[test]
fn what_another_process_wrote_is_found_by_what_differs() {
    let by_ann = |change| (change, Some("ann".to_owned()));
    let before = after(&[weight(2, Some(3)), drain(3, None), add(4, None), add(5, None)]);
    assert_eq!(between(&before, &before), []);
    let made = [weight(2, Some(3)), drain(3, None), add(4, None), add(5, None)].map(by_ann);
    assert_eq!(between(&Orders::default(), &before), made);

    let mut now = before.clone();
    let changes = [weight(2, None), drain(2, Some(7)), undrain(3), add(4, Some("db4"))];
    changes.iter().for_each(|change| now.change(change, "bob", 9));
    now.change(&OrderChange::RemoveReader { address: host(5) }, "bob", 10);
    let by_bob = Some("bob".to_owned());
    // What is gone has no name on it.
    assert_eq!(
        between(&before, &now),
        [
            (weight(2, None), None),
            (drain(2, Some(7)), by_bob.clone()),
            (undrain(3), None),
            (add(4, Some("db4")), by_bob),
            (OrderChange::RemoveReader { address: host(5) }, None),
        ]
    );
}
