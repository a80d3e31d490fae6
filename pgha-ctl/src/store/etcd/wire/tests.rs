use super::*;

/// As etcd 3.4.23 writes it.
const BOTH: &str = r#"{"header":{"cluster_id":"14841639068965178418","member_id":"10276657743932975437","revision":"7","raft_term":"2"},"succeeded":true,"responses":[{"response_range":{"header":{"revision":"7"},"kvs":[{"key":"L3BnaGE=","create_revision":"2","mod_revision":"2","version":"1","value":"AAEC"}],"count":"1"}},{"response_range":{"header":{"revision":"7"}}}]}"#;

#[test]
fn an_answer_is_read_as_etcd_writes_it() {
    let told: TxnAnswer = serde_json::from_str(BOTH).unwrap();
    assert!(told.succeeded);
    assert_eq!((told.header.cluster_id, told.header.revision), (14_841_639_068_965_178_418, 7));
    let [incarnation, record] = told.both().unwrap();
    assert_eq!(incarnation, Some(Record { mod_revision: 2, value: vec![0, 1, 2] }));
    assert_eq!(record, None);
}

#[test]
fn an_empty_value_is_left_out_and_is_one() {
    let record: Record = serde_json::from_str(r#"{"key":"YQ==","mod_revision":"9"}"#).unwrap();
    assert_eq!(record, Record { mod_revision: 9, value: Vec::new() });
}

#[test]
fn an_answer_without_both_reads_is_none() {
    for text in ["{\"header\":{}}", "{\"header\":{},\"responses\":[{\"response_put\":{}}]}"] {
        let told: TxnAnswer = serde_json::from_str(text).unwrap();
        assert!(told.both().is_none(), "{text}");
    }
}

#[test]
fn a_refusal_is_read_in_the_words_of_either_version() {
    let old = br#"{"error":"etcdserver: request timed out","message":"etcdserver: request timed out","code":14}"#;
    let new = br#"{"code":14,"message":"etcdserver: request timed out","details":[]}"#;
    let older = br#"{"error":"etcdserver: request timed out","code":14}"#;
    for text in [&old[..], new, older] {
        let Refusal { message, code } = Refusal::read(text).unwrap();
        assert_eq!(message, "etcdserver: request timed out");
        assert!(!code.is_definite());
    }
    assert_eq!(Refusal::read(b"404 page not found"), None);
    assert!(Refusal::read(br#"{"message":"no space","code":8}"#).unwrap().code.is_definite());
}

#[test]
fn a_write_compares_both_and_reads_both_if_one_is_another() {
    let body = replace(("/i", b"\x00\x01"), ("/k", 5), b"v");
    let text = str::from_utf8(&body).unwrap();
    assert_eq!(
        serde_json::from_str::<Value>(text).unwrap(),
        json!({
            "compare": [
                { "target": "VALUE", "result": "EQUAL", "key": "L2k=", "value": "AAE=" },
                { "target": "MOD", "result": "EQUAL", "key": "L2s=", "modRevision": "5" },
            ],
            "success": [{ "requestPut": { "key": "L2s=", "value": "dg==" } }],
            "failure": [
                { "requestRange": { "key": "L2k=" } },
                { "requestRange": { "key": "L2s=" } },
            ],
        })
    );
}
