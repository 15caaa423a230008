//! What privacy costs in accuracy: the error of decoded means beside a central Gaussian of the same cost. Must never state a
//! figure as measured that did not come through the pipeline that production runs.

mod cohort;
mod expected;
pub mod figures;
pub mod table;

use serde::Serialize;
use tacit_privacy::{
    AccountantError, Adjacency, BasisPoints, Infeasible, Mechanism, MechanismRequest, NoiseLaw, RdpCurve,
};

use crate::progress::Progress;
use cohort::{Rounds, central_rmse};
use expected::{Expected, central_multiplier};

/// Clip norm of every cohort: errors are in units of it.
const CLIP: f64 = 1.0;
/// Bits of the cohorts with allowances: so many that nothing but the allowance costs anything.
const ALLOWANCE_BITS: u32 = 16;
/// Drop-out allowance that is combined with each fraction of colluders.
const COMBINED_DROPOUT: u16 = 2_000;

/// How the updates of a cohort point.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Updates {
    /// Each in a direction of its own.
    Random,
    /// All in the same: the worst case for the range.
    Aligned,
}

/// What is compared.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Settings {
    /// Bits per coordinate.
    pub bits: Vec<u32>,
    /// Coordinates of an update.
    pub dimensions: Vec<usize>,
    /// Cohort sizes.
    pub clients: Vec<u32>,
    /// Noise multipliers.
    pub noise_multipliers: Vec<f64>,
    /// The probability at which epsilons are compared.
    pub delta: f64,
    /// Fractions that may collude, and that may drop out.
    pub fractions: Vec<BasisPoints>,
    /// Cohort size with allowances.
    pub allowance_clients: u32,
    /// Coordinates with allowances.
    pub allowance_dimension: usize,
    /// Decoded coordinates over which an error is measured at least: rounds are repeated until there are so many.
    pub coordinates: u64,
    /// Coordinates of all clients' updates of one round, up to which a cohort is measured; theory alone speaks of larger ones.
    pub largest: u64,
    /// Seed of updates, rotations and noise.
    pub seed: u64,
}

/// A cohort with neither colluders nor drop-outs, beside a central Gaussian.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Point {
    /// How the updates point.
    pub updates: Updates,
    /// Noise multiplier z.
    pub noise_multiplier: f64,
    /// Bits per coordinate.
    pub bits: u32,
    /// Coordinates of an update.
    pub dimension: usize,
    /// Cohort size.
    pub clients: u32,
    /// What came of it.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// What came of a [`Point`].
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Outcome {
    /// A mechanism exists.
    Feasible(Figures),
    /// None does.
    Infeasible {
        /// Why.
        reason: String,
    },
}

/// The error of one coordinate of a decoded mean; errors are root mean squares in clip norms.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Figures {
    /// Integer units per clip norm.
    pub scale: f64,
    /// By how much rounding lengthens an update at worst.
    pub sensitivity_inflation: f64,
    /// Standard deviation of a client's noise share, in integer units.
    pub local_sigma: f64,
    /// Cost of a round, from the accountant's Rényi bound.
    pub epsilon: f64,
    /// Error to expect.
    pub rmse: f64,
    /// Error measured; none where the cohort is too large.
    pub measured: Option<f64>,
    /// Standard error to expect of the measurement.
    pub standard_error: Option<f64>,
    /// Decoded coordinates measured over.
    pub coordinates: u64,
    /// Multiplier of the central Gaussian of the same epsilon.
    pub central_noise_multiplier: f64,
    /// Its error.
    pub central_rmse: f64,
    /// Its error, sampled.
    pub central_measured: Option<f64>,
}

impl Figures {
    /// Error beyond the central Gaussian's, as a fraction of it.
    #[must_use]
    pub fn excess(&self) -> f64 {
        self.rmse / self.central_rmse - 1.0
    }
}

/// A cohort that allows for colluders and drop-outs, beside the same without.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Allowance {
    /// Fraction that may collude.
    pub corrupt: BasisPoints,
    /// Fraction that may drop out.
    pub dropout: BasisPoints,
    /// Clients that did drop out.
    pub dropped: u32,
    /// Cost of the round with the survivors that it had.
    pub epsilon: f64,
    /// Error to expect, in clip norms.
    pub rmse: f64,
    /// Error measured.
    pub measured: f64,
    /// Standard error to expect of the measurement.
    pub standard_error: f64,
    /// Expected error beside that of the plan without allowances.
    pub ratio: f64,
}

/// Everything that was computed and measured.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Evidence {
    /// What was asked.
    pub settings: Settings,
    /// Distributed beside central.
    pub points: Vec<Point>,
    /// The cost of allowances.
    pub allowances: Vec<Allowance>,
}

/// Why there is no evidence.
#[derive(Debug, thiserror::Error)]
pub enum UtilityError {
    /// A setting that cannot work.
    #[error("{name} is {value}, but it must be {wanted}")]
    Setting {
        /// Which.
        name: &'static str,
        /// The value given.
        value: String,
        /// What is accepted.
        wanted: &'static str,
    },
    /// A cohort with allowances has no mechanism.
    #[error("with {corrupt} colluding and {dropout} dropping out: {source}")]
    Allowance {
        /// Fraction that may collude.
        corrupt: BasisPoints,
        /// Fraction that may drop out.
        dropout: BasisPoints,
        /// Why.
        source: Infeasible,
    },
    /// A vector did not go through the pipeline.
    #[error(transparent)]
    Contribution(#[from] tacit_client::contribution::ContributionError),
    /// A cost cannot be stated.
    #[error(transparent)]
    Account(#[from] AccountantError),
}

impl Settings {
    fn check(&self) -> Result<(), UtilityError> {
        let wrong = |name, value: String, wanted| Err(UtilityError::Setting { name, value, wanted });
        if !(self.delta > 0.0 && self.delta < 1.0) {
            return wrong("delta", self.delta.to_string(), "between 0 and 1");
        }
        if self.coordinates == 0 {
            return wrong("coordinates", "0".to_owned(), "at least 1");
        }
        // Of these no plan speaks; they are mistakes, not points at which nothing serves.
        if let Some(z) = self.noise_multipliers.iter().find(|z| !(**z > 0.0 && z.is_finite())) {
            return wrong("noise multiplier", z.to_string(), "a positive finite number");
        }
        if self.dimensions.contains(&0) {
            return wrong("dimension", "0".to_owned(), "at least 1");
        }
        if let Some(clients) = self.clients.iter().find(|clients| **clients < 2) {
            return wrong("number of clients", clients.to_string(), "at least 2");
        }
        if let Some(bits) = self.bits.iter().find(|bits| !(8..=24).contains(*bits)) {
            return wrong("number of bits", bits.to_string(), "within 8 to 24");
        }
        Ok(())
    }

    /// Rounds until [`Self::coordinates`] coordinates of `dimension` are decoded.
    fn repetitions(&self, dimension: usize) -> u32 {
        let rounds = self.coordinates.div_ceil(dimension.max(1) as u64);
        u32::try_from(rounds).unwrap_or(u32::MAX)
    }
}

/// A cohort of which everyone survives and nobody colludes.
pub(crate) fn request(clients: u32, dimension: usize, noise_multiplier: f64) -> MechanismRequest {
    MechanismRequest {
        clients,
        n_min: clients,
        corrupt: BasisPoints::ZERO,
        dropout: BasisPoints::ZERO,
        dimension,
        clip: CLIP,
        noise_multiplier,
        noise_law: NoiseLaw::DiscreteGaussian,
        adjacency: Adjacency::ZeroOut,
    }
}

/// Computes and measures everything that `settings` asks for.
///
/// # Errors
/// [`UtilityError`]; that a point of the comparison is infeasible is no error, but that point's outcome.
pub fn utility(settings: &Settings, progress: &dyn Progress) -> Result<Evidence, UtilityError> {
    settings.check()?;
    let mut asked = Vec::new();
    for updates in [Updates::Random, Updates::Aligned] {
        for &noise_multiplier in &settings.noise_multipliers {
            for &dimension in &settings.dimensions {
                for &clients in &settings.clients {
                    for &bits in &settings.bits {
                        asked.push((updates, noise_multiplier, dimension, clients, bits));
                    }
                }
            }
        }
    }
    progress.begin("distributed beside central", asked.len());
    let mut points = Vec::new();
    for (series, (updates, noise_multiplier, dimension, clients, bits)) in (0_u32..).zip(asked) {
        let outcome = match Mechanism::build_with_bits(&request(clients, dimension, noise_multiplier), bits) {
            Ok(mechanism) => Outcome::Feasible(compare(settings, &mechanism, updates, series)?),
            Err(reason) => Outcome::Infeasible { reason: reason.to_string() },
        };
        points.push(Point { updates, noise_multiplier, bits, dimension, clients, outcome });
        progress.advance();
    }
    progress.end();
    let allowances = allowances(settings, progress)?;
    Ok(Evidence { settings: settings.clone(), points, allowances })
}

fn compare(
    settings: &Settings,
    mechanism: &Mechanism,
    updates: Updates,
    series: u32,
) -> Result<Figures, UtilityError> {
    let (clients, dimension) = (mechanism.clients(), mechanism.dimension());
    let expected = Expected::of(mechanism, clients, updates);
    let epsilon = RdpCurve::distributed(mechanism, clients)?.epsilon(settings.delta)?;
    let central_noise_multiplier = central_multiplier(epsilon, settings.delta)?;
    let central = central_noise_multiplier * CLIP / f64::from(clients);
    let mut figures = Figures {
        scale: mechanism.scale(),
        sensitivity_inflation: mechanism.sensitivity_inflation(),
        local_sigma: mechanism.local_sigma(),
        epsilon,
        rmse: expected.rmse(),
        measured: None,
        standard_error: None,
        coordinates: 0,
        central_noise_multiplier,
        central_rmse: central,
        central_measured: None,
    };
    if u64::from(clients) * dimension as u64 <= settings.largest {
        let (repetitions, seed) = (settings.repetitions(dimension), settings.seed);
        let rounds = Rounds { mechanism, survivors: clients, updates, repetitions, seed, series };
        figures.measured = Some(rounds.rmse()?);
        figures.coordinates = u64::from(repetitions) * dimension as u64;
        figures.standard_error = Some(expected.standard_error(figures.coordinates));
        figures.central_measured = Some(central_rmse(central, figures.coordinates, seed, series));
    }
    Ok(figures)
}

/// Colluders alone, colluders beside drop-outs that are allowed for, and drop-outs that are allowed for and do or do not happen.
fn allowances(settings: &Settings, progress: &dyn Progress) -> Result<Vec<Allowance>, UtilityError> {
    let clients = settings.allowance_clients;
    let combined = BasisPoints::new(COMBINED_DROPOUT).unwrap_or_default();
    let mut asked = Vec::new();
    for &fraction in &settings.fractions {
        asked.push((fraction, BasisPoints::ZERO, 0));
        asked.push((fraction, combined, 0));
        asked.push((BasisPoints::ZERO, fraction, 0));
        asked.push((BasisPoints::ZERO, fraction, fraction.of(clients)));
    }
    asked.sort_unstable();
    asked.dedup();
    progress.begin("colluders and drop-outs", asked.len());
    let plain = allow(settings, BasisPoints::ZERO, BasisPoints::ZERO)?;
    let plain = Expected::of(&plain, clients, Updates::Random).rmse();
    let mut found = Vec::new();
    // Series of their own: the comparison's are few.
    for (series, (corrupt, dropout, dropped)) in (1 << 24..).zip(asked) {
        let mechanism = allow(settings, corrupt, dropout)?;
        let (survivors, updates) = (clients - dropped, Updates::Random);
        let expected = Expected::of(&mechanism, survivors, updates);
        let (repetitions, seed) = (settings.repetitions(mechanism.dimension()), settings.seed);
        let rounds = Rounds { mechanism: &mechanism, survivors, updates, repetitions, seed, series };
        let coordinates = u64::from(repetitions) * mechanism.dimension() as u64;
        let curve = RdpCurve::distributed(&mechanism, survivors)?;
        found.push(Allowance {
            corrupt,
            dropout,
            dropped,
            epsilon: curve.epsilon(settings.delta)?,
            rmse: expected.rmse(),
            measured: rounds.rmse()?,
            standard_error: expected.standard_error(coordinates),
            ratio: expected.rmse() / plain,
        });
        progress.advance();
    }
    progress.end();
    Ok(found)
}

fn allow(settings: &Settings, corrupt: BasisPoints, dropout: BasisPoints) -> Result<Mechanism, UtilityError> {
    let clients = settings.allowance_clients;
    let plain = request(clients, settings.allowance_dimension, 1.0);
    let request = MechanismRequest { n_min: clients - dropout.of(clients), corrupt, dropout, ..plain };
    let infeasible = |source| UtilityError::Allowance { corrupt, dropout, source };
    Mechanism::build_with_bits(&request, ALLOWANCE_BITS).map_err(infeasible)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::progress::Silent;

    fn points(basis_points: u16) -> BasisPoints {
        BasisPoints::new(basis_points).expect("at most the whole")
    }

    fn settings() -> Settings {
        Settings {
            bits: vec![12, 16],
            dimensions: vec![512, 1 << 16],
            clients: vec![8, 20],
            noise_multipliers: vec![1.0, 4.0],
            delta: 1e-5,
            fractions: vec![points(0), points(1_000), points(3_000)],
            allowance_clients: 20,
            allowance_dimension: 500,
            coordinates: 20_000,
            largest: 20 * 512,
            seed: 7,
        }
    }

    fn compared(
        settings: &Settings,
        bits: u32,
        noise_multiplier: f64,
        dimension: usize,
        clients: u32,
        updates: Updates,
    ) -> Figures {
        let mechanism = Mechanism::build_with_bits(&request(clients, dimension, noise_multiplier), bits);
        compare(settings, &mechanism.expect("feasible"), updates, 3).expect("compared")
    }

    #[test]
    fn sixteen_bits_cost_at_most_two_percent() {
        let unmeasured = Settings { largest: 0, ..settings() };
        for noise_multiplier in [0.5, 1.0, 4.0] {
            for log in [10, 13, 16, 19] {
                for clients in [10, 100, 1000] {
                    let excess = |updates| {
                        compared(&unmeasured, 16, noise_multiplier, 1 << log, clients, updates).excess()
                    };
                    let (random, aligned) = (excess(Updates::Random), excess(Updates::Aligned));
                    let place = format!("z {noise_multiplier}, d 2^{log}, n {clients}: {random}, {aligned}");
                    assert!(random > 0.0 && random < 0.02 && aligned < 0.02, "{place}");
                }
            }
        }
    }

    #[test]
    fn sixteen_bits_agree_when_measured() {
        for (noise_multiplier, dimension, clients, updates) in [
            (0.5, 1024, 40, Updates::Aligned),
            (1.0, 1024, 40, Updates::Random),
            (4.0, 1 << 13, 10, Updates::Aligned),
            (4.0, 1 << 19, 3, Updates::Random),
        ] {
            let settings = Settings { largest: u64::MAX, coordinates: 1 << 17, ..settings() };
            let figures = compared(&settings, 16, noise_multiplier, dimension, clients, updates);
            let (found, chance) = (figures.measured.expect("measured"), figures.standard_error.expect("too"));
            let place = format!("z {noise_multiplier}, d {dimension}, n {clients}: {figures:?}");
            assert!((found - figures.rmse).abs() < 4.0 * chance, "{place}");
            assert!(found < 1.02 * figures.central_rmse + 4.0 * chance, "{place}");
            assert!(chance < 0.003 * found, "the test could pass with another error: {place}");
            let central = figures.central_measured.expect("too");
            assert!((central - figures.central_rmse).abs() < 4.0 * chance, "{place}");
            // The promise of zero-out: z standard deviations of the noise for one clip norm.
            assert!((figures.central_noise_multiplier / noise_multiplier - 1.0).abs() < 1e-3, "{place}");
        }
    }

    /// The mechanism of the largest scale that the plan's rule allows.
    pub(super) fn largest(request: &MechanismRequest, bits: u32) -> Mechanism {
        let mut best = Mechanism::build_with_bits(request, bits).expect("feasible");
        let (mut low, mut high) = (best.scale(), 2.0 * best.scale());
        for _ in 0..40 {
            let middle = 0.5 * (low + high);
            match Mechanism::with_encoding(request, bits, middle) {
                Ok(mechanism) => (best, low) = (mechanism, middle),
                Err(_) => high = middle,
            }
        }
        best
    }

    #[test]
    fn wraps_are_measured_as_expected() {
        // Four standard deviations of a sum that is mostly signal: one coordinate in sixteen thousand wraps.
        let mechanism = largest(&request(100, 256, 1.0), 12);
        let settings = Settings { coordinates: 1 << 18, largest: u64::MAX, ..settings() };
        let figures = compare(&settings, &mechanism, Updates::Aligned, 3).expect("compared");
        let (found, chance) = (figures.measured.expect("measured"), figures.standard_error.expect("too"));
        assert!((found - figures.rmse).abs() < 4.0 * chance, "{figures:?}");
        let smooth = Expected::of(&mechanism, 100, Updates::Aligned).smooth.sqrt();
        assert!(found > 1.02 * smooth && smooth < 1.03 * figures.central_rmse, "{figures:?}");
    }

    #[test]
    fn allowances_cost_what_the_noise_of_the_missing_costs() {
        let found = allowances(&settings(), &Silent).expect("feasible");
        assert_eq!(found.len(), 1 + 2 + 3 + 2 * 2);
        for a in &found {
            let survivors = f64::from(20 - a.dropped);
            let honest = f64::from(20 - a.dropout.of(20) - a.corrupt.of(20));
            // Each of m honest survivors adds 1/m of the promised variance; the mean is over the survivors.
            let ratio = (survivors / honest).sqrt() * 20.0 / survivors;
            assert!((a.ratio / ratio - 1.0).abs() < 1e-3, "{a:?}: {ratio}");
            assert!((a.measured - a.rmse).abs() < 4.0 * a.standard_error, "{a:?}");
            // More noise than promised costs less than promised.
            let promised = 4.7285;
            if a.dropped == a.dropout.of(20) {
                assert!((a.epsilon / promised - 1.0).abs() < 1e-3, "{a:?}");
            } else {
                assert!(a.epsilon < 0.98 * promised, "{a:?}");
            }
        }
    }

    #[test]
    fn evidence_is_whole_and_does_not_depend_on_threads() {
        let on = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
            pool.install(|| utility(&settings(), &Silent)).expect("evidence")
        };
        let evidence = on(1);
        assert_eq!(evidence, on(3));
        assert_ne!(
            evidence.allowances,
            utility(&Settings { seed: 8, ..settings() }, &Silent).expect("evidence").allowances
        );
        assert_eq!(evidence.points.len(), 2 * 2 * 2 * 2 * 2);
        for point in &evidence.points {
            match &point.outcome {
                Outcome::Feasible(f) => {
                    assert_eq!(f.measured.is_some(), point.dimension == 512, "{point:?}");
                    assert!((f.epsilon.is_finite() && f.rmse > 0.0) && f.coordinates % 512 == 0, "{point:?}");
                }
                Outcome::Infeasible { reason } => {
                    assert_eq!((point.bits, point.dimension, point.noise_multiplier), (12, 1 << 16, 4.0));
                    assert!(reason.contains("12 bits hold 4096"), "{reason}");
                }
            }
        }
        let (measured, farthest) = table::agreement(&evidence);
        assert_eq!(measured, 16 + evidence.allowances.len());
        assert!(farthest < 4.5, "{farthest}");
        // Two cohort sizes in each of two figures of errors and one of excess for each kind of updates.
        let svgs = figures::figures(&evidence);
        assert_eq!(svgs.len(), 5);
        for (name, svg) in svgs {
            assert!(svg.starts_with("<svg xmlns=") && svg.ends_with("</svg>\n"), "{name}");
            assert!(!svg.contains("NaN") && !svg.contains("inf"), "{name}");
            let crosses = svg.matches("12 bits hold 4096").count();
            assert_eq!(
                crosses,
                if name.contains("rmse") || name.contains("excess") { 2 } else { 0 },
                "{name}"
            );
        }
        let csv = table::points_csv(&evidence);
        assert_eq!(csv.lines().count(), 1 + evidence.points.len());
        let columns = |line: &str| line.split('"').next().unwrap_or_default().matches(',').count();
        assert!(csv.lines().all(|line| columns(line) == 16), "{csv}");
        let summary = table::summary(&evidence);
        assert_eq!(summary.lines().count(), 1 + 2 * 2 * 2 + 1, "{summary}");
    }

    #[test]
    fn settings_that_cannot_work_are_named() {
        let refused = |settings: Settings| utility(&settings, &Silent).expect_err("refused").to_string();
        assert!(refused(Settings { delta: 1.0, ..settings() }).contains("delta is 1"));
        assert!(refused(Settings { coordinates: 0, ..settings() }).contains("coordinates is 0"));
        assert!(
            refused(Settings { noise_multipliers: vec![1.0, f64::NAN], ..settings() }).contains("is NaN")
        );
        assert!(refused(Settings { dimensions: vec![0], ..settings() }).contains("dimension is 0"));
        assert!(refused(Settings { clients: vec![1], ..settings() }).contains("clients is 1"));
        assert!(refused(Settings { bits: vec![33], ..settings() }).contains("bits is 33"));
        let all = Settings { fractions: vec![points(9_800)], ..settings() };
        assert!(refused(all).contains("0 colluding and 0.98 dropping out"));
    }
}
