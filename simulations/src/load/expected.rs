//! What a round must release, from the survivors' updates and secrets alone. Must never use what the coordinator computed.

use rand::Rng as _;
use rayon::prelude::*;
use tacit_aggregation::context::Context;
use tacit_aggregation::identity::ClientId;
use tacit_aggregation::messages::CohortList;
use tacit_client::contribute;
use tacit_client::contribution::ContributionError;
use tacit_client::participant::{JoinSecrets, NoiseRng};
use tacit_privacy::{
    CentralSum, Clipped, NoiseKey, PipelineError, ReleaseError, RotationSeed, RoundMechanism, decode_sum,
};
use tacit_proto::{PlanError, RoundPlan};

use crate::random::{Purpose, generator};

/// What follows from a closed cohort.
#[derive(Clone, Debug)]
pub struct Closed {
    /// The mechanism of a cohort of this size.
    pub mechanism: RoundMechanism,
    /// Public seed of the rotation.
    pub rotation: RotationSeed,
    /// What every derivation of the round is bound to.
    pub context: Context,
}

/// What one client puts into the sum.
#[derive(Debug)]
pub struct Contribution {
    /// Its update, not clipped.
    pub delta: Vec<f32>,
    /// The generator of its rounding and noise.
    pub noise: NoiseRng,
}

/// A sum that cannot be expected.
#[derive(Debug, thiserror::Error)]
pub enum ExpectedError {
    /// An update cannot be clipped, or a sum not decoded.
    #[error(transparent)]
    Pipeline(#[from] PipelineError),
    /// An update cannot be noised.
    #[error(transparent)]
    Contribution(#[from] ContributionError),
    /// The coordinator's noise.
    #[error(transparent)]
    Release(#[from] ReleaseError),
    /// The coordinator adds the noise, and its key is not known.
    #[error("the coordinator adds this round's noise: give the key that it drew")]
    NoNoiseKey,
}

impl Closed {
    /// From a plan and its cohort's list; the seed of the rotation is what a member computed.
    ///
    /// # Errors
    /// [`PlanError`] when the plan does not cover a cohort of this size.
    pub fn new(plan: &RoundPlan, list: &CohortList, rotation: RotationSeed) -> Result<Self, PlanError> {
        let context = Context::new(&plan.terms(), &list.params, &list.root());
        Ok(Self { mechanism: plan.mechanism(&list.params)?, rotation, context })
    }
}

/// The mean that the survivors' contributions have: the sum is taken in integers, one coordinate after the other. `noise` is
/// the coordinator's key where it adds the noise.
///
/// # Errors
/// [`ExpectedError`].
pub fn expected_mean(
    closed: &Closed,
    survivors: &[ClientId],
    noise: Option<&NoiseKey>,
    contribution: impl Fn(ClientId) -> Contribution + Sync,
) -> Result<Vec<f32>, ExpectedError> {
    let Closed { mechanism, rotation, context } = closed;
    let zero = || vec![0_u64; mechanism.ring_dimension()];
    let share = survivors.len().div_ceil(rayon::current_num_threads()).max(1);
    let sums = survivors.par_chunks(share).map(|clients| {
        let mut sum = zero();
        for &client in clients {
            let Contribution { delta, mut noise } = contribution(client);
            let clipped = Clipped::new(delta, mechanism.clip())?;
            let ring = contribute(clipped, mechanism, rotation, &mut noise)?;
            sum.iter_mut().zip(ring.to_values()).for_each(|(sum, value)| *sum += u64::from(value));
        }
        Ok::<_, ExpectedError>(sum)
    });
    let sum = sums.try_reduce(zero, |mut sum, more| {
        sum.iter_mut().zip(more).for_each(|(sum, value)| *sum += value);
        Ok(sum)
    })?;
    let sum: Vec<u32> = sum.iter().map(|value| (value % (1 << mechanism.bits())) as u32).collect();
    let decoded = match mechanism {
        RoundMechanism::Distributed(mechanism) => decode_sum(&sum, mechanism, rotation)?,
        RoundMechanism::Central(mechanism) => {
            let key = noise.ok_or(ExpectedError::NoNoiseKey)?;
            let count = survivors.len() as u32;
            CentralSum::new(sum).release(mechanism, count, rotation, key, context.as_bytes())?.into_sum()
        }
    };
    Ok(decoded.iter().map(|value| (f64::from(*value) / survivors.len() as f64) as f32).collect())
}

/// The update that a synthetic client has for a round: in a direction of its own, some above the clip norm, some below.
#[must_use]
pub fn update(seed: u64, client: ClientId, round: u64, dimension: usize, clip: f64) -> Vec<f32> {
    let mut draw = generator(seed, Purpose::Update, client.0, round);
    let norm = clip * (0.5 + f64::from(draw.next_u32() % 100) / 100.0);
    let mut delta: Vec<f32> =
        (0..dimension).map(|_| (f64::from(draw.next_u32()) - 2_147_483_648.0) as f32).collect();
    let length = delta.iter().map(|&value| f64::from(value) * f64::from(value)).sum::<f64>().sqrt();
    delta.iter_mut().for_each(|value| *value = (f64::from(*value) / length * norm) as f32);
    delta
}

/// The secrets that a synthetic client draws for a round's plan. A plan that is made anew under its number gets others.
#[must_use]
pub fn secrets(
    seed: u64,
    client: ClientId,
    plan: &RoundPlan,
    parent: &[u8; 32],
    delta: &[f32],
) -> JoinSecrets {
    let digest = plan.digest();
    let (start, _) = digest.split_first_chunk().expect("a digest has 32 bytes");
    let mut draw = generator(seed ^ u64::from_be_bytes(*start), Purpose::Protocol, client.0, plan.round);
    JoinSecrets::generate(digest, parent, delta, &mut draw)
}

/// What a synthetic client puts into a round's sum.
#[must_use]
pub fn synthetic(seed: u64, client: ClientId, plan: &RoundPlan, context: &Context) -> Contribution {
    let delta = update(seed, client, plan.round, plan.privacy.dimension as usize, plan.privacy.clip);
    // The noise depends on nothing but what was drawn.
    let noise = secrets(seed, client, plan, &[0; 32], &delta).noise(context);
    Contribution { delta, noise }
}
