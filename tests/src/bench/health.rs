//! What health checks cost: the servers that are asked, and the controller that asks.
use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use nix::unistd::{SysconfVar, sysconf};
use serde_json::{Map, Value, json};
use tokio::runtime::Runtime;

use super::mock::{Counts, Mocks, rows};
use crate::lab::config::CLUSTER;
use crate::lab::plan::INTERFACE;
use crate::lab::postgres::{MONITOR, PORT};
use crate::lab::{Director, Host, Lab, SOON, wait_for};

/// How long each set-up is watched.
const WATCHED: Duration = Duration::from_secs(40);
/// Time between two checks of one server: the default.
const ROUND: Duration = Duration::from_secs(1);
/// How often the status is asked for, once the rest is measured.
const ASKED: u32 = 10;
/// The columns of the controller's question, in their order.
const COLUMNS: [&str; 18] = [
    "in_recovery",
    "lsn",
    "written_timeline",
    "followed_timeline",
    "system",
    "received",
    "replayed",
    "age_ms",
    "receiving",
    "used",
    "most",
    "pid",
    "application_name",
    "client",
    "state",
    "sync_state",
    "replay_lsn",
    "replay_lag_ms",
];

/// How many servers in how many services.
#[derive(Clone, Copy, Debug)]
struct Scale {
    servers: u8,
    services: u8,
}

const SCALES: [Scale; 4] = [
    Scale { servers: 100, services: 1 },
    Scale { servers: 128, services: 1 },
    Scale { servers: 8, services: 32 },
    Scale { servers: 100, services: 32 },
];

/// What was measured, one entry for each scale.
#[derive(Debug)]
pub struct Figures(Vec<Figure>);

#[derive(Debug)]
struct Figure {
    scale: Scale,
    rounds: f64,
    /// On the primary, a round.
    primary_queries: f64,
    /// On each standby, a round: the least and the most of any.
    queries: (f64, f64),
    connections: (f64, f64),
    /// Logins anew at all standbys while they were watched.
    logins: u64,
    resident_kib: u64,
    cpu_percent: f64,
    /// Probes of one server through one VIP, a round: of all that ended.
    probes: f64,
    /// From the start until every server served.
    started: Duration,
    /// The slowest of so many answers as [`ASKED`] says.
    status: Duration,
    /// Processes that ran or wanted to, in the mean of the last minute: the mocks', the bench's, others'.
    load: f64,
}

/// Measures each scale in a lab of its own.
///
/// # Errors
/// When the lab cannot be made, or a controller does not come to serve all servers.
pub fn measure() -> Result<Figures> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .context("a runtime")?;
    SCALES.into_iter().map(|scale| scale.measure(&runtime)).collect::<Result<_>>().map(Figures)
}

/// The addresses of standbys: behind those of the plan's hosts, and of the VIP.
fn standby(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, 0, 101 + number)
}

/// The VIP of a service. They are no neighbours of each other's for the switch: one host has them all.
fn vip(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, 0, 60 + number)
}

impl Scale {
    fn measure(self, runtime: &Runtime) -> Result<Figure> {
        eprintln!("{} servers, {} services ...", self.servers, self.services);
        let lab = Lab::new()?;
        let host = lab.host("db1")?;
        for number in 0..self.servers {
            let address = standby(number);
            host.run(["ip", "addr", "add", &format!("{address}/24"), "dev", INTERFACE])?;
        }
        let vips: Vec<IpAddr> = (0..self.services).map(|number| vip(number).into()).collect();
        lab.realserver_setup_for("db1", &vips)?;
        let mocks = runtime.block_on(async { Mocks::serve(&host, self.answers(&host)) })?;
        let director = lab.director("lb1")?;
        director.write_config(&self.config(&lab, &director, &host)?)?;
        let began = Instant::now();
        director.start()?;
        self.wait_for_all(&director)?;
        let started = began.elapsed();
        let figure = self.watch(&director, &host, &mocks)?;
        self.wait_for_all(&director)?;
        Ok(Figure { started, ..figure })
    }

    fn config(self, lab: &Lab, director: &Director, host: &Host) -> Result<String> {
        let passfile = lab.directory().join("pgpass");
        fs::write(&passfile, "*:*:*:*:secret\n")?;
        fs::set_permissions(&passfile, fs::Permissions::from_mode(0o600))?;
        let mut text = format!(
            "cluster = \"{CLUSTER}\"\n[director]\ninterface = \"{INTERFACE}\"\nbpffs = \"{}\"\n\
             control = \"{}\"\n[postgres]\nuser = \"{MONITOR}\"\npassfile = \"{}\"\n\
             [primary]\nhosts = [\"{}\"]\nport = {PORT}\n[health]\ninterval = \"{}ms\"\n",
            director.bpffs().display(),
            director.control_path().display(),
            passfile.display(),
            host.address(),
            ROUND.as_millis(),
        );
        for number in 0..self.services {
            text += &format!("[[service]]\nname = \"s{number}\"\nvip = \"{}\"\n", vip(number));
        }
        Ok(text)
    }

    /// What the primary and each standby answer.
    fn answers(self, primary: &Host) -> BTreeMap<IpAddr, Vec<u8>> {
        let row = |columns: &[(&str, String)]| -> Vec<Option<String>> {
            let value = |name: &&str| {
                let found = columns.iter().find(|(column, _)| column == name);
                found.map(|(_, value)| value.clone())
            };
            COLUMNS.iter().map(value).collect()
        };
        let text = str::to_owned;
        let me = [
            ("in_recovery", text("f")),
            ("lsn", text("1/A0000060")),
            ("written_timeline", text("00000001")),
            ("system", text("7710826189231890152")),
            ("used", text("7")),
            ("most", text("200")),
        ];
        let walsender = |number: u8| {
            let more = [
                ("pid", (4_000 + u32::from(number)).to_string()),
                ("application_name", text("walreceiver")),
                ("client", standby(number).to_string()),
                ("state", text("streaming")),
                ("sync_state", text("async")),
                ("replay_lsn", text("1/A0000060")),
            ];
            row(&[&me[..], &more].concat())
        };
        let walsenders: Vec<_> = (0..self.servers).map(walsender).collect();
        let of_standby = row(&[
            ("in_recovery", text("t")),
            ("followed_timeline", text("1")),
            ("system", text("7710826189231890152")),
            ("received", text("1/A0000060")),
            ("replayed", text("1/A0000060")),
            ("age_ms", text("12")),
            ("receiving", text("t")),
            ("used", text("40")),
            ("most", text("200")),
        ]);
        let of_standby = rows(&COLUMNS, &[of_standby]);
        (0..self.servers)
            .map(|number| (standby(number).into(), of_standby.clone()))
            .chain([(primary.address().into(), rows(&COLUMNS, &walsenders))])
            .collect()
    }

    /// Waits until every server of every service gets connections.
    fn wait_for_all(self, director: &Director) -> Result<()> {
        wait_for("every server to serve", SOON, || {
            let status = director.status()?;
            let services = status["services"].as_array().context("services")?;
            ensure!(services.len() == usize::from(self.services), "{} services", services.len());
            for service in services {
                let servers = service["servers"].as_array().context("servers")?;
                let serves = |server: &&Value| {
                    server["effective_weight"].as_f64().is_some_and(|weight| weight > 0.0)
                };
                let serving = servers.iter().filter(serves).count();
                ensure!(serving == usize::from(self.servers), "{serving} of {}", servers.len());
            }
            Ok(Some(()))
        })
    }

    fn watch(self, director: &Director, primary: &Host, mocks: &Mocks) -> Result<Figure> {
        let pid = director.pid().context("a running controller")?;
        let (probes, asked) = (probes(&director.status()?)?, Instant::now());
        let (before, began, used) = (mocks.counts(), Instant::now(), cpu_time(pid)?);
        std::thread::sleep(WATCHED);
        let (after, watched, used) = (mocks.counts(), began.elapsed(), cpu_time(pid)? - used);
        let (load, resident_kib) = (load()?, resident_kib(pid)?);
        let probes = (self::probes(&director.status()?)? - probes) as f64;
        let paths = f64::from(self.servers) * f64::from(self.services);
        let probes = probes / paths / (asked.elapsed().as_secs_f64() / ROUND.as_secs_f64());
        let rounds = watched.as_secs_f64() / ROUND.as_secs_f64();
        let during = |address: IpAddr| {
            let of = |counts: &BTreeMap<IpAddr, Counts>| counts.get(&address).copied();
            let (before, after) = (of(&before).unwrap_or_default(), of(&after).unwrap_or_default());
            Counts {
                connections: after.connections - before.connections,
                sessions: after.sessions - before.sessions,
                queries: after.queries - before.queries,
            }
        };
        let standbys: Vec<Counts> =
            (0..self.servers).map(|number| during(standby(number).into())).collect();
        let range = |number: fn(&Counts) -> u64| {
            let counts = || standbys.iter().map(number);
            let a_round = |count: Option<u64>| count.unwrap_or_default() as f64 / rounds;
            (a_round(counts().min()), a_round(counts().max()))
        };
        Ok(Figure {
            scale: self,
            rounds,
            primary_queries: during(primary.address().into()).queries as f64 / rounds,
            queries: range(|counts| counts.queries),
            connections: range(|counts| counts.connections),
            logins: standbys.iter().map(|counts| counts.sessions).sum(),
            resident_kib,
            cpu_percent: used.as_secs_f64() / watched.as_secs_f64() * 100.0,
            probes,
            started: Duration::ZERO,
            status: slowest_status(director)?,
            load,
        })
    }
}

/// How many probes through the VIPs have ended, by the status.
fn probes(status: &Value) -> Result<u64> {
    let services = status["services"].as_array().context("services")?;
    let mut ended = 0;
    for service in services {
        let servers = service["probes"].as_object().context("probes")?;
        let counters = servers.values().filter_map(Value::as_object).flat_map(Map::values);
        ended += counters.filter_map(Value::as_u64).sum::<u64>();
    }
    Ok(ended)
}

fn slowest_status(director: &Director) -> Result<Duration> {
    let mut slowest = Duration::ZERO;
    for _ in 0..ASKED {
        let began = Instant::now();
        director.status()?;
        slowest = slowest.max(began.elapsed());
    }
    Ok(slowest)
}

/// The load of the machine in the last minute (proc_loadavg(5)).
fn load() -> Result<f64> {
    let text = fs::read_to_string("/proc/loadavg")?;
    Ok(text.split_whitespace().next().context("a load")?.parse()?)
}

/// The processor time a process has used (proc_pid_stat(5), fields 14 and 15).
fn cpu_time(pid: i32) -> Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (_, fields) = stat.rsplit_once(')').context("a command in parentheses")?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    // The state, field 3, is the first behind the command.
    let ticks =
        |field: usize| -> Result<u64> { Ok(fields.get(field - 3).context("a field")?.parse()?) };
    let Some(a_second) = sysconf(SysconfVar::CLK_TCK)? else { bail!("no clock tick is known") };
    let ticks = ticks(14)? + ticks(15)?;
    Ok(Duration::from_secs_f64(ticks as f64 / a_second as f64))
}

/// `VmRSS` (proc_pid_status(5)).
fn resident_kib(pid: i32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

impl Figures {
    /// One JSON object.
    pub fn json(&self) -> Value {
        let of = |figure: &Figure| {
            let Figure { scale, rounds, primary_queries, queries, connections, logins, .. } =
                figure;
            json!({
                "servers": scale.servers,
                "services": scale.services,
                "rounds": rounds,
                "primary_queries_per_round": primary_queries,
                "queries_per_server_and_round": [queries.0, queries.1],
                "connections_per_server_and_round": [connections.0, connections.1],
                "logins": logins,
                "resident_kib": figure.resident_kib,
                "cpu_percent": figure.cpu_percent,
                "probes_per_server_service_and_round": figure.probes,
                "started_ms": figure.started.as_millis(),
                "status_ms": figure.status.as_millis(),
                "load": figure.load,
            })
        };
        json!({ "health": self.0.iter().map(of).collect::<Vec<_>>() })
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|figure| figure.fmt(f))
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Scale { servers, services } = self.scale;
        writeln!(f, "{servers} servers, {services} services, {:.1} rounds of 1 s", self.rounds)?;
        writeln!(f, "  queries on the primary a round        {:.2}", self.primary_queries)?;
        let (least, most) = self.queries;
        writeln!(f, "  queries on a server a round           {least:.2} to {most:.2}")?;
        let (least, most) = self.connections;
        writeln!(f, "  new connections to a server a round   {least:.2} to {most:.2}")?;
        writeln!(f, "  logins anew at all servers            {}", self.logins)?;
        let resident = self.resident_kib as f64 / 1_024.0;
        writeln!(f, "  controller, resident                  {resident:.1} MiB")?;
        writeln!(f, "  controller, of one core               {:.2} %", self.cpu_percent)?;
        writeln!(f, "  probes of a server and VIP a round    {:.2}", self.probes)?;
        writeln!(f, "  all serve after                       {:.1} s", self.started.as_secs_f64())?;
        writeln!(f, "  status, the slowest of {ASKED}             {} ms", self.status.as_millis())?;
        writeln!(f, "  load of the machine                   {:.1}", self.load)
    }
}
