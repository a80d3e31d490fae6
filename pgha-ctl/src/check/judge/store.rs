//! The store that orders are kept in.

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::time::Duration;

use crate::check::facts::Facts;
use crate::check::{Check, about};
use crate::config::{Config, StorePlace};
use crate::controller::status::StoreStatus;
use crate::store::{Health, MemberHealth, Told};

pub(super) fn judge(config: &Config, facts: &Facts) -> Vec<Check> {
    match (config.store(), &facts.store) {
        (StorePlace::Etcd(etcd), Some(health)) => {
            let members = health.members.iter().map(|member| self::member(member, etcd.timeout()));
            std::iter::once(whole(health)).chain(members).chain(controller(facts)).collect()
        }
        // A local one is the controller's alone: it says how it is.
        _ => controller(facts).into_iter().collect(),
    }
}

fn controller(facts: &Facts) -> Option<Check> {
    facts.controller.as_ref().ok().map(|status| kept(&status.store))
}

/// How the store is to the controller, which may fare otherwise than who checks.
fn kept(store: &StoreStatus) -> Check {
    let check = about("store", "", "orders are read and kept");
    match &store.error {
        Some(error) => check.fail(error),
        None if store.shared => check.ok("it answers the controller"),
        None => check.ok(format!("{} answers", store.path.display())),
    }
}

/// Those that serve linearizable reads: they are in touch with most members.
fn serving(health: &Health) -> impl Iterator<Item = (&MemberHealth, &Told, Duration)> {
    health.members.iter().filter_map(|member| {
        let told = member.told.as_ref().ok()?;
        Some((member, told, *told.read.as_ref().ok()?))
    })
}

/// Whether the members together are a store, and would be one without one of them.
fn whole(health: &Health) -> Check {
    let check = about("store", "", "the members of etcd are a store together");
    let told = || health.members.iter().filter_map(|member| member.told.as_ref().ok());
    let clusters: BTreeSet<_> = told().map(|told| told.cluster).collect();
    if clusters.len() > 1 {
        let clusters: Vec<_> = clusters.iter().map(|id| format!("{id:016x}")).collect();
        return check
            .fail(format!("they are of different clusters: {}", clusters.join(", ")))
            .mend("have store.endpoints name the members of one etcd");
    }
    let reads: Vec<_> = serving(health).map(|(.., read)| read).collect();
    let (Some(fastest), Some(slowest)) = (reads.iter().min(), reads.iter().max()) else {
        return check
            .fail("none of them serves a linearizable read: there is no quorum, or no way to it")
            .wanted("most members in touch with each other")
            .mend("start the members that are down; the checks of each say what is wrong");
    };
    let leaders: BTreeSet<_> = told().filter_map(|told| told.leader).collect();
    let leader = told_leader(health).unwrap_or_else(|| "one that is not listed".to_owned());
    let voters = health.voters.unwrap_or(health.members.len());
    let needed = voters / 2 + 1;
    let found = format!(
        "{} of {voters} serve reads, {needed} are needed; {leader} leads; a linearizable read takes {fastest:.1?} to \
         {slowest:.1?}",
        reads.len()
    );
    if leaders.len() > 1 {
        return check.warn(format!("{found}; they disagree on who leads: an election is on"));
    }
    if voters < 3 {
        let wanted = "three members, so that the store outlives the loss of one";
        return check.warn(found).wanted(wanted).mend("add members to etcd");
    }
    if health.members.len() < voters {
        let mend = "list the others in store.endpoints too";
        return check.warn(format!("{found}; {} are listed", health.members.len())).mend(mend);
    }
    if reads.len() <= needed && reads.len() < voters {
        return check
            .warn(format!("{found}: the loss of another one is the loss of the store"))
            .mend("start the members that are down");
    }
    check.ok(found)
}

/// The endpoint of the member that the others follow.
fn told_leader(health: &Health) -> Option<String> {
    let leads = |member: &&MemberHealth| {
        member.told.as_ref().is_ok_and(|told| told.leader == Some(told.id))
    };
    health.members.iter().find(leads).map(|member| member.at.to_string())
}

fn member(member: &MemberHealth, timeout: Duration) -> Check {
    let check = about("store-member", member.at.to_string(), "the member of etcd serves");
    let told = match &member.told {
        Ok(told) => told,
        // What is wrong with the store as a whole has its own check.
        Err(error) => return check.warn(error.to_string()),
    };
    if !told.alarms.is_empty() {
        return check
            .fail(told.alarms.join(", "))
            .mend("see etcdctl alarm list, and the maintenance guide of etcd");
    }
    let read = match &told.read {
        Ok(read) => *read,
        Err(error) => return check.warn(format!("it runs, and serves no read: {error}")),
    };
    let role = if told.leader == Some(told.id) { "leads" } else { "follows" };
    let found = format!("etcd {} {role}; a linearizable read took {read:.1?}", told.version);
    if read > timeout / 2 {
        return check
            .warn(found)
            .wanted(format!("less than half of store.timeout ({timeout:?})"))
            .mend("give its WAL a faster disk, or lease.duration and store.timeout more time");
    }
    check.ok(found)
}
