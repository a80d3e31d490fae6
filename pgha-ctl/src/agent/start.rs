//! How an agent begins: what was kept, what runs, and only then the machine.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use pgha_machine::failover::agent::{self, Agent, Found, Kept};
use pgha_machine::failover::rules::Rules;
use ring::rand::{SecureRandom as _, SystemRandom};
use tokio::sync::{mpsc, watch};

use super::address::Address;
use super::clients::Door;
use super::copies::Copies;
use super::driver::{Driver, Signals};
use super::error::AgentError;
use super::failures::{Failed, Failures};
use super::faults::Faults;
use super::guard::Guard;
use super::kept::Drawer;
use super::news::News;
use super::orders::Orders;
use super::origin::Origin;
use super::readers::{Readers, Vips};
use super::sight::Told;
use super::status::{AddressStatus, AgentStatus, RoleStatus, SCHEMA};
use super::works::{Doors, Works};
use super::{api, clients, postgres, rights};
use crate::bpf::PinDirectory;
use crate::bpf::gate::State;
use crate::clock::{self, Timer};
use crate::config::{self, Address as Place, Config, Failover};
use crate::guardian::Spawn;
use crate::postgres::server::{self, Found as Running, OsUser, Server};
use crate::rpc::post::Post;
use crate::rpc::server::Keys;
use crate::store::Configured;
use crate::store::ledger::{Ledger, patience};
use crate::telemetry::service::Service;

/// How much is told at once before who tells has to wait.
const ROOM: usize = 256;

/// An agent that may do what it must, and no more, and has not begun.
#[derive(Debug)]
pub struct Prepared {
    file: PathBuf,
    config: Config,
    user: OsUser,
}

/// Does what takes more rights than an agent has while it runs, and gives those up. Called before there is another
/// thread.
///
/// # Errors
/// What is wrong with the configuration, with the directories in it, or with the rights of this process.
pub fn prepare(path: &Path) -> Result<Prepared, AgentError> {
    let config = Config::load(path)?;
    let (Some(own), Some(failover)) = (config.agent(), config.failover()) else {
        return Err(AgentError::NoAgent { file: path.to_owned() });
    };
    let user = server::prepare(&postgres::config(&config, own, failover))?;
    rights::keep(own, &user)?;
    config.check_files(path)?;
    config.remarks().iter().for_each(|remark| tracing::warn!("{remark}"));
    Ok(Prepared { file: path.to_owned(), config, user })
}

/// Runs until a signal ends it.
///
/// # Errors
/// Whatever keeps it from starting; then what runs is as it was.
pub async fn run(prepared: Prepared) -> Result<(), AgentError> {
    let signals = Signals::new()?;
    let Prepared { file, config, user } = prepared;
    let (Some(own), Some(failover)) = (config.agent(), config.failover()) else {
        return Err(AgentError::NoAgent { file });
    };
    let origin = Origin::find(&user, own.bin(), own.data(), own.state())?;
    let (drawer, kept) = Drawer::open(own.state())?;
    let keys = Arc::new(Keys::load(config.api().tls())?);
    let name = keys.credentials().holder().name.clone();
    if name != own.node().as_str() {
        let (node, found) = (own.node().to_string(), name);
        return Err(AgentError::OtherName { node, found });
    }
    let (tell, told) = mpsc::channel(ROOM);
    let (works, found) = look(&config, own, failover, (drawer, origin), &kept, &tell).await?;
    let post = Post::new(&failover.peers_of(own.node()), config.api().tls());
    let others = failover.members().iter().filter(|member| member.name() != own.node());
    let others = others.map(|member| (member.name().clone(), member.agent().clone())).collect();
    let door = works.door.clone();
    let (status, told_status) = watch::channel(Arc::new(works.status()));
    let mut served =
        api::serve(config.api(), &keys, (&post, door.clone()), told_status.clone()).await?;
    served.spawn(clients::follow(door, others, config.api().tls().to_owned(), told_status));
    let machine = agent::Config {
        name: own.node().clone(),
        controllers: failover.controller_names(),
        run: draw()?,
        restarts: own.restarts(),
        hand_over: own.hand_over(),
        rules: Rules::default(),
    };
    let mut driver = Driver {
        name: own.node().clone(),
        agent: Agent::new(machine, kept, found, clock::now()),
        orders: Orders::new(Arc::clone(&works), tell.clone()),
        copies: Copies::default(),
        ledger: ledger(&config, failover),
        post,
        timer: Timer::new().map_err(AgentError::Timer)?,
        tell,
        told,
        status,
        news: News::default(),
        service: Service::new(),
        works,
    };
    driver.run(signals).await
}

/// What a former agent left, and what runs.
async fn look(
    config: &Config,
    own: &config::Agent,
    failover: &Failover,
    (drawer, origin): (Drawer, Origin),
    kept: &Kept,
    tell: &mpsc::Sender<Told>,
) -> Result<(Arc<Works>, Found), AgentError> {
    let runtime = own.runtime();
    let pins = PinDirectory::new(config.director().bpffs(), config.cluster().as_str())?;
    let failures = Failures::kept_in(own.state());
    let faults = Faults::new(failures.clone());
    let address = Address::find(failover.writer_vip(), faults.clone()).await?;
    let readers = Readers::new(Vips::of(config.services()), runtime.join("addresses"));
    let spawn = Spawn {
        program: Spawn::OWN.into(),
        socket: runtime.join("guardian.sock"),
        may_be_ordinary: !own.guardian(),
    };
    let guard = Guard::new(spawn, own.guardian());
    let doors = Arc::new(Doors::new(pins, guard, address, tell.clone()));
    let hook = Arc::clone(&doors);
    let server = Server::new(
        postgres::config(config, own, failover),
        Arc::new(move |starting| hook.before_start(starting)),
    )?;
    let running = server.find(|start, cgroup| Works::patience(&doors, start, cgroup, kept)).await?;
    let about = AgentStatus {
        schema: SCHEMA,
        node: own.node().clone(),
        role: RoleStatus::Down,
        role_text: String::new(),
        standing: String::new(),
        epoch: None,
        holder: None,
        wal: None,
        system: Some(origin.system),
        was_primary: origin.was_primary,
        failsafe: false,
        rebuild: None,
        failsafe_of: None,
        store: None,
        start: None,
        writer_vip: None,
        addresses: AddressStatus::default(),
        faults: Vec::new(),
        record: None,
        facts: None,
        failures: Failed::default(),
    };
    let works = Arc::new(Works {
        server,
        doors,
        readers,
        faults,
        door: Door::of(failover),
        drawer,
        about,
        write_timeout: own.write_timeout(),
        facts: Mutex::default(),
        failures,
    });
    works.close_others();
    let found = found(&works, running, kept);
    if !matches!(found, Found::Primary { open: Some(_), .. }) {
        works.release().await?;
        works.nothing_to_guard();
    }
    Ok((works, found))
}

/// What runs, with what its gate says. One without a gate is as good as one whose gate is closed.
fn found(works: &Works, running: Running, kept: &Kept) -> Found {
    let state = works.server.runs().and_then(|(start, cgroup)| {
        let state = works.adopt(start, &cgroup, kept.lease);
        state.inspect_err(|error| tracing::warn!("the server that runs is ended: {error}")).ok()
    });
    match running {
        Running::Nothing => Found::Nothing,
        Running::Standby { upstream, wal } => {
            Found::Standby { open: state == Some(State::Standby), upstream, wal }
        }
        Running::Primary { admits, wal } => {
            let open = match state {
                Some(State::ArmedUntil(until)) => Some(until),
                Some(State::Standby | State::Closed) | None => None,
            };
            Found::Primary { open, admits, wal }
        }
    }
}

/// The record in the store that the configuration names.
fn ledger(config: &Config, failover: &Failover) -> Ledger<Configured> {
    let tls = config.api().tls();
    // One controller has a local store, and an etcd asks for none.
    let controller: Option<&Place> = failover.controllers().values().next();
    let store = Configured::from_outside(config.store(), config.cluster(), controller, tls);
    Ledger::new(store, patience(config.lease()))
}

/// A number that no other process of this node has: drawn from 2^64.
fn draw() -> Result<u64, AgentError> {
    let mut bytes = [0; 8];
    SystemRandom::new().fill(&mut bytes).map_err(|_| AgentError::Random)?;
    Ok(u64::from_ne_bytes(bytes))
}
