//! How the controller logs in: TLS in each mode of libpq, and with no more rights than it needs.
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use nix::unistd::{User, chown};
use pgha_tests::lab::process::POSTGRES_USER;
use pgha_tests::lab::{Postgres, SOON, hold_until, wait_for};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

use crate::cluster::{Cluster, Edits, weight};

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
        let mut params = CertificateParams::new([])?;
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate()?;
        let certificate = params.self_signed(&key)?.pem();
        Ok(Self { issuer: Issuer::new(params, key), certificate })
    }

    /// Gives a server a certificate for these names, and has it speak TLS from now on.
    fn equip(&self, server: &Postgres, names: &[&str]) -> Result<()> {
        let key = KeyPair::generate()?;
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let certificate = CertificateParams::new(names)?.signed_by(&key, &self.issuer)?;
        let user = User::from_name(POSTGRES_USER)?.context("the user postgres")?;
        for (name, content) in
            [("server.key", key.serialize_pem()), ("server.crt", certificate.pem())]
        {
            let path = server.data().join(name);
            fs::write(&path, content)?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
            chown(&path, Some(user.uid), Some(user.gid))?;
        }
        // Files that changed are read again even where the setting did not.
        server.set_guc("ssl", "on")
    }
}

/// A cluster whose servers take the monitor only with a password, over `kind` (`host`, `hostssl` or
/// `hostnossl`).
fn prepared(kind: &str) -> Result<Cluster> {
    let cluster = Cluster::prepared(&["db2"])?;
    cluster.primary.psql(&format!("alter role pgha password '{PASSWORD}'"))?;
    for server in [&cluster.primary, cluster.reader("db2")?] {
        demand(server, kind)?;
    }
    Ok(cluster)
}

fn demand(server: &Postgres, kind: &str) -> Result<()> {
    let hba = server.data().join("pg_hba.conf");
    let open = fs::read_to_string(&hba)?;
    let first = format!(
        "{kind} all pgha 10.77.0.0/24 scram-sha-256\nhost all pgha 10.77.0.0/24 reject\n{open}"
    );
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
    serves_encrypted(&prepared("host")?, "sslmode = \"prefer\"", "f")?;
    // TLS is there, and pg_hba.conf takes the role only without: as libpq, it goes without.
    let cluster = prepared("hostnossl")?;
    Authority::new("ours")?.equip(&cluster.primary, &["db1"])?;
    serves_encrypted(&cluster, "sslmode = \"prefer\"", "f")
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
