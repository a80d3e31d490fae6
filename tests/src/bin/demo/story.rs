//! The scenes of the demonstration, in their order.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::Signal;
use pgha_tests::lab::postgres::bin_directory;
use pgha_tests::lab::{
    Director, Host, Lab, Postgres, PostgresOptions, READER_VIP, SOON, config, wait_for, wait_until,
};

use super::talk::Talk;

/// What the task allows for a reader that is gone.
const LIMIT: Duration = Duration::from_millis(300);

/// How long one run of pgbench takes, in seconds.
const BENCH_SECONDS: u64 = 5;

/// The cast, and what has been measured so far.
pub(super) struct Story<'a> {
    lab: &'a Lab,
    began: Instant,
    client: Host,
    readers: Vec<Postgres>,
    director: Director,
    measured: Vec<(String, String)>,
}

impl<'a> Story<'a> {
    /// A primary, three standbys behind the reader VIP, a director, a client.
    pub(super) fn begin(lab: &'a Lab, began: Instant) -> Result<Self> {
        println!(
            "A PostgreSQL primary, three standbys, a director and a client, each on a host of"
        );
        println!("its own (a network namespace); the reader VIP is {READER_VIP}:5432.\n");
        lab.hosts(&["db1", "db2", "db3", "db4", "lb1", "client"])?;
        let primary = lab.primary("db1")?;
        progress(began, "db1 is the primary");
        primary.psql("create table seen (id bigserial primary key)")?;
        let readers = lab.standbys(&["db2", "db3", "db4"], "db1")?;
        progress(began, "db2, db3 and db4 stream from it");
        for reader in &readers {
            lab.realserver_setup(reader.host().name())?;
        }
        let director = lab.director("lb1")?;
        let text = config::basic(lab, &director, &["db1"])?.replace("\"maglev\"", "\"rr\"");
        director.write_config(&text)?;
        director.start()?;
        progress(began, "lb1 runs the controller and the XDP program");
        let story = Self {
            lab,
            began,
            client: lab.host("client")?,
            readers,
            director,
            measured: Vec::new(),
        };
        story.wait_for_readers(3)?;
        progress(began, "all three standbys are behind the VIP");
        story.show_status()?;
        Ok(story)
    }

    /// Six connects, as a person would try it first.
    pub(super) fn round_robin(&mut self) -> Result<()> {
        scene("Six connects through the VIP: round robin");
        let answers = self.connect(6)?;
        let rotates = answers
            .windows(3)
            .all(|three| three[0] != three[1] && three[1] != three[2] && three[0] != three[2]);
        if !rotates {
            bail!("the connects did not rotate: {answers:?}");
        }
        self.measure("six connects by psql", "strictly in turn over three standbys");
        Ok(())
    }

    /// pgbench through the VIP, and who got how much of it.
    pub(super) fn benchmark(&mut self) -> Result<()> {
        scene("pgbench -S through the VIP");
        let primary = self.lab.host("db1")?;
        let home = self.home_of("db1");
        let pgbench = pgbench()?;
        primary
            .command([pgbench.as_str(), "-i", "-q", "-s", "5"])?
            .env("PGHOST", home)
            .deadline(Duration::from_secs(60))
            .run()?;
        self.wait_for_replay()?;
        let before = self.traffic()?;
        let report = self.pgbench(&pgbench)?.run()?;
        let after = self.traffic()?;
        let tps = line_with(&report, "tps")?;
        println!("  {tps}");
        let grown = |of: fn(&Traffic) -> u64| -> BTreeMap<&str, u64> {
            after
                .iter()
                .map(|(name, now)| (name.as_str(), of(now) - before.get(name).map_or(0, of)))
                .collect()
        };
        let (flows, packets) = (grown(|t| t.flows), grown(|t| t.packets));
        let total: u64 = packets.values().sum();
        let mut shares = Vec::new();
        for (name, count) in packets.iter().filter(|(_, count)| **count > 0) {
            let share = *count as f64 * 100.0 / total.max(1) as f64;
            println!("  {name}: {} connections, {count} packets, {share:.1} %", flows[name]);
            shares.push(format!("{name} {share:.1} %"));
        }
        self.measure("pgbench -S, 12 clients", tps);
        self.measure("share of packets", shares.join(", "));
        Ok(())
    }

    /// SIGKILL for the controller in the middle of pgbench, then a new one.
    pub(super) fn controller_killed(&mut self) -> Result<()> {
        scene("The controller is killed (SIGKILL) in the middle of pgbench");
        let received = self.received()?;
        let log = self.lab.directory().join("log/demo-pgbench.log");
        let bench = self.pgbench(&pgbench()?)?.start(&log)?;
        wait_until("pgbench to send", SOON, || Ok(self.received()? > received + 10_000))?;
        self.director.kill()?;
        println!("  killed; the data plane goes on by itself");
        let connects = self.connect(3)?;
        self.director.start()?;
        let taken_over = self.director.status()?["director"]["taken_over"] == true;
        println!(
            "  a new controller runs; it {} the data plane",
            if taken_over { "took over" } else { "did not take over" }
        );
        let status = bench.wait(Duration::from_secs(BENCH_SECONDS + 30))?;
        let report = bench.log();
        let failed = line_with(&report, "number of failed transactions")?;
        println!("  pgbench: {status}; {failed}");
        if !status.success() || !taken_over || report.contains("aborted") {
            bail!("connections were lost: {report}");
        }
        self.measure(
            "controller killed under pgbench",
            format!("no connection lost, {} new connects meanwhile", connects.len()),
        );
        Ok(())
    }

    /// SIGKILL for one standby, with a psql on it.
    pub(super) fn reader_killed(&mut self) -> Result<()> {
        scene("A standby is killed (SIGKILL)");
        self.end_reader(Signal::SIGKILL)
    }

    /// SIGTERM for every process of one standby, as killall does.
    pub(super) fn reader_terminated(&mut self) -> Result<()> {
        scene("Another one is ended (SIGTERM to all its processes, as `killall postgres` does)");
        self.end_reader(Signal::SIGTERM)
    }

    /// Ends the standby that a psql happens to be on; it comes back afterwards.
    fn end_reader(&mut self, signal: Signal) -> Result<()> {
        let mut psql = Talk::begin(&self.client, &READER_VIP.to_string())?;
        let question = "select current_setting('cluster_name');";
        let on = psql.say(question)?;
        let victim = self
            .readers
            .iter()
            .find(|reader| on.contains(reader.host().name()))
            .with_context(|| format!("psql is on none of the standbys: {on}"))?
            .clone();
        let name = victim.host().name().to_owned();
        println!("  psql is on {name}; {name} gets {signal}");
        // The pinned maps tell, not the controller whose speed is measured.
        let maps = self.director.maps(READER_VIP)?;
        let id = self.id_of(&name)?;
        let signalled = Instant::now();
        victim.signal_all(signal)?;
        // Without a pause between two looks, which would be measured too.
        while maps.serves(id)? {
            if signalled.elapsed() > SOON {
                bail!("{name} was still in the table after {} s", SOON.as_secs());
            }
        }
        let gone = signalled.elapsed();
        println!("  {name} left the map {} ms after the signal", gone.as_millis());
        if gone > 10 * LIMIT {
            bail!("{name} took {} ms to leave the map", gone.as_millis());
        }
        println!("  the same psql, its next statement twice:");
        indent(&psql.say(question)?);
        indent(&psql.say(question)?);
        let answers = self.connect(4)?;
        if answers.contains(&name) {
            bail!("a client was sent to {name}, which is dead");
        }
        self.measure(
            &format!("reader ended by {signal} leaves the map"),
            format!(
                "{} ms (limit {} ms): {}",
                gone.as_millis(),
                LIMIT.as_millis(),
                if gone <= LIMIT { "OK" } else { "over" }
            ),
        );
        // PostgreSQL 15 can hang when every process of a standby gets SIGTERM: the background writer
        // that the postmaster starts anew in that moment is never told to stop.
        if victim.wait_stopped(Duration::from_secs(2)).is_err() {
            victim.signal_all(Signal::SIGKILL)?;
            victim.wait_stopped(SOON)?;
        }
        victim.start()?;
        let began = Instant::now();
        self.wait_for_readers(3)?;
        println!("  {name} was started again and serves after {} ms", began.elapsed().as_millis());
        Ok(())
    }

    /// A standby that nobody configured streams from the primary.
    pub(super) fn stranger_joins(&mut self) -> Result<()> {
        scene("A fourth standby, which no configuration names, streams from the primary");
        let address = self.lab.host("db5")?.address().to_string();
        let options = PostgresOptions::default().application_name(&address);
        let stranger = self.lab.standby_with("db5", "db1", &options)?;
        self.lab.realserver_setup("db5")?;
        stranger.wait_streaming()?;
        let streams = Instant::now();
        println!("  db5 ({address}) streams");
        self.wait_for_readers(4)?;
        let joined = streams.elapsed();
        println!("  it is behind the VIP {} ms later", joined.as_millis());
        let answers = self.connect(4)?;
        if !answers.iter().any(|name| name == "db5") {
            bail!("db5 got none of four connects: {answers:?}");
        }
        self.measure(
            "unconfigured standby serves after it streams",
            format!("{} ms", joined.as_millis()),
        );
        self.readers.push(stranger);
        Ok(())
    }

    /// An operator takes one standby out.
    pub(super) fn weight_zero(&mut self) -> Result<()> {
        scene("pgha weight db3 0");
        let output = self.director.pgha(["weight", "db3", "0"])?;
        indent(&String::from_utf8_lossy(&output.stdout));
        if !output.status.success() {
            bail!("{}", String::from_utf8_lossy(&output.stderr));
        }
        let answers = self.connect(6)?;
        if answers.iter().any(|name| name == "db3") {
            bail!("db3 got a new connection at weight 0: {answers:?}");
        }
        self.measure("weight 0 for db3", "none of six connects");
        Ok(())
    }

    /// What was measured, in one table.
    pub(super) fn summary(&self) {
        scene("Summary");
        let width = self.measured.iter().map(|(what, _)| what.len()).max().unwrap_or(0);
        for (what, value) in &self.measured {
            println!("  {what:width$}  {value}");
        }
        println!(
            "  {:width$}  {:.1} s",
            "the whole demonstration",
            self.began.elapsed().as_secs_f32()
        );
    }

    /// How to go on by hand.
    pub(super) fn look_around(&self) {
        let (lab, config) = (self.lab.id(), self.director.config_path());
        println!(
            "
Everything is left running. Look around:

  cargo xtask lab exec client psql -h {READER_VIP} -c \"select current_setting('cluster_name')\"
  cargo xtask lab exec lb1 pgha status --config {config}
  cargo xtask lab exec db1 psql -c 'select * from pg_stat_replication'

and take it down with

  cargo xtask lab down --lab {lab}",
            config = config.display()
        );
    }

    /// Connects so many times, prints who answered, and returns that.
    fn connect(&self, times: usize) -> Result<Vec<String>> {
        let mut names = Vec::new();
        for _ in 0..times {
            let answer = self.client.run([
                "psql",
                "-X",
                "-h",
                &READER_VIP.to_string(),
                "-tAF ",
                "-c",
                "select current_setting('cluster_name'), pg_postmaster_start_time()",
            ])?;
            println!("  {answer}");
            names.push(answer.split(' ').next().unwrap_or_default().to_owned());
        }
        Ok(names)
    }

    fn pgbench(&self, pgbench: &str) -> Result<pgha_tests::lab::Cmd> {
        let seconds = BENCH_SECONDS.to_string();
        let vip = READER_VIP.to_string();
        let arguments = ["-n", "-S", "-c", "12", "-j", "2", "-T", &seconds, "-h", &vip];
        let command = self.client.command([pgbench])?.args(arguments);
        Ok(command.deadline(Duration::from_secs(BENCH_SECONDS + 30)))
    }

    fn home_of(&self, host: &str) -> std::path::PathBuf {
        let reader = self.readers.first().map(Postgres::home).unwrap_or_default();
        reader.parent().unwrap_or(Path::new("/")).join(host)
    }

    /// The tables of pgbench are on every standby.
    fn wait_for_replay(&self) -> Result<()> {
        for reader in &self.readers {
            wait_until("pgbench's tables to arrive", SOON, || {
                Ok(reader.psql("select count(*) from pgbench_accounts")? == "500000")
            })?;
        }
        Ok(())
    }

    fn wait_for_readers(&self, count: usize) -> Result<()> {
        wait_for(format!("{count} standbys behind the VIP"), SOON, || {
            let status = self.director.status()?;
            let servers = status["services"][0]["servers"].as_array().cloned().unwrap_or_default();
            let serving = servers.iter().filter(|s| s["effective_weight"] != 0).count();
            Ok((serving == count).then_some(()))
        })
    }

    /// The id of a real server in the data plane.
    fn id_of(&self, name: &str) -> Result<u16> {
        let status = self.director.status()?;
        let servers = status["services"][0]["servers"].as_array();
        let found = servers.and_then(|servers| servers.iter().find(|s| s["name"] == name));
        let id = found.and_then(|server| server["id"].as_u64());
        Ok(id.with_context(|| format!("{name} is not in the status"))?.try_into()?)
    }

    fn show_status(&self) -> Result<()> {
        println!();
        indent(&String::from_utf8_lossy(&self.director.pgha(["status"])?.stdout));
        Ok(())
    }

    fn received(&self) -> Result<u64> {
        self.director.status()?["received"].as_u64().context("no counter of received frames")
    }

    /// What each server got so far, by name.
    fn traffic(&self) -> Result<BTreeMap<String, Traffic>> {
        let status = self.director.status()?;
        let service = &status["services"][0];
        let servers = service["servers"].as_array().context("no servers in the status")?;
        let of = |server: &serde_json::Value| {
            let name = server["name"].as_str().or(server["address"].as_str())?;
            let traffic = &service["traffic"][server["id"].to_string()];
            let count = |key: &str| traffic[key].as_u64();
            Some((name.to_owned(), Traffic { flows: count("flows")?, packets: count("packets")? }))
        };
        servers.iter().map(|server| of(server).context("no traffic in the status")).collect()
    }

    /// A line of the summary.
    pub(super) fn measure(&mut self, what: &str, value: impl Into<String>) {
        self.measured.push((what.to_owned(), value.into()));
    }
}

struct Traffic {
    flows: u64,
    packets: u64,
}

fn pgbench() -> Result<String> {
    Ok(bin_directory()?.join("pgbench").display().to_string())
}

fn line_with<'a>(report: &'a str, word: &str) -> Result<&'a str> {
    report
        .lines()
        .find(|line| line.contains(word))
        .with_context(|| format!("pgbench reports no {word}: {report}"))
}

fn progress(began: Instant, text: &str) {
    println!("[{:4.1} s] {text}", began.elapsed().as_secs_f32());
}

pub(super) fn scene(title: &str) {
    println!("\n== {title}");
}

pub(super) fn indent(text: &str) {
    text.lines().for_each(|line| println!("    {line}"));
}
