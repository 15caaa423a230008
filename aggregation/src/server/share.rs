//! Share: the server gathers sealed shares, which it cannot open. Must never pass on a message whose public part does not
//! hold, for its receivers would leave the round.

use super::{Abort, AbortReason, Collect, Receipt, Roster, ServerError};
use crate::Step;
use crate::bitmap::Bitmap;
use crate::context::Context;
use crate::identity::ClientId;
use crate::messages::{Advert, CohortList, ShareMessage};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Sealed shares are gathered.
#[derive(Clone, Debug)]
pub struct Share {
    pub(super) roster: Roster,
    messages: BTreeMap<u32, Arc<ShareMessage>>,
}

impl Share {
    pub(super) fn new(roster: Roster) -> Self {
        Self { roster, messages: BTreeMap::new() }
    }

    /// The cohort list, which goes to everybody.
    #[must_use]
    pub fn list(&self) -> &Arc<CohortList> {
        &self.roster.list
    }

    /// The context of the round.
    #[must_use]
    pub fn context(&self) -> &Context {
        &self.roster.cohort.context
    }

    /// Public seed of the rotation that all members apply.
    #[must_use]
    pub fn rotation_seed(&self) -> [u8; 32] {
        self.roster.cohort.rotation_seed()
    }

    /// The adverts that a member receives, in the order of their ids: its neighbours', or, where it will have to check
    /// confirmations by others as well, everybody else's. None for a client outside the cohort.
    #[must_use]
    pub fn adverts_for(&self, client: ClientId) -> Option<Vec<Arc<Advert>>> {
        let index = self.roster.cohort.index_of(client)?;
        let shown = self.roster.cohort.shown_to(index);
        Some(shown.into_iter().map(|index| Arc::clone(&self.roster.adverts[index as usize])).collect())
    }

    /// The same as [`Self::adverts_for`].
    #[must_use]
    pub fn neighbours_of(&self, client: ClientId) -> Option<Vec<Arc<Advert>>> {
        self.adverts_for(client)
    }

    /// Members that have shared.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.messages.len() as u32
    }

    /// Takes a member's commitments and envelopes.
    ///
    /// # Errors
    /// [`ServerError`] says why the message is refused; its sender is excluded when it signed it.
    pub fn accept(&mut self, message: Arc<ShareMessage>) -> Result<Receipt, ServerError> {
        let client = message.client;
        let index = self.roster.sender(client, Step::Share)?;
        if self.messages.get(&index).is_some_and(|first| *first == message) {
            return Ok(Receipt::Repeated);
        }
        let payload = message.payload(&self.roster.cohort.context);
        self.roster.check_signature(index, Step::Share, &payload, &message.signature)?;
        if self.messages.contains_key(&index) {
            return Err(ServerError::TwoMessages { client, step: Step::Share });
        }
        let threshold = self.roster.cohort.params.threshold;
        let mask_key = self.roster.adverts[index as usize].mask_key;
        if let Err(fault) = message.commitments.check(client, threshold, &mask_key) {
            return Err(self.roster.exclude(index, fault.into()));
        }
        let neighbours = self.roster.cohort.neighbours(index);
        let due = neighbours.iter().map(|&neighbour| self.roster.cohort.client(neighbour));
        if !message.envelopes.iter().map(|envelope| envelope.to).eq(due) {
            return Err(self.roster.exclude(index, ServerError::Envelopes { client }));
        }
        self.messages.insert(index, message);
        Ok(Receipt::Accepted)
    }

    /// Closes the step: whoever shared, and has at least t neighbours that shared, goes on.
    ///
    /// # Errors
    /// [`Abort`] when fewer than `n_min` go on.
    pub fn close(self) -> Result<Collect, Abort> {
        let Self { roster, mut messages } = self;
        let params = &roster.cohort.params;
        // Who has too few neighbours would leave in Collect, and could then not be unmasked; without it others may have too
        // few in turn.
        loop {
            let isolated: Vec<u32> = messages
                .keys()
                .copied()
                .filter(|&index| {
                    let sharing = roster.cohort.neighbours(index);
                    sharing.iter().filter(|index| messages.contains_key(index)).count()
                        < params.threshold as usize
                })
                .collect();
            if isolated.is_empty() {
                break;
            }
            isolated.iter().for_each(|index| {
                messages.remove(index);
            });
        }
        let shared = Bitmap::from_indices(params.n, messages.keys().copied());
        if shared.count() < params.n_min {
            let reason = AbortReason::TooFewShared { shared: shared.count(), n_min: params.n_min };
            return Err(Abort { step: Step::Share, reason });
        }
        Ok(Collect::new(roster, shared, messages))
    }
}
