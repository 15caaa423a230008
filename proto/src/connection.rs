//! The client's end of a connection to its coordinator: TLS 1.3 to the one server that it was told of.
//! Must never send a byte of a request to a server that has not proved to be that one.
//!
//! A failed call is tried again by the caller, with its own patience; [`ConnectionError::of_status`] says why it failed.

mod key;
mod trust;

pub use key::TransportKey;
pub use trust::{Fingerprint, FingerprintError, Trust};

use std::error::Error as StdError;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use rustls::client::Resumption;
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::TLS13;
use rustls::{AlertDescription, ClientConfig};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::Status;
use tonic::transport::{Channel, Endpoint, Uri};

use trust::Mismatch;

/// Protocol that a connection must speak.
const HTTP2: &[u8] = b"h2";
/// How long it may take until a connection is open and encrypted.
const CONNECT: Duration = Duration::from_secs(20);
/// A server that has been silent for this long is asked whether it is still there.
const KEEP_ALIVE: Duration = Duration::from_secs(30);
/// How long it may take to answer that.
const KEEP_ALIVE_ANSWER: Duration = Duration::from_secs(20);
/// What a server says when it refuses a client's certificate.
const REFUSALS: [AlertDescription; 6] = [
    AlertDescription::CertificateExpired,
    AlertDescription::UnknownCA,
    AlertDescription::DecryptError,
    AlertDescription::BadCertificate,
    AlertDescription::UnsupportedCertificate,
    AlertDescription::CertificateUnknown,
];
/// Port of a coordinator whose address names none.
pub const DEFAULT_PORT: u16 = 8443;

/// A coordinator, and how to know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    host: String,
    port: u16,
    trust: Trust,
}

/// Why there is no connection.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConnectionError {
    /// Not an address.
    #[error(
        "\"{address}\" is no address of a coordinator: write host or host:port, such as tacit.example:8443"
    )]
    Address {
        /// What was given.
        address: String,
    },
    /// Nobody answers.
    #[error(
        "{server} cannot be reached ({problem}): check the address, the network, and whether the coordinator runs"
    )]
    Unreachable {
        /// Host and port.
        server: String,
        /// The operating system's reason.
        problem: String,
    },
    /// Another server's certificate.
    #[error(
        "{server} shows a certificate with the fingerprint {found}, expected is {expected}: this is another server, or its certificate was replaced. Ask the operator before you change the fingerprint"
    )]
    Fingerprint {
        /// Host and port.
        server: String,
        /// What the client was told.
        expected: Fingerprint,
        /// What the server has.
        found: Fingerprint,
    },
    /// The server does not prove who it is.
    #[error("{server} cannot be trusted ({problem}): it is not the coordinator, or not set up for this name")]
    Untrusted {
        /// Host and port.
        server: String,
        /// What is wrong.
        problem: String,
    },
    /// The client's certificate has ended.
    #[error("this machine's certificate has expired: fetch the renewed one, or ask the operator to renew it")]
    Expired,
    /// The client's certificate is not the server's root's.
    #[error(
        "the coordinator does not know the identity root of this machine's certificate: it is another organisation's, or its root was replaced; enrol again"
    )]
    Foreign,
    /// The key and certificate of this machine.
    #[error("this machine's certificate or key cannot be used ({problem}): enrol again")]
    Credentials {
        /// What is wrong.
        problem: String,
    },
    /// The authorities that the client was told to trust.
    #[error("the authorities' certificates cannot be used: {problem}")]
    Authorities {
        /// What is wrong.
        problem: String,
    },
}

impl ConnectionError {
    /// Why a call failed, if it was for want of a connection. In TLS 1.3 a client learns only from its first answer that its
    /// certificate was refused.
    #[must_use]
    pub fn of_status(status: &Status) -> Option<Self> {
        Self::find(status)
    }

    /// The first of these errors among an error's causes, or what a refusal of this machine's certificate means.
    fn find(error: &(dyn StdError + 'static)) -> Option<Self> {
        let mut cause = Some(error);
        while let Some(error) = cause {
            if let Some(found) = error.downcast_ref::<Self>() {
                return Some(found.clone());
            }
            // HTTP/2 keeps of the errors below it only their words.
            let words = error.to_string();
            let said = |alert: &AlertDescription| rustls::Error::AlertReceived(*alert).to_string() == words;
            if let Some(alert) = REFUSALS.iter().find(|alert| said(alert)) {
                return Self::of_alert(*alert);
            }
            // An `io::Error` hides what it wraps from its causes.
            let wrapped = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
            cause = wrapped.map(|wrapped| wrapped as _).or_else(|| error.source());
        }
        None
    }

    fn of_alert(alert: AlertDescription) -> Option<Self> {
        match alert {
            AlertDescription::CertificateExpired => Some(Self::Expired),
            AlertDescription::UnknownCA | AlertDescription::DecryptError => Some(Self::Foreign),
            refusal if REFUSALS.contains(&refusal) => {
                Some(Self::Credentials { problem: format!("the server says {alert:?}") })
            }
            _ => None,
        }
    }
}

impl Server {
    /// A coordinator at `host` or `host:port`; an IPv6 address with a port stands in square brackets.
    ///
    /// # Errors
    /// [`ConnectionError::Address`].
    pub fn new(address: &str, trust: Trust) -> Result<Self, ConnectionError> {
        let wrong = || ConnectionError::Address { address: address.to_owned() };
        let (host, port) = split(address).ok_or_else(wrong)?;
        ServerName::try_from(host.as_str()).map_err(|_| wrong())?;
        Ok(Self { host, port, trust })
    }

    /// Opens a connection: as a client with its certificate for connections, DER, and the key that it is for; without them to
    /// enrol. The connection is opened again by itself when it is lost.
    ///
    /// # Errors
    /// [`ConnectionError`].
    pub async fn connect(
        &self,
        credentials: Option<(&[u8], &TransportKey)>,
    ) -> Result<Channel, ConnectionError> {
        let config = Arc::new(self.config(credentials)?);
        let server = self.clone();
        let connector = tower::service_fn(move |_: Uri| {
            let (server, config) = (server.clone(), config.clone());
            async move { server.open(config).await.map(TokioIo::new) }
        });
        let endpoint = self.endpoint()?;
        endpoint.connect_with_connector(connector).await.map_err(|error| {
            ConnectionError::find(&error).unwrap_or_else(|| self.unreachable(&"it does not speak HTTP/2"))
        })
    }

    fn endpoint(&self) -> Result<Endpoint, ConnectionError> {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        let wrong = |_| ConnectionError::Address { address: self.to_string() };
        // What tonic connects to is up to the connector, and must not ask it for TLS; what it says to the server is https.
        let origin: Uri = format!("https://{host}:{}", self.port).parse().map_err(wrong)?;
        let endpoint = Endpoint::from(Uri::from_static("http://coordinator.invalid")).origin(origin);
        Ok(endpoint
            .user_agent(concat!("tacit/", env!("CARGO_PKG_VERSION")))
            .expect("a name and a version are plain text, as headers are")
            .connect_timeout(CONNECT)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE_ANSWER)
            .keep_alive_while_idle(true))
    }

    fn config(&self, credentials: Option<(&[u8], &TransportKey)>) -> Result<ClientConfig, ConnectionError> {
        let provider = Arc::new(ring::default_provider());
        let unusable = |error: rustls::Error| ConnectionError::Credentials { problem: error.to_string() };
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&TLS13])
            .map_err(unusable)?
            .dangerous()
            .with_custom_certificate_verifier(self.trust.verifier(provider)?);
        let mut config = match credentials {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let chain = vec![CertificateDer::from(certificate.to_vec())];
                let certified = CertifiedKey::new(chain, key.signer().map_err(unusable)?);
                certified.keys_match().map_err(unusable)?;
                builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(certified)))
            }
        };
        config.alpn_protocols = vec![HTTP2.to_vec()];
        config.resumption = Resumption::disabled();
        Ok(config)
    }

    /// One encrypted connection.
    async fn open(&self, config: Arc<ClientConfig>) -> Result<TlsStream<TcpStream>, ConnectionError> {
        let stream = TcpStream::connect((self.host.as_str(), self.port))
            .await
            .map_err(|error| self.unreachable(&error))?;
        stream.set_nodelay(true).map_err(|error| self.unreachable(&error))?;
        let name = ServerName::try_from(self.host.clone())
            .map_err(|_| ConnectionError::Address { address: self.to_string() })?;
        let connected = TlsConnector::from(config).connect(name, stream).await;
        connected.map_err(|error| self.refused(&error))
    }

    /// Why a handshake failed.
    fn refused(&self, error: &io::Error) -> ConnectionError {
        let server = self.to_string();
        let cause = error.get_ref().and_then(|cause| cause.downcast_ref::<rustls::Error>());
        match cause {
            Some(rustls::Error::InvalidCertificate(problem)) => match Mismatch::of(problem) {
                Some(Mismatch { expected, found }) => {
                    ConnectionError::Fingerprint { server, expected, found }
                }
                None => ConnectionError::Untrusted { server, problem: problem.to_string() },
            },
            Some(rustls::Error::AlertReceived(alert)) => {
                ConnectionError::of_alert(*alert).unwrap_or_else(|| self.unreachable(error))
            }
            Some(problem) => ConnectionError::Untrusted { server, problem: problem.to_string() },
            None => self.unreachable(error),
        }
    }

    fn unreachable(&self, problem: &impl ToString) -> ConnectionError {
        ConnectionError::Unreachable { server: self.to_string(), problem: problem.to_string() }
    }
}

impl std::fmt::Display for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// Host and port of an address.
fn split(address: &str) -> Option<(String, u16)> {
    let (host, port) = match address.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']')?;
            host.contains(':').then_some(())?;
            (host, if port.is_empty() { None } else { Some(port.strip_prefix(':')?) })
        }
        // An IPv6 address without brackets has no port.
        None if address.matches(':').count() > 1 => (address, None),
        None => match address.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (address, None),
        },
    };
    let port = port.map_or(Some(DEFAULT_PORT), |port| port.parse().ok().filter(|port| *port != 0))?;
    Some((host.to_owned(), port))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use sha2::Digest as _;

    #[test]
    fn addresses_are_read_as_people_write_them() {
        let trust = Trust::Fingerprint(Fingerprint([1; 32]));
        let read = |address: &str| Server::new(address, trust.clone()).map(|server| server.to_string());
        for (address, expected) in [
            ("tacit.example", "tacit.example:8443"),
            ("tacit.example:444", "tacit.example:444"),
            ("10.1.2.3", "10.1.2.3:8443"),
            ("10.1.2.3:1", "10.1.2.3:1"),
            ("::1", "[::1]:8443"),
            ("[::1]", "[::1]:8443"),
            ("[::1]:99", "[::1]:99"),
        ] {
            assert_eq!(read(address).as_deref(), Ok(expected), "{address}");
        }
        for address in
            ["", ":1", "a:b", "a:0", "a:65536", "[::1", "[::1]1", "[a]:1", "https://a", "a b", "a:1:"]
        {
            assert_eq!(read(address), Err(ConnectionError::Address { address: address.into() }), "{address}");
        }
    }

    #[test]
    fn a_cause_is_found_however_it_is_wrapped() {
        let alert = rustls::Error::AlertReceived(AlertDescription::CertificateExpired);
        let words = io::Error::other(alert.to_string());
        for wrapped in [io::Error::other(io::Error::other(alert)), words] {
            let status = Status::from_error(Box::new(wrapped));
            assert_eq!(ConnectionError::of_status(&status), Some(ConnectionError::Expired));
        }
        let status = Status::from_error(Box::new(ConnectionError::Foreign));
        assert_eq!(ConnectionError::of_status(&status), Some(ConnectionError::Foreign));
        assert_eq!(ConnectionError::of_status(&Status::internal("no")), None);
    }

    /// A TLS server that shows one certificate and signs with some key; gives its address.
    async fn serve(certificate: &rcgen::Certificate, key: &rcgen::KeyPair) -> String {
        let key = rustls::pki_types::PrivatePkcs8KeyDer::from(key.serialize_der()).into();
        let key = ring::sign::any_supported_type(&key).unwrap();
        // Not checked: the key may be another certificate's.
        let certified = CertifiedKey::new(vec![certificate.der().clone()], key);
        let mut config = rustls::ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[&TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
        config.alpn_protocols = vec![HTTP2.to_vec()];
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let socket = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap().to_string();
        tokio::spawn(async move {
            let (stream, _) = socket.accept().await.unwrap();
            let open = acceptor.accept(stream).await;
            // Kept open until the client is done with it.
            tokio::time::sleep(CONNECT).await;
            drop(open);
        });
        address
    }

    #[tokio::test]
    async fn a_pinned_certificate_is_worth_nothing_without_its_key() {
        let keys = [(); 2].map(|()| rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap());
        let params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let certificate = params.self_signed(&keys[0]).unwrap();
        let fingerprint = Fingerprint(sha2::Sha256::digest(certificate.der()).into());
        for (key, stolen) in keys.iter().zip([false, true]) {
            let address = serve(&certificate, key).await;
            let server = Server::new(&address, Trust::Fingerprint(fingerprint)).unwrap();
            let opened = server.open(Arc::new(server.config(None).unwrap())).await.map(|_| ());
            if stolen {
                assert!(matches!(opened, Err(ConnectionError::Untrusted { .. })), "{opened:?}");
            } else {
                assert_eq!(opened, Ok(()));
            }
        }
    }
}
