//! Explanations say what the program does.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;

use pgha_common::maps::Scheduler;
use pgha_common::verdict::{Action, Reason};
use pgha_ctl::bpf::xdp::{Choice, Explanation, FlowState, KnownFlow};
use pgha_machine::EffectiveWeight;
use pgha_machine::balancer::{ServicePlan, SynLimit};
use pgha_tests::dataplane::{FAMILIES, Family, Random, Segment, real, service};

use crate::harness::{Bench, Outcome, SEED, seed};

const TUPLES: u32 = 100_000;
/// How many tuples there are between two changes of the plan.
const BETWEEN_CHANGES: usize = 200;
const HOSTS: usize = 97;
const PORTS: usize = 40;
const FIRST_PORT: u16 = 5432;
const SCHEDULERS: [Scheduler; 4] =
    [Scheduler::Maglev, Scheduler::RoundRobin, Scheduler::Source, Scheduler::Least];

/// What a SYN may meet behind a limit.
const PAST_A_LIMIT: [Reason; 3] = [Reason::NewFlow, Reason::LocalServer, Reason::NoServer];

#[test]
fn xdp_explain_agrees_with_the_data_plane() {
    let seed = seed();
    println!("{SEED}={seed}");
    let mut random = Random::new(seed);
    let mut bench = Bench::new(services());
    let mut seen = BTreeMap::<(Reason, bool), u32>::new();
    let (mut ran_out, mut successors) = (0, 0);
    for _ in 0..TUPLES {
        if random.one_in(BETWEEN_CHANGES) {
            change(&mut bench, &mut random);
        }
        let (client, vip) = tuple(&mut random);
        let explanation = bench.data_plane().as_written().explain(client, vip).unwrap();
        let opens = random.one_in(2);
        let (choice, segment) = if opens {
            (explanation.connect, Segment::new(client, vip).syn())
        } else {
            (explanation.next, going_on(client, vip, &explanation))
        };
        let outcome = bench.send(&segment.frame());
        // The time of a limit may end between the two: then the SYN goes on to the scheduler. That is rare,
        // and a wrong idea of limits is not.
        if choice.reason == Reason::SynLimited && PAST_A_LIMIT.contains(&outcome.reason) {
            ran_out += 1;
        } else {
            assert_eq!(
                (outcome.reason, server(&outcome)),
                (choice.reason, named(choice)),
                "{client} {vip} opens {opens}: {explanation:?}"
            );
        }
        *seen.entry((outcome.reason, opens)).or_default() += 1;
        successors += go_on(&mut bench, &mut random, client, vip, &explanation);
    }
    println!("{seen:?}, {ran_out} limits ran out, {successors} successors of closing flows");
    assert!(ran_out < TUPLES / 1000 && successors > 100, "{ran_out}, {successors}");
    for (reason, opens) in [
        (Reason::NewFlow, true),
        (Reason::SynAgain, true),
        (Reason::PendingFlow, false),
        (Reason::EstablishedFlow, false),
        (Reason::UnknownFlow, false),
        (Reason::NoServer, true),
        (Reason::NoServer, false),
        (Reason::DeadServer, false),
        (Reason::LocalServer, true),
        (Reason::LocalServer, false),
        (Reason::NotAllowed, true),
        (Reason::NotAllowed, false),
        (Reason::SynLimited, true),
        (Reason::NoService, true),
        (Reason::NotVip, true),
        (Reason::FromVip, true),
    ] {
        let count = seen.get(&(reason, opens)).copied().unwrap_or(0);
        assert!(count > 10, "{reason:?} opens {opens}: {count} times");
    }
}

/// The server that got the frame; a frame for this very node names none.
fn server(outcome: &Outcome) -> Option<u16> {
    (outcome.reason.action() == Action::Forward).then(|| outcome.real())
}

/// The server that is to get it, likewise.
fn named(choice: Choice) -> Option<u16> {
    assert_eq!(
        choice.real.is_some(),
        choice.reason.action() == Action::Forward || choice.reason == Reason::LocalServer,
    );
    choice.real.map(|real| real.id).filter(|_| choice.reason != Reason::LocalServer)
}

/// One for each scheduler and family, with three servers.
fn services() -> Vec<ServicePlan> {
    let mut services = Vec::new();
    for family in FAMILIES {
        for (scheduler, port) in SCHEDULERS.into_iter().zip(FIRST_PORT..) {
            let index = u16::try_from(services.len()).unwrap();
            let vip = SocketAddr::new(family.vip().ip(), port);
            let reals = [1, 2, 3].map(|number| real(10 * index + number));
            services.push(ServicePlan { index, ..service(vip, scheduler, reals) });
        }
    }
    services
}

/// A client and where it connects: mostly to a service.
fn tuple(random: &mut Random) -> (SocketAddr, SocketAddr) {
    let family = random.of(&FAMILIES);
    let service = u16::try_from(random.below(SCHEDULERS.len())).unwrap();
    let mut vip = SocketAddr::new(family.vip().ip(), FIRST_PORT + service);
    let mut client = SocketAddr::new(
        host(family, random.below(HOSTS)),
        40_000 + u16::try_from(random.below(PORTS)).unwrap(),
    );
    match random.below(300) {
        0 => vip.set_port(80),
        1 => vip.set_ip(family.looks_like_vip()),
        2 => client.set_ip(family.vip().ip()),
        _ => {}
    }
    (client, vip)
}

fn host(family: Family, number: usize) -> IpAddr {
    let number = u8::try_from(number).unwrap();
    // Hosts of IPv6 are limited by networks of 64 bits.
    let ipv6 = [0xfd11, 0, 0, u16::from(number), 0, 0, 0, 7];
    family.pick(IpAddr::from([11, 0, 0, number]), IpAddr::from(ipv6))
}

/// The segment that is explained.
fn going_on(client: SocketAddr, vip: SocketAddr, explanation: &Explanation) -> Segment {
    let segment = explanation.segment;
    assert!(segment.acknowledges && !segment.opens && !segment.closes);
    Segment::new(client, vip).ack(segment.acknowledgement).sequence(segment.sequence)
}

/// Brings a flow into another state, now and then; how many closing flows got a successor.
fn go_on(
    bench: &mut Bench,
    random: &mut Random,
    client: SocketAddr,
    vip: SocketAddr,
    before: &Explanation,
) -> u32 {
    let last = before.segment.acknowledgement;
    let segment = |further: u32| Segment::new(client, vip).ack(last.wrapping_add(further));
    let sent = match random.below(6) {
        // A first acknowledgement, and one that shows the server to answer.
        0 => vec![segment(100), segment(200)],
        1 => vec![segment(100)],
        2 => vec![segment(0).fin()],
        3 => vec![segment(0).rst()],
        // A closing flow, and its successor.
        4 => vec![segment(100), segment(200).fin(), Segment::new(client, vip).syn()],
        _ => vec![],
    };
    let known = |bench: &Bench| bench.data_plane().as_written().explain(client, vip).unwrap().flow;
    let mut successors = 0;
    for segment in sent {
        let closing = known(bench).filter(|known| known.flow.is_closing());
        bench.send(&segment.frame());
        let state = |flow: Option<KnownFlow>| flow.map(|known| known.state);
        let states = [state(closing), state(known(bench))];
        let expected = [FlowState::Established, FlowState::Pending].map(Some);
        successors += u32::from(segment.tcp.syn && states == expected);
    }
    successors
}

/// Changes one server or one service.
fn change(bench: &mut Bench, random: &mut Random) {
    let index = random.below(bench.plan.services.len());
    let service = &mut bench.plan.services[index];
    let family = Family::of(service.vip);
    let number = random.below(service.reals.len());
    let real = &mut service.reals[number];
    match random.below(9) {
        0 | 1 => (real.dead, real.weight) = (true, EffectiveWeight::ZERO),
        2 => (real.dead, real.weight) = (false, EffectiveWeight::ZERO),
        3 | 4 => {
            // From 0.1 to 5, whole ones among them.
            let tenths = u32::try_from(1 + random.below(50)).unwrap();
            (real.dead, real.weight) = (false, EffectiveWeight::from_thousandths(tenths * 100));
        }
        5 => real.real.generation += 1,
        6 => real.local = !real.local,
        7 => {
            let network = family.pick("11.0.0.0/26", "fd11::/58").parse().unwrap();
            let allowed = &mut service.allowed_clients;
            *allowed = if allowed.is_empty() { vec![network] } else { Vec::new() };
        }
        _ => {
            let of = |number| NonZeroU32::new(number).unwrap();
            service.syn_limit = match service.syn_limit {
                None => Some(SynLimit { rate: of(1), burst: of(3) }),
                Some(_) => None,
            };
        }
    }
    bench.apply();
}
