//! Orders from operators. Must never carry one out for a token whose role does not allow it.

use super::Clock;
use super::enrolment::status as enrolment_status;
use super::status::{come_back, refused};
use crate::account::export;
use crate::admins::{AdminError, Role, make_token, revoke_token, role_of, tokens};
use crate::engine::tables::{RoundRow, Rounds, Stage};
use crate::engine::{Handle, Refused};
use crate::enrolment::{Enrolment, EnrolmentError, Presence};
use crate::identity::{Issued, Revocations, Roll};
use crate::publication::{PublicationError, Publisher};
use crate::roster::Listed;
use crate::serve::{DataFolder, secrets};
use crate::store::{Batch, Epoch, Records, RocksStore, StoreError};
use crate::task::TaskSettings;
use serde_json::{Value, json};
use std::fmt::{self, Write as _};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use tacit_aggregation::identity::{ClientId, PublicKey};
use tacit_aggregation::params::TaskName;
use tacit_proto::admin::{Answer, FullRoster, Order};
use tacit_proto::services::admin::admin_server::Admin;
use tonic::{Code, Request, Response, Status};

/// Before a token in the metadata.
const BEARER: &str = "Bearer ";
/// Versions that are listed.
const MOST_VERSIONS: usize = 1_000;
/// When to come back after the store failed, in milliseconds.
const FAILURE_RETRY: u64 = 10_000;

/// The service of operators.
#[derive(Clone)]
pub struct AdminService {
    /// Speaks to the engine.
    pub engine: Handle,
    /// The store, which is copied for a backup.
    pub store: Arc<RocksStore>,
    /// Published versions.
    pub publisher: Publisher,
    /// Tokens, requests, clients.
    pub enrolment: Arc<Enrolment>,
    /// When clients were last heard of.
    pub presence: Arc<Presence>,
    /// Where everything is.
    pub data: DataFolder,
    /// The coordinator's public key.
    pub coordinator: PublicKey,
    /// The time.
    pub clock: Clock,
    /// The lease under which tokens are written.
    pub epoch: Epoch,
    /// Held while tokens are changed.
    pub tokens: Arc<Mutex<()>>,
}

/// Why an order is not carried out.
enum Failure {
    Refused(Refused),
    Enrolment(EnrolmentError),
    Publication(PublicationError),
    Store(StoreError),
    Bad(String),
}

impl From<Refused> for Failure {
    fn from(error: Refused) -> Self {
        Self::Refused(error)
    }
}

impl From<EnrolmentError> for Failure {
    fn from(error: EnrolmentError) -> Self {
        Self::Enrolment(error)
    }
}

impl From<AdminError> for Failure {
    fn from(error: AdminError) -> Self {
        match error {
            AdminError::Store(error) => Self::Store(error),
            other => Self::Bad(other.to_string()),
        }
    }
}

impl From<PublicationError> for Failure {
    fn from(error: PublicationError) -> Self {
        Self::Publication(error)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<Failure> for Status {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Refused(error) => refused(&error),
            Failure::Enrolment(error) => enrolment_status(&error),
            Failure::Publication(error) => Self::failed_precondition(error.to_string()),
            Failure::Store(error) => come_back(Code::Unavailable, error.to_string(), FAILURE_RETRY),
            Failure::Bad(problem) => Self::invalid_argument(problem),
        }
    }
}

#[tonic::async_trait]
impl Admin for AdminService {
    async fn carry(&self, request: Request<Order>) -> Result<Response<Answer>, Status> {
        let role = self.role(&request)?;
        let order = request.into_inner();
        if role != Role::Operator && !order.only_looks() {
            return Err(Status::permission_denied(format!(
                "a {role} may only look: use an operator's token"
            )));
        }
        if !order.only_looks() {
            tracing::info!(order = name_of(&order), "an operator's order");
        }
        let answer = self.carry_out(order).await?;
        Ok(Response::new(Answer { json: answer.to_string() }))
    }
}

/// The order without its contents, some of which are long.
fn name_of(order: &Order) -> String {
    /// Takes in a name, and refuses what follows.
    struct Name(String);

    impl fmt::Write for Name {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            let end = text.find(['(', ' ', '{']);
            self.0.push_str(&text[..end.unwrap_or(text.len())]);
            if end.is_none() { Ok(()) } else { Err(fmt::Error) }
        }
    }

    let mut name = Name(String::new());
    // It fails where the name ends.
    let _ = write!(name, "{order:?}");
    name.0
}

impl AdminService {
    /// Lets a call in before its body is read, if its token is known.
    ///
    /// # Errors
    /// As of a call without a token.
    pub fn admit(&self, request: Request<()>) -> Result<Request<()>, Status> {
        self.role(&request).map(|_| request)
    }

    fn role<T>(&self, request: &Request<T>) -> Result<Role, Status> {
        let denied = || Status::unauthenticated("this call needs a token: give it with --token-file");
        let header = request.metadata().get("authorization").and_then(|value| value.to_str().ok());
        let token = header.and_then(|value| value.strip_prefix(BEARER)).ok_or_else(denied)?;
        role_of(self.store.as_ref(), token)
            .map_err(|error| Status::from(Failure::Store(error)))?
            .ok_or_else(|| Status::unauthenticated("this token is not known here: ask for a new one"))
    }

    async fn carry_out(&self, order: Order) -> Result<Value, Failure> {
        match order {
            Order::Status => self.status(),
            Order::CreateTask { settings, paused } => {
                let settings: TaskSettings = serde_json::from_str(&settings)
                    .map_err(|error| Failure::Bad(format!("the settings are refused: {error}")))?;
                let name = settings.name().clone();
                self.engine.call(move |engine, now| engine.create_task(settings, paused, now)).await?;
                Ok(json!({ "task": name.as_str(), "paused": paused }))
            }
            Order::PauseTask(task) => self.pause(task, true).await,
            Order::ResumeTask(task) => self.pause(task, false).await,
            Order::ListRounds { task, limit } => self.rounds(&task, limit),
            Order::ShowRound { task, round } => self.round(&task, round),
            Order::AbortRound(task) => {
                let name = task.clone();
                let round = self.engine.call(move |engine, now| engine.abort_round(&name, now)).await?;
                Ok(json!({ "task": task.as_str(), "aborted": round }))
            }
            Order::ListAdapters(task) => self.adapters(&task),
            Order::PromoteAdapter(task) => {
                self.channel(task, |publisher, batch, task| publisher.promote(batch, task)).await
            }
            Order::RollbackAdapter { task, channel } => {
                self.channel(task, move |publisher, batch, task| publisher.rollback(batch, task, channel))
                    .await
            }
            Order::TakeRoster(roster) => self.take_roster(roster).await,
            other => {
                let service = self.clone();
                match tokio::task::spawn_blocking(move || service.blocking(other)).await {
                    Ok(answer) => answer,
                    Err(_) => Err(Failure::Refused(Refused::Stopping)),
                }
            }
        }
    }

    /// Checks a roster here, for that takes a while, and has the engine take it in.
    async fn take_roster(&self, roster: FullRoster) -> Result<Value, Failure> {
        let root = self.enrolment.root();
        let checked = tokio::task::spawn_blocking(move || {
            let roll = Roll::new(roster.clients, &roster.signed);
            let listed = Listed::new(&roll, &root).map_err(|error| error.to_string())?;
            Ok((roll, listed))
        });
        let checked = checked.await.map_err(|_| Failure::Refused(Refused::Stopping))?;
        let (roll, listed) = checked.map_err(Failure::Bad)?;
        let Roll { epoch, not_before, not_after, .. } = roll;
        let clients = roll.clients.len();
        let answer =
            json!({ "epoch": epoch, "clients": clients, "not_before": not_before, "not_after": not_after });
        self.engine.call(move |engine, now| engine.take_roster(&roll, listed, now)).await?;
        Ok(answer)
    }

    fn status(&self) -> Result<Value, Failure> {
        let board = Arc::clone(&self.engine.board().borrow());
        let tasks: Vec<_> = board.tasks.values().map(|view| &view.status).collect();
        let ledger = board.ledger.map(|(head, size)| {
            let bytes = head.to_bytes();
            json!({ "entries": size, "root": hex::encode(&bytes[8..40]) })
        });
        Ok(json!({
            "coordinator": hex::encode(self.coordinator.0),
            "now": (self.clock)(),
            "tasks": tasks,
            "ledger": ledger,
            "waiting_commands": self.engine.waiting(),
        }))
    }

    async fn pause(&self, task: TaskName, paused: bool) -> Result<Value, Failure> {
        let name = task.clone();
        self.engine.call(move |engine, _| engine.pause_task(&name, paused)).await?;
        Ok(json!({ "task": task.as_str(), "paused": paused }))
    }

    fn rounds(&self, task: &TaskName, limit: u32) -> Result<Value, Failure> {
        let board = Arc::clone(&self.engine.board().borrow());
        let view = board.tasks.get(task).ok_or_else(|| Refused::NoTask { name: task.to_string() })?;
        let newest = view.status.round;
        let from = (task.as_str().to_owned(), newest.saturating_sub(u64::from(limit)) + 1);
        let rows = Records(self.store.as_ref()).scan::<Rounds>(
            &(task.as_str().to_owned(),),
            Some(&from),
            limit as usize,
        )?;
        Ok(rows.into_iter().rev().map(|((_, round), row)| summary(round, &row)).collect())
    }

    fn round(&self, task: &TaskName, round: u64) -> Result<Value, Failure> {
        let key = (task.as_str().to_owned(), round);
        let row = Records(self.store.as_ref()).get::<Rounds>(&key)?;
        let row = row.ok_or_else(|| Failure::Bad(format!("task {task} has no round {round}")))?;
        let mut shown = summary(round, &row);
        let clients =
            |clients: &[ClientId]| clients.iter().map(|client| json!(client.to_string())).collect::<Value>();
        match &row.stage {
            Stage::Planned => {}
            Stage::Open { invited, .. } => shown["invited_clients"] = clients(invited),
            Stage::Ended(end) => {
                shown["participants"] = clients(&end.participants);
                shown["faults"] = json!(end.faults);
            }
        }
        Ok(shown)
    }

    fn adapters(&self, task: &TaskName) -> Result<Value, Failure> {
        let listed = self.publisher.list(task, 0, MOST_VERSIONS)?;
        let rows = listed.into_iter().map(|listed| {
            let manifest = listed.manifest;
            json!({
                "version": manifest.version,
                "adapter": hex::encode(manifest.adapter),
                "round": manifest.origin.map(|origin| origin.round),
                "ledger_entry": manifest.origin.map(|origin| origin.entry),
                "created": manifest.created,
                "retired": listed.retired,
                "bytes": manifest.files.iter().map(|file| file.size).sum::<u64>(),
            })
        });
        Ok(rows.collect())
    }

    /// Changes a channel in the engine's own batch, for it alone writes these records.
    async fn channel(
        &self,
        task: TaskName,
        change: impl FnOnce(
            &Publisher,
            &mut Batch,
            &TaskName,
        ) -> Result<tacit_proto::SignedManifest, PublicationError>
        + Send
        + 'static,
    ) -> Result<Value, Failure> {
        let (publisher, coordinator) = (self.publisher.clone(), self.coordinator);
        let manifest = self
            .engine
            .call(move |engine, _| {
                let changed = change(&publisher, engine.batch(), &task);
                changed.map_err(|error| Refused::Impossible(error.to_string()))
            })
            .await?;
        let manifest = manifest.verify(&coordinator).map_err(|error| Failure::Bad(error.to_string()))?;
        Ok(json!({
            "task": manifest.task.as_str(),
            "channel": manifest.channel.name(),
            "version": manifest.version,
        }))
    }

    fn blocking(&self, order: Order) -> Result<Value, Failure> {
        let now = (self.clock)() / 1000;
        match order {
            Order::ListClients { above, limit, silent_days } => {
                let from = ClientId(above.0.saturating_add(1));
                let from = if above.0 == 0 { ClientId(0) } else { from };
                let silent = Some(u64::from(silent_days) * 86_400).filter(|silent| *silent > 0);
                let since = silent.map(|silent| now.saturating_sub(silent));
                let clients = self.enrolment.listed(&self.presence, from, limit as usize, since)?;
                let excluded = Arc::clone(&self.enrolment.excluded().borrow());
                let rows = clients.into_iter().map(|(id, client, last_seen)| {
                    let excluded = excluded.reason(id).map(|reason| reason.to_string());
                    json!({
                        "client": id.0.to_string(),
                        "enrolled": client.enrolled_at,
                        "last_seen": last_seen,
                        "not_after": client.not_after,
                        "version": client.version,
                        "excluded": excluded,
                        "note": client.note,
                    })
                });
                Ok(rows.collect())
            }
            Order::BanClient { client, reason } => {
                self.enrolment.ban(client, &reason, now)?;
                Ok(json!({ "client": client.to_string(), "banned": true }))
            }
            Order::UnbanClient(client) => {
                self.enrolment.unban(client)?;
                Ok(json!({ "client": client.to_string(), "banned": false }))
            }
            Order::Invite { count, valid_for, note } => {
                let rng = &mut secrets().map_err(|error| Failure::Bad(error.to_string()))?;
                let tokens = self.enrolment.invite(count as usize, valid_for, &note, now, rng)?;
                Ok(json!({ "tokens": tokens, "expires": now + valid_for }))
            }
            Order::MakeToken { role, note } => {
                let rng = &mut secrets().map_err(|error| Failure::Bad(error.to_string()))?;
                let _one = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
                let token = make_token(self.store.as_ref(), self.epoch, role, &note, now, rng)?;
                Ok(json!({ "token": token.as_str(), "role": role, "note": note }))
            }
            Order::ListTokens => Ok(json!(tokens(self.store.as_ref())?)),
            Order::RevokeToken(number) => {
                let _one = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
                revoke_token(self.store.as_ref(), self.epoch, &number)?;
                Ok(json!({ "token": number, "revoked": true }))
            }
            Order::RefuseRequest(ticket) => {
                self.enrolment.refuse(&ticket)?;
                Ok(json!({ "ticket": hex::encode(ticket), "refused": true }))
            }
            Order::ListRequests => Ok(json!(self.enrolment.pending()?)),
            Order::Admit(text) => {
                let issued: Vec<Issued> = serde_json::from_str(&text)
                    .map_err(|error| Failure::Bad(format!("these are no issued certificates: {error}")))?;
                Ok(json!({ "admitted": self.enrolment.admit(&issued, now)? }))
            }
            Order::Revoke(text) => {
                let list: Revocations = serde_json::from_str(&text)
                    .map_err(|error| Failure::Bad(format!("this is no list of revoked clients: {error}")))?;
                let number = list.number;
                self.enrolment.set_revocations(list)?;
                Ok(json!({ "revocations": number }))
            }
            Order::Backup(folder) => {
                let folder = absolute(&folder)?;
                let _held = self.publisher.hold();
                let copied = self.data.backup(&folder, self.store.as_ref());
                copied.map_err(|error| Failure::Bad(error.to_string()))?;
                Ok(json!({ "backup": folder }))
            }
            Order::ExportLedger(file) => {
                let file = absolute(&file)?;
                self.export(&file)
            }
            _ => Err(Failure::Bad("this order is carried out elsewhere".into())),
        }
    }

    fn export(&self, path: &PathBuf) -> Result<Value, Failure> {
        let board = Arc::clone(&self.engine.board().borrow());
        let (head, size) = board.ledger.ok_or(Failure::Refused(Refused::Stopping))?;
        let bad = |error: &dyn std::fmt::Display| Failure::Bad(format!("{}: {error}", path.display()));
        let mut text = Vec::new();
        export(self.store.as_ref(), &head, &self.coordinator, &mut text).map_err(|error| bad(&error))?;
        crate::files::write_whole(path, &text).map_err(|error| bad(&error))?;
        Ok(json!({ "file": path, "entries": size }))
    }
}

/// Paths on the coordinator's machine are absolute: its working folder is nobody's business.
fn absolute(path: &str) -> Result<PathBuf, Failure> {
    let path = PathBuf::from(path);
    if path.is_absolute() {
        Ok(path)
    } else {
        Err(Failure::Bad(format!("{} is not an absolute path on the coordinator's machine", path.display())))
    }
}

fn summary(round: u64, row: &RoundRow) -> Value {
    let mut shown = json!({ "round": round, "planned": row.planned });
    match &row.stage {
        Stage::Planned => shown["stage"] = json!("planned"),
        Stage::Open { since, invited } => {
            shown["stage"] = json!("open");
            shown["since"] = json!(since);
            shown["invited"] = json!(invited.len());
        }
        Stage::Ended(end) => {
            shown["stage"] = json!(if end.committed { "committed" } else { "failed" });
            shown["ended"] = json!(end.at);
            shown["reason"] = json!(end.reason);
            shown["cohort"] = json!(end.cohort);
            shown["paid"] = json!(end.participants.len());
            shown["epsilon"] = json!(end.spent.map(|(epsilon, _)| epsilon));
            shown["delta"] = json!(end.spent.map(|(_, delta)| delta));
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::{ClientId, Order, name_of};

    #[test]
    fn an_order_is_known_by_its_name() {
        assert_eq!(name_of(&Order::Status), "Status");
        assert_eq!(name_of(&Order::UnbanClient(ClientId(7))), "UnbanClient");
        assert_eq!(
            name_of(&Order::Invite { count: 1, valid_for: 2, note: "a secret note".into() }),
            "Invite"
        );
    }
}
