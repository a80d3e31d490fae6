use super::*;

#[test]
fn each_host_is_told_of_once_a_minute_for_each_vip() {
    let vip = |last| IpAddr::from([10, 0, 0, last]);
    let mac = |last| Mac::new([2, 0, 0, 0, 0, last]).unwrap();
    let (mut told, now) = (Told::default(), Instant::now());
    assert!(told.is_due(vip(100), mac(1), now));
    assert!(!told.is_due(vip(100), mac(1), now));
    // Others between do not have it told again.
    assert!(told.is_due(vip(100), mac(2), now));
    assert!(told.is_due(vip(101), mac(1), now));
    assert!(!told.is_due(vip(100), mac(1), now + TOLD_AGAIN - Duration::from_millis(1)));
    assert!(told.is_due(vip(100), mac(1), now + TOLD_AGAIN));
}
