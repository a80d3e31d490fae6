//! Configuration texts for directors of a lab.
use std::fmt::Write as _;

use anyhow::Result;

use super::plan::{INTERFACE, READER_VIP};
use super::postgres::{MONITOR, PORT};
use super::{Director, Lab};

/// The cluster's name.
pub const CLUSTER: &str = "lab";

/// The reader service of a lab: `primaries` are asked for their walsenders, and every `db` host
/// made so far is a node. Other `lb` hosts made so far are its peers. Health is checked often.
///
/// # Errors
/// When a primary is no host of the plan.
pub fn basic(lab: &Lab, director: &Director, primaries: &[&str]) -> Result<String> {
    let primaries = lab
        .hosts(primaries)?
        .iter()
        .map(|host| format!("\"{}\"", host.address()))
        .collect::<Vec<_>>()
        .join(", ");
    let mut text = format!(
        r#"cluster = "{CLUSTER}"

[director]
interface = "{INTERFACE}"
bpffs = "{}"
control = "{}"

[store]
path = "{}"

[postgres]
user = "{MONITOR}"
dbname = "postgres"

[primary]
hosts = [{primaries}]
port = {PORT}

[health]
interval = "200ms"
timeout = "1s"
rise = 2
fall = 3

[[service]]
name = "reader"
vip = "{READER_VIP}"
port = {PORT}
scheduler = "maglev"
discovery = "both"
default_weight = 1
"#,
        director.bpffs().display(),
        director.control_path().display(),
        director.store_path().display(),
    );
    for host in &lab.members() {
        let (name, address) = (host.name(), host.address());
        if name.starts_with("db") {
            write!(text, "\n[[node]]\nname = \"{name}\"\naddress = \"{address}\"\n")?;
        } else if name.starts_with("lb") && name != director.host().name() {
            write!(text, "\n[[director.peer]]\nname = \"{name}\"\naddress = \"{address}\"\n")?;
        }
    }
    Ok(text)
}
