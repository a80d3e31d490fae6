use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;

use pgha_machine::balancer::Finding;
use rcgen::{CertificateParams, KeyPair, PKCS_ED25519};
use rustls::ServerConfig;
use rustls::pki_types::PrivatePkcs8KeyDer;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::config::Config;
use crate::postgres::heard::Heard;

/// Nobody waits this long.
const SOON: Duration = Duration::from_secs(60);
const PLAIN_ONLY: &[u8] = b"SCRAM-SHA-256\0\0";
const BOTH: &[u8] = b"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0";

/// How a server meets one client.
#[derive(Clone, Copy)]
enum Meets<'t> {
    /// Over TLS, to refuse it.
    Refuses(&'t str, &'t str),
    /// Without TLS, to let it in.
    TakesPlain,
    /// Over TLS, to ask for the proof of a password by one of these mechanisms, and to refuse it.
    Asks(&'t [u8], &'t str, &'t str),
}

/// What stands where PostgreSQL is expected, with a certificate of Ed25519.
struct Fake {
    listener: TcpListener,
    tls: TlsAcceptor,
    directory: TempDir,
}

impl Fake {
    async fn new() -> Self {
        let key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
        let params = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let secret = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], secret)
            .unwrap();
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("root.crt"), certificate.pem()).unwrap();
        let passfile = directory.path().join("pgpass");
        fs::write(&passfile, "*:*:*:*:secret\n").unwrap();
        fs::set_permissions(&passfile, fs::Permissions::from_mode(0o600)).unwrap();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        Self { listener, tls: Arc::new(config).into(), directory }
    }

    fn connector(&self, sslmode: &str) -> Connector {
        let directory = self.directory.path().display();
        let root = if sslmode.starts_with("verify") {
            format!("sslrootcert = \"{directory}/root.crt\"\n")
        } else {
            String::new()
        };
        let text = format!(
            "cluster = \"main\"\n[director]\ninterface = \"eth0\"\n[primary]\nhosts = [\"127.0.0.1\"]\n\
             [[service]]\nname = \"reader\"\nvip = \"10.0.0.100\"\n[postgres]\nsslmode = \"{sslmode}\"\n\
             passfile = \"{directory}/pgpass\"\n{root}"
        );
        Connector::telling(&Config::parse(&text, Path::new("pgha.toml")).unwrap())
    }

    /// Opens a session while the server meets one connection after the other; with what the client said of
    /// itself when it was asked last.
    async fn meets(
        &self,
        connector: &Connector,
        clients: &[Meets<'_>],
    ) -> (Result<Session, PgError>, String) {
        let address = self.listener.local_addr().unwrap();
        let serve = async {
            let mut said = String::new();
            for &client in clients {
                said = self.meet(client).await;
            }
            said
        };
        tokio::join!(Session::open(connector, address, SOON), serve)
    }

    async fn meet(&self, client: Meets<'_>) -> String {
        let (mut stream, _) = self.listener.accept().await.unwrap();
        if let Meets::TakesPlain = client {
            started(&mut stream).await;
            stream.write_all(&message(b'R', &[0; 4])).await.unwrap();
            stream.write_all(&message(b'Z', b"I")).await.unwrap();
            return String::new();
        }
        // SSLRequest.
        started(&mut stream).await;
        stream.write_all(b"S").await.unwrap();
        let mut stream = self.tls.accept(stream).await.unwrap();
        started(&mut stream).await;
        let (said, code, told) = match client {
            Meets::Asks(mechanisms, code, told) => {
                // AuthenticationSASL.
                let offer = [&10_u32.to_be_bytes(), mechanisms].concat();
                stream.write_all(&message(b'R', &offer)).await.unwrap();
                assert_eq!(stream.read_u8().await.unwrap(), b'p');
                (started(&mut stream).await, code, told)
            }
            Meets::Refuses(code, told) => (String::new(), code, told),
            Meets::TakesPlain => unreachable!("it has no TLS"),
        };
        let error = format!("SFATAL\0VFATAL\0C{code}\0M{told}\0\0");
        stream.write_all(&message(b'E', error.as_bytes())).await.unwrap();
        stream.shutdown().await.unwrap();
        said
    }
}

/// What follows its own length.
async fn started(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let length = stream.read_u32().await.unwrap();
    let mut body = vec![0; usize::try_from(length).unwrap() - 4];
    stream.read_exact(&mut body).await.unwrap();
    String::from_utf8_lossy(&body).into_owned()
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
    [&[kind][..], &length, body].concat()
}

/// Whoever stands in between chooses its certificate and what it offers. PostgreSQL takes a proof from anybody
/// that says `n`; one that says `y` only where it has no binding to offer itself, and one that says `p` only
/// with the hash of its own certificate.
#[tokio::test]
async fn no_certificate_talks_a_client_out_of_the_binding() {
    let fake = Fake::new().await;
    let refuses = |mechanisms| Meets::Asks(mechanisms, "28P01", "wrong");
    for mode in ["prefer", "require"] {
        let connector = fake.connector(mode);
        for (offered, wanted) in [(PLAIN_ONLY, "SCRAM-SHA-256\0"), (BOTH, "SCRAM-SHA-256-PLUS\0")] {
            let (opened, said) = fake.meets(&connector, &[refuses(offered)]).await;
            assert_eq!(opened.unwrap_err().to_string(), "db error: FATAL: wrong", "{mode}");
            let flag = if offered == BOTH { "p=tls-server-end-point,," } else { "y,," };
            assert!(said.starts_with(wanted) && said.contains(flag), "{mode}: {said:?}");
        }
    }
    // Whom an authority vouches for needs none.
    for offered in [PLAIN_ONLY, BOTH] {
        let (_, said) = fake.meets(&fake.connector("verify-full"), &[refuses(offered)]).await;
        assert!(said.starts_with("SCRAM-SHA-256\0") && said.contains("n,,"), "{said:?}");
    }
}

#[tokio::test]
async fn a_server_that_cannot_bind_a_password_to_its_certificate_is_told_so() {
    let fake = Fake::new().await;
    let fails = |code, told| [Meets::Asks(BOTH, code, told)];
    let connector = fake.connector("require");
    for told in [
        "could not find digest for NID UNDEF",
        "could not determine server certificate signature algorithm",
    ] {
        let (opened, _) = fake.meets(&connector, &fails("XX000", told)).await;
        let error = opened.unwrap_err();
        let wanted = format!(
            "db error: FATAL: {told}; the server cannot bind a password to its certificate, as with one signed by \
             Ed25519: issue it one signed by ECDSA or RSA, or choose sslmode = \"verify-ca\", which needs no binding"
        );
        assert_eq!(error.to_string(), wanted);
        assert_eq!(error.finding(), Finding::LoginRefused(wanted));
    }
    let (opened, _) = fake.meets(&connector, &fails("XX000", "something else")).await;
    assert!(matches!(opened, Err(PgError::Session(_))));
}

/// A login that fails over TLS says nothing of how the next one that succeeds is protected.
#[tokio::test]
async fn a_failed_login_does_not_make_it_news_that_sessions_are_not_encrypted() {
    let fake = Fake::new().await;
    let connector = fake.connector("prefer");
    let (heard, _listening) = Heard::listen();
    let falls_back = [Meets::Refuses("28000", "no line"), Meets::TakesPlain];
    fake.meets(&connector, &falls_back).await.0.unwrap();
    let lines = heard.lines();
    assert!(matches!(&lines[..], [line] if line.contains("are not encrypted: ")), "{lines:#?}");
    let full = [Meets::Refuses("53300", "too many clients")];
    fake.meets(&connector, &full).await.0.unwrap_err();
    fake.meets(&connector, &falls_back).await.0.unwrap();
    assert_eq!(heard.lines(), [""; 0]);
}
