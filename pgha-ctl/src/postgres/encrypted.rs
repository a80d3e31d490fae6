//! TLS below a session, with what binds a password to the server's certificate (SCRAM-SHA-256-PLUS): whoever
//! stands in between with a certificate of its own gets no session by handing the password's proof on.

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
    OID_PKCS1_MD5WITHRSAENC, OID_PKCS1_SHA1WITHRSA, OID_PKCS1_SHA256WITHRSA,
    OID_PKCS1_SHA384WITHRSA, OID_PKCS1_SHA512WITHRSA, OID_SIG_ECDSA_WITH_SHA256,
    OID_SIG_ECDSA_WITH_SHA384, OID_SIG_ECDSA_WITH_SHA512,
};
use x509_parser::parse_x509_certificate;

#[cfg(test)]
mod tests;

/// A handshake that is to come, with a server that has agreed to it.
pub(super) struct Handshake {
    pub(super) config: Arc<ClientConfig>,
    pub(super) server: ServerName<'static>,
}

/// A stream after the handshake.
pub(super) struct Encrypted(client::TlsStream<TcpStream>);

impl TlsConnect<TcpStream> for Handshake {
    type Stream = Encrypted;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Encrypted>> + Send>>;

    fn connect(self, stream: TcpStream) -> Self::Future {
        Box::pin(async move {
            let connector = TlsConnector::from(self.config);
            Ok(Encrypted(connector.connect(self.server, stream).await?))
        })
    }
}

impl TlsStream for Encrypted {
    fn channel_binding(&self) -> ChannelBinding {
        let (_, connection) = self.0.get_ref();
        let shown = connection.peer_certificates().and_then(<[_]>::first);
        let end_point = shown.and_then(|certificate| end_point(certificate));
        end_point.map_or_else(ChannelBinding::none, ChannelBinding::tls_server_end_point)
    }
}

/// `tls-server-end-point` (RFC 5929, section 4.1): the certificate's hash by the function that its own signature
/// uses, by SHA-256 in place of MD5 and SHA-1. `None` where the signature uses none, or another.
fn end_point(certificate: &[u8]) -> Option<Vec<u8>> {
    let (_, parsed) = parse_x509_certificate(certificate).ok()?;
    let hash = hash_of(&parsed)?;
    Some(digest(hash, certificate).as_ref().to_vec())
}

fn hash_of(
    certificate: &x509_parser::certificate::X509Certificate<'_>,
) -> Option<&'static Algorithm> {
    let signed = &certificate.signature_algorithm.algorithm;
    let by_sha256 = [
        &OID_PKCS1_MD5WITHRSAENC,
        &OID_PKCS1_SHA1WITHRSA,
        &OID_PKCS1_SHA256WITHRSA,
        &OID_SIG_ECDSA_WITH_SHA256,
    ];
    let by_sha384 = [&OID_PKCS1_SHA384WITHRSA, &OID_SIG_ECDSA_WITH_SHA384];
    let by_sha512 = [&OID_PKCS1_SHA512WITHRSA, &OID_SIG_ECDSA_WITH_SHA512];
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
        Pin::new(&mut self.get_mut().0).poll_read(context, buffer)
    }
}

impl AsyncWrite for Encrypted {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().0).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_shutdown(context)
    }
}
