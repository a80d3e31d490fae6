use std::path::Path;

use super::*;
use crate::config::Config;

const TEXT: &str = "cluster = \"main\"\n[director]\ninterface = \"eth0\"\n\
                    [[node]]\nname = \"a\"\naddress = \"fd00::1\"\n\
                    [[service]]\nname = \"reader\"\nvip = \"fd00::100\"\ndiscovery = \"direct\"\n";

fn config() -> Config {
    Config::parse(TEXT, Path::new("pgha.toml")).unwrap()
}

#[test]
fn an_end_is_an_address_with_or_without_a_port() {
    let ipv6: IpAddr = "fd00::1".parse().unwrap();
    let ipv4: IpAddr = "10.0.0.2".parse().unwrap();
    for (text, address, port) in [
        ("fd00::1", ipv6, None),
        ("fd00:0::0:1", ipv6, None),
        ("[fd00::1]", ipv6, None),
        ("[fd00::1]:5432", ipv6, Some(5432)),
        ("10.0.0.2", ipv4, None),
        ("10.0.0.2:5432", ipv4, Some(5432)),
        ("::ffff:10.0.0.2", ipv4, None),
    ] {
        assert_eq!(Endpoint::parse(text), Some(Endpoint { address, port }), "{text}");
    }
    for text in ["", "b", "[10.0.0.2]", "[fd00::1", "fd00::1]", "10.0.0.2:", "[fd00::1]:70000"] {
        assert_eq!(Endpoint::parse(text), None, "{text}");
    }
}

#[test]
fn a_service_is_called_by_name_or_vip() {
    let config = config();
    let reader = &config.services()[0];
    for name in ["reader", "fd00::100", "[fd00::100]", "[fd00::100]:5432"] {
        assert!(is_service(reader, name), "{name}");
    }
    for name in ["writer", "fd00::101", "[fd00::100]:6432", "10.0.0.100"] {
        assert!(!is_service(reader, name), "{name}");
    }
}
