//! The watchers against servers that speak PostgreSQL's protocol and no more.

mod mock;

use std::net::Ipv4Addr;

use pgha_machine::Timeline;
use pgha_machine::balancer::Finding;

use super::*;
use mock::{Doing, Mock, follower, primary, standby};

/// How far apart questions to one host of the primary begin, at least, and how long a second primary has to
/// say so.
const PAUSE: Duration = Duration::from_millis(100);

/// How many things that are `apart` begin in a time, at most.
fn most(time: Duration, apart: Duration) -> u32 {
    u32::try_from(time.as_nanos() / apart.as_nanos()).unwrap() + 2
}

fn config(hosts: &[Server]) -> Config {
    let hosts: Vec<_> = hosts.iter().map(|host| format!("\"{host}\"")).collect();
    let text = format!(
        "cluster = \"main\"\n[director]\ninterface = \"eth0\"\n[postgres]\nsslmode = \"disable\"\n\
         [primary]\nhosts = [{}]\n[[service]]\nname = \"reader\"\nvip = \"10.0.0.100\"\n",
        hosts.join(", ")
    );
    Config::parse(&text, std::path::Path::new("pgha.toml")).unwrap()
}

fn manner(interval: u64, timeout: u64) -> watch::Receiver<Manner> {
    watch::channel(paced(interval, timeout)).1
}

fn paced(interval: u64, timeout: u64) -> Manner {
    let connector = Connector::new(&config(&[Server::from((Ipv4Addr::LOCALHOST, 1))]));
    let (interval, timeout) = (Duration::from_millis(interval), Duration::from_millis(timeout));
    Manner { connector, interval, timeout }
}

/// Watches these hosts for the primary until the receiver is dropped.
fn watched(hosts: &[&Mock], manner: watch::Receiver<Manner>) -> mpsc::Receiver<Told> {
    let hosts: Vec<_> = hosts.iter().map(|mock| mock.at).collect();
    let (tell, told) = mpsc::channel(64);
    let primary = config(&hosts).primary().unwrap().clone();
    tokio::spawn(watch_primary(primary, manner, tell));
    told
}

/// What is told of the primary next.
async fn hosts(told: &mut mpsc::Receiver<Told>) -> Hosts {
    let next = tokio::time::timeout(Duration::from_secs(20), told.recv()).await;
    match next.expect("somebody tells something") {
        Some(Told::Primary(hosts)) => hosts,
        other => panic!("{other:?}"),
    }
}

/// Waits until this is told of the primary.
async fn until(told: &mut mpsc::Receiver<Told>, wanted: impl Fn(&Hosts) -> bool) -> Hosts {
    for _ in 0..200 {
        let hosts = hosts(told).await;
        if wanted(&hosts) {
            return hosts;
        }
    }
    panic!("it was told 200 times and never so")
}

fn is_primary(hosts: &Hosts, mock: &Mock) -> bool {
    matches!(hosts, Hosts::Primary(at, ..) if *at == mock.at)
}

#[tokio::test]
async fn a_server_that_ends_each_session_is_not_checked_without_pause() {
    let mock = Mock::new(Doing::Hasty(vec![("in_recovery", "t")])).await;
    let (tell, mut told) = mpsc::channel(64);
    let target = Target { address: mock.at.ip(), port: mock.at.port() };
    let mut watchers = Watchers::new(manner(60_000, 20_000), tell);
    let began = Instant::now();
    watchers.watch(target);
    let mut checks = 0;
    while checks < 10 {
        let next = tokio::time::timeout(Duration::from_secs(20), told.recv()).await;
        match next.expect("a check follows each end").expect("it watches on") {
            Told::SessionEnded(target) => watchers.check_now(target),
            Told::Checked(_, checked) => {
                assert!(matches!(checked.finding, Finding::Standby(_)), "{checked:?}");
                checks += 1;
            }
            told @ (Told::Primary(_) | Told::LoginRefused(_)) => unreachable!("{told:?}"),
        }
    }
    // A check has a session, and one beside it.
    let (sessions, elapsed) = (mock.connections(), began.elapsed());
    assert!(sessions >= 10, "{sessions} sessions for {checks} checks");
    assert!(sessions <= 2 * most(elapsed, HURRY), "{sessions} sessions in {elapsed:?}");
}

#[tokio::test]
async fn checks_in_a_hurry_tell_only_what_is_certain() {
    let mock = Mock::new(Doing::Hasty(vec![("in_recovery", "t")])).await;
    let (tell, mut told) = mpsc::channel(64);
    let target = Target { address: mock.at.ip(), port: mock.at.port() };
    let mut watchers = Watchers::new(manner(60_000, 20_000), tell);
    watchers.watch(target);
    let mut next = async || {
        let next = tokio::time::timeout(Duration::from_secs(20), told.recv()).await;
        next.expect("something is told").expect("the watcher goes on")
    };
    assert!(matches!(next().await, Told::Checked(_, Checked { finding: Finding::Standby(_), .. })));
    assert!(matches!(next().await, Told::SessionEnded(_)));
    mock.does(Doing::HangUp);
    watchers.check_now(target);
    let Told::Checked(_, first) = next().await else { panic!("a check") };
    assert!(matches!(first.finding, Finding::Answered(_) | Finding::Silent(_)), "{first:?}");
    let known = mock.connections();
    let began = Instant::now();
    while mock.connections() < known + 4 {
        assert!(began.elapsed() < Duration::from_secs(15), "it is checked in a hurry");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let took = began.elapsed();
    assert!(took >= HURRY * 4, "four checks in {took:?}: each after twice the time");
    mock.does(Doing::ShutDown(vec![("in_recovery", "t")]));
    let Told::Checked(_, certain) = next().await else { panic!("a check") };
    assert_eq!(certain.finding, Finding::NotAccepting, "nothing was told before it");
    // It is not long before it is seen to be back: the next regular check comes in a minute.
    mock.does(standby());
    let back = loop {
        let Told::Checked(_, checked) = next().await else { panic!("a check") };
        if checked.finding != Finding::NotAccepting {
            break checked.finding;
        }
    };
    assert!(matches!(back, Finding::Standby(_)), "{back:?}");
}

#[tokio::test]
async fn a_check_asks_in_the_kept_session_and_sees_a_shutdown_beside_it() {
    let mock = Mock::new(standby()).await;
    let Manner { connector, timeout, .. } = manner(1_000, 1_000).borrow().clone();
    let mut kept = None;
    for round in 1..=5 {
        let (checked, session) = postgres::check(&connector, mock.at, kept, timeout).await;
        assert!(matches!(checked.finding, Finding::Standby(_)), "{checked:?}");
        kept = session;
        assert_eq!((mock.questions(), mock.connections()), (round, round));
    }
    mock.does(Doing::ShutDown(vec![("in_recovery", "t")]));
    let (checked, kept) = postgres::check(&connector, mock.at, kept, timeout).await;
    assert_eq!(checked.finding, Finding::NotAccepting);
    assert!(kept.is_none(), "a kept session would keep the server from ending");
}

#[tokio::test]
async fn a_session_that_does_not_answer_is_not_kept() {
    let mock = Mock::new(standby()).await;
    let Manner { connector, timeout, .. } = paced(1_000, 500);
    let (_, kept) = postgres::check(&connector, mock.at, None, timeout).await;
    assert!(kept.is_some());
    mock.does(Doing::Stuck);
    let (checked, kept) = postgres::check(&connector, mock.at, kept, timeout).await;
    assert!(matches!(checked.finding, Finding::Answered(_)), "{checked:?}");
    assert!(kept.is_none(), "each round would leave one more question in it");
}

#[tokio::test]
async fn a_slow_server_delays_no_other_and_its_checks_do_not_overlap() {
    let (slow, quick) = (Mock::new(Doing::Nothing).await, Mock::new(standby()).await);
    let (tell, mut told) = mpsc::channel(64);
    let target = |mock: &Mock| Target { address: mock.at.ip(), port: mock.at.port() };
    let mut watchers = Watchers::new(manner(100, 2_000), tell);
    watchers.watch(target(&slow));
    watchers.watch(target(&quick));
    let mut passed = 0;
    let first_of_slow = loop {
        let next = tokio::time::timeout(Duration::from_secs(20), told.recv()).await;
        match next.expect("somebody tells something") {
            Some(Told::Checked(of, checked)) if of == target(&slow) => break checked.finding,
            Some(Told::Checked(_, checked)) => {
                assert!(matches!(checked.finding, Finding::Standby(_)), "{checked:?}");
                passed += 1;
            }
            other => panic!("{other:?}"),
        }
    };
    assert!(matches!(first_of_slow, Finding::Silent(_)), "{first_of_slow:?}");
    assert!(passed >= 5, "{passed} checks passed beside one of 2 s");
    assert_eq!(slow.connections(), 1);
}

#[tokio::test]
async fn a_primary_that_ends_each_session_is_not_asked_without_pause() {
    let mock = Mock::new(Doing::Hasty(vec![("in_recovery", "f"), ("lsn", "0/1")])).await;
    let began = Instant::now();
    let mut told = watched(&[&mock], manner(60_000, 20_000));
    while mock.connections() < 5 {
        hosts(&mut told).await;
    }
    let (sessions, elapsed) = (mock.connections(), began.elapsed());
    assert!(sessions <= most(elapsed, PAUSE), "{sessions} sessions in {elapsed:?}");
}

#[tokio::test]
async fn a_round_is_one_question_to_the_primary_and_a_rare_look_at_the_others() {
    let (db1, db2) = (Mock::new(standby()).await, Mock::new(primary("00000001")).await);
    let mut told = watched(&[&db1, &db2], manner(100, 1_000));
    until(&mut told, |hosts| is_primary(hosts, &db2)).await;
    let (asked, looked) = (db2.questions(), db1.questions());
    for _ in 0..20 {
        assert!(is_primary(&hosts(&mut told).await, &db2));
    }
    let (asked, looked) = (db2.questions() - asked, db1.questions() - looked);
    assert!((19..=21).contains(&asked), "{asked} questions in 20 rounds");
    assert!((1..=3).contains(&looked), "{looked} looks at the other in 20 rounds");
    assert_eq!(db2.connections(), 1, "in one session");
}

#[tokio::test]
async fn a_host_that_never_answers_delays_nobody() {
    let (gone, db2) = (Mock::new(Doing::Nothing).await, Mock::new(primary("00000001")).await);
    let began = Instant::now();
    let mut told = watched(&[&gone, &db2], manner(50, 2_000));
    // Only at first, when nothing is known that a late answer could be told by.
    assert!(is_primary(&hosts(&mut told).await, &db2));
    let found = began.elapsed();
    assert!(found >= Duration::from_secs(1), "{found:?}");
    for _ in 0..20 {
        assert!(is_primary(&hosts(&mut told).await, &db2));
    }
    let rounds = began.elapsed() - found;
    assert!(rounds < Duration::from_secs(10), "20 rounds took {rounds:?}");
}

#[tokio::test]
async fn at_first_a_former_primary_is_not_taken_for_the_one_that_answers_later() {
    let former = Mock::new(primary("00000001")).await;
    let Doing::Answer(new) = primary("00000002") else { unreachable!() };
    // Far later than others are waited for once something is known.
    let new = Mock::new(Doing::Late(Duration::from_millis(300), new)).await;
    let mut told = watched(&[&former, &new], manner(50, 10_000));
    let found = hosts(&mut told).await;
    let Hosts::Primary(at, _, rivals) = &found else { panic!("{found:?}") };
    assert_eq!((*at, rivals.len()), (new.at, 1));
}

#[tokio::test]
async fn a_timeline_that_its_host_gave_up_is_forgotten() {
    let (db1, db2) = (Mock::new(primary("00000001")).await, Mock::new(follower("1")).await);
    let mut told = watched(&[&db1, &db2], manner(50, 5_000));
    until(&mut told, |hosts| is_primary(hosts, &db1)).await;
    // Promoted by mistake.
    db2.does(primary("00000002"));
    until(&mut told, |hosts| is_primary(hosts, &db2)).await;
    // Its data is still there.
    db2.does(follower("2"));
    until(&mut told, |hosts| matches!(hosts, Hosts::Lost(..))).await;
    for _ in 0..5 {
        assert!(matches!(hosts(&mut told).await, Hosts::Lost(_, rivals) if rivals.len() == 1));
    }
    // Made anew from the former one.
    db2.does(follower("1"));
    until(&mut told, |hosts| is_primary(hosts, &db1)).await;
}

#[tokio::test]
async fn one_timeout_holds_for_the_session_and_the_question_in_it() {
    let late = Doing::Late(Duration::from_millis(700), vec![("in_recovery", "t")]);
    let mock = Mock::new(late).await;
    let Manner { connector, .. } = paced(1_000, 1_000);
    let timeout = Duration::from_secs(1);
    let asked = postgres::log_in_and_ask(&connector, mock.at, None, timeout).await;
    assert!(matches!(asked, Err(postgres::PgError::Timeout(within)) if within == timeout));
    assert_eq!(mock.questions(), 1, "the session began in time");
}

#[tokio::test]
async fn a_new_pace_does_not_wait_for_a_round_of_the_old_one() {
    let (db1, db2) = (Mock::new(standby()).await, Mock::new(primary("00000001")).await);
    let (pace, manner) = watch::channel(paced(3_600_000, 5_000));
    let mut primaries = watched(&[&db2], manner.clone());
    let (tell, mut told) = mpsc::channel(64);
    let mut watchers = Watchers::new(manner, tell);
    watchers.watch(Target { address: db1.at.ip(), port: db1.at.port() });
    let mut checked = async || {
        let next = tokio::time::timeout(Duration::from_secs(20), told.recv()).await;
        assert!(matches!(next.expect("there is a check"), Some(Told::Checked(..))));
    };
    checked().await;
    assert!(is_primary(&hosts(&mut primaries).await, &db2));
    pace.send_replace(paced(50, 5_000));
    for _ in 0..3 {
        checked().await;
        assert!(is_primary(&hosts(&mut primaries).await, &db2));
    }
}

/// Each is asked again as soon as its time is over, so that there is always one that is being asked.
#[tokio::test]
async fn hosts_that_fall_silent_for_longer_than_a_round_are_lost() {
    let (db1, db2) = (Mock::new(primary("00000001")).await, Mock::new(standby()).await);
    let mut told = watched(&[&db1, &db2], manner(100, 350));
    until(&mut told, |hosts| is_primary(hosts, &db1)).await;
    db2.does(Doing::Nothing);
    db1.does(Doing::Nothing);
    for _ in 0..3 {
        let lost = until(&mut told, |hosts| !is_primary(hosts, &db1)).await;
        let Hosts::Lost(errors, _) = &lost else { panic!("{lost:?}") };
        assert!(errors.iter().any(|(server, _)| *server == db1.at), "{errors:?}");
    }
}

#[tokio::test]
async fn the_newest_timeline_wins_whoever_answers_first() {
    let (former, new) =
        (Mock::new(primary("00000009")).await, Mock::new(primary("0000000A")).await);
    let began = Instant::now();
    let mut told = watched(&[&former, &new], manner(100, 1_000));
    let mut found = hosts(&mut told).await;
    if is_primary(&found, &former) {
        // The new one had its time to say so, and took longer.
        assert!(began.elapsed() >= PAUSE, "{:?}", began.elapsed());
        found = until(&mut told, |hosts| is_primary(hosts, &new)).await;
    }
    if matches!(&found, Hosts::Primary(_, _, rivals) if rivals.is_empty()) {
        let both =
            |hosts: &Hosts| matches!(hosts, Hosts::Primary(_, _, rivals) if !rivals.is_empty());
        found = until(&mut told, both).await;
    }
    let Hosts::Primary(at, report, rivals) = &found else { panic!("{found:?}") };
    assert_eq!((*at, report.timeline), (new.at, Some(Timeline::new(10))));
    assert_eq!(rivals.iter().map(|rival| rival.server).collect::<Vec<_>>(), [former.at]);
    // While the new one is away, the former one is none the more a primary.
    new.does(standby());
    let lost = until(&mut told, |hosts| !matches!(hosts, Hosts::Primary(..))).await;
    let Hosts::Lost(errors, rivals) = &lost else { panic!("{lost:?}") };
    assert!(errors[0].1.contains("is in recovery"), "{errors:?}");
    assert_eq!(rivals.len(), 1);
}

#[tokio::test]
async fn two_on_one_timeline_are_told_until_one_is_left() {
    let (db1, db2) = (Mock::new(primary("00000001")).await, Mock::new(standby()).await);
    let mut told = watched(&[&db1, &db2], manner(50, 1_000));
    until(&mut told, |hosts| is_primary(hosts, &db1)).await;
    // It is no member of anything: only the rare look finds it.
    db2.does(primary("00000001"));
    let several = until(&mut told, |hosts| matches!(hosts, Hosts::Several(..))).await;
    let Hosts::Several(all, _) = several else { unreachable!() };
    assert_eq!(all.iter().map(|(at, _)| *at).collect::<Vec<_>>(), [db1.at, db2.at]);
    for _ in 0..5 {
        assert!(matches!(hosts(&mut told).await, Hosts::Several(_, Some(_))));
    }
    db1.does(standby());
    until(&mut told, |hosts| is_primary(hosts, &db2)).await;
}
