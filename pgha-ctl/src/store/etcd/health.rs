//! How the members of an etcd are, each asked by itself.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use hyper::body::Bytes;
use serde::de::DeserializeOwned;

use super::member::Member;
use super::wire::{self, MembersAnswer, StatusAnswer};
use super::{Answer, Etcd, EtcdError, Shared};
use crate::config::Endpoint;
use crate::store::exchange::Failure;

/// An etcd, as its members describe it.
#[derive(Debug)]
pub struct Health {
    /// Each endpoint, in the order of the configuration.
    pub members: Vec<MemberHealth>,
    /// How many members vote; `None` where none would say.
    pub voters: Option<usize>,
}

/// One member, by its endpoint.
#[derive(Debug)]
pub struct MemberHealth {
    /// Where it was asked.
    pub at: Endpoint,
    /// What it says of itself.
    pub told: Result<Told, EtcdError>,
}

/// What a member says of itself.
#[derive(Debug)]
pub struct Told {
    /// The cluster it belongs to.
    pub cluster: u64,
    /// Its own id.
    pub id: u64,
    /// Whom it takes for the leader.
    pub leader: Option<u64>,
    /// Its version.
    pub version: String,
    /// What it complains of.
    pub alarms: Vec<String>,
    /// How long one linearizable read by way of it took.
    pub read: Result<Duration, EtcdError>,
}

impl Etcd {
    /// Asks each member how it is, side by side.
    pub async fn health(&self) -> Health {
        let members = self.shared.members.iter().map(|member| self.shared.health_of(member));
        let (members, voters) = tokio::join!(join_all(members), self.shared.voters());
        Health { members, voters }
    }
}

impl Shared {
    async fn health_of(&self, member: &Member) -> MemberHealth {
        MemberHealth { at: member.at().clone(), told: self.told_by(member).await }
    }

    async fn told_by(&self, member: &Member) -> Result<Told, EtcdError> {
        let status: StatusAnswer = self.asked(member, wire::STATUS, &wire::nothing()).await?;
        let begin = Instant::now();
        let look = wire::look(&self.incarnation_path());
        let read = self.ask_one(member, wire::RANGE, &look, self.turn()).await;
        Ok(Told {
            cluster: status.header.cluster_id,
            id: status.header.member_id,
            leader: Some(status.leader).filter(|leader| *leader != 0),
            version: status.version,
            alarms: status.errors,
            read: read.map(|_| begin.elapsed()).map_err(Failure::error),
        })
    }

    /// Of whoever answers first, by the order of the configuration.
    async fn voters(&self) -> Option<usize> {
        let nothing = wire::nothing();
        let ask = |member| self.asked::<MembersAnswer>(member, wire::MEMBERS, &nothing);
        let told = join_all(self.members.iter().map(ask)).await;
        let MembersAnswer { members } = told.into_iter().find_map(Result::ok)?;
        Some(members.iter().filter(|member| !member.learner).count())
    }

    pub(super) async fn asked<T: DeserializeOwned>(
        &self,
        member: &Member,
        path: &'static str,
        request: &Bytes,
    ) -> Result<T, EtcdError> {
        let answer: Answer<'_> =
            self.ask_one(member, path, request, self.turn()).await.map_err(Failure::error)?;
        answer.read()
    }
}
