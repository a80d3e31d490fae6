use std::time::Instant;

use pgha_machine::failover::pace::Pace;
use pgha_machine::failover::record::{Cause, Proof, Suspicion};
use pgha_machine::failover::timing::{Profile, Wanted};
use pgha_machine::{Epoch, Lsn, NodeName, Position, Timeline, Wal};

use super::super::reader::{Answer, Moment};
use super::*;

const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 77, 0, 99));
const DB1: [u8; 6] = [2, 0, 10, 77, 0, 11];
const DB2: [u8; 6] = [2, 0, 10, 77, 0, 12];

/// The clocks of these tests.
struct Clock(Moment);

impl Clock {
    fn at(&self, millis: u64) -> Moment {
        let here = self.0.here + Duration::from_millis(millis);
        Moment { here, wall: self.0.wall + millis }
    }

    /// Sent then, and heard of a millisecond later.
    fn acknowledged(&self, id: i64, server: &str, timeline: u32, millis: u64) -> Acknowledged {
        let (sent, at) = (self.at(millis).here, self.at(millis + 1).here);
        let timeline = Timeline::new(timeline);
        Acknowledged { id, server: server.to_owned(), timeline, lsn: Lsn::new(millis), sent, at }
    }

    fn visit(&self, server: &str, in_recovery: bool, millis: u64) -> Visit {
        let answer = Ok(Answer { server: server.to_owned(), in_recovery });
        Visit { began: self.at(millis), ended: self.at(millis + 2), answer }
    }
}

fn clock() -> Clock {
    Clock(Moment { here: Instant::now(), wall: 1_000_000 })
}

fn name(name: &str) -> NodeName {
    name.parse().unwrap()
}

/// db1 was the primary on timeline 1, and db2 has been since, on timeline 2.
fn record(mode: Mode) -> Record {
    let pace = Pace {
        lease: Wanted::from(Profile::Fast).judge().unwrap(),
        heartbeat: Duration::from_millis(100),
        silence: Duration::from_millis(300),
    };
    let position = |timeline| Position { timeline: Timeline::new(timeline), lsn: Lsn::new(0) };
    let wal = Wal { end: position(1), left: Vec::new() };
    let founded = Record::founded(&name("db1"), &wal, &BTreeMap::new(), SYNC, pace).unwrap();
    // One alone could not be `strict`.
    let mut record = Record { mode, ..founded };
    // A cluster is founded without voters.
    record.terms[0].degraded.clear();
    let mut term = record.terms[0].clone();
    term.epoch = term.epoch.next();
    (term.node, term.timeline) = (name("db2"), Timeline::new(2));
    (record.epoch, record.terms) = (term.epoch, vec![record.terms[0].clone(), term]);
    record
}

const SYNC: Mode = Mode::Sync { quorum: 1, max_lag: 0 };

#[test]
fn what_is_lost_is_found() {
    let clock = clock();
    let all = [clock.acknowledged(1, "db1", 1, 0), clock.acknowledged(2, "db2", 2, 10)];
    nothing_is_lost(&all, &[1, 2].into(), &record(SYNC)).unwrap();
    for there in [[1], [2]] {
        let lost = nothing_is_lost(&all, &there.into(), &record(SYNC)).unwrap_err();
        assert!(lost.to_string().contains(&format!("id: {}", 3 - there[0])), "{lost}");
    }
}

#[test]
fn only_what_waited_for_nobody_in_a_former_term_may_be_lost() {
    let clock = clock();
    let all = [5, 10, 19, 20].map(|millis| clock.acknowledged(1, "db1", 1, millis));
    let lost = |record: &Record| {
        all.each_ref()
            .map(|one| nothing_is_lost(std::slice::from_ref(one), &[].into(), record).is_err())
    };
    let mut degraded = record(SYNC);
    degraded.terms[0].degraded = vec![Degraded { from: Lsn::new(10), until: Some(Lsn::new(20)) }];
    assert_eq!(lost(&degraded), [true, false, false, true]);
    degraded.terms[0].degraded[0].until = None;
    assert_eq!(lost(&degraded), [true, false, false, false]);
    // What the present primary has acknowledged, it has.
    degraded.terms.pop();
    degraded.epoch = degraded.terms[0].epoch;
    assert_eq!(lost(&degraded), [true; 4]);
    assert_eq!(lost(&record(Mode::Async { max_lag: 0 })), [false; 4]);
    let mut strict = record(Mode::Strict { quorum: 1 });
    strict.terms[0].degraded = vec![Degraded { from: Lsn::new(0), until: None }];
    assert_eq!(lost(&strict), [true; 4]);
    let (reason, proof) = (Suspicion::Silent, Proof::Lease);
    let cause = |forced| Some(Cause { reason, proof, ordered: None, forced });
    strict.terms[1].cause = cause(false);
    assert_eq!(lost(&strict), [true; 4]);
    strict.terms[1].cause = cause(true);
    assert_eq!(lost(&strict), [false; 4], "an operator has given it up");
}

#[test]
fn two_primaries_at_a_time_are_found() {
    let (clock, terms) = (clock(), record(SYNC).terms);
    let one = |server, timeline, millis| clock.acknowledged(1, server, timeline, millis);
    let good = vec![one("db1", 1, 0), one("db1", 1, 5), one("db2", 2, 20), one("db2", 2, 30)];
    one_primary_at_a_time(&good, &terms).unwrap();
    // Another client heard late of what was sent in time.
    let mut late = one("db1", 1, 6);
    late.at = clock.at(25).here;
    one_primary_at_a_time(&[good.clone(), vec![late]].concat(), &terms).unwrap();
    for wrong in [
        // The former primary comes back, or goes on.
        one("db1", 1, 22),
        one("db1", 1, 40),
        // A node acknowledges in the term of another, or in none.
        one("db1", 2, 40),
        one("db3", 1, 2),
        one("db2", 3, 40),
    ] {
        let planted = [good.clone(), vec![wrong.clone()]].concat();
        assert!(one_primary_at_a_time(&planted, &terms).is_err(), "{wrong:?}");
    }
    // A term between two that have overlapped is no excuse.
    let mut third = terms[1].clone();
    (third.epoch, third.timeline, third.node) = (Epoch::new(9), Timeline::new(3), name("db3"));
    let three = [terms, vec![third]].concat();
    let planted = [good, vec![one("db3", 3, 50), one("db1", 1, 60)]].concat();
    assert!(one_primary_at_a_time(&planted, &three).is_err());
}

#[test]
fn an_owner_that_comes_back_is_found() {
    let by = |mac: &[u8; 6]| Claim { address: ADDRESS, mac: *mac, answers: false };
    let judge = |macs: &[[u8; 6]], owners: &[[u8; 6]]| {
        let claims: Vec<_> = macs.iter().map(by).collect();
        one_owner(&claims, ADDRESS, owners).is_ok()
    };
    assert!(judge(&[DB1, DB1, DB2, DB2], &[DB1, DB2]));
    assert!(judge(&[DB1, DB2, DB1], &[DB1, DB2, DB1]));
    assert!(judge(&[DB2], &[DB1, DB2]), "nobody need ask in a short term");
    assert!(!judge(&[DB1, DB2, DB1], &[DB1, DB2]), "A-B-A in one term");
    assert!(!judge(&[DB2, DB1], &[DB1, DB2]), "before its term");
    assert!(!judge(&[DB1, [6; 6]], &[DB1, DB2]), "a stranger");
    assert!(!judge(&[DB1], &[]), "an address that nobody may have");
    let other = Claim { address: Ipv4Addr::LOCALHOST.into(), ..by(&[6; 6]) };
    one_owner(&[other], ADDRESS, &[]).unwrap();
}

#[test]
fn a_reader_at_the_primary_is_found() {
    let clock = clock();
    let acknowledged = [clock.acknowledged(1, "db1", 1, 0), clock.acknowledged(2, "db2", 2, 20)];
    let judge = |visit: Visit| readers_meet_standbys(&[visit], &acknowledged).is_ok();
    assert!(judge(clock.visit("db2", true, 5)));
    assert!(judge(clock.visit("db1", true, 30)), "a former primary is a standby");
    assert!(judge(clock.visit("db2", false, 20)), "it may have been promoted during the visit");
    assert!(!judge(clock.visit("db2", false, 22)));
    assert!(!judge(clock.visit("db1", false, 2)));
}

#[test]
fn a_reader_at_a_server_known_dead_is_found() {
    let clock = clock();
    let wall = |millis| clock.at(millis).wall;
    let outage = |until| Outage { server: "db2".to_owned(), from: wall(1000), until };
    let judge = |visit: Visit, until| readers_meet_the_living(&[visit], &[outage(until)]).is_ok();
    assert!(judge(clock.visit("db3", true, 5000), None), "another server");
    assert!(judge(clock.visit("db2", true, 1500), None), "maps are written a moment later");
    assert!(!judge(clock.visit("db2", true, 2001), None));
    assert!(!judge(clock.visit("db2", true, 2001), Some(wall(3000))));
    assert!(judge(clock.visit("db2", true, 2999), Some(wall(3000))), "it came up meanwhile");
    let mut failed = clock.visit("db2", true, 2001);
    failed.answer = Err("refused".to_owned());
    assert!(judge(failed, None), "nobody was met");
}

#[test]
fn claims_are_read_from_frames() {
    let cooked =
        |ethertype: [u8; 2], packet: &[u8]| [&ethertype[..], &[0; COOKED - 2], packet].concat();
    let arp = |operation: u8, sender: [u8; 4]| {
        let fixed = [0, 1, 8, 0, 6, 4, 0, operation];
        cooked([8, 6], &[&fixed[..], &DB1, &sender, &[0; 6], &[10, 77, 0, 1]].concat())
    };
    let expected = |answers| Some(Claim { address: ADDRESS, mac: DB1, answers });
    assert_eq!(claim(&arp(1, [10, 77, 0, 99])), expected(false), "a request tells who asks");
    assert_eq!(claim(&arp(2, [10, 77, 0, 99])), expected(true));
    assert_eq!(claim(&arp(1, [0; 4])), None, "a probe claims nothing");
    let target = Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 0x99);
    let flagged = |kind: u8, flags: u8, option: [u8; 2]| {
        let header = [&[0x60, 0, 0, 0, 0, 32, 58, 255][..], &[0; 32]].concat();
        let message = [&[kind, 0, 0, 0, flags, 0, 0, 0][..], &target.octets(), &option, &DB2];
        cooked([0x86, 0xdd], &[header, message.concat()].concat())
    };
    let advertisement = |kind: u8, option: [u8; 2]| flagged(kind, 0x20, option);
    let expected = |answers| Some(Claim { address: target.into(), mac: DB2, answers });
    assert_eq!(claim(&advertisement(136, [2, 1])), expected(false));
    assert_eq!(claim(&flagged(136, 0x60, [2, 1])), expected(true));
    assert_eq!(claim(&advertisement(135, [2, 1])), None, "who asks claims nothing");
    assert_eq!(claim(&advertisement(136, [14, 1])), None, "no address of the target's");
    assert_eq!(claim(&arp(2, [10, 77, 0, 99])[..30]), None, "cut short");
}
