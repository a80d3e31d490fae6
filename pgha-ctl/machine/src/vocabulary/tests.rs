use std::time::Duration;

use proptest::prelude::*;

use super::{EffectiveWeight, Lsn, Mac, Moment, NodeName, Weight};

#[test]
fn lsn_is_shown_and_read_as_postgresql_does() {
    assert_eq!("16/B374D848".parse::<Lsn>().unwrap().to_string(), "16/B374D848");
    for wrong in ["", "/", "1", "1/", "/1", "1/2/3", "+1/0", "g/0", "123456789/0"] {
        assert!(wrong.parse::<Lsn>().is_err(), "{wrong:?} was taken");
    }
}

#[test]
fn mac_takes_only_the_address_of_one_interface() {
    for wrong in
        ["", "52:54:00:12:34", "52:54:00:12:34:56:78", "5:54:00:12:34:56", "+2:54:00:12:34:56"]
    {
        assert!(wrong.parse::<Mac>().is_err(), "{wrong:?} was taken");
    }
    assert!("ff:ff:ff:ff:ff:ff".parse::<Mac>().is_err());
    assert!("00:00:00:00:00:00".parse::<Mac>().is_err());
    assert!("01:00:5e:00:00:01".parse::<Mac>().is_err());
}

#[test]
fn weight_ends_at_its_maximum() {
    assert_eq!("1000".parse::<Weight>().unwrap(), Weight::MAX);
    assert!("1001".parse::<Weight>().is_err());
    assert!("-1".parse::<Weight>().is_err());
}

#[test]
fn node_names_fit_an_application_name() {
    for right in ["db1", "10.0.0.4", "a_b-c.d", &"x".repeat(63)] {
        assert!(right.parse::<NodeName>().is_ok(), "{right:?} was refused");
    }
    for wrong in ["", "-a", "a b", "ä", &"x".repeat(64)] {
        assert!(wrong.parse::<NodeName>().is_err(), "{wrong:?} was taken");
    }
}

#[test]
fn effective_weights_are_shown_as_decimal_numbers() {
    for (thousandths, text) in [
        (0, "0"),
        (1, "0.1"),
        (100, "0.1"),
        (125, "0.125"),
        (1_000, "1"),
        (2_500, "2.5"),
        (u32::MAX, "1000"),
    ] {
        assert_eq!(EffectiveWeight::from_thousandths(thousandths).to_string(), text);
    }
    assert_eq!(EffectiveWeight::new(1_000), Some(EffectiveWeight::MAX));
    assert_eq!(EffectiveWeight::new(1_001), None);
    assert_eq!(EffectiveWeight::MAX.part(2_000), EffectiveWeight::MAX);
    assert_eq!(
        EffectiveWeight::ONE.part(0),
        EffectiveWeight::LEAST,
        "a part of something is something"
    );
    assert_eq!(EffectiveWeight::ZERO.part(1_000), EffectiveWeight::ZERO);
}

#[test]
fn effective_weights_are_json_numbers() {
    for (thousandths, text) in [(0, "0"), (125, "0.125"), (3_000, "3"), (2_500, "2.5")] {
        let weight = EffectiveWeight::from_thousandths(thousandths);
        assert_eq!(serde_json::to_string(&weight).unwrap(), text);
        assert_eq!(serde_json::from_str::<EffectiveWeight>(text).unwrap(), weight);
    }
    for wrong in ["-1", "1000.1", "\"1\"", "null"] {
        assert!(serde_json::from_str::<EffectiveWeight>(wrong).is_err(), "{wrong} was taken");
    }
}

#[test]
fn moments_saturate() {
    let (early, late) = (Moment::new(1_000), Moment::new(4_500));
    assert_eq!(late.since(early), Duration::from_millis(3_500));
    assert_eq!(early.since(late), Duration::ZERO);
    assert_eq!(early + Duration::from_millis(3_500), late);
    assert_eq!(early + Duration::MAX, Moment::new(u64::MAX));
    assert_eq!(early - Duration::from_secs(2), Moment::default());
}

proptest! {
    #[test]
    fn lsn_survives_text(bytes: u64) {
        let lsn = Lsn::new(bytes);
        prop_assert_eq!(lsn.to_string().parse::<Lsn>(), Ok(lsn));
    }

    #[test]
    fn mac_survives_text(bytes: [u8; 6]) {
        if let Some(mac) = Mac::new(bytes) {
            prop_assert_eq!(mac.to_string().parse::<Mac>(), Ok(mac));
        }
    }
}
