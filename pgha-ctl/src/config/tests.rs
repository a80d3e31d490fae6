use std::env;
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use pgha_machine::balancer::Scheduler;
use proptest::prelude::*;
use proptest::sample::Index;

use super::schema::{KEYS, Kind};
use super::*;

mod failover;
mod families;
mod fence;
mod postgres;
mod properties;
mod service;
mod store;

const DOCS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs");

const MINIMAL: &str = r#"
cluster = "main"
[director]
interface = "eth0"
[primary]
hosts = ["10.0.0.11"]
[[service]]
name = "reader"
vip = "10.0.0.100"
"#;

fn parse(text: &str) -> Result<Config, ConfigErrors> {
    Config::parse(text, Path::new("pgha.toml"))
}

fn messages(text: &str) -> Vec<String> {
    parse(text).unwrap_err().errors().iter().map(ToString::to_string).collect()
}

fn with(text: &str) -> String {
    format!("{MINIMAL}{text}")
}

#[test]
fn absent_keys_have_their_defaults() {
    let config = parse(MINIMAL).unwrap();
    let director = config.director();
    assert_eq!(director.bpffs(), Path::new("/sys/fs/bpf"));
    assert_eq!(director.control(), Path::new("/run/pgha/main.sock"));
    assert_eq!((director.flows(), director.pending_flows()), (1 << 20, 1 << 16));
    assert_eq!((config.login().user(), config.login().dbname()), ("pgha", "postgres"));
    assert_eq!((config.health().rise(), config.health().fall()), (2, 3));
    let service = &config.services()[0];
    assert_eq!((service.vip, service.port), (Ipv4Addr::new(10, 0, 0, 100).into(), 5432));
    assert_eq!(service.scheduler, Scheduler::Maglev);
    assert_eq!(service.discovery, Discovery::Walsenders);
    assert_eq!(service.default_weight, Weight::ONE);
    assert!(config.remarks().is_empty());
}

#[test]
fn every_error_is_reported_at_once_in_the_order_of_the_file() {
    let text = r#"
cluster = "a b"
flows = 4096
[director]
interfaec = "eth0"
flows = "many"
pending_flows = 1
[health]
interval = "1 parsec"
timeout = "2h"
[[service]]
vip = "fe80::1"
scheduler = "mglev"
"#;
    assert_eq!(
        messages(text),
        [
            "line 2: cluster: \"a b\" is not a node name (1 to 63 letters, digits, '-', '_' or '.', the first a letter or digit)",
            "line 3: flows: no such key; did you mean \"director.flows\"?",
            "line 5: director.interfaec: no such key; did you mean \"interface\"?",
            "line 6: director.flows is the string \"many\"; it must be a whole number",
            "line 7: director.pending_flows = 1 is out of bounds; give a whole number from 1024 to 16777216",
            "line 9: health.interval = \"1 parsec\" is not a duration (unknown time unit \"parsec\", supported units: ns, us/µs, ms, sec, min, hours, days, weeks, months, years (and few variations)); write a number and a unit, such as \"1s\" or \"250ms\"",
            "line 10: health.timeout = \"2h\" is out of bounds; give 50ms to 1m",
            "line 12: service[0].vip = \"fe80::1\" is not the address of one host on a network; give a unicast address that is not unspecified, loopback or link-local (IPv4: outside 0.0.0.0/8, 127.0.0.0/8 and 224.0.0.0/3)",
            "line 13: service[0].scheduler = \"mglev\" is none of maglev, rr, source, least; did you mean \"maglev\"?",
            "service[0].name is missing; add it, such as `name = \"reader\"` (Name of the service, in output and metrics.)",
            "primary.hosts is missing: service service[0] has discovery = \"walsenders\", which asks the primary; add [primary] with hosts, or use discovery = \"direct\"",
        ]
    );
}

#[test]
fn every_violation_of_toml_has_line_and_column() {
    let messages = messages("cluster = \n[director\ninterface = \"eth0\"\n");
    assert!(messages.len() >= 2, "{messages:?}");
    assert!(messages[0].starts_with("line 1, column "), "{messages:?}");
    assert!(messages[1].starts_with("line 2, column "), "{messages:?}");
}

#[test]
fn a_table_of_the_wrong_shape_is_one_error_and_hides_no_other() {
    assert_eq!(
        messages("cluster = \"main\"\nprimary = 1\n[service]\nname = \"x\"\n[director]\n"),
        [
            "line 2: primary is the number 1; it must be a table",
            "line 3: service is a table; it must be a list of tables: write it with double brackets",
            "director.interface is missing; add it, such as `interface = \"eth0\"` (Interface that receives the clients' traffic, or several; at most 15 characters each. Each VIP lies in a subnet of one of them.)",
        ]
    );
}

#[test]
fn a_missing_file_is_an_error() {
    let errors = Config::load(Path::new("/nonexistent/pgha.toml")).unwrap_err();
    assert!(matches!(errors.errors(), [ConfigError::Read { .. }]));
}

#[test]
fn what_must_be_unique_is() {
    let cases = [
        ("[[service]]\nname = \"reader\"\nvip = \"10.0.0.101\"", "service[1].name"),
        ("[[service]]\nname = \"other\"\nvip = \"10.0.0.100\"", "service[1].vip"),
        (
            "[[node]]\nname = \"a\"\naddress = \"10.0.0.1\"\n[[node]]\nname = \"a\"\naddress = \"10.0.0.2\"",
            "node[1].name",
        ),
        (
            "[[node]]\nname = \"a\"\naddress = \"10.0.0.1\"\n[[node]]\nname = \"b\"\naddress = \"10.0.0.1\"",
            "node[1].address",
        ),
        ("[[node]]\nname = \"a\"\naddress = \"10.0.0.100\"", "node[0].address"),
        ("[[director.peer]]\nname = \"a\"\naddress = \"10.0.0.100\"", "director.peer[0].address"),
        ("[[node]]\nname = \"10.0.0.7\"\naddress = \"10.0.0.8\"", "node[0].name"),
    ];
    for (addition, key) in cases {
        let errors = parse(&with(addition)).unwrap_err();
        let keys: Vec<_> = errors.errors().iter().map(ConfigError::key).collect();
        assert_eq!(keys, [Some(key)], "{addition}");
    }
    assert!(
        parse(&with("[[service]]\nname = \"other\"\nvip = \"10.0.0.100\"\nport = 6432")).is_ok()
    );
}

#[test]
fn no_more_is_listed_than_a_director_has_room_for() {
    let services = |count: u8| {
        (1..count).map(|n| format!("[[service]]\nname = \"s{n}\"\nvip = \"10.1.0.{n}\"\n"))
    };
    let peers = |count: u8| {
        (1..=count)
            .map(|n| format!("[[director.peer]]\nname = \"p{n}\"\naddress = \"10.2.0.{n}\"\n"))
    };
    parse(&with(&services(32).chain(peers(64)).collect::<String>())).unwrap();
    assert_eq!(
        messages(&with(&services(33).chain(peers(65)).collect::<String>())),
        [
            "line 7: service: there are 33, and a director has room for 32; remove some",
            "line 106: director.peer: there are 65, and a director has room for 64; remove some",
        ]
    );
}

#[test]
fn a_cluster_is_no_name_with_a_dot() {
    assert_eq!(
        messages(&MINIMAL.replace("main", "ma.in")),
        [
            "line 2: cluster = \"ma.in\" has a '.', which a BPF file system takes in no name (EPERM), and maps are pinned in a directory of this name; write '-' or '_' instead"
        ]
    );
}

#[test]
fn primary_hosts_may_be_named_by_node() {
    let text = MINIMAL.replace("\"10.0.0.11\"", "\"db1\", \"127.0.0.1\"")
        + "[[node]]\nname = \"db1\"\naddress = \"10.0.0.11\"\n";
    let config = parse(&text).unwrap();
    let hosts = [Ipv4Addr::new(10, 0, 0, 11), Ipv4Addr::LOCALHOST];
    assert_eq!(config.primary().unwrap().hosts(), hosts.map(|host| (host, 5432).into()));
    assert_eq!(
        messages(&text.replace("\"db1\", \"127", "\"db2\", \"127")),
        [
            "line 6: primary.hosts[0] = \"db2\" is neither an IP address nor the name of a [[node]]; did you mean \"db1\"?"
        ]
    );
}

#[test]
fn each_discovery_needs_its_source() {
    let direct = MINIMAL.replace("[primary]\nhosts = [\"10.0.0.11\"]\n", "");
    let direct = format!("{direct}discovery = \"direct\"\n");
    assert!(matches!(
        parse(&direct).unwrap_err().errors(),
        [ConfigError::NoNodes { discovery: Discovery::Direct, .. }]
    ));
    let node = "[[node]]\nname = \"a\"\naddress = \"10.0.0.1\"\n";
    assert_eq!(parse(&format!("{direct}{node}")).unwrap().primary(), None);
    let both = direct.replace("\"direct\"", "\"both\"");
    assert!(matches!(
        parse(&format!("{both}{node}")).unwrap_err().errors(),
        [ConfigError::NoPrimary { discovery: Discovery::Both, .. }]
    ));
}

#[test]
fn integers_are_toml_integers() {
    let text = MINIMAL.replace("\"eth0\"", "\"eth0\"\nflows = 1_048_576\npending_flows = 0x1000");
    assert_eq!(parse(&text).unwrap().director().pending_flows(), 4096);
    let text = MINIMAL.replace("\"eth0\"", "\"eth0\"\nflows = 99999999999999999999");
    assert_eq!(
        messages(&text),
        [
            "line 5: director.flows is 99999999999999999999, beyond 64 bits; it must be a whole number"
        ]
    );
}

#[test]
fn what_is_hardly_meant_is_remarked() {
    let text = MINIMAL.to_owned() + "default_weight = 0\n";
    assert!(matches!(parse(&text).unwrap().remarks()[..], [Remark::NobodyServes { .. }]));
    let text = text + "[[node]]\nname = \"a\"\naddress = \"10.0.0.1\"\n";
    assert!(matches!(
        parse(&text).unwrap().remarks()[..],
        [Remark::NobodyServes { .. }, Remark::ListedWithoutWeight { .. }]
    ));
    assert!(parse(&(text + "weight = 1\n[health]\n")).unwrap().remarks().is_empty());
}

#[test]
fn what_a_running_controller_cannot_change_is_named() {
    let old = parse(MINIMAL).unwrap();
    let weights = with("default_weight = 7\n[health]\nfall = 4\n");
    assert_eq!(old.changes_needing_restart(&parse(&weights).unwrap()), []);
    let new = MINIMAL.replace("main", "other").replace(
        "\"eth0\"",
        "\"eth1\"\nbpffs = \"/bpf\"\nflows = 2048\nflows_ipv6 = 4096\npending_flows = 2048\n\
         log_packets = true\nvlan = \"forward\"\n[api]\nlisten = \"[::]:7432\"\n[store]\n\
         path = \"/s\"",
    );
    let changes: Vec<_> = old
        .changes_needing_restart(&parse(&new).unwrap())
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        changes,
        [
            "cluster changed from main to other; restart the controller",
            "director.interface changed from eth0 to eth1; restart the controller",
            "director.bpffs changed from /sys/fs/bpf to /bpf; restart the controller",
            "director.control changed from /run/pgha/main.sock to /run/pgha/other.sock; restart the controller",
            "director.log_packets changed from false to true; restart the controller",
            "[api] changed from no listen (tls /etc/pgha/tls) to [::]:7432 (tls /etc/pgha/tls); restart the \
             controller",
            "[store] changed from local (/var/lib/pgha/main.store) to local (/s), in store.path; restart the controller",
            "director.flows changed from 1048576 to 2048; restart the controller, after pgha detach if the table is to be resized",
            "director.flows_ipv6 changed from 1024 to 4096; restart the controller, after pgha detach if the table is to be resized",
            "director.pending_flows changed from 65536 to 2048; restart the controller, after pgha detach if the table is to be resized",
        ]
    );
}

#[test]
fn files_are_checked_when_asked() {
    let text = with("[postgres]\npassfile = \"/nonexistent/pgpass\"\n");
    let config = parse(&text).unwrap();
    let errors = config.check_files(Path::new("pgha.toml")).unwrap_err();
    assert_eq!(errors.errors()[0].key(), Some("postgres.passfile"));
    assert!(config.login().password_for(Ipv4Addr::LOCALHOST.into(), 5432).is_err());
    assert!(parse(MINIMAL).unwrap().check_files(Path::new("pgha.toml")).is_ok());
}

#[test]
fn every_example_is_valid_and_without_remarks() {
    let directory = PathBuf::from(DOCS).join("examples");
    let mut examples = 0;
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            let config = Config::load(&path).unwrap_or_else(|errors| panic!("{errors}"));
            assert_eq!(config.remarks(), [], "{}", path.display());
            examples += 1;
        }
    }
    assert!(examples >= 2);
}

/// `PGHA_UPDATE_DOCS=1` writes the file instead.
#[test]
fn the_reference_is_what_the_schema_says() {
    let path = PathBuf::from(DOCS).join("configuration.md");
    let wanted = reference::render();
    if env::var_os("PGHA_UPDATE_DOCS").is_some() {
        fs::write(&path, wanted).unwrap();
        return;
    }
    let found = fs::read_to_string(&path).unwrap_or_default();
    assert!(found == wanted, "docs/configuration.md is old: run the tests with PGHA_UPDATE_DOCS=1");
}

#[test]
fn every_key_has_its_section_in_the_reference() {
    for key in KEYS {
        let section = schema::split(key.path).0;
        assert!(reference::SECTIONS.iter().any(|(name, _)| *name == section), "{}", key.path);
    }
}

#[test]
fn a_choice_is_what_its_name_says() {
    for name in schema::SCHEDULERS {
        let config = parse(&format!("{MINIMAL}scheduler = {name:?}\n")).unwrap();
        assert_eq!(config.services()[0].scheduler_name(), *name);
    }
    // That of managed nodes needs some, and has its own test.
    for name in schema::DISCOVERIES.iter().filter(|name| **name != "agents") {
        let node = "[[node]]\nname = \"a\"\naddress = \"10.0.0.1\"\n";
        let config = parse(&format!("{MINIMAL}discovery = {name:?}\n{node}")).unwrap();
        assert_eq!(config.services()[0].discovery.name(), *name);
    }
}

#[test]
fn a_file_with_errors_still_names_the_control_socket() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pgha.toml");
    let control = |text: &str| {
        std::fs::write(&path, text).unwrap();
        Config::control_at(&path).ok()
    };
    assert_eq!(control(MINIMAL), Some("/run/pgha/main.sock".into()));
    assert_eq!(control(&MINIMAL.replace("vip", "vlp")), Some("/run/pgha/main.sock".into()));
    let named = "cluster = 7\n[director]\ncontrol = \"/a/b\"\n";
    assert_eq!(control(named), Some("/a/b".into()));
    assert_eq!(control("cluster = \"a b\""), None);
    assert_eq!(control("no TOML"), None);
}

#[test]
fn a_password_that_is_given_comes_before_the_file() {
    use std::os::unix::fs::PermissionsExt as _;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("pgpass");
    std::fs::write(&path, "127.0.0.1:*:*:*:filed\n").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    let config = parse(&with(&format!("[postgres]\npassfile = {path:?}\n"))).unwrap();
    let of = |given: Option<&str>, host: Ipv4Addr| {
        let given = given.map(|given| passfile::Password::new(given.into()));
        let found = config.login().password_of(given, host.into(), 5432).unwrap();
        found.map(|found| String::from_utf8(found.expose().to_vec()).unwrap())
    };
    assert_eq!(of(None, Ipv4Addr::LOCALHOST).as_deref(), Some("filed"));
    assert_eq!(of(Some("given"), Ipv4Addr::LOCALHOST).as_deref(), Some("given"));
    assert_eq!(of(None, Ipv4Addr::BROADCAST), None);
}
