//! The whole crate from outside: updates in, ring vectors summed as secure aggregation would, estimate and
//! cost out.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};
use sha2::{Digest, Sha256};
use tacit_privacy::{
    Adjacency, BasisPoints, Clipped, Mechanism, MechanismRequest, NoiseLaw, ParticipationBook, PipelineError,
    RdpCurve, RotationSeed, decode_sum, epsilon_spent,
};

const SEED: RotationSeed = RotationSeed([42; 32]);

fn mechanism(clients: u32, dimension: usize, noise_multiplier: f64) -> Mechanism {
    let dropout = BasisPoints::new(1_000).unwrap();
    Mechanism::build(&MechanismRequest {
        clients,
        n_min: clients - dropout.of(clients),
        corrupt: BasisPoints::new(500).unwrap(),
        dropout,
        dimension,
        clip: 0.5,
        noise_multiplier,
        adjacency: Adjacency::ZeroOut,
        noise_law: NoiseLaw::DiscreteGaussian,
    })
    .unwrap()
}

/// A client's update: `length` times a direction that differs from client to client, around a direction that
/// all share.
fn update(client: u32, dimension: usize, length: f32) -> Vec<f32> {
    let mut rng = ChaCha20Rng::seed_from_u64(u64::from(client) + 1);
    let mut uniform = || f64::from(rng.next_u32()) / f64::from(u32::MAX) - 0.5;
    let raw: Vec<f64> = (0..dimension).map(|i| uniform() + 0.3 * ((i % 7) as f64 - 3.0)).collect();
    let norm = raw.iter().map(|x| x * x).sum::<f64>().sqrt();
    raw.iter().map(|x| (x / norm) as f32 * length).collect()
}

fn encode(values: Vec<f32>, mechanism: &Mechanism, seed: u64) -> Vec<u32> {
    let rotated = Clipped::new(values, mechanism.clip()).unwrap().rotate(&SEED);
    rotated.noise(mechanism, &mut ChaCha20Rng::seed_from_u64(seed)).unwrap().into_ring()
}

/// Adds modulo 2^bits, as secure aggregation does.
fn add(sum: &mut [u32], ring: &[u32], bits: u32) {
    let mask = u32::MAX >> (32 - bits);
    sum.iter_mut().zip(ring).for_each(|(sum, residue)| *sum = sum.wrapping_add(*residue) & mask);
}

/// Root mean square distance per coordinate.
fn distance(a: &[f32], b: &[f64]) -> f64 {
    let squares: f64 = a.iter().zip(b).map(|(a, b)| (f64::from(*a) - b).powi(2)).sum();
    (squares / a.len() as f64).sqrt()
}

#[test]
fn the_decoded_sum_is_off_by_the_predicted_noise_and_no_less() {
    for (clients, dimension, noise_multiplier) in
        [(40, 6144, 1.0), (25, 1000, 0.3), (120, 2048, 4.0), (12, 5000, 0.4)]
    {
        let mechanism = mechanism(clients, dimension, noise_multiplier);
        let survivors = mechanism.n_min() + 1;
        let mut sum = vec![0_u32; dimension];
        let mut exact = vec![0.0_f64; dimension];
        for client in 0..survivors {
            // Every third update is longer than the clip norm.
            let length = if client % 3 == 0 { 2.0 } else { 0.4 };
            let values = update(client, dimension, length);
            let shrink = if length > 0.5 { 0.25 } else { 1.0 };
            exact.iter_mut().zip(&values).for_each(|(sum, x)| *sum += f64::from(*x) * shrink);
            add(&mut sum, &encode(values, &mechanism, u64::from(client)), mechanism.bits());
        }
        let decoded = decode_sum(&sum, &mechanism, &SEED).unwrap();
        // Noise as predicted; rounding adds a variance between 0 and 1/4 for each client, in integer units.
        let noise = mechanism.total_noise_std(survivors);
        let rounding = (f64::from(survivors) / 4.0).sqrt() / mechanism.scale();
        let chance = 6.0 / (2.0 * dimension as f64).sqrt();
        let error = distance(&decoded, &exact);
        assert!(error >= noise * (1.0 - chance), "n {clients}, d {dimension}: off by {error}, noise {noise}");
        let most = noise.hypot(rounding) * (1.0 + chance);
        assert!(error <= most, "n {clients}, d {dimension}: off by {error}, at most {most}");
        // And the sum is really there: an estimate of zero would be further off.
        let size = distance(&vec![0.0; dimension], &exact);
        let projection: f64 = decoded.iter().zip(&exact).map(|(a, b)| f64::from(*a) * b).sum();
        let projection = projection / (size * size * dimension as f64);
        let allowed = 6.0 * noise.hypot(rounding) / (size * (dimension as f64).sqrt());
        assert!(
            (projection - 1.0).abs() < allowed,
            "n {clients}, d {dimension}: {projection} of the sum, allowed {allowed}"
        );
        assert!(allowed < 0.7, "the test could pass without the sum: {allowed}");
    }
}

#[test]
fn an_unanimous_cohort_at_the_clip_norm_does_not_wrap() {
    // The worst case that the range is planned for: everyone survives, and sends the same vector of the
    // largest norm.
    let (clients, dimension) = (60, 1500);
    let mechanism = mechanism(clients, dimension, 0.5);
    let values = update(7, dimension, 0.5);
    let mut sum = vec![0_u32; dimension];
    for client in 0..clients {
        add(&mut sum, &encode(values.clone(), &mechanism, u64::from(client)), mechanism.bits());
    }
    let decoded = decode_sum(&sum, &mechanism, &SEED).unwrap();
    let exact: Vec<f64> = values.iter().map(|x| f64::from(*x) * f64::from(clients)).collect();
    let expected =
        mechanism.total_noise_std(clients).hypot((f64::from(clients) / 4.0).sqrt() / mechanism.scale());
    // A single wrapped coordinate adds (2^bits / scale)^2 / d, at least (8 expected)^2 / d, to the mean
    // square.
    let error = distance(&decoded, &exact);
    assert!(error < expected * 1.3, "off by {error}, expected {expected}");
}

#[test]
fn the_wrong_seed_or_size_gives_no_sum() {
    let mechanism = mechanism(40, 100, 1.0);
    let ring = vec![0_u32; 100];
    assert!(decode_sum(&ring, &mechanism, &SEED).unwrap().iter().all(|x| *x == 0.0));
    assert_eq!(
        decode_sum(&ring[1..], &mechanism, &SEED),
        Err(PipelineError::DimensionMismatch { expected: 100, found: 99 })
    );
    let mut outside = ring.clone();
    outside[31] = 1 << mechanism.bits();
    let bits = mechanism.bits();
    let expected = PipelineError::OutOfRing { coordinate: 31, value: 1 << bits, bits };
    assert_eq!(decode_sum(&outside, &mechanism, &SEED), Err(expected));
    let mut one = ring;
    one[0] = 1;
    let (a, b) = (decode_sum(&one, &mechanism, &SEED), decode_sum(&one, &mechanism, &RotationSeed([43; 32])));
    assert_ne!(a.unwrap(), b.unwrap());
}

#[test]
fn the_same_seeds_give_the_same_bits_on_every_machine() {
    // Fixed by this implementation. Two stages, a chain of noise tables and clipping all take part.
    let mechanism = mechanism(16, 6143, 1.0);
    assert!(mechanism.local_sigma() > 48.0, "one table would do: {}", mechanism.local_sigma());
    let ring = encode(update(1, 6143, 2.0), &mechanism, 5);
    let bytes: Vec<u8> = ring.iter().flat_map(|residue| residue.to_le_bytes()).collect();
    let digest: [u8; 32] = Sha256::digest(&bytes).into();
    assert_eq!(digest[..8], [51, 73, 148, 124, 99, 55, 236, 217], "ring");
    let decoded = decode_sum(&ring, &mechanism, &SEED).unwrap();
    let bytes: Vec<u8> = decoded.iter().flat_map(|value| value.to_le_bytes()).collect();
    let digest: [u8; 32] = Sha256::digest(&bytes).into();
    assert_eq!(digest[..8], [152, 198, 196, 115, 105, 60, 206, 247], "decoded");
}

#[test]
fn ten_rounds_cost_what_ten_gaussian_rounds_cost() {
    let mechanism = mechanism(128, 6144, 2.0);
    let mut book = ParticipationBook::new();
    let cost = RdpCurve::distributed(&mechanism, mechanism.n_min()).unwrap();
    for _ in 0..10 {
        book.debit(1, &cost);
    }
    book.debit(2, &cost);
    let spent = book.max_epsilon(1e-5).unwrap();
    assert_eq!(spent, book.epsilon_of(1, 1e-5).unwrap());
    let ideal = RdpCurve::gaussian(2.0).times(10).epsilon(1e-5).unwrap();
    assert!(spent > ideal * 0.9999 && spent < ideal * 1.001, "{spent}, ideal {ideal}");
    assert_eq!(epsilon_spent(&cost.times(10), 1e-5, 10), Ok(spent));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_dimension_comes_back_within_the_noise(
        dimension in prop_oneof![1_usize..70, 1000_usize..5000],
        clients in 4_u32..60,
        noise_multiplier in 0.2_f64..3.0,
        seed in any::<u64>(),
        length in 0.0_f32..3.0,
    ) {
        let Ok(mechanism) = Mechanism::build(&MechanismRequest {
            clients,
            n_min: clients,
            corrupt: BasisPoints::ZERO,
            dropout: BasisPoints::ZERO,
            dimension,
            clip: 0.5,
            noise_multiplier,
            adjacency: Adjacency::ZeroOut,
            noise_law: NoiseLaw::DiscreteGaussian,
        }) else {
            return Err(TestCaseError::reject("no such mechanism"));
        };
        let values = update(3, dimension, length);
        let ring = encode(values.clone(), &mechanism, seed);
        prop_assert_eq!(ring.len(), dimension);
        prop_assert!(ring.iter().all(|residue| *residue < 1 << mechanism.bits()));
        let decoded = decode_sum(&ring, &mechanism, &SEED).unwrap();
        let shrink = f64::from(length).max(0.5).recip() * 0.5;
        let exact: Vec<f64> = values.iter().map(|x| f64::from(*x) * shrink).collect();
        let spread = mechanism.total_noise_std(1).hypot(0.5 / mechanism.scale());
        // Sub-Gaussian noise: a mean square above (1 + 8/sqrt(d))^2 of its mean has probability below e^-16.
        let most = spread * (1.0 + 8.0 / (dimension as f64).sqrt());
        let error = distance(&decoded, &exact);
        prop_assert!(error <= most, "off by {error}, at most {most}");
    }

    #[test]
    fn composition_is_additive_and_epsilon_monotone(
        noise_multiplier in 0.5_f64..20.0,
        rounds in 1_u64..50,
        log_delta in -9.0_f64..-2.0,
    ) {
        let delta = 10_f64.powf(log_delta);
        let one = RdpCurve::gaussian(noise_multiplier);
        let all = one.times(rounds);
        let mut more = all.clone();
        more.compose(&one);
        let (before, after) = (all.epsilon(delta).unwrap(), more.epsilon(delta).unwrap());
        prop_assert!(after > before || (after == 0.0 && before == 0.0), "{before} then {after}");
        prop_assert!(all.epsilon(delta * 2.0).unwrap() <= before);
        for ((order, a), (_, b)) in more.points().zip(one.points()) {
            prop_assert!((a - b * (rounds + 1) as f64).abs() <= 1e-9 * a, "order {order}");
        }
    }
}
