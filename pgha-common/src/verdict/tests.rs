use std::collections::BTreeSet;

use super::Reason;

#[test]
fn discriminants_index_the_counters() {
    for (index, reason) in Reason::ALL.iter().enumerate() {
        assert_eq!(*reason as usize, index);
    }
}

#[test]
fn every_reason_has_its_own_name_and_a_meaning() {
    let names: BTreeSet<_> = Reason::ALL.iter().map(|reason| reason.name()).collect();
    assert_eq!(names.len(), Reason::COUNT);
    assert!(Reason::ALL.iter().all(|reason| reason.meaning().ends_with('.')));
}
