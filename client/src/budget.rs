//! This client's own limits and its own book. Must never rely on what the coordinator says was spent, nor let anything be
//! uploaded before it was debited.

mod error;

pub use error::BudgetError;

use crate::Millis;
use serde::{Deserialize, Serialize};
use std::fmt;
use tacit_aggregation::Digest;
use tacit_aggregation::context::Context;
use tacit_aggregation::identity::ClientId;
use tacit_aggregation::params::{BelowFloor, Floors, RoundTerms, TaskName};
use tacit_privacy::{AccountantError, Adjacency, ParticipationBook, RdpCurve};
use tacit_proto::{RoundPlan, Trust};

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
    /// The weakest adjacency under which it lets epsilon be stated. Replace-one is the stronger: it covers every other update,
    /// zero too.
    pub adjacency: Adjacency,
    /// Whether it takes part where the coordinator adds the noise, and sees the sum without it. Not unless its owner says so.
    #[serde(default)]
    pub allow_central: bool,
    /// Most epsilon over what it joins in any stretch of time of some length, at `delta`; no such limit when none.
    #[serde(default)]
    pub period: Option<Period>,
    /// Most epsilon over everything that it joins of one task, at `delta`; no such limit when none.
    #[serde(default)]
    pub per_task: Option<f64>,
}

/// A limit on how fast a budget is spent.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Period {
    /// Length, in days.
    pub days: u32,
    /// Most epsilon in any stretch of that length.
    pub epsilon: f64,
}

/// A day, in milliseconds.
const DAY: Millis = 24 * 60 * 60 * 1000;

/// The limits, and what was spent so far. All of it is stored, so that a round replayed after a crash is known again.
///
/// Periods are counted by the latest time that the budget was ever told: a clock that is set back opens nothing again. One
/// that was ahead for a while, and is set right, closes the period until the time is reached once more.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "BudgetForm", into = "BudgetForm")]
pub struct Budget {
    client: ClientId,
    limits: Limits,
    clock: Millis,
    /// The distinct costs of the debits.
    curves: Vec<RdpCurve>,
    debits: Vec<Debit>,
    /// What the debits come to.
    book: ParticipationBook,
}

/// What one debit is for: a vector in one context.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Participation {
    /// The learning task.
    pub task: TaskName,
    /// The round within the task.
    pub round: u64,
    /// The context of the closed cohort; another cohort of the same round is another debit.
    pub context: Digest,
}

/// A debit, and the vector that was masked for it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Debit {
    /// What it is for.
    pub participation: Participation,
    /// When it was made, by the budget's clock.
    pub at: Millis,
    /// Place of its cost among the budget's curves.
    curve: usize,
    /// SHA-256 of the masked vector.
    upload: Option<Digest>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct BudgetForm {
    client: ClientId,
    limits: Limits,
    clock: Millis,
    curves: Vec<RdpCurve>,
    debits: Vec<Debit>,
}

impl From<Budget> for BudgetForm {
    fn from(budget: Budget) -> Self {
        let Budget { client, limits, clock, curves, debits, book: _ } = budget;
        Self { client, limits, clock, curves, debits }
    }
}

impl TryFrom<BudgetForm> for Budget {
    type Error = BudgetError;

    fn try_from(form: BudgetForm) -> Result<Self, BudgetError> {
        let BudgetForm { client, limits, clock, curves, debits } = form;
        limits.validate()?;
        let mut book = ParticipationBook::new();
        for (place, debit) in debits.iter().enumerate() {
            let curve = curves.get(debit.curve).filter(|_| debit.at <= clock);
            book.debit(client.0, curve.ok_or(BudgetError::Damaged { debit: place })?);
        }
        Ok(Self { client, limits, clock, curves, debits, book })
    }
}

impl Participation {
    /// Taking part in the context of a plan's cohort.
    #[must_use]
    pub fn new(plan: &RoundPlan, context: &Context) -> Self {
        Self { task: plan.task.clone(), round: plan.round, context: *context.as_bytes() }
    }
}

impl Limits {
    fn validate(&self) -> Result<(), BudgetError> {
        let Self { epsilon, delta, period, per_task, .. } = *self;
        let limits = [
            ("epsilon", Some(epsilon)),
            ("period.epsilon", period.map(|period| period.epsilon)),
            ("per_task", per_task),
        ];
        for (name, value) in limits {
            if let Some(value) = value.filter(|value| !(value.is_finite() && *value > 0.0)) {
                return Err(BudgetError::Limit { name, value, expected: "positive and finite" });
            }
        }
        if period.is_some_and(|period| period.days == 0) {
            return Err(BudgetError::Limit { name: "period.days", value: 0.0, expected: "at least 1" });
        }
        if !(delta > 0.0 && delta < 1.0) {
            return Err(BudgetError::Limit { name: "delta", value: delta, expected: "between 0 and 1" });
        }
        Ok(())
    }
}

/// What a limit goes over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Everything.
    Ever,
    /// Any so many days.
    Days(u32),
    /// One task.
    Task,
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ever => write!(f, "for ever"),
            Self::Days(days) => write!(f, "in any {days} days"),
            Self::Task => write!(f, "for one task"),
        }
    }
}

impl Budget {
    /// A budget of which nothing is spent.
    ///
    /// # Errors
    /// [`BudgetError::Limit`] for an epsilon that is not positive and finite, or a delta that is not between 0 and 1.
    pub fn new(client: ClientId, limits: Limits) -> Result<Self, BudgetError> {
        limits.validate()?;
        let book = ParticipationBook::new();
        Ok(Self { client, limits, clock: 0, curves: Vec::new(), debits: Vec::new(), book })
    }

    /// The same budget under other limits, as its owner has changed them. What was spent stays spent.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn with_limits(self, limits: Limits) -> Result<Self, BudgetError> {
        limits.validate()?;
        Ok(Self { limits, ..self })
    }

    /// The same budget under another number: this machine has enrolled anew. What was spent was spent on its data, and stays so.
    #[must_use]
    pub fn under(self, client: ClientId) -> Self {
        let renumbered = Self { client, ..self };
        let book = renumbered.book_of(|_| true);
        Self { book, ..renumbered }
    }

    /// Tells the budget the time. An earlier one than it was told before changes nothing.
    pub fn advance(&mut self, now: Millis) {
        self.clock = self.clock.max(now);
    }

    /// The latest time that the budget was told.
    #[must_use]
    pub fn clock(&self) -> Millis {
        self.clock
    }

    /// The debits, oldest first.
    #[must_use]
    pub fn debits(&self) -> &[Debit] {
        &self.debits
    }

    /// Epsilon of one debit alone, at the limit's delta.
    ///
    /// # Errors
    /// As [`ParticipationBook::epsilon_of`].
    pub fn cost_of(&self, debit: &Debit) -> Result<f64, AccountantError> {
        self.book_of(|other| other == debit).epsilon_of(self.client.0, self.limits.delta)
    }

    /// Epsilon spent in the period that ends now, at the limit's delta; none without such a limit.
    ///
    /// # Errors
    /// As [`ParticipationBook::epsilon_of`].
    pub fn spent_in_period(&self) -> Result<Option<f64>, AccountantError> {
        let spent = |period| self.book_in(period).epsilon_of(self.client.0, self.limits.delta);
        self.limits.period.map(spent).transpose()
    }

    /// Epsilon spent on a task, at the limit's delta.
    ///
    /// # Errors
    /// As [`ParticipationBook::epsilon_of`].
    pub fn spent_on(&self, task: &TaskName) -> Result<f64, AccountantError> {
        self.book_on(task).epsilon_of(self.client.0, self.limits.delta)
    }

    fn book_in(&self, period: Period) -> ParticipationBook {
        let begin = self.clock.saturating_sub(u64::from(period.days) * DAY);
        // From the beginning on, and before the first day nothing is over.
        self.book_of(|debit| begin == 0 || debit.at > begin)
    }

    fn book_on(&self, task: &TaskName) -> ParticipationBook {
        self.book_of(|debit| debit.participation.task == *task)
    }

    /// What some of the debits come to.
    fn book_of(&self, counts: impl Fn(&Debit) -> bool) -> ParticipationBook {
        let mut book = ParticipationBook::new();
        let counting = self.debits.iter().filter(|debit| counts(debit));
        counting.for_each(|debit| book.debit(self.client.0, &self.curves[debit.curve]));
        book
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

    /// The book.
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
    /// [`BudgetError::BelowFloor`] names the parameter; [`BudgetError::Adjacency`]; [`BudgetError::CentralNotAllowed`].
    pub fn check_terms(
        &self,
        terms: &RoundTerms,
        adjacency: Adjacency,
        trust: &Trust,
    ) -> Result<(), BudgetError> {
        let Limits { floors, adjacency: floor, allow_central, .. } = &self.limits;
        if matches!(trust, Trust::Central { .. }) && !allow_central {
            return Err(BudgetError::CentralNotAllowed { round: terms.round });
        }
        if (*floor, adjacency) == (Adjacency::ReplaceOne, Adjacency::ZeroOut) {
            return Err(BudgetError::Adjacency { round: terms.round, offered: adjacency, floor: *floor });
        }
        floors.admit_terms(terms)?;
        // Even the largest cohort of the plan could never have enough survivors.
        if terms.cohort_max < floors.n_min {
            let (offered, floor) = (terms.cohort_max.to_string(), floors.n_min.to_string());
            return Err(BelowFloor { parameter: "n_min", offered, floor }.into());
        }
        Ok(())
    }

    /// Checks that a round would not take the client past the limit over everything that it ever joins.
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

    /// Checks that a round of a task would not take the client past any of its limits.
    ///
    /// # Errors
    /// [`BudgetError::Exceeded`], [`BudgetError::Scope`].
    pub fn check_all(&self, task: &TaskName, round: u64, cost: &RdpCurve) -> Result<(), BudgetError> {
        self.check(round, cost)?;
        let Limits { delta, period, per_task, .. } = self.limits;
        let period = period.map(|period| (Scope::Days(period.days), period.epsilon, self.book_in(period)));
        let per_task = per_task.map(|limit| (Scope::Task, limit, self.book_on(task)));
        for (scope, limit, book) in period.into_iter().chain(per_task) {
            if book.would_exceed(self.client.0, cost, delta, limit) {
                let (client, task) = (self.client, task.clone());
                let spent = book.epsilon_of(client.0, delta)?;
                return Err(BudgetError::Scope { task, round, client, scope, spent, limit, delta });
            }
        }
        Ok(())
    }

    /// As [`Self::check_all`], unless exactly this was debited already.
    ///
    /// # Errors
    /// As [`Self::check_all`].
    pub fn check_unpaid(&self, participation: &Participation, cost: &RdpCurve) -> Result<(), BudgetError> {
        if self.debits.iter().any(|debit| debit.participation == *participation) {
            return Ok(());
        }
        self.check_all(&participation.task, participation.round, cost)
    }

    /// Whether anything was debited for this round of the task.
    #[must_use]
    pub fn has_paid_in(&self, task: &TaskName, round: u64) -> bool {
        let paid = |debit: &Debit| debit.participation.task == *task && debit.participation.round == round;
        self.debits.iter().any(paid)
    }

    /// Debits what taking part costs; once, however often the same is debited. The caller stores the budget before the first
    /// byte of the upload is sent.
    ///
    /// # Errors
    /// As [`Self::check_all`]; nothing is debited then.
    pub fn debit(&mut self, participation: &Participation, cost: &RdpCurve) -> Result<(), BudgetError> {
        self.check_unpaid(participation, cost)?;
        if !self.debits.iter().any(|debit| debit.participation == *participation) {
            self.book.debit(self.client.0, cost);
            let curve = self.curves.iter().position(|known| known == cost).unwrap_or_else(|| {
                self.curves.push(cost.clone());
                self.curves.len() - 1
            });
            let participation = participation.clone();
            self.debits.push(Debit { participation, at: self.clock, curve, upload: None });
        }
        Ok(())
    }

    /// Notes the digest of the masked vector that a debit is for. From then on no other vector passes for it.
    ///
    /// # Errors
    /// [`BudgetError::AnotherUpload`] when another was noted, [`BudgetError::NotDebited`] when there is no such debit.
    pub fn seal(&mut self, participation: &Participation, upload: Digest) -> Result<(), BudgetError> {
        let (client, round) = (self.client, participation.round);
        let debit = self.debits.iter_mut().find(|debit| debit.participation == *participation);
        let debit = debit.ok_or(BudgetError::NotDebited { round })?;
        if *debit.upload.get_or_insert(upload) == upload {
            return Ok(());
        }
        Err(BudgetError::AnotherUpload { round, client })
    }
}

#[cfg(test)]
mod tests {
    use super::{Budget, BudgetError, DAY, Limits, Participation, Period, Scope};
    use tacit_aggregation::identity::ClientId;
    use tacit_aggregation::params::{Floors, RoundTerms, TaskName, ThreatModel};
    use tacit_privacy::{Adjacency, RdpCurve, epsilon_spent};
    use tacit_proto::Trust;

    const DELTA: f64 = 1e-5;

    fn budget(epsilon: f64) -> Budget {
        let floors = Floors { n_min: 10, corrupt_bp: 500, threat: ThreatModel::SemiMalicious, roster: false };
        let adjacency = Adjacency::ZeroOut;
        let limits = Limits {
            epsilon,
            delta: DELTA,
            floors,
            adjacency,
            allow_central: false,
            period: None,
            per_task: None,
        };
        Budget::new(ClientId(4), limits).expect("limits")
    }

    fn part(round: u64, context: u8) -> Participation {
        Participation { task: TaskName::new("t").expect("a plain name"), round, context: [context; 32] }
    }

    #[test]
    fn a_round_past_the_limit_is_refused_and_not_debited() {
        let cost = RdpCurve::gaussian(2.0);
        let two = epsilon_spent(&cost.times(2), DELTA, 2).expect("stated");
        let mut budget = budget(two);
        budget.debit(&part(1, 1), &cost).expect("within the limit");
        budget.debit(&part(2, 1), &cost).expect("exactly the limit");
        match budget.debit(&part(3, 1), &cost) {
            Err(BudgetError::Exceeded { round: 3, client: ClientId(4), spent, limit, .. }) => {
                assert_eq!((spent, limit), (two, two));
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(budget.book().rounds_of(4), 2);
        assert_eq!(budget.spent(), Ok(two));
    }

    #[test]
    fn a_replay_is_debited_once_and_masks_one_vector() {
        let cost = RdpCurve::gaussian(2.0);
        let one = epsilon_spent(&cost, DELTA, 1).expect("stated");
        let mut budget = budget(one);
        assert_eq!(budget.seal(&part(1, 1), [7; 32]), Err(BudgetError::NotDebited { round: 1 }));
        budget.debit(&part(1, 1), &cost).expect("exactly the limit");
        budget.seal(&part(1, 1), [7; 32]).expect("the first vector");

        // Stored and read again: nothing is left, but this is paid for.
        let stored = serde_json::to_string(&budget).expect("plain data");
        let mut budget: Budget = serde_json::from_str(&stored).expect("its own form");
        assert!(budget.has_paid_in(&part(1, 1).task, 1) && !budget.has_paid_in(&part(1, 1).task, 2));
        budget.check_unpaid(&part(1, 1), &cost).expect("paid");
        budget.debit(&part(1, 1), &cost).expect("paid");
        budget.seal(&part(1, 1), [7; 32]).expect("the same vector");
        assert_eq!((budget.book().rounds_of(4), budget.spent()), (1, Ok(one)));
        let another = BudgetError::AnotherUpload { round: 1, client: ClientId(4) };
        assert_eq!(budget.seal(&part(1, 1), [8; 32]), Err(another));

        // Another round, another cohort of the same round, another task: each is to be paid for.
        let other_task = Participation { task: TaskName::new("u").expect("a plain name"), ..part(1, 1) };
        for unpaid in [part(2, 1), part(1, 2), other_task] {
            assert!(matches!(budget.debit(&unpaid, &cost), Err(BudgetError::Exceeded { .. })), "{unpaid:?}");
        }

        let mut lax: serde_json::Value = serde_json::from_str(&stored).expect("plain data");
        lax["limits"]["delta"] = 1.0.into();
        let refused = serde_json::from_value::<Budget>(lax).expect_err("a limit that limits nothing");
        assert!(refused.to_string().contains("delta is 1"), "{refused}");
    }

    #[test]
    fn a_period_limits_what_is_spent_in_it_and_a_clock_set_back_opens_nothing() {
        let cost = RdpCurve::gaussian(2.0);
        let two = epsilon_spent(&cost.times(2), DELTA, 2).expect("stated");
        let limits = Limits { period: Some(Period { days: 7, epsilon: two }), ..*budget(100.0).limits() };
        let mut budget = Budget::new(ClientId(4), limits).expect("limits");
        let start = 1_000 * DAY;
        let refused = |budget: &mut Budget, round| match budget.debit(&part(round, 1), &cost) {
            Err(BudgetError::Scope { scope: Scope::Days(7), spent, limit, .. }) => {
                assert_eq!((spent, limit), (two, two))
            }
            other => panic!("{other:?}"),
        };
        budget.advance(start);
        budget.debit(&part(1, 1), &cost).expect("nothing spent");
        budget.advance(start + 6 * DAY);
        budget.debit(&part(2, 1), &cost).expect("exactly the limit");
        refused(&mut budget, 3);
        budget.advance(start + 7 * DAY - 1);
        refused(&mut budget, 3);
        // The first debit is over, the second is not.
        budget.advance(start + 7 * DAY);
        budget.debit(&part(3, 1), &cost).expect("one of the two is a week old");
        assert_eq!(budget.spent_in_period(), Ok(Some(two)));
        refused(&mut budget, 4);

        // Set back by years, and set back before the program starts again.
        for earlier in [0, start - 900 * DAY, start + DAY] {
            budget.advance(earlier);
            assert_eq!(budget.clock(), start + 7 * DAY);
            refused(&mut budget, 4);
            let stored = postcard::to_stdvec(&budget).expect("plain data");
            let mut again: Budget = postcard::from_bytes(&stored).expect("its own form");
            assert_eq!(again, budget);
            again.advance(earlier);
            refused(&mut again, 4);
        }
        // A replay of what is paid is free whatever the time.
        budget.debit(&part(3, 1), &cost).expect("paid");
        assert_eq!(budget.debits().iter().map(|debit| debit.at).collect::<Vec<_>>().len(), 3);
        // Its owner may raise a limit, and what was spent stays so.
        let spent = budget.spent();
        let raised = Limits { period: None, ..limits };
        let mut budget = budget.with_limits(raised).expect("limits");
        assert_eq!(budget.spent(), spent);
        budget.debit(&part(4, 1), &cost).expect("no such limit");
    }

    #[test]
    fn before_the_first_period_is_over_everything_counts() {
        let cost = RdpCurve::gaussian(2.0);
        let one = epsilon_spent(&cost, DELTA, 1).expect("stated");
        let limits = Limits { period: Some(Period { days: 7, epsilon: one }), ..*budget(100.0).limits() };
        let mut budget = Budget::new(ClientId(4), limits).expect("limits");
        // A machine without a clock begins in 1970.
        budget.debit(&part(1, 1), &cost).expect("nothing spent");
        assert!(budget.debit(&part(2, 1), &cost).is_err());
    }

    #[test]
    fn no_task_takes_more_than_a_tasks_share() {
        let cost = RdpCurve::gaussian(2.0);
        let one = epsilon_spent(&cost, DELTA, 1).expect("stated");
        let limits = Limits { per_task: Some(one), ..*budget(100.0).limits() };
        let mut budget = Budget::new(ClientId(4), limits).expect("limits");
        budget.debit(&part(1, 1), &cost).expect("nothing spent");
        let refused = budget.debit(&part(2, 1), &cost);
        assert!(matches!(refused, Err(BudgetError::Scope { scope: Scope::Task, .. })), "{refused:?}");
        let other = Participation { task: TaskName::new("u").expect("a plain name"), ..part(2, 1) };
        budget.debit(&other, &cost).expect("another task");
        assert_eq!(budget.spent_on(&other.task), Ok(one));
        assert_eq!(budget.cost_of(&budget.debits()[0]), Ok(one));
    }

    #[test]
    fn a_stored_budget_that_forgot_a_cost_or_its_time_is_refused() {
        let mut budget = budget(100.0);
        budget.advance(5);
        budget.debit(&part(1, 1), &RdpCurve::gaussian(2.0)).expect("within the limit");
        let good = serde_json::to_value(&budget).expect("plain data");
        let damage: [fn(&mut serde_json::Value); 2] =
            [|form| form["debits"][0]["curve"] = 1.into(), |form| form["clock"] = 4.into()];
        for damage in damage {
            let mut bad = good.clone();
            damage(&mut bad);
            let error = serde_json::from_value::<Budget>(bad).expect_err("damaged").to_string();
            assert!(error.contains("debit 0"), "{error}");
        }
    }

    #[test]
    fn limits_that_limit_nothing_are_refused() {
        let limits = *budget(1.0).limits();
        for (name, bad) in [
            ("epsilon", Limits { epsilon: f64::INFINITY, ..limits }),
            ("epsilon", Limits { epsilon: f64::NAN, ..limits }),
            ("epsilon", Limits { epsilon: 0.0, ..limits }),
            ("period.epsilon", Limits { period: Some(Period { days: 1, epsilon: 0.0 }), ..limits }),
            ("period.days", Limits { period: Some(Period { days: 0, epsilon: 1.0 }), ..limits }),
            ("per_task", Limits { per_task: Some(f64::NAN), ..limits }),
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
            roster: None,
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
        budget.check_terms(&good, Adjacency::ZeroOut, &Trust::Distributed).expect("at the floors");
        budget.check_terms(&good, Adjacency::ReplaceOne, &Trust::Distributed).expect("stronger");
        let strict = Limits { adjacency: Adjacency::ReplaceOne, ..*budget.limits() };
        let strict = Budget::new(ClientId(4), strict).expect("limits");
        strict.check_terms(&good, Adjacency::ReplaceOne, &Trust::Distributed).expect("at the floor");
        let (offered, floor) = (Adjacency::ZeroOut, Adjacency::ReplaceOne);
        let refused = strict
            .check_terms(&good, offered, &Trust::Distributed)
            .expect_err("weaker than the client means");
        assert_eq!(refused, BudgetError::Adjacency { round: 1, offered, floor });
        assert!(refused.to_string().contains("zero-out adjacency"), "{refused}");
        let central = Trust::Central { noise_commitment: [0; 32], adaptive_clip: None };
        let refused = budget.check_terms(&good, Adjacency::ZeroOut, &central).expect_err("not allowed");
        assert_eq!(refused, BudgetError::CentralNotAllowed { round: 1 });
        let trusting = Limits { allow_central: true, ..*budget.limits() };
        let trusting = Budget::new(ClientId(4), trusting).expect("limits");
        trusting.check_terms(&good, Adjacency::ZeroOut, &central).expect("its owner allows it");
        // Limits that were stored before there was a choice allow nothing new.
        let mut stored = serde_json::to_value(trusting.limits()).expect("plain data");
        stored.as_object_mut().expect("an object").remove("allow_central");
        assert!(!serde_json::from_value::<Limits>(stored).expect("its own form").allow_central);
        for (parameter, bad) in [
            ("threat", RoundTerms { threat: ThreatModel::HonestButCurious, ..good.clone() }),
            ("corrupt_bp", RoundTerms { corrupt_bp: 499, ..good.clone() }),
            ("n_min", RoundTerms { cohort_max: 9, ..good.clone() }),
        ] {
            match budget.check_terms(&bad, Adjacency::ZeroOut, &Trust::Distributed) {
                Err(BudgetError::BelowFloor(below)) => assert_eq!(below.parameter, parameter),
                other => panic!("{other:?}"),
            }
        }
    }
}
