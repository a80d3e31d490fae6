//! TLS below a session, with what binds a password to the server's certificate (SCRAM-SHA-256-PLUS).
//!
//! Over TLS whose certificate is not verified, whoever stands in between with one of its own, whichever that is,
//! gets no session over TLS by handing the proof of a SCRAM password on. Other ways are open to it, as with libpq
//! unless that requires channel binding: to a server that takes the login without TLS too (`host` in
//! `pg_hba.conf`) it hands on a proof without binding; where TLS is only preferred, it says that it has none; it
//! asks for the password in clear or by MD5. A verified certificate keeps all that off.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use ring::digest::{Algorithm, SHA256, SHA384, SHA512, digest};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_postgres::tls::{ChannelBinding, TlsConnect, TlsStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client;
use x509_parser::oid_registry::{
    OID_NIST_HASH_SHA256, OID_NIST_HASH_SHA384, OID_NIST_HASH_SHA512, OID_PKCS1_MD5WITHRSAENC,
    OID_PKCS1_SHA1WITHRSA, OID_PKCS1_SHA256WITHRSA, OID_PKCS1_SHA384WITHRSA,
    OID_PKCS1_SHA512WITHRSA, OID_SIG_ECDSA_WITH_SHA256, OID_SIG_ECDSA_WITH_SHA384,
    OID_SIG_ECDSA_WITH_SHA512,
};
use x509_parser::parse_x509_certificate;
use x509_parser::signature_algorithm::SignatureAlgorithm;
use x509_parser::x509::AlgorithmIdentifier;

#[cfg(test)]
mod tests;

/// A handshake that is to come, with a server that has agreed to it.
pub(super) struct Handshake {
    pub(super) config: Arc<ClientConfig>,
    pub(super) server: ServerName<'static>,
    /// Whether `config` believes only a certificate that a trusted authority signed.
    pub(super) verifies: bool,
}

/// A stream after the handshake.
pub(super) struct Encrypted {
    stream: client::TlsStream<TcpStream>,
    verified: bool,
}

impl TlsConnect<TcpStream> for Handshake {
    type Stream = Encrypted;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Encrypted>> + Send>>;

    fn connect(self, stream: TcpStream) -> Self::Future {
        Box::pin(async move {
            let connector = TlsConnector::from(self.config);
            let stream = connector.connect(self.server, stream).await?;
            Ok(Encrypted { stream, verified: self.verifies })
        })
    }
}

impl TlsStream for Encrypted {
    fn channel_binding(&self) -> ChannelBinding {
        let (_, connection) = self.stream.get_ref();
        let shown = connection.peer_certificates().and_then(<[_]>::first);
        let bound = shown.and_then(|certificate| bound_to(certificate, self.verified));
        bound.map_or_else(ChannelBinding::none, ChannelBinding::tls_server_end_point)
    }
}

/// What a password is bound to: `tls-server-end-point` (RFC 5929, section 4.1), the certificate's hash by the
/// function that its own signature uses. `None` where that is not defined and the certificate is verified.
///
/// Where it is not verified either, a hash all the same. With none, the client would say that it cannot bind a
/// password (RFC 5802, section 6, flag `n`), and a server takes a proof that says so from anybody: whoever stands
/// in between would only have to show such a certificate.
fn bound_to(certificate: &[u8], verified: bool) -> Option<Vec<u8>> {
    let hash = match end_point_hash(certificate) {
        Some(hash) => hash,
        None if verified => return None,
        None => &SHA256,
    };
    Some(digest(hash, certificate).as_ref().to_vec())
}

/// The hash by which a certificate's end point is defined; `None` where its signature uses none, or one unknown
/// here.
fn end_point_hash(certificate: &[u8]) -> Option<&'static Algorithm> {
    let (_, parsed) = parse_x509_certificate(certificate).ok()?;
    hash_of(&parsed.signature_algorithm)
}

fn hash_of(signature: &AlgorithmIdentifier<'_>) -> Option<&'static Algorithm> {
    // It names its hash by itself, as a parameter.
    let parameters = SignatureAlgorithm::try_from(signature).ok()?;
    let signed = if let SignatureAlgorithm::RSASSA_PSS(parameters) = &parameters {
        parameters.hash_algorithm_oid()
    } else {
        &signature.algorithm
    };
    // SHA-256 stands in for MD5 and SHA-1.
    let by_sha256 = [
        &OID_NIST_HASH_SHA256,
        &OID_PKCS1_MD5WITHRSAENC,
        &OID_PKCS1_SHA1WITHRSA,
        &OID_PKCS1_SHA256WITHRSA,
        &OID_SIG_ECDSA_WITH_SHA256,
    ];
    let by_sha384 = [&OID_NIST_HASH_SHA384, &OID_PKCS1_SHA384WITHRSA, &OID_SIG_ECDSA_WITH_SHA384];
    let by_sha512 = [&OID_NIST_HASH_SHA512, &OID_PKCS1_SHA512WITHRSA, &OID_SIG_ECDSA_WITH_SHA512];
    match signed {
        signed if by_sha256.contains(&signed) => Some(&SHA256),
        signed if by_sha384.contains(&signed) => Some(&SHA384),
        signed if by_sha512.contains(&signed) => Some(&SHA512),
        _ => None,
    }
}

impl AsyncRead for Encrypted {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Encrypted {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}
