//! Managed nodes.

use pgha_machine::failover::record::{Member, Mode};

use super::*;
use crate::config::{Pick, SslMode};

const MANAGED: &str = r#"
[api]
listen = "10.0.0.11:7432"
[[node]]
name = "db1"
address = "10.0.0.11"
agent = "10.0.0.11:7432"
[[node]]
name = "db2"
address = "10.0.0.12"
agent = "db2.example:7432"
replication_user = "standby_two"
nofailover = true
priority = -5
[[node]]
name = "reports"
address = "10.0.0.13"
[[controller]]
name = "lb1"
address = "10.0.0.21:7432"
[agent]
node = "db1"
data = "/var/lib/postgresql/15/main"
bin = "/usr/lib/postgresql/15/bin"
"#;

#[test]
fn a_node_with_an_agent_is_managed_and_others_are_not() {
    let config = parse(&with(MANAGED)).unwrap_or_else(|errors| panic!("{errors}"));
    let failover = config.failover().unwrap();
    let names: Vec<_> = failover.members().iter().map(|member| member.name().as_str()).collect();
    assert_eq!(names, ["db1", "db2"]);
    let [db1, db2] = failover.members() else { unreachable!("two are managed") };
    assert_eq!((db1.replication_user(), db2.replication_user()), ("db1", "standby_two"));
    assert_eq!(db2.agent().to_string(), "db2.example:7432");
    assert_eq!(db2.member(), Member { confirmed: false, nofailover: true, priority: -5 });
    let peers = failover.peers_of(db1.name());
    assert_eq!(peers.keys().map(NodeName::as_str).collect::<Vec<_>>(), ["db2", "lb1"]);
    assert_eq!(failover.mode(), Mode::Sync { quorum: 1, max_lag: 1 << 20 });
    assert_eq!((failover.pick(), failover.port()), (Pick::Any, 5432));
    assert_eq!((failover.sslmode(), failover.writer_vip()), (SslMode::Prefer, None));

    let agent = config.agent().unwrap();
    assert_eq!((agent.user(), agent.role(), agent.restarts()), ("postgres", "root", 2));
    assert_eq!(agent.config_file(), Path::new("/var/lib/postgresql/15/main/postgresql.conf"));
    assert_eq!(agent.state(), Path::new("/var/lib/pgha/main.agent"));
    assert_eq!(agent.runtime(), Path::new("/run/pgha/main.agent"));
    assert_eq!((agent.local_clients(), agent.guardian()), (false, true));
    assert!(config.remarks().is_empty());

    let none = parse(MINIMAL).unwrap();
    assert_eq!((none.failover(), none.agent()), (None, None));
}

#[test]
fn every_mode_has_what_it_needs() {
    let mode = |text: &str| {
        let config = parse(&with(&format!("{MANAGED}[failover]\n{text}"))).unwrap();
        (config.failover().unwrap().mode(), config.remarks().len())
    };
    assert_eq!(mode("mode = \"async\"\nmax_lag_bytes = 7").0, Mode::Async { max_lag: 7 });
    assert_eq!(mode("mode = \"strict\"\nquorum = 1"), (Mode::Strict { quorum: 1 }, 0));
    // Nobody would ever hear of a commit: worth a remark.
    assert_eq!(mode("mode = \"strict\"\nquorum = 2"), (Mode::Strict { quorum: 2 }, 1));
}

#[test]
fn what_does_not_go_together_is_named() {
    let mut missing = Vec::new();
    for (from, to, told) in [
        (
            "node = \"db1\"",
            "node = \"db11\"",
            "line 31: agent.node = \"db11\" is no [[node]] with an agent; did you mean \"db1\"?",
        ),
        (
            "node = \"db1\"",
            "node = \"reports\"",
            "line 31: agent.node = \"reports\" is no [[node]] with an agent; add one, with name, address and agent",
        ),
        (
            "agent = \"10.0.0.11:7432\"",
            "agent = \"10.0.0.11\"",
            "line 16: node[0].agent: \"10.0.0.11\" is no host with a port; write it as 10.0.0.21:7432, [fd00::21]:7432 or lb1:7432",
        ),
        (
            "listen = \"10.0.0.11:7432\"",
            "",
            "api.listen is missing: others tell an agent there how they are; give the address and port that its [[node]] has as agent",
        ),
        (
            "name = \"lb1\"",
            "name = \"db2\"",
            "line 28: controller[0].name = \"db2\" stands at node[1].name already; give each its own",
        ),
        (
            "[[controller]]\nname = \"lb1\"\naddress = \"10.0.0.21:7432\"",
            "",
            "controller: with store.kind = \"local\" the record of managed nodes is in a file of one controller, and there are 0; list one [[controller]], or write kind = \"etcd\"",
        ),
        ("replication_user = \"standby_two\"", "replication_user = \"db1\"", "replication_user"),
        ("agent = \"db2.example:7432\"", "agent = \"10.0.0.21:7432\"", "10.0.0.21:7432"),
        (
            "data = \"/var/lib/postgresql/15/main\"\n",
            "",
            "agent.data is missing; add it, such as `data = \"/var/lib/postgresql/15/main\"` (PostgreSQL's data directory.)",
        ),
        (
            "[agent]",
            "[failover]\nwriter_vip = \"10.0.0.12\"\n[agent]",
            "line 19: node[1].address = \"10.0.0.12\" is the VIP of service failover.writer_vip; give the server's own address",
        ),
    ] {
        let text = with(MANAGED);
        assert!(text.contains(from), "{from}");
        let found = messages(&text.replacen(from, to, 1));
        if !found.iter().any(|message| message.contains(told)) {
            missing.push(format!("{told}\n{found:#?}"));
        }
    }
    assert!(missing.is_empty(), "{}", missing.join("\n"));
}
