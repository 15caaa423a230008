//! The randomness of a simulation: a generator for each purpose, client and round, all from one seed.
//! Must never be used outside a simulation: production draws secrets and noise from the operating system.

use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;
use sha2::{Digest, Sha256};

/// What a generator is for; no two purposes share their numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Keys and numbers of the organisation's root, the coordinator and the clients.
    Identities,
    /// Order of a client's training windows.
    Training,
    /// A client's secrets, shares and noise of one round.
    Protocol,
    /// When a client drops out, and how long its messages take.
    Behaviour,
    /// Order of the training windows of a central run.
    Central,
    /// Of completions, which are greedy and draw nothing.
    Completion,
    /// A made-up update.
    Update,
    /// The public rotation of a cohort without a protocol.
    Rotation,
    /// The coordinator's noise of one round, where it adds the noise.
    CentralNoise,
}

/// The generator of a purpose for one client in one round; 0 where there is none.
pub(crate) fn generator(seed: u64, purpose: Purpose, client: u64, round: u64) -> ChaCha20Rng {
    let mut hash = Sha256::new_with_prefix(b"tacit/simulation/v1");
    for part in [seed, purpose as u64, client, round] {
        hash.update(part.to_le_bytes());
    }
    ChaCha20Rng::from_seed(hash.finalize().into())
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use rand::Rng;

    use super::*;

    #[test]
    fn every_argument_matters() {
        let mut firsts = HashSet::new();
        for seed in 0..3 {
            for purpose in [Purpose::Identities, Purpose::Training, Purpose::Protocol, Purpose::Behaviour] {
                for client in 0..3 {
                    for round in 0..3 {
                        firsts.insert(generator(seed, purpose, client, round).next_u64());
                    }
                }
            }
        }
        assert_eq!(firsts.len(), 3 * 4 * 3 * 3);
        let mut again = generator(1, Purpose::Training, 2, 0);
        assert_eq!(again.next_u64(), generator(1, Purpose::Training, 2, 0).next_u64());
    }
}
