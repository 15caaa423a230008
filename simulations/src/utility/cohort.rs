//! Cohorts of made-up updates through the client's pipeline, summed and decoded. Must never hold more than a few vectors,
//! however many clients there are, nor let a figure depend on the number of threads.

use rand::Rng;
use rand_chacha::ChaCha20Rng;
use rayon::prelude::*;
use tacit_aggregation::ring_vector::RingVector;
use tacit_client::contribute;
use tacit_client::contribution::ContributionError;
use tacit_privacy::{Clipped, Mechanism, RotationSeed, decode_sum};

use super::Updates;
use crate::random::{Purpose, generator};

/// Stretches of clients that are summed at the same time, each into vectors of its own.
const STRETCHES: u32 = 8;

/// Rounds to be measured.
pub(super) struct Rounds<'a> {
    pub(super) mechanism: &'a Mechanism,
    /// Clients whose updates are in the sum.
    pub(super) survivors: u32,
    pub(super) updates: Updates,
    /// Rounds, each with updates, rotation and noise of its own.
    pub(super) repetitions: u32,
    pub(super) seed: u64,
    /// Tells these rounds from all others of the same seed.
    pub(super) series: u32,
}

/// Sums of a stretch of clients.
struct Sums {
    /// Of the noised vectors, modulo 2^bits.
    ring: RingVector,
    /// Of the clipped updates.
    exact: Vec<f64>,
}

impl Rounds<'_> {
    /// Root mean square error of the decoded mean against the mean of the clipped updates, over all coordinates of all rounds.
    pub(super) fn rmse(&self) -> Result<f64, ContributionError> {
        let squares: Vec<f64> =
            (0..self.repetitions).into_par_iter().map(|round| self.round(round)).collect::<Result<_, _>>()?;
        let coordinates = f64::from(self.repetitions) * self.mechanism.dimension() as f64;
        Ok((squares.iter().sum::<f64>() / coordinates).sqrt() / f64::from(self.survivors))
    }

    fn generator(&self, purpose: Purpose, client: u32, round: u32) -> ChaCha20Rng {
        generator(self.seed, purpose, u64::from(client), u64::from(self.series) << 32 | u64::from(round))
    }

    /// Sum of the square errors of one decoded sum.
    fn round(&self, round: u32) -> Result<f64, ContributionError> {
        let mechanism = self.mechanism;
        let mut rotation = RotationSeed([0; 32]);
        self.generator(Purpose::Rotation, 0, round).fill_bytes(&mut rotation.0);
        let stretches = (0..STRETCHES).into_par_iter().map(|index| self.stretch(index, round, &rotation));
        let mut stretches = stretches.collect::<Result<Vec<_>, _>>()?.into_iter();
        let Some(mut total) = stretches.next() else { return Ok(0.0) };
        for stretch in stretches {
            total.add(&stretch.ring, &stretch.exact)?;
        }
        let decoded = decode_sum(&total.ring.to_values(), mechanism, &rotation)?;
        let square = |(found, exact): (&f32, &f64)| (f64::from(*found) - exact).powi(2);
        Ok(decoded.iter().zip(&total.exact).map(square).sum())
    }

    /// Every [`STRETCHES`]th client from `index` on, one after the other.
    fn stretch(&self, index: u32, round: u32, rotation: &RotationSeed) -> Result<Sums, ContributionError> {
        let (dimension, clip) = (self.mechanism.dimension(), self.mechanism.clip());
        let mechanism = self.mechanism.clone().into();
        // At most 24 bits.
        let bits = self.mechanism.bits() as u8;
        let mut sums = Sums { ring: RingVector::zeros(bits, dimension)?, exact: vec![0.0; dimension] };
        let mut shared = Vec::new();
        if self.updates == Updates::Aligned {
            shared = direction(dimension, self.generator(Purpose::Update, 0, round));
        }
        for client in (index..self.survivors).step_by(STRETCHES as usize) {
            let mut update = match self.updates {
                Updates::Random => direction(dimension, self.generator(Purpose::Update, client, round)),
                Updates::Aligned => shared.clone(),
            };
            // Every other update is too long and gets clipped.
            let length = clip * f64::from(1 + client % 2);
            update.iter_mut().for_each(|value| *value *= length as f32);
            let norm = update.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
            let kept = (clip / norm).min(1.0);
            let exact: Vec<f64> = update.iter().map(|value| f64::from(*value) * kept).collect();
            let mut noise = self.generator(Purpose::Protocol, client, round);
            let noised = contribute(Clipped::new(update, clip)?, &mechanism, rotation, &mut noise)?;
            sums.add(&noised, &exact)?;
        }
        Ok(sums)
    }
}

impl Sums {
    fn add(&mut self, ring: &RingVector, exact: &[f64]) -> Result<(), ContributionError> {
        self.ring.add(ring)?;
        self.exact.iter_mut().zip(exact).for_each(|(sum, value)| *sum += value);
        Ok(())
    }
}

/// A vector of length 1 whose coordinates are uniform but for that.
fn direction(dimension: usize, mut generator: ChaCha20Rng) -> Vec<f32> {
    let centred = |word: u32| f64::from(word) / f64::from(u32::MAX) - 0.5;
    let mut values: Vec<f32> = (0..dimension).map(|_| centred(generator.next_u32()) as f32).collect();
    let norm = values.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
    values.iter_mut().for_each(|value| *value = (f64::from(*value) / norm) as f32);
    values
}

/// Root mean square of `coordinates` samples of continuous Gaussian noise of standard deviation `deviation` (Box, Muller 1958):
/// what the coordinator's own noise does to the same mean.
pub(super) fn central_rmse(deviation: f64, coordinates: u64, seed: u64, series: u32) -> f64 {
    let mut generator = generator(seed, Purpose::CentralNoise, 0, u64::from(series));
    // In (0, 1]: its logarithm is finite.
    let mut uniform = || (f64::from(generator.next_u32()) + 1.0) / (f64::from(u32::MAX) + 1.0);
    let squares = (0..coordinates).map(|_| {
        let (radius, angle) = (-2.0 * uniform().ln(), std::f64::consts::TAU * uniform());
        radius * angle.cos().powi(2)
    });
    deviation * (squares.sum::<f64>() / coordinates as f64).sqrt()
}
