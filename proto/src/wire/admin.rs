//! The wire form of operators' orders. Must never let a text through that would upset a terminal or a log.

use super::check::{array, arrays, at_most, invalid, present, task, text};
use super::{DecodeError, generated as wire};
use crate::admin::{
    Answer, FullRoster, MAX_ANSWER, MAX_IMPORT, MAX_LINE, MAX_LISTED, MAX_ROWS, MAX_SETTINGS, Order,
};
use tacit_aggregation::identity::ClientId;
use tacit_aggregation::params::TaskName;

impl From<&Order> for wire::Order {
    fn from(order: &Order) -> Self {
        use wire::order::Body;
        let name = |task: &TaskName| task.as_str().to_owned();
        let body = match order {
            Order::Status => Body::Status(wire::StatusOrder {}),
            Order::CreateTask { settings, paused } => {
                Body::CreateTask(wire::CreateTask { settings: settings.clone(), paused: *paused })
            }
            Order::PauseTask(task) => Body::PauseTask(name(task)),
            Order::ResumeTask(task) => Body::ResumeTask(name(task)),
            Order::ListRounds { task, limit } => {
                Body::ListRounds(wire::ListRounds { task: name(task), limit: *limit })
            }
            Order::ShowRound { task, round } => {
                Body::ShowRound(wire::ShowRound { task: name(task), round: *round })
            }
            Order::AbortRound(task) => Body::AbortRound(name(task)),
            Order::ListClients { above, limit, silent_days } => Body::ListClients(wire::ListClients {
                above: above.0,
                limit: *limit,
                silent_days: *silent_days,
            }),
            Order::BanClient { client, reason } => {
                Body::BanClient(wire::BanClient { client: client.0, reason: reason.clone() })
            }
            Order::UnbanClient(client) => Body::UnbanClient(client.0),
            Order::ListAdapters(task) => Body::ListAdapters(name(task)),
            Order::PromoteAdapter(task) => Body::PromoteAdapter(name(task)),
            Order::RollbackAdapter { task, channel } => Body::RollbackAdapter(wire::RollbackAdapter {
                task: name(task),
                channel: channel.name().to_owned(),
            }),
            Order::Invite { count, valid_for, note } => {
                Body::Invite(wire::Invite { count: *count, valid_for: *valid_for, note: note.clone() })
            }
            Order::ListRequests => Body::ListRequests(wire::ListRequests {}),
            Order::Admit(json) => Body::Admit(json.clone()),
            Order::Revoke(json) => Body::Revoke(json.clone()),
            Order::TakeRoster(roster) => Body::TakeRoster(roster.into()),
            Order::Backup(folder) => Body::Backup(folder.clone()),
            Order::ExportLedger(file) => Body::ExportLedger(file.clone()),
            Order::MakeToken { role, note } => {
                Body::MakeToken(wire::MakeToken { role: role.to_string(), note: note.clone() })
            }
            Order::ListTokens => Body::ListTokens(wire::ListTokens {}),
            Order::RevokeToken(number) => Body::RevokeToken(number.clone()),
            Order::RefuseRequest(ticket) => Body::RefuseRequest(ticket.to_vec()),
        };
        Self { body: Some(body) }
    }
}

fn rows(field: &'static str, limit: u32) -> Result<u32, DecodeError> {
    at_most(field, limit as usize, MAX_ROWS as usize).map(|()| limit)
}

/// A text that is parsed further, and may have lines.
fn document(field: &'static str, text: String, limit: usize) -> Result<String, DecodeError> {
    at_most(field, text.len(), limit).map(|()| text)
}

impl TryFrom<wire::Order> for Order {
    type Error = DecodeError;

    fn try_from(order: wire::Order) -> Result<Self, DecodeError> {
        use wire::order::Body;
        Ok(match present("Order.body", order.body)? {
            Body::Status(_) => Self::Status,
            Body::CreateTask(create) => Self::CreateTask {
                settings: document("CreateTask.settings", create.settings, MAX_SETTINGS)?,
                paused: create.paused,
            },
            Body::PauseTask(name) => Self::PauseTask(task("Order.pause_task", &name)?),
            Body::ResumeTask(name) => Self::ResumeTask(task("Order.resume_task", &name)?),
            Body::ListRounds(list) => Self::ListRounds {
                task: task("ListRounds.task", &list.task)?,
                limit: rows("ListRounds.limit", list.limit)?,
            },
            Body::ShowRound(show) => {
                Self::ShowRound { task: task("ShowRound.task", &show.task)?, round: show.round }
            }
            Body::AbortRound(name) => Self::AbortRound(task("Order.abort_round", &name)?),
            Body::ListClients(list) => Self::ListClients {
                above: ClientId(list.above),
                limit: rows("ListClients.limit", list.limit)?,
                silent_days: list.silent_days,
            },
            Body::BanClient(ban) => Self::BanClient {
                client: ClientId(ban.client),
                reason: text("BanClient.reason", ban.reason, MAX_LINE)?,
            },
            Body::UnbanClient(client) => Self::UnbanClient(ClientId(client)),
            Body::ListAdapters(name) => Self::ListAdapters(task("Order.list_adapters", &name)?),
            Body::PromoteAdapter(name) => Self::PromoteAdapter(task("Order.promote_adapter", &name)?),
            Body::RollbackAdapter(rollback) => Self::RollbackAdapter {
                task: task("RollbackAdapter.task", &rollback.task)?,
                channel: rollback
                    .channel
                    .parse()
                    .map_err(|reason| invalid("RollbackAdapter.channel", reason))?,
            },
            Body::Invite(invite) => Self::Invite {
                count: invite.count,
                valid_for: invite.valid_for,
                note: text("Invite.note", invite.note, MAX_LINE)?,
            },
            Body::ListRequests(_) => Self::ListRequests,
            Body::Admit(json) => Self::Admit(document("Order.admit", json, MAX_IMPORT)?),
            Body::Revoke(json) => Self::Revoke(document("Order.revoke", json, MAX_IMPORT)?),
            Body::TakeRoster(roster) => Self::TakeRoster(roster.try_into()?),
            Body::Backup(folder) => Self::Backup(text("Order.backup", folder, MAX_LINE)?),
            Body::ExportLedger(file) => Self::ExportLedger(text("Order.export_ledger", file, MAX_LINE)?),
            Body::MakeToken(make) => Self::MakeToken {
                role: make.role.parse().map_err(|reason: String| invalid("MakeToken.role", reason))?,
                note: text("MakeToken.note", make.note, MAX_LINE)?,
            },
            Body::ListTokens(_) => Self::ListTokens,
            Body::RevokeToken(number) => Self::RevokeToken(text("Order.revoke_token", number, MAX_LINE)?),
            Body::RefuseRequest(ticket) => Self::RefuseRequest(array("Order.refuse_request", &ticket)?),
        })
    }
}

impl From<&FullRoster> for wire::FullRoster {
    fn from(roster: &FullRoster) -> Self {
        let clients = roster.clients.iter().flat_map(|client| client.0.to_be_bytes()).collect();
        Self { signed: Some((&roster.signed).into()), clients }
    }
}

impl TryFrom<wire::FullRoster> for FullRoster {
    type Error = DecodeError;

    fn try_from(roster: wire::FullRoster) -> Result<Self, DecodeError> {
        let clients = arrays("FullRoster.clients", &roster.clients, MAX_LISTED)?;
        let clients = clients.into_iter().map(|bytes| ClientId(u64::from_be_bytes(bytes))).collect();
        Ok(Self { signed: present("FullRoster.signed", roster.signed)?.try_into()?, clients })
    }
}

impl From<&Answer> for wire::Answer {
    fn from(answer: &Answer) -> Self {
        Self { json: answer.json.clone() }
    }
}

impl TryFrom<wire::Answer> for Answer {
    type Error = DecodeError;

    fn try_from(answer: wire::Answer) -> Result<Self, DecodeError> {
        Ok(Self { json: document("Answer.json", answer.json, MAX_ANSWER)? })
    }
}
