//! How a machine reaches the coordinator: through the engine's queue in this process, or over TLS. Must never repeat anything of
//! its own accord.

use super::life::Life;
use super::machine::vector_file;
use std::path::PathBuf;
use std::time::Duration;
use tacit_aggregation::identity::{ClientId, Membership};
use tacit_aggregation::messages::{MaskedChunk, MaskedHeader};
use tacit_aggregation::{Digest, Step};
use tacit_coordinator::engine::Refused;
use tacit_coordinator::vectors::VectorError;
use tacit_proto::connection::{Server, TransportKey};
use tacit_proto::fleet::{
    CheckIn, CheckedIn, Offer, ReadyUpdate, Receive, Received, RoundName, Send, Sent, UploadPart,
};
use tacit_proto::ledger::{LedgerProof, Prove};
use tacit_proto::services::fleet::fleet_client::FleetClient;
use tacit_proto::{ClientMessage, SignedPlan};
use tokio::runtime::Runtime;
use tonic::codegen::tokio_stream::once;
use tonic::transport::Channel;
use tonic::{Code, Response, Status};

/// Longest wait for an answer; nothing is answered slowly but a question for the next step.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long to listen for the next step.
const LISTEN: Duration = Duration::from_millis(20);

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// The coordinator is not there.
    Silence,
    /// It refuses.
    Refused(String),
}

impl From<Refused> for Trouble {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Stopping => Self::Silence,
            refused => Self::Refused(refused.to_string()),
        }
    }
}

impl From<VectorError> for Trouble {
    fn from(error: VectorError) -> Self {
        Self::Refused(error.to_string())
    }
}

/// What there is to do.
pub(super) struct Task {
    pub(super) plan: SignedPlan,
    /// The version that updates are trained on.
    pub(super) training: Digest,
    /// Whether the client is to join the plan's round now.
    pub(super) join: bool,
    /// The client's place on the roster that the plan demands.
    pub(super) membership: Option<Membership>,
}

pub(super) trait Line {
    fn task(&self, client: ClientId) -> Result<Option<Task>, Trouble>;
    fn ready(&self, client: ClientId, update: ReadyUpdate) -> Result<(), Trouble>;
    fn message(&self, client: ClientId, round: &RoundName, message: ClientMessage) -> Result<Sent, Trouble>;
    /// Sends a part of an announced vector. Where bytes were written that are not flushed yet, their file; whether the vector is
    /// acknowledged.
    fn part(
        &self,
        client: ClientId,
        round: &RoundName,
        header: &MaskedHeader,
        chunk: MaskedChunk,
    ) -> Result<(Option<PathBuf>, bool), Trouble>;
    /// After the last part. Whether the vector is acknowledged.
    fn whole(&self, client: ClientId, round: &RoundName, header: &MaskedHeader) -> Result<bool, Trouble>;
    fn receive(&self, client: ClientId, round: &RoundName, after: Step) -> Result<Received, Trouble>;
    fn prove(&self, prove: Prove) -> Result<LedgerProof, Trouble>;
}

impl Line for Life {
    fn task(&self, client: ClientId) -> Result<Option<Task>, Trouble> {
        let board = self.handle.board();
        let board = board.borrow();
        let task = board.tasks.values().next().and_then(|view| {
            let join = view.joining.as_ref().is_some_and(|joining| joining.contains(&client));
            let (plan, channels) = (view.plan.as_ref()?, view.channels.as_ref()?);
            let membership = view.place(client).and_then(Result::ok);
            Some(Task {
                plan: SignedPlan::clone(plan),
                training: channels.training.adapter,
                join,
                membership,
            })
        });
        Ok(task)
    }

    fn ready(&self, client: ClientId, update: ReadyUpdate) -> Result<(), Trouble> {
        self.handle.ready(client, vec![update])?;
        Ok(self.settled()?)
    }

    fn message(&self, client: ClientId, round: &RoundName, message: ClientMessage) -> Result<Sent, Trouble> {
        Ok(self.ask(async |handle| handle.message(client, round.clone(), message).await)?)
    }

    /// As the service of uploads does it.
    fn part(
        &self,
        client: ClientId,
        round: &RoundName,
        header: &MaskedHeader,
        chunk: MaskedChunk,
    ) -> Result<(Option<PathBuf>, bool), Trouble> {
        let target = self.ask(async |handle| handle.target(client, round.clone()).await)?;
        target.folder.writer(&target.header)?.append(chunk.offset, &chunk.bytes)?;
        Ok((Some(vector_file(&self.vectors, round, header, "part")), false))
    }

    fn whole(&self, client: ClientId, round: &RoundName, header: &MaskedHeader) -> Result<bool, Trouble> {
        let target = self.ask(async |handle| handle.target(client, round.clone()).await)?;
        let Some(vector) = target.folder.writer(header)?.finish()? else { return Ok(false) };
        self.ask(async |handle| handle.whole(client, round.clone(), vector).await)?;
        Ok(true)
    }

    fn receive(&self, client: ClientId, round: &RoundName, after: Step) -> Result<Received, Trouble> {
        Ok(self.ask(async |handle| handle.receive(client, round.clone(), after).await)?)
    }

    fn prove(&self, prove: Prove) -> Result<LedgerProof, Trouble> {
        Ok(self.ask(async |handle| handle.call(move |engine, now| engine.prove(&prove, now)).await)?)
    }
}

/// One client's way over TLS.
pub(super) struct Wire<'a> {
    pub(super) runtime: &'a Runtime,
    pub(super) server: Server,
    /// The transport certificate and its key.
    pub(super) certificate: &'a [u8],
    pub(super) key: &'a TransportKey,
    pub(super) version: &'a str,
    pub(super) base_model: Digest,
}

impl Wire<'_> {
    /// One call on a connection of its own: whatever process is there now answers.
    pub(super) fn call<T>(
        &self,
        patience: Duration,
        call: impl AsyncFnOnce(FleetClient<Channel>) -> Result<Response<T>, Status>,
    ) -> Result<T, Trouble> {
        self.runtime.block_on(async {
            let answer = tokio::time::timeout(patience, async {
                let connected = self.server.connect(Some((self.certificate, self.key))).await;
                let channel = connected.map_err(|_| Trouble::Silence)?;
                let client = FleetClient::new(channel)
                    .accept_compressed(tonic::codec::CompressionEncoding::Zstd)
                    .max_decoding_message_size(64 << 20);
                call(client).await.map(Response::into_inner).map_err(trouble)
            });
            answer.await.unwrap_or(Err(Trouble::Silence))
        })
    }

    pub(super) fn check_in(&self, ready: Vec<ReadyUpdate>) -> Result<Vec<Offer>, Trouble> {
        let check_in = CheckIn {
            version: self.version.to_owned(),
            base_models: vec![self.base_model],
            ready,
            ledger_size: 0,
            revocations: 0,
            restart: 0,
        };
        Ok(self.say(check_in)?.offers)
    }

    pub(super) fn say(&self, check_in: CheckIn) -> Result<CheckedIn, Trouble> {
        self.call(PATIENCE, async move |mut client| client.check_in(check_in).await)
    }
}

fn trouble(status: Status) -> Trouble {
    match status.code() {
        Code::FailedPrecondition
        | Code::AlreadyExists
        | Code::InvalidArgument
        | Code::PermissionDenied
        | Code::Unauthenticated
        | Code::NotFound
        | Code::OutOfRange
        | Code::DataLoss => Trouble::Refused(status.message().to_owned()),
        _ => Trouble::Silence,
    }
}

impl Line for Wire<'_> {
    fn task(&self, _client: ClientId) -> Result<Option<Task>, Trouble> {
        let offers = self.check_in(Vec::new())?;
        Ok(offers.into_iter().next().map(|offer| Task {
            training: offer.parent.as_ref().unwrap_or(&offer.manifest).claimed_adapter(),
            plan: offer.plan,
            join: offer.join,
            membership: offer.membership,
        }))
    }

    fn ready(&self, _client: ClientId, update: ReadyUpdate) -> Result<(), Trouble> {
        self.check_in(vec![update]).map(|_| ())
    }

    fn message(&self, _client: ClientId, round: &RoundName, message: ClientMessage) -> Result<Sent, Trouble> {
        let request = Send { round: round.clone(), message };
        self.call(PATIENCE, async move |mut client| client.send(request).await)
    }

    fn part(
        &self,
        _client: ClientId,
        round: &RoundName,
        _header: &MaskedHeader,
        chunk: MaskedChunk,
    ) -> Result<(Option<PathBuf>, bool), Trouble> {
        let part = UploadPart { round: round.clone(), chunk };
        let uploaded = self.call(PATIENCE, async move |mut client| client.upload(once(part)).await)?;
        Ok((None, uploaded.complete))
    }

    fn whole(&self, _: ClientId, round: &RoundName, _: &MaskedHeader) -> Result<bool, Trouble> {
        panic!("the last part of the upload to round {round} was not acknowledged")
    }

    fn receive(&self, _client: ClientId, round: &RoundName, after: Step) -> Result<Received, Trouble> {
        let request = Receive { round: round.clone(), after };
        self.call(PATIENCE, async move |mut client| {
            let heard = tokio::time::timeout(LISTEN, client.receive(request)).await;
            heard.unwrap_or_else(|_| Ok(Response::new(Received::Nothing)))
        })
    }

    fn prove(&self, prove: Prove) -> Result<LedgerProof, Trouble> {
        self.call(PATIENCE, async move |mut client| client.prove(prove).await)
    }
}
