//! The parameters of one round's mechanism, checked against each other; every later step reads them from
//! here. Must never exist in an inconsistent state: the only ways in are [`Mechanism::build`],
//! [`Mechanism::build_with_bits`] and [`Mechanism::with_encoding`].

mod infeasible;
mod law;
pub(crate) mod search;

use serde::{Deserialize, Serialize};

use crate::accountant::tau;
use crate::clip::{MAX_CLIP, MIN_CLIP};
use crate::encode::Encoding;
use crate::rotate::block_length;
use crate::units::BasisPoints;

pub use infeasible::Infeasible;
pub use law::NoiseLaw;
pub(crate) use law::NoiseSampler;

/// Most clients in a cohort.
pub const MAX_CLIENTS: u32 = 1 << 16;
/// Most coordinates of an update.
pub const MAX_DIMENSION: usize = 1 << 28;
/// Fewest bits per coordinate.
pub const MIN_BITS: u32 = 8;
/// Most bits per coordinate.
pub const MAX_BITS: u32 = 24;
/// Smallest standard deviation of one client's noise share, in integer units.
pub const MIN_LOCAL_SIGMA: f64 = 0.5;
/// Largest inflation of the sensitivity by rounding that a plan may have.
pub const MAX_INFLATION: f64 = 2.0;
/// Standard deviations of a decoded coordinate that fit between the middle and the edge of the ring: `K` of
/// the plan's rule.
const DEVIATIONS_IN_RANGE: f64 = 4.0;

/// Which cohorts count as neighbours: what one client's presence can change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Adjacency {
    /// One client's update is replaced by zero.
    ZeroOut,
    /// One client's update is replaced by any other; doubles the sensitivity.
    ReplaceOne,
}

impl Adjacency {
    /// Largest distance between neighbouring sums, in lengths of one update: 1, or 2 under replace-one.
    #[must_use]
    pub fn sensitivity_factor(self) -> f64 {
        match self {
            Self::ZeroOut => 1.0,
            Self::ReplaceOne => 2.0,
        }
    }
}

/// What a plan asks of the mechanism, before scale and bits are chosen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MechanismRequest {
    /// Cohort size n.
    pub clients: u32,
    /// Fewest survivors with which anything is released.
    pub n_min: u32,
    /// Fraction gamma of the cohort that may collude with the coordinator; their noise counts for nothing.
    pub corrupt: BasisPoints,
    /// Fraction of the cohort that may drop out.
    pub dropout: BasisPoints,
    /// Coordinates d of an update.
    pub dimension: usize,
    /// Clip norm c, in the units of the update.
    pub clip: f64,
    /// Noise multiplier z: standard deviation of the honest minimum's summed noise over the sensitivity.
    pub noise_multiplier: f64,
    /// Which cohorts are neighbours.
    pub adjacency: Adjacency,
    /// The law of each client's noise share; the discrete Gaussian when left out.
    #[serde(default)]
    pub noise_law: NoiseLaw,
}

/// A feasible mechanism: the request, the encoding chosen for it, and what follows from both.
///
/// Serialised as the request with `scale` and `bits`; everything else is recomputed, and checked, on the way
/// in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(into = "MechanismForm", try_from = "MechanismForm")]
pub struct Mechanism {
    request: MechanismRequest,
    bits: u32,
    scale: f64,
    norm_bound_squared: u64,
    sensitivity: f64,
    honest_minimum: u32,
    sampler: NoiseSampler,
}

/// The serial form of a [`Mechanism`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct MechanismForm {
    clients: u32,
    n_min: u32,
    corrupt: BasisPoints,
    dropout: BasisPoints,
    dimension: usize,
    clip: f64,
    noise_multiplier: f64,
    adjacency: Adjacency,
    #[serde(default)]
    noise_law: NoiseLaw,
    scale: f64,
    bits: u32,
}

impl From<Mechanism> for MechanismForm {
    fn from(mechanism: Mechanism) -> Self {
        let request = mechanism.request;
        Self {
            clients: request.clients,
            n_min: request.n_min,
            corrupt: request.corrupt,
            dropout: request.dropout,
            dimension: request.dimension,
            clip: request.clip,
            noise_multiplier: request.noise_multiplier,
            adjacency: request.adjacency,
            noise_law: request.noise_law,
            scale: mechanism.scale,
            bits: mechanism.bits,
        }
    }
}

impl TryFrom<MechanismForm> for Mechanism {
    type Error = Infeasible;

    fn try_from(form: MechanismForm) -> Result<Self, Infeasible> {
        let request = MechanismRequest {
            clients: form.clients,
            n_min: form.n_min,
            corrupt: form.corrupt,
            dropout: form.dropout,
            dimension: form.dimension,
            clip: form.clip,
            noise_multiplier: form.noise_multiplier,
            adjacency: form.adjacency,
            noise_law: form.noise_law,
        };
        Self::with_encoding(&request, form.bits, form.scale)
    }
}

impl Mechanism {
    /// Picks the fewest bits and, for them, the largest scale that serve `request`.
    ///
    /// For given bits b the scale s is the largest (cut to six significant digits) with `2^b >= 2K sqrt(rho
    /// (n s c)^2 / d + n/4 + n sigma_l^2)`, K = 4, `rho = d/p`: everyone survives and every update points the
    /// same way. Skellam's heavier tails need `K^2 / 3` more. Of 8 to 16 bits the fewest are taken whose [`Self::overhead`] is
    /// below 1.05; failing that the fewest from 16 to 24 whose overhead is below [`MAX_INFLATION`]; failing that 16, if
    /// feasible.
    ///
    /// # Errors
    /// [`Infeasible`], saying which number stands in the way and what to change.
    pub fn build(request: &MechanismRequest) -> Result<Self, Infeasible> {
        search::choose(request)
    }

    /// The mechanism of `bits` bits whose scale makes the expected square error least in the worst case: everyone
    /// survives and every update points the same way at full length.
    ///
    /// A large scale rounds finely, a small one wraps rarely. Of the largest scales that leave K = 4, 4.25, ... 7
    /// standard deviations in the range, the best is taken. [`Self::build`] always takes K = 4; the two differ most
    /// where `n^2` is far above `z^2 d`, so that the sum may be far above its noise.
    ///
    /// # Errors
    /// [`Infeasible`], as [`Self::build`]; at the largest scale, if at any, the bits suffice.
    pub fn build_with_bits(request: &MechanismRequest, bits: u32) -> Result<Self, Infeasible> {
        search::choose_scale(request, bits)
    }

    /// The mechanism with the encoding that a plan already fixed; checks all that [`Self::build`] promises,
    /// except that the encoding is the best one.
    ///
    /// # Errors
    /// [`Infeasible`], as [`Self::build`].
    pub fn with_encoding(request: &MechanismRequest, bits: u32, scale: f64) -> Result<Self, Infeasible> {
        let honest_minimum = check(request)?;
        if !(MIN_BITS..=MAX_BITS).contains(&bits) {
            return Err(Infeasible::Bits { bits });
        }
        let scale = positive("scale", scale)?;
        let noise = search::Noise::at(request, honest_minimum, scale);
        let range = search::required_range(request, scale, noise.local_variance);
        let available = f64::from(1_u32 << bits);
        if range > available {
            return Err(Infeasible::RangeTooSmall { bits, scale, range, available });
        }
        let local_sigma = noise.local_variance.sqrt();
        let inflation = noise.norm_bound / (scale * request.clip);
        if inflation > MAX_INFLATION {
            return Err(Infeasible::Inflated {
                bits,
                inflation,
                clients: request.clients,
                dimension: request.dimension,
            });
        }
        if local_sigma < MIN_LOCAL_SIGMA {
            return Err(Infeasible::NoiseTooSmall {
                bits,
                local_sigma,
                noise_multiplier: request.noise_multiplier,
            });
        }
        let law = request.noise_law;
        let largest = law.largest_deviation();
        let sampler = NoiseSampler::new(law, noise.local_variance).ok_or(Infeasible::NoiseTooLarge {
            bits,
            law: law.name(),
            local_sigma,
            largest,
        })?;
        Ok(Self {
            request: request.clone(),
            bits,
            scale,
            norm_bound_squared: noise.norm_bound_squared,
            sensitivity: noise.sensitivity,
            honest_minimum,
            sampler,
        })
    }

    /// The request that this mechanism serves.
    #[must_use]
    pub fn request(&self) -> &MechanismRequest {
        &self.request
    }

    /// Coordinates d of an update.
    #[must_use]
    pub fn dimension(&self) -> usize {
        self.request.dimension
    }

    /// Cohort size n.
    #[must_use]
    pub fn clients(&self) -> u32 {
        self.request.clients
    }

    /// Fewest survivors with which anything is released.
    #[must_use]
    pub fn n_min(&self) -> u32 {
        self.request.n_min
    }

    /// Fraction of the cohort that may collude.
    #[must_use]
    pub fn corrupt(&self) -> BasisPoints {
        self.request.corrupt
    }

    /// Fraction of the cohort that may drop out.
    #[must_use]
    pub fn dropout(&self) -> BasisPoints {
        self.request.dropout
    }

    /// Clip norm c, in the units of the update.
    #[must_use]
    pub fn clip(&self) -> f64 {
        self.request.clip
    }

    /// Noise multiplier z.
    #[must_use]
    pub fn noise_multiplier(&self) -> f64 {
        self.request.noise_multiplier
    }

    /// Which cohorts are neighbours.
    #[must_use]
    pub fn adjacency(&self) -> Adjacency {
        self.request.adjacency
    }

    /// The law of each client's noise share.
    #[must_use]
    pub fn noise_law(&self) -> NoiseLaw {
        self.request.noise_law
    }

    /// Scale s: integer units per unit of the update.
    #[must_use]
    pub fn scale(&self) -> f64 {
        self.scale
    }

    /// Bits b per coordinate: sums are taken modulo 2^b.
    #[must_use]
    pub fn bits(&self) -> u32 {
        self.bits
    }

    /// Largest distance between the integer sums of two neighbouring cohorts, in integer units: Delta2 for
    /// zero-out, twice that for replace-one.
    #[must_use]
    pub fn sensitivity(&self) -> f64 {
        self.sensitivity
    }

    /// Largest squared Euclidean norm of a rounded update, in squared integer units: `floor(Delta2^2)`.
    #[must_use]
    pub fn norm_bound_squared(&self) -> u64 {
        self.norm_bound_squared
    }

    /// What rounding needs to know.
    pub(crate) fn encoding(&self) -> Encoding {
        Encoding { scale: self.scale, norm_bound_squared: self.norm_bound_squared }
    }

    /// `Delta2 / (s c)`: by how much rounding to integers lengthens an update at worst.
    #[must_use]
    pub fn sensitivity_inflation(&self) -> f64 {
        (self.norm_bound_squared as f64).sqrt() / (self.scale * self.request.clip)
    }

    /// Largest l1 distance between the integer sums of two neighbouring cohorts: for integer vectors at most
    /// `Delta2 min(sqrt(d), Delta2)`.
    #[must_use]
    pub fn l1_sensitivity(&self) -> f64 {
        self.sensitivity * (self.request.dimension as f64).sqrt().min(self.sensitivity)
    }

    /// What discreteness costs altogether, as a factor on the noise: [`Self::sensitivity_inflation`] times, for the discrete
    /// Gaussian, `1 + z sqrt(d) tau`, the loss from summing discrete instead of continuous Gaussians; for Skellam the root
    /// of what its divergence of order 2 is over a Gaussian's, which no higher order exceeds.
    #[must_use]
    pub fn overhead(&self) -> f64 {
        let factor = match self.request.noise_law {
            NoiseLaw::DiscreteGaussian => {
                let dimension = self.request.dimension as f64;
                let excess = tau(self.local_variance(), self.honest_minimum) * dimension.sqrt();
                1.0 + self.request.noise_multiplier * excess
            }
            NoiseLaw::Skellam => {
                let variance = f64::from(self.honest_minimum) * self.local_variance();
                let ratio = self.l1_sensitivity() / (self.sensitivity * self.sensitivity);
                (1.0 + (0.75 + 1.5 * ratio).min(1.5 * ratio * variance) / variance).sqrt()
            }
        };
        self.sensitivity_inflation() * factor
    }

    /// Standard deviation parameter sigma_l of one client's noise share, in integer units.
    #[must_use]
    pub fn local_sigma(&self) -> f64 {
        self.local_variance().sqrt()
    }

    /// Variance parameter of one client's noise share, in squared integer units: a multiple of 2^-32.
    #[must_use]
    pub fn local_variance(&self) -> f64 {
        self.sampler.variance()
    }

    /// Fewest honest survivors of a released round: `m = n_min - floor(gamma n)`.
    #[must_use]
    pub fn honest_minimum(&self) -> u32 {
        self.honest_minimum
    }

    /// Most colluders in the cohort: `floor(gamma n)`.
    #[must_use]
    pub fn corrupt_clients(&self) -> u32 {
        self.request.corrupt.of(self.request.clients)
    }

    /// Standard deviation of the noise in each coordinate of the decoded sum of `survivors` updates, in the
    /// units of the update: `sigma_l sqrt(survivors) / s`. Rounding and wrapping come on top.
    #[must_use]
    pub fn total_noise_std(&self, survivors: u32) -> f64 {
        (f64::from(survivors) * self.local_variance()).sqrt() / self.scale
    }

    /// The noise sampler of one client's share.
    pub(crate) fn sampler(&self) -> &NoiseSampler {
        &self.sampler
    }
}

/// Checks a request alone and returns m.
fn check(request: &MechanismRequest) -> Result<u32, Infeasible> {
    let &MechanismRequest { clients, n_min, corrupt, dropout, dimension, clip, noise_multiplier, .. } =
        request;
    check_shape(clients, n_min, dimension, clip, noise_multiplier)?;
    let allowed_drops = dropout.of(clients);
    let least = clients - allowed_drops;
    if n_min < least {
        return Err(Infeasible::MinimumBelowSurvivors { n_min, clients, dropout, allowed_drops, least });
    }
    let colluders = corrupt.of(clients);
    let honest = n_min.saturating_sub(colluders);
    if honest < 2 {
        return Err(Infeasible::TooFewHonest { n_min, clients, corrupt, colluders, honest });
    }
    Ok(honest)
}

/// Checks what every mechanism has, whoever adds the noise.
pub(crate) fn check_shape(
    clients: u32,
    n_min: u32,
    dimension: usize,
    clip: f64,
    noise_multiplier: f64,
) -> Result<(), Infeasible> {
    if !(2..=MAX_CLIENTS).contains(&clients) {
        return Err(Infeasible::Clients { clients });
    }
    if !(1..=MAX_DIMENSION).contains(&dimension) {
        return Err(Infeasible::Dimension { dimension });
    }
    positive("noise_multiplier", noise_multiplier)?;
    if !(MIN_CLIP..=MAX_CLIP).contains(&clip) {
        return Err(Infeasible::Clip { clip });
    }
    if n_min > clients {
        return Err(Infeasible::MinimumAboveCohort { n_min, clients });
    }
    Ok(())
}

pub(crate) fn positive(name: &'static str, value: f64) -> Result<f64, Infeasible> {
    if value.is_finite() && value > 0.0 { Ok(value) } else { Err(Infeasible::NotPositive { name, value }) }
}

/// Flatness rho of the rotation: `d / p` with p the largest power of two not above d; at least 1 and below 2.
fn flatness(dimension: usize) -> f64 {
    dimension as f64 / block_length(dimension) as f64
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
