//! What health checks cost: the servers that are asked, and the controller that asks.
use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::PermissionsExt as _;
use std::str::FromStr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Map, Value, json};
use tokio::runtime::Runtime;

use super::mock::{Counts, Mocks, rows};
use super::process::{CpuTime, cpu_time, load, memory};
use crate::lab::config::CLUSTER;
use crate::lab::plan::INTERFACE;
use crate::lab::postgres::{MONITOR, PORT};
use crate::lab::{Director, Host, Lab, wait_for};

/// How many rounds each set-up is watched for, where nobody says.
pub const ROUNDS: u32 = 40;
/// How long a start may take: on a busy machine the mocks are slow.
const START: Duration = Duration::from_secs(120);
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scale {
    servers: u8,
    services: u8,
}

/// Bytes that the controller is to stay below.
const RESIDENT_BELOW: u64 = 30_000_000;
/// The share of one core that it is to stay below.
const CPU_PERCENT_BELOW: f64 = 2.0;
/// The set-up that these two aims are for.
const AIMED_AT: Scale = Scale { servers: 100, services: 1 };

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
    watched: Duration,
    /// On the primary, a round.
    primary_queries: f64,
    /// On each standby, a round: the least and the most of any.
    queries: (f64, f64),
    connections: (f64, f64),
    /// Logins anew at all standbys while they were watched.
    logins: u64,
    /// Bytes, at the end and at most.
    resident: (u64, u64),
    cpu: CpuTime,
    /// Probes of one server through one VIP, a round: of all that ended.
    probes: f64,
    /// From the start until every server served.
    started: Duration,
    /// Processor time until then.
    start_cpu: CpuTime,
    /// The slowest of so many answers as [`ASKED`] says.
    status: Duration,
    /// Processes that ran or wanted to, in the mean of the last minute: the mocks', the bench's, others'.
    load: f64,
}

/// In whose time the lab's switch, the other hosts' kernels and the receiving side of the director's do their work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    /// In that of a thread of the kernel, so that a process is charged for what it sends as far as the cable.
    Elsewhere,
    /// In that of the process that sends, as far as the answer to it.
    Sender,
}

/// `100x1`: so many servers, each in so many services.
impl FromStr for Scale {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let (servers, services) = text.split_once('x').context("a scale is like 100x1")?;
        let scale = Self { servers: servers.parse()?, services: services.parse()? };
        ensure!((1..=128).contains(&scale.servers), "there are 1 to 128 servers");
        ensure!((1..=32).contains(&scale.services), "there are 1 to 32 services");
        Ok(scale)
    }
}

/// Measures these scales, or all where none is named, each in a lab of its own for so many rounds.
///
/// # Errors
/// When the lab cannot be made, or a controller does not come to serve all servers.
pub fn measure(only: &[Scale], rounds: u32, network: Network) -> Result<Figures> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .context("a runtime")?;
    let scales = if only.is_empty() { &SCALES } else { only };
    scales
        .iter()
        .map(|scale| scale.measure(&runtime, rounds, network))
        .collect::<Result<_>>()
        .map(Figures)
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
    fn measure(self, runtime: &Runtime, rounds: u32, network: Network) -> Result<Figure> {
        eprintln!("{} servers, {} services ...", self.servers, self.services);
        let lab = Lab::new()?;
        let host = lab.host("db1")?;
        for number in 0..self.servers {
            let address = standby(number);
            host.run(["ip", "addr", "add", &format!("{address}/24"), "dev", INTERFACE])?;
        }
        // All servers are one host's, to which probes of two of them through one VIP at a time were one connection,
        // if it remembered those that are half open.
        host.inside(|| Ok(fs::write("/proc/sys/net/ipv4/tcp_syncookies", "2")?))?;
        let vips: Vec<IpAddr> = (0..self.services).map(|number| vip(number).into()).collect();
        lab.realserver_setup_for("db1", &vips)?;
        let mocks = runtime.block_on(async { Mocks::serve(&host, self.answers(&host)) })?;
        let director = lab.director("lb1")?;
        if network == Network::Elsewhere {
            director.host().switch_in_a_thread()?;
        }
        director.write_config(&self.config(&lab, &director, &host)?)?;
        let began = Instant::now();
        director.start_until(|| Ok(director.control_path().exists()))?;
        self.wait_for_all(&director)?;
        let started = began.elapsed();
        let start_cpu = cpu_time(director.pid().context("a running controller")?)?;
        let figure = self.watch(&director, &host, &mocks, rounds)?;
        self.wait_for_all(&director)?;
        Ok(Figure { started, start_cpu, ..figure })
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
        wait_for("every server to serve", START, || {
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

    fn watch(
        self,
        director: &Director,
        primary: &Host,
        mocks: &Mocks,
        rounds: u32,
    ) -> Result<Figure> {
        let pid = director.pid().context("a running controller")?;
        let (probes, asked) = (probes(&director.status()?)?, Instant::now());
        let (before, began, used) = (mocks.counts(), Instant::now(), cpu_time(pid)?);
        std::thread::sleep(ROUND * rounds);
        let (after, watched, cpu) = (mocks.counts(), began.elapsed(), cpu_time(pid)?.since(used));
        let (load, resident) = (load()?, (memory(pid, "VmRSS:")?, memory(pid, "VmHWM:")?));
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
            resident,
            cpu,
            watched,
            probes,
            started: Duration::ZERO,
            start_cpu: CpuTime::default(),
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

// The keys of what has an aim.
const PRIMARY: &str = "primary_queries_per_round";
const SERVER: &str = "queries_per_server_and_round";
const RESIDENT: &str = "resident_bytes";
const CPU: &str = "cpu_percent";

/// An aim, for people.
fn aim(key: &str) -> String {
    match key {
        RESIDENT => format!("below {} MB", RESIDENT_BELOW / 1_000_000),
        CPU => format!("below {CPU_PERCENT_BELOW} %"),
        _ => "1".to_owned(),
    }
}

impl Figure {
    /// What is claimed of the figures, and whether they keep it; in the order of the aims.
    fn kept(&self) -> Vec<(&'static str, bool)> {
        let near = |value: f64| (0.9..1.1).contains(&value);
        let mut kept = vec![
            (PRIMARY, near(self.primary_queries)),
            (SERVER, near(self.queries.0) && near(self.queries.1)),
        ];
        if self.scale == AIMED_AT {
            kept.push((RESIDENT, self.resident.0 < RESIDENT_BELOW));
            kept.push((CPU, self.percent(self.cpu.total()) < CPU_PERCENT_BELOW));
        }
        kept
    }

    /// Of one core.
    fn percent(&self, used: Duration) -> f64 {
        used.as_secs_f64() / self.watched.as_secs_f64() * 100.0
    }

    fn json(&self) -> Value {
        json!({
            "servers": self.scale.servers,
            "services": self.scale.services,
            "rounds": self.rounds,
            PRIMARY: self.primary_queries,
            SERVER: [self.queries.0, self.queries.1],
            "connections_per_server_and_round": [self.connections.0, self.connections.1],
            "logins": self.logins,
            RESIDENT: self.resident.0,
            "resident_bytes_most": self.resident.1,
            CPU: self.percent(self.cpu.total()),
            "cpu_percent_user": self.percent(self.cpu.user),
            "cpu_percent_system": self.percent(self.cpu.system),
            "probes_per_server_service_and_round": self.probes,
            "started_ms": self.started.as_millis(),
            "start_cpu_ms": self.start_cpu.total().as_millis(),
            "status_ms": self.status.as_millis(),
            "load": self.load,
            "aims_kept": self.kept().into_iter().collect::<BTreeMap<_, _>>(),
        })
    }
}

impl Figures {
    /// One JSON object.
    pub fn json(&self) -> Value {
        let aims = json!({
            "servers": AIMED_AT.servers,
            "services": AIMED_AT.services,
            PRIMARY: aim(PRIMARY),
            SERVER: aim(SERVER),
            RESIDENT: aim(RESIDENT),
            CPU: aim(CPU),
        });
        json!({ "aims": aims, "health": self.0.iter().map(Figure::json).collect::<Vec<_>>() })
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
        let every = ROUND.as_secs();
        writeln!(
            f,
            "{servers} servers, {services} services, {:.1} rounds of {every} s",
            self.rounds
        )?;
        let kept = self.kept();
        for (key, meaning, value) in self.rows() {
            write!(f, "  {meaning:<38}{value}")?;
            match kept.iter().find(|(of, _)| *of == key) {
                Some((_, true)) => writeln!(f, "  (aim: {}; kept)", aim(key))?,
                Some((_, false)) => writeln!(f, "  (aim: {}; MISSED)", aim(key))?,
                None => writeln!(f)?,
            }
        }
        Ok(())
    }
}

impl Figure {
    /// For people: the key of its aim, what it is, and the value.
    fn rows(&self) -> Vec<(&'static str, String, String)> {
        let (least, most) = self.queries;
        let (fewest, many) = self.connections;
        let percent = |used| format!("{:.2} %", self.percent(used));
        let megabytes = |bytes: u64| format!("{:.1} MB", bytes as f64 / 1e6);
        let seconds = |time: Duration| format!("{:.1} s", time.as_secs_f64());
        let row = |key, meaning: &str, value| (key, meaning.to_owned(), value);
        vec![
            row(PRIMARY, "queries on the primary a round", format!("{:.2}", self.primary_queries)),
            row(SERVER, "queries on a server a round", format!("{least:.2} to {most:.2}")),
            row("", "new connections to a server a round", format!("{fewest:.2} to {many:.2}")),
            row("", "logins anew at all servers", self.logins.to_string()),
            row(RESIDENT, "controller, resident", megabytes(self.resident.0)),
            row("", "  at most since its start", megabytes(self.resident.1)),
            row(CPU, "controller, of one core", percent(self.cpu.total())),
            row("", "  of that in its own code", percent(self.cpu.user)),
            row("", "  of that in the kernel", percent(self.cpu.system)),
            row("", "probes of a server and VIP a round", format!("{:.2}", self.probes)),
            row("", "all serve after", seconds(self.started)),
            row("", "  with this processor time", seconds(self.start_cpu.total())),
            (
                "",
                format!("status, the slowest of {ASKED}"),
                format!("{} ms", self.status.as_millis()),
            ),
            row("", "load of the machine", format!("{:.1}", self.load)),
        ]
    }
}
