//! The three layers by which a primary whose lease is over acknowledges nothing more: the agent, its guardian, the
//! gate. Each is shown with the others disabled. A gate cannot be, but it ends no process: who ends PostgreSQL in
//! time is the agent or the guardian.
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use pgha_ctl::agent::status::{AgentStatus, RoleStatus};
use pgha_tests::lab::observers::Excused;
use pgha_tests::lab::writer::nothing_after;
use pgha_tests::lab::{
    Agent, AgentOptions, Host, Managed, Running, SOON, Transaction, WRITER_VIP, Writer, wait_for,
    wait_until,
};

/// The commit of a row in `held` waits for as long as somebody has this advisory lock.
const HOLD: &str = "
    create table held (id bigint primary key);
    create function hold() returns trigger language plpgsql as
        $$ begin perform pg_advisory_xact_lock_shared(7); return null; end $$;
    create constraint trigger hold after insert on held deferrable initially deferred
        for each row execute function hold()";
/// How long is watched once more, at the end, that nothing comes.
const AFTER: Duration = Duration::from_secs(2);

/// A primary, and who writes there.
struct Story<'m> {
    managed: &'m Managed,
    options: &'m AgentOptions,
    node: &'m Agent,
    beside: Writer,
    far: Writer,
    /// Of their COMMIT no client may ever hear.
    late: Vec<Transaction>,
    held: i64,
}

impl<'m> Story<'m> {
    fn begin(managed: &'m Managed, options: &'m AgentOptions) -> Result<Self> {
        let node = managed.agent("db1")?;
        node.psql(HOLD)?;
        let beside = Writer::start(node.host(), node.host().address())?;
        let far = Writer::start(&managed.lab.host("client")?, WRITER_VIP)?;
        let mut story = Self { managed, options, node, beside, far, late: Vec::new(), held: 0 };
        story.is_used()?;
        // In time they would hear.
        for mut transaction in story.transactions()? {
            transaction.say("commit")?;
            wait_until("COMMIT to be heard", SOON, || Ok(transaction.done()? == ["COMMIT"]))?;
        }
        Ok(story)
    }

    /// Commits are acknowledged, to whoever comes by the VIP and to whoever is beside.
    fn is_used(&self) -> Result<()> {
        let now = Instant::now();
        self.beside.wait_after(now, SOON)?;
        self.far.wait_after(now, SOON)
    }

    /// Nobody heard of a commit when a lease had passed since `stopped`, and the last renewal was before that.
    fn nothing_after_the_lease(&self, stopped: Instant) -> Result<()> {
        let end = stopped + self.options.lease;
        nothing_after(&self.beside.acknowledged(), end)?;
        nothing_after(&self.far.acknowledged(), end)
    }

    /// Waits until PostgreSQL has ended and the VIP is off, before the gate is due.
    fn ends_within_the_lease(&self, stopped: Instant) -> Result<()> {
        self.node.wait_ended(SOON)?;
        wait_until("the VIP to be off", SOON, || Ok(!has_vip(self.node)?))?;
        let took = stopped.elapsed();
        println!("PostgreSQL has ended and the VIP is off {took:?} after the layers above stopped");
        ensure!(took < self.options.lease, "{took:?}: the gate came first");
        self.nothing_after_the_lease(stopped)
    }

    /// It is the primary once more, by another start, and nobody has heard what is too late.
    fn is_used_again(&mut self, before: &AgentStatus) -> Result<()> {
        // An agent that stood still tells for a moment what it knew before.
        let after = wait_for("another start as the primary", SOON * 2, || {
            let after = self.node.wait_role(RoleStatus::Primary)?;
            ensure!(after.start > before.start, "{:?} after {:?}", after.start, before.start);
            Ok(Some(after))
        })?;
        ensure!(after.epoch == before.epoch, "{:?} after {:?}", after.epoch, before.epoch);
        self.is_used()?;
        self.nobody_heard()
    }

    fn nobody_heard(&mut self) -> Result<()> {
        self.late.iter_mut().try_for_each(Transaction::heard_nothing)
    }

    /// Two transactions with a row in `held`, from beside and from afar, to the node's own address.
    fn transactions(&mut self) -> Result<Vec<Transaction>> {
        let hosts = [self.node.host().clone(), self.managed.lab.host("client")?];
        let begin = |from: &Host| {
            self.held += 1;
            let insert = format!("insert into held values ({})", self.held);
            Transaction::begin(from, self.node.host().address(), &insert)
        };
        hosts.iter().map(begin).collect()
    }

    /// Agent and guardian do nothing from here on, by `disable`. Clients send COMMIT before the end of the lease,
    /// which PostgreSQL acknowledges after it, and others after the end. PostgreSQL goes on behind its gate.
    fn gate_alone(&mut self, disable: impl FnOnce(&Agent) -> Result<()>) -> Result<()> {
        let mut idle = self.transactions()?;
        let first = self.held + 1;
        let mut held = self.transactions()?;
        let lock = Lock::hold(self.node)?;
        disable(self.node)?;
        let stopped = Instant::now();
        held.iter_mut().try_for_each(|transaction| transaction.say("commit"))?;
        wait_until("both commits to wait", SOON, || Ok(lock.waiting()? == 2))?;
        wait_until("the end of the lease", self.options.lease * 2, || {
            Ok(stopped.elapsed() > self.options.lease)
        })?;
        idle.iter_mut().try_for_each(|transaction| transaction.say("commit"))?;
        lock.release()?;
        let committed = format!("select count(*) from held where id >= {first}");
        wait_until("PostgreSQL to commit", SOON, || Ok(self.node.psql(&committed)? == "2"))?;
        for transaction in &held {
            let port = transaction.port()?;
            wait_until("an acknowledgement in the queue of its socket", SOON, || {
                Ok(queued(self.node, port)? > 0)
            })?;
        }
        self.late.append(&mut held);
        self.late.append(&mut idle);
        self.nobody_heard()?;
        self.nothing_after_the_lease(stopped)
    }
}

/// Somebody who has the advisory lock, in a session over the socket.
struct Lock<'m> {
    node: &'m Agent,
    _session: Running,
}

impl<'m> Lock<'m> {
    fn hold(node: &'m Agent) -> Result<Self> {
        let _session = node.session("select pg_advisory_lock(7), pg_sleep(3600)")?;
        let lock = Self { node, _session };
        wait_until("the lock to be held", SOON, || Ok(lock.count("granted")? == 1))?;
        Ok(lock)
    }

    fn waiting(&self) -> Result<u32> {
        self.count("not granted")
    }

    fn count(&self, which: &str) -> Result<u32> {
        let sql = format!("select count(*) from pg_locks where locktype = 'advisory' and {which}");
        Ok(self.node.psql(&sql)?.parse()?)
    }

    fn release(self) -> Result<()> {
        let end = "select pg_terminate_backend(pid) from pg_locks
            where locktype = 'advisory' and mode = 'ExclusiveLock' and granted";
        self.node.psql(end).map(drop)
    }
}

/// How many bytes the server's socket with that client has sent, or is to send, and were not acknowledged.
fn queued(node: &Agent, client: u16) -> Result<u64> {
    let there = format!("dport = :{client}");
    let told = node.host().run(["ss", "-Htn", "state", "established", &there])?;
    let own = format!(":{}", pgha_tests::lab::postgres::PORT);
    let line = told
        .lines()
        .find(|line| line.split_whitespace().nth(2).is_some_and(|address| address.ends_with(&own)));
    let queue = line.and_then(|line| line.split_whitespace().nth(1));
    Ok(queue
        .with_context(|| format!("no socket of the server with port {client}: {told}"))?
        .parse()?)
}

fn has_vip(node: &Agent) -> Result<bool> {
    let addresses = node.host().run(["ip", "-o", "-4", "address"])?;
    Ok(addresses.contains(&format!(" {WRITER_VIP}/")))
}

fn async_mode() -> AgentOptions {
    AgentOptions { failover: "mode = \"async\"\n".to_owned(), ..AgentOptions::default() }
}

/// Scenario 5, and each layer by itself. No controller runs: nobody else becomes the primary.
#[test]
fn netns_agent_layers_each_keep_the_lease_alone() -> Result<()> {
    let options = async_mode();
    let test = "netns_agent_layers_each_keep_the_lease_alone";
    let Some(managed) = Managed::up(test, &options)? else { return Ok(()) };
    let mut story = Story::begin(&managed, &options)?;
    let node = story.node;

    // The agent alone: the node is cut off, and its guardian does not run.
    let before = node.status()?;
    ensure!(has_vip(node)?, "the primary has the VIP");
    node.signal_guardian(Signal::SIGSTOP)?;
    let others = ["db2", "db3", "etcd1", "etcd2", "etcd3"].map(|name| managed.lab.host(name));
    let others = others.into_iter().collect::<Result<Vec<_>>>()?;
    others.iter().try_for_each(|other| node.host().cut_from(other))?;
    story.ends_within_the_lease(Instant::now())?;
    node.signal_guardian(Signal::SIGCONT)?;
    others.iter().try_for_each(|other| node.host().join(other))?;
    story.is_used_again(&before)?;

    // The guardian alone: the agent does not run.
    let before = node.status()?;
    node.signal(Signal::SIGSTOP)?;
    story.ends_within_the_lease(Instant::now())?;
    ensure!(node.log().contains("guardian: {\"surrendered\""), "{}", node.tail());
    node.signal(Signal::SIGCONT)?;
    story.is_used_again(&before)?;

    // The gate alone: both are killed. The agent that comes after finds the gate closed.
    let before = node.status()?;
    story.gate_alone(Agent::kill_both)?;
    node.start()?;
    story.is_used_again(&before)?;

    // And the gate alone once more: both stand, and go on too late.
    let before = node.status()?;
    story.gate_alone(|node| node.signal_both(Signal::SIGSTOP))?;
    node.signal_both(Signal::SIGCONT)?;
    story.is_used_again(&before)?;

    let end = Instant::now() + AFTER;
    while Instant::now() < end {
        story.nobody_heard()?;
        story.is_used()?;
    }
    managed.finish([story.beside, story.far]).map(drop)
}

/// The whole node stands still: agent, guardian and PostgreSQL. When they go on, another node is the primary, and
/// what clients had sent, and what was to be sent to them, is not acknowledged.
#[test]
fn netns_agent_layers_hold_on_a_node_that_stood_still() -> Result<()> {
    let options = AgentOptions { controller: Some("lb1"), ..AgentOptions::default() };
    let test = "netns_agent_layers_hold_on_a_node_that_stood_still";
    let Some(managed) = Managed::up(test, &options)? else { return Ok(()) };
    let mut story = Story::begin(&managed, &options)?;
    let node = story.node;
    node.wait_voters(2)?;
    story.late = story.transactions()?;
    let frozen = node.freeze(&managed.lab)?;
    let stood = Instant::now();
    for transaction in &mut story.late {
        transaction.say("commit")?;
    }
    let successor = managed.wait_successor("db1")?;
    story.far.wait_after(Instant::now(), SOON)?;
    wait_until("the end of the lease", options.lease * 2, || Ok(stood.elapsed() > options.lease))?;
    frozen.thaw()?;
    node.wait_streaming()?;
    ensure!(node.status()?.epoch == successor.status()?.epoch, "{:?}", node.status()?);
    story.nobody_heard()?;
    story.far.wait_after(Instant::now(), SOON)?;
    ensure!(successor.psql("select count(*) from held")? == "2", "they were not committed there");
    nothing_after(&story.beside.acknowledged(), stood + options.lease)?;
    let still = vec![node.host().mac()];
    managed.finish_but([story.beside, story.far], &Excused { still, ..Excused::default() })?;
    story.late.iter_mut().try_for_each(Transaction::heard_nothing)
}
