use std::net::Ipv4Addr;

use super::*;

const VIP: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 100));
const DB2: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2));
const DB3: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 3));

fn weight(address: IpAddr, weight: Option<Weight>) -> OrderChange {
    OrderChange::Weight { vip: VIP, port: 5432, address, weight }
}

fn drain(address: IpAddr, reset_at: Option<u64>) -> OrderChange {
    OrderChange::Drain { vip: VIP, port: 5432, address, reset_at }
}

fn undrain(address: IpAddr) -> OrderChange {
    OrderChange::Undrain { vip: VIP, port: 5432, address }
}

#[test]
fn each_order_is_kept_with_who_and_when_until_it_says_nothing() {
    let mut orders = Orders::default();
    orders.change(&weight(DB2, Weight::new(3)), "alice", 10);
    orders.change(&drain(DB2, Some(5_000)), "bob", 20);
    orders.change(&drain(DB3, None), "bob", 30);
    let value = Drain { reset_at: Some(5_000) };
    let expected = ServerOrder {
        vip: VIP,
        port: 5432,
        address: DB2,
        weight: Some(Ordered { value: Weight::new(3).unwrap(), by: "alice".into(), at: 10 }),
        drained: Some(Ordered { value, by: "bob".into(), at: 20 }),
    };
    assert_eq!(orders.server(VIP, 5432, DB2), Some(&expected));
    assert_eq!(orders.server(VIP, 6432, DB2), None, "another service");
    orders.change(&undrain(DB2), "carol", 40);
    let weighs = ServerOrder { drained: None, ..expected };
    assert_eq!(orders.server(VIP, 5432, DB2), Some(&weighs));
    orders.change(&weight(DB2, None), "carol", 50);
    orders.change(&undrain(DB3), "carol", 60);
    assert_eq!(orders, Orders::default());
}

#[test]
fn a_reader_added_again_takes_the_new_name_and_weight() {
    let mut orders = Orders::default();
    let add = |name: &str, weight| OrderChange::AddReader {
        address: DB2,
        name: name.parse().ok(),
        weight: Weight::new(weight),
    };
    orders.change(&add("old", 1), "alice", 10);
    orders.change(&add("new", 2), "bob", 20);
    assert_eq!(orders.readers.len(), 1);
    let reader = orders.reader(DB2).unwrap();
    assert_eq!(reader.name.as_ref().map(NodeName::as_str), Some("new"));
    assert_eq!(
        (reader.weight, reader.stamp()),
        (Weight::new(2), Stamp { by: "bob".into(), at: 20 })
    );
    orders.change(&OrderChange::RemoveReader { address: DB2 }, "bob", 30);
    assert_eq!(orders, Orders::default());
}

#[test]
fn a_clock_that_is_behind_an_order_does_not_put_its_end_off() {
    let drained =
        Ordered { value: Drain { reset_at: Some(65_000) }, by: "alice".to_owned(), at: 60 };
    for (wall, left) in [(60_000, 5_000), (63_000, 2_000), (70_000, 0), (0, 5_000), (59_999, 5_000)]
    {
        assert_eq!(drained.left(wall), Some(Duration::from_millis(left)), "{wall}");
    }
    let never = Ordered { value: Drain { reset_at: None }, ..drained };
    assert_eq!(never.left(0), None);
}

#[test]
fn orders_survive_json() {
    let mut orders = Orders::default();
    orders.change(&weight(DB2, Weight::new(3)), "alice", 10);
    orders.change(&drain(DB3, Some(5_000)), "bob", 20);
    let name = "db9".parse().ok();
    orders.change(&OrderChange::AddReader { address: DB3, name, weight: None }, "bob", 30);
    let text = serde_json::to_string(&orders).unwrap();
    assert_eq!(serde_json::from_str::<Orders>(&text).unwrap(), orders);
    let weightless = text.replace("\"value\":3", "\"value\":1001");
    assert!(
        serde_json::from_str::<Orders>(&weightless).is_err(),
        "a weight out of bounds was taken"
    );
}
