//! Clients of a primary that is gone: also those are told that only wait for an answer.
//!
//! Who sends something finds out by itself: once the network knows the writer VIP at its new place, the kernel there
//! answers the segment of a connection that it does not know by RST (RFC 9293, section 3.10.7.1). Who only waits sends
//! nothing. So whoever may follow the primary knows its clients ([`follow`]), asked of it each second, and when it
//! has the VIP sends each a keep-alive with a number that no window admits: the client answers that (section
//! 3.10.7.4), and the kernel answers the answer by the exact RST.
//!
//! The node itself keeps its side of a connection after PostgreSQL was ended behind its closed gate, where nothing
//! would ever come through; [`Door::end`] removes these, so that its kernel answers like any other.
//!
//! A client that has connected since the primary was asked last is told by its own keep-alives alone.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{Extension, Json, Router};
use http_body_util::Full;
use hyper::Request;
use hyper::header::HOST;
use pgha_common::family::{Family, V4, V6};
use pgha_common::maps::FlowKey;
use pgha_common::reset;
use pgha_machine::NodeName;
use ring::rand::{SecureRandom as _, SystemRandom};
use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex, watch};
use tokio::time::{MissedTickBehavior, interval, sleep};
use zerocopy::IntoBytes as _;

use super::status::AgentStatus;
use crate::config::{Address, Failover};
use crate::net::NetError;
use crate::net::raw::{RawError, RawSender};
use crate::rpc::client::{ConnectError, connect, refusal};
use crate::rpc::credentials::{Credentials, CredentialsError};
use crate::rpc::server::Caller;
use crate::sock_diag::{SockDiag, States};
use crate::store::exchange::{Connection, Failure, Peer, begin, exchange};

/// Where they are asked for.
const PATH: &str = "/v1/agent/clients";
/// How often the primary is asked, and how long its answer may take.
const ASK: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(1);
/// After the VIP has come here, when they are told: a packet may be lost, and their neighbour tables may be late.
const ROUNDS: [Duration; 4] =
    [Duration::ZERO, Duration::from_millis(250), Duration::from_secs(1), Duration::from_secs(3)];

/// The two ends of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Ends {
    /// The client's.
    client: SocketAddr,
    /// This side's: the writer VIP with PostgreSQL's port.
    server: SocketAddr,
}

/// PostgreSQL's side of its connections on this node. Clones are the same.
#[derive(Clone, Debug)]
pub(super) struct Door {
    /// The writer VIP with PostgreSQL's port.
    server: Option<SocketAddr>,
    /// Clients of starts that have ended here, who are told when the VIP is here again.
    left: Arc<std::sync::Mutex<Vec<Ends>>>,
}

impl Door {
    pub(super) fn of(failover: &Failover) -> Self {
        let server = failover.writer_vip().map(|vip| SocketAddr::new(vip, failover.port()));
        Self { server, left: Arc::default() }
    }

    /// Those who are connected by the writer VIP.
    fn clients(&self) -> io::Result<Vec<Ends>> {
        let Some(server) = self.server else { return Ok(Vec::new()) };
        let all = SockDiag::open()?.all(States::CONNECTED)?;
        let own = all.iter().filter(|socket| socket.local() == server);
        Ok(own.map(|socket| Ends { client: socket.remote(), server }).collect())
    }

    /// Removes what is left of the connections of a server that has ended in that cgroup, in whatever state the
    /// kernel keeps them. Whose connections were to an address that stays on this node is told at once.
    pub(super) fn end(&self, cgroup: u64) {
        match remove(cgroup) {
            Ok(ended) if ended.is_empty() => {}
            Ok(ended) => {
                tracing::debug!("{} connections of the server that ended are removed", ended.len());
                let by_vip = |ends: &Ends| Some(ends.server) == self.server;
                let (later, now): (Vec<_>, Vec<_>) = ended.into_iter().partition(by_vip);
                self.left().extend(later);
                tokio::spawn(inform(now));
            }
            Err(error) => tracing::warn!(
                "connections of the server that ended are left, whose clients wait for their own timeouts: {error}"
            ),
        }
    }

    fn left(&self) -> MutexGuard<'_, Vec<Ends>> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The route by which others learn of the clients of this node.
    pub(super) fn router(self) -> Router {
        Router::new().route(PATH, get(tell)).with_state(self)
    }
}

fn remove(cgroup: u64) -> io::Result<Vec<Ends>> {
    let kernel = SockDiag::open()?;
    let mut ended = Vec::new();
    for socket in kernel.all(States::CONNECTED)? {
        if socket.cgroup == Some(cgroup) && kernel.destroy(&socket)? {
            ended.push(Ends { client: socket.remote(), server: socket.local() });
        }
    }
    Ok(ended)
}

async fn tell(State(door): State<Door>, Extension(caller): Extension<Caller>) -> Response {
    if !caller.reads(SystemTime::now()) {
        let error = "show a certificate of this cluster: pgha tls issue makes one";
        return (StatusCode::FORBIDDEN, error).into_response();
    }
    match door.clients() {
        Ok(clients) => Json(clients).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

/// Knows the clients of the primary, and tells them when this node has its VIP.
pub(super) async fn follow(
    door: Door,
    others: Vec<(NodeName, Address)>,
    tls: PathBuf,
    status: watch::Receiver<Arc<AgentStatus>>,
) {
    let peers: Vec<_> = others.into_iter().map(|(name, at)| (name, Other::new(at, &tls))).collect();
    let mut known: Vec<Ends> = Vec::new();
    let mut asks = interval(ASK);
    asks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut changes = status.clone();
    loop {
        let here = || status.borrow().writer_vip.is_some();
        if here() {
            let mut gone = std::mem::take(&mut known);
            gone.append(&mut door.left());
            inform(gone).await;
        }
        tokio::select! {
            changed = changes.changed() => if changed.is_err() {
                return;
            },
            _ = asks.tick() => {
                let holder = status.borrow().holder.clone();
                let primary = peers.iter().find(|(name, _)| holder.as_ref() == Some(name));
                let Some((name, primary)) = primary else { continue };
                // Who cannot be asked any more had these, as far as anybody knows.
                match primary.ask().await {
                    Ok(clients) => {
                        if clients.len() != known.len() {
                            tracing::debug!("{} clients of {name} are known", clients.len());
                        }
                        known = clients;
                    }
                    Err(error) => tracing::debug!("the clients of {name} are those known before: {error}"),
                }
            }
        }
    }
}

/// Has each find out that its connection is over.
async fn inform(clients: Vec<Ends>) {
    if clients.is_empty() {
        return;
    }
    let begun = tokio::time::Instant::now();
    for after in ROUNDS {
        tokio::time::sleep_until(begun + after).await;
        if let Err(error) = inform_once(&clients).await {
            tracing::warn!(
                "{} clients are not told that their server is gone, and find out by their own timeouts: {error}",
                clients.len()
            );
            return;
        }
    }
    tracing::info!("{} clients are told that their server is gone", clients.len());
}

async fn inform_once(clients: &[Ends]) -> Result<(), NetError> {
    let sender = RawSender::open()?;
    for ends in clients {
        let packet = keep_alive(*ends);
        for _ in 0..3 {
            match sender.send(&packet, ends.client.ip()) {
                Err(RawError::Busy { .. }) => sleep(Duration::from_millis(1)).await,
                Err(error) => {
                    tracing::debug!("{error}");
                    break;
                }
                Ok(()) => break,
            }
        }
    }
    Ok(())
}

/// A keep-alive from the server's end. Of all numbers a window admits few, so a random one is answered; in the next
/// round it is another.
fn keep_alive(ends: Ends) -> Vec<u8> {
    let mut sequence = [0; 4];
    // What stands there then is as good as any number.
    let _ = SystemRandom::new().fill(&mut sequence);
    let sequence = u32::from_ne_bytes(sequence);
    let [a, b] = ends.client.port().to_be_bytes();
    let [c, d] = ends.server.port().to_be_bytes();
    let ports = [a, b, c, d];
    match (ends.client.ip(), ends.server.ip()) {
        (IpAddr::V4(client), IpAddr::V4(vip)) => {
            bytes::<V4>(&FlowKey { client: client.octets(), vip: vip.octets(), ports }, sequence)
        }
        (client, vip) => {
            let octets = |address: IpAddr| match address {
                IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
                IpAddr::V6(address) => address.octets(),
            };
            bytes::<V6>(&FlowKey { client: octets(client), vip: octets(vip), ports }, sequence)
        }
    }
}

fn bytes<F: Family>(key: &FlowKey<F::Address>, sequence: u32) -> Vec<u8> {
    let packet = reset::keep_alive::<F>(key, sequence);
    [packet.ip.as_bytes(), packet.tcp.as_bytes()].concat()
}

/// Its clients are not known.
#[derive(Debug, thiserror::Error)]
enum AskError {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    #[error("the connection to {at} ended: {source}")]
    Lost { at: Address, source: io::Error },
    #[error("{at} gave no answer within {} s", PATIENCE.as_secs())]
    Late { at: Address },
    #[error("{at} answers {code}")]
    Refused { at: Address, code: StatusCode },
    #[error("the answer of {at} cannot be read: {source}")]
    Unreadable { at: Address, source: serde_json::Error },
}

/// The agent of another node. One connection to it is kept.
struct Other {
    at: Address,
    tls: PathBuf,
    kept: Mutex<Option<Connection>>,
}

impl Other {
    fn new(at: Address, tls: &Path) -> Self {
        Self { at, tls: tls.to_owned(), kept: Mutex::default() }
    }

    async fn ask(&self) -> Result<Vec<Ends>, AskError> {
        let host = self.at.to_string();
        let request = || Request::get(PATH).header(HOST, &*host).body(Full::default());
        let answer = exchange(self, &self.kept, request, PATIENCE).await;
        let (head, body) = answer.map_err(Failure::error)?;
        if head.status != StatusCode::OK {
            return Err(AskError::Refused { at: self.at.clone(), code: head.status });
        }
        let unreadable = |source| AskError::Unreadable { at: self.at.clone(), source };
        serde_json::from_slice(&body).map_err(unreadable)
    }
}

impl Peer for Other {
    type Error = AskError;
    /// Ten thousand clients and more.
    const LONGEST: usize = 2 << 20;

    async fn connect(&self) -> Result<Connection, AskError> {
        let stream = connect(&self.at, &Credentials::load(&self.tls)?).await?;
        begin(stream).await.map_err(|error| self.lost(io::Error::other(error)))
    }

    fn lost(&self, source: io::Error) -> AskError {
        match refusal(&self.at, &source) {
            Some(refused) => refused.into(),
            None => AskError::Lost { at: self.at.clone(), source },
        }
    }

    fn late(&self, _patience: Duration) -> AskError {
        AskError::Late { at: self.at.clone() }
    }
}

#[cfg(test)]
mod tests;
