use super::*;
use crate::{Mac, Weight};

fn real(number: u8, weight: u16) -> RealPlan {
    let mac = Mac::new([2, 0, 0, 0, 0, number]).unwrap();
    RealPlan {
        real: RealRef { id: number.into(), generation: 0 },
        address: [10, 0, 0, number].into(),
        neighbour: Some(Neighbour { interface: 0, mac }),
        local: false,
        dead: false,
        weight: Weight::new(weight).map(EffectiveWeight::from).unwrap(),
        steering: Steering::default(),
    }
}

fn dead(number: u8) -> RealPlan {
    RealPlan { dead: true, ..real(number, 0) }
}

fn service(reals: &[RealPlan]) -> ServicePlan {
    ServicePlan {
        index: 0,
        vip: [10, 0, 0, 100].into(),
        port: 5432,
        scheduler: Scheduler::Maglev,
        allowed_clients: Vec::new(),
        syn_limit: None,
        reals: reals.to_vec(),
    }
}

#[test]
fn what_only_adds_takes_nothing_from_anybody() {
    let moved = RealPlan { neighbour: None, ..real(2, 0) };
    let next = RealPlan { real: RealRef { id: 2, generation: 1 }, ..real(2, 1) };
    for (before, after, adds) in [
        (vec![real(1, 1)], vec![real(1, 1), real(2, 1)], true),
        (vec![real(1, 1), real(2, 0)], vec![real(1, 1), real(2, 1)], true),
        (vec![real(1, 1), dead(2)], vec![real(1, 1), real(2, 0)], true),
        (vec![real(1, 1), real(2, 1)], vec![real(1, 2), real(2, 1)], true),
        // Somebody gets less, or nothing more.
        (vec![real(1, 1), real(2, 2)], vec![real(1, 2), real(2, 1)], false),
        (vec![real(1, 1), real(2, 0)], vec![real(1, 1), dead(2)], false),
        (vec![real(1, 1), real(2, 1)], vec![real(1, 1)], false),
        // Another host, or another user of the id.
        (vec![real(1, 1), real(2, 0)], vec![real(1, 1), moved], false),
        (vec![real(1, 1), real(2, 0)], vec![real(1, 1), next], false),
        // Clients are refused meanwhile.
        (vec![], vec![real(1, 1)], false),
        (vec![real(1, 0), dead(2)], vec![real(1, 1), dead(2)], false),
    ] {
        let found = service(&after).only_adds_to(&service(&before));
        assert_eq!(found, adds, "{before:?} to {after:?}");
    }
    let restricted = ServicePlan {
        allowed_clients: vec!["10.0.0.0/8".parse().unwrap()],
        ..service(&[real(1, 2)])
    };
    assert!(!restricted.only_adds_to(&service(&[real(1, 1)])));
}
