//! The server's side of a round across crashes. Must never acknowledge a message, nor act on the end of a step, before the
//! record of it is stored; nor begin a step in two ways.
//!
//! There is one record per message, under (step, client), one per exclusion, and one at the end of each step, which fixes what
//! the step was closed over. Each goes to the caller's `store` before the result is handed out; when that fails the session is
//! spent, and [`Session::restore`] finds out from the records what was written. An aborted round stays aborted.
//!
//! The vectors are the caller's to store ([`Session::vector`]). Those that a checkpoint of the running sum covers may be
//! deleted. One sum is held in memory, and while a checkpoint is written two packed copies of it.

mod restore;

use super::{
    Abort, Advertise, Collect, Confirm, MaskedSum, Receipt, Roster, ServerError, Share, Sum, Summation,
    Unmask, Upload, VectorSummary,
};
use crate::context::Context;
use crate::identity::{ClientId, PublicKey};
use crate::journal::{
    Key, Kind, Record, Scope, Slot, Stored as _, Unanswered, Writer, write_bytes, write_list,
};
use crate::messages::{
    Advert, CohortList, Confirm as Confirmation, MaskedHeader, ShareMessage, UnmaskShares,
};
use crate::params::RoundTerms;
use crate::{Digest, Step};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::mem;
use std::sync::Arc;

/// The server's side of one round.
#[derive(Debug)]
pub struct Session {
    scope: Scope,
    phase: Phase,
    /// Checksums of the open step's records.
    tags: BTreeMap<ClientId, Digest>,
    /// The closed cohort and its rotation seed, also when the round is over.
    cohort: Option<(Arc<CohortList>, Digest)>,
    /// Whose vectors are in the sum, once that is settled.
    survivors: Vec<ClientId>,
}

/// Where a round stands. What goes out to clients is asked from the phase itself, as often as needed.
#[derive(Debug)]
pub enum Phase {
    /// Adverts are gathered.
    Advertise(Advertise),
    /// Sealed shares are gathered.
    Share(Share),
    /// Masked vectors are gathered.
    Collect(Collect),
    /// Survivors confirm, while their vectors are added.
    Confirm(Confirm, Summation),
    /// Shares are gathered that unmask the sum.
    Unmask(Unmask, MaskedSum),
    /// The sum is known.
    Released(Sum),
    /// The round ended without a sum.
    Aborted(Abort),
    /// A record could not be stored: the session must be restored.
    Interrupted,
}

impl Phase {
    /// The step whose messages are taken; none when the round is over.
    #[must_use]
    pub fn step(&self) -> Option<Step> {
        match self {
            Self::Advertise(_) => Some(Step::Advertise),
            Self::Share(_) => Some(Step::Share),
            Self::Collect(_) => Some(Step::Collect),
            Self::Confirm(..) => Some(Step::Confirm),
            Self::Unmask(..) => Some(Step::Unmask),
            Self::Released(_) | Self::Aborted(_) | Self::Interrupted => None,
        }
    }

    fn roster(&self) -> Option<&Roster> {
        match self {
            Self::Share(phase) => Some(&phase.roster),
            Self::Collect(phase) => Some(&phase.roster),
            Self::Confirm(phase, _) => Some(&phase.standing.roster),
            Self::Unmask(phase, _) => Some(&phase.standing.roster),
            _ => None,
        }
    }

    fn context(&self) -> Option<Context> {
        self.roster().map(|roster| roster.cohort.context)
    }

    fn excluded(&self) -> usize {
        self.roster().map_or(0, |roster| roster.excluded.len())
    }

    /// The next phase, or the abort, as all records so far determine it.
    fn close(self) -> Self {
        let next = match self {
            Self::Advertise(phase) => phase.close().map(Self::Share),
            Self::Share(phase) => phase.close().map(Self::Collect),
            Self::Collect(phase) => phase.close().map(|(next, sum)| Self::Confirm(next, sum)),
            Self::Confirm(phase, sum) => phase.close().and_then(|next| Ok(Self::Unmask(next, sum.finish()?))),
            Self::Unmask(phase, sum) => phase.close(sum).map(Self::Released),
            over => Ok(over),
        };
        next.unwrap_or_else(Self::Aborted)
    }
}

/// What an event gives, or why it gives nothing.
type Outcome<T, S> = Result<T, Unanswered<ServerError, S>>;

impl Session {
    /// Opens a round, as [`Advertise::new`]. There is nothing to store yet: the terms are the plan's.
    ///
    /// # Errors
    /// [`Abort`] when the terms are out of range.
    pub fn open(terms: Arc<RoundTerms>, root: PublicKey) -> Result<Self, Abort> {
        let scope = Scope::new(&terms, None);
        let phase = Phase::Advertise(Advertise::new(terms, root)?);
        Ok(Self { scope, phase, tags: BTreeMap::new(), cohort: None, survivors: Vec::new() })
    }

    /// Where the round stands.
    #[must_use]
    pub fn phase(&self) -> &Phase {
        &self.phase
    }

    /// Gives the phase away, at the end of the round.
    #[must_use]
    pub fn into_phase(self) -> Phase {
        self.phase
    }

    /// The closed cohort and the public seed of its rotation, from Share on, also when the round is over.
    #[must_use]
    pub fn cohort(&self) -> Option<(&Arc<CohortList>, Digest)> {
        self.cohort.as_ref().map(|(list, rotation)| (list, *rotation))
    }

    /// Whose vectors are in the sum, in the order of their ids: from Unmask on, also when the round is over.
    #[must_use]
    pub fn survivors(&self) -> &[ClientId] {
        &self.survivors
    }

    /// Takes an advert, as [`Advertise::accept`].
    ///
    /// # Errors
    /// [`ServerError`] says why it is refused.
    pub fn advert<S>(
        &mut self,
        advert: Arc<Advert>,
        now: u64,
        store: impl FnOnce(&Record) -> Result<(), S>,
    ) -> Outcome<Receipt, S> {
        let client = advert.client();
        let Phase::Advertise(phase) = &mut self.phase else {
            return Err(self.not_open(client, Step::Advertise).into());
        };
        let result = phase.accept(Arc::clone(&advert), now);
        let body = |writer: &mut Writer| {
            now.write(writer);
            advert.write(writer);
        };
        self.keep(client, 0, result, body, store)
    }

    /// Takes sealed shares, as [`Share::accept`].
    ///
    /// # Errors
    /// [`ServerError`] says why they are refused.
    pub fn share<S>(
        &mut self,
        message: Arc<ShareMessage>,
        store: impl FnOnce(&Record) -> Result<(), S>,
    ) -> Outcome<Receipt, S> {
        let (client, excluded) = (message.client, self.phase.excluded());
        let Phase::Share(phase) = &mut self.phase else {
            return Err(self.not_open(client, Step::Share).into());
        };
        let result = phase.accept(Arc::clone(&message));
        self.keep(client, excluded, result, |writer| message.write(writer), store)
    }

    /// Opens the upload of a masked vector, as [`Collect::begin`]. Only an exclusion is stored.
    ///
    /// # Errors
    /// [`ServerError`] says why the announcement is refused.
    pub fn begin<S>(
        &mut self,
        header: &MaskedHeader,
        store: impl FnOnce(&Record) -> Result<(), S>,
    ) -> Outcome<Upload, S> {
        let (client, excluded) = (header.client, self.phase.excluded());
        let Phase::Collect(phase) = &mut self.phase else {
            return Err(self.not_open(client, Step::Collect).into());
        };
        match phase.begin(header) {
            Ok(upload) => Ok(upload),
            Err(error) => Err(self.refuse(client, excluded, error, store)),
        }
    }

    /// Takes a whole masked vector, as [`Collect::accept`]. The record holds its announcement alone: the vector is to be durable
    /// before the record, or in one write with it. `store` is not called for a vector that is refused or known, whose bytes may
    /// be others than the accepted ones.
    ///
    /// # Errors
    /// [`ServerError`] says why it is refused.
    pub fn vector<S>(
        &mut self,
        header: &MaskedHeader,
        vector: &VectorSummary,
        store: impl FnOnce(&Record) -> Result<(), S>,
    ) -> Outcome<Receipt, S> {
        let (client, excluded) = (header.client, self.phase.excluded());
        let Phase::Collect(phase) = &mut self.phase else {
            return Err(self.not_open(client, Step::Collect).into());
        };
        let result = phase.accept(header, vector);
        self.keep(client, excluded, result, |writer| header.write(writer), store)
    }

    /// Adds a survivor's stored vector to the sum, as [`Summation::add`]. Lost in a crash unless [`Self::checkpoint`] follows.
    ///
    /// # Errors
    /// [`ServerError`] when it is not the survivor's, or was added before.
    pub fn add(&mut self, client: ClientId, packed: &[u8]) -> Result<(), ServerError> {
        match &mut self.phase {
            Phase::Confirm(_, summation) => summation.add(client, packed),
            _ => Err(ServerError::NotInStep),
        }
    }

    /// Stores the sum so far, in place of the last checkpoint. The vectors in it are needed no more.
    ///
    /// # Errors
    /// [`ServerError::NotInStep`] outside of Confirm. A failed write changes nothing.
    pub fn checkpoint<S>(&self, store: impl FnOnce(&Record) -> Result<(), S>) -> Outcome<(), S> {
        let Phase::Confirm(phase, summation) = &self.phase else {
            return Err(ServerError::NotInStep.into());
        };
        let (added, packed) = summation.so_far();
        let key = Key { step: Step::Confirm, slot: Slot::Checkpoint };
        let context = &phase.standing.roster.cohort.context;
        let record = self.scope.record(key, Kind::Checkpoint, Some(context), |writer| {
            phase.standing.maps.write(writer);
            write_list(&added, writer);
            write_bytes(&packed, writer);
        });
        drop(packed);
        store(&record).map_err(Unanswered::NotStored)
    }

    /// Takes a confirmation, as [`Confirm::accept`].
    ///
    /// # Errors
    /// [`ServerError`] says why it is refused.
    pub fn confirm<S>(
        &mut self,
        confirm: &Confirmation,
        store: impl FnOnce(&Record) -> Result<(), S>,
    ) -> Outcome<Receipt, S> {
        let (client, excluded) = (confirm.client, self.phase.excluded());
        let Phase::Confirm(phase, _) = &mut self.phase else {
            return Err(self.not_open(client, Step::Confirm).into());
        };
        let result = phase.accept(confirm);
        self.keep(client, excluded, result, |writer| confirm.write(writer), store)
    }

    /// Takes shares that unmask the sum, as [`Unmask::accept`].
    ///
    /// # Errors
    /// [`ServerError`] says why they are refused.
    pub fn unmask<S>(
        &mut self,
        shares: &UnmaskShares,
        store: impl FnOnce(&Record) -> Result<(), S>,
    ) -> Outcome<Receipt, S> {
        let (client, excluded) = (shares.client, self.phase.excluded());
        let Phase::Unmask(phase, _) = &mut self.phase else {
            return Err(self.not_open(client, Step::Unmask).into());
        };
        let result = phase.accept(shares);
        self.keep(client, excluded, result, |writer| shares.write(writer), store)
    }

    /// Closes the open step for good, and says where the round stands then: in the next step, released or aborted. Confirm is
    /// closed with the whole sum, of which a checkpoint is stored first.
    ///
    /// # Errors
    /// [`ServerError`] when the round is over or a vector is still to be added; nothing has changed then.
    pub fn close<S>(&mut self, mut store: impl FnMut(&Record) -> Result<(), S>) -> Outcome<&Phase, S> {
        let Some(step) = self.phase.step() else {
            let interrupted = matches!(self.phase, Phase::Interrupted);
            return Err(if interrupted { ServerError::Interrupted } else { ServerError::NotInStep }.into());
        };
        if let Phase::Confirm(_, summation) = &self.phase {
            if let Some(client) = summation.missing().next() {
                return Err(ServerError::VectorNotAdded { client }.into());
            }
            self.checkpoint(&mut store)?;
        }
        let record = self.end_of(step);
        let next = mem::replace(&mut self.phase, Phase::Interrupted).close();
        store(&record).map_err(Unanswered::NotStored)?;
        self.enter(next);
        Ok(&self.phase)
    }

    /// Closes Unmask if the shares that have come release the sum, and says whether they do. A bad one among the least number
    /// of shares may still be in the way: nothing has changed then, and the step goes on.
    ///
    /// # Errors
    /// [`ServerError::NotInStep`] outside of Unmask.
    pub fn release<S>(&mut self, store: impl FnOnce(&Record) -> Result<(), S>) -> Outcome<bool, S> {
        let Phase::Unmask(phase, masked) = &self.phase else { return Err(ServerError::NotInStep.into()) };
        let Ok(sum) = phase.clone().close(masked.clone()) else { return Ok(false) };
        let record = self.end_of(Step::Unmask);
        if let Err(error) = store(&record) {
            self.phase = Phase::Interrupted;
            return Err(Unanswered::NotStored(error));
        }
        self.enter(Phase::Released(sum));
        Ok(true)
    }

    fn end_of(&self, step: Step) -> Record {
        let key = Key { step, slot: Slot::Closed };
        self.scope.record(key, Kind::Closed, self.phase.context().as_ref(), |writer| {
            (self.tags.len() as u32).write(writer);
            digest_of_tags(&self.tags).write(writer);
        })
    }

    /// Begins a phase, and keeps what the round is remembered by.
    fn enter(&mut self, phase: Phase) {
        match &phase {
            Phase::Share(share) => self.cohort = Some((Arc::clone(share.list()), share.rotation_seed())),
            Phase::Unmask(unmask, _) => self.survivors = unmask.survivors().collect(),
            _ => {}
        }
        self.tags.clear();
        self.phase = phase;
    }

    fn not_open(&self, client: ClientId, step: Step) -> ServerError {
        match self.phase {
            Phase::Interrupted => ServerError::Interrupted,
            _ => ServerError::NotOpen { client, step },
        }
    }

    /// Stores what a phase accepted, before that is acknowledged.
    fn keep<S>(
        &mut self,
        client: ClientId,
        excluded: usize,
        result: Result<Receipt, ServerError>,
        body: impl FnOnce(&mut Writer),
        store: impl FnOnce(&Record) -> Result<(), S>,
    ) -> Outcome<Receipt, S> {
        match result {
            Ok(Receipt::Repeated) => Ok(Receipt::Repeated),
            Ok(Receipt::Accepted) => {
                self.store(client, Kind::Message, body, store)?;
                Ok(Receipt::Accepted)
            }
            Err(error) => Err(self.refuse(client, excluded, error, store)),
        }
    }

    /// Stores that a refused message had its sender excluded, if it had: one more than `excluded` are.
    fn refuse<S>(
        &mut self,
        client: ClientId,
        excluded: usize,
        error: ServerError,
        store: impl FnOnce(&Record) -> Result<(), S>,
    ) -> Unanswered<ServerError, S> {
        if self.phase.excluded() == excluded {
            return Unanswered::Refused(error);
        }
        match self.store(client, Kind::Excluded, |_| {}, store) {
            Ok(()) => Unanswered::Refused(error),
            Err(unanswered) => unanswered,
        }
    }

    fn store<S>(
        &mut self,
        client: ClientId,
        kind: Kind,
        body: impl FnOnce(&mut Writer),
        store: impl FnOnce(&Record) -> Result<(), S>,
    ) -> Outcome<(), S> {
        let step = self.phase.step().ok_or(ServerError::NotInStep)?;
        let key = Key { step, slot: Slot::Member(client) };
        let record = self.scope.record(key, kind, self.phase.context().as_ref(), body);
        if let Err(error) = store(&record) {
            self.phase = Phase::Interrupted;
            return Err(Unanswered::NotStored(error));
        }
        self.tags.insert(client, record.tag());
        Ok(())
    }
}

/// One digest over the records of a step, in the order of clients.
fn digest_of_tags(tags: &BTreeMap<ClientId, Digest>) -> Digest {
    let mut hash = Sha256::new();
    tags.values().for_each(|tag| hash.update(tag));
    hash.finalize().into()
}
