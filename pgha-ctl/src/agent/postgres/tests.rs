use std::path::Path;

use super::*;

const TEXT: &str = r#"
cluster = "lab"
[director]
interface = "eth0"
[api]
listen = "10.0.0.11:7432"
tls = "/etc/pgha/tls"
[postgres]
user = "pgha"
dbname = "postgres"
[[service]]
name = "reader"
vip = "10.0.0.100"
discovery = "direct"
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
[agent]
node = "db1"
data = "/var/lib/postgresql/15/main"
bin = "/usr/lib/postgresql/15/bin"
"#;

#[test]
fn who_reads_the_files_of_another_node_names_a_database() {
    let config = Config::parse(TEXT, Path::new("/etc/pgha/pgha.toml")).unwrap();
    let server = super::config(&config, config.agent().unwrap(), config.failover().unwrap());
    assert_eq!(server.rewind.role, "db1");
    assert_eq!(server.rewind.parameters.get("dbname").map(String::as_str), Some("postgres"));
    // A walsender for streaming has none.
    assert_eq!(server.replication.parameters.get("dbname"), None);
}
