//! The question of a probe that speaks, and its answer (PostgreSQL documentation, "Message Formats").

use pgha_machine::balancer::ProbeFinding;

#[cfg(test)]
mod tests;

/// Protocol 3.0, which every server speaks since PostgreSQL 7.4.
const PROTOCOL: u32 = 3 << 16;

/// A startup message. PostgreSQL answers it by an authentication request, or says that it takes no
/// sessions: that is decided before anybody has to prove who he is.
#[must_use]
pub fn message(user: &str, database: &str) -> Vec<u8> {
    let parameters = [("user", user), ("database", database), ("application_name", "pgha probe")];
    let mut body = PROTOCOL.to_be_bytes().to_vec();
    for text in parameters.iter().flat_map(|(name, value)| [name, value]) {
        body.extend(text.bytes());
        body.push(0);
    }
    body.push(0);
    let length = u32::try_from(body.len() + size_of::<u32>()).unwrap_or_default();
    [&length.to_be_bytes()[..], &body].concat()
}

/// What the first bytes of an answer show.
pub(super) fn answer(bytes: &[u8]) -> ProbeFinding {
    match bytes {
        // An authentication request, or a newer server's offer of an older protocol.
        [b'R' | b'v', ..] => ProbeFinding::Open,
        [b'E', _, _, _, _, fields @ ..] => refusal(fields),
        _ => ProbeFinding::Failing("what answers on the VIP is no PostgreSQL".to_owned()),
    }
}

/// An error. A server that starts up or shuts down says so (SQLSTATE 57P03), and gives nobody a session. One
/// that lacks resources or is intervened on (classes 53 and 57) may give the next one; any other is about
/// the login of the probe.
fn refusal(fields: &[u8]) -> ProbeFinding {
    let field = |wanted: u8| {
        let mut each = fields.split(|byte| *byte == 0);
        let found = each.find_map(|field| field.strip_prefix(&[wanted]))?;
        Some(String::from_utf8_lossy(found).into_owned())
    };
    let (code, message) = (field(b'C').unwrap_or_default(), field(b'M').unwrap_or_default());
    let told = || format!("{message} (SQLSTATE {code})");
    if code == "57P03" {
        ProbeFinding::NotAccepting(told())
    } else if code.starts_with("53") || code.starts_with("57") {
        ProbeFinding::Failing(told())
    } else {
        ProbeFinding::Open
    }
}
