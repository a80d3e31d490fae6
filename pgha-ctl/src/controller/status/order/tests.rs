use super::super::ReaderRequest;
use super::*;

fn read(text: &str) -> Result<OrderRequest, String> {
    serde_json::from_str(text).map_err(|error| error.to_string())
}

#[test]
fn an_order_is_read_as_it_is_written() {
    let weight = |weight| OrderKind::Weight { weight };
    for order in [
        weight(Some("7".parse().unwrap())),
        weight(None),
        OrderKind::Drain { reset_after_ms: None },
        OrderKind::Drain { reset_after_ms: Some(5) },
        OrderKind::Undrain,
    ] {
        for service in [None, Some("reader".to_owned())] {
            let request = OrderRequest { server: "db2".to_owned(), service, order };
            let text = serde_json::to_string(&request).unwrap();
            assert_eq!(read(&text), Ok(request), "{text}");
        }
    }
    let short = read(r#"{"server":"db2","order":"drain"}"#).unwrap();
    assert_eq!(short.order, OrderKind::Drain { reset_after_ms: None });
}

#[test]
fn what_is_misspelt_or_missing_is_no_order() {
    for (text, why) in [
        (r#"{"server":"db2","order":"weight"}"#, "takes the key `weight`: 0 to 1000, or null"),
        (r#"{"server":"db2","order":"weight","wieght":0}"#, "unknown field `wieght`"),
        (r#"{"server":"db2","order":"weight","weight":1001}"#, "1001"),
        (r#"{"server":"db2","order":"drain","reset_after":5}"#, "unknown field `reset_after`"),
        (
            r#"{"server":"db2","order":"drain","weight":0}"#,
            "`weight` is only of the order `weight`",
        ),
        (
            r#"{"server":"db2","order":"undrain","reset_after_ms":null}"#,
            "`reset_after_ms` is only of the order `drain`",
        ),
        (r#"{"server":"db2","order":"drain","servcie":"reader"}"#, "unknown field `servcie`"),
        (r#"{"server":"db2","order":"drian"}"#, "unknown variant `drian`"),
        (r#"{"order":"drain"}"#, "missing field `server`"),
    ] {
        let error = read(text).unwrap_err();
        assert!(error.contains(why), "{text}: {error}");
    }
}

#[test]
fn misspelt_keys_of_readers_are_refused() {
    let reader = r#"{"add":{"address":"10.0.0.1","wieght":0}}"#;
    let error = serde_json::from_str::<ReaderRequest>(reader).unwrap_err().to_string();
    assert!(error.contains("unknown field `wieght`"), "{error}");
}
