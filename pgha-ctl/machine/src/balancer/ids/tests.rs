use std::collections::BTreeSet;

use pgha_common::flow::RealRef;
use proptest::prelude::*;

use super::Ids;

proptest! {
    #[test]
    fn no_two_users_ever_share_id_and_generation(steps: Vec<bool>, restart_at in 0..200usize) {
        let mut ids = Ids { first_unused: 4090, free: std::collections::VecDeque::new() };
        let mut used = BTreeSet::new();
        let mut held: Vec<RealRef> = Vec::new();
        let mut known: std::collections::BTreeMap<u16, u16> = std::collections::BTreeMap::new();
        for (step, take) in steps.into_iter().enumerate() {
            if take {
                if let Some(real) = ids.take() {
                    prop_assert!(real.id != 0);
                    prop_assert!(used.insert((real.id, real.generation)), "{real:?} came again");
                    prop_assert!(held.iter().all(|other| other.id != real.id));
                    known.insert(real.id, real.generation);
                    held.push(real);
                }
            } else if !held.is_empty() {
                ids.give_back(held.remove(0));
            }
            if step == restart_at {
                let known: Vec<_> =
                    known.iter().map(|(id, generation)| RealRef { id: *id, generation: *generation }).collect();
                ids = Ids::inherit(&known, |real| held.contains(&real));
            }
        }
    }
}
