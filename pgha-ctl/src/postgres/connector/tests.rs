use super::*;
use crate::postgres::heard::Heard;

const ADDRESS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 11));

/// With these nodes, by the last number of their addresses.
fn connector(postgres: &str, nodes: &[(&str, u8)]) -> Connector {
    Connector::new(&config(postgres, nodes))
}

fn config(postgres: &str, nodes: &[(&str, u8)]) -> Config {
    let nodes = nodes
        .iter()
        .map(|(name, last)| format!("[[node]]\nname = \"{name}\"\naddress = \"10.0.0.{last}\"\n"));
    let text = format!(
        "cluster = \"main\"\n[director]\ninterface = \"eth0\"\n[postgres]\n{postgres}\n\
         [[service]]\nname = \"reader\"\nvip = \"10.0.0.100\"\ndiscovery = \"direct\"\n{}",
        nodes.collect::<String>()
    );
    Config::parse(&text, Path::new("pgha.toml")).unwrap()
}

#[test]
fn a_session_ends_by_a_reload_only_where_it_would_be_opened_otherwise() {
    let full = "sslmode = \"verify-full\"\nsslrootcert = \"/etc/ca.crt\"";
    for (postgres, names_count) in [("sslmode = \"disable\"", false), (full, true)] {
        let before = connector(postgres, &[("db1", 11)]);
        let like = |nodes: &[(&str, u8)]| before.is_like(&connector(postgres, nodes), ADDRESS);
        assert!(like(&[("db1", 11), ("db2", 12)]), "another node says nothing of this one");
        assert_eq!(like(&[("db9", 11)]), !names_count, "{postgres}");
        let other = format!("{postgres}\nuser = \"other\"");
        assert!(!before.is_like(&connector(&other, &[("db1", 11)]), ADDRESS));
    }
}

#[test]
fn that_a_session_is_not_encrypted_is_told_once_of_each_server() {
    let config = config("", &[("db1", 1)]);
    let (db1, db2) = ("10.0.0.1:5432".parse().unwrap(), "10.0.0.2:5432".parse().unwrap());
    let failed = PgError::NoTls(SslMode::Prefer);
    let connector = Connector::telling(&config);
    let (heard, _listening) = Heard::listen();
    let no_tls = |server: Server| {
        format!(
            "INFO sessions with {server} are not encrypted: it has no TLS, and sslmode = \"prefer\" goes without"
        )
    };
    connector.goes_plain(db1, None);
    assert_eq!(heard.lines(), [no_tls(db1)]);
    connector.goes_plain(db2, Some(&failed));
    assert_eq!(
        heard.lines(),
        [format!(
            "WARN sessions with {db2} are not encrypted: sslmode = \"prefer\" goes without where TLS fails \
             ({failed}); sslmode = \"require\" does not"
        )]
    );
    // By a clone too, which another task has.
    connector.clone().goes_plain(db1, Some(&failed));
    assert_eq!(heard.lines(), [""; 0]);
    connector.goes_encrypted(db1);
    connector.goes_plain(db1, None);
    assert_eq!(heard.lines(), [no_tls(db1)], "it was encrypted meanwhile");
    Connector::new(&config).goes_plain(db1, None);
    assert_eq!(heard.lines(), [""; 0], "nobody is to be told");
}
