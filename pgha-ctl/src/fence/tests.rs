use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::*;

/// A fence agent as they are: it reads what it is told to do, keeps the state of its plug in a file, and ends with
/// the exit codes of the interface.
const AGENT: &str = r#"#!/bin/sh
while IFS= read -r line; do
    echo "$line" >> "$0.told"
    case "$line" in
        action=*) action=${line#action=} ;;
        plug=*) plug=${line#plug=} ;;
        off=*) off=${line#off=} ;;
        status=*) status=${line#status=} ;;
    esac
done
echo "$action" >> "$0.$plug.actions"
case "$action" in
    off)
        case "$off" in
            refuses) echo "Connecting" >&2; echo "Unable to connect/login to fencing device" >&2; exit 1 ;;
            hangs) exec sleep 600 ;;
            lies) exit 0 ;;
            leaves) sleep 600 & ;;
        esac
        echo off > "$0.$plug.state" ;;
    status)
        test "$status" = fails && exit 1
        test "$(cat "$0.$plug.state" 2>/dev/null)" = off && exit 2
        exit 0 ;;
esac
"#;

struct Bench(tempfile::TempDir);

impl Bench {
    fn new() -> Self {
        let bench = Self(tempfile::tempdir().unwrap());
        fs::write(bench.agent(), AGENT).unwrap();
        fs::set_permissions(bench.agent(), fs::Permissions::from_mode(0o700)).unwrap();
        bench
    }

    fn agent(&self) -> std::path::PathBuf {
        self.0.path().join("fence_bench")
    }

    fn device(&self, plug: &str, options: &[(&str, &str)]) -> Device {
        let plug_option = [("plug", plug)];
        let options = options.iter().chain(&plug_option);
        Device {
            name: format!("pdu-{plug}"),
            agent: self.agent(),
            options: options
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
            secrets: Vec::new(),
        }
    }

    /// What the plug was asked for, in order.
    fn actions(&self, plug: &str) -> String {
        let actions = self.0.path().join(format!("fence_bench.{plug}.actions"));
        fs::read_to_string(actions).unwrap_or_default().replace('\n', " ")
    }
}

fn node() -> NodeName {
    "db1".parse().unwrap()
}

fn fencing(levels: Vec<Vec<Device>>, patience: u64) -> Fencing {
    let levels = levels.into_iter().map(Level).collect();
    Fencing { levels: [(node(), levels)].into(), patience: Duration::from_millis(patience) }
}

/// Long enough for a script on a busy machine.
const LONG: u64 = 60_000;

async fn refused(fencing: &Fencing) -> String {
    fencing.turn_off(&node()).await.unwrap_err().to_string()
}

#[tokio::test]
async fn a_node_is_off_when_its_device_has_done_it_and_says_so() {
    let bench = Bench::new();
    let device = bench.device("1", &[]);
    let fencing = fencing(vec![vec![device.clone()]], LONG);
    let db1 = node();
    let state = || device.state(&db1, fencing.patience);
    assert_eq!(fencing.nodes(), [node()].into());
    assert_eq!(state().await.unwrap(), State::On);
    fencing.turn_off(&node()).await.unwrap();
    assert_eq!(bench.actions("1"), "status off status ");
    assert_eq!(state().await.unwrap(), State::Off);
    let told = fs::read_to_string(bench.agent().with_extension("told")).unwrap();
    assert!(told.contains("nodename=db1\n") && told.contains("plug=1\n"), "{told}");
}

#[tokio::test]
async fn an_error_a_timeout_and_a_device_that_says_otherwise_are_no_proof() {
    let bench = Bench::new();
    let one = |options: &[(&str, &str)], patience| {
        fencing(vec![vec![bench.device("1", options)]], patience)
    };
    assert_eq!(
        refused(&one(&[("off", "refuses")], LONG)).await,
        "db1 is not known to be off; level 1: fence device pdu-1: off ended with exit code 1: \
         Unable to connect/login to fencing device"
    );
    assert_eq!(
        refused(&one(&[("off", "lies")], LONG)).await,
        "db1 is not known to be off; level 1: fence device pdu-1 was told to turn it off and says that it is on"
    );
    assert_eq!(
        refused(&one(&[("off", "hangs")], 300)).await,
        "db1 is not known to be off; level 1: fence device pdu-1: off took longer than 300 ms; that proves nothing"
    );
    let unsure = refused(&one(&[("status", "fails")], LONG)).await;
    assert!(unsure.ends_with("status ended with exit code 1"), "{unsure}");
    assert_eq!(refused(&Fencing::default()).await, "db1 has no fence device");
    assert_eq!(Fencing::default().nodes(), BTreeSet::new());
}

#[tokio::test]
async fn the_second_level_is_asked_where_the_first_fails() {
    let bench = Bench::new();
    let first = vec![bench.device("1", &[("off", "refuses")])];
    let fencing = fencing(vec![first, vec![bench.device("2", &[])]], LONG);
    fencing.turn_off(&node()).await.unwrap();
    assert_eq!(
        (bench.actions("1"), bench.actions("2")),
        ("off ".to_owned(), "off status ".to_owned())
    );
}

#[tokio::test]
async fn of_two_power_supplies_both_are_off_before_any_is_asked_whether_it_is() {
    let bench = Bench::new();
    let both = vec![bench.device("1", &[]), bench.device("2", &[])];
    fencing(vec![both], LONG).turn_off(&node()).await.unwrap();
    assert_eq!(
        (bench.actions("1"), bench.actions("2")),
        ("off status ".to_owned(), "off status ".to_owned())
    );
    let half = vec![bench.device("3", &[]), bench.device("4", &[("off", "lies")])];
    let error = refused(&fencing(vec![half], LONG)).await;
    assert!(error.contains("pdu-4 was told to turn it off and says that it is on"), "{error}");
}

#[tokio::test]
async fn one_that_leaves_somebody_behind_is_not_waited_for() {
    let bench = Bench::new();
    let leaves = vec![bench.device("1", &[("off", "leaves")])];
    let began = std::time::Instant::now();
    fencing(vec![leaves], LONG).turn_off(&node()).await.unwrap();
    assert!(began.elapsed() < Duration::from_millis(LONG));
}

#[tokio::test]
async fn a_password_is_read_from_its_file_and_told_on_stdin_only() {
    let bench = Bench::new();
    let file = bench.0.path().join("password");
    fs::write(&file, "se cret\n").unwrap();
    let secret = |file: &Path| Secret { option: "password".to_owned(), file: file.to_owned() };
    let device = Device { secrets: vec![secret(&file)], ..bench.device("1", &[]) };
    let fencing_with = |device| fencing(vec![vec![device]], LONG);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    let error = refused(&fencing_with(device.clone())).await;
    assert!(error.contains("chmod 0600"), "{error}");
    assert_eq!(bench.actions("1"), "");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    fencing_with(device.clone()).turn_off(&node()).await.unwrap();
    let told = fs::read_to_string(bench.agent().with_extension("told")).unwrap();
    assert!(told.contains("password=se cret\n"), "{told}");
    // What would be another line is refused before anything is run.
    let mut broken = bench.device("1", &[]);
    broken.options.insert("ip".to_owned(), "10.0.0.1\naction=on".to_owned());
    let error = refused(&fencing_with(broken)).await;
    assert!(error.contains("the option ip has a line end in it"), "{error}");
    let missing = Device { agent: "/nowhere/fence_x".into(), ..bench.device("1", &[]) };
    let error = refused(&fencing_with(missing)).await;
    assert!(error.contains("/nowhere/fence_x cannot be run"), "{error}");
}
