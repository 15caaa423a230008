//! How machines become clients, on the server's side: tokens, requests, what the identity root decided, and who is shut out.
//! Must never decide itself who is a client, keep a token in the clear, nor tell a wrong token from an expired one.
//!
//! Calls block, the writing ones until the disk has it. Times are Unix seconds.

mod excluded;
mod fill;
mod import;
mod presence;
mod tables;

pub use excluded::{Excluded, Exclusion};
pub use fill::fill;
pub use presence::{EVERY, Presence};
pub use tables::{Ban, Client};

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rand_core::CryptoRng;
use sha2::{Digest as _, Sha256};
use tacit_aggregation::Digest;
use tacit_aggregation::identity::{Certificate, CertificateError, ClientId, PublicKey, RevocationError};
use tacit_proto::enrolment::{Credentials, Enrol};
use tacit_proto::{DecodeError, Wire as _};
use tokio::sync::watch;

use crate::identity::forms::AppointmentError;
use crate::identity::{Admission, Appointment};
use crate::store::{Batch, Epoch, Records, Store, StoreError};
use tables::{Bans, Clients, Decision, Decisions, Keys, Next as _, Request, Requests, Token, Tokens, each};

/// Requests that may wait for the identity root's decision.
pub const MOST_PENDING: usize = 10_000;
/// Tokens that one call makes.
pub const MOST_INVITED: usize = 10_000;
/// Random bytes of a token.
const TOKEN_BYTES: usize = 20;
/// Before a token's random bytes, so that people and scanners of leaked secrets know what it is.
const TOKEN_PREFIX: &str = "tacit-";
/// Begins what a ticket is the hash of.
const TICKET: &[u8] = b"tacit/enrolment/ticket/v1";
/// Records that one scan reads.
const PAGE: usize = 1_000;

/// Why enrolment does not do what it is asked.
#[derive(Debug, thiserror::Error)]
pub enum EnrolmentError {
    /// The token is none that holds.
    #[error("the token is wrong, or has expired: ask the operator for a new one")]
    Token,
    /// Somebody else was faster.
    #[error(
        "the token was used by another machine: if that was not you, tell the operator; ask for a new token"
    )]
    Used,
    /// The request's signatures.
    #[error("the request is not signed by both of its keys, or they are one: draw new keys and ask again")]
    Signatures,
    /// One of the keys is in another request.
    #[error("one of the request's keys is in another request too: draw new keys and ask again")]
    Keys,
    /// Too many requests wait.
    #[error("{MOST_PENDING} requests wait for the identity root already: ask again later")]
    Full,
    /// More tokens than one call makes.
    #[error("one call makes at most {MOST_INVITED} tokens, not {asked}")]
    TooMany {
        /// How many were asked for.
        asked: usize,
    },
    /// Nobody has this ticket.
    #[error("there is no request with this ticket: enrol again, with a new token")]
    Ticket,
    /// Not yet decided.
    #[error("the identity root has not decided yet: ask again later")]
    Undecided,
    /// The operator said no.
    #[error("the operator has refused this request: ask them why")]
    Refused,
    /// Nobody with this number.
    #[error("there is no client {client} here")]
    Client {
        /// The number.
        client: ClientId,
    },
    /// The root has not signed the coordinator's key.
    #[error(transparent)]
    Appointment(#[from] AppointmentError),
    /// A certificate that is not the configured root's.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// Something in the answer to a request does not fit the rest.
    #[error("the answer to request {ticket} is not imported: {reason}")]
    Answer {
        /// The request, in hexadecimal.
        ticket: String,
        /// What does not fit.
        reason: &'static str,
    },
    /// A list of revoked clients that cannot take the present one's place.
    #[error(transparent)]
    Revocations(#[from] RevocationError),
    /// Bytes that are no certificate.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Enrolment over a store. It alone writes its tables; one value is shared by all who serve.
pub struct Enrolment {
    store: Arc<dyn Store>,
    epoch: Epoch,
    appointment: Appointment,
    /// Held from the first read of a change to its commit. How many requests wait; unknown after a failed write.
    pending: Mutex<Option<usize>>,
    excluded: watch::Sender<Arc<Excluded>>,
}

impl Enrolment {
    /// Over the tables of a store, for the root and the coordinator of an appointment.
    ///
    /// # Errors
    /// [`EnrolmentError::Appointment`], [`EnrolmentError::Revocations`] when what is stored as this root's list is not,
    /// [`EnrolmentError::Store`].
    pub fn new(
        store: Arc<dyn Store>,
        epoch: Epoch,
        appointment: Appointment,
    ) -> Result<Self, EnrolmentError> {
        appointment.verify()?;
        let excluded = Excluded::load(Records(&*store), &appointment.root())?;
        let (excluded, _) = watch::channel(Arc::new(excluded));
        Ok(Self { store, epoch, appointment, pending: Mutex::new(None), excluded })
    }

    /// The identity root's public key.
    #[must_use]
    pub fn root(&self) -> PublicKey {
        self.appointment.root()
    }

    /// Who is shut out, now and after every change.
    #[must_use]
    pub fn excluded(&self) -> watch::Receiver<Arc<Excluded>> {
        self.excluded.subscribe()
    }

    /// Makes one-time tokens that hold for some seconds. They are shown here and nowhere else: the store has their hashes.
    /// Tokens that have expired are forgotten.
    ///
    /// # Errors
    /// [`EnrolmentError::TooMany`], [`EnrolmentError::Store`].
    pub fn invite<R: CryptoRng>(
        &self,
        count: usize,
        valid_for: u64,
        note: &str,
        now: u64,
        rng: &mut R,
    ) -> Result<Vec<String>, EnrolmentError> {
        if count > MOST_INVITED {
            return Err(EnrolmentError::TooMany { asked: count });
        }
        let _pending = self.lock();
        let mut batch = Batch::new();
        each::<Tokens>(self.records(), |hash, token| {
            if token.expires < now {
                batch.delete::<Tokens>(&hash);
            }
        })?;
        let expires = now.saturating_add(valid_for);
        let draw = |_| {
            let mut bytes = [0; TOKEN_BYTES];
            rng.fill_bytes(&mut bytes);
            format!("{TOKEN_PREFIX}{}", hex::encode(bytes))
        };
        let tokens: Vec<String> = (0..count).map(draw).collect();
        for token in &tokens {
            batch.put::<Tokens>(&hash(token), &Token { expires, note: note.to_owned(), used: None });
        }
        batch.commit(&*self.store, self.epoch)?;
        Ok(tokens)
    }

    /// Takes a machine's request and gives its ticket. The same request gets the same ticket, as often as it asks.
    ///
    /// # Errors
    /// [`EnrolmentError::Signatures`], [`EnrolmentError::Token`], [`EnrolmentError::Used`], [`EnrolmentError::Keys`],
    /// [`EnrolmentError::Full`], [`EnrolmentError::Store`].
    pub fn enrol(&self, enrol: &Enrol, now: u64) -> Result<Digest, EnrolmentError> {
        // Before the store is asked: who cannot sign learns nothing of tokens.
        if !enrol.is_signed() {
            return Err(EnrolmentError::Signatures);
        }
        let (hash, ticket) = (hash(&enrol.token), ticket(enrol));
        let records = self.records();
        let mut pending = self.lock();
        if records.get::<Requests>(&ticket)?.is_some() || records.get::<Decisions>(&ticket)?.is_some() {
            return Ok(ticket);
        }
        let token = records.get::<Tokens>(&hash)?.filter(|token| token.expires >= now);
        let token = token.ok_or(EnrolmentError::Token)?;
        if token.used.is_some() {
            return Err(EnrolmentError::Used);
        }
        // The identity root answers all requests or none, and certifies no key twice: one such request would hold up the others.
        for key in [enrol.identity_key, enrol.transport_key] {
            if records.get::<Keys>(&key.0)?.is_some() {
                return Err(EnrolmentError::Keys);
            }
        }
        let waiting = self.waiting(*pending)?;
        if waiting >= MOST_PENDING {
            return Err(EnrolmentError::Full);
        }
        let request = Request {
            identity_key: enrol.identity_key.0,
            transport_key: enrol.transport_key.0,
            version: enrol.version.clone(),
            note: token.note.clone(),
            asked_at: now,
        };
        let mut batch = Batch::new();
        batch.put::<Keys>(&request.identity_key, &ticket).put::<Keys>(&request.transport_key, &ticket);
        batch.put::<Requests>(&ticket, &request).put::<Tokens>(&hash, &Token { used: Some(ticket), ..token });
        *pending = None;
        batch.commit(&*self.store, self.epoch)?;
        *pending = Some(waiting + 1);
        Ok(ticket)
    }

    /// The requests that wait for the identity root.
    ///
    /// # Errors
    /// [`EnrolmentError::Store`].
    pub fn pending(&self) -> Result<Vec<Admission>, EnrolmentError> {
        let mut admissions = Vec::new();
        each::<Requests>(self.records(), |ticket, request| admissions.push(request.admission(ticket)))?;
        Ok(admissions)
    }

    /// Refuses a request that waits.
    ///
    /// # Errors
    /// [`EnrolmentError::Ticket`], [`EnrolmentError::Store`].
    pub fn refuse(&self, ticket: &Digest) -> Result<(), EnrolmentError> {
        let mut pending = self.lock();
        self.records().get::<Requests>(ticket)?.ok_or(EnrolmentError::Ticket)?;
        let mut batch = Batch::new();
        batch.delete::<Requests>(ticket).put::<Decisions>(ticket, &Decision::Refused);
        *pending = None;
        Ok(batch.commit(&*self.store, self.epoch)?)
    }

    /// What became of a request: its newest credentials.
    ///
    /// # Errors
    /// [`EnrolmentError::Undecided`], [`EnrolmentError::Refused`], [`EnrolmentError::Ticket`], [`EnrolmentError::Store`].
    pub fn fetch(&self, ticket: &Digest) -> Result<Credentials, EnrolmentError> {
        // In the order in which a request moves, so that none is missed between the two reads.
        let waits = self.records().get::<Requests>(ticket)?.is_some();
        match self.records().get::<Decisions>(ticket)? {
            Some(Decision::Issued { certificate, transport_certificate, .. }) => Ok(Credentials {
                certificate: Certificate::from_wire(&certificate)?,
                transport_certificate,
                root: self.appointment.root(),
                coordinator: self.appointment.coordinator(),
                coordinator_signature: self.appointment.signature(),
            }),
            Some(Decision::Refused) => Err(EnrolmentError::Refused),
            None if waits => Err(EnrolmentError::Undecided),
            None => Err(EnrolmentError::Ticket),
        }
    }

    /// What is known of a client.
    ///
    /// # Errors
    /// [`EnrolmentError::Store`].
    pub fn client(&self, client: ClientId) -> Result<Option<Client>, EnrolmentError> {
        Ok(self.records().get::<Clients>(&client)?)
    }

    /// At most `limit` clients in the order of their numbers, from `from` on.
    ///
    /// # Errors
    /// [`EnrolmentError::Store`].
    pub fn clients(&self, from: ClientId, limit: usize) -> Result<Vec<(ClientId, Client)>, EnrolmentError> {
        Ok(self.records().scan::<Clients>(&(), Some(&from), limit)?)
    }

    /// At most `limit` clients in the order of their numbers, from `from` on, and when each was last heard of, in Unix seconds.
    /// With `silent_since`, only those of whom nothing was heard after that second; one that never was heard of counts from its
    /// enrolment. Looks through all records until it has found enough.
    ///
    /// # Errors
    /// [`EnrolmentError::Store`].
    pub fn listed(
        &self,
        presence: &Presence,
        from: ClientId,
        limit: usize,
        silent_since: Option<u64>,
    ) -> Result<Vec<(ClientId, Client, Option<u64>)>, EnrolmentError> {
        let (mut listed, mut from) = (Vec::new(), Some(from));
        while let Some(first) = from.filter(|_| limit > 0) {
            let page = self.clients(first, PAGE)?;
            from = page.last().filter(|_| page.len() == PAGE).and_then(|(id, _)| id.next());
            for (id, client) in page {
                let last = presence.last(id)?;
                if silent_since.is_none_or(|since| last.unwrap_or(client.enrolled_at) <= since) {
                    listed.push((id, client, last));
                }
                if listed.len() == limit {
                    return Ok(listed);
                }
            }
        }
        Ok(listed)
    }

    /// Shuts a client out of this coordinator. Unlike a revocation this needs no identity root, and can be taken back.
    ///
    /// # Errors
    /// [`EnrolmentError::Client`], [`EnrolmentError::Store`].
    pub fn ban(&self, client: ClientId, reason: &str, now: u64) -> Result<(), EnrolmentError> {
        let _pending = self.lock();
        self.client(client)?.ok_or(EnrolmentError::Client { client })?;
        let mut batch = Batch::new();
        batch.put::<Bans>(&client, &Ban { at: now, reason: reason.to_owned() });
        batch.commit(&*self.store, self.epoch)?;
        self.excluded.send_modify(|excluded| Arc::make_mut(excluded).ban(client));
        Ok(())
    }

    /// Takes a ban back; nothing happens where there is none.
    ///
    /// # Errors
    /// [`EnrolmentError::Store`].
    pub fn unban(&self, client: ClientId) -> Result<(), EnrolmentError> {
        let _pending = self.lock();
        let mut batch = Batch::new();
        batch.delete::<Bans>(&client);
        batch.commit(&*self.store, self.epoch)?;
        self.excluded.send_modify(|excluded| Arc::make_mut(excluded).unban(client));
        Ok(())
    }

    /// Whether and why a client is banned.
    ///
    /// # Errors
    /// [`EnrolmentError::Store`].
    pub fn banned(&self, client: ClientId) -> Result<Option<Ban>, EnrolmentError> {
        Ok(self.records().get::<Bans>(&client)?)
    }

    fn records(&self) -> Records<'_> {
        Records(&*self.store)
    }

    /// The count is the only thing that the lock guards in memory, and whoever fails has set it to unknown.
    fn lock(&self) -> MutexGuard<'_, Option<usize>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn waiting(&self, known: Option<usize>) -> Result<usize, StoreError> {
        let mut waiting = 0;
        match known {
            Some(known) => waiting = known,
            None => each::<Requests>(self.records(), |_, _| waiting += 1)?,
        }
        Ok(waiting)
    }
}

/// What a token is found by.
fn hash(token: &str) -> Digest {
    Sha256::digest(token.as_bytes()).into()
}

/// A request's receipt: nobody without the token can guess it, and the same request leads to the same.
fn ticket(enrol: &Enrol) -> Digest {
    let payload = Enrol::payload(&enrol.token, &enrol.identity_key, &enrol.transport_key);
    Sha256::new()
        .chain_update(TICKET)
        .chain_update(enrol.token.as_bytes())
        .chain_update(payload)
        .finalize()
        .into()
}

#[cfg(test)]
mod tests;
