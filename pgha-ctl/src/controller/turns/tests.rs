use futures_util::poll;

use super::*;

#[tokio::test]
async fn a_few_are_at_work_and_the_others_wait_in_order() {
    let turns = Turns::default();
    let (first, second) = (turns.next().await, turns.next().await);
    let mut third = Box::pin(turns.next());
    let mut fourth = Box::pin(turns.next());
    let mut fifth = Box::pin(turns.next());
    assert!(poll!(&mut third).is_pending() && poll!(&mut fourth).is_pending());
    assert!(poll!(&mut fifth).is_pending());
    // Who leaves takes nobody's turn with him.
    drop(third);
    drop(first);
    let fourth = fourth.await;
    assert!(poll!(&mut fifth).is_pending());
    drop((second, fourth));
    fifth.await;
}
