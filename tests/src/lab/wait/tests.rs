use std::cell::Cell;

use super::*;

#[test]
fn what_is_not_yet_true_or_known_is_waited_for() {
    let looks = Cell::new(0);
    let seen = wait_for("the third look", SOON, || {
        looks.set(looks.get() + 1);
        match looks.get() {
            1 => bail!("nobody knows"),
            2 => Ok(None),
            look => Ok(Some(look)),
        }
    });
    assert_eq!((seen.unwrap(), looks.get()), (3, 3));
}

#[test]
fn a_deadline_tells_what_was_seen_last() {
    let never = || -> Result<Option<()>> { bail!("grey") };
    let error = wait_for("blue", Duration::ZERO, never).unwrap_err().to_string();
    assert!(error.contains("for blue") && error.ends_with("last seen: grey"), "{error}");
    let error = hold_until("blue", Duration::ZERO, || Ok(()), never).unwrap_err().to_string();
    assert!(error.contains("for blue") && error.ends_with("last seen: grey"), "{error}");
}

#[test]
fn a_broken_invariant_ends_the_wait_though_it_would_hold_again() {
    let looks = Cell::new(0);
    let held = hold_until(
        "the ninth look",
        SOON,
        || if looks.get() == 4 { bail!("broken at look {}", looks.get()) } else { Ok(()) },
        || {
            looks.set(looks.get() + 1);
            Ok((looks.get() == 9).then_some(()))
        },
    );
    let error = format!("{:#}", held.unwrap_err());
    assert_eq!(error, "it did not hold until the ninth look: broken at look 4");
    assert_eq!(looks.get(), 4);
}

#[test]
fn an_invariant_is_watched_where_the_condition_fails_and_where_it_is_true() {
    let broken = || -> Result<()> { bail!("broken") };
    let unknown = || -> Result<Option<()>> { bail!("nobody knows") };
    for held in [
        hold_until("an answer", SOON, broken, unknown),
        hold_until("an answer", SOON, broken, || Ok(Some(()))),
    ] {
        let error = format!("{:#}", held.unwrap_err());
        assert_eq!(error, "it did not hold until an answer: broken");
    }
}

#[test]
fn what_holds_until_the_condition_is_true_yields_its_value() {
    let looks = Cell::new(0);
    let condition = || {
        looks.set(looks.get() + 1);
        Ok((looks.get() == 3).then_some("there"))
    };
    assert_eq!(hold_until("three looks", SOON, || Ok(()), condition).unwrap(), "there");
}
