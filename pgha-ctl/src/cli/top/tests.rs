use std::time::{Duration, Instant};

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::style::Color;
use serde_json::{Value, json};

use super::*;
use crate::cli::fixture::{self, NOW};
use crate::controller::state::ServerState;
use crate::controller::status::Refusal;

/// A status in which the two servers of the fixture have had so many new connections and packets.
fn counted(db2: (u64, u64), db3: (u64, u64)) -> Value {
    let mut sent = fixture::value();
    let traffic =
        |(flows, packets)| json!({ "packets": packets, "bytes": 0, "flows": flows, "open": flows });
    sent["services"][0]["traffic"] = json!({ "2": traffic(db2), "3": traffic(db3) });
    sent["reasons"] = json!({ "established_flow": db2.1 + db3.1, "not_vip": 5 });
    sent["received"] = json!(db2.1 + db3.1 + 5);
    sent
}

/// Looks at these, one each second, the last of them at the moment returned.
fn seen(looks: &[Value]) -> (Seen, Instant) {
    let begin = Instant::now();
    let mut seen = Seen::default();
    let mut at = begin;
    for (second, look) in (0..).zip(looks) {
        at = begin + Duration::from_secs(second);
        let answer = Answer { status: fixture::read(look.clone()), events: Vec::new() };
        seen.take_in(at, Ok(answer)).unwrap();
    }
    (seen, at)
}

fn text(seen: &Seen, width: u16, now: Instant) -> Vec<String> {
    let lines = view::lines(seen, Order::Name, width, now, NOW);
    lines.iter().map(|line| line.to_string().trim_end().to_owned()).collect()
}

#[test]
fn rates_and_shares_are_of_what_happened_between_looks() {
    let looks =
        [counted((10, 100), (0, 0)), counted((40, 600), (10, 0)), counted((70, 900), (20, 50))];
    let (seen, _) = seen(&looks);
    let services = seen.looks.services(Order::Name, NOW);
    let [db2, db3] = &services[0].servers[..] else { panic!("{services:?}") };
    // The last second; the whole minute is 60 of 80.
    assert_eq!(
        (db2.traffic.new, db2.traffic.packets, db2.traffic.open),
        (Some(30.0), Some(300.0), 70)
    );
    assert_eq!((db2.had, db2.wanted), (Some(0.75), 1.0));
    assert_eq!((db3.had, db3.wanted), (Some(0.25), 0.0));
    assert_eq!(db2.trend, [500.0, 300.0]);
    assert_eq!(services[0].sum.new, Some(40.0));
    let verdicts = seen.looks.verdicts();
    let shown: Vec<_> = verdicts.iter().map(|v| (v.reason.name(), v.rate, v.total)).collect();
    assert_eq!(shown, [("established_flow", Some(350.0), 950), ("not_vip", Some(0.0), 5)]);
}

#[test]
fn nothing_is_said_of_what_is_not_known() {
    let (one, _) = seen(&[counted((10, 100), (0, 0))]);
    let server = &one.looks.services(Order::Name, NOW)[0].servers[0];
    assert_eq!((server.traffic.new, server.had), (None, None), "one look is no rate");

    // The maps were made anew in between, and then the id has another server.
    let (anew, _) = seen(&[counted((10, 100), (0, 0)), counted((2, 3), (0, 0))]);
    assert_eq!(anew.looks.services(Order::Name, NOW)[0].servers[0].traffic.new, None);
    let mut other = counted((20, 200), (0, 0));
    other["services"][0]["servers"][0]["address"] = json!("10.0.0.9");
    let (other, _) = seen(&[counted((10, 100), (0, 0)), other]);
    let server = &other.looks.services(Order::Name, NOW)[0].servers[0];
    assert_eq!((server.traffic.new, server.traffic.packets), (None, None));
    assert_eq!(Looks::default().services(Order::Name, NOW), []);
    assert_eq!(Looks::default().verdicts(), []);
}

#[test]
fn servers_stand_in_the_order_that_is_wanted() {
    let mut last = counted((11, 500), (9, 900));
    last["services"][0]["servers"][1]["lag_bytes"] = json!(1_000_000);
    let (seen, _) = seen(&[counted((10, 100), (0, 0)), last]);
    let mut order = Order::default();
    let mut first = Vec::new();
    for _ in 0..5 {
        let services = seen.looks.services(order, NOW);
        first.push((order.word(), services[0].servers[0].name.clone()));
        order = order.next();
    }
    let first: Vec<_> = first.iter().map(|(order, name)| (*order, name.as_str())).collect();
    assert_eq!(
        first,
        [
            ("name", "db2"),
            ("new connections", "db3"),
            ("open connections", "db2"),
            ("packets", "db3"),
            ("lag", "db3"),
        ]
    );
    assert_eq!(order, Order::default(), "the key goes round");
}

#[test]
fn a_look_is_lines_of_text() {
    let looks = [counted((10, 100), (0, 0)), counted((40, 600), (10, 0))];
    let (mut seen, now) = seen(&looks);
    seen.events = vec![Happened {
        at: (NOW - 5) * 1000,
        severity: "warning".to_owned(),
        text: "10.0.0.3:5432 gets no new connections".to_owned(),
    }];
    let shown = text(&seen, 136, now);
    let rule = |count| "─".repeat(count);
    assert_eq!(
        shown,
        [
            format!(
                " pgha top · cluster main · director on eth0 (native), active{}2026-11-22 03:00:00 UTC",
                " ".repeat(52)
            ),
            " primary 10.0.0.1: does not answer, stale since 2026-11-22 02:59:48 (12 s); the readers stay as they are (10.0.0.1: no \
             answer)"
                .to_owned(),
            " flows: established 700 of 1024 (68 %) · pending 12 of 1024 (1 %) · IPv6 established 0 of 1024 \
             (0 %) · pending 3 of 1024 (0 %)"
                .to_owned(),
            String::new(),
            format!(
                " reader 10.0.0.100:5432 rr · both {} 1 of 2 serve · 40 new/s · 50 open · 500 pkt/s",
                rule(55)
            ),
            " SERVER    STATE       WEIGHT      SHARE                                 NEW/S    OPEN    PKT/S  \
             TREND         LAG             CONNS"
                .to_owned(),
            " db2       ● up        2           ███████████████····┃  75 % of 100 %      30      40      500             \
             █  96 B, 12 ms     12/100"
                .to_owned(),
            " db3       ● dead      0 (of 2)    █████···············  25 % of   0 %      10      10        0                \
             -               -"
                .to_owned(),
            "   └ drained by alice 1 min ago; its port refuses connections (connection refused)".to_owned(),
            String::new(),
            format!(" VERDICTS of 605 frames {}", rule(111)),
            " established_flow            500/s         600  not_vip                       0/s           5"
                .to_owned(),
            String::new(),
            format!(" EVENTS {}", rule(127)),
            " 2026-11-22 02:59:55  10.0.0.3:5432 gets no new connections".to_owned(),
        ]
    );
}

#[test]
fn every_width_is_filled_and_none_is_passed() {
    let looks = [counted((10, 100), (0, 0)), counted((40, 600), (10, 0))];
    let (seen, now) = seen(&looks);
    for width in [60, 72, 80, 100, 120, 136, 200] {
        for line in text(&seen, width, now) {
            let long = line.chars().count();
            // Two lines of the head are sentences.
            let sentence = line.starts_with(" primary") || line.starts_with(" flows");
            assert!(long <= usize::from(width) || sentence, "{width}: {long}: {line}");
        }
        let shown = text(&seen, width, now).join("\n");
        for word in ["SERVER", "STATE", "SHARE", "NEW/S", "OPEN"] {
            assert!(shown.contains(word), "{width}: {word} in {shown}");
        }
    }
}

#[test]
fn a_controller_that_is_away_is_told_above_what_was_seen_last() {
    let (mut seen, at) = seen(&[counted((10, 100), (0, 0))]);
    let refusal = Refusal { error: "the controller is ending".to_owned() };
    seen.take_in(at, Err(ClientError::Refused(refusal))).unwrap();
    let shown = text(&seen, 100, at + Duration::from_secs(12));
    assert_eq!(shown[1], " NO ANSWER: what is shown is 12 s old; the controller is ending");
    assert!(shown.iter().any(|line| line.contains("db2")));
    let path = "/run/pgha/main.sock".into();
    assert!(seen.take_in(at, Err(ClientError::Permission { path })).is_err());
}

#[test]
fn the_screen_has_its_colours_its_keys_and_its_help() {
    let (seen, now) = seen(&[counted((10, 100), (0, 0)), counted((40, 600), (10, 0))]);
    let lines = view::lines(&seen, Order::Name, 100, now, NOW);
    let mut terminal = Terminal::new(TestBackend::new(100, 12)).unwrap();
    let mut draw = |skipped, help| {
        terminal
            .draw(|frame| view::draw(&lines, skipped, Order::Name, help, frame.buffer_mut()))
            .unwrap();
        terminal.backend().buffer().clone()
    };
    let buffer = draw(0, false);
    let row = |buffer: &ratatui::buffer::Buffer, y| {
        (0..100).map(|x| buffer[(x, y)].symbol().to_owned()).collect::<String>()
    };
    let colour = |name: &str| {
        let y = (0..12).find(|y| row(&buffer, *y).starts_with(name)).unwrap();
        let x = (0..100).find(|x| buffer[(*x, y)].symbol() == "●").unwrap();
        buffer[(x, y)].fg
    };
    assert_eq!((colour(" db2"), colour(" db3")), (Color::Green, Color::Red));
    assert!(row(&buffer, 11).starts_with(" q quit  s order: name  ↑↓ scroll  ? help  "));
    assert!(row(&buffer, 11).contains(" lines below"));
    assert!(row(&draw(5, false), 0).starts_with(" SERVER "));
    let help: String = {
        let buffer = draw(0, true);
        (0..12).map(|y| row(&buffer, y)).collect()
    };
    assert!(help.contains("given by its weight"), "{help}");
    // A screen without any room is drawn too.
    let mut small = Terminal::new(TestBackend::new(1, 1)).unwrap();
    small.draw(|frame| view::draw(&lines, 0, Order::Name, true, frame.buffer_mut())).unwrap();
}

#[test]
fn one_look_is_told_in_json() {
    let (seen, _) = seen(&[counted((10, 100), (0, 0)), counted((40, 600), (10, 0))]);
    let sample = serde_json::to_value(Sample::of(&seen, Order::Name, NOW)).unwrap();
    assert_eq!((&sample["schema"], &sample["cluster"]), (&json!(3), &json!("main")));
    let service = &sample["services"][0];
    assert_eq!(
        (&service["vip"], &service["new_per_second"]),
        (&json!("10.0.0.100:5432"), &json!(40.0))
    );
    assert_eq!(service["serving"], json!([1, 2]));
    let db2 = &service["servers"][0];
    assert_eq!((&db2["name"], &db2["state"]), (&json!("db2"), &json!("up")));
    assert_eq!((&db2["new_per_second"], &db2["packets_per_second"]), (&json!(30.0), &json!(500.0)));
    assert_eq!((&db2["share_wanted"], &db2["share_had"]), (&json!(1.0), &json!(0.75)));
    assert_eq!((&db2["open"], &db2["lag_bytes"]), (&json!(40), &json!(96)));
    let verdict = json!({ "reason": "established_flow", "per_second": 500.0, "total": 600 });
    assert_eq!(sample["verdicts"][0], verdict);
    // One look is no rate.
    let mut one = Seen::default();
    let answer = Answer { status: fixture::read(counted((1, 1), (0, 0))), events: Vec::new() };
    one.take_in(Instant::now(), Ok(answer)).unwrap();
    let sample = serde_json::to_value(Sample::of(&one, Order::Name, NOW)).unwrap();
    assert_eq!(sample["services"][0]["servers"][0]["new_per_second"], Value::Null);
}

#[test]
fn no_state_is_cut() {
    let states = [
        ServerState::Up,
        ServerState::Drained,
        ServerState::Out,
        ServerState::Checking,
        ServerState::Down,
        ServerState::Dead,
        ServerState::Primary,
    ];
    let longest = states.map(|state| state.word().len()).into_iter().max();
    assert_eq!(longest, Some(ServerState::Checking.word().len()));
    let mut sent = counted((0, 0), (0, 0));
    sent["services"][0]["servers"][0]["health"] = json!("checking");
    sent["services"][0]["servers"][0]["withheld"] = json!(["unproven"]);
    let (seen, at) = seen(&[sent]);
    for width in [60, 80, 136] {
        let shown = text(&seen, width, at).join("\n");
        assert!(shown.contains("● checking  "), "{width}: {shown}");
    }
}
