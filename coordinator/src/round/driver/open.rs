//! Opening a round, and coming back to one after a crash. Must never begin what plan, task and account do not agree on.

use super::progress::CHECKPOINT_BYTES;
use super::{Arc, BTreeMap, BTreeSet, ClientId, Closed, Driver, Millis, Phase, Round, Session};
use crate::account::Account;
use crate::optimizer::OptimizerState;
use tacit_aggregation::identity::PublicKey;
use tacit_aggregation::journal::JournalError;
use tacit_aggregation::server::Abort;
use tacit_privacy::NoiseKey;
use tacit_proto::AdapterVersion;
use tacit_proto::{PlanError, RoundPlan, SignedPlan, Trust};

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
    #[error(
        "the plan of round {round} builds on a ledger that this one never was, or that its task has moved on from: plan it again"
    )]
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

/// A round that cannot be come back to.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum RestoreError {
    /// It was open in a backup that was restored.
    #[error(
        "round {round} was open in the backup that was restored; what became of it then is not known, and what was set aside for \
         it stays spent"
    )]
    Restarted {
        /// The round.
        round: u64,
    },
    /// Plan and task do not belong together.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// A record is damaged, missing, or another round's.
    #[error(
        "round {round} cannot be restored: {reason}; abort it, its reservation counts as spent until then"
    )]
    Journal {
        /// The round.
        round: u64,
        /// What is wrong.
        reason: JournalError,
    },
}

impl Driver {
    /// Opens a round at `now`.
    ///
    /// # Errors
    /// [`OpenError`] when plan and task do not belong together. (The task's state is then still the caller's clone.)
    pub fn open(
        setup: RoundSetup,
        state: TaskState,
        account: &Account,
        now: Millis,
    ) -> Result<Self, OpenError> {
        let plan = Arc::new(setup.plan.verify(&setup.coordinator)?.clone());
        let round = plan.round;
        if !account.admits(&plan.task, &plan.ledger_head) {
            return Err(OpenError::LedgerHead { round });
        }
        check_clip(&plan, account)?;
        let session = Session::open(Arc::new(plan.terms()), setup.root)?;
        Self::assemble(plan, setup, state, session, now)
    }

    /// Comes back to a round from the records that its keeper was given, in the order of their keys, with the account as it was
    /// stored with them. The present step stays open for its whole time again, counted from `now`.
    ///
    /// # Errors
    /// [`RestoreError`] names what does not fit; nothing has changed.
    pub fn restore<B: AsRef<[u8]>>(
        setup: RoundSetup,
        state: TaskState,
        records: impl IntoIterator<Item = B>,
        account: &mut Account,
        now: Millis,
    ) -> Result<Self, RestoreError> {
        let plan = Arc::new(setup.plan.verify(&setup.coordinator).map_err(OpenError::from)?.clone());
        let round = plan.round;
        let session = Session::restore(Arc::new(plan.terms()), setup.root, records)
            .map_err(|reason| RestoreError::Journal { round, reason })?;
        let mut driver = Self::assemble(plan, setup, state, session, now)?;
        driver.reserved = account.reservation(&driver.plan.task, round).is_some();
        driver.opened(now, account);
        Ok(driver)
    }

    fn assemble(
        plan: Arc<RoundPlan>,
        setup: RoundSetup,
        state: TaskState,
        session: Session,
        now: Millis,
    ) -> Result<Self, OpenError> {
        let round = plan.round;
        if plan.parents.binary_search(state.adapter.digest()).is_err() {
            return Err(OpenError::Parent { round });
        }
        if let Trust::Central { noise_commitment, .. } = &plan.privacy.trust
            && setup.noise.as_ref().is_none_or(|key| key.commitment() != *noise_commitment)
        {
            return Err(OpenError::NoiseKey { round });
        }
        let dimensions =
            (plan.privacy.dimension as usize, state.adapter.values().len(), state.optimizer.dimension());
        if dimensions.0 != dimensions.1 || dimensions.1 != dimensions.2 {
            let (plan, adapter, optimizer) = dimensions;
            return Err(OpenError::Dimension { plan, adapter, optimizer });
        }
        let deadline = now.saturating_add(plan.deadlines.advertise);
        // A session that is further than this has a cohort; what it means is worked out again.
        let known = session.cohort().filter(|_| !matches!(session.phase(), Phase::Share(_)));
        let closed = known.map(|(list, rotation)| Closed::new(&plan, Arc::clone(list), rotation));
        let round = match closed {
            Some(Ok(closed)) => Round::Running(session, Arc::new(closed)),
            _ => Round::Gathering(session),
        };
        Ok(Self {
            plan,
            state,
            round,
            invited: setup.invited,
            deadline,
            reserved: false,
            tried: false,
            unrecorded: 0,
            record_after: CHECKPOINT_BYTES,
            announced: BTreeMap::<ClientId, _>::new(),
            noise: setup.noise,
        })
    }
}

/// Checks that the clip norm is the one that is due.
fn check_clip(plan: &RoundPlan, account: &Account) -> Result<(), OpenError> {
    let Trust::Central { adaptive_clip, .. } = &plan.privacy.trust else { return Ok(()) };
    let (round, found) = (plan.round, plan.privacy.clip);
    match adaptive_clip.as_ref().and_then(|rule| account.next_clip(&plan.task, rule)) {
        Some(due) if due != found => Err(OpenError::Clip { round, found, due }),
        _ => Ok(()),
    }
}
