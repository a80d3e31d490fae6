use super::*;

const CAPACITY: u64 = 1000;

/// What goes of a table with so many open flows, and closing ones of these ages.
fn swept(open: u64, closing: &[(usize, u64)]) -> Option<u8> {
    let mut ages = [0; TICKS as usize];
    ages[0] = open;
    closing.iter().for_each(|(age, flows)| ages[*age] += flows);
    age_to_sweep(ages.iter().sum(), CAPACITY, &ages)
}

#[test]
fn nothing_goes_while_there_is_room() {
    assert_eq!(swept(0, &[]), None);
    assert_eq!(swept(0, &[(5, 750)]), None);
    assert_eq!(swept(0, &[(5, 751)]), Some(2));
}

#[test]
fn the_oldest_go_first() {
    assert_eq!(swept(500, &[(1, 200), (2, 51)]), Some(2));
    assert_eq!(swept(500, &[(1, 200), (15, 100)]), Some(2));
    assert_eq!(swept(500, &[(1, 300), (2, 100)]), Some(1));
    assert_eq!(swept(700, &[(1, 100)]), Some(1));
}

#[test]
fn what_is_open_or_has_just_closed_stays() {
    assert_eq!(swept(1000, &[]), None);
    assert_eq!(swept(0, &[(0, 1000)]), None);
}
