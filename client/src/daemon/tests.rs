//! The loop against a coordinator that serves over a real connection, fails as networks do, and lies.

use super::call::{CallError, Line};
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
use std::collections::BTreeSet;
use std::num::NonZeroU64;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tacit_aggregation::identity::{
    ClientId, EpochTerms, IdentityKey, IdentityRoot, PublicKey, RevocationList, Roster,
};
use tacit_aggregation::messages::MaskedChunk;
use tacit_aggregation::params::RosterTerms;
use tacit_aggregation::{Digest, Step};
use tacit_model::DecoderConfig;
use tacit_privacy::ledger::restart::{ROUNDS_APART, Restart};
use tacit_proto::enrolment::{Credentials as Issued, appointment};
use tacit_proto::fleet::{
    CheckIn, CheckedIn, Download, DownloadPart, MAX_PART_BYTES, Offer, Receive, Received, Report, Reported,
    RoundEnd, Send, Sent, UploadPart, Uploaded,
};
use tacit_proto::ledger::{LedgerProof, Prove};
use tacit_proto::manifest::PublishedFile;
use tacit_proto::services::fleet::fleet_server::{Fleet, FleetServer};
use tacit_proto::{Channel, ClientMessage, Manifest, RoundPlan, ServerMessage, SignedManifest, SignedPlan};
use tokio::sync::watch;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::codec::CompressionEncoding;
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
    /// The version that the channel has.
    newest: Digest,
    /// The one part of every file.
    part: Vec<u8>,
    /// Times that a whole vector is lost.
    losses: u32,
    /// Vectors that have come in whole.
    vectors: u32,
    /// Whether the round is over without the client.
    closed: bool,
    /// Number of the round.
    round: u64,
    /// Whether check-ins say nothing of restarts.
    hides: bool,
    /// Calls whose answers the client would take compressed.
    compressible: BTreeSet<&'static str>,
}

/// Number of the epoch that draws clients here.
const EPOCH: u64 = 5;

#[derive(Clone)]
struct Server(Arc<Mutex<Fake>>);

impl Server {
    fn new() -> Self {
        let world = World::new();
        let plan = world.plan(1);
        Self::of(world, plan)
    }

    /// Whose plan demands a roster of [`EPOCH`] that draws everybody, but for the first client where that is wanted.
    fn drawn(first: bool) -> Self {
        let mut world = World::new();
        let terms = world.draw(EPOCH, first);
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
            newest: PARENT,
            part: Vec::new(),
            losses: 0,
            vectors: 0,
            closed: false,
            round: 1,
            hides: false,
            compressible: BTreeSet::new(),
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

    /// Notes whether a client would take the answer to a call compressed.
    fn note<T>(&self, call: &'static str, request: &Request<T>) {
        if request.metadata().contains_key("grpc-accept-encoding") {
            self.with(|state| state.compressible.insert(call));
        }
    }

    /// Serves; the channel to it.
    async fn serve(&self) -> tonic::transport::Channel {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let service = FleetServer::new(self.clone()).send_compressed(CompressionEncoding::Zstd);
        let server = tonic::transport::Server::builder().add_service(service);
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        tonic::transport::Endpoint::from_shared(format!("http://{address}"))
            .expect("an address")
            .connect_lazy()
    }
}

impl Fake {
    /// Offers another plan than the one that it began with.
    fn plan_anew(&mut self, change: impl FnOnce(&mut RoundPlan)) {
        let mut plan = plan_of(&self.world, 1);
        change(&mut plan);
        self.newest = *plan.parents.last().expect("not empty");
        self.plan = self.world.key.sign(plan).expect("a good plan");
        self.coordinator = Coordinator::open(&self.world, &self.plan);
    }

    fn manifest(&self) -> SignedManifest {
        let file = |name: &str| PublishedFile { name: name.to_owned(), digest: [5; 32], size: 10 };
        let manifest = Manifest {
            task: task(),
            channel: Channel::Stable,
            serial: 1,
            version: 0,
            adapter: self.newest,
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
            self.book.reserve(self.round, self.plan.claimed_digest());
        }
        let next = self.coordinator.take(&messages);
        self.handed_in.push((step, messages));
        self.begun.extend(next);
        if step == Step::Unmask {
            let debited: &[u64] = if self.forgets { &[17, 27, 37, 47] } else { &[7, 17, 27, 37, 47] };
            self.book.end(self.round, Ends::Commit(debited));
        }
        Ok(())
    }
}

#[tonic::async_trait]
impl Fleet for Server {
    type DownloadStream = ReceiverStream<Result<DownloadPart, Status>>;

    async fn check_in(&self, request: Request<CheckIn>) -> Result<Response<CheckedIn>, Status> {
        self.note("check_in", &request);
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
            let restart = if state.hides { u32::MAX } else { request.restart };
            let ledger = state.book.prove_after(request.ledger_size, &[], restart);
            state.check_ins.push(request);
            let offers = vec![offer];
            CheckedIn { now: NOW, ledger, offers, retry_after: 20, revocations: state.revocations.clone() }
        })))
    }

    async fn receive(&self, request: Request<Receive>) -> Result<Response<Received>, Status> {
        self.note("receive", &request);
        self.trouble()?;
        let after = request.into_inner().after;
        let received = self.with(|state| match state.begun.get(after as usize - 1) {
            Some(message) => Received::Message(message.clone()),
            None if state.closed => {
                Received::End(RoundEnd { committed: true, reason: "without this client".to_owned() })
            }
            None if after == Step::Unmask => {
                Received::End(RoundEnd { committed: true, reason: String::new() })
            }
            None => Received::Nothing,
        });
        Ok(Response::new(received))
    }

    async fn send(&self, request: Request<Send>) -> Result<Response<Sent>, Status> {
        self.note("send", &request);
        self.trouble()?;
        let message = request.into_inner().message;
        let resume_at = self.with(|state| {
            let step = match &message {
                ClientMessage::Advert(_) => Step::Advertise,
                ClientMessage::Share(_) => Step::Share,
                ClientMessage::Confirm(_) => Step::Confirm,
                ClientMessage::Unmask(_) => Step::Unmask,
                ClientMessage::MaskedHeader(header) if state.packed.len() as u64 == header.length => {
                    let chunk = MaskedChunk { offset: 0, bytes: state.packed.clone().into() };
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
        let lost = self.with(|state| {
            state.vectors += 1;
            let lost = state.vectors <= state.losses;
            if lost {
                state.packed.clear();
            }
            lost
        });
        if lost {
            return Err(Status::data_loss("the vector is not the one that was announced"));
        }
        let resume_at = self.with(|state| state.packed.len() as u64);
        // Not complete: the receipt of the header says so when it is sent again.
        Ok(Response::new(Uploaded { resume_at, complete: false }))
    }

    async fn prove(&self, request: Request<Prove>) -> Result<Response<LedgerProof>, Status> {
        self.note("prove", &request);
        self.trouble()?;
        let Prove { since, rounds, restart } = request.into_inner();
        let rounds: Vec<u64> = rounds.iter().map(|name| name.round).collect();
        Ok(Response::new(self.with(|state| {
            let restart = if state.hides { u32::MAX } else { restart };
            state.book.prove_after(since, &rounds, restart)
        })))
    }

    async fn download(&self, request: Request<Download>) -> Result<Response<Self::DownloadStream>, Status> {
        self.note("download", &request);
        let bytes = self.with(|state| state.part.clone());
        if bytes.is_empty() {
            return Err(Status::not_found("no such file"));
        }
        let (sender, parts) = tokio::sync::mpsc::channel(1);
        sender.try_send(Ok(DownloadPart { bytes })).expect("there is a place");
        Ok(Response::new(ReceiverStream::new(parts)))
    }

    async fn report(&self, request: Request<Report>) -> Result<Response<Reported>, Status> {
        self.trouble()?;
        self.with(|state| state.reports.push(request.into_inner()));
        Ok(Response::new(Reported))
    }
}

fn plan_of(world: &World, round: u64) -> RoundPlan {
    world.plan(round).verify(&world.key.public_key()).expect("its own plan").clone()
}

fn settings() -> Settings {
    settings_with("epsilon = 50.0")
}

fn settings_with(epsilon: &str) -> Settings {
    let sample = include_str!("../../../docs/client.toml");
    let quick = sample.replace("shortest = 1", "shortest = 0").replace("longest = 900", "longest = 1");
    let lax = quick.replace("n_min = 10", "n_min = 3").replace("corrupt_bp = 500", "corrupt_bp = 0");
    let lax = lax.replace("epsilon = 8.0", epsilon).replace("epsilon = 2.0", "epsilon = 50.0");
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
        let machine = Self { path: tempfile::tempdir().expect("a folder") };
        if trained {
            machine.train();
        }
        machine
    }

    /// Has an update ready.
    fn train(&self) {
        let delta = Zeroizing::new(delta(0));
        let update = Update {
            task: task(),
            parent: PARENT,
            recipe: plan_of(&World::new(), 1).recipe(),
            trained_at: NOW,
            tokens: 1,
            losses: [2.0, 1.0],
            delta,
        };
        update.store(&self.folder()).expect("written");
    }

    fn folder(&self) -> Folder {
        Folder::open(self.path.path()).expect("free")
    }

    /// Runs until something is so, and stops.
    async fn run(&self, server: &Server, until: impl Fn(&Path) -> bool) -> Result<(), DaemonError> {
        self.run_with(server, settings(), until).await
    }

    async fn run_with(
        &self,
        server: &Server,
        settings: Settings,
        until: impl Fn(&Path) -> bool,
    ) -> Result<(), DaemonError> {
        let channel = server.serve().await;
        let credentials = server.with(|state| credentials(&state.world));
        let (tell, stop) = watch::channel(false);
        let base = Base { digest: BASE_MODEL, config: DecoderConfig::new(300, 16, 1, 2, 1, 32) };
        let daemon = Daemon::new(self.folder(), settings, &credentials, base, channel, stop)?;
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
async fn a_roster_that_is_not_the_roots_or_not_of_now_is_refused_before_training() {
    let mut world = World::new();
    let good = world.draw(EPOCH, true);
    let sign = |change: fn(&mut EpochTerms)| {
        let mut epoch = good.roster.epoch;
        change(&mut epoch);
        let clients = world.members.iter().map(|member| member.certificate.client).collect();
        RosterTerms::new(world.root.sign_roster(&Roster::new(clients), epoch), 0, 0).expect("feasible")
    };
    let mut forged = good.clone();
    forged.roster.signature = IdentityRoot::from_bytes(&[9; 32]).sign(&good.roster.payload());
    let over = sign(|epoch| epoch.not_after = 1_000);
    let early = sign(|epoch| epoch.period_seconds = NonZeroU64::new(1_000).expect("not zero"));
    for (terms, expected) in [
        (forged, "signature on the roster of epoch 5 does not verify"),
        (over, "holds from 0 to 1000"),
        (early, "the coordinator may not choose the period"),
    ] {
        let plan = world.plan_under(1, Some(terms));
        let (server, machine) = (Server::drawn(true), Machine::new(true));
        server.with(|state| state.plan = plan);
        let heard = |_: &Path| server.with(|state| state.check_ins.len() >= 3);
        machine.run(&server, heard).await.expect("it runs");
        let refusal = machine.shown().tasks[task().as_str()].refusal.clone().expect("it stays out");
        assert!(refusal.contains(expected), "{refusal}");
        server.with(|state| {
            assert_eq!(state.handed_in, []);
            assert!(state.check_ins[1..].iter().all(|check_in| check_in.ready.is_empty()));
        });
    }
}

#[tokio::test]
async fn nobody_is_led_back_to_an_earlier_epoch() {
    let (server, machine) = (Server::drawn(true), Machine::new(true));
    machine.run(&server, settled).await.expect("it runs");
    let refusal = || machine.shown().tasks.get(task().as_str()).and_then(|task| task.refusal.clone());
    let offer = |epoch| {
        server.with(|state| {
            let terms = state.world.draw(epoch, true);
            state.plan = state.world.plan_under(epoch, Some(terms));
            state.check_ins.clear();
        });
    };
    let heard = |_: &Path| server.with(|state| state.check_ins.len() >= 2);
    // What was seen stays seen by the next process.
    offer(EPOCH - 1);
    machine.run(&server, heard).await.expect("it runs");
    let refused = refusal().expect("it stays out");
    assert!(refused.contains("has seen epoch 5"), "{refused}");
    // The next epoch is welcome.
    offer(EPOCH + 1);
    machine.run(&server, heard).await.expect("it runs");
    assert_eq!(refusal(), None);
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
        assert_eq!(state.compressible, BTreeSet::from(["download"]), "nothing else is anybody's to guess at");
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
async fn an_update_of_an_older_version_takes_part_while_the_plan_lists_that() {
    let (server, machine) = (Server::new(), Machine::new(true));
    server.with(|state| state.plan_anew(|plan| plan.parents.push([2; 32])));
    machine.run(&server, settled).await.expect("it runs");
    server.with(|state| {
        let ClientMessage::Advert(advert) = &state.handed_in[0].1[0] else { panic!("no advert first") };
        assert_eq!((advert.parent, state.newest), (PARENT, [2; 32]));
        assert!(state.check_ins.iter().rev().take(1).all(|last| last.ready.is_empty()), "it is used up");
    });
    assert!(Update::load(&machine.folder(), &task()).expect("readable").is_none());
}

#[tokio::test]
async fn an_update_of_an_unlisted_version_or_another_recipe_takes_part_in_nothing() {
    let changes: [fn(&mut RoundPlan); 2] =
        [|plan| plan.parents = vec![[2; 32], [3; 32]], |plan| plan.training.steps += 1];
    for change in changes {
        let (server, machine) = (Server::new(), Machine::new(true));
        // It is invited all the same.
        server.with(|state| {
            let mut plan = plan_of(&state.world, 1);
            change(&mut plan);
            state.plan = state.world.key.sign(plan).expect("a good plan");
        });
        let idle =
            |_: &Path| server.with(|state| state.check_ins.last().is_some_and(|last| last.ready.is_empty()));
        machine.run(&server, idle).await.expect("it stops when told");
        server.with(|state| {
            assert_eq!(state.check_ins[0].ready[0].parent, PARENT);
            assert!(state.handed_in.is_empty(), "it says nothing of it again");
        });
        assert!(Update::load(&machine.folder(), &task()).expect("readable").is_none());
    }
}

#[tokio::test]
async fn a_vector_that_the_coordinator_lost_is_sent_again_a_few_times() {
    let (server, machine) = (Server::new(), Machine::new(true));
    server.with(|state| state.losses = 2);
    machine.run(&server, settled).await.expect("it runs");
    server.with(|state| {
        assert_eq!(
            (state.vectors, state.handed_in.len()),
            (3, 5),
            "two that were lost, and one that was not"
        );
        assert!(state.reports.is_empty());
    });

    // A disk that keeps nothing: the client gives up, and its update is never sent elsewhere.
    let (server, machine) = (Server::new(), Machine::new(true));
    server.with(|state| (state.losses, state.closed) = (u32::MAX, true));
    let used_up = |path: &Path| {
        let uploaded = Accounts::peek(path).ok().flatten().is_some_and(|books| !books.awaiting.is_empty());
        uploaded && !path.join("updates/rust-completion.update").exists()
    };
    machine.run(&server, used_up).await.expect("it stops when told");
    server.with(|state| {
        assert_eq!((state.vectors, state.handed_in.len()), (4, 2), "an advert and shares, and no vector");
        state.check_ins.clear();
    });
    let asked = |_: &Path| server.with(|state| !state.check_ins.is_empty());
    machine.run(&server, asked).await.expect("it stops when told");
    server.with(|state| assert!(state.check_ins[0].ready.is_empty()));
    let debits = Accounts::peek(machine.path.path()).expect("good").expect("stored").budget.debits().len();
    assert_eq!(debits, 1, "what may have been seen is spent");
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
    server.with(|state| {
        assert!(state.reports[0].problem.contains("rolled back"), "{:?}", state.reports);
        (state.check_ins, state.handed_in) = (Vec::new(), Vec::new());
    });
    let out = |path: &Path| {
        Shown::read(path).ok().flatten().is_some_and(|shown| shown.state == State::Contradiction)
    };
    machine.run(&server, out).await.expect("it stops when told");
    // It asks now and then whether there is a restart, and for nothing else.
    let asked = |_: &Path| server.with(|state| state.check_ins.len() > 2);
    machine.run(&server, asked).await.expect("it stops when told");
    server.with(|state| {
        assert_eq!((state.reports.len(), state.handed_in.len()), (1, 0));
        let asks = |check_in: &CheckIn| check_in.ready.is_empty() && check_in.ledger_size == 2;
        assert!(state.check_ins.iter().all(asks), "{:?}", state.check_ins);
    });
    let found = Contradiction::peek(machine.path.path()).expect("readable").expect("kept");
    assert!(found.reported && !found.evidence.is_empty());
}

/// A machine whose coordinator was put back to before the round in which it paid, and that has said so.
async fn rolled_back() -> (Server, Machine) {
    let (server, machine) = (Server::new(), Machine::new(true));
    machine.run(&server, settled).await.expect("it runs");
    server.with(|state| {
        state.book = Book::new(&state.world.key);
        (state.handed_in, state.begun, state.packed) = (Vec::new(), Vec::new(), Vec::new());
    });
    let reported = |_: &Path| server.with(|state| !state.reports.is_empty());
    machine.run(&server, reported).await.expect("it stops when told");
    (server, machine)
}

#[tokio::test]
async fn after_a_restart_it_goes_on_and_what_was_lost_stays_spent() {
    let (server, machine) = rolled_back().await;
    let first = 2 * ROUNDS_APART;
    server.with(|state| {
        let restart = state.book.restart_from(2);
        state.book.restart(restart, &state.world.root);
        // Offered under a number that was used before: what would be paid for it was paid already.
        state.plan = state.world.plan(1);
    });
    let refuses = |path: &Path| {
        let shown = Shown::read(path).ok().flatten().unwrap_or_default();
        let refusal = shown.tasks.get(task().as_str()).and_then(|status| status.refusal.clone());
        refusal.is_some_and(|refusal| refusal.contains("before the ledger was restarted"))
    };
    machine.run(&server, refuses).await.expect("it runs");
    let shown = machine.shown();
    assert_eq!(
        (shown.ledger, shown.restart, shown.lost.as_slice()),
        (1, 2, &["rust-completion/1".to_owned()][..])
    );
    assert_eq!(Contradiction::peek(machine.path.path()).expect("readable"), None);
    assert_eq!(machine.folder().list("evidence").expect("readable").len(), 1, "what it saw is kept");
    server.with(|state| assert_eq!((state.handed_in.len(), state.reports.len()), (0, 1)));

    // A round with a new number: it takes part, and both are in its book.
    machine.train();
    server.with(|state| {
        (state.plan, state.round) = (state.world.plan(first), first);
        state.coordinator = Coordinator::open(&state.world, &state.plan);
    });
    let paid = |path: &Path| {
        let accounts = Accounts::peek(path).ok().flatten();
        accounts.is_some_and(|books| books.awaiting.is_empty() && books.budget.debits().len() == 2)
    };
    machine.run(&server, paid).await.expect("it runs");
    let accounts = Accounts::peek(machine.path.path()).expect("good").expect("stored");
    let rounds: Vec<u64> = accounts.budget.debits().iter().map(|debit| debit.participation.round).collect();
    assert_eq!(rounds, [1, first]);
    assert_eq!(accounts.lost.len(), 1, "{:?}", accounts.lost);
    assert!(machine.shown().epsilon_spent > shown.epsilon_spent, "both count");
}

#[tokio::test]
async fn a_limit_that_lost_rounds_have_used_up_stays_used_up() {
    let (server, machine) = rolled_back().await;
    server.with(|state| {
        let restart = state.book.restart_from(1);
        state.book.restart(restart, &state.world.root);
        state.plan = state.world.plan(ROUNDS_APART);
        state.coordinator = Coordinator::open(&state.world, &state.plan);
        state.round = ROUNDS_APART;
    });
    machine.train();
    let spent = machine.shown().epsilon_spent;
    // Enough for one round, and not for two.
    let limit = format!("epsilon = {}", spent * 1.1);
    let refuses = |path: &Path| {
        let shown = Shown::read(path).ok().flatten().unwrap_or_default();
        let refusal = shown.tasks.get(task().as_str()).and_then(|status| status.refusal.clone());
        refusal.is_some_and(|refusal| refusal.contains("for ever") || refusal.contains("limit"))
    };
    machine.run_with(&server, settings_with(&limit), refuses).await.expect("it runs");
    server.with(|state| assert!(state.handed_in.is_empty(), "nothing leaves the machine"));
}

#[tokio::test]
async fn a_restart_that_was_kept_back_is_no_way_back() {
    let (server, machine) = (Server::new(), Machine::new(true));
    let restarted = server.with(|state| {
        let restart = state.book.restart_from(1);
        state.book.restart(restart, &state.world.root);
        (state.hides, state.round) = (true, ROUNDS_APART);
        state.plan = state.world.plan(ROUNDS_APART);
        state.coordinator = Coordinator::open(&state.world, &state.plan);
        state.book.clone()
    });
    machine.run(&server, settled).await.expect("it runs");
    assert_eq!((machine.shown().ledger, machine.shown().restart), (3, 0));
    // The round that it has paid for is to be forgotten, by a restart that was made before it.
    server.with(|state| (state.hides, state.book) = (false, restarted));
    let reported = |_: &Path| server.with(|state| !state.reports.is_empty());
    machine.run(&server, reported).await.expect("it stops when told");
    let problem = server.with(|state| state.reports[0].problem.clone());
    assert!(problem.contains("restart 1 of the ledger was kept from this client"), "{problem}");
    assert_eq!((machine.shown().ledger, machine.shown().restart), (3, 0));
}

#[tokio::test]
async fn paused_it_asks_for_no_restart() {
    let (server, machine) = rolled_back().await;
    server.with(|state| state.check_ins.clear());
    std::fs::write(machine.path.path().join(PAUSED), []).expect("writable");
    let out = |path: &Path| {
        Shown::read(path).ok().flatten().is_some_and(|shown| shown.state == State::Contradiction)
    };
    machine.run(&server, out).await.expect("it stops when told");
    server.with(|state| assert!(state.check_ins.is_empty(), "{:?}", state.check_ins));
}

#[tokio::test]
async fn a_plan_of_an_earlier_form_keeps_nobody_from_starting() {
    let (server, machine) = (Server::new(), Machine::new(false));
    let file = "plans/rust-completion.plan";
    machine.folder().write(file, super::contact::PLAN, b"as another program wrote it").expect("written");
    let asked = |_: &Path| server.with(|state| !state.check_ins.is_empty());
    machine.run(&server, asked).await.expect("it runs");
}

#[tokio::test]
async fn only_the_roots_restart_for_this_coordinator_ends_a_contradiction() {
    let other = IdentityRoot::generate(&mut ChaCha20Rng::seed_from_u64(9));
    type Forge = fn(Restart) -> Restart;
    let forgeries: [(Forge, Option<&IdentityRoot>, &str); 2] = [
        (|restart| restart, Some(&other), "not signed by the identity root"),
        (|restart| Restart { coordinator: [7; 32], ..restart }, None, "another coordinator's"),
    ];
    for (forge, signer, why) in forgeries {
        let (server, machine) = rolled_back().await;
        server.with(|state| {
            let restart = forge(state.book.restart_from(1));
            state.book.restart(restart, signer.unwrap_or(&state.world.root));
            state.check_ins.clear();
        });
        let asked = |_: &Path| server.with(|state| state.check_ins.len() > 2);
        machine.run(&server, asked).await.expect("it stops when told");
        let shown = machine.shown();
        assert_eq!((shown.ledger, shown.restart, shown.lost.len()), (2, 0, 0), "{why}");
        assert!(Contradiction::peek(machine.path.path()).expect("readable").is_some(), "{why}");
        // And to whom it is shown from the first it excuses nothing either.
        machine.folder().shred("contradiction").expect("shredded");
        let reported = |_: &Path| server.with(|state| state.reports.len() == 2);
        machine.run(&server, reported).await.expect("it stops when told");
        let problem = server.with(|state| state.reports[1].problem.clone());
        assert!(problem.contains("rolled back") && problem.contains(why), "{problem}");
    }
}

#[tokio::test]
async fn a_restart_does_not_end_what_only_the_owner_may() {
    let (server, machine) = (Server::new(), Machine::new(true));
    server.with(|state| state.forgets = true);
    let reported = |_: &Path| server.with(|state| !state.reports.is_empty());
    machine.run(&server, reported).await.expect("it stops when told");
    server.with(|state| {
        state.book = Book::new(&state.world.key);
        let restart = state.book.restart_from(1);
        state.book.restart(restart, &state.world.root);
        state.check_ins.clear();
    });
    let out = |path: &Path| {
        Shown::read(path).ok().flatten().is_some_and(|shown| shown.state == State::Contradiction)
    };
    machine.run(&server, out).await.expect("it stops when told");
    server.with(|state| assert!(state.check_ins.is_empty(), "it asks for none"));
    let found = Contradiction::peek(machine.path.path()).expect("readable").expect("kept");
    assert!(found.problem.contains("not among those debited"), "{found:?}");
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
async fn what_a_compressed_part_becomes_has_the_limit_of_a_part() {
    let server = Server::new();
    let (_tell, stop) = watch::channel(false);
    let mut line = Line::new(server.serve().await, stop);
    let request = Download { digest: [5; 32], offset: 0 };
    for (size, good) in [(MAX_PART_BYTES, true), (MAX_PART_BYTES + 100, false), (MAX_PART_BYTES << 6, false)]
    {
        server.with(|state| state.part = vec![0; size]);
        let mut parts = line.download(request).await.expect("there is such a file");
        match line.next(&mut parts).await {
            Ok(Some(part)) => assert!(good && part.bytes == vec![0; size], "{size}"),
            // Where it is far too long it is the decompression that stops: all of it takes a few kilobytes on the line.
            Err(CallError::Refused(status)) if !good => {
                let reason = if size > 2 * MAX_PART_BYTES { "while decompressing" } else { "at most" };
                assert!(status.message().contains(reason), "{status}");
            }
            other => panic!("{size}: {other:?}"),
        }
    }
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
