//! What was said in one round, or to one part of a cohort, is worthless in another: replays and split views on both sides.

use crate::fleet::{
    Fleet, NOW, Progress, close_collect, closed, confirm_all, inputs, mask_all, neighbours, plain_sum,
    share_one, shared, terms, unmask_all,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tacit_aggregation::Step;
use tacit_aggregation::client::{Advertised, ClientError};
use tacit_aggregation::identity::ClientId;
use tacit_aggregation::messages::{
    Advert, AdvertFault, Confirm, MaskedUpload, ShareMessage, UnmaskRequest, UnmaskShares,
};
use tacit_aggregation::params::{RoundTerms, ThreatModel};
use tacit_aggregation::server::{Receipt, ServerError, VectorSummary};

const N: u32 = 9;

/// A fleet with the same members and randomness whatever the round's number is.
fn fleet_of(round: u64) -> Fleet {
    let mut fleet = Fleet::new(N, terms(ThreatModel::SemiMalicious, N, 16, 12), 71);
    let terms = Arc::new(RoundTerms { round, ..(*fleet.terms).clone() });
    fleet.setups.iter_mut().for_each(|setup| setup.terms = Arc::clone(&terms));
    fleet.terms = terms;
    fleet
}

/// Everything that one client said in a round, and the last thing that it was asked.
struct Said {
    advert: Arc<Advert>,
    share: Arc<ShareMessage>,
    upload: MaskedUpload,
    confirm: Confirm,
    request: UnmaskRequest,
    unmask: UnmaskShares,
}

/// Plays the round; before each message of the first client its message of an old round is replayed to the server.
fn play(round: u64, old: Option<&Said>) -> Said {
    let mut fleet = fleet_of(round);
    let inputs = inputs(&mut fleet);
    let client = *inputs.keys().next().expect("somebody");
    let refused = |step| Err(ServerError::Signature { client, step });

    let advertised = fleet.advertise();
    let advert = Arc::clone(advertised[&client].advert());
    let mut server = fleet.server();
    if let Some(old) = old {
        let replayed =
            AdvertFault::ReplayedRound { client, task: fleet.terms.task.clone(), round: old.advert.round };
        assert_eq!(server.accept(Arc::clone(&old.advert), NOW), Err(ServerError::Advert(replayed)));
    }
    for state in advertised.values() {
        assert_eq!(server.accept(Arc::clone(state.advert()), NOW), Ok(Receipt::Accepted));
    }
    let mut server = server.close().expect("feasible");
    if let Some(old) = old {
        assert_eq!(server.accept(Arc::clone(&old.share)), refused(Step::Share));
    }
    let mut share = None;
    let mut clients = BTreeMap::new();
    for (id, state) in advertised {
        let (state, message) = share_one(&server, state).expect("honest");
        assert_eq!(server.accept(Arc::clone(&message)), Ok(Receipt::Accepted));
        share = share.or(Some(message));
        clients.insert(id, state);
    }
    let mut server = server.close().expect("everybody shared");
    if let Some(old) = old {
        assert_eq!(
            server.accept(&old.upload.header, &VectorSummary::of(&old.upload.packed)),
            refused(Step::Collect)
        );
        assert_eq!(server.begin(&old.upload.header).map(|_| ()), refused(Step::Collect).map(|_: Receipt| ()));
    }
    let uploaded = mask_all(Progress { server, clients }, &inputs, &BTreeSet::new());
    let upload = uploaded.clients[&client].upload.clone();
    let mut collected = close_collect(uploaded).expect("everybody survived");
    if let Some(old) = old {
        assert_eq!(collected.server.accept(&old.confirm), refused(Step::Confirm));
    }
    let maps = collected.server.maps().clone();
    let (state, confirm) =
        collected.clients.remove(&client).expect("it masked").confirm(&maps).expect("honest");
    assert_eq!(collected.server.accept(&confirm), Ok(Receipt::Accepted));
    let (Progress { mut server, clients }, summation) =
        confirm_all(collected, &BTreeSet::new()).expect("everybody confirms");
    let request = server.request_for(client).expect("it confirmed");
    if let Some(old) = old {
        assert_eq!(server.accept(&old.unmask), refused(Step::Unmask));
        // The same for the client: the old request has the same maps, but confirmations of another round.
        assert_eq!(old.request.maps, request.maps);
    }
    let (_, unmask) = state.unmask(&request).expect("honest");
    assert_eq!(server.accept(&unmask), Ok(Receipt::Accepted));
    let (sum, _) = unmask_all(Progress { server, clients }, summation, &BTreeSet::new()).expect("all answer");
    assert_eq!(sum.vector, plain_sum(&inputs, inputs.keys()), "the replays changed nothing");
    assert!(sum.faults.is_empty(), "nobody signed a replay, so nobody is blamed: {:?}", sum.faults);
    Said { advert, share: share.expect("somebody shared"), upload, confirm, request, unmask }
}

#[test]
fn the_server_refuses_every_message_of_an_old_round_and_goes_on() {
    let old = play(6, None);
    let new = play(7, Some(&old));
    // The keys are the same: it is the context that tells them apart.
    assert_eq!(old.advert.mask_key, new.advert.mask_key);
    assert_ne!(old.upload.packed, new.upload.packed);
}

#[test]
fn a_client_refuses_the_confirmations_of_an_old_round() {
    let old = play(6, None).request;
    let mut fleet = fleet_of(7);
    let inputs = inputs(&mut fleet);
    let progress = shared(&mut fleet, &BTreeSet::new()).expect("nobody leaves");
    let collected = close_collect(mask_all(progress, &inputs, &BTreeSet::new())).expect("nobody leaves");
    let (Progress { server, mut clients }, _) =
        confirm_all(collected, &BTreeSet::new()).expect("nobody leaves");
    let (id, victim) = clients.pop_first().expect("somebody");
    let request = server.request_for(id).expect("it confirmed");
    let same = |one: &UnmaskRequest, other: &UnmaskRequest| {
        one.maps == other.maps
            && one.confirmations.iter().map(|c| c.client).eq(other.confirmations.iter().map(|c| c.client))
    };
    assert!(same(&old, &request) && old != request, "only the signatures differ");
    let from = old.confirmations[0].client;
    assert_eq!(victim.unmask(&old).expect_err("a replay"), ClientError::ConfirmationMismatch { from });
}

#[test]
fn two_halves_of_a_cohort_are_shown_two_lists() {
    // A colluding member signs two adverts; the server shows one half of the cohort the first, the other half the second.
    let mut fleet = fleet_of(7);
    let (server, clients) = closed(&mut fleet);
    let liar = *clients.keys().next_back().expect("somebody");
    let setup = fleet.setups.iter().find(|setup| setup.certificate.client == liar).expect("there").clone();
    let second = Advertised::new(setup, NOW, &mut fleet.rng).expect("the plan is fine");
    let second = Arc::clone(second.advert());
    let list = (**server.list()).clone();
    let mut other = list.clone();
    other.entries.last_mut().expect("nine").advert = second.digest();
    assert_ne!(list.root(), other.root());

    let mut states = BTreeMap::new();
    let mut messages = BTreeMap::new();
    for (place, (id, client)) in clients.into_iter().enumerate() {
        let mut adverts = neighbours(&server, client.advert());
        let shown = if place % 2 == 0 { &list } else { &other };
        if place % 2 == 1 {
            for advert in adverts.iter_mut().filter(|advert| advert.client() == liar) {
                *advert = Arc::clone(&second);
            }
        }
        let (state, message) = client.share(shown, &adverts, NOW).expect("each list is plausible by itself");
        states.insert(id, state);
        messages.insert(id, message);
    }
    // No client of one half can use what came from the other half.
    let ids: Vec<ClientId> = states.keys().copied().collect();
    for (place, (id, state)) in states.into_iter().enumerate().filter(|(_, (id, _))| *id != liar) {
        let deliveries =
            messages.iter().filter(|(from, _)| **from != id && **from != liar).map(|(_, message)| {
                let at =
                    message.envelopes.iter().position(|envelope| envelope.to == id).expect("a neighbour");
                message.delivery(&message.envelope_tree(), at).expect("in range")
            });
        let deliveries: Vec<_> = deliveries.collect();
        let from = *ids.iter().enumerate().find(|(other, _)| other % 2 != place % 2).expect("two halves").1;
        assert_eq!(
            state.mask(&deliveries, fleet.vector()).expect_err("two lists"),
            ClientError::WrongContext { from, step: Step::Share }
        );
    }
}
