//! The primary: who it is, what it says, since when it says nothing.

use std::net::IpAddr;
use std::time::Instant;

use pgha_machine::balancer::{Event, PrimaryAnswer, Walsender};

use super::Controller;
use super::status::PrimaryStatus;
use super::watch::{Told, watch_primary};
use crate::postgres::PrimaryReport;

/// What is known of the primary beyond the machine's need.
pub(super) struct PrimaryKnown {
    host: Option<IpAddr>,
    lsn: Option<String>,
    last_answer: Instant,
    errors: Vec<String>,
}

impl Controller {
    /// Hands on what a watcher tells.
    pub(super) fn take_in(&mut self, told: Told) {
        match told {
            Told::Event(event) => self.balancer.handle(self.now(), event),
            // The last word of a task that was ended when the configuration changed.
            Told::Primary(host, _) if !self.asks(host) => {}
            Told::Primary(host, report) => {
                self.primary = Some(PrimaryKnown {
                    host: Some(host),
                    lsn: report.lsn.map(|lsn| lsn.to_string()),
                    last_answer: Instant::now(),
                    errors: Vec::new(),
                });
                let answer = self.identify(host, report);
                self.balancer.handle(self.now(), Event::Primary(answer));
            }
            Told::PrimaryLost(errors) => {
                let errors: Vec<_> =
                    errors.into_iter().map(|(host, error)| format!("{host}: {error}")).collect();
                let started = self.started;
                let known = self.primary.get_or_insert_with(|| PrimaryKnown {
                    host: None,
                    lsn: None,
                    last_answer: started,
                    errors: Vec::new(),
                });
                if known.errors != errors {
                    tracing::warn!("the primary cannot be asked: {}", errors.join("; "));
                    known.errors = errors;
                }
                self.balancer.handle(self.now(), Event::PrimaryLost);
            }
        }
    }

    fn asks(&self, host: IpAddr) -> bool {
        self.config.primary().is_some_and(|primary| primary.hosts().contains(&host))
    }

    /// Whose walsenders they are.
    fn identify(&self, host: IpAddr, report: PrimaryReport) -> PrimaryAnswer {
        let config = self.balancer.config();
        let walsenders = report.walsenders.into_iter().filter_map(|walsender| {
            let address = config.address_of(&walsender.application_name, walsender.client)?;
            Some(Walsender {
                address,
                sync_state: walsender.sync_state,
                replay_lag: None,
                replayed: None,
            })
        });
        PrimaryAnswer {
            host,
            timeline: None,
            system: None,
            lsn: report.lsn,
            walsenders: walsenders.collect(),
        }
    }

    /// Begins to ask the primary of the configuration, and nobody else any more.
    pub(super) fn ask_primary(&mut self) {
        if let Some(task) = self.primary_task.take() {
            task.abort();
        }
        if let Some(primary) = self.config.primary() {
            let task = watch_primary(primary.clone(), self.manner.subscribe(), self.tell.clone());
            self.primary_task = Some(tokio::spawn(task));
        }
    }

    pub(super) fn primary_status(&self) -> PrimaryStatus {
        let answers = self.balancer.primary_answers();
        let since = self.primary.as_ref().map_or(self.started, |known| known.last_answer);
        let age = u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX);
        PrimaryStatus {
            answers,
            host: self.primary.as_ref().and_then(|known| known.host),
            lsn: self.primary.as_ref().and_then(|known| known.lsn.clone()),
            stale_ms: (!answers).then_some(age),
            errors: self.primary.as_ref().map(|known| known.errors.clone()).unwrap_or_default(),
        }
    }
}
