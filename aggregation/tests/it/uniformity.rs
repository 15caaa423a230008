//! With the sum fixed, what is seen of the masked vectors by a coalition below threshold is uniform; changing one input
//! changes nothing else.

use crate::fleet::{
    Fleet, NOW, Progress, close_collect, confirm_all, inputs, mask_all, plain_sum, share_one, shared, terms,
};
use aes::Aes256Enc;
use ctr::Ctr128BE;
use ctr::cipher::{KeyIvInit as _, StreamCipher as _};
use curve25519_dalek::ristretto::CompressedRistretto;
use curve25519_dalek::scalar::Scalar;
use hkdf::Hkdf;
use sha2::Sha256;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
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
    clients.into_iter().map(|(id, uploaded)| (id, uploaded.upload.packed.to_vec())).collect()
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

/// Lanes of a mask in a ring of 8 bits, from its input key and label, written anew from the protocol's description.
fn expand(context: &[u8], secret: &[u8], label: &str, dimension: usize) -> Vec<u8> {
    let mut key = [0; 32];
    Hkdf::<Sha256>::new(Some(context), secret).expand(label.as_bytes(), &mut key).expect("32 bytes");
    let mut keystream = vec![0; 2 * dimension];
    Ctr128BE::<Aes256Enc>::new(&key.into(), &[0; 16].into()).write_keystream(&mut keystream);
    keystream.chunks_exact(2).map(|lane| lane[0]).collect()
}

/// The value at zero of the polynomial through some points.
fn interpolate(points: &[(u32, Scalar)]) -> Scalar {
    let coefficient = |own: u32| -> Scalar {
        let others = points.iter().map(|(x, _)| *x).filter(|x| *x != own);
        others.map(|x| Scalar::from(x) * (Scalar::from(x) - Scalar::from(own)).invert()).product()
    };
    points.iter().map(|(x, share)| coefficient(*x) * share).sum()
}

#[test]
fn what_a_coalition_below_threshold_is_left_with_is_uniform_given_the_sum() {
    let (n, dimension, colluders) = (9, 40_000usize, 2);
    let mut fleet = Fleet::new(n, terms(ThreatModel::SemiMalicious, n, 8, dimension as u32), 50);
    let mut inputs = inputs(&mut fleet);
    // Constant inputs, as far from uniform as can be.
    for (place, vector) in inputs.values_mut().enumerate() {
        *vector = RingVector::new(8, &vec![10 * place as u32; dimension]).expect("fits");
    }
    let advertised = fleet.advertise();
    let secrets: BTreeMap<ClientId, [u8; 128]> =
        advertised.iter().map(|(id, client)| (*id, *client.secrets().to_bytes())).collect();
    let mask_keys: BTreeMap<ClientId, [u8; 32]> =
        advertised.iter().map(|(id, client)| (*id, client.advert().mask_key)).collect();
    let mut server = fleet.server();
    for client in advertised.values() {
        server.accept(Arc::clone(client.advert()), NOW).expect("honest");
    }
    let mut server = server.close().expect("feasible");
    let context = *server.context().as_bytes();
    let mut clients = BTreeMap::new();
    for (id, client) in advertised {
        let (client, message) = share_one(&server, client).expect("honest");
        server.accept(message).expect("honest");
        clients.insert(id, client);
    }
    let progress = Progress { server: server.close().expect("everybody shared"), clients };
    let uploaded = mask_all(progress, &inputs, &BTreeSet::new());
    let masked: BTreeMap<ClientId, Vec<u8>> =
        uploaded.clients.iter().map(|(id, uploaded)| (*id, uploaded.upload.packed.to_vec())).collect();
    let collected = close_collect(uploaded).expect("everybody survived");
    let (Progress { server, clients }, _) = confirm_all(collected, &BTreeSet::new()).expect("all confirm");

    // The server's view of Unmask: shares of every self-mask seed.
    let ids: Vec<ClientId> = inputs.keys().copied().collect();
    let mut shares: BTreeMap<ClientId, Vec<(u32, Scalar)>> = BTreeMap::new();
    for (index, (id, client)) in clients.into_iter().enumerate() {
        let (_, answer) = client.unmask(&server.request_for(id).expect("confirmed")).expect("honest");
        for share in &answer.shares {
            let value = Option::from(Scalar::from_canonical_bytes(share.share.0)).expect("canonical");
            shares.entry(share.of).or_default().push((index as u32 + 1, value));
        }
    }
    // What is left of each honest vector without its self-mask and the masks that it shares with colluders.
    let (corrupt, honest) = ids.split_at(colluders);
    let left: Vec<Vec<u8>> = honest
        .iter()
        .map(|id| {
            let mut vector = masked[id].clone();
            let seed = interpolate(&shares[id]);
            let own = expand(&context, seed.as_bytes(), "self-mask", dimension);
            vector.iter_mut().zip(own).for_each(|(lane, mask)| *lane = lane.wrapping_sub(mask));
            for colluder in corrupt {
                let secret: [u8; 32] = secrets[colluder][32..64].try_into().expect("32 bytes");
                let secret: Scalar = Option::from(Scalar::from_canonical_bytes(secret)).expect("canonical");
                let point = CompressedRistretto(mask_keys[id]).decompress().expect("a point");
                let label = format!("pair-mask|{}|{}", colluder.min(id), colluder.max(id));
                let mask = expand(&context, (secret * point).compress().as_bytes(), &label, dimension);
                // The colluders have the lowest ids here, so the honest client subtracted.
                vector.iter_mut().zip(mask).for_each(|(lane, mask)| *lane = lane.wrapping_add(mask));
            }
            vector
        })
        .collect();

    // Together they are the plain sum of the honest clients: nothing else was left on them.
    let mut sum = vec![0u8; dimension];
    for vector in &left {
        sum.iter_mut().zip(vector).for_each(|(sum, lane)| *sum = sum.wrapping_add(*lane));
    }
    assert_eq!(sum, plain_sum(&inputs, honest).to_packed());
    // Alone, in pairs, and all but one of them, they are uniform.
    for (one, vector) in left.iter().enumerate() {
        let alone = chi_squared(vector.iter().copied());
        assert!(BOUNDS.contains(&alone), "{one}: {alone}");
        let others = chi_squared(sum.iter().zip(vector).map(|(sum, lane)| sum.wrapping_sub(*lane)));
        assert!(BOUNDS.contains(&others), "all but {one}: {others}");
        for other in &left[..one] {
            let pair = chi_squared(vector.iter().zip(other).map(|(a, b)| a.wrapping_add(*b)));
            assert!(BOUNDS.contains(&pair), "{one} and another: {pair}");
        }
    }
}
