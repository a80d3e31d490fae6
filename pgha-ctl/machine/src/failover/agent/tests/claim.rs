//! When the writer VIP is claimed.

use super::*;
use crate::failover::message::FrozenAt;

/// `b` was nominated at [`NOW`] on the word of frozen voters, and is promoted 100 ms later.
fn promoted() -> Play {
    let mut play = Play::begin(kept(1, Some(1)), standby(None));
    play.effects();
    play.at(NOW).reads(&nominee());
    assert_eq!(
        play.at(NOW + 10).done(),
        "arm 3000; promote to 2 with 1 of {c}; tell frozen 1 at 1:120"
    );
    let promoted = "keep epoch 2, freeze 1; put renewal 1 of b run 20 at 120, floor 1:118, term 2 of b: 2 from 1:118, promoted; tell";
    assert_eq!(play.at(NOW + 100).ends(Outcome::Promoted(at(1, 118))), promoted);
    assert_eq!(play.at(NOW + 110).done(), "arm 3100");
    play
}

fn has_stopped(freeze: u64) -> Message {
    let frozen = Some(FrozenAt { freeze, wal: None });
    Message::Report(Report { frozen, ..Report::default() })
}

#[test]
fn the_address_is_claimed_when_the_lease_of_the_former_primary_is_over() {
    let mut play = promoted();
    // 1.06 s after the nomination was seen.
    for step in (200..1060).step_by(100) {
        let told = play.at(NOW + step).does(Event::Tick);
        assert!(!told.contains("claim"), "{step}: {told}");
        if told.contains("put") {
            play.done();
        }
    }
    assert!(play.at(NOW + 1060).does(Event::Tick).contains("claim"));
    assert!(!play.at(NOW + 1061).does(Event::Tick).contains("claim"));
}

#[test]
fn the_address_is_claimed_when_the_former_primary_says_that_it_has_stopped() {
    let mut play = promoted();
    // Of an earlier freeze, and another node.
    assert!(!play.at(NOW + 120).hears("a", has_stopped(0)).contains("claim"));
    assert!(!play.hears("c", has_stopped(1)).contains("claim"));
    assert!(play.hears("a", has_stopped(1)).contains("claim in 2"));
}

#[test]
fn the_address_is_claimed_when_the_former_primary_has_ended_and_knows_the_next_epoch() {
    let of = |ended: bool, epoch: u64| {
        Message::Report(Report { ended, epoch: Epoch::new(epoch), ..Report::default() })
    };
    let mut play = promoted();
    assert!(!play.at(NOW + 120).hears("a", of(true, 1)).contains("claim"));
    assert!(!play.hears("a", of(false, 2)).contains("claim"));
    assert!(!play.hears("c", of(true, 2)).contains("claim"));
    assert!(play.hears("a", of(true, 2)).contains("claim in 2"));
}

#[test]
fn who_has_ended_says_so() {
    let told = |play: &Play| play.agent.told.as_ref().map(|(_, report)| report.ended);
    let mut play = Play::begin(kept(2, None), primary(NOW + 500, true));
    play.effects();
    play.at(NOW).reads(&holder());
    play.done();
    assert_eq!(told(&play), Some(false));
    play.at(NOW + 100).does(Event::Gone);
    assert_eq!(told(&play), Some(false), "the address may be here still");
    assert_eq!(play.at(NOW + 120).ends(Outcome::Killed), "put renewal 2 of b run 20 at 150");
    play.at(NOW + 200).does(Event::Tick);
    assert_eq!(told(&play), Some(true));
    play.at(NOW + 210).done();
    assert_eq!(play.at(NOW + 220).done(), "arm 3210; restart with 1 of {c}");
    play.at(NOW + 300).does(Event::Tick);
    assert_eq!(told(&play), Some(false), "on its way up again");
}

#[test]
fn a_primary_that_was_followed_before_the_last_one_may_have_the_address_still() {
    let mut play = Play::begin(kept(1, None), standby(Some("a")));
    play.effects();
    play.at(NOW).reads(&suspended());
    // `c` took epoch 2 on the word of voters, which was not seen here, and is gone.
    let rules = Rules::default();
    let frozen = stopped(&[("b", 110), ("c", 120)]);
    let nominated =
        suspended().nominate(name("c"), name("k1"), Proof::Quorum, &frozen, rules).unwrap();
    let taken = nominated.take(&name("c"), 30, &wal(120), rules).unwrap();
    play.agent.claim.look(START + Duration::from_millis(NOW), &taken);
    play.agent.claim.wanted = true;
    let free = |play: &Play, at: u64| {
        let now = START + Duration::from_millis(at);
        play.agent.claim.is_free(now, &name("b"), &play.agent.hearing)
    };
    play.hears("a", has_stopped(1));
    assert!(!free(&play, NOW + 1059) && free(&play, NOW + 1060));
}

#[test]
fn a_process_that_knew_no_lease_waits_for_one() {
    let claim = |lease: bool, record: &Record| {
        let from = START + Duration::from_millis(NOW);
        let mut claim = super::super::Claim::new(lease.then_some(from));
        claim.look(from, record);
        let hearing = crate::failover::hearing::Hearing::from(from);
        claim.is_free(from, &name("b"), &hearing)
    };
    assert!(claim(true, &holder()) && !claim(false, &holder()));
    // There was no primary before the first one.
    assert!(claim(false, &cluster(SYNC)));
}
