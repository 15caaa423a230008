//! What clients are served: check-ins, rounds, uploads, proofs and files. Must never answer anybody but the client of the
//! connection's certificate.

use super::Clock;
use super::answers::Places;
use super::downloads::{Downloads, Parts};
use super::reports::Reports;
use super::status::refused;
use super::uploads::Uploads;
use crate::engine::board::step_of;
use crate::engine::{Board, Handle, TaskView};
use crate::enrolment::{Excluded, Presence};
use crate::publication::{Publisher, canary_member};
use crate::settings::{Pace, ServerSettings};
use crate::tls::Gate;
use std::sync::Arc;
use std::time::Duration;
use tacit_aggregation::Step;
use tacit_aggregation::identity::ClientId;
use tacit_proto::fleet::{
    CheckIn, CheckedIn, Download, DownloadPart, Offer, ReadyUpdate, Receive, Received, Report, Reported,
    Send, Sent, UploadPart, Uploaded,
};
use tacit_proto::ledger::{LedgerProof, Prove};
use tacit_proto::services::fleet::fleet_server::Fleet;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};
use tonic::{Request, Response, Status, Streaming};

/// How long a client may wait for the next step in one call.
const LONGEST_WAIT: Duration = Duration::from_secs(20);

/// The service of rounds and adapters.
#[derive(Clone)]
pub struct FleetService {
    engine: Handle,
    places: Places,
    uploads: Uploads,
    downloads: Downloads,
    pace: Pace,
    gate: Gate,
    excluded: watch::Receiver<Arc<Excluded>>,
    presence: Arc<Presence>,
    reports: Arc<Reports>,
    clock: Clock,
}

impl FleetService {
    /// Over an engine.
    #[must_use]
    pub fn new(
        engine: Handle,
        publisher: Publisher,
        gate: Gate,
        excluded: watch::Receiver<Arc<Excluded>>,
        presence: Arc<Presence>,
        settings: &ServerSettings,
        clock: Clock,
    ) -> Self {
        let uploads = Uploads::new(engine.clone(), settings.uploads);
        let (downloads, pace) = (Downloads::new(publisher), settings.pace);
        let (places, reports) = (Places::default(), Arc::default());
        Self { engine, places, uploads, downloads, pace, gate, excluded, presence, reports, clock }
    }

    /// Lets a call in before its body is read, if a client calls.
    ///
    /// # Errors
    /// As [`Gate::authenticated`].
    pub fn admit(&self, request: Request<()>) -> Result<Request<()>, Status> {
        self.caller(&request).map(|_| request)
    }

    fn caller<T>(&self, request: &Request<T>) -> Result<ClientId, Status> {
        let now = (self.clock)();
        let client = self.gate.authenticated(request, now / 1000)?;
        self.presence.note(client, now);
        Ok(client)
    }

    fn board(&self) -> Arc<Board> {
        Arc::clone(&self.engine.board().borrow())
    }

    /// The ledger for somebody who saw one of this size, and adopted this restart.
    async fn ledger(&self, board: &Board, since: u64, restart: u32) -> Result<LedgerProof, Status> {
        match board.ledger {
            Some((head, size)) if size == since && board.restart <= restart => {
                Ok(LedgerProof { head, consistency: Vec::new(), rounds: Vec::new(), restart: None })
            }
            _ => self.prove_since(Prove { since, rounds: Vec::new(), restart }).await,
        }
    }

    async fn prove_since(&self, prove: Prove) -> Result<LedgerProof, Status> {
        self.engine.call(move |engine, now| engine.prove(&prove, now)).await.map_err(|error| refused(&error))
    }
}

/// What a task offers a client; nothing when it cannot train for it.
fn offer(view: &TaskView, client: ClientId, check_in: &CheckIn) -> Option<Offer> {
    let plan = view.plan.as_ref()?;
    if !check_in.base_models.contains(&view.settings.plan.base_model) {
        return None;
    }
    let excuse = view.excuse.map(str::to_owned).or_else(|| view.settings.refuses_version(&check_in.version));
    let (membership, outside) = match view.place(client) {
        None => (None, None),
        Some(Ok(membership)) => (Some(membership), None),
        Some(Err(reason)) => (None, Some(reason)),
    };
    let excuse = excuse.or(outside);
    let join = excuse.is_none() && view.joining.as_ref().is_some_and(|invited| invited.contains(&client));
    let channels = view.channels.as_ref()?;
    let canary = canary_member(view.settings.name(), client, view.settings.publication.canary);
    let manifest = if canary { &channels.canary } else { &channels.stable };
    let parent = Some(&channels.training).filter(|training| training.adapter != manifest.adapter);
    Some(Offer {
        plan: plan.as_ref().clone(),
        manifest: manifest.signed.clone(),
        parent: parent.map(|training| training.signed.clone()),
        join,
        excuse,
        membership,
    })
}

#[tonic::async_trait]
impl Fleet for FleetService {
    async fn check_in(&self, request: Request<CheckIn>) -> Result<Response<CheckedIn>, Status> {
        let client = self.caller(&request)?;
        let check_in = request.into_inner();
        let board = self.board();
        let views = board.tasks.values();
        let offers: Vec<Offer> = views.filter_map(|view| offer(view, client, &check_in)).collect();
        let waits = |update: &ReadyUpdate| {
            let view = board.tasks.get(&update.task);
            let allowed = view.is_some_and(|view| view.settings.refuses_version(&check_in.version).is_none());
            allowed && view.is_some_and(|view| view.excuse.is_none() && view.status.step == "waiting")
        };
        let ready: Vec<ReadyUpdate> = check_in.ready.iter().filter(|update| waits(update)).cloned().collect();
        let retry_after = if offers.iter().any(|offer| offer.join) {
            0
        } else if check_in.ready.is_empty() {
            self.pace.idle
        } else {
            self.pace.ready
        };
        if !ready.is_empty() {
            self.engine.ready(client, ready).map_err(|error| refused(&error))?;
        }
        let ledger = self.ledger(&board, check_in.ledger_size, check_in.restart).await?;
        let excluded = Arc::clone(&self.excluded.borrow());
        let revocations = excluded.revoked().filter(|list| list.number > check_in.revocations).cloned();
        Ok(Response::new(CheckedIn { now: (self.clock)(), ledger, offers, retry_after, revocations }))
    }

    async fn receive(&self, request: Request<Receive>) -> Result<Response<Received>, Status> {
        let client = self.caller(&request)?;
        let Receive { round, after } = request.into_inner();
        let until = Instant::now() + LONGEST_WAIT;
        let mut board = self.engine.board();
        loop {
            let waits = {
                let board = board.borrow_and_update();
                let status = board.tasks.get(&round.task).map(|view| &view.status);
                let step = status.filter(|status| status.round == round.round).map(|status| status.step);
                step.and_then(step_of).is_some_and(|step: Step| step <= after)
            };
            if !waits {
                let place = self.places.next().await?;
                let received = self.engine.receive(client, round.clone(), after).await;
                match received.map_err(|error| refused(&error))? {
                    Received::Nothing => {}
                    received => {
                        let mut answer = Response::new(received);
                        answer.extensions_mut().insert(place);
                        return Ok(answer);
                    }
                }
            }
            match timeout_at(until, board.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Err(refused(&crate::engine::Refused::Stopping)),
                Err(_) => return Ok(Response::new(Received::Nothing)),
            }
        }
    }

    async fn send(&self, request: Request<Send>) -> Result<Response<Sent>, Status> {
        let client = self.caller(&request)?;
        let Send { round, message } = request.into_inner();
        let sent = self.engine.message(client, round, message).await;
        sent.map(Response::new).map_err(|error| refused(&error))
    }

    async fn upload(&self, request: Request<Streaming<UploadPart>>) -> Result<Response<Uploaded>, Status> {
        let client = self.caller(&request)?;
        self.uploads.take(client, request.into_inner()).await.map(Response::new)
    }

    async fn prove(&self, request: Request<Prove>) -> Result<Response<LedgerProof>, Status> {
        self.caller(&request)?;
        self.prove_since(request.into_inner()).await.map(Response::new)
    }

    type DownloadStream = Parts;

    async fn download(&self, request: Request<Download>) -> Result<Response<Self::DownloadStream>, Status> {
        let client = self.caller(&request)?;
        self.downloads.open(client, request.into_inner()).await.map(Response::new)
    }

    async fn report(&self, request: Request<Report>) -> Result<Response<Reported>, Status> {
        let client = self.caller(&request)?;
        self.reports.admit(client, (self.clock)())?;
        let Report { problem, evidence } = request.into_inner();
        tracing::error!(
            client = client.0,
            problem,
            evidence = evidence.len(),
            "a client reports a contradiction"
        );
        Ok(Response::new(Reported))
    }
}

/// A part of a download that is sent.
pub(super) type PartResult = Result<DownloadPart, Status>;
