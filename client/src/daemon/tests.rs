//! The loop against a coordinator that serves over a real connection, fails as networks do, and lies.

use super::{Base, Daemon, DaemonError, PAUSED, State, Status as Shown};
use crate::accounts::Accounts;
use crate::credentials::Credentials;
use crate::folder::Folder;
use crate::keys::ClientKeys;
use crate::ledger::Contradiction;
use crate::settings::Settings;
use crate::testing::{
    BASE_MODEL, Book, Coordinator, DIMENSION, Ends, NOT_AFTER, NOW, PARENT, World, delta, task,
};
use crate::update::Update;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng as _;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tacit_aggregation::Step;
use tacit_aggregation::identity::{ClientId, IdentityKey, PublicKey, RevocationList};
use tacit_aggregation::messages::MaskedChunk;
use tacit_model::DecoderConfig;
use tacit_proto::enrolment::{Credentials as Issued, appointment};
use tacit_proto::fleet::{
    CheckIn, CheckedIn, Download, DownloadPart, Offer, Receive, Received, Report, Reported, RoundEnd, Send,
    Sent, UploadPart, Uploaded,
};
use tacit_proto::ledger::{LedgerProof, Prove};
use tacit_proto::manifest::PublishedFile;
use tacit_proto::services::fleet::fleet_server::{Fleet, FleetServer};
use tacit_proto::{Channel, ClientMessage, Manifest, ServerMessage, SignedManifest, SignedPlan};
use tokio::sync::watch;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Request, Response, Status, Streaming};
use zeroize::Zeroizing;

/// One call in so many fails.
const FAILURES: u32 = 3;

struct Fake {
    world: World,
    book: Book,
    plan: SignedPlan,
    coordinator: Coordinator,
    /// Answers to each step, as they were first handed in.
    handed_in: Vec<(Step, Vec<ClientMessage>)>,
    /// What begins each step after the first.
    begun: Vec<ServerMessage>,
    packed: Vec<u8>,
    reports: Vec<Report>,
    check_ins: Vec<CheckIn>,
    revocations: Option<RevocationList>,
    failures: u32,
    /// Whether the first client is left out of the debit.
    forgets: bool,
}

#[derive(Clone)]
struct Server(Arc<Mutex<Fake>>);

impl Server {
    fn new() -> Self {
        let world = World::new();
        let plan = world.plan(1);
        Self::of(world, plan)
    }

    /// Whose plan demands a roster that draws everybody, but for the first client where that is wanted.
    fn drawn(first: bool) -> Self {
        let mut world = World::new();
        let terms = world.draw(first);
        let plan = world.plan_under(1, Some(terms));
        Self::of(world, plan)
    }

    fn of(world: World, plan: SignedPlan) -> Self {
        let book = Book::new(&world.key);
        let coordinator = Coordinator::open(&world, &plan);
        Self(Arc::new(Mutex::new(Fake {
            world,
            book,
            plan,
            coordinator,
            handed_in: Vec::new(),
            begun: Vec::new(),
            packed: Vec::new(),
            reports: Vec::new(),
            check_ins: Vec::new(),
            revocations: None,
            failures: 0,
            forgets: false,
        })))
    }

    fn with<T>(&self, act: impl FnOnce(&mut Fake) -> T) -> T {
        act(&mut self.0.lock().expect("no panic under the lock"))
    }

    /// Calls fail again and again, now with and now without a word on when to come again.
    fn trouble(&self) -> Result<(), Status> {
        self.with(|state| {
            state.failures += 1;
            if state.failures % FAILURES != 1 {
                return Ok(());
            }
            let mut status = Status::unavailable("the network is down");
            if state.failures % 2 == 0 {
                status = Status::resource_exhausted("too many");
                status.metadata_mut().insert(super::RETRY_AFTER, "5".parse().expect("plain"));
            }
            Err(status)
        })
    }

    /// Serves; the channel to it.
    async fn serve(&self) -> tonic::transport::Channel {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let service = FleetServer::new(self.clone());
        let server = tonic::transport::Server::builder().add_service(service);
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        tonic::transport::Endpoint::from_shared(format!("http://{address}"))
            .expect("an address")
            .connect_lazy()
    }
}

impl Fake {
    fn manifest(&self) -> SignedManifest {
        let file = |name: &str| PublishedFile { name: name.to_owned(), digest: [5; 32], size: 10 };
        let manifest = Manifest {
            task: task(),
            channel: Channel::Stable,
            serial: 1,
            version: 0,
            adapter: PARENT,
            parent: BASE_MODEL,
            base_model: BASE_MODEL,
            origin: None,
            files: vec![file("adapter_config.json"), file("trained.safetensors")],
            created: NOW,
            coordinator: self.world.key.public_key(),
        };
        SignedManifest::sign(manifest, &self.world.key).expect("a good manifest")
    }

    /// Takes what a client hands in; the same again changes nothing.
    fn take(&mut self, step: Step, messages: Vec<ClientMessage>) -> Result<(), Status> {
        if let Some((_, first)) = self.handed_in.iter().find(|(known, _)| *known == step) {
            return if *first == messages { Ok(()) } else { Err(Status::already_exists("another message")) };
        }
        if step == Step::Advertise {
            self.book.reserve(1, self.plan.claimed_digest());
        }
        let next = self.coordinator.take(&messages);
        self.handed_in.push((step, messages));
        self.begun.extend(next);
        if step == Step::Unmask {
            let debited: &[u64] = if self.forgets { &[17, 27, 37, 47] } else { &[7, 17, 27, 37, 47] };
            self.book.end(1, Ends::Commit(debited));
        }
        Ok(())
    }
}

#[tonic::async_trait]
impl Fleet for Server {
    type DownloadStream = ReceiverStream<Result<DownloadPart, Status>>;

    async fn check_in(&self, request: Request<CheckIn>) -> Result<Response<CheckedIn>, Status> {
        self.trouble()?;
        Ok(Response::new(self.with(|state| {
            let request = request.into_inner();
            let over = state.handed_in.iter().any(|(step, _)| *step == Step::Unmask);
            let offer = Offer {
                plan: state.plan.clone(),
                manifest: state.manifest(),
                parent: None,
                join: !request.ready.is_empty() && !over,
                excuse: over.then(|| "its update is in".to_owned()),
                membership: state.world.members[0].membership.clone(),
            };
            let ledger = state.book.prove(request.ledger_size, &[]);
            state.check_ins.push(request);
            let offers = vec![offer];
            CheckedIn { now: NOW, ledger, offers, retry_after: 20, revocations: state.revocations.clone() }
        })))
    }

    async fn receive(&self, request: Request<Receive>) -> Result<Response<Received>, Status> {
        self.trouble()?;
        let after = request.into_inner().after;
        let received = self.with(|state| match state.begun.get(after as usize - 1) {
            Some(message) => Received::Message(message.clone()),
            None if after == Step::Unmask => {
                Received::End(RoundEnd { committed: true, reason: String::new() })
            }
            None => Received::Nothing,
        });
        Ok(Response::new(received))
    }

    async fn send(&self, request: Request<Send>) -> Result<Response<Sent>, Status> {
        self.trouble()?;
        let message = request.into_inner().message;
        let resume_at = self.with(|state| {
            let step = match &message {
                ClientMessage::Advert(_) => Step::Advertise,
                ClientMessage::Share(_) => Step::Share,
                ClientMessage::Confirm(_) => Step::Confirm,
                ClientMessage::Unmask(_) => Step::Unmask,
                ClientMessage::MaskedHeader(header) if state.packed.len() as u64 == header.length => {
                    let chunk = MaskedChunk { offset: 0, bytes: state.packed.clone() };
                    let messages = vec![message.clone(), ClientMessage::MaskedChunk(chunk)];
                    state.take(Step::Collect, messages)?;
                    return Ok(state.packed.len() as u64);
                }
                ClientMessage::MaskedHeader(_) => return Ok(state.packed.len() as u64),
                ClientMessage::MaskedChunk(_) => return Err(Status::invalid_argument("chunks are uploaded")),
            };
            state.take(step, vec![message.clone()])?;
            Ok::<u64, Status>(0)
        })?;
        Ok(Response::new(Sent { resume_at }))
    }

    async fn upload(&self, request: Request<Streaming<UploadPart>>) -> Result<Response<Uploaded>, Status> {
        let mut parts = request.into_inner();
        while let Some(UploadPart { chunk, .. }) = parts.message().await? {
            let torn = self.with(|state| {
                assert_eq!(chunk.offset, state.packed.len() as u64, "it goes on where it was cut");
                let kept = if state.packed.is_empty() { 50 } else { chunk.bytes.len() };
                state.packed.extend_from_slice(&chunk.bytes[..kept]);
                kept < chunk.bytes.len()
            });
            if torn {
                return Err(Status::unavailable("the network is down"));
            }
        }
        let resume_at = self.with(|state| state.packed.len() as u64);
        // Not complete: the receipt of the header says so when it is sent again.
        Ok(Response::new(Uploaded { resume_at, complete: false }))
    }

    async fn prove(&self, request: Request<Prove>) -> Result<Response<LedgerProof>, Status> {
        self.trouble()?;
        let Prove { since, rounds } = request.into_inner();
        let rounds: Vec<u64> = rounds.iter().map(|name| name.round).collect();
        Ok(Response::new(self.with(|state| state.book.prove(since, &rounds))))
    }

    async fn download(&self, _: Request<Download>) -> Result<Response<Self::DownloadStream>, Status> {
        Err(Status::not_found("no such file"))
    }

    async fn report(&self, request: Request<Report>) -> Result<Response<Reported>, Status> {
        self.trouble()?;
        self.with(|state| state.reports.push(request.into_inner()));
        Ok(Response::new(Reported))
    }
}

fn settings() -> Settings {
    let sample = include_str!("../../../docs/client.toml");
    let quick = sample.replace("shortest = 1", "shortest = 0").replace("longest = 900", "longest = 1");
    let lax = quick.replace("n_min = 10", "n_min = 3").replace("corrupt_bp = 500", "corrupt_bp = 0");
    let lax = lax.replace("epsilon = 8.0", "epsilon = 50.0").replace("epsilon = 2.0", "epsilon = 50.0");
    Settings::parse(&lax.replace("delta = 1e-6", "delta = 1e-5"), Path::new("client.toml")).expect("good")
}

/// Credentials of the world's first client; nobody looks at its certificate for connections here.
fn credentials(world: &World) -> Credentials {
    let member = &world.members[0];
    let mut keys = ClientKeys::generate(&mut ChaCha20Rng::seed_from_u64(4));
    keys.identity = IdentityKey::from_bytes(&member.identity.to_bytes());
    let coordinator = world.key.public_key();
    let issued = Issued {
        certificate: member.certificate.clone(),
        transport_certificate: vec![1],
        root: member.root,
        coordinator,
        coordinator_signature: world.root.sign(&appointment(&coordinator)),
    };
    Credentials { keys, issued, ticket: [0; 32] }
}

/// A daemon on a folder, whose certificates are valid when the tests run.
struct Machine {
    path: tempfile::TempDir,
}

impl Machine {
    fn new(trained: bool) -> Self {
        let path = tempfile::tempdir().expect("a folder");
        if trained {
            let folder = Folder::open(path.path()).expect("new");
            let delta = Zeroizing::new(delta(0));
            let update = Update {
                task: task(),
                parent: PARENT,
                trained_at: NOW,
                tokens: 1,
                losses: [2.0, 1.0],
                delta,
            };
            update.store(&folder).expect("written");
        }
        Self { path }
    }

    fn folder(&self) -> Folder {
        Folder::open(self.path.path()).expect("free")
    }

    /// Runs until something is so, and stops.
    async fn run(&self, server: &Server, until: impl Fn(&Path) -> bool) -> Result<(), DaemonError> {
        let channel = server.serve().await;
        let credentials = server.with(|state| credentials(&state.world));
        let (tell, stop) = watch::channel(false);
        let base = Base { digest: BASE_MODEL, config: DecoderConfig::new(300, 16, 1, 2, 1, 32) };
        let daemon = Daemon::new(self.folder(), settings(), &credentials, base, channel, stop)?;
        let watched = async {
            for _ in 0..2000 {
                if until(self.path.path()) {
                    tell.send_replace(true);
                    return true;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            tell.send_replace(true);
            false
        };
        let (ended, reached) = tokio::join!(daemon.run(), watched);
        assert!(reached, "{:?}", self.shown());
        ended
    }

    fn shown(&self) -> Shown {
        Shown::read(self.path.path()).expect("readable").expect("written")
    }
}

fn settled(path: &Path) -> bool {
    let accounts = Accounts::peek(path).ok().flatten();
    accounts.is_some_and(|accounts| accounts.awaiting.is_empty() && !accounts.budget.debits().is_empty())
}

#[tokio::test]
async fn a_drawn_client_takes_part() {
    let (server, machine) = (Server::drawn(true), Machine::new(true));
    machine.run(&server, settled).await.expect("it runs");
    server.with(|state| assert_eq!(state.handed_in.len(), Step::ALL.len(), "{:?}", machine.shown()));
}

#[tokio::test]
async fn whoever_is_not_drawn_says_nothing_although_it_is_invited() {
    let (server, machine) = (Server::drawn(false), Machine::new(true));
    machine.run(&server, |_| server.with(|state| state.check_ins.len() >= 4)).await.expect("it runs");
    let refusal = machine.shown().tasks[task().as_str()].refusal.clone().expect("it stays out");
    assert!(refusal.contains("is not drawn"), "{refusal}");
    server.with(|state| {
        assert_eq!(state.handed_in, [], "nothing leaves the machine");
        assert!(
            state.check_ins[1..].iter().all(|check_in| check_in.ready.is_empty()),
            "nor waits for a cohort"
        );
    });
    assert!(
        Accounts::peek(machine.path.path()).expect("readable").expect("there").budget.debits().is_empty()
    );
}

#[tokio::test]
async fn a_round_goes_to_its_end_through_trouble_at_every_call() {
    let (server, machine) = (Server::new(), Machine::new(true));
    machine.run(&server, settled).await.expect("it runs");
    server.with(|state| {
        let steps: Vec<Step> = state.handed_in.iter().map(|(step, _)| *step).collect();
        assert_eq!(steps, Step::ALL, "{:?}", machine.shown());
        assert_eq!(state.check_ins[0].base_models, [BASE_MODEL]);
        assert_eq!(state.check_ins[0].ready[0].parent, PARENT);
        assert!(state.reports.is_empty());
    });
    let folder = machine.folder();
    let accounts = Accounts::load(&folder).expect("good").expect("stored");
    assert_eq!(accounts.budget.debits().len(), 1);
    assert!(
        Update::load(&folder, &task()).expect("readable").is_none(),
        "it is in the sum, and here no more"
    );
    assert!(folder.list("round").expect("readable").is_empty());
    let shown = machine.shown();
    assert_eq!((shown.state, shown.ledger), (State::Stopped, 2));
    assert!(shown.epsilon_spent > 0.0 && shown.last_contact.is_some());
}

#[tokio::test]
async fn stopped_and_started_again_it_goes_on_with_the_round() {
    let (server, machine) = (Server::new(), Machine::new(true));
    for step in [Step::Advertise, Step::Share, Step::Collect, Step::Confirm] {
        let reached = |_: &Path| server.with(|state| state.handed_in.iter().any(|(known, _)| *known == step));
        machine.run(&server, reached).await.expect("it stops when told");
    }
    machine.run(&server, settled).await.expect("it runs");
    // Another message for a step would have been refused, and the round never have ended.
    server.with(|state| assert_eq!(state.handed_in.len(), 5));
    assert_eq!(Accounts::peek(machine.path.path()).expect("good").expect("stored").budget.debits().len(), 1);
}

#[tokio::test]
async fn a_coordinator_rolled_back_is_reported_once_and_left_alone() {
    let (server, machine) = (Server::new(), Machine::new(true));
    machine.run(&server, settled).await.expect("it runs");
    // Put back to a backup from before the round, which is offered again.
    server.with(|state| {
        state.book = Book::new(&state.world.key);
        (state.plan, state.handed_in, state.begun) = (state.world.plan(2), Vec::new(), Vec::new());
    });
    let reported = |_: &Path| server.with(|state| !state.reports.is_empty());
    machine.run(&server, reported).await.expect("it stops when told");
    assert_eq!(machine.shown().ledger, 2, "what it saw stays seen");
    let check_ins = server.with(|state| {
        assert!(state.reports[0].problem.contains("rolled back"), "{:?}", state.reports);
        state.check_ins.len()
    });
    let out = |path: &Path| {
        Shown::read(path).ok().flatten().is_some_and(|shown| shown.state == State::Contradiction)
    };
    machine.run(&server, out).await.expect("it stops when told");
    server.with(|state| assert_eq!((state.reports.len(), state.check_ins.len()), (1, check_ins)));
    let found = Contradiction::peek(machine.path.path()).expect("readable").expect("kept");
    assert!(found.reported && !found.evidence.is_empty());
}

#[tokio::test]
async fn a_missing_debit_is_reported() {
    let (server, machine) = (Server::new(), Machine::new(true));
    server.with(|state| state.forgets = true);
    let reported = |_: &Path| server.with(|state| !state.reports.is_empty());
    machine.run(&server, reported).await.expect("it stops when told");
    let problem = server.with(|state| state.reports[0].problem.clone());
    assert!(
        problem.contains("rust-completion/1") && problem.contains("not among those debited"),
        "{problem}"
    );
}

#[tokio::test]
async fn paused_it_says_nothing() {
    let (server, machine) = (Server::new(), Machine::new(true));
    std::fs::write(machine.path.path().join(PAUSED), []).expect("writable");
    let paused =
        |path: &Path| Shown::read(path).ok().flatten().is_some_and(|shown| shown.state == State::Paused);
    machine.run(&server, paused).await.expect("it stops when told");
    server.with(|state| assert!(state.check_ins.is_empty() && state.failures == 0));
    std::fs::remove_file(machine.path.path().join(PAUSED)).expect("there");
    let asked = |_: &Path| server.with(|state| !state.check_ins.is_empty());
    machine.run(&server, asked).await.expect("it stops when told");
}

#[tokio::test]
async fn a_revoked_client_and_a_revoked_neighbour_end_it() {
    // The client itself: it announces nothing more than that it is there.
    let (server, machine) = (Server::new(), Machine::new(true));
    server.with(|state| state.revocations = Some(state.world.root.revoke(1, vec![ClientId(7)])));
    let told = |path: &Path| {
        let shown = Shown::read(path).ok().flatten();
        shown
            .and_then(|shown| shown.problem)
            .is_some_and(|(_, problem)| problem.contains("shut this client out"))
    };
    machine.run(&server, told).await.expect("it stops when told");
    server.with(|state| assert!(state.handed_in.is_empty()));

    // A neighbour: the client leaves the round before it has shared anything, and does not join it again.
    let (server, machine) = (Server::new(), Machine::new(true));
    server.with(|state| state.revocations = Some(state.world.root.revoke(1, vec![ClientId(27)])));
    let refused = |path: &Path| {
        Accounts::peek(path).ok().flatten().is_some_and(|accounts| accounts.refused.get(&task()) == Some(&1))
    };
    machine.run(&server, refused).await.expect("it stops when told");
    server.with(|state| assert_eq!(state.handed_in.len(), 1, "its advert, and no share"));
    assert!(Update::load(&machine.folder(), &task()).expect("readable").is_some(), "for another round");

    // A list that the root did not sign changes nothing.
    let (server, machine) = (Server::new(), Machine::new(true));
    server.with(|state| {
        let mut forged = state.world.root.revoke(1, vec![ClientId(7)]);
        forged.clients = vec![ClientId(8)];
        state.revocations = Some(forged);
    });
    let told = |path: &Path| {
        let shown = Shown::read(path).ok().flatten();
        shown.and_then(|shown| shown.problem).is_some_and(|(_, problem)| problem.contains("does not verify"))
    };
    machine.run(&server, told).await.expect("it stops when told");
    assert!(!machine.folder().holds(super::REVOCATIONS_FILE));
}

#[test]
fn credentials_are_for_these_keys_of_this_root_with_its_coordinator() {
    use crate::credentials::CredentialsError;
    let world = World::new();
    let good = credentials(&world);
    let again = |keys: &ClientKeys| ClientKeys::from_bytes(keys.to_bytes().as_slice()).expect("its own form");
    let take = |issued: Issued, root: Option<&PublicKey>| {
        Credentials::new(again(&good.keys), issued, [0; 32], root, NOW / 1000)
    };
    let other = PublicKey([9; 32]);
    assert!(matches!(take(good.issued.clone(), Some(&other)), Err(CredentialsError::Root { .. })));
    let late = Credentials::new(again(&good.keys), good.issued.clone(), [0; 32], None, NOT_AFTER + 1);
    assert!(matches!(late, Err(CredentialsError::Certificate(_))));
    let foreign = Issued { certificate: world.members[1].certificate.clone(), ..good.issued.clone() };
    assert!(matches!(take(foreign, None), Err(CredentialsError::ForeignKey { .. })));
    let unnamed = Issued { coordinator: other, ..good.issued.clone() };
    assert!(matches!(take(unnamed, None), Err(CredentialsError::NotAppointed)));
    // All but the X.509 certificate, which is none.
    assert!(matches!(
        take(good.issued.clone(), Some(&world.root.public_key())),
        Err(CredentialsError::Transport)
    ));
    assert_eq!(DIMENSION, delta(0).len());
}
