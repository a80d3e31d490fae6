//! The certificate authority of a cluster: makes itself, certificates for nodes and operators, and new ones
//! in place of those that end.

#[cfg(test)]
mod tests;

use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use pgha_machine::NodeName;
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData, SanType,
    SubjectPublicKeyInfo, date_time_ymd,
};
use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::credentials::{
    CA_CERTIFICATE, CERTIFICATE, CredentialsError, KEY, certificates, holder, read, read_key,
};
use super::durable;
use super::identity::{Holder, Role};

/// The authority's key, beside its certificate.
pub const CA_KEY: &str = "ca.key";

/// How long an authority lasts: ten years.
const AUTHORITY_LIFETIME: Duration = Duration::from_secs(3_650 * 24 * 3600);
/// How long before now a certificate begins: clocks of nodes differ.
const CLOCK_SKEW: Duration = Duration::from_secs(3600);

/// A certificate could not be made.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the message of each variant says what it and its fields mean")]
pub enum AuthorityError {
    #[error("{} is there already and stays; remove it by hand if nobody needs it, or choose another directory", .path.display())]
    Exists { path: PathBuf },
    #[error(
        "{} is of another authority than {}; choose another directory with --out", .found.display(), .authority.display()
    )]
    OtherAuthority { found: PathBuf, authority: PathBuf },
    #[error("{}: {source}", .path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Files(#[from] CredentialsError),
    #[error("{} is no authority of pgha ({source}); make one with: pgha tls init", .path.display())]
    NotAnAuthority { path: PathBuf, source: rcgen::Error },
    #[error("{}: the authority's certificate has expired, so it can vouch for nobody; make another with pgha tls init in another directory, and issue every certificate again", .path.display())]
    Expired { path: PathBuf },
    #[error("{} was not signed by {}, so it is not renewed; give the directory of the authority that signed it with --tls, or make another with pgha tls issue", .found.display(), .authority.display())]
    Foreign { found: PathBuf, authority: PathBuf },
    #[error("{}: it is of neither a node nor an operator of pgha (OU of its subject), so it stays", .path.display())]
    NoRole { path: PathBuf },
    #[error(
        "node {name} can be found by nobody: give its addresses with --address, or its names with --dns"
    )]
    Unreachable { name: NodeName },
    #[error("{0:?} is no DNS name; give it without port and without *")]
    DnsName(String),
    #[error("the certificate cannot be made: {0}")]
    Make(#[from] rcgen::Error),
}

/// What is asked of an authority.
#[derive(Clone, Debug)]
pub struct Request {
    /// Whose the certificate is to be.
    pub name: NodeName,
    /// What that is.
    pub role: Role,
    /// IP addresses by which it is called as a server.
    pub addresses: Vec<IpAddr>,
    /// DNS names by which it is called as a server.
    pub names: Vec<String>,
    /// How long it is to last; at most as long as the authority.
    pub lifetime: Duration,
}

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// Whose the certificate is.
    pub holder: Holder,
    /// The files, the key last where one was made.
    pub files: Vec<PathBuf>,
}

/// A certificate authority, from its two files.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    der: CertificateDer<'static>,
    certificate: PathBuf,
    pem: Vec<u8>,
    holder: Holder,
    now: SystemTime,
}

/// Makes the authority of a cluster in a directory, where none may be. Its key must be kept: whoever has
/// it, is whoever he likes.
///
/// # Errors
/// When there is one, or the files cannot be written.
pub fn init(
    directory: &Path,
    cluster: &NodeName,
    now: SystemTime,
) -> Result<Written, AuthorityError> {
    let files = [CA_CERTIFICATE, CA_KEY].map(|name| directory.join(name));
    files.iter().try_for_each(|path| absent(path))?;
    let key = KeyPair::generate()?;
    let mut params = params(now - CLOCK_SKEW, now + AUTHORITY_LIFETIME);
    params.distinguished_name.push(DnType::OrganizationName, cluster.as_str());
    params.distinguished_name.push(DnType::CommonName, "pgha certificate authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let certificate = params.self_signed(&key)?;
    folder(directory)?;
    let [certificate_path, key_path] = &files;
    write(key_path, key.serialize_pem().as_bytes(), 0o600)?;
    write(certificate_path, certificate.pem().as_bytes(), 0o644)?;
    let holder = holder(certificate_path, std::slice::from_ref(certificate.der()))?;
    Ok(Written { holder, files: files.into() })
}

impl Authority {
    /// Reads an authority from the directory that [`init`] made it in.
    ///
    /// # Errors
    /// When there is none that can still vouch for anybody.
    pub fn load(directory: &Path, now: SystemTime) -> Result<Self, AuthorityError> {
        let [certificate, key] = [CA_CERTIFICATE, CA_KEY].map(|name| directory.join(name));
        let pem = read(&certificate)?;
        let not_one = |path: &Path| {
            let path = path.to_owned();
            move |source| AuthorityError::NotAnAuthority { path, source }
        };
        let key_pem = String::from_utf8_lossy(&read_key(&key)?).into_owned();
        let pair = KeyPair::from_pem(&key_pem).map_err(not_one(&key))?;
        let der = certificates(&certificate, &pem)?.swap_remove(0);
        let holder = holder(&certificate, std::slice::from_ref(&der))?;
        if holder.until <= now {
            return Err(AuthorityError::Expired { path: certificate });
        }
        let issuer = Issuer::from_ca_cert_der(&der, pair).map_err(not_one(&certificate))?;
        Ok(Self { issuer, der, certificate, pem, holder, now })
    }

    /// Makes key and certificate, and puts them with the authority's certificate into a directory that has
    /// none.
    ///
    /// # Errors
    /// When there are any, or the files cannot be written.
    pub fn issue(&self, request: &Request, out: &Path) -> Result<Written, AuthorityError> {
        if request.role == Role::Node && request.addresses.is_empty() && request.names.is_empty() {
            return Err(AuthorityError::Unreachable { name: request.name.clone() });
        }
        let [ca, certificate_path, key_path] =
            [CA_CERTIFICATE, CERTIFICATE, KEY].map(|name| out.join(name));
        absent(&certificate_path)?;
        absent(&key_path)?;
        let known = match std::fs::read(&ca) {
            Ok(found) if found == self.pem => true,
            Ok(_) => {
                let authority = self.certificate.clone();
                return Err(AuthorityError::OtherAuthority { found: ca, authority });
            }
            Err(_) => false,
        };
        let key = KeyPair::generate()?;
        let certificate = self.certify(request, &key)?;
        folder(out)?;
        if !known {
            write(&ca, &self.pem, 0o644)?;
        }
        write(&key_path, key.serialize_pem().as_bytes(), 0o600)?;
        write(&certificate_path, certificate.pem().as_bytes(), 0o644)?;
        let holder = holder(&certificate_path, std::slice::from_ref(certificate.der()))?;
        Ok(Written { holder, files: vec![ca, certificate_path, key_path] })
    }

    /// Makes a certificate in place of the one in a directory: for the same name, role, addresses and key,
    /// so that `node.crt` is all that has to be copied.
    ///
    /// # Errors
    /// When there is none that this very authority signed, be it expired or not, or it cannot be written.
    pub fn renew(&self, directory: &Path, lifetime: Duration) -> Result<Written, AuthorityError> {
        let path = directory.join(CERTIFICATE);
        let chain = certificates(&path, &read(&path)?)?;
        let former = holder(&path, &chain)?;
        // Whoever can put a file there would otherwise choose what the authority vouches for.
        if !self.signed(&chain[0]) {
            return Err(AuthorityError::Foreign {
                found: path,
                authority: self.certificate.clone(),
            });
        }
        let (Ok(name), Some(role)) = (former.name.parse(), former.role) else {
            return Err(AuthorityError::NoRole { path });
        };
        let Holder { addresses, names, .. } = former;
        let request = Request { name, role, addresses, names, lifetime };
        let certificate = self.certify(&request, &public_key(&path, &chain[0])?)?;
        write(&path, certificate.pem().as_bytes(), 0o644)?;
        let holder = holder(&path, std::slice::from_ref(certificate.der()))?;
        Ok(Written { holder, files: vec![path] })
    }

    fn signed(&self, certificate: &CertificateDer<'_>) -> bool {
        let parsed = X509Certificate::from_der(certificate).ok();
        let authority = X509Certificate::from_der(&self.der).ok();
        parsed.zip(authority).is_some_and(|((_, certificate), (_, authority))| {
            certificate.issuer() == authority.subject()
                && certificate.verify_signature(Some(authority.public_key())).is_ok()
        })
    }

    fn certify(
        &self,
        request: &Request,
        key: &impl PublicKeyData,
    ) -> Result<Certificate, AuthorityError> {
        let until = (self.now + request.lifetime).min(self.holder.until);
        let mut params = params(self.now - CLOCK_SKEW, until);
        let subject = &mut params.distinguished_name;
        subject.push(DnType::OrganizationalUnitName, request.role.name());
        subject.push(DnType::CommonName, request.name.as_str());
        let addresses = request.addresses.iter().copied().map(SanType::IpAddress);
        let names = request.names.iter().map(|name| dns_name(name));
        params.subject_alt_names =
            addresses.map(Ok).chain(names).collect::<Result<_, AuthorityError>>()?;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages.push(ExtendedKeyUsagePurpose::ClientAuth);
        // An operator's key is no process: nobody shall take it for one.
        if request.role == Role::Node {
            params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
        }
        params.use_authority_key_identifier_extension = true;
        Ok(params.signed_by(key, &self.issuer)?)
    }
}

fn params(from: SystemTime, until: SystemTime) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    let moment = |at: SystemTime| {
        date_time_ymd(1970, 1, 1) + at.duration_since(UNIX_EPOCH).unwrap_or_default()
    };
    params.not_before = moment(from);
    params.not_after = moment(until);
    params
}

fn dns_name(name: &str) -> Result<SanType, AuthorityError> {
    use rustls::pki_types::DnsName;
    let wrong = || AuthorityError::DnsName(name.to_owned());
    DnsName::try_from(name).map_err(|_| wrong())?;
    Ok(SanType::DnsName(name.try_into().map_err(|_| wrong())?))
}

fn public_key(
    path: &Path,
    certificate: &CertificateDer<'_>,
) -> Result<SubjectPublicKeyInfo, AuthorityError> {
    let unreadable = |source| AuthorityError::NotAnAuthority { path: path.to_owned(), source };
    let (_, certificate) = X509Certificate::from_der(certificate)
        .map_err(|_| unreadable(rcgen::Error::CouldNotParseCertificate))?;
    SubjectPublicKeyInfo::from_der(certificate.public_key().raw).map_err(unreadable)
}

fn absent(path: &Path) -> Result<(), AuthorityError> {
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(AuthorityError::Write { path: path.to_owned(), source }),
        Ok(_) => Err(AuthorityError::Exists { path: path.to_owned() }),
    }
}

fn folder(path: &Path) -> Result<(), AuthorityError> {
    durable::directory(path, 0o755, &durable::sync)
        .map_err(|source| AuthorityError::Write { path: path.to_owned(), source })
}

fn write(path: &Path, content: &[u8], mode: u32) -> Result<(), AuthorityError> {
    durable::replace(path, content, mode)
        .map_err(|source| AuthorityError::Write { path: path.to_owned(), source })
}
