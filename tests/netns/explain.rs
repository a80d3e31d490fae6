//! What operators are told of connections.

use anyhow::{Context as _, Result, ensure};
use pgha_tests::lab::{READER_VIP, SOON, wait_for};
use serde_json::Value;

use crate::cluster::{Cluster, success};

#[test]
fn netns_connections_are_listed_and_explained() -> Result<()> {
    let cluster = Cluster::up(&["db2", "db3"], &[("\"maglev\"", "\"rr\"")])?;
    let session = cluster.session()?;
    let server = session.server()?;
    let client = established(&cluster, &server)?;

    let known = explained(&cluster, &[&client])?;
    let service = &known["services"][0];
    assert_eq!(
        (&service["service"], &service["scheduler"]),
        (&"reader".into(), &"rr".into()),
        "{known:#}"
    );
    assert_eq!(service["flow"]["state"], "established", "{known:#}");
    assert_eq!(service["flow"]["server"]["name"], *server, "{known:#}");
    assert_eq!(service["next"]["reason"], "established_flow", "{known:#}");
    assert_eq!(service["next"]["server"]["name"], *server, "{known:#}");

    // The one whose turn it is gets the next connection.
    let stranger = "10.77.0.31:1";
    let turn = explained(&cluster, &[stranger, "--vip", &READER_VIP.to_string()])?;
    let picked = turn["services"][0]["connect"]["server"]["name"].as_str().context("a name")?;
    assert_eq!(cluster.psql("show cluster_name")?, picked, "{turn:#}");

    // A drained one is told so, and keeps what it has.
    let output = cluster.director.pgha(["drain", &server])?;
    ensure!(output.status.success(), "{output:?}");
    let text = success(cluster.director.pgha(["explain", &client])?)?;
    for sentence in [
        format!("{client} to service reader 10.77.0.100:5432, scheduler rr\n"),
        format!("its next packet: goes to {server} ("),
        "picked: the SYN belongs to the connection that is known; gets no other new connections: drained by an \
         operator\n"
            .to_owned(),
        "not picked: the SYN belongs to a connection with another\n".to_owned(),
    ] {
        assert!(text.contains(&sentence), "`{sentence}` in {text}");
    }

    let other = success(cluster.director.pgha(["explain", stranger])?)?;
    for sentence in [
        "gets no new connections: drained by an operator\n",
        "picked: it is its turn, if no other connection comes before\n",
    ] {
        assert!(other.contains(sentence), "`{sentence}` in {other}");
    }

    // Nobody is named.
    for name in ["db2", "db3"] {
        success(cluster.director.pgha(["drain", name])?)?;
    }
    let nobody = cluster.director.pgha(["explain", stranger, "--json"])?;
    assert_eq!(nobody.status.code(), Some(3), "{nobody:?}");
    let nobody: Value = serde_json::from_slice(&nobody.stdout)?;
    assert_eq!(nobody["services"][0]["connect"]["reason"], "no_server", "{nobody:#}");
    let port = cluster.director.pgha(["explain", stranger, "--vip", "10.77.0.100:80", "--json"])?;
    assert_eq!(port.status.code(), Some(3), "{port:?}");
    let port: Value = serde_json::from_slice(&port.stdout)?;
    assert_eq!(port["services"][0]["connect"]["reason"], "no_service", "{port:#}");
    assert_eq!(session.server()?, server);
    Ok(())
}

#[test]
fn netns_flows_are_chosen_and_counted() -> Result<()> {
    let cluster = Cluster::up(&["db2", "db3"], &[("\"maglev\"", "\"rr\"")])?;
    let sessions = [cluster.session()?, cluster.session()?, cluster.session()?, cluster.session()?];
    let of_db2 = sessions.iter().filter(|session| session.server().is_ok_and(|s| s == "db2"));
    assert_eq!(of_db2.count(), 2);
    let count = |chosen: &[&str]| -> Result<u64> {
        let arguments = [&["flows", "--count", "--json"], chosen].concat();
        let reply: Value = serde_json::from_str(&success(cluster.director.pgha(arguments)?)?)?;
        assert_eq!((&reply["shown"], &reply["flows"]), (&0.into(), &Value::Array(Vec::new())));
        reply["total"].as_u64().context("a number")
    };
    for (chosen, expected) in [
        (&["--server", "db2"][..], 2),
        (&["--server", "10.77.0.13"], 2),
        (&["--client", "10.77.0.31"], 4),
        (&["--client", "10.77.0.0/24", "--vip", "10.77.0.100:5432"], 4),
        (&["--client", "10.78.0.0/24"], 0),
        (&["--vip", "10.77.0.101"], 0),
        (&["--state", "orphaned"], 0),
    ] {
        let chosen = [&["--state", "established"], chosen].concat();
        let chosen = if chosen.contains(&"orphaned") { &chosen[2..] } else { &chosen[..] };
        wait_for(format_args!("{expected} flows {chosen:?}"), SOON, || {
            let found = count(chosen)?;
            ensure!(found == expected, "{found}");
            Ok(Some(()))
        })?;
    }
    let arguments = ["flows", "--state", "established", "--limit", "3"];
    let table = success(cluster.director.pgha(arguments)?)?;
    assert!(table.contains("flows 4, shown 3: established 4"), "{table}");
    assert_eq!(table.lines().filter(|line| line.contains("10.77.0.31:")).count(), 3, "{table}");

    for (arguments, said) in [
        (vec!["flows", "--server", "db9"], "\"db9\" is neither the name of a node"),
        (vec!["flows", "--client", "db9"], "client \"db9\" is neither an address"),
        (vec!["flows", "--vip", "x"], "VIP \"x\" is no address"),
        (vec!["explain", "[fd00::1]:3"], "the client [fd00::1]:3 is IPv6 and the VIP is not"),
        (vec!["explain", "10.0.0.1:3", "--vip", "x"], "x is neither a service nor the VIP of one"),
    ] {
        let refused = cluster.director.pgha(&arguments)?;
        assert_eq!(refused.status.code(), Some(5), "{arguments:?}");
        let stderr = String::from_utf8(refused.stderr)?;
        assert!(stderr.starts_with(&format!("pgha: {said}")), "{stderr}");
    }
    assert_eq!(cluster.director.pgha(["explain", "10.0.0.1"])?.status.code(), Some(2));
    Ok(())
}

/// The client's end of the one established connection with that server, as soon as there is one.
fn established(cluster: &Cluster, server: &str) -> Result<String> {
    let arguments = ["flows", "--server", server, "--state", "established", "--json"];
    wait_for("the connection to be listed", SOON, || {
        let reply: Value = serde_json::from_str(&success(cluster.director.pgha(arguments)?)?)?;
        ensure!(reply["total"] == 1, "{reply:#}");
        Ok(reply["flows"][0]["client"].as_str().map(str::to_owned))
    })
}

fn explained(cluster: &Cluster, arguments: &[&str]) -> Result<Value> {
    let arguments = [&["explain"], arguments, &["--json"]].concat();
    Ok(serde_json::from_str(&success(cluster.director.pgha(arguments)?)?)?)
}
