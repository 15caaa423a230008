//! The roster that cohorts are drawn from, as the coordinator keeps it: the identity root's statement and everybody on it, from
//! whom it makes proofs. Must never hold a list that the root did not sign.

use crate::Millis;
use crate::identity::Roll;
use crate::store::Table;
use tacit_aggregation::Digest;
use tacit_aggregation::identity::{ClientId, Membership, PublicKey, Roster, RosterError, SignedRoster};
use tacit_aggregation::params::{ParamsError, RosterTerms};

/// The newest roster that was imported; the one record has the empty key.
pub enum Rosters {}

impl Table for Rosters {
    const NAME: &'static str = "rosters";
    type Key = ();
    type Value = Roll;
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
    /// The terms of a plan do not follow.
    #[error(transparent)]
    Terms(#[from] ParamsError),
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

    /// Everybody on it.
    #[must_use]
    pub fn clients(&self) -> &[ClientId] {
        self.roster.clients()
    }

    /// What a plan says that is made at `now` and assumes so many of the listed clients to collude.
    ///
    /// # Errors
    /// [`ListedError::Roster`] outside of the epoch, [`ListedError::Terms`].
    pub fn terms(&self, colluders: u32, root: &PublicKey, now: Millis) -> Result<RosterTerms, ListedError> {
        let now = now / 1000;
        self.signed.verify(root, now)?;
        Ok(RosterTerms::new(self.signed.clone(), self.signed.epoch.period_at(now), colluders)?)
    }

    /// Whether a plan with these terms is still the one to open a round with at `now`.
    #[must_use]
    pub fn is_present(&self, terms: &RosterTerms, now: Millis) -> bool {
        let (now, epoch) = (now / 1000, &self.signed.epoch);
        self.is_of(terms)
            && (epoch.not_before..=epoch.not_after).contains(&now)
            && epoch.period_at(now) == terms.period
    }

    fn is_of(&self, terms: &RosterTerms) -> bool {
        self.digest == terms.roster.digest()
    }

    /// A client's proof that it is on the roster of these terms, if it is, and the period draws it.
    ///
    /// # Errors
    /// Says for people why the client may not take part.
    pub fn place(&self, terms: &RosterTerms, client: ClientId) -> Result<Membership, String> {
        let epoch = terms.roster.epoch.number;
        if !self.is_of(terms) {
            return Err(format!("the roster of epoch {epoch} was replaced: wait for the next round"));
        }
        let proof = self.roster.prove(client).ok_or_else(|| {
            format!("this client is not on the roster of epoch {epoch}: it may be on the next epoch's")
        })?;
        terms.check_drawn(client).map_err(|error| error.to_string())?;
        Ok(proof)
    }

    /// Whether a client may be in a cohort under these terms.
    #[must_use]
    pub fn admits(&self, terms: &RosterTerms, client: ClientId) -> bool {
        self.is_of(terms)
            && self.roster.clients().binary_search(&client).is_ok()
            && terms.check_drawn(client).is_ok()
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
        let roster = Roster::new((0..60).map(ClientId).collect());
        let epoch = EpochTerms {
            number,
            not_before: 1_000,
            not_after: 4_999,
            period_seconds: NonZeroU64::new(1_000).unwrap(),
            rate: Rate::new(1, 2).unwrap(),
            seed: [number as u8; 32],
        };
        Roll::new(&roster, &root().sign_roster(&roster, epoch))
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
        let public = root().public_key();
        let (listed, next) =
            (Listed::new(&roll(4), &public).unwrap(), Listed::new(&roll(5), &public).unwrap());
        for early in [999_999, 5_000_000] {
            assert!(matches!(
                listed.terms(9, &public, early),
                Err(ListedError::Roster(RosterError::Time { .. }))
            ));
        }
        let terms = listed.terms(9, &public, 2_500_000).unwrap();
        assert_eq!((terms.period, terms.colluders), (1, 9));
        assert!(listed.is_present(&terms, 2_000_000) && listed.is_present(&terms, 2_999_999));
        assert!(!listed.is_present(&terms, 1_999_999) && !listed.is_present(&terms, 3_000_000));
        assert!(!next.is_present(&terms, 2_500_000), "another epoch's");
        let last = listed.terms(9, &public, 4_999_000).unwrap();
        assert!(!listed.is_present(&last, 5_000_000));
        assert!(matches!(listed.terms(61, &public, 2_500_000), Err(ListedError::Terms(_))));
    }

    #[test]
    fn proofs_are_for_those_who_are_drawn() {
        let public = root().public_key();
        let (listed, next) =
            (Listed::new(&roll(4), &public).unwrap(), Listed::new(&roll(5), &public).unwrap());
        let terms = listed.terms(9, &public, 1_000_000).unwrap();
        let mut drawn = 0;
        for &client in listed.clients() {
            assert_eq!(listed.place(&terms, client).is_ok(), terms.check_drawn(client).is_ok());
            assert_eq!(listed.admits(&terms, client), terms.check_drawn(client).is_ok());
            assert!(!next.admits(&terms, client) && next.place(&terms, client).is_err());
            if let Ok(proof) = listed.place(&terms, client) {
                assert_eq!(terms.admit(client, Some(&proof)), Ok(()));
                drawn += 1;
            }
        }
        assert!((10..50).contains(&drawn), "{drawn}");
        let stranger = ClientId(700);
        assert!(!listed.admits(&terms, stranger));
        assert!(listed.place(&terms, stranger).unwrap_err().contains("not on the roster of epoch 4"));
    }
}
