//! Unmask: shares come in, masks go out, the sum remains. Must never use both kinds of share of one client, nor release a sum
//! when a secret could not be recovered.

use super::collect::Standing;
use super::recover::{Recovered, recover};
use super::{Abort, AbortReason, MaskedSum, Receipt, ServerError};
use crate::Step;
use crate::bitmap::Bitmap;
use crate::context::Context;
use crate::identity::ClientId;
use crate::keys::{SecretScalar, pair_mask_key, self_mask_key};
use crate::mask::{self, Mask, Sign};
use crate::messages::{Confirm as Confirmation, ShareKind, UnmaskRequest, UnmaskShares};
use crate::params::RoundParams;
use crate::ring_vector::RingVector;
use crate::shamir::Commitments;
use rayon::iter::{IntoParallelRefIterator as _, ParallelIterator as _};
use std::collections::{BTreeMap, BTreeSet};

/// Clients whose masks are known at a time: enough to keep all threads busy, few enough that memory does not grow with the
/// cohort.
const OWNERS_AT_ONCE: usize = 64;

/// Shares are handed over.
#[derive(Clone, Debug)]
pub struct Unmask {
    pub(super) standing: Standing,
    /// Whose secrets the sum hangs on.
    owners: Vec<u32>,
    confirmations: BTreeMap<u32, Confirmation>,
    answering: Bitmap,
    answers: BTreeMap<u32, UnmaskShares>,
    /// By owner: holder and share, in the order of holders.
    shares: BTreeMap<u32, BTreeMap<u32, SecretScalar>>,
}

/// The sum of the survivors' vectors.
#[derive(Clone, Debug)]
pub struct Sum {
    /// The sum mod 2^b.
    pub vector: RingVector,
    /// Parameters of the round.
    pub params: RoundParams,
    /// Context of the round.
    pub context: Context,
    /// Whose vectors are in the sum, in the order of their ids.
    pub survivors: Vec<ClientId>,
    /// The same as cohort indices.
    pub survived: Bitmap,
    /// What members did that were excluded, or whose shares were done without.
    pub faults: Vec<ServerError>,
}

/// What one client's recovered secret gave.
struct Unmasked {
    /// What must be applied to the sum on its account.
    masks: Vec<Mask>,
    owner: u32,
    /// Who handed over a share of it that does not match, by cohort index.
    liars: Vec<u32>,
}

impl Unmask {
    pub(super) fn new(
        standing: Standing,
        confirmations: BTreeMap<u32, Confirmation>,
        answering: Bitmap,
    ) -> Self {
        let owners = standing.owners().collect();
        Self { standing, owners, confirmations, answering, answers: BTreeMap::new(), shares: BTreeMap::new() }
    }

    /// The clients to ask, in the order of their ids.
    pub fn answering(&self) -> impl Iterator<Item = ClientId> + '_ {
        self.answering.indices().map(|index| self.standing.roster.cohort.client(index))
    }

    /// Members whose vectors are in the sum, in the order of their ids.
    pub fn survivors(&self) -> impl Iterator<Item = ClientId> + '_ {
        self.standing.maps.survived.indices().map(|index| self.standing.roster.cohort.client(index))
    }

    /// Members whose shares have come.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.answers.len() as u32
    }

    /// What to ask a client: the maps, the confirmations of t of its neighbours, and as many others as make up a quorum.
    ///
    /// # Errors
    /// [`ServerError`] for a client that is not to be asked.
    pub fn request_for(&self, client: ClientId) -> Result<UnmaskRequest, ServerError> {
        let index = self.participant(client)?;
        let cohort = &self.standing.roster.cohort;
        let neighbours = cohort.neighbours(index);
        let is_neighbour = |other: &u32| neighbours.binary_search(other).is_ok();
        let confirmed = || self.confirmations.keys().copied().filter(|&other| other != index);
        let mut shown: BTreeSet<u32> =
            confirmed().filter(is_neighbour).take(cohort.params.threshold as usize).collect();
        // The client counts itself.
        let missing = (cohort.params.quorum() as usize).saturating_sub(shown.len() + 1);
        let others: Vec<u32> = confirmed().filter(|other| !shown.contains(other)).take(missing).collect();
        shown.extend(others);
        let confirmations = shown.iter().filter_map(|index| self.confirmations.get(index).cloned()).collect();
        Ok(UnmaskRequest { maps: self.standing.maps.clone(), confirmations })
    }

    /// Takes a client's shares.
    ///
    /// # Errors
    /// [`ServerError`] says why they are refused; their sender is excluded when it signed them.
    pub fn accept(&mut self, message: &UnmaskShares) -> Result<Receipt, ServerError> {
        let client = message.client;
        let index = self.participant(client)?;
        if self.answers.get(&index).is_some_and(|first| first == message) {
            return Ok(Receipt::Repeated);
        }
        let payload = message.payload(&self.standing.roster.cohort.context);
        self.standing.roster.check_signature(index, Step::Unmask, &payload, &message.signature)?;
        if self.answers.contains_key(&index) {
            return Err(ServerError::TwoMessages { client, step: Step::Unmask });
        }
        let due = self.due(index);
        if !message
            .shares
            .iter()
            .map(|share| (share.of, share.kind))
            .eq(due.iter().map(|&(_, of, kind)| (of, kind)))
        {
            return Err(self.standing.roster.exclude(index, ServerError::ShareList { client }));
        }
        let mut opened = Vec::with_capacity(due.len());
        for (&(owner, of, kind), share) in due.iter().zip(&message.shares) {
            let Some(scalar) = SecretScalar::from_canonical(&share.share.0) else {
                let error = ServerError::NotAScalar { client, of, kind };
                return Err(self.standing.roster.exclude(index, error));
            };
            opened.push((owner, scalar));
        }
        for (owner, scalar) in opened {
            self.shares.entry(owner).or_default().insert(index, scalar);
        }
        self.answers.insert(index, message.clone());
        Ok(Receipt::Accepted)
    }

    /// Whether t shares of every client whose secret is needed have come in, so that the step can be closed unless one of them is bad.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        let threshold = self.standing.roster.cohort.params.threshold as usize;
        let enough = |owner: &u32| self.shares.get(owner).is_some_and(|shares| shares.len() >= threshold);
        self.owners.iter().all(enough)
    }

    fn participant(&self, client: ClientId) -> Result<u32, ServerError> {
        let index = self.standing.roster.sender(client, Step::Unmask)?;
        if self.answering.contains(index) {
            return Ok(index);
        }
        Err(ServerError::NotTakingPart { client, step: Step::Unmask })
    }

    /// The shares due from a client: owner's cohort index, owner, and kind, in the order of owners.
    fn due(&self, index: u32) -> Vec<(u32, ClientId, ShareKind)> {
        let Standing { roster, maps, .. } = &self.standing;
        roster
            .cohort
            .neighbours(index)
            .into_iter()
            .filter(|&owner| maps.shared.contains(owner) && self.standing.holds(index, owner))
            .map(|owner| (owner, roster.cohort.client(owner), self.kind(owner)))
            .collect()
    }

    fn kind(&self, owner: u32) -> ShareKind {
        if self.standing.maps.survived.contains(owner) { ShareKind::SelfMask } else { ShareKind::MaskKey }
    }

    /// Recovers one secret of every client of whom the sum carries a mask, removes the masks, and releases the sum. Spread over the threads of
    /// rayon's pool; the result does not depend on them.
    ///
    /// # Errors
    /// [`Abort`] when a secret cannot be recovered, or the masked sum is not over these survivors.
    pub fn close(self, masked: MaskedSum) -> Result<Sum, Abort> {
        let abort = |reason| Abort { step: Step::Unmask, reason };
        let cohort = &self.standing.roster.cohort;
        if masked.context != cohort.context || masked.maps != self.standing.maps {
            return Err(abort(AbortReason::ForeignSum));
        }
        let mut vector = masked.vector;
        let mut faults = self.standing.faults.clone();
        // Checking every share of a secret is slow. Whoever made that necessary is asked last from then on, and so can do it
        // to a few owners only.
        let mut distrusted = BTreeSet::new();
        for few in self.owners.chunks(OWNERS_AT_ONCE) {
            let unmasked: Vec<_> = few.par_iter().map(|&owner| self.masks_of(owner, &distrusted)).collect();
            let mut masks = Vec::new();
            for unmasked in unmasked {
                let Unmasked { masks: more, owner, liars } = unmasked.map_err(abort)?;
                masks.extend(more);
                let (of, kind) = (cohort.client(owner), self.kind(owner));
                let fault =
                    |&liar: &u32| ServerError::BadUnmaskShare { client: cohort.client(liar), of, kind };
                faults.extend(liars.iter().map(fault));
                distrusted.extend(liars);
            }
            mask::apply_in_parallel(&mut vector, &masks);
        }
        let survived = masked.maps.survived;
        Ok(Sum {
            vector,
            params: cohort.params,
            context: cohort.context,
            survivors: survived.indices().map(|index| cohort.client(index)).collect(),
            survived,
            faults,
        })
    }

    /// Recovers one client's secret and turns it into masks.
    fn masks_of(&self, owner: u32, distrusted: &BTreeSet<u32>) -> Result<Unmasked, AbortReason> {
        let cohort = &self.standing.roster.cohort;
        let (of, kind) = (cohort.client(owner), self.kind(owner));
        let (Recovered { secret, good, liars }, threshold) = self.recover(owner, kind, distrusted);
        let Some(secret) = secret else {
            let liars = liars.iter().map(|&holder| cohort.client(holder)).collect();
            return Err(AbortReason::Unrecoverable { client: of, good, threshold, liars });
        };
        let masks = match kind {
            ShareKind::SelfMask => {
                vec![Mask { key: self_mask_key(&cohort.context, &secret), sign: Sign::Subtract }]
            }
            ShareKind::MaskKey => self
                .standing
                .holders(owner, &self.standing.maps.survived)
                .into_iter()
                .map(|survivor| {
                    let other = cohort.client(survivor);
                    let other_key = &self.standing.roster.mask_keys[survivor as usize];
                    Mask {
                        key: pair_mask_key(&cohort.context, &secret, of, other, other_key),
                        sign: Sign::between(&other, &of).opposite(),
                    }
                })
                .collect(),
        };
        Ok(Unmasked { masks, owner, liars })
    }

    fn recover(&self, owner: u32, kind: ShareKind, distrusted: &BTreeSet<u32>) -> (Recovered, u32) {
        let threshold = self.standing.roster.cohort.params.threshold;
        let mut shares: Vec<(u32, &SecretScalar)> =
            self.shares.get(&owner).into_iter().flatten().map(|(&holder, share)| (holder, share)).collect();
        shares.sort_by_key(|(holder, _)| distrusted.contains(holder));
        let recovered = match self.standing.commitments.get(&owner) {
            Some(commitments) => recover(self.polynomial(commitments, kind), &shares),
            None => Recovered { secret: None, good: 0, liars: Vec::new() },
        };
        (recovered, threshold)
    }

    fn polynomial<'a>(
        &self,
        commitments: &'a crate::messages::ShareCommitments,
        kind: ShareKind,
    ) -> &'a Commitments {
        match kind {
            ShareKind::SelfMask => &commitments.self_mask,
            ShareKind::MaskKey => &commitments.mask_key,
        }
    }
}
