//! The identity root's list of who may be in a cohort during an epoch, and the lottery that picks who may join a period.
//! Must never let anybody but the root and the hash decide who is eligible.
//!
//! A server that picks its cohorts could fill one with colluders. With a roster it cannot: membership is proved against a
//! root that the identity root signed, and [`eligible`] is a hash of that root, the period and the client's number. The
//! numbers are drawn by the root before the period is known, so nobody, the server included, can aim them.

use super::{ClientId, IdentityRoot, PublicKey, Signature};
use crate::Digest;
use crate::context::Fields;
use crate::merkle::{self, Tree};

/// The clients of an epoch, strictly increasing, and the tree over their numbers.
#[derive(Clone, Debug)]
pub struct Roster {
    clients: Vec<ClientId>,
    tree: Tree,
}

impl Roster {
    /// Over these clients, in any order.
    #[must_use]
    pub fn new(mut clients: Vec<ClientId>) -> Self {
        clients.sort_unstable();
        clients.dedup();
        let tree = Tree::new(clients.iter().map(|client| leaf(*client)).collect());
        Self { clients, tree }
    }

    /// The clients, strictly increasing.
    #[must_use]
    pub fn clients(&self) -> &[ClientId] {
        &self.clients
    }

    /// Root of the Merkle tree whose leaves are the clients' numbers, eight bytes each, big-endian.
    #[must_use]
    pub fn root(&self) -> Digest {
        self.tree.root()
    }

    /// Proves that a client is listed; none if it is not.
    #[must_use]
    pub fn prove(&self, client: ClientId) -> Option<Membership> {
        let index = self.clients.binary_search(&client).ok()?;
        Some(Membership { index: index as u64, path: self.tree.path(index) })
    }
}

fn leaf(client: ClientId) -> Digest {
    merkle::leaf(&client.0.to_be_bytes())
}

/// A proof that a client is on a roster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Membership {
    /// The client's place among the roster's clients, from 0.
    pub index: u64,
    /// Siblings from its leaf up to the root, nearest first.
    pub path: Vec<Digest>,
}

/// The root's statement of who is on an epoch's roster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedRoster {
    /// Number of the epoch. The identity root signs one roster for each.
    pub epoch: u64,
    /// [`Roster::root`].
    pub root: Digest,
    /// How many clients are listed.
    pub size: u64,
    /// First second of the epoch, Unix time.
    pub not_before: u64,
    /// Last second of the epoch, Unix time.
    pub not_after: u64,
    /// The identity root's signature over all of the above.
    pub signature: Signature,
}

/// A roster, or a client's place on it, that proves nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RosterError {
    /// The signature does not verify.
    #[error("the identity root's signature on the roster of epoch {epoch} does not verify")]
    Signature {
        /// Its epoch.
        epoch: u64,
    },
    /// Not yet, or no longer.
    #[error(
        "the roster of epoch {epoch} holds from {not_before} to {not_after}, not at {now}: use the roster of the present epoch"
    )]
    Time {
        /// Its epoch.
        epoch: u64,
        /// Its first second.
        not_before: u64,
        /// Its last second.
        not_after: u64,
        /// The time of the check.
        now: u64,
    },
    /// The path does not lead to the roster's root.
    #[error("it is not proved that client {client} is on the roster of epoch {epoch}")]
    Membership {
        /// The client.
        client: ClientId,
        /// The roster's epoch.
        epoch: u64,
    },
}

impl IdentityRoot {
    /// Signs a roster for the seconds from `not_before` to `not_after`, both included.
    #[must_use]
    pub fn sign_roster(&self, epoch: u64, roster: &Roster, not_before: u64, not_after: u64) -> SignedRoster {
        let mut signed = SignedRoster {
            epoch,
            root: roster.root(),
            size: roster.clients.len() as u64,
            not_before,
            not_after,
            signature: Signature([0; 64]),
        };
        signed.signature = self.sign(&signed.payload());
        signed
    }
}

impl SignedRoster {
    /// The bytes that the root signs.
    #[must_use]
    pub fn payload(&self) -> Vec<u8> {
        Fields::new("roster")
            .integer(self.epoch)
            .bytes(&self.root)
            .integer(self.size)
            .integer(self.not_before)
            .integer(self.not_after)
            .into_bytes()
    }

    /// Checks the roster against the organisation's root at a time, in Unix seconds.
    ///
    /// # Errors
    /// [`RosterError::Signature`], [`RosterError::Time`].
    pub fn verify(&self, root: &PublicKey, now: u64) -> Result<(), RosterError> {
        let Self { epoch, not_before, not_after, .. } = *self;
        if !root.verify(&self.payload(), &self.signature) {
            return Err(RosterError::Signature { epoch });
        }
        if !(not_before..=not_after).contains(&now) {
            return Err(RosterError::Time { epoch, not_before, not_after, now });
        }
        Ok(())
    }

    /// Checks that a client is listed. The roster itself must have been verified.
    ///
    /// # Errors
    /// [`RosterError::Membership`].
    pub fn verify_member(&self, client: ClientId, proof: &Membership) -> Result<(), RosterError> {
        let places = usize::try_from(proof.index).ok().zip(usize::try_from(self.size).ok());
        let root =
            places.and_then(|(index, size)| merkle::root_from_path(&leaf(client), index, size, &proof.path));
        if root == Some(self.root) {
            Ok(())
        } else {
            Err(RosterError::Membership { client, epoch: self.epoch })
        }
    }
}

/// The share q of a roster that may join a period: one more than this many parts of 2^-64, so that it is in (0, 1].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rate(u64);

impl Rate {
    /// Everybody.
    pub const ONE: Self = Self(u64::MAX);

    /// `part / whole`, rounded down to a part of 2^-64; none unless `0 < part <= whole`.
    #[must_use]
    pub fn new(part: u64, whole: u64) -> Option<Self> {
        if part == 0 || part > whole {
            return None;
        }
        // At least 1, since whole < 2^64, and at most 2^64.
        let parts = (u128::from(part) << 64) / u128::from(whole);
        Some(Self(u64::try_from(parts - 1).unwrap_or(u64::MAX)))
    }

    /// Whether a digest, read as a big-endian integer, is below q 2^256.
    fn admits(self, digest: &Digest) -> bool {
        // q 2^256 is a multiple of 2^192, so the first eight bytes decide: they must be below q 2^64.
        let first = digest.first_chunk().map_or(u64::MAX, |bytes| u64::from_be_bytes(*bytes));
        first <= self.0
    }
}

/// Whether a client on a roster may join a period: SHA-256 over roster root, period and client is below q 2^256.
#[must_use]
pub fn eligible(roster_root: &Digest, period: u64, client: ClientId, rate: Rate) -> bool {
    rate.admits(&ticket(roster_root, period, client))
}

/// A client's draw in a period.
pub(crate) fn ticket(roster_root: &Digest, period: u64, client: ClientId) -> Digest {
    Fields::new("eligible").bytes(roster_root).integer(period).integer(client.0).digest()
}

#[cfg(test)]
mod tests {
    use super::{ClientId, IdentityRoot, Membership, Rate, Roster, RosterError, SignedRoster, eligible};
    use rand_chacha::ChaCha20Rng;
    use rand_core::SeedableRng as _;

    fn clients(count: u64) -> Vec<ClientId> {
        (0..count).rev().map(|i| ClientId(i * 7 + 3)).collect()
    }

    #[test]
    fn every_member_and_nobody_else_is_proved() {
        let root = IdentityRoot::generate(&mut ChaCha20Rng::seed_from_u64(1));
        for count in [1, 2, 3, 13, 64] {
            let roster = Roster::new(clients(count));
            let signed = root.sign_roster(4, &roster, 100, 200);
            assert_eq!(signed.size, count);
            let first = roster.prove(ClientId(3)).expect("listed");
            for client in roster.clients() {
                let proof = roster.prove(*client).expect("listed");
                assert_eq!(signed.verify_member(*client, &proof), Ok(()));
                let stranger = ClientId(client.0 + 1);
                assert_eq!(roster.prove(stranger), None);
                let refused = Err(RosterError::Membership { client: stranger, epoch: 4 });
                assert_eq!(signed.verify_member(stranger, &proof), refused);
                let outside = Membership { index: count, ..proof.clone() };
                assert!(signed.verify_member(*client, &outside).is_err());
                if *client != ClientId(3) {
                    assert!(signed.verify_member(*client, &first).is_err());
                }
            }
        }
        let empty = root.sign_roster(1, &Roster::new(vec![]), 0, 9);
        let proof = Membership { index: 0, path: vec![] };
        assert!(empty.verify_member(ClientId(3), &proof).is_err());
    }

    #[test]
    fn a_roster_holds_for_its_root_and_epoch_only() {
        let mut rng = ChaCha20Rng::seed_from_u64(2);
        let (root, other) = (IdentityRoot::generate(&mut rng), IdentityRoot::generate(&mut rng));
        let signed = root.sign_roster(4, &Roster::new(clients(5)), 100, 200);
        let public = root.public_key();
        for (now, valid) in [(99, false), (100, true), (200, true), (201, false)] {
            assert_eq!(signed.verify(&public, now).is_ok(), valid, "{now}");
        }
        let refused = Err(RosterError::Signature { epoch: 4 });
        assert_eq!(signed.verify(&other.public_key(), 150), refused);
        let forged = [
            SignedRoster { root: [1; 32], ..signed.clone() },
            SignedRoster { size: 6, ..signed.clone() },
            SignedRoster { not_before: 0, ..signed.clone() },
            SignedRoster { not_after: 300, ..signed.clone() },
        ];
        for forged in forged {
            assert_eq!(forged.verify(&public, 150), refused);
        }
        let later = SignedRoster { epoch: 5, ..signed };
        assert_eq!(later.verify(&public, 150), Err(RosterError::Signature { epoch: 5 }));
    }

    #[test]
    fn the_lottery_is_fair_fixed_and_fresh_each_period() {
        let everyone = clients(4_000);
        let root = Roster::new(everyone.clone()).root();
        let tenth = Rate::new(1, 10).expect("a rate");
        let drawn = |period, rate| -> Vec<_> {
            everyone.iter().filter(|client| eligible(&root, period, **client, rate)).collect()
        };
        let (first, second) = (drawn(1, tenth), drawn(2, tenth));
        for drawn in [&first, &second] {
            // Binomial, mean 400, standard deviation 19.
            assert!((324..=476).contains(&drawn.len()), "{}", drawn.len());
        }
        let both = first.iter().filter(|client| second.contains(client)).count();
        assert!((10..=80).contains(&both), "{both}");
        let wider = drawn(1, Rate::new(2, 10).expect("a rate"));
        assert!(first.iter().all(|client| wider.contains(client)), "a higher rate admits the same and more");
        assert_eq!(drawn(1, Rate::ONE).len(), 4_000);
        assert!(drawn(1, Rate::new(1, u64::MAX).expect("a rate")).is_empty());
    }

    #[test]
    fn a_rate_is_exact_at_its_bound() {
        let digest = |first: u64| {
            let mut digest = [0xff; 32];
            digest[..8].copy_from_slice(&first.to_be_bytes());
            digest
        };
        let half = Rate::new(1, 2).expect("a rate");
        assert!(half.admits(&digest((1 << 63) - 1)) && !half.admits(&digest(1 << 63)));
        assert!(Rate::ONE.admits(&[0xff; 32]));
        assert_eq!(Rate::new(7, 7), Some(Rate::ONE));
        assert_eq!((Rate::new(0, 7), Rate::new(8, 7)), (None, None));
        assert!(!Rate::new(u64::MAX - 1, u64::MAX).expect("a rate").admits(&[0xff; 32]));
    }
}
