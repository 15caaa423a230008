//! Real handshakes over loopback, honest and hostile. Must never need another machine.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::enrolment::Excluded;
use crate::identity::x509::{client_certificate, root_certificate};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};
use rustls::ClientConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tacit_aggregation::identity::{ClientId, IdentityKey, IdentityRoot};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::Connected as _;
use tonic::{Code, Request};

const FAR: u64 = 4_000_000_000;
const SOON: Duration = Duration::from_secs(10);

struct World {
    root: IdentityRoot,
    rng: ChaCha20Rng,
    server: CertificateDer<'static>,
    address: SocketAddr,
    strangers: Arc<places::Places<listener::Network>>,
    incoming: ReceiverStream<std::io::Result<Connection>>,
    _folder: tempfile::TempDir,
}

impl World {
    fn new(seed: u64, limits: Limits) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        let root = IdentityRoot::generate(&mut rng);
        let certificate = ServerCertificate::load_or_make(folder.path(), &[]).unwrap();
        let (chain, _) = ServerCertificate::load_or_make(folder.path(), &[]).unwrap().into_parts();
        let config = server_config(certificate, &root_certificate(&root).unwrap()).unwrap();
        let listener = Listener::bind("127.0.0.1:0".parse().unwrap(), config, limits).unwrap();
        let address = listener.local_address().unwrap();
        let strangers = listener.strangers();
        let server = chain[0].clone();
        Self { root, rng, server, address, strangers, incoming: listener.incoming(), _folder: folder }
    }

    /// How to connect: without a certificate, or as a client of a root.
    fn config(&mut self, client: Option<(&IdentityRoot, ClientId, u64)>) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.server.clone()).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[&TLS13])
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match client {
            None => builder.with_no_client_auth(),
            Some((root, client, not_after)) => {
                let key = IdentityKey::generate(&mut self.rng);
                let certificate = client_certificate(root, client, key.public_key().0, not_after).unwrap();
                builder.with_client_auth_cert(vec![certificate.into()], private_key(&key)).unwrap()
            }
        };
        config.alpn_protocols = vec![HTTP2.to_vec()];
        Arc::new(config)
    }

    fn member(&mut self, client: u64) -> Arc<ClientConfig> {
        let root = IdentityRoot::from_bytes(&self.root.to_bytes());
        self.config(Some((&root, ClientId(client), FAR)))
    }

    async fn next(&mut self) -> Connection {
        tokio::time::timeout(SOON, self.incoming.next()).await.expect("in time").unwrap().unwrap()
    }
}

/// PKCS #8 of an Ed25519 key: a fixed header, then the 32 bytes.
fn private_key(key: &IdentityKey) -> PrivateKeyDer<'static> {
    let header = hex::decode("302e020100300506032b657004220420").unwrap();
    PrivatePkcs8KeyDer::from([header.as_slice(), key.to_bytes().as_slice()].concat()).into()
}

async fn connect(address: SocketAddr, config: Arc<ClientConfig>) -> std::io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(address).await?;
    TlsConnector::from(config).connect(ServerName::try_from("localhost").unwrap(), stream).await
}

/// Sends a byte and reads one: in TLS 1.3 a client learns only then that its certificate was refused.
async fn exchange(mut stream: TlsStream<TcpStream>) -> std::io::Result<u8> {
    stream.write_all(b"?").await?;
    stream.flush().await?;
    stream.read_u8().await
}

#[tokio::test]
async fn the_peer_is_who_its_certificate_says() {
    let mut world = World::new(1, Limits::default());
    let configs = [world.member(7), world.config(None)];
    for (config, expected) in configs.into_iter().zip([Some(ClientId(7)), None]) {
        let mut there = connect(world.address, config).await.unwrap();
        let mut here = world.next().await;
        let peer = here.connect_info();
        assert_eq!(peer.member.as_ref().map(|member| member.claims.client), expected);
        assert_eq!(peer.address, there.get_ref().0.local_addr().unwrap());
        assert_eq!(there.get_ref().1.alpn_protocol(), Some(b"h2".as_slice()));
        there.write_all(b"hello").await.unwrap();
        let mut bytes = [0; 5];
        here.read_exact(&mut bytes).await.unwrap();
        assert_eq!(&bytes, b"hello");
    }
}

#[tokio::test]
async fn certificates_that_expired_or_are_anothers_are_refused() {
    let mut world = World::new(2, Limits::default());
    let other = IdentityRoot::generate(&mut world.rng);
    let root = IdentityRoot::from_bytes(&world.root.to_bytes());
    let expired = world.config(Some((&root, ClientId(7), 1_000)));
    let foreign = world.config(Some((&other, ClientId(7), FAR)));
    for (config, alert) in [(expired, "CertificateExpired"), (foreign, "UnknownCA")] {
        let refused = match connect(world.address, config).await {
            Ok(stream) => exchange(stream).await.unwrap_err(),
            Err(error) => error,
        };
        assert!(refused.to_string().contains(alert), "{refused}");
    }
    let _good = connect(world.address, world.member(7)).await.unwrap();
    assert!(world.next().await.peer().member.is_some(), "none of the others came through before");
}

#[tokio::test]
async fn a_client_has_so_many_connections_and_takes_nobody_elses() {
    let mut world = World::new(3, Limits { per_member: 2, members: 3, ..Limits::default() });
    let (first, second, third) = (world.member(1), world.member(2), world.member(3));
    let mut held = Vec::new();
    for config in [&first, &first, &second] {
        let there = connect(world.address, config.clone()).await.unwrap();
        held.push((there, world.next().await));
    }
    let refused = connect(world.address, third).await;
    assert!(exchange(refused.unwrap()).await.is_err(), "all places of clients are taken");
    let _again = connect(world.address, first).await.unwrap();
    let _here = world.next().await;
    let evicted = held[0].1.read_u8().await.unwrap_err();
    assert_eq!(evicted.kind(), std::io::ErrorKind::ConnectionAborted);
    let (there, here) = &mut held[1];
    there.write_all(b"!").await.unwrap();
    assert_eq!(here.read_u8().await.unwrap(), b'!', "the newer one goes on");
}

#[tokio::test]
async fn who_shows_no_certificate_does_not_stay() {
    let mut world = World::new(4, Limits { anonymous: Duration::from_millis(200), ..Limits::default() });
    let (anonymous, member) = (world.config(None), world.member(1));
    let _there = connect(world.address, anonymous).await.unwrap();
    let mut here = world.next().await;
    let _member = connect(world.address, member).await.unwrap();
    let mut stays = world.next().await;
    let ended = tokio::time::timeout(SOON, here.read_u8()).await.expect("it ends").unwrap_err();
    assert_eq!(ended.kind(), std::io::ErrorKind::ConnectionAborted);
    assert!(tokio::time::timeout(Duration::from_millis(300), stays.read_u8()).await.is_err(), "it goes on");
}

#[tokio::test]
async fn slow_handshakes_end_and_stop_nobody() {
    let limits = Limits {
        strangers: 20,
        grace: Duration::from_millis(50),
        handshake: Duration::from_millis(1_500),
        ..Limits::default()
    };
    let mut world = World::new(5, limits);
    // A record header that promises a long handshake message, then a byte now and then.
    let slow = |address| async move {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(&[0x16, 3, 1, 2, 0, 1]).await?;
        while tokio::time::timeout(Duration::from_millis(100), stream.read_u8()).await.is_err() {
            stream.write_all(&[0]).await?;
        }
        std::io::Result::Ok(())
    };
    let start = Instant::now();
    let held: Vec<_> = (0..100).map(|_| tokio::spawn(slow(world.address))).collect();
    let member = world.member(1);
    for _ in 0..3 {
        let there = connect(world.address, member.clone());
        let _there = tokio::time::timeout(SOON, there).await.expect("in time").unwrap();
        assert!(world.next().await.peer().member.is_some());
        assert!(world.strangers.len() <= 20);
    }
    for slow in held {
        let _ = tokio::time::timeout(SOON, slow).await.expect("each is closed").unwrap();
    }
    assert!(start.elapsed() >= limits.handshake, "the last of them had their full time");
    assert_eq!(world.strangers.len(), 0);
}

#[tokio::test]
async fn ten_thousand_garbage_connections_leave_nothing_behind() {
    const AT_ONCE: u64 = 100;
    let mut world = World::new(6, Limits { strangers: 40, ..Limits::default() });
    let address = world.address;
    let garbage = |seed| async move {
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        for _ in 0..10_000 / AT_ONCE {
            let mut bytes = vec![0; 1 + rng.next_u32() as usize % 600];
            rng.fill_bytes(&mut bytes);
            if rng.next_u32() % 2 == 0 {
                bytes[0] = 0x16;
            }
            let mut stream = TcpStream::connect(address).await.unwrap();
            // The server may have closed it in the middle.
            let _ = stream.write_all(&bytes).await;
            let _ = stream.shutdown().await;
            let mut rest = Vec::new();
            let _ = stream.read_to_end(&mut rest).await;
        }
    };
    let crowd: Vec<_> = (0..AT_ONCE).map(|seed| tokio::spawn(garbage(seed))).collect();
    let member = world.member(1);
    let mut honest = 0;
    while crowd.iter().any(|one| !one.is_finished()) || honest == 0 {
        let there = connect(address, member.clone());
        let _there = tokio::time::timeout(SOON, there).await.expect("in time").unwrap();
        assert!(world.next().await.peer().member.is_some());
        assert!(world.strangers.len() <= 40);
        honest += 1;
    }
    for one in crowd {
        one.await.unwrap();
    }
    let emptied = async {
        while world.strangers.len() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(SOON, emptied).await.expect("every place is free again");
}

#[tokio::test]
async fn requests_are_answered_to_clients_that_are_not_shut_out() {
    let (sender, receiver) = tokio::sync::watch::channel(Arc::new(Excluded::default()));
    let gate = Gate::new(receiver);
    let peer = |client: Option<u64>| {
        let claims = |client| crate::identity::x509::Claims {
            client: ClientId(client),
            transport_key: [1; 32],
            not_after: 1_000,
        };
        let member = client.map(|client| Arc::new(Member { claims: claims(client), certificate: vec![] }));
        let mut request = Request::new(());
        request.extensions_mut().insert(Peer { address: "127.0.0.1:1".parse().unwrap(), member });
        request
    };
    assert_eq!(gate.authenticated(&peer(Some(5)), 1_000).unwrap(), ClientId(5));
    let refused = |request: &Request<()>, now| gate.authenticated(request, now).unwrap_err().code();
    assert_eq!(refused(&peer(Some(5)), 1_001), Code::Unauthenticated, "it has expired on an open connection");
    assert_eq!(refused(&peer(None), 1_000), Code::Unauthenticated);
    assert_eq!(refused(&Request::new(()), 1_000), Code::Unauthenticated);
    sender.send_modify(|excluded| Arc::make_mut(excluded).ban(ClientId(5)));
    assert_eq!(refused(&peer(Some(5)), 1_000), Code::PermissionDenied);
    assert!(gate.authenticated(&peer(Some(6)), 1_000).is_ok());
    let root = IdentityRoot::generate(&mut ChaCha20Rng::seed_from_u64(7));
    sender.send_modify(|excluded| Arc::make_mut(excluded).revoke(root.revoke(1, vec![ClientId(6)])));
    assert_eq!(refused(&peer(Some(6)), 1_000), Code::PermissionDenied);
}

#[test]
fn a_certificate_is_made_once_and_kept_private() {
    let folder = tempfile::tempdir().unwrap();
    let hosts = ["tacit.example".to_owned(), "10.1.2.3".to_owned(), "localhost".to_owned()];
    let made = ServerCertificate::load_or_make(folder.path(), &hosts).unwrap();
    let again = ServerCertificate::load_or_make(folder.path(), &[]).unwrap();
    assert_eq!(made.fingerprint(), again.fingerprint());
    assert_eq!(made.fingerprint_text(), hex::encode(made.fingerprint()));
    let (certificate, key) = (folder.path().join("tls-certificate.pem"), folder.path().join("tls-key.pem"));
    #[cfg(unix)]
    for path in [&certificate, &key] {
        use std::os::unix::fs::PermissionsExt as _;
        assert_eq!(std::fs::metadata(path).unwrap().permissions().mode() & 0o77, 0);
    }
    assert_eq!(ServerCertificate::load(&certificate, &key).unwrap().fingerprint(), made.fingerprint());
    let wrong = ServerCertificate::load(&key, &certificate).map(|_| ());
    assert!(matches!(wrong, Err(TlsError::Pem { what: "certificate", .. })), "{wrong:?}");

    let other = tempfile::tempdir().unwrap();
    ServerCertificate::load_or_make(other.path(), &[]).unwrap();
    let root = root_certificate(&IdentityRoot::generate(&mut ChaCha20Rng::seed_from_u64(8))).unwrap();
    let mixed = ServerCertificate::load(&certificate, &other.path().join("tls-key.pem")).unwrap();
    assert!(matches!(server_config(mixed, &root), Err(TlsError::Server(_))), "another certificate's key");
    let good = ServerCertificate::load(&certificate, &key).unwrap();
    assert!(matches!(server_config(good, &[1, 2, 3]), Err(TlsError::Root(_))));

    std::fs::remove_file(&key).unwrap();
    let half = ServerCertificate::load_or_make(folder.path(), &[]).map(|_| ());
    assert!(matches!(half, Err(TlsError::Half { .. })), "{half:?}");
}
