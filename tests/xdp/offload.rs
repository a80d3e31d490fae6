//! What a network card does with a frame before the program sees it.

use anyhow::Result;
use pgha_ctl::net::offload::takes_tags_off;
use pgha_tests::lab::Lab;
use pgha_tests::lab::plan::INTERFACE;

use crate::confined::confined;

#[test]
fn xdp_an_interface_that_takes_tags_off_is_known() -> Result<()> {
    let lab = Lab::new()?;
    let director = lab.host("lb1")?;
    for (set, taken_off) in [("on", true), ("off", false)] {
        director.run(["ethtool", "-K", INTERFACE, "rxvlan", set])?;
        let asked = director.inside(|| confined(|| Ok(takes_tags_off(INTERFACE)?)))?;
        assert_eq!(asked, taken_off);
    }
    let unknown = director.inside(|| Ok(takes_tags_off("nowhere")))?;
    assert!(unknown.is_err_and(|error| error.to_string().contains("nowhere")));
    Ok(())
}
