//! The paths through the VIPs: which are probed, what the probes say, and who answers for a VIP besides.

use std::net::IpAddr;
use std::time::Duration;

use super::event::{Effect, News};
use super::member::Finding;
use super::probe::{Path, ProbeFinding};
use super::{Balancer, key};
use crate::Mac;

/// How long after it was heard last a server counts as one that answers for a VIP.
const LEAK: Duration = Duration::from_secs(60);

impl Balancer {
    /// Has every member of the services that were touched probed that can be, and nobody else.
    pub(super) fn probe_paths(&mut self) {
        for pool in self.pools.iter_mut().filter(|pool| pool.touched) {
            let probe = pool.service.probe;
            let (vip, port) = (pool.service.vip, pool.service.port);
            for member in pool.members.values_mut() {
                let wanted = member.probing(probe);
                if member.probed == wanted {
                    continue;
                }
                let path = Path { vip, port, address: member.address };
                self.effects.push_back(match wanted {
                    Some((_, via)) => Effect::Probe(path, via),
                    None => Effect::Unprobe(path),
                });
                member.probed = wanted;
            }
        }
    }

    pub(super) fn probed(&mut self, path: Path, finding: &ProbeFinding) {
        let fall = self.config.fall;
        let pool = self.pools.iter_mut().find(|pool| key(&pool.service) == (path.vip, path.port));
        let Some(pool) = pool else { return };
        let Some(member) = pool.members.get_mut(&path.address) else { return };
        // The last word of a probe that was ended meanwhile.
        if member.probed.is_none() {
            return;
        }
        let answers = match member.finding {
            Some(
                Finding::Standby(_)
                | Finding::NotInRecovery { .. }
                | Finding::Refused
                | Finding::NotAccepting
                | Finding::Answered(_)
                | Finding::LoginRefused(_),
            ) => true,
            Some(Finding::Undecided(_) | Finding::Silent(_)) | None => false,
        };
        // As with checks: of two silences in a row only that counts between which another one answered.
        let heard = match finding {
            ProbeFinding::Open
            | ProbeFinding::Refused
            | ProbeFinding::NotAccepting(_)
            | ProbeFinding::Failing(_) => !member.local,
            ProbeFinding::Silent | ProbeFinding::Undecided(_) => false,
        };
        pool.path_answers += u64::from(heard);
        let others = pool.path_answers > member.path_heard;
        member.path_heard = pool.path_answers;
        let passage = member.passage.after(finding, fall, answers, others);
        let newly = passage.is_unheard(fall) && !member.passage.is_unheard(fall);
        member.passage = passage;
        if newly {
            self.tell(News::Unheard(path));
        }
    }

    /// Somebody answers for a VIP: one of its servers, perhaps. Others are the director's concern.
    pub(super) fn vip_answered(&mut self, vip: IpAddr, mac: Mac) {
        let until = self.now + LEAK;
        let mut news = Vec::new();
        for pool in self.pools.iter_mut().filter(|pool| pool.service.vip == vip) {
            let port = pool.service.port;
            for member in pool.members.values_mut() {
                if member.neighbour.is_none_or(|neighbour| neighbour.mac != mac) {
                    continue;
                }
                if member.leaks_until.replace(until).is_none() {
                    news.push(News::Leaks(Path { vip, port, address: member.address }, mac));
                }
            }
        }
        news.into_iter().for_each(|news| self.tell(news));
    }

    /// Who has not answered for a VIP for long does it no more.
    pub(super) fn forget_leaks(&mut self) {
        let now = self.now;
        let due = self.pools.iter_mut().filter(|pool| pool.due.is_some_and(|due| due <= now));
        for member in due.flat_map(|pool| pool.members.values_mut()) {
            member.leaks_until = member.leaks_until.filter(|until| *until > self.now);
        }
    }
}
