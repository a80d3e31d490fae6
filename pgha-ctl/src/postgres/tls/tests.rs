use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt as _;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::server::WebPkiClientVerifier;
use rustls::version::{TLS12, TLS13};
use rustls::{ServerConfig, SupportedProtocolVersion};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::*;
use crate::config::Config;
use crate::postgres::PgError;

const SERVER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 12));

/// A certificate and its key.
struct Identity {
    certificate: rcgen::Certificate,
    key: KeyPair,
}

impl Identity {
    fn chain(&self) -> Vec<CertificateDer<'static>> {
        vec![self.certificate.der().clone()]
    }

    fn secret(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.key.serialize_der()).into()
    }
}

fn authority() -> (Identity, Issuer<'static, KeyPair>) {
    let mut params = CertificateParams::new([]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    let copy = KeyPair::try_from(key.serialize_der()).unwrap();
    (Identity { certificate, key }, Issuer::new(params, copy))
}

fn signed(by: &Issuer<'_, KeyPair>, names: &[&str]) -> Identity {
    let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(names).unwrap().signed_by(&key, by).unwrap();
    Identity { certificate, key }
}

/// One as PostgreSQL's documentation makes it: its own authority, which says so.
fn self_signed(names: &[&str], until: i32) -> Identity {
    let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.not_before = rcgen::date_time_ymd(2000, 1, 1);
    params.not_after = rcgen::date_time_ymd(until, 1, 1);
    let key = KeyPair::generate().unwrap();
    Identity { certificate: params.self_signed(&key).unwrap(), key }
}

/// The keys of `[postgres]` as the configuration has them.
fn tls(keys: &str) -> Tls {
    let text = format!(
        "cluster = \"main\"\n[director]\ninterface = \"eth0\"\n[primary]\nhosts = [\"10.0.0.1\"]\n\
         [[service]]\nname = \"reader\"\nvip = \"10.0.0.100\"\n[postgres]\n{keys}"
    );
    Config::parse(&text, Path::new("pgha.toml")).unwrap().login().tls().clone()
}

fn nodes() -> BTreeMap<IpAddr, NodeName> {
    BTreeMap::from([(SERVER, "db2".parse().unwrap())])
}

/// Shakes hands with a server of that identity at [`SERVER`], which may ask who the client is.
async fn shake(
    client: ClientConfig,
    server: &Identity,
    asks_for: Option<&Identity>,
) -> Result<(), Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .unwrap();
    let builder = match asks_for {
        Some(authority) => {
            let mut roots = RootCertStore::empty();
            roots.add(authority.certificate.der().clone()).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider);
            builder.with_client_cert_verifier(verifier.build().unwrap())
        }
        None => builder.with_no_client_auth(),
    };
    let config = builder.with_single_cert(server.chain(), server.secret()).unwrap();
    let (here, there) = duplex(64 * 1024);
    let serve = async {
        let mut stream = TlsAcceptor::from(Arc::new(config)).accept(there).await?;
        stream.write_all(b"!").await?;
        stream.shutdown().await
    };
    let connect = async {
        let mut stream = TlsConnector::from(Arc::new(client)).connect(SERVER.into(), here).await?;
        // Only now the server may have judged the client.
        stream.read_u8().await
    };
    let (_, connected) = tokio::join!(serve, connect);
    connected.map(drop).map_err(|error| {
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
        inner.unwrap_or_else(|| panic!("{error}")).clone()
    })
}

fn put(directory: &TempDir, name: &str, content: &str) -> String {
    let path = directory.path().join(name);
    fs::write(&path, content).unwrap();
    path.to_str().unwrap().to_owned()
}

#[tokio::test]
async fn each_mode_believes_whom_libpq_would() {
    let directory = tempfile::tempdir().unwrap();
    let (ca, issuer) = authority();
    let (_, stranger) = authority();
    let root = put(&directory, "root.crt", &ca.certificate.pem());
    let by_address = signed(&issuer, &["10.0.0.12"]);
    let by_name = signed(&issuer, &["db2"]);
    let of_another = signed(&issuer, &["10.0.0.13", "db3"]);
    let strange = signed(&stranger, &["10.0.0.12"]);
    for (mode, servers) in [
        ("prefer", [true, true, true, true]),
        ("require", [true, true, true, true]),
        ("verify-ca", [true, true, true, false]),
        ("verify-full", [true, true, false, false]),
    ] {
        let root = if mode.starts_with("verify") {
            format!("sslrootcert = \"{root}\"\n")
        } else {
            String::new()
        };
        let tls = tls(&format!("sslmode = \"{mode}\"\n{root}"));
        for (server, believed) in
            [&by_address, &by_name, &of_another, &strange].into_iter().zip(servers)
        {
            let shaken = shake(client_config(&tls, &nodes()).unwrap(), server, None).await;
            assert_eq!(shaken.is_ok(), believed, "{mode}: {shaken:?}");
        }
    }
}

/// The certificate of an identity as one of version 1: without version and extensions. Its signature is
/// no good, which nobody looks at where nothing is verified.
fn of_version_1(identity: &Identity) -> CertificateDer<'static> {
    let sequence = |parts: &[&[u8]]| {
        let content = parts.concat();
        let length = u16::try_from(content.len()).unwrap().to_be_bytes();
        [&[0x30, 0x82][..], &length, &content].concat()
    };
    let certificate = identity.certificate.der();
    let (_, parsed) = parse_x509_certificate(certificate).unwrap();
    let serial = parsed.raw_serial();
    let serial = [&[0x02, u8::try_from(serial.len()).unwrap()], serial].concat();
    // ecdsa-with-SHA256, and a time from 2000 to 2040.
    let algorithm = [0x30, 10, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2];
    let validity = [&[0x17, 13][..], b"000101000000Z", &[0x17, 13], b"400101000000Z"];
    let to_be_signed = sequence(&[
        &serial,
        &algorithm,
        parsed.issuer().as_raw(),
        &sequence(&validity),
        parsed.subject().as_raw(),
        parsed.public_key().raw,
    ]);
    let signature = [&[0x03, 9, 0][..], &[0x30, 6, 2, 1, 1, 2, 1, 1]].concat();
    sequence(&[&to_be_signed, &algorithm, &signature]).into()
}

/// A server that shows a certificate without looking at it.
#[derive(Debug)]
struct Shows(Arc<rustls::sign::CertifiedKey>);

impl rustls::server::ResolvesServerCert for Shows {
    fn resolve(
        &self,
        _: rustls::server::ClientHello<'_>,
    ) -> Option<Arc<rustls::sign::CertifiedKey>> {
        Some(self.0.clone())
    }
}

/// Shakes hands with a server of that certificate, and of the key of that identity, by that version of TLS.
async fn shake_plainly(
    client: ClientConfig,
    certificate: CertificateDer<'static>,
    identity: &Identity,
    version: &'static SupportedProtocolVersion,
) -> Result<(), io::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let key = provider.key_provider.load_private_key(identity.secret()).unwrap();
    let shown = Shows(Arc::new(rustls::sign::CertifiedKey::new(vec![certificate], key)));
    let config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(shown));
    let (here, there) = duplex(64 * 1024);
    let accept = TlsAcceptor::from(Arc::new(config)).accept(there);
    let connect = TlsConnector::from(Arc::new(client)).connect(SERVER.into(), here);
    tokio::join!(accept, connect).1.map(drop)
}

#[tokio::test]
async fn a_certificate_of_version_1_does_where_none_is_verified() {
    let directory = tempfile::tempdir().unwrap();
    let (ca, issuer) = authority();
    let root = put(&directory, "root.crt", &ca.certificate.pem());
    let (server, other) = (signed(&issuer, &["db2"]), signed(&issuer, &["db2"]));
    let old = of_version_1(&server);
    let (_, parsed) = parse_x509_certificate(&old).unwrap();
    assert_eq!(parsed.version(), x509_parser::x509::X509Version::V1);
    for (keys, believed) in [
        ("sslmode = \"prefer\"\n".to_owned(), true),
        ("sslmode = \"require\"\n".to_owned(), true),
        (format!("sslmode = \"verify-ca\"\nsslrootcert = \"{root}\"\n"), false),
    ] {
        for version in [&TLS12, &TLS13] {
            let client = || client_config(&tls(&keys), &nodes()).unwrap();
            let shaken = shake_plainly(client(), old.clone(), &server, version).await;
            assert_eq!(shaken.is_ok(), believed, "{keys}: {version:?} {shaken:?}");
            if let Err(error) = shaken {
                let told = PgError::at_start(error, SslMode::VerifyCa).to_string();
                assert_eq!(
                    told,
                    "TLS by sslmode = \"verify-ca\": the server's certificate is of X.509 version 1; issue it \
                     again with subject alternative names (openssl x509 -req -extfile): openssl then makes \
                     version 3"
                );
            }
            // Whoever has not its key is not believed: the password is bound to it.
            shake_plainly(client(), old.clone(), &other, version).await.unwrap_err();
        }
    }
}

#[tokio::test]
async fn a_name_counts_only_for_the_node_at_that_address() {
    let directory = tempfile::tempdir().unwrap();
    let (ca, issuer) = authority();
    let root = put(&directory, "root.crt", &ca.certificate.pem());
    let tls = tls(&format!("sslmode = \"verify-full\"\nsslrootcert = \"{root}\"\n"));
    let elsewhere = BTreeMap::from([("10.0.0.13".parse().unwrap(), "db2".parse().unwrap())]);
    let config = client_config(&tls, &elsewhere).unwrap();
    assert!(matches!(
        shake(config, &signed(&issuer, &["db2"]), None).await,
        Err(Error::InvalidCertificate(CertificateError::NotValidForNameContext { .. }))
    ));
}

#[tokio::test]
async fn a_self_signed_certificate_may_be_trusted_itself() {
    let directory = tempfile::tempdir().unwrap();
    let good = self_signed(&["10.0.0.12"], 2100);
    let other = self_signed(&["10.0.0.13"], 2100);
    let old = self_signed(&["10.0.0.12"], 2001);
    let pem = [&good, &other, &old].map(|one| one.certificate.pem()).concat();
    let root = put(&directory, "root.crt", &pem);
    let with = |mode: &str| {
        let tls = tls(&format!("sslmode = \"{mode}\"\nsslrootcert = \"{root}\"\n"));
        client_config(&tls, &nodes()).unwrap()
    };
    // `require` with trusted certificates verifies.
    for mode in ["require", "verify-ca", "verify-full"] {
        shake(with(mode), &good, None).await.unwrap();
        let named = shake(with(mode), &other, None).await;
        assert_eq!(named.is_ok(), mode != "verify-full", "{mode}");
        let expired = Error::InvalidCertificate(CertificateError::Expired);
        assert_eq!(shake(with(mode), &old, None).await, Err(expired));
        assert!(shake(with(mode), &self_signed(&["10.0.0.12"], 2100), None).await.is_err());
    }
}

#[tokio::test]
async fn a_client_certificate_is_shown_to_who_asks() {
    let directory = tempfile::tempdir().unwrap();
    let (ca, issuer) = authority();
    let (server, client) = (signed(&issuer, &["db2"]), signed(&issuer, &["pgha"]));
    let certificate = put(&directory, "client.crt", &client.certificate.pem());
    let key = put(&directory, "client.key", &client.key.serialize_pem());
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    let known = tls(&format!("sslcert = \"{certificate}\"\nsslkey = \"{key}\"\n"));
    shake(client_config(&known, &nodes()).unwrap(), &server, Some(&ca)).await.unwrap();
    let unknown = client_config(&tls(""), &nodes()).unwrap();
    assert!(matches!(shake(unknown, &server, Some(&ca)).await, Err(Error::AlertReceived(_))));
}

#[test]
fn files_that_cannot_be_used_are_named() {
    let directory = tempfile::tempdir().unwrap();
    let (_, issuer) = authority();
    let client = signed(&issuer, &["pgha"]);
    let certificate = put(&directory, "client.crt", &client.certificate.pem());
    let open = put(&directory, "open.key", &client.key.serialize_pem());
    let text = put(&directory, "text", "no PEM");
    let missing = directory.path().join("missing").display().to_string();
    let failed = |keys: &str| client_config(&tls(keys), &nodes()).unwrap_err();
    let root = |path: &str| failed(&format!("sslmode = \"require\"\nsslrootcert = \"{path}\"\n"));
    assert!(matches!(root(&missing), TlsFileError::Read { key: "sslrootcert", .. }));
    assert!(matches!(root(&text), TlsFileError::NoCertificate { key: "sslrootcert", .. }));
    let pair = |key: &str| failed(&format!("sslcert = \"{certificate}\"\nsslkey = \"{key}\"\n"));
    assert!(matches!(pair(&open), TlsFileError::Private(PrivateFileError::Open { .. })));
    fs::set_permissions(&text, fs::Permissions::from_mode(0o600)).unwrap();
    assert!(matches!(pair(&text), TlsFileError::NoKey { .. }));
    let other = put(&directory, "other.key", &KeyPair::generate().unwrap().serialize_pem());
    fs::set_permissions(&other, fs::Permissions::from_mode(0o600)).unwrap();
    assert!(matches!(pair(&other), TlsFileError::Pair { .. }));
}
