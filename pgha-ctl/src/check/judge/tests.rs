//! Facts in, checks out: each fault is found by the check that is named after it, and by no other.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use pgha_machine::Mac;

use super::{all, file};
use crate::bpf::kernel::{OLDEST, Version};
use crate::bpf::xdp::Pinned;
use crate::check::facts::{
    Answerer, Facts, Interface, Kernel, Path as Way, Program, RealServer, Role, Server, Traits,
    Trouble, TroubleKind, Vip, Who,
};
use crate::check::{Check, Level};
use crate::config::Config;
use crate::net::caps::Capability;
use crate::net::realserver::{Look, SysctlSeen, VipSeen};
use crate::postgres::inspect::{Inspection, SeenWalsender};

const VIP: &str = "10.0.0.100";

fn config(edit: (&str, &str)) -> Config {
    let text = r#"
cluster = "main"
[director]
interface = "eth0"
[primary]
hosts = ["db1"]
[[service]]
name = "reader"
vip = "10.0.0.100"
discovery = "both"
[[node]]
name = "db1"
address = "10.0.0.11"
[[node]]
name = "db2"
address = "10.0.0.12"
"#;
    assert!(text.contains(edit.0), "{}", edit.0);
    Config::parse(&text.replacen(edit.0, edit.1, 1), Path::new("pgha.toml")).unwrap()
}

fn usual() -> Config {
    config(("main", "main"))
}

fn mac(last: u8) -> Mac {
    Mac::new([2, 0, 0, 0, 0, last]).unwrap()
}

fn traits() -> Traits {
    Traits {
        mtu: 1500,
        veth: true,
        subnets: vec!["10.0.0.21/24".parse().unwrap()],
        program: None,
        native: Ok(Some(true)),
        takes_tags_off: Ok(false),
        joins_segments: Ok(false),
        leaves_checksums: Ok(false),
    }
}

fn inspection(in_recovery: bool) -> Inspection {
    let settings = [
        ("hot_standby", "on"),
        ("listen_addresses", "*"),
        ("max_connections", "100"),
        ("max_standby_streaming_delay", "30000"),
        ("max_wal_senders", "10"),
        ("synchronous_standby_names", ""),
        ("wal_level", "replica"),
        ("wal_receiver_timeout", "60000"),
        ("wal_sender_timeout", "60000"),
    ];
    Inspection {
        version: 150_004,
        in_recovery,
        system: Some(7),
        timeline: Some(1),
        monitor: true,
        settings: settings.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        walsenders: if in_recovery { Vec::new() } else { vec![walsender("db2", "10.0.0.12")] },
    }
}

fn walsender(name: &str, client: &str) -> SeenWalsender {
    SeenWalsender {
        application_name: name.to_owned(),
        client: Some(client.parse().unwrap()),
        state: Some("streaming".to_owned()),
        sync_state: Some("async".to_owned()),
        logical: false,
    }
}

fn server(name: &str, address: &str, seen: Inspection) -> Server {
    let ip: IpAddr = address.parse().unwrap();
    Server {
        name: Some(name.parse().unwrap()),
        at: SocketAddr::new(ip, 5432),
        candidate: name == "db1",
        listed: true,
        answer: Ok(seen),
        path: Some(Ok(Way { mtu: 1500, short: true, long: true })),
    }
}

/// A director on which all is well, before its controller is started.
pub(super) fn well() -> Facts {
    Facts {
        role: Role { director: true, real_server: true },
        missing: Ok(Vec::new()),
        kernel: Kernel {
            release: "6.18.0".to_owned(),
            version: Some(Version(6, 18)),
            btf: true,
            jit: Some(true),
            missing: Ok(Vec::new()),
            available: Some(4 << 20),
        },
        bpffs: true,
        pinned: Some(Ok(Pinned::Nothing)),
        controller: Err("no controller runs".to_owned()),
        store: None,
        interfaces: vec![Interface { name: "eth0".to_owned(), seen: Ok(traits()) }],
        usable: Ok(()),
        vips: vec![Vip { vip: VIP.parse().unwrap(), here: None, answered: Ok(None) }],
        real_server: Some(RealServer {
            look: Ok(Look {
                vips: vec![VipSeen {
                    vip: VIP.parse().unwrap(),
                    on_loopback: true,
                    elsewhere: None,
                }],
                sysctls: vec![SysctlSeen {
                    name: "net.ipv4.conf.all.arp_ignore",
                    found: 1,
                    wanted: 1,
                    enough: true,
                }],
                overriding: None,
                ipv6_off: false,
            }),
            rp_filter: vec![("eth0".to_owned(), 1)],
        }),
        servers: vec![
            server("db1", "10.0.0.11", inspection(false)),
            server("db2", "10.0.0.12", inspection(true)),
        ],
    }
}

fn answer<'f>(facts: &'f mut Facts, name: &str) -> &'f mut Inspection {
    let server = facts.servers.iter_mut().find(|server| server.short() == name).unwrap();
    server.answer.as_mut().unwrap()
}

fn set(facts: &mut Facts, server: &str, setting: &str, value: &str) {
    answer(facts, server).settings.insert(setting.to_owned(), value.to_owned());
}

/// What is not well, by level.
fn not_well(checks: &[Check]) -> Vec<(&str, Level)> {
    let bad = checks.iter().filter(|check| matches!(check.level, Level::Warn | Level::Fail));
    bad.map(|check| (check.id.as_str(), check.level)).collect()
}

#[test]
fn nothing_is_said_where_all_is_well() {
    let checks = all(&usual(), &well());
    assert_eq!(not_well(&checks), [], "{checks:#?}");
    assert!(checks.iter().all(|check| check.mend.is_none() && !check.fixable), "{checks:#?}");
    // What nobody could look at is no failure.
    let skipped: Vec<_> = checks
        .iter()
        .filter(|check| check.level == Level::Skipped)
        .map(|c| c.id.as_str())
        .collect();
    assert_eq!(skipped, ["controller"]);
}

/// One fault planted, and whether its check says this of it.
fn found(id: &str, level: Level, part: &str, plant: impl FnOnce(&mut Facts)) {
    let mut facts = well();
    plant(&mut facts);
    let checks = all(&usual(), &facts);
    assert_eq!(not_well(&checks), [(id, level)], "{id}: {checks:#?}");
    let check = checks.iter().find(|check| check.id == id && check.level == level).unwrap();
    let said = format!("{} {} {:?} {:?}", check.of, check.found, check.mend, check.sql);
    assert!(said.contains(part), "{id}: `{part}` is not in {said}");
}

#[test]
fn faults_of_the_node_are_found_one_by_one() {
    use Level::{Fail, Warn};
    found("kernel", Fail, "5.10", |facts| {
        facts.kernel.release = "5.10.0".to_owned();
        facts.kernel.version = Some(Version(5, 10));
        assert!(OLDEST > Version(5, 10));
    });
    found("capabilities", Fail, "CAP_NET_RAW", |facts| {
        facts.missing = Ok(vec![Capability::NetRaw]);
    });
    found("bpf-features", Fail, "no LRU hash maps", |facts| {
        facts.kernel.missing = Ok(vec!["LRU hash maps"]);
    });
    found("bpffs", Fail, "mount -t bpf bpf /sys/fs/bpf", |facts| {
        (facts.bpffs, facts.pinned) = (false, None);
    });
    found("data-plane", Fail, "schema 9", |facts| {
        facts.pinned = Some(Err("maps of schema 9".to_owned()));
    });
    found("controller", Warn, "nobody follows changes", |facts| {
        facts.pinned = Some(Ok(Pinned::Ours { older: false, programs: vec![Some(5)] }));
    });
    found("memory", Fail, "1 MB available", |facts| facts.kernel.available = Some(1024));
    found("bpf-jit", Warn, "interpreted", |facts| facts.kernel.jit = Some(false));
    found("btf", Warn, "bpftool", |facts| facts.kernel.btf = false);
    found("interface", Fail, "eth0 is down", |facts| {
        facts.usable = Err("interface eth0 is down".to_owned());
    });
    found("vip-here", Fail, "ip address del 10.0.0.100 dev eth0", |facts| {
        facts.vips[0].here = Some("eth0".to_owned());
    });
    let plant = |edit: fn(&mut Traits)| {
        move |facts: &mut Facts| edit(facts.interfaces[0].seen.as_mut().unwrap())
    };
    let program = || Some(Program { id: 5, name: "xdp_pass".to_owned(), generic: false });
    found("xdp-program", Fail, "id 5, xdp_pass", |facts| {
        facts.interfaces[0].seen.as_mut().unwrap().program = program();
    });
    found("native-xdp", Warn, "generic", plant(|seen| seen.native = Ok(Some(false))));
    found("receive-offload", Fail, "lro off", plant(|seen| seen.joins_segments = Ok(true)));
    found("transmit-offload", Warn, "tx off", plant(|seen| seen.leaves_checksums = Ok(true)));
    found("mtu", Fail, "eth0 1500, eth1 9000", |facts| {
        let seen = Ok(Traits { mtu: 9000, ..traits() });
        facts.interfaces.push(Interface { name: "eth1".to_owned(), seen });
    });
    found("real-server-vip", Fail, "pgha realserver setup", |facts| {
        let look = facts.real_server.as_mut().unwrap().look.as_mut().unwrap();
        look.vips[0].on_loopback = false;
    });
    found("real-server-arp", Fail, "all.arp_ignore = 0", |facts| {
        let look = facts.real_server.as_mut().unwrap().look.as_mut().unwrap();
        (look.sysctls[0].found, look.sysctls[0].enough) = (0, false);
    });
    found("real-server-arp", Fail, "eth0.arp_ignore = 3", |facts| {
        let look = facts.real_server.as_mut().unwrap().look.as_mut().unwrap();
        look.overriding = Some(("eth0".to_owned(), 3));
    });
    found("real-server-rp-filter", Warn, "eth0", |facts| {
        facts.real_server.as_mut().unwrap().rp_filter.push(("eth1".to_owned(), 0));
    });
}

#[test]
fn its_own_program_is_not_foreign() {
    let mut facts = well();
    facts.interfaces[0].seen.as_mut().unwrap().program =
        Some(Program { id: 5, name: "pgha_balancer".to_owned(), generic: false });
    let pinned = |id| Some(Ok(Pinned::Ours { older: false, programs: vec![id] }));
    facts.pinned = pinned(Some(5));
    assert_eq!(not_well(&all(&usual(), &facts)), [("controller", Level::Warn)]);
    for other in [Some(6), None] {
        facts.pinned = pinned(other);
        let checks = all(&usual(), &facts);
        assert!(not_well(&checks).contains(&("xdp-program", Level::Fail)), "{checks:#?}");
    }
}

#[test]
fn who_answers_for_a_vip_is_named() {
    use Level::{Fail, Warn};
    let node = || Who::Node("db2".parse().unwrap());
    for (who, asks, level, part) in [
        (node(), false, Fail, "db2 (02:00:00:00:00:09) answers"),
        (node(), true, Warn, "db2 (02:00:00:00:00:09) is about to use it"),
        (Who::Stranger, false, Fail, "no node of the configuration"),
        (Who::Stranger, true, Warn, "02:00:00:00:00:09 asks for it"),
    ] {
        found("vip-in-use", level, part, |facts| {
            facts.vips[0].answered = Ok(Some(Answerer { mac: mac(9), who, asks }));
        });
    }
    // Another director is to answer, and a real server's node need not know whether it does.
    let mut facts = well();
    let who = Who::Peer("lb2".parse().unwrap());
    facts.vips[0].answered = Ok(Some(Answerer { mac: mac(9), who, asks: false }));
    assert_eq!(not_well(&all(&usual(), &facts)), []);
}

#[test]
fn faults_of_a_server_are_found_one_by_one() {
    use Level::{Fail, Warn};
    found("same-link", Fail, "10.9.0.12", |facts| {
        facts.servers[1].at = "10.9.0.12:5432".parse().unwrap();
        answer(facts, "db1").walsenders[0] = walsender("10.9.0.12", "10.9.0.12");
    });
    found("path-mtu", Fail, "of 1500 bytes not", |facts| {
        facts.servers[1].path = Some(Ok(Way { mtu: 1500, short: true, long: false }));
    });
    found("postgres-version", Fail, "12", |facts| answer(facts, "db2").version = 120_010);
    found("postgres-rights", Fail, "GRANT pg_monitor TO pgha;", |facts| {
        answer(facts, "db2").monitor = false;
    });
    found("listen-addresses", Fail, "not 10.0.0.100", |facts| {
        set(facts, "db2", "listen_addresses", "localhost, 10.0.0.12");
    });
    found("listen-addresses", Warn, "ALTER SYSTEM", |facts| {
        set(facts, "db1", "listen_addresses", "::");
    });
    found("standby-settings", Fail, "SET max_connections = 300;", |facts| {
        set(facts, "db1", "max_connections", "300");
    });
    found("standby-delay", Warn, "one long query", |facts| {
        set(facts, "db2", "max_standby_streaming_delay", "-1");
    });
    found("replication-timeout", Warn, "wal_sender_timeout = 0", |facts| {
        set(facts, "db1", "wal_sender_timeout", "0");
    });
    found("replication-timeout", Warn, "wal_receiver_timeout = 0", |facts| {
        set(facts, "db2", "wal_receiver_timeout", "0");
    });
    found("wal-senders", Warn, "1 of max_wal_senders = 1", |facts| {
        set(facts, "db1", "max_wal_senders", "1");
        set(facts, "db2", "max_wal_senders", "1");
    });
    found("hot-standby", Warn, "take no session", |facts| set(facts, "db1", "hot_standby", "off"));
    found("wal-level", Fail, "minimal", |facts| set(facts, "db1", "wal_level", "minimal"));
}

#[test]
fn what_keeps_a_server_from_answering_is_told_apart() {
    for (kind, part) in [
        (TroubleKind::Refused, "the connection is refused"),
        (TroubleKind::Silent, "a firewall drops"),
        (TroubleKind::NotAccepting, "takes no sessions"),
        (TroubleKind::Here, "this node is the reason"),
        (TroubleKind::Answered, "see the log"),
        (TroubleKind::Tls, "sslrootcert"),
        (TroubleKind::Login, "CREATE ROLE pgha LOGIN PASSWORD '...' IN ROLE pg_monitor;"),
    ] {
        found("postgres-login", Level::Fail, part, |facts| {
            facts.servers[1].answer = Err(Trouble { kind, told: "told".to_owned() });
        });
    }
}

#[test]
fn faults_of_the_cluster_are_found_one_by_one() {
    use Level::{Fail, Warn};
    found("system-identifier", Fail, "db1 7, the primary's; db2 8", |facts| {
        answer(facts, "db2").system = Some(8);
    });
    found("primary", Fail, "older timeline", |facts| {
        facts.servers[1].answer = Ok(Inspection { timeline: Some(0), ..inspection(false) });
    });
    found(
        "primary",
        Fail,
        "db1 10.0.0.11:5432 (timeline 1) and db2 10.0.0.12:5432 (timeline 1)",
        |facts| {
            facts.servers[1].answer = Ok(inspection(false));
        },
    );
    found("primary", Fail, "is in recovery", |facts| {
        facts.servers[0].answer = Ok(inspection(true));
    });
    found("primary", Fail, "not among primary.hosts", |facts| facts.servers[0].candidate = false);
    found("application-names", Fail, "from 10.0.0.12 and 10.0.0.13", |facts| {
        answer(facts, "db1").walsenders.push(walsender("db2", "10.0.0.13"));
    });
    found("application-names", Warn, "connects from 10.0.0.13", |facts| {
        answer(facts, "db1").walsenders = vec![walsender("db2", "10.0.0.13")];
    });
    found("application-names", Warn, "leads to no address", |facts| {
        let nameless = SeenWalsender { client: None, ..walsender("walreceiver", "10.0.0.9") };
        answer(facts, "db1").walsenders.push(nameless);
    });
    found("streaming", Warn, "db2 not", |facts| answer(facts, "db1").walsenders.clear());
    found("synchronous-standbys", Warn, "nobody streams as db9", |facts| {
        set(facts, "db1", "synchronous_standby_names", "ANY 1 (db2, db9)");
    });
    found("synchronous-standbys", Fail, "every commit waits", |facts| {
        set(facts, "db1", "synchronous_standby_names", "FIRST 2 (db2, db9)");
    });
}

#[test]
fn a_standby_is_measured_by_the_primary_and_not_by_a_former_one() {
    let less = |timeline, listed_first: bool| {
        let mut facts = well();
        let former = Inspection { timeline, ..inspection(false) };
        let at = if listed_first { 0 } else { facts.servers.len() };
        facts.servers.insert(at, server("db0", "10.0.0.10", former));
        set(&mut facts, "db0", "max_connections", "100000");
        let checks = all(&usual(), &facts);
        let found = checks.iter().find(|c| c.id == "standby-settings" && c.of.starts_with("db2"));
        found.map(|check| check.level)
    };
    for listed_first in [true, false] {
        assert_eq!(less(Some(0), listed_first), Some(Level::Ok), "{listed_first}");
        assert_eq!(less(Some(2), listed_first), Some(Level::Fail), "{listed_first}");
    }
}

#[test]
fn standbys_known_by_their_address_need_no_name() {
    let mut facts = well();
    // Two with the name that PostgreSQL gives by default, and one that is its address.
    let primary = answer(&mut facts, "db1");
    primary.walsenders.extend([
        walsender("walreceiver", "10.0.0.13"),
        walsender("walreceiver", "10.0.0.14"),
        walsender("10.0.0.15", "10.0.0.15"),
    ]);
    assert_eq!(not_well(&all(&usual(), &facts)), []);
    // What is no standby is not judged as one.
    let backup =
        SeenWalsender { state: Some("backup".to_owned()), ..walsender("db2", "10.0.0.14") };
    let logical = SeenWalsender { logical: true, ..walsender("db2", "10.0.0.14") };
    answer(&mut facts, "db1").walsenders.extend([backup, logical]);
    assert_eq!(not_well(&all(&usual(), &facts)), []);
}

#[test]
fn tags_are_looked_at_only_where_they_are_forwarded() {
    let mut facts = well();
    facts.interfaces[0].seen.as_mut().unwrap().takes_tags_off = Ok(true);
    assert_eq!(not_well(&all(&usual(), &facts)), []);
    let forward = config(("\"eth0\"", "\"eth0\"\nvlan = \"forward\""));
    assert_eq!(not_well(&all(&forward, &facts)), [("vlan-offload", Level::Fail)]);
}

#[test]
fn remarks_and_missing_files_are_told() {
    let path = Path::new("pgha.toml");
    assert_eq!(not_well(&file(&usual(), path)), []);
    let remarked = config(("discovery =", "default_weight = 0\ndiscovery ="));
    let checks = file(&remarked, path);
    assert!(
        checks.len() > 1 && checks.iter().all(|check| check.level == Level::Warn),
        "{checks:#?}"
    );
    let absent = config(("[primary]", "[postgres]\npassfile = \"/nowhere/pgpass\"\n[primary]"));
    let checks = file(&absent, path);
    assert_eq!(not_well(&checks), [("configuration", Level::Fail)]);
    assert!(checks[0].found.contains("/nowhere/pgpass"), "{checks:#?}");
}

#[test]
fn each_check_that_is_not_well_says_what_to_do() {
    let mut facts = well();
    facts.servers.iter_mut().for_each(|server| {
        let trouble = Trouble { kind: TroubleKind::Silent, told: "no answer".to_owned() };
        (server.answer, server.path) = (Err(trouble), None);
    });
    (facts.bpffs, facts.pinned) = (false, None);
    let checks = all(&usual(), &facts);
    let by_id: BTreeMap<_, _> = checks.iter().map(|check| (check.id.as_str(), check)).collect();
    assert_eq!(
        not_well(&checks),
        [("bpffs", Level::Fail), ("postgres-login", Level::Fail), ("postgres-login", Level::Fail)]
    );
    assert!(by_id["bpffs"].fixable && !by_id["postgres-login"].fixable);
    assert!(by_id["postgres-login"].mend.is_some());
}
