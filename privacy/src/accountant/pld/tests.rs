//! Tests of the composed privacy loss against exact values. Must never take a reference from the code under
//! test.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use super::*;

/// How far above the truth an epsilon may be.
const TIGHT: f64 = 1e-4;

/// Checks that `found` is not below `exact`, known to `1e-9`, and tight.
fn check_epsilon(found: f64, exact: f64, what: &str) {
    assert!(found >= exact * (1.0 - 1e-9), "{what}: {found} is below the true {exact}");
    assert!(found <= exact * (1.0 + TIGHT) + 1e-12, "{what}: {found} is not tight, the truth is {exact}");
}

/// Checks epsilon and delta of `loss` against an exact delta(epsilon), which falls.
fn check_against(loss: &PrivacyLoss, exact: impl Fn(f64) -> f64, deltas: &[f64], what: &str) {
    for &delta in deltas {
        let (mut low, mut high) = (0.0, 1e4);
        if exact(0.0) <= delta {
            high = 0.0;
        }
        while high - low > 1e-13 * high {
            let middle = (low + high) / 2.0;
            if exact(middle) <= delta { high = middle } else { low = middle }
        }
        let found = loss.epsilon(delta).unwrap();
        check_epsilon(found, high, &format!("{what} at {delta}"));
        for epsilon in [0.5 * high, 0.9 * high, 1.02 * high] {
            let found = loss.delta(epsilon);
            let (least, most) = (exact(epsilon), exact(epsilon * (1.0 - TIGHT)));
            assert!(found >= least * (1.0 - 1e-9), "{what} at {epsilon}: delta {found}, truth {least}");
            assert!(found <= most * (1.0 + 1e-6), "{what} at {epsilon}: delta {found}, truth {least}");
        }
    }
}

/// `steps` Gaussian releases that are not merged but composed numerically.
fn numerical_gaussian(noise_multiplier: f64, steps: u64, delta: f64) -> f64 {
    let pairs = [(Pair::Mixture(Mixture::gaussian(noise_multiplier)), steps)];
    Question::new(&pairs, Direction::Remove).epsilon(delta).unwrap()
}

#[test]
fn every_case_of_the_reference_is_met() {
    let reference: serde_json::Value =
        serde_json::from_str(include_str!("../../../tests/vectors/dp_reference.json")).unwrap();
    let mut checked = 0;
    for case in reference["cases"].as_array().unwrap() {
        let Some(expected) = case["eps_pld"].as_f64() else { continue };
        let name = case["mechanism"].as_str().unwrap();
        if name
            .starts_with("heterogeneous: 500x Poisson(q=.01) Gaussian(1) + 100x Poisson(q=.05) Gaussian(2)")
        {
            let sampled = |sigma, rate, steps| {
                PrivacyLoss::poisson_gaussian(sigma, rate, Adjacency::ZeroOut).unwrap().times(steps).unwrap()
            };
            let parts = [sampled(2.0, 0.05, 100), PrivacyLoss::gaussian(8.0).unwrap()];
            let loss = parts.iter().fold(sampled(1.0, 0.01, 500), |sum, part| sum.compose(part).unwrap());
            let found = loss.epsilon(case["delta"].as_f64().unwrap()).unwrap();
            assert!((found - expected).abs() < 1e-3 * expected, "{case}: {found}");
            checked += 1;
            continue;
        }
        let (sigma, steps) = (case["sigma"].as_f64().unwrap(), case["steps"].as_u64().unwrap());
        let (rate, delta) = (case["q"].as_f64().unwrap(), case["delta"].as_f64().unwrap());
        let once = match name {
            "gaussian" => PrivacyLoss::gaussian(sigma),
            "discrete_gaussian_1d_sens1" => PrivacyLoss::discrete_gaussian(sigma, 1),
            "skellam_1d_sens1" => PrivacyLoss::skellam(sigma * sigma, 1),
            "poisson_subsampled_gaussian" => PrivacyLoss::poisson_gaussian(sigma, rate, Adjacency::ZeroOut),
            other => panic!("the reference has a mechanism {other} that this test does not know"),
        };
        let found = once.unwrap().times(steps).unwrap().epsilon(delta).unwrap();
        assert!((found - expected).abs() < 1e-3 * expected, "{case}: {found}");
        if let Some(exact) = case["eps_exact_gaussian"].as_f64() {
            // Written with six decimals.
            assert!(found >= exact - 5e-7, "{case}: {found}");
        }
        checked += 1;
    }
    assert_eq!(checked, 13);
}

/// The release that a case of `pld_reference.json` names.
fn release(case: &serde_json::Value) -> PrivacyLoss {
    let sigma = case["sigma"].as_f64().unwrap();
    let once = match case["mechanism"].as_str().unwrap() {
        "gaussian" => PrivacyLoss::gaussian(sigma),
        "poisson_gaussian" => {
            PrivacyLoss::poisson_gaussian(sigma, case["q"].as_f64().unwrap(), Adjacency::ZeroOut)
        }
        "laplace" => PrivacyLoss::laplace(sigma),
        "discrete_gaussian" => PrivacyLoss::discrete_gaussian(
            sigma,
            u32::try_from(case["sensitivity"].as_u64().unwrap()).unwrap(),
        ),
        other => panic!("unknown mechanism {other}"),
    };
    once.unwrap().times(case["steps"].as_u64().unwrap()).unwrap()
}

#[test]
fn answers_lie_between_another_accountants_bounds() {
    let reference: serde_json::Value =
        serde_json::from_str(include_str!("../../../tests/vectors/pld_reference.json")).unwrap();
    for case in reference["cases"].as_array().unwrap() {
        let releases = case["releases"].as_array().unwrap();
        let mut loss = PrivacyLoss::zero();
        for part in releases {
            loss = loss.compose(&release(part)).unwrap();
        }
        let found = loss.epsilon(case["delta"].as_f64().unwrap()).unwrap();
        let bound = |name: &str| case[name].as_f64().unwrap();
        assert!(found >= bound("eps_optimistic") - 1e-9, "{case}: {found}");
        assert!(found <= bound("eps_pessimistic") * (1.0 + TIGHT), "{case}: {found}");
    }
}

#[test]
fn one_release_of_integer_noise_matches_the_sum_over_integers() {
    for (sigma, shift) in [(0.3, 1_i32), (0.7, 1), (2.0, 1), (2.0, 3), (15.0, 4), (40.0, 1)] {
        let terms = (16.0 * sigma) as i32 + 3 * shift + 10;
        let weight = |x: i32| (-f64::from(x * x) / (2.0 * sigma * sigma)).exp();
        let normaliser: f64 = (-terms..=terms).map(weight).sum();
        let exact = |epsilon: f64| {
            let part = |x: i32| (weight(x) - epsilon.exp() * weight(x - shift)).max(0.0);
            (-terms..=terms).map(part).sum::<f64>() / normaliser
        };
        let loss = PrivacyLoss::discrete_gaussian(sigma, shift.unsigned_abs()).unwrap();
        check_against(
            &loss,
            exact,
            &[0.1, 1e-3, 1e-6, 1e-10],
            &format!("discrete Gaussian {sigma}, {shift}"),
        );
    }
    for (variance, shift) in [(0.5, 1_i32), (4.0, 1), (30.0, 2), (400.0, 5)] {
        let terms = (14.0 * f64::sqrt(variance)) as i32 + 60 + shift;
        let mass = skellam(variance, terms + shift);
        let at = |x: i32| mass[x.unsigned_abs() as usize];
        let exact = |epsilon: f64| {
            (-terms..=terms).map(|x| (at(x) - epsilon.exp() * at(x - shift)).max(0.0)).sum::<f64>()
        };
        let loss = PrivacyLoss::skellam(variance, shift.unsigned_abs()).unwrap();
        check_against(&loss, exact, &[0.1, 1e-3, 1e-6, 1e-9], &format!("Skellam {variance}, {shift}"));
    }
}

/// Probabilities of 0 to `farthest` of a difference of two Poisson variables, from their definition.
fn skellam(variance: f64, farthest: i32) -> Vec<f64> {
    let rate = variance / 2.0;
    let log_poisson = |n: i32| f64::from(n) * rate.ln() - rate - libm::lgamma(f64::from(n) + 1.0);
    let terms = (rate + 40.0 * rate.sqrt()) as i32 + 60;
    let at = |x: i32| (0..terms).map(|n| (log_poisson(n) + log_poisson(n + x)).exp()).sum();
    (0..=farthest).map(at).collect()
}

#[test]
fn two_releases_of_integer_noise_match_the_double_sum() {
    let weight = |x: i32| (-f64::from(x * x) / (2.0 * 1.5 * 1.5)).exp();
    let normaliser: f64 = (-40..=40).map(weight).sum();
    let first = |x: i32| weight(x) / normaliser;
    let poissons = skellam(6.0, 80);
    let second = |x: i32| poissons[x.unsigned_abs() as usize];
    let exact = |epsilon: f64| {
        let mut sum = 0.0;
        for x in -30..=30 {
            for y in -70..=70 {
                let (p, q) = (first(x) * second(y), first(x - 1) * second(y - 2));
                sum += (p - epsilon.exp() * q).max(0.0);
            }
        }
        sum
    };
    let gaussian = PrivacyLoss::discrete_gaussian(1.5, 1).unwrap();
    let loss = gaussian.compose(&PrivacyLoss::skellam(6.0, 2).unwrap()).unwrap();
    check_against(&loss, exact, &[1e-2, 1e-4, 1e-6], "discrete Gaussian and Skellam");
}

#[test]
fn one_release_of_laplace_noise_is_in_closed_form() {
    for scale in [0.05, 0.5, 1.0, 8.0, 1e4] {
        // Below 1/scale, so that both deltas are reached inside.
        let exact = |epsilon: f64| -(((epsilon - 1.0 / scale) / 2.0).min(0.0).exp_m1());
        let loss = PrivacyLoss::laplace(scale).unwrap();
        for part in [0.1, 0.5, 0.9, 0.9999] {
            check_epsilon(
                loss.epsilon(exact(part / scale)).unwrap(),
                part / scale,
                &format!("Laplace {scale}"),
            );
        }
        // A small delta costs nearly the largest loss.
        let exact = 1.0 / scale + 2.0 * (-1e-12_f64).ln_1p();
        check_epsilon(loss.epsilon(1e-12).unwrap(), exact, &format!("Laplace {scale}"));
    }
}

/// delta of one sampled release, from the tails of its two halves at the outcome where they cross.
fn sampled(sigma: f64, rate: f64, adjacency: Adjacency, direction: Direction, epsilon: f64) -> f64 {
    let tail = |x: f64| 0.5 * libm::erfc(x / (sigma * 2.0_f64.sqrt()));
    let density = |x: f64| (-x * x / (2.0 * sigma * sigma)).exp();
    let mixture =
        |law: &dyn Fn(f64) -> f64, x: f64, centre: f64| (1.0 - rate) * law(x) + rate * law(x - centre);
    let crossing = |difference: &dyn Fn(f64) -> f64| {
        let (mut low, mut high) = (-30.0 * sigma, 1.0 + 30.0 * sigma);
        for _ in 0..200 {
            let middle = (low + high) / 2.0;
            if difference(middle) > 0.0 { high = middle } else { low = middle }
        }
        high
    };
    let factor = epsilon.exp();
    match (adjacency, direction) {
        (Adjacency::ReplaceOne, _) => {
            let x = crossing(&|x| mixture(&density, x, 1.0) - factor * mixture(&density, x, -1.0));
            mixture(&tail, x, 1.0) - factor * mixture(&tail, x, -1.0)
        }
        (Adjacency::ZeroOut, Direction::Remove) => {
            let x = crossing(&|x| mixture(&density, x, 1.0) - factor * density(x));
            mixture(&tail, x, 1.0) - factor * tail(x)
        }
        (Adjacency::ZeroOut, Direction::Add) => {
            // Large losses are where the outcome is small.
            let x = crossing(&|x| factor * mixture(&density, x, 1.0) - density(x));
            tail(-x) - factor * ((1.0 - rate) * tail(-x) + rate * tail(1.0 - x))
        }
    }
}

#[test]
fn one_sampled_release_matches_the_tails_where_densities_cross() {
    for adjacency in [Adjacency::ZeroOut, Adjacency::ReplaceOne] {
        for (sigma, rate) in [(0.4, 0.02), (0.7, 0.5), (1.0, 0.01), (1.0, 0.9), (3.0, 0.3), (20.0, 0.05)] {
            let loss = PrivacyLoss::poisson_gaussian(sigma, rate, adjacency).unwrap();
            let exact = |epsilon: f64| sampled(sigma, rate, adjacency, Direction::Remove, epsilon);
            check_against(&loss, exact, &[1e-3, 1e-5, 1e-8], &format!("{adjacency:?} {sigma}, {rate}"));
        }
    }
}

#[test]
fn adding_is_composed_as_well_as_removing() {
    let adjacency = Adjacency::ZeroOut;
    for (sigma, rate) in [(0.7, 0.5), (1.0, 0.01), (1.0, 0.9), (3.0, 0.3), (20.0, 0.05)] {
        let once = Pair::Mixture(Mixture { sigma, rate, adjacency });
        let largest = -f64::ln_1p(-rate);
        for part in [0.01, 0.1, 0.3, 0.6] {
            let exact = |part: f64| sampled(sigma, rate, adjacency, Direction::Add, part * largest);
            if exact(part) < 1e-12 {
                continue;
            }
            let found = Question::new(&[(once, 1)], Direction::Add).delta(part * largest);
            let what = format!("{sigma}, {rate} at {part} of the largest loss: {found}");
            assert!(found >= exact(part) * (1.0 - 1e-9), "{what} below {}", exact(part));
            assert!(found <= exact(part * (1.0 - TIGHT)) * (1.0 + 1e-6), "{what} above {}", exact(part));
        }
    }
    // Removal is the worse of the two here, and is what counts.
    let pairs = [(Pair::Mixture(Mixture { sigma: 1.0, rate: 0.01, adjacency }), 1_000)];
    let in_direction = |direction| Question::new(&pairs, direction).epsilon(1e-5).unwrap();
    let (remove, add) = (in_direction(Direction::Remove), in_direction(Direction::Add));
    let both = PrivacyLoss::poisson_gaussian(1.0, 0.01, adjacency).unwrap().times(1_000).unwrap();
    assert_eq!(both.epsilon(1e-5), Ok(remove.max(add)));
    assert!(add < 0.95 * remove, "{add}, {remove}");
}

#[test]
fn no_sampling_is_the_gaussian() {
    let without = |adjacency| PrivacyLoss::poisson_gaussian(2.0, 1.0, adjacency).unwrap();
    assert_eq!(without(Adjacency::ZeroOut), PrivacyLoss::gaussian(2.0).unwrap());
    assert_eq!(without(Adjacency::ReplaceOne), PrivacyLoss::gaussian(1.0).unwrap());
    // And is its limit.
    for (adjacency, noise_multiplier) in [(Adjacency::ZeroOut, 2.0), (Adjacency::ReplaceOne, 1.0)] {
        let nearly = PrivacyLoss::poisson_gaussian(2.0, 1.0 - 1e-9, adjacency).unwrap().times(100).unwrap();
        let exact = gaussian_epsilon(noise_multiplier / 10.0, 1e-6).unwrap();
        check_epsilon(nearly.epsilon(1e-6).unwrap(), exact * (1.0 - 1e-7), &format!("{adjacency:?}"));
    }
}

#[test]
fn many_gaussian_releases_are_one_also_numerically() {
    for (noise_multiplier, steps, delta) in [
        (1.0, 1, 1e-5),
        (1.0, 10, 1e-5),
        (0.05, 3, 1e-5),
        (30.0, 1_000, 1e-12),
        (100.0, 10_000, 1e-5),
        (3.0, 100_000, 1e-5),
        (1e5, 1_000_000, 1e-6),
        (1e3, 7, 1e-200),
        (1.0, 2, 1e-15),
        (50.0, 10, 0.01),
    ] {
        let found = numerical_gaussian(noise_multiplier, steps, delta);
        let exact = gaussian_epsilon(noise_multiplier / (steps as f64).sqrt(), delta).unwrap();
        check_epsilon(found, exact, &format!("{steps} x {noise_multiplier} at {delta}"));
    }
}

#[test]
fn rare_and_large_losses_stay_tight_at_small_deltas() {
    // Inverse Laplace transforms of the moment generating function by quadrature in Python, good to 1e-7.
    for (sigma, rate, steps, delta, exact) in
        [(0.95, 4e-4, 1_000, 2.4e-12, 0.503_742_6), (1.2, 1.2e-4, 50, 4e-13, 0.027_075_43)]
    {
        let one = PrivacyLoss::poisson_gaussian(sigma, rate, Adjacency::ReplaceOne).unwrap();
        let found = one.times(steps).unwrap().epsilon(delta).unwrap();
        assert!(found >= exact * (1.0 - 2e-7), "{sigma} {rate}: {found} is below the true {exact}");
        assert!(found <= exact * (1.0 + TIGHT), "{sigma} {rate}: {found} is not tight, the truth is {exact}");
    }
}

#[test]
fn a_delta_without_digits_is_refused_as_that() {
    let gaussian = PrivacyLoss::gaussian(1.0).unwrap();
    assert!(gaussian.epsilon(1e-280).is_ok());
    for delta in [1e-281, 5e-324] {
        assert_eq!(
            gaussian.epsilon(delta),
            Err(AccountantError::DeltaTooSmall { delta, least: super::LEAST_DELTA })
        );
    }
}

#[test]
fn far_parameters_give_right_answers_or_errors() {
    let sampled = |sigma, rate, steps| {
        PrivacyLoss::poisson_gaussian(sigma, rate, Adjacency::ZeroOut).unwrap().times(steps).unwrap()
    };
    // Noise so small that a client who takes part is seen. Each time has a loss of 5,000 - ln(1/q) with a
    // standard deviation of 100; three times, or all of the rarer four, at this delta.
    let found = sampled(0.01, 1e-6, 100_000).epsilon(1e-5).unwrap();
    let poisson = |n: i32| (-0.1_f64).exp() * 0.1_f64.powi(n) / libm::tgamma(f64::from(n) + 1.0);
    let rarer: f64 = (4..12).map(poisson).sum();
    let (mut low, mut high) = (-8.0, 8.0);
    for _ in 0..100 {
        let middle: f64 = (low + high) / 2.0;
        let mass = 0.5 * libm::erfc(middle / 2.0_f64.sqrt()) * poisson(3);
        if mass > 1e-5 - rarer { low = middle } else { high = middle }
    }
    let expected = 3.0 * (5_000.0 + 1e-6_f64.ln()) + high * 100.0 * 3.0_f64.sqrt();
    assert!((found - expected).abs() < 2e-4 * expected, "{found}, expected about {expected}");

    // Huge noise: a central limit theorem.
    let variance = 1e5 * 0.25 * 1e-12;
    let found = sampled(1e6, 0.5, 100_000).epsilon(1e-15).unwrap();
    let expected = gaussian_epsilon(1.0 / f64::sqrt(variance), 1e-15).unwrap();
    assert!((found - expected).abs() < 1e-3 * expected, "{found}, expected about {expected}");

    // A delta that all participations together do not reach.
    assert_eq!(sampled(1.0, 1e-8, 100).epsilon(1e-5), Ok(0.0));
    assert_eq!(sampled(1.0, 0.1, 0).epsilon(1e-5), Ok(0.0));
    assert_eq!(PrivacyLoss::zero().delta(0.0), 0.0);
    let gaussian = PrivacyLoss::gaussian(1.0).unwrap().times(1_000_000).unwrap();
    check_epsilon(gaussian.epsilon(1e-5).unwrap(), gaussian_epsilon(1e-3, 1e-5).unwrap(), "a million");
    // Integers far apart, and noise over millions of them.
    assert!(PrivacyLoss::discrete_gaussian(1.0, 1_000_000).unwrap().epsilon(1e-5).unwrap() > 4.99e11);
    let found = PrivacyLoss::discrete_gaussian(1e5, 100_000).unwrap().epsilon(1e-5).unwrap();
    let expected = gaussian_epsilon(1.0, 1e-5).unwrap();
    assert!((found - expected).abs() < 2e-4 * expected, "{found}, nearly a Gaussian: {expected}");
    let found = PrivacyLoss::skellam(1e8, 10_000).unwrap().epsilon(1e-5).unwrap();
    assert!((found - expected).abs() < 1e-3 * expected, "{found}, nearly a Gaussian: {expected}");
}

#[test]
fn refuses_parameters_that_mean_nothing() {
    let zero_out = Adjacency::ZeroOut;
    for bad in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        let refused = |result: Result<PrivacyLoss, AccountantError>| {
            assert!(matches!(result, Err(AccountantError::ParameterOutOfRange { .. })), "{bad}: {result:?}");
        };
        refused(PrivacyLoss::gaussian(bad));
        refused(PrivacyLoss::poisson_gaussian(bad, 0.5, zero_out));
        refused(PrivacyLoss::discrete_gaussian(bad, 1));
        refused(PrivacyLoss::skellam(bad, 1));
        refused(PrivacyLoss::laplace(bad));
    }
    for bad in [0.0, -0.5, 1.5, f64::NAN] {
        let result = PrivacyLoss::poisson_gaussian(1.0, bad, zero_out);
        assert!(matches!(result, Err(AccountantError::SamplingRateOutOfRange(_))), "{bad}: {result:?}");
    }
    assert!(PrivacyLoss::discrete_gaussian(1.0, 0).is_err());
    let laplace = PrivacyLoss::laplace(1.0).unwrap();
    for bad in [0.0, 1.0, -1e-5, f64::NAN] {
        assert!(matches!(laplace.epsilon(bad), Err(AccountantError::DeltaOutOfRange(_))), "{bad}");
    }
    assert_eq!(laplace.delta(-1.0), 1.0);
    assert_eq!(laplace.delta(f64::NAN), 1.0);
    let most = laplace.times(MAX_RELEASES).unwrap();
    let expected = AccountantError::TooManyReleases { releases: MAX_RELEASES + 1, most: MAX_RELEASES };
    assert_eq!(most.compose(&laplace), Err(expected));
    assert!(laplace.times(u64::MAX).is_err());
}

#[test]
fn replace_one_costs_more_than_zero_out_and_less_than_twice_the_noise_does() {
    for (sigma, rate, steps) in [(1.0, 0.01, 100), (2.0, 0.3, 50)] {
        let epsilon = |sigma, adjacency| {
            let once = PrivacyLoss::poisson_gaussian(sigma, rate, adjacency).unwrap();
            once.times(steps).unwrap().epsilon(1e-5).unwrap()
        };
        let (zero_out, replace_one) =
            (epsilon(sigma, Adjacency::ZeroOut), epsilon(sigma, Adjacency::ReplaceOne));
        assert!(zero_out < replace_one, "{zero_out}, {replace_one}");
        assert!(replace_one < epsilon(sigma / 2.0, Adjacency::ReplaceOne));
        // Replacing is removing and then adding: group privacy bounds it.
        assert!(replace_one < 2.5 * zero_out, "{zero_out}, {replace_one}");
    }
}

/// A mechanism with at most as many steps as keep a case in milliseconds.
fn any_loss() -> impl Strategy<Value = PrivacyLoss> {
    let logarithmic = |low: f64, high: f64| (low.ln()..high.ln()).prop_map(f64::exp);
    let adjacency = prop_oneof![Just(Adjacency::ZeroOut), Just(Adjacency::ReplaceOne)];
    let once = prop_oneof![
        logarithmic(0.5, 50.0).prop_map(|z| PrivacyLoss::gaussian(z).unwrap()),
        (logarithmic(0.5, 20.0), logarithmic(1e-4, 0.99), adjacency)
            .prop_map(|(sigma, q, adjacency)| PrivacyLoss::poisson_gaussian(sigma, q, adjacency).unwrap()),
        (logarithmic(0.5, 30.0), 1_u32..4)
            .prop_map(|(sigma, shift)| PrivacyLoss::discrete_gaussian(sigma, shift).unwrap()),
        (logarithmic(1.0, 900.0), 1_u32..4)
            .prop_map(|(variance, shift)| PrivacyLoss::skellam(variance, shift).unwrap()),
        logarithmic(0.3, 50.0).prop_map(|scale| PrivacyLoss::laplace(scale).unwrap()),
    ];
    (once, 1_u64..40).prop_map(|(once, steps)| once.times(steps).unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 48, rng_seed: RngSeed::Fixed(11), failure_persistence: None, ..ProptestConfig::default()
    })]

    #[test]
    fn gaussians_compose_to_one(
        log_z in -1.5_f64..5.0,
        log_steps in 0.0_f64..9.0,
        log_delta in -35.0_f64..-3.0,
    ) {
        let (z, steps, delta) = (log_z.exp(), log_steps.exp() as u64, log_delta.exp());
        let exact = gaussian_epsilon(z / (steps as f64).sqrt(), delta).unwrap();
        let found = numerical_gaussian(z, steps, delta);
        prop_assert!(found >= exact * (1.0 - 1e-9), "{steps} x {z} at {delta}: {found} below {exact}");
        let room = TIGHT * exact.max(1e-4 * (steps as f64).sqrt() / z);
        prop_assert!(found <= exact + room, "{steps} x {z} at {delta}: {found} above {exact}");
    }

    #[test]
    fn composition_is_consistent(a in any_loss(), b in any_loss(), log_delta in -25.0_f64..-4.0) {
        let delta = log_delta.exp();
        let both = a.compose(&b).unwrap();
        let epsilon = both.epsilon(delta).unwrap();
        // The order does not matter beyond rounding, nor how steps are grouped.
        let other = b.compose(&a).unwrap().epsilon(delta).unwrap();
        prop_assert!((epsilon - other).abs() <= 2.0 * TIGHT * epsilon, "{epsilon}, {other}");
        prop_assert_eq!(a.times(3).unwrap().compose(&a.times(4).unwrap()), a.times(7));
        // More releases cost more.
        let room = 1.0 + 2.0 * TIGHT;
        prop_assert!(a.epsilon(delta).unwrap() <= epsilon * room);
        prop_assert!(epsilon <= both.times(2).unwrap().epsilon(delta).unwrap() * room);
        // Epsilon and delta are each other's inverse.
        if epsilon > 1e-3 {
            let below = both.delta(epsilon * (1.0 - 3.0 * TIGHT));
            prop_assert!(below >= delta, "{below} at an epsilon below that of {delta}");
            let above = both.delta(epsilon * (1.0 + 3.0 * TIGHT));
            prop_assert!(above <= delta, "{above} at an epsilon above that of {delta}");
        }
    }

    #[test]
    fn more_noise_and_rarer_sampling_cost_less(
        sigma in 0.6_f64..5.0,
        rate in 0.001_f64..0.5,
        steps in 1_u64..200,
        zero_out in any::<bool>(),
    ) {
        let adjacency = if zero_out { Adjacency::ZeroOut } else { Adjacency::ReplaceOne };
        let epsilon = |sigma, rate, steps| {
            let once = PrivacyLoss::poisson_gaussian(sigma, rate, adjacency).unwrap();
            once.times(steps).unwrap().epsilon(1e-6).unwrap()
        };
        let here = epsilon(sigma, rate, steps);
        let room = 1.0 + 2.0 * TIGHT;
        prop_assert!(epsilon(sigma * 1.1, rate, steps) <= here * room);
        prop_assert!(epsilon(sigma, rate * 0.9, steps) <= here * room);
        prop_assert!(here <= epsilon(sigma, rate, steps + 1 + steps / 10) * room);
        // Sampling amplifies.
        let unsampled = PrivacyLoss::poisson_gaussian(sigma, 1.0, adjacency).unwrap().times(steps).unwrap();
        prop_assert!(here <= unsampled.epsilon(1e-6).unwrap());
    }
}
