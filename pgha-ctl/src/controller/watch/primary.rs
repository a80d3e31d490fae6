//! The task that asks the hosts of the primary.
//!
//! All of them are asked side by side, so that one that is gone delays nobody. The session with who is
//! the primary is kept open, and one query in it makes a round. The others are looked at now and then,
//! for a second primary is to be noticed even where it is no member of any service; and at once, all of
//! them, when the primary does not answer or its session ends. Who of several is the primary is
//! [`choose`]'s to say.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use pgha_machine::balancer::{Choice, Claim, Standby, choose};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

use super::{Manner, Told};
use crate::config::Primary;
use crate::postgres::{Connector, PgError, PrimaryReport, Report, Server, Session, log_in_and_ask};

#[cfg(test)]
mod tests;

/// How many rounds pass between two looks at hosts that are in recovery or away, while there is a
/// primary.
const LOOK: u32 = 10;

/// How far apart questions to one host begin, at least: who answers and then ends the session, each
/// time, is not asked without pause.
const PAUSE: Duration = Duration::from_millis(100);

/// How long the others have to say that they are the primary too, when one of the cluster that is
/// known was found anew: what is known tells a former primary from the new one, and a host that is
/// gone answers nothing. While nothing is known, all of them are waited for.
const PATIENCE: Duration = Duration::from_millis(100);

/// What the hosts say, taken together.
#[derive(Debug)]
pub(in crate::controller) enum Hosts {
    /// This one is the primary.
    Primary(Server, PrimaryReport, Vec<Rival>),
    /// These all say that they are, with equal right, and which of them said so just now.
    Several(Vec<(Server, PrimaryReport)>, Option<Server>),
    /// None is; what each of them said.
    Lost(Vec<(Server, String)>, Vec<Rival>),
}

/// A host that is not in recovery, on a timeline that is not the newest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::controller) struct Rival {
    /// Where.
    pub(in crate::controller) server: Server,
    /// What it says of itself.
    pub(in crate::controller) claim: Claim,
}

/// Asks for ever.
pub(in crate::controller) async fn watch_primary(
    primary: Primary,
    mut manner: watch::Receiver<Manner>,
    tell: mpsc::Sender<Told>,
) {
    let mut lookout = Lookout::over(primary.hosts());
    let mut asked = FuturesUnordered::new();
    loop {
        let Manner { connector, interval, timeout } = manner.borrow_and_update().clone();
        lookout.timeout = timeout;
        let now = Instant::now();
        for (place, server, session) in lookout.begin(now) {
            let question = ask_host(connector.clone(), server, session, timeout);
            asked.push(async move { (place, question.await) });
        }
        let due = lookout.due();
        let answered = tokio::select! {
            Some((place, (said, session))) = asked.next() => {
                lookout.take(place, said, session, interval);
                Some(place)
            }
            place = ended(&mut lookout.hosts) => {
                lookout.lose(place);
                None
            }
            // Nobody waits for a round of the old pace.
            Ok(()) = manner.changed() => {
                lookout.hurry(Instant::now());
                None
            }
            () = sleep_until(due) => None,
        };
        if let Some(hosts) = lookout.judge(answered, Instant::now())
            && tell.send(Told::Primary(hosts)).await.is_err()
        {
            return;
        }
    }
}

/// Whether any of the hosts is a primary now.
///
/// # Errors
/// What each of them said instead.
pub(in crate::controller) async fn find_primary(
    primary: &Primary,
    connector: &Connector,
    timeout: Duration,
) -> Result<(), Vec<(Server, PgError)>> {
    let mut asked: FuturesUnordered<_> = primary
        .hosts()
        .iter()
        .map(|server| async {
            (*server, ask_host(connector.clone(), *server, None, timeout).await.0)
        })
        .collect();
    let mut errors = Vec::new();
    while let Some((server, said)) = asked.next().await {
        match said {
            Ok(_) => return Ok(()),
            Err(error) => errors.push((server, error)),
        }
    }
    Err(errors)
}

type Said = Result<PrimaryReport, PgError>;

async fn ask_host(
    connector: Connector,
    server: Server,
    kept: Option<Session>,
    timeout: Duration,
) -> (Said, Option<Session>) {
    // Whose session ended between two rounds may be a primary still, or again: a new one tells.
    let kept = kept.filter(|session| !session.is_over() && session.is_of(&connector));
    let asked = async {
        let (report, session) = log_in_and_ask(&connector, server, kept, timeout).await?;
        match report {
            Report::Standby(Standby { timeline, system, .. }, _) => {
                Err(PgError::InRecovery(Claim { timeline, system }))
            }
            Report::Primary(report) if !report.told_all => {
                Err(PgError::NotAMonitor { role: connector.login().user().to_owned() })
            }
            Report::Primary(report) => Ok((report, session)),
        }
    };
    match asked.await {
        Ok((report, session)) => (Ok(report), Some(session)),
        Err(error) => (Err(error), None),
    }
}

/// Returns the place of a host whose session has ended.
async fn ended(hosts: &mut [Host]) -> usize {
    poll_fn(|context| {
        let over = hosts.iter_mut().position(|host| {
            let session = host.session.as_mut();
            session.is_some_and(|session| pin!(session.ended()).poll(context).is_ready())
        });
        over.map_or(Poll::Pending, Poll::Ready)
    })
    .await
}

/// One host.
#[derive(Debug)]
struct Host {
    server: Server,
    /// While it is not being asked.
    session: Option<Session>,
    /// Its last word.
    said: Option<Said>,
    /// It has had its say since a primary was told last.
    heard: bool,
    /// When it was asked last.
    began: Option<Instant>,
    /// When to ask it next; `None` while it is being asked.
    due: Option<Instant>,
}

impl Host {
    fn report(&self) -> Option<&PrimaryReport> {
        self.said.as_ref()?.as_ref().ok()
    }

    /// Has it asked so long after it was asked last, if that was to be later.
    fn hasten(&mut self, now: Instant, after: Duration) {
        if let Some(due) = &mut self.due {
            let early = self.began.map_or(now, |began| (began + after).max(now));
            *due = early.min(*due);
        }
    }
}

/// Whom the hosts' words make the primary, by their places.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Verdict {
    Primary(usize),
    Several(Vec<usize>),
    Lost,
}

/// All hosts, and what was told of them.
#[derive(Debug)]
struct Lookout {
    hosts: Vec<Host>,
    /// What was told last.
    told: Option<Verdict>,
    /// Until when another verdict waits for those who have not had their say.
    undecided: Option<Instant>,
    /// When it was judged last.
    judged: Instant,
    /// The place of the primary that was told last, and by what it was it.
    before: Option<(usize, Claim)>,
    /// How long each answer is waited for.
    timeout: Duration,
}

impl Lookout {
    fn over(servers: &[Server]) -> Self {
        let now = Instant::now();
        let host = |server: &Server| Host {
            server: *server,
            session: None,
            said: None,
            heard: false,
            began: None,
            due: Some(now),
        };
        Self {
            hosts: servers.iter().map(host).collect(),
            told: None,
            undecided: None,
            judged: now,
            before: None,
            timeout: Duration::ZERO,
        }
    }

    /// The hosts to ask now, with the sessions kept; from here they are being asked.
    fn begin(&mut self, now: Instant) -> Vec<(usize, Server, Option<Session>)> {
        let hosts = self.hosts.iter_mut().enumerate();
        let due = hosts.filter(|(_, host)| host.due.is_some_and(|due| due <= now));
        due.map(|(place, host)| {
            host.due = None;
            host.began = Some(now);
            (place, host.server, host.session.take())
        })
        .collect()
    }

    /// When there is something to do without an answer.
    fn due(&self) -> Instant {
        // Whose patience is over already waits for an answer alone.
        let undecided = self.undecided.filter(|until| *until > self.judged);
        let due = self.hosts.iter().filter_map(|host| host.due).chain(undecided).min();
        // Everybody is being asked, and each answer wakes by itself.
        due.unwrap_or_else(|| Instant::now() + Duration::from_secs(60))
    }

    /// Takes in what a host said.
    fn take(&mut self, place: usize, said: Said, session: Option<Session>, interval: Duration) {
        let host = &mut self.hosts[place];
        let began = host.began.unwrap_or_else(Instant::now);
        host.session = session;
        host.said = Some(said);
        host.heard = true;
        self.forget();
        let settled = matches!(self.verdict().0, Verdict::Primary(_));
        let host = &mut self.hosts[place];
        let rounds = if settled && host.report().is_none() { LOOK } else { 1 };
        host.due = Some((began + interval * rounds).max(began + PAUSE));
        if !settled {
            // Each of them may be the next primary, or one of several: at once where there was one a
            // moment ago, else in their rounds.
            let lost = self.told == Some(Verdict::Primary(place));
            let round = if lost { PAUSE } else { interval };
            let now = Instant::now();
            let others = self.hosts.iter_mut().enumerate().filter(|(other, _)| *other != place);
            others.for_each(|(_, host)| host.hasten(now, round));
        }
    }

    /// A session ended between two questions: all hosts are looked at.
    fn lose(&mut self, place: usize) {
        self.hosts[place].session = None;
        self.hurry(Instant::now());
    }

    /// Has all hosts asked as soon as may be.
    fn hurry(&mut self, now: Instant) {
        self.hosts.iter_mut().for_each(|host| host.hasten(now, PAUSE));
    }

    /// Forgets the primary that was told last once its timeline is given up: its host follows an older
    /// one, which another claims, and nobody claims a newer one. A standby that was promoted by mistake
    /// and made anew is like that.
    fn forget(&mut self) {
        let Some((place, before)) = self.before else { return };
        let Some(Err(PgError::InRecovery(now))) = &self.hosts[place].said else { return };
        let claims = self.claims();
        let given_up = claims.iter().all(|(_, claim)| claim.timeline < before.timeline);
        if given_up
            && now.timeline.is_some()
            && now.timeline < before.timeline
            && claims.iter().any(|(_, c)| c == now)
        {
            self.before = None;
        }
    }

    /// Whether enough is known to tell a primary from who only says that it is one.
    fn is_familiar(&self, verdict: &Verdict) -> bool {
        let Some((_, before)) = self.before else { return false };
        match verdict {
            Verdict::Primary(place) => {
                self.hosts[*place].report().is_some_and(|report| report.system == before.system)
            }
            Verdict::Several(_) | Verdict::Lost => true,
        }
    }

    fn claims(&self) -> Vec<(usize, Claim)> {
        let claims = self
            .hosts
            .iter()
            .enumerate()
            .filter_map(|(place, host)| Some((place, host.report()?.claim())));
        claims.collect()
    }

    /// The verdict, and who is on an older timeline.
    fn verdict(&self) -> (Verdict, Vec<Rival>) {
        let claims = self.claims();
        let (places, said): (Vec<_>, Vec<_>) = claims.iter().copied().unzip();
        let rivals = |stale: Vec<usize>| {
            let rival = |index: usize| Rival {
                server: self.hosts[places[index]].server,
                claim: said[index],
            };
            stale.into_iter().map(rival).collect()
        };
        match choose(&said, self.before.map(|(_, claim)| claim)) {
            Choice::Nobody { stale } => (Verdict::Lost, rivals(stale)),
            Choice::One { primary, stale } => (Verdict::Primary(places[primary]), rivals(stale)),
            Choice::Several(all) => {
                (Verdict::Several(all.into_iter().map(|index| places[index]).collect()), Vec::new())
            }
        }
    }

    /// What there is to tell after an answer, or after a while without one.
    fn judge(&mut self, answered: Option<usize>, now: Instant) -> Option<Hosts> {
        self.judged = now;
        let (verdict, stale) = self.verdict();
        let familiar = self.is_familiar(&verdict);
        let patience = if familiar { PATIENCE } else { self.timeout };
        let asking = |host: &Host| host.due.is_none_or(|due| due <= now);
        let awaited =
            self.hosts.iter().any(|host| if familiar { asking(host) } else { !host.heard });
        let is_new = self.told.as_ref() != Some(&verdict);
        let waits = match &verdict {
            // Not until nobody is being asked: who is silent for longer than a round always is.
            Verdict::Lost => self.hosts.iter().any(|host| !host.heard),
            Verdict::Primary(_) | Verdict::Several(_) if is_new && awaited => {
                now < *self.undecided.get_or_insert(now + patience)
            }
            Verdict::Primary(_) | Verdict::Several(_) => false,
        };
        if waits {
            return None;
        }
        if let Verdict::Primary(place) = verdict
            && is_new
            && answered != Some(place)
        {
            // What it said before was told already, or is older than what others were asked meanwhile: an
            // answer counts once, when it comes in. It is asked for another.
            self.hosts[place].hasten(now, PAUSE);
            return None;
        }
        self.undecided = None;
        let concerns = match &verdict {
            Verdict::Primary(place) => answered == Some(*place),
            Verdict::Several(places) => answered.is_some_and(|place| places.contains(&place)),
            Verdict::Lost => answered.is_some(),
        };
        if !is_new && !concerns {
            return None;
        }
        if verdict != Verdict::Lost {
            self.hosts.iter_mut().for_each(|host| host.heard = false);
        }
        self.told = Some(verdict.clone());
        Some(self.told_as(&verdict, stale, answered))
    }

    fn told_as(&mut self, verdict: &Verdict, stale: Vec<Rival>, answered: Option<usize>) -> Hosts {
        let report = |place: &usize| {
            let host = &self.hosts[*place];
            Some((host.server, host.report()?.clone()))
        };
        match verdict {
            Verdict::Primary(place) if let Some((server, told)) = report(place) => {
                self.before = Some((*place, told.claim()));
                Hosts::Primary(server, told, stale)
            }
            Verdict::Several(places) => {
                let answered = answered.filter(|place| places.contains(place));
                let answered = answered.map(|place| self.hosts[place].server);
                Hosts::Several(places.iter().filter_map(report).collect(), answered)
            }
            Verdict::Primary(_) | Verdict::Lost => {
                let said = |host: &Host| match &host.said {
                    Some(Err(error)) => Some((host.server, error.to_string())),
                    Some(Ok(_)) | None => None,
                };
                Hosts::Lost(self.hosts.iter().filter_map(said).collect(), stale)
            }
        }
    }
}
