//! No state, message or error shows a byte of a secret when it is printed: every one of them is printed, and searched.

use crate::fleet::{
    Fleet, NOW, Progress, close_collect, confirm_all, inputs, mask_all, share_one, shared, terms, unmask_all,
};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::sync::Arc;
use tacit_aggregation::client::RoundSecrets;
use tacit_aggregation::identity::{ClientId, IdentityRoot};
use tacit_aggregation::mask::{Mask, MaskKey, Sign};
use tacit_aggregation::params::ThreatModel;
use tacit_aggregation::ring_vector::RingVector;

/// What is searched for, and how much was.
#[derive(Default)]
struct Search {
    secrets: Vec<(&'static str, Vec<u8>)>,
    values: Vec<u32>,
    printed: usize,
}

impl Search {
    /// A secret, of which no four bytes in a row may be shown.
    fn secret(&mut self, name: &'static str, bytes: &[u8]) {
        self.secrets.push((name, bytes.to_vec()));
    }

    /// What a text shows of the secrets: their bytes in hexadecimal, or as a list of numbers however it is spaced.
    fn shown(&self, text: &str) -> Option<String> {
        let dense: String = text.chars().filter(|c| !c.is_whitespace()).collect::<String>().to_lowercase();
        for (name, secret) in &self.secrets {
            for four in secret.windows(4).filter(|four| four.iter().any(|byte| *byte != four[0])) {
                let hex: String = four.iter().map(|byte| format!("{byte:02x}")).collect();
                let list: Vec<String> = four.iter().map(u8::to_string).collect();
                let hexes: Vec<String> = four.iter().map(|byte| format!("0x{byte:02x}")).collect();
                if [hex, list.join(","), hexes.join(",")].iter().any(|form| dense.contains(form)) {
                    return Some(format!("{name} in {text}"));
                }
            }
        }
        for two in self.values.windows(2) {
            if dense.contains(&format!("{},{}", two[0], two[1])) {
                return Some(format!("coordinates in {text}"));
            }
        }
        None
    }

    fn print(&mut self, value: &impl Debug) {
        for text in [format!("{value:?}"), format!("{value:#?}")] {
            assert_eq!(self.shown(&text), None);
        }
        self.printed += 1;
    }
}

#[test]
fn the_search_finds_what_is_shown() {
    let mut search = Search::default();
    search.secret("key", &[0xde, 0xad, 0xbe, 0xef, 1]);
    search.values = vec![70_001, 70_002];
    for text in [
        "Key(DEADBEEF)",
        "[7, 222, 173, 190, 239]",
        "[\n    222,\n    173,\n    190,\n    239,\n]",
        "[0xde, 0xad, 0xbe, 0xef]",
    ] {
        assert!(search.shown(text).is_some(), "{text}");
    }
    assert!(search.shown("RingVector([70001, 70002])").is_some());
    assert!(search.shown("Key(deadbe..)").is_none());
}

#[test]
fn no_state_message_or_error_shows_a_secret() {
    let n = 7;
    let mut fleet = Fleet::new(n, terms(ThreatModel::SemiMalicious, n, 20, 6), 81);
    let inputs = inputs(&mut fleet);
    let mut search = Search::default();
    search.secret("root", fleet.root.to_bytes().as_slice());
    for setup in &fleet.setups {
        search.secret("identity", setup.identity.to_bytes().as_slice());
    }
    // The vectors are 20-bit coordinates, so that no two in a row turn up by chance.
    search.values = inputs.values().flat_map(RingVector::to_values).collect();
    let root = IdentityRoot::from_bytes(&fleet.root.to_bytes());
    search.print(&root);
    for setup in &fleet.setups.clone() {
        search.print(setup);
    }
    for vector in inputs.values() {
        search.print(vector);
    }

    let advertised = fleet.advertise();
    for state in advertised.values() {
        let stored = state.secrets().to_bytes();
        // The nonce, in the last 32 bytes, is public.
        search.secret("round secrets", &stored[..96]);
        search.print(&RoundSecrets::from_bytes(&stored).expect("its own form"));
    }
    let mut server = fleet.server();
    for state in advertised.values() {
        search.print(state);
        search.print(state.secrets());
        server.accept(Arc::clone(state.advert()), NOW).expect("honest");
    }
    search.print(&server);
    let mut server = server.close().expect("feasible");
    let mut clients = BTreeMap::new();
    for (id, state) in advertised {
        let (state, message) = share_one(&server, state).expect("honest");
        search.print(&state);
        search.print(&message);
        server.accept(message).expect("honest");
        clients.insert(id, state);
    }
    search.print(&server);
    let server = server.close().expect("everybody shared");
    for id in clients.keys() {
        search.print(&server.deliveries(*id).expect("it shared"));
    }
    let gone: ClientId = *clients.keys().next_back().expect("somebody");
    let uploaded = mask_all(Progress { server, clients }, &inputs, &BTreeSet::from([gone]));
    search.print(&uploaded.server);
    for uploaded in uploaded.clients.values() {
        search.print(&uploaded.client);
        search.print(&uploaded.upload);
    }
    let collected = close_collect(uploaded).expect("one lost");
    search.print(&collected.server);
    search.print(&collected.summation);
    let (Progress { mut server, clients }, summation) =
        confirm_all(collected, &BTreeSet::new()).expect("all confirm");
    let mut left = BTreeMap::new();
    for (place, (id, state)) in clients.into_iter().enumerate() {
        search.print(&state);
        if place < 2 {
            // What they hand over is secret to everybody but the server.
            let (finished, answer) =
                state.unmask(&server.request_for(id).expect("confirmed")).expect("honest");
            answer.shares.iter().for_each(|share| search.secret("share", &share.share.0));
            search.print(&answer);
            search.print(&finished);
            server.accept(&answer).expect("honest");
            let mut bad = answer.clone();
            bad.shares[0].share.0 = [0xff; 32];
            search.print(&server.accept(&bad).expect_err("another answer"));
        } else {
            left.insert(id, state);
        }
    }
    search.print(&server);
    let (sum, _) =
        unmask_all(Progress { server, clients: left }, summation, &BTreeSet::new()).expect("all answer");
    search.print(&sum);
    let key = [0x9e, 0x37, 0x79, 0xb9].repeat(8);
    search.secret("mask key", &key);
    let key = MaskKey::from_bytes(key.try_into().expect("32 bytes"));
    search.print(&Mask { key: key.clone(), sign: Sign::Add });
    search.print(&key);
    assert!(search.printed > 60 && search.secrets.len() > 20, "{} {}", search.printed, search.secrets.len());
}

#[test]
fn what_a_refused_client_says_shows_no_secret() {
    let mut fleet = Fleet::new(6, terms(ThreatModel::SemiMalicious, 6, 20, 6), 82);
    let mut search = Search::default();
    for setup in &fleet.setups {
        search.secret("identity", setup.identity.to_bytes().as_slice());
    }
    let mut progress = shared(&mut fleet, &BTreeSet::new()).expect("nobody leaves");
    let (id, victim) = progress.clients.pop_first().expect("somebody");
    let mut deliveries = progress.server.deliveries(id).expect("it shared");
    deliveries[0].ciphertext[0] ^= 1;
    let vector = fleet.vector();
    search.values = vector.to_values();
    let error = victim.mask(&deliveries, vector).expect_err("altered");
    search.print(&error);
    assert_eq!(search.shown(&error.to_string()), None);
}
