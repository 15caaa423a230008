//! The server's machine: a session, a disk, the stored vectors, and a record of all that it ever said or took. Must never let it
//! begin a step in two ways, or forget what it acknowledged.

use super::client::{Disk, Stopped, write};
use super::messages::{ToClient, ToServer};
use super::operations::Fault;
use crate::model::Violation;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tacit_aggregation::Step;
use tacit_aggregation::identity::{ClientId, PublicKey};
use tacit_aggregation::journal::{JournalError, Key, Record, Slot, Unanswered};
use tacit_aggregation::params::RoundTerms;
use tacit_aggregation::server::{Abort, Phase, Receipt, ServerError, Session, Sum, VectorSummary};

pub(crate) struct Machine {
    terms: Arc<RoundTerms>,
    root: PublicKey,
    pub(crate) disk: Disk,
    pub(crate) vectors: BTreeMap<ClientId, Vec<u8>>,
    pub(crate) session: Option<Session>,
    /// What each client was told in each step.
    told: BTreeMap<(Step, ClientId), ToClient>,
    /// Whose message of a step is stored.
    pub(crate) taken: BTreeMap<Step, BTreeSet<ClientId>>,
    pub(crate) excluded: BTreeMap<ClientId, Step>,
    outcome: Option<Result<Sum, Abort>>,
    /// How the next restart orders the records of a step.
    shuffle: u64,
}

/// What the server made of a message.
pub(crate) type Verdict = Option<Result<Receipt, ServerError>>;

impl Machine {
    pub(crate) fn new(terms: Arc<RoundTerms>, root: PublicKey) -> Result<Self, Violation> {
        let session = Session::open(Arc::clone(&terms), root).map_err(|abort| abort.to_string())?;
        Ok(Self {
            terms,
            root,
            disk: Disk::new(),
            vectors: BTreeMap::new(),
            session: Some(session),
            told: BTreeMap::new(),
            taken: BTreeMap::new(),
            excluded: BTreeMap::new(),
            outcome: None,
            shuffle: 1,
        })
    }

    pub(crate) fn phase(&self) -> &Phase {
        self.session.as_ref().map_or(&Phase::Interrupted, Session::phase)
    }

    pub(crate) fn taken(&self, step: Step) -> BTreeSet<ClientId> {
        self.taken.get(&step).cloned().unwrap_or_default()
    }

    /// The outcome, once there is one.
    pub(crate) fn outcome(&self) -> Option<&Result<Sum, Abort>> {
        self.outcome.as_ref()
    }

    /// Restores from records, those of a step in a changing order.
    pub(crate) fn restore_from(&self, disk: &Disk) -> Result<Session, JournalError> {
        let mut records: Vec<_> = disk.iter().collect();
        records.sort_by_key(|(key, _)| {
            let client = u64::from_be_bytes(key[2..].try_into().expect("eight bytes"));
            (key[0], key[1], client.wrapping_mul(self.shuffle))
        });
        let records = records.into_iter().map(|(_, record)| record);
        Session::restore(Arc::clone(&self.terms), self.root, records)
    }

    /// Restores the session after a crash, and compares what it says with what it said; whether there was a crash.
    pub(crate) fn wake(&mut self, clients: &[ClientId]) -> Result<bool, Violation> {
        if self.session.is_some() {
            return Ok(false);
        }
        self.shuffle = self.shuffle.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let session = self
            .restore_from(&self.disk)
            .map_err(|error| format!("the server does not come back: {error}"))?;
        self.session = Some(session);
        clients.iter().try_for_each(|client| self.message_for(*client).map(drop))?;
        self.check_count()?;
        self.check_outcome()?;
        Ok(true)
    }

    /// That the open step has the messages that were stored, no more and no fewer.
    fn check_count(&self) -> Result<(), Violation> {
        let (step, count) = match self.phase() {
            Phase::Advertise(phase) => (Step::Advertise, phase.count()),
            Phase::Share(phase) => (Step::Share, phase.count()),
            Phase::Collect(phase) => (Step::Collect, phase.count()),
            Phase::Confirm(phase, _) => (Step::Confirm, phase.count()),
            _ => return Ok(()),
        };
        let taken = self.taken(step).len();
        if count as usize == taken {
            return Ok(());
        }
        Err(format!("the server remembers {count} messages of {step} where it stored {taken}"))
    }

    /// The message that is due to a client in the open step.
    pub(crate) fn message_for(&mut self, client: ClientId) -> Result<Option<ToClient>, Violation> {
        let message = match self.phase() {
            Phase::Share(phase) => {
                phase.adverts_for(client).map(|adverts| ToClient::Cohort(Arc::clone(phase.list()), adverts))
            }
            Phase::Collect(phase) => phase.deliveries(client).ok().map(ToClient::Deliveries),
            Phase::Confirm(phase, _) => phase
                .survivors()
                .any(|survivor| survivor == client)
                .then(|| ToClient::Maps(phase.maps().clone())),
            Phase::Unmask(phase, _) => phase.request_for(client).ok().map(ToClient::Request),
            _ => None,
        };
        let (Some(message), Some(step)) = (&message, self.phase().step()) else { return Ok(message) };
        let first = self.told.entry((step, client)).or_insert_with(|| message.clone());
        if first != message {
            return Err(format!("the server tells client {client} two things in {step}"));
        }
        Ok(Some(message.clone()))
    }

    /// Takes a message; none when the machine stops. `malformed` says that its sender signed what it must not.
    pub(crate) fn take(
        &mut self,
        message: &ToServer,
        malformed: bool,
        now: u64,
        fault: Fault,
    ) -> Result<Verdict, Violation> {
        let (step, client) = (message.step(), message.client());
        let key = Key { step, slot: Slot::Member(client) }.to_bytes();
        let (records, known) = (self.disk.len(), self.disk.contains_key(&key));
        let (disk, vectors) = (&mut self.disk, &mut self.vectors);
        let Some(session) = &mut self.session else { return Ok(None) };
        let store = |record: &Record| {
            if let ToServer::Vector(upload) = message {
                vectors.insert(client, upload.packed.to_vec());
            }
            write(disk, fault, record)
        };
        let result = match message {
            ToServer::Advert(advert) => session.advert(Arc::clone(advert), now, store),
            ToServer::Share(message) => session.share(Arc::clone(message), store),
            ToServer::Vector(upload) => {
                session.vector(&upload.header, &VectorSummary::of(&upload.packed), store)
            }
            ToServer::Confirm(confirm) => session.confirm(confirm, store),
            ToServer::Unmask(shares) => session.unmask(shares, store),
        };
        let stored = !known && self.disk.contains_key(&key);
        if stored && malformed {
            self.excluded.entry(client).or_insert(step);
        } else if stored {
            self.taken.entry(step).or_default().insert(client);
        }
        if self.disk.len() != records + usize::from(stored) {
            return Err(format!("a message of client {client} in {step} changes other records"));
        }
        let result = match result {
            Ok(receipt) => Ok(receipt),
            Err(Unanswered::Refused(error)) => Err(error),
            Err(Unanswered::NotStored(Stopped)) => {
                self.session = None;
                return Ok(None);
            }
        };
        match &result {
            Ok(_) if self.excluded.contains_key(&client) => {
                Err(format!("client {client} was excluded and is heard in {step}"))
            }
            Ok(Receipt::Accepted) if !stored => Err(format!("client {client} is accepted twice in {step}")),
            Ok(Receipt::Accepted) if malformed => {
                Err(format!("what client {client} sent in {step} is wrong"))
            }
            Ok(Receipt::Repeated) if !self.taken(step).contains(&client) => {
                Err(format!("client {client} is told that it was heard in {step}, and was not"))
            }
            Err(
                ServerError::Envelopes { .. }
                | ServerError::VectorLength { .. }
                | ServerError::ShareList { .. },
            ) if !stored => {
                Err(format!("client {client} is to be excluded in {step}, and nothing is stored"))
            }
            Err(error) if stored && !malformed => {
                Err(format!("client {client} is refused ({error}) and yet stored in {step}"))
            }
            _ => Ok(Some(result)),
        }
    }

    /// Adds a stored vector to the sum.
    pub(crate) fn add(&mut self, client: ClientId) -> Result<(), Violation> {
        let Some(packed) = self.vectors.get(&client) else {
            return Err(format!("the vector of client {client} was deleted and is needed again"));
        };
        let Some(session) = &mut self.session else { return Ok(()) };
        session.add(client, packed).map_err(|error| format!("a stored vector is refused: {error}"))
    }

    /// Survivors whose vectors are still to be added.
    pub(crate) fn missing(&self) -> Vec<ClientId> {
        match self.phase() {
            Phase::Confirm(_, summation) => summation.missing().collect(),
            _ => Vec::new(),
        }
    }

    /// Stores the sum so far, and deletes what is in it.
    pub(crate) fn checkpoint(&mut self, fault: Fault) {
        let (Phase::Confirm(phase, _), missing) = (self.phase(), self.missing()) else { return };
        let added: Vec<ClientId> = phase.survivors().filter(|client| !missing.contains(client)).collect();
        let Some(session) = &self.session else { return };
        match session.checkpoint(|record| write(&mut self.disk, fault, record)) {
            Ok(()) => added.iter().for_each(|client| drop(self.vectors.remove(client))),
            Err(_) => self.session = None,
        }
    }

    /// Closes the open step; whether it was closed.
    pub(crate) fn close(&mut self, fault: Fault) -> Result<bool, Violation> {
        let Some(session) = &mut self.session else { return Ok(false) };
        let disk = &mut self.disk;
        let result = session.close(|record: &Record| {
            let fault = if record.key().slot == Slot::Closed { fault } else { Fault::None };
            write(disk, fault, record)
        });
        match result {
            Ok(_) => {}
            Err(Unanswered::Refused(error)) => return Err(format!("a step cannot be closed: {error}")),
            Err(Unanswered::NotStored(Stopped)) => {
                self.session = None;
                return Ok(false);
            }
        }
        self.check_outcome()?;
        Ok(true)
    }

    /// That there is one outcome, and it stays.
    fn check_outcome(&mut self) -> Result<(), Violation> {
        let outcome = match self.phase() {
            Phase::Released(sum) => Ok(sum.clone()),
            Phase::Aborted(abort) => Err(abort.clone()),
            _ if self.outcome.is_some() => return Err("a round that was over goes on".to_owned()),
            _ => return Ok(()),
        };
        let same = match (&self.outcome, &outcome) {
            (None, _) => true,
            (Some(Ok(first)), Ok(sum)) => {
                first.vector == sum.vector && first.survivors == sum.survivors && first.faults == sum.faults
            }
            (Some(Err(first)), Err(abort)) => first == abort,
            _ => false,
        };
        self.outcome = Some(outcome);
        if same { Ok(()) } else { Err("a round ends in two ways".to_owned()) }
    }
}
