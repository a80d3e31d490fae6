//! How the controller logs in: TLS in each mode of libpq, and with no more rights than it needs.
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use nix::unistd::{User, chown};
use pgha_ctl::config::Config;
use pgha_ctl::postgres::{Connector, Session};
use pgha_tests::lab::process::POSTGRES_USER;
use pgha_tests::lab::{Postgres, SOON, hold_until, wait_for};
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DnType, IsCa, Issuer, KeyPair,
    PKCS_ECDSA_P256_SHA256, PKCS_ED25519, SignatureAlgorithm,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::cluster::{Cluster, Edits, SSL_REQUEST, weight};
use crate::network::on;

/// Three times as many rounds of checks as take a server out.
const MANY_ROUNDS: Duration = Duration::from_secs(2);
const PASSWORD: &str = "the-password-of-the-monitor";

/// A certificate authority.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: String,
}

impl Authority {
    fn new(name: &str) -> Result<Self> {
        Self::signing(name, &PKCS_ECDSA_P256_SHA256)
    }

    fn signing(name: &str, by: &'static SignatureAlgorithm) -> Result<Self> {
        let mut params = CertificateParams::new([])?;
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate_for(by)?;
        let certificate = params.self_signed(&key)?.pem();
        Ok(Self { issuer: Issuer::new(params, key), certificate })
    }

    /// A key, and a certificate of it for these names; the first of them is the subject's.
    fn issue(&self, names: &[&str]) -> Result<(KeyPair, Certificate)> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(
            names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>(),
        )?;
        params.distinguished_name.push(DnType::CommonName, names[0]);
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok((key, certificate))
    }

    /// Gives a server a certificate for these names, and has it speak TLS from now on.
    fn equip(&self, server: &Postgres, names: &[&str]) -> Result<()> {
        let (key, certificate) = self.issue(names)?;
        give(server, "server.key", &key.serialize_pem())?;
        give(server, "server.crt", &certificate.pem())?;
        // Files that changed are read again even where the setting did not.
        server.set_guc("ssl", "on")
    }
}

/// Puts a file into a server's data directory, for that server alone.
fn give(server: &Postgres, name: &str, content: &str) -> Result<()> {
    let user = User::from_name(POSTGRES_USER)?.context("the user postgres")?;
    let path = server.data().join(name);
    fs::write(&path, content)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
    Ok(chown(&path, Some(user.uid), Some(user.gid))?)
}

/// A cluster whose servers take the monitor only with a password, over `kind` (`host`, `hostssl` or
/// `hostnossl`).
fn prepared(kind: &str) -> Result<Cluster> {
    let cluster = Cluster::prepared(&["db2"])?;
    cluster.primary.psql(&format!("alter role pgha password '{PASSWORD}'"))?;
    for server in [&cluster.primary, cluster.reader("db2")?] {
        demand(server, kind, "scram-sha-256")?;
    }
    Ok(cluster)
}

/// Has a server take the monitor by this method only; what was demanded before counts no more.
fn demand(server: &Postgres, kind: &str, method: &str) -> Result<()> {
    let hba = server.data().join("pg_hba.conf");
    let open = fs::read_to_string(&hba)?;
    let first =
        format!("{kind} all pgha 10.77.0.0/24 {method}\nhost all pgha 10.77.0.0/24 reject\n{open}");
    fs::write(&hba, first)?;
    server.reload()
}

/// Configures the login with these further keys of `[postgres]`.
fn configure(cluster: &Cluster, keys: &str) -> Result<()> {
    let passfile = cluster.lab.directory().join("pgpass");
    fs::write(&passfile, format!("*:*:*:pgha:{PASSWORD}\n"))?;
    fs::set_permissions(&passfile, fs::Permissions::from_mode(0o600))?;
    let user = format!("user = \"pgha\"\npassfile = \"{}\"\n{keys}", passfile.display());
    let edits: &Edits<'_> = &[("user = \"pgha\"", &user)];
    cluster.configure(edits)
}

fn root(cluster: &Cluster, authority: &Authority) -> Result<String> {
    let path = cluster.lab.directory().join("root.crt");
    fs::write(&path, &authority.certificate)?;
    Ok(path.display().to_string())
}

/// Whether the controller's sessions with a server are encrypted; it has one with each.
fn encrypted(server: &Postgres) -> Result<String> {
    server.psql(
        "select distinct s.ssl from pg_stat_activity a join pg_stat_ssl s using (pid) \
         where a.usename = 'pgha' and a.state is not null",
    )
}

fn serves_encrypted(cluster: &Cluster, keys: &str, wanted: &str) -> Result<()> {
    configure(cluster, keys)?;
    cluster.director.start()?;
    cluster.wait_serving(&["db2"])?;
    for server in [&cluster.primary, cluster.reader("db2")?] {
        wait_for(
            format_args!("a session with {}, ssl {wanted}", server.host().name()),
            SOON,
            || {
                let seen = encrypted(server)?;
                ensure!(seen == wanted, "`{seen}`");
                Ok(Some(()))
            },
        )?;
    }
    wait_for("the primary to answer", SOON, || {
        let primary = &cluster.director.status()?["primary"];
        ensure!(primary["answers"] == true, "{primary:#}");
        Ok(Some(()))
    })?;
    cluster.director.terminate()?;
    let log = cluster.director.log()?;
    ensure!(!log.contains(PASSWORD), "the password is in the log:\n{log}");
    Ok(())
}

fn refused(cluster: &Cluster, keys: &str, parts: &[&str]) -> Result<()> {
    configure(cluster, keys)?;
    let (code, said) = cluster.director.start_expecting_failure()?;
    ensure!(code == 1, "exit code {code}: {said}");
    for part in parts {
        ensure!(said.contains(part), "`{part}` is not in: {said}");
    }
    ensure!(!said.contains(PASSWORD), "{said}");
    Ok(())
}

#[test]
fn netns_tls_in_each_mode() -> Result<()> {
    let cluster = prepared("hostssl")?;
    let (authority, stranger) = (Authority::new("ours")?, Authority::new("another")?);
    let db2 = cluster.reader("db2")?;
    // Without TLS there.
    refused(
        &cluster,
        "sslmode = \"require\"",
        &[
            "10.77.0.11:5432",
            "the server has no TLS, which sslmode = \"require\" requires",
            "ssl = on",
        ],
    )?;
    // One is named by its address, the other by its node's name.
    authority.equip(&cluster.primary, &["10.77.0.11"])?;
    authority.equip(db2, &["db2"])?;
    let root = root(&cluster, &authority)?;
    refused(
        &cluster,
        "sslmode = \"disable\"",
        &["10.77.0.11:5432 refuses user pgha", "pg_hba.conf"],
    )?;
    for keys in [
        "sslmode = \"prefer\"".to_owned(),
        "sslmode = \"require\"".to_owned(),
        format!("sslmode = \"verify-ca\"\nsslrootcert = \"{root}\""),
        format!("sslmode = \"verify-full\"\nsslrootcert = \"{root}\""),
    ] {
        serves_encrypted(&cluster, &keys, "t").with_context(|| keys.clone())?;
    }

    // Another's certificate, by the same authority and by a stranger.
    let full = format!("sslmode = \"verify-full\"\nsslrootcert = \"{root}\"");
    authority.equip(&cluster.primary, &["10.77.0.12", "db9"])?;
    let wrong_name = ["10.77.0.11:5432", "sslmode = \"verify-full\"", "not valid for name"];
    refused(&cluster, &full, &wrong_name)?;
    serves_encrypted(&cluster, &full.replace("full", "ca"), "t")
        .context("verify-ca, wrong name")?;
    stranger.equip(&cluster.primary, &["10.77.0.11"])?;
    refused(&cluster, &full, &["UnknownIssuer", "add its authority to sslrootcert"])?;
    refused(
        &cluster,
        &full.replace("root.crt", "nowhere.crt"),
        &["[postgres] sslrootcert", "nowhere.crt cannot be read"],
    )
}

#[test]
fn netns_a_server_without_tls_is_served_where_tls_is_preferred() -> Result<()> {
    // It is told once of each server, however many sessions there are.
    let told = |cluster: &Cluster, why: &str| {
        let log = cluster.director.log()?;
        let lines = log.lines().filter(|line| line.contains("are not encrypted: "));
        let lines: Vec<_> = lines.filter(|line| line.contains(why)).collect();
        for server in ["10.77.0.11:5432", "10.77.0.12:5432"] {
            let of = lines.iter().filter(|line| line.contains(server)).count();
            ensure!(of == 1, "{of} lines of {server} with `{why}` in {log}");
        }
        Ok(())
    };
    let cluster = prepared("host")?;
    serves_encrypted(&cluster, "sslmode = \"prefer\"", "f")?;
    told(&cluster, "it has no TLS")?;
    // TLS is there, and pg_hba.conf takes the role only without: as libpq, it goes without.
    let cluster = prepared("hostnossl")?;
    for server in [&cluster.primary, cluster.reader("db2")?] {
        Authority::new("ours")?.equip(server, &["db1"])?;
    }
    serves_encrypted(&cluster, "sslmode = \"prefer\"", "f")?;
    told(&cluster, "goes without where TLS fails")
}

#[test]
fn netns_a_client_certificate_is_a_login() -> Result<()> {
    let cluster = prepared("hostssl")?;
    let (authority, stranger) = (Authority::new("ours")?, Authority::new("another")?);
    for server in [&cluster.primary, cluster.reader("db2")?] {
        give(server, "client-ca.crt", &authority.certificate)?;
        server.set_guc("ssl_ca_file", "client-ca.crt")?;
        authority.equip(server, &[server.host().name()])?;
        demand(server, "hostssl", "cert")?;
    }
    let keys = |of: &Authority, name: &str| {
        let (key, certificate) = of.issue(&[name])?;
        let path = |end: &str| cluster.lab.directory().join(format!("client.{end}"));
        fs::write(path("crt"), certificate.pem())?;
        fs::write(path("key"), key.serialize_pem())?;
        fs::set_permissions(path("key"), fs::Permissions::from_mode(0o600))?;
        let (certificate, key) = (path("crt"), path("key"));
        Ok::<_, anyhow::Error>(format!(
            "sslmode = \"require\"\nsslcert = \"{}\"\nsslkey = \"{}\"",
            certificate.display(),
            key.display()
        ))
    };
    refused(
        &cluster,
        "sslmode = \"require\"",
        &["10.77.0.11:5432 refuses user pgha", "valid client certificate"],
    )?;
    refused(&cluster, &keys(&authority, "somebody")?, &["certificate authentication failed"])?;
    refused(&cluster, &keys(&stranger, "pgha")?, &["TLS by sslmode", "sslcert, sslkey"])?;
    serves_encrypted(&cluster, &keys(&authority, "pgha")?, "t")
}

/// A password is bound to the certificate of the server that is talked to (SCRAM-SHA-256-PLUS): whoever stands
/// in between and hands everything on gets no session by it, also where no certificate is verified.
#[test]
fn netns_a_password_is_bound_to_the_servers_certificate() -> Result<()> {
    let cluster = prepared("hostssl")?;
    let (authority, stranger) = (Authority::new("ours")?, Authority::new("another")?);
    // A certificate that it signs has no hash to bind to by RFC 5929.
    let hashless = Authority::signing("a third", &PKCS_ED25519)?;
    authority.equip(&cluster.primary, &["10.77.0.11"])?;
    configure(&cluster, "sslmode = \"require\"")?;
    let config = Config::load(&cluster.director.config_path())?;
    let connector = Connector::new(&config);
    let primary = SocketAddr::new(cluster.primary.host().address().into(), 5432);
    let lb1 = cluster.lab.host("lb1")?;
    let between = [Between::new(&stranger, &authority)?, Between::new(&hashless, &authority)?];
    let open = |between: &Between| {
        on(&lb1, async || {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
            let address = listener.local_addr()?;
            let relay = between.relay(listener, primary);
            let relayed = tokio::select! {
                opened = Session::open(&connector, address, SOON) => opened.map(drop),
                ended = relay => anyhow::bail!("{ended:?} before the session began"),
            };
            let direct = Session::open(&connector, primary, SOON).await.map(drop);
            Ok((relayed.map_err(|error| error.to_string()), direct))
        })
    };
    wait_for("TLS", SOON, || {
        open(&between[0])?.1?;
        Ok(Some(()))
    })?;
    for between in &between {
        let (relayed, direct) = open(between)?;
        direct?;
        let error = relayed.err().context("a session through whoever stands in between")?;
        ensure!(error.contains("channel binding"), "{error}");
    }
    // Nothing else keeps it from being one.
    demand(&cluster.primary, "hostssl", "trust")?;
    wait_for("a session without a password", SOON, || {
        for between in &between {
            open(between)?.0.map_err(anyhow::Error::msg)?;
        }
        Ok(Some(()))
    })?;
    // A server cannot bind to such a certificate either: it takes a proof where the certificate is verified.
    demand(&cluster.primary, "hostssl", "scram-sha-256")?;
    hashless.equip(&cluster.primary, &["10.77.0.11"])?;
    let root = root(&cluster, &hashless)?;
    wait_for("a server that cannot bind a password", SOON, || {
        let failed = on(&lb1, async || Ok(Session::open(&connector, primary, SOON).await.err()))?;
        let error = failed.context("a session")?.to_string();
        ensure!(error.contains("cannot bind a password to its certificate"), "{error}");
        Ok(Some(()))
    })?;
    configure(&cluster, &format!("sslmode = \"verify-full\"\nsslrootcert = \"{root}\""))?;
    let verifying = Connector::new(&Config::load(&cluster.director.config_path())?);
    on(&lb1, async || Ok(Session::open(&verifying, primary, SOON).await.map(drop)?))
}

/// Ends TLS on both sides, with a certificate of its own, and hands on what is said.
struct Between {
    acceptor: TlsAcceptor,
    connector: TlsConnector,
}

impl Between {
    fn new(own: &Authority, of_server: &Authority) -> Result<Self> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let (key, certificate) = own.issue(&["127.0.0.1"])?;
        let secret = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
        let server = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], secret)?;
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(of_server.certificate.as_bytes())?)?;
        let client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self { acceptor: Arc::new(server).into(), connector: Arc::new(client).into() })
    }

    /// Serves one client after the other, until one of them cannot be.
    async fn relay(&self, listener: TcpListener, server: SocketAddr) -> Result<()> {
        loop {
            let (mut client, _) = listener.accept().await?;
            // Both ask for TLS in PostgreSQL's words first.
            let mut asked = [0; SSL_REQUEST.len()];
            client.read_exact(&mut asked).await?;
            ensure!(asked == SSL_REQUEST, "{asked:?}");
            client.write_all(b"S").await?;
            let mut client = self.acceptor.accept(client).await?;
            let mut upstream = TcpStream::connect(server).await?;
            upstream.write_all(&SSL_REQUEST).await?;
            ensure!(upstream.read_u8().await? == b'S', "the server has no TLS");
            let mut upstream = self.connector.connect(server.ip().into(), upstream).await?;
            // Either side may end it.
            let _ = copy_bidirectional(&mut client, &mut upstream).await;
        }
    }
}

/// A certificate that is not believed is this side's opinion, and no evidence against a server.
#[test]
fn netns_a_certificate_that_is_not_believed_takes_no_server_out() -> Result<()> {
    let cluster = prepared("hostssl")?;
    let (authority, stranger) = (Authority::new("ours")?, Authority::new("another")?);
    let db2 = cluster.reader("db2")?;
    authority.equip(&cluster.primary, &["10.77.0.11"])?;
    authority.equip(db2, &["10.77.0.12"])?;
    let root = root(&cluster, &authority)?;
    configure(&cluster, &format!("sslmode = \"verify-full\"\nsslrootcert = \"{root}\""))?;
    cluster.director.start()?;
    cluster.wait_serving(&["db2"])?;
    let stays_in = || {
        let server = cluster.server("db2")?;
        ensure!(weight(&server)? == 1 && server["dead"] == false, "{server:#}");
        Ok(())
    };
    let said = |wanted: &str| {
        let mut first = None;
        hold_until(format_args!("many errors of db2 with `{wanted}`"), SOON, stays_in, || {
            let server = cluster.server("db2")?;
            let error = server["error"].as_str().unwrap_or_default();
            ensure!(error.contains(wanted), "`{error}`");
            let since: &mut Instant = first.get_or_insert_with(Instant::now);
            Ok((since.elapsed() > MANY_ROUNDS).then_some(()))
        })
    };
    stranger.equip(db2, &["10.77.0.12"])?;
    said("UnknownIssuer")?;
    // Nor is a file that is gone here; a file that is renewed needs no reload.
    authority.equip(db2, &["10.77.0.12"])?;
    wait_for("db2 to be believed again", SOON, || {
        Ok(cluster.server("db2")?["error"].is_null().then_some(()))
    })?;
    fs::rename(&root, format!("{root}.away"))?;
    said("cannot be read")?;
    fs::rename(format!("{root}.away"), &root)?;
    wait_for("db2 to be believed again", SOON, || {
        Ok(cluster.server("db2")?["error"].is_null().then_some(()))
    })?;
    ensure!(Path::new(&root).exists());
    assert_eq!(cluster.served(10)?.keys().collect::<Vec<_>>(), ["db2"]);
    Ok(())
}

/// The lab's role has nothing but `pg_monitor`: with it every fact is there, and without it nothing
/// changes but what is told.
#[test]
fn netns_pg_monitor_is_enough_and_its_lack_is_told_as_sql() -> Result<()> {
    let cluster = Cluster::up(&["db2"], &[])?;
    let rights = cluster.primary.psql(
        "select rolsuper, rolreplication, rolcreaterole, \
         (select string_agg(roleid::regrole::text, ',') from pg_auth_members where member = r.oid) \
         from pg_roles r where rolname = 'pgha'",
    )?;
    assert_eq!(rights, "f|f|f|pg_monitor");
    cluster.primary.psql("create table t as select 1")?;
    let system = cluster.primary.psql("select system_identifier from pg_control_system()")?;
    wait_for("every fact of the primary", SOON, || {
        let primary = cluster.director.status()?["primary"].clone();
        ensure!(primary["name"] == "db1" && primary["port"] == 5432, "{primary:#}");
        ensure!(primary["timeline"] == 1 && primary["system"] == *system, "{primary:#}");
        ensure!(primary["lsn"].is_string() && primary["stale_since"].is_null(), "{primary:#}");
        Ok(Some(()))
    })?;
    wait_for("every fact of the standby", SOON, || {
        let server = cluster.server("db2")?;
        for fact in ["timeline", "received", "replayed", "lag_bytes", "connections"] {
            ensure!(!server[fact].is_null(), "{fact}: {server:#}");
        }
        ensure!(server["role"] == "standby", "{server:#}");
        Ok(Some(()))
    })?;

    let weights = cluster.weights()?;
    cluster.primary.psql("revoke pg_monitor from pgha")?;
    wait_for("the lack to be told", SOON, || {
        let primary = &cluster.director.status()?["primary"];
        let errors = primary["errors"].to_string();
        ensure!(errors.contains("on the primary: GRANT pg_monitor TO pgha"), "{primary:#}");
        ensure!(primary["answers"] == false && primary["stale_since"].is_u64(), "{primary:#}");
        Ok(Some(()))
    })?;
    // As many rounds of asking as would be too many.
    let unchanged = || {
        let now = cluster.weights()?;
        ensure!(now == weights, "{now:?}");
        Ok(())
    };
    hold_until("a primary that is stale for 2 s", SOON, unchanged, || {
        let stale = cluster.director.status()?["primary"]["stale_ms"].as_u64();
        Ok(stale.is_some_and(|age| age > 2_000).then_some(()))
    })?;
    let metrics = cluster.lab.run(
        "lb1",
        [
            "curl",
            "-s",
            "--unix-socket",
            &cluster.director.control_path().display().to_string(),
            "http://localhost/metrics",
        ],
    )?;
    let stale = metrics.lines().find_map(|line| line.strip_prefix("pgha_primary_stale_seconds "));
    ensure!(stale.context("the metric")?.parse::<u64>()? >= 2, "{stale:?}");
    cluster.primary.psql("grant pg_monitor to pgha")?;
    wait_for("the primary to be asked again", SOON, || {
        Ok((cluster.director.status()?["primary"]["answers"] == true).then_some(()))
    })
}
