use pgha_machine::balancer::Claim;
use std::net::Ipv4Addr;

use pgha_machine::Timeline;

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
    assert!(matches!(several, Some(Hosts::Several(_))), "{several:?}");
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
