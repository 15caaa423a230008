//! From one step of a round to the next. Must never open a step for whose predecessor the reservation is missing, nor leave a
//! round without an end.

use super::{
    Arc, ClientId, Closed, Driver, Failed, FailureReason, Millis, Outgoing, Phase, Progress, RELEASE, Round,
    Session, Step, Summed, Tools, Unanswered,
};
use crate::account::Account;
use std::convert::Infallible;
use tacit_aggregation::server::ServerError;
use tacit_proto::RoundPlan;

/// Bytes of masked vectors after which the running sum is put on record, so that a restart does not read them again.
pub(super) const CHECKPOINT_BYTES: usize = 256 << 20;

impl Driver {
    /// Adds vectors to the sum, about `bytes` of them at once; says whether there are more. To be called between events while
    /// the round confirms: closing that step adds whatever is missing, and takes as long.
    ///
    /// A vector that cannot be read or was changed ends the round.
    pub fn work(
        &mut self,
        bytes: usize,
        now: Millis,
        account: &mut Account,
        keeper: &mut dyn super::Keeper,
    ) -> bool {
        let mut tools = Tools { account, keeper };
        match self.add_vectors(bytes, &mut tools) {
            Ok(more) => more,
            Err(reason) => {
                self.round = self.fail(Step::Confirm, reason, now, tools.account);
                false
            }
        }
    }

    fn add_vectors(&mut self, bytes: usize, tools: &mut Tools<'_>) -> Result<bool, FailureReason> {
        let Round::Running(session, _) = &mut self.round else { return Ok(false) };
        let Phase::Confirm(_, summation) = session.phase() else { return Ok(false) };
        let missing: Vec<ClientId> = summation.missing().collect();
        let mut added = 0;
        for &client in &missing {
            if added >= bytes {
                return Ok(true);
            }
            let packed = tools.keeper.vector(client).map_err(FailureReason::Storage)?;
            session.add(client, &packed).map_err(FailureReason::Vector)?;
            added += packed.len();
            self.unrecorded += packed.len();
            if self.unrecorded >= self.record_after {
                self.unrecorded = 0;
                let Ok(()) = session.checkpoint(tools.keep()).map_err(closing) else { break };
            }
        }
        Ok(false)
    }

    /// Whether everybody whom the present step waits for has answered.
    pub(super) fn progress(&self) -> Progress {
        let Some(session) = self.round.session() else { return Progress::Waiting };
        Progress::when(match session.phase() {
            Phase::Advertise(phase) => {
                phase.count() == self.plan.cohort.max || phase.count() as usize == self.invited.len()
            }
            Phase::Share(phase) => phase.count() == phase.list().params.n,
            Phase::Collect(phase) => phase.count() == phase.expected(),
            Phase::Confirm(phase, _) => phase.count() == phase.maps().survived.count(),
            Phase::Unmask(phase, _) => {
                phase.count() as usize == phase.answering().count() || (!self.tried && phase.is_complete())
            }
            Phase::Released(_) | Phase::Aborted(_) | Phase::Interrupted => false,
        })
    }

    /// Closes the present step and opens the next.
    pub(super) fn close(&mut self, now: Millis, last: bool, tools: &mut Tools<'_>) -> Vec<Outgoing> {
        // The whole sum belongs to the end of Confirm.
        if let Err(reason) = self.add_vectors(usize::MAX, tools) {
            self.round = self.fail(Step::Confirm, reason, now, tools.account);
            return vec![Outgoing::End];
        }
        let (Round::Gathering(session) | Round::Running(session, _)) = &mut self.round else {
            return Vec::new();
        };
        let waits = matches!(session.phase(), Phase::Unmask(phase, _) if !last
            && (phase.count() as usize) < phase.answering().count());
        let step = session.phase().step().unwrap_or(RELEASE);
        let closed = if waits {
            // With the least number of shares a bad one may still be in the way: the step then waits for more.
            self.tried = true;
            match session.release(tools.keep()) {
                Ok(true) => Ok(()),
                Ok(false) => return Vec::new(),
                Err(error) => Err(closing(error)),
            }
        } else {
            session.close(tools.keep()).map(|_| ()).map_err(closing)
        };
        if let Err(error) = closed {
            self.round = self.fail(step, FailureReason::Vector(error), now, tools.account);
            return vec![Outgoing::End];
        }
        self.opened(now, tools.account)
    }

    /// What follows from the phase that a session has just come to.
    pub(super) fn opened(&mut self, now: Millis, account: &mut Account) -> Vec<Outgoing> {
        let ended = Round::Failed(Failed {
            round: self.plan.round,
            step: Step::Advertise,
            reason: FailureReason::Interrupted,
            debited: Vec::new(),
        });
        self.round = match std::mem::replace(&mut self.round, ended) {
            Round::Gathering(session) if matches!(session.phase(), Phase::Share(_)) => {
                match self.close_cohort(&session, now, account) {
                    Ok(closed) => Round::Running(session, closed),
                    Err(reason) => self.fail(Step::Advertise, reason, now, account),
                }
            }
            running => running,
        };
        let (step, finished) = match self.round.session().map(Session::phase) {
            None => return vec![Outgoing::End],
            Some(Phase::Released(_) | Phase::Aborted(_)) => (RELEASE, true),
            Some(phase) => (phase.step().unwrap_or(RELEASE), false),
        };
        if finished {
            self.end(now, account);
            return vec![Outgoing::End];
        }
        self.deadline = now.saturating_add(self.time_of(step));
        vec![Outgoing::Open(step)]
    }

    /// How long a step stays open at the most, in milliseconds.
    fn time_of(&self, step: Step) -> Millis {
        let deadlines = &self.plan.deadlines;
        match step {
            Step::Advertise => deadlines.advertise,
            Step::Share => deadlines.share,
            Step::Collect => deadlines.collect,
            Step::Confirm => deadlines.confirm,
            Step::Unmask => deadlines.unmask,
        }
    }

    /// Keeps the deadline within the open step's time from `now` on, so that a clock that was set back does not hold up the round.
    /// Whether it had to.
    pub fn keep_deadline(&mut self, now: Millis) -> bool {
        let step = self.round.session().and_then(|session| session.phase().step());
        let latest = step.map_or(Millis::MAX, |step| now.saturating_add(self.time_of(step)));
        let kept = latest < self.deadline;
        self.deadline = self.deadline.min(latest);
        kept
    }

    /// The reservation comes first: whoever reads the cohort list may upload.
    fn close_cohort(
        &mut self,
        session: &Session,
        now: Millis,
        account: &mut Account,
    ) -> Result<Arc<Closed>, FailureReason> {
        let Phase::Share(phase) = session.phase() else { return Err(FailureReason::Interrupted) };
        let closed = Arc::new(Closed::new(&self.plan, Arc::clone(phase.list()), phase.rotation_seed())?);
        if !self.reserved {
            account.reserve(closed.reservation(&self.plan), now)?;
            self.reserved = true;
        }
        Ok(closed)
    }

    /// Ends a round whose session is over.
    fn end(&mut self, now: Millis, account: &mut Account) {
        let interrupted = self.interrupted();
        let round = std::mem::replace(&mut self.round, interrupted);
        self.round = match round {
            Round::Running(session, closed) => {
                let survivors = session.survivors().to_vec();
                match session.into_phase() {
                    Phase::Released(sum) => {
                        self.release(Summed::new(sum, closed), now, account);
                        return;
                    }
                    Phase::Aborted(abort) if abort.step == Step::Unmask => {
                        self.forfeit(survivors, abort.into(), now, account)
                    }
                    Phase::Aborted(abort) => self.fail(abort.step, abort.into(), now, account),
                    _ => self.interrupted(),
                }
            }
            Round::Gathering(session) => match session.into_phase() {
                Phase::Aborted(abort) => self.fail(abort.step, abort.into(), now, account),
                _ => self.interrupted(),
            },
            ended => ended,
        };
    }

    pub(super) fn release(&mut self, summed: Summed, now: Millis, account: &mut Account) {
        let noise = self.noise.take();
        let survivors = summed.survivors().to_vec();
        self.round = match summed.release(&self.plan, noise.as_ref(), &mut self.state, account, now) {
            Ok(released) => Round::Committed(released),
            Err(reason) => self.forfeit(survivors, reason, now, account),
        };
    }

    /// Ends a round whose sum may be known: its survivors pay in full.
    pub(super) fn forfeit(
        &self,
        survivors: Vec<ClientId>,
        reason: FailureReason,
        now: Millis,
        account: &mut Account,
    ) -> Round {
        let RoundPlan { task, round, .. } = self.plan.as_ref();
        // If even that fails the reservation stays, and counts as spent.
        let debited = match account.forfeit(task, *round, &survivors, now) {
            Ok(_) => survivors,
            Err(error) => {
                tracing::error!(%task, round, %error, "a round's cost cannot be settled: its reservation stays");
                Vec::new()
            }
        };
        Round::Failed(Failed { round: *round, step: RELEASE, reason, debited })
    }

    /// Ends the round before its first Unmask request: nothing was or can be released, so nothing is paid.
    pub(super) fn fail(
        &self,
        step: Step,
        reason: FailureReason,
        now: Millis,
        account: &mut Account,
    ) -> Round {
        let RoundPlan { task, round, .. } = self.plan.as_ref();
        // A reservation that another attempt at the round made stays: that one may have released its sum.
        if self.reserved
            && let Err(error) = account.release(task, *round, &reason.to_string(), now)
        {
            tracing::error!(%task, round, %error, "a round's reservation cannot be released: it stays");
        }
        Round::Failed(Failed { round: *round, step, reason, debited: Vec::new() })
    }

    /// Should a transition not end, the round must not go on from where it was.
    fn interrupted(&self) -> Round {
        let (round, step) = (self.plan.round, Step::Advertise);
        Round::Failed(Failed { round, step, reason: FailureReason::Interrupted, debited: Vec::new() })
    }
}

/// Why a session could not close a step.
fn closing(unanswered: Unanswered<ServerError, Infallible>) -> ServerError {
    match unanswered {
        Unanswered::Refused(error) => error,
        Unanswered::NotStored(never) => match never {},
    }
}
