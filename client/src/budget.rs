//! This client's own limits and its own book. Must never rely on what the coordinator says was spent, nor let anything be
//! uploaded before it was debited.

use serde::{Deserialize, Serialize};
use tacit_aggregation::identity::ClientId;
use tacit_aggregation::params::{BelowFloor, Floors, RoundTerms};
use tacit_privacy::{AccountantError, ParticipationBook, RdpCurve};

/// What a client tolerates, whatever a plan says.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Most epsilon over everything that this client ever joins, at `delta`.
    pub epsilon: f64,
    /// The delta at which epsilon is counted.
    pub delta: f64,
    /// The weakest secure sum that it joins.
    pub floors: Floors,
}

/// The limits, and what was spent so far.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Budget {
    client: ClientId,
    limits: Limits,
    book: ParticipationBook,
}

/// A cost that this client does not bear.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum BudgetError {
    /// A limit that limits nothing.
    #[error("the limit {name} is {value}; it must be {expected}")]
    Limit {
        /// `epsilon` or `delta`.
        name: &'static str,
        /// Its value.
        value: f64,
        /// What it may be.
        expected: &'static str,
    },
    /// The round would take the client past its limit.
    #[error(
        "round {round} would take client {client} past its limit of epsilon {limit} at delta {delta}: it has spent {spent}, \
         and stays out"
    )]
    Exceeded {
        /// The round.
        round: u64,
        /// This client.
        client: ClientId,
        /// What it has spent.
        spent: f64,
        /// Its limit.
        limit: f64,
        /// The delta at which both are stated.
        delta: f64,
    },
    /// The plan is weaker than a floor.
    #[error(transparent)]
    BelowFloor(#[from] BelowFloor),
    /// What was spent cannot be stated.
    #[error(transparent)]
    Cost(#[from] AccountantError),
}

impl Budget {
    /// A budget of which nothing is spent.
    ///
    /// # Errors
    /// [`BudgetError::Limit`] for an epsilon that is not positive and finite, or a delta that is not between 0 and 1.
    pub fn new(client: ClientId, limits: Limits) -> Result<Self, BudgetError> {
        Self::restore(client, limits, ParticipationBook::new())
    }

    /// A budget with the book as it was stored.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn restore(client: ClientId, limits: Limits, book: ParticipationBook) -> Result<Self, BudgetError> {
        let Limits { epsilon, delta, .. } = limits;
        if !(epsilon.is_finite() && epsilon > 0.0) {
            return Err(BudgetError::Limit {
                name: "epsilon",
                value: epsilon,
                expected: "positive and finite",
            });
        }
        if !(delta > 0.0 && delta < 1.0) {
            return Err(BudgetError::Limit { name: "delta", value: delta, expected: "between 0 and 1" });
        }
        Ok(Self { client, limits, book })
    }

    /// Whose budget this is.
    #[must_use]
    pub fn client(&self) -> ClientId {
        self.client
    }

    /// The limits.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The book, for storage.
    #[must_use]
    pub fn book(&self) -> &ParticipationBook {
        &self.book
    }

    /// Epsilon spent so far, at the limit's delta.
    ///
    /// # Errors
    /// As [`ParticipationBook::epsilon_of`].
    pub fn spent(&self) -> Result<f64, AccountantError> {
        self.book.epsilon_of(self.client.0, self.limits.delta)
    }

    /// Checks a plan's terms against the floors. What depends on the cohort is checked when that is closed.
    ///
    /// # Errors
    /// [`BudgetError::BelowFloor`] names the parameter.
    pub fn check_terms(&self, terms: &RoundTerms) -> Result<(), BudgetError> {
        let floors = &self.limits.floors;
        floors.admit_terms(terms)?;
        // Even the largest cohort of the plan could never have enough survivors.
        if terms.cohort_max < floors.n_min {
            let (offered, floor) = (terms.cohort_max.to_string(), floors.n_min.to_string());
            return Err(BelowFloor { parameter: "n_min", offered, floor }.into());
        }
        Ok(())
    }

    /// Checks that a round would not take the client past its limit.
    ///
    /// # Errors
    /// [`BudgetError::Exceeded`].
    pub fn check(&self, round: u64, cost: &RdpCurve) -> Result<(), BudgetError> {
        let Limits { epsilon: limit, delta, .. } = self.limits;
        if self.book.would_exceed(self.client.0, cost, delta, limit) {
            let (client, spent) = (self.client, self.spent()?);
            return Err(BudgetError::Exceeded { round, client, spent, limit, delta });
        }
        Ok(())
    }

    /// Debits a round. The caller stores the budget before the first byte of the upload is sent.
    ///
    /// # Errors
    /// [`BudgetError::Exceeded`]; nothing is debited then.
    pub fn debit(&mut self, round: u64, cost: &RdpCurve) -> Result<(), BudgetError> {
        self.check(round, cost)?;
        self.book.debit(self.client.0, cost);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{Budget, BudgetError, Limits};
    use tacit_aggregation::identity::ClientId;
    use tacit_aggregation::params::{Floors, RoundTerms, TaskName, ThreatModel};
    use tacit_privacy::{RdpCurve, epsilon_spent};

    const DELTA: f64 = 1e-5;

    fn budget(epsilon: f64) -> Budget {
        let floors = Floors { n_min: 10, corrupt_bp: 500, threat: ThreatModel::SemiMalicious };
        Budget::new(ClientId(4), Limits { epsilon, delta: DELTA, floors }).expect("limits")
    }

    #[test]
    fn a_round_past_the_limit_is_refused_and_not_debited() {
        let cost = RdpCurve::gaussian(2.0);
        let two = epsilon_spent(&cost.times(2), DELTA, 2).expect("stated");
        let mut budget = budget(two);
        budget.debit(1, &cost).expect("within the limit");
        budget.debit(2, &cost).expect("exactly the limit");
        match budget.debit(3, &cost) {
            Err(BudgetError::Exceeded { round: 3, client: ClientId(4), spent, limit, .. }) => {
                assert_eq!((spent, limit), (two, two));
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(budget.book().rounds_of(4), 2);
        assert_eq!(budget.spent(), Ok(two));
    }

    #[test]
    fn limits_that_limit_nothing_are_refused() {
        let limits = *budget(1.0).limits();
        for (name, bad) in [
            ("epsilon", Limits { epsilon: f64::INFINITY, ..limits }),
            ("epsilon", Limits { epsilon: f64::NAN, ..limits }),
            ("epsilon", Limits { epsilon: 0.0, ..limits }),
            ("delta", Limits { delta: 0.0, ..limits }),
            ("delta", Limits { delta: 1.0, ..limits }),
        ] {
            match Budget::new(ClientId(1), bad) {
                Err(BudgetError::Limit { name: named, .. }) => assert_eq!(named, name),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn floors_hold_before_a_cohort_is_known() {
        let good = RoundTerms {
            task: TaskName::new("t").expect("a plain name"),
            round: 1,
            plan: [0; 32],
            parents: vec![[0; 32]],
            ledger_head: [0; 32],
            dimension: 1,
            bits: 16,
            threat: ThreatModel::SemiMalicious,
            corrupt_bp: 500,
            dropout_bp: 0,
            correctness_bits: 40,
            cohort_min: 5,
            cohort_max: 10,
            n_min: 5,
        };
        let budget = budget(1.0);
        budget.check_terms(&good).expect("at the floors");
        for (parameter, bad) in [
            ("threat", RoundTerms { threat: ThreatModel::HonestButCurious, ..good.clone() }),
            ("corrupt_bp", RoundTerms { corrupt_bp: 499, ..good.clone() }),
            ("n_min", RoundTerms { cohort_max: 9, ..good.clone() }),
        ] {
            match budget.check_terms(&bad) {
                Err(BudgetError::BelowFloor(below)) => assert_eq!(below.parameter, parameter),
                other => panic!("{other:?}"),
            }
        }
    }
}
