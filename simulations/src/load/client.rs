//! A client with a made-up update over the real wire: certificate and TLS, check-in, a round with production's participant,
//! budget and witness of the ledger. Must never answer a message that its participant refuses.

mod hook;
mod outcome;

pub use hook::{Go, Hook, Moment};
pub use outcome::{Downloaded, Ended, Fault, Played};

use std::sync::Arc;
use std::time::{Duration, Instant};

use sha2::{Digest as _, Sha256};
use tacit_aggregation::Step;
use tacit_aggregation::identity::ClientId;
use tacit_aggregation::messages::MaskedHeader;
use tacit_aggregation::params::{Floors, TaskName, ThreatModel};
use tacit_client::credentials::Credentials;
use tacit_client::participant::Joined;
use tacit_client::{Budget, Limits, Participant, ParticipantError};
use tacit_coordinator::serve::system_clock;
use tacit_privacy::Adjacency;
use tacit_privacy::ledger::head::Witness;
use tacit_proto::connection::Server;
use tacit_proto::fleet::{
    CheckIn, CheckedIn, Download, Offer, ReadyUpdate, Receive, Received, RoundName, Send as SendRequest,
    UploadPart,
};
use tacit_proto::{AdapterVersion, ClientMessage, RoundPlan, ServerMessage, SignedPlan};
use tokio::sync::Semaphore;
use tonic::Status;

use super::expected::{self, Closed};
use super::line::{Line, wait};
use super::measure::{Call, Gauges};

/// The digest of the base model that synthetic clients say they have.
pub const BASE_MODEL: [u8; 32] = [0xba; 32];
/// How long a client goes on calling a coordinator that does not answer.
const PATIENCE: Duration = Duration::from_secs(300);
/// Wait before a message that is not heard is asked for again.
const PAUSE: Duration = Duration::from_millis(100);
/// The file of a version that holds its coordinates.
const TRAINED: &str = "trained.safetensors";

/// What the clients of a process have in common.
#[derive(Clone)]
pub struct Common {
    /// What they see is noted here.
    pub gauges: Arc<Gauges>,
    /// How many of them may compute at once.
    pub processors: Arc<Semaphore>,
    /// Asked at every moment.
    pub hook: Option<Hook>,
    /// How long each goes on calling a coordinator that does not answer.
    pub patience: Duration,
}

impl Default for Common {
    fn default() -> Self {
        let processors = std::thread::available_parallelism().map_or(2, usize::from);
        Self {
            gauges: Arc::default(),
            processors: Arc::new(Semaphore::new(processors)),
            hook: None,
            patience: PATIENCE,
        }
    }
}

/// Limits under which a client joins whatever is planned, as long as it adds noise itself.
#[must_use]
pub fn generous(delta: f64) -> Limits {
    Limits {
        epsilon: 1e6,
        delta,
        floors: Floors { n_min: 2, corrupt_bp: 0, threat: ThreatModel::HonestButCurious, roster: false },
        adjacency: Adjacency::ZeroOut,
        allow_central: false,
        period: None,
        per_task: None,
    }
}

/// A client.
pub struct SyntheticClient {
    line: Line,
    common: Common,
    credentials: Credentials,
    task: TaskName,
    seed: u64,
    budget: Budget,
    witness: Witness,
    /// The highest round that it was in.
    last: Option<u64>,
}

impl SyntheticClient {
    /// Connects, with what enrolment gave. Updates and secrets follow from the seed, as [`expected::synthetic`] says.
    ///
    /// # Errors
    /// [`Fault::Connection`], [`Fault::Budget`].
    pub async fn new(
        server: &Server,
        credentials: Credentials,
        task: TaskName,
        seed: u64,
        limits: Limits,
        common: Common,
    ) -> Result<Self, Fault> {
        let line = Line::open(server, &credentials, Arc::clone(&common.gauges), common.patience).await?;
        let budget = Budget::new(credentials.client(), limits)?;
        let witness = Witness::new(credentials.issued.coordinator.0);
        Ok(Self { line, common, credentials, task, seed, budget, witness, last: None })
    }

    /// This client.
    #[must_use]
    pub fn client(&self) -> ClientId {
        self.credentials.client()
    }

    /// What makes it a client.
    #[must_use]
    pub fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    /// What it has spent.
    #[must_use]
    pub fn budget(&self) -> &Budget {
        &self.budget
    }

    /// The ledger as it was seen last.
    #[must_use]
    pub fn witness(&self) -> &Witness {
        &self.witness
    }

    /// Checks in with the updates that are ready, and checks what the coordinator says of its ledger.
    ///
    /// # Errors
    /// [`Fault`].
    pub async fn check_in(&mut self, ready: Vec<ReadyUpdate>) -> Result<CheckedIn, Fault> {
        let request = CheckIn {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            base_models: vec![BASE_MODEL],
            ready,
            ledger_size: self.witness.size(),
            revocations: 0,
            restart: 0,
        };
        let answer = self
            .line
            .call(Some(Call::CheckIn), |mut fleet| {
                let request = request.clone();
                async move { fleet.check_in(request).await }
            })
            .await?;
        self.witness.accept(answer.ledger.head, &answer.ledger.consistency)?;
        Ok(answer)
    }

    /// What the coordinator offers of this client's task, and when to come back for more, in milliseconds.
    async fn offer(&mut self, ready: Vec<ReadyUpdate>) -> Result<(Option<Offer>, Duration), Fault> {
        let answer = self.check_in(ready).await?;
        let mine = |offer: &Offer| offer.manifest.claimed().task == self.task;
        let retry = Duration::from_millis(answer.retry_after);
        Ok((answer.offers.into_iter().find(mine), retry))
    }

    /// Waits for a round that it was not in yet, takes part in it, and says how that went.
    ///
    /// # Errors
    /// [`Fault`]: of a coordinator that is gone for good, or contradicts itself.
    pub async fn run_round(&mut self) -> Result<Played, Fault> {
        let (signed, parent) = self.invited().await?;
        let coordinator = self.credentials.issued.coordinator;
        let plan = signed.verify(&coordinator)?.clone();
        let round = RoundName { task: plan.task.clone(), round: plan.round };
        self.last = Some(plan.round);
        self.common.gauges.begins(&round, Step::Advertise);
        let mut played = Played {
            round,
            plan,
            list: None,
            closed: None,
            survivors: None,
            acknowledged: None,
            late: Vec::new(),
            ended: Ended::Left(Moment::Before(Step::Advertise)),
        };
        let joined = match self.join(signed, &played.plan, parent).await? {
            Ok(joined) => joined,
            Err(reason) => return Ok(Played { ended: Ended::Refused(reason), ..played }),
        };
        played.ended = self.play(joined, &mut played).await?;
        self.common.gauges.is_over(&played.round);
        Ok(played)
    }

    /// Checks in until it is told to join; the plan, and the version that its update was trained on.
    async fn invited(&mut self) -> Result<(SignedPlan, [u8; 32]), Fault> {
        let mut parent = None;
        loop {
            let ready = parent.map(|parent| ReadyUpdate { task: self.task.clone(), parent });
            let had_update = ready.is_some();
            let (offer, retry) = self.offer(ready.into_iter().collect()).await?;
            let fresh = offer.map(|offer| {
                let trained_on = offer.parent.as_ref().unwrap_or(&offer.manifest).claimed_adapter();
                (offer, trained_on)
            });
            if let Some((offer, trained_on)) = fresh {
                parent = Some(trained_on);
                let round = offer.plan.verify(&self.credentials.issued.coordinator)?.round;
                if offer.join && self.last.is_none_or(|last| round > last) {
                    return Ok((offer.plan, trained_on));
                }
            }
            if had_update || parent.is_none() {
                // As a fleet does: not all at one moment.
                tokio::time::sleep(retry.min(Duration::from_secs(1)) + wait(0, None)).await;
            }
        }
    }

    async fn join(
        &self,
        signed: SignedPlan,
        plan: &RoundPlan,
        parent: [u8; 32],
    ) -> Result<Result<Joined, ParticipantError>, Fault> {
        let (seed, client, plan) = (self.seed, self.client(), plan.clone());
        let (member, budget) = (self.credentials.member(plan.base_model), self.budget.clone());
        self.compute(move || {
            let delta = expected::update(
                seed,
                client,
                plan.round,
                plan.privacy.dimension as usize,
                plan.privacy.clip,
            );
            let secrets = expected::secrets(seed, client, &plan, &parent, &delta);
            Joined::resume(&signed, &member, parent, delta, &budget, system_clock(), secrets)
        })
        .await
    }

    /// The round, from the advert on.
    async fn play(&mut self, joined: Joined, played: &mut Played) -> Result<Ended, Fault> {
        let mut answer = joined.advert();
        let mut participant = Participant::Joined(joined);
        let mut step = Step::Advertise;
        loop {
            if self.ask(Moment::Before(step)).await == Go::Leave {
                return Ok(Ended::Left(Moment::Before(step)));
            }
            match self.hand_in(&played.round, answer, &participant).await {
                Ok(()) => played.acknowledged = Some(step),
                // Too late: the coordinator says next how the round went on.
                Err(Fault::Refused(status)) => played.late.push(status.message().to_owned()),
                Err(fault) => return Err(fault),
            }
            if self.ask(Moment::After(step)).await == Go::Leave {
                return Ok(Ended::Left(Moment::After(step)));
            }
            let message = match self.hear(&played.round, step).await? {
                Ok(message) => message,
                Err(ended) => return Ok(ended),
            };
            step = step_of(&message);
            self.common.gauges.begins(&played.round, step);
            self.note(&message, played);
            let mut budget = self.budget.clone();
            let answered = self
                .compute(move || {
                    let answered = participant.answer(&message, &mut budget, system_clock());
                    answered.map(|(next, answers)| {
                        // What follows a header are its chunks: they are made again when they are sent.
                        (next, answers.into_iter().next(), budget)
                    })
                })
                .await?;
            match answered {
                Ok((next, Some(first), budget)) => (participant, answer, self.budget) = (next, first, budget),
                Ok((_, None, _)) => return Err(Fault::Interrupted),
                Err(reason) => return Ok(Ended::Refused(reason)),
            }
            if let (Participant::Shared(shared), Some(list)) = (&participant, &played.list) {
                played.closed = Some(Closed::new(&played.plan, list, shared.rotation_seed())?);
            }
        }
    }

    /// Keeps what a test may want to know.
    fn note(&self, message: &ServerMessage, played: &mut Played) {
        match message {
            ServerMessage::Cohort { list, .. } => played.list = Some(Arc::clone(list)),
            ServerMessage::Maps(maps) => {
                let members = played.list.iter().flat_map(|list| list.entries.iter().enumerate());
                let survived = members.filter(|(index, _)| maps.survived.contains(*index as u32));
                played.survivors = Some(survived.map(|(_, entry)| entry.client).collect());
            }
            ServerMessage::Shares(_) | ServerMessage::Unmask(_) => {}
        }
    }

    /// The message that begins the next step, or how the round ended.
    async fn hear(&mut self, round: &RoundName, after: Step) -> Result<Result<ServerMessage, Ended>, Fault> {
        let receive = Receive { round: round.clone(), after };
        loop {
            match self
                .line
                .call(None, |mut fleet| {
                    let request = receive.clone();
                    async move { fleet.receive(request).await }
                })
                .await
            {
                Ok(Received::Message(message)) if step_of(&message) > after => return Ok(Ok(message)),
                Ok(Received::Message(_)) => tokio::time::sleep(PAUSE).await,
                Ok(Received::End(end)) if end.committed => return Ok(Err(Ended::Committed)),
                Ok(Received::End(end)) => return Ok(Err(Ended::Failed(end.reason))),
                Ok(Received::Nothing) => {}
                Err(Fault::Refused(status)) if !tacit_client::daemon::is_passing(&status) => {
                    return Ok(Err(Ended::Failed(status.message().to_owned())));
                }
                Err(fault) => return Err(fault),
            }
        }
    }

    /// Hands in the answer to a step, all of it.
    async fn hand_in(
        &mut self,
        round: &RoundName,
        message: ClientMessage,
        participant: &Participant,
    ) -> Result<(), Fault> {
        let request = SendRequest { round: round.clone(), message };
        let until = Instant::now() + self.common.patience;
        loop {
            let sent = self
                .line
                .call(Some(Call::Send), |mut fleet| {
                    let request = request.clone();
                    async move { fleet.send(request).await }
                })
                .await?;
            let (ClientMessage::MaskedHeader(header), Participant::Uploaded(vector)) =
                (&request.message, participant)
            else {
                return Ok(());
            };
            if sent.resume_at >= header.length
                || self.upload(round, header, vector.upload_from(sent.resume_at)).await?
            {
                return Ok(());
            }
            if Instant::now() >= until {
                return Err(Fault::Refused(Box::new(Status::deadline_exceeded("the upload does not end"))));
            }
            // Cut short: announced again, the header's receipt says where to go on.
        }
    }

    /// Uploads chunks; says whether the coordinator has all now.
    async fn upload(
        &mut self,
        round: &RoundName,
        header: &MaskedHeader,
        messages: Vec<ClientMessage>,
    ) -> Result<bool, Fault> {
        let parts: Vec<UploadPart> = messages
            .into_iter()
            .filter_map(|message| match message {
                ClientMessage::MaskedChunk(chunk) => Some(UploadPart { round: round.clone(), chunk }),
                _ => None,
            })
            .collect();
        let began = Instant::now();
        let uploaded = self.line.upload(parts).await?;
        if uploaded.is_some_and(|uploaded| uploaded.complete) {
            self.common.gauges.uploaded(header.length, began);
            return Ok(true);
        }
        Ok(false)
    }

    /// Downloads the version that is trained on next, and compares it with its manifest.
    ///
    /// # Errors
    /// [`Fault`].
    pub async fn download(&mut self) -> Result<Downloaded, Fault> {
        let (offer, _) = self.offer(Vec::new()).await?;
        let offer = offer.ok_or_else(|| Fault::NoOffer(self.task.clone()))?;
        let signed = offer.parent.unwrap_or(offer.manifest);
        let manifest = signed.verify(&self.credentials.issued.coordinator)?.clone();
        let damaged = |problem| Fault::Damaged { version: manifest.version, problem };
        let file = manifest.files.iter().find(|file| file.name == TRAINED);
        let file = file.ok_or(damaged("it has no file of trained matrices"))?;
        let mut bytes = Vec::new();
        while (bytes.len() as u64) < file.size {
            let download = Download { digest: file.digest, offset: bytes.len() as u64 };
            let mut parts = self
                .line
                .call(None, |mut fleet| {
                    let request = download;
                    async move { fleet.download(request).await }
                })
                .await?;
            // A stream that breaks is gone on with by another.
            while let Ok(Some(part)) = parts.message().await {
                bytes.extend(part.bytes);
            }
        }
        if <[u8; 32]>::from(Sha256::digest(&bytes)) != file.digest {
            return Err(damaged("the file has another digest"));
        }
        let (header, body) = bytes.split_first_chunk::<8>().ok_or(damaged("the file is too short"))?;
        let header = usize::try_from(u64::from_le_bytes(*header)).unwrap_or(usize::MAX);
        let (values, rest) = body.get(header..).ok_or(damaged("the file is too short"))?.as_chunks::<4>();
        let values = values.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
        let adapter = AdapterVersion::new(values, manifest.parent)?;
        if *adapter.digest() != manifest.adapter || !rest.is_empty() {
            return Err(damaged("its coordinates have another digest"));
        }
        Ok(Downloaded { manifest, adapter })
    }

    async fn ask(&self, moment: Moment) -> Go {
        match &self.common.hook {
            Some(hook) => hook(self.client(), moment).await,
            None => Go::On,
        }
    }

    /// Computes where that holds nobody up.
    async fn compute<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Fault> {
        let _permit = self.common.processors.acquire().await.map_err(|_| Fault::Interrupted)?;
        tokio::task::spawn_blocking(work).await.map_err(|_| Fault::Interrupted)
    }
}

/// The step that a message begins.
fn step_of(message: &ServerMessage) -> Step {
    match message {
        ServerMessage::Cohort { .. } => Step::Share,
        ServerMessage::Shares(_) => Step::Collect,
        ServerMessage::Maps(_) => Step::Confirm,
        ServerMessage::Unmask(_) => Step::Unmask,
    }
}
