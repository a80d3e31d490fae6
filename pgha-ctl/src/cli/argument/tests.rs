use std::num::NonZeroU64;

use super::*;

#[test]
fn what_is_no_value_is_told_with_what_would_be_one() {
    assert_eq!(time("90s"), Ok(Duration::from_secs(90)));
    for text in ["soon", "90", "-1s", ""] {
        assert!(time(text).unwrap_err().contains("90s"), "{text}");
    }
    assert_eq!(address("fd00::4").unwrap().to_string(), "fd00::4");
    for text in ["db4", "10.0.0.4:5432", ""] {
        assert!(address(text).unwrap_err().contains("10.0.0.4"), "{text}");
    }
    assert_eq!(weight("1000"), Ok(Weight::MAX));
    for text in ["x", "-1", "1001", "1.5"] {
        assert!(weight(text).unwrap_err().contains("0 to 1000"), "{text}");
    }
    assert_eq!(at_least_one::<NonZeroU64>("7").unwrap().get(), 7);
    for text in ["0", "-1", "x"] {
        assert_eq!(at_least_one::<NonZeroU64>(text), Err("give a whole number above 0"), "{text}");
    }
}
