use super::*;

#[test]
fn bytes_are_said_as_postgresql_says_them() {
    // pg_size_pretty(0), (96), (10239), (10240), (20480), (10485760), (5 * 1024^4)
    for (number, said) in [
        (0, "0 B"),
        (96, "96 B"),
        (10_239, "10239 B"),
        (10_240, "10 kB"),
        (20_480, "20 kB"),
        (10_485_760, "10 MB"),
        (5 << 40, "5120 GB"),
        (u64::MAX, "16777216 TB"),
    ] {
        assert_eq!(bytes(number), said);
    }
}

#[test]
fn lengths_of_time_have_the_units_that_matter() {
    for (ms, said) in [
        (0, "0 ms"),
        (999, "999 ms"),
        (1_000, "1 s"),
        (59_999, "59 s"),
        (60_000, "1 min"),
        (61_000, "1 min 1 s"),
        (601_000, "10 min"),
        (3_600_000, "1 h"),
        (3_900_000, "1 h 5 min"),
        (86_400_000, "1 d"),
        (90_000_000, "1 d 1 h"),
    ] {
        assert_eq!(span(Duration::from_millis(ms)), said);
    }
    assert_eq!(age(100, 112), "12 s");
    assert_eq!(age(112, 100), "0 s", "a clock that was set back");
    assert_eq!(moment(1_795_315_863), "2026-11-22 02:51:03");
}

#[test]
fn who_set_something_is_said_as_far_as_it_is_known() {
    let by = Stamp { by: "alice".to_owned(), at: 1_000 };
    assert_eq!(stamp(&by, 1_720), "by alice 12 min ago");
    assert_eq!(stamp(&Stamp::unknown(), 1_720), "by an operator, of whom no more is known");
}

#[test]
fn a_primary_that_is_no_reader_is_not_missed() {
    use crate::cli::fixture;
    let mut sent = fixture::value();
    let serving =
        |sent: &serde_json::Value| serving(&fixture::read(sent.clone()).services[0].view.servers);
    assert_eq!(serving(&sent), (1, 2));
    sent["services"][0]["servers"][1]["role"] = serde_json::json!("primary");
    sent["services"][0]["servers"][1]["dead"] = serde_json::json!(false);
    assert_eq!(serving(&sent), (1, 1));
    // One that serves because nobody else does counts.
    sent["services"][0]["servers"][1]["withheld"] = serde_json::json!([]);
    assert_eq!(serving(&sent), (2, 2));
}
