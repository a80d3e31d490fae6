//! Nothing is heard: what is known stays, and it is shown since when.

use super::super::{Down, Health, Standing};
use super::*;

const SECOND: u64 = 1_000;

fn second(second: u64) -> Moment {
    Moment::new(second * SECOND)
}

fn check(balancer: &mut Balancer, second: u64, number: u8, finding: &Finding) {
    balancer.handle(self::second(second), Event::Checked(target(number), finding.clone()));
}

fn stale(balancer: &Balancer, number: u8) -> Option<u64> {
    let view = balancer.view();
    let mut servers = view[0].servers.iter();
    servers.find(|server| server.address == host(number)).unwrap().stale_ms
}

fn silent() -> Finding {
    Finding::Silent("no answer".to_owned())
}

#[test]
fn who_serves_by_what_was_known_is_stale_since_the_last_check_that_told_something() {
    let mut balancer = streaming(&[2, 3]);
    for nothing in [
        silent(),
        Finding::LoginRefused("password".to_owned()),
        Finding::Undecided("no file".to_owned()),
    ] {
        let told = balancer.now.milliseconds() / SECOND + 10;
        check(&mut balancer, told, 2, &GOOD);
        assert_eq!(stale(&balancer, 2), None);
        // Of all together, so that the silence is nobody's alone.
        for second in 1..=5 {
            check(&mut balancer, told + second, 2, &nothing);
            assert_eq!(stale(&balancer, 2), Some(second * SECOND), "{nothing:?}");
        }
        assert_eq!(readers(&balancer), [host(2), host(3)]);
        assert_eq!(stale(&balancer, 3), None);
    }
    // Whatever tells something ends it.
    let told = balancer.now.milliseconds() / SECOND + 10;
    for finding in [GOOD, Finding::Refused, Finding::NotAccepting, NOT_IN_RECOVERY] {
        check(&mut balancer, told, 2, &silent());
        assert!(stale(&balancer, 2).is_some());
        check(&mut balancer, told, 2, &finding);
        assert_eq!(stale(&balancer, 2), None, "{finding:?}");
    }
}

#[test]
fn what_was_never_known_and_what_silence_proves_is_not_stale() {
    let mut balancer = Balancer::new(config(Discovery::Direct, &[2, 3]), &Inherited::default());
    check(&mut balancer, 1, 2, &silent());
    assert_eq!(balancer.view()[0].servers[0].health, Standing::Checking);
    assert_eq!(stale(&balancer, 2), None, "nothing was known of it");
    bring_up(&mut balancer, &[2, 3]);
    for second in 2..20 {
        check(&mut balancer, second, 3, &GOOD);
        check(&mut balancer, second, 2, &silent());
    }
    let pool = &balancer.pools[0];
    assert_eq!(pool.members[&host(2)].health, Health::Down(Down::Silent, 0));
    assert_eq!(stale(&balancer, 2), None, "others answer: its silence says that it is gone");
}

#[test]
fn a_node_that_hears_nobody_says_so_and_keeps_everybody() {
    let mut balancer = streaming(&[2, 3]);
    let fall = u64::from(balancer.config().fall);
    balancer.handle(self::second(1), Event::PrimaryLost);
    for second in 1..fall {
        for number in [2, 3] {
            check(&mut balancer, second, number, &silent());
        }
        assert!(!balancer.hears_nobody(), "{second} of {fall}");
    }
    check(&mut balancer, fall, 2, &silent());
    assert!(!balancer.hears_nobody(), "one may be asked still");
    check(&mut balancer, fall, 3, &silent());
    assert!(balancer.hears_nobody());
    assert_eq!(readers(&balancer), [host(2), host(3)]);
    // What cannot be asked is not heard either.
    check(&mut balancer, fall + 1, 3, &Finding::Undecided("no route".to_owned()));
    assert!(balancer.hears_nobody());
    // One that answers is enough, also one that refuses; and so is the primary.
    check(&mut balancer, fall + 2, 3, &Finding::LoginRefused("password".to_owned()));
    assert!(!balancer.hears_nobody());
    for second in 0..fall {
        check(&mut balancer, fall + 3 + second, 3, &silent());
    }
    assert!(balancer.hears_nobody());
    balancer.handle(balancer.now, answer(&[(2, SyncState::Async), (3, SyncState::Async)]));
    assert!(!balancer.hears_nobody());
}

#[test]
fn who_answers_on_this_very_node_is_nobody_else() {
    let mut config = config(Discovery::Both, &[1, 2]);
    config.local.insert(host(1));
    let mut balancer = Balancer::new(config, &Inherited::default());
    for _ in 0..10 {
        // The primary is this node, too.
        balancer.handle(NOW, answer(&[(2, SyncState::Async)]));
        balancer.handle(NOW, Event::Checked(target(1), NOT_IN_RECOVERY));
        balancer.handle(NOW, Event::Checked(target(2), silent()));
    }
    assert!(balancer.hears_nobody());
}

#[test]
fn a_password_file_that_cannot_be_read_cuts_nobody_off() {
    let mut balancer = streaming(&[2]);
    balancer.handle(NOW, Event::PrimaryLost);
    for _ in 0..10 {
        let finding = Finding::Undecided("the password file cannot be read".to_owned());
        balancer.handle(NOW, Event::Checked(target(2), finding));
    }
    assert!(!balancer.hears_nobody());
}
