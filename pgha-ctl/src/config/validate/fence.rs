//! `[[fence]]`: what turns a node off from outside.

use std::collections::BTreeMap;
use std::path::PathBuf;

use pgha_machine::NodeName;

use super::checker::{Checker, Unique};
use crate::config::error::ConfigError;
use crate::config::failover::FenceDevice;
use crate::config::raw::RawFence;

/// What pgha tells a device itself.
const OWN: [&str; 3] = ["action", "option", "nodename"];

/// One device. Whether its node is a managed one is seen where all are known.
pub(super) fn device(checks: &mut Checker, at: &str, raw: RawFence) -> Option<FenceDevice> {
    let key = |name: &str| format!("{at}.{name}");
    let name = checks.own_name(Unique::FenceDevice, &key("name"), raw.name);
    let node = checks.name(&key("node"), raw.node);
    let level = checks.integer(&key("level"), raw.level);
    let agent = checks.path(&key("agent"), raw.agent);
    let options = pairs(checks, &key("options"), raw.options, &[]);
    let given: Vec<_> = options.iter().flatten().map(|(name, _)| name.clone()).collect();
    let secrets = pairs(checks, &key("secrets"), raw.secrets, &given);
    let secrets = secrets.and_then(|secrets| files(checks, &key("secrets"), secrets));
    Some(FenceDevice {
        name: name?,
        node: node?,
        level: level?,
        agent: agent?,
        options: options?.into_iter().collect(),
        secrets: secrets?,
    })
}

/// Each `name=value`, none of which is `given` already.
fn pairs(
    checks: &mut Checker,
    key: &str,
    values: Vec<String>,
    given: &[String],
) -> Option<Vec<(String, String)>> {
    let mut all: Vec<(String, String)> = Vec::new();
    let mut fit = true;
    for (index, value) in values.into_iter().enumerate() {
        let at = checks.at(&format!("{key}[{index}]"));
        let pair = value.split_once('=').filter(|(name, _)| {
            !name.is_empty()
                && !name.contains(char::is_whitespace)
                && !value.contains(['\n', '\r', '\0'])
        });
        let error = match pair {
            None => Some(ConfigError::FenceOption { at, value: value.clone() }),
            Some((name, _)) if OWN.contains(&name) => {
                Some(ConfigError::FenceOptionOwn { at, name: name.to_owned() })
            }
            Some((name, _))
                if given.iter().chain(all.iter().map(|(name, _)| name)).any(|it| it == name) =>
            {
                Some(ConfigError::FenceOptionTwice { at, name: name.to_owned() })
            }
            Some((name, value)) => {
                all.push((name.to_owned(), value.to_owned()));
                None
            }
        };
        if let Some(error) = error {
            checks.fail(error);
            fit = false;
        }
    }
    fit.then_some(all)
}

fn files(
    checks: &mut Checker,
    key: &str,
    secrets: Vec<(String, String)>,
) -> Option<BTreeMap<String, PathBuf>> {
    let file = |(index, (name, path)): (usize, (String, String))| {
        let path = checks.absolute(&format!("{key}[{index}]"), path);
        path.map(|path| (name, path))
    };
    let files: Vec<_> = secrets.into_iter().enumerate().map(file).collect();
    files.into_iter().collect()
}

/// The devices whose nodes are managed; an error for each other one.
pub(super) fn of_members(
    checks: &mut Checker,
    devices: Vec<FenceDevice>,
    is_managed: impl Fn(&mut Checker, &str, &NodeName) -> bool,
) -> Option<Vec<FenceDevice>> {
    let mut fit = true;
    for (index, device) in devices.iter().enumerate() {
        fit &= is_managed(checks, &format!("fence[{index}].node"), &device.node);
    }
    fit.then_some(devices)
}
