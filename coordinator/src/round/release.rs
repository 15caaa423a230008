//! From the unmasked sum to a new version of the adapter and its entry in the ledger. Must never be given the vector of one
//! client, nor publish what the account has not taken, nor let a sum out that has no noise.

use super::closed::Closed;
use super::driver::TaskState;
use super::outcome::{FailureReason, Released};
use crate::Millis;
use crate::account::{Account, Published};
use std::sync::Arc;
use tacit_aggregation::context::Context;
use tacit_aggregation::identity::ClientId;
use tacit_aggregation::ring_vector::RingVector;
use tacit_aggregation::server::{ServerError, Sum};
use tacit_privacy::{CentralSum, NoiseKey, RoundMechanism, decode_sum};
use tacit_proto::AdapterVersion;
use tacit_proto::RoundPlan;

/// An unmasked sum over at least `n_min` survivors.
#[derive(Debug)]
pub(super) struct Summed {
    vector: RingVector,
    survivors: Vec<ClientId>,
    faults: Vec<ServerError>,
    closed: Arc<Closed>,
}

impl Summed {
    pub(super) fn new(sum: Sum, closed: Arc<Closed>) -> Self {
        Self { vector: sum.vector, survivors: sum.survivors, faults: sum.faults, closed }
    }

    /// A sum that was never masked; see [`crate::plain`].
    pub(super) fn plain(vector: RingVector, survivors: Vec<ClientId>, closed: Arc<Closed>) -> Self {
        Self { vector, survivors, faults: Vec::new(), closed }
    }

    pub(super) fn survivors(&self) -> &[ClientId] {
        &self.survivors
    }

    /// The noised sum, decoded, and the noised sum of the clip bits where they are counted.
    fn noised(
        &self,
        plan: &RoundPlan,
        noise: Option<&NoiseKey>,
    ) -> Result<(Vec<f32>, Option<i32>), FailureReason> {
        let Closed { list, mechanism, rotation, .. } = self.closed.as_ref();
        match mechanism {
            RoundMechanism::Distributed(mechanism) => {
                Ok((decode_sum(&self.vector.to_values(), mechanism, rotation)?, None))
            }
            RoundMechanism::Central(mechanism) => {
                let key = noise.ok_or(FailureReason::NoNoiseKey)?;
                let context = Context::new(&plan.terms(), &list.params, &list.root());
                let clean = CentralSum::new(self.vector.to_values());
                let survivors = self.survivors.len() as u32;
                let release = clean.release(mechanism, survivors, rotation, key, context.as_bytes())?;
                let clip_bits = release.bit_sum();
                Ok((release.into_sum(), clip_bits))
            }
        }
    }

    /// Decodes, averages, moves the adapter and debits the survivors; either all of the state changes or nothing of it.
    pub(super) fn release(
        self,
        plan: &RoundPlan,
        noise: Option<&NoiseKey>,
        state: &mut TaskState,
        account: &mut Account,
        now: Millis,
    ) -> Result<Released, FailureReason> {
        let (mut mean, clip_bits) = self.noised(plan, noise)?;
        let count = self.survivors.len() as f64;
        mean.iter_mut().for_each(|value| *value = (f64::from(*value) / count) as f32);
        let (values, optimizer) = state.optimizer.clone().step(state.adapter.values(), &mean)?;
        let adapter = AdapterVersion::new(values, *state.adapter.digest())?;

        let published = Published { clip_bits, adapter_digest: *adapter.digest() };
        let entry = account.commit(&plan.task, plan.round, &self.survivors, published, now)?;
        state.adapter = adapter.clone();
        state.optimizer = optimizer;
        let cohort = self.closed.list.params.n;
        Ok(Released { cohort, survivors: self.survivors, mean, adapter, entry, faults: self.faults })
    }
}
