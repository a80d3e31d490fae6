use std::collections::BTreeMap;

use pgha_machine::{Lsn, NodeName};

use super::{Standbys, Walsender};
use crate::postgres::server::config::Peer;

fn node(name: &str) -> NodeName {
    name.parse().unwrap()
}

fn seen(walsenders: &[(&str, &str, bool, u64)]) -> (Vec<(String, u64)>, Vec<String>) {
    let peer = |name: &str| Peer { host: String::new(), port: 5432, role: format!("r-{name}") };
    let peers: BTreeMap<_, _> = ["db2", "db3"].map(|name| (node(name), peer(name))).into();
    let walsenders = walsenders.iter().zip(1..).map(|(&(name, role, streams, flushed), pid)| {
        Walsender { pid, name, role, streams, flushed: (flushed > 0).then_some(Lsn::new(flushed)) }
    });
    let Standbys { flushed, impersonated, impostors } = Standbys::of(&peers, walsenders.clone());
    // Whose role is not the node's, and nobody else.
    let strange = |it: &Walsender<'_>| {
        it.name.to_lowercase().starts_with("db") && it.name != "db9" && !it.role.starts_with("r-")
    };
    assert_eq!(impostors, walsenders.filter(strange).map(|it| it.pid).collect());
    let flushed = flushed.iter().map(|(node, lsn)| (node.to_string(), lsn.bytes())).collect();
    (flushed, impersonated.iter().map(ToString::to_string).collect())
}

#[test]
fn nodes_are_known_by_their_names_and_roles() {
    let (flushed, impersonated) = seen(&[
        ("db2", "r-db2", true, 5),
        ("db3", "r-db3", false, 7),
        ("db9", "r-db9", true, 9),
        ("pg_receivewal", "backup", true, 9),
    ]);
    assert_eq!(flushed, [("db2".to_owned(), 5)]);
    assert_eq!(impersonated, [""; 0]);
}

#[test]
fn another_role_under_a_nodes_name_is_told_and_not_counted() {
    let (flushed, impersonated) = seen(&[("db2", "backup", true, 5)]);
    assert_eq!((flushed.len(), impersonated), (0, vec!["db2".to_owned()]));
    // As PostgreSQL does, in whatever letters.
    assert_eq!(seen(&[("DB3", "backup", true, 5)]).1, ["db3"]);
}

#[test]
fn of_two_under_one_name_what_both_have_counts() {
    let both = seen(&[("db2", "r-db2", true, 5), ("db2", "r-db2", true, 4)]);
    assert_eq!(both, (vec![("db2".to_owned(), 4)], vec!["db2".to_owned()]));
}
