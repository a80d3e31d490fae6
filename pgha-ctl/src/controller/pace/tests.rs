use super::*;

#[test]
fn who_comes_up_waits_and_who_is_gone_does_not() {
    let start = Instant::now();
    let after = |millis| start + Duration::from_millis(millis);
    let mut pace = Pace::new(start);
    assert_eq!(pace.due(), None);
    pace.want();
    assert_eq!(pace.due(), Some(start), "nothing was written before");
    pace.written(after(1), after(51));
    assert_eq!(pace.due(), None);
    pace.want();
    assert_eq!(pace.due(), Some(after(251)));
    pace.hasten(after(70));
    pace.want();
    assert_eq!(pace.due(), Some(after(70)), "what comes later makes nobody wait");
    pace.written(after(100), after(2_100));
    pace.want();
    assert_eq!(pace.due(), Some(after(3_100)), "a second at most");
    pace.written(after(3_100), after(3_105));
    pace.want();
    assert_eq!(pace.due(), Some(after(3_105)), "after a short one it need not wait");
}
