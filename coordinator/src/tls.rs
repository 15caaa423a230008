//! TLS on the server's side: who is at the other end of a connection, and how many there may be.
//! Must never accept a client certificate that this organisation's identity root did not sign, nor wait on one slow peer.
//!
//! TLS 1.3 only, for HTTP/2 only. A client certificate may be left out at the handshake, because machines that enrol have none;
//! every service but enrolment asks [`Gate::authenticated`] who calls.

mod certificate;
mod connection;
mod gate;
mod listener;
mod places;
#[cfg(test)]
mod tests;

pub use certificate::{ServerCertificate, TlsError};
pub use connection::{Connection, Member, Peer};
pub use gate::Gate;
pub use listener::{Limits, Listener};

use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::version::TLS13;
use rustls::{RootCertStore, ServerConfig};

/// Protocol that a connection must speak.
const HTTP2: &[u8] = b"h2";

/// How connections are opened: under the server's certificate, with client certificates of the root whose X.509
/// certificate this is, DER.
///
/// # Errors
/// [`TlsError`] when one of the certificates or the key is not usable.
pub fn server_config(
    certificate: ServerCertificate,
    root_certificate: &[u8],
) -> Result<Arc<ServerConfig>, TlsError> {
    let provider = Arc::new(ring::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(root_certificate.to_vec())).map_err(TlsError::Root)?;
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .allow_unauthenticated()
        .build()?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])
        .and_then(|builder| {
            let (chain, key) = certificate.into_parts();
            builder.with_client_cert_verifier(verifier).with_single_cert(chain, key)
        })
        .map_err(TlsError::Server)?;
    config.alpn_protocols = vec![HTTP2.to_vec()];
    // A resumed connection would not check the client's certificate again.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}
