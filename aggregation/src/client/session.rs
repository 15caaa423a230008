//! A client's part in a round, from the first advert to the last share, across crashes. Must never hand out an answer before
//! the record that it follows from is stored, nor answer one step in two ways.
//!
//! Each event is checked, then its [`Record`] goes to the caller's `store`, and only when that says that it is durable the
//! answer comes out. The caller may store more in the same write, such as a debit. When `store` fails the session is spent:
//! [`Session::restore`] finds out from the records what was written.
//!
//! A repeated event gets the recorded answer; `store` is not called. Another one for an answered step is refused and changes
//! nothing. A lie ends the client's part for good. With the answer to Unmask, or the refusal of a lie, one last record replaces
//! all others ([`Record::replaces_all`]): the secrets are gone from the store, too.

mod restore;

use super::{Advertised, ClientError, ClientSetup, Confirmed, Finished, Masked, RoundSecrets, Shared};
use crate::context::Context;
use crate::identity::ClientId;
use crate::journal::{
    Key, Kind, Record, Scope, Slot, Stored as _, Unanswered, digest_of, write_bytes, write_list,
};
use crate::messages::{
    Advert, CohortList, Confirm, MaskedUpload, ShareDelivery, ShareMessage, SurvivorMaps, UnmaskRequest,
    UnmaskShares,
};
use crate::ring_vector::RingVector;
use crate::{Digest, Step};
use std::mem;
use std::sync::Arc;

/// A client's part in one round.
#[derive(Debug)]
pub struct Session {
    scope: Scope,
    client: ClientId,
    state: State,
    advert: Option<Arc<Advert>>,
    shared: Option<Answered<Arc<ShareMessage>>>,
    masked: Option<Answered<Arc<MaskedUpload>>>,
}

#[derive(Debug)]
enum State {
    Advertised(Box<Advertised>),
    Shared(Box<Shared>),
    Masked(Box<Masked>),
    Confirmed(Box<Confirmed>),
    Finished(Finished),
    Left { reason: String },
    Interrupted,
}

/// An event that was answered, by its digest, and what was said; that is deleted after Unmask.
#[derive(Debug)]
struct Answered<T> {
    event: Digest,
    answer: Option<T>,
}

impl<T: Clone> Answered<T> {
    fn new(event: Digest, answer: T) -> Self {
        Self { event, answer: Some(answer) }
    }

    fn repeat(&self, event: &Digest, step: Step, other: ClientError) -> Result<T, ClientError> {
        if *event != self.event {
            return Err(other);
        }
        self.answer.clone().ok_or(ClientError::AnswerDeleted { step })
    }
}

/// What a step gives, or why it gives nothing.
type Answer<T, S> = Result<T, Unanswered<ClientError, S>>;

impl Session {
    /// Joins a round with fresh secrets, and hands out the advert to send. `now` is in Unix seconds. A round of which there are
    /// records is restored and never begun again.
    ///
    /// # Errors
    /// As [`Advertised::resume`], or when the record is not stored.
    pub fn begin<S>(
        setup: ClientSetup,
        secrets: RoundSecrets,
        now: u64,
        store: impl FnOnce(&Record) -> Result<(), S>,
    ) -> Answer<(Self, Arc<Advert>), S> {
        let (certificate, membership) = (setup.certificate.clone(), setup.membership.clone());
        let scope = Scope::new(&setup.terms, Some(certificate.client));
        let state = Advertised::resume(setup, secrets, now)?;
        let advert = Arc::clone(state.advert());
        let key = Key { step: Step::Advertise, slot: Slot::Member(certificate.client) };
        let record = scope.record(key, Kind::Started, None, |writer| {
            state.secrets().write(writer);
            now.write(writer);
            certificate.write(writer);
            membership.write(writer);
            advert.digest().write(writer);
        });
        store(&record).map_err(Unanswered::NotStored)?;
        Ok((Self::advertised(scope, state), advert))
    }

    fn advertised(scope: Scope, state: Advertised) -> Self {
        Self {
            scope,
            client: state.advert().client(),
            advert: Some(Arc::clone(state.advert())),
            state: State::Advertised(Box::new(state)),
            shared: None,
            masked: None,
        }
    }

    /// This client.
    #[must_use]
    pub fn client(&self) -> ClientId {
        self.client
    }

    /// The step in which the next new answer is given; none when the client's part is over.
    #[must_use]
    pub fn due(&self) -> Option<Step> {
        match self.state {
            State::Advertised(_) => Some(Step::Share),
            State::Shared(_) => Some(Step::Collect),
            State::Masked(_) => Some(Step::Confirm),
            State::Confirmed(_) => Some(Step::Unmask),
            State::Finished(_) | State::Left { .. } | State::Interrupted => None,
        }
    }

    /// The advert, to be sent again; none once the client's part is over.
    #[must_use]
    pub fn advert(&self) -> Option<&Arc<Advert>> {
        self.advert.as_ref().filter(|_| self.due().is_some())
    }

    /// The context of the round, while the client takes part in it.
    #[must_use]
    pub fn context(&self) -> Option<&Context> {
        match &self.state {
            State::Shared(state) => Some(state.context()),
            State::Masked(state) => Some(state.context()),
            State::Confirmed(state) => Some(state.member.context()),
            _ => None,
        }
    }

    /// The state in which the vector is prepared: its parameters, context and rotation seed. None in others.
    #[must_use]
    pub fn shared(&self) -> Option<&Shared> {
        if let State::Shared(shared) = &self.state { Some(shared) } else { None }
    }

    /// The masked vector, whose upload may have to go on; none before Collect and after Unmask.
    #[must_use]
    pub fn upload(&self) -> Option<&Arc<MaskedUpload>> {
        self.masked.as_ref().and_then(|masked| masked.answer.as_ref()).filter(|_| self.due().is_some())
    }

    /// A [`ClientError::BadShare`] for each neighbour whose share did not match its commitments.
    pub fn bad_shares(&self) -> impl Iterator<Item = ClientError> + '_ {
        let masked = if let State::Masked(masked) = &self.state { Some(masked) } else { None };
        masked.into_iter().flat_map(|masked| masked.bad_shares())
    }

    /// Answers the closed cohort, as [`Advertised::share`].
    ///
    /// # Errors
    /// [`ClientError`] names the lie, and the client has left the round; or [`ClientError::TwoCohortLists`] for another list
    /// than the one answered.
    pub fn share<S>(
        &mut self,
        list: &CohortList,
        adverts: &[Arc<Advert>],
        now: u64,
        store: impl FnOnce(&Record) -> Result<(), S>,
    ) -> Answer<Arc<ShareMessage>, S> {
        self.check_present()?;
        // The list holds the adverts' digests.
        let event = digest_of(|writer| list.write(writer));
        if let Some(shared) = &self.shared {
            return Ok(shared.repeat(&event, Step::Share, ClientError::TwoCohortLists)?);
        }
        let state = match self.take() {
            State::Advertised(state) => state,
            other => return Err(self.not_yet(other, Step::Share).into()),
        };
        let (state, message) = match state.share(list, adverts, now) {
            Ok(next) => next,
            Err(error) => return Err(self.leave(Step::Share, error, store)),
        };
        let record = self.record(Step::Share, Kind::Cohort, state.context(), |writer| {
            now.write(writer);
            list.write(writer);
            write_list(adverts, writer);
        });
        store(&record).map_err(Unanswered::NotStored)?;
        self.state = State::Shared(Box::new(state));
        self.shared = Some(Answered::new(event, Arc::clone(&message)));
        Ok(message)
    }

    /// Answers the neighbours' shares with the masked vector, as [`Shared::mask`]. The record holds the masked vector, so
    /// nothing that `input` was made from has to be kept. The input of a repeat is not looked at: the vector of the round is
    /// the first one.
    ///
    /// # Errors
    /// [`ClientError`] names the lie, and the client has left the round; or [`ClientError::TwoDeliveries`] for other shares than
    /// those answered.
    pub fn mask<S>(
        &mut self,
        deliveries: &[ShareDelivery],
        input: RingVector,
        store: impl FnOnce(&Record) -> Result<(), S>,
    ) -> Answer<Arc<MaskedUpload>, S> {
        self.check_present()?;
        let event = digest_of(|writer| write_list(deliveries, writer));
        if let Some(masked) = &self.masked {
            return Ok(masked.repeat(&event, Step::Collect, ClientError::TwoDeliveries)?);
        }
        let state = match self.take() {
            State::Shared(state) => state,
            other => return Err(self.not_yet(other, Step::Collect).into()),
        };
        let (state, upload) = match state.mask(deliveries, input) {
            Ok(next) => next,
            Err(error) => return Err(self.leave(Step::Collect, error, store)),
        };
        let record = self.record(Step::Collect, Kind::Masked, state.context(), |writer| {
            write_list(deliveries, writer);
            upload.header.write(writer);
            write_bytes(&upload.packed, writer);
        });
        store(&record).map_err(Unanswered::NotStored)?;
        let upload = Arc::new(upload);
        self.state = State::Masked(Box::new(state));
        self.masked = Some(Answered::new(event, Arc::clone(&upload)));
        Ok(upload)
    }

    /// Signs who survived, as [`Masked::confirm`].
    ///
    /// # Errors
    /// [`ClientError`] names the lie, and the client has left the round; or [`ClientError::TwoSurvivorMaps`] for other maps
    /// than those signed.
    pub fn confirm<S>(
        &mut self,
        maps: &SurvivorMaps,
        store: impl FnOnce(&Record) -> Result<(), S>,
    ) -> Answer<Confirm, S> {
        self.check_present()?;
        let state = match self.take() {
            State::Masked(state) => state,
            State::Confirmed(state) => {
                let repeated = state.repeat(maps);
                self.state = State::Confirmed(state);
                return Ok(repeated?);
            }
            State::Finished(state) => {
                let same = state.maps == *maps;
                self.state = State::Finished(state);
                let deleted = ClientError::AnswerDeleted { step: Step::Confirm };
                return Err(if same { deleted } else { ClientError::TwoSurvivorMaps }.into());
            }
            other => return Err(self.not_yet(other, Step::Confirm).into()),
        };
        let (state, confirm) = match state.confirm(maps) {
            Ok(next) => next,
            Err(error) => return Err(self.leave(Step::Confirm, error, store)),
        };
        let context = &state.member.cohort.context;
        let record = self.record(Step::Confirm, Kind::Maps, context, |writer| maps.write(writer));
        store(&record).map_err(Unanswered::NotStored)?;
        self.state = State::Confirmed(Box::new(state));
        Ok(confirm)
    }

    /// Hands over the shares that unmask the sum, as [`Confirmed::unmask`]. The record replaces all others.
    ///
    /// # Errors
    /// [`ClientError`] names the lie, and the client has left the round; or, once it has answered, says how the request differs.
    pub fn unmask<S>(
        &mut self,
        request: &UnmaskRequest,
        store: impl FnOnce(&Record) -> Result<(), S>,
    ) -> Answer<UnmaskShares, S> {
        self.check_present()?;
        let state = match self.take() {
            State::Confirmed(state) => state,
            State::Finished(state) => {
                let repeated = state.repeat(request);
                self.state = State::Finished(state);
                return Ok(repeated?);
            }
            other => return Err(self.not_yet(other, Step::Unmask).into()),
        };
        let context = state.member.cohort.context;
        let (state, answer) = match state.unmask(request) {
            Ok(next) => next,
            Err(error) => return Err(self.leave(Step::Unmask, error, store)),
        };
        let record = self.record(Step::Unmask, Kind::Finished, &context, |writer| {
            self.shared.as_ref().map_or([0; 32], |shared| shared.event).write(writer);
            self.masked.as_ref().map_or([0; 32], |masked| masked.event).write(writer);
            state.maps.write(writer);
            state.answer.write(writer);
            state.owners.write(writer);
        });
        store(&record).map_err(Unanswered::NotStored)?;
        self.state = State::Finished(state);
        self.advert = None;
        if let Some(shared) = &mut self.shared {
            shared.answer = None;
        }
        if let Some(masked) = &mut self.masked {
            masked.answer = None;
        }
        Ok(answer)
    }

    fn check_present(&self) -> Result<(), ClientError> {
        match &self.state {
            State::Left { reason } => Err(ClientError::LeftRound { reason: reason.clone() }),
            State::Interrupted => Err(ClientError::Interrupted),
            _ => Ok(()),
        }
    }

    /// The state, which is consumed by a step; whoever gets no next one leaves the session interrupted.
    fn take(&mut self) -> State {
        mem::replace(&mut self.state, State::Interrupted)
    }

    /// Puts back a state for which an event comes too early.
    fn not_yet(&mut self, state: State, step: Step) -> ClientError {
        self.state = state;
        match self.due() {
            Some(due) => ClientError::NotYet { step, due },
            None => ClientError::AnswerDeleted { step },
        }
    }

    /// Leaves the round, and the secrets behind.
    fn leave<S>(
        &mut self,
        step: Step,
        error: ClientError,
        store: impl FnOnce(&Record) -> Result<(), S>,
    ) -> Unanswered<ClientError, S> {
        let reason = error.to_string();
        let key = Key { step, slot: Slot::Closed };
        let record =
            self.scope.record(key, Kind::Left, None, |writer| write_bytes(reason.as_bytes(), writer));
        self.state = State::Left { reason };
        (self.advert, self.shared, self.masked) = (None, None, None);
        match store(&record) {
            Ok(()) => Unanswered::Refused(error),
            Err(error) => Unanswered::NotStored(error),
        }
    }

    fn record(
        &self,
        step: Step,
        kind: Kind,
        context: &Context,
        body: impl FnOnce(&mut crate::journal::Writer),
    ) -> Record {
        self.scope.record(Key { step, slot: Slot::Member(self.client) }, kind, Some(context), body)
    }
}
