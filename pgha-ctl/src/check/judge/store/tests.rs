use std::path::Path;

use super::*;
use crate::check::Level;
use crate::store::EtcdError;

const TIMEOUT: Duration = Duration::from_millis(500);

fn member_at(number: u64) -> MemberHealth {
    MemberHealth {
        at: format!("https://etcd{number}:2379").parse().unwrap(),
        told: Ok(Told {
            cluster: 7,
            id: number,
            leader: Some(2),
            version: "3.4.23".to_owned(),
            alarms: Vec::new(),
            read: Ok(Duration::from_millis(number)),
        }),
    }
}

fn well() -> Health {
    Health { members: [1, 2, 3].map(member_at).into(), voters: Some(3) }
}

fn told(health: &mut Health, number: usize) -> &mut Told {
    health.members[number - 1].told.as_mut().unwrap()
}

fn late(number: usize) -> EtcdError {
    let at = format!("https://etcd{number}:2379").parse().unwrap();
    EtcdError::Late { at, patience: TIMEOUT }
}

fn levels(health: &Health) -> [Level; 4] {
    let members = health.members.iter().map(|one| member(one, TIMEOUT).level);
    let all: Vec<_> = std::iter::once(whole(health).level).chain(members).collect();
    all.try_into().unwrap()
}

#[test]
fn a_store_that_is_well_says_who_leads_and_how_fast_it_is() {
    use Level::Ok;
    assert_eq!(levels(&well()), [Ok; 4]);
    assert_eq!(
        whole(&well()).found,
        "3 of 3 serve reads, 2 are needed; https://etcd2:2379 leads; a linearizable read takes 1.0ms to 3.0ms"
    );
    assert_eq!(
        member(&member_at(2), TIMEOUT).found,
        "etcd 3.4.23 leads; a linearizable read took 2.0ms"
    );
}

#[test]
fn each_fault_is_found() {
    use Level::{Fail, Ok, Warn};
    type Plant = fn(&mut Health);
    let cases: [(Plant, [Level; 4], &str); 8] = [
        (|of| of.members[0].told = Err(late(1)), [Warn, Warn, Ok, Ok], "the loss of another one"),
        (
            |of| (1..=3).for_each(|number| told(of, number).read = Err(late(number))),
            [Fail, Warn, Warn, Warn],
            "there is no quorum",
        ),
        (
            |of| (1..=3).for_each(|number| of.members[number - 1].told = Err(late(number))),
            [Fail, Warn, Warn, Warn],
            "there is no quorum",
        ),
        (|of| told(of, 3).cluster = 8, [Fail, Ok, Ok, Ok], "0000000000000007, 0000000000000008"),
        (|of| told(of, 3).leader = Some(1), [Warn, Ok, Ok, Ok], "an election is on"),
        (|of| told(of, 1).alarms = vec!["NOSPACE".to_owned()], [Ok, Fail, Ok, Ok], "3 of 3"),
        (|of| told(of, 1).read = Result::Ok(TIMEOUT), [Ok, Warn, Ok, Ok], "to 500.0ms"),
        (|of| of.voters = Some(5), [Warn, Ok, Ok, Ok], "3 are listed"),
    ];
    for (plant, wanted, part) in cases {
        let mut health = well();
        plant(&mut health);
        assert_eq!(levels(&health), wanted, "{health:#?}");
        let said = whole(&health).found;
        assert!(said.contains(part), "`{part}` is not in {said}");
    }
    let mut one = well();
    one.members.truncate(1);
    one.voters = Some(1);
    assert_eq!(whole(&one).level, Warn);
}

#[test]
fn an_etcd_that_nobody_asked_is_not_judged() {
    let text = "cluster = \"main\"\n[director]\ninterface = \"eth0\"\n[primary]\nhosts = [\"10.0.0.11\"]\n\
                [[service]]\nname = \"reader\"\nvip = \"10.0.0.100\"\n\
                [store]\nkind = \"etcd\"\nendpoints = [\"http://127.0.0.1:1\"]\n";
    let config = Config::parse(text, Path::new("test")).unwrap();
    let mut facts = crate::check::judge::tests::well();
    facts.store = Some(well());
    let ids: Vec<_> = judge(&config, &facts).into_iter().map(|check| check.id).collect();
    assert_eq!(ids, ["store", "store-member", "store-member", "store-member"]);
    facts.store = None;
    assert!(judge(&config, &facts).is_empty());
}

#[test]
fn what_the_controller_says_of_the_store_counts() {
    let mut store = StoreStatus {
        kind: "etcd".to_owned(),
        path: "/seen".into(),
        shared: true,
        endpoints: Vec::new(),
        incarnation: None,
        revision: None,
        answers: true,
        error: None,
        stale_since: None,
    };
    assert_eq!(kept(&store).level, Level::Ok);
    store.error = Some("it went back".to_owned());
    let check = kept(&store);
    assert_eq!((check.level, check.found.as_str()), (Level::Fail, "it went back"));
}
