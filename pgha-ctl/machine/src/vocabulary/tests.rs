use proptest::prelude::*;

use super::{Lsn, Mac, NodeName, Weight};

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
