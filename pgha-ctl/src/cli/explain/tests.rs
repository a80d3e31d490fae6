use super::*;

#[test]
fn an_explanation_is_plain_sentences() {
    let reply: ExplainReply = serde_json::from_value(serde_json::json!({
        "schema": 3, "client": "10.0.0.7:40000",
        "services": [{
            "vip": "10.0.0.100:5432", "service": "reader", "scheduler": "rr",
            "flow": {
                "state": "established", "closing": true, "alive": true, "acknowledgement": 7,
                "server": { "name": "db2", "address": "10.0.0.2", "id": 1 },
            },
            "next": {
                "action": "forward", "reason": "established_flow", "meaning": "Segment of an established flow.",
                "server": { "name": "db2", "address": "10.0.0.2", "id": 1 },
            },
            "connect": { "action": "answer", "reason": "no_server", "meaning": "None.", "server": null },
            "servers": [{
                "name": "db2", "address": "10.0.0.2", "id": 1, "picked": false, "withheld": ["drained"],
                "because": "gets no new connections: drained by an operator",
            }],
        }],
    }))
    .unwrap();
    assert!(reply.names_a_server());
    assert_eq!(
        text(&reply),
        "10.0.0.7:40000 to service reader 10.0.0.100:5432, scheduler rr\n  \
           connection: established, closing, with db2 (10.0.0.2); last acknowledgement 7\n  \
           its next packet: goes to db2 (10.0.0.2) (established_flow: Segment of an established flow.)\n  \
           a new connection: is answered here (no_server: None.)\n  \
           db2 (10.0.0.2) gets no new connections: drained by an operator\n"
    );
}
