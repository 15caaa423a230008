//! Why clients that wait with an update may not take part, in numbers for the operator. Must never name a client.

use super::{ClientId, Task, Tools};
use std::fmt;

/// Why a client may not take part in a round now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bar {
    /// It took part too few rounds ago.
    Rests,
    /// It has had its rounds.
    Served,
    /// The round would take it past what the task allows.
    Spent,
    /// The roster that the plan demands does not draw it in this period.
    Undrawn,
}

/// How many of the clients that wait are barred, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Bars {
    waiting: usize,
    rest: usize,
    served: usize,
    spent: usize,
    undrawn: usize,
    separation: u64,
}

impl Bars {
    pub(super) fn new(separation: u64) -> Self {
        Self { separation, ..Self::default() }
    }

    /// Counts a client that waits; says whether it may take part.
    pub(super) fn count(&mut self, bar: Option<Bar>) -> bool {
        self.waiting += 1;
        match bar {
            Some(Bar::Rests) => self.rest += 1,
            Some(Bar::Served) => self.served += 1,
            Some(Bar::Spent) => self.spent += 1,
            Some(Bar::Undrawn) => self.undrawn += 1,
            None => return true,
        }
        false
    }
}

impl fmt::Display for Bars {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { waiting, rest, served, spent, undrawn, separation } = self;
        write!(
            f,
            "of {waiting} clients that wait, {rest} took part less than {separation} rounds ago, {served} have had their rounds, \
             {spent} would spend more than the task allows, and {undrawn} are not drawn from the roster in this period: enrol more \
             clients, have the next roster draw more, or make a task with other rules"
        )
    }
}

impl Task {
    /// Whether the coordinator's own book and the task's rules keep a client out of a round.
    pub(super) fn bar(&self, client: ClientId, round: u64, tools: &Tools<'_>) -> Option<Bar> {
        let rules = &self.settings.eligibility;
        let history = tools.account.history(self.settings.name());
        if history.is_some_and(|history| !history.is_rested(client, round, rules.separation)) {
            return Some(Bar::Rests);
        }
        let rounds = history.map_or(0, |history| history.rounds_of(client));
        if rules.rounds_per_client.is_some_and(|most| rounds >= most) {
            return Some(Bar::Served);
        }
        let affordable = rules.epsilon_per_client.is_none_or(|limit| {
            let cost = self.plan.as_ref().and_then(|plan| plan.cost.as_ref());
            cost.is_some_and(|cost| {
                !tools.account.would_exceed(client, cost, self.settings.plan.delta, limit)
            })
        });
        if !affordable {
            return Some(Bar::Spent);
        }
        let drawn = self.plan.as_ref().is_some_and(|plan| plan.draws(client, tools.rosters));
        (!drawn).then_some(Bar::Undrawn)
    }
}

#[cfg(test)]
mod tests {
    use super::{Bar, Bars};

    #[test]
    fn each_reason_is_counted() {
        let mut bars = Bars::new(3);
        let barred =
            [Bar::Rests, Bar::Rests, Bar::Served, Bar::Spent, Bar::Undrawn, Bar::Undrawn, Bar::Undrawn];
        let clients = std::iter::once(None).chain(barred.map(Some)).chain([None]);
        let able: Vec<bool> = clients.map(|bar| bars.count(bar)).collect();
        assert_eq!(able, [true, false, false, false, false, false, false, false, true]);
        let said = bars.to_string();
        let parts = [
            "of 9 clients",
            "2 took part less than 3 rounds ago",
            "1 have had",
            "1 would spend",
            "3 are not drawn",
        ];
        for part in parts {
            assert!(said.contains(part), "{said}");
        }
    }
}
