//! A secret from its shares, checked against its commitment. Must never return a secret that the commitment does not match.

use crate::keys::SecretScalar;
use crate::shamir::{Basis, Commitments};

/// What the shares of one secret gave.
pub(super) struct Recovered {
    /// The secret; none when fewer than t shares are good.
    pub(super) secret: Option<SecretScalar>,
    /// How many shares are good, as far as was needed to know.
    pub(super) good: u32,
    /// Holders whose shares do not match the commitments.
    pub(super) liars: Vec<u32>,
}

/// Takes the first t shares (holder, share), and only when they do not give the committed secret checks every one.
pub(super) fn recover(commitments: &Commitments, shares: &[(u32, &SecretScalar)]) -> Recovered {
    let threshold = commitments.threshold();
    if let Some(secret) = interpolate(commitments, shares) {
        return Recovered { secret: Some(secret), good: shares.len() as u32, liars: Vec::new() };
    }
    if shares.len() < threshold {
        return Recovered { secret: None, good: shares.len() as u32, liars: Vec::new() };
    }
    let matches = |&(holder, share): &(u32, &SecretScalar)| commitments.holds(holder, share);
    let (good, bad): (Vec<_>, Vec<_>) = shares.iter().copied().partition(matches);
    Recovered {
        secret: interpolate(commitments, &good),
        good: good.len() as u32,
        liars: bad.into_iter().map(|(holder, _)| holder).collect(),
    }
}

fn interpolate(commitments: &Commitments, shares: &[(u32, &SecretScalar)]) -> Option<SecretScalar> {
    let chosen = shares.get(..commitments.threshold())?;
    let holders: Vec<u32> = chosen.iter().map(|&(holder, _)| holder).collect();
    let secret = Basis::new(&holders).reconstruct(chosen.iter().map(|&(_, share)| share));
    (secret.public().compress().to_bytes() == *commitments.secret()).then_some(secret)
}

#[cfg(test)]
mod tests {
    use super::recover;
    use crate::keys::SecretScalar;
    use crate::shamir::Polynomial;
    use curve25519_dalek::scalar::Scalar;

    #[test]
    fn liars_are_named_and_done_without() {
        let mut next = 10u64;
        let polynomial = Polynomial::new(SecretScalar::new(Scalar::from(9u8)), 3, || {
            next += 1;
            SecretScalar::new(Scalar::from(next))
        });
        let commitments = polynomial.commit();
        let mut shares: Vec<SecretScalar> = (0..5).map(|index| polynomial.share_of(index)).collect();
        let recovered = |shares: &[SecretScalar]| {
            let shares: Vec<(u32, &SecretScalar)> = (0..).zip(shares).collect();
            let result = recover(&commitments, &shares);
            (result.secret.map(|secret| *secret.get()), result.good, result.liars)
        };
        let secret = Some(Scalar::from(9u8));
        assert_eq!(recovered(&shares), (secret, 5, vec![]));
        assert_eq!(recovered(&shares[..2]), (None, 2, vec![]));
        shares[1] = SecretScalar::new(Scalar::from(1u8));
        assert_eq!(recovered(&shares), (secret, 4, vec![1]));
        shares[4] = SecretScalar::new(Scalar::from(2u8));
        assert_eq!(recovered(&shares), (secret, 3, vec![1, 4]));
        shares[0] = SecretScalar::new(Scalar::from(3u8));
        assert_eq!(recovered(&shares), (None, 2, vec![0, 1, 4]));
    }
}
