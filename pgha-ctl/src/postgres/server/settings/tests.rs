use std::collections::BTreeMap;
use std::path::Path;

use pgha_machine::NodeName;
use pgha_machine::failover::voters::VoterSet;

use super::{Conninfo, Settings, standby_names, without_owned};
use crate::postgres::server::config::{Method, Peer, Upstream};

fn node(name: &str) -> NodeName {
    name.parse().unwrap()
}

#[test]
fn the_operators_file_comes_first_and_quotes_are_doubled() {
    let settings = Settings {
        primary_conninfo: "host='db1' passfile='it\\'s'".to_owned(),
        synchronous_standby_names: "ANY 1 (\"db2\")".to_owned(),
    };
    let text = settings.render(Path::new("/etc/postgresql.conf"), 13);
    let lines: Vec<_> = text.lines().skip(2).collect();
    assert_eq!(
        lines,
        [
            "include '/etc/postgresql.conf'",
            "primary_conninfo = 'host=''db1'' passfile=''it\\\\''s'''",
            "synchronous_standby_names = 'ANY 1 (\"db2\")'",
            "primary_slot_name = ''",
        ]
    );
    assert_eq!(Settings::read(&text), settings);
    assert_eq!(Settings::read(""), Settings::default());
    // What the operator may say otherwise stands before that.
    let newer = settings.render(Path::new("/etc/postgresql.conf"), 14);
    let more: Vec<_> = newer.lines().filter(|line| !text.contains(line)).collect();
    assert_eq!(more, ["recovery_init_sync_method = 'syncfs'"]);
    assert!(newer.find(more[0]) < newer.find("\ninclude "));
    assert_eq!(Settings::read(&newer), settings);
}

#[test]
fn what_alter_system_wrote_of_them_is_taken_out() {
    let text =
        "# Do not edit\nwork_mem = '4MB'\nPrimary_Conninfo='host=x'\n primary_slot_name 'a'\n";
    let (kept, names) = without_owned(text).unwrap();
    assert_eq!(kept, "# Do not edit\nwork_mem = '4MB'\n");
    assert_eq!(names, ["primary_conninfo", "primary_slot_name"]);
    assert_eq!(without_owned(&kept), None);
    assert_eq!(without_owned("primary_conninfo_of_mine = 1\n"), None);
}

#[test]
fn voters_are_quoted() {
    let nodes = [node("db3"), node("db-2.x")].into();
    let voters = VoterSet::of(nodes, 1);
    assert_eq!(standby_names(&voters, Method::Any), "ANY 1 (\"db-2.x\", \"db3\")");
    assert_eq!(standby_names(&voters, Method::First), "FIRST 1 (\"db-2.x\", \"db3\")");
    assert_eq!(standby_names(&VoterSet::empty(), Method::Any), "");
}

#[test]
fn a_standby_names_itself_and_the_service() {
    let peer = Peer { host: "10.0.0.1".to_owned(), port: 5433, role: "other".to_owned() };
    let parameters = BTreeMap::from([("passfile".to_owned(), "/it's".to_owned())]);
    let upstream = Upstream { role: "repl".to_owned(), parameters };
    let conninfo = Conninfo::to(&peer, &upstream).streaming(&node("db2"));
    assert_eq!(
        conninfo.to_string(),
        "application_name='db2' host='10.0.0.1' passfile='/it\\'s' port='5433' service='pgha' user='repl'"
    );
}
