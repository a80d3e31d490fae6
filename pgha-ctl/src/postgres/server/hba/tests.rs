use super::closed;

fn kept(text: &str) -> Vec<String> {
    closed(text, "pgha", "peer").lines().skip(2).map(str::to_owned).collect()
}

#[test]
fn the_agent_comes_first() {
    let text = closed("", "pg\"ha", "peer");
    assert_eq!(text.lines().nth(1), Some("local all \"pg\"\"ha\" peer"));
}

#[test]
fn only_what_admits_replication_is_left() {
    let operators = "\
# TYPE DATABASE USER ADDRESS METHOD
local   all             all                                     peer
host    all             all             10.0.0.0/8              scram-sha-256
hostssl replication     repl            10.0.0.2/32             cert clientcert=verify-full
host all,replication repl 10.0.0.3/32 scram-sha-256
";
    assert_eq!(
        kept(operators),
        [
            "hostssl replication     repl            10.0.0.2/32             cert clientcert=verify-full",
            "host replication repl 10.0.0.3/32 scram-sha-256",
        ]
    );
}

#[test]
fn a_database_of_that_name_is_no_replication() {
    assert_eq!(kept("host \"replication\" all 10.0.0.0/8 trust\n"), [""; 0]);
    assert_eq!(
        kept("host \"a b\",replication all 10.0.0.0/8 trust"),
        ["host replication all 10.0.0.0/8 trust"]
    );
}

#[test]
fn lines_may_go_on_on_the_next() {
    assert_eq!(
        kept("host replication repl \\\n 10.0.0.2/32 md5\n"),
        ["host replication repl   10.0.0.2/32 md5"]
    );
}

#[test]
fn what_cannot_be_read_admits_nobody() {
    let text = "include more.conf\n@file all all trust\nhost\nhost replication\nlocal all\n";
    assert_eq!(kept(text), [""; 0]);
}
