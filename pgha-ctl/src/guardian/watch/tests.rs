use std::time::Duration;

use proptest::prelude::*;

use super::*;

const T: Moment = Moment::new(1000);

fn after(milliseconds: u64) -> Moment {
    T + Duration::from_millis(milliseconds)
}

#[test]
fn the_moment_comes_once() {
    let mut watch = Watch::default();
    assert_eq!((watch.due(), watch.over(after(9000))), (None, None));
    watch.guard(7, after(100)).unwrap();
    assert_eq!((watch.due(), watch.over(after(99))), (Some(after(100)), None));
    assert_eq!(watch.over(after(100)), Some(7));
    assert_eq!((watch.over(after(101)), watch.due()), (None, None));
    assert_eq!(watch.renew(7, after(500)), Err(Refusal::Nothing));
}

#[test]
fn a_renewal_moves_the_moment_for_its_start_only() {
    let mut watch = Watch::default();
    watch.guard(7, after(100)).unwrap();
    watch.renew(7, after(300)).unwrap();
    assert_eq!(watch.renew(8, after(900)), Err(Refusal::OtherStart { guarded: 7 }));
    assert_eq!(watch.over(after(299)), None);
    watch.renew(7, after(200)).unwrap();
    assert_eq!(watch.over(after(299)), Some(7));
}

#[test]
fn an_agent_that_is_back_goes_on_and_another_start_is_refused() {
    let mut watch = Watch::default();
    watch.guard(7, after(100)).unwrap();
    assert_eq!(watch.guard(8, after(900)), Err(Refusal::OtherStart { guarded: 7 }));
    watch.guard(7, after(200)).unwrap();
    assert_eq!(watch.due(), Some(after(200)));
}

#[test]
fn who_stands_down_guards_nothing() {
    let mut watch = Watch::default();
    assert_eq!(watch.stand_down(7), Ok(()));
    watch.guard(7, after(100)).unwrap();
    assert_eq!(watch.stand_down(8), Err(Refusal::OtherStart { guarded: 7 }));
    watch.stand_down(7).unwrap();
    assert!(watch.is_idle());
    assert_eq!(watch.over(after(9000)), None);
    watch.guard(8, after(900)).unwrap();
}

#[derive(Clone, Debug)]
enum Order {
    Guard(u64, u64),
    Renew(u64, u64),
    StandDown(u64),
    Wait(u64),
}

fn any_order() -> impl Strategy<Value = Order> {
    let (start, span) = (0..3_u64, 0..500_u64);
    prop_oneof![
        (start.clone(), span.clone()).prop_map(|(start, span)| Order::Guard(start, span)),
        (start.clone(), span.clone()).prop_map(|(start, span)| Order::Renew(start, span)),
        start.prop_map(Order::StandDown),
        span.prop_map(Order::Wait),
    ]
}

proptest! {
    /// Whatever was promised last for a start is kept: it is given up at that moment, unless a newer moment or the
    /// word to stand down came before it.
    #[test]
    fn the_last_word_before_the_moment_counts(orders in prop::collection::vec(any_order(), 1..60)) {
        let mut watch = Watch::default();
        let (mut now, mut promised) = (T, None);
        for order in orders {
            if let Order::Wait(span) = order {
                now = now + Duration::from_millis(span);
            }
            let due = promised.filter(|(_, until)| *until <= now);
            prop_assert_eq!(watch.over(now), due.map(|(start, _)| start));
            if due.is_some() {
                promised = None;
            }
            let until = |span| now + Duration::from_millis(span);
            match order {
                Order::Guard(start, span) => {
                    if watch.guard(start, until(span)).is_ok() {
                        promised = Some((start, until(span)));
                    }
                }
                Order::Renew(start, span) => {
                    let known = promised.is_some_and(|(guarded, _)| guarded == start);
                    prop_assert_eq!(watch.renew(start, until(span)).is_ok(), known);
                    if known {
                        promised = Some((start, until(span)));
                    }
                }
                Order::StandDown(start) => {
                    if watch.stand_down(start).is_ok() {
                        promised = None;
                    }
                }
                Order::Wait(_) => {}
            }
            prop_assert_eq!(watch.due(), promised.map(|(_, until)| until));
        }
    }
}
