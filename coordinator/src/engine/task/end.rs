//! The end of a round in the engine: outcome, ledger and the state of the task go into one batch. Must never keep a journal
//! after its round.

use super::{
    Driver, End, Journal, Millis, Open, Outcome, RECORDS_AT_ONCE, Records, Stage, Task, Tools, vectors_of,
};
use crate::publication::Publication;
use crate::round::RestoreError;
use tacit_proto::manifest::Origin;

impl Task {
    /// Ends the open round, if it has ended.
    pub(in crate::engine) fn conclude(&mut self, now: Millis, tools: &mut Tools<'_>) {
        let Some(Open { driver, vectors, since, invited }) = self.open.take() else { return };
        let (round, plan) = (driver.plan().round, driver.plan().digest());
        let outcome = match Driver::finish(*driver) {
            Ok(outcome) => outcome,
            Err(driver) => {
                self.open = Some(Open { driver, vectors, since, invited });
                return;
            }
        };
        let end = match &outcome {
            Outcome::Committed { released, .. } => End {
                at: now,
                committed: true,
                reason: format!("released version {}", self.row.committed + 1),
                cohort: released.cohort,
                participants: released.survivors.clone(),
                spent: released.entry.event.debit().map(|debit| (debit.epsilon, debit.delta)),
                faults: released.faults.iter().map(ToString::to_string).collect(),
            },
            Outcome::Failed { failed, .. } => End {
                at: now,
                committed: false,
                reason: failed.reason.to_string(),
                cohort: 0,
                participants: failed.debited.clone(),
                spent: None,
                faults: Vec::new(),
            },
        };
        tracing::info!(
            task = self.name(),
            round,
            committed = end.committed,
            participants = end.participants.len(),
            reason = end.reason,
            "a round has ended"
        );
        tools.figures.round_ended(self.name(), end.committed);
        if let Some((epsilon, _)) = end.spent {
            self.epsilon = Some(epsilon);
        }
        if end.committed {
            self.row.committed += 1;
        }
        let origin = match &outcome {
            Outcome::Committed { released, .. } => Some(Origin {
                plan,
                round,
                entry: tools.account.ledger().size() - 1,
                entry_hash: released.entry.hash(),
            }),
            Outcome::Failed { .. } => None,
        };
        self.state = outcome.into_state();
        if origin.is_some() {
            self.publish(origin, now, tools);
            self.store_state(tools);
        }
        self.store_end(round, end, tools);
    }

    /// Publishes the task's present adapter. Should that fail nothing of this batch may become durable: the next start comes
    /// back to the round, and to the same adapter.
    pub(in crate::engine) fn publish(&self, origin: Option<Origin>, now: Millis, tools: &mut Tools<'_>) {
        let publication = Publication {
            task: self.settings.name(),
            layout: &self.settings.layout,
            adapter: &self.state.adapter,
            origin,
            canary: self.settings.publication.canary,
        };
        let publisher = &tools.setup.publisher;
        let published = publisher.publish(tools.batch, &publication, now);
        let kept = published.and_then(|_| {
            publisher.retire(tools.batch, self.settings.name(), self.settings.publication.keep)
        });
        match kept {
            Ok(retired) => {
                *tools.changed = true;
                *tools.retired |= !retired.is_empty();
            }
            Err(error) => *tools.failure = Some(error),
        }
    }

    fn store_end(&mut self, round: u64, end: End, tools: &mut Tools<'_>) {
        self.last = Some(format!("round {round}: {}", end.reason));
        self.row.last_end = end.at;
        if let Some(plan) = self.plan.take() {
            self.store_round(&plan, Stage::Ended(end), tools);
            self.last_plan = Some(plan.signed);
        }
        self.store_row(tools);
        self.forget_journal(round, tools);
        tools.spent.push(vectors_of(&tools.setup.vectors, self.name(), round));
    }

    /// Ends the open round, if it has, after a restart.
    pub(in crate::engine) fn settle_ended(&mut self, now: Millis, tools: &mut Tools<'_>) {
        if self.open.as_ref().is_some_and(|open| open.driver.has_ended()) {
            self.conclude(now, tools);
        }
    }

    /// Ends the open round at the operator's wish, and says which it was.
    pub(in crate::engine) fn abort(&mut self, now: Millis, tools: &mut Tools<'_>) -> Option<u64> {
        let round = self.open_round()?;
        self.with_driver(tools, |driver, account, _| driver.abort(now, account));
        self.conclude(now, tools);
        Some(round)
    }

    /// Ends a round that cannot be come back to. Its reservation stays, for its sum may be known.
    pub(in crate::engine) fn give_up(
        &mut self,
        round: u64,
        why: &RestoreError,
        now: Millis,
        tools: &mut Tools<'_>,
    ) {
        let (reason, participants, faults) = (why.to_string(), Vec::new(), Vec::new());
        tracing::error!(task = self.name(), round, reason, "a round cannot be come back to");
        let end = End { at: now, committed: false, reason, cohort: 0, participants, spent: None, faults };
        self.store_end(round, end, tools);
    }

    /// Deletes the records of a round, in the batch of its end. Those that are in this very batch come before.
    fn forget_journal(&self, round: u64, tools: &mut Tools<'_>) {
        let mut pending: Vec<_> = tools.batch.keys::<Journal>().collect();
        pending.retain(|(task, of, _)| task == self.name() && *of == round);
        let prefix = (self.name().to_owned(), round);
        let mut from = None;
        loop {
            let store = tools.setup.store.as_ref();
            let keys = Records(store).keys::<Journal>(&prefix, from.as_ref(), RECORDS_AT_ONCE);
            let Ok(keys) = keys else { break };
            from = keys.last().map(|last| (last.0.clone(), last.1, successor(last.2)));
            let full = keys.len() == RECORDS_AT_ONCE;
            pending.extend(keys);
            if !full {
                break;
            }
        }
        pending.iter().for_each(|key| {
            tools.batch.delete::<Journal>(key);
        });
    }
}

/// The next key of the same length.
fn successor(mut key: [u8; 10]) -> [u8; 10] {
    for byte in key.iter_mut().rev() {
        let (sum, carried) = byte.overflowing_add(1);
        *byte = sum;
        if !carried {
            break;
        }
    }
    key
}
