//! What goes wrong in a case, and what is mended.

use pgha_machine::failover::coordinator::Event;
use pgha_machine::failover::record::{Ordered, Record, Suspicion, Takeover};

use super::case::{Case, Fault};
use super::shared::Shared;
use super::state::{Asked, Controller, Process, State};
use crate::postgres::State as Runs;
use crate::world::{controller_name, node_name};

impl State {
    pub(super) fn begin_fault(&mut self, case: &Case, fault: Fault) {
        let Some(at) = case.faults.iter().position(|of| of.fault == fault) else { return };
        self.begun |= 1 << at;
        if fault.is_short() {
            self.mended |= 1 << at;
        }
        match fault {
            Fault::Agent(node) => self.end_agent(node),
            Fault::Off(node) => {
                self.end_agent(node);
                self.postgres(node).kill();
            }
            Fault::Crash(node) => {
                if self.nodes[node].postgres.state != Runs::Down {
                    let of = self.nodes[node].change();
                    of.postgres.kill();
                    of.gone = of.agent.is_some();
                }
            }
            Fault::Controller(at) => self.replace_controller(case, at),
            Fault::Suspicion => {
                let by = controller_name(case.controllers);
                self.put_beside(self.store.record().freeze(by, Suspicion::Silent).ok());
            }
            Fault::Ordered => self.take_over(case, Takeover::Best),
            Fault::Forced(node) => self.take_over(case, Takeover::Force(node_name(node))),
            Fault::Alone(node) => {
                self.letters.retain(|letter| letter.from != node && letter.to != node);
                for of in &mut self.nodes {
                    if of.reply.as_ref().is_some_and(|reply| reply.to == node) {
                        of.change().reply = None;
                    }
                }
                self.nodes[node].change().reply = None;
            }
            Fault::Paused(_) | Fault::Store | Fault::StoreOf(_) => {}
        }
    }

    pub(super) fn mend(&mut self, case: &Case, fault: Fault) {
        let Some(at) = case.faults.iter().position(|of| of.fault == fault) else { return };
        self.mended |= 1 << at;
        match fault {
            Fault::Agent(node) | Fault::Off(node) => {
                let off =
                    self.lasts(case, Fault::Agent(node)) || self.lasts(case, Fault::Off(node));
                if !off {
                    self.start_agent(case, node);
                }
            }
            Fault::Paused(_)
            | Fault::Crash(_)
            | Fault::Controller(_)
            | Fault::Store
            | Fault::StoreOf(_)
            | Fault::Alone(_)
            | Fault::Suspicion
            | Fault::Ordered
            | Fault::Forced(_) => {}
        }
    }

    fn take_over(&mut self, case: &Case, takeover: Takeover) {
        let ordered = Ordered { takeover, by: "operator".to_owned(), at: 0 };
        let by = controller_name(case.controllers);
        self.put_beside(self.store.record().take_over(by, ordered).ok());
    }

    /// Somebody of whom nothing else is there writes this, where it can be written.
    fn put_beside(&mut self, next: Option<Record>) {
        let reading = self.store.reading();
        if let Some(next) = next {
            self.store.change().put(reading.mark, next);
            self.forget_strays();
        }
    }

    /// The process of an agent ends. What was not done is not done.
    fn end_agent(&mut self, node: usize) {
        let of = self.nodes[node].change();
        of.agent = None;
        of.order = None;
        of.gone = false;
        of.shown = None;
        self.end_line(node);
    }

    fn replace_controller(&mut self, case: &Case, at: usize) {
        let process = case.nodes + at;
        self.end_line(process);
        self.controllers[at] = Shared::new(Controller::new(at, case, self.now));
        self.controller_hears(case, process, Event::Tick);
    }

    /// What was sent to the store may come there still; nobody hears what is under way to this process.
    fn end_line(&mut self, process: Process) {
        self.letters.retain(|letter| letter.to != process);
        let line = std::mem::take(self.line_mut(process));
        if let Some(Asked::Sent(request)) = line.request {
            self.stray(request);
        }
    }
}
