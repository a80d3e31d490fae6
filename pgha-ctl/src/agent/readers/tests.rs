use std::net::Ipv4Addr;

use pgha_machine::NodeName;

use super::*;

const fn vip(last: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(10, 0, 0, last))
}

#[test]
fn a_reader_has_all_and_a_primary_those_of_services_that_fall_back_to_it() {
    let vips = Vips { always: vec![vip(1)], reader: vec![vip(2), vip(3)] };
    assert_eq!(vips.wanted(Part::Reader), [vip(1), vip(2), vip(3)]);
    assert_eq!(vips.wanted(Part::Primary), [vip(1)]);
    assert_eq!(vips.wanted(Part::Unknown), [vip(1)]);
}

#[test]
fn only_who_streams_or_is_the_primary_changes_anything() {
    let upstream = "db1".parse::<NodeName>().ok();
    let end = pgha_machine::Lsn::new(1);
    for (role, part) in [
        (Role::Standby { upstream }, Some(Part::Reader)),
        (Role::Restarted { end }, Some(Part::Primary)),
        (Role::Primary, Some(Part::Primary)),
        (Role::Standby { upstream: None }, None),
        (Role::Frozen { freeze: 1 }, None),
        (Role::Down, None),
    ] {
        assert_eq!(part_of(&role), part, "{role:?}");
    }
}
