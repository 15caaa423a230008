//! No client state, stored secret or key shows a byte of a secret or a coordinate of an update when it is printed.

use super::fleet::{Fleet, Out, START, terms};
use std::collections::BTreeMap;
use std::fmt::Debug;
use tacit_aggregation::identity::ClientId;
use tacit_client::participant::JoinSecrets;
use tacit_client::{Participant, contribute};
use tacit_coordinator::Event;
use tacit_privacy::{Clipped, RotationSeed};
use tacit_proto::CoordinatorKey;

/// What a text shows of secrets, in hexadecimal or as numbers, or of an update's coordinates.
fn shown(text: &str, secrets: &[Vec<u8>], update: &[f32]) -> Option<String> {
    let dense: String = text.chars().filter(|c| !c.is_whitespace()).collect::<String>().to_lowercase();
    let bytes = |four: &[u8]| {
        let hex: String = four.iter().map(|byte| format!("{byte:02x}")).collect();
        let list: Vec<String> = four.iter().map(u8::to_string).collect();
        dense.contains(&hex) || dense.contains(&list.join(","))
    };
    let varied = |four: &&[u8]| four.iter().any(|byte| *byte != four[0]);
    let secret = secrets.iter().any(|secret| secret.windows(4).filter(varied).any(bytes));
    let coordinate = update.iter().any(|value| dense.contains(&value.to_string()));
    (secret || coordinate).then(|| text.to_owned())
}

struct Search {
    secrets: Vec<Vec<u8>>,
    update: Vec<f32>,
    printed: usize,
}

impl Search {
    fn print(&mut self, value: &impl Debug) {
        for text in [format!("{value:?}"), format!("{value:#?}")] {
            assert_eq!(shown(&text, &self.secrets, &self.update), None);
        }
        self.printed += 1;
    }
}

#[test]
fn the_search_finds_what_is_shown() {
    let secrets = [vec![0xde, 0xad, 0xbe, 0xef]];
    assert!(shown("Key(deadbeef)", &secrets, &[]).is_some());
    assert!(shown("[222,\n 173, 190, 239]", &secrets, &[]).is_some());
    assert!(shown("Clipped([0.12345678])", &[], &[0.123_456_78]).is_some());
    assert!(shown("Clipped { dimension: 300 }", &secrets, &[0.123_456_78]).is_none());
}

#[test]
fn no_client_state_or_key_shows_a_secret_or_an_update() {
    let mut fleet = Fleet::new(6, 91);
    let (plan, mut driver) = fleet.open(1);
    let client = fleet.clients()[0];
    let delta = fleet.delta(1, client);
    let mut search = Search { secrets: Vec::new(), update: delta.clone(), printed: 0 };
    search.secrets.push(fleet.key.to_bytes().to_vec());
    search.secrets.push(fleet.machines[&client].member.identity.to_bytes().to_vec());
    search.print(&fleet.key);
    search.print(&CoordinatorKey::from_bytes(&fleet.key.to_bytes()));
    search.print(&fleet.machines[&client].member);
    search.print(&fleet.machines[&client].budget);

    let joined = fleet.join(&plan, 1, client);
    let stored = joined.secrets();
    // Channel key, mask key, seed and noise key; the nonce between them and the digests after them are no secrets.
    search.secrets.extend([&stored[..96], &stored[128..160]].map(<[u8]>::to_vec));
    search.print(&JoinSecrets::from_bytes(&stored).expect("its own form"));
    search.print(&joined);

    // The pipeline, from the update to the ring.
    let clipped = Clipped::new(delta, terms::CLIP).expect("finite");
    search.print(&clipped);
    search.print(&clipped.rotate(&RotationSeed([1; 32])));

    let mut participants: BTreeMap<ClientId, Participant> = BTreeMap::new();
    let mut inbox = Vec::new();
    for &id in &fleet.clients() {
        let joined = fleet.join(&plan, 1, id);
        inbox.push((id, joined.advert()));
        participants.insert(id, Participant::Joined(joined));
    }
    let mut states = Vec::new();
    let mut unmasked = None;
    while !inbox.is_empty() {
        for (from, message) in std::mem::take(&mut inbox) {
            search.print(&message);
            for out in driver.handle(Event::Message { from, message }, START + 1) {
                let Out::Send { to, message } = out else { continue };
                search.print(&message);
                if let Some(cohort) = driver.round().cohort().filter(|_| unmasked.is_none()) {
                    let joined = fleet.join(&plan, 1, client);
                    let context = joined.context(&cohort.list);
                    let mut out = joined.into_unmasked(&context);
                    search.print(&out);
                    search.print(&out.noise);
                    let ring = contribute(out.clipped, &cohort.mechanism, &cohort.rotation, &mut out.noise);
                    let ring = ring.expect("clipped for this plan");
                    search.print(&ring);
                    unmasked = Some(ring);
                }
                let budget = &mut fleet.machines.get_mut(&to).expect("a member").budget;
                let state = participants.remove(&to).expect("a member");
                let (next, answers) = state.answer(&message, budget, START + 1).expect("honest");
                if to == client {
                    search.print(&next);
                    states.push(next.state());
                }
                participants.insert(to, next);
                inbox.extend(answers.into_iter().map(|answer| (to, answer)));
            }
        }
    }
    assert_eq!(states, ["shared", "uploaded", "confirmed", "finished"]);
    assert!(search.printed > 40, "{}", search.printed);
}
