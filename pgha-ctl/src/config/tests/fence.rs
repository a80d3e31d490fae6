//! What turns nodes off.

use std::collections::BTreeMap;
use std::time::Duration;

use super::*;

const NODES: &str = r#"
[[node]]
name = "db1"
address = "10.0.0.11"
agent = "10.0.0.11:7432"
[[node]]
name = "db2"
address = "10.0.0.12"
agent = "10.0.0.12:7432"
[[controller]]
name = "lb1"
address = "10.0.0.21:7432"
"#;

const IPMI: &str = r#"
[[fence]]
name = "ipmi-db1"
node = "db1"
agent = "/usr/sbin/fence_ipmilan"
options = ["ip=10.0.9.1", "lanplus=1", "method="]
secrets = ["password=/etc/pgha/ipmi.password"]
"#;

fn fenced(text: &str) -> String {
    with(&format!("{NODES}{text}"))
}

#[test]
fn a_device_is_what_turns_a_managed_node_off() {
    let config = parse(&fenced(IPMI)).unwrap();
    let failover = config.failover().unwrap();
    let [device] = failover.fences() else { panic!("{:?}", failover.fences()) };
    assert_eq!(
        (device.name().as_str(), device.node().as_str(), device.level()),
        ("ipmi-db1", "db1", 1)
    );
    assert_eq!(device.agent(), Path::new("/usr/sbin/fence_ipmilan"));
    let options: BTreeMap<_, _> = [("ip", "10.0.9.1"), ("lanplus", "1"), ("method", "")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
    assert_eq!(device.options(), &options);
    let secrets = [("password".to_owned(), "/etc/pgha/ipmi.password".into())].into();
    assert_eq!(device.secrets(), &secrets);
    assert_eq!(failover.fence_timeout(), Duration::from_secs(30));
    assert!(parse(&fenced("")).unwrap().failover().unwrap().fences().is_empty());
}

#[test]
fn a_device_is_refused_with_key_value_and_what_to_do() {
    for (from, to, told) in [
        ("node = \"db1\"\nagent", "node = \"db3\"\nagent", "fence[0].node = \"db3\""),
        (
            "\"ip=10.0.9.1\"",
            "\"ip 10.0.9.1\"",
            "fence[0].options[0]: \"ip 10.0.9.1\" is no option; write it as name=value",
        ),
        (
            "\"ip=10.0.9.1\"",
            "\"ip=1\\naction=on\"",
            "fence[0].options[0]: \"ip=1\\naction=on\" is no option",
        ),
        (
            "\"ip=10.0.9.1\"",
            "\"action=on\"",
            "fence[0].options[0]: pgha says itself what action is; remove it",
        ),
        ("\"lanplus=1\"", "\"ip=2\"", "fence[0].options[1]: ip is given twice; keep one of them"),
        (
            "\"password=/etc",
            "\"ip=/etc",
            "fence[0].secrets[0]: ip is given twice; keep one of them",
        ),
        ("\"password=/etc", "\"password=etc", "fence[0].secrets[0]"),
        ("agent = \"/usr/sbin/", "agent = \"", "fence[0].agent"),
        ("name = \"ipmi-db1\"", "level = 1", "fence[0].name is missing"),
    ] {
        assert!(IPMI.contains(from), "{from}");
        let text = fenced(&IPMI.replacen(from, to, 1));
        let [message] = &messages(&text)[..] else { panic!("{to}: {:?}", messages(&text)) };
        assert!(message.contains(told), "{message}");
    }
    let twice = fenced(&format!("{IPMI}{IPMI}"));
    assert_eq!(messages(&twice).len(), 1, "{:?}", messages(&twice));
}
