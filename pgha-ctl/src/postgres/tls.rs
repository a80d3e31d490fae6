//! TLS with PostgreSQL as libpq has it: which certificates are believed, by `sslmode`.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pgha_machine::NodeName;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls13_signature_with_raw_key,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{
    CertificateDer, PrivateKeyDer, ServerName, SubjectPublicKeyInfoDer, UnixTime,
};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, OtherError, RootCertStore,
    SignatureScheme,
};
use x509_parser::asn1_rs::{Any, FromDer as _};
use x509_parser::parse_x509_certificate;
use x509_parser::time::ASN1Time;
use x509_parser::x509::X509Version;

use crate::config::private_file::{self, PrivateFileError};
use crate::config::{ClientCertificate, SslMode, Tls};

#[cfg(test)]
mod tests;

/// The files that TLS needs cannot be used. Says nothing about any server.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the message of each variant says what it and its fields mean")]
pub enum TlsFileError {
    #[error("{key} {} cannot be read: {source}; create it for the user pgha runs as", .path.display())]
    Read { key: &'static str, path: PathBuf, source: io::Error },
    #[error("{key} {} holds no certificate in PEM that can be used; write one there", .path.display())]
    NoCertificate { key: &'static str, path: PathBuf },
    #[error("sslkey {0}")]
    Private(#[from] PrivateFileError),
    #[error("sslkey {} holds no private key in PEM without a passphrase; write one there", .path.display())]
    NoKey { path: PathBuf },
    #[error("sslcert {} and sslkey {} cannot be used: {source}; issue them anew, together", .certificate.display(), .key.display())]
    Pair { certificate: PathBuf, key: PathBuf, source: Error },
    #[error("sslrootcert {} cannot be used: {source}", .path.display())]
    Root { path: PathBuf, source: rustls::client::VerifierBuilderError },
    #[error("TLS cannot be used: {0}")]
    Library(Error),
}

/// How a client meets servers, by the files as they are now. `names` are the nodes by address.
pub(super) fn client_config(
    tls: &Tls,
    names: &BTreeMap<IpAddr, NodeName>,
) -> Result<ClientConfig, TlsFileError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = Verifier::new(tls, names, &provider)?;
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(TlsFileError::Library)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let Some(ClientCertificate { certificate, key }) = tls.client() else {
        return Ok(builder.with_no_client_auth());
    };
    let chain = certificates("sslcert", certificate)?;
    let secret = PrivateKeyDer::from_pem_slice(&private_file::read(key)?)
        .map_err(|_| TlsFileError::NoKey { path: key.clone() })?;
    builder.with_client_auth_cert(chain, secret).map_err(|source| TlsFileError::Pair {
        certificate: certificate.clone(),
        key: key.clone(),
        source,
    })
}

fn certificates(
    key: &'static str,
    path: &Path,
) -> Result<Vec<CertificateDer<'static>>, TlsFileError> {
    let content = std::fs::read(path).map_err(|source| TlsFileError::Read {
        key,
        path: path.to_owned(),
        source,
    })?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&content).collect();
    let found = found.unwrap_or_default();
    if found.is_empty() {
        return Err(TlsFileError::NoCertificate { key, path: path.to_owned() });
    }
    Ok(found)
}

/// Judges servers by their certificates.
#[derive(Debug)]
struct Verifier {
    provider: Arc<CryptoProvider>,
    /// `None` believes everybody: `prefer`, and `require` without authorities.
    trusted: Option<Trusted>,
}

#[derive(Debug)]
struct Trusted {
    chain: Arc<WebPkiServerVerifier>,
    /// The trusted certificates themselves: a self-signed one may be a server's own, as in
    /// PostgreSQL's documentation ("Creating Certificates"), which a chain would not allow.
    own: Vec<CertificateDer<'static>>,
    /// The names of nodes, where names count: `verify-full`.
    names: Option<BTreeMap<IpAddr, ServerName<'static>>>,
}

impl Verifier {
    fn new(
        tls: &Tls,
        names: &BTreeMap<IpAddr, NodeName>,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Self, TlsFileError> {
        let path = match tls.root() {
            Some(path) if tls.verifies() => path,
            _ => return Ok(Self { provider: provider.clone(), trusted: None }),
        };
        let own = certificates("sslrootcert", path)?;
        let mut roots = RootCertStore::empty();
        let (usable, _) = roots.add_parsable_certificates(own.iter().cloned());
        if usable == 0 {
            return Err(TlsFileError::NoCertificate { key: "sslrootcert", path: path.to_owned() });
        }
        let chain = WebPkiServerVerifier::builder_with_provider(roots.into(), provider.clone())
            .build()
            .map_err(|source| TlsFileError::Root { path: path.to_owned(), source })?;
        let named = |(address, name): (&IpAddr, &NodeName)| {
            Some((*address, ServerName::try_from(name.to_string()).ok()?))
        };
        let names =
            (tls.mode() == SslMode::VerifyFull).then(|| names.iter().filter_map(named).collect());
        Ok(Self { provider: provider.clone(), trusted: Some(Trusted { chain, own, names }) })
    }
}

impl Trusted {
    fn judge(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<(), Error> {
        if self.own.contains(certificate) {
            in_its_time(certificate, now)?;
            return self.judge_name(certificate, server);
        }
        if of_version_1(certificate) {
            let why = OtherError(Arc::new(VersionOne));
            return Err(Error::InvalidCertificate(CertificateError::Other(why)));
        }
        // The name is the last thing it looks at: who fails by that has a good chain.
        match self.chain.verify_server_cert(certificate, intermediates, server, &[], now) {
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => self.judge_name(certificate, server),
            judged => judged.map(drop),
        }
    }

    /// Whether the certificate names the address, or the node there.
    fn judge_name(
        &self,
        certificate: &CertificateDer<'_>,
        server: &ServerName<'_>,
    ) -> Result<(), Error> {
        let Some(names) = &self.names else { return Ok(()) };
        let parsed = ParsedCertificate::try_from(certificate)?;
        let by_address = verify_server_name(&parsed, server);
        let ServerName::IpAddress(address) = server else { return by_address };
        by_address.or_else(|error| match names.get(&IpAddr::from(*address)) {
            Some(name) => verify_server_name(&parsed, name).or(Err(error)),
            None => Err(error),
        })
    }
}

/// A certificate is of X.509 version 1: it says neither whose it is nor what for, in a way that can be verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the server's certificate is of X.509 version 1")]
pub(super) struct VersionOne;

fn of_version_1(certificate: &CertificateDer<'_>) -> bool {
    let parsed = parse_x509_certificate(certificate);
    parsed.is_ok_and(|(_, parsed)| parsed.version() == X509Version::V1)
}

/// Whether a message of TLS 1.2 was signed by the key of a certificate. Rustls looks for that key in
/// certificates of version 3 alone.
fn signed_by_key_of(
    certificate: &CertificateDer<'_>,
    message: &[u8],
    dss: &DigitallySignedStruct,
    algorithms: &WebPkiSupportedAlgorithms,
) -> Result<HandshakeSignatureValid, Error> {
    let badly = || Error::InvalidCertificate(CertificateError::BadEncoding);
    let (_, parsed) = parse_x509_certificate(certificate).map_err(|_| badly())?;
    let key = parsed.public_key();
    // SubjectPublicKeyInfo begins with the algorithm's identifier (RFC 5280, 4.1); its content names it.
    let content = |der| Any::from_der(der).map(|(_, any)| any.data).map_err(|_| badly());
    let kind = content(content(key.raw)?)?;
    let of_scheme = algorithms.mapping.iter().filter(|(scheme, _)| *scheme == dss.scheme);
    let mut fit = of_scheme
        .flat_map(|(_, all)| all.iter())
        .filter(|algorithm| algorithm.public_key_alg_id().as_ref() == kind);
    let bits = &key.subject_public_key.data;
    if fit.any(|algorithm| algorithm.verify_signature(bits, message, dss.signature()).is_ok()) {
        Ok(HandshakeSignatureValid::assertion())
    } else {
        Err(Error::InvalidCertificate(CertificateError::BadSignature))
    }
}

fn in_its_time(certificate: &CertificateDer<'_>, now: UnixTime) -> Result<(), Error> {
    let badly = || Error::InvalidCertificate(CertificateError::BadEncoding);
    let (_, parsed) = parse_x509_certificate(certificate).map_err(|_| badly())?;
    let now = i64::try_from(now.as_secs()).map_err(|_| badly())?;
    let now = ASN1Time::from_timestamp(now).map_err(|_| badly())?;
    let validity = parsed.validity();
    if now < validity.not_before {
        return Err(Error::InvalidCertificate(CertificateError::NotValidYet));
    }
    if now > validity.not_after {
        return Err(Error::InvalidCertificate(CertificateError::Expired));
    }
    Ok(())
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if let Some(trusted) = &self.trusted {
            trusted.judge(end_entity, intermediates, server_name, now)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    // The signature is looked at in every mode: it proves that the server has the key of the
    // certificate that the password is bound to (SCRAM-SHA-256-PLUS).
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        if of_version_1(cert) {
            return signed_by_key_of(cert, message, dss, algorithms);
        }
        rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        // Of the certificate this needs the key alone. So it may be of X.509 version 1, as `openssl x509
        // -req` issues them; whoever verifies certificates refuses such.
        let badly = |_| Error::InvalidCertificate(CertificateError::BadEncoding);
        let (_, parsed) = parse_x509_certificate(cert).map_err(badly)?;
        let key = SubjectPublicKeyInfoDer::from(parsed.public_key().raw);
        verify_tls13_signature_with_raw_key(message, &key, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
