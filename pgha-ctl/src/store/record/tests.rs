use super::*;

#[test]
fn a_mark_is_read_as_it_is_written() {
    let mark = Mark { incarnation: Incarnation([0xab; 16]), revision: u64::MAX };
    assert_eq!(mark.to_string().parse(), Ok(mark));
    assert_eq!(mark.to_string(), format!("{}.18446744073709551615", "ab".repeat(16)));
    let hex = "0".repeat(32);
    for wrong in [
        String::new(),
        hex.clone(),
        format!("{hex}."),
        format!("{hex}.-1"),
        format!("{hex}.+1"),
        format!("{hex}.18446744073709551616"),
        format!("0{hex}.1"),
        format!("+{}.1", "0".repeat(31)),
        format!("{}.1", "é".repeat(16)),
    ] {
        assert_eq!(wrong.parse::<Mark>(), Err(ParseMarkError(wrong.clone())));
    }
}

#[test]
fn a_store_made_anew_is_later() {
    let mark =
        |incarnation, revision| Mark { incarnation: Incarnation([incarnation; 16]), revision };
    assert!(mark(1, 2).is_after(mark(1, 1)));
    assert!(!mark(1, 1).is_after(mark(1, 1)) && !mark(1, 0).is_after(mark(1, 1)));
    assert!(mark(2, 0).is_after(mark(1, 9)));
}

#[test]
fn keys_are_plain() {
    for legal in ["orders", "a", "lease_2", &"k".repeat(MAX_KEY)] {
        assert_eq!(legal.parse::<Key>().unwrap().as_str(), legal);
    }
    for wrong in ["", "Orders", "a/b", "..", "a b", "ä", &"k".repeat(MAX_KEY + 1)] {
        assert!(wrong.parse::<Key>().is_err(), "{wrong}");
    }
}

#[test]
fn incarnations_differ() {
    assert_ne!(Incarnation::draw().unwrap(), Incarnation::draw().unwrap());
}
