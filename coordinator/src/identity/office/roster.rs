//! The identity root's rosters: one for each epoch. Must never let two epochs hold at one time unless it is told to, nor draw
//! the draws before it is fixed who is listed.

use super::{Office, OfficeError};
use crate::identity::forms::{Issued, Roll};
use rand_core::CryptoRng;
use serde::Deserialize;
use std::num::NonZeroU64;
use tacit_aggregation::identity::{EpochTerms, Rate, Roster};

/// A roster's file is called this, the epoch's number, and [`JSON`].
const ROSTER: &str = "roster-";
const JSON: &str = ".json";

/// What is wanted of an epoch's roster and its draws.
#[derive(Clone, Copy, Debug)]
pub struct EpochRequest {
    /// Its number, above that of every earlier one.
    pub number: u64,
    /// How long it lasts.
    pub seconds: NonZeroU64,
    /// How long each of its periods lasts; a draw holds for one.
    pub period_seconds: NonZeroU64,
    /// The share of the listed clients that a period draws.
    pub rate: Rate,
    /// Whether it begins at once, although an earlier one has not ended. Whoever has heard of the new one refuses the earlier one;
    /// the coordinator chooses who hears of it when.
    pub early: bool,
}

/// The last second in a roster's file.
#[derive(Deserialize)]
struct EpochEnd {
    not_after: u64,
}

impl Office {
    /// Signs the roster of an epoch: everybody whose certificates hold at `now`. The epoch begins when the last one has ended, so
    /// that one draw holds at a time; `rng` draws what the draws depend on, once it is fixed who is listed.
    ///
    /// # Errors
    /// [`OfficeError::RosterExists`], [`OfficeError::Epoch`], [`OfficeError::Folder`].
    pub fn sign_roster<R: CryptoRng>(
        &self,
        epoch: &EpochRequest,
        now: u64,
        rng: &mut R,
    ) -> Result<Roll, OfficeError> {
        let EpochRequest { number, seconds, period_seconds, rate, early } = *epoch;
        let name = format!("{ROSTER}{number}{JSON}");
        if self.folder.path(&name).exists() {
            return Err(OfficeError::RosterExists { epoch: number, path: self.folder.path(&name) });
        }
        let (mut last, mut free) = (None, 0);
        for (earlier, not_after) in self.epochs()? {
            last = last.max(Some(earlier));
            free = free.max(not_after.saturating_add(1));
        }
        if let Some(last) = last.filter(|last| number <= *last) {
            return Err(OfficeError::Epoch { epoch: number, last });
        }
        let not_before = if early { now } else { now.max(free) };
        let not_after = not_before.saturating_add(seconds.get() - 1);
        let valid = |issued: &&Issued| issued.not_after >= now && !self.revoked.revokes(issued.client);
        let roster = Roster::new(self.issued().filter(valid).map(|issued| issued.client).collect());
        let mut seed = [0; 32];
        rng.fill_bytes(&mut seed);
        let terms = EpochTerms { number, not_before, not_after, period_seconds, rate, seed };
        let roll = Roll::new(roster.clients().to_vec(), &self.root.sign_roster(&roster, terms));
        self.folder.write_json(&name, &roll)?;
        Ok(roll)
    }

    /// The epochs that have a roster, each with its last second.
    fn epochs(&self) -> Result<Vec<(u64, u64)>, OfficeError> {
        let numbered = |name: &String| name.strip_prefix(ROSTER)?.strip_suffix(JSON)?.parse().ok();
        let mut epochs = Vec::new();
        for name in self.folder.names()? {
            let Some(number) = numbered(&name) else { continue };
            let text = self.folder.read(&name)?.unwrap_or_default();
            let end: EpochEnd = serde_json::from_str(&text)
                .map_err(|error| self.folder.damaged(&name, error.line(), &error))?;
            epochs.push((number, end.not_after));
        }
        Ok(epochs)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::tests::{admission, office};
    use super::*;
    use rand_chacha::ChaCha20Rng;
    use rand_core::SeedableRng as _;
    use std::fs;
    use tacit_aggregation::identity::RosterError;

    const NOW: u64 = 2_000;

    fn epoch(number: u64, seconds: u64) -> EpochRequest {
        let [seconds, period_seconds] = [seconds, 600].map(|seconds| NonZeroU64::new(seconds).unwrap());
        EpochRequest { number, seconds, period_seconds, rate: Rate::new(1, 3).unwrap(), early: false }
    }

    fn sign(office: &Office, epoch: EpochRequest) -> Result<Roll, OfficeError> {
        office.sign_roster(&epoch, NOW, &mut ChaCha20Rng::seed_from_u64(epoch.number))
    }

    #[test]
    fn a_roster_lists_who_is_valid_once_an_epoch() {
        let (folder, mut office, mut rng) = office(5);
        let all: Vec<_> = (1..=5).map(admission).collect();
        let issued = office.issue(&all[..4], 5_000, 1_000, &mut rng).unwrap();
        let expired = office.issue(&all[4..], 1_500, 1_000, &mut rng).unwrap();
        office.revoke(&[issued[0].client]).unwrap();
        let roll = sign(&office, epoch(7, 2_001)).unwrap();
        let mut valid: Vec<_> = issued[1..].iter().map(|issued| issued.client).collect();
        valid.sort_unstable();
        assert_eq!(roll.clients, valid);
        let roster = Roster::new(roll.clients.clone());
        let signed = roll.signed();
        assert_eq!(signed.verify(&office.public_key(), NOW), Ok(()));
        assert_eq!(signed.verify(&office.public_key(), 4_000), Ok(()));
        assert!(matches!(signed.verify(&office.public_key(), 4_001), Err(RosterError::Time { .. })));
        assert_eq!((signed.epoch.period_seconds.get(), Some(signed.epoch.rate)), (600, Rate::new(1, 3)));
        // The draws are fixed by what is drawn when the list is, and by nothing that was known before.
        assert_ne!(signed.epoch.seed, sign(&office, epoch(8, 2_000)).unwrap().seed);
        for client in &valid {
            assert_eq!(signed.verify_member(*client, &roster.prove(*client).unwrap()), Ok(()));
        }
        assert_eq!(roster.prove(expired[0].client), None);
        assert!(matches!(sign(&office, epoch(7, 9_000)), Err(OfficeError::RosterExists { .. })));
        let text = fs::read_to_string(folder.path().join("root/roster-7.json")).unwrap();
        assert_eq!(serde_json::from_str::<Roll>(&text).unwrap(), roll);
    }

    #[test]
    fn epochs_follow_one_another_and_do_not_overlap() {
        let (folder, office, _) = office(5);
        let time = |roll: &Roll| (roll.not_before, roll.not_after);
        assert_eq!(time(&sign(&office, epoch(3, 500)).unwrap()), (2_000, 2_499));
        assert_eq!(time(&sign(&office, epoch(5, 100)).unwrap()), (2_500, 2_599));
        // What was signed by an earlier process counts.
        drop(office);
        let office = Office::open(&folder.path().join("root")).unwrap();
        for number in [0, 2, 4] {
            let refused = sign(&office, epoch(number, 100));
            assert!(matches!(refused, Err(OfficeError::Epoch { last: 5, .. })), "{refused:?}");
        }
        let early = EpochRequest { early: true, ..epoch(6, 100) };
        assert_eq!(time(&sign(&office, early).unwrap()), (2_000, 2_099));
        // After the last second that any of them has.
        assert_eq!(time(&sign(&office, epoch(7, 100)).unwrap()), (2_600, 2_699));
        let late = office.sign_roster(&epoch(8, 100), 9_000, &mut ChaCha20Rng::seed_from_u64(8)).unwrap();
        assert_eq!(time(&late), (9_000, 9_099));
        fs::write(folder.path().join("root/roster-8.json"), "{}").unwrap();
        assert!(matches!(sign(&office, epoch(9, 100)), Err(OfficeError::Folder(_))));
    }
}
