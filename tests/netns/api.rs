//! The API: on the control socket, and over TLS for those who show a certificate.
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, ensure};
use pgha_ctl::rpc::authority::{Authority, Request};
use pgha_ctl::rpc::client::Address;
use pgha_ctl::rpc::identity::Role;
use pgha_ctl::store::{Key, Remote, Store as _};
use pgha_tests::lab::artifacts::pgha_binary;
use pgha_tests::lab::{Host, SOON, hold_until, wait_for};
use serde_json::Value;

use crate::cluster::{Cluster, success};

const DIRECT: (&str, &str) = ("discovery = \"both\"", "discovery = \"direct\"");

/// One request on the control socket: code and body.
pub(crate) fn ask(
    cluster: &Cluster,
    method: &str,
    path: &str,
    body: &str,
) -> Result<(u16, String)> {
    cluster.director.ask(method, path, body)
}

/// One request on the control socket that is answered with 200.
pub(crate) fn asked(cluster: &Cluster, method: &str, path: &str, body: &str) -> Result<Value> {
    let (code, said) = ask(cluster, method, path, body)?;
    ensure!(code == 200, "{code}: {said}");
    Ok(serde_json::from_str(&said)?)
}

/// A director with the API on TCP, and certificates of its cluster.
struct Api {
    cluster: Cluster,
    tls: PathBuf,
    to: String,
}

impl Api {
    fn up() -> Result<Self> {
        let cluster = Cluster::prepared(&["db2", "db3"])?;
        let tls = cluster.lab.directory().join("tls");
        let address = cluster.director.host().address().to_string();
        let to = format!("{address}:7432");
        let api = Self { cluster, tls, to };
        api.make(&["init", "--cluster", "lab"])?;
        api.make(&["issue", "lb1", "--address", &address, "--days", "20"])?;
        api.make(&["issue", "ann", "--operator"])?;
        api.make(&["issue", "db2", "--address", "10.77.0.12"])?;
        let section = format!(
            "[api]\nlisten = \"{}\"\ntls = \"{}\"\n\n[health]",
            api.to,
            api.tls.join("lb1").display()
        );
        api.cluster.configure(&[DIRECT, ("[health]", &section)])?;
        api.cluster.director.start()?;
        api.cluster.wait_serving(&["db2", "db3"])?;
        Ok(api)
    }

    fn make(&self, arguments: &[&str]) -> Result<String> {
        let tls = self.tls.to_str().context("a path")?;
        let made = self.cluster.director.pgha([&["--tls", tls, "tls"], arguments].concat())?;
        ensure!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        Ok(String::from_utf8(made.stdout)?)
    }

    /// A verb on the client's host, as the holder of that certificate: exit code, output, error.
    fn verb(&self, as_who: &str, arguments: &[&str]) -> Result<(Option<i32>, String, String)> {
        let pgha = self.cluster.client.command([pgha_binary()?])?.args(arguments);
        let tls = self.tls.join(as_who);
        let ended = pgha.args(["--to", &self.to, "--tls"]).args([tls.as_os_str()]).output()?;
        let text = |bytes| String::from_utf8(bytes);
        Ok((ended.status.code(), text(ended.stdout)?, text(ended.stderr)?))
    }

    /// What curl gets without a certificate: code and body.
    fn curl(&self, path: &str, more: &[&str]) -> Result<(u16, String)> {
        let url = format!("https://{}{path}", self.to);
        let ca = self.tls.join("ca.crt");
        let curl =
            self.cluster.client.command(["curl", "-s", "-m", "20", "-w", "\n%{http_code}"])?;
        let said = curl.args(["--cacert"]).args([ca]).args(more).args([&*url]).run()?;
        let (body, code) = said.rsplit_once('\n').context("a code")?;
        Ok((code.parse()?, body.to_owned()))
    }
}

#[test]
fn netns_an_operator_steers_over_tls_and_nobody_else() -> Result<()> {
    let api = Api::up()?;
    let cluster = &api.cluster;
    for who in ["ann", "db2"] {
        let (code, out, error) = api.verb(who, &["status", "--json"])?;
        assert_eq!(code, Some(0), "{who}: {error}");
        let status: Value = serde_json::from_str(&out)?;
        assert_eq!((&status["cluster"], &status["api"]["name"]), (&"lab".into(), &"lb1".into()));
        let left = status["api"]["days_left"].as_i64().context("days")?;
        assert!((19..=20).contains(&left), "{left}");
    }
    let (code, _, error) = api.verb("db2", &["drain", "db3"])?;
    assert_ne!(code, Some(0));
    assert!(error.contains("db2 is a node, and only operators may do this"), "{error}");
    assert_eq!(cluster.server("db3")?["drained"], Value::Null);
    let (code, _, error) = api.verb("ann", &["drain", "db3"])?;
    assert_eq!(code, Some(0), "{error}");
    assert_eq!(cluster.server("db3")?["drained"]["by"], "ann");
    let warned = "the certificate of lb1 in ";
    assert_eq!(cluster.logged(warned)?, 1, "{}", cluster.director.log()?);

    // Who shows nothing learns whether the process is well, and nothing else.
    let (code, body) = api.curl("/healthz", &[])?;
    assert_eq!((code, &*body), (200, r#"{"schema":3,"healthy":true}"#));
    for path in ["/", "/metrics", "/primary", "/replica", "/v1/status", "/v1/store/orders"] {
        let (code, body) = api.curl(path, &[])?;
        assert!(
            code == 401 && body.contains("show a certificate of this cluster"),
            "{path}: {code} {body}"
        );
    }
    // Load balancers ask for the code alone.
    for method in [&["--head"][..], &["-X", "OPTIONS"]] {
        assert_eq!(api.curl("/healthz", method)?.0, 200, "{method:?}");
        assert_eq!(api.curl("/replica", method)?.0, 401, "{method:?}");
    }
    let order = r#"{"server":"db3","order":"undrain"}"#;
    let json = "content-type: application/json";
    assert_eq!(api.curl("/v1/order", &["-H", json, "-d", order])?.0, 401);
    assert_eq!(cluster.server("db3")?["drained"]["by"], "ann");
    // With its certificate, curl may what its holder may.
    let (certificate, key) = (api.tls.join("ann/node.crt"), api.tls.join("ann/node.key"));
    let path = |path: &Path| path.to_str().map(str::to_owned).context("a path");
    let (certificate, key) = (path(&certificate)?, path(&key)?);
    let shown = ["--cert", &certificate, "--key", &key];
    for (path, expected) in [("/replica?node=db2", 200), ("/replica?node=db3", 503)] {
        for method in [&["--head"][..], &["-X", "OPTIONS"], &["-X", "GET"]] {
            let (code, body) = api.curl(path, &[&shown[..], method].concat())?;
            assert_eq!(code, expected, "{method:?} {path}: {body}");
        }
    }
    let (code, body) = api.curl("/v1/order", &[&shown[..], &["-H", json, "-d", order]].concat())?;
    assert_eq!(code, 200, "{body}");
    assert_eq!(cluster.server("db3")?["drained"], Value::Null);
    Ok(())
}

#[test]
fn netns_who_is_refused_for_his_certificate_hears_what_to_do() -> Result<()> {
    let api = Api::up()?;
    let ended = SystemTime::now() - Duration::from_secs(30 * 24 * 3600);
    let request = Request {
        name: "old".parse()?,
        role: Role::Operator,
        addresses: Vec::new(),
        names: Vec::new(),
        lifetime: Duration::from_secs(24 * 3600),
    };
    Authority::load(&api.tls, ended)?.issue(&request, &api.tls.join("old"))?;
    // Eve's is of another authority, and she trusts this cluster's all the same.
    let other = api.tls.join("other");
    let made = |arguments: &[&str]| {
        let other = other.to_str().context("a path")?;
        success(api.cluster.director.pgha([&["--tls", other, "tls"], arguments].concat())?)
    };
    made(&["init", "--cluster", "lab"])?;
    made(&["issue", "eve", "--operator"])?;
    std::fs::copy(api.tls.join("ca.crt"), other.join("eve/ca.crt"))?;
    for (who, says) in [
        ("old", "has expired; where the authority is, run: pgha tls renew"),
        ("other/eve", "see that both certificates are of this cluster's authority"),
    ] {
        let (code, out, error) = api.verb(who, &["status"])?;
        assert_eq!((code, &*out), (Some(5), ""), "{who}: {error}");
        assert!(error.contains(says), "{who}: {error}");
    }
    Ok(())
}

#[test]
fn netns_an_order_written_by_another_process_is_in_force() -> Result<()> {
    let api = Api::up()?;
    let cluster = &api.cluster;
    success(cluster.director.pgha(["drain", "db3"])?)?;
    let key: Key = "orders".parse()?;
    let at: Address = api.to.parse()?;
    let remote = |who: &str| Remote::new(at.clone(), &api.tls.join(who));
    let (ann, db2) = (remote("ann"), remote("db2"));
    let read = inside(&cluster.client, db2.get(&key))?.context("a reading")?;
    let mut record: Value = serde_json::from_slice(&read.value.context("a value")?)?;
    record["orders"]["servers"][0]["address"] = "10.77.0.12".into();
    record["orders"]["servers"][0]["drained"]["by"] = "another".into();
    let value = serde_json::to_vec(&record)?;
    // A node keeps records of its own there, but orders are not its to give.
    let refused = inside(&cluster.client, db2.cas(&key, read.mark, value.clone()))?.unwrap_err();
    assert!(refused.to_string().contains("only operators may do this"), "{refused}");
    let other: Key = "lease".parse()?;
    let nothing = inside(&cluster.client, db2.get(&other))??.mark;
    inside(&cluster.client, db2.cas(&other, nothing, b"mine".into()))??;

    inside(&cluster.client, ann.cas(&key, read.mark, value))??;
    cluster.wait_weights(&[("db1", 0), ("db2", 0), ("db3", 1)])?;
    assert_eq!(cluster.server("db2")?["drained"]["by"], "another");

    // What cannot be read changes nothing, and nothing is written over it.
    let mark = inside(&cluster.client, ann.get(&key))??.mark;
    let mark = inside(&cluster.client, ann.cas(&key, mark, br#"{"form":2}"#.into()))??;
    wait_for("the status to say so", SOON, || {
        let store = cluster.director.status()?["store"].clone();
        let error = store["error"].as_str().unwrap_or_default();
        Ok(error.contains("has form 2, and this pgha knows form 1").then_some(()))
    })?;
    cluster.wait_weights(&[("db1", 0), ("db2", 0), ("db3", 1)])?;
    let refused = cluster.director.pgha(["undrain", "db2"])?;
    assert!(!refused.status.success());
    assert_eq!(inside(&cluster.client, ann.get(&key))??.mark, mark);
    Ok(())
}

/// Waits for something on a host's own network.
fn inside<T: Send>(host: &Host, what: impl Future<Output = T> + Send) -> Result<T> {
    host.inside(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(runtime.block_on(what))
    })
}

#[test]
fn netns_a_renewed_certificate_is_taken_up_without_a_restart() -> Result<()> {
    let api = Api::up()?;
    let cluster = &api.cluster;
    let pid = cluster.director.pid();
    let days = || cluster.director.status()?["api"]["days_left"].as_i64().context("days");
    assert!(days()? <= 20);
    api.make(&["renew", "lb1", "--days", "400"])?;
    let reloaded = asked(cluster, "POST", "/v1/reload", "")?;
    assert_eq!(reloaded["schema"], 3, "{reloaded:#}");
    assert!(days()? >= 399);
    assert_eq!(api.verb("ann", &["status"])?.0, Some(0));

    // By itself too, and a wrong file changes nothing.
    let certificate = api.tls.join("lb1/node.crt");
    let good = std::fs::read(&certificate)?;
    std::fs::write(&certificate, "nonsense")?;
    wait_for("the wrong file to be told", SOON, || {
        let api = cluster.director.status()?["api"].clone();
        let error = api["error"].as_str().unwrap_or_default();
        Ok(error.contains("node.crt holds no certificate in PEM").then_some(()))
    })?;
    assert_eq!(api.verb("ann", &["status"])?.0, Some(0));
    std::fs::write(&certificate, good)?;
    asked(cluster, "POST", "/v1/reload", "")?;
    assert_eq!(cluster.director.status()?["api"]["error"], Value::Null);
    assert_eq!(cluster.director.pid(), pid);
    Ok(())
}

#[test]
fn netns_reload_over_the_api_says_everything_that_is_wrong() -> Result<()> {
    let cluster = Cluster::up(&["db2"], &[DIRECT])?;
    cluster.configure(&[DIRECT, ("rise = 2", "rise = 0"), ("fall = 3", "fall = 77")])?;
    let (code, said) = ask(&cluster, "POST", "/v1/reload", "")?;
    assert_eq!(code, 422, "{said}");
    for wrong in
        ["2 errors", "health.rise = 0 is out of bounds", "health.fall = 77 is out of bounds"]
    {
        assert!(said.contains(wrong), "{wrong}: {said}");
    }
    assert_eq!(cluster.logged("the old configuration stays in force")?, 1);
    cluster.configure(&[DIRECT, ("default_weight = 1", "default_weight = 7")])?;
    asked(&cluster, "POST", "/v1/reload", "")?;
    cluster.wait_weights(&[("db1", 0), ("db2", 7)])
}

#[test]
fn netns_health_is_told_in_patronis_words() -> Result<()> {
    let cluster = Cluster::up(&["db2", "db3"], &[])?;
    let code = |path: &str| Ok::<_, anyhow::Error>(ask(&cluster, "GET", path, "")?.0);
    wait_for("the primary", SOON, || Ok((code("/primary")? == 200).then_some(())))?;
    for (path, expected) in [
        ("/healthz", 200),
        ("/primary?node=db1", 200),
        ("/primary?node=10.77.0.11", 200),
        ("/primary?node=db2", 503),
        ("/primary?node=nobody", 422),
        ("/primary?nod=db1", 422),
        ("/replica", 200),
        ("/replica?node=db2", 200),
        ("/replica?node=db1", 503),
        ("/replica?node=db2&lag=16MB", 200),
        ("/replica?node=db2&lag=soon", 422),
    ] {
        let (code, said) = ask(&cluster, "GET", path, "")?;
        assert_eq!(code, expected, "{path}: {said}");
        // As HAProxy does: HTTP/1.0, and for the code alone.
        for method in ["HEAD", "OPTIONS"] {
            assert_eq!(ask(&cluster, method, path, "")?, (expected, String::new()), "{path}");
        }
    }
    success(cluster.director.pgha(["drain", "db2"])?)?;
    let (refused, said) = ask(&cluster, "GET", "/replica?node=db2", "")?;
    assert!(refused == 503 && said.contains("drained by an operator"), "{said}");
    assert_eq!(code("/replica")?, 200);
    cluster.primary.stop()?;
    wait_for("the primary to be missed", SOON, || Ok((code("/primary")? == 503).then_some(())))?;
    // The readers do not depend on it.
    assert_eq!(code("/replica?node=db3")?, 200);
    Ok(())
}

/// Whoever reaches nobody knows nothing new of anybody: everybody stays, and it is said since when.
#[test]
fn netns_a_director_that_is_cut_off_says_so_and_changes_nothing() -> Result<()> {
    let cluster = Cluster::up(&["db2", "db3"], &[])?;
    let lb1 = cluster.lab.host("lb1")?;
    let healthz = || ask(&cluster, "GET", "/healthz", "");
    let stale = || {
        let status = cluster.director.status()?;
        let states = status["services"][0]["states"].as_object().context("states")?.clone();
        let stale = states.values().filter(|state| state["stale_since"].is_u64()).count();
        Ok::<_, anyhow::Error>((stale, states.len(), status["director"]["cut_off"].clone()))
    };
    wait_for("the primary", SOON, || {
        Ok((ask(&cluster, "GET", "/primary", "")?.0 == 200).then_some(()))
    })?;
    let weights = cluster.weights()?;
    assert_eq!((healthz()?.0, stale()?), (200, (0, 3, Value::Null)));
    lb1.link_down()?;
    let unchanged = || {
        let now = cluster.weights()?;
        ensure!(now == weights, "{now:?}");
        Ok(())
    };
    hold_until("the director to say that it is cut off", SOON, unchanged, || {
        let (code, said) = healthz()?;
        let seen = stale()?;
        ensure!(code == 503 && said.contains("this node is cut off: "), "{code}: {said}");
        ensure!((seen.0, seen.1) == (3, 3) && seen.2.is_string(), "{seen:?}");
        Ok(Some(()))
    })?;
    let status = success(cluster.director.pgha(["status"])?)?;
    for part in ["this director is cut off: ", "its checks tell nothing, stale since "] {
        assert!(status.contains(part), "`{part}` in {status}");
    }
    let metrics = ask(&cluster, "GET", "/metrics", "")?.1;
    assert!(metrics.contains("\npgha_director_cut_off 1\n"), "{metrics}");
    lb1.link_up()?;
    hold_until("the director to reach somebody", SOON, unchanged, || {
        let seen = stale()?;
        ensure!(healthz()?.0 == 200 && seen == (0, 3, Value::Null), "{seen:?}");
        Ok(Some(()))
    })?;
    let events = ask(&cluster, "GET", "/v1/events", "")?.1;
    assert!(events.contains("\"cut_off\"") && events.contains("\"reached\""), "{events}");
    Ok(())
}
