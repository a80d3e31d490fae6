//! PostgreSQL's protocol before a session is there (PostgreSQL documentation, "Message Flow" and
//! "Message Formats").

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio_postgres::error::SqlState;

/// SSLRequest: its length and the code.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];
/// Version 3.0 of the protocol.
const VERSION: u32 = 196_608;
/// Terminate.
const TERMINATE: [u8; 5] = [b'X', 0, 0, 0, 4];
/// No message before ReadyForQuery is longer; libpq has the same limit for errors at this time.
const LONGEST: usize = 30_000;
/// A request for a password and most errors are shorter, and come in one read.
const USUAL: usize = 1_024;

/// What a server answers to a StartupMessage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Welcome {
    /// It has a process for the session, and lets it in or asks who it is.
    Taken,
    /// It refuses.
    Refused(SqlState, String),
}

/// Asks for TLS; whether it is taken.
pub(super) async fn ask_for_tls(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
) -> io::Result<bool> {
    stream.write_all(&SSL_REQUEST).await?;
    match stream.read_u8().await? {
        b'S' => Ok(true),
        b'N' => Ok(false),
        other => Err(strange(&format!("{other:#04x} in answer to an SSLRequest"))),
    }
}

/// Begins a session and leaves when the server has shown what it does with new ones: before a
/// password is asked for, or in an orderly way when none is.
pub(super) async fn knock(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    user: &str,
    dbname: &str,
) -> io::Result<Welcome> {
    stream.write_all(&startup(user, dbname)).await?;
    let mut read = Vec::with_capacity(USUAL);
    loop {
        let (kind, body) = message(stream, &mut read).await?;
        match kind {
            // AuthenticationOk: what follows is read to its end, else the server would log that the
            // connection was reset.
            b'R' if body.first_chunk() == Some(&[0; 4]) => {}
            // Who leaves now does not log anything there: clients without a password do so too.
            b'R' => return Ok(Welcome::Taken),
            b'Z' => {
                // It has answered; whether it hears the farewell does not matter.
                let _ = stream.write_all(&TERMINATE).await;
                return Ok(Welcome::Taken);
            }
            b'E' => return refusal(&body),
            // BackendKeyData, NoticeResponse, ParameterStatus, NegotiateProtocolVersion.
            b'K' | b'N' | b'S' | b'v' => {}
            other => return Err(strange(&format!("a message of type {other:#04x}"))),
        }
    }
}

fn startup(user: &str, dbname: &str) -> Vec<u8> {
    let mut body = VERSION.to_be_bytes().to_vec();
    for text in ["user", user, "database", dbname, "application_name", "pgha", ""] {
        body.extend(text.as_bytes());
        body.push(0);
    }
    // Names of roles and databases have at most 63 bytes.
    let length = u32::try_from(body.len() + 4).unwrap_or(u32::MAX);
    [&length.to_be_bytes(), &*body].concat()
}

/// The next message: its type and what stands behind its length. `read` has what was read and not used yet.
async fn message(
    stream: &mut (impl AsyncRead + Unpin),
    read: &mut Vec<u8>,
) -> io::Result<(u8, Vec<u8>)> {
    loop {
        if let Some(([kind, length @ ..], behind)) = read.split_first_chunk::<5>() {
            let (kind, length) = (*kind, u32::from_be_bytes(*length));
            let length = usize::try_from(length).unwrap_or(usize::MAX).checked_sub(4);
            let Some(length) = length.filter(|length| *length <= LONGEST) else {
                let what = format!("a message of type {kind:#04x} without a usable length");
                return Err(strange(&what));
            };
            if let Some(body) = behind.get(..length) {
                let body = body.to_vec();
                read.drain(..5 + length);
                return Ok((kind, body));
            }
        }
        if stream.read_buf(read).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// ErrorResponse: fields of a letter and a text each.
fn refusal(body: &[u8]) -> io::Result<Welcome> {
    let field = |letter: u8| {
        let text = body.split(|byte| *byte == 0).find_map(|field| field.strip_prefix(&[letter]))?;
        Some(String::from_utf8_lossy(text).into_owned())
    };
    let code = field(b'C').ok_or_else(|| strange("an error without its code"))?;
    let severity = field(b'S').unwrap_or_else(|| "ERROR".to_owned());
    let told = format!("{severity}: {}", field(b'M').unwrap_or_default());
    Ok(Welcome::Refused(SqlState::from_code(&code), told))
}

fn strange(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("no PostgreSQL: {what}"))
}

#[cfg(test)]
mod tests;
