//! The public record of every release: an append-only chain in which each entry commits to all before it.
//! Must never let an entry be changed, dropped or reordered without the head changing.

mod encoding;
pub mod head;
pub mod tree;

use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::accountant::{AccountantError, RdpCurve, epsilon_spent};
use crate::central::AdaptiveClip;
use crate::number::shortest;
use crate::round_mechanism::RoundMechanism;

/// A SHA-256 digest.
pub type Hash = [u8; 32];

/// Head of a ledger without entries.
pub const EMPTY_HEAD: Hash = [0; 32];

/// What one round released and what it cost.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Record {
    /// Number of the round; increases from entry to entry.
    pub round: u64,
    /// Digest of the signed plan.
    pub plan_digest: Hash,
    /// The mechanism and its parameters as they were used.
    pub mechanism: RoundMechanism,
    /// The noised sum of the clip bits, released beside the updates' where the clip norm adapts: +1 for each
    /// update that was not clipped, -1 for each that was.
    pub clip_bits: Option<i32>,
    /// Clients whose updates are in the released sum.
    pub survivors: u32,
    /// Root over the bitmap of participants.
    pub participants_root: Hash,
    /// The largest epsilon over clients after this round, each composed over the rounds that it joined.
    pub epsilon: f64,
    /// The delta at which epsilon is stated.
    pub delta: f64,
    /// Digest of the published adapter.
    pub adapter_digest: Hash,
}

impl Record {
    /// The privacy cost of this round alone, recomputed from the mechanism.
    ///
    /// # Errors
    /// As [`RoundMechanism::cost`].
    pub fn cost(&self) -> Result<RdpCurve, AccountantError> {
        self.mechanism.cost(self.survivors)
    }

    /// The clip norm of the round after this one, under the rule that this one followed; none where the norm
    /// stays.
    #[must_use]
    pub fn next_clip(&self) -> Option<(&AdaptiveClip, f64)> {
        let rule = self.mechanism.central()?.adaptive_clip()?;
        Some((rule, rule.next_clip(self.mechanism.clip(), self.clip_bits?, self.survivors)))
    }
}

/// A [`Record`] in its place in the chain.
///
/// Stored and exchanged as the bytes of [`Self::encode`]. `Serialize` is for people to read: text may lose
/// the last bit of a real number, and with it the hash.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Entry {
    /// What happened.
    pub record: Record,
    /// Hash of the entry before, or [`EMPTY_HEAD`].
    pub previous: Hash,
}

impl Entry {
    /// SHA-256 of [`Self::encode`].
    #[must_use]
    pub fn hash(&self) -> Hash {
        Sha256::digest(self.encode()).into()
    }
}

/// Why a chain or an entry was refused.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum LedgerError {
    /// An entry does not commit to the one before it.
    #[error(
        "entry {position} (round {round}) does not follow the entry before it: something was changed, \
         dropped or inserted"
    )]
    BrokenLink {
        /// Place of the entry, from 0.
        position: usize,
        /// Its round.
        round: u64,
    },
    /// A round does not come after the one before it.
    #[error("entry {position} records round {round} after round {before}; rounds must increase")]
    RoundNotAfter {
        /// Place of the entry, from 0.
        position: usize,
        /// Its round.
        round: u64,
        /// The round of the entry before.
        before: u64,
    },
    /// The chain is sound but does not end in the head that was promised.
    #[error(
        "the chain of {entries} entries ends in another head than the signed one: it was truncated, extended \
         or replaced"
    )]
    HeadMismatch {
        /// Entries in the chain.
        entries: usize,
    },
    /// Fewer survivors than the mechanism's minimum, or more than its cohort.
    #[error("entry {position} (round {round}) cannot have been released: {reason}")]
    NotReleasable {
        /// Place of the entry, from 0.
        position: usize,
        /// Its round.
        round: u64,
        /// What its survivors break.
        reason: AccountantError,
    },
    /// Epsilon or delta is not a number that a guarantee can have.
    #[error(
        "entry {position} (round {round}) states epsilon {} at delta {}; epsilon must be finite \
         and not negative, delta between 0 and 1",
        shortest(*epsilon),
        shortest(*delta)
    )]
    InvalidBudget {
        /// Place of the entry, from 0.
        position: usize,
        /// Its round.
        round: u64,
        /// The epsilon stated.
        epsilon: f64,
        /// The delta stated.
        delta: f64,
    },
    /// An entry states less than the round alone costs.
    #[error(
        "entry {position} (round {round}) states epsilon {}, but this round alone costs {} at delta {}; state what \
         `epsilon_spent` gives",
        shortest(*epsilon),
        shortest(*cost),
        shortest(*delta)
    )]
    Understated {
        /// Place of the entry, from 0.
        position: usize,
        /// Its round.
        round: u64,
        /// The epsilon stated.
        epsilon: f64,
        /// The delta stated.
        delta: f64,
        /// The round's own epsilon.
        cost: f64,
    },
    /// Clip bits where none are counted, none where they are, or more than the ring holds.
    #[error(
        "entry {position} (round {round}) states {found:?} as the sum of its clip bits, which its mechanism \
         cannot have released"
    )]
    ClipBits {
        /// Place of the entry, from 0.
        position: usize,
        /// Its round.
        round: u64,
        /// What it states.
        found: Option<i32>,
    },
    /// The clip norm does not follow from the entry before, whose rule the entry keeps.
    #[error(
        "entry {position} (round {round}) clips to {found}, but {due} follows from the entry before by the \
         same rule of adaptation"
    )]
    Clip {
        /// Place of the entry, from 0.
        position: usize,
        /// Its round.
        round: u64,
        /// Its clip norm.
        found: f64,
        /// The clip norm that is due.
        due: f64,
    },
    /// The bytes of an entry are not in canonical form.
    #[error("the encoded entry is damaged at byte {offset}: {problem}")]
    Malformed {
        /// Where decoding stopped.
        offset: usize,
        /// What is wrong there.
        problem: String,
    },
}

/// An append-only ledger.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ledger {
    entries: Vec<Entry>,
}

impl Ledger {
    /// A ledger without entries.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A ledger of existing entries, verified.
    ///
    /// # Errors
    /// As [`verify`].
    pub fn from_entries(entries: Vec<Entry>) -> Result<Self, LedgerError> {
        verify(&entries)?;
        Ok(Self { entries })
    }

    /// Appends what happened, and returns the entry.
    ///
    /// # Errors
    /// [`LedgerError`] when no verifier would accept the entry; the ledger is then unchanged.
    pub fn append(&mut self, record: Record) -> Result<&Entry, LedgerError> {
        let entry = Entry { record, previous: self.head() };
        check(self.entries.len(), self.entries.last(), entry.previous, &entry)?;
        self.entries.push(entry);
        Ok(&self.entries[self.entries.len() - 1])
    }

    /// Hash of the last entry, which commits to all; [`EMPTY_HEAD`] for none.
    #[must_use]
    pub fn head(&self) -> Hash {
        self.entries.last().map_or(EMPTY_HEAD, Entry::hash)
    }

    /// The clip norm that the next round is due to have under `rule`; none when the last round did not follow
    /// that rule, so that the next may start anywhere.
    #[must_use]
    pub fn next_clip(&self, rule: &AdaptiveClip) -> Option<f64> {
        let (followed, clip) = self.entries.last()?.record.next_clip()?;
        (followed == rule).then_some(clip)
    }

    /// The entries, oldest first.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }
}

/// Verifies a whole chain from its beginning and returns its head.
///
/// Checks that every entry commits to the one before, that rounds increase, that each round could be released
/// with its survivors, that adaptive clip norms follow their rule, and that none states less epsilon than it
/// costs alone. A chain that ends early is
/// sound too: compare the head with a signed one, or use [`verify_against`].
///
/// # Errors
/// [`LedgerError`], naming the first bad entry.
pub fn verify(entries: &[Entry]) -> Result<Hash, LedgerError> {
    let (mut head, mut before) = (EMPTY_HEAD, None);
    for (position, entry) in entries.iter().enumerate() {
        check(position, before, head, entry)?;
        head = entry.hash();
        before = Some(entry);
    }
    Ok(head)
}

/// [`verify`], and that the chain ends in `head`.
///
/// # Errors
/// As [`verify`], and [`LedgerError::HeadMismatch`].
pub fn verify_against(entries: &[Entry], head: &Hash) -> Result<(), LedgerError> {
    if verify(entries)? == *head { Ok(()) } else { Err(LedgerError::HeadMismatch { entries: entries.len() }) }
}

/// Checks `entry` at `position`, after the entry `before` whose hash is `head`.
fn check(position: usize, before: Option<&Entry>, head: Hash, entry: &Entry) -> Result<(), LedgerError> {
    let &Record { round, epsilon, delta, .. } = &entry.record;
    if entry.previous != head {
        return Err(LedgerError::BrokenLink { position, round });
    }
    if let Some(before) = before.map(|entry| entry.record.round).filter(|before| *before >= round) {
        return Err(LedgerError::RoundNotAfter { position, round, before });
    }
    if !(epsilon.is_finite() && epsilon.is_sign_positive() && delta > 0.0 && delta < 1.0) {
        return Err(LedgerError::InvalidBudget { position, round, epsilon, delta });
    }
    check_clip(position, before, &entry.record)?;
    let not_releasable = |reason| LedgerError::NotReleasable { position, round, reason };
    let cost = entry.record.cost().map_err(not_releasable)?;
    let cost = epsilon_spent(&cost, delta, 1).map_err(not_releasable)?;
    // Another machine's logarithm may differ in its last bits.
    if epsilon < cost * (1.0 - 1e-9) {
        return Err(LedgerError::Understated { position, round, epsilon, delta, cost });
    }
    Ok(())
}

/// Checks the clip bits of a record, and its clip norm against the entry `before`.
fn check_clip(position: usize, before: Option<&Entry>, record: &Record) -> Result<(), LedgerError> {
    let (round, found) = (record.round, record.clip_bits);
    let rule = record.mechanism.central().and_then(|central| central.adaptive_clip());
    let half = 1_i32 << (record.mechanism.bits() - 1);
    if found.is_some() != rule.is_some() || found.is_some_and(|sum| !(-half..half).contains(&sum)) {
        return Err(LedgerError::ClipBits { position, round, found });
    }
    match (rule, before.and_then(|before| before.record.next_clip())) {
        (Some(rule), Some((followed, due))) if rule == followed && record.mechanism.clip() != due => {
            Err(LedgerError::Clip { position, round, found: record.mechanism.clip(), due })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::central::{CentralMechanism, CentralRequest};
    use crate::mechanism::{Adjacency, Mechanism, MechanismRequest, NoiseLaw};
    use crate::units::BasisPoints;

    const DELTA: f64 = 1e-5;

    fn record(round: u64) -> Record {
        let request = MechanismRequest {
            clients: 128,
            n_min: 103,
            corrupt: BasisPoints::new(500).unwrap(),
            dropout: BasisPoints::new(2_000).unwrap(),
            dimension: 6144,
            clip: 0.5,
            noise_multiplier: 2.0,
            adjacency: Adjacency::ZeroOut,
            noise_law: NoiseLaw::DiscreteGaussian,
        };
        let mechanism = Mechanism::build(&request).unwrap();
        let epsilon = RdpCurve::distributed(&mechanism, 110).unwrap();
        Record {
            round,
            plan_digest: [1; 32],
            mechanism: mechanism.into(),
            clip_bits: None,
            survivors: 110,
            participants_root: [2; 32],
            epsilon: epsilon_spent(&epsilon, DELTA, 1).unwrap(),
            delta: DELTA,
            adapter_digest: [3; 32],
        }
    }

    fn chain(length: u64) -> Ledger {
        let mut ledger = Ledger::new();
        for round in 1..=length {
            let before = ledger.head();
            let entry = ledger.append(record(round)).unwrap();
            assert_eq!(entry.previous, before);
            assert_ne!(ledger.head(), before);
        }
        ledger
    }

    #[test]
    fn a_chain_verifies_from_its_entries_alone() {
        assert_eq!(verify(&[]), Ok(EMPTY_HEAD));
        assert_eq!(Ledger::new().head(), EMPTY_HEAD);
        let ledger = chain(4);
        assert_eq!(verify(ledger.entries()), Ok(ledger.head()));
        assert_eq!(Ledger::from_entries(ledger.entries().to_vec()), Ok(ledger.clone()));
        assert_eq!(verify_against(ledger.entries(), &ledger.head()), Ok(()));
        assert_eq!(
            verify_against(&ledger.entries()[..3], &ledger.head()),
            Err(LedgerError::HeadMismatch { entries: 3 })
        );
    }

    #[test]
    fn every_change_to_an_earlier_entry_breaks_the_link() {
        let ledger = chain(3);
        let changes: [fn(&mut Record); 6] = [
            |record| record.plan_digest[31] ^= 1,
            |record| record.survivors += 1,
            |record| record.participants_root[0] ^= 128,
            |record| record.epsilon = record.epsilon.next_up(),
            |record| record.delta = record.delta.next_up(),
            |record| record.adapter_digest[7] ^= 16,
        ];
        for change in changes {
            let mut entries = ledger.entries().to_vec();
            change(&mut entries[1].record);
            assert_eq!(verify(&entries), Err(LedgerError::BrokenLink { position: 2, round: 3 }));
        }
        let mut dropped = ledger.entries().to_vec();
        dropped.remove(1);
        assert_eq!(verify(&dropped), Err(LedgerError::BrokenLink { position: 1, round: 3 }));
        let mut swapped = ledger.entries().to_vec();
        swapped.swap(0, 1);
        assert_eq!(verify(&swapped), Err(LedgerError::BrokenLink { position: 0, round: 2 }));
        assert_eq!(verify(&ledger.entries()[1..]), Err(LedgerError::BrokenLink { position: 0, round: 2 }));
    }

    #[test]
    fn what_no_verifier_accepts_is_not_appended() {
        let mut ledger = chain(2);
        let before = ledger.clone();
        let mut refuse = |change: fn(&mut Record)| {
            let mut next = record(3);
            change(&mut next);
            let error = ledger.append(next).unwrap_err();
            assert_eq!(ledger, before);
            error
        };
        assert_eq!(refuse(|r| r.round = 2), LedgerError::RoundNotAfter { position: 2, round: 2, before: 2 });
        assert!(matches!(refuse(|r| r.survivors = 102), LedgerError::NotReleasable { .. }));
        assert!(matches!(refuse(|r| r.survivors = 129), LedgerError::NotReleasable { .. }));
        assert!(matches!(refuse(|r| r.epsilon = f64::NAN), LedgerError::InvalidBudget { .. }));
        assert!(matches!(refuse(|r| r.epsilon = -1.0), LedgerError::InvalidBudget { .. }));
        assert!(matches!(refuse(|r| r.epsilon = -0.0), LedgerError::InvalidBudget { .. }));
        assert!(matches!(refuse(|r| r.delta = 0.0), LedgerError::InvalidBudget { .. }));
        assert!(matches!(refuse(|r| r.epsilon *= 0.999), LedgerError::Understated { .. }));
    }

    #[test]
    fn the_encoding_is_canonical() {
        let entry = chain(2).entries()[1].clone();
        let bytes = entry.encode();
        assert_eq!(Entry::decode(&bytes), Ok(entry.clone()));
        assert!(bytes.starts_with(b"\0\0\0\x0ftacit/ledger/v1\0\0\0\x08"));
        for length in 0..bytes.len() {
            let error = Entry::decode(&bytes[..length]).unwrap_err();
            assert!(matches!(error, LedgerError::Malformed { .. }), "cut to {length}: {error}");
        }
        let mut longer = bytes.clone();
        longer.push(0);
        assert!(matches!(Entry::decode(&longer), Err(LedgerError::Malformed { .. })));
        // A changed byte either is refused or is another entry: no two encodings of the same one.
        let mut differing = 0;
        for place in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[place] ^= 1;
            if let Ok(other) = Entry::decode(&changed) {
                assert_ne!(other, entry, "byte {place} does not matter");
                assert_eq!(other.encode(), changed, "byte {place}");
                differing += 1;
            }
        }
        assert!(differing > 32 * 4, "digests may hold any bytes: {differing}");
    }

    #[test]
    fn the_noise_law_is_bound_by_the_entry() {
        let mut ledger = chain(1);
        let mut skellam = record(2);
        let RoundMechanism::Distributed(before) = &skellam.mechanism else { unreachable!() };
        let request = MechanismRequest { noise_law: NoiseLaw::Skellam, ..before.request().clone() };
        let mechanism = Mechanism::build(&request).unwrap();
        let (bits, scale) = (mechanism.bits(), mechanism.scale());
        skellam.mechanism = mechanism.into();
        skellam.epsilon = epsilon_spent(&skellam.cost().unwrap(), DELTA, 1).unwrap();
        let entry = ledger.append(skellam.clone()).unwrap().clone();
        assert_eq!(verify(ledger.entries()), Ok(ledger.head()));
        let bytes = entry.encode();
        assert!(bytes.starts_with(b"\0\0\0\x17tacit/ledger/skellam/v1"));
        assert_eq!(Entry::decode(&bytes), Ok(entry));
        // The same numbers under the other law are another entry.
        let mut gaussian = skellam.clone();
        let request = MechanismRequest { noise_law: NoiseLaw::DiscreteGaussian, ..request };
        gaussian.mechanism = Mechanism::with_encoding(&request, bits, scale).unwrap().into();
        let entries = [gaussian, skellam].map(|record| Entry { record, previous: EMPTY_HEAD });
        assert_ne!(entries[0].hash(), entries[1].hash());
    }

    #[test]
    fn entries_can_be_shown_as_json() {
        let ledger = chain(1);
        let shown = serde_json::to_value(&ledger.entries()[0]).unwrap();
        assert_eq!(shown["record"]["mechanism"]["bits"], 12);
        assert_eq!(shown["record"]["survivors"], 110);
    }

    const RULE: AdaptiveClip = AdaptiveClip { target_quantile: 0.5, learning_rate: 0.2, count_noise: 5.0 };

    /// A round of the central mechanism with these clip norm, rule and bits.
    fn central(round: u64, clip: f64, adaptive_clip: Option<AdaptiveClip>, clip_bits: Option<i32>) -> Record {
        let mechanism = CentralMechanism::build(&CentralRequest {
            clients: 128,
            n_min: 103,
            dimension: 6144,
            clip,
            noise_multiplier: 2.0,
            adjacency: Adjacency::ReplaceOne,
            adaptive_clip,
        })
        .unwrap();
        let epsilon = epsilon_spent(&RdpCurve::central(&mechanism, 110).unwrap(), DELTA, 1).unwrap();
        Record { mechanism: mechanism.into(), clip_bits, epsilon, ..record(round) }
    }

    #[test]
    fn the_mechanism_that_was_used_is_stated_and_costs_what_it_costs() {
        let mut ledger = chain(1);
        ledger.append(central(2, 0.5, None, None)).unwrap();
        ledger.append(central(3, 0.5, Some(RULE), Some(-40))).unwrap();
        let entries = ledger.entries();
        assert_eq!(verify(entries), Ok(ledger.head()));
        for entry in entries {
            let bytes = entry.encode();
            assert_eq!(Entry::decode(&bytes), Ok(entry.clone()));
            for place in 0..bytes.len() {
                let mut changed = bytes.clone();
                changed[place] ^= 1;
                if let Ok(other) = Entry::decode(&changed) {
                    assert_ne!(other, *entry, "byte {place} does not matter");
                    assert_eq!(other.encode(), changed, "byte {place}");
                }
                assert!(matches!(Entry::decode(&bytes[..place]), Err(LedgerError::Malformed { .. })));
            }
        }
        let mut understated = central(4, 0.5, None, None);
        understated.epsilon *= 0.999;
        assert!(matches!(ledger.append(understated), Err(LedgerError::Understated { .. })));
        let few = Record { survivors: 102, ..central(4, 0.5, None, None) };
        assert!(matches!(ledger.append(few), Err(LedgerError::NotReleasable { .. })));
        let shown = serde_json::to_value(&ledger.entries()[2]).unwrap();
        assert_eq!(shown["record"]["mechanism"]["trust"], "central");
        assert_eq!(shown["record"]["clip_bits"], -40);
    }

    #[test]
    fn adaptive_clip_norms_follow_from_the_entry_before() {
        let mut ledger = Ledger::new();
        assert_eq!(ledger.next_clip(&RULE), None);
        ledger.append(central(1, 0.5, Some(RULE), Some(22))).unwrap();
        let due = 0.5 * (-0.2 * 0.5 * 22.0 / 110.0_f64).exp();
        let next = ledger.next_clip(&RULE).unwrap();
        assert!((next - due).abs() < 1e-12, "{next}, not {due}");
        let other = AdaptiveClip { learning_rate: 0.1, ..RULE };
        assert_eq!(ledger.next_clip(&other), None);

        let refused = ledger.append(central(2, 0.5, Some(RULE), Some(22))).unwrap_err();
        assert_eq!(refused, LedgerError::Clip { position: 1, round: 2, found: 0.5, due: next });
        for (rule, bits) in [(Some(RULE), None), (None, Some(0)), (Some(RULE), Some(1 << 23))] {
            let refused = ledger.append(central(2, next, rule, bits)).unwrap_err();
            assert_eq!(refused, LedgerError::ClipBits { position: 1, round: 2, found: bits });
        }
        let distributed = Record { clip_bits: Some(0), ..record(2) };
        assert!(matches!(ledger.append(distributed), Err(LedgerError::ClipBits { .. })));
        ledger.append(central(2, next, Some(RULE), Some(-3))).unwrap();
        // Another rule starts where it likes, and so does a norm that stays.
        ledger.append(central(3, 7.0, Some(other), Some(-3))).unwrap();
        ledger.append(central(4, 1.0, None, None)).unwrap();
        verify(ledger.entries()).unwrap();
    }
}
