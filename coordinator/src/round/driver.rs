//! The one driver that moves a round: messages and time in, what to store and to send out.
//! Must never read a clock, and never go back: an ended round stays ended.

mod open;
mod progress;

pub use open::{OpenError, RestoreError, RoundSetup, TaskState};

use super::keeper::{Keeper, Vector};
use super::outcome::{Failed, FailureReason, Outcome};
use super::release::Summed;
use super::{Closed, Event, Outgoing, Progress, RELEASE, Refusal, Round};
use crate::Millis;
use crate::account::Account;
use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::Arc;
use tacit_aggregation::Step;
use tacit_aggregation::identity::ClientId;
use tacit_aggregation::journal::{Record, Unanswered};
use tacit_aggregation::messages::MaskedHeader;
use tacit_aggregation::ring_vector::RingVector;
use tacit_aggregation::server::{Phase, ServerError, Session, VectorSummary};
use tacit_privacy::NoiseKey;
use tacit_proto::{ClientMessage, RoundPlan};

/// A round on its way, with the state of its task.
#[derive(Debug)]
pub struct Driver {
    plan: Arc<RoundPlan>,
    state: TaskState,
    round: Round,
    invited: BTreeSet<ClientId>,
    deadline: Millis,
    /// Whether the account holds this attempt's own reservation, and not one that another attempt at the round left.
    reserved: bool,
    /// Whether the sum was tried with the least number of shares, and some of them were bad.
    tried: bool,
    /// Bytes of vectors that were added since the sum was put on record, and after how many it is again.
    unrecorded: usize,
    record_after: usize,
    /// Announced vectors that are not whole yet.
    announced: BTreeMap<ClientId, MaskedHeader>,
    /// Taken by the one release.
    noise: Option<NoiseKey>,
}

/// The tools that the caller lends for the time of a call.
struct Tools<'a> {
    account: &'a mut Account,
    keeper: &'a mut dyn Keeper,
}

impl Tools<'_> {
    /// For a session, whose records cannot fail to be kept: they are made durable later, all together.
    fn keep(&mut self) -> impl FnMut(&Record) -> Result<(), Infallible> + '_ {
        |record| {
            self.keeper.record(record);
            Ok(())
        }
    }
}

/// What a session's refusal means here.
fn refusal(client: ClientId) -> impl Fn(Unanswered<ServerError, Infallible>) -> Refusal {
    move |unanswered| match unanswered {
        Unanswered::Refused(error) => Refusal::Protocol { client, error },
        Unanswered::NotStored(never) => match never {},
    }
}

impl Driver {
    /// The plan.
    #[must_use]
    pub fn plan(&self) -> &RoundPlan {
        &self.plan
    }

    /// Where the round stands.
    #[must_use]
    pub fn round(&self) -> &Round {
        &self.round
    }

    /// The task as the round found it.
    #[must_use]
    pub fn state(&self) -> &TaskState {
        &self.state
    }

    /// Clients that may join.
    #[must_use]
    pub fn invited(&self) -> &BTreeSet<ClientId> {
        &self.invited
    }

    /// When the present step closes at the latest; none once the round has ended. A [`Event::Tick`] at that time, or later,
    /// closes it.
    #[must_use]
    pub fn deadline(&self) -> Option<Millis> {
        (!self.has_ended()).then_some(self.deadline)
    }

    /// Whether the round has ended.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.round.session().is_none()
    }

    /// What a client announced as its vector, while it is not whole.
    #[must_use]
    pub fn announced(&self, client: ClientId) -> Option<&MaskedHeader> {
        self.announced.get(&client)
    }

    /// Takes an event at the time `now`. A step closes as soon as everyone has answered whom it waits for, and at its
    /// deadline otherwise; a message that comes at or after the deadline finds the step closed.
    ///
    /// What the keeper and the account were given must be durable before anything that is returned is acted upon, and before the
    /// sender of an accepted message is told so.
    pub fn handle(
        &mut self,
        event: Event,
        now: Millis,
        account: &mut Account,
        keeper: &mut dyn Keeper,
    ) -> Vec<Outgoing> {
        let mut tools = Tools { account, keeper };
        let mut outgoing = Vec::new();
        // Deadlines of several steps may have passed when nothing called in between; but a step that opens now stays open.
        if !self.has_ended() && now >= self.deadline {
            outgoing.extend(self.close(now, true, &mut tools));
        }
        let taken = match event {
            Event::Message { from, message } => self.accept(from, message, now, &mut tools),
            Event::Whole { from, vector } => self.whole(from, &vector, &mut tools),
            Event::Tick => return outgoing,
        };
        match taken {
            Ok(Progress::Waiting) => {}
            Ok(Progress::Complete) => outgoing.extend(self.close(now, false, &mut tools)),
            Err(refusal) => outgoing.push(Outgoing::Refuse(refusal)),
        }
        outgoing
    }

    /// The outcome, once the round has ended.
    ///
    /// # Errors
    /// The driver itself while the round goes on.
    pub fn finish(self) -> Result<Outcome, Box<Self>> {
        match self.round {
            Round::Committed(released) => Ok(Outcome::Committed { released, state: self.state }),
            Round::Failed(failed) => Ok(Outcome::Failed { failed, state: self.state }),
            _ => Err(Box::new(self)),
        }
    }

    /// Ends the round at the operator's wish; nothing happens to one that has ended.
    pub fn abort(&mut self, now: Millis, account: &mut Account) {
        let Some(step) = self.round.session().map(|session| session.phase().step().unwrap_or(RELEASE)) else {
            return;
        };
        self.round = match (&self.round, step) {
            (Round::Running(session, _), Step::Unmask) => {
                self.forfeit(session.survivors().to_vec(), FailureReason::Stopped, now, account)
            }
            _ => self.fail(step, FailureReason::Stopped, now, account),
        };
    }

    /// Ends a round whose cohort has just closed with a sum that was never masked. For simulations only: the arithmetic, the
    /// budget and the result are those of the masked round with the same survivors.
    ///
    /// # Errors
    /// The driver itself when the round is not in Share.
    pub fn finish_with_plain_sum(
        mut self,
        survivors: &BTreeSet<ClientId>,
        vector: RingVector,
        now: Millis,
        account: &mut Account,
    ) -> Result<Outcome, Box<Self>> {
        let closed = match &self.round {
            Round::Running(session, closed) if matches!(session.phase(), Phase::Share(_)) => {
                Arc::clone(closed)
            }
            _ => return Err(Box::new(self)),
        };
        let n_min = closed.list.params.n_min;
        let strangers = survivors.iter().any(|client| closed.list.index_of(*client).is_none());
        if strangers || survivors.len() < n_min as usize {
            let reason = FailureReason::PlainSurvivors { survivors: survivors.len(), n_min };
            self.round = self.fail(Step::Collect, reason, now, account);
            return self.finish();
        }
        let survivors: Vec<ClientId> = survivors.iter().copied().collect();
        let summed = Summed::plain(vector, survivors, closed);
        self.release(summed, now, account);
        self.finish()
    }

    fn accept(
        &mut self,
        from: ClientId,
        message: ClientMessage,
        now: Millis,
        tools: &mut Tools<'_>,
    ) -> Result<Progress, Refusal> {
        let (sent, current) = (message.step(), self.round.step());
        let out_of_step = Refusal::OutOfStep { client: from, round: self.plan.round, sent, current };
        let (Round::Gathering(session) | Round::Running(session, _)) = &mut self.round else {
            return Err(out_of_step);
        };
        if matches!(session.phase(), Phase::Advertise(_))
            && matches!(message, ClientMessage::Advert(_))
            && !self.invited.contains(&from)
        {
            return Err(Refusal::NotInvited { client: from, round: self.plan.round });
        }
        if let Some(named) = named(&message).filter(|named| *named != from) {
            return Err(Refusal::Impostor { client: from, named });
        }
        match (session.phase(), message) {
            (Phase::Advertise(_), ClientMessage::Advert(advert)) => {
                // Everybody who is shown a certificate leaves when it has expired by then: one that will would end the round.
                let deadlines = &self.plan.deadlines;
                let looked_at =
                    now.saturating_add(deadlines.advertise).saturating_add(deadlines.share) / 1000;
                session.advert(advert, looked_at, tools.keep()).map_err(refusal(from))?;
            }
            (Phase::Share(_), ClientMessage::Share(message)) => {
                session.share(message, tools.keep()).map_err(refusal(from))?;
            }
            (Phase::Collect(_), ClientMessage::MaskedHeader(header)) => {
                session.begin(&header, tools.keep()).map_err(refusal(from))?;
                let whole = tools.keeper.stored(&header).map_err(upload(from))? == Vector::Whole;
                self.announced.insert(from, header);
                return match if whole { self.stored(from, tools) } else { Ok(Progress::Waiting) } {
                    // The receipt says that nothing of it is here.
                    Err(refusal) if is_lost(&refusal) => Ok(Progress::Waiting),
                    taken => taken,
                };
            }
            (Phase::Collect(_), ClientMessage::MaskedChunk(chunk)) => {
                let Some(header) = self.announced.get(&from) else {
                    // A chunk of a vector that is already whole was sent twice.
                    let known = tools.keeper.vector(from).is_ok();
                    let reason = "a chunk came before its signed announcement of the masked vector".into();
                    let refused = Refusal::Upload { client: from, reason };
                    return if known { Ok(Progress::Waiting) } else { Err(refused) };
                };
                let whole = tools.keeper.append(header, &chunk).map_err(upload(from))? == Vector::Whole;
                return if whole { self.stored(from, tools) } else { Ok(Progress::Waiting) };
            }
            (Phase::Confirm(..), ClientMessage::Confirm(confirm)) => {
                session.confirm(&confirm, tools.keep()).map_err(refusal(from))?;
            }
            (Phase::Unmask(..), ClientMessage::Unmask(shares)) => {
                session.unmask(&shares, tools.keep()).map_err(refusal(from))?;
            }
            _ => return Err(out_of_step),
        }
        Ok(self.progress())
    }

    /// Takes an announced vector that the keeper had before.
    fn stored(&mut self, from: ClientId, tools: &mut Tools<'_>) -> Result<Progress, Refusal> {
        let packed = tools.keeper.vector(from).map_err(upload(from))?;
        self.whole(from, &VectorSummary::of(&packed), tools)
    }

    /// Takes an announced vector of which the keeper has every byte.
    fn whole(
        &mut self,
        from: ClientId,
        vector: &VectorSummary,
        tools: &mut Tools<'_>,
    ) -> Result<Progress, Refusal> {
        let (round, current) = (self.plan.round, self.round.step());
        let Some(header) = self.announced.get(&from) else { return Ok(self.progress()) };
        let Round::Running(session, _) = &mut self.round else {
            return Err(Refusal::OutOfStep { client: from, round, sent: "collect", current });
        };
        let taken = session.vector(header, vector, tools.keep()).map_err(refusal(from));
        if taken.as_ref().is_err_and(is_lost) {
            tools.keeper.discard(from).map_err(upload(from))?;
        }
        taken?;
        self.announced.remove(&from);
        Ok(self.progress())
    }
}

/// Whether a vector was whole once, and the disk has not kept it.
fn is_lost(refusal: &Refusal) -> bool {
    matches!(refusal, Refusal::Protocol { error: ServerError::VectorDigest { .. }, .. })
}

fn upload(client: ClientId) -> impl Fn(String) -> Refusal {
    move |reason| Refusal::Upload { client, reason }
}

/// Whom a message names as its sender; a chunk names nobody.
fn named(message: &ClientMessage) -> Option<ClientId> {
    match message {
        ClientMessage::Advert(advert) => Some(advert.client()),
        ClientMessage::Share(message) => Some(message.client),
        ClientMessage::MaskedHeader(header) => Some(header.client),
        ClientMessage::MaskedChunk(_) => None,
        ClientMessage::Confirm(confirm) => Some(confirm.client),
        ClientMessage::Unmask(shares) => Some(shares.client),
    }
}

#[cfg(test)]
mod tests;
