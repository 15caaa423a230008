//! A session comes back from its records. Must never depend on the time of the restart, nor restore a part of them.

use super::{Answered, Session, State};
use crate::client::{Advertised, ClientSetup, Finished, RoundSecrets};
use crate::identity::{Certificate, Membership};
use crate::journal::{
    Bytes, Frame, JournalError, Key, Kind, Scope, Slot, Stored as _, digest_of, stored, write_list,
};
use crate::messages::{
    Advert, CohortList, MaskedHeader, MaskedUpload, ShareDelivery, SurvivorMaps, UnmaskShares,
};
use crate::{Digest, Step};
use sha2::{Digest as _, Sha256};
use std::sync::Arc;

/// Body of the record of Advertise.
struct Started {
    secrets: RoundSecrets,
    now: u64,
    certificate: Certificate,
    membership: Option<Membership>,
    advert: Digest,
}

/// Body of the record of Share.
struct Cohort {
    now: u64,
    list: CohortList,
    adverts: Vec<Arc<Advert>>,
}

/// Body of the record of Collect.
struct Deliveries {
    deliveries: Vec<ShareDelivery>,
    header: MaskedHeader,
    packed: Bytes,
}

/// Body of the record of Unmask.
struct Answer {
    list: Digest,
    deliveries: Digest,
    maps: SurvivorMaps,
    answer: UnmaskShares,
    owners: Vec<u32>,
}

stored! {
    Started { secrets, now, certificate, membership, advert }
    Cohort { now, list, adverts }
    Deliveries { deliveries, header, packed }
    Answer { list, deliveries, maps, answer, owners }
}

impl Session {
    /// Comes back from the records of one client and round, in any order. Certificates are judged by the time at which they
    /// were first seen, and the client goes on with the certificate that it began with.
    ///
    /// # Errors
    /// [`JournalError`] names the first record that is damaged, foreign, missing, or refused with this setup.
    pub fn restore<B: AsRef<[u8]>>(
        setup: ClientSetup,
        records: impl IntoIterator<Item = B>,
    ) -> Result<Self, JournalError> {
        let client = setup.certificate.client;
        let scope = Scope::new(&setup.terms, Some(client));
        let records: Vec<B> = records.into_iter().collect();
        let mut frames = Vec::with_capacity(records.len());
        for record in &records {
            let frame = Frame::read(&scope, record.as_ref())?;
            let due = match frame.kind {
                Kind::Started => Key { step: Step::Advertise, slot: Slot::Member(client) },
                Kind::Cohort => Key { step: Step::Share, slot: Slot::Member(client) },
                Kind::Masked => Key { step: Step::Collect, slot: Slot::Member(client) },
                Kind::Maps => Key { step: Step::Confirm, slot: Slot::Member(client) },
                Kind::Finished => Key { step: Step::Unmask, slot: Slot::Member(client) },
                Kind::Left => Key { step: frame.key.step, slot: Slot::Closed },
                _ => return Err(frame.malformed()),
            };
            if frame.key != due {
                return Err(frame.malformed());
            }
            frames.push(frame);
        }
        frames.sort_by_key(|frame| frame.key);
        if let Some(pair) = frames.windows(2).find(|pair| pair[0].key == pair[1].key) {
            return Err(JournalError::Repeated { key: pair[0].key });
        }
        // What the last record replaces may still be there, if it was not deleted in the same write.
        if let Some(last) = frames.iter().find(|frame| matches!(frame.kind, Kind::Finished | Kind::Left)) {
            return Self::ended(scope, client, last);
        }
        let mut frames = frames.into_iter();
        let key = Key { step: Step::Advertise, slot: Slot::Member(client) };
        let first = frames.next().filter(|first| first.key == key).ok_or(JournalError::Missing { key })?;
        let mut session = Self::restart(scope, setup, &first)?;
        for frame in frames {
            session.replay(&frame)?;
        }
        Ok(session)
    }

    /// From the one record that is left when the client's part is over.
    fn ended(
        scope: Scope,
        client: crate::identity::ClientId,
        frame: &Frame<'_>,
    ) -> Result<Self, JournalError> {
        let mut session =
            Self { scope, client, state: State::Interrupted, advert: None, shared: None, masked: None };
        if frame.kind == Kind::Left {
            frame.within(None)?;
            let Bytes(reason) = frame.body()?;
            let reason = String::from_utf8(reason).map_err(|_| frame.malformed())?;
            session.state = State::Left { reason };
            return Ok(session);
        }
        let Answer { list, deliveries, maps, answer, owners } = frame.body()?;
        if answer.client != client || owners.len() != answer.shares.len() {
            return Err(frame.malformed());
        }
        session.state = State::Finished(Finished { maps, answer, owners });
        session.shared = Some(Answered { event: list, answer: None });
        session.masked = Some(Answered { event: deliveries, answer: None });
        Ok(session)
    }

    fn restart(scope: Scope, mut setup: ClientSetup, frame: &Frame<'_>) -> Result<Self, JournalError> {
        frame.within(None)?;
        let Started { secrets, now, certificate, membership, advert } = frame.body()?;
        (setup.certificate, setup.membership) = (certificate, membership);
        let state = Advertised::resume(setup, secrets, now).map_err(|error| frame.refused(&error))?;
        if state.advert().digest() != advert {
            return Err(frame.refused(&"it leads to another advert than the one that was sent"));
        }
        Ok(Self::advertised(scope, state))
    }

    fn replay(&mut self, frame: &Frame<'_>) -> Result<(), JournalError> {
        let order = JournalError::OutOfOrder { key: frame.key, due: self.due().unwrap_or(Step::Unmask) };
        self.state = match (self.take(), frame.kind) {
            (State::Advertised(state), Kind::Cohort) => {
                let Cohort { now, list, adverts } = frame.body()?;
                let (state, message) =
                    state.share(&list, &adverts, now).map_err(|error| frame.refused(&error))?;
                frame.within(Some(state.context()))?;
                self.shared = Some(Answered::new(digest_of(|writer| list.write(writer)), message));
                State::Shared(Box::new(state))
            }
            (State::Shared(state), Kind::Masked) => {
                frame.within(Some(state.context()))?;
                let Deliveries { deliveries, header, packed: Bytes(packed) } = frame.body()?;
                let same = Digest::from(Sha256::digest(&packed)) == header.digest;
                let state = state
                    .resume_masked(&deliveries, header.clone())
                    .map_err(|error| frame.refused(&error))?
                    .filter(|_| same)
                    .ok_or_else(|| frame.malformed())?;
                let event = digest_of(|writer| write_list(&deliveries, writer));
                self.masked =
                    Some(Answered::new(event, Arc::new(MaskedUpload { header, packed: packed.into() })));
                State::Masked(Box::new(state))
            }
            (State::Masked(state), Kind::Maps) => {
                frame.within(Some(state.context()))?;
                let maps: SurvivorMaps = frame.body()?;
                let (state, _) = state.confirm(&maps).map_err(|error| frame.refused(&error))?;
                State::Confirmed(Box::new(state))
            }
            _ => return Err(order),
        };
        Ok(())
    }
}
