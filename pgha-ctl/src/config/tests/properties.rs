use super::*;

/// Values each kind takes, and values it does not.
fn samples(key: &str, kind: Kind) -> (Vec<String>, Vec<String>) {
    let quoted = |texts: &[&str]| texts.iter().map(|text| format!("{text:?}")).collect();
    let numbers = |numbers: &[i64]| numbers.iter().map(i64::to_string).collect::<Vec<_>>();
    let (good, mut bad): (Vec<String>, Vec<String>) = match (key, kind) {
        (_, Kind::Interfaces) => (
            vec!["\"eth0\"".into(), "[\"a\", \"enp0s31f6.1234x\"]".into()],
            vec![
                "\"\"".into(),
                "\"a b\"".into(),
                "[\"..\"]".into(),
                "[\"eth0\", \"x/y\"]".into(),
                "[\"eth0\", \"eth0\"]".into(),
                "[\"sixteen-bytes-16\"]".into(),
                "[]".into(),
                "[1]".into(),
            ],
        ),
        (_, Kind::Text) => {
            (quoted(&["pgha", "ä", &"x".repeat(63)]), quoted(&["", &"x".repeat(64)]))
        }
        ("cluster", _) => (quoted(&["a", "9-_"]), quoted(&["", "-a", "b.c"])),
        (_, Kind::Name) => {
            (quoted(&["a", "b.c", "9-_"]), quoted(&["", "-a", "a b", &"x".repeat(64)]))
        }
        (_, Kind::Path) => (quoted(&["/", "/a/b"]), quoted(&["", "a/b", "./a"])),
        (_, Kind::Address | Kind::Addresses) => (
            quoted(&["10.0.0.1", "192.168.7.255", "223.255.255.254", "fd00::1", "2001:db8::"]),
            quoted(&[
                "",
                "::",
                "fe80::1",
                "ff02::1",
                "::ffff:10.0.0.1",
                "10.0.0",
                "10.0.0.256",
                "0.0.0.0",
                "127.0.0.1",
                "224.0.0.1",
                "255.255.255.255",
                "::1",
                "db1",
            ]),
        ),
        ("fence[].secrets", Kind::Options) => (
            vec!["[\"password=/etc/pgha/password\"]".into()],
            vec!["[\"password=relative\"]".into(), "[\"password\"]".into(), "[1]".into()],
        ),
        (_, Kind::Options) => (
            vec!["[]".into(), "[\"ip=10.0.9.1\", \"lanplus=1\"]".into()],
            vec!["[\"ip\"]".into(), "[\"=1\"]".into(), "[\"action=on\"]".into(), "[1]".into()],
        ),
        (_, Kind::Process) => (
            quoted(&["10.0.0.12:7432", "[fd00::12]:1", "db2.example:65535"]),
            quoted(&["", "10.0.0.12", "10.0.0.12:0", "fd00::12:7432", "a b:1"]),
        ),
        (_, Kind::Hosts) => (
            vec![
                "[\"10.9.0.1\"]".into(),
                "[\"10.9.0.1\", \"127.0.0.1\"]".into(),
                "[\"fd00:9::1\", \"::1\"]".into(),
                "[\"10.9.0.1:5433\", \"[fd00:9::1]:5433\"]".into(),
            ],
            vec![
                "[]".into(),
                "[\"nobody\"]".into(),
                "[\"10.9.0.1:0\"]".into(),
                "[\"10.9.0.1\", \"10.9.0.1\"]".into(),
                "[1]".into(),
            ],
        ),
        (_, Kind::Listeners) => (
            vec![
                "\"10.0.0.21:7432\"".into(),
                "\"[::]:7432\"".into(),
                "[\"127.0.0.1:1\", \"[fd00::21]:65535\"]".into(),
            ],
            vec![
                "\"\"".into(),
                "\"10.0.0.21\"".into(),
                "\"lb1:7432\"".into(),
                "\"10.0.0.21:0\"".into(),
                "\"fd00::21:7432\"".into(),
                "\"224.0.0.1:7432\"".into(),
                "[]".into(),
                "[\"10.0.0.21:7432\", \"10.0.0.21:7432\"]".into(),
                "7432".into(),
            ],
        ),
        (_, Kind::Endpoints) => (
            vec![
                "[\"https://10.0.0.31:2379\"]".into(),
                "[\"https://etcd1:2379\", \"https://[fd00::31]:2379/\", \"https://e.x:1\"]".into(),
            ],
            vec![
                "[]".into(),
                "\"https://10.0.0.31:2379\"".into(),
                "[\"10.0.0.31:2379\"]".into(),
                "[\"ftp://10.0.0.31:2379\"]".into(),
                "[\"https://10.0.0.31\"]".into(),
                "[\"https://10.0.0.31:0\"]".into(),
                "[\"https://fd00::31:2379\"]".into(),
                "[\"https://a b:2379\"]".into(),
                "[\"https://etcd1:2379\", \"http://etcd2:2379\"]".into(),
                "[\"https://etcd1:2379\", \"https://etcd1:2379/\"]".into(),
            ],
        ),
        (_, Kind::Networks) => (
            vec!["[\"10.0.0.0/8\"]".into(), "[\"0.0.0.0/0\", \"192.0.2.1/32\"]".into()],
            vec![
                "[]".into(),
                "[\"10.0.0.0\"]".into(),
                "[\"10.0.0.1/8\"]".into(),
                "[\"fd00::/8\"]".into(),
                "\"10.0.0.0/8\"".into(),
            ],
        ),
        // No second lies within the shortest lease.
        ("lease.watchdog", _) => (vec!["false".into()], vec!["1".into()]),
        (_, Kind::Boolean) => (vec!["true".into(), "false".into()], vec!["1".into()]),
        (_, Kind::Integer { min, max }) => (
            numbers(&[max, min.midpoint(max), min]),
            numbers(&[min - 1, max + 1, i64::MIN, i64::MAX]),
        ),
        (_, Kind::Duration { min, max }) => (
            vec![format!("\"{min}ms\""), format!("\"{max}ms\"")],
            vec![
                // None is below zero.
                min.checked_sub(1).map_or("\"-1ms\"".into(), |less| format!("\"{less}ms\"")),
                format!("\"{}ms\"", max + 1),
                "\"1\"".into(),
                "\"-1s\"".into(),
                "\"\"".into(),
            ],
        ),
        (_, Kind::Choices(choices)) => (
            vec!["[]".into(), format!("{choices:?}"), format!("{:?}", &choices[..1])],
            vec!["[\"none\"]".into(), "[1]".into(), "\"lag\"".into()],
        ),
        // First the one that the other keys go with.
        ("store.kind", _) => (quoted(&["etcd", "local"]), quoted(&["", "ETCD", "none"])),
        (_, Kind::Choice(choices)) => (quoted(choices), quoted(&["", "MAGLEV", "none"])),
    };
    bad.extend(["1.5".into(), "1979-05-27".into(), "{}".into()]);
    (good, bad)
}

/// A file of one entry in each list, each key with the value `choose` gives it.
fn file(choose: &mut dyn FnMut(&'static str, Kind) -> Option<String>) -> String {
    let mut text = String::new();
    let mut section = "";
    for key in KEYS {
        let (within, name) = schema::split(key.path);
        if within != section {
            section = within;
            text += &match within.strip_suffix("[]") {
                Some(list) => format!("[[{list}]]\n"),
                None => format!("[{within}]\n"),
            };
        }
        if let Some(value) = choose(key.path, key.kind) {
            text += &format!("{name} = {value}\n");
        }
    }
    text
}

/// Valid by itself, and different from the other addresses.
fn own_address(key: &str) -> Option<String> {
    let last = [
        "service[].vip",
        "node[].address",
        "director.peer[].address",
        "failover.writer_vip",
        "controller[].address",
    ]
    .iter()
    .position(|address| *address == key)?;
    let port = if key == "controller[].address" { ":1" } else { "" };
    Some(format!("\"10.0.0.{}{port}\"", last + 1))
}

/// The value of a key that has to be that of another, or has to differ from it.
fn name_of(values: &[(&str, Option<String>)], key: &str) -> Option<String> {
    match key {
        "controller[].name" => Some("\"lb1\"".to_owned()),
        "agent.node" | "fence[].node" => {
            values.iter().find(|(of, _)| *of == "node[].name")?.1.clone()
        }
        _ => None,
    }
}

/// Whether a key is left out, where that follows from those before it: a key without the one it refers to is
/// an error of its own, and so are half a pair of certificate and key, verification without an authority, and
/// a return beyond its limit, which therefore appears only with the largest limit; what only one kind of store has;
/// and timings of a lease that do not go together.
fn left_out(values: &[(&str, Option<String>)], key: &str) -> Option<bool> {
    let of = |key: &str| values.iter().find(|(of, _)| *of == key)?.1.as_deref();
    let service = |name: &str| of(&format!("service[].{name}"));
    let largest = |name: &str| {
        let kind = schema::find(&format!("service[].{name}")).unwrap().kind;
        let text = if let Kind::Integer { max, .. } = kind {
            max.to_string()
        } else if let Kind::Duration { max, .. } = kind {
            format!("\"{max}ms\"")
        } else {
            unreachable!("only numbers and durations have a largest value")
        };
        service(name) == Some(&text)
    };
    let lone = |lone: bool| lone.then_some(true);
    match key {
        "service[].syn_burst" => lone(service("syn_rate").is_none_or(|rate| rate == "0")),
        "service[].return_lag_bytes" => lone(!largest("max_lag_bytes")),
        "service[].return_lag" => lone(!largest("max_lag")),
        "service[].auto_weight" => lone(service("max_lag_bytes").or(service("max_lag")).is_none()),
        "postgres.sslkey" => Some(of("postgres.sslcert").is_none()),
        "postgres.sslrootcert" => {
            of("postgres.sslmode").filter(|mode| mode.starts_with("\"verify")).map(|_| false)
        }
        "store.endpoints" | "store.ca" => Some(of("store.kind") != Some("\"etcd\"")),
        "store.cert" | "store.user" => lone(of("store.kind") != Some("\"etcd\"")),
        "store.key" => Some(of("store.cert").is_none()),
        "store.password_file" => Some(of("store.user").is_none()),
        // An agent is told by others, and belongs to a node that is managed.
        "api.listen" | "node[].agent" => Some(false),
        "failover.writer" => lone(of("failover.writer_vip").is_none()),
        "store.timeout" | "lease.renew_every" | "lease.drop_after" => Some(true),
        "lease.duration" => lone(of("lease.profile") == Some("\"safe\"")),
        _ => None,
    }
}

proptest! {
    #[test]
    fn any_valid_values_make_a_valid_file_and_any_one_bad_value_is_named(
        picks in prop::collection::vec((any::<Index>(), any::<bool>()), KEYS.len()),
        broken: Index,
        mutation: Index,
    ) {
        let mut pick = picks.iter();
        let mut values = Vec::new();
        file(&mut |key, kind| {
            let (index, leave) = pick.next().unwrap();
            let good = samples(key, kind).0;
            let optional = schema::find(key).unwrap().absent != schema::Absent::Refused;
            let own = own_address(key).or_else(|| name_of(&values, key));
            let value = own.unwrap_or_else(|| index.get(&good).clone());
            let left = left_out(&values, key).unwrap_or(optional && *leave);
            values.push((key, (!left).then_some(value)));
            None
        });
        let values: Vec<_> = values.into_iter().map(|(_, value)| value).collect();
        let mut value = values.iter();
        let text = file(&mut |_, _| value.next().unwrap().clone());
        prop_assert!(parse(&text).is_ok(), "{}\n{:?}", text, parse(&text));

        let broken = broken.get(KEYS);
        let bad = samples(broken.path, broken.kind).1;
        let mut value = values.iter();
        let text = file(&mut |key, _| {
            let value = value.next().unwrap().clone();
            if key == broken.path { Some(mutation.get(&bad).clone()) } else { value }
        });
        let errors = parse(&text).unwrap_err();
        let named = errors.errors().iter().filter_map(ConfigError::key).any(|key| {
            let pattern = schema::pattern(key);
            pattern == broken.path || pattern.strip_suffix("[]") == Some(broken.path)
        });
        prop_assert!(named, "{} unnamed:\n{errors}\n{text}", broken.path);
    }

    #[test]
    fn no_text_panics(text in "[a-z\\[\\]=\"{}.,0-9 \n]{0,80}") {
        let _ = parse(&text);
    }
}

#[test]
fn a_missing_required_key_is_named() {
    for missing in KEYS.iter().filter(|key| key.absent == schema::Absent::Refused) {
        let text = file(&mut |key, kind| {
            let own = own_address(key).or_else(|| name_of(&[], key));
            let value = own.unwrap_or_else(|| samples(key, kind).0[0].clone());
            (key != missing.path).then_some(value)
        });
        let errors = parse(&text).unwrap_err();
        let keys: Vec<_> =
            errors.errors().iter().filter_map(ConfigError::key).map(schema::pattern).collect();
        assert_eq!(keys, [missing.path], "{errors}");
    }
}
