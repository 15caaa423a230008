//! What each side refuses of the other, on top of secure aggregation's own refusals. A refusal must never end a round for the
//! others.

use super::fleet::{Fleet, rng, terms};
use std::collections::BTreeMap;
use std::path::Path;
use tacit_aggregation::client::ClientError;
use tacit_aggregation::identity::ClientId;
use tacit_aggregation::params::{Floors, ThreatModel};
use tacit_client::participant::Joined;
use tacit_client::{Budget, BudgetError, Limits, Participant, ParticipantError};
use tacit_coordinator::round::OpenError;
use tacit_coordinator::{Driver, Event, Outgoing, Refusal, RoundSetup};
use tacit_privacy::PipelineError;
use tacit_proto::{ClientMessage, CoordinatorKey, PlanError, ServerMessage};

fn refusal(outgoing: &[Outgoing]) -> &Refusal {
    match outgoing {
        [Outgoing::Refuse(refusal)] => refusal,
        other => panic!("{other:?}"),
    }
}

/// A client's way into a round, with what is wrong about it.
fn join_with(fleet: &Fleet, change: impl FnOnce(&mut Attempt)) -> ParticipantError {
    let client = fleet.clients()[0];
    let machine = &fleet.machines[&client];
    let mut attempt = Attempt {
        plan: fleet.plan(1),
        member: machine.member.clone(),
        parent: *fleet.state.adapter.digest(),
        delta: fleet.delta(1, client),
        budget: machine.budget.clone(),
        now: 1_000_000_000,
    };
    change(&mut attempt);
    let Attempt { plan, member, parent, delta, budget, now } = attempt;
    let mut secrets = rng(0, client, 1, 1);
    Joined::new(&plan, &member, parent, delta, &budget, now, &mut secrets).expect_err("refused")
}

struct Attempt {
    plan: tacit_proto::SignedPlan,
    member: tacit_client::Member,
    parent: [u8; 32],
    delta: Vec<f32>,
    budget: Budget,
    now: u64,
}

fn limits(epsilon: f64, floors: Floors) -> Limits {
    Limits { epsilon, delta: terms::DELTA, floors }
}

#[test]
fn a_client_stays_out_of_what_its_limits_do_not_allow() {
    let fleet = Fleet::new(8, 11);
    let client = fleet.clients()[0];
    let other = CoordinatorKey::from_bytes(&[1; 32]);

    let error = join_with(&fleet, |a| a.member.coordinator = other.public_key());
    assert!(matches!(error, ParticipantError::Plan(PlanError::Coordinator { .. })), "{error}");
    let error = join_with(&fleet, |a| a.member.base_model = [0; 32]);
    assert!(matches!(error, ParticipantError::BaseModel { round: 1 }), "{error}");
    let error = join_with(&fleet, |a| {
        a.budget = Budget::new(client, limits(0.1, Floors::default())).expect("limits");
    });
    assert!(matches!(error, ParticipantError::Budget(BudgetError::Exceeded { round: 1, .. })), "{error}");
    let strict = Floors { n_min: 9, corrupt_bp: 0, threat: ThreatModel::SemiMalicious };
    let error = join_with(&fleet, |a| a.budget = Budget::new(client, limits(9.0, strict)).expect("limits"));
    assert!(matches!(error, ParticipantError::Budget(BudgetError::BelowFloor(_))), "{error}");
    let error = join_with(&fleet, |a| {
        a.budget = Budget::new(ClientId(client.0 ^ 1), limits(9.0, Floors::default())).expect("limits");
    });
    assert!(matches!(error, ParticipantError::ForeignBudget { .. }), "{error}");

    let error = join_with(&fleet, |a| a.delta[17] = f32::NAN);
    assert!(error.to_string().contains("coordinate 17"), "{error}");
    let error = join_with(&fleet, |a| a.delta.truncate(299));
    let mismatch = PipelineError::DimensionMismatch { expected: 300, found: 299 };
    assert_eq!(error, ParticipantError::Update(mismatch));
    let error = join_with(&fleet, |a| a.parent = [0; 32]);
    assert!(matches!(error, ParticipantError::Protocol(ClientError::OwnParentNotAdmitted)), "{error}");
    let error = join_with(&fleet, |a| a.now = 2_000_000_000_000);
    assert!(matches!(error, ParticipantError::Protocol(ClientError::Certificate(_))), "{error}");
}

#[test]
fn a_client_leaves_a_round_that_asks_out_of_turn_or_costs_more_than_is_left() {
    let mut fleet = Fleet::new(8, 12);
    let (plan, mut driver) = fleet.open(1);
    let mut cohort = Vec::new();
    let mut joined: BTreeMap<ClientId, Joined> = BTreeMap::new();
    for client in fleet.clients() {
        let participant = fleet.join(&plan, 1, client);
        let message = participant.advert();
        joined.insert(client, participant);
        cohort = driver.handle(Event::Message { from: client, message }, 1_000_000_001);
    }
    let messages: BTreeMap<ClientId, ServerMessage> = cohort
        .into_iter()
        .filter_map(|out| match out {
            Outgoing::Send { to, message } => Some((to, message)),
            _ => None,
        })
        .collect();
    assert_eq!(messages.len(), 8);

    // Another round spent the budget while this one was waiting for its cohort.
    let poor = fleet.clients()[0];
    let cost = match driver.round().cohort() {
        Some(cohort) => cohort.cost.clone(),
        None => panic!("the cohort is closed"),
    };
    let budget = &mut fleet.machines.get_mut(&poor).expect("a member").budget;
    while budget.debit(7, &cost).is_ok() {}
    let participant = Participant::Joined(joined.remove(&poor).expect("it joined"));
    let error = participant
        .answer(&messages[&poor], budget, 1_000_000_002, &mut rng(0, poor, 1, 2))
        .expect_err("nothing is left");
    assert!(matches!(error, ParticipantError::Budget(BudgetError::Exceeded { round: 1, .. })), "{error}");

    // Maps before any vector was masked.
    let hasty = fleet.clients()[1];
    let participant = Participant::Joined(joined.remove(&hasty).expect("it joined"));
    let budget = &mut fleet.machines.get_mut(&hasty).expect("a member").budget;
    let maps = tacit_aggregation::messages::SurvivorMaps {
        shared: tacit_aggregation::bitmap::Bitmap::new(8),
        survived: tacit_aggregation::bitmap::Bitmap::new(8),
    };
    let error = participant
        .answer(&ServerMessage::Maps(maps), budget, 1_000_000_002, &mut rng(0, hasty, 1, 2))
        .expect_err("out of turn");
    assert_eq!(error, ParticipantError::OutOfTurn { round: 1, asked: "confirm", state: "joined" });

    // A repeated cohort gets the recorded answer; nothing of all this was debited.
    let calm = fleet.clients()[2];
    let mut participant = Participant::Joined(joined.remove(&calm).expect("it joined"));
    let mut answers = Vec::new();
    for _ in 0..3 {
        let budget = &mut fleet.machines.get_mut(&calm).expect("a member").budget;
        let (next, answer) = participant
            .answer(&messages[&calm], budget, 1_000_000_002, &mut rng(0, calm, 1, 2))
            .expect("an honest coordinator");
        participant = next;
        answers.push(answer);
    }
    assert!(answers.windows(2).all(|pair| pair[0] == pair[1]));
    assert_eq!(fleet.spent(calm), 0.0);
}

#[test]
fn the_coordinator_refuses_strangers_impostors_and_messages_of_another_step() {
    let fleet = Fleet::new(8, 13);
    let (plan, mut driver) = fleet.open(1);
    let clients = fleet.clients();
    let advert = |client| fleet.join(&plan, 1, client).advert();
    let now = 1_000_000_001;

    let stranger = ClientId(1);
    let out = driver.handle(Event::Message { from: stranger, message: advert(clients[0]) }, now);
    assert_eq!(refusal(&out), &Refusal::NotInvited { client: stranger, round: 1 });
    let out = driver.handle(Event::Message { from: clients[1], message: advert(clients[0]) }, now);
    assert_eq!(refusal(&out), &Refusal::Impostor { client: clients[1], named: clients[0] });
    let confirm = ClientMessage::Confirm(tacit_aggregation::messages::Confirm {
        client: clients[0],
        signature: tacit_aggregation::identity::Signature([0; 64]),
    });
    let out = driver.handle(Event::Message { from: clients[0], message: confirm }, now);
    let out_of_step =
        Refusal::OutOfStep { client: clients[0], round: 1, sent: "confirm", current: "advertise" };
    assert_eq!(refusal(&out), &out_of_step);

    // A repeated advert changes nothing; another one is refused, and the first stands.
    let first = advert(clients[0]);
    assert!(driver.handle(Event::Message { from: clients[0], message: first.clone() }, now).is_empty());
    assert!(driver.handle(Event::Message { from: clients[0], message: first }, now).is_empty());
    let machine = &fleet.machines[&clients[0]];
    let parent = *fleet.state.adapter.digest();
    let mut secrets = rng(99, clients[0], 1, 1);
    let second = Joined::new(
        &plan,
        &machine.member,
        parent,
        fleet.delta(1, clients[0]),
        &machine.budget,
        now,
        &mut secrets,
    );
    let second = second.expect("an honest plan").advert();
    let out = driver.handle(Event::Message { from: clients[0], message: second }, now);
    assert!(matches!(refusal(&out), Refusal::Protocol { .. }));
    assert_eq!(refusal(&out).client(), clients[0]);

    // Too few at the deadline: the round ends, and says so once.
    let deadline = driver.deadline().expect("it goes on");
    assert!(driver.handle(Event::Tick, deadline - 1).is_empty());
    assert_eq!(driver.handle(Event::Tick, deadline), [Outgoing::End]);
    assert!(driver.has_ended() && driver.deadline().is_none());
    assert!(driver.handle(Event::Tick, deadline + 1).is_empty());
    let late = driver.handle(Event::Message { from: clients[3], message: advert(clients[3]) }, deadline + 1);
    assert!(matches!(refusal(&late), Refusal::OutOfStep { current: "failed", .. }));
}

#[test]
fn a_round_is_opened_only_where_the_task_stands() {
    let fleet = Fleet::new(8, 14);
    let setup = |plan| RoundSetup {
        plan,
        coordinator: fleet.key.public_key(),
        root: fleet.root.public_key(),
        invited: fleet.clients().into_iter().collect(),
    };
    let mut moved = fleet.state.clone();
    moved.adapter = tacit_coordinator::AdapterVersion::new(vec![0.0; 300], [1; 32]).expect("finite");
    let refused = Driver::open(setup(fleet.plan(1)), moved, 0).map(|_| ());
    assert_eq!(refused, Err(OpenError::Parent { round: 1 }));

    let mut fleet_after = Fleet::new(8, 14);
    let run = fleet_after.run(1, &BTreeMap::new());
    let mut state = run.outcome.into_state();
    state.adapter = fleet.state.adapter.clone();
    let refused = Driver::open(setup(fleet.plan(1)), state, 0).map(|_| ());
    assert_eq!(refused, Err(OpenError::LedgerHead { round: 1 }));
}

/// `contribution.rs` is the only place outside the privacy crate where a noised update is taken out.
#[test]
fn one_place_makes_ring_vectors_of_updates() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    // Spelt in two parts so that this file is not a place of its own.
    let needle = concat!("into_", "ring(");
    let mut places = Vec::new();
    let mut folders = vec![root.to_path_buf()];
    let mut files = 0;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder of the workspace") {
            let path = entry.expect("an entry").path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
            if path.is_dir() {
                if !(name.starts_with('.') || name == "target" || path == root.join("privacy")) {
                    folders.push(path);
                }
            } else if name.ends_with(".rs") {
                files += 1;
                let text = std::fs::read_to_string(&path).expect("a source file");
                let relative = path.strip_prefix(root).expect("inside").display().to_string();
                places.extend(text.matches(needle).map(|_| relative.clone()));
            }
        }
    }
    assert!(files > 100, "only {files} source files were found");
    assert_eq!(places, ["client/src/contribution.rs"]);
}
