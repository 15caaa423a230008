//! The identity root's list of who may be in a cohort during an epoch, and the lottery that picks who may join a period.
//! Must never let anybody but the root and the hash decide who is eligible.
//!
//! A server that picks its cohorts could fill one with colluders. With a roster it cannot: membership is proved against a
//! root that the identity root signed, and [`SignedRoster::draws`] is a hash of that signed statement, the period and the
//! client's number. The statement holds 32 bytes that the root draws when the list is fixed, and everything else that the
//! draws depend on, so nobody, the server included, can aim them.

use super::{ClientId, IdentityRoot, PublicKey, Signature};
use crate::Digest;
use crate::context::Fields;
use crate::merkle::{self, Tree};
use serde::{Deserialize, Serialize};
use std::num::NonZeroU64;

/// Seconds by which a client's clock may differ from the server's: so much before a period begins and after it ends a client
/// still joins it. Every period of an epoch is counted against the colluders, so this gives nobody a draw more.
pub const CLOCK_SLACK: u64 = 300;

/// Most siblings in a proof of membership: a roster has fewer than 2^64 clients.
pub const MAX_MEMBERSHIP_PATH: usize = 64;

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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Membership {
    /// The client's place among the roster's clients, from 0.
    pub index: u64,
    /// Siblings from its leaf up to the root, nearest first.
    pub path: Vec<Digest>,
}

/// What the root fixes about an epoch beside its members, once they are known and before anybody can know how the draws fall.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochTerms {
    /// Number of the epoch. The identity root signs one roster for each.
    pub number: u64,
    /// First second of the epoch, Unix time.
    pub not_before: u64,
    /// Last second of the epoch, Unix time.
    pub not_after: u64,
    /// Length of a period in seconds; the first begins with the epoch.
    pub period_seconds: NonZeroU64,
    /// q, the share of the roster that is drawn in a period.
    pub rate: Rate,
    /// Drawn at random when the list is signed, so that who is on the list cannot be chosen by how the draws would fall.
    pub seed: Digest,
}

impl EpochTerms {
    /// Periods of the epoch, each of which is one draw; the last may be cut short by the epoch's end.
    #[must_use]
    pub fn periods(&self) -> u64 {
        let last = self.not_after.saturating_sub(self.not_before);
        (last / self.period_seconds).saturating_add(1)
    }

    /// The period of a Unix second: the first before the epoch begins, the last after its end.
    #[must_use]
    pub fn period_at(&self, now: u64) -> u64 {
        now.min(self.not_after).saturating_sub(self.not_before) / self.period_seconds
    }
}

/// The root's statement of who is on an epoch's roster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedRoster {
    /// The epoch, and how its draws are made.
    pub epoch: EpochTerms,
    /// [`Roster::root`].
    pub root: Digest,
    /// How many clients are listed.
    pub size: u64,
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
    /// Another period than the present one.
    #[error(
        "the cohort is drawn for period {period} of epoch {epoch}, but it is period {present} by this machine's clock: \
         the coordinator may not choose the period; if the clock is wrong, set it"
    )]
    Period {
        /// The roster's epoch.
        epoch: u64,
        /// The period in the plan.
        period: u64,
        /// The period of the check.
        present: u64,
    },
    /// No proof where one is due.
    #[error("client {client} does not prove that it is on the roster of epoch {epoch}")]
    NoProof {
        /// The client.
        client: ClientId,
        /// The roster's epoch.
        epoch: u64,
    },
    /// The path does not lead to the roster's root.
    #[error("it is not proved that client {client} is on the roster of epoch {epoch}")]
    Membership {
        /// The client.
        client: ClientId,
        /// The roster's epoch.
        epoch: u64,
    },
    /// The lottery has not picked the client.
    #[error("client {client} is not drawn in period {period} of epoch {epoch}: it may be in a later one")]
    NotDrawn {
        /// The client.
        client: ClientId,
        /// The period.
        period: u64,
        /// The roster's epoch.
        epoch: u64,
    },
    /// An epoch before one that was seen.
    #[error(
        "the roster is of epoch {epoch}, and this client has seen epoch {newest}: the coordinator may not go back to earlier draws"
    )]
    Earlier {
        /// Its epoch.
        epoch: u64,
        /// The newest that was seen.
        newest: u64,
    },
    /// Two rosters of one epoch.
    #[error(
        "this is another roster of epoch {epoch} than this client has seen, both signed by the identity root: its folder was used          in two copies; have the next epoch signed"
    )]
    Second {
        /// Its epoch.
        epoch: u64,
    },
    /// A proof where no roster is demanded.
    #[error("client {client} proves its place on a roster, but the plan demands none")]
    NotDemanded {
        /// The client.
        client: ClientId,
    },
}

impl IdentityRoot {
    /// Signs a roster for an epoch, whose seed must be drawn afresh for it.
    #[must_use]
    pub fn sign_roster(&self, roster: &Roster, epoch: EpochTerms) -> SignedRoster {
        let (root, size) = (roster.root(), roster.clients.len() as u64);
        let mut signed = SignedRoster { epoch, root, size, signature: Signature([0; 64]) };
        signed.signature = self.sign(&signed.payload());
        signed
    }
}

impl SignedRoster {
    fn fields(&self) -> Fields {
        let EpochTerms { number, not_before, not_after, period_seconds, rate, seed } = &self.epoch;
        Fields::new("roster")
            .integer(*number)
            .bytes(&self.root)
            .integer(self.size)
            .integer(*not_before)
            .integer(*not_after)
            .integer(period_seconds.get())
            .integer(rate.parts())
            .bytes(seed)
    }

    /// The bytes that the root signs.
    #[must_use]
    pub fn payload(&self) -> Vec<u8> {
        self.fields().into_bytes()
    }

    /// SHA-256 of [`Self::payload`], from which the draws are made.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.fields().digest()
    }

    /// Checks the roster against the organisation's root at a time, in Unix seconds.
    ///
    /// # Errors
    /// [`RosterError::Signature`], [`RosterError::Time`].
    pub fn verify(&self, root: &PublicKey, now: u64) -> Result<(), RosterError> {
        let EpochTerms { number: epoch, not_before, not_after, .. } = self.epoch;
        if !root.verify(&self.payload(), &self.signature) {
            return Err(RosterError::Signature { epoch });
        }
        if !(not_before..=not_after).contains(&now) {
            return Err(RosterError::Time { epoch, not_before, not_after, now });
        }
        Ok(())
    }

    /// Checks that a period is the one of a time, in Unix seconds, give or take [`CLOCK_SLACK`].
    ///
    /// # Errors
    /// [`RosterError::Period`].
    pub fn check_period(&self, period: u64, now: u64) -> Result<(), RosterError> {
        let at = |now| self.epoch.period_at(now);
        if (at(now.saturating_sub(CLOCK_SLACK))..=at(now.saturating_add(CLOCK_SLACK))).contains(&period) {
            return Ok(());
        }
        Err(RosterError::Period { epoch: self.epoch.number, period, present: at(now) })
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
            Err(RosterError::Membership { client, epoch: self.epoch.number })
        }
    }

    /// Whether a client may join a period: SHA-256 over the roster's digest, the period and the client is below q 2^256.
    #[must_use]
    pub fn draws(&self, period: u64, client: ClientId) -> bool {
        self.epoch.rate.admits(&ticket(&self.digest(), period, client))
    }
}

/// The newest epoch that a client was drawn in. Remembered, it keeps a coordinator, and a clock that is set back, from leading the
/// client to draws of an earlier one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewestEpoch {
    /// Whose epoch it is: another root numbers its own.
    root: PublicKey,
    number: u64,
    /// [`SignedRoster::digest`].
    roster: Digest,
}

impl NewestEpoch {
    /// What is to be remembered after `known`, once a roster of `root` has been verified.
    ///
    /// # Errors
    /// [`RosterError::Earlier`], [`RosterError::Second`].
    pub fn follow(
        known: Option<&Self>,
        roster: &SignedRoster,
        root: &PublicKey,
    ) -> Result<Self, RosterError> {
        let (epoch, digest) = (roster.epoch.number, roster.digest());
        if let Some(known) = known.filter(|known| known.root == *root) {
            if epoch < known.number {
                return Err(RosterError::Earlier { epoch, newest: known.number });
            }
            if epoch == known.number && digest != known.roster {
                return Err(RosterError::Second { epoch });
            }
        }
        Ok(Self { root: *root, number: epoch, roster: digest })
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

    /// q in parts of 2^-64, less one: [`Self::ONE`] is 2^64 - 1.
    #[must_use]
    pub fn parts(self) -> u64 {
        self.0
    }

    /// From [`Self::parts`].
    #[must_use]
    pub fn from_parts(parts: u64) -> Self {
        Self(parts)
    }

    /// Whether a digest, read as a big-endian integer, is below q 2^256.
    fn admits(self, digest: &Digest) -> bool {
        // q 2^256 is a multiple of 2^192, so the first eight bytes decide: they must be below q 2^64.
        let first = digest.first_chunk().map_or(u64::MAX, |bytes| u64::from_be_bytes(*bytes));
        first <= self.0
    }
}

/// A client's draw in a period.
pub(crate) fn ticket(roster: &Digest, period: u64, client: ClientId) -> Digest {
    Fields::new("eligible").bytes(roster).integer(period).integer(client.0).digest()
}

#[cfg(test)]
pub(crate) mod tests_support {
    use super::{EpochTerms, NonZeroU64, Rate};

    /// An epoch of 1,000 seconds from second 100 on, with periods of 300 seconds.
    pub(crate) fn epoch(number: u64, rate: Rate) -> EpochTerms {
        let period_seconds = NonZeroU64::new(300).expect("not zero");
        EpochTerms { number, not_before: 100, not_after: 1_099, period_seconds, rate, seed: [9; 32] }
    }
}

#[cfg(test)]
mod tests {
    use super::tests_support::epoch;
    use super::{
        CLOCK_SLACK, ClientId, EpochTerms, IdentityRoot, Membership, NewestEpoch, NonZeroU64, PublicKey,
        Rate, Roster, RosterError, SignedRoster,
    };
    use rand_chacha::ChaCha20Rng;
    use rand_core::SeedableRng as _;

    fn clients(count: u64) -> Vec<ClientId> {
        (0..count).rev().map(|i| ClientId(i * 7 + 3)).collect()
    }

    fn root(seed: u64) -> IdentityRoot {
        IdentityRoot::generate(&mut ChaCha20Rng::seed_from_u64(seed))
    }

    #[test]
    fn every_member_and_nobody_else_is_proved() {
        for count in [1, 2, 3, 13, 64] {
            let roster = Roster::new(clients(count));
            let signed = root(1).sign_roster(&roster, epoch(4, Rate::ONE));
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
        let empty = root(1).sign_roster(&Roster::new(vec![]), epoch(1, Rate::ONE));
        let proof = Membership { index: 0, path: vec![] };
        assert!(empty.verify_member(ClientId(3), &proof).is_err());
    }

    #[test]
    fn a_roster_holds_for_its_root_and_epoch_only() {
        let signed = root(2).sign_roster(&Roster::new(clients(5)), epoch(4, Rate::ONE));
        let public = root(2).public_key();
        for (now, valid) in [(99, false), (100, true), (1_099, true), (1_100, false)] {
            assert_eq!(signed.verify(&public, now).is_ok(), valid, "{now}");
        }
        let refused = Err(RosterError::Signature { epoch: 4 });
        assert_eq!(signed.verify(&root(3).public_key(), 150), refused);
        let with = |change: fn(&mut EpochTerms)| {
            let mut forged = signed.clone();
            change(&mut forged.epoch);
            forged
        };
        let forged = [
            SignedRoster { root: [1; 32], ..signed.clone() },
            SignedRoster { size: 6, ..signed.clone() },
            with(|epoch| epoch.not_before = 0),
            with(|epoch| epoch.not_after = 3_000),
            with(|epoch| epoch.period_seconds = NonZeroU64::MIN),
            with(|epoch| epoch.rate = Rate::from_parts(7)),
            with(|epoch| epoch.seed[31] ^= 1),
        ];
        for forged in forged {
            assert_eq!(forged.verify(&public, 150), refused);
            assert_ne!(forged.digest(), signed.digest());
        }
        let later = with(|epoch| epoch.number = 5);
        assert_eq!(later.verify(&public, 150), Err(RosterError::Signature { epoch: 5 }));
    }

    #[test]
    fn nobody_is_led_back_to_an_earlier_epoch() {
        let sign = |by: u64, number, seed| {
            let terms = EpochTerms { seed: [seed; 32], ..epoch(number, Rate::ONE) };
            (root(by).sign_roster(&Roster::new(clients(5)), terms), root(by).public_key())
        };
        let follow = |known: Option<&NewestEpoch>, (roster, root): &(SignedRoster, PublicKey)| {
            NewestEpoch::follow(known, roster, root)
        };
        let fourth = follow(None, &sign(1, 4, 1)).expect("the first");
        assert_eq!(follow(Some(&fourth), &sign(1, 4, 1)), Ok(fourth), "the same again");
        assert_eq!(follow(Some(&fourth), &sign(1, 4, 2)), Err(RosterError::Second { epoch: 4 }));
        let sixth = follow(Some(&fourth), &sign(1, 6, 1)).expect("a later one");
        assert_eq!(follow(Some(&sixth), &sign(1, 5, 1)), Err(RosterError::Earlier { epoch: 5, newest: 6 }));
        // A client that enrols with another root begins anew: nobody is locked out for good.
        assert!(follow(Some(&sixth), &sign(2, 1, 1)).is_ok());
    }

    #[test]
    fn the_clock_says_which_period_it_is() {
        let terms = epoch(4, Rate::ONE);
        assert_eq!(terms.periods(), 4);
        for (now, period) in [(0, 0), (100, 0), (399, 0), (400, 1), (1_000, 3), (1_099, 3), (9_999, 3)] {
            assert_eq!(terms.period_at(now), period, "{now}");
        }
        let exact = EpochTerms { not_after: 999, ..terms };
        assert_eq!((exact.periods(), exact.period_at(999)), (3, 2));

        let long = EpochTerms {
            period_seconds: NonZeroU64::new(3_600).expect("not zero"),
            not_after: 99_999,
            ..terms
        };
        let signed = root(2).sign_roster(&Roster::new(clients(5)), long);
        let starts = 100 + 2 * 3_600;
        for (now, admitted) in [
            (starts - CLOCK_SLACK - 1, false),
            (starts - CLOCK_SLACK, true),
            (starts, true),
            (starts + 3_599 + CLOCK_SLACK, true),
            (starts + 3_600 + CLOCK_SLACK, false),
        ] {
            assert_eq!(signed.check_period(2, now).is_ok(), admitted, "{now}");
        }
        let refused = Err(RosterError::Period { epoch: 4, period: 7, present: 2 });
        assert_eq!(signed.check_period(7, starts), refused);
    }

    #[test]
    fn the_lottery_is_fair_fixed_and_fresh_each_period_and_seed() {
        let roster = Roster::new(clients(4_000));
        let draw = |terms, period| -> Vec<ClientId> {
            let signed = root(1).sign_roster(&roster, terms);
            roster.clients().iter().copied().filter(|client| signed.draws(period, *client)).collect()
        };
        let tenth = epoch(1, Rate::new(1, 10).expect("a rate"));
        let reseeded = EpochTerms { seed: [8; 32], ..tenth };
        let (first, second, other) = (draw(tenth, 1), draw(tenth, 2), draw(reseeded, 1));
        for drawn in [&first, &second, &other] {
            // Binomial, mean 400, standard deviation 19.
            assert!((324..=476).contains(&drawn.len()), "{}", drawn.len());
        }
        for another in [&second, &other] {
            let both = first.iter().filter(|client| another.contains(client)).count();
            assert!((10..=80).contains(&both), "{both}");
        }
        assert_eq!(draw(tenth, 1), first);
        assert_eq!(draw(epoch(1, Rate::ONE), 1).len(), 4_000);
        assert!(draw(epoch(1, Rate::from_parts(0)), 1).is_empty());
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
        assert_eq!(Rate::from_parts(half.parts()), half);
    }
}
