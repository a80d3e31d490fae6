mod families;
mod histories;
mod managed;
mod mistrust;
mod paths;
mod primary_path;
mod stale;
mod standing;
mod successors;

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use super::{
    AutoWeight, Balancer, Config, Discovery, Down, Effect, Event, Finding, Inherited, LagLimits,
    News, Node, OrderChange, PrimaryAnswer, Probe, Scheduler, Service, ServicePlan, Standby,
    SyncState, Target, Walsender, Withheld,
};
use crate::{EffectiveWeight, Mac, Moment, Neighbour, Weight};

const VIP: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 100));
/// For what does not depend on time.
const NOW: Moment = Moment::new(1_000);
const SILENT_ABOUT_ITSELF: Standby = Standby {
    received: None,
    replayed: None,
    timeline: None,
    system: None,
    age: None,
    receiving: false,
    connections: None,
    walsenders: Vec::new(),
};
pub(super) const GOOD: Finding = Finding::Standby(SILENT_ABOUT_ITSELF);
pub(super) const NOT_IN_RECOVERY: Finding = Finding::NotInRecovery { timeline: None, system: None };

/// The first four have IPv4 addresses, the others IPv6 ones.
fn host(number: u8) -> IpAddr {
    if number <= 4 {
        Ipv4Addr::new(10, 0, 0, number).into()
    } else {
        Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, number.into()).into()
    }
}

fn target(number: u8) -> Target {
    Target { address: host(number), port: 5432 }
}

fn at(interface: u8, number: u8) -> Neighbour {
    Neighbour { interface, mac: Mac::new([2, 0, 0, 0, 0, number]).unwrap() }
}

fn config(discovery: Discovery, nodes: &[u8]) -> Config {
    Config {
        services: vec![Service {
            name: "reader".parse().unwrap(),
            vip: VIP,
            port: 5432,
            scheduler: Scheduler::RoundRobin,
            discovery,
            default_weight: Weight::ONE,
            allowed_clients: Vec::new(),
            syn_limit: None,
            lag: LagLimits::default(),
            auto_weight: AutoWeight::default(),
            slow_start: Duration::ZERO,
            probe: Probe::Off,
            fallback_to_primary: false,
        }],
        nodes: nodes
            .iter()
            .map(|n| Node {
                name: format!("db{n}").parse().unwrap(),
                address: host(*n),
                weight: None,
            })
            .collect(),
        rise: 2,
        fall: 3,
        local: BTreeSet::new(),
        managed: nodes.iter().map(|n| format!("db{n}").parse().unwrap()).collect(),
    }
}

fn walsender(number: u8, sync_state: SyncState) -> Walsender {
    Walsender { address: host(number), sync_state, replay_lag: None, replayed: None }
}

/// What operators have set after one change, for servers of the service.
fn ordered(balancer: &Balancer, change: &OrderChange) -> Event {
    let mut orders = balancer.orders();
    orders.change(change, "alice", 1_700_000_000);
    Event::Ordered { orders, wall: 1_700_000_000_000 }
}

fn drain(number: u8) -> OrderChange {
    OrderChange::Drain { vip: VIP, port: 5432, address: host(number), reset_at: None }
}

fn undrain(number: u8) -> OrderChange {
    OrderChange::Undrain { vip: VIP, port: 5432, address: host(number) }
}

fn set_weight(number: u8, weight: Option<Weight>) -> OrderChange {
    OrderChange::Weight { vip: VIP, port: 5432, address: host(number), weight }
}

fn answer(streaming: &[(u8, SyncState)]) -> Event {
    let walsenders = streaming.iter().map(|(n, sync_state)| walsender(*n, *sync_state));
    Event::Primary(PrimaryAnswer {
        host: host(1),
        timeline: None,
        system: None,
        lsn: None,
        walsenders: walsenders.collect(),
    })
}

/// The same answer as often as makes a missing walsender a vanished one.
fn answers(balancer: &mut Balancer, streaming: &[(u8, SyncState)]) {
    for _ in 0..3 {
        balancer.handle(NOW, answer(streaming));
    }
}

fn effects(balancer: &mut Balancer) -> Vec<Effect> {
    std::iter::from_fn(|| balancer.poll_effect()).collect()
}

fn service(balancer: &Balancer) -> ServicePlan {
    balancer.plan().services.into_iter().next().unwrap()
}

/// Who gets new connections.
fn readers(balancer: &Balancer) -> Vec<IpAddr> {
    service(balancer)
        .reals
        .iter()
        .filter(|r| r.weight > EffectiveWeight::ZERO)
        .map(|r| r.address)
        .collect()
}

fn withheld(balancer: &Balancer, number: u8) -> Vec<Withheld> {
    let view = balancer.view().into_iter().next().unwrap();
    view.servers.into_iter().find(|server| server.address == host(number)).unwrap().withheld
}

fn bring_up(balancer: &mut Balancer, numbers: &[u8]) {
    for number in numbers {
        balancer.handle(NOW, Event::Neighbour(host(*number), Some(at(0, *number))));
        balancer.handle(NOW, Event::Checked(target(*number), GOOD));
        balancer.handle(NOW, Event::Checked(target(*number), GOOD));
    }
    effects(balancer);
}

fn streaming(numbers: &[u8]) -> Balancer {
    let mut balancer = Balancer::new(config(Discovery::Walsenders, &[]), &Inherited::default());
    let states: Vec<_> = numbers.iter().map(|n| (*n, SyncState::Async)).collect();
    balancer.handle(NOW, answer(&states));
    bring_up(&mut balancer, numbers);
    balancer
}

#[test]
fn a_standby_that_streams_joins_and_gets_clients_after_rise_checks() {
    let mut balancer = Balancer::new(config(Discovery::Walsenders, &[]), &Inherited::default());
    assert_eq!(effects(&mut balancer), []);
    balancer.handle(NOW, answer(&[(4, SyncState::Async)]));
    assert_eq!(
        effects(&mut balancer),
        [
            Effect::Tell(News::PrimaryAnswers(1)),
            Effect::Watch(target(4)),
            Effect::Resolve(host(4)),
            Effect::Tell(News::Joined(target(4))),
        ]
    );
    balancer.handle(NOW, Event::Neighbour(host(4), Some(at(0, 4))));
    assert_eq!(effects(&mut balancer), [Effect::Program]);
    balancer.handle(NOW, Event::Checked(target(4), GOOD));
    assert_eq!(effects(&mut balancer), []);
    assert!(readers(&balancer).is_empty());
    balancer.handle(NOW, Event::Checked(target(4), GOOD));
    assert_eq!(effects(&mut balancer), [Effect::Tell(News::Up(target(4))), Effect::Program]);
    assert_eq!(readers(&balancer), [host(4)]);
}

#[test]
fn all_four_sync_states_count() {
    let all = [SyncState::Async, SyncState::Potential, SyncState::Sync, SyncState::Quorum];
    for state in all {
        let mut balancer = streaming(&[2, 3]);
        balancer.handle(NOW, answer(&[(2, state), (3, state)]));
        assert_eq!(readers(&balancer), [host(2), host(3)], "{state:?}");
    }
}

#[test]
fn who_streams_but_is_no_standby_never_gets_a_client() {
    let mut balancer = Balancer::new(config(Discovery::Walsenders, &[]), &Inherited::default());
    balancer.handle(NOW, Event::Neighbour(host(9), Some(at(0, 9))));
    for finding in [Finding::Refused, NOT_IN_RECOVERY, Finding::Silent(String::new())] {
        balancer.handle(NOW, answer(&[(9, SyncState::Async)]));
        for _ in 0..10 {
            balancer.handle(NOW, Event::Checked(target(9), finding.clone()));
            assert!(readers(&balancer).is_empty());
        }
    }
}

#[test]
fn a_refused_connection_takes_a_reader_out_at_once_and_no_other() {
    let mut balancer = streaming(&[2, 3]);
    let other = service(&balancer).reals[1];
    balancer.handle(NOW, Event::SessionEnded(target(2)));
    assert_eq!(effects(&mut balancer), [Effect::CheckNow(target(2))]);
    balancer.handle(NOW, Event::Checked(target(2), Finding::Refused));
    assert_eq!(
        effects(&mut balancer),
        [Effect::Tell(News::Down(target(2), Down::Refused)), Effect::Program]
    );
    assert_eq!(readers(&balancer), [host(3)]);
    assert!(service(&balancer).reals[0].dead);
    assert_eq!(service(&balancer).reals[1], other);
}

#[test]
fn a_server_that_shuts_down_smartly_keeps_its_sessions() {
    let mut balancer = streaming(&[2, 3]);
    balancer.handle(NOW, Event::Checked(target(2), Finding::NotAccepting));
    assert_eq!(readers(&balancer), [host(3)]);
    assert!(!service(&balancer).reals[0].dead, "its sessions go on");
}

#[test]
fn a_vanished_walsender_only_drains() {
    let mut balancer = streaming(&[2, 3]);
    answers(&mut balancer, &[(3, SyncState::Async)]);
    assert_eq!(readers(&balancer), [host(3)]);
    assert_eq!(withheld(&balancer, 2), [Withheld::NotStreaming]);
    assert!(!service(&balancer).reals[0].dead);
    balancer.handle(NOW, answer(&[(2, SyncState::Async), (3, SyncState::Async)]));
    assert_eq!(readers(&balancer), [host(2), host(3)]);
}

#[test]
fn a_reader_that_is_dead_and_streams_no_more_is_forgotten() {
    let mut balancer = streaming(&[2, 3]);
    balancer.handle(NOW, Event::Checked(target(2), Finding::Refused));
    effects(&mut balancer);
    answers(&mut balancer, &[(3, SyncState::Async)]);
    assert_eq!(
        effects(&mut balancer),
        [Effect::Unwatch(target(2)), Effect::Tell(News::Left(target(2))), Effect::Program]
    );
}

/// Known defect of pha4pgsql: every reader was deleted when the primary could not be asked.
#[test]
fn readers_stay_when_the_primary_cannot_be_asked() {
    for discovery in [Discovery::Walsenders, Discovery::Both] {
        let mut balancer = Balancer::new(config(discovery, &[2]), &Inherited::default());
        balancer.handle(NOW, answer(&[(2, SyncState::Async), (3, SyncState::Async)]));
        bring_up(&mut balancer, &[2, 3]);
        let before = balancer.plan();
        for _ in 0..100 {
            balancer.handle(NOW, Event::PrimaryLost);
        }
        assert_eq!(balancer.plan(), before);
        assert_eq!(readers(&balancer), [host(2), host(3)]);
    }
}

#[test]
fn direct_discovery_needs_no_primary() {
    let mut balancer = Balancer::new(config(Discovery::Direct, &[2, 3]), &Inherited::default());
    balancer.handle(NOW, Event::PrimaryLost);
    bring_up(&mut balancer, &[2, 3]);
    assert_eq!(readers(&balancer), [host(2), host(3)]);
}

#[test]
fn both_wants_a_listed_server_to_stream_by_the_primarys_last_word() {
    let mut balancer = Balancer::new(config(Discovery::Both, &[2, 3]), &Inherited::default());
    balancer.handle(NOW, Event::PrimaryLost);
    bring_up(&mut balancer, &[2, 3]);
    assert_eq!(readers(&balancer), [host(2), host(3)], "the primary was never reached");
    answers(&mut balancer, &[(3, SyncState::Async)]);
    assert_eq!(readers(&balancer), [host(3)]);
    balancer.handle(NOW, Event::PrimaryLost);
    assert_eq!(readers(&balancer), [host(3)], "its last word stands");
    balancer.handle(NOW, Event::Checked(target(3), Finding::Refused));
    assert_eq!(readers(&balancer), [host(2)], "better this one than none");
}

#[test]
fn a_silent_server_is_dead_only_when_another_answers_meanwhile() {
    let silence = || Event::Checked(target(2), Finding::Silent(String::new()));
    let mut balancer = streaming(&[2, 3]);
    for _ in 0..10 {
        balancer.handle(NOW, silence());
        assert_eq!(readers(&balancer), [host(2), host(3)], "nobody answered meanwhile");
    }
    // Only the first of them counts, for others answered before it.
    for _ in 0..2 {
        balancer.handle(NOW, Event::Checked(target(3), GOOD));
        assert_eq!(readers(&balancer), [host(2), host(3)], "an answer alone takes nobody out");
        balancer.handle(NOW, silence());
    }
    assert_eq!(readers(&balancer), [host(3)]);
    assert!(service(&balancer).reals[0].dead);
}

/// Standbys come back one after the other, each up to `wal_retrieve_retry_interval` later.
#[test]
fn a_restarted_primary_empties_no_pool() {
    for discovery in [Discovery::Walsenders, Discovery::Both] {
        let mut balancer = Balancer::new(config(discovery, &[2, 3]), &Inherited::default());
        balancer.handle(NOW, answer(&[(2, SyncState::Async), (3, SyncState::Async)]));
        bring_up(&mut balancer, &[2, 3]);
        balancer.handle(NOW, Event::PrimaryLost);
        for _ in 0..2 {
            balancer.handle(NOW, answer(&[]));
            assert_eq!(readers(&balancer), [host(2), host(3)], "{discovery:?}");
        }
        for _ in 0..20 {
            balancer.handle(NOW, answer(&[]));
            assert_eq!(readers(&balancer), [host(2), host(3)], "better these than none");
        }
        balancer.handle(NOW, answer(&[(3, SyncState::Async)]));
        assert_eq!(readers(&balancer), [host(3)], "now there is a better one");
    }
}

#[test]
fn what_is_wrong_on_this_side_takes_nobody_out() {
    let mut balancer = streaming(&[2, 3]);
    for number in [2, 3].into_iter().cycle().take(20) {
        let finding = Finding::Undecided("the password file cannot be read".to_owned());
        balancer.handle(NOW, Event::Checked(target(number), finding));
        assert_eq!(readers(&balancer), [host(2), host(3)]);
    }
    let view = balancer.view();
    assert_eq!(view[0].servers[0].error.as_deref(), Some("the password file cannot be read"));
}

#[test]
fn how_far_a_standby_is_behind_is_known_only_while_the_primary_answers() {
    let mut balancer = streaming(&[2]);
    let lsn = |text: &str| Some(text.parse().unwrap());
    let lag = |balancer: &Balancer| balancer.view()[0].servers[0].lag_bytes;
    let replay =
        Standby { received: lsn("0/3000060"), replayed: lsn("0/3000060"), ..SILENT_ABOUT_ITSELF };
    let Event::Primary(answer) = answer(&[(2, SyncState::Async)]) else { unreachable!() };
    let answer = PrimaryAnswer { lsn: lsn("0/3000080"), ..answer };
    balancer.handle(NOW, Event::Primary(answer.clone()));
    balancer.handle(NOW, Event::Checked(target(2), Finding::Standby(replay)));
    assert_eq!(lag(&balancer), Some(0x20));
    balancer.handle(NOW, Event::PrimaryLost);
    assert_eq!(lag(&balancer), None);
    balancer.handle(NOW, Event::Primary(answer));
    assert_eq!(lag(&balancer), Some(0x20));
}

#[test]
fn answers_of_this_very_node_say_nothing_of_others() {
    let mut config = config(Discovery::Direct, &[1, 2]);
    config.local.insert(host(1));
    let mut balancer = Balancer::new(config, &Inherited::default());
    bring_up(&mut balancer, &[1, 2]);
    for _ in 0..20 {
        balancer.handle(NOW, answer(&[]));
        balancer.handle(NOW, Event::Checked(target(1), GOOD));
        balancer.handle(NOW, Event::Checked(target(2), Finding::Silent(String::new())));
        assert_eq!(readers(&balancer), [host(1), host(2)]);
    }
}

#[test]
fn an_operators_order_outlives_a_restart_of_the_server() {
    let mut balancer = streaming(&[2, 3]);
    let order = ordered(&balancer, &drain(3));
    balancer.handle(NOW, order);
    balancer.handle(NOW, Event::Checked(target(3), Finding::Refused));
    answers(&mut balancer, &[(2, SyncState::Async)]);
    answers(&mut balancer, &[(2, SyncState::Async), (3, SyncState::Async)]);
    bring_up(&mut balancer, &[3]);
    assert_eq!(readers(&balancer), [host(2)]);
    assert_eq!(withheld(&balancer, 3), [Withheld::Drained]);
}

#[test]
fn a_start_is_settled_when_everybody_was_asked_often_enough() {
    let mut balancer = Balancer::new(config(Discovery::Both, &[2, 3]), &Inherited::default());
    bring_up(&mut balancer, &[2]);
    balancer.handle(NOW, Event::Checked(target(3), Finding::Refused));
    assert!(!balancer.is_settled(), "the primary may know more");
    balancer.handle(NOW, Event::PrimaryLost);
    assert!(balancer.is_settled());
    balancer.handle(NOW, answer(&[(4, SyncState::Async)]));
    assert!(!balancer.is_settled(), "one more has joined");
}

#[test]
fn without_a_mac_address_nobody_is_sent_to_a_server() {
    let mut balancer = Balancer::new(config(Discovery::Direct, &[2]), &Inherited::default());
    balancer.handle(NOW, Event::Checked(target(2), GOOD));
    balancer.handle(NOW, Event::Checked(target(2), GOOD));
    assert_eq!(service(&balancer).reals, []);
    assert_eq!(withheld(&balancer, 2), [Withheld::NoMac]);
    balancer.handle(NOW, Event::Neighbour(host(2), Some(at(0, 2))));
    assert_eq!(readers(&balancer), [host(2)]);
    balancer.handle(NOW, Event::Neighbour(host(2), None));
    assert_eq!(service(&balancer).reals[0].neighbour, Some(at(0, 2)), "the last known stays");
    balancer.handle(NOW, Event::Neighbour(host(2), Some(at(0, 22))));
    assert_eq!(service(&balancer).reals[0].neighbour, Some(at(0, 22)));
}

#[test]
fn weights_come_from_the_operator_then_the_node_then_the_service() {
    let mut config = config(Discovery::Direct, &[2, 3]);
    config.services[0].default_weight = Weight::ZERO;
    config.nodes[1].weight = Weight::new(3);
    let mut balancer = Balancer::new(config, &Inherited::default());
    bring_up(&mut balancer, &[2, 3]);
    let weights = |balancer: &Balancer| -> Vec<_> {
        service(balancer).reals.iter().map(|real| real.weight.to_string()).collect()
    };
    assert_eq!(weights(&balancer), ["0", "3"]);
    let order = ordered(&balancer, &set_weight(2, Weight::new(7)));
    balancer.handle(NOW, order);
    assert_eq!(weights(&balancer), ["7", "3"]);
    let order = ordered(&balancer, &drain(2));
    balancer.handle(NOW, order);
    assert_eq!(weights(&balancer), ["0", "3"]);
    assert_eq!(withheld(&balancer, 2), [Withheld::Drained]);
    let order = ordered(&balancer, &undrain(2));
    balancer.handle(NOW, order);
    assert_eq!(weights(&balancer), ["7", "3"]);
    let order = ordered(&balancer, &set_weight(2, None));
    balancer.handle(NOW, order);
    assert_eq!(weights(&balancer), ["0", "3"]);
}
