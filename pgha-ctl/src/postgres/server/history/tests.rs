use std::collections::BTreeMap;
use std::convert::Infallible;

use pgha_machine::{Lsn, Position, Timeline, Wal};

use super::{Histories, HistoryError, NOBODY};

const SEGMENT: u64 = 16 << 20;

fn histories(files: &[(&str, &str)]) -> Histories {
    let texts: BTreeMap<_, _> = files.iter().copied().collect();
    let names = files.iter().map(|(name, _)| (*name).to_owned());
    let read = Histories::read(names, SEGMENT, |name| Ok::<_, Infallible>(texts[name].to_owned()));
    read.unwrap_or_else(|never| match never {})
}

fn at(timeline: u32, lsn: &str) -> Position {
    Position { timeline: Timeline::new(timeline), lsn: lsn.parse().unwrap() }
}

fn lsn(text: &str) -> Lsn {
    text.parse().unwrap()
}

const TWO: (&str, &str) = ("00000002.history", "1\t0/5000100\tno recovery target specified\n");
const FOUR: (&str, &str) = ("00000004.history", "1\t0/5000100\tx\n\n2\t0/7000028\tx\n");

#[test]
fn a_log_is_on_the_newest_timeline_that_has_its_last_byte() {
    let files = [TWO, ("000000010000000000000005", ""), ("000000020000000000000005", "")];
    let wal = |end, left| Wal { end, left };
    let read = histories(&files);
    assert_eq!(
        read.received(lsn("0/5000200")),
        Ok(wal(at(2, "0/5000200"), vec![at(1, "0/5000100")]))
    );
    // The file of the new timeline begins with what the old one had.
    assert_eq!(read.received(lsn("0/5000100")), Ok(wal(at(1, "0/5000100"), vec![])));
    assert_eq!(read.received(lsn("0/5000080")), Ok(wal(at(1, "0/5000080"), vec![])));
}

#[test]
fn the_end_of_a_file_is_in_it() {
    let read = histories(&[("000000010000000000000005", "")]);
    assert_eq!(read.received(lsn("0/6000000")).unwrap().end, at(1, "0/6000000"));
    assert_eq!(read.received(lsn("0/6000001")), Err(HistoryError::NoFile(lsn("0/6000001"))));
    let far = histories(&[("0000000100000002000000FF", "")]);
    assert_eq!(far.received(lsn("3/0")).unwrap().end, at(1, "3/0"));
}

#[test]
fn a_primary_is_on_what_it_writes() {
    let read = histories(&[FOUR]);
    let wal = read.written(Timeline::new(4), lsn("0/7000028")).unwrap();
    assert_eq!(wal.left, [at(1, "0/5000100"), at(2, "0/7000028")]);
    assert_eq!(wal.end, at(4, "0/7000028"));
}

#[test]
fn what_was_never_received_of_a_parent_is_not_claimed() {
    let read = histories(&[("00000003.history", "1\t0/9000000\tx\n2\t0/8000000\tx\n")]);
    assert_eq!(read.left(Timeline::new(3)).unwrap(), [at(1, "0/8000000"), at(2, "0/8000000")]);
}

#[test]
fn a_line_that_is_none_is_named() {
    let read = histories(&[("00000003.history", "1\tnowhere\n")]);
    let error = read.left(Timeline::new(3)).unwrap_err();
    assert_eq!(error, HistoryError::Line { timeline: Timeline::new(3), line: "1\tnowhere".into() });
    assert!(error.to_string().starts_with("00000003.history says \"1\\tnowhere\""), "{error}");
}

#[test]
fn the_numbers_below_the_ordered_one_are_filled() {
    let missing = histories(&[]).missing(Timeline::new(1), Timeline::new(4)).unwrap();
    let nobody = format!("{NOBODY}\n");
    let expected = [(Timeline::new(2), nobody.clone()), (Timeline::new(3), nobody)];
    assert_eq!(missing, BTreeMap::from(expected));
    assert_eq!(histories(&[]).missing(Timeline::new(1), Timeline::new(2)), Ok(BTreeMap::new()));
}

#[test]
fn a_parent_without_a_file_gets_what_its_child_says() {
    // As on a node that was copied on timeline 4: it has that one's file only.
    let missing = histories(&[FOUR]).missing(Timeline::new(4), Timeline::new(5)).unwrap();
    assert_eq!(missing.keys().map(|t| t.get()).collect::<Vec<_>>(), [2, 3]);
    assert!(missing[&Timeline::new(2)].starts_with("1\t0/5000100\t"));
    assert!(missing[&Timeline::new(3)].starts_with(NOBODY));
}

#[test]
fn a_number_that_is_known_is_refused() {
    let taken = |newest| {
        let ordered = Timeline::new(2);
        Err(HistoryError::Taken { ordered, newest: Timeline::new(newest) })
    };
    assert_eq!(histories(&[]).missing(Timeline::new(2), Timeline::new(2)), taken(2));
    assert_eq!(histories(&[TWO]).missing(Timeline::new(1), Timeline::new(2)), taken(2));
    // Not one after the other: PostgreSQL would take 2, and write over what somebody else is on.
    assert_eq!(histories(&[FOUR]).missing(Timeline::new(1), Timeline::new(2)), taken(4));
}

#[test]
fn what_fills_gaps_below_nothing_is_unused() {
    let three = ("00000003.history", NOBODY);
    let unused = |files: &[_]| {
        histories(files).unused().iter().map(|timeline| timeline.get()).collect::<Vec<_>>()
    };
    assert_eq!(unused(&[TWO, three]), [3]);
    assert_eq!(unused(&[("00000002.history", NOBODY), three]), [3, 2]);
    assert_eq!(unused(&[TWO, three, FOUR]), [0; 0]);
    // A timeline that has WAL was begun, whatever became of its file.
    assert_eq!(unused(&[three, ("000000040000000000000005", "")]), [0; 0]);
}
