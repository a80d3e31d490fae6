use serde_json::{Value, json};

use super::*;
use crate::net::realserver::Setting;

#[test]
fn each_step_is_told_in_words_and_in_numbers() {
    let name = "net.ipv4.conf.all.arp_ignore".to_owned();
    let setting = Setting { name, before: 0, set: 1 };
    let vip = "10.0.0.100".parse().unwrap();
    let steps = vec![
        Step::SysctlSet(setting.clone()),
        Step::SysctlLeft { setting, found: 2 },
        Step::AddressAdded(vip),
        Step::NothingToUndo { state_dir: "/var/lib/pgha".into() },
    ];
    let done = Done::of(&steps.clone().into());
    let sent = serde_json::to_value(&done).unwrap();
    let arp_ignore = json!({ "name": "net.ipv4.conf.all.arp_ignore", "before": 0, "set": 1 });
    let of = |at: usize| (&sent["steps"][at]["step"], &sent["steps"][at]["of"]);
    assert_eq!(of(0), (&json!("sysctl_set"), &arp_ignore));
    assert_eq!(of(1), (&json!("sysctl_left"), &json!({ "setting": arp_ignore, "found": 2 })));
    assert_eq!(of(2), (&json!("address_added"), &json!("10.0.0.100")));
    assert_eq!(of(3), (&json!("nothing_to_undo"), &json!({ "state_dir": "/var/lib/pgha" })));
    for (step, told) in steps.iter().zip(sent["steps"].as_array().unwrap()) {
        assert_eq!(told["says"], Value::from(step.to_string()));
    }
    assert_eq!(serde_json::from_value::<Done>(sent).unwrap(), done);
}
