//! Closed flows make room before a table is full, and only then.

use std::ops::Range;

use pgha_common::flow::{TICKS, Tick};
use pgha_common::maps::{Scheduler, name};
use pgha_common::verdict::Reason;
use pgha_ctl::bpf::xdp::Survey;
use pgha_tests::dataplane::{FAMILIES, Family};

use crate::harness::{Bench, three_by};

const FLOWS: u32 = 4096;
/// Above so many it fills.
const CROWDED: u32 = FLOWS / 4 * 3;
/// Sessions that idle.
const IDLE: Range<u32> = 0..200;

fn bench(family: Family) -> Bench {
    Bench::with_tables(FLOWS, 1024, [three_by(family, Scheduler::Maglev)])
}

fn tick(number: u64) -> Tick {
    Tick::at(number << 36)
}

/// Connections that come and go, until each was closed by its client.
fn come_and_go(bench: &mut Bench, clients: Range<u32>) {
    for number in clients {
        bench.establish(number);
        bench.expect(Reason::EstablishedFlow, &bench.segment(number).fin().ack(2101));
        bench.expect(Reason::EstablishedFlow, &bench.segment(number).ack(2102));
    }
}

/// The moment at which that client's flow has been closing for so many ticks.
fn closing_for(bench: &Bench, client: u32, ticks: u64) -> Tick {
    let flow = bench.established().get(&bench.family.key(client)).unwrap();
    assert!(flow.is_closing());
    let since = (0..TICKS).find(|since| flow.closing_for(tick(*since)) == 0).unwrap();
    tick(since + ticks)
}

fn survey(bench: &Bench, now: Tick) -> Survey {
    bench.data_plane().flow_reader().unwrap().survey(now).unwrap()
}

/// Asserts that the table has the flows of all these clients, or of none.
#[track_caller]
fn assert_known(bench: &Bench, clients: Range<u32>, known: bool) {
    let table = bench.established();
    for number in clients {
        assert_eq!(table.get(&bench.family.key(number)).is_some(), known, "flow {number}");
    }
}

#[test]
fn xdp_a_churn_of_connections_evicts_no_idle_session() {
    for family in FAMILIES {
        let mut bench = bench(family);
        let servers: Vec<_> = IDLE.map(|number| bench.establish(number)).collect();
        let mut next = IDLE.end;
        // Five times the table.
        while next < 5 * FLOWS {
            let batch = next..next + CROWDED + 1 - IDLE.end;
            next = batch.end;
            come_and_go(&mut bench, batch.clone());
            // The program's tick may advance meanwhile, by one.
            let seen = survey(&bench, closing_for(&bench, batch.start, 3));
            assert_eq!(seen.swept, batch.len() as u64);
            let table = family.pick(name::ESTABLISHED, name::ESTABLISHED6);
            assert_eq!(seen.in_use[table], IDLE.len() as u64);
            assert_eq!(seen.open.values().sum::<u64>(), IDLE.len() as u64);
            assert_known(&bench, batch, false);
        }
        for (number, server) in IDLE.zip(servers) {
            let segment = bench.segment(number).ack(2200);
            assert_eq!(bench.expect(Reason::EstablishedFlow, &segment).real(), server);
        }
    }
}

/// The end may have been forged, for all that is known.
#[test]
fn xdp_a_closing_flow_stays_while_there_is_room() {
    for family in FAMILIES {
        let mut bench = bench(family);
        IDLE.for_each(|number| {
            bench.establish(number);
        });
        let closed = IDLE.end..CROWDED;
        come_and_go(&mut bench, closed.clone());
        for ticks in 0..TICKS {
            let seen = survey(&bench, closing_for(&bench, closed.start, ticks));
            assert_eq!(seen.swept, 0);
        }
        assert_eq!(bench.established().len(), CROWDED as usize);
    }
}

#[test]
fn xdp_a_flow_that_goes_on_is_not_removed() {
    for family in FAMILIES {
        let mut bench = bench(family);
        let (going_on, closed) = (0..100, 100..CROWDED + 1);
        come_and_go(&mut bench, going_on.start..closed.end);
        for number in going_on.clone() {
            let data = bench.segment(number).ack(2102).data(9);
            bench.expect(Reason::EstablishedFlow, &data);
        }
        let seen = survey(&bench, closing_for(&bench, closed.start, 3));
        assert_eq!(seen.swept, closed.len() as u64);
        assert_known(&bench, going_on, true);
        assert_known(&bench, closed, false);
    }
}

#[test]
fn xdp_flows_that_closed_just_now_stay_while_older_ones_are_enough() {
    for family in FAMILIES {
        let mut bench = bench(family);
        let (old, recent) = (0..1000, 1000..CROWDED + 1);
        come_and_go(&mut bench, old.start..recent.end);
        let age = |bench: &Bench, clients: Range<u32>, since| {
            let mut table = bench.established();
            for key in clients.map(|number| family.key(number)) {
                let flow = table.get(&key).unwrap();
                table.set(&key, flow.closing_since(tick(since))).unwrap();
            }
        };
        // Before and after the first tick comes again.
        age(&bench, old.clone(), TICKS - 1);
        age(&bench, recent.clone(), TICKS);
        assert_eq!(survey(&bench, tick(TICKS + 1)).swept, old.len() as u64);
        assert_known(&bench, old.clone(), false);
        assert_known(&bench, recent.clone(), true);
        // More sessions than make room: now these have to go as well.
        let sessions = recent.end..recent.end + old.end;
        sessions.clone().for_each(|number| {
            bench.establish(number);
        });
        assert_eq!(survey(&bench, tick(TICKS)).swept, 0, "they have closed in this tick");
        assert_eq!(survey(&bench, tick(TICKS + 1)).swept, recent.len() as u64);
        assert_known(&bench, recent, false);
        assert_known(&bench, sessions, true);
    }
}
