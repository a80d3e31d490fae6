use super::*;

#[test]
fn only_the_beginning_of_a_watch_is_no_news() {
    let began: &[u8] = br#"{"result":{"header":{"revision":"2"},"created":true}}"#;
    assert_eq!(meaning(began), None);
    for news in [
        &br#"{"result":{"header":{},"events":[{"kv":{"key":"YQ==","mod_revision":"3"}}]}}"#[..],
        br#"{"result":{"header":{},"created":true,"events":[{}]}}"#,
    ] {
        assert_eq!(meaning(news), Some(News::Change), "{}", String::from_utf8_lossy(news));
    }
    for end in [
        &br#"{"result":{"header":{},"created":true,"canceled":true}}"#[..],
        br#"{"result":{"header":{},"canceled":true,"compact_revision":"9"}}"#,
        br#"{"error":{"grpc_code":14,"message":"etcdserver: no leader"}}"#,
        b"no JSON",
    ] {
        let said = meaning(end);
        assert!(matches!(said, Some(News::Ended(_))), "{said:?}");
    }
}
