//! How far a server may lag, what moves weights, and how a VIP is probed.

use std::time::Duration;

use pgha_machine::balancer::{AutoWeight, LagLimits, Limit, Probe};

use super::families::wrong;
use super::*;

fn of(text: &str) -> Service {
    parse(&with(text)).unwrap().services()[0].clone()
}

#[test]
fn a_server_returns_at_half_of_a_limit_unless_told_otherwise() {
    assert_eq!(of("").lag, LagLimits::default());
    let lag = of("max_lag_bytes = 1000\nmax_lag = \"10s\"\n").lag;
    assert_eq!(lag.bytes, Some(Limit { drain: 1000, back: 500 }));
    let (drain, back) = (Duration::from_secs(10), Duration::from_secs(5));
    assert_eq!(lag.time, Some(Limit { drain, back }));
    let lag = of(
        "max_lag_bytes = 1000\nreturn_lag_bytes = 1000\nmax_lag = \"10s\"\nreturn_lag = \"0s\"\n",
    )
    .lag;
    assert_eq!(lag.bytes, Some(Limit { drain: 1000, back: 1000 }));
    assert_eq!(lag.time, Some(Limit { drain, back: Duration::ZERO }));
}

#[test]
fn a_return_needs_a_limit_and_lies_within_it() {
    for (text, key, message) in [
        (
            "return_lag_bytes = 1\n",
            "return_lag_bytes",
            "has no meaning without max_lag_bytes; give that too, or remove it",
        ),
        (
            "return_lag = \"1s\"\n",
            "return_lag",
            "has no meaning without max_lag; give that too, or remove it",
        ),
        (
            "max_lag = \"1s\"\nreturn_lag = \"2s\"\n",
            "return_lag",
            "is beyond max_lag, so a server would return before it left; give at most max_lag",
        ),
    ] {
        let line = 9 + text.lines().count();
        let message = format!("line {line}: service[0].{key} {message}");
        assert_eq!(messages(&with(text)), [message], "{text}");
    }
    assert_eq!(
        wrong(&with("max_lag_bytes = 0\nreturn_lag_bytes = 5\n")),
        ["service[0].max_lag_bytes"]
    );
}

#[test]
fn lag_moves_weights_only_in_proportion_to_a_limit() {
    assert_eq!(of("").auto_weight, AutoWeight::default());
    let both = of("max_lag = \"1s\"\nauto_weight = [\"connections\", \"lag\"]\n").auto_weight;
    assert_eq!(both, AutoWeight { lag: true, connections: true });
    let one = of("auto_weight = [\"connections\"]\n").auto_weight;
    assert_eq!(one, AutoWeight { lag: false, connections: true });
    assert_eq!(wrong(&with("auto_weight = [\"lag\"]\n")), ["service[0].auto_weight"]);
    assert_eq!(
        messages(&with("max_lag = \"1s\"\nauto_weight = [\"lagg\"]\n")),
        [
            "line 11: service[0].auto_weight[0] = \"lagg\" is none of lag, connections; did you mean \"lag\"?"
        ]
    );
}

#[test]
fn the_path_through_the_vip_is_probed_unless_switched_off() {
    for (text, probe) in [
        ("", Probe::Syn),
        ("probe = \"syn\"\n", Probe::Syn),
        ("probe = \"startup\"\n", Probe::Startup),
        ("probe = \"off\"\n", Probe::Off),
    ] {
        assert_eq!(of(text).probe, probe, "{text}");
    }
    let service = of("slow_start = \"30s\"\nfallback_to_primary = true\n");
    assert_eq!((service.slow_start, service.fallback_to_primary), (Duration::from_secs(30), true));
    let service = of("");
    assert_eq!((service.slow_start, service.fallback_to_primary), (Duration::ZERO, false));
}

#[test]
fn more_real_servers_than_there_are_ids_are_refused() {
    let text = |services: u8, nodes: u8, discovery: &str| {
        let mut text = MINIMAL.split("[[service]]").next().unwrap().to_owned();
        for number in 0..services {
            text += &format!(
                "[[service]]\nname = \"s{number}\"\nvip = \"10.0.1.{number}\"\ndiscovery = \"{discovery}\"\n"
            );
        }
        for number in 0..nodes {
            text += &format!("[[node]]\nname = \"db{number}\"\naddress = \"10.0.2.{number}\"\n");
        }
        text
    };
    for discovery in ["both", "direct"] {
        assert!(parse(&text(32, 127, discovery)).is_ok());
        let refused = messages(&text(32, 128, discovery));
        let [error] = &refused[..] else { panic!("{refused:?}") };
        assert!(
            error.contains(
                "32 services list each of 128 [[node]]s, and a director has room for 4095 real servers"
            ),
            "{error}"
        );
    }
    // Those that nobody lists are found one by one.
    assert!(parse(&text(32, 128, "walsenders")).is_ok());
}
