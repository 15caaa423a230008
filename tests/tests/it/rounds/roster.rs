//! Rounds whose cohort the identity root's roster draws. Must never let a plan that demands one go through without it.

use super::fleet::{Fleet, Leaves, START, rng};
use super::{commit, committed};
use std::collections::BTreeMap;
use tacit_aggregation::client::ClientError;
use tacit_aggregation::identity::{ClientId, Rate, RosterError};
use tacit_client::participant::Joined;
use tacit_client::{Member, ParticipantError};
use tacit_proto::{PlanError, SignedPlan, Wire as _};

fn fleet() -> Fleet {
    let mut fleet = Fleet::new(24, 41).with_roster(2, Rate::new(2, 3).expect("a rate"));
    fleet.settings.cohort.min = 8;
    fleet
}

fn drawn(fleet: &Fleet) -> (Vec<ClientId>, Vec<ClientId>) {
    let terms = fleet.roster.clone().expect("demanded");
    fleet.clients().into_iter().partition(|client| terms.roster.draws(terms.period, *client))
}

fn joins(
    fleet: &Fleet,
    plan: &SignedPlan,
    client: ClientId,
    change: impl FnOnce(&mut Member),
) -> Result<(), ParticipantError> {
    let machine = &fleet.machines[&client];
    let mut member = machine.member.clone();
    change(&mut member);
    let (parent, delta) = (*fleet.state.adapter.digest(), fleet.delta(1, client));
    let mut secrets = rng(7, client, 1, 1);
    Joined::new(plan, &member, parent, delta, &machine.budget, START, &mut secrets).map(|_| ())
}

#[test]
fn a_drawn_cohort_commits_and_nobody_else_joins() {
    let mut fleet = fleet();
    let (inside, outside) = drawn(&fleet);
    assert!(inside.len() >= 8 && !outside.is_empty(), "{} of 24", inside.len());
    let plan = fleet.plan(1);
    for &client in &outside {
        let refused = joins(&fleet, &plan, client, |_| {}).expect_err("not drawn");
        let expected = RosterError::NotDrawn { client, period: 2, epoch: 3 };
        assert_eq!(refused, ParticipantError::Protocol(ClientError::Roster(expected)));
    }
    let drops: BTreeMap<ClientId, Leaves> = outside.iter().map(|client| (*client, Leaves::Advert)).collect();
    let run = fleet.run(1, &drops);
    let released = committed(&run);
    assert_eq!(released.survivors, inside);
    // Noise, cost and ledger are those of a cohort of which A collude, and the ledger can be recomputed from itself.
    let corrupt = fleet.roster.as_ref().map_or(0, |terms| terms.corrupt);
    let closed = run.closed.as_ref().expect("it was closed");
    let tacit_privacy::RoundMechanism::Distributed(mechanism) = &closed.mechanism else {
        panic!("clients add it")
    };
    assert_eq!((mechanism.corrupt_clients(), corrupt), (2, 2));
    assert!(commit(released).debit.epsilon > 0.0);
    fleet.go_on(run);
    let plan = fleet.plan(2);
    assert!(joins(&fleet, &plan, inside[0], |_| {}).is_ok());
}

#[test]
fn a_proof_is_needed_and_is_ones_own() {
    let fleet = fleet();
    let (inside, _) = drawn(&fleet);
    let (client, plan) = (inside[0], fleet.plan(1));
    joins(&fleet, &plan, client, |_| {}).expect("drawn");
    let other = fleet.machines[&inside[1]].member.membership.clone();
    let foreign = joins(&fleet, &plan, client, |member| member.membership = other).expect_err("another's");
    let expected = RosterError::Membership { client, epoch: 3 };
    assert_eq!(foreign, ParticipantError::Protocol(ClientError::Roster(expected)));
    let none = joins(&fleet, &plan, client, |member| member.membership = None).expect_err("none");
    let expected = RosterError::NoProof { client, epoch: 3 };
    assert_eq!(none, ParticipantError::Protocol(ClientError::Roster(expected)));
    // A root that did not sign this roster.
    let stranger =
        joins(&fleet, &plan, client, |member| member.root = fleet.key.public_key()).expect_err("foreign");
    assert!(matches!(stranger, ParticipantError::Protocol(_)), "{stranger}");
}

#[test]
fn a_roster_taken_off_a_signed_plan_breaks_the_signature() {
    let fleet = fleet();
    let signed = fleet.plan(1);
    let wire = signed.to_wire();
    let plan = signed.verify(&fleet.key.public_key()).expect("its own plan");
    let plain = tacit_proto::RoundPlan { roster: None, ..plan.clone() };
    assert_ne!(plain.digest(), plan.digest());
    // The same signature over the plan without its roster, as a coordinator's enemy on the way could make it.
    let (with, without) = (plan.to_wire(), plain.to_wire());
    let place = wire.windows(with.len()).position(|window| window == with).expect("inside");
    let signature = &wire[place + with.len()..];
    let mut length = without.len();
    let mut stripped = vec![0x0a];
    while length >= 0x80 {
        stripped.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    stripped.push(length as u8);
    stripped.extend_from_slice(&without);
    stripped.extend_from_slice(signature);
    let stripped = SignedPlan::from_wire(&stripped).expect("well formed");
    let refused = stripped.verify(&fleet.key.public_key());
    assert!(matches!(refused, Err(PlanError::Signature { round: 1, .. })), "{refused:?}");
}
