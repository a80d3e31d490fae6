//! What goes wrong once a program is attached, and what the next controller has to make up for.

use std::fs;

use super::*;

#[test]
fn xdp_a_program_that_cannot_be_pinned_runs_all_the_same() -> Result<()> {
    let place = Place::new()?;
    let in_its_place = place.pins.join("program");
    let mut first = place.load()?;
    fs::create_dir(&in_its_place)?;
    assert_eq!(place.attach(&mut first, INTERFACE)?, NEW);
    place.apply(&mut first)?;
    drop(first);
    let running = place.port(INTERFACE)?.program;
    assert!(running.is_some());
    let mut second = place.load()?;
    assert_eq!(second.inherited().reals.len(), 1);
    assert_eq!(place.attach(&mut second, INTERFACE)?, TAKEN_OVER);
    assert_ne!(place.port(INTERFACE)?.program, running);
    drop(second);
    fs::remove_dir(in_its_place)?;
    assert!(detach(&place.pins)?);
    Ok(())
}

/// Its first interface was made anew, and the start that was to attach it failed.
#[test]
fn xdp_a_data_plane_on_its_second_interface_alone_is_gone_on_with() -> Result<()> {
    let place = Place::new()?;
    place.director.run(["ip", "link", "add", "spare", "type", "veth", "peer", "spare2"])?;
    let mut first = place.load_for(2)?;
    let ports = [place.port("spare")?, place.port(INTERFACE)?];
    let attached = place.director.inside(|| Ok(first.attach(&ports)?))?;
    assert_eq!(attached, NEW);
    place.apply(&mut first)?;
    drop(first);
    let running = place.port(INTERFACE)?.program;
    fs::remove_file(place.pins.join("link"))?;
    let second = place.load_for(2)?;
    assert_eq!(second.inherited().reals.len(), 1);
    drop(second);
    assert_eq!(place.port(INTERFACE)?.program, running);
    Ok(())
}

/// A controller that ends at that moment has told nobody.
#[test]
fn xdp_servers_that_ended_are_known_to_the_next_controller() -> Result<()> {
    let place = Place::new()?;
    let mut first = place.load()?;
    place.attach(&mut first, INTERFACE)?;
    place.apply(&mut first)?;
    assert!(first.take_ended().is_empty());
    drop(first);
    let mut second = place.load()?;
    assert!(second.take_ended().is_empty());
    let none = Plan { services: Vec::new() };
    second.apply(&dataplane::director(), &none)?;
    assert_eq!(second.take_ended(), [(1, 0)].into());
    drop(second);
    assert_eq!(place.load()?.take_ended(), [(1, 0)].into());
    Ok(())
}
