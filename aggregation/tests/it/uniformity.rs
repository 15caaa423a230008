//! With the sum fixed, what is seen of the masked vectors by a coalition below threshold is uniform; changing one input
//! changes nothing else.

use crate::fleet::{Fleet, Progress, inputs, mask_all, shared, terms};
use std::collections::{BTreeMap, BTreeSet};
use tacit_aggregation::identity::ClientId;
use tacit_aggregation::params::ThreatModel;
use tacit_aggregation::ring_vector::RingVector;

/// Masked vectors of every client of a fleet with the given seed, on inputs that a function of the place gives.
fn transcript(
    n: u32,
    dimension: u32,
    seed: u64,
    input: impl Fn(usize) -> RingVector,
) -> Vec<(ClientId, Vec<u8>)> {
    let mut fleet = Fleet::new(n, terms(ThreatModel::SemiMalicious, n, 8, dimension), seed);
    let mut inputs: BTreeMap<ClientId, RingVector> = inputs(&mut fleet);
    inputs.values_mut().enumerate().for_each(|(place, vector)| *vector = input(place));
    let progress = shared(&mut fleet, &BTreeSet::new()).expect("nobody leaves");
    let Progress { clients, .. } = mask_all(progress, &inputs, &BTreeSet::new());
    clients.into_iter().map(|(id, uploaded)| (id, uploaded.upload.packed)).collect()
}

/// Chi-squared statistic of bytes against the uniform law, 255 degrees of freedom.
fn chi_squared(bytes: impl Iterator<Item = u8>) -> f64 {
    let mut counts = [0u64; 256];
    let mut total = 0u64;
    for byte in bytes {
        counts[usize::from(byte)] += 1;
        total += 1;
    }
    let expected = total as f64 / 256.0;
    counts.iter().map(|&count| (count as f64 - expected).powi(2) / expected).sum()
}

/// Outside of these with probability about 10^-6 for 255 degrees of freedom.
const BOUNDS: std::ops::Range<f64> = 155.0..383.0;

#[test]
fn masked_vectors_are_uniform_alone_together_and_with_the_sum_fixed() {
    // Two extreme inputs with the same sum: (0, 0, 0, ...) and (255, 1, 0, ...), in a ring of 8 bits.
    let (n, dimension) = (6, 40_000);
    let constant = |value: u32| RingVector::new(8, &vec![value; dimension as usize]).expect("fits");
    for case in 0..2 {
        let values = [[0, 0], [255, 1]][case];
        let masked = transcript(n, dimension, 30 + case as u64, |place| {
            constant(values.get(place).copied().unwrap_or(0))
        });
        let vectors: Vec<&Vec<u8>> = masked.iter().map(|(_, packed)| packed).collect();
        // The mechanism can fail: unmasked constants are as far from uniform as can be.
        assert!(!BOUNDS.contains(&chi_squared(constant(255).to_packed().into_iter())));
        for vector in &vectors {
            let alone = chi_squared(vector.iter().copied());
            assert!(BOUNDS.contains(&alone), "case {case}: {alone}");
        }
        // Any sum or difference of fewer than all is uniform as well, so no pair mask is left bare.
        for one in 0..vectors.len() {
            for other in 0..one {
                let pair = vectors[one].iter().zip(vectors[other]);
                let sum = chi_squared(pair.clone().map(|(a, b)| a.wrapping_add(*b)));
                let difference = chi_squared(pair.map(|(a, b)| a.wrapping_sub(*b)));
                assert!(BOUNDS.contains(&sum), "case {case}, {one} + {other}: {sum}");
                assert!(BOUNDS.contains(&difference), "case {case}, {one} - {other}: {difference}");
            }
        }
        // Even the sum of all is uniform before the self-masks are removed.
        let all = (0..dimension as usize)
            .map(|i| vectors.iter().fold(0u8, |sum, vector| sum.wrapping_add(vector[i])));
        let all = chi_squared(all);
        assert!(BOUNDS.contains(&all), "case {case}: {all}");
    }
}

#[test]
fn changing_one_input_changes_one_masked_vector_by_that_much() {
    let (n, dimension) = (7, 50);
    let input = |place: usize| RingVector::new(8, &[place as u32; 50]).expect("fits");
    let before = transcript(n, dimension, 40, input);
    let after = transcript(n, dimension, 40, |place| {
        if place == 3 { RingVector::new(8, &[200; 50]).expect("fits") } else { input(place) }
    });
    let mut changed = 0;
    for (place, ((one, before), (other, after))) in before.iter().zip(&after).enumerate() {
        assert_eq!(one, other);
        let difference: Vec<u8> = after.iter().zip(before).map(|(a, b)| a.wrapping_sub(*b)).collect();
        if place == 3 {
            assert_eq!(difference, [197; 50]);
            changed += 1;
        } else {
            assert_eq!(difference, [0; 50]);
        }
    }
    assert_eq!(changed, 1);
}
