//! What etcd's JSON gateway is asked, and what it answers (etcd documentation, "gRPC gateway"): protobuf's
//! messages with bytes in base64, 64-bit numbers as text, and everything that is zero left out.

#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::body::Bytes;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};

use super::error::Code;

pub(super) const TXN: &str = "/v3/kv/txn";
pub(super) const RANGE: &str = "/v3/kv/range";
pub(super) const WATCH: &str = "/v3/watch";
pub(super) const AUTHENTICATE: &str = "/v3/auth/authenticate";
pub(super) const STATUS: &str = "/v3/maintenance/status";
pub(super) const MEMBERS: &str = "/v3/cluster/member/list";

/// Where the answer to a transaction that reads both has each.
const INCARNATION: usize = 0;
const RECORD: usize = 1;

fn coded(bytes: impl AsRef<[u8]>) -> String {
    STANDARD.encode(bytes)
}

fn body(value: &Value) -> Bytes {
    value.to_string().into()
}

/// Without `serializable`, so every read is linearizable.
fn range(key: &str) -> Value {
    json!({ "requestRange": { "key": coded(key) } })
}

fn put(key: &str, value: &[u8]) -> Value {
    json!({ "requestPut": { "key": coded(key), "value": coded(value) } })
}

/// A key that is not there has revision 0.
fn is_at(key: &str, revision: u64) -> Value {
    json!({
        "target": "MOD", "result": "EQUAL", "key": coded(key), "modRevision": revision.to_string(),
    })
}

/// The incarnation and the record, as they are at one moment.
pub(super) fn read(incarnation: &str, key: &str) -> Bytes {
    body(&json!({ "success": [range(incarnation), range(key)] }))
}

/// Puts a value where both are what they were; else reads both.
pub(super) fn replace(
    (incarnation, is): (&str, &[u8]),
    (key, revision): (&str, u64),
    value: &[u8],
) -> Bytes {
    let same = json!({ "target": "VALUE", "result": "EQUAL", "key": coded(incarnation), "value": coded(is) });
    body(&json!({
        "compare": [same, is_at(key, revision)],
        "success": [put(key, value)],
        "failure": [range(incarnation), range(key)],
    }))
}

/// Reads both, as a request that might put something and never does: the key would have to be at a revision that
/// none reaches. etcd asks for permission and space all the same, and its history does not grow.
pub(super) fn could_replace(incarnation: &str, key: &str) -> Bytes {
    body(&json!({
        "compare": [is_at(key, i64::MAX.unsigned_abs())],
        "success": [put(key, b"")],
        "failure": [range(incarnation), range(key)],
    }))
}

/// Puts a value where the key is still at that revision.
pub(super) fn put_over(key: &str, revision: u64, value: &[u8]) -> Bytes {
    body(&json!({ "compare": [is_at(key, revision)], "success": [put(key, value)] }))
}

/// One key, whatever is there.
pub(super) fn look(key: &str) -> Bytes {
    body(&json!({ "key": coded(key) }))
}

/// Every change of a key from that revision of the store on.
pub(super) fn follow(key: &str, from: u64) -> Bytes {
    body(&json!({ "create_request": { "key": coded(key), "start_revision": from.to_string() } }))
}

pub(super) fn login(user: &str, password: &str) -> Bytes {
    body(&json!({ "name": user, "password": password }))
}

pub(super) fn nothing() -> Bytes {
    Bytes::from_static(b"{}")
}

/// What comes with every answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub(super) struct Header {
    #[serde(default, deserialize_with = "number")]
    pub(super) cluster_id: u64,
    #[serde(default, deserialize_with = "number")]
    pub(super) member_id: u64,
    /// How many changes the whole store has seen.
    #[serde(default, deserialize_with = "number")]
    pub(super) revision: u64,
}

/// An answer of which only that matters.
#[derive(Debug, Deserialize)]
pub(super) struct HeaderAnswer {
    pub(super) header: Header,
}

#[derive(Debug, Deserialize)]
pub(super) struct TxnAnswer {
    pub(super) header: Header,
    #[serde(default)]
    pub(super) succeeded: bool,
    #[serde(default)]
    responses: Vec<OpAnswer>,
}

#[derive(Debug, Deserialize)]
struct OpAnswer {
    response_range: Option<RangeAnswer>,
}

#[derive(Debug, Default, Deserialize)]
struct RangeAnswer {
    #[serde(default)]
    kvs: Vec<Record>,
}

/// What is under a key.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Record {
    #[serde(deserialize_with = "number")]
    pub(super) mod_revision: u64,
    #[serde(default, deserialize_with = "decoded")]
    pub(super) value: Vec<u8>,
}

impl TxnAnswer {
    /// Of an answer with both reads: the incarnation, and the record. `None` where nothing is.
    pub(super) fn both(mut self) -> Option<[Option<Record>; 2]> {
        let mut take = |index: usize| {
            Some(self.responses.get_mut(index)?.response_range.take()?.kvs.into_iter().next())
        };
        Some([take(INCARNATION)?, take(RECORD)?])
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct Token {
    pub(super) token: String,
}

/// How a member sees itself and the others.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct StatusAnswer {
    pub(super) header: Header,
    #[serde(default)]
    pub(super) version: String,
    /// 0: it knows none.
    #[serde(default, deserialize_with = "number")]
    pub(super) leader: u64,
    /// Alarms: out of space, or damaged.
    #[serde(default)]
    pub(super) errors: Vec<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct MembersAnswer {
    #[serde(default)]
    pub(super) members: Vec<MemberAnswer>,
}

#[derive(Debug, Deserialize)]
pub(super) struct MemberAnswer {
    /// Not one that votes.
    #[serde(default, rename = "isLearner")]
    pub(super) learner: bool,
}

/// Why a request was refused.
#[derive(Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Refusal {
    #[serde(alias = "error")]
    pub(super) message: String,
    pub(super) code: Code,
}

impl Refusal {
    pub(super) fn read(body: &[u8]) -> Option<Self> {
        // etcd 3.4 says it twice, as `error` and as `message`.
        let mut value: Value = serde_json::from_slice(body).ok()?;
        let fields = value.as_object_mut()?;
        if fields.contains_key("message") {
            fields.remove("error");
        }
        serde_json::from_value(value).ok()
    }
}

fn number<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
    let text = Cow::<str>::deserialize(from)?;
    u64::from_str(&text).map_err(D::Error::custom)
}

fn decoded<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
    STANDARD.decode(&*Cow::<str>::deserialize(from)?).map_err(D::Error::custom)
}
