use std::net::Ipv4Addr;

use pgha_machine::Timeline;
use pgha_machine::balancer::Claim;
use proptest::prelude::*;

use super::*;

const ROUND: Duration = Duration::from_secs(1);

fn server(last: u8) -> Server {
    (Ipv4Addr::new(10, 0, 0, last), 5432).into()
}

fn primary(timeline: u32) -> Said {
    Ok(PrimaryReport {
        lsn: None,
        timeline: Some(Timeline::new(timeline)),
        system: Some(7),
        walsenders: Vec::new(),
        told_all: true,
    })
}

/// Asks all that are due, and has one of them answer.
fn hear(lookout: &mut Lookout, place: usize, said: Said, now: Instant) -> Option<Hosts> {
    lookout.begin(now);
    lookout.take(place, said, None, ROUND);
    lookout.judge(Some(place), now)
}

#[test]
fn one_answer_of_a_primary_counts_once() {
    let mut lookout = Lookout::over(&[server(1), server(2)]);
    let begun = Instant::now();
    let _ = hear(&mut lookout, 0, primary(1), begun);
    let several = hear(&mut lookout, 1, primary(1), begun);
    assert!(matches!(several, Some(Hosts::Several(_, Some(_)))), "{several:?}");
    // The other gives way. What the first said then was told already: it is asked anew, soon.
    let later = begun + PATIENCE * 5;
    let left = hear(
        &mut lookout,
        1,
        Err(PgError::InRecovery(Claim { timeline: None, system: None })),
        later,
    );
    assert!(left.is_none(), "{left:?}");
    lookout.hosts[1].due = Some(later + ROUND);
    let one = hear(&mut lookout, 0, primary(1), later + PATIENCE * 5);
    assert!(matches!(one, Some(Hosts::Primary(at, ..)) if at == server(1)), "{one:?}");
    // Somebody else's answer makes no second one of it, and no haste.
    let due = lookout.hosts[0].due;
    assert!(lookout.judge(Some(1), later + PATIENCE * 6).is_none());
    assert_eq!(lookout.hosts[0].due, due);
}

/// While an answer waits for what the others say, its host is asked again. That question began before the
/// answer is told, so that it is no later one: whoever compares a standby with the second answer after its
/// check would compare it with WAL that was written before.
#[test]
fn an_answer_that_waited_is_not_told() {
    let mut lookout = Lookout::over(&[server(1), server(2)]);
    let begun = Instant::now();
    lookout.timeout = 3 * ROUND;
    assert!(hear(&mut lookout, 0, primary(1), begun).is_none(), "the other has not had its say");
    // It is asked again.
    let later = begun + ROUND;
    assert_eq!(lookout.begin(later).iter().map(|(place, ..)| *place).collect::<Vec<_>>(), [0]);
    lookout.take(1, silent(), None, ROUND);
    assert!(lookout.judge(Some(1), later).is_none());
    lookout.take(0, primary(1), None, ROUND);
    let told = lookout.judge(Some(0), later);
    assert!(matches!(told, Some(Hosts::Primary(at, ..)) if at == server(1)), "{told:?}");
}

#[test]
fn patience_that_is_over_wakes_nobody() {
    let mut lookout = Lookout::over(&[server(1), server(2)]);
    let begun = Instant::now();
    lookout.timeout = 3 * ROUND;
    assert!(hear(&mut lookout, 0, primary(1), begun).is_none());
    assert_eq!(lookout.due(), begun + ROUND, "its own round comes before that");
    lookout.begin(begun + ROUND);
    assert_eq!(lookout.due(), begun + 3 * ROUND);
    assert!(lookout.judge(None, begun + 3 * ROUND).is_none(), "it is told with the next answer");
    assert!(lookout.due() > begun + 3 * ROUND);
    lookout.take(0, primary(1), None, ROUND);
    assert!(matches!(lookout.judge(Some(0), begun + 3 * ROUND), Some(Hosts::Primary(..))));
}

fn silent() -> Said {
    Err(PgError::Timeout(ROUND))
}

/// What happens to a lookout over three hosts.
#[derive(Clone, Debug)]
enum Happens {
    /// So many milliseconds pass, and whoever is due is asked.
    Time(u64),
    /// One that is being asked says that it is the primary on a timeline, or, by 0, that it is in recovery.
    Says(usize, u32),
    /// One that is being asked stays silent.
    Silent(usize),
    /// A session ends.
    Ends(usize),
}

fn happens() -> impl Strategy<Value = Happens> {
    prop_oneof![
        3 => (1_u64..400).prop_map(Happens::Time),
        4 => (0_usize..3, 0_u32..3).prop_map(|(place, timeline)| Happens::Says(place, timeline)),
        1 => (0_usize..3).prop_map(Happens::Silent),
        1 => (0_usize..3).prop_map(Happens::Ends),
    ]
}

proptest! {
    /// A primary is told with an answer of its own that has just come in, and with each of them once; whatever
    /// happened, it is told within a few rounds once everybody says the same.
    #[test]
    fn a_primary_is_told_by_its_own_answers_alone(
        history in proptest::collection::vec(happens(), 0..60),
        primary_at in 0_usize..3,
    ) {
        let mut lookout = Lookout::over(&[server(0), server(1), server(2)]);
        lookout.timeout = ROUND;
        let mut now = Instant::now();
        let mut asked = [false; 3];
        let says = |timeline| match timeline {
            0 => Err(PgError::InRecovery(Claim { timeline: None, system: Some(7) })),
            timeline => primary(timeline),
        };
        let mut settled = Vec::new();
        for _ in 0..12 {
            settled.push(Happens::Time(400));
            // Nobody has ever seen that timeline.
            settled.extend((0..3).map(|p| Happens::Says(p, if p == primary_at { 9 } else { 0 })));
        }
        let mut told = None;
        for happens in history.into_iter().chain(settled) {
            let mut answered = None;
            match happens {
                Happens::Time(ms) => {
                    now += Duration::from_millis(ms);
                    for (place, ..) in lookout.begin(now) {
                        prop_assert!(!std::mem::replace(&mut asked[place], true), "asked twice");
                    }
                }
                Happens::Says(place, timeline) if std::mem::take(&mut asked[place]) => {
                    lookout.take(place, says(timeline), None, ROUND);
                    answered = Some(place);
                }
                Happens::Silent(place) if std::mem::take(&mut asked[place]) => {
                    lookout.take(place, silent(), None, ROUND);
                    answered = Some(place);
                }
                Happens::Ends(place) => lookout.lose(place),
                Happens::Says(..) | Happens::Silent(_) => continue,
            }
            match lookout.judge(answered, now) {
                Some(Hosts::Primary(at, ..)) => {
                    prop_assert_eq!(Some(at), answered.map(|p| server(u8::try_from(p).unwrap())));
                    told = Some(at);
                }
                Some(Hosts::Several(all, said)) => {
                    let said = said.is_none_or(|said| all.iter().any(|(at, _)| *at == said));
                    prop_assert!(said);
                    told = None;
                }
                Some(Hosts::Lost(..)) => told = None,
                None => {}
            }
        }
        prop_assert_eq!(told, Some(server(u8::try_from(primary_at).unwrap())));
    }
}
