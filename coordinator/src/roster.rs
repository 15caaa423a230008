//! The rosters that cohorts are drawn from, as the coordinator keeps them: the identity root's statements and everybody on them,
//! from whom it makes proofs. Must never hold a list that the root did not sign.

use crate::Millis;
use crate::identity::Roll;
use crate::store::Table;
use std::collections::BTreeMap;
use std::sync::Arc;
use tacit_aggregation::Digest;
use tacit_aggregation::identity::{ClientId, Membership, PublicKey, Roster, RosterError, SignedRoster};
use tacit_aggregation::params::{ParamsError, RosterTerms};

/// Most rosters that are kept: the present epoch's, and one that is yet to come.
pub const MAX_ROSTERS: usize = 2;

/// The rosters that were imported, by the number of their epoch.
pub enum Rolls {}

impl Table for Rolls {
    const NAME: &'static str = "rosters";
    type Key = u64;
    type Value = Roll;
}

/// The rosters at hand, of the present epoch and of those to come.
#[derive(Clone, Debug, Default)]
pub struct Rosters {
    epochs: BTreeMap<u64, Arc<Listed>>,
}

/// A roster that cannot be taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotTaken {
    /// An epoch has one roster, and the epochs follow one another.
    #[error(
        "the roster of epoch {newest} is here already, and this is another one of epoch {epoch}: an epoch has one roster, and \
         none comes after a later one"
    )]
    Earlier {
        /// Its epoch.
        epoch: u64,
        /// The newest epoch that is here.
        newest: u64,
    },
    /// Its epoch has ended.
    #[error("the epoch {epoch} of this roster has ended: have the next one signed")]
    Over {
        /// Its epoch.
        epoch: u64,
    },
    /// There is one for later already.
    #[error(
        "the rosters of {MAX_ROSTERS} epochs are here already: take this one in when the first of them has ended"
    )]
    Full,
}

impl Rosters {
    /// The roster of the epoch that it is at `now`: where an epoch was cut short, that of the later one.
    #[must_use]
    pub fn at(&self, now: Millis) -> Option<&Arc<Listed>> {
        self.epochs.values().rev().find(|listed| listed.holds(now))
    }

    /// The roster of the next epoch that has not begun at `now`.
    #[must_use]
    pub fn after(&self, now: Millis) -> Option<&Arc<Listed>> {
        self.epochs.values().find(|listed| listed.begins() > now)
    }

    /// The roster that a plan was made with, if it is still here.
    #[must_use]
    pub fn of(&self, terms: &RosterTerms) -> Option<&Arc<Listed>> {
        self.epochs.get(&terms.roster.epoch.number).filter(|listed| listed.is_of(terms))
    }

    /// The epochs that it is at `now`, and that come next: while both stay the same, so does what can be planned.
    #[must_use]
    pub fn numbers(&self, now: Millis) -> [Option<u64>; 2] {
        [self.at(now), self.after(now)].map(|listed| listed.map(|listed| listed.number()))
    }

    /// Whether a plan with these terms is the one to open a round with at `now`.
    #[must_use]
    pub fn are_present(&self, terms: &RosterTerms, now: Millis) -> bool {
        self.at(now).is_some_and(|listed| listed.is_present(terms, now))
    }

    /// Puts back what was stored.
    pub(crate) fn restore(&mut self, listed: Listed) {
        self.epochs.insert(listed.number(), Arc::new(listed));
    }

    /// Takes a roster in at `now`; the same one again changes nothing. Names the epochs that are of no use any more, and forgets
    /// their rosters.
    ///
    /// # Errors
    /// [`NotTaken`]; nothing has changed then.
    pub fn take(&mut self, listed: Listed, now: Millis) -> Result<Vec<u64>, NotTaken> {
        let epoch = listed.number();
        let newest = self.epochs.last_key_value().map(|(&number, _)| number);
        if let Some(newest) = newest.filter(|newest| epoch <= *newest) {
            let same = self.epochs.get(&epoch).is_some_and(|known| known.signed == listed.signed);
            return if same { Ok(Vec::new()) } else { Err(NotTaken::Earlier { epoch, newest }) };
        }
        if listed.ends() <= now {
            return Err(NotTaken::Over { epoch });
        }
        // What has ended, and what a later epoch, that has begun, has cut short.
        let begun =
            if listed.begins() <= now { Some(epoch) } else { self.at(now).map(|listed| listed.number()) };
        let past = |known: &Listed| known.ends() <= now || begun.is_some_and(|begun| known.number() < begun);
        let past: Vec<u64> =
            self.epochs.values().filter(|known| past(known)).map(|known| known.number()).collect();
        if self.epochs.len() - past.len() >= MAX_ROSTERS {
            return Err(NotTaken::Full);
        }
        self.epochs.retain(|number, _| !past.contains(number));
        self.epochs.insert(epoch, Arc::new(listed));
        Ok(past)
    }
}

/// A roster that the identity root signed, with everybody on it.
#[derive(Clone, Debug)]
pub struct Listed {
    signed: SignedRoster,
    digest: Digest,
    roster: Roster,
}

/// A file that holds no roster of this organisation's, or none of now.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ListedError {
    /// The signature does not hold, or the epoch is another one.
    #[error(transparent)]
    Roster(#[from] RosterError),
    /// The clients are not those that were signed.
    #[error(
        "the {listed} clients in the file are not those of the roster of epoch {epoch} that the identity root signed: copy \
         the file again"
    )]
    Clients {
        /// Clients in the file.
        listed: usize,
        /// The roster's epoch.
        epoch: u64,
    },
}

impl Listed {
    /// Checks that the root signed this roster, whenever it holds.
    ///
    /// # Errors
    /// [`ListedError::Roster`], [`ListedError::Clients`].
    pub fn new(roll: &Roll, root: &PublicKey) -> Result<Self, ListedError> {
        let signed = roll.signed();
        signed.verify(root, signed.epoch.not_before)?;
        let roster = Roster::new(roll.clients.clone());
        if roster.root() != signed.root || roster.clients().len() != roll.clients.len() {
            return Err(ListedError::Clients { listed: roll.clients.len(), epoch: signed.epoch.number });
        }
        Ok(Self { digest: signed.digest(), signed, roster })
    }

    /// The root's statement.
    #[must_use]
    pub fn signed(&self) -> &SignedRoster {
        &self.signed
    }

    /// Number of its epoch.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.signed.epoch.number
    }

    /// When its epoch begins.
    #[must_use]
    pub fn begins(&self) -> Millis {
        self.signed.epoch.not_before.saturating_mul(1000)
    }

    /// When its epoch has ended.
    #[must_use]
    pub fn ends(&self) -> Millis {
        self.signed.epoch.not_after.saturating_add(1).saturating_mul(1000)
    }

    fn holds(&self, now: Millis) -> bool {
        (self.begins()..self.ends()).contains(&now)
    }

    /// Everybody on it.
    #[must_use]
    pub fn clients(&self) -> &[ClientId] {
        self.roster.clients()
    }

    /// What a plan says that is made at `now` and assumes so many of the listed clients to collude. Whether the epoch is the present
    /// one is for [`Rosters::at`].
    ///
    /// # Errors
    /// [`ParamsError`] as [`RosterTerms::validate`].
    pub fn terms(&self, colluders: u32, now: Millis) -> Result<RosterTerms, ParamsError> {
        RosterTerms::new(self.signed.clone(), self.signed.epoch.period_at(now / 1000), colluders)
    }

    /// Whether a plan with these terms is still the one to open a round with at `now`.
    fn is_present(&self, terms: &RosterTerms, now: Millis) -> bool {
        self.is_of(terms) && self.holds(now) && self.signed.epoch.period_at(now / 1000) == terms.period
    }

    fn is_of(&self, terms: &RosterTerms) -> bool {
        self.digest == terms.roster.digest()
    }

    /// A client's proof that it is on the roster, which these terms are of, if it is, and the period draws it.
    ///
    /// # Errors
    /// Says for people why the client may not take part.
    pub fn place(&self, terms: &RosterTerms, client: ClientId) -> Result<Membership, String> {
        let epoch = terms.roster.epoch.number;
        let proof = self.roster.prove(client).ok_or_else(|| {
            format!("this client is not on the roster of epoch {epoch}: it may be on the next epoch's")
        })?;
        terms.check_drawn(client).map_err(|error| error.to_string())?;
        Ok(proof)
    }

    /// Whether a client may be in a cohort under these terms, which are of this roster.
    #[must_use]
    pub fn admits(&self, terms: &RosterTerms, client: ClientId) -> bool {
        self.roster.clients().binary_search(&client).is_ok() && terms.check_drawn(client).is_ok()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::num::NonZeroU64;
    use tacit_aggregation::identity::{EpochTerms, IdentityRoot, Rate};

    fn root() -> IdentityRoot {
        IdentityRoot::from_bytes(&[3; 32])
    }

    fn roll(number: u64) -> Roll {
        roll_between(number, 1_000, 4_999)
    }

    fn listed(number: u64, not_before: u64, not_after: u64) -> Listed {
        Listed::new(&roll_between(number, not_before, not_after), &root().public_key()).unwrap()
    }

    /// Taken in at a second.
    fn rosters(all: &[Listed], now: u64) -> Rosters {
        let mut rosters = Rosters::default();
        for listed in all {
            rosters.take(listed.clone(), now * 1000).unwrap();
        }
        rosters
    }

    fn roll_between(number: u64, not_before: u64, not_after: u64) -> Roll {
        let roster = Roster::new((0..60).map(ClientId).collect());
        let epoch = EpochTerms {
            number,
            not_before,
            not_after,
            period_seconds: NonZeroU64::new(1_000).unwrap(),
            rate: Rate::new(1, 2).unwrap(),
            seed: [number as u8; 32],
        };
        Roll::new(roster.clients().to_vec(), &root().sign_roster(&roster, epoch))
    }

    #[test]
    fn only_what_the_root_signed_is_kept() {
        let public = root().public_key();
        assert!(Listed::new(&roll(4), &public).is_ok());
        let other = IdentityRoot::from_bytes(&[4; 32]).public_key();
        assert!(matches!(Listed::new(&roll(4), &other), Err(ListedError::Roster(_))));
        let mut swapped = roll(4);
        swapped.clients[7] = ClientId(700);
        assert!(matches!(Listed::new(&swapped, &public), Err(ListedError::Clients { listed: 60, epoch: 4 })));
        let mut longer = roll(4);
        longer.clients.push(ClientId(700));
        assert!(matches!(Listed::new(&longer, &public), Err(ListedError::Roster(_))));
        let text = serde_json::to_string(&roll(4)).unwrap();
        assert_eq!(serde_json::from_str::<Roll>(&text).unwrap(), roll(4));
    }

    #[test]
    fn terms_are_of_the_present_period() {
        let rosters = rosters(&[listed(4, 1_000, 4_999)], 1_000);
        let of_fourth = rosters.at(2_500_000).unwrap();
        let terms = of_fourth.terms(9, 2_500_000).unwrap();
        assert_eq!((terms.period, terms.colluders), (1, 9));
        assert!(rosters.are_present(&terms, 2_000_000) && rosters.are_present(&terms, 2_999_999));
        assert!(!rosters.are_present(&terms, 1_999_999) && !rosters.are_present(&terms, 3_000_000));
        let last = of_fourth.terms(9, 4_999_000).unwrap();
        assert!(rosters.are_present(&last, 4_999_999) && !rosters.are_present(&last, 5_000_000));
        assert!(of_fourth.terms(61, 2_500_000).is_err());
        assert!(rosters.of(&terms).is_some());
        let other = listed(5, 1_000, 4_999).terms(9, 2_500_000).unwrap();
        assert!(rosters.of(&other).is_none() && !rosters.are_present(&other, 2_500_000), "another epoch's");
    }

    #[test]
    fn each_epoch_has_its_time() {
        let mut rosters = rosters(&[listed(4, 1_000, 4_999), listed(5, 5_000, 6_999)], 1_000);
        let at = |rosters: &Rosters, second: u64| rosters.numbers(second * 1000);
        assert_eq!(at(&rosters, 999), [None, Some(4)]);
        assert_eq!(at(&rosters, 1_000), [Some(4), Some(5)]);
        assert_eq!(rosters.numbers(4_999_999), [Some(4), Some(5)]);
        assert_eq!(at(&rosters, 5_000), [Some(5), None]);
        assert_eq!(at(&rosters, 7_000), [None, None]);
        // The same again, another one, an earlier one, one too many, one that is over.
        assert_eq!(rosters.take(listed(5, 5_000, 6_999), 1_000_000), Ok(vec![]));
        let earlier = |epoch| Err(NotTaken::Earlier { epoch, newest: 5 });
        assert_eq!(rosters.take(listed(5, 5_000, 6_998), 1_000_000), earlier(5));
        assert_eq!(rosters.take(listed(3, 5_000, 6_999), 1_000_000), earlier(3));
        assert_eq!(rosters.take(listed(6, 7_000, 8_999), 4_999_999), Err(NotTaken::Full));
        assert_eq!(rosters.take(listed(6, 7_000, 8_999), 9_000_000), Err(NotTaken::Over { epoch: 6 }));
        assert_eq!(at(&rosters, 1_000), [Some(4), Some(5)], "nothing has changed");
        // What has ended makes room.
        assert_eq!(rosters.take(listed(6, 7_000, 8_999), 5_000_000), Ok(vec![4]));
        assert_eq!(at(&rosters, 5_000), [Some(5), Some(6)]);
        // One that begins before the others have ended cuts them short.
        assert_eq!(rosters.take(listed(8, 5_500, 9_999), 5_600_000), Ok(vec![5, 6]));
        assert_eq!(at(&rosters, 5_600), [Some(8), None]);
    }

    #[test]
    fn proofs_are_for_those_who_are_drawn() {
        let listed = listed(4, 1_000, 4_999);
        let terms = listed.terms(9, 1_000_000).unwrap();
        let mut drawn = 0;
        for &client in listed.clients() {
            assert_eq!(listed.place(&terms, client).is_ok(), terms.check_drawn(client).is_ok());
            assert_eq!(listed.admits(&terms, client), terms.check_drawn(client).is_ok());
            if let Ok(proof) = listed.place(&terms, client) {
                assert_eq!(terms.admit(client, Some(&proof)), Ok(()));
                drawn += 1;
            }
        }
        assert!((10..50).contains(&drawn), "{drawn}");
        let stranger = (700..).map(ClientId).find(|client| terms.check_drawn(*client).is_ok()).unwrap();
        assert!(!listed.admits(&terms, stranger));
        assert!(listed.place(&terms, stranger).unwrap_err().contains("not on the roster of epoch 4"));
    }
}
