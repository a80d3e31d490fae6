use super::*;

#[tokio::test]
async fn who_leaves_while_the_store_is_opened_keeps_it_from_nobody() {
    for _ in 0..20 {
        let folder = tempfile::tempdir().unwrap();
        let slot = Slot::new(&folder.path().join("main.store"));
        let key: Key = "a".parse().unwrap();
        let mut leaving = Box::pin(slot.get(&key));
        // Polled once, so that it has begun.
        assert!(futures_util::poll!(&mut leaving).is_pending());
        drop(leaving);
        assert_eq!(slot.get(&key).await.unwrap().value, None);
    }
}
