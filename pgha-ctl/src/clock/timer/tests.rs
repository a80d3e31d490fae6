use super::*;
use crate::clock::now;

/// It comes at its moment and not before, by the clock that it is set by.
#[tokio::test]
async fn it_comes_at_its_moment() {
    let timer = Timer::new().unwrap();
    let moment = now() + Duration::from_millis(30);
    timer.set(Some(moment)).unwrap();
    timer.elapsed().await.unwrap();
    assert!(now() >= moment, "{:?} before {moment:?}", now());
}

/// A moment that has passed, again and again, keeps nobody else from their turn.
#[tokio::test]
async fn who_asks_for_the_past_leaves_others_their_turn() {
    let timer = Timer::new().unwrap();
    let other = tokio::spawn(async { tokio::time::sleep(Duration::from_millis(5)).await });
    while !other.is_finished() {
        timer.set(Some(Moment::new(0))).unwrap();
        timer.elapsed().await.unwrap();
    }
}
