use super::*;

fn at(begin: Instant, id: i64, server: &str, millis: u64) -> Acknowledged {
    let sent = begin + Duration::from_millis(millis);
    let (timeline, lsn) = (Timeline::new(1), Lsn::new(millis));
    let at = sent + Duration::from_millis(1);
    Acknowledged { id, server: server.to_owned(), timeline, lsn, sent, at }
}

/// A checker that finds nothing wrong with what is wrong would prove nothing.
#[test]
fn planted_violations_are_found() {
    let begin = Instant::now();
    let good = [at(begin, 1, "db1", 0), at(begin, 2, "db1", 10), at(begin, 3, "db2", 20)];
    let [soon, late] = [10, 30].map(|millis| begin + Duration::from_millis(millis));
    nothing_after(&good, late).unwrap();
    assert!(nothing_after(&good, soon).is_err());
}
