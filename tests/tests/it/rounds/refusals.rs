//! What each side refuses of the other, on top of secure aggregation's own refusals. A refusal must never end a round for the
//! others.

use super::fleet::{Fleet, Out, START, limits, rng};
use std::collections::BTreeMap;
use std::path::Path;
use tacit_aggregation::client::ClientError;
use tacit_aggregation::identity::ClientId;
use tacit_aggregation::params::{Floors, ThreatModel};
use tacit_client::participant::{JoinSecrets, Joined};
use tacit_client::{Budget, BudgetError, Limits, Participant, ParticipantError, Participation};
use tacit_coordinator::round::OpenError;
use tacit_coordinator::{Driver, Event, Refusal, RoundSetup};
use tacit_privacy::{Adjacency, PipelineError};
use tacit_proto::{ClientMessage, CoordinatorKey, PlanError, ServerMessage};

fn refusal(outgoing: &[Out]) -> &Refusal {
    match outgoing {
        [Out::Refuse(refusal)] => refusal,
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
    let strict = Floors { n_min: 9, corrupt_bp: 0, threat: ThreatModel::SemiMalicious, roster: false };
    let error = join_with(&fleet, |a| a.budget = Budget::new(client, limits(9.0, strict)).expect("limits"));
    assert!(matches!(error, ParticipantError::Budget(BudgetError::BelowFloor(_))), "{error}");
    let error = join_with(&fleet, |a| {
        a.budget = Budget::new(ClientId(client.0 ^ 1), limits(9.0, Floors::default())).expect("limits");
    });
    assert!(matches!(error, ParticipantError::ForeignBudget { .. }), "{error}");

    let error = join_with(&fleet, |a| {
        let meant = Limits { adjacency: Adjacency::ReplaceOne, ..*a.budget.limits() };
        a.budget = Budget::new(client, meant).expect("limits");
    });
    let (offered, floor) = (Adjacency::ZeroOut, Adjacency::ReplaceOne);
    assert_eq!(error, ParticipantError::Budget(BudgetError::Adjacency { round: 1, offered, floor }));

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
            Out::Send { to, message } => Some((to, message)),
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
    let part = |round| Participation { task: fleet.settings.task.clone(), round, context: [0; 32] };
    assert!((7..).any(|round| budget.debit(&part(round), &cost).is_err()));
    let participant = Participant::Joined(joined.remove(&poor).expect("it joined"));
    let error = participant.answer(&messages[&poor], budget, 1_000_000_002).expect_err("nothing is left");
    assert!(matches!(error, ParticipantError::Budget(BudgetError::Exceeded { round: 1, .. })), "{error}");

    // Maps before any vector was masked.
    let hasty = fleet.clients()[1];
    let participant = Participant::Joined(joined.remove(&hasty).expect("it joined"));
    let budget = &mut fleet.machines.get_mut(&hasty).expect("a member").budget;
    let maps = tacit_aggregation::messages::SurvivorMaps {
        shared: tacit_aggregation::bitmap::Bitmap::new(8),
        survived: tacit_aggregation::bitmap::Bitmap::new(8),
    };
    let error =
        participant.answer(&ServerMessage::Maps(maps), budget, 1_000_000_002).expect_err("out of turn");
    assert_eq!(error, ParticipantError::OutOfTurn { round: 1, asked: "confirm", state: "joined" });

    // A repeated cohort gets the recorded answer; nothing of all this was debited.
    let calm = fleet.clients()[2];
    let mut participant = Participant::Joined(joined.remove(&calm).expect("it joined"));
    let mut answers = Vec::new();
    for _ in 0..3 {
        let budget = &mut fleet.machines.get_mut(&calm).expect("a member").budget;
        let (next, answer) =
            participant.answer(&messages[&calm], budget, 1_000_000_002).expect("an honest coordinator");
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
    assert_eq!(driver.handle(Event::Tick, deadline), [Out::End]);
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
        noise: None,
    };
    let mut moved = fleet.state.clone();
    moved.adapter = tacit_coordinator::AdapterVersion::new(vec![0.0; 300], [1; 32]).expect("finite");
    let refused = Driver::open(setup(fleet.plan(1)), moved, &fleet.account, 0).map(|_| ());
    assert_eq!(refused, Err(OpenError::Parent { round: 1 }));

    let mut fleet_after = Fleet::new(8, 14);
    let run = fleet_after.run(1, &BTreeMap::new());
    let mut state = run.outcome.into_state();
    state.adapter = fleet.state.adapter.clone();
    let refused = Driver::open(setup(fleet.plan(1)), state, &run.account, 0).map(|_| ());
    assert_eq!(refused, Err(OpenError::LedgerHead { round: 1 }));
}

/// The messages for a client that go out while everybody else takes part.
struct Replayed {
    cohort: ServerMessage,
    shares: ServerMessage,
    maps: ServerMessage,
}

/// Runs a round as far as the maps, with every client's answers.
fn hear(
    fleet: &mut Fleet,
    plan: &tacit_proto::SignedPlan,
    listener: ClientId,
) -> (Replayed, Vec<ClientMessage>) {
    let (mut cohort, mut shares, mut maps) = (None, None, None);
    let mut uploaded = Vec::new();
    let mut driver = fleet.open(1).1;
    let mut participants: BTreeMap<ClientId, Participant> = fleet
        .clients()
        .into_iter()
        .map(|client| (client, Participant::Joined(fleet.join(plan, 1, client))))
        .collect();
    let mut inbox: Vec<(ClientId, ClientMessage)> = participants
        .iter()
        .map(|(&client, participant)| match participant {
            Participant::Joined(joined) => (client, joined.advert()),
            other => panic!("{other:?}"),
        })
        .collect();
    while maps.is_none() {
        assert!(!inbox.is_empty(), "nobody says anything any more");
        for (from, message) in std::mem::take(&mut inbox) {
            for out in driver.handle(Event::Message { from, message }, START + 1) {
                let Out::Send { to, message } = out else { continue };
                let budget = &mut fleet.machines.get_mut(&to).expect("a member").budget;
                let participant = participants.remove(&to).expect("a member");
                let (next, answers) = participant.answer(&message, budget, START + 1).expect("honest");
                participants.insert(to, next);
                if to == listener {
                    match &message {
                        ServerMessage::Cohort { .. } => cohort = Some(message),
                        ServerMessage::Shares(_) => (shares, uploaded) = (Some(message), answers.clone()),
                        _ => maps = Some(message),
                    }
                }
                inbox.extend(answers.into_iter().map(|answer| (to, answer)));
            }
        }
    }
    let heard =
        cohort.zip(shares).zip(maps).map(|((cohort, shares), maps)| Replayed { cohort, shares, maps });
    (heard.expect("all three"), uploaded)
}

#[test]
fn a_client_that_crashed_after_its_upload_sends_the_same_bytes_and_pays_once() {
    let mut fleet = Fleet::new(8, 15);
    let (client, plan) = (fleet.clients()[3], fleet.plan(1));
    // What the client stores before its advert is sent.
    let stored = fleet.join(&plan, 1, client).secrets();
    let (parent, delta) = (*fleet.state.adapter.digest(), fleet.delta(1, client));
    let (heard, uploaded) = hear(&mut fleet, &plan, client);
    assert!(matches!(uploaded[..], [ClientMessage::MaskedHeader(_), ClientMessage::MaskedChunk(_)]));
    let machine = &fleet.machines[&client];
    let paid = machine.budget.clone();
    assert_eq!(paid.book().rounds_of(client.0), 1);
    let resume = |plan: &_, parent, delta, budget: &Budget| {
        let secrets = JoinSecrets::from_bytes(&stored).expect("its own form");
        Joined::resume(plan, &machine.member, parent, delta, budget, START + 1, secrets)
    };
    let replay = |joined: Joined, shares: &ServerMessage, budget: &mut Budget| {
        let state = Participant::Joined(joined);
        let (state, _) = state.answer(&heard.cohort, budget, START + 1).expect("the same list");
        state.answer(shares, budget, START + 1)
    };

    // With nothing left in the budget but this round's debit, the replay is still the same, and free.
    let spent = paid.spent().expect("stated");
    let limits = Limits { epsilon: spent, ..*paid.limits() };
    let mut form: serde_json::Value = serde_json::to_value(&paid).expect("plain data");
    form["limits"] = serde_json::to_value(limits).expect("plain data");
    let mut budget: Budget = serde_json::from_value(form).expect("its own form");
    let joined = resume(&plan, parent, delta.clone(), &budget).expect("the stored round");
    let before = budget.clone();
    let (state, again) = replay(joined, &heard.shares, &mut budget).expect("the stored messages");
    assert_eq!(again, uploaded);
    assert_eq!(budget, before);
    assert_eq!((budget.spent(), budget.book().rounds_of(client.0)), (Ok(spent), 1));
    let (state, _) = state.answer(&heard.maps, &mut budget, START + 1).expect("the round goes on");
    assert_eq!(state.state(), "confirmed");

    // A crash before the budget was stored: the same bytes, and the debit that was lost.
    let mut unpaid = Budget::new(client, *paid.limits()).expect("limits");
    let joined = resume(&plan, parent, delta.clone(), &unpaid).expect("the stored round");
    let (_, again) = replay(joined, &heard.shares, &mut unpaid).expect("the stored messages");
    assert_eq!((again, unpaid.book(), unpaid.debits().len()), (uploaded, paid.book(), 1));

    // Another update, however close, another parent and another plan have no masks here.
    let mut other = delta.clone();
    other[299] = -other[299];
    let refused = resume(&plan, parent, other, &paid).expect_err("another update");
    assert_eq!(refused, ParticipantError::AnotherUpdate { round: 1 });
    let refused = resume(&plan, [1; 32], delta.clone(), &paid).expect_err("trained from something else");
    assert_eq!(refused, ParticipantError::AnotherUpdate { round: 1 });
    let refused = resume(&fleet.plan(2), parent, delta.clone(), &paid).expect_err("another plan");
    assert_eq!(refused, ParticipantError::AnotherPlan { round: 2 });

    // Fewer shares would give other masks, and so a second vector in this context.
    let mut fewer = heard.shares.clone();
    if let ServerMessage::Shares(deliveries) = &mut fewer {
        deliveries.pop();
    }
    let mut budget = paid.clone();
    let joined = resume(&plan, parent, delta, &budget).expect("the stored round");
    let refused = replay(joined, &fewer, &mut budget).expect_err("another vector");
    assert_eq!(refused, ParticipantError::Budget(BudgetError::AnotherUpload { round: 1, client }));
    assert_eq!(budget, paid);
}

/// Names that make a ring vector, or take a noised update out; without their brackets, for they can be passed on as functions.
/// Spelt in two parts so that this file is not a place of its own.
const MAKERS: [&str; 4] = [
    concat!("into_", "ring"),
    concat!("RingVector", "::new"),
    concat!("RingVector", " as "),
    concat!("from_", "packed"),
];

/// What makes a ring vector in a file's code, up to its tests.
fn makers_in(text: &str) -> Vec<&'static str> {
    let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let lines = || code.lines().filter(|line| !line.trim_start().starts_with("//"));
    MAKERS
        .into_iter()
        .flat_map(|maker| lines().flat_map(move |line| line.matches(maker).map(move |_| maker)))
        .collect()
}

/// `contribution.rs` is the only place where an update is taken out, noised or, under central trust, rounded, and made a vector
/// to be masked. The privacy crate, which offers the first, and the aggregation crate, which offers the second and knows no
/// updates, are not judged. The benchmark of secure aggregation masks numbers drawn at random, and has no updates either.
#[test]
fn one_place_makes_ring_vectors_of_updates() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    let mut places = Vec::new();
    let mut folders = ["client", "coordinator", "simulations", "proto"].map(|name| root.join(name)).to_vec();
    let mut files = 0;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder of the workspace") {
            let path = entry.expect("an entry").path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
            if path.is_dir() {
                if !(name.starts_with('.') || ["target", "tests"].contains(&name.as_str())) {
                    folders.push(path);
                }
            } else if name.ends_with(".rs") && name != "tests.rs" {
                files += 1;
                let text = std::fs::read_to_string(&path).expect("a source file");
                let relative = path.strip_prefix(root).expect("inside").display().to_string();
                places.extend(makers_in(&text).into_iter().map(|maker| (relative.clone(), maker)));
            }
        }
    }
    assert!(files > 80, "only {files} source files were found");
    let only = "client/src/contribution.rs".to_owned();
    let random = "simulations/src/bench_secagg/round.rs".to_owned();
    places.sort();
    assert_eq!(
        places,
        [(only.clone(), MAKERS[1]), (only.clone(), MAKERS[0]), (only, MAKERS[0]), (random, MAKERS[1])]
    );

    // The search finds what it should, and stops where tests begin.
    let planted = format!(
        "fn f() {{ {}(1) }}\n// {}\n#[cfg(test)]\nmod tests {{ {} }}",
        MAKERS[3], MAKERS[0], MAKERS[1]
    );
    assert_eq!(makers_in(&planted), [MAKERS[3]]);
}
