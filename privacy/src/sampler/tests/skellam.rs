//! Skellam sampling against exact probabilities. Must never take those from the sampler's own arithmetic.

use super::super::skellam::{Parts, Split, log_length};
use super::super::spectrum::Spectrum;
use super::*;

fn draw(variance: f64, count: usize, seed: u64) -> Vec<i32> {
    let mut values = vec![0; count];
    Skellam::new(variance).unwrap().add_to(&mut values, &mut stream(seed)).unwrap();
    values
}

/// `P(X = x)` for `x = 0..=most` to 300 bits, by Miller's recurrence `I_(n-1) = I_(n+1) + (2n / mu) I_n` from far above,
/// normalised by `I_0 + 2 (I_1 + I_2 + ...) = e^mu`.
fn exact(steps: u64, most: usize) -> Vec<Real> {
    let doubled_inverse = Real::from(1_u64 << 33).with_precision(300).value() / Real::from(steps);
    let start = 2 * most + 100;
    let (mut above, mut here, mut sum) = (real(0), real(1), real(0));
    let mut values = Vec::new();
    for n in (1..=start).rev() {
        sum += &here * real(2);
        if n <= most {
            values.push(here.clone());
        }
        let below = &above + real(n as i64) * &doubled_inverse * &here;
        above = std::mem::replace(&mut here, below);
    }
    sum += &here;
    values.push(here);
    values.reverse();
    values.into_iter().map(|value| value / &sum).collect()
}

/// The same in doubles.
fn weights(variance: f64, most: usize) -> Vec<f64> {
    let (mut above, mut here) = (0.0, 1e-250);
    let mut values = vec![0.0; most + 1];
    for n in (1..=most + 100).rev() {
        if n <= most {
            values[n] = here;
        }
        let below = above + 2.0 * n as f64 / variance * here;
        above = std::mem::replace(&mut here, below);
        if here > 1e250 {
            values.iter_mut().for_each(|value| *value *= 1e-250);
            (above, here) = (above * 1e-250, here * 1e-250);
        }
    }
    values[0] = here;
    values
}

fn signed_probabilities(table: &Table) -> Vec<Real> {
    let folded = table_probabilities(table);
    folded.iter().enumerate().map(|(x, p)| if x == 0 { p.clone() } else { p / real(2) }).collect()
}

fn distance(found: &[Real], exact: &[Real]) -> Real {
    let mut sum = real(0);
    for (x, exact) in exact.iter().enumerate() {
        let difference = found.get(x).cloned().unwrap_or_else(|| real(0)) - exact;
        let size = if difference < real(0) { -difference } else { difference };
        sum += if x == 0 { size } else { size * real(2) };
    }
    sum / real(2)
}

#[test]
fn narrow_tables_are_within_the_proven_distance_of_the_exact_law() {
    // Below 42 every frequency counts, above it the high ones are cut off.
    for variance in [0.25, 0.9, 7.3, 41.9, 42.1, 300.0, 1023.0] {
        let skellam = Skellam::new(variance).unwrap();
        assert_eq!(skellam.split, None);
        let table = skellam.make_parts().unwrap().inner;
        let found = signed_probabilities(&table);
        let exact = exact(skellam.steps, 2 * found.len());
        let distance = distance(&found, &exact);
        assert!(distance < power_of_two(-105), "variance {variance}: {distance}");
        // The tail is there, and no longer than it must be.
        assert!(found[found.len() - 1] > power_of_two(-112), "variance {variance}");
    }
}

#[test]
fn the_law_of_a_split_is_within_the_stated_distance() {
    for variance in [1024.0, 2000.0, 6000.0] {
        let skellam = Skellam::new(variance).unwrap();
        let split = skellam.split.unwrap();
        let Parts { inner, outer } = skellam.make_parts().unwrap();
        let outer = outer.unwrap();
        assert_eq!(outer.weights, [1], "the test wants a single outer table");
        let (inner, outer) = (signed_probabilities(&inner), signed_probabilities(&outer.table));
        let reach = inner.len() + split.multiplier as usize * outer.len();
        let at =
            |law: &[Real], x: i64| law.get(x.unsigned_abs() as usize).cloned().unwrap_or_else(|| real(0));
        let found: Vec<Real> = (0..reach as i64)
            .map(|x| {
                let most = outer.len() as i64 - 1;
                let k = split.multiplier as i64;
                let mut sum = real(0);
                for y in -most..=most {
                    if (x - k * y).unsigned_abs() < inner.len() as u64 {
                        sum += at(&inner, x - k * y) * at(&outer, y);
                    }
                }
                sum
            })
            .collect();
        let distance = distance(&found, &exact(skellam.steps, reach));
        assert!(distance < power_of_two(-102), "variance {variance}: {distance}");
    }
}

#[test]
fn every_variance_has_a_certified_table() {
    let mut variance = MIN_VARIANCE;
    while variance <= MAX_SKELLAM_VARIANCE {
        let skellam = Skellam::new(variance).unwrap();
        assert_eq!(skellam.split.is_some(), variance >= 1024.0, "variance {variance}");
        let parts = skellam.make_parts();
        let length = parts.map(|parts| parts.inner.len());
        assert!(length.is_some_and(|length| length < 7_000), "variance {variance}: {length:?}");
        variance *= 1.37;
    }
    assert!(Skellam::new(MAX_SKELLAM_VARIANCE).unwrap().make_parts().is_some());
}

#[test]
fn a_table_that_is_no_law_or_too_short_is_refused() {
    let steps = 10_000_u64 << 32;
    // Keeping two deviations instead of eight leaves negative probabilities.
    let starved = Spectrum { whole: steps, rest: 40_u64 << 32 };
    assert!(starved.table(10).is_none());
    let narrow = Spectrum { whole: steps, rest: steps };
    assert!(narrow.table(10).is_none(), "five deviations cannot hold the tail");
    assert!(narrow.table(log_length(&narrow)).is_some());
}

#[test]
fn splits_keep_enough_and_hide_the_lattice() {
    let mut variance = 1024.0;
    while variance <= MAX_SKELLAM_VARIANCE {
        let steps = (variance * 4_294_967_296.0) as u64;
        let Split { multiplier, outer_steps } = Split::of(steps).unwrap();
        let taken = outer_steps * multiplier * multiplier;
        let kept = (steps - taken) as f64 / 4_294_967_296.0;
        let deviation = variance.sqrt();
        assert!(kept >= 8.0 * deviation * (1.0 - 1e-9) && kept < 8.0 * deviation + 1.0, "{variance}: {kept}");
        // The exponent of the difference between the characteristic functions, wherever the inner one is not cut.
        let outer = outer_steps as f64 / 4_294_967_296.0;
        let frequency = std::f64::consts::TAU / multiplier as f64;
        let inner = |t: f64| variance * (1.0 - t.cos()) - outer * (multiplier as f64 * t).powi(2) / 2.0;
        let least = (1..100_000)
            .map(|step| frequency * 1.5 * f64::from(step) / 1e5)
            .take_while(|&t| inner(t) < 84.0)
            .map(|t| inner(t) + outer * (multiplier as f64 * (frequency - t)).powi(2) / 2.0)
            .fold(f64::INFINITY, f64::min);
        assert!(least > 80.99, "variance {variance}: {least}");
        assert!(outer > 4.5, "variance {variance}: {outer}");
        variance *= 1.5;
    }
}

#[test]
fn samples_follow_the_exact_probabilities() {
    for (seed, variance) in (51..).zip([0.25, 1.0, 13.0, 600.0, 2500.0, 1e6, 1e8]) {
        let samples = draw(variance, 1_000_000, seed);
        let reach = (14.0 * variance.sqrt()) as usize + 16;
        let excess = chi_squared_excess(&samples, &weights(variance, reach));
        assert!(excess < 5.0, "variance {variance}: chi-squared {excess:.1} standard deviations too high");
    }
    // The statistic tells Skellam from the discrete Gaussian of the same variance.
    let excess = chi_squared_excess(&draw(13.0, 1_000_000, 58), &gaussian_weights(13.0_f64.sqrt()));
    assert!(excess > 5.0, "{excess}");
}

#[test]
fn a_sum_of_shares_has_the_law_of_one() {
    for (seed, variance, shares) in [(61, 0.25, 4_u32), (62, 1.5, 10), (63, 1100.0, 3)] {
        let mut sum = vec![0; 1_000_000];
        let sampler = Skellam::new(variance).unwrap();
        for share in 0..shares {
            sampler.add_to(&mut sum, &mut stream(100 * seed + u64::from(share))).unwrap();
        }
        let whole = variance * f64::from(shares);
        let exact = weights(whole, (14.0 * whole.sqrt()) as usize + 16);
        let excess = chi_squared_excess(&sum, &exact);
        assert!(excess < 5.0, "{shares} shares of {variance}: {excess}");
    }
}

#[test]
fn moments_and_tails_are_those_of_the_law() {
    for (seed, variance) in [(71, 0.25_f64), (72, 30.0), (73, 5000.0), (74, 1e9)] {
        let samples = draw(variance, 400_000, seed);
        let count = samples.len() as f64;
        let deviation = variance.sqrt();
        let moment =
            |power: i32| samples.iter().map(|x| (f64::from(*x) / deviation).powi(power)).sum::<f64>() / count;
        // The standardised moments are 1, 3 + 1/mu, 15 + 15/mu + 1/mu^2 and, for eight, 105 + 210/mu + 63/mu^2 + 1/mu^3;
        // five standard errors.
        let inverse = 1.0 / variance;
        let fourth = 3.0 + inverse;
        let eighth = 105.0 + 210.0 * inverse + 63.0 * inverse * inverse + inverse * inverse * inverse;
        assert!(moment(1).abs() < 5.0 / count.sqrt(), "variance {variance}: mean {}", moment(1));
        let allowed = 5.0 * ((fourth - 1.0) / count).sqrt();
        assert!((moment(2) - 1.0).abs() < allowed, "variance {variance}: {}", moment(2));
        let allowed = 5.0 * ((eighth - fourth * fourth) / count).sqrt();
        assert!((moment(4) - fourth).abs() < allowed, "variance {variance}: fourth {}", moment(4));
        let exact = weights(variance, (14.0 * deviation) as usize + 16);
        let total = exact[0] + 2.0 * exact[1..].iter().sum::<f64>();
        let first = (3.0 * deviation).ceil() as usize;
        let expected = 2.0 * exact[first..].iter().sum::<f64>() / total;
        let found = samples.iter().filter(|x| x.unsigned_abs() as usize >= first).count() as f64 / count;
        assert!(
            (found - expected).abs() < 5.0 * (expected / count).sqrt(),
            "{variance}: {found}, not {expected}"
        );
    }
}

#[test]
fn bad_variances_are_refused_and_the_rest_is_rounded_up() {
    for variance in [0.0, -1.0, 0.249, f64::NAN, f64::INFINITY, MAX_SKELLAM_VARIANCE * 1.01] {
        assert!(matches!(Skellam::new(variance), Err(SkellamError::VarianceOutOfRange(_))), "{variance}");
    }
    let sampler = Skellam::new(1.0 + 1e-12).unwrap();
    assert_eq!(sampler.variance(), 1.0 + 2.0_f64.powi(-32));
    assert_ne!(sampler, Skellam::new(1.0).unwrap());
}

#[test]
fn the_same_key_gives_the_same_noise_everywhere() {
    assert_eq!(draw(30.0, 8, 0), KNOWN_NARROW);
    assert_eq!(draw(1e6, 8, 0), KNOWN_WIDE);
}

const KNOWN_NARROW: [i32; 8] = [7, -6, 8, -3, -2, -2, 10, 3];
const KNOWN_WIDE: [i32; 8] = [255, -1359, 1277, -1055, 1701, 909, 520, -1286];
