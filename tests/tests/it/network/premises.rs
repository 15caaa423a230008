//! What an organisation sets up: an identity root, a coordinator's data folder, clients with certificates. Must never run
//! anything.

use super::life::{Site, quick_folder};
use super::world::{BASE_MODEL, CLIENTS, World};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng as _;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use tacit_aggregation::identity::{Certificate, IdentityKey, Rate};
use tacit_client::Member;
use tacit_client::credentials::Credentials;
use tacit_client::keys::ClientKeys;
use tacit_coordinator::files::write_json;
use tacit_coordinator::identity::{Admission, EpochRequest, Issued, Office};
use tacit_coordinator::serve::{DataFolder, system_clock};
use tacit_coordinator::settings::{Pace, ServerSettings};
use tacit_coordinator::task::TaskSettings;
use tacit_coordinator::tls::ServerCertificate;
use tacit_proto::Wire as _;
use tacit_proto::connection::{Server, TransportKey, Trust};
use tacit_proto::fleet::{UploadPart, Uploaded};
use tacit_proto::services::fleet::fleet_client::FleetClient;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tonic::codegen::tokio_stream::wrappers::ReceiverStream;
use tonic::{Response, Status};

use super::line::Wire;

/// When certificates end, in Unix seconds.
const FAR: u64 = 4_000_000_000;
/// When the roster was signed.
const LONG_AGO: u64 = 1_600_000_000;

/// An upload that goes on.
pub(super) type Upload = JoinHandle<Result<Uploaded, Status>>;

pub(super) struct Premises {
    pub(super) data: DataFolder,
    pub(super) settings: ServerSettings,
    pub(super) runtime: Runtime,
    /// Transport certificates and their keys.
    pub(super) clients: Vec<(Vec<u8>, TransportKey)>,
    pub(super) trust: Trust,
}

impl Premises {
    /// All of that, and the machines with an engine of their own that sets up a task.
    pub(super) fn new(seed: u64, task: TaskSettings) -> (Self, World) {
        Self::new_in(quick_folder(), seed, task)
    }

    /// As [`Self::new`], in a folder; the coordinator's data is in `coordinator` there.
    pub(super) fn new_in(folder: tempfile::TempDir, seed: u64, task: TaskSettings) -> (Self, World) {
        Self::with_rate(folder, seed, task, None)
    }

    /// The same; with a rate, the coordinator has a roster of everybody, with one period that lasts for all time.
    pub(super) fn with_rate(
        folder: tempfile::TempDir,
        seed: u64,
        task: TaskSettings,
        rate: Option<Rate>,
    ) -> (Self, World) {
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        let mut office = Office::init(&folder.path().join("root"), &mut rng).unwrap();
        let data = DataFolder::new(folder.path().join("coordinator"));
        let settings = ServerSettings {
            listen: "127.0.0.1:0".parse().unwrap(),
            pace: Pace { idle: 10, ready: 10 },
            ..ServerSettings::default()
        };
        let key = data.init(&settings, &mut tacit_coordinator::serve::secrets().unwrap()).unwrap();
        let appointment = office.appoint(key.0).unwrap();
        write_json(&data.path().join("appointment.json"), &appointment).unwrap();
        let certificate = ServerCertificate::load_or_make(data.path(), &[]).unwrap();
        let trust = Trust::Fingerprint(certificate.fingerprint_text().parse().unwrap());

        let keys: Vec<ClientKeys> = (0..CLIENTS).map(|_| ClientKeys::generate(&mut rng)).collect();
        let admission = |keys: &ClientKeys| Admission {
            ticket: keys.identity.public_key().0,
            identity_key: keys.identity.public_key().0,
            transport_key: keys.transport.public_key().0,
            note: String::new(),
        };
        let admissions: Vec<Admission> = keys.iter().map(admission).collect();
        let issued: Vec<Issued> = office.issue(&admissions, FAR, 0, &mut rng).unwrap();
        let (mut members, mut clients) = (Vec::new(), Vec::new());
        for (keys, issued) in keys.into_iter().zip(issued) {
            assert_eq!(issued.admission.identity_key, keys.identity.public_key().0);
            members.push((keys.identity, Certificate::from_wire(&issued.certificate).unwrap()));
            clients.push((issued.transport_certificate, keys.transport));
        }
        let roll = rate.map(|rate| {
            let seconds = NonZeroU64::new(FAR - LONG_AGO).unwrap();
            let epoch = EpochRequest { number: 1, seconds, period_seconds: seconds, rate, early: false };
            office.sign_roster(&epoch, LONG_AGO, &mut rng).unwrap()
        });
        let site = Site {
            folder: data.path().to_owned(),
            key: Arc::new(data.key().unwrap()),
            root: office.public_key(),
            clock: Arc::new(AtomicU64::new(system_clock())),
        };
        let world = World::with(seed, folder, site, members, task, roll);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        (Self { data, settings, runtime: runtime.unwrap(), clients, trust }, world)
    }

    /// What a client's folder has of it after enrolment.
    pub(super) fn credentials(&self, client: usize, member: &Member) -> Credentials {
        let (certificate, key) = &self.clients[client];
        let appointment = self.data.appointment().unwrap();
        let issued = tacit_proto::enrolment::Credentials {
            certificate: member.certificate.clone(),
            transport_certificate: certificate.clone(),
            root: member.root,
            coordinator: member.coordinator,
            coordinator_signature: appointment.signature(),
        };
        let identity = IdentityKey::from_bytes(&member.identity.to_bytes());
        let transport = TransportKey::new(IdentityKey::from_bytes(&key.to_bytes()));
        let keys = ClientKeys { identity, transport };
        Credentials::new(keys, issued, [0; 32], Some(&member.root), 0).unwrap()
    }

    /// A client's way to a coordinator at an address.
    pub(super) fn wire<'a>(&'a self, client: usize, address: &str, version: &'a str) -> Wire<'a> {
        let (certificate, key) = &self.clients[client];
        let server = Server::new(address, self.trust.clone()).unwrap();
        Wire { runtime: &self.runtime, server, certificate, key, version, base_model: BASE_MODEL }
    }
    /// A client's upload in a stream of its own: what is sent to it, and how it ends.
    pub(super) fn stream(&self, client: usize, address: &str) -> (mpsc::Sender<UploadPart>, Upload) {
        let (sender, parts) = mpsc::channel(1);
        let wire = self.wire(client, address, "0.2.0");
        let channel = self.runtime.block_on(wire.server.connect(Some((wire.certificate, wire.key))));
        let mut client = FleetClient::new(channel.unwrap());
        let upload = async move {
            let uploaded = client.upload(ReceiverStream::new(parts)).await;
            uploaded.map(Response::into_inner)
        };
        (sender, self.runtime.spawn(upload))
    }
}
