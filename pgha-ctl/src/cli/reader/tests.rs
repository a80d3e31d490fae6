use serde_json::json;

use super::*;
use crate::cli::fixture::{self, NOW};

fn added() -> Status {
    let mut sent = fixture::value();
    sent["readers"] = json!([
        { "address": "10.0.0.2", "name": "db2", "weight": 3, "by": "alice", "at": NOW - 720 },
        { "address": "10.0.0.9", "name": null, "weight": null, "by": "root", "at": NOW - 5 },
    ]);
    fixture::read(sent)
}

#[test]
fn added_readers_are_listed_with_who_added_them_and_how_they_are() {
    let readers = readers(&added());
    assert_eq!(
        listed(&readers, NOW),
        [
            " ADDRESS   NAME  WEIGHT   ADDED                STATE",
            " 10.0.0.2  db2   3        by alice 12 min ago  reader up",
            " 10.0.0.9  -     default  by root 5 s ago      member of no service",
        ]
        .join("\n")
    );
    let value = serde_json::to_value(&readers).unwrap();
    assert_eq!(
        value["readers"][0],
        json!({
            "address": "10.0.0.2", "name": "db2", "weight": 3, "by": "alice", "at": NOW - 720,
            "states": [{ "service": "reader", "state": "up" }],
        })
    );
    assert_eq!(serde_json::from_value::<Readers>(value).unwrap(), readers);
    let none = Readers { schema: SCHEMA, readers: Vec::new() };
    assert_eq!(listed(&none, NOW), "no reader was added; pgha reader add ADDRESS");
}

#[test]
fn a_reader_is_removed_by_the_name_it_was_added_with_or_its_address() {
    let status = added();
    assert_eq!(address(&status, "db2"), Ok("10.0.0.2".parse().unwrap()));
    assert_eq!(address(&status, "10.0.0.9"), Ok("10.0.0.9".parse().unwrap()));
    // A node of the table that nobody added is none.
    assert_eq!(
        address(&status, "db3").unwrap_err().error,
        "db3 is no added reader; `pgha reader list` lists them"
    );
}

#[test]
fn a_change_is_told_in_a_sentence() {
    let reply = ReaderReply { schema: SCHEMA, readers: added().readers, apart: Vec::new() };
    let address = "10.0.0.9".parse().unwrap();
    let add = ReaderRequest::Add { address, name: None, weight: None };
    assert_eq!(
        changed(&add, &reply),
        "10.0.0.9 is a reader of every service once it passes its checks (pgha why-not 10.0.0.9); 2 readers \
         are added"
    );
    assert_eq!(
        changed(&ReaderRequest::Remove { address }, &reply),
        "10.0.0.9 is no reader by an operator's word any more; 2 readers are added"
    );
    let apart = ["lb2", "lb3"].map(|name| name.parse().unwrap()).to_vec();
    assert_eq!(
        changed(&ReaderRequest::Remove { address }, &ReaderReply { apart, ..reply }),
        "10.0.0.9 is no reader by an operator's word any more; 2 readers are added\n\
         orders hold on this director only: lb2, lb3 keep their own; give them the same with --to"
    );
}
