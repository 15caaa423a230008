//! Confirm: every survivor signs who shared and who survived. Must never let Unmask begin when it could not end.

use super::collect::Standing;
use super::{Abort, AbortReason, Receipt, ServerError, Unmask};
use crate::Step;
use crate::bitmap::Bitmap;
use crate::identity::ClientId;
use crate::messages::{Confirm as Confirmation, SurvivorMaps};
use std::collections::BTreeMap;

/// Survivors confirm.
#[derive(Clone, Debug)]
pub struct Confirm {
    pub(super) standing: Standing,
    confirmations: BTreeMap<u32, Confirmation>,
}

impl Confirm {
    pub(super) fn new(standing: Standing) -> Self {
        Self { standing, confirmations: BTreeMap::new() }
    }

    /// The maps, which go to every survivor.
    #[must_use]
    pub fn maps(&self) -> &SurvivorMaps {
        &self.standing.maps
    }

    /// The survivors, in the order of their ids.
    pub fn survivors(&self) -> impl Iterator<Item = ClientId> + '_ {
        self.standing.maps.survived.indices().map(|index| self.standing.roster.cohort.client(index))
    }

    /// What the members excluded since Collect did.
    #[must_use]
    pub fn faults(&self) -> &[ServerError] {
        &self.standing.faults
    }

    /// Survivors that have confirmed.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.confirmations.len() as u32
    }

    /// Takes a survivor's confirmation.
    ///
    /// # Errors
    /// [`ServerError`] says why it is refused.
    pub fn accept(&mut self, confirm: &Confirmation) -> Result<Receipt, ServerError> {
        let client = confirm.client;
        let Standing { roster, maps, .. } = &self.standing;
        let index = roster.sender(client, Step::Confirm)?;
        if !maps.survived.contains(index) {
            return Err(ServerError::NotTakingPart { client, step: Step::Confirm });
        }
        if self.confirmations.get(&index).is_some_and(|first| first == confirm) {
            return Ok(Receipt::Repeated);
        }
        let payload = maps.payload(&roster.cohort.context);
        roster.check_signature(index, Step::Confirm, &payload, &confirm.signature)?;
        if self.confirmations.contains_key(&index) {
            return Err(ServerError::TwoMessages { client, step: Step::Confirm });
        }
        self.confirmations.insert(index, confirm.clone());
        Ok(Receipt::Accepted)
    }

    /// Closes the step: whoever confirmed, and has at least t neighbours that did, will be asked for shares.
    ///
    /// # Errors
    /// [`Abort`] when fewer than a quorum confirmed, or those that will be asked hold fewer than t shares of some client.
    pub fn close(self) -> Result<Unmask, Abort> {
        let Self { standing, confirmations } = self;
        let cohort = &standing.roster.cohort;
        let (confirms, quorum) = (confirmations.len() as u32, cohort.params.quorum());
        if confirms < quorum {
            let reason = AbortReason::NoQuorum { confirmed: confirms, quorum };
            return Err(Abort { step: Step::Confirm, reason });
        }
        let confirmed = Bitmap::from_indices(cohort.params.n, confirmations.keys().copied());
        let answering = confirmed.indices().filter(|&index| {
            let neighbours = cohort.neighbours(index);
            let confirmed = neighbours.iter().filter(|&&neighbour| confirmed.contains(neighbour)).count();
            confirmed >= cohort.params.threshold as usize
        });
        let answering = Bitmap::from_indices(cohort.params.n, answering);
        standing.check_holders(Step::Confirm, &answering)?;
        Ok(Unmask::new(standing, confirmations, answering))
    }
}
