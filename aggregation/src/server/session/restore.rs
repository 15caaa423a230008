//! A round comes back from its records. Must never depend on the time of the restart or on the order within a step, need the
//! vectors that a checkpoint covers, nor restore a part of the records.

use super::{Phase, Session, digest_of_tags};
use crate::identity::{ClientId, PublicKey};
use crate::journal::{Bytes, Frame, JournalError, Key, Kind, Slot, stored};
use crate::messages::{Advert, Confirm, MaskedHeader, ShareMessage, SurvivorMaps, UnmaskShares};
use crate::params::RoundTerms;
use crate::server::{Receipt, ServerError};
use crate::{Digest, Step};
use std::mem;
use std::sync::Arc;

/// Body of the record of an advert.
struct Admitted {
    now: u64,
    advert: Arc<Advert>,
}

/// Body of the record of the end of a step.
struct Closed {
    count: u32,
    records: Digest,
}

/// Body of the record of a running sum.
struct Checkpoint {
    maps: SurvivorMaps,
    added: Vec<ClientId>,
    sum: Bytes,
}

stored! {
    Admitted { now, advert }
    Closed { count, records }
    Checkpoint { maps, added, sum }
}

impl Session {
    /// Comes back from the records of a round, one step after the other as [`Key::to_bytes`] sorts them, within a step in any
    /// order. They are read one at a time. The vectors of survivors that no checkpoint covers have to be added again:
    /// [`crate::server::Summation::missing`] says whose.
    ///
    /// # Errors
    /// [`JournalError`] names the first record that is damaged, foreign, out of order, or refused; or what is missing.
    pub fn restore<B: AsRef<[u8]>>(
        terms: Arc<RoundTerms>,
        root: PublicKey,
        records: impl IntoIterator<Item = B>,
    ) -> Result<Self, JournalError> {
        let key = Key { step: Step::Advertise, slot: Slot::Closed };
        let mut session = Self::open(terms, root)
            .map_err(|abort| JournalError::Refused { key, reason: abort.to_string() })?;
        for record in records {
            let frame = Frame::read(&session.scope, record.as_ref())?;
            session.replay(&frame)?;
        }
        Ok(session)
    }

    fn replay(&mut self, frame: &Frame<'_>) -> Result<(), JournalError> {
        let Key { step, slot } = frame.key;
        if self.phase.step() != Some(step) {
            let due = self.phase.step().unwrap_or(Step::Unmask);
            return Err(JournalError::OutOfOrder { key: frame.key, due });
        }
        frame.within(self.phase.context().as_ref())?;
        match (frame.kind, slot) {
            (Kind::Message | Kind::Excluded, Slot::Member(client)) => {
                if self.tags.contains_key(&client) {
                    return Err(JournalError::Repeated { key: frame.key });
                }
                match frame.kind {
                    Kind::Message => self.accept_again(client, frame)?,
                    _ => self.exclude_again(client, frame)?,
                }
                self.tags.insert(client, frame.tag);
                Ok(())
            }
            (Kind::Checkpoint, Slot::Checkpoint) => self.resume_sum(frame),
            (Kind::Closed, Slot::Closed) => self.close_again(frame),
            _ => Err(frame.malformed()),
        }
    }

    fn accept_again(&mut self, client: ClientId, frame: &Frame<'_>) -> Result<(), JournalError> {
        let (sender, result) = match &mut self.phase {
            Phase::Advertise(phase) => {
                let Admitted { now, advert } = frame.body()?;
                (advert.client(), phase.accept(advert, now))
            }
            Phase::Share(phase) => {
                let message: Arc<ShareMessage> = frame.body()?;
                (message.client, phase.accept(message))
            }
            Phase::Collect(phase) => {
                let header: MaskedHeader = frame.body()?;
                (header.client, phase.restore(header).map(|()| Receipt::Accepted))
            }
            Phase::Confirm(phase, _) => {
                let confirm: Confirm = frame.body()?;
                (confirm.client, phase.accept(&confirm))
            }
            Phase::Unmask(phase, _) => {
                let shares: UnmaskShares = frame.body()?;
                (shares.client, phase.accept(&shares))
            }
            Phase::Released(_) | Phase::Aborted(_) | Phase::Interrupted => return Err(frame.malformed()),
        };
        match result {
            Ok(Receipt::Accepted) if sender == client => Ok(()),
            Ok(_) => Err(frame.malformed()),
            Err(error) => Err(frame.refused(&error)),
        }
    }

    fn exclude_again(&mut self, client: ClientId, frame: &Frame<'_>) -> Result<(), JournalError> {
        let () = frame.body()?;
        let step = frame.key.step;
        let roster = match &mut self.phase {
            Phase::Share(phase) => &mut phase.roster,
            Phase::Collect(phase) => &mut phase.roster,
            Phase::Unmask(phase, _) => &mut phase.standing.roster,
            _ => return Err(frame.malformed()),
        };
        let index = roster.sender(client, step).map_err(|error| frame.refused(&error))?;
        roster.exclude(index, ServerError::Excluded { client });
        Ok(())
    }

    fn resume_sum(&mut self, frame: &Frame<'_>) -> Result<(), JournalError> {
        let Checkpoint { maps, added, sum: Bytes(sum) } = frame.body()?;
        match mem::replace(&mut self.phase, Phase::Interrupted) {
            Phase::Confirm(phase, summation) if phase.standing.maps == maps => {
                if !summation.so_far().0.is_empty() {
                    return Err(JournalError::Repeated { key: frame.key });
                }
                let summation = summation.resume(&added, &sum).ok_or(frame.malformed())?;
                self.phase = Phase::Confirm(phase, summation);
                Ok(())
            }
            _ => Err(frame.malformed()),
        }
    }

    fn close_again(&mut self, frame: &Frame<'_>) -> Result<(), JournalError> {
        let Closed { count, records } = frame.body()?;
        let found = self.tags.len() as u32;
        if count != found || records != digest_of_tags(&self.tags) {
            return Err(JournalError::Incomplete { step: frame.key.step, closed: count, found });
        }
        if let Phase::Confirm(_, summation) = &self.phase
            && summation.missing().next().is_some()
        {
            let key = Key { step: Step::Confirm, slot: Slot::Checkpoint };
            return Err(JournalError::Missing { key });
        }
        let next = mem::replace(&mut self.phase, Phase::Interrupted).close();
        self.enter(next);
        Ok(())
    }
}
