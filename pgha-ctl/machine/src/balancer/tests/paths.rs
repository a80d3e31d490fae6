//! Probes through the VIP: who is probed, and what that does to who serves.

use std::time::Duration;

use super::super::{
    Balancer, Config, Discovery, Effect, Event, Finding, Inherited, InheritedReal, News, Path,
    Probe, ProbeFinding, Steering, Via, VipStanding, Withheld,
};
use super::{
    GOOD, NOW, VIP, at, bring_up, config, effects, host, readers, service, target, withheld,
};
use crate::Moment;

fn path(number: u8) -> Path {
    Path { vip: VIP, port: 5432, address: host(number) }
}

fn probing(nodes: &[u8]) -> Config {
    let mut config = config(Discovery::Direct, nodes);
    config.services[0].probe = Probe::Syn;
    config
}

fn probed(balancer: &mut Balancer, number: u8, finding: ProbeFinding) {
    balancer.handle(NOW, Event::Probed(path(number), finding));
}

/// Two servers up, both proven.
fn proven() -> Balancer {
    let mut balancer = Balancer::new(probing(&[2, 3]), &Inherited::default());
    bring_up(&mut balancer, &[2, 3]);
    probed(&mut balancer, 2, ProbeFinding::Open);
    probed(&mut balancer, 3, ProbeFinding::Open);
    effects(&mut balancer);
    balancer
}

#[test]
fn nobody_gets_a_client_before_a_probe_came_through() {
    let mut balancer = Balancer::new(probing(&[2]), &Inherited::default());
    effects(&mut balancer);
    balancer.handle(NOW, Event::Neighbour(host(2), Some(at(0, 2))));
    assert_eq!(
        effects(&mut balancer),
        [Effect::Probe(path(2), Via::Neighbour(at(0, 2))), Effect::Program]
    );
    balancer.handle(NOW, Event::Checked(target(2), GOOD));
    balancer.handle(NOW, Event::Checked(target(2), GOOD));
    assert_eq!(withheld(&balancer, 2), [Withheld::VipUnproven]);
    assert!(!balancer.is_settled(), "the path is still in doubt");
    effects(&mut balancer);
    probed(&mut balancer, 2, ProbeFinding::Open);
    assert_eq!(effects(&mut balancer), [Effect::Program]);
    assert_eq!(readers(&balancer), [host(2)]);
    assert!(balancer.is_settled());
}

#[test]
fn a_server_without_the_vip_is_withheld_and_said_to_be_that() {
    let mut balancer = proven();
    for _ in 0..2 {
        probed(&mut balancer, 3, ProbeFinding::Open);
        probed(&mut balancer, 2, ProbeFinding::Silent);
        assert_eq!(effects(&mut balancer), []);
    }
    probed(&mut balancer, 3, ProbeFinding::Open);
    probed(&mut balancer, 2, ProbeFinding::Silent);
    let silent = News::Withheld(path(2), Withheld::VipSilent);
    assert_eq!(effects(&mut balancer), [Effect::Tell(silent), Effect::Program]);
    assert_eq!(readers(&balancer), [host(3)]);
    assert!(!service(&balancer).reals[0].dead, "its sessions may come by another way");
    probed(&mut balancer, 2, ProbeFinding::Open);
    let mended = News::Mended(path(2), Withheld::VipSilent);
    assert_eq!(effects(&mut balancer), [Effect::Tell(mended), Effect::ProgramSoon]);
    assert_eq!(readers(&balancer), [host(2), host(3)]);
}

#[test]
fn one_fault_on_this_side_takes_no_path_out_and_is_told() {
    let mut balancer = proven();
    for _ in 0..10 {
        for number in [2, 3] {
            probed(&mut balancer, number, ProbeFinding::Silent);
            assert_eq!(readers(&balancer), [host(2), host(3)]);
        }
    }
    let told = |number| Effect::Tell(News::Unheard(path(number)));
    // The first silence of the one counts, for the other had answered since.
    assert_eq!(effects(&mut balancer), [told(3), told(2)]);
    let view = balancer.view()[0].servers[0].clone();
    assert_eq!(view.vip, VipStanding::Proven);
    assert!(view.vip_error.unwrap().contains("this director"));
    probed(&mut balancer, 2, ProbeFinding::Open);
    for _ in 0..3 {
        probed(&mut balancer, 2, ProbeFinding::Open);
        probed(&mut balancer, 3, ProbeFinding::Silent);
    }
    assert_eq!(withheld(&balancer, 3), [Withheld::VipSilent]);
}

#[test]
fn servers_whose_sessions_are_all_taken_serve_when_no_other_can() {
    let mut balancer = proven();
    for round in 1..=3 {
        probed(&mut balancer, 2, ProbeFinding::Failing("53300".to_owned()));
        assert_eq!(withheld(&balancer, 2) == [Withheld::VipFailing], round == 3, "{round}");
    }
    for _ in 0..3 {
        probed(&mut balancer, 3, ProbeFinding::Failing("53300".to_owned()));
    }
    assert_eq!(readers(&balancer), [host(2), host(3)], "better these than none");
    probed(&mut balancer, 3, ProbeFinding::Open);
    assert_eq!(readers(&balancer), [host(3)]);
}

#[test]
fn a_refused_login_is_an_answer() {
    let mut balancer = proven();
    let refused = || Finding::LoginRefused("28P01".to_owned());
    for _ in 0..3 {
        balancer.handle(NOW, Event::Checked(target(2), refused()));
        balancer.handle(NOW, Event::Checked(target(3), Finding::Silent(String::new())));
    }
    assert!(service(&balancer).reals[1].dead, "another one was there meanwhile");
    assert_eq!(readers(&balancer), [host(2)], "its own health it says nothing of");
    balancer.handle(NOW, Event::Checked(target(3), refused()));
    assert!(!service(&balancer).reals[1].dead);
}

#[test]
fn a_fast_reboot_or_another_card_has_to_prove_the_path_again() {
    let mut balancer = proven();
    balancer.handle(NOW, Event::Checked(target(2), Finding::Refused));
    balancer.handle(NOW, Event::Checked(target(2), GOOD));
    balancer.handle(NOW, Event::Checked(target(2), GOOD));
    assert_eq!(withheld(&balancer, 2), [Withheld::VipUnproven]);
    balancer.handle(NOW, Event::Neighbour(host(3), Some(at(1, 3))));
    assert_eq!(readers(&balancer), [host(3)], "the same card on another link of this node");
    probed(&mut balancer, 2, ProbeFinding::Open);
    balancer.handle(NOW, Event::Neighbour(host(3), Some(at(1, 33))));
    assert_eq!(withheld(&balancer, 3), [Withheld::VipUnproven]);
}

#[test]
fn who_was_out_for_its_path_begins_slowly() {
    let mut config = probing(&[2, 3]);
    config.services[0].slow_start = Duration::from_secs(10);
    let mut balancer = Balancer::new(config, &Inherited::default());
    bring_up(&mut balancer, &[2, 3]);
    probed(&mut balancer, 2, ProbeFinding::Open);
    probed(&mut balancer, 3, ProbeFinding::Open);
    balancer.begin();
    probed(&mut balancer, 2, ProbeFinding::Refused);
    probed(&mut balancer, 2, ProbeFinding::Open);
    assert_eq!(service(&balancer).reals[0].weight.to_string(), "0.1");
    assert_eq!(service(&balancer).reals[1].weight.to_string(), "1");
}

#[test]
fn a_leak_ends_in_time_whatever_happens_then() {
    let mut balancer = proven();
    balancer.handle(NOW, Event::VipAnswered { vip: VIP, mac: at(0, 2).mac });
    let later = NOW + Duration::from_secs(61);
    balancer.handle(later, Event::Checked(target(3), GOOD));
    assert!(!balancer.view()[0].servers[0].answers_arp);
    assert_eq!(balancer.poll_timeout(), None);
}

#[test]
fn a_black_hole_is_worse_than_no_server() {
    let mut balancer = proven();
    for number in [2, 3] {
        probed(&mut balancer, number, ProbeFinding::Refused);
    }
    assert!(readers(&balancer).is_empty());
    assert_eq!(withheld(&balancer, 3), [Withheld::VipRefused]);
}

#[test]
fn a_host_that_is_gone_is_not_said_to_lack_the_vip() {
    let mut balancer = proven();
    let silence = || Event::Checked(target(2), Finding::Silent(String::new()));
    for _ in 0..10 {
        balancer.handle(NOW, silence());
        probed(&mut balancer, 2, ProbeFinding::Silent);
        balancer.handle(NOW, Event::Checked(target(3), GOOD));
    }
    assert!(service(&balancer).reals[0].dead);
    assert_eq!(withheld(&balancer, 2), [Withheld::Silent, Withheld::VipUnproven]);
    // It comes back, and has to prove its path again: lo may have lost the VIP.
    balancer.handle(NOW, Event::Checked(target(2), GOOD));
    balancer.handle(NOW, Event::Checked(target(2), GOOD));
    assert_eq!(withheld(&balancer, 2), [Withheld::VipUnproven]);
    probed(&mut balancer, 2, ProbeFinding::Open);
    assert_eq!(readers(&balancer), [host(2), host(3)]);
}

#[test]
fn a_probe_that_cannot_be_carried_out_is_shown_and_withholds_nobody() {
    let mut balancer = Balancer::new(probing(&[2]), &Inherited::default());
    bring_up(&mut balancer, &[2]);
    probed(&mut balancer, 2, ProbeFinding::Undecided("no raw socket".to_owned()));
    assert_eq!(readers(&balancer), [host(2)]);
    let view = &balancer.view()[0].servers[0];
    assert_eq!(view.vip, VipStanding::Undecided);
    assert_eq!(view.vip_error.as_deref(), Some("no raw socket"));
}

#[test]
fn probes_go_where_the_server_is_and_end_with_it() {
    let mut config = probing(&[1, 2, 3]);
    config.local.insert(host(1));
    let mut balancer = Balancer::new(config.clone(), &Inherited::default());
    assert!(effects(&mut balancer).contains(&Effect::Probe(path(1), Via::Local)));
    bring_up(&mut balancer, &[2, 3]);
    balancer.handle(NOW, Event::Neighbour(host(2), Some(at(1, 22))));
    assert!(effects(&mut balancer).contains(&Effect::Probe(path(2), Via::Neighbour(at(1, 22)))));
    // A probe of another kind is told by asking again.
    let mut startup = config.clone();
    startup.services[0].probe = Probe::Startup;
    balancer.handle(NOW, Event::Configured(startup.clone()));
    let again = effects(&mut balancer);
    assert!(again.contains(&Effect::Probe(path(3), Via::Neighbour(at(0, 3)))), "{again:?}");
    // One that was never up is let go at once, and the rest with their service.
    let mut fewer = startup.clone();
    fewer.nodes.remove(0);
    balancer.handle(NOW, Event::Configured(fewer.clone()));
    assert!(effects(&mut balancer).contains(&Effect::Unprobe(path(1))));
    fewer.services[0].probe = Probe::Off;
    balancer.handle(NOW, Event::Configured(fewer.clone()));
    assert_eq!(
        effects(&mut balancer),
        [Effect::Unprobe(path(2)), Effect::Unprobe(path(3)), Effect::Program]
    );
    assert_eq!(readers(&balancer), [host(2), host(3)]);
    // Who has clients when probing begins is not put to the proof by losing them.
    fewer.services[0].probe = Probe::Syn;
    balancer.handle(NOW, Event::Configured(fewer.clone()));
    assert_eq!(readers(&balancer), [host(2), host(3)]);
    effects(&mut balancer);
    fewer.services.clear();
    balancer.handle(NOW, Event::Configured(fewer));
    let ended = effects(&mut balancer);
    for number in [2, 3] {
        assert!(ended.contains(&Effect::Unprobe(path(number))), "{ended:?}");
    }
}

#[test]
fn the_servers_of_a_former_controller_count_as_proven() {
    let plan = service(&proven());
    let left = |index: usize, in_service| InheritedReal {
        service: 0,
        real: plan.reals[index].real,
        address: plan.reals[index].address,
        neighbour: plan.reals[index].neighbour,
        dead: false,
        in_service,
        steering: Steering::default(),
    };
    let inherited = Inherited {
        services: vec![(0, VIP, 5432)],
        reals: vec![left(0, true), left(1, false)],
        ids: plan.reals.iter().map(|real| real.real).collect(),
    };
    let mut balancer = Balancer::new(probing(&[2, 3]), &inherited);
    assert_eq!(readers(&balancer), [host(2)]);
    bring_up(&mut balancer, &[2, 3]);
    assert_eq!(readers(&balancer), [host(2)], "the other has to prove it");
    probed(&mut balancer, 3, ProbeFinding::Open);
    assert_eq!(readers(&balancer), [host(2), host(3)]);
}

#[test]
fn a_server_that_answers_for_the_vip_is_named_once_and_forgotten_when_it_stops() {
    let mut balancer = proven();
    let leak = || Event::VipAnswered { vip: VIP, mac: at(0, 2).mac };
    balancer.handle(NOW, leak());
    assert_eq!(effects(&mut balancer), [Effect::Tell(News::Leaks(path(2), at(0, 2).mac))]);
    let leaks = |balancer: &Balancer| -> Vec<_> {
        balancer.view()[0].servers.iter().map(|server| server.answers_arp).collect()
    };
    assert_eq!(leaks(&balancer), [true, false]);
    let later = NOW + Duration::from_secs(50);
    balancer.handle(later, leak());
    assert_eq!(effects(&mut balancer), []);
    let due = balancer.poll_timeout().unwrap();
    assert_eq!(due, later + Duration::from_secs(60));
    balancer.handle(Moment::new(due.milliseconds() - 1), Event::Tick);
    assert_eq!(leaks(&balancer), [true, false]);
    balancer.handle(due, Event::Tick);
    assert_eq!(leaks(&balancer), [false, false]);
    assert_eq!(balancer.poll_timeout(), None);
    balancer.handle(due, leak());
    assert_eq!(effects(&mut balancer), [Effect::Tell(News::Leaks(path(2), at(0, 2).mac))]);
    assert_eq!(readers(&balancer), [host(2), host(3)], "it serves all the same");
}
