//! An etcd of several members, each on a host of its own, with mutual TLS by certificates of pgha's own authority.
use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::signal::Signal;
use pgha_ctl::config::{self, Config, StorePlace};
use pgha_ctl::rpc::authority::{self, Authority, Request};
use pgha_ctl::rpc::identity::Role;
use pgha_ctl::store::{Etcd, Health};

use super::host::Host;
use super::process::{Cmd, Running};
use super::wait::wait_for;
use super::{Lab, config::CLUSTER};

/// etcd's program, in the path.
const PROGRAM: &str = "etcd";
/// Names another program to be etcd; none, where it is empty.
const VARIABLE: &str = "PGHA_ETCD";
const CLIENTS: u16 = 2379;
const PEERS: u16 = 2380;
/// How long members may take to agree on a machine under load: an election takes a second, unless it is lost.
const AGREED: Duration = Duration::from_secs(120);

/// Where etcd is, if it is there.
pub fn program() -> Option<PathBuf> {
    if let Some(program) = env::var_os(VARIABLE) {
        return Some(program).filter(|program| !program.is_empty()).map(PathBuf::from);
    }
    let path = env::var_os("PATH").unwrap_or_else(|| OsString::from("/usr/bin"));
    env::split_paths(&path).map(|folder| folder.join(PROGRAM)).find(|program| program.is_file())
}

/// Who may come to a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Whoever shows a certificate.
    Certificates,
    /// Whoever comes, until users are made and authentication is enabled.
    Users,
}

/// An etcd. Dropping it ends its members.
#[derive(Debug)]
pub struct Members {
    program: PathBuf,
    tls: PathBuf,
    members: Vec<Member>,
    access: Access,
    token: Mutex<String>,
}

#[derive(Debug)]
struct Member {
    host: Host,
    data: PathBuf,
    running: Mutex<Option<Running>>,
}

impl Member {
    fn running(&self) -> MutexGuard<'_, Option<Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn url(&self, port: u16) -> String {
        format!("https://{}:{port}", self.host.address())
    }
}

impl Members {
    /// Starts `program` on these hosts; others get certificates to come as clients. Nobody has waited for a
    /// leader yet.
    ///
    /// # Errors
    /// When hosts or certificates cannot be made, or a member cannot be started.
    pub fn start(lab: &Lab, program: &Path, hosts: &[&str], clients: &[&str]) -> Result<Self> {
        Self::start_for(lab, program, hosts, clients, Access::Certificates)
    }

    /// [`Members::start`] with another access.
    ///
    /// # Errors
    /// As that.
    pub fn start_for(
        lab: &Lab,
        program: &Path,
        hosts: &[&str],
        clients: &[&str],
        access: Access,
    ) -> Result<Self> {
        let tls = lab.directory().join("etcd-tls");
        issue(lab, &tls, &[hosts, clients].concat())?;
        let member = |host: Host| Member { data: host.data(), host, running: Mutex::default() };
        let members = Self {
            program: program.to_owned(),
            tls,
            members: lab.hosts(hosts)?.into_iter().map(member).collect(),
            access,
            token: Mutex::new("first".to_owned()),
        };
        members.start_all()?;
        Ok(members)
    }

    /// No member: certificates alone, for a cluster whose record is in a file of its controller.
    ///
    /// # Errors
    /// When certificates cannot be made.
    pub fn none(lab: &Lab, clients: &[&str]) -> Result<Self> {
        let tls = lab.directory().join("tls");
        issue(lab, &tls, clients)?;
        Ok(Self {
            program: PathBuf::new(),
            tls,
            members: Vec::new(),
            access: Access::Certificates,
            token: Mutex::default(),
        })
    }

    /// The hosts of its members.
    pub fn hosts(&self) -> impl Iterator<Item = &Host> {
        self.members.iter().map(|member| &member.host)
    }

    /// The `[store]` section of a client on that host, whose memory of the store is in the file `seen`.
    pub fn section(&self, client: &Host, seen: &Path) -> String {
        if self.members.is_empty() {
            return format!(
                "[store]\nkind = \"local\"\npath = {seen:?}\n\n[lease]\nprofile = \"safe\"\n"
            );
        }
        let endpoints: Vec<_> =
            self.members.iter().map(|member| format!("{:?}", member.url(CLIENTS))).collect();
        let own = self.tls.join(client.name());
        let file = |name: &str| own.join(name);
        let shown = match self.access {
            Access::Certificates => {
                format!("cert = {:?}\nkey = {:?}\n", file("node.crt"), file("node.key"))
            }
            Access::Users => String::new(),
        };
        // Machines of tests answer late: the lease gives their requests time.
        format!(
            "[store]\nkind = \"etcd\"\nendpoints = [{}]\npath = {seen:?}\nca = {:?}\n{shown}\
             timeout = \"1500ms\"\n\n[lease]\nprofile = \"safe\"\n",
            endpoints.join(", "),
            file("ca.crt"),
        )
    }

    /// The directory with the credentials of a client.
    pub fn credentials(&self, client: &Host) -> PathBuf {
        self.tls.join(client.name())
    }

    /// What [`Members::section`] means.
    ///
    /// # Errors
    /// Never, unless the configuration has changed.
    pub fn settings(&self, client: &Host, seen: &Path) -> Result<config::Etcd> {
        self.settings_with(client, seen, "")
    }

    /// The same, with more keys of `[store]`.
    ///
    /// # Errors
    /// When those are wrong.
    pub fn settings_with(&self, client: &Host, seen: &Path, more: &str) -> Result<config::Etcd> {
        let section = self.section(client, seen);
        let section = section.replace("kind = ", &format!("{more}kind = "));
        let text = format!(
            "cluster = \"{CLUSTER}\"\n[director]\ninterface = \"eth0\"\n[primary]\nhosts = [\"10.77.0.11\"]\n\
             [[service]]\nname = \"reader\"\nvip = \"10.77.0.100\"\n{section}"
        );
        match Config::parse(&text, Path::new("store"))?.store() {
            StorePlace::Etcd(etcd) => Ok(etcd.clone()),
            StorePlace::Local(path) => bail!("a local store at {}", path.display()),
        }
    }

    /// A client of it on that host; to be used on a thread inside that.
    ///
    /// # Errors
    /// As [`Members::settings`].
    pub fn client(&self, client: &Host, seen: &Path) -> Result<Etcd> {
        Ok(Etcd::new(&self.settings(client, seen)?, &CLUSTER.parse()?))
    }

    /// Starts those members that do not run.
    ///
    /// # Errors
    /// When one cannot be started.
    pub fn start_all(&self) -> Result<()> {
        self.members.iter().try_for_each(|member| self.start_one(member))
    }

    fn start_one(&self, member: &Member) -> Result<()> {
        let mut running = member.running();
        if let Some(running) = &*running
            && running.is_running()?
        {
            return Ok(());
        }
        let own = self.tls.join(member.host.name());
        let (cert, key, ca) = (own.join("node.crt"), own.join("node.key"), own.join("ca.crt"));
        let file = |path: &Path| path.display().to_string();
        let command = member.host.command([&self.program])?.args([
            "--name",
            member.host.name(),
            "--data-dir",
            &file(&member.data),
            "--listen-client-urls",
            &member.url(CLIENTS),
            "--advertise-client-urls",
            &member.url(CLIENTS),
            "--cert-file",
            &file(&cert),
            "--key-file",
            &file(&key),
            "--listen-peer-urls",
            &member.url(PEERS),
            "--initial-advertise-peer-urls",
            &member.url(PEERS),
            "--peer-cert-file",
            &file(&cert),
            "--peer-key-file",
            &file(&key),
            "--peer-trusted-ca-file",
            &file(&ca),
            "--peer-client-cert-auth",
            "--initial-cluster",
            &self.initial(),
            "--initial-cluster-token",
            &self.token(),
            "--heartbeat-interval",
            "100",
            "--election-timeout",
            "1000",
            "--logger",
            "zap",
        ]);
        let command = match self.access {
            // That file alone has etcd ask for certificates, too.
            Access::Certificates => {
                command.args(["--client-cert-auth", "--trusted-ca-file", &file(&ca)])
            }
            Access::Users => command,
        };
        *running = Some(command.start(&member.host.log_path("etcd"))?);
        Ok(())
    }

    fn initial(&self) -> String {
        let of = |member: &Member| format!("{}={}", member.host.name(), member.url(PEERS));
        self.members.iter().map(of).collect::<Vec<_>>().join(",")
    }

    fn token(&self) -> String {
        self.token.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Kills the member on that host with SIGKILL.
    ///
    /// # Errors
    /// When it does not run, or does not end.
    pub fn kill(&self, host: &str) -> Result<()> {
        let running = self.member(host)?.running().take();
        running.with_context(|| format!("no etcd on {host}"))?.kill().map(drop)
    }

    /// Sends the member on that host a signal.
    ///
    /// # Errors
    /// When it does not run.
    pub fn signal(&self, host: &str, signal: Signal) -> Result<()> {
        let running = self.member(host)?.running();
        running.as_ref().with_context(|| format!("no etcd on {host}"))?.signal(signal)
    }

    /// Kills all members that run, with SIGKILL, and leaves what they made durable.
    ///
    /// # Errors
    /// When one does not end.
    pub fn kill_all(&self) -> Result<()> {
        self.members.iter().filter_map(|member| member.running().take()).try_for_each(|running| {
            running.kill()?;
            Ok(())
        })
    }

    /// Kills all and removes what they had.
    ///
    /// # Errors
    /// When that cannot be removed.
    pub fn wipe(&self) -> Result<()> {
        self.kill_all()?;
        for Member { data, .. } in &self.members {
            if data.exists() {
                fs::remove_dir_all(data).with_context(|| data.display().to_string())?;
            }
        }
        Ok(())
    }

    /// What etcdctl is to be given to ask the first member.
    ///
    /// # Errors
    /// When this process is out of file descriptors.
    pub fn etcdctl(&self, client: &Host, arguments: &[&str]) -> Result<Cmd> {
        let own = self.tls.join(client.name());
        let first = self.members.first().context("a member")?;
        Ok(client
            .command(["etcdctl", "--endpoints", &first.url(CLIENTS), "--cacert"])?
            .args([own.join("ca.crt")])
            .args(["--cert"])
            .args([own.join("node.crt")])
            .args(["--key"])
            .args([own.join("node.key")])
            .args(arguments)
            .env("ETCDCTL_API", "3"))
    }

    /// Gives every member the data of a backup that `etcdctl snapshot save` made, in a cluster of that token, and
    /// starts them.
    ///
    /// # Errors
    /// When that fails.
    pub fn restore(&self, backup: &Path, token: &str) -> Result<()> {
        self.wipe()?;
        token.clone_into(&mut self.token.lock().unwrap_or_else(PoisonError::into_inner));
        for member in &self.members {
            let (name, peers) = (member.host.name(), member.url(PEERS));
            let initial = self.initial();
            let command = member
                .host
                .command(["etcdctl", "snapshot", "restore"])?
                .args([backup, Path::new("--data-dir"), &member.data])
                .args(["--name", name, "--initial-cluster", &initial])
                .args(["--initial-cluster-token", token, "--initial-advertise-peer-urls", &peers]);
            command.env("ETCDCTL_API", "3").run()?;
        }
        self.start_all()
    }

    /// Waits until all members that run agree on a leader and answer reads, and names its host.
    ///
    /// # Errors
    /// When they do not.
    pub fn leader(&self, client: &Host) -> Result<String> {
        self.leader_among(client, &self.hosts().collect::<Vec<_>>())
    }

    /// Waits until those of these hosts that run a member agree on a leader and answer reads, and names its host.
    ///
    /// # Errors
    /// When they do not.
    pub fn leader_among(&self, client: &Host, among: &[&Host]) -> Result<String> {
        let seen = client.shared.places.run.join("leader.seen");
        let settings = self.settings(client, &seen)?;
        wait_for("the members of etcd to agree", AGREED, || {
            let health = client.inside(|| {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
                // A new one each time: which cluster it is may have changed.
                let etcd = Etcd::new(&settings, &CLUSTER.parse()?);
                Ok(runtime.block_on(etcd.health()))
            })?;
            self.agreed(&health, among).map(Some)
        })
    }

    fn agreed(&self, health: &Health, among: &[&Host]) -> Result<String> {
        let (mut agreed, mut host) = (None, None);
        for (member, health) in self.members.iter().zip(&health.members) {
            let name = member.host.name();
            if member.running().is_none() || among.iter().all(|host| host.name() != name) {
                continue;
            }
            let told = health.told.as_ref().map_err(|error| anyhow::anyhow!("{error}"))?;
            told.read.as_ref().map_err(|error| anyhow::anyhow!("{error}"))?;
            let leader = told.leader.with_context(|| format!("{name} knows no leader"))?;
            ensure!(*agreed.get_or_insert(leader) == leader, "{name} follows another one");
            if told.id == leader {
                host = Some(name.to_owned());
            }
        }
        host.context("the leader is none of those that run")
    }

    fn member(&self, host: &str) -> Result<&Member> {
        let found = self.members.iter().find(|member| member.host.name() == host);
        found.with_context(|| format!("no member on {host}"))
    }
}

/// An authority, and a certificate for each of these hosts in a folder of its name.
fn issue(lab: &Lab, tls: &Path, hosts: &[&str]) -> Result<()> {
    let now = SystemTime::now();
    authority::init(tls, &CLUSTER.parse()?, now)?;
    let authority = Authority::load(tls, now)?;
    for host in lab.hosts(hosts)? {
        let request = Request {
            name: host.name().parse()?,
            role: Role::Node,
            addresses: vec![host.address().into()],
            names: Vec::new(),
            lifetime: Duration::from_secs(24 * 3600),
        };
        authority.issue(&request, &tls.join(host.name()))?;
    }
    Ok(())
}
