//! The running sum of the survivors' masked vectors. Must never add a vector that is not its owner's signed one, nor one
//! twice, nor hold more than one sum in memory.

use super::collect::Standing;
use super::{Abort, AbortReason, ServerError, VectorSummary};
use crate::context::Context;
use crate::identity::ClientId;
use crate::messages::{MaskedHeader, SurvivorMaps};
use crate::ring_vector::RingVector;
use crate::{Digest, Step};
use std::collections::BTreeMap;

/// The survivors' vectors are added, one after the other, in any order, while the other steps go on.
#[derive(Clone, Debug)]
pub struct Summation {
    context: Context,
    maps: SurvivorMaps,
    missing: BTreeMap<ClientId, Digest>,
    sum: Option<RingVector>,
    shape: (u8, usize),
    added: BTreeMap<ClientId, Digest>,
}

/// The sum of the masked vectors of exactly the survivors.
#[derive(Clone, Debug)]
pub struct MaskedSum {
    pub(super) context: Context,
    pub(super) maps: SurvivorMaps,
    pub(super) vector: RingVector,
}

impl Summation {
    pub(super) fn new<'a>(standing: &Standing, headers: impl Iterator<Item = &'a MaskedHeader>) -> Self {
        let params = &standing.roster.cohort.params;
        Self {
            context: standing.roster.cohort.context,
            maps: standing.maps.clone(),
            missing: headers.map(|header| (header.client, header.digest)).collect(),
            sum: None,
            shape: (params.bits, params.dimension as usize),
            added: BTreeMap::new(),
        }
    }

    /// Survivors whose vectors have not been added, in the order of their ids.
    pub fn missing(&self) -> impl Iterator<Item = ClientId> + '_ {
        self.missing.keys().copied()
    }

    /// Adds a survivor's packed vector, which is checked against the signed digest again, for it comes from storage.
    ///
    /// # Errors
    /// [`ServerError`] when the client is no survivor, was added before, or the bytes are not what it signed.
    pub fn add(&mut self, client: ClientId, packed: &[u8]) -> Result<(), ServerError> {
        if self.added.contains_key(&client) {
            return Err(ServerError::AddedTwice { client });
        }
        let Some(&digest) = self.missing.get(&client) else {
            return Err(ServerError::NotTakingPart { client, step: Step::Collect });
        };
        if *VectorSummary::of(packed).digest() != digest {
            return Err(ServerError::VectorDigest { client });
        }
        let (bits, dimension) = self.shape;
        match &mut self.sum {
            Some(sum) => sum.add_packed(packed),
            None => RingVector::from_packed(bits, dimension, packed).map(|first| self.sum = Some(first)),
        }
        .map_err(|error| ServerError::Vector { client, error })?;
        self.missing.remove(&client);
        self.added.insert(client, digest);
        Ok(())
    }

    /// Whose vectors are in the sum, and the sum in packed form, which is empty while nobody's is.
    pub(super) fn so_far(&self) -> (Vec<ClientId>, Vec<u8>) {
        let packed = self.sum.as_ref().map_or(Vec::new(), RingVector::to_packed);
        (self.added.keys().copied().collect(), packed)
    }

    /// Goes on from what [`Self::so_far`] gave, where nothing has been added yet; none when it is not over these survivors.
    pub(super) fn resume(mut self, added: &[ClientId], packed: &[u8]) -> Option<Self> {
        let (bits, dimension) = self.shape;
        if !added.is_empty() {
            self.sum = Some(RingVector::from_packed(bits, dimension, packed).ok()?);
        }
        for client in added {
            let digest = self.missing.remove(client)?;
            self.added.insert(*client, digest);
        }
        (added.is_empty() == packed.is_empty()).then_some(self)
    }

    /// The sum, once every survivor's vector is in it.
    ///
    /// # Errors
    /// [`Abort`] names a survivor whose vector is missing.
    pub fn finish(self) -> Result<MaskedSum, Abort> {
        let abort = |reason| Abort { step: Step::Collect, reason };
        if let Some((&client, _)) = self.missing.first_key_value() {
            return Err(abort(AbortReason::VectorMissing { client }));
        }
        let vector = self.sum.ok_or(abort(AbortReason::ForeignSum))?;
        Ok(MaskedSum { context: self.context, maps: self.maps, vector })
    }
}
