//! The sampler against exact arithmetic, against exact probabilities and against opendp's exact sampler.

use dashu::float::FBig;
use dashu::float::round::mode::HalfEven;
use dashu::rational::RBig;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

use super::chain::Chain;
use super::*;

mod skellam;

type Real = FBig<HalfEven>;

fn stream(seed: u64) -> KeyStream {
    KeyStream::new(&mut ChaCha20Rng::seed_from_u64(seed))
}

fn draw(deviation: f64, count: usize, seed: u64) -> Vec<i32> {
    let sampler = DiscreteGaussian::new(deviation * deviation).unwrap();
    let mut values = vec![0; count];
    sampler.add_to(&mut values, &mut stream(seed));
    values
}

fn real(value: i64) -> Real {
    Real::from(value).with_precision(300).value()
}

/// `exp(-x^2 / (2 v))` for `x = 0..=most`, and the sum over all integers, to 300 bits; `v = steps / (divisor
/// 2^32)`.
fn exact_weights(steps: u128, divisor: u128, most: i64) -> (Vec<Real>, Real) {
    let exponent = Real::from(divisor << 31).with_precision(300).value() / Real::from(steps);
    let weight = |x: i64| (-(&exponent * real(x * x))).exp();
    let weights: Vec<Real> = (0..=most).map(weight).collect();
    let mut total = real(0);
    for weight in &weights[1..] {
        total += weight;
    }
    (weights.clone(), total * real(2) + real(1))
}

/// Probabilities of the magnitudes that the table gives, to 300 bits.
fn table_probabilities(table: &Table) -> Vec<Real> {
    let mut entries: Vec<u128> = table.entries().collect();
    entries.push(1 << 127);
    let mut before = 0;
    let difference = |entry: u128| {
        let part = entry - std::mem::replace(&mut before, entry);
        Real::from(part).with_precision(300).value() / Real::from(1_u128 << 127)
    };
    entries.into_iter().map(difference).collect()
}

fn power_of_two(exponent: i32) -> Real {
    real(1) / Real::from(dashu::integer::IBig::ONE << exponent.unsigned_abs() as usize)
}

#[test]
fn tables_are_within_the_proven_distance_of_the_exact_law() {
    for variance in [0.25, 0.26, 1.0, 13.69, 40.0, 400.0, 2300.0] {
        let steps = (variance / VARIANCE_STEP).ceil() as u128;
        for divisor in [1_u32, 5] {
            if variance / f64::from(divisor) < 0.25 {
                continue;
            }
            let divisor = u128::from(divisor);
            let table = Table::new(steps, divisor);
            let found = table_probabilities(&table);
            let reach = 2 * found.len() as i64;
            let (weights, total) = exact_weights(steps, divisor, reach);
            let mut distance = real(0);
            for (x, weight) in weights.iter().enumerate() {
                let exact = weight * real(if x == 0 { 1 } else { 2 }) / &total;
                let difference = found.get(x).cloned().unwrap_or_else(|| real(0)) - exact;
                distance += if difference < real(0) { -difference } else { difference };
            }
            // The proof's bound for one table is 2^-105.9; half the sum of the differences is the distance.
            assert!(distance / real(2) < power_of_two(-105), "variance {variance}, divisor {divisor}");
        }
    }
}

#[test]
fn the_law_of_a_two_level_chain_is_within_the_stated_distance() {
    let deviation = 60.0_f64;
    let sampler = DiscreteGaussian::new(deviation * deviation).unwrap();
    let chain = Chain::cheapest(sampler.variance().sqrt()).unwrap();
    assert_eq!(sampler.weights.len(), 2, "the test wants a chain");
    let k = sampler.weights[1];
    let folded = table_probabilities(&sampler.table);
    let signed: Vec<Real> =
        folded.iter().enumerate().map(|(x, p)| if x == 0 { p.clone() } else { p / real(2) }).collect();
    let probability = |x: i64| signed.get(x.unsigned_abs() as usize).cloned().unwrap_or_else(|| real(0));
    let most = folded.len() as i64 - 1;
    let steps = (sampler.variance() / VARIANCE_STEP) as u128;
    let reach = 2 * most * (1 + k);
    let (weights, total) = exact_weights(steps, 1, reach);
    let mut distance = real(0);
    for x in 0..=reach {
        let mut found = real(0);
        for outer in -most..=most {
            let inner = x - k * outer;
            if inner.abs() <= most {
                found += probability(inner) * probability(outer);
            }
        }
        let difference = found - &weights[x as usize] / &total;
        let size = if difference < real(0) { -difference } else { difference };
        distance += if x == 0 { size } else { size * real(2) };
    }
    assert!(distance / real(2) < power_of_two(-100));
    assert_eq!(DISTANCE, 2.0_f64.powi(-100));
    assert!(chain.smoothness(sampler.variance() / chain.variance_factor()) >= 4.0);
}

/// Pearson's statistic of `samples` against the law with these weights of 0, 1, 2, ... and their negatives, as standard
/// deviations above its mean. Both tails are bins of their own.
fn chi_squared_excess(samples: &[i32], weights: &[f64]) -> f64 {
    let reach = weights.len() as i32 - 1;
    let weight = |x: i32| weights[x.unsigned_abs() as usize];
    let total: f64 = (-reach..=reach).map(weight).sum();
    let mut counts = vec![0_u64; (2 * reach + 1) as usize];
    for sample in samples {
        assert!(sample.abs() <= reach, "{sample} is beyond any plausible tail");
        counts[(sample + reach) as usize] += 1;
    }
    // Neighbouring values are pooled until at least 20 samples are expected.
    let (mut statistic, mut bins) = (0.0, 0_u32);
    let (mut expected, mut found) = (0.0, 0_u64);
    let (mut expected_all, mut found_all) = (0.0, 0_u64);
    for x in -reach..=reach {
        expected += weight(x) / total * samples.len() as f64;
        found += counts[(x + reach) as usize];
        let left = samples.len() as f64 - expected_all - expected;
        if (expected >= 20.0 && left >= 20.0) || x == reach {
            statistic += (found as f64 - expected).powi(2) / expected;
            bins += 1;
            (expected_all, found_all) = (expected_all + expected, found_all + found);
            (expected, found) = (0.0, 0);
        }
    }
    assert_eq!(found_all, samples.len() as u64);
    assert!(bins >= 4, "{bins} bins tell nothing");
    let freedom = f64::from(bins - 1);
    (statistic - freedom) / (2.0 * freedom).sqrt()
}

/// Weights of the discrete Gaussian up to fourteen deviations.
fn gaussian_weights(deviation: f64) -> Vec<f64> {
    let weight = |x: i32| (-f64::from(x).powi(2) / (2.0 * deviation * deviation)).exp();
    (0..=(14.0 * deviation).ceil() as i32).map(weight).collect()
}

#[test]
fn samples_follow_the_exact_probabilities() {
    // The chains that these take have one to five levels.
    let deviations = [0.5, 1.0, 3.7, 22.84, 100.0, 1234.5, 20_000.0, 300_000.0];
    let mut levels = std::collections::BTreeSet::new();
    for (seed, deviation) in (1..).zip(deviations) {
        levels.insert(DiscreteGaussian::new(deviation * deviation).unwrap().weights.len());
        let samples = draw(deviation, 1_000_000, seed);
        let excess = chi_squared_excess(&samples, &gaussian_weights(deviation));
        assert!(excess < 5.0, "deviation {deviation}: chi-squared {excess:.1} standard deviations too high");
    }
    assert_eq!(levels.into_iter().collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
    // The statistic can tell a deviation that is wrong by two per cent.
    let excess = chi_squared_excess(&draw(102.0, 1_000_000, 7), &gaussian_weights(100.0));
    assert!(excess > 5.0, "{excess}");
}

#[test]
fn moments_and_tails_are_those_of_the_law() {
    for (seed, deviation) in [(11, 1.0), (12, 22.84), (13, 400.0), (14, 1e5), (15, 4e6)] {
        let samples = draw(deviation, 400_000, seed);
        let count = samples.len() as f64;
        let moment =
            |power: i32| samples.iter().map(|x| (f64::from(*x) / deviation).powi(power)).sum::<f64>() / count;
        // Five standard errors of the mean of x^k: sqrt((2k-1)!! / n).
        let allowed = |double_factorial: f64| 5.0 * (double_factorial / count).sqrt();
        assert!(moment(1).abs() < allowed(1.0), "deviation {deviation}: mean {}", moment(1));
        assert!((moment(2) - 1.0).abs() < allowed(2.0), "deviation {deviation}: variance {}", moment(2));
        assert!(moment(3).abs() < allowed(15.0), "deviation {deviation}: third moment {}", moment(3));
        if deviation > 2.0 {
            assert!(
                (moment(4) - 3.0).abs() < allowed(96.0),
                "deviation {deviation}: fourth moment {}",
                moment(4)
            );
            let beyond =
                samples.iter().filter(|x| f64::from(x.abs()) > 3.0 * deviation).count() as f64 / count;
            let allowed = 5.0 * (0.0027 / count).sqrt() + 0.0027 / deviation;
            assert!(
                (beyond - 0.0027).abs() < allowed,
                "deviation {deviation}: {beyond} beyond three deviations"
            );
        }
    }
}

/// Two samples of equal size in these bins: `sum (a - b)^2 / (a + b)` is chi-squared; as standard deviations above its mean.
fn two_sample_excess(ours: &[i32], theirs: &[i32], bin: impl Fn(i32) -> i32) -> f64 {
    assert_eq!(ours.len(), theirs.len());
    let mut counts = std::collections::BTreeMap::<i32, (f64, f64)>::new();
    ours.iter().for_each(|sample| counts.entry(bin(*sample)).or_default().0 += 1.0);
    theirs.iter().for_each(|sample| counts.entry(bin(*sample)).or_default().1 += 1.0);
    let statistic: f64 = counts.values().map(|(a, b)| (a - b) * (a - b) / (a + b)).sum();
    let freedom = counts.len() as f64 - 1.0;
    (statistic - freedom) / (2.0 * freedom).sqrt()
}

#[test]
fn agrees_with_opendp_s_exact_sampler() {
    for (seed, deviation) in [(21, 3_u32), (22, 40), (23, 5_000)] {
        let ours = draw(f64::from(deviation), 40_000, seed);
        let scale = RBig::from(dashu::integer::UBig::from(deviation));
        let theirs: Vec<i32> = (0..ours.len())
            .map(|_| {
                let sample = opendp::traits::samplers::sample_discrete_gaussian(scale.clone()).unwrap();
                i32::try_from(sample).unwrap()
            })
            .collect();
        // Bins of a third of a deviation, and the tails beyond three.
        let bin =
            |sample: i32| (f64::from(3 * sample) / f64::from(deviation)).floor().clamp(-10.0, 10.0) as i32;
        // opendp draws from the operating system, so this fails once in about 10^8 runs by chance.
        let excess = two_sample_excess(&ours, &theirs, bin);
        assert!(excess < 7.0, "deviation {deviation}: {excess}");
        // Six per cent more deviation shows.
        let wider = draw(1.06 * f64::from(deviation), 40_000, seed);
        let excess = two_sample_excess(&wider, &theirs, bin);
        assert!(excess > 7.0, "deviation {deviation}: {excess} tells nothing");
    }
}

#[test]
fn chosen_words_give_chosen_samples() {
    let sampler = DiscreteGaussian::new(13.69).unwrap();
    assert_eq!(sampler.weights, [1]);
    let entries: Vec<u128> = sampler.table.entries().collect();
    let sample = |upper: u64, sign: u64, more: u64| {
        let mut values = [1000];
        let mut calls = 0;
        sampler.add_from(&mut values, &mut |words: &mut [u64]| {
            words.fill(if calls == 0 { (upper << 1) | sign } else { more });
            calls += 1;
        });
        (values[0] - 1000, calls)
    };
    let most = sampler.cutoff() as i32;
    assert_eq!(sample(0, 0, 0), (0, 1));
    // The last entries differ from 1 by less than 2^-63, so the largest word is tied with them.
    assert_eq!(sample(u64::MAX >> 1, 0, u64::MAX), (most, 2));
    assert_eq!(sample(u64::MAX >> 1, 1, u64::MAX), (-most, 2));
    for (magnitude, entry) in entries.iter().enumerate().take(20) {
        let magnitude = magnitude as i32;
        let (upper, lower) = ((entry >> 64) as u64, *entry as u64);
        // Around the entry: one below it in the upper bits, equal there with lower bits on either side, one
        // above.
        assert_eq!(sample(upper - 1, 0, 0), (magnitude, 1));
        assert_eq!(sample(upper, 0, lower - 1), (magnitude, 2));
        assert_eq!(sample(upper, 0, lower), (magnitude + 1, 2));
        assert_eq!(sample(upper, 1, lower), (-magnitude - 1, 2));
        assert_eq!(sample(upper + 1, 0, 0), (magnitude + 1, 1));
    }
}

#[test]
fn every_kind_of_vector_instructions_finds_the_same_magnitudes() {
    let table = Table::new(1_u128 << 37, 1);
    let mut words = vec![0_u64; 4096];
    stream(41).fill_u64(&mut words);
    let mut uppers: Vec<i64> = words.iter().map(|word| (word >> 1) as i64).collect();
    let mut scalar = uppers.clone();
    struct LookUp<'a>(&'a Table, &'a mut [i64]);
    impl WithSimd for LookUp<'_> {
        type Output = bool;

        fn with_simd<S: Simd>(self, simd: S) -> bool {
            self.0.look_up(simd, self.1)
        }
    }
    assert!(!Arch::new().dispatch(LookUp(&table, &mut uppers)));
    assert!(!table.look_up(pulp::Scalar, &mut scalar));
    assert_eq!(uppers, scalar);
    let one_by_one: Vec<i64> = words.iter().map(|word| table.magnitude(*word, 0)).collect();
    assert_eq!(uppers, one_by_one);
    assert!(uppers.iter().any(|magnitude| *magnitude > 9), "deviation sqrt(32) reaches further");
}

#[test]
fn ties_only_change_the_sample_they_belong_to() {
    let sampler = DiscreteGaussian::new(22.84 * 22.84).unwrap();
    let entry = sampler.table.entries().nth(3).unwrap();
    let run = |tie_at: Option<usize>| {
        let mut values = vec![0; 1000];
        let mut words_stream = stream(31);
        let mut calls = 0;
        sampler.add_from(&mut values, &mut |words: &mut [u64]| {
            if words.len() == 1 {
                words[0] = entry as u64;
                return;
            }
            words_stream.fill_u64(words);
            if calls == 0
                && let Some(place) = tie_at
            {
                words[place] = ((entry >> 64) as u64) << 1;
            }
            calls += 1;
        });
        values
    };
    let (plain, tied) = (run(None), run(Some(17)));
    let changed: Vec<usize> = (0..1000).filter(|&place| plain[place] != tied[place]).collect();
    assert!(changed.iter().all(|&place| place == 17), "{changed:?}");
}

#[test]
fn the_largest_sample_is_the_cutoff_and_fits() {
    for variance in [MIN_VARIANCE, 1.0, 1e4, 1e9, MAX_VARIANCE] {
        let sampler = DiscreteGaussian::new(variance).unwrap();
        let mut values = [0];
        sampler.add_from(&mut values, &mut |words: &mut [u64]| words.fill(u64::MAX));
        assert_eq!(i64::from(values[0]), -(sampler.cutoff() as i64), "variance {variance}");
        let cutoff = sampler.cutoff() as f64;
        assert!(cutoff >= 11.9 * variance.sqrt(), "variance {variance}: cut off at {cutoff}");
        assert!(sampler.variance() >= variance && sampler.variance() <= variance + VARIANCE_STEP);
    }
}

#[test]
fn bad_variances_are_refused() {
    for variance in [0.0, -1.0, 0.249, f64::NAN, f64::INFINITY, MAX_VARIANCE * 1.01] {
        assert!(DiscreteGaussian::new(variance).is_err(), "{variance}");
    }
}

#[test]
fn the_same_key_gives_the_same_noise_everywhere() {
    // Fixed by this implementation; a change here makes clients unable to reproduce a contribution after an
    // update.
    assert_eq!(draw(22.84, 8, 0), KNOWN_NARROW);
    assert_eq!(draw(1234.5, 8, 0), KNOWN_WIDE);
}

const KNOWN_NARROW: [i32; 8] = [28, -25, 32, -12, -7, -7, 41, 12];
const KNOWN_WIDE: [i32; 8] = [496, -1813, 3915, 542, 3266, 266, -1702, -134];
