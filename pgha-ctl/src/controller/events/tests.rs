use super::*;

fn filled(count: usize) -> Events {
    let mut events = Events::default();
    for number in 0..count {
        let happening = Happening::info(Kind::Role, format!("event {number}"));
        events.push(1_000 + number as u64, None, happening);
    }
    events
}

fn texts(reply: &EventsReply) -> Vec<&str> {
    reply.events.iter().map(|event| event.text.as_str()).collect()
}

#[test]
fn the_last_events_are_kept_and_the_loss_of_others_is_told() {
    let full = filled(KEPT).reply(EventsQuery::default(), 5_000);
    assert_eq!((full.events.len(), full.forgotten, full.now), (KEPT, false, 5_000));
    assert_eq!(full.events[0].text, "event 0");

    let more = filled(KEPT + 2).reply(EventsQuery::default(), 5_000);
    assert_eq!((more.events.len(), more.forgotten), (KEPT, true));
    assert_eq!(more.events[0].text, "event 2");
    assert_eq!(more.events[KEPT - 1].text, format!("event {}", KEPT + 1));
}

#[test]
fn only_later_events_than_the_moment_are_sent() {
    let events = filled(KEPT + 2);
    let last_but_one = 1_000 + KEPT as u64;
    let reply = events.reply(EventsQuery { since: Some(last_but_one) }, 5_000);
    assert_eq!(texts(&reply), [format!("event {}", KEPT + 1)]);
    assert!(!reply.forgotten);
    // Event 1 is the last that is kept no more.
    assert!(!events.reply(EventsQuery { since: Some(1_001) }, 5_000).forgotten);
    assert!(events.reply(EventsQuery { since: Some(1_000) }, 5_000).forgotten);
}

#[test]
fn no_two_events_have_the_same_moment_even_when_the_clock_is_set_back() {
    let mut events = Events::default();
    for now in [1_000, 1_000, 400, 2_000] {
        events.push(now, None, Happening::warning(Kind::PrimaryLost, "lost"));
    }
    let reply = events.reply(EventsQuery::default(), 2_000);
    let moments: Vec<_> = reply.events.iter().map(|event| event.at).collect();
    assert_eq!(moments, [1_000, 1_001, 1_002, 2_000]);
    let later = events.reply(EventsQuery { since: Some(1_001) }, 2_000);
    assert_eq!(later.events.len(), 2);
}

#[test]
fn an_event_says_which_server_it_is_about() {
    let mut events = Events::default();
    let server: IpAddr = "10.77.0.12".parse().unwrap();
    let name = Some("db2".parse().unwrap());
    events.push(7, name, Happening::warning(Kind::ServerDown, "down").of(server));
    let sent = serde_json::to_value(events.reply(EventsQuery::default(), 8)).unwrap();
    let expected = serde_json::json!({
        "at": 7, "severity": "warning", "kind": "server_down", "server": "10.77.0.12",
        "name": "db2", "text": "down",
    });
    assert_eq!(sent["events"][0], expected);
}
