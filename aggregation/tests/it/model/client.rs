//! A client's machine: a session, a disk, and a record of all that it ever said, which survives its crashes. Must never let it
//! say two different things.

use super::messages::{ToClient, ToServer};
use super::operations::Fault;
use crate::model::Violation;
use std::collections::BTreeMap;
use std::sync::Arc;
use tacit_aggregation::client::{ClientError, ClientSetup, RoundSecrets, Session};
use tacit_aggregation::identity::ClientId;
use tacit_aggregation::journal::{JournalError, Key, Record, Slot, Unanswered};
use tacit_aggregation::messages::{Advert, Confirm, MaskedUpload, ShareKind, ShareMessage, UnmaskShares};
use tacit_aggregation::ring_vector::RingVector;
use tacit_aggregation::{Step, journal};

/// Records by key.
pub(crate) type Disk = BTreeMap<[u8; Key::BYTES], Vec<u8>>;

/// The machine stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stopped;

/// Writes a record, unless the machine stops; or it stops then, and what the record replaces is still there.
pub(crate) fn write(disk: &mut Disk, fault: Fault, record: &Record) -> Result<(), Stopped> {
    if fault == Fault::BeforeWrite {
        return Err(Stopped);
    }
    if record.replaces_all() && fault == Fault::None {
        disk.clear();
    }
    disk.insert(record.key().to_bytes(), record.bytes().to_vec());
    if fault == Fault::AfterWrite { Err(Stopped) } else { Ok(()) }
}

pub(crate) struct Machine {
    pub(crate) setup: ClientSetup,
    pub(crate) input: RingVector,
    pub(crate) online: bool,
    pub(crate) disk: Disk,
    pub(crate) session: Option<Session>,
    said: Said,
}

/// What the world has seen of a client.
#[derive(Default)]
struct Said {
    advert: Option<Arc<Advert>>,
    share: Option<Arc<ShareMessage>>,
    upload: Option<Arc<MaskedUpload>>,
    confirm: Option<Confirm>,
    unmask: Option<UnmaskShares>,
    revealed: BTreeMap<ClientId, ShareKind>,
    left: bool,
}

/// What a client made of an event.
pub(crate) enum Reaction {
    Answered(ToServer),
    Refused,
    Stopped,
}

fn once<T: PartialEq + Clone>(slot: &mut Option<T>, said: &T, what: &str) -> Result<(), Violation> {
    match slot {
        Some(first) if first != said => Err(format!("a client says two things as its {what}")),
        _ => {
            *slot = Some(said.clone());
            Ok(())
        }
    }
}

impl Machine {
    pub(crate) fn new(setup: ClientSetup, input: RingVector) -> Self {
        Self { setup, input, online: true, disk: Disk::new(), session: None, said: Said::default() }
    }

    pub(crate) fn id(&self) -> ClientId {
        self.setup.certificate.client
    }

    /// Restores the session after a crash; whether there was one.
    pub(crate) fn wake(&mut self) -> Result<bool, Violation> {
        if self.session.is_some() || self.disk.is_empty() {
            return Ok(false);
        }
        let session = Session::restore(self.setup.clone(), self.disk.values())
            .map_err(|error| format!("client {} does not come back: {error}", self.id()))?;
        if self.said.left && session.due().is_some() {
            return Err("a client that left is back in the round".to_owned());
        }
        if let Some(advert) = session.advert() {
            once(&mut self.said.advert, advert, "advert")?;
        }
        if let Some(upload) = session.upload() {
            once(&mut self.said.upload, upload, "masked vector")?;
        }
        let shown = format!("{session:?}");
        if shown.len() > 20_000 {
            return Err(format!("a session prints {} characters", shown.len()));
        }
        self.session = Some(session);
        Ok(true)
    }

    /// Restores from altered records.
    pub(crate) fn restore_from(&self, disk: &Disk) -> Result<Session, JournalError> {
        Session::restore(self.setup.clone(), disk.values())
    }

    /// Joins, or sends the advert again.
    pub(crate) fn advertise(
        &mut self,
        secrets: RoundSecrets,
        now: u64,
        fault: Fault,
    ) -> Result<Reaction, Violation> {
        if let Some(session) = &self.session {
            return Ok(match session.advert() {
                Some(advert) => {
                    once(&mut self.said.advert, advert, "advert")?;
                    Reaction::Answered(ToServer::Advert(Arc::clone(advert)))
                }
                None => Reaction::Stopped,
            });
        }
        let disk = &mut self.disk;
        match Session::begin(self.setup.clone(), secrets, now, |record| write(disk, fault, record)) {
            Ok((session, advert)) => {
                once(&mut self.said.advert, &advert, "advert")?;
                self.session = Some(session);
                Ok(Reaction::Answered(ToServer::Advert(advert)))
            }
            Err(Unanswered::Refused(_)) => Ok(Reaction::Refused),
            Err(Unanswered::NotStored(Stopped)) => Ok(Reaction::Stopped),
        }
    }

    /// Takes a message of the server.
    pub(crate) fn take(&mut self, event: &ToClient, now: u64, fault: Fault) -> Result<Reaction, Violation> {
        let Some(session) = &mut self.session else { return Ok(Reaction::Stopped) };
        let due = session.due();
        let disk = &mut self.disk;
        let store = |record: &Record| write(disk, fault, record);
        let result: Result<ToServer, journal::Unanswered<ClientError, Stopped>> = match event {
            ToClient::Cohort(list, adverts) => session.share(list, adverts, now, store).map(ToServer::Share),
            ToClient::Deliveries(deliveries) => {
                // Another vector is offered with each repeat.
                let input = if due == Some(Step::Collect) {
                    self.input.clone()
                } else {
                    RingVector::zeros(self.input.bits(), self.input.dimension()).map_err(|e| e.to_string())?
                };
                session.mask(deliveries, input, store).map(ToServer::Vector)
            }
            ToClient::Maps(maps) => session.confirm(maps, store).map(ToServer::Confirm),
            ToClient::Request(request) => session.unmask(request, store).map(ToServer::Unmask),
        };
        match result {
            Ok(answer) => {
                let key = Key { step: answer.step(), slot: Slot::Member(self.id()) };
                let deleted = self.said.unmask.is_some();
                if !deleted && !self.disk.contains_key(&key.to_bytes()) {
                    return Err(format!("client {} answers in {} without a record", self.id(), key.step));
                }
                self.hear(&answer)?;
                Ok(Reaction::Answered(answer))
            }
            Err(Unanswered::NotStored(Stopped)) => {
                self.session = None;
                Ok(Reaction::Stopped)
            }
            Err(Unanswered::Refused(error)) => {
                let leaves = due.is_some() && session.due().is_none();
                if self.said.left && !matches!(error, ClientError::LeftRound { .. }) {
                    return Err(format!("a client that left says: {error}"));
                }
                self.said.left |= leaves;
                Ok(Reaction::Refused)
            }
        }
    }

    fn hear(&mut self, answer: &ToServer) -> Result<(), Violation> {
        if self.said.left {
            return Err("a client that left answers".to_owned());
        }
        match answer {
            ToServer::Advert(advert) => once(&mut self.said.advert, advert, "advert"),
            ToServer::Share(message) => once(&mut self.said.share, message, "shares"),
            ToServer::Vector(upload) => once(&mut self.said.upload, upload, "masked vector"),
            ToServer::Confirm(confirm) => once(&mut self.said.confirm, confirm, "confirmation"),
            ToServer::Unmask(shares) => {
                for share in &shares.shares {
                    let before = self.said.revealed.insert(share.of, share.kind);
                    if before.is_some_and(|kind| kind != share.kind) {
                        return Err(format!("both shares of client {} are revealed", share.of));
                    }
                }
                once(&mut self.said.unmask, shares, "unmasking shares")
            }
        }
    }
}
