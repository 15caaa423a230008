//! Shamir's sharing with Feldman's commitments, one core: each operation against the primitive that it is made of.

use crate::limits::{fastest, say};
use curve25519_dalek::ristretto::{CompressedRistretto, RistrettoPoint};
use curve25519_dalek::scalar::Scalar;
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng as _, SeedableRng as _};
use std::hint::black_box;
use std::time::Duration;
use tacit_aggregation::shamir::{Basis, Commitments, Polynomial, SecretScalar};

/// Prints share, commit, verify and reconstruct of one secret for t = 2k/3.
pub(crate) fn report() {
    let one_thread = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("a thread");
    one_thread.install(|| {
        for neighbours in [100u32, 1_000] {
            one(neighbours, 2 * neighbours / 3 + 1);
        }
    });
}

fn one(neighbours: u32, threshold: u32) {
    let mut rng = ChaCha20Rng::seed_from_u64(5);
    let mut uniform = || {
        let mut bytes = [0; 64];
        rng.fill_bytes(&mut bytes);
        SecretScalar::from_uniform(&bytes)
    };
    let secret = uniform();
    let polynomial = Polynomial::new(secret.clone(), threshold, &mut uniform);
    let share_all = || (0..neighbours).map(|index| polynomial.share_of(index)).collect::<Vec<_>>();
    let shares = share_all();
    let commitments = polynomial.commit();
    let holders: Vec<u32> = (0..threshold).map(|index| index * neighbours / threshold).collect();
    let held: Vec<&SecretScalar> = holders.iter().map(|&holder| &shares[holder as usize]).collect();
    let last = neighbours - 1;

    let runs = if neighbours > 100 { 5 } else { 20 };
    let share = fastest(runs, || drop(black_box(share_all())));
    let commit = fastest(runs, || drop(black_box(polynomial.commit())));
    let verify = fastest(runs, || {
        let received = Commitments::from_bytes(commitments.as_bytes().to_vec()).expect("points");
        assert!(received.holds(last, &shares[last as usize]));
    });
    let reconstruct = fastest(runs, || {
        let reconstructed = Basis::new(&holders).reconstruct(held.iter().copied());
        assert_eq!(reconstructed.to_bytes(), secret.to_bytes());
    });

    let scalar = Scalar::from_bytes_mod_order([9; 32]);
    let each = |count: u32, time: Duration| time / count;
    let product = each(
        10_000,
        fastest(5, || {
            black_box((0..10_000).fold(scalar, |product, _| product * black_box(scalar)));
        }),
    );
    let base = each(
        200,
        fastest(5, || {
            for _ in 0..200 {
                black_box(RistrettoPoint::mul_base(black_box(&scalar)));
            }
        }),
    );
    let point = CompressedRistretto(*commitments.secret());
    let decode = each(
        200,
        fastest(5, || {
            for _ in 0..200 {
                black_box(black_box(point).decompress());
            }
        }),
    );
    let figure = |name: &str, time: Duration, limit: Duration, what: &str| {
        say(&format!(
            "{name:<11} k = {neighbours:>4}, t = {threshold:>3}: {time:>9.2?}; {what} {limit:>9.2?}; ratio {:.2}",
            time.as_secs_f64() / limit.as_secs_f64()
        ));
    };
    figure("share", share, product * neighbours * threshold, "k t field products");
    figure("commit", commit, base * threshold, "t fixed-base products");
    figure("verify one", verify, decode * threshold, "decoding t points");
    figure("reconstruct", reconstruct, product * threshold * threshold, "t^2 field products");
}
