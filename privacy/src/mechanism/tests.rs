//! The plan builder: what it promises, what it refuses, and that its serial form cannot lie.

use proptest::prelude::*;

use super::search::{Noise, norm_bound_squared, required_range};
use super::*;
use crate::accountant::{RdpCurve, epsilon_spent};
use crate::sampler::DISTANCE as SAMPLER_DISTANCE;

fn points(basis_points: u16) -> BasisPoints {
    BasisPoints::new(basis_points).unwrap()
}

fn request(clients: u32, dimension: usize, noise_multiplier: f64) -> MechanismRequest {
    MechanismRequest {
        clients,
        n_min: clients - points(2_000).of(clients),
        corrupt: points(500),
        dropout: points(2_000),
        dimension,
        clip: 0.5,
        noise_multiplier,
        adjacency: Adjacency::ZeroOut,
        noise_law: NoiseLaw::DiscreteGaussian,
    }
}

/// Asserts everything that a mechanism promises about its request.
fn assert_consistent(mechanism: &Mechanism) {
    let request = mechanism.request();
    let (n, d) = (f64::from(request.clients), request.dimension as f64);
    let norm = mechanism.scale() * request.clip;
    let honest = request.n_min - request.corrupt.of(request.clients);
    assert_eq!(mechanism.honest_minimum(), honest);
    assert!(honest >= 2);
    // The norm bound, written out.
    let bound = (norm * norm + d / 4.0 + norm + d.sqrt() / 2.0).min((norm + d.sqrt()).powi(2));
    assert!((mechanism.norm_bound_squared() as f64 - bound).abs() <= 1.0 + 1e-9 * bound);
    assert!(mechanism.norm_bound_squared() as f64 <= bound * (1.0 + 1e-12));
    let factor = if request.adjacency == Adjacency::ReplaceOne { 2.0 } else { 1.0 };
    let delta2 = (mechanism.norm_bound_squared() as f64).sqrt();
    assert!((mechanism.sensitivity() - factor * delta2).abs() <= 1e-12 * delta2);
    assert!(mechanism.sensitivity() >= factor * delta2);
    assert!((mechanism.sensitivity_inflation() - delta2 / norm).abs() <= 1e-9);
    // The noise of m shares is at least z times the sensitivity, and hardly more.
    let sigma = mechanism.local_sigma() * f64::from(honest).sqrt();
    let promised = request.noise_multiplier * mechanism.sensitivity();
    assert!(sigma >= promised * (1.0 - 1e-12) && sigma <= promised * (1.0 + 1e-6), "{sigma} for {promised}");
    assert!(mechanism.local_sigma() >= MIN_LOCAL_SIGMA);
    // The range, written out with p found by doubling.
    let mut p = 1.0;
    while 2.0 * p <= d {
        p *= 2.0;
    }
    let variance = d / p * (n * norm).powi(2) / d + n / 4.0 + n * mechanism.local_sigma().powi(2);
    let heavier_tails = if request.noise_law == NoiseLaw::Skellam { 16.0 / 3.0 } else { 0.0 };
    assert!(
        2.0 * 4.0 * variance.sqrt() + heavier_tails <= f64::from(1_u32 << mechanism.bits()) * (1.0 + 1e-9)
    );
    let noise = (110.0 * mechanism.local_variance()).sqrt() / mechanism.scale();
    assert!((mechanism.total_noise_std(110) - noise).abs() <= 1e-12 * noise);
}

#[test]
fn sixteen_bits_hold_what_the_design_claims() {
    for dimension in [1000, 6144, 1 << 16, (1 << 17) - 1, 1 << 20] {
        for clients in [10, 64, 128, 1000] {
            for noise_multiplier in [0.5, 1.0, 4.0] {
                let mechanism = Mechanism::build(&request(clients, dimension, noise_multiplier)).unwrap();
                assert_consistent(&mechanism);
                assert!(
                    mechanism.bits() <= 16,
                    "d {dimension}, n {clients}, z {noise_multiplier}: {mechanism:?}"
                );
                assert!(mechanism.overhead() < 1.05, "d {dimension}, n {clients}, z {noise_multiplier}");
            }
        }
    }
}

#[test]
fn the_scale_is_the_largest_and_the_bits_are_the_fewest() {
    let request = request(128, 6144, 1.0);
    let mechanism = Mechanism::build(&request).unwrap();
    let larger = mechanism.scale() * 1.00002;
    assert!(matches!(
        Mechanism::with_encoding(&request, mechanism.bits(), larger),
        Err(Infeasible::RangeTooSmall { bits: 12, .. })
    ));
    // One bit fewer fits only a scale at which the overhead is above the target.
    let smaller = Mechanism::with_encoding(&request, mechanism.bits() - 1, mechanism.scale() * 0.49).unwrap();
    assert!(smaller.overhead() > 1.05, "{}", smaller.overhead());
}

#[test]
fn a_range_that_no_scale_fits_is_not_blamed_on_the_scale() {
    let loud = Mechanism::build_with_bits(&request(128, 1 << 19, 4.0), 12).unwrap_err().to_string();
    assert!(loud.starts_with("at any scale rounding and noise alone need a range of"), "{loud}");
    let fine = Mechanism::with_encoding(&request(128, 6144, 1.0), 12, 1e4).unwrap_err().to_string();
    assert!(fine.starts_with("at scale 10000 the sum needs") && fine.contains("a smaller scale"), "{fine}");
}

#[test]
fn more_than_sixteen_bits_only_where_sixteen_do_not_do() {
    // Above the target at 16 bits, but feasible: stays there.
    let wide = Mechanism::build(&request(10_000, 10_000_000, 1.0)).unwrap();
    assert_eq!(wide.bits(), 16);
    assert!(wide.sensitivity_inflation() > 1.05 && wide.sensitivity_inflation() < MAX_INFLATION);
    let wider = Mechanism::build(&request(10_000, 10_000_000, 8.0)).unwrap();
    assert!(wider.bits() > 16);
    // At 16 bits ten thousand shares would be so narrow that their sum is unlike a Gaussian, and epsilon without bound.
    let narrow = request(10_000, 6144, 1.0);
    let many = Mechanism::build(&narrow).unwrap();
    assert!(many.bits() > 16 && many.overhead() < 1.2, "{many:?}");
    let at_sixteen = Mechanism::build_with_bits(&narrow, 16).unwrap();
    assert!(at_sixteen.overhead() > MAX_INFLATION, "{at_sixteen:?}");
    assert_consistent(&wider);
    assert!(matches!(
        Mechanism::build(&request(60_000, MAX_DIMENSION, 300.0)),
        Err(Infeasible::Inflated { bits: 24, .. } | Infeasible::RangeTooSmall { bits: 24, .. })
    ));
}

#[test]
fn given_bits_get_the_scale_of_least_error() {
    let at_full = |clients, dimension, noise_multiplier| MechanismRequest {
        n_min: clients,
        corrupt: BasisPoints::ZERO,
        dropout: BasisPoints::ZERO,
        ..request(clients, dimension, noise_multiplier)
    };
    // Variance, in squared units of the update, of a coordinate where a thousand updates agree, and the share of
    // coordinates that wrap at half of the ring.
    let worst = |mechanism: &Mechanism| {
        let request = mechanism.request();
        let (n, d) = (f64::from(request.clients), request.dimension as f64);
        let noise = n * (mechanism.local_variance() + 0.25) / mechanism.scale().powi(2);
        let sum = (n * request.clip).powi(2) / d;
        let ring = f64::from(1_u32 << mechanism.bits()) / mechanism.scale();
        let wraps = libm::erfc(ring / 2.0 / (2.0 * (noise + sum)).sqrt());
        (noise, wraps * ring * ring * sum / (sum + noise))
    };
    // The sum may be 31 times its noise: at K = 4 wraps would cost more than the noise itself.
    let request = at_full(1000, 1024, 1.0);
    let careful = Mechanism::build_with_bits(&request, 16).unwrap();
    assert_consistent(&careful);
    assert_eq!(careful.bits(), 16);
    let (noise, wraps) = worst(&careful);
    assert!(wraps < 0.02 * noise, "{wraps} beside {noise}");
    assert!((noise / 0.25).sqrt() < 1.02, "{noise}");
    let bold = Mechanism::with_encoding(&request, 16, careful.scale() * 1.4).unwrap();
    let (noise, wraps) = worst(&bold);
    assert!(wraps > noise, "{wraps} beside {noise}");
    // Where rounding is what costs, the largest scale is the best.
    let request = at_full(100, 1 << 19, 4.0);
    let largest = Mechanism::build_with_bits(&request, 16).unwrap();
    assert!(matches!(
        Mechanism::with_encoding(&request, 16, largest.scale() * 1.00002),
        Err(Infeasible::RangeTooSmall { bits: 16, .. })
    ));
    // What no scale serves is refused with the numbers at the largest.
    let request = at_full(100, 1 << 19, 4.0);
    assert!(matches!(
        Mechanism::build_with_bits(&request, 12),
        Err(Infeasible::Inflated { bits: 12, .. } | Infeasible::RangeTooSmall { bits: 12, .. })
    ));
    assert_eq!(Mechanism::build_with_bits(&request, 25), Err(Infeasible::Bits { bits: 25 }));
    assert_eq!(Mechanism::build_with_bits(&request, 7), Err(Infeasible::Bits { bits: 7 }));
}

#[test]
fn replace_one_doubles_sensitivity_and_noise() {
    let zero_out = Mechanism::build(&request(128, 6144, 1.0)).unwrap();
    let replace = MechanismRequest { adjacency: Adjacency::ReplaceOne, ..request(128, 6144, 1.0) };
    let replace = Mechanism::with_encoding(&replace, 13, zero_out.scale()).unwrap();
    assert_eq!(replace.norm_bound_squared(), zero_out.norm_bound_squared());
    assert!((replace.sensitivity() / zero_out.sensitivity() - 2.0).abs() < 1e-12);
    assert!((replace.local_sigma() / zero_out.local_sigma() - 2.0).abs() < 1e-6);
    assert_consistent(&replace);
}

#[test]
fn skellam_costs_hardly_more_and_is_built_by_the_same_rule() {
    for dimension in [1000, 6144, 1 << 16, (1 << 17) - 1, 1 << 20] {
        for clients in [10, 128, 1000] {
            for noise_multiplier in [0.5, 1.0, 4.0] {
                let gaussian = request(clients, dimension, noise_multiplier);
                let skellam = MechanismRequest { noise_law: NoiseLaw::Skellam, ..gaussian.clone() };
                let gaussian = Mechanism::build(&gaussian).unwrap();
                let skellam = Mechanism::build(&skellam).unwrap();
                assert_consistent(&skellam);
                let name = format!("d {dimension}, n {clients}, z {noise_multiplier}");
                assert!(skellam.bits() <= 16 && skellam.overhead() < 1.05, "{name}: {skellam:?}");
                assert_eq!(skellam.noise_law(), NoiseLaw::Skellam);
                let same = skellam.bits() == gaussian.bits();
                assert!(!same || skellam.scale() < gaussian.scale(), "{name}: the tails cost nothing?");
                assert!(!same || skellam.scale() > 0.97 * gaussian.scale(), "{name}");
                let cost = |mechanism| {
                    epsilon_spent(&RdpCurve::distributed(mechanism, clients).unwrap(), 1e-5, 1).unwrap()
                };
                let ratio = cost(&skellam) / cost(&gaussian);
                assert!((0.98..1.04).contains(&ratio), "{name}: {ratio}");
            }
        }
    }
}

#[test]
fn the_cost_is_that_of_the_law_which_is_drawn() {
    let skellam = MechanismRequest { noise_law: NoiseLaw::Skellam, ..request(128, 6144, 1.0) };
    let skellam = Mechanism::build(&skellam).unwrap();
    let cost = RdpCurve::distributed(&skellam, 110).unwrap();
    let honest = 104.0;
    let variance = honest * skellam.local_variance();
    let l1 = skellam.sensitivity() * skellam.sensitivity().min(6144.0_f64.sqrt());
    assert_eq!(skellam.l1_sensitivity(), l1);
    let ideal = RdpCurve::skellam(variance, skellam.sensitivity(), l1);
    assert_eq!(cost.points().collect::<Vec<_>>(), ideal.points().collect::<Vec<_>>());
    assert_eq!(cost.sampling_distance(), SAMPLER_DISTANCE * 6144.0 * honest);
    let request = request(128, 6144, 1.0);
    let gaussian = Mechanism::with_encoding(&request, skellam.bits(), skellam.scale()).unwrap();
    assert_eq!(gaussian.local_variance(), skellam.local_variance());
    let gaussian = RdpCurve::distributed(&gaussian, 110).unwrap();
    assert!(gaussian.points().zip(cost.points()).any(|((_, a), (_, b))| a < 0.999 * b));
}

#[test]
fn skellam_shares_have_a_largest_deviation() {
    let request = MechanismRequest {
        noise_law: NoiseLaw::Skellam,
        n_min: 2,
        dropout: points(7_500),
        corrupt: points(0),
        ..request(8, 10, 1e4)
    };
    let error = Mechanism::with_encoding(&request, 24, 20.0).unwrap_err();
    assert!(matches!(error, Infeasible::NoiseTooLarge { law: "skellam", .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains("above the 32768") && text.contains("law skellam"), "{text}");
    // The discrete Gaussian goes further, and a smaller scale serves both.
    let gaussian = MechanismRequest { noise_law: NoiseLaw::DiscreteGaussian, ..request.clone() };
    assert!(Mechanism::with_encoding(&gaussian, 24, 20.0).unwrap().local_sigma() > 32768.0);
    assert!(Mechanism::with_encoding(&request, 24, 4.0).is_ok());
}

#[test]
fn every_refusal_names_its_numbers() {
    let good = request(128, 6144, 1.0);
    let refuse = |change: fn(&mut MechanismRequest)| {
        let mut bad = request(128, 6144, 1.0);
        change(&mut bad);
        Mechanism::build(&bad).unwrap_err()
    };
    assert!(Mechanism::build(&good).is_ok());
    assert_eq!(refuse(|r| r.n_min = 129), Infeasible::MinimumAboveCohort { n_min: 129, clients: 128 });
    let below = refuse(|r| r.n_min = 102);
    assert!(matches!(
        below,
        Infeasible::MinimumBelowSurvivors { n_min: 102, allowed_drops: 25, least: 103, .. }
    ));
    assert!(below.to_string().contains("0.2 of 128 (25)"), "{below}");
    let few = refuse(|r| r.corrupt = BasisPoints::new(7_970).unwrap());
    assert!(matches!(few, Infeasible::TooFewHonest { n_min: 103, colluders: 102, honest: 1, .. }), "{few}");
    assert!(matches!(
        refuse(|r| r.corrupt = BasisPoints::new(10_000).unwrap()),
        Infeasible::TooFewHonest { honest: 0, .. }
    ));
    assert_eq!(refuse(|r| r.dimension = 0), Infeasible::Dimension { dimension: 0 });
    assert_eq!(
        refuse(|r| r.dimension = MAX_DIMENSION + 1),
        Infeasible::Dimension { dimension: MAX_DIMENSION + 1 }
    );
    assert_eq!(refuse(|r| (r.clients, r.n_min) = (1, 1)), Infeasible::Clients { clients: 1 });
    assert!(matches!(refuse(|r| r.clients = u32::MAX), Infeasible::Clients { .. }));
    for clip in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e-30] {
        let mut bad = good.clone();
        bad.clip = clip;
        assert!(matches!(Mechanism::build(&bad), Err(Infeasible::Clip { .. })), "{clip}");
    }
    for noise_multiplier in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        let mut bad = good.clone();
        bad.noise_multiplier = noise_multiplier;
        let error = Mechanism::build(&bad).unwrap_err();
        assert!(matches!(error, Infeasible::NotPositive { name: "noise_multiplier", .. }), "{error}");
    }
    let quiet = refuse(|r| r.noise_multiplier = 1e-6);
    assert!(matches!(quiet, Infeasible::NoiseTooSmall { bits: 24, .. }), "{quiet}");
    let loud = refuse(|r| r.noise_multiplier = 1e9);
    assert!(matches!(loud, Infeasible::Inflated { .. } | Infeasible::RangeTooSmall { .. }), "{loud}");
    assert!(matches!(Mechanism::with_encoding(&good, 25, 1.0), Err(Infeasible::Bits { bits: 25 })));
    assert!(matches!(
        Mechanism::with_encoding(&good, 16, f64::NAN),
        Err(Infeasible::NotPositive { name: "scale", .. })
    ));
}

#[test]
fn the_serial_form_is_checked_on_the_way_in() {
    let mechanism = Mechanism::build(&request(128, 6144, 1.0)).unwrap();
    let json = serde_json::to_string(&mechanism).unwrap();
    assert_eq!(
        json,
        concat!(
            r#"{"clients":128,"n_min":103,"corrupt":0.05,"dropout":0.2,"dimension":6144,"clip":0.5,"#,
            r#""noise_multiplier":1.0,"adjacency":"zero-out","noise_law":"discrete-gaussian","scale":441.939,"bits":12}"#
        )
    );
    let without_law = json.replace(r#""noise_law":"discrete-gaussian","#, "");
    assert_eq!(serde_json::from_str::<Mechanism>(&without_law).unwrap(), mechanism);
    let skellam = json.replace("discrete-gaussian", "skellam").replace("441.939", "440.0");
    assert_eq!(serde_json::from_str::<Mechanism>(&skellam).unwrap().noise_law(), NoiseLaw::Skellam);
    assert_eq!(serde_json::from_str::<Mechanism>(&json).unwrap(), mechanism);
    let lies = [
        ("\"scale\":441.939", "\"scale\":450.0", "needs a range"),
        ("\"scale\":441.939", "\"scale\":-441.939", "positive"),
        ("\"scale\":441.939", "\"scale\":0.001", "inflates"),
        ("\"bits\":12", "\"bits\":11", "needs a range"),
        ("discrete-gaussian", "laplace", "unknown variant"),
        ("discrete-gaussian", "skellam", "needs a range"),
        ("\"bits\":12", "\"bits\":33", "outside 8 to 24"),
        ("\"n_min\":103", "\"n_min\":90", "below the 103 clients"),
        ("\"noise_multiplier\":1.0", "\"noise_multiplier\":0.0", "positive"),
        ("\"bits\":12", "\"bits\":12,\"local_sigma\":1.0", "unknown field"),
        ("\"corrupt\":0.05", "\"corrupt\":0.99", "honest survivors"),
        ("\"adjacency\":\"zero-out\"", "\"adjacency\":\"add-remove\"", "unknown variant"),
    ];
    for (truth, lie, reason) in lies {
        let lying = json.replace(truth, lie);
        assert_ne!(lying, json);
        let error = serde_json::from_str::<Mechanism>(&lying).unwrap_err().to_string();
        assert!(error.contains(reason), "{lie}: {error}");
    }
}

#[test]
fn the_norm_bound_is_the_smaller_of_its_two_forms() {
    // d = 4, norm 10: 100 + 1 + 10 + 1 = 112, and 12^2 = 144.
    assert_eq!(norm_bound_squared(10.0, 4), 112);
    // d = 4, norm 0.1: 0.01 + 1 + 0.1 + 1 = 2.11, and 2.1^2 = 4.41.
    assert_eq!(norm_bound_squared(0.1, 4), 2);
    // Large d against a small norm: 1 + 250000 + 1 + 500, and 1001^2.
    assert_eq!(norm_bound_squared(1.0, 1_000_000), 250_502);
    assert_eq!(norm_bound_squared(1e300, 1), 1 << 63);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn what_is_built_is_consistent_and_survives_json(
        clients in 2_u32..5_000,
        corrupt in 0_u16..3_000,
        dropout in 0_u16..3_000,
        log_dimension in 0.0_f64..24.0,
        log_clip in -9.0_f64..9.0,
        log_noise in -2.0_f64..2.0,
        replace in any::<bool>(),
        skellam in any::<bool>(),
        extra in 0_u32..3,
    ) {
        let (corrupt, dropout) = (points(corrupt), points(dropout));
        let request = MechanismRequest {
            clients,
            n_min: (clients - dropout.of(clients) + extra).min(clients),
            corrupt,
            dropout,
            dimension: log_dimension.exp2() as usize,
            clip: 10_f64.powf(log_clip),
            noise_multiplier: 10_f64.powf(log_noise),
            adjacency: if replace { Adjacency::ReplaceOne } else { Adjacency::ZeroOut },
            noise_law: if skellam { NoiseLaw::Skellam } else { NoiseLaw::DiscreteGaussian },
        };
        match Mechanism::build(&request) {
            Ok(mechanism) => {
                assert_consistent(&mechanism);
                let larger = mechanism.scale() * 1.0001;
                let noise = Noise::at(&request, mechanism.honest_minimum(), larger);
                let range = required_range(&request, larger, noise.local_variance);
                prop_assert!(range > f64::from(1_u32 << mechanism.bits()), "a larger scale fits");
                // Text carries the scale exactly; clip and noise multiplier were drawn with all their digits.
                let scale = mechanism.scale().to_string().parse::<f64>().unwrap();
                let again = Mechanism::with_encoding(&request, mechanism.bits(), scale).unwrap();
                prop_assert_eq!(again, mechanism);
            }
            Err(error) => {
                let honest = request.n_min.saturating_sub(corrupt.of(clients));
                let excused = match error {
                    Infeasible::TooFewHonest { .. } => honest < 2,
                    Infeasible::NoiseTooLarge { .. } => skellam && request.noise_multiplier > 1.0,
                    Infeasible::NoiseTooSmall { .. } => request.noise_multiplier < 1.0,
                    Infeasible::Inflated { .. } | Infeasible::RangeTooSmall { .. } => {
                        request.noise_multiplier > 1.0
                    }
                    _ => false,
                };
                prop_assert!(excused, "{request:?}: {error}");
            }
        }
    }
}
