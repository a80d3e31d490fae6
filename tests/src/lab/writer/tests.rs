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
    nothing_is_lost(&good, &[1, 2, 3, 4].into()).unwrap();
    assert!(nothing_is_lost(&good, &[1, 3].into()).unwrap_err().to_string().contains("id: 2"));

    one_at_a_time(&good, 2).unwrap();
    assert!(one_at_a_time(&good, 1).is_err());
    let both = [good.to_vec(), vec![at(begin, 4, "db1", 15), at(begin, 5, "db2", 12)]].concat();
    assert!(one_at_a_time(&both, 2).is_err());

    let [soon, late] = [10, 30].map(|millis| begin + Duration::from_millis(millis));
    nothing_after(&good, late).unwrap();
    assert!(nothing_after(&good, soon).is_err());
}
