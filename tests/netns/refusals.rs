//! A controller that cannot work says why in one sentence, and leaves nothing behind.
use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use anyhow::{Result, ensure};
use pgha_tests::lab::artifacts::pgha_binary;
use pgha_tests::lab::{Cmd, SOON, Stub, wait_until};

use crate::cluster::{Cluster, Edits};
use crate::restart::attached;

const USER: &str = "user = \"pgha\"";
const BOTH_DIRECT: (&str, &str) = ("discovery = \"both\"", "discovery = \"direct\"");

#[test]
fn netns_refusals_are_one_sentence_and_leave_nothing() -> Result<()> {
    let cluster = Cluster::prepared(&["db2"])?;
    let bpffs = format!("bpffs = \"{}\"", cluster.director.bpffs().display());
    let refused = |edits: &Edits<'_>, parts: &[&str]| refused(&cluster, edits, parts);

    refused(
        &[("rise = 2", "raise = 2")],
        &["health.raise: no such key", "did you mean \"rise\"?"],
    )?;
    refused(
        &[("\"10.77.0.100\"", "\"10.88.0.100\"")],
        &["VIP 10.88.0.100 lies in no subnet of eth0 (10.77.0.0/24)", "choose a VIP"],
    )?;
    refused(
        &[("interface = \"eth0\"", "interface = \"eth7\"")],
        &["there is no interface eth7; this node has", "eth0"],
    )?;
    refused(
        &[("interface = \"eth0\"", "interface = \"lo\"")],
        &["interface lo has no Ethernet address", "name an Ethernet interface"],
    )?;
    refused(
        &[(&bpffs, "bpffs = \"/var/tmp\"")],
        &["/var/tmp is no BPF file system; mount one: mount -t bpf bpf /var/tmp"],
    )?;
    refused(
        &[(&bpffs, "bpffs = \"/nowhere\"")],
        &["/nowhere is no BPF file system; mount one: mount -t bpf bpf /nowhere"],
    )?;
    refused(
        &[(USER, "user = \"nobody\"")],
        &["PostgreSQL at 10.77.0.11:5432 refuses user nobody", "role \"nobody\" does not exist"],
    )?;
    refused(
        &[("dbname = \"postgres\"", "dbname = \"absent\"")],
        &["PostgreSQL at 10.77.0.11:5432 refuses", "database \"absent\" does not exist", "dbname"],
    )?;
    refused(
        &[(USER, "user = \"nobody\""), BOTH_DIRECT],
        &["PostgreSQL at 10.77.0.", ":5432 refuses user nobody", "role \"nobody\" does not exist"],
    )?;
    refused_password(&cluster)?;
    refused_vip(&cluster)?;
    refused_program(&cluster)?;
    refused_control(&cluster)?;
    refused_capabilities(&cluster)?;

    // Nothing of all that stands in the way.
    cluster.configure(&[])?;
    cluster.director.start()?;
    cluster.wait_serving(&["db2"])?;
    // A second one of the same cluster does not disturb the first.
    let status = cluster.director.status()?;
    let (code, said) = cluster.director.start_expecting_failure()?;
    assert_eq!(code, 1);
    one_sentence(
        &said,
        &["another controller of this cluster runs on this node", "stop that one"],
    )?;
    assert_eq!(cluster.director.status()?["director"], status["director"]);
    assert_eq!(cluster.psql("show cluster_name")?, "db2");
    Ok(())
}

fn refused_password(cluster: &Cluster) -> Result<()> {
    cluster.primary.psql("create role scram login password 'right' in role pg_monitor")?;
    let hba = cluster.primary.data().join("pg_hba.conf");
    let open = fs::read_to_string(&hba)?;
    fs::write(&hba, format!("host all scram 10.77.0.0/24 scram-sha-256\n{open}"))?;
    cluster.primary.reload()?;
    let passfile = cluster.lab.directory().join("pgpass");
    fs::write(&passfile, "*:*:*:scram:wrong\n")?;
    let user = format!("user = \"scram\"\npassfile = \"{}\"", passfile.display());
    let open = fs::Permissions::from_mode(0o644);
    fs::set_permissions(&passfile, open)?;
    refused(cluster, &[(USER, &user)], &["has mode 0644, open to group or others", "chmod 0600"])?;
    let private = fs::Permissions::from_mode(0o600);
    fs::set_permissions(&passfile, private)?;
    refused(
        cluster,
        &[(USER, &user)],
        &["refuses user scram", "password authentication failed", "passfile"],
    )?;
    refused(cluster, &[(USER, "user = \"scram\"")], &["refuses user scram", "password missing"])?;
    // The right one serves, and is told nobody.
    fs::write(&passfile, "*:*:*:scram:right\n")?;
    cluster.configure(&[(USER, &user)])?;
    cluster.director.start()?;
    cluster.director.terminate()?;
    ensure!(!cluster.director.log()?.contains("right"), "{}", cluster.director.log()?);
    ensure!(cluster.director.pgha(["detach"])?.status.success());
    Ok(())
}

fn refused_vip(cluster: &Cluster) -> Result<()> {
    let db2 = cluster.reader("db2")?.host();
    cluster.lab.realserver("db2", &["undo"])?.run()?;
    db2.run(["ip", "address", "add", "10.77.0.100/32", "dev", "eth0"])?;
    refused(
        cluster,
        &[],
        &[
            "VIP 10.77.0.100 is in use: 02:00:0a:4d:00:0c answers for it, which is the real server db2",
            "run there: pgha realserver setup --vip 10.77.0.100",
        ],
    )?;
    db2.run(["ip", "address", "del", "10.77.0.100/32", "dev", "eth0"])?;
    cluster.lab.realserver_setup("db2")
}

fn refused_program(cluster: &Cluster) -> Result<()> {
    let host = cluster.director.host();
    host.attach_stub(Stub::Pass)?;
    let link = || host.run(["ip", "-d", "link", "show", "eth0"]);
    let before = link()?;
    cluster.configure(&[])?;
    let (code, said) = cluster.director.start_expecting_failure()?;
    assert_eq!(code, 1);
    one_sentence(
        &said,
        &["interface eth0 has a foreign XDP program already (id ", "bpftool prog show id"],
    )?;
    assert_eq!(link()?, before);
    assert!(!cluster.director.pins().exists());
    // The stub is attached for as long as it is pinned.
    fs::remove_file(cluster.lab.bpffs().join("lb1-eth0"))?;
    wait_until("the stub to go", SOON, || Ok(!attached(cluster)?))
}

/// What is at the path of the control socket stays.
fn refused_control(cluster: &Cluster) -> Result<()> {
    let file = cluster.lab.directory().join("precious");
    fs::write(&file, "precious")?;
    let usual = format!("control = \"{}\"", cluster.director.control_path().display());
    let edited = format!("control = \"{}\"", file.display());
    refused(cluster, &[(&usual, &edited)], &["precious is there and no socket, so it stays"])?;
    ensure!(fs::read_to_string(&file)? == "precious");
    Ok(())
}

fn refused_capabilities(cluster: &Cluster) -> Result<()> {
    cluster.configure(&[])?;
    let controller = |before: &[&str]| -> Result<Cmd> {
        let command = cluster.director.host().command(before)?;
        let command = command.args([pgha_binary()?]).args(["controller", "--config"]);
        Ok(command.args([cluster.director.config_path()]))
    };
    for (dropped, missing) in [
        ("-net_raw", "missing CAP_NET_RAW: run the controller as root"),
        ("-net_admin", "missing CAP_NET_ADMIN: run the controller as root"),
        ("-bpf,-sys_admin", "missing CAP_BPF: run the controller as root"),
        ("-all", "missing CAP_BPF, CAP_NET_ADMIN, CAP_NET_RAW, CAP_PERFMON: run the controller as"),
    ] {
        let output = controller(&["setpriv", &format!("--bounding-set={dropped}")])?.output()?;
        assert_eq!(output.status.code(), Some(1), "{dropped}: {output:?}");
        one_sentence(&String::from_utf8(output.stderr)?, &[missing, "AmbientCapabilities="])?;
        untouched(cluster)?;
    }
    Ok(())
}

/// Tries to start the controller by the usual configuration with edits.
fn refused(cluster: &Cluster, edits: &Edits<'_>, parts: &[&str]) -> Result<()> {
    cluster.configure(edits)?;
    let (code, said) = cluster.director.start_expecting_failure()?;
    ensure!(code == 1, "{code}: {said}");
    one_sentence(&said, parts)?;
    untouched(cluster)
}

/// Whether standard error has one message, with these parts.
fn one_sentence(said: &str, parts: &[&str]) -> Result<()> {
    let messages = said.lines().filter(|line| line.starts_with("pgha: ")).count();
    ensure!(messages == 1, "{messages} messages in: {said}");
    for part in parts {
        ensure!(said.contains(part), "`{part}` is not in: {said}");
    }
    Ok(())
}

/// Nothing is attached, pinned or left to connect to.
fn untouched(cluster: &Cluster) -> Result<()> {
    ensure!(!attached(cluster)?, "something is attached");
    ensure!(!cluster.director.pins().exists(), "something is pinned");
    ensure!(!cluster.director.control_path().exists(), "a control socket is left");
    Ok(())
}
