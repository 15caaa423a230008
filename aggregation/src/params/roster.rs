//! What a plan says when its cohort is to be drawn from a signed roster, and how many colluders such a draw can hold. Must
//! never count fewer draws than the server has, nor take a cohort member on trust.

use super::{MAX_COHORT, ParamsError, fraction_of};
use crate::identity::{ClientId, Membership, PublicKey, Rate, RosterError, SignedRoster};
use std::f64::consts::LN_2;

/// The bound on the colluders fails with probability at most 2^-40 in an epoch, all its draws together.
const LOTTERY_BITS: f64 = 40.0;

/// A term this small, relative to the sum so far, ends a tail whose terms shrink.
const NEGLIGIBLE: f64 = 1e-20;

/// The roster that a plan's cohort is drawn from, the period, and the colluders that are assumed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RosterTerms {
    /// The identity root's roster of the present epoch.
    pub roster: SignedRoster,
    /// Number of the period within the epoch, from 0.
    pub period: u64,
    /// G, listed clients assumed to collude with the server.
    pub colluders: u32,
    /// A, the most of them that a period draws: [`most_drawn`]. It takes the place of floor(gamma n).
    pub corrupt: u32,
}

impl RosterTerms {
    /// For a period of a roster, with A as it follows.
    ///
    /// # Errors
    /// [`ParamsError`] as [`Self::validate`].
    pub fn new(roster: SignedRoster, period: u64, colluders: u32) -> Result<Self, ParamsError> {
        let corrupt = drawn(&roster, colluders)?;
        let terms = Self { roster, period, colluders, corrupt };
        terms.validate()?;
        Ok(terms)
    }

    /// Checks the period's number, G, and that A is what follows from them and the roster.
    ///
    /// # Errors
    /// [`ParamsError::Period`], [`ParamsError::Colluders`], [`ParamsError::TooManyDrawn`], [`ParamsError::Drawn`].
    pub fn validate(&self) -> Result<(), ParamsError> {
        let periods = self.roster.epoch.periods();
        if self.period >= periods {
            return Err(ParamsError::Period { period: self.period, periods });
        }
        if u64::from(self.colluders) > self.roster.size {
            return Err(ParamsError::Colluders { colluders: self.colluders, size: self.roster.size });
        }
        let expected = drawn(&self.roster, self.colluders)?;
        if self.corrupt != expected {
            return Err(ParamsError::Drawn { offered: self.corrupt, expected });
        }
        Ok(())
    }

    /// Checks that the organisation's root signed the roster, and that epoch and period are those of a time, in Unix seconds.
    ///
    /// # Errors
    /// [`RosterError::Signature`], [`RosterError::Time`], [`RosterError::Period`].
    pub fn verify(&self, root: &PublicKey, now: u64) -> Result<(), RosterError> {
        self.roster.verify(root, now)?;
        self.roster.check_period(self.period, now)
    }

    /// Checks that the lottery has picked a client for this period. Whether it is listed at all is for [`Self::admit`].
    ///
    /// # Errors
    /// [`RosterError::NotDrawn`].
    pub fn check_drawn(&self, client: ClientId) -> Result<(), RosterError> {
        if self.roster.draws(self.period, client) {
            return Ok(());
        }
        Err(RosterError::NotDrawn { client, period: self.period, epoch: self.roster.epoch.number })
    }

    /// Checks that a client is listed, and drawn for this period. The roster itself must have been verified.
    ///
    /// # Errors
    /// [`RosterError::NoProof`], [`RosterError::Membership`], [`RosterError::NotDrawn`].
    pub fn admit(&self, client: ClientId, proof: Option<&Membership>) -> Result<(), RosterError> {
        self.check_drawn(client)?;
        let proof = proof.ok_or(RosterError::NoProof { client, epoch: self.roster.epoch.number })?;
        self.roster.verify_member(client, proof)
    }
}

/// Checks a client's place in a cohort under a plan that demands a roster, or none.
pub(crate) fn admit_member(
    terms: Option<&RosterTerms>,
    client: ClientId,
    proof: Option<&Membership>,
) -> Result<(), RosterError> {
    match (terms, proof) {
        (Some(terms), proof) => terms.admit(client, proof),
        (None, Some(_)) => Err(RosterError::NotDemanded { client }),
        (None, None) => Ok(()),
    }
}

/// Colluding members per 10,000 that make up at least A in a cohort of n: exactly A for n up to 10,000, and at most one more
/// beyond. Without a roster, `gamma` itself.
#[must_use]
pub fn corrupt_share(gamma: u16, roster: Option<&RosterTerms>, n: u32) -> u16 {
    let Some(RosterTerms { corrupt, .. }) = roster else { return gamma };
    let share = (u64::from(*corrupt) * 10_000).div_ceil(u64::from(n).max(1));
    let share = share.min(10_000) as u16;
    debug_assert!(fraction_of(n, share) >= (*corrupt).min(n));
    share
}

fn drawn(roster: &SignedRoster, colluders: u32) -> Result<u32, ParamsError> {
    let epoch = &roster.epoch;
    most_drawn(colluders, epoch.rate, epoch.periods()).ok_or(ParamsError::TooManyDrawn { colluders })
}

/// A: the smallest with P[Bin(G, q) > A] <= 2^-40 / periods. So in no period of the epoch more than A of the G colluders are
/// drawn, but with probability 2^-40. None if A is not below [`MAX_COHORT`].
#[must_use]
pub fn most_drawn(colluders: u32, rate: Rate, periods: u64) -> Option<u32> {
    let bound = -LOTTERY_BITS * LN_2 - (periods.max(1) as f64).ln();
    let law = Binomial::new(colluders, rate);
    // P[X > G] = 0: the search ends. Tails fall as A grows.
    let (mut low, mut high) = (0, colluders.min(MAX_COHORT));
    while low < high {
        let middle = low + (high - low) / 2;
        if law.ln_above(middle) <= bound { high = middle } else { low = middle + 1 }
    }
    (low < MAX_COHORT).then_some(low)
}

/// `Bin(trials, q)`.
struct Binomial {
    trials: u32,
    mean: f64,
    /// ln q, ln (1 - q), and q / (1 - q).
    ln_hit: f64,
    ln_miss: f64,
    odds: f64,
}

impl Binomial {
    fn new(trials: u32, rate: Rate) -> Self {
        // Both are exact multiples of 2^-64, but for the 53 bits that a real holds.
        let hit = (rate.parts() as f64 + 1.0) / 2f64.powi(64);
        let miss = (u64::MAX - rate.parts()) as f64 / 2f64.powi(64);
        Self { trials, mean: f64::from(trials) * hit, ln_hit: hit.ln(), ln_miss: miss.ln(), odds: hit / miss }
    }

    /// ln P[X = j], for j up to the number of trials.
    fn ln_probability(&self, j: u32) -> f64 {
        let rest = self.trials - j;
        // 0 ln 0 is 0 here: what is certain happens.
        let power = |count: u32, ln: f64| if count == 0 { 0.0 } else { f64::from(count) * ln };
        let (few, many) = (j.min(rest), j.max(rest));
        let choose: f64 = (1..=few).map(|i| (f64::from(many) / f64::from(i) + 1.0).ln()).sum();
        choose + power(j, self.ln_hit) + power(rest, self.ln_miss)
    }

    /// ln P[X > a]. Terms are added from the largest: the sum is at least its first term, and never too small by more than
    /// what a real rounds off.
    fn ln_above(&self, a: u32) -> f64 {
        if a >= self.trials {
            return f64::NEG_INFINITY;
        }
        let start = a + 1;
        // Below the mean at least a quarter lies above, far more than any bound here; and with q = 1 everything does.
        if f64::from(start) < self.mean {
            return -2.0 * LN_2;
        }
        let (mut sum, mut term) = (1.0, 1.0);
        for j in start..self.trials {
            term *= self.odds * f64::from(self.trials - j) / f64::from(j + 1);
            sum += term;
            if term < NEGLIGIBLE * sum {
                break;
            }
        }
        self.ln_probability(start) + sum.ln()
    }
}

#[cfg(test)]
mod tests {
    use super::{Binomial, RosterTerms, corrupt_share, most_drawn};
    use crate::identity::{ClientId, IdentityRoot, Rate, Roster, RosterError, roster_tests};
    use crate::params::{Floors, MAX_COHORT, ParamsError, RoundTerms, fraction_of, tests_support::terms};
    use rand_chacha::ChaCha20Rng;
    use rand_core::SeedableRng as _;
    use serde::Deserialize;

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Row {
        colluders: u32,
        rate_parts: u64,
        periods: u64,
        corrupt: u32,
    }

    /// Written by `tests/vectors/roster.py`, which computes with integers and 60 decimal digits.
    #[test]
    fn every_reference_row_is_reproduced() {
        let rows: Vec<Row> = serde_json::from_str(include_str!("../../tests/vectors/roster_params.json"))
            .expect("the reference rows parse");
        assert_eq!(rows.len(), 64);
        for Row { colluders, rate_parts, periods, corrupt } in rows {
            let rate = Rate::from_parts(rate_parts);
            assert_eq!(
                most_drawn(colluders, rate, periods),
                Some(corrupt),
                "{colluders} {rate_parts} {periods}"
            );
        }
    }

    #[test]
    fn tails_match_direct_sums() {
        for (trials, part) in [(12, 3), (30, 1), (30, 9), (7, 5)] {
            let law = Binomial::new(trials, Rate::new(part, 10).expect("a rate"));
            let q = part as f64 / 10.0;
            let mass = |j: u32| {
                let choose: f64 = (1..=j).map(|i| f64::from(trials - j + i) / f64::from(i)).product();
                choose * q.powi(j as i32) * (1.0 - q).powi((trials - j) as i32)
            };
            for a in 0..=trials {
                let above: f64 = (a + 1..=trials).map(mass).sum();
                assert!((law.ln_probability(a).exp() - mass(a)).abs() < 1e-13, "{trials} {part} {a}");
                if f64::from(a + 1) >= law.mean {
                    assert!((law.ln_above(a).exp() - above).abs() < 1e-13, "{trials} {part} above {a}");
                } else {
                    assert!(above >= 0.25, "{trials} {part} above {a}: {above}");
                }
            }
        }
    }

    #[test]
    fn the_ends_are_exact() {
        assert_eq!(most_drawn(0, Rate::new(1, 10).expect("a rate"), 1), Some(0));
        // Everybody is drawn: all that collude are.
        assert_eq!(most_drawn(50, Rate::ONE, 30), Some(50));
        // 2^-64 is less than 2^-40 / 1000.
        assert_eq!(most_drawn(1, Rate::from_parts(0), 1_000), Some(0));
        assert_eq!(most_drawn(MAX_COHORT - 1, Rate::ONE, 1), Some(MAX_COHORT - 1));
        assert_eq!(most_drawn(MAX_COHORT, Rate::ONE, 1), None);
        assert_eq!(most_drawn(u32::MAX, Rate::new(1, 2).expect("a rate"), 1), None);
    }

    fn drawn(colluders: u32) -> RosterTerms {
        let root = IdentityRoot::generate(&mut ChaCha20Rng::seed_from_u64(1));
        let roster = Roster::new((0..2_000).map(ClientId).collect());
        let signed = root.sign_roster(&roster, roster_tests::epoch(3, Rate::new(1, 10).expect("a rate")));
        RosterTerms::new(signed, 2, colluders).expect("feasible")
    }

    #[test]
    fn terms_that_do_not_follow_are_refused() {
        let good = drawn(100);
        assert_eq!(good.validate(), Ok(()));
        assert_eq!(good.corrupt, most_drawn(100, good.roster.epoch.rate, 4).expect("few"));
        let fewer = RosterTerms { corrupt: good.corrupt - 1, ..good.clone() };
        let expected = good.corrupt;
        assert_eq!(fewer.validate(), Err(ParamsError::Drawn { offered: expected - 1, expected }));
        let beyond = RosterTerms { period: 4, ..good.clone() };
        assert_eq!(beyond.validate(), Err(ParamsError::Period { period: 4, periods: 4 }));
        let many = RosterTerms { colluders: 2_001, ..good.clone() };
        assert_eq!(many.validate(), Err(ParamsError::Colluders { colluders: 2_001, size: 2_000 }));
        // What is refused of the roster is refused of the terms.
        let with = |roster| RoundTerms { roster: Some(roster), corrupt_bp: 0, ..terms() };
        assert_eq!(with(good).validate(), Ok(()));
        assert!(matches!(with(fewer).validate(), Err(ParamsError::Drawn { .. })));
        let twice = RoundTerms { corrupt_bp: 1, ..with(drawn(100)) };
        assert_eq!(twice.validate(), Err(ParamsError::CorruptTwice { corrupt_bp: 1 }));
    }

    #[test]
    fn the_drawn_colluders_take_the_place_of_gamma() {
        let roster = drawn(100);
        let corrupt = roster.corrupt;
        assert!((20..50).contains(&corrupt), "{corrupt}");
        let terms = RoundTerms { roster: Some(roster), corrupt_bp: 0, ..terms() };
        let params = terms.params(256).expect("feasible");
        assert_eq!(params.corrupt(), corrupt);
        assert_eq!(params.honest_minimum(), params.n_min - corrupt);
        assert_eq!(params.quorum(), (256 + corrupt) / 2 + 1);
        assert_eq!(terms.admit(&params), Ok(()));
        let fewer = crate::params::RoundParams { corrupt_bp: params.corrupt_bp - 1, ..params };
        assert_eq!(terms.admit(&fewer), Err(ParamsError::DiffersFromPlan { parameter: "corrupt_bp" }));
        // Fewer than A members leave nobody who is surely honest.
        assert!(terms.params(corrupt.min(30)).is_err());
    }

    #[test]
    fn the_share_covers_the_count_in_every_cohort() {
        let mut roster = drawn(100);
        for corrupt in [0, 1, 7, 33, 600] {
            roster.corrupt = corrupt;
            for n in (corrupt + 1)..=10_000 {
                assert_eq!(fraction_of(n, corrupt_share(0, Some(&roster), n)), corrupt, "{corrupt} of {n}");
            }
            for n in 10_001..=MAX_COHORT {
                let covered = fraction_of(n, corrupt_share(0, Some(&roster), n));
                assert!((corrupt..=corrupt + 1).contains(&covered), "{corrupt} of {n}: {covered}");
            }
        }
        assert_eq!(corrupt_share(700, None, 10), 700);
    }

    #[test]
    fn floors_hold_for_the_roster() {
        let plain = terms();
        let drawn = RoundTerms { roster: Some(drawn(100)), corrupt_bp: 0, ..terms() };
        let floors = Floors { corrupt_bp: 500, ..Floors::default() };
        assert_eq!(floors.admit_terms(&drawn), Ok(()));
        floors.admit(&drawn, &drawn.params(256).expect("feasible")).expect("5 in 100 of the roster");
        let refused = |floors: Floors, terms| floors.admit_terms(terms).expect_err("below").parameter;
        // That is of 100.2 clients, so of 101.
        assert_eq!(refused(Floors { corrupt_bp: 501, ..floors }, &drawn), "roster.colluders");
        assert_eq!(refused(Floors { roster: true, ..floors }, &plain), "roster");
        Floors { roster: true, ..floors }.admit_terms(&drawn).expect("there is one");
    }

    #[test]
    fn only_listed_clients_that_are_drawn_are_admitted() {
        let terms = drawn(100);
        let roster = Roster::new((0..2_000).map(ClientId).collect());
        let (inside, outside): (Vec<ClientId>, Vec<ClientId>) =
            roster.clients().iter().partition(|client| terms.roster.draws(2, **client));
        assert!(inside.len() > 100 && outside.len() > 1_000);
        let proof = |client| roster.prove(client).expect("listed");
        assert_eq!(terms.admit(inside[0], Some(&proof(inside[0]))), Ok(()));
        let client = inside[0];
        assert_eq!(terms.admit(client, None), Err(RosterError::NoProof { client, epoch: 3 }));
        let foreign = terms.admit(client, Some(&proof(inside[1])));
        assert_eq!(foreign, Err(RosterError::Membership { client, epoch: 3 }));
        let client = outside[0];
        let refused = terms.admit(client, Some(&proof(client)));
        assert_eq!(refused, Err(RosterError::NotDrawn { client, period: 2, epoch: 3 }));
    }
}
