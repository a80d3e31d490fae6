//! How processes of one cluster talk over TCP: HTTP in TLS 1.3, and each side shows a certificate of the
//! cluster's own certificate authority.
//!
//! [`credentials`] reads the three files that a process needs, [`identity`] says whom a certificate is of
//! and what it may, [`authority`] makes certificates, [`client`] and [`server`] connect and listen, and
//! [`post`] carries messages between agents and controllers.

pub mod authority;
pub mod client;
pub mod credentials;
pub(crate) mod durable;
pub mod identity;
mod places;
pub mod post;
pub mod server;

use std::sync::Arc;

use rustls::SupportedProtocolVersion;
use rustls::crypto::CryptoProvider;

/// Both ends are pgha, curl or a browser, which have known it for years (RFC 8446).
const VERSIONS: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13];

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}
