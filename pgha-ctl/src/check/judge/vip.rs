//! The VIPs as the network knows them.

use crate::check::facts::{Answerer, Facts, Vip, Who};
use crate::check::{Check, about};

pub(super) fn judge(facts: &Facts) -> Vec<Check> {
    let role = facts.controller.as_ref().ok().filter(|status| status.director.attached);
    let role = role.map(|status| status.director.role.as_str());
    facts.vips.iter().flat_map(|vip| [here(vip), answered(vip, role)]).collect()
}

fn here(vip: &Vip) -> Check {
    let check = about("vip-here", vip.vip.to_string(), "no interface of this node has the VIP");
    match &vip.here {
        None => check.ok("none but lo, at most"),
        Some(interface) => check
            .fail(format!(
                "{interface} has it: the kernel of this node answers for it beside the director"
            ))
            .wanted("on lo of the real servers, and nowhere else")
            .mend(format!("ip address del {} dev {interface}", vip.vip)),
    }
}

/// `role` is that of a controller that runs here.
fn answered(vip: &Vip, role: Option<&str>) -> Check {
    let check =
        about("vip-in-use", vip.vip.to_string(), "nobody but a director answers for the VIP");
    let answerer = match &vip.answered {
        Err(why) => return check.skipped(why),
        Ok(None) if role == Some("standby") => {
            return check
                .warn("nobody answers for it, and the director on this node stands by")
                .mend("pgha director take");
        }
        Ok(None) if role.is_some() => {
            return check.ok("nobody else: the director on this node has it");
        }
        Ok(None) => return check.ok("nobody answers: it is free"),
        Ok(Some(answerer)) => answerer,
    };
    let Answerer { mac, who, asks } = answerer;
    match who {
        Who::Peer(name) if role == Some("active") && !asks => check
            .fail(format!("director {name} ({mac}) answers, and so does the one on this node"))
            .mend("on one of them: pgha director release"),
        Who::Peer(name) => check.ok(format!("director {name} ({mac}) has it")),
        Who::Node(name) if *asks => check.warn(format!("{name} ({mac}) is about to use it")),
        Who::Node(name) => check
            .fail(format!("{name} ({mac}) answers for it, so that clients reach that one server alone"))
            .mend(format!("on {name}: pgha realserver setup, or take the VIP off its interface")),
        Who::Stranger if *asks => check.warn(format!("{mac} asks for it, and may be about to use it")),
        Who::Stranger => check
            .fail(format!("{mac} answers for it, which is no node of the configuration"))
            .mend("choose a free address, or find that host and stop it; another director is named in [[director.peer]]"),
    }
}
