//! The status page, and what it is made of.
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::signal::Signal;
use pgha_tests::lab::browser::{Browser, Look, chromium};
use pgha_tests::lab::{Running, SOON, wait_for};
use pgha_tests::skip::skipped;
use serde_json::Value;

use crate::cluster::{Cluster, edited, success};

/// What an attacker would write where a text is expected that the page shows.
const MARKUP: &str = "<img src=x onerror=window.hit=1><script>window.hit=1</script>";

/// `pgha web`, and where it serves.
struct Web {
    process: Running,
    at: SocketAddr,
    url: String,
}

impl Web {
    fn start(cluster: &Cluster) -> Result<Self> {
        let process = cluster.director.start_pgha(["web"], "web")?;
        let url = wait_for("the URL of the page", SOON, || {
            let log = process.log();
            let (url, _) = log.split_once('\n').with_context(|| log.clone())?;
            Ok(Some(url.to_owned()))
        })?;
        let at = url.trim_start_matches("http://").split('/').next().context("an address")?;
        let at = at.parse().with_context(|| url.clone())?;
        Ok(Self { process, at, url })
    }

    /// The head and the body of an answer.
    fn ask(&self, cluster: &Cluster, request: &str) -> Result<(String, String)> {
        cluster.director.host().inside(|| {
            let mut stream = TcpStream::connect_timeout(&self.at, SOON)?;
            stream.set_read_timeout(Some(SOON))?;
            stream.write_all(request.as_bytes())?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            let (head, body) = answer.split_once("\r\n\r\n").context("a body")?;
            Ok((head.to_owned(), body.to_owned()))
        })
    }
}

/// The JSON that the controller answers a `GET` with.
fn get(cluster: &Cluster, path: &str) -> Result<Value> {
    let mut stream = UnixStream::connect(cluster.director.control_path())?;
    stream.set_read_timeout(Some(SOON))?;
    write!(stream, "GET {path} HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("a body")?;
    ensure!(head.starts_with("HTTP/1.0 200"), "{answer}");
    Ok(serde_json::from_str(body)?)
}

#[test]
fn netns_events_and_samples_tell_what_happened() -> Result<()> {
    let cluster = Cluster::up(&["db2", "db3"], &[("\"maglev\"", "\"rr\"")])?;
    let kinds = |reply: &Value| -> Vec<(String, Option<String>)> {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let events = reply["events"].as_array().cloned().unwrap_or_default();
        events.iter().map(|e| (text(&e["kind"]).unwrap_or_default(), text(&e["name"]))).collect()
    };
    let all = get(&cluster, "/v1/events")?;
    for name in ["db2", "db3"] {
        assert!(kinds(&all).contains(&("server_up".to_owned(), Some(name.to_owned()))), "{all:#}");
    }
    assert_eq!(kinds(&all).iter().filter(|(kind, _)| kind == "attached").count(), 1, "{all:#}");
    let last = all["events"].as_array().and_then(|events| events.last()).context("an event")?;
    let last = last["at"].as_u64().context("a moment")?;
    let later = format!("/v1/events?since={last}");
    // Events from before are not told again; one that comes late may be.
    assert!(!kinds(&get(&cluster, &later)?).contains(&("attached".to_owned(), None)));
    success(cluster.director.pgha(["drain", "db3"])?)?;
    let ordered = get(&cluster, &later)?;
    let is_order = |(kind, _): &(String, _)| kind == "ordered";
    let orders: Vec<_> = kinds(&ordered).into_iter().filter(is_order).collect();
    assert_eq!(orders, [("ordered".to_owned(), Some("db3".to_owned()))], "{ordered:#}");
    let since = |reply: &Value| {
        reply["events"].as_array().is_some_and(|e| e.iter().all(|e| e["at"].as_u64() > Some(last)))
    };
    assert!(since(&ordered), "{ordered:#}");

    cluster.connects(12)?;
    let history = wait_for("a sample of the drained server's state", SOON, || {
        let history = get(&cluster, "/v1/history")?;
        let servers = history["services"][0]["servers"].as_array().context("servers")?;
        let of = |name: &str| servers.iter().find(|s| s["address"] == name).context("a server");
        let last = |column: &Value| column.as_array().and_then(|c| c.last().cloned());
        let (db2, db3) = (of("10.77.0.12")?, of("10.77.0.13")?);
        let seen = (last(&db3["state"]), last(&db3["weight"]), last(&db2["flows"]));
        ensure!(seen == (Some("drained".into()), Some(0.into()), Some(12.into())), "{seen:?}");
        Ok(Some(history))
    })?;
    let moments = history["at"].as_array().context("moments")?;
    for column in [&history["received"], &history["services"][0]["servers"][0]["packets"]] {
        assert_eq!(column.as_array().map(Vec::len), Some(moments.len()));
    }
    // The sums of the columns are those of the status: received = sum of reasons, in each sample.
    let reasons = history["reasons"].as_object().context("reasons")?;
    for index in 0..moments.len() {
        let sum: u64 = reasons.values().filter_map(|column| column[index].as_u64()).sum();
        assert_eq!(Some(sum), history["received"][index].as_u64(), "sample {index}");
    }
    let none = get(&cluster, &format!("/v1/history?since={}", u64::MAX))?;
    assert_eq!(none["at"].as_array().map(Vec::len), Some(0));
    Ok(())
}

#[test]
fn netns_web_shows_the_page_to_who_has_the_token_only() -> Result<()> {
    let cluster = Cluster::up(&["db2"], &[])?;
    let web = Web::start(&cluster)?;
    let at = web.at;
    let head = |request: String| Ok::<_, anyhow::Error>(web.ask(&cluster, &request)?.0);
    let code = |request: String| Ok::<_, anyhow::Error>(head(request)?[9..12].to_owned());

    assert_eq!(code(format!("GET / HTTP/1.0\r\nHost: {at}\r\n\r\n"))?, "403");
    assert_eq!(code(format!("GET /v1/status HTTP/1.0\r\nHost: {at}\r\n\r\n"))?, "403");
    let path = web.url.split_once(&at.to_string()).context("a path")?.1;
    assert_eq!(code(format!("GET {path} HTTP/1.0\r\nHost: evil.example\r\n\r\n"))?, "403");
    let welcome = head(format!("GET {path} HTTP/1.0\r\nHost: {at}\r\n\r\n"))?;
    assert!(welcome.contains("303"), "{welcome}");
    let location = welcome.lines().find_map(|line| line.strip_prefix("location: "));
    let below = location.and_then(|path| path.strip_suffix('/')).context("a path")?;
    let cookie = welcome.lines().find_map(|line| line.strip_prefix("set-cookie: "));
    let cookie = cookie.and_then(|cookie| cookie.split(';').next()).context("a cookie")?;

    let with = |method: &str, path: &str| {
        format!("{method} {below}{path} HTTP/1.0\r\nHost: {at}\r\nCookie: {cookie}\r\n\r\n")
    };
    assert!(welcome.contains(&format!("; Path={below}; HttpOnly; SameSite=Strict")), "{welcome}");
    let page = head(with("GET", "/"))?;
    for header in ["content-security-policy: default-src 'none'", "cache-control: no-store"] {
        assert!(page.contains(header), "{page}");
    }
    let (_, status) = web.ask(&cluster, &with("GET", "/v1/status"))?;
    let status: Value = serde_json::from_str(&status)?;
    assert_eq!(status["cluster"], "lab");
    assert_eq!(code(with("POST", "/v1/order"))?, "405");
    assert_eq!(code(with("GET", "/v1/flows"))?, "404");

    cluster.director.terminate()?;
    let (gone, why) = web.ask(&cluster, &with("GET", "/v1/status"))?;
    assert!(gone.contains("502") && why.contains("no controller runs on this node"), "{why}");
    web.process.signal(Signal::SIGINT)?;
    let ended = web.process.wait(SOON)?;
    ensure!(ended.success(), "{ended}: {}", web.process.log());
    Ok(())
}

#[test]
fn netns_web_listens_on_the_loopback_interface_only() -> Result<()> {
    let cluster = Cluster::up(&["db2"], &[])?;
    let refused = cluster.director.pgha(["web", "--listen", "10.77.0.21:8080"])?;
    let error = String::from_utf8(refused.stderr)?;
    assert_eq!(refused.status.code(), Some(1), "{error}");
    assert!(error.contains("is no address of the loopback interface"), "{error}");
    Ok(())
}

#[test]
fn netns_page_shows_what_is_and_what_is_no_more() -> Result<()> {
    let Some(program) = chromium() else {
        return skipped(
            "netns_page_shows_what_is_and_what_is_no_more",
            "there is no chromium; `cargo xtask setup` installs Debian's where it can be had",
        );
    };
    let cluster = Cluster::up(&["db2", "db3"], &[("\"maglev\"", "\"rr\"")])?;
    cluster.served(8)?;
    let web = Web::start(&cluster)?;
    let folder = cluster.lab.directory().join("browser");
    let mut browser = Browser::start(cluster.director.host(), &program, &folder)?;
    browser.look(WIDE)?;
    browser.open(&web.url)?;

    // Two listed standbys and the primary, which is listed too and no reader.
    browser.wait_until("both readers to be up on the page", &state_of("db2", "up"))?;
    browser.wait_until("both readers to be up on the page", &state_of("db3", "up"))?;
    browser.wait_until("the primary to be named as that", &state_of("db1", "primary"))?;
    let origin = format!("http://{}", web.at);
    assert_eq!(browser.evaluate("location.search")?, "", "the token is out of sight");
    shares_and_plots(&mut browser)?;
    markup_stays_text(&cluster, &mut browser)?;

    cluster.reader("db3")?.stop()?;
    browser.wait_until("db3 to be dead on the page", &state_of("db3", "dead"))?;
    let why = "its port refuses connections";
    browser.wait_until("the reason", &row_says("db3", why))?;
    let told = format!("document.querySelector('#events').innerText.includes('{why}')");
    browser.wait_until("the event of that", &told)?;
    pictures(&mut browser)?;
    let elsewhere = |url: &String| !url.starts_with(&origin) && url != "data:,";
    let requests = browser.requests();
    ensure!(requests.iter().any(|url| url.contains("/v1/history")), "{requests:?}");
    let foreign: Vec<_> = requests.into_iter().filter(elsewhere).collect();
    assert!(foreign.is_empty(), "{foreign:?}");
    let complaints = browser.complaints();
    assert!(complaints.is_empty(), "{complaints:#?}");

    stale_and_back(&cluster, &mut browser)
}

const WIDE: Look = Look { width: 1280, height: 900, dark: false };

/// An expression that says whether the page calls a server so.
fn state_of(server: &str, state: &str) -> String {
    format!(
        "[...document.querySelectorAll('tr.server.s-{state} td:first-child b')]\
         .some((name) => name.textContent === '{server}')"
    )
}

/// An expression that says whether the row of a server has that text.
fn row_says(server: &str, text: &str) -> String {
    format!(
        "[...document.querySelectorAll('tr.server')]\
         .some((row) => row.querySelector('b').textContent === '{server}' && row.innerText.includes('{text}'))"
    )
}

fn shares_and_plots(browser: &mut Browser) -> Result<()> {
    for reader in ["db2", "db3"] {
        browser.wait_until("the shares of two equal readers", &row_says(reader, "50 % wanted"))?;
        browser.wait_until("half of the connections", &row_says(reader, "50 % seen"))?;
        browser.wait_until("how it streams", &row_says(reader, "streaming, async"))?;
    }
    // Two samples make a line.
    for (plot, name) in [("plot-lag", "db2"), ("plot-flows", "db3"), ("plot-verdicts", "forward")] {
        let drawn = format!(
            "document.querySelector('#{plot} .legend').innerText.includes('{name}') \
             && [...document.querySelectorAll('#{plot} path.line')]\
                .some((line) => line.getAttribute('d').includes('L'))"
        );
        browser.wait_until(&format!("a line in {plot}"), &drawn)?;
    }
    let reasons = "document.querySelector('#verdicts').innerText.includes('new_flow')";
    browser.wait_until("the reasons of verdicts", reasons)?;
    let events = "document.querySelector('#events').innerText.includes('gets new connections')";
    browser.wait_until("the last events", events)?;
    let topology = "document.querySelector('#topology').textContent";
    for text in ["db2", "db3", "10.77.0.100:5432", "(active)"] {
        let shown = browser.evaluate(topology)?;
        let shown = shown.as_str().unwrap_or_default();
        ensure!(shown.contains(text), "{text} in the topology: {shown}");
    }
    Ok(())
}

/// A text from outside that looks like markup is shown as it is, and does nothing.
fn markup_stays_text(cluster: &Cluster, browser: &mut Browser) -> Result<()> {
    let good = fs::read_to_string(cluster.director.config_path())?;
    cluster
        .director
        .write_config(&edited(good.clone(), &[("\"rr\"", &format!("\"{MARKUP}\""))])?)?;
    cluster.director.reload()?;
    let shown = format!("document.querySelector('#events').innerText.includes('{MARKUP}')");
    browser.wait_until("the refused reload, letter by letter", &shown)?;
    let harmless =
        "window.hit === undefined && document.images.length === 0 && document.scripts.length === 1";
    assert_eq!(browser.evaluate(harmless)?, true);
    // What a server answers to a login is a text from outside, too.
    let wrong =
        edited(good.clone(), &[("dbname = \"postgres\"", &format!("dbname = \"{MARKUP}\""))])?;
    cluster.director.write_config(&wrong)?;
    cluster.director.reload()?;
    browser.wait_until("the error of a login, letter by letter", &row_says("db2", MARKUP))?;
    assert_eq!(browser.evaluate(harmless)?, true);
    cluster.director.write_config(&good)?;
    cluster.director.reload()?;
    browser
        .wait_until("the readers to be well again", &format!("!({})", row_says("db2", MARKUP)))?;
    browser.wait_until("db2 to be up again", &state_of("db2", "up"))
}

/// Kept beside what cargo builds, to be looked at.
fn pictures(browser: &mut Browser) -> Result<()> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let narrow = Look { width: 380, height: 800, dark: false };
    for (name, look) in [("dark", Look { dark: true, ..WIDE }), ("narrow", narrow), ("light", WIDE)]
    {
        browser.look(look)?;
        let fits = format!("document.documentElement.scrollWidth <= {}", look.width);
        browser.wait_until("the page to fit the window", &fits)?;
        browser.picture(&folder.join(format!("status-page-{name}.png")))?;
    }
    Ok(())
}

/// Without a controller the page says since when, and with the next one it goes on.
fn stale_and_back(cluster: &Cluster, browser: &mut Browser) -> Result<()> {
    cluster.director.kill()?;
    let old = "document.body.classList.contains('old') \
               && document.querySelector('#clock').innerText.startsWith('stale since ') \
               && document.querySelector('#notices').innerText.includes('no controller runs on this node')";
    browser.wait_until("the page to say that it is stale", old)?;
    let kept = browser.evaluate(&state_of("db2", "up"))?;
    if kept != true {
        bail!("what was known last is shown on");
    }
    cluster.director.start()?;
    browser.wait_until("the page to be fresh", "!document.body.classList.contains('old')")?;
    browser.wait_until("db2 to be up", &state_of("db2", "up"))
}
