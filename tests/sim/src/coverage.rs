//! Which combinations of state and event the schedules have gone through.

use std::collections::BTreeMap;
use std::fmt;

use pgha_machine::failover::agent::{self, Role, Standing};
use pgha_machine::failover::coordinator::{self, Stage};

/// How often an agent was in a role and a standing when something happened, and a coordinator in a stage.
#[derive(Clone, Debug, Default)]
pub struct Coverage {
    agents: BTreeMap<(&'static str, &'static str, &'static str), u64>,
    coordinators: BTreeMap<(&'static str, &'static str), u64>,
}

/// The names of roles, of standings, and of what happens to an agent.
const AGENT: ([&str; 5], [&str; 5], [&str; 10]) = (
    ["down", "standby", "frozen", "restarted", "primary"],
    ["unknown", "holder", "nominee", "suspended", "follower"],
    ["read", "changed", "written", "heard", "ended", "gone", "faulty", "log", "standbys", "tick"],
);
/// The names of stages, and of what happens to a coordinator.
const COORDINATOR: ([&str; 4], [&str; 6]) = (
    ["unknown", "watching", "frozen", "nominated"],
    ["read", "changed", "written", "heard", "off", "tick"],
);

impl Coverage {
    pub(crate) fn agent(&mut self, role: &Role, standing: &Standing, event: &agent::Event) {
        let role = match role {
            Role::Down => AGENT.0[0],
            Role::Standby { .. } => AGENT.0[1],
            Role::Frozen { .. } => AGENT.0[2],
            Role::Restarted { .. } => AGENT.0[3],
            Role::Primary => AGENT.0[4],
        };
        let standing = match standing {
            Standing::Unknown => AGENT.1[0],
            Standing::Holder => AGENT.1[1],
            Standing::Nominee { .. } => AGENT.1[2],
            Standing::Suspended { .. } => AGENT.1[3],
            Standing::Follower { .. } => AGENT.1[4],
        };
        let event = AGENT.2[match event {
            agent::Event::Read(_) => 0,
            agent::Event::Changed(_) => 1,
            agent::Event::Written(_) => 2,
            agent::Event::Heard { .. } => 3,
            agent::Event::Ended { .. } => 4,
            agent::Event::Gone => 5,
            // Nobody else promotes in these worlds.
            agent::Event::OutOfRecovery | agent::Event::Faulty(_) => 6,
            agent::Event::Log(_) => 7,
            agent::Event::Standbys(_) => 8,
            agent::Event::Tick => 9,
        }];
        *self.agents.entry((role, standing, event)).or_default() += 1;
    }

    pub(crate) fn coordinator(&mut self, stage: Stage, event: &coordinator::Event) {
        let stage = COORDINATOR.0[match stage {
            Stage::Unknown => 0,
            Stage::Watching => 1,
            Stage::Frozen => 2,
            Stage::Nominated => 3,
        }];
        let event = COORDINATOR.1[match event {
            coordinator::Event::Read(_) => 0,
            coordinator::Event::Changed(_) => 1,
            coordinator::Event::Written(_) => 2,
            coordinator::Event::Heard { .. } => 3,
            coordinator::Event::Off { .. } => 4,
            coordinator::Event::Tick => 5,
        }];
        *self.coordinators.entry((stage, event)).or_default() += 1;
    }

    /// Adds what other schedules went through.
    pub fn add(&mut self, other: &Self) {
        for (key, count) in &other.agents {
            *self.agents.entry(*key).or_default() += count;
        }
        for (key, count) in &other.coordinators {
            *self.coordinators.entry(*key).or_default() += count;
        }
    }

    /// The roles and standings of an agent that never met.
    #[must_use]
    pub fn missing_standings(&self) -> Vec<(&'static str, &'static str)> {
        let met = |role: &str, standing: &str| {
            self.agents.keys().any(|(r, s, _)| *r == role && *s == standing)
        };
        let all =
            AGENT.0.iter().flat_map(|role| AGENT.1.iter().map(move |standing| (*role, *standing)));
        all.filter(|(role, standing)| !met(role, standing)).collect()
    }
}

impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let agents = AGENT.0.len() * AGENT.1.len() * AGENT.2.len();
        let coordinators = COORDINATOR.0.len() * COORDINATOR.1.len();
        writeln!(
            f,
            "agent: {} of {agents} combinations of role, standing and event; coordinator: {} of \
             {coordinators} of stage and event",
            self.agents.len(),
            self.coordinators.len()
        )?;
        for role in AGENT.0 {
            for standing in AGENT.1 {
                let of = |((r, s, _), count): (&(&str, &str, &str), &u64)| {
                    (*r == role && *s == standing).then_some(*count)
                };
                let met: Vec<u64> = self.agents.iter().filter_map(of).collect();
                let sum: u64 = met.iter().sum();
                writeln!(f, "  {role:<10} {standing:<10} {:>2} events {sum:>12} times", met.len())?;
            }
        }
        Ok(())
    }
}
