//! `pgha realserver`: a node made able to serve the VIPs, and that taken back exactly.
use std::net::UdpSocket;

use anyhow::{Result, ensure};
use pgha_tests::lab::{Host, Lab, SOON, wait_for, wait_until};

const VIP: &str = "10.77.0.100";
const OTHER_VIP: &str = "10.77.0.101";
const SYSCTLS: [&str; 4] =
    ["all/arp_ignore", "lo/arp_ignore", "all/arp_announce", "lo/arp_announce"];

#[test]
fn netns_realserver_takes_back_exactly_what_it_did() -> Result<()> {
    let lab = Lab::new()?;
    let [db1, db2, client] = lab.hosts(&["db1", "db2", "client"])?.try_into().expect("three");
    let pgha = |arguments: &[&str]| lab.realserver("db2", arguments)?.run();
    // Somebody's own settings, and one address of two.
    set(&db2, "all/arp_announce", "1")?;
    set(&db2, "lo/arp_ignore", "2")?;
    db2.run(["ip", "address", "add", &format!("{OTHER_VIP}/32"), "dev", "lo"])?;
    let before = settings(&db2)?;

    let said = pgha(&["setup", "--vip", VIP, "--vip", OTHER_VIP])?;
    for line in [
        "set net.ipv4.conf.all.arp_ignore = 1 (was 0)",
        "kept net.ipv4.conf.lo.arp_ignore = 2",
        "set net.ipv4.conf.all.arp_announce = 2 (was 1)",
        "added 10.77.0.100/32 to lo",
        "kept 10.77.0.101 on lo",
    ] {
        assert!(said.contains(line), "`{line}` in {said}");
    }
    let after = settings(&db2)?;
    assert!(after.contains("inet 10.77.0.100/32 scope host lo"), "{after}");
    assert!(after.starts_with("1 2 2 2\n"), "{after}");
    // Nobody is told where the VIP is, so nobody finds it.
    assert!(!resolves(&client, VIP)?);
    assert!(resolves(&client, "10.77.0.12")?);

    let again = pgha(&["setup", "--vip", VIP, "--vip", OTHER_VIP])?;
    assert!(!again.contains("set ") && !again.contains("added "), "{again}");
    assert_eq!(settings(&db2)?, after);

    pgha(&["undo"])?;
    assert_eq!(settings(&db2)?, before);
    assert!(pgha(&["undo"])?.starts_with("nothing to undo: "));
    assert_eq!(settings(&db2)?, before);

    // Refused, and nothing changed.
    db2.run(["ip", "address", "add", &format!("{VIP}/32"), "dev", "eth0"])?;
    let elsewhere = settings(&db2)?;
    refused(&lab, "db2", "VIP 10.77.0.100 is on interface eth0 of this node")?;
    assert_eq!(settings(&db2)?, elsewhere);
    db2.run(["ip", "address", "del", &format!("{VIP}/32"), "dev", "eth0"])?;
    set(&db1, "eth0/arp_ignore", "3")?;
    let overridden = settings(&db1)?;
    refused(&lab, "db1", "net.ipv4.conf.eth0.arp_ignore = 3 would make this node answer ARP")?;
    assert_eq!(settings(&db1)?, overridden);
    assert_eq!(settings(&db2)?, before);
    Ok(())
}

#[test]
fn netns_realserver_undo_after_a_killed_setup() -> Result<()> {
    let lab = Lab::new()?;
    let db2 = lab.host("db2")?;
    let before = settings(&db2)?;
    let log = lab.directory().join("log/realserver.log");
    let record = lab.directory().join("db2/realserver.json");
    for _ in 0..8 {
        let setup = lab.realserver("db2", &["setup", "--vip", VIP, "--vip", OTHER_VIP])?;
        let setup = setup.start(&log)?;
        // From its first record on it changes things.
        wait_until("the record", SOON, || Ok(record.exists() || !setup.is_running()?))?;
        setup.kill()?;
        let said = lab.realserver("db2", &["undo"])?.run()?;
        assert_eq!(settings(&db2)?, before, "{said}");
    }
    Ok(())
}

fn refused(lab: &Lab, host: &str, part: &str) -> Result<()> {
    let output = lab.realserver(host, &["setup", "--vip", VIP])?.output()?;
    let said = String::from_utf8(output.stderr)?;
    ensure!(output.status.code() == Some(1), "{}: {said}", output.status);
    ensure!(said.starts_with("pgha: ") && said.lines().count() == 1, "{said}");
    ensure!(said.contains(part), "`{part}` is not in: {said}");
    Ok(())
}

/// The four sysctls, then the addresses of `lo` and `eth0`.
fn settings(host: &Host) -> Result<String> {
    let values = SYSCTLS.map(|name| format!("/proc/sys/net/ipv4/conf/{name}"));
    let values = host.command(["cat"])?.args(values).run()?.replace('\n', " ");
    let addresses = host.run(["ip", "-4", "-o", "address", "show"])?;
    Ok(format!("{values}\n{addresses}"))
}

fn set(host: &Host, name: &str, value: &str) -> Result<()> {
    let path = format!("/proc/sys/net/ipv4/conf/{name}");
    host.run(["sh", "-c", &format!("echo {value} > {path}")]).map(drop)
}

/// Whether anybody answers ARP for an address.
fn resolves(from: &Host, address: &str) -> Result<bool> {
    from.inside(|| {
        UdpSocket::bind("0.0.0.0:0")?.send_to(b"?", (address, 9))?;
        Ok(())
    })?;
    wait_for("the neighbour table", SOON, || {
        let entry = from.run(["ip", "neigh", "show", address])?;
        let settled = if entry.contains("lladdr") {
            Some(true)
        } else {
            entry.contains("FAILED").then_some(false)
        };
        Ok(settled)
    })
}
