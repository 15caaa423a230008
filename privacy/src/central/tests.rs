//! The central mechanism from end to end: what it costs, what noise it adds, and where the clip norm goes.

use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};

use super::*;
use crate::accountant::{AccountantError, RdpCurve};
use crate::clip::Clipped;
use crate::error::PipelineError;
use crate::rotate;
use crate::seed::RotationSeed;

const SEED: RotationSeed = RotationSeed([9; 32]);
const RULE: AdaptiveClip = AdaptiveClip { target_quantile: 0.5, learning_rate: 0.2, count_noise: 2.0 };

fn request() -> CentralRequest {
    CentralRequest {
        clients: 40,
        n_min: 30,
        dimension: 500,
        clip: 0.5,
        noise_multiplier: 1.0,
        adjacency: Adjacency::ZeroOut,
        adaptive_clip: Some(RULE),
    }
}

fn key(number: u64) -> NoiseKey {
    NoiseKey::generate(&mut ChaCha20Rng::seed_from_u64(number))
}

/// A uniform number in (0, 1).
fn uniform(rng: &mut ChaCha20Rng) -> f64 {
    (f64::from(rng.next_u32()) + 0.5) / 4_294_967_296.0
}

/// An update of this norm in a random direction.
fn update(dimension: usize, norm: f64, rng: &mut ChaCha20Rng) -> Vec<f32> {
    let raw: Vec<f64> = (0..dimension).map(|_| uniform(rng) - 0.5).collect();
    let length = raw.iter().map(|x| x * x).sum::<f64>().sqrt();
    raw.iter().map(|x| (x / length * norm) as f32).collect()
}

/// The sum modulo 2^bits of the rounded updates.
fn ring_sum(mechanism: &CentralMechanism, updates: Vec<Vec<f32>>, rng: &mut ChaCha20Rng) -> Vec<u32> {
    let mask = u32::MAX >> (32 - mechanism.bits());
    let mut sum = vec![0_u32; mechanism.ring_dimension()];
    for update in updates {
        let rounded = Clipped::new(update, mechanism.clip()).unwrap().rotate(&SEED).round(mechanism, rng);
        let ring = rounded.unwrap().into_ring();
        assert_eq!(ring.len(), sum.len());
        sum.iter_mut().zip(ring).for_each(|(sum, residue)| *sum = (*sum + residue) & mask);
    }
    sum
}

fn lift(residue: u32, bits: u32) -> i32 {
    ((residue << (32 - bits)) as i32) >> (32 - bits)
}

/// The noise in a release, in integer units: what came out less what went in.
fn noise(mechanism: &CentralMechanism, clean: &[u32], release: &CentralRelease) -> (Vec<f64>, Option<f64>) {
    let mut sum = release.clone().into_sum();
    rotate::forward(&mut sum, &SEED);
    let noise = sum.iter().zip(clean).map(|(noised, clean)| {
        let noise = f64::from(*noised) * mechanism.scale() - f64::from(lift(*clean, mechanism.bits()));
        assert!((noise - noise.round()).abs() < 0.05, "{noise} is no integer");
        noise.round()
    });
    let count =
        release.bit_sum().map(|sum| f64::from(sum - lift(clean[mechanism.dimension()], mechanism.bits())));
    (noise.collect(), count)
}

#[test]
fn sum_and_count_together_cost_what_the_plan_says() {
    for adjacency in [Adjacency::ZeroOut, Adjacency::ReplaceOne] {
        for (z, count_noise) in [(0.5, 0.3), (1.0, 2.0), (1.0, 0.51), (3.0, 5.0)] {
            let adaptive = AdaptiveClip { count_noise, ..RULE };
            let request =
                CentralRequest { noise_multiplier: z, adjacency, adaptive_clip: Some(adaptive), ..request() };
            let mechanism = CentralMechanism::build(&request).unwrap();
            let distance = if adjacency == Adjacency::ZeroOut { 1.0 } else { 2.0 };
            // The noise of each part over how far one client moves it: the updates' by the norm bound, the
            // bits' by one, or by two where a client can be replaced.
            let longest = distance * (mechanism.norm_bound_squared() as f64).sqrt();
            assert!(mechanism.sensitivity() >= longest && mechanism.sensitivity() < longest * (1.0 + 1e-12));
            let of_sum = mechanism.variance().sqrt() / longest;
            let of_count = mechanism.count_variance().unwrap().sqrt() / distance;
            assert!((of_count - 2.0 * count_noise).abs() < 1e-6, "Andrew et al.: 2 sigma_b for bits of +-1");
            let (joint, claimed) = (of_sum.powi(-2) + of_count.powi(-2), 1.0 / (z * z));
            assert!((joint - claimed).abs() < 1e-6 * claimed, "{joint}, not {claimed}");
            assert!(of_sum > z, "the sum pays for the count");

            let cost = RdpCurve::central(&mechanism, 35).unwrap();
            for ((order, found), (_, ideal)) in cost.points().zip(RdpCurve::gaussian(z).points()) {
                assert!(found <= ideal * (1.0 + 1e-14) && found > ideal * (1.0 - 1e-6), "order {order}");
            }
            let drawn = 501.0 * 2.0_f64.powi(-100);
            assert_eq!(cost.sampling_distance(), drawn, "each coordinate and the count");
        }
        let fixed = CentralRequest { adjacency, adaptive_clip: None, ..request() };
        let fixed = CentralMechanism::build(&fixed).unwrap();
        assert_eq!((fixed.ring_dimension(), fixed.count_variance()), (500, None));
        let ratio = fixed.variance().sqrt() / fixed.sensitivity();
        assert!((ratio - 1.0).abs() < 1e-6, "{ratio}");
        assert_eq!(RdpCurve::central(&fixed, 30).unwrap().sampling_distance(), 500.0 * 2.0_f64.powi(-100));
    }
}

#[test]
fn the_release_is_the_exact_sum_and_the_announced_noise() {
    for adaptive_clip in [None, Some(RULE)] {
        let mechanism = CentralMechanism::build(&CentralRequest { adaptive_clip, ..request() }).unwrap();
        let mut rng = ChaCha20Rng::seed_from_u64(1);
        let updates: Vec<Vec<f32>> = (0..35).map(|_| update(500, 0.4, &mut rng)).collect();
        let clean = ring_sum(&mechanism, updates, &mut rng);
        let (mut squares, mut total, mut draws, mut counts) = (0.0, 0.0, 0.0, Vec::new());
        for number in 0..400 {
            let release = CentralSum::new(clean.clone())
                .release(&mechanism, 35, &SEED, &key(number), &[0; 32])
                .unwrap();
            let (noise, count) = noise(&mechanism, &clean, &release);
            draws += noise.len() as f64;
            total += noise.iter().sum::<f64>();
            squares += noise.iter().map(|x| x * x).sum::<f64>();
            counts.extend(count);
        }
        // Five standard errors of a Gaussian's mean and variance.
        let ratio = squares / draws / mechanism.variance();
        assert!((ratio - 1.0).abs() < 5.0 * (2.0 / draws).sqrt(), "{ratio}");
        assert!(total.abs() < 5.0 * (draws * mechanism.variance()).sqrt(), "{total}");
        assert_eq!(counts.len(), if adaptive_clip.is_some() { 400 } else { 0 });
        if let Some(variance) = mechanism.count_variance() {
            assert_eq!(variance, 16.0, "2 sigma_b, squared");
            let ratio = counts.iter().map(|x| x * x).sum::<f64>() / 400.0 / variance;
            assert!((ratio - 1.0).abs() < 5.0 * (2.0 / 400.0_f64).sqrt(), "{ratio}");
            assert!(counts.iter().sum::<f64>().abs() < 5.0 * (400.0 * variance).sqrt());
        }
    }
}

#[test]
fn one_sum_has_one_noise_and_two_sums_have_two() {
    let mechanism = CentralMechanism::build(&request()).unwrap();
    let release = |sum: &[u32], key: &NoiseKey, context: u8| {
        CentralSum::new(sum.to_vec()).release(&mechanism, 30, &SEED, key, &[context; 32]).unwrap()
    };
    let clean = vec![0_u32; 501];
    let stored = NoiseKey::from_bytes(&key(1).to_bytes());
    let first = release(&clean, &key(1), 1);
    assert_eq!(first, release(&clean, &stored, 1), "a repeated release shows nothing new");
    let mut moved = clean.clone();
    moved[500] = 1;
    for (sum, key, context) in [(&clean, key(2), 1), (&clean, key(1), 2), (&moved, key(1), 1)] {
        let other = release(sum, &key, context);
        let (a, b) = (noise(&mechanism, &clean, &first).0, noise(&mechanism, sum, &other).0);
        // The difference of two independent noises, and not a shifted copy of the sum's difference.
        let variance = a.iter().zip(&b).map(|(a, b)| (a - b).powi(2)).sum::<f64>() / 500.0;
        let ratio = variance / (2.0 * mechanism.variance());
        assert!((ratio - 1.0).abs() < 6.0 * (2.0 / 500.0_f64).sqrt(), "{ratio}");
    }
    assert_ne!(key(1).commitment(), key(2).commitment());
    assert_eq!(key(1).commitment(), stored.commitment());
    assert_eq!(format!("{stored:?}"), "NoiseKey(redacted)");
}

#[test]
fn noise_goes_on_before_residues_become_integers() {
    // At the edge of the ring half of the noise must come out on the other side.
    let mechanism = CentralMechanism::build(&request()).unwrap();
    let bits = mechanism.bits();
    let edge = (1_u32 << (bits - 1)) - 1;
    let release = CentralSum::new(vec![edge; 501]).release(&mechanism, 30, &SEED, &key(3), &[0; 32]).unwrap();
    let mut sum = release.into_sum();
    rotate::forward(&mut sum, &SEED);
    let half = f64::from(edge) / mechanism.scale();
    assert!(sum.iter().all(|value| f64::from(value.abs()) < 1.001 * half + 1.0 / mechanism.scale()));
    let crossed = sum.iter().filter(|value| **value < 0.0).count();
    assert!((180..320).contains(&crossed), "{crossed} of 500");
}

#[test]
fn too_few_updates_release_nothing() {
    let mechanism = CentralMechanism::build(&request()).unwrap();
    let release =
        |survivors, sum| CentralSum::new(sum).release(&mechanism, survivors, &SEED, &key(1), &[0; 32]);
    let refused = release(29, vec![0; 501]);
    let few = AccountantError::TooFewSurvivors { survivors: 29, n_min: 30 };
    assert_eq!(refused, Err(ReleaseError::Survivors(few.clone())));
    assert_eq!(RdpCurve::central(&mechanism, 29), Err(few));
    let many = AccountantError::MoreSurvivorsThanClients { survivors: 41, clients: 40 };
    assert_eq!(release(41, vec![0; 501]), Err(ReleaseError::Survivors(many)));
    let short = PipelineError::DimensionMismatch { expected: 501, found: 500 };
    assert_eq!(release(30, vec![0; 500]), Err(ReleaseError::Pipeline(short)));
    let outside = release(30, vec![1 << mechanism.bits(); 501]).unwrap_err();
    assert!(matches!(outside, ReleaseError::Pipeline(PipelineError::OutOfRing { coordinate: 0, .. })));
    let shown = format!("{:?}", CentralSum::new(vec![123_456]));
    assert_eq!(shown, "CentralSum(1 residues, redacted)");
}

#[test]
fn the_bit_says_not_clipped() {
    let mechanism = CentralMechanism::build(&request()).unwrap();
    let bit = |norm: f64| {
        let mut rng = ChaCha20Rng::seed_from_u64(5);
        let clipped = Clipped::new(update(500, norm, &mut rng), 0.5).unwrap();
        let rounded = clipped.rotate(&SEED).round(&mechanism, &mut rng).unwrap();
        assert_eq!((rounded.ring_dimension(), rounded.bits()), (501, mechanism.bits()));
        assert!(format!("{rounded:?}").starts_with("Rounded { ring_dimension: 501, bits: "));
        lift(rounded.into_ring()[500], mechanism.bits())
    };
    assert_eq!((bit(0.49), bit(0.51)), (1, -1));
}

/// Runs rounds of 60 clients whose norms have a log-normal law of median 0.02, and gives the clip norm's mean
/// over the last rounds.
fn follow(start: f64, quantile: f64, rounds: u32) -> f64 {
    let mut rng = ChaCha20Rng::seed_from_u64(start.to_bits() ^ quantile.to_bits());
    let rule = AdaptiveClip { target_quantile: quantile, learning_rate: 0.3, count_noise: 3.0 };
    let (mut clip, mut last) = (start, Vec::new());
    for round in 0..rounds {
        let request = CentralRequest {
            clients: 60,
            n_min: 60,
            dimension: 8,
            clip,
            adaptive_clip: Some(rule),
            ..request()
        };
        let mechanism = CentralMechanism::build(&request).unwrap();
        let updates = (0..60).map(|_| {
            // The sum of twelve uniforms is close enough to a Gaussian; the median is exact.
            let deviation = (0..12).map(|_| uniform(&mut rng)).sum::<f64>() - 6.0;
            update(8, 0.02 * (0.5 * deviation).exp(), &mut rng)
        });
        let updates: Vec<Vec<f32>> = updates.collect();
        let sum = ring_sum(&mechanism, updates, &mut rng);
        let release =
            CentralSum::new(sum).release(&mechanism, 60, &SEED, &key(u64::from(round)), &[0; 32]).unwrap();
        clip = rule.next_clip(clip, release.bit_sum().unwrap(), 60);
        if round + 35 >= rounds {
            last.push(clip.ln());
        }
    }
    (last.iter().sum::<f64>() / last.len() as f64).exp()
}

#[test]
fn the_clip_norm_finds_the_quantile_from_above_and_from_below() {
    for start in [2.0, 0.000_2] {
        let median = follow(start, 0.5, 75);
        assert!((median / 0.02).ln().abs() < 0.08, "from {start} to {median}, not 0.02");
    }
    // A Gaussian's ninth decile lies 1.2816 deviations up.
    let decile = follow(0.02, 0.9, 60);
    let expected = 0.02 * (0.5 * 1.2816_f64).exp();
    assert!((decile / expected).ln().abs() < 0.12, "{decile}, not {expected}");
}

#[test]
fn what_cannot_work_is_refused_with_the_numbers() {
    let refuse = |change: &dyn Fn(&mut CentralRequest)| {
        let mut bad = request();
        change(&mut bad);
        CentralMechanism::build(&bad).unwrap_err()
    };
    let adaptive = |rule: AdaptiveClip| refuse(&move |request| request.adaptive_clip = Some(rule));
    // At half of z the count alone costs everything.
    let error = adaptive(AdaptiveClip { count_noise: 0.5, ..RULE });
    assert_eq!(error, Infeasible::CountNoise { count_noise: 0.5, noise_multiplier: 1.0, clients: 40 });
    assert!(error.to_string().contains("must exceed half"), "{error}");
    assert_eq!(adaptive(AdaptiveClip { target_quantile: 1.5, ..RULE }), Infeasible::TargetQuantile(1.5));
    let error = adaptive(AdaptiveClip { learning_rate: f64::NAN, ..RULE });
    assert!(matches!(error, Infeasible::NotPositive { .. }), "{error}");
    assert_eq!(refuse(&|r| r.n_min = 41), Infeasible::MinimumAboveCohort { n_min: 41, clients: 40 });
    assert_eq!(refuse(&|r| r.n_min = 0), Infeasible::NotPositive { name: "n_min", value: 0.0 });
    assert_eq!(refuse(&|r| r.clients = 1), Infeasible::Clients { clients: 1 });
    let error = refuse(&|r| (r.noise_multiplier, r.adaptive_clip) = (1e7, None));
    assert!(matches!(error, Infeasible::RangeTooSmall { .. }), "{error}");
    assert!(matches!(refuse(&|r| r.noise_multiplier = 1e7), Infeasible::CountNoise { .. }));
    assert!(matches!(refuse(&|r| r.noise_multiplier = 0.0), Infeasible::NotPositive { .. }));
    assert!(matches!(refuse(&|r| r.clip = f64::NAN), Infeasible::Clip { .. }));

    let good = CentralMechanism::build(&request()).unwrap();
    let (bits, scale) = (good.bits(), good.scale());
    assert_eq!(CentralMechanism::with_encoding(&request(), bits, scale), Ok(good));
    let error = CentralMechanism::with_encoding(&request(), bits, scale * 1.1).unwrap_err();
    assert!(matches!(error, Infeasible::RangeTooSmall { .. }), "{error}");
    let error = CentralMechanism::with_encoding(&request(), 25, scale).unwrap_err();
    assert_eq!(error, Infeasible::Bits { bits: 25 });
    // A ring too small for the count, however small the scale.
    let crowd = CentralRequest { clients: 1000, ..request() };
    let error = CentralMechanism::with_encoding(&crowd, 10, 1e-3).unwrap_err();
    assert!(matches!(error, Infeasible::RangeTooSmall { range, .. } if range > 2000.0), "{error}");
    let timid = CentralRequest { noise_multiplier: 1e-3, adaptive_clip: None, ..request() };
    let error = CentralMechanism::with_encoding(&timid, 16, 30.0).unwrap_err();
    assert!(matches!(error, Infeasible::CentralNoise { bits: 16, .. }), "{error}");
}

#[test]
fn a_mechanism_is_checked_again_when_it_is_read() {
    let mechanism = CentralMechanism::build(&request()).unwrap();
    let stored = serde_json::to_value(&mechanism).unwrap();
    assert_eq!(stored["adaptive_clip"]["target_quantile"], 0.5);
    assert_eq!(serde_json::from_value::<CentralMechanism>(stored.clone()).unwrap(), mechanism);
    let change = |name: &str, value: serde_json::Value| {
        let mut changed = stored.clone();
        changed[name] = value;
        serde_json::from_value::<CentralMechanism>(changed)
    };
    assert!(change("scale", 1e9.into()).is_err());
    assert!(change("n_min", 41.into()).is_err());
    assert!(change("surprise", 1.into()).is_err());
    assert_ne!(change("n_min", 31.into()).unwrap(), mechanism);
}

#[test]
fn nobody_pays_for_others_noise() {
    // One noise instead of n shares of which m suffice: the same ring serves a larger scale.
    use crate::mechanism::{Mechanism, MechanismRequest, NoiseLaw};
    use crate::units::BasisPoints;
    let central = CentralMechanism::build(&CentralRequest { adaptive_clip: None, ..request() }).unwrap();
    let distributed = Mechanism::build(&MechanismRequest {
        clients: 40,
        n_min: 30,
        corrupt: BasisPoints::new(2_500).unwrap(),
        dropout: BasisPoints::new(2_500).unwrap(),
        dimension: 500,
        clip: 0.5,
        noise_multiplier: 1.0,
        adjacency: Adjacency::ZeroOut,
        noise_law: NoiseLaw::DiscreteGaussian,
    })
    .unwrap();
    let ratio = distributed.total_noise_std(40) / central.noise_std();
    assert!((1.4..1.5).contains(&ratio), "sqrt(40/20) times, and what rounding adds: {ratio}");
}
