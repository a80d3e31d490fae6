//! The three files of a process: `ca.crt`, whom it trusts, and `node.crt` with `node.key`, what it shows.

#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use super::identity::{Holder, HolderError};
use super::{VERSIONS, provider};

/// Where they are unless told otherwise.
pub const DIRECTORY: &str = "/etc/pgha/tls";
/// The certificate authority's certificate, in a directory of credentials.
pub const CA_CERTIFICATE: &str = "ca.crt";
/// The process's own certificate there, with whatever stands between it and the authority.
pub const CERTIFICATE: &str = "node.crt";
/// Its key there, in PKCS #8, SEC 1 or PKCS #1; its owner's alone.
pub const KEY: &str = "node.key";

/// How long before its end a certificate is to be renewed: a warning from here on.
pub const RENEW_BEFORE: Duration = Duration::from_secs(30 * 24 * 3600);

/// The credentials of a process, as they were read.
#[derive(Clone, Debug)]
pub struct Credentials {
    authorities: Arc<RootCertStore>,
    chain: Vec<CertificateDer<'static>>,
    key: Arc<PrivateKeyDer<'static>>,
    holder: Holder,
    authority: Holder,
    content: Content,
}

/// The files' bytes, to see whether they changed.
type Content = [Vec<u8>; 3];

/// Credentials that cannot be used.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the message of each variant says what it and its fields mean")]
pub enum CredentialsError {
    #[error("{} cannot be read ({source}); make certificates with: pgha tls init, pgha tls issue", .path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{} has mode {mode:04o}, open to group or others; run: chmod 0600 {}", .path.display(), .path.display())]
    Open { path: PathBuf, mode: u32 },
    #[error("{} holds no {what} in PEM ({reason}); copy it again from where pgha tls issue wrote it", .path.display())]
    NotPem { path: PathBuf, what: &'static str, reason: String },
    #[error("{}: {source}; make another with pgha tls issue", .path.display())]
    Certificate { path: PathBuf, source: HolderError },
    #[error("{} cannot be used: {source}; copy certificate and key again, both from the same pgha tls issue", .path.display())]
    Refused { path: PathBuf, source: rustls::Error },
    #[error("{} cannot verify clients: {source}", .path.display())]
    Authority { path: PathBuf, source: rustls::client::VerifierBuilderError },
}

impl Credentials {
    /// Reads them from their directory.
    ///
    /// # Errors
    /// The first file that cannot be used.
    pub fn load(directory: &Path) -> Result<Self, CredentialsError> {
        let [ca_path, chain_path, key_path] = paths(directory);
        let content = [read(&ca_path)?, read(&chain_path)?, read_key(&key_path)?];
        let [ca, chain, key] = &content;
        let ca = certificates(&ca_path, ca)?;
        let chain = certificates(&chain_path, chain)?;
        let key = private_key(&key_path, key)?;
        let holder = holder(&chain_path, &chain)?;
        let authority = holder_of_authority(&ca_path, &ca)?;
        let mut authorities = RootCertStore::empty();
        for certificate in ca {
            authorities
                .add(certificate)
                .map_err(|source| CredentialsError::Refused { path: ca_path.clone(), source })?;
        }
        let credentials = Self {
            authorities: Arc::new(authorities),
            chain,
            key: Arc::new(key),
            holder,
            authority,
            content,
        };
        // Certificate and key that do not belong together are found out here, not by the first client.
        credentials
            .client()
            .map_err(|source| CredentialsError::Refused { path: chain_path, source })?;
        Ok(credentials)
    }

    /// Whether the files in that directory are no longer those that were read.
    ///
    /// # Errors
    /// When one cannot be read.
    pub fn changed(&self, directory: &Path) -> Result<bool, CredentialsError> {
        let [ca, chain, key] = paths(directory);
        Ok(self.content != [read(&ca)?, read(&chain)?, read_key(&key)?])
    }

    /// Whose they are.
    #[must_use]
    pub const fn holder(&self) -> &Holder {
        &self.holder
    }

    /// Until when they can be used: the end of the certificate, or of the authority's if that is sooner.
    #[must_use]
    pub fn until(&self) -> SystemTime {
        self.holder.until.min(self.authority.until)
    }

    /// What a server shows and asks for: a client may come without a certificate, but with none of another
    /// authority.
    ///
    /// # Errors
    /// When certificate and key do not belong together.
    pub(super) fn server(&self, directory: &Path) -> Result<ServerConfig, CredentialsError> {
        let [ca, chain, _] = paths(directory);
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::clone(&self.authorities), provider())
                .allow_unauthenticated()
                .build()
                .map_err(|source| CredentialsError::Authority { path: ca, source })?;
        let refused = |source| CredentialsError::Refused { path: chain.clone(), source };
        ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(VERSIONS)
            .map_err(refused)?
            .with_client_cert_verifier(verifier)
            .with_single_cert(self.chain.clone(), self.key.clone_key())
            .map_err(refused)
    }

    /// What a client shows and asks for: a server whose certificate names the address it was called by.
    pub(super) fn client(&self) -> Result<ClientConfig, rustls::Error> {
        ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(VERSIONS)?
            .with_root_certificates(Arc::clone(&self.authorities))
            .with_client_auth_cert(self.chain.clone(), self.key.clone_key())
    }
}

/// What a client of another program's server shows and asks for: a server of one of the authorities in `ca`,
/// and `shown`, certificate and key, to who asks for that.
///
/// # Errors
/// The first file that cannot be used.
pub fn client_config(
    ca: &Path,
    shown: Option<(&Path, &Path)>,
) -> Result<ClientConfig, CredentialsError> {
    let refused = |path: &Path| {
        let path = path.to_owned();
        move |source| CredentialsError::Refused { path, source }
    };
    let mut authorities = RootCertStore::empty();
    for certificate in certificates(ca, &read(ca)?)? {
        authorities.add(certificate).map_err(refused(ca))?;
    }
    let config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(refused(ca))?
        .with_root_certificates(authorities);
    let Some((chain_path, key_path)) = shown else { return Ok(config.with_no_client_auth()) };
    let chain = certificates(chain_path, &read(chain_path)?)?;
    let key = private_key(key_path, &read_key(key_path)?)?;
    config.with_client_auth_cert(chain, key).map_err(refused(chain_path))
}

fn private_key(path: &Path, pem: &[u8]) -> Result<PrivateKeyDer<'static>, CredentialsError> {
    PrivateKeyDer::from_pem_slice(pem).map_err(|error| {
        let (path, reason) = (path.to_owned(), error.to_string());
        CredentialsError::NotPem { path, what: "private key", reason }
    })
}

fn paths(directory: &Path) -> [PathBuf; 3] {
    [CA_CERTIFICATE, CERTIFICATE, KEY].map(|name| directory.join(name))
}

pub(super) fn read(path: &Path) -> Result<Vec<u8>, CredentialsError> {
    std::fs::read(path).map_err(|source| CredentialsError::Read { path: path.to_owned(), source })
}

/// Reads a file that its owner alone may read.
pub(super) fn read_key(path: &Path) -> Result<Vec<u8>, CredentialsError> {
    let unreadable = |source| CredentialsError::Read { path: path.to_owned(), source };
    let mut file = File::open(path).map_err(unreadable)?;
    let mode = file.metadata().map_err(unreadable)?.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(CredentialsError::Open { path: path.to_owned(), mode });
    }
    let mut content = Vec::new();
    file.read_to_end(&mut content).map_err(unreadable)?;
    Ok(content)
}

/// The certificates in a file, at least one.
pub(super) fn certificates(
    path: &Path,
    pem: &[u8],
) -> Result<Vec<CertificateDer<'static>>, CredentialsError> {
    let not_pem =
        |reason| CredentialsError::NotPem { path: path.to_owned(), what: "certificate", reason };
    let found: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|error| not_pem(error.to_string()))?;
    if found.is_empty() {
        return Err(not_pem("there is none".to_owned()));
    }
    Ok(found)
}

/// Whose the first of these certificates is: the others only vouch for it.
pub(super) fn holder(
    path: &Path,
    chain: &[CertificateDer<'_>],
) -> Result<Holder, CredentialsError> {
    let certificate = |source| CredentialsError::Certificate { path: path.to_owned(), source };
    Holder::of(&chain[0]).map_err(certificate)
}

/// Of several authorities (while one replaces another) the one that ends last.
fn holder_of_authority(
    path: &Path,
    authorities: &[CertificateDer<'_>],
) -> Result<Holder, CredentialsError> {
    let mut last = holder(path, authorities)?;
    for certificate in authorities.iter().skip(1) {
        let other = holder(path, std::slice::from_ref(certificate))?;
        if other.until > last.until {
            last = other;
        }
    }
    Ok(last)
}
