//! Sending to one peer, for as long as this process lives.

use std::convert::Infallible;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use futures_util::stream;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use pgha_machine::NodeName;
use pgha_machine::failover::message::Message;
use socket2::SockRef;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::PATH;
use super::queue::Mailbox;
use crate::rpc::client::{Address, ConnectError, connect};
use crate::rpc::credentials::{Credentials, CredentialsError};
use crate::rpc::identity::Holder;

/// How long a connection may take to be made. The kernel sends the first packet again after a second.
const CONNECT: Duration = Duration::from_secs(2);
/// How long what was sent may be without the other host's acknowledgement: then there is no way there, and a
/// new connection finds one sooner than this one, whose retransmissions become ever rarer.
const UNACKNOWLEDGED: Duration = Duration::from_secs(1);
/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(100);

/// Why nothing goes to a peer.
#[derive(Debug, thiserror::Error)]
enum SendError {
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("no connection to {to} within {} s; see that a process of pgha listens there, and that no firewall is between", CONNECT.as_secs())]
    Late { to: Address },
    #[error(
        "{at} shows the certificate of {found}, not of {wanted}; correct the address of {wanted} in the \
         configuration, or issue its certificate for that name"
    )]
    Other { at: Address, found: String, wanted: NodeName },
    #[error("{to} refuses messages ({code}): {error}")]
    Refused { to: Address, code: StatusCode, error: String },
    #[error("the connection to {to} ended: {source}")]
    Lost { to: Address, source: io::Error },
}

/// Sends what is in the box, and connects as often as that needs. A trouble is told once for as long as it lasts.
pub(super) async fn deliver(to: NodeName, at: Address, tls: PathBuf, mail: Arc<Mailbox>) {
    let mut trouble: Option<String> = None;
    loop {
        mail.wait().await;
        match open(&to, &at, &tls).await {
            Ok(stream) => {
                if trouble.take().is_some() {
                    tracing::info!(peer = %to, "messages go to {to} again");
                }
                let ended = converse(stream, &at, Arc::clone(&mail)).await;
                tell(&mut trouble, &to, &ended);
            }
            Err(error) => tell(&mut trouble, &to, &error),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

fn tell(trouble: &mut Option<String>, to: &NodeName, error: &SendError) {
    let text = error.to_string();
    if trouble.as_ref() != Some(&text) {
        tracing::warn!(peer = %to, "no messages go to {to}: {text}");
        *trouble = Some(text);
    }
}

async fn open(
    to: &NodeName,
    at: &Address,
    tls: &std::path::Path,
) -> Result<TlsStream<TcpStream>, SendError> {
    let credentials = Credentials::load(tls)?;
    let connecting = tokio::time::timeout(CONNECT, connect(at, &credentials)).await;
    let stream = connecting.map_err(|_| SendError::Late { to: at.clone() })??;
    let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
    let found = shown.and_then(|certificate| Holder::of(certificate).ok());
    let found = found.map_or_else(|| "nobody".to_owned(), |holder| holder.name);
    if found != to.as_str() {
        return Err(SendError::Other { at: at.clone(), found, wanted: to.clone() });
    }
    let lost = |source| SendError::Lost { to: at.clone(), source };
    SockRef::from(stream.get_ref().0).set_tcp_user_timeout(Some(UNACKNOWLEDGED)).map_err(lost)?;
    Ok(stream)
}

/// One connection, to its end.
async fn converse(stream: TlsStream<TcpStream>, to: &Address, mail: Arc<Mailbox>) -> SendError {
    let lost =
        |error: hyper::Error| SendError::Lost { to: to.clone(), source: io::Error::other(error) };
    let lines = stream::unfold(mail, |mail| async {
        let line = Frame::data(line(&mail.take().await));
        Some((Ok::<_, Infallible>(line), mail))
    });
    let request = Request::post(PATH)
        .header(HOST, to.to_string())
        .header(CONTENT_TYPE, "application/json")
        .body(StreamBody::new(lines));
    let request = match request {
        Ok(request) => request,
        Err(error) => {
            return SendError::Lost { to: to.clone(), source: io::Error::other(error) };
        }
    };
    let (mut sender, connection) =
        match hyper::client::conn::http1::handshake(TokioIo::new(stream)).await {
            Ok(begun) => begun,
            Err(error) => return lost(error),
        };
    let answered = async {
        let answer = sender.send_request(request).await?;
        let code = answer.status();
        let body = answer.into_body().collect().await?.to_bytes();
        Ok::<_, hyper::Error>((code, body))
    };
    tokio::select! {
        answer = answered => match answer {
            Ok((code, body)) => SendError::Refused {
                to: to.clone(),
                code,
                error: String::from_utf8_lossy(&body).into_owned(),
            },
            Err(error) => lost(error),
        },
        ended = connection => SendError::Lost {
            to: to.clone(),
            source: match ended {
                Ok(()) => io::ErrorKind::UnexpectedEof.into(),
                Err(error) => io::Error::other(error),
            },
        },
    }
}

/// A message as it goes.
pub(super) fn line(message: &Message) -> Bytes {
    // Every map in it has keys that are text.
    let mut line = serde_json::to_vec(message).unwrap_or_default();
    line.push(b'\n');
    line.into()
}
