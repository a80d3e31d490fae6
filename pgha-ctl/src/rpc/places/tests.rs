use super::*;

const MOST: usize = 32;
const MOST_OF_ONE: usize = 8;

fn places() -> Places {
    Places::new(MOST, MOST_OF_ONE)
}

fn source(text: &str) -> Peer {
    text.parse::<IpAddr>().unwrap().into()
}

fn is_in(place: &mut Place) -> bool {
    matches!(place.out.try_recv(), Err(oneshot::error::TryRecvError::Empty))
}

#[test]
fn a_source_throws_out_its_own_oldest() {
    let all = places();
    let mut other = all.take(source("10.0.0.9"));
    let mut taken: Vec<_> = (0..MOST_OF_ONE).map(|_| all.take(source("10.0.0.1"))).collect();
    assert!(taken.iter_mut().all(is_in));
    // The same address, as an IPv6 socket has it.
    taken.push(all.take(source("::ffff:10.0.0.1")));
    let are_in: Vec<_> = taken.iter_mut().map(is_in).collect();
    assert!(!are_in[0] && are_in[1..].iter().all(|is_in| *is_in), "{are_in:?}");
    assert!(is_in(&mut other));
    // Whoever is done makes room.
    drop(taken.pop());
    taken.push(all.take(source("10.0.0.1")));
    assert!(taken[1..].iter_mut().all(is_in));
}

#[test]
fn an_ipv6_network_is_one_source() {
    let all = places();
    let mut taken: Vec<_> =
        (0..=MOST_OF_ONE).map(|last| all.take(source(&format!("2001:db8::{last:x}")))).collect();
    assert!(!is_in(&mut taken[0]) && taken[1..].iter_mut().all(is_in));
    let mut next = all.take(source("2001:db8:0:1::1"));
    assert!(is_in(&mut taken[1]) && is_in(&mut next));
}

#[test]
fn where_all_places_are_taken_the_largest_crowd_gives_one() {
    let all = places();
    let mut single = all.take(source("10.9.9.9"));
    let mut crowd: Vec<_> =
        (1..MOST).map(|number| all.take(source(&format!("10.0.0.{}", number % 8)))).collect();
    let mut last = all.take(source("10.8.8.8"));
    assert!(is_in(&mut single) && is_in(&mut last));
    assert_eq!(crowd.iter_mut().filter_map(|place| is_in(place).then_some(())).count(), MOST - 2);
    assert_eq!(lock(&all.table).taken.len(), MOST);
    // `% 8` leaves one fewer from the address of 0, so the oldest of those with the most is the first.
    assert!(!is_in(&mut crowd[0]));
    drop((single, crowd, last));
    assert!(lock(&all.table).taken.is_empty());
}

#[test]
fn who_is_known_keeps_his_place_and_takes_nobodys() {
    let all = places();
    let known = |name: &str| Peer::Known(name.to_owned());
    let mut taken: Vec<_> = (0..MOST_OF_ONE).map(|_| all.try_take(known("db1")).unwrap()).collect();
    assert!(all.try_take(known("db1")).is_none());
    let mut others: Vec<_> = (MOST_OF_ONE..MOST)
        .map(|number| all.try_take(known(&format!("db{number}"))).unwrap())
        .collect();
    assert!(all.try_take(known("ann")).is_none());
    assert!(taken.iter_mut().chain(&mut others).all(is_in));
    drop(taken.pop());
    assert!(all.try_take(known("ann")).is_some());
}
