use std::net::Ipv4Addr;
use std::path::Path;

use super::*;

const DIRECT: &str = "cluster = \"main\"\n[director]\ninterface = \"eth0\"\n[postgres]\n\
                      passfile = \"/nonexistent/pgpass\"\n[[node]]\nname = \"a\"\n\
                      address = \"10.0.0.1\"\n[[service]]\nname = \"reader\"\n\
                      vip = \"10.0.0.100\"\ndiscovery = \"direct\"\n";

fn config(text: &str) -> Config {
    Config::parse(text, Path::new("pgha.toml")).unwrap()
}

#[tokio::test]
async fn a_password_file_that_is_not_there_is_not_postgresqls_word() {
    let primary = "[primary]\nhosts = [\"10.0.0.2\"]\n";
    for text in [DIRECT.to_owned(), format!("{DIRECT}{primary}")] {
        let error = login(&config(&text)).await.unwrap_err();
        let said = error.to_string();
        let wanted = "[postgres] passfile: password file /nonexistent/pgpass cannot be read: ";
        assert!(said.starts_with(wanted), "{said}");
    }
}

#[test]
fn nodes_are_asked_at_each_port_of_a_service_once() {
    let services = "[[service]]\nname = \"b\"\nvip = \"10.0.0.101\"\ndiscovery = \"direct\"\n\
                    [[service]]\nname = \"c\"\nvip = \"10.0.0.101\"\nport = 6432\n\
                    discovery = \"direct\"\n";
    let address = Ipv4Addr::new(10, 0, 0, 1).into();
    assert_eq!(
        servers(&config(&format!("{DIRECT}{services}"))),
        [5432, 6432].map(|port| Server::new(address, port))
    );
}
