//! The guardian: what it guards ends at its moment, whatever has become of the agent.
use std::fs::{self, Permissions};
use std::io::{self, Read as _};
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::panic::resume_unwind;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use nix::libc;
use nix::net::if_::if_nametoindex;
use nix::sys::signal::Signal;
use nix::unistd::{Uid, User};
use pgha_ctl::clock;
use pgha_ctl::guardian::{Charge, Client, GuardianError, Refusal, Spawn, Vip};
use pgha_machine::Moment;
use pgha_tests::lab::artifacts::{lab_binary, pgha_binary};
use pgha_tests::lab::cgroup::Cgroup;
use pgha_tests::lab::plan::INTERFACE;
use pgha_tests::lab::process::POSTGRES_USER;
use pgha_tests::lab::{Host, Lab, Running, SOON, wait_until};

/// A lease, long enough for a loaded machine to renew it.
const LEASE: Duration = Duration::from_secs(2);
/// Far enough ahead for any machine.
const AHEAD: Duration = Duration::from_secs(3600);
/// Tenfold what a machine under load takes from the moment to an empty cgroup.
const LATE: Duration = Duration::from_secs(5);
const VIPS: [(&str, u8); 2] = [("10.77.0.101", 32), ("fd77::101", 128)];

/// A guardian on db1, and what it is to guard: two processes in a cgroup, and two addresses.
struct Place {
    guardian: Running,
    guarded: [Running; 2],
    cgroup: Cgroup,
    socket: PathBuf,
    host: Host,
    _lab: Lab,
}

impl Place {
    fn new() -> Result<Self> {
        let lab = Lab::new()?;
        let host = lab.host("db1")?;
        let cgroup = lab.cgroup("start-7")?;
        let guarded = [sleeper(&host, &cgroup, 1)?, sleeper(&host, &cgroup, 2)?];
        for (vip, prefix) in VIPS {
            host.run(["ip", "address", "add", &format!("{vip}/{prefix}"), "dev", INTERFACE])?;
        }
        let socket = lab.directory().join("guardian");
        let guardian = host.command([pgha_binary()?])?;
        let guardian = guardian.args(["guardian", "--socket"]).args([&socket]);
        let guardian = guardian.start(&host.log_path("guardian"))?;
        let place = Self { guardian, guarded, cgroup, socket, host, _lab: lab };
        ensure!(place.vips()?.len() == VIPS.len() && place.is_alive()?);
        Ok(place)
    }

    fn charge(&self, until: Moment) -> Result<Charge> {
        let interface = self.host.inside(|| Ok(if_nametoindex(INTERFACE)?))?;
        let vip = |(vip, prefix): (&str, u8)| -> Result<Vip> {
            Ok(Vip { address: vip.parse()?, prefix, interface })
        };
        let vips = VIPS.into_iter().map(vip).collect::<Result<_>>()?;
        Ok(Charge { start: 7, cgroup: self.cgroup.path().to_owned(), vips, until })
    }

    /// Once it listens.
    async fn connect(&self) -> Result<Client> {
        let begin = clock::now();
        loop {
            match Client::connect(&self.socket).await {
                Ok(client) => return Ok(client),
                Err(GuardianError::Absent { .. } | GuardianError::Silent)
                    if clock::now() < begin + SOON =>
                {
                    ensure!(self.guardian.is_running()?, "{}", self.guardian.log());
                }
                Err(error) => bail!("{error}"),
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn guarding(&self, until: Moment) -> Result<Client> {
        let mut client = self.connect().await?;
        client.guard(&self.charge(until)?).await?;
        Ok(client)
    }

    fn vips(&self) -> Result<Vec<IpAddr>> {
        let addresses = self.host.run(["ip", "-o", "address", "show", "dev", INTERFACE])?;
        let there = |(vip, prefix): &(&str, u8)| addresses.contains(&format!(" {vip}/{prefix} "));
        VIPS.iter().filter(|vip| there(vip)).map(|(vip, _)| Ok(vip.parse()?)).collect()
    }

    fn is_alive(&self) -> Result<bool> {
        Ok(self.guarded[0].is_running()? && self.guarded[1].is_running()?)
    }

    /// Everything that is guarded is as it was.
    fn assert_untouched(&self) -> Result<()> {
        ensure!(self.is_alive()?, "what is guarded was killed before its time");
        ensure!(self.vips()?.len() == VIPS.len(), "the VIPs are gone before their time");
        Ok(())
    }

    /// Waits until everything that was guarded has ended: not before the moment, and soon after it.
    fn assert_given_up(&self, until: Moment) -> Result<()> {
        while clock::now() < until {
            let alive = self.is_alive()?;
            ensure!(alive || clock::now() >= until, "killed before its time");
        }
        wait_until("an empty cgroup without its VIPs", SOON, || {
            Ok(self.cgroup.processes()?.is_empty() && self.vips()?.is_empty())
        })?;
        let late = clock::now().since(until);
        println!("given up at most {late:?} after the moment");
        ensure!(late < LATE, "{late:?} after the moment");
        for process in &self.guarded {
            process.wait(SOON)?;
        }
        Ok(())
    }

    fn wait_for_its_end(&self) -> Result<()> {
        let status = self.guardian.wait(SOON)?;
        ensure!(status.success(), "{}", self.guardian.log());
        Ok(())
    }
}

fn sleeper(host: &Host, cgroup: &Cgroup, number: u8) -> Result<Running> {
    let command = host.command(["sleep", "3600"])?.in_cgroup(cgroup)?;
    let running = command.start(&host.log_path(&format!("sleep-{number}")))?;
    wait_until("it to be in its cgroup", SOON, || {
        Ok(cgroup.processes()?.contains(&running.pid()))
    })?;
    Ok(running)
}

fn run<T>(test: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(test)
}

#[test]
fn netns_guardian_gives_up_at_the_moment_that_an_agent_left() -> Result<()> {
    let place = Place::new()?;
    let until = clock::now() + LEASE;
    drop(run(place.guarding(until))?);
    place.assert_given_up(until)?;
    // Nobody is there to be told, and there is nothing left to guard.
    place.wait_for_its_end()?;
    let log = place.guardian.log();
    assert!(log.contains("\"surrendered\"") && log.contains("\"kill\":null"), "{log}");
    assert!(log.contains("\"vips\":[]"), "{log}");
    Ok(())
}

#[test]
fn netns_guardian_tells_the_agent_that_it_gave_up() -> Result<()> {
    let place = Place::new()?;
    run(async {
        let until = clock::now() + LEASE;
        let mut client = place.guarding(until).await?;
        let told = tokio::time::timeout(SOON, client.surrendered()).await??;
        ensure!(told.start == 7 && told.at >= until, "{told:?}");
        ensure!(told.kill.is_none() && told.vips.is_empty(), "{told:?}");
        place.assert_given_up(until)?;
        let late = client.surrender_at(7, clock::now() + AHEAD).await;
        ensure!(matches!(late, Err(GuardianError::Refused(Refusal::Nothing))), "{late:?}");
        // It can be given another charge.
        client.guard(&place.charge(clock::now() + AHEAD)?).await?;
        client.stand_down(7).await?;
        Ok(())
    })?;
    place.wait_for_its_end()
}

#[test]
fn netns_guardian_waits_while_renewals_come() -> Result<()> {
    let place = Place::new()?;
    run(async {
        let begin = clock::now();
        let mut until = begin + LEASE;
        let mut client = place.guarding(until).await?;
        while clock::now() < begin + 2 * LEASE {
            ensure!(clock::now() < until, "this machine is too slow to renew in time");
            until = clock::now() + LEASE;
            client.surrender_at(7, until).await?;
            place.assert_untouched()?;
            tokio::time::sleep(LEASE / 20).await;
        }
        drop(client);
        place.assert_given_up(until)
    })
}

#[test]
fn netns_guardian_goes_on_for_an_agent_that_is_back() -> Result<()> {
    let place = Place::new()?;
    run(async {
        drop(place.guarding(clock::now() + LEASE * 5).await?);
        let mut client = place.guarding(clock::now() + AHEAD).await?;
        place.assert_untouched()?;
        let mut other = place.charge(clock::now() + AHEAD)?;
        other.start = 8;
        let refused = client.guard(&other).await;
        let expected = Refusal::OtherStart { guarded: 7 };
        ensure!(matches!(&refused, Err(GuardianError::Refused(why)) if *why == expected));
        // Whoever connects last is the agent; the one before hears no more.
        let mut next = place.connect().await?;
        let gone = client.surrender_at(7, clock::now() + AHEAD).await;
        ensure!(matches!(gone, Err(GuardianError::Gone(_))), "{gone:?}");
        let until = clock::now() + LEASE;
        next.surrender_at(7, until).await?;
        drop(next);
        place.assert_given_up(until)
    })
}

#[test]
fn netns_guardian_that_stands_down_guards_nothing() -> Result<()> {
    let place = Place::new()?;
    run(async {
        let until = clock::now() + LEASE;
        let mut client = place.guarding(until).await?;
        client.stand_down(7).await?;
        tokio::time::sleep(LEASE).await;
        ensure!(clock::now() > until);
        place.assert_untouched()?;
        drop(client);
        place.wait_for_its_end()?;
        place.assert_untouched()
    })
}

#[test]
fn netns_guardian_does_not_listen_to_strangers() -> Result<()> {
    let place = Place::new()?;
    let user = User::from_name(POSTGRES_USER)?.context("the user postgres")?.uid;
    run(async {
        let mut client = place.guarding(clock::now() + AHEAD).await?;
        // As if somebody had opened its door.
        fs::set_permissions(&place.socket, Permissions::from_mode(0o777))?;
        let answer = as_user(user, || {
            let mut stream = UnixStream::connect(&place.socket)?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok(answer)
        })?;
        let stranger = format!("{{\"stranger\":{{\"user\":{user}}}}}");
        ensure!(answer.contains(&stranger), "{answer}");
        // The agent's connection is as it was.
        client.surrender_at(7, clock::now() + AHEAD).await?;
        place.assert_untouched()?;
        Ok(client.stand_down(7).await?)
    })
}

/// Runs a task on a thread that has become another user.
fn as_user<T: Send>(user: Uid, task: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    thread::scope(|scope| {
        let other = scope.spawn(|| {
            // SAFETY: the call takes three numbers. libc's own would change all threads.
            let changed =
                unsafe { libc::syscall(libc::SYS_setresuid, user.as_raw(), user.as_raw(), -1) };
            ensure!(changed == 0, "{}", io::Error::last_os_error());
            task()
        });
        other.join().unwrap_or_else(|panic| resume_unwind(panic))
    })
}

fn ends_what_an_agent_left(signal: Signal) -> Result<()> {
    let place = Place::new()?;
    // It stays for as long as it has a connection.
    let _waiting = run(place.connect())?;
    let charge = serde_json::to_string(&place.charge(clock::now() + LEASE)?)?;
    let lease = LEASE.as_millis().to_string();
    let agent = place.host.command([lab_binary()?])?.args(["renew", &charge, &lease]);
    let agent = agent.args([&place.socket]).start(&place.host.log_path("agent"))?;
    let renewed = || -> Result<Vec<Moment>> {
        let log = agent.log();
        let told = log.lines().filter_map(|line| line.strip_prefix("renewed "));
        told.map(|until| Ok(Moment::new(until.parse()?))).collect()
    };
    wait_until("renewals beyond the first lease", SOON, || {
        let renewed = renewed()?;
        Ok(renewed.last() > renewed.first().map(|first| *first + LEASE).as_ref())
    })?;
    agent.signal(signal)?;
    let until = *renewed()?.last().context("a renewal")?;
    place.assert_given_up(until)
}

#[test]
fn netns_guardian_ends_what_a_stopped_agent_left() -> Result<()> {
    ends_what_an_agent_left(Signal::SIGSTOP)
}

#[test]
fn netns_guardian_ends_what_a_killed_agent_left() -> Result<()> {
    ends_what_an_agent_left(Signal::SIGKILL)
}

#[test]
fn netns_guardian_is_started_once_and_outlives_its_agent() -> Result<()> {
    let place = Place::new()?;
    let socket = place.socket.with_file_name("another");
    // As an agent does.
    let spawn = Spawn { program: pgha_binary()?, socket: socket.clone(), may_be_ordinary: false };
    let until = clock::now() + LEASE;
    let charge = place.charge(until)?;
    thread::scope(|scope| {
        let agent = scope.spawn(|| {
            place.host.inside(|| {
                run(async {
                    let mut first = Client::spawn(&spawn).await?;
                    first.guard(&charge).await?;
                    // The same one, which knows what it guards.
                    let mut second = Client::spawn(&spawn).await?;
                    Ok(second.surrender_at(7, until).await?)
                })
            })
        });
        agent.join().unwrap_or_else(|panic| resume_unwind(panic))
    })?;
    place.assert_given_up(until)?;
    wait_until("it to end", SOON, || Ok(UnixStream::connect(&socket).is_err()))?;
    Ok(())
}

#[test]
fn netns_guardian_says_which_right_it_lacks() -> Result<()> {
    let lab = Lab::new()?;
    let host = lab.host("db1")?;
    let socket = lab.directory().join("guardian");
    // Everybody may lock a little memory.
    let confined = |rest: &str| -> Result<Running> {
        let limited = format!(
            "ulimit -l 64; exec setpriv --bounding-set=-ipc_lock,-sys_nice \
                               --inh-caps=-ipc_lock,-sys_nice \"$0\" guardian --socket \"$1\" {rest}"
        );
        let command = host.command(["sh", "-c", &limited])?.args([pgha_binary()?, socket.clone()]);
        command.start(&host.log_path("guardian"))
    };
    let refused = confined("")?;
    assert!(!refused.wait(SOON)?.success());
    let log = refused.log();
    assert!(log.contains("CAP_IPC_LOCK") && log.contains("--may-be-ordinary"), "{log}");
    let ordinary = confined("--may-be-ordinary")?;
    wait_until("it to listen", SOON, || Ok(UnixStream::connect(&socket).is_ok()))?;
    // It ends with its connection, and has said what it goes without.
    assert!(ordinary.wait(SOON)?.success());
    assert!(ordinary.log().contains("CAP_SYS_NICE"), "{}", ordinary.log());
    Ok(())
}

#[test]
fn netns_guardian_is_locked_in_memory_and_runs_first() -> Result<()> {
    let place = Place::new()?;
    let client = run(place.connect())?;
    let pid = place.guardian.pid();
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let locked = status.lines().find_map(|line| line.strip_prefix("VmLck:")).context("VmLck")?;
    let locked: u64 = locked.trim().trim_end_matches(" kB").trim().parse()?;
    assert!(locked > 1000, "{locked} kB");
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // proc_pid_stat(5): field 41 is the policy, the third field is the first after the name.
    let (_, fields) = stat.rsplit_once(") ").context("a name")?;
    assert_eq!(fields.split(' ').nth(41 - 3), Some("1"), "SCHED_FIFO");
    drop(client);
    place.wait_for_its_end()
}
