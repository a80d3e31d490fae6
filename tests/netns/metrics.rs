//! What Prometheus is told.
use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;

use anyhow::{Context as _, Result, ensure};
use pgha_tests::lab::{SOON, wait_for};

use crate::cluster::{Cluster, service};

/// Samples by name and labels.
type Samples = BTreeMap<String, f64>;

/// One scrape: header and body.
fn scrape(cluster: &Cluster) -> Result<(String, String)> {
    let mut stream = UnixStream::connect(cluster.director.control_path())?;
    stream.set_read_timeout(Some(SOON))?;
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (header, body) = answer.split_once("\r\n\r\n").context("a body")?;
    Ok((header.to_owned(), body.to_owned()))
}

/// Reads OpenMetrics' text: each sample is one of the metric that was described last.
fn read(page: &str) -> Result<Samples> {
    let body = page.strip_suffix("# EOF\n").context("an end")?;
    let (mut samples, mut described) = (Samples::new(), None);
    for line in body.lines() {
        if let Some(described_now) = line.strip_prefix("# TYPE ") {
            described = described_now.split_once(' ');
        } else if !line.starts_with("# HELP ") {
            let (key, value) = line.rsplit_once(' ').context("a sample")?;
            let name = key.split('{').next().context("a name")?;
            let (of, kind) = described.context("a metric")?;
            let suffix = match kind {
                "counter" => "_total",
                "info" => "_info",
                _ => "",
            };
            ensure!(name == format!("{of}{suffix}"), "{line} in {of}, a {kind}");
            ensure!(samples.insert(key.to_owned(), value.parse()?).is_none(), "{key} twice");
        }
    }
    Ok(samples)
}

#[test]
fn netns_metrics_are_those_of_the_status() -> Result<()> {
    let cluster = Cluster::up(&["db2", "db3"], &[("\"maglev\"", "\"rr\"")])?;
    cluster.served(4)?;
    cluster.director.pgha(["drain", "db3"])?;
    let (header, page) = scrape(&cluster)?;
    assert!(header.contains("application/openmetrics-text; version=1.0.0"), "{header}");
    read(&page)?;

    // Frames come in all the time: the status before and after a scrape must be the same.
    let (samples, status) = wait_for("a moment without frames", SOON, || {
        let before = cluster.director.status()?;
        let samples = read(&scrape(&cluster)?.1)?;
        let after = cluster.director.status()?;
        let counts = |status: &serde_json::Value| {
            (
                status["received"].clone(),
                service(status, "reader").map(|s| s["traffic"].clone()).ok(),
            )
        };
        Ok((counts(&before) == counts(&after)).then_some((samples, after)))
    })?;
    let value = |key: &str| samples.get(key).copied().with_context(|| key.to_owned());
    let number = |value: &serde_json::Value| value.as_f64().context("a number");
    assert_eq!(value("pgha_frames_received_total")?, number(&status["received"])?);
    for (reason, count) in status["reasons"].as_object().context("reasons")? {
        let of = |key: &&String| key.ends_with(&format!("reason=\"{reason}\"}}"));
        let key = samples.keys().find(of).with_context(|| reason.clone())?;
        assert!(key.starts_with("pgha_frames_total{action="), "{key}");
        assert_eq!(value(key)?, number(count)?, "{key}");
    }
    let reader = service(&status, "reader")?;
    for server in reader["servers"].as_array().context("servers")? {
        let (name, address) = (&server["name"], &server["address"]);
        let name = name.as_str().or(address.as_str()).context("a name")?;
        let labels = format!(
            "{{service=\"reader\",vip=\"10.77.0.100\",port=\"5432\",server=\"{name}\",address={address}}}"
        );
        let traffic = &reader["traffic"][server["id"].to_string()];
        for (metric, expected) in [
            ("pgha_server_packets_total", &traffic["packets"]),
            ("pgha_server_bytes_total", &traffic["bytes"]),
            ("pgha_server_flows_total", &traffic["flows"]),
            ("pgha_server_open_flows", &traffic["open"]),
            ("pgha_server_weight", &server["effective_weight"]),
        ] {
            assert_eq!(value(&format!("{metric}{labels}"))?, number(expected)?, "{metric} {name}");
        }
        let drained = f64::from(u8::from(name == "db3"));
        assert_eq!(value(&format!("pgha_server_drained{labels}"))?, drained);
    }
    assert_eq!(value("pgha_primary_answers")?, 1.0);
    assert_eq!(value("pgha_director_active")?, 1.0);
    assert_eq!(value("pgha_controller_start_time_seconds")?, number(&status["started"])?);
    Ok(())
}
