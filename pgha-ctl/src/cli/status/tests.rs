use super::*;
use crate::cli::fixture::{self, NOW};
use crate::controller::status::Refusal;

fn refused() -> ClientError {
    Refusal { error: "the controller is ending".to_owned() }.into()
}

#[test]
fn an_interval_is_seconds_or_has_a_unit() {
    assert_eq!(interval("2"), Ok(Duration::from_secs(2)));
    assert_eq!(interval("0.5"), Ok(Duration::from_millis(500)));
    assert_eq!(interval("250ms"), Ok(Duration::from_millis(250)));
    for wrong in ["0", "-1", "1ms", "soon", ""] {
        assert!(interval(wrong).is_err(), "{wrong:?}");
    }
}

#[test]
fn a_controller_that_is_away_ends_no_watch() {
    let mut watched = Watched::new(false);
    let every = Duration::from_secs(2);
    watched.take_in(Err(refused())).unwrap();
    let now = Instant::now();
    assert_eq!(
        watched.shown(every, NOW, now).unwrap(),
        "2026-11-22 03:00:00 UTC, every 2s\npgha: the controller is ending\n"
    );
    watched.take_in(Ok(fixture::status())).unwrap();
    let there = watched.shown(every, NOW, now).unwrap();
    assert!(there.contains("\n\ncluster main: "), "{there}");
    watched.take_in(Err(refused())).unwrap();
    let seen = watched.last.as_ref().unwrap().1;
    let away = watched.shown(every, NOW, seen + Duration::from_secs(7)).unwrap();
    assert!(
        away.contains("pgha: the controller is ending\nwhat was seen 7 s ago:\n\ncluster main: "),
        "{away}"
    );

    // What only a person can mend does end it.
    let path = "/run/pgha/main.sock".into();
    assert!(watched.take_in(Err(ClientError::Permission { path })).is_err());
}

#[test]
fn in_json_each_look_is_one_line() {
    let mut watched = Watched::new(true);
    let line =
        |watched: &Watched| watched.shown(Duration::from_secs(2), NOW, Instant::now()).unwrap();
    assert_eq!(line(&watched), "");
    watched.take_in(Ok(fixture::status())).unwrap();
    let text = line(&watched);
    assert_eq!(text.matches('\n').count(), 1);
    assert_eq!(serde_json::from_str::<Status>(&text).unwrap(), fixture::status());
    watched.take_in(Err(refused())).unwrap();
    assert_eq!(line(&watched), "", "what is old is not told as if it were new");
}

#[test]
fn a_terminal_is_written_over_and_never_scrolled() {
    assert_eq!(over("a\nb\n", 10), "\x1b[Ha\x1b[K\nb\x1b[K\n\x1b[J");
    let high = "line\n".repeat(30);
    let text = over(&high, 10);
    assert_eq!(text.matches('\n').count(), 9, "the last row stays free");
    assert!(
        text.ends_with("... 22 more lines; make the terminal higher\x1b[K\n\x1b[J"),
        "{text:?}"
    );
    assert!(over(&high, 0).ends_with("\x1b[J"));
}
