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
fn balanced_writers_are_a_service_and_no_address_of_an_agent() {
    let text = |writer: &str| {
        let failover = format!("[failover]\nport = 5433\nwriter_vip = \"10.0.0.99\"\n{writer}");
        with(&format!("{MANAGED}{failover}"))
    };
    let held = parse(&text("")).unwrap();
    let names = |config: &Config| -> Vec<_> {
        config.services().iter().map(|service| service.name.to_string()).collect()
    };
    assert_eq!(names(&held), ["reader"]);
    let vip = Some("10.0.0.99".parse().unwrap());
    let failover = held.failover().unwrap();
    assert_eq!((failover.writer_vip(), failover.balanced_vip()), (vip, None));

    let balanced = parse(&text("writer = \"balancer\"")).unwrap();
    assert_eq!(names(&balanced), ["reader", "writer"]);
    let failover = balanced.failover().unwrap();
    assert_eq!((failover.writer_vip(), failover.balanced_vip()), (None, vip));
    let service = &balanced.services()[1];
    assert_eq!((Some(service.vip), service.port), (vip, 5433));
    assert_eq!(service.discovery, Discovery::Writer);
    assert!(balanced.remarks().is_empty());
    let managed = balanced.balancer(BTreeSet::new()).managed;
    assert_eq!(managed.iter().map(NodeName::as_str).collect::<Vec<_>>(), ["db1", "db2"]);
}

#[test]
fn agents_say_where_the_primary_may_be() {
    let text = with(MANAGED).replace("[primary]\nhosts = [\"10.0.0.11\"]\n", "");
    let text = text.replace("vip = \"10.0.0.100\"", "vip = \"10.0.0.100\"\ndiscovery = \"agents\"");
    let config = parse(&text).unwrap_or_else(|errors| panic!("{errors}"));
    let hosts = |config: &Config| -> Vec<String> {
        config.primary().unwrap().hosts().iter().map(ToString::to_string).collect()
    };
    assert_eq!(hosts(&config), ["10.0.0.11:5432", "10.0.0.12:5432"]);
    // What an operator names is asked, and nothing else.
    let named = parse(&format!("{text}[primary]\nhosts = [\"10.0.0.13\"]\n")).unwrap();
    assert_eq!(hosts(&named), ["10.0.0.13:5432"]);
    // Where nothing asks, nobody need be the primary.
    let direct = parse(&text.replace("\"agents\"", "\"direct\"")).unwrap();
    assert_eq!(direct.primary(), None);
}

#[test]
fn what_goes_by_the_record_needs_somebody_who_reads_it() {
    let agents = "vip = \"10.0.0.100\"\ndiscovery = \"agents\"";
    let unmanaged = MINIMAL.replace("vip = \"10.0.0.100\"", agents);
    let found = messages(&unmanaged).join("\n");
    assert!(found.contains("and no [[node]] has an agent"), "{found}");
    let controller = "[[controller]]\nname = \"lb1\"\naddress = \"10.0.0.21:7432\"";
    let etcd = "[store]\nkind = \"etcd\"\nendpoints = [\"http://10.0.0.31:2379\"]\n";
    let alone = with(&format!("{MANAGED}{etcd}")).replace(controller, "");
    let found = messages(&alone.replace("vip = \"10.0.0.100\"", agents)).join("\n");
    assert!(
        found.contains("controller is missing: discovery = \"agents\" of service reader"),
        "{found}"
    );
    let writer = "[failover]\nwriter = \"balancer\"\n";
    let found = messages(&format!("{alone}{writer}")).join("\n");
    assert!(found.contains("controller is missing: writer = \"balancer\""), "{found}");
    assert!(found.contains("failover.writer_vip is missing"), "{found}");
    let text = format!("{}{writer}writer_vip = \"10.0.0.99\"\n", with(MANAGED));
    let found = messages(&text.replace("name = \"reader\"", "name = \"writer\"")).join("\n");
    assert!(found.contains("failover.writer") && found.contains("already"), "{found}");
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
