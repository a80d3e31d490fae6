use super::*;

#[test]
fn it_is_said_whether_anything_was_there() {
    let interfaces = vec!["eth0".to_owned(), "eth1".to_owned()];
    let cluster: NodeName = "main".parse().unwrap();
    let of = Detached { schema: SCHEMA, cluster, detached: true, interfaces };
    assert_eq!(text(&of), "detached from eth0, eth1; the VIPs are served no more");
    assert_eq!(text(&Detached { detached: false, ..of }), "nothing is attached for cluster main");
}
