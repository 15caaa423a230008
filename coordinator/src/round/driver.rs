//! The one driver that moves a round: messages and time in, messages and what to store out.
//! Must never read a clock, and never go back: an ended round stays ended.

use super::outcome::{Failed, FailureReason, Outcome};
use super::release::{Summed, cost_of};
use super::{Advertise, Closed, Event, Outgoing, Progress, RELEASE, Refusal, Round, sends};
use crate::Millis;
use crate::account::Account;
use crate::adapter::AdapterVersion;
use crate::optimizer::OptimizerState;
use std::collections::BTreeSet;
use std::sync::Arc;
use tacit_aggregation::Step;
use tacit_aggregation::identity::{ClientId, PublicKey};
use tacit_aggregation::ring_vector::RingVector;
use tacit_aggregation::server::{Abort, AbortReason};
use tacit_privacy::NoiseKey;
use tacit_proto::{ClientMessage, PlanError, RoundPlan, SignedPlan, Trust};

/// What a round is opened with.
#[derive(Clone, Debug)]
pub struct RoundSetup {
    /// The plan, under this coordinator's own signature.
    pub plan: SignedPlan,
    /// This coordinator's public key.
    pub coordinator: PublicKey,
    /// The organisation's identity root.
    pub root: PublicKey,
    /// Clients that may join; see [`crate::cohort::select`].
    pub invited: BTreeSet<ClientId>,
    /// The key of the coordinator's noise, where the plan makes it add the noise. The caller stores it with the plan, and
    /// deletes it with the outcome.
    pub noise: Option<NoiseKey>,
}

/// What a task carries from round to round.
#[derive(Clone, Debug, PartialEq)]
pub struct TaskState {
    /// The version that the next round continues from.
    pub adapter: AdapterVersion,
    /// The server's optimiser.
    pub optimizer: OptimizerState,
    /// The budget.
    pub account: Account,
}

/// A round that cannot be opened.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum OpenError {
    /// The plan is not this coordinator's, or out of range.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The plan does not continue from the task's adapter.
    #[error("the plan of round {round} does not list the task's present adapter among its parents")]
    Parent {
        /// The plan's round.
        round: u64,
    },
    /// The plan builds on another ledger.
    #[error("the plan of round {round} builds on another ledger head than the task's: plan it again")]
    LedgerHead {
        /// The plan's round.
        round: u64,
    },
    /// The key of the noise is not the one that the plan is bound to.
    #[error(
        "the plan of round {round} is bound to another key of noise than the one given, or none was given: the sum must not be \
         released under two noises, so resume with the key that was stored with the plan, or plan anew"
    )]
    NoiseKey {
        /// The plan's round.
        round: u64,
    },
    /// The clip norm does not follow from the ledger.
    #[error(
        "the plan of round {round} clips to {found}, but {due} follows from the last round: plan it again"
    )]
    Clip {
        /// The plan's round.
        round: u64,
        /// Its clip norm.
        found: f64,
        /// The clip norm that is due.
        due: f64,
    },
    /// Plan, adapter and optimiser differ in their coordinates.
    #[error("the plan has {plan} coordinates, the adapter {adapter}, the optimiser {optimizer}")]
    Dimension {
        /// The plan's.
        plan: usize,
        /// The adapter's.
        adapter: usize,
        /// The optimiser's.
        optimizer: usize,
    },
    /// Secure aggregation refuses the terms.
    #[error(transparent)]
    Terms(#[from] Abort),
}

/// A round on its way, with the state of its task.
#[derive(Debug)]
pub struct Driver {
    plan: Arc<RoundPlan>,
    state: TaskState,
    round: Round,
    deadline: Millis,
    /// Whether the account holds this attempt's own reservation, and not one that another attempt at the round left.
    reserved: bool,
    /// Taken by the one release.
    noise: Option<NoiseKey>,
}

impl Driver {
    /// Opens a round at `now`.
    ///
    /// # Errors
    /// [`OpenError`] when plan and task do not belong together. (The task's state is then still the caller's clone.)
    pub fn open(setup: RoundSetup, state: TaskState, now: Millis) -> Result<Self, OpenError> {
        let plan = Arc::new(setup.plan.verify(&setup.coordinator)?.clone());
        let round = plan.round;
        if plan.parents.binary_search(state.adapter.digest()).is_err() {
            return Err(OpenError::Parent { round });
        }
        if plan.ledger_head != state.account.ledger().head() {
            return Err(OpenError::LedgerHead { round });
        }
        check_noise(&plan, setup.noise.as_ref(), &state)?;
        let dimensions =
            (plan.privacy.dimension as usize, state.adapter.values().len(), state.optimizer.dimension());
        if dimensions.0 != dimensions.1 || dimensions.1 != dimensions.2 {
            let (plan, adapter, optimizer) = dimensions;
            return Err(OpenError::Dimension { plan, adapter, optimizer });
        }
        let advertise = Advertise::new(&plan, setup.root, setup.invited)?;
        let deadline = now.saturating_add(plan.deadlines.advertise);
        let round = Round::Advertise(advertise);
        Ok(Self { plan, state, round, deadline, reserved: false, noise: setup.noise })
    }

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

    /// When the present phase closes at the latest; none once the round has ended. A [`Event::Tick`] at that time, or later,
    /// closes it.
    #[must_use]
    pub fn deadline(&self) -> Option<Millis> {
        (!self.has_ended()).then_some(self.deadline)
    }

    /// Whether the round has ended.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        matches!(self.round, Round::Committed(_) | Round::Failed(_))
    }

    /// Takes an event at the time `now`. A phase closes as soon as everyone has answered whom it waits for, and at its
    /// deadline otherwise; a message that comes at or after the deadline finds the phase closed.
    pub fn handle(&mut self, event: Event, now: Millis) -> Vec<Outgoing> {
        let mut outgoing = Vec::new();
        // Deadlines of several phases may have passed when nothing called in between; but a phase that opens now stays open.
        if !self.has_ended() && now >= self.deadline {
            outgoing.extend(self.close(now, true));
        }
        if let Event::Message { from, message } = event {
            match self.accept(from, message, now) {
                Ok(Progress::Waiting) => {}
                Ok(Progress::Complete) => outgoing.extend(self.close(now, false)),
                Err(refusal) => outgoing.push(Outgoing::Refuse(refusal)),
            }
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

    /// Ends a round whose cohort has just closed with a sum that was never masked. For simulations only: the arithmetic, the
    /// budget and the result are those of the masked round with the same survivors.
    ///
    /// # Errors
    /// The driver itself when the round is not in Share.
    pub fn finish_with_plain_sum(
        mut self,
        survivors: &BTreeSet<ClientId>,
        vector: RingVector,
    ) -> Result<Outcome, Box<Self>> {
        let Some(closed) = self.round.cohort().cloned().filter(|_| matches!(self.round, Round::Share(_)))
        else {
            return Err(Box::new(self));
        };
        let n_min = closed.list.params.n_min;
        let strangers = survivors.iter().any(|client| closed.list.index_of(*client).is_none());
        if strangers || survivors.len() < n_min as usize {
            let reason = FailureReason::PlainSurvivors { survivors: survivors.len(), n_min };
            self.round = self.fail(Step::Collect, reason);
            return self.finish();
        }
        let survivors: Vec<ClientId> = survivors.iter().copied().collect();
        let summed = Summed::plain(vector, survivors.clone(), Arc::new(closed.clone()));
        let noise = self.noise.take();
        self.round = match summed.release(&self.plan, noise.as_ref(), &mut self.state) {
            Ok(released) => Round::Committed(released),
            Err(reason) => self.forfeit(&closed, survivors, reason),
        };
        self.finish()
    }

    fn accept(&mut self, from: ClientId, message: ClientMessage, now: Millis) -> Result<Progress, Refusal> {
        let (sent, current) = (message.step(), self.round.step());
        match (&mut self.round, message) {
            (Round::Advertise(phase), ClientMessage::Advert(advert)) => phase.accept(from, advert, now),
            (Round::Share(phase), ClientMessage::Share(message)) => phase.accept(from, message),
            (Round::Collect(phase), ClientMessage::MaskedHeader(header)) => phase.begin(from, &header),
            (Round::Collect(phase), ClientMessage::MaskedChunk(chunk)) => phase.append(from, &chunk),
            (Round::Confirm(phase), ClientMessage::Confirm(confirm)) => phase.accept(from, &confirm),
            (Round::Unmask(phase), ClientMessage::Unmask(shares)) => phase.accept(from, &shares),
            _ => Err(Refusal::OutOfStep { client: from, round: self.plan.round, sent, current }),
        }
    }

    /// Closes the present phase and opens the next.
    fn close(&mut self, now: Millis, last: bool) -> Vec<Outgoing> {
        // Should a transition not end, the round must not go on from where it was.
        let interrupted = Failed {
            round: self.plan.round,
            step: Step::Advertise,
            reason: FailureReason::Interrupted,
            debited: Vec::new(),
        };
        let before = std::mem::replace(&mut self.round, Round::Failed(interrupted));
        let (after, outgoing) = match before {
            Round::Advertise(phase) => self.close_advertise(phase),
            Round::Share(phase) => match phase.close() {
                Ok(next) => {
                    let messages = sends(next.sharers().iter().copied(), |client| next.message_for(client));
                    (Round::Collect(next), messages)
                }
                Err(reason) => self.end(Step::Share, reason),
            },
            Round::Collect(phase) => match phase.close() {
                Ok(next) => {
                    let survivors: Vec<ClientId> = next.survivors().collect();
                    let messages = sends(survivors, |client| next.message_for(client));
                    (Round::Confirm(next), messages)
                }
                Err(reason) => self.end(Step::Collect, reason),
            },
            Round::Confirm(phase) => match phase.close() {
                Ok(next) => {
                    let messages = sends(next.answering(), |client| next.message_for(client));
                    (Round::Unmask(next), messages)
                }
                Err(reason) => self.end(Step::Confirm, reason),
            },
            Round::Unmask(phase) => return self.close_unmask(phase, last),
            ended => (ended, Vec::new()),
        };
        self.open_phase(after, now);
        outgoing
    }

    fn open_phase(&mut self, round: Round, now: Millis) {
        let deadlines = &self.plan.deadlines;
        let open_for = match &round {
            Round::Advertise(_) => deadlines.advertise,
            Round::Share(_) => deadlines.share,
            Round::Collect(_) => deadlines.collect,
            Round::Confirm(_) => deadlines.confirm,
            Round::Unmask(_) => deadlines.unmask,
            Round::Committed(_) | Round::Failed(_) => 0,
        };
        self.deadline = now.saturating_add(open_for);
        self.round = round;
    }

    /// Closes the cohort. The reservation comes first: whoever reads the cohort list may upload.
    fn close_advertise(&mut self, phase: Advertise) -> (Round, Vec<Outgoing>) {
        let next = match phase.close(&self.plan) {
            Ok(next) => next,
            Err(reason) => return self.end(Step::Advertise, reason),
        };
        let reservation = next.cohort().reservation(self.plan.round);
        if let Err(error) = self.state.account.reserve(reservation.clone()) {
            return self.end(Step::Advertise, error.into());
        }
        self.reserved = true;
        let mut outgoing = vec![Outgoing::Reserve(reservation)];
        outgoing.extend(sends(next.cohort().members(), |client| next.message_for(client)));
        (Round::Share(next), outgoing)
    }

    fn close_unmask(&mut self, phase: super::Unmask, last: bool) -> Vec<Outgoing> {
        let (closed, survivors) = (phase.cohort().clone(), phase.survivors().to_vec());
        let reason = match phase.close(last) {
            Ok(summed) => {
                let noise = self.noise.take();
                match summed.release(&self.plan, noise.as_ref(), &mut self.state) {
                    Ok(released) => {
                        self.round = Round::Committed(released);
                        return vec![Outgoing::End];
                    }
                    Err(reason) => reason,
                }
            }
            Err(Ok(waiting)) => {
                self.round = Round::Unmask(*waiting);
                return Vec::new();
            }
            Err(Err(abort)) => abort.into(),
        };
        self.round = self.forfeit(&closed, survivors, reason);
        vec![Outgoing::End]
    }

    /// Ends a round whose sum may be known: its survivors pay in full.
    fn forfeit(&mut self, closed: &Closed, survivors: Vec<ClientId>, reason: FailureReason) -> Round {
        let round = self.plan.round;
        let paid = cost_of(closed, survivors.len() as u32).and_then(|cost| {
            self.state.account.forfeit(round, &survivors, &cost).map_err(FailureReason::from)
        });
        // If even that fails the reservation stays, and counts as spent.
        let debited = if paid.is_ok() { survivors } else { Vec::new() };
        Round::Failed(Failed { round, step: RELEASE, reason, debited })
    }

    fn end(&mut self, step: Step, reason: FailureReason) -> (Round, Vec<Outgoing>) {
        (self.fail(step, reason), vec![Outgoing::End])
    }

    /// Ends the round before its first Unmask request: nothing was or can be released, so nothing is paid.
    fn fail(&mut self, step: Step, reason: FailureReason) -> Round {
        let round = self.plan.round;
        // A reservation that another attempt at the round made stays: that one may have released its sum.
        if self.reserved {
            self.state.account.release(round);
        }
        Round::Failed(Failed { round, step, reason, debited: Vec::new() })
    }
}

/// Checks what the coordinator's own noise needs: the key that the plan is bound to, and the clip norm that is due.
fn check_noise(plan: &RoundPlan, noise: Option<&NoiseKey>, state: &TaskState) -> Result<(), OpenError> {
    let round = plan.round;
    let Trust::Central { noise_commitment, adaptive_clip } = &plan.privacy.trust else { return Ok(()) };
    if noise.is_none_or(|key| key.commitment() != *noise_commitment) {
        return Err(OpenError::NoiseKey { round });
    }
    let (found, ledger) = (plan.privacy.clip, state.account.ledger());
    match adaptive_clip.as_ref().and_then(|rule| ledger.next_clip(rule)) {
        Some(due) if due != found => Err(OpenError::Clip { round, found, due }),
        _ => Ok(()),
    }
}

impl Failed {
    /// Whether too few clients came or stayed, so that another attempt may do better.
    #[must_use]
    pub fn for_lack_of_clients(&self) -> bool {
        let FailureReason::Aborted(abort) = &self.reason else { return false };
        matches!(
            abort.reason,
            AbortReason::Parameters(_)
                | AbortReason::TooFewShared { .. }
                | AbortReason::TooFewSurvivors { .. }
                | AbortReason::Neighbourhood { .. }
                | AbortReason::NoQuorum { .. }
                | AbortReason::Unrecoverable { .. }
        )
    }
}

#[cfg(test)]
mod tests;
