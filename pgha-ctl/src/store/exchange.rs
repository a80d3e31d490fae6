//! One HTTP request over a connection that is kept for the next, and whether it may have been carried out where
//! no answer came.

use std::io;
use std::time::Duration;

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::http::response::Parts;
use hyper::{Request, Response, http};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

use crate::rpc::client::cause;

/// A connection that takes requests, and what it ends with.
#[derive(Debug)]
pub(crate) struct Connection {
    sender: SendRequest<Full<Bytes>>,
    task: JoinHandle<hyper::Result<()>>,
}

impl Connection {
    /// One request, and the beginning of an answer that comes bit by bit.
    pub(crate) async fn begin_answer(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> hyper::Result<Response<Incoming>> {
        self.sender.send_request(request).await
    }
}

/// Whether a request that failed may have been carried out.
#[derive(Debug)]
pub(crate) enum Failure<E> {
    /// It never left, was refused, or nobody read it.
    Unsent(E),
    /// It may have been.
    Sent(E),
}

impl<E> Failure<E> {
    pub(crate) fn error(self) -> E {
        match self {
            Self::Unsent(error) | Self::Sent(error) => error,
        }
    }
}

/// Whom requests are sent to.
pub(crate) trait Peer: Sync {
    /// What is told of it.
    type Error: Send;
    /// The longest answer that is read, in bytes.
    const LONGEST: usize;

    fn connect(&self) -> impl Future<Output = Result<Connection, Self::Error>> + Send;
    /// The connection ended before the answer.
    fn lost(&self, error: io::Error) -> Self::Error;
    /// Whether a connection that was lost so was none to the other side, which has read nothing then: it does not
    /// trust this one.
    fn unread(_lost: &Self::Error) -> bool {
        false
    }
    /// No answer came in time.
    fn late(&self, patience: Duration) -> Self::Error;
}

/// HTTP over a connection that was just made.
pub(crate) async fn begin<I>(stream: I) -> hyper::Result<Connection>
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = handshake(TokioIo::new(stream)).await?;
    // It ends with the sender.
    Ok(Connection { sender, task: tokio::spawn(connection) })
}

/// One request over the connection that is kept, or a new one that is kept then. `patience` is for all of it.
pub(crate) async fn exchange<P: Peer>(
    peer: &P,
    kept: &Mutex<Option<Connection>>,
    request: impl Fn() -> http::Result<Request<Full<Bytes>>>,
    patience: Duration,
) -> Result<(Parts, Bytes), Failure<P::Error>> {
    let mut taken = kept.lock().await.take();
    let answer = exchange_over(peer, &mut taken, request, patience).await?;
    *kept.lock().await = taken;
    Ok(answer)
}

/// One request over `kept`, or a new connection that is left there then. `patience` is for all of it.
pub(crate) async fn exchange_over<P: Peer>(
    peer: &P,
    kept: &mut Option<Connection>,
    request: impl Fn() -> http::Result<Request<Full<Bytes>>>,
    patience: Duration,
) -> Result<(Parts, Bytes), Failure<P::Error>> {
    let until = Instant::now() + patience;
    if let Some(mut connection) = kept.take()
        && matches!(timeout_at(until, connection.sender.ready()).await, Ok(Ok(())))
    {
        match send(peer, connection, &request, (until, patience)).await {
            // The other side had closed it since.
            Err(Failure::Unsent(_)) => {}
            answered => {
                let (answer, connection) = answered?;
                *kept = Some(connection);
                return Ok(answer);
            }
        }
    }
    let connecting = timeout_at(until, peer.connect()).await;
    let connection =
        connecting.unwrap_or_else(|_| Err(peer.late(patience))).map_err(Failure::Unsent)?;
    let (answer, connection) = send(peer, connection, &request, (until, patience)).await?;
    *kept = Some(connection);
    Ok(answer)
}

type Answered<P> = Result<((Parts, Bytes), Connection), Failure<<P as Peer>::Error>>;

/// One request, and the connection that is good for another.
async fn send<P: Peer>(
    peer: &P,
    connection: Connection,
    request: &impl Fn() -> http::Result<Request<Full<Bytes>>>,
    (until, patience): (Instant, Duration),
) -> Answered<P> {
    let request = request().map_err(|error| Failure::Unsent(peer.lost(io::Error::other(error))))?;
    timeout_at(until, converse(peer, connection, request))
        .await
        .unwrap_or_else(|_| Err(Failure::Sent(peer.late(patience))))
}

async fn converse<P: Peer>(
    peer: &P,
    connection: Connection,
    request: Request<Full<Bytes>>,
) -> Answered<P> {
    let Connection { mut sender, task } = connection;
    let response = match sender.try_send_request(request).await {
        Ok(response) => response,
        Err(mut error) => {
            let unsent = error.take_message().is_some();
            drop(sender);
            let lost = peer.lost(io::Error::other(cause(task, error.into_error()).await));
            let unread = unsent || P::unread(&lost);
            return Err(if unread { Failure::Unsent(lost) } else { Failure::Sent(lost) });
        }
    };
    let (head, body) = response.into_parts();
    let body = Limited::new(body, P::LONGEST).collect().await;
    let body = body.map_err(|error| Failure::Sent(peer.lost(io::Error::other(error))))?;
    Ok(((head, body.to_bytes()), Connection { sender, task }))
}
