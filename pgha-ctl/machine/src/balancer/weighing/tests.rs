use pgha_common::flow::RealRef;
use proptest::prelude::*;

use super::super::config::{AutoWeight, Discovery, LagLimits, Limit, Scheduler};
use super::super::lag::Lag;
use super::super::member::Health;
use super::super::orders::ReaderOrder;
use super::super::probe::Probe;
use super::*;

const VIP: std::net::IpAddr = std::net::IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 100));

fn service(auto_weight: AutoWeight, slow_start: Duration) -> Service {
    Service {
        name: "reader".parse().unwrap(),
        vip: VIP,
        port: 5432,
        scheduler: Scheduler::Maglev,
        discovery: Discovery::Direct,
        default_weight: Weight::ONE,
        allowed_clients: Vec::new(),
        syn_limit: None,
        lag: LagLimits { bytes: Some(Limit { drain: 1_000, back: 500 }), time: None },
        auto_weight,
        slow_start,
        probe: Probe::Off,
        fallback_to_primary: false,
    }
}

fn member() -> Member {
    Member::new(VIP, RealRef { id: 1, generation: 0 }, Health::Up(0))
}

const ALL: AutoWeight = AutoWeight { lag: true, connections: true };

fn weight(whole: u16) -> Option<Weight> {
    Weight::new(whole)
}

#[test]
fn the_weight_is_the_operators_else_the_readers_else_the_nodes_else_the_services() {
    let service = service(AutoWeight::default(), Duration::ZERO);
    let mut member = member();
    let told = |member: &Member| {
        let weighing = Weighing::of(member, &service, Moment::default());
        let reasons: Vec<_> = weighing.reasons(member).iter().map(WeightReason::phrase).collect();
        (weighing.weight().to_string(), reasons.join(", "))
    };
    let expected = |weight: &str, reason: &str| (weight.to_owned(), reason.to_owned());
    assert_eq!(told(&member), expected("1", "1 by default_weight of the service"));
    member.node_weight = weight(2);
    assert_eq!(told(&member), expected("2", "2 in the node table"));
    let by = || "alice".to_owned();
    let reader = ReaderOrder { address: VIP, name: None, weight: None, by: by(), at: 5 };
    member.reader = Some(reader.clone());
    assert_eq!(told(&member), expected("2", "2 in the node table"));
    member.reader = Some(ReaderOrder { weight: weight(3), ..reader });
    assert_eq!(told(&member), expected("3", "3 as a reader added by alice"));
    member.ordered.steering.weight = weight(4);
    member.ordered.weight_set = Some(Stamp { by: "bob".to_owned(), at: 6 });
    assert_eq!(told(&member), expected("4", "4 set by bob"));
}

#[test]
fn what_is_measured_moves_a_weight_only_where_that_is_wanted() {
    let mut member = member();
    member.lag = Some(Lag { bytes: Some(500), time: None });
    member.connections = Some(Connections { used: 20, most: 100 });
    for (lag, connections, result) in
        [(false, false, "1"), (true, false, "0.6"), (false, true, "0.8"), (true, true, "0.4")]
    {
        let service = service(AutoWeight { lag, connections }, Duration::ZERO);
        let weighing = Weighing::of(&member, &service, Moment::default());
        assert_eq!(weighing.weight().to_string(), result, "{lag} {connections}");
    }
}

#[test]
fn the_weight_follows_in_steps() {
    let service = service(ALL, Duration::ZERO);
    let mut member = member();
    let mut weights = Vec::new();
    // Up to 9 % more or less is not followed.
    for used in [5, 9, 10, 5, 15, 19, 20, 95, 100, 93, 0] {
        member.connections = Some(Connections { used, most: 100 });
        let weighing = Weighing::of(&member, &service, Moment::default());
        member.followed = weighing.followed();
        weights.push(weighing.weight().to_string());
    }
    assert_eq!(weights, ["1", "1", "0.9", "0.9", "0.9", "0.9", "0.8", "0.1", "0.1", "0.1", "1"]);
    member.connections = Some(Connections { used: 7, most: 100 });
    let reasons = Weighing::of(&member, &service, Moment::default()).reasons(&member);
    let phrases: Vec<_> = reasons.iter().map(WeightReason::phrase).collect();
    assert_eq!(
        phrases[1..],
        ["93 % for 7 of 100 connections in use", "1: small changes are not followed"]
    );
}

#[test]
fn slow_start_has_ten_steps_from_a_tenth_to_all() {
    let service = service(AutoWeight::default(), Duration::from_secs(10));
    let mut member = member();
    member.node_weight = weight(10);
    let began = Moment::new(777);
    member.rising = Some(began);
    let (mut now, mut weights) = (began, Vec::new());
    loop {
        weights.push(Weighing::of(&member, &service, now).weight().to_string());
        let Some(next) = next_step(began, service.slow_start, now) else { break };
        let just_before = Moment::new(next.milliseconds() - 1);
        let unchanged = Weighing::of(&member, &service, just_before).weight().to_string();
        assert_eq!(Some(&unchanged), weights.last(), "before its time");
        assert_eq!(next.since(now), Duration::from_secs(1));
        now = next;
    }
    assert_eq!(weights, ["1", "1.9", "2.8", "3.7", "4.6", "5.5", "6.4", "7.3", "8.2", "9.1", "10"]);
    assert_eq!(Weighing::of(&member, &service, now).reasons(&member).len(), 1, "nothing is left");
}

proptest! {
    #[test]
    fn nothing_automatic_takes_all_of_a_weight(
        whole in 1..=1000u16, lag: u64, used: u32, most: u32, followed in 1..=10u32,
        slow_start in 0..100_000u64, since in 0..100_000u64,
    ) {
        let service = service(ALL, Duration::from_millis(slow_start));
        let mut member = member();
        member.node_weight = weight(whole);
        member.lag = Some(Lag { bytes: Some(lag), time: None });
        member.connections = Some(Connections { used, most });
        member.followed = followed * 100;
        member.rising = Some(Moment::new(0));
        let now = Moment::new(since);
        let weighing = Weighing::of(&member, &service, now);
        let full = EffectiveWeight::new(whole).unwrap();
        prop_assert!(weighing.weight() >= full.part(100) && weighing.weight() <= full);
        let full_weight = weighing.weight() == full;
        let told = weighing.reasons(&member).len() > 1;
        prop_assert!(full_weight || told, "a lower weight without a reason");
        if let Some(next) = next_step(Moment::new(0), service.slow_start, now) {
            prop_assert!(next > now || slow_start < 10);
        }
    }
}
