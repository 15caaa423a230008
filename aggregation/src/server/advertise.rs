//! Advertise: the server gathers adverts until it closes the cohort. Must never admit a key that would make a neighbour
//! refuse the round.

use super::{Abort, AbortReason, Receipt, Roster, ServerError, Share};
use crate::Step;
use crate::cohort::Cohort;
use crate::identity::{ClientId, PublicKey};
use crate::keys::{channel_key_contributes, mask_point};
use crate::messages::{Advert, CohortEntry, CohortList, KeyOwners};
use crate::params::RoundTerms;
use crate::signatures;
use curve25519_dalek::ristretto::RistrettoPoint;
use ed25519_dalek::VerifyingKey;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Adverts are gathered.
#[derive(Clone, Debug)]
pub struct Advertise {
    terms: Arc<RoundTerms>,
    root: PublicKey,
    adverts: BTreeMap<ClientId, Admitted>,
    keys: KeyOwners,
}

#[derive(Clone, Debug)]
struct Admitted {
    advert: Arc<Advert>,
    verifying: VerifyingKey,
    mask_key: RistrettoPoint,
}

impl Advertise {
    /// Opens a round under a plan's terms, for clients of an identity root.
    ///
    /// # Errors
    /// [`Abort`] when the terms are out of range.
    pub fn new(terms: Arc<RoundTerms>, root: PublicKey) -> Result<Self, Abort> {
        match terms.validate() {
            Ok(()) => Ok(Self { terms, root, adverts: BTreeMap::new(), keys: KeyOwners::default() }),
            Err(error) => Err(Abort { step: Step::Advertise, reason: error.into() }),
        }
    }

    /// Adverts admitted so far.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.adverts.len() as u32
    }

    /// Takes a client's advert. `now` is in Unix seconds.
    ///
    /// # Errors
    /// [`ServerError`] says why the advert is refused.
    pub fn accept(&mut self, advert: Arc<Advert>, now: u64) -> Result<Receipt, ServerError> {
        let client = advert.client();
        if let Some(first) = self.adverts.get(&client) {
            return if *first.advert == *advert {
                Ok(Receipt::Repeated)
            } else {
                Err(ServerError::TwoMessages { client, step: Step::Advertise })
            };
        }
        advert.check_terms(&self.terms)?;
        advert.check_membership(&self.terms)?;
        advert.certificate.verify(&self.root, now)?;
        let verifying = advert.certificate.check_claims(&self.root, now)?;
        if !signatures::verify(&verifying, &advert.payload(), &advert.signature) {
            return Err(ServerError::Signature { client, step: Step::Advertise });
        }
        let mask_key = mask_point(&advert.mask_key)
            .filter(|_| channel_key_contributes(&advert.channel_key))
            .ok_or(ServerError::UselessKey { client })?;
        if self.count() >= self.terms.cohort_max {
            return Err(ServerError::CohortFull { client, max: self.terms.cohort_max });
        }
        self.keys.claim(&advert)?;
        self.adverts.insert(client, Admitted { advert, verifying, mask_key });
        Ok(Receipt::Accepted)
    }

    /// Closes the cohort with everybody admitted.
    ///
    /// # Errors
    /// [`Abort`] when the plan has no parameters for a cohort of this size.
    pub fn close(self) -> Result<Share, Abort> {
        let params = self
            .terms
            .params(self.count())
            .map_err(|error| Abort { step: Step::Advertise, reason: AbortReason::Parameters(error) })?;
        let entries = self
            .adverts
            .iter()
            .map(|(&client, admitted)| CohortEntry { client, advert: admitted.advert.digest() })
            .collect();
        let list = Arc::new(CohortList { params, entries });
        let cohort = Cohort::new(&self.terms, &list);
        Ok(Share::new(Roster {
            list,
            cohort,
            adverts: self.adverts.values().map(|admitted| Arc::clone(&admitted.advert)).collect(),
            verifying: self.adverts.values().map(|admitted| admitted.verifying).collect(),
            mask_keys: self.adverts.values().map(|admitted| admitted.mask_key).collect(),
            excluded: BTreeSet::new(),
        }))
    }
}
