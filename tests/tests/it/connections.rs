//! A client's end and the coordinator's end of real TLS connections, from enrolment to being shut out.
#![allow(clippy::unwrap_used)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng as _;
use tacit_aggregation::identity::{ClientId, IdentityKey};
use tacit_client::connection::{ConnectionError, Fingerprint, Server, Trust};
use tacit_client::keys::ClientKeys;
use tacit_coordinator::enrolment::{Enrolment, EnrolmentError};
use tacit_coordinator::identity::{Admission, Issued, Office, Revocations};
use tacit_coordinator::store::{MemoryStore, Store as _};
use tacit_coordinator::tls::{Gate, Limits, Listener, ServerCertificate, server_config};
use tacit_proto::enrolment::{Credentials, Enrol, Enrolled, Fetch};
use tacit_proto::services::enrolment::enrolment_client::EnrolmentClient;
use tacit_proto::services::enrolment::enrolment_server::{self, EnrolmentServer};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use tonic::transport::Channel;
use tonic::{Code, Request, Response, Status};

/// The time at the coordinator, and when most certificates end. The machine's own clock judges at the handshake.
const NOW: u64 = 1_000_000;
const FAR: u64 = 4_000_000_000;
/// A ticket with which the test asks who the coordinator takes it for.
const WHO_AM_I: [u8; 32] = [7; 32];

/// What the test serves: enrolment, and who a caller is.
struct Desk {
    enrolment: Arc<Enrolment>,
    gate: Gate,
}

#[tonic::async_trait]
impl enrolment_server::Enrolment for Desk {
    async fn enrol(&self, request: Request<Enrol>) -> Result<Response<Enrolled>, Status> {
        match self.enrolment.enrol(request.get_ref(), NOW) {
            Ok(ticket) => Ok(Response::new(Enrolled { ticket })),
            Err(error @ EnrolmentError::Used) => Err(Status::already_exists(error.to_string())),
            Err(error) => Err(Status::permission_denied(error.to_string())),
        }
    }

    async fn fetch(&self, request: Request<Fetch>) -> Result<Response<Credentials>, Status> {
        if request.get_ref().ticket == WHO_AM_I {
            let client = self.gate.authenticated(&request, NOW)?;
            return Err(Status::not_found(client.to_string()));
        }
        let credentials = self.enrolment.fetch(&request.get_ref().ticket);
        credentials.map(Response::new).map_err(|error| Status::unavailable(error.to_string()))
    }
}

struct World {
    office: Office,
    enrolment: Arc<Enrolment>,
    rng: ChaCha20Rng,
    address: SocketAddr,
    fingerprint: Fingerprint,
    folder: tempfile::TempDir,
}

impl World {
    fn new(seed: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        let office = Office::init(&folder.path().join("root"), &mut rng).unwrap();
        let appointment = office.appoint(IdentityKey::generate(&mut rng).public_key().0).unwrap();
        let certificate = ServerCertificate::load_or_make(folder.path(), &[]).unwrap();
        let fingerprint = certificate.fingerprint_text().parse().unwrap();
        let config = server_config(certificate, &appointment.root_certificate).unwrap();
        let store = Arc::new(MemoryStore::new());
        let epoch = store.lease().unwrap();
        let enrolment = Arc::new(Enrolment::new(store, epoch, appointment).unwrap());
        let listener = Listener::bind("127.0.0.1:0".parse().unwrap(), config, Limits::default()).unwrap();
        let address = listener.local_address().unwrap();
        let desk = Desk { enrolment: enrolment.clone(), gate: Gate::new(enrolment.excluded()) };
        let server = tonic::transport::Server::builder().add_service(EnrolmentServer::new(desk));
        tokio::spawn(server.serve_with_incoming(listener.incoming()));
        Self { office, enrolment, rng, address, fingerprint, folder }
    }

    fn server(&self) -> Server {
        Server::new(&self.address.to_string(), Trust::Fingerprint(self.fingerprint)).unwrap()
    }

    /// Keys with the root's certificates, as of a time in the past, without going through the coordinator.
    fn issue(&mut self, not_after: u64) -> (ClientKeys, Issued) {
        let keys = ClientKeys::generate(&mut self.rng);
        let admission = Admission {
            ticket: keys.identity.public_key().0,
            identity_key: keys.identity.public_key().0,
            transport_key: keys.transport.public_key().0,
            note: String::new(),
        };
        let mut issued = self.office.issue(&[admission], not_after, 0, &mut self.rng).unwrap();
        (keys, issued.remove(0))
    }
}

async fn who_am_i(channel: Channel) -> Status {
    let mut client = EnrolmentClient::new(channel);
    let asked = tokio::time::timeout(Duration::from_secs(10), client.fetch(Fetch { ticket: WHO_AM_I }));
    asked.await.expect("in time").expect_err("the answer is a status")
}

#[tokio::test]
async fn a_machine_enrols_connects_and_is_shut_out() {
    let mut world = World::new(1);
    let token = world.enrolment.invite(1, 60, "", NOW, &mut world.rng).unwrap().remove(0);
    let keys = ClientKeys::generate(&mut world.rng);
    let mut stranger = EnrolmentClient::new(world.server().connect(None).await.unwrap());
    let enrol = keys.enrol(&token, "0.2.0");
    let ticket = stranger.enrol(enrol.clone()).await.unwrap().into_inner().ticket;
    assert_eq!(stranger.enrol(enrol).await.unwrap().into_inner().ticket, ticket, "a repeat");
    let thief = ClientKeys::generate(&mut world.rng).enrol(&token, "0.2.0");
    assert_eq!(stranger.enrol(thief).await.unwrap_err().code(), Code::AlreadyExists);
    assert_eq!(stranger.fetch(Fetch { ticket }).await.unwrap_err().code(), Code::Unavailable);

    let pending = world.enrolment.pending().unwrap();
    let issued = world.office.issue(&pending, FAR, NOW, &mut world.rng).unwrap();
    world.enrolment.admit(&issued, NOW).unwrap();
    let credentials = stranger.fetch(Fetch { ticket }).await.unwrap().into_inner();
    assert!(credentials.appoints_coordinator());
    assert_eq!(credentials.root, world.office.public_key());
    assert_eq!(credentials.certificate.public_key, keys.identity.public_key());
    let client = credentials.certificate.client;

    let certificate = (credentials.transport_certificate.as_slice(), &keys.transport);
    let channel = world.server().connect(Some(certificate)).await.unwrap();
    let known = who_am_i(channel.clone()).await;
    assert_eq!((known.code(), known.message()), (Code::NotFound, client.to_string().as_str()));

    // One connection, open all the time.
    world.enrolment.ban(client, "a test", NOW).unwrap();
    assert_eq!(who_am_i(channel.clone()).await.code(), Code::PermissionDenied);
    world.enrolment.unban(client).unwrap();
    assert_eq!(who_am_i(channel.clone()).await.code(), Code::NotFound);
    let list = world.office.revoke(&[client]).unwrap().clone();
    world.enrolment.set_revocations(Revocations::from(list)).unwrap();
    let refused = who_am_i(channel).await;
    assert_eq!(refused.code(), Code::PermissionDenied);
    assert!(refused.message().contains("revoked"), "{refused}");
}

#[tokio::test]
async fn a_machine_without_a_certificate_may_only_enrol() {
    let world = World::new(2);
    let refused = who_am_i(world.server().connect(None).await.unwrap()).await;
    assert_eq!(refused.code(), Code::Unauthenticated);
    assert!(refused.message().contains("enrol"), "{refused}");
}

#[tokio::test]
async fn another_server_is_not_spoken_to() {
    let (world, other) = (World::new(3), World::new(4));
    let server = Server::new(&world.address.to_string(), Trust::Fingerprint(other.fingerprint)).unwrap();
    let refused = server.connect(None).await.unwrap_err();
    let expected = ConnectionError::Fingerprint {
        server: world.address.to_string(),
        expected: other.fingerprint,
        found: world.fingerprint,
    };
    assert_eq!(refused, expected);
    for shown in [world.fingerprint, other.fingerprint] {
        assert!(refused.to_string().contains(&shown.to_string()), "{refused}");
    }
}

#[tokio::test]
async fn a_server_may_be_known_by_its_authorities() {
    let (world, other) = (World::new(5), World::new(6));
    let read = |world: &World| std::fs::read(world.folder.path().join("tls-certificate.pem")).unwrap();
    let port = world.address.port();
    let trust = Trust::authorities(&read(&world)).unwrap();
    for host in ["127.0.0.1", "localhost"] {
        let server = Server::new(&format!("{host}:{port}"), trust.clone()).unwrap();
        assert_eq!(who_am_i(server.connect(None).await.unwrap()).await.code(), Code::Unauthenticated);
    }
    // A way to this machine that the certificate does not name, and an authority that has not signed it.
    let strange = Trust::authorities(&read(&other)).unwrap();
    for (host, trust) in [("0.0.0.0", trust), ("127.0.0.1", strange)] {
        let server = Server::new(&format!("{host}:{port}"), trust).unwrap();
        let refused = server.connect(None).await.unwrap_err();
        assert!(matches!(refused, ConnectionError::Untrusted { .. }), "{host}: {refused}");
    }
}

#[tokio::test]
async fn a_certificate_that_is_refused_says_why() {
    let (mut world, mut other) = (World::new(7), World::new(8));
    let (expired, foreign) = (world.issue(1_000), other.issue(FAR));
    for ((keys, issued), expected) in
        [(&expired, ConnectionError::Expired), (&foreign, ConnectionError::Foreign)]
    {
        let certificate = (issued.transport_certificate.as_slice(), &keys.transport);
        let refused = match world.server().connect(Some(certificate)).await {
            Ok(channel) => {
                let status = who_am_i(channel).await;
                ConnectionError::of_status(&status).unwrap_or_else(|| panic!("no reason in {status:?}"))
            }
            Err(refused) => refused,
        };
        assert_eq!(refused, expected);
    }
    let mixed = (expired.1.transport_certificate.as_slice(), &foreign.0.transport);
    let refused = world.server().connect(Some(mixed)).await.unwrap_err();
    assert!(matches!(refused, ConnectionError::Credentials { .. }), "another key's certificate: {refused}");
    let (keys, issued) = world.issue(FAR);
    let certificate = (issued.transport_certificate.as_slice(), &keys.transport);
    let known = who_am_i(world.server().connect(Some(certificate)).await.unwrap()).await;
    assert_eq!(known.message().parse().map(ClientId), Ok(issued.client));
}

#[tokio::test]
async fn nobody_and_somebody_else_are_told_apart() {
    let trust = Trust::Fingerprint(Fingerprint([1; 32]));
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap().to_string();
    let server = Server::new(&address, trust).unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = socket.accept().await.unwrap();
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
        stream.shutdown().await.unwrap();
    });
    let refused = server.connect(None).await.unwrap_err();
    assert!(matches!(refused, ConnectionError::Untrusted { .. }), "{refused}");
    // The socket is closed now.
    let refused = server.connect(None).await.unwrap_err();
    assert!(matches!(refused, ConnectionError::Unreachable { .. }), "{refused}");
}
