//! Managed nodes: db1 is the primary of epoch 1 on timeline 1, db2 and db3 are its standbys.

use super::super::Cluster;
use super::*;
use crate::{Epoch, Lsn, NodeName, Position, Timeline};

const THREE: [u8; 3] = [1, 2, 3];

fn node(number: u8) -> NodeName {
    format!("db{number}").parse().unwrap()
}

/// Undisturbed.
fn cluster(epoch: u64, primary: u8) -> Cluster {
    Cluster {
        epoch: Epoch::new(epoch),
        freezes: 0,
        members: THREE.map(node).into(),
        primary: node(primary),
        writes: true,
        nominee: None,
        steady: true,
        forks: Vec::new(),
    }
}

fn tell(balancer: &mut Balancer, cluster: &Cluster) {
    balancer.handle(NOW, Event::Cluster(cluster.clone()));
}

fn by_both() -> Event {
    answer(&[(2, SyncState::Quorum), (3, SyncState::Quorum)])
}

fn up(discovery: Discovery) -> Balancer {
    let mut balancer = Balancer::new(config(discovery, &THREE), &Inherited::default());
    tell(&mut balancer, &cluster(1, 1));
    bring_up(&mut balancer, &[2, 3]);
    balancer.handle(NOW, Event::Neighbour(host(1), Some(at(0, 1))));
    balancer.handle(NOW, Event::Checked(target(1), NOT_IN_RECOVERY));
    balancer.handle(NOW, by_both());
    effects(&mut balancer);
    balancer
}

fn dead(balancer: &Balancer) -> Vec<IpAddr> {
    let reals = service(balancer).reals;
    reals.iter().filter(|real| real.dead).map(|real| real.address).collect()
}

#[test]
fn who_is_about_to_be_the_primary_is_no_reader_before_it_is_promoted() {
    let mut balancer = up(Discovery::Agents);
    assert_eq!(readers(&balancer), [host(2), host(3)]);
    let nominated = Cluster {
        nominee: Some(node(2)),
        freezes: 1,
        writes: false,
        steady: false,
        ..cluster(1, 1)
    };
    tell(&mut balancer, &nominated);
    assert_eq!(effects(&mut balancer), [Effect::Program]);
    assert_eq!(
        (readers(&balancer), withheld(&balancer, 2)),
        (vec![host(3)], vec![Withheld::Nominated])
    );
    // The term is its own by now, and its checks still find a standby.
    tell(&mut balancer, &Cluster { writes: false, ..cluster(2, 2) });
    balancer.handle(NOW, Event::Checked(target(2), GOOD));
    assert_eq!(withheld(&balancer, 2), [Withheld::NotInRecovery]);
    tell(&mut balancer, &cluster(2, 2));
    assert_eq!(readers(&balancer), [host(3)]);
    assert!(dead(&balancer).is_empty(), "no session of a reader is touched");
    // A nomination that is withdrawn makes it a reader again.
    let mut balancer = up(Discovery::Agents);
    tell(&mut balancer, &nominated);
    tell(&mut balancer, &Cluster { freezes: 1, ..cluster(1, 1) });
    assert_eq!(readers(&balancer), [host(2), host(3)]);
}

#[test]
fn a_demoted_primary_is_a_reader_once_it_streams() {
    let mut balancer = up(Discovery::Agents);
    answers(&mut balancer, &[(2, SyncState::Quorum), (3, SyncState::Quorum)]);
    tell(&mut balancer, &cluster(2, 2));
    bring_up(&mut balancer, &[1]);
    assert_eq!(withheld(&balancer, 1), [Withheld::NotStreaming]);
    balancer.handle(NOW, answer(&[(1, SyncState::Async), (3, SyncState::Quorum)]));
    assert_eq!(readers(&balancer), [host(1), host(3)]);
}

#[test]
fn a_walsender_that_vanishes_counts_only_while_the_lease_is_renewed_and_nothing_is_suspected() {
    let mut balancer = up(Discovery::Agents);
    let only_3 = [(3, SyncState::Quorum)];
    tell(&mut balancer, &Cluster { steady: false, ..cluster(1, 1) });
    for _ in 0..3 {
        answers(&mut balancer, &only_3);
    }
    assert_eq!(readers(&balancer), [host(2), host(3)]);
    tell(&mut balancer, &cluster(1, 1));
    answers(&mut balancer, &only_3);
    assert_eq!(
        (readers(&balancer), withheld(&balancer, 2)),
        (vec![host(3)], vec![Withheld::NotStreaming])
    );
    assert!(dead(&balancer).is_empty(), "it drains");
}

#[test]
fn a_standby_beyond_the_fork_has_diverged_and_one_that_was_restarted_has_not() {
    let standby = |timeline, lsn, receiving| {
        Finding::Standby(Standby {
            timeline: Some(Timeline::new(timeline)),
            replayed: Some(Lsn::new(lsn)),
            receiving,
            ..SILENT_ABOUT_ITSELF
        })
    };
    let fork = Position { timeline: Timeline::new(1), lsn: Lsn::new(100) };
    let second = Cluster { forks: vec![fork], ..cluster(2, 2) };
    let finds = |balancer: &mut Balancer, finding: Finding| {
        balancer.handle(NOW, Event::Checked(target(3), finding));
        withheld(balancer, 3)
    };
    let mut balancer = up(Discovery::Agents);
    tell(&mut balancer, &second);
    assert_eq!(finds(&mut balancer, standby(1, 100, false)), []);
    assert_eq!(finds(&mut balancer, standby(1, 101, false)), [Withheld::Diverged]);
    assert_eq!(finds(&mut balancer, standby(2, 101, true)), []);
    assert_eq!(finds(&mut balancer, standby(1, 101, false)), [], "it follows, and was restarted");
    // While the primary is suspected, nobody need stream.
    let mut balancer = up(Discovery::Agents);
    tell(&mut balancer, &Cluster { steady: false, ..second });
    assert_eq!(finds(&mut balancer, standby(1, 101, false)), []);
}

#[test]
fn who_is_managed_no_more_is_no_reader() {
    let mut balancer = up(Discovery::Agents);
    tell(&mut balancer, &Cluster { members: [1, 2].map(node).into(), ..cluster(1, 1) });
    assert_eq!(
        (readers(&balancer), withheld(&balancer, 3)),
        (vec![host(2)], vec![Withheld::NotListed])
    );
}

#[test]
fn writers_go_where_the_record_says_and_nowhere_else() {
    let mut balancer = up(Discovery::Writer);
    assert_eq!((readers(&balancer), dead(&balancer)), (vec![host(1)], vec![]));
    // Suspicion moves nobody.
    tell(&mut balancer, &Cluster { freezes: 1, steady: false, ..cluster(1, 1) });
    assert_eq!((readers(&balancer), effects(&mut balancer)), (vec![host(1)], vec![]));
    // With a proof that it acknowledges nothing more its sessions are reset, at once.
    let proven = Cluster { freezes: 1, writes: false, nominee: Some(node(2)), ..cluster(1, 1) };
    tell(&mut balancer, &proven);
    assert_eq!((readers(&balancer), dead(&balancer)), (vec![], vec![host(1)]));
    let path = |number| super::super::Path { vip: VIP, port: 5432, address: host(number) };
    let lost = Effect::Tell(News::WritersLost(path(1), Some(Epoch::new(1))));
    assert_eq!(effects(&mut balancer), [lost, Effect::Program]);
    tell(&mut balancer, &Cluster { writes: false, ..cluster(2, 2) });
    assert_eq!((readers(&balancer), effects(&mut balancer)), (vec![], vec![]), "not promoted yet");
    tell(&mut balancer, &cluster(2, 2));
    assert_eq!((readers(&balancer), dead(&balancer)), (vec![host(2)], vec![host(1)]));
    let sent = Effect::Tell(News::WritersSent(path(2), Some(Epoch::new(2))));
    assert_eq!(effects(&mut balancer), [sent, Effect::Program]);
}

#[test]
fn an_older_record_moves_no_writer() {
    let mut balancer = up(Discovery::Writer);
    tell(&mut balancer, &Cluster { freezes: 5, ..cluster(2, 2) });
    for old in [cluster(1, 1), Cluster { freezes: 4, ..cluster(2, 3) }] {
        tell(&mut balancer, &old);
        assert_eq!(readers(&balancer), [host(2)], "{old:?}");
    }
}

#[test]
fn a_director_that_knows_no_record_keeps_the_writers_where_they_are() {
    let first = up(Discovery::Writer);
    let plan = first.plan().services.remove(0);
    let left = plan.reals.iter().map(|real| super::super::InheritedReal {
        service: plan.index,
        real: real.real,
        address: real.address,
        neighbour: real.neighbour,
        dead: real.dead,
        in_service: real.weight > EffectiveWeight::ZERO,
        steering: real.steering,
    });
    let inherited = Inherited {
        services: vec![(plan.index, VIP, 5432)],
        reals: left.collect(),
        ids: plan.reals.iter().map(|real| real.real).collect(),
    };
    let mut balancer = Balancer::new(config(Discovery::Writer, &THREE), &inherited);
    assert_eq!((readers(&balancer), dead(&balancer)), (vec![host(1)], vec![]));
    balancer.handle(NOW, Event::Checked(target(1), NOT_IN_RECOVERY));
    balancer.handle(NOW, Event::Checked(target(2), NOT_IN_RECOVERY));
    assert_eq!(readers(&balancer), [host(1)], "whoever else says that it is a primary");
    // Its sessions were begun under a former controller, and are reset all the same.
    tell(&mut balancer, &cluster(2, 2));
    assert_eq!((readers(&balancer), dead(&balancer)), (vec![host(2)], vec![host(1)]));
    // And one that begins with nothing sends writers nowhere.
    let balancer = Balancer::new(config(Discovery::Writer, &THREE), &Inherited::default());
    assert!(readers(&balancer).is_empty());
}

#[test]
fn writers_of_a_primary_that_crashed_are_told_and_come_back() {
    let mut balancer = up(Discovery::Writer);
    balancer.handle(NOW, Event::Checked(target(1), Finding::Refused));
    assert_eq!((readers(&balancer), dead(&balancer)), (vec![], vec![host(1)]));
    balancer.handle(NOW, Event::Checked(target(1), NOT_IN_RECOVERY));
    assert_eq!((readers(&balancer), dead(&balancer)), (vec![host(1)], vec![]));
}

#[test]
fn no_order_for_readers_concerns_writers() {
    let mut balancer = up(Discovery::Writer);
    for change in [drain(1), set_weight(1, Some(Weight::ZERO))] {
        let orders = ordered(&balancer, &change);
        balancer.handle(NOW, orders);
        assert_eq!(readers(&balancer), [host(1)]);
    }
    let added = super::super::ReaderOrder {
        address: host(4),
        name: None,
        weight: None,
        by: "alice".to_owned(),
        at: 1_700_000_000,
    };
    let mut orders = balancer.orders();
    orders.readers.push(added);
    balancer.handle(NOW, Event::Ordered { orders, wall: 1_700_000_000_000 });
    assert!(!balancer.has_member((VIP, 5432), host(4)));
}
