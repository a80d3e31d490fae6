use std::collections::BTreeMap;

use pgha_machine::Neighbour;
use pgha_machine::balancer::ProbeFinding;
use proptest::prelude::*;

use super::super::segment::Flags;
use super::*;

const PACE: Pace = Pace { interval: Duration::from_secs(1), timeout: Duration::from_millis(400) };

fn mac(last: u8) -> Mac {
    Mac::new([2, 0, 0, 0, 0, last]).unwrap()
}

fn via(last: u8) -> Via {
    Via::Neighbour(Neighbour { interface: 0, mac: mac(last) })
}

fn path(server: u8) -> Path {
    Path { vip: [10, 0, 0, 100].into(), port: 5432, address: [10, 0, 0, server].into() }
}

fn own() -> SocketAddr {
    ([10, 0, 0, 5], 40123).into()
}

/// Rounds with these servers, each probed once; what was sent.
fn begun(now: Instant, servers: &[u8]) -> (Rounds, Vec<Letter>) {
    let mut rounds = Rounds::new(PACE);
    for server in servers {
        rounds.add(now, path(*server), via(*server));
    }
    let letters = begin_due(&mut rounds, now);
    (rounds, letters)
}

fn begin_due(rounds: &mut Rounds, now: Instant) -> Vec<Letter> {
    let mut letters = Vec::new();
    while let Some(step) = rounds.step(now) {
        let Step::Begin(path, _) = step else { panic!("{step:?}") };
        letters.push(rounds.begin(now, path, own(), Vec::new()).unwrap());
    }
    letters
}

fn answer(letter: &Letter, flags: &str) -> Heard {
    let has = |flag| flags.contains(flag);
    let flags = Flags { syn: has('S'), ack: has('A'), fin: has('F'), rst: has('R') };
    let acknowledgement = letter.segment.sequence + 1;
    let segment = Segment { flags, sequence: 9, acknowledgement, payload: Vec::new() };
    Heard::Segment(letter.ends, segment)
}

fn probed(server: u8, finding: ProbeFinding) -> Option<Probed> {
    Some(Probed { path: path(server), finding, because: None })
}

#[test]
fn the_first_probe_is_at_once_and_the_next_about_an_interval_later() {
    let now = Instant::now();
    let (mut rounds, letters) = begun(now, &[1]);
    assert_eq!(letters[0].via, via(1));
    assert!(letters[0].segment.flags.syn);
    let outcome = rounds.hear(Some(mac(1)), &answer(&letters[0], "SA"));
    assert_eq!(outcome.found, probed(1, ProbeFinding::Open));
    assert!(outcome.letter.unwrap().segment.flags.rst);
    let next = rounds.next().unwrap() - now;
    assert!(next >= PACE.interval / 2 && next <= PACE.interval * 3 / 2, "{next:?}");
    // From then on it has its turn.
    let now = now + next;
    let letters = begin_due(&mut rounds, now);
    rounds.hear(Some(mac(1)), &answer(&letters[0], "SA"));
    assert_eq!(rounds.next(), Some(now + PACE.interval));
}

#[test]
fn paths_that_began_together_spread() {
    let now = Instant::now();
    let servers: Vec<u8> = (1..=100).collect();
    let (mut rounds, letters) = begun(now, &servers);
    for letter in &letters {
        rounds.hear(None, &answer(letter, "RA"));
    }
    let mut dues: BTreeMap<_, u32> = BTreeMap::new();
    rounds.due.iter().for_each(|(due, _)| *dues.entry(*due).or_default() += 1);
    assert_eq!(dues.values().copied().collect::<Vec<_>>(), [10; 10], "few portions of equal size");
}

#[test]
fn a_probe_is_sent_once_more_and_then_given_up() {
    let now = Instant::now();
    let (mut rounds, letters) = begun(now, &[1]);
    assert_eq!(rounds.next(), Some(now + PACE.timeout / 2));
    assert_eq!(rounds.step(now), None);
    let again = rounds.step(now + PACE.timeout / 2);
    let repeated = Outcome { letter: Some(letters[0].clone()), found: None };
    assert_eq!(again, Some(Step::Do(repeated)));
    assert_eq!(rounds.next(), Some(now + PACE.timeout));
    let Some(Step::Do(over)) = rounds.step(now + PACE.timeout) else { panic!("its end") };
    assert_eq!(over.found, probed(1, ProbeFinding::Silent));
    // An answer that is late belongs to no probe.
    let late = rounds.hear(Some(mac(1)), &answer(&letters[0], "SA"));
    assert_eq!(late.found, None);
    assert!(late.letter.unwrap().segment.flags.rst);
    // The next probe still follows in its time.
    assert!(rounds.next().unwrap() >= now + PACE.interval / 2);
}

#[test]
fn servers_behind_one_vip_are_told_apart_by_their_numbers() {
    let now = Instant::now();
    let (mut rounds, letters) = begun(now, &[1, 2, 3]);
    let numbers: BTreeSet<_> = letters.iter().map(|letter| letter.segment.sequence).collect();
    assert_eq!(numbers.len(), 3);
    for (letter, (flags, finding)) in letters.iter().zip([
        ("RA", ProbeFinding::Refused),
        ("SA", ProbeFinding::Open),
        ("RA", ProbeFinding::Refused),
    ]) {
        let server = letter.via;
        let outcome = rounds.hear(None, &answer(letter, flags));
        let Some(Probed { path: of, finding: found, .. }) = outcome.found else { panic!() };
        assert_eq!((via(last(&of)), found), (server, finding));
    }
}

fn last(path: &Path) -> u8 {
    let IpAddr::V4(address) = path.address else { panic!("{path:?}") };
    address.octets()[3]
}

#[test]
fn what_is_of_no_probe_changes_nothing() {
    let now = Instant::now();
    let (mut rounds, letters) = begun(now, &[1]);
    let letter = &letters[0];
    let elsewhere = |change: fn(&mut Letter)| {
        let mut other = letter.clone();
        change(&mut other);
        answer(&other, "SA")
    };
    let foreign = [
        elsewhere(|letter| letter.ends.own.set_port(40124)),
        elsewhere(|letter| letter.ends.own.set_ip([10, 0, 0, 6].into())),
        elsewhere(|letter| letter.ends.vip.set_port(5433)),
        elsewhere(|letter| letter.ends.vip.set_ip([10, 0, 0, 101].into())),
        elsewhere(|letter| letter.segment.sequence -= 1),
        elsewhere(|letter| letter.segment.sequence += SPAN),
    ];
    for heard in foreign {
        // From nobody that is known.
        assert_eq!(rounds.hear(Some(mac(9)), &heard), Outcome::default(), "{heard:?}");
    }
    assert_eq!(rounds.hear(None, &answer(letter, "SA")).found, probed(1, ProbeFinding::Open));
}

#[test]
fn who_rejects_a_probe_is_named() {
    let now = Instant::now();
    let (mut rounds, letters) = begun(now, &[1]);
    let (ends, by) = (letters[0].ends, [10, 0, 0, 1].into());
    let undelivered =
        |sequence| Heard::Undelivered { ends, sequence, by, why: "it rejects it".to_owned() };
    let sequence = letters[0].segment.sequence;
    assert_eq!(rounds.hear(None, &undelivered(sequence - 1)), Outcome::default());
    let because = Some("10.0.0.1 says: it rejects it".to_owned());
    let found = Probed { path: path(1), finding: ProbeFinding::Silent, because };
    assert_eq!(rounds.hear(None, &undelivered(sequence)).found, Some(found));
    assert_eq!(rounds.hear(None, &undelivered(sequence)), Outcome::default());
}

#[test]
fn another_way_begins_anew_and_the_same_way_does_not() {
    let now = Instant::now();
    let (mut rounds, letters) = begun(now, &[1]);
    rounds.add(now, path(1), via(1));
    assert_eq!(rounds.step(now), None);
    rounds.add(now, path(1), via(2));
    assert_eq!(rounds.hear(None, &answer(&letters[0], "SA")).found, None);
    assert_eq!(begin_due(&mut rounds, now)[0].via, via(2));
    rounds.remove(&path(1));
    assert_eq!((rounds.next(), rounds.by_number.len()), (None, 0));
    assert_eq!(rounds.begin(now, path(1), own(), Vec::new()), None);
}

#[test]
fn a_probe_that_cannot_be_begun_is_tried_again_in_its_time() {
    let now = Instant::now();
    let mut rounds = Rounds::new(PACE);
    rounds.add(now, path(1), Via::Local);
    assert_eq!(rounds.step(now), Some(Step::Begin(path(1), Via::Local)));
    assert_eq!(rounds.step(now), None);
    assert!(rounds.next().unwrap() >= now + PACE.interval / 2);
    let later = now + PACE.interval * 2;
    assert_eq!(rounds.step(later), Some(Step::Begin(path(1), Via::Local)));
    assert!(rounds.begin(later, path(1), own(), Vec::new()).is_some());
    rounds.abandon(&path(1));
    assert!(rounds.by_number.is_empty() && rounds.next().unwrap() > later);
}

#[derive(Clone, Debug)]
enum Deed {
    Add(u8, u8),
    Remove(u8),
    Pass(u16),
    Answer(u8, &'static str),
    Abandon(u8),
}

fn deeds() -> impl Strategy<Value = Deed> {
    let flags = prop::sample::select(vec!["SA", "RA", "A", "FA", "S"]);
    prop_oneof![
        (1..5u8, 1..3u8).prop_map(|(server, via)| Deed::Add(server, via)),
        (1..5u8).prop_map(Deed::Remove),
        (0..1500u16).prop_map(Deed::Pass),
        (1..5u8, flags).prop_map(|(server, flags)| Deed::Answer(server, flags)),
        (1..5u8).prop_map(Deed::Abandon),
    ]
}

proptest! {
    /// Whatever happens: each path waits for exactly one thing, each probe under way is found by its number,
    /// and no probe of a path begins before the one before it is over, or sooner than it should.
    #[test]
    fn random_histories_keep_the_rounds(deeds in prop::collection::vec(deeds(), 0..80)) {
        let mut now = Instant::now();
        let mut rounds = Rounds::new(PACE);
        let mut sent: BTreeMap<u8, (Letter, Instant, u8)> = BTreeMap::new();
        for deed in deeds {
            match deed {
                Deed::Add(server, by) => {
                    rounds.add(now, path(server), via(by));
                    if sent.get(&server).is_some_and(|(_, _, known)| *known != by) {
                        sent.remove(&server);
                    }
                }
                Deed::Remove(server) => {
                    rounds.remove(&path(server));
                    sent.remove(&server);
                }
                Deed::Pass(ms) => now += Duration::from_millis(ms.into()),
                Deed::Answer(server, flags) => {
                    if let Some((letter, ..)) = sent.get(&server) {
                        rounds.hear(Some(mac(server)), &answer(letter, flags));
                    }
                }
                Deed::Abandon(server) => rounds.abandon(&path(server)),
            }
            while let Some(step) = rounds.step(now) {
                if let Step::Begin(path, Via::Neighbour(Neighbour { mac, .. })) = step {
                    prop_assert!(rounds.paths[&path].running.is_none());
                    let letter = rounds.begin(now, path, own(), b"?".to_vec()).unwrap();
                    let by = mac.bytes()[5];
                    if let Some((_, before, _)) = sent.insert(last(&path), (letter, now, by)) {
                        prop_assert!(now >= before + PACE.interval / 2);
                    }
                }
            }
            let waiting: BTreeSet<_> = rounds.paths.iter().map(|(p, slot)| (slot.due, *p)).collect();
            prop_assert_eq!(&waiting, &rounds.due);
            let running = rounds.paths.iter().filter_map(|(path, slot)| {
                let running = slot.running.as_ref()?;
                Some(((running.ends.vip, running.sequence), *path))
            });
            prop_assert_eq!(&running.collect::<BTreeMap<_, _>>(), &rounds.by_number);
        }
    }
}

#[test]
fn silence_shows_nothing_where_this_side_failed() {
    let now = Instant::now();
    let undecided = |step: Option<Step>| {
        let Some(Step::Do(Outcome { found: Some(probed), .. })) = step else { panic!("{step:?}") };
        assert!(matches!(probed.finding, ProbeFinding::Undecided(_)), "{probed:?}");
    };
    // Nobody looked for so long that the second SYN was never sent.
    let (mut rounds, _) = begun(now, &[1]);
    undecided(rounds.step(now + PACE.timeout * 3));
    // One of the two could not be sent.
    let (mut rounds, letters) = begun(now, &[1]);
    rounds.unsent(&letters[0], "no room".to_owned());
    assert!(matches!(rounds.step(now + PACE.timeout / 2), Some(Step::Do(_))));
    undecided(rounds.step(now + PACE.timeout));
    // The sockets are gone: nothing is left that could be heard, and the next probe comes in its time.
    let (mut rounds, _) = begun(now, &[1, 2]);
    let ended = rounds.deaf("no sockets");
    assert_eq!(ended.iter().map(|probed| probed.path).collect::<Vec<_>>(), [path(1), path(2)]);
    assert_eq!(rounds.step(now + PACE.timeout), None);
    assert_eq!(begin_due(&mut rounds, now + PACE.interval * 2).len(), 2);
}
