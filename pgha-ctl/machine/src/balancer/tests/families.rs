//! Both address families, several interfaces, and who may connect.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU32;

use super::super::{
    Balancer, Discovery, Effect, Event, Inherited, News, OrderChange, SynLimit, SyncState, Unplaced,
};
use super::{
    NOW, answer, at, bring_up, config, effects, host, ordered, readers, service, streaming,
};

#[test]
fn a_service_has_real_servers_of_both_families() {
    let mut config = config(Discovery::Walsenders, &[]);
    let vip = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0x100).into();
    config.services[0].vip = vip;
    let mut balancer = Balancer::new(config, &Inherited::default());
    balancer.handle(NOW, answer(&[(2, SyncState::Async), (7, SyncState::Quorum)]));
    bring_up(&mut balancer, &[2, 7]);
    assert_eq!(service(&balancer).vip, vip);
    assert_eq!(readers(&balancer), [host(2), host(7)]);
    let drain = OrderChange::Drain { vip, port: 5432, address: host(7), reset_at: None };
    let order = ordered(&balancer, &drain);
    balancer.handle(NOW, order);
    assert_eq!(readers(&balancer), [host(2)]);
}

#[test]
fn a_server_behind_another_interface_has_moved() {
    let mut balancer = streaming(&[2, 7]);
    balancer.handle(NOW, Event::Neighbour(host(7), Some(at(1, 7))));
    assert_eq!(
        effects(&mut balancer),
        [Effect::Tell(News::Moved(host(7), at(1, 7))), Effect::Program]
    );
    assert_eq!(service(&balancer).reals[1].neighbour, Some(at(1, 7)));
    assert_eq!(balancer.view()[0].servers[1].interface, Some(1));
    balancer.handle(NOW, Event::Neighbour(host(7), Some(at(1, 7))));
    assert_eq!(effects(&mut balancer), []);
}

#[test]
fn limits_of_a_service_are_part_of_the_plan() {
    let mut balancer = streaming(&[2]);
    let mut limited = config(Discovery::Walsenders, &[]);
    let rate = NonZeroU32::new(10).unwrap();
    limited.services[0].syn_limit = Some(SynLimit { rate, burst: rate });
    limited.services[0].allowed_clients = vec!["10.0.0.0/8".parse().unwrap()];
    let service_of = limited.services[0].clone();
    balancer.handle(NOW, Event::Configured(limited));
    assert_eq!(effects(&mut balancer), [Effect::Program]);
    let plan = service(&balancer);
    assert_eq!(plan.syn_limit, service_of.syn_limit);
    assert_eq!(plan.allowed_clients, service_of.allowed_clients);
    assert_eq!(readers(&balancer), [host(2)]);
}

#[test]
fn a_walsender_is_whom_it_names_else_where_it_connects_from() {
    let config = config(Discovery::Walsenders, &[2, 7]);
    let link_local = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 9).into();
    let mapped = Ipv4Addr::new(10, 0, 0, 3).to_ipv6_mapped();
    for (name, client, address) in [
        ("db7", Some(host(3)), Ok(host(7))),
        ("db2", None, Ok(host(2))),
        ("fd00::8", Some(host(3)), Ok(host(8))),
        ("10.0.0.3", Some(host(8)), Ok(host(3))),
        ("walreceiver", Some(host(8)), Ok(host(8))),
        ("walreceiver", Some(mapped.into()), Ok(host(3))),
        ("::ffff:10.0.0.3", None, Ok(host(3))),
        ("walreceiver", Some(link_local), Err(Unplaced::LinkLocal)),
        ("fe80::9", Some(host(8)), Ok(host(8))),
        ("walreceiver", None, Err(Unplaced::UnixSocket)),
    ] {
        assert_eq!(config.address_of(name, client), address, "{name} from {client:?}");
    }
}
