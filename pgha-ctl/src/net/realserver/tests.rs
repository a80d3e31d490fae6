use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr};

use super::record::{Record, StateDir};
use super::sysctl::Setting;
use super::*;

const VIP: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 100));
const VIP6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x100));

fn setting() -> Setting {
    Setting { name: "net.ipv4.conf.all.arp_ignore".to_owned(), before: 0, set: 1 }
}

fn record(namespace: u64) -> Record {
    let mut record = Record::empty(namespace);
    record.sysctls.push(setting());
    record.addresses.extend([VIP, VIP6]);
    record
}

#[test]
fn a_record_is_kept_replaced_and_forgotten() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("new");
    assert!(StateDir::open(&path).unwrap().is_none());
    let state = StateDir::create(&path).unwrap();
    assert_eq!(state.load().unwrap(), None);
    let record = record(state.namespace());
    state.save(&Record::empty(state.namespace())).unwrap();
    state.save(&record).unwrap();
    assert_eq!(state.load().unwrap(), Some(record));
    assert_eq!(fs::read_dir(&path).unwrap().count(), 1);
    state.forget().unwrap();
    state.forget().unwrap();
    assert_eq!(state.load().unwrap(), None);
}

#[test]
fn two_runs_at_once_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let first = StateDir::create(directory.path()).unwrap();
    assert!(matches!(StateDir::open(directory.path()), Err(RealServerError::Busy { .. })));
    drop(first);
    assert!(StateDir::open(directory.path()).unwrap().is_some());
}

#[test]
fn a_record_that_is_not_ours_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let state = StateDir::create(directory.path()).unwrap();
    let path = directory.path().join("realserver.json");
    state.save(&record(state.namespace())).unwrap();
    let good = fs::read_to_string(&path).unwrap();
    for (from, to) in [("pgha-realserver", "other"), ("\"set\"", "\"sat\""), ("}", "")] {
        fs::write(&path, good.replace(from, to)).unwrap();
        assert!(matches!(state.load(), Err(RealServerError::Damaged { .. })), "{to:?}");
    }
    fs::write(&path, good.replace("\"version\": 1", "\"version\": 2, \"later\": 1")).unwrap();
    assert!(matches!(state.load(), Err(RealServerError::Version { found: 2, known: 1, .. })));
    state.save(&record(state.namespace() + 1)).unwrap();
    assert!(matches!(state.load(), Err(RealServerError::OtherNamespace { .. })));
}

#[tokio::test]
async fn undo_without_a_record_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let nothing = Report::from(vec![Step::NothingToUndo { state_dir: directory.path().into() }]);
    assert_eq!(undo(directory.path()).await.unwrap(), nothing);
    assert!(nothing.to_string().starts_with("nothing to undo: "));
    assert!(undo(&directory.path().join("none")).await.is_ok());
}

#[test]
fn values_that_serve_as_well_are_enough() {
    let enough = |name: &str, value| {
        WANTED.iter().filter(|wanted| wanted.name.ends_with(name)).all(|w| (w.enough)(value))
    };
    for (value, serves) in [(0, false), (1, true), (2, true), (3, false), (5, false), (8, true)] {
        assert_eq!(enough("arp_ignore", value), serves, "arp_ignore = {value}");
    }
    for (value, serves) in [(0, false), (1, false), (2, true)] {
        assert_eq!(enough("arp_announce", value), serves, "arp_announce = {value}");
    }
    for wanted in WANTED {
        assert!((wanted.enough)(wanted.value), "{}", wanted.name);
    }
}

#[test]
fn a_report_is_one_step_a_line() {
    let report = Report::from(vec![
        Step::SysctlSet(setting()),
        Step::SysctlLeft { setting: setting(), found: 2 },
        Step::AddressAdded(VIP),
        Step::AddressRemoved(VIP6),
    ]);
    assert_eq!(
        report.to_string(),
        "set net.ipv4.conf.all.arp_ignore = 1 (was 0)\n\
         left net.ipv4.conf.all.arp_ignore = 2: it was set to 1 and changed since; before the set-up it was 0\n\
         added 10.0.0.100/32 to lo\n\
         removed 2001:db8::100/128 from lo"
    );
}
