//! A server that lies: every lie that the protocol names is refused by the client with its own error.

use crate::fleet::{
    Fleet, NOW, PARENT, Progress, close_collect, closed, confirm_all, inputs, mask_all, neighbours,
    share_one, shared, terms,
};
use rand_core::Rng as _;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tacit_aggregation::Step;
use tacit_aggregation::bitmap::Bitmap;
use tacit_aggregation::client::{Advertised, ClientError, Confirmed, Masked, Shared};
use tacit_aggregation::identity::{CertificateError, ClientId, IdentityRoot};
use tacit_aggregation::messages::{
    Advert, AdvertFault, CohortList, CommitmentFault, ShareDelivery, SurvivorMaps, UnmaskRequest,
};
use tacit_aggregation::params::{BelowFloor, Floors, ParamsError, RoundTerms, ThreatModel};
use tacit_aggregation::server::{self, Collect, Share, Unmask};

const N: u32 = 10;

fn fleet() -> Fleet {
    Fleet::new(N, terms(ThreatModel::SemiMalicious, N, 16, 20), 3)
}

/// A closed cohort, its first client, and what an honest server would show that client.
struct Target {
    fleet: Fleet,
    server: Share,
    victim: Advertised,
    list: CohortList,
    adverts: Vec<Arc<Advert>>,
}

fn target_of(mut fleet: Fleet) -> Target {
    let (server, mut clients) = closed(&mut fleet);
    let (_, victim) = clients.pop_first().expect("somebody");
    let adverts = neighbours(&server, victim.advert());
    let list = (**server.list()).clone();
    Target { fleet, server, victim, list, adverts }
}

/// What the first client answers when the server shows it something else.
fn refusal(lie: impl FnOnce(&mut Target)) -> ClientError {
    let mut target = target_of(fleet());
    lie(&mut target);
    let Target { victim, list, adverts, .. } = target;
    victim.share(&list, &adverts, NOW).expect_err("a lie")
}

/// Puts an advert in place of the first neighbour's, in the list as well.
fn replace_first_neighbour(target: &mut Target, change: impl FnOnce(&mut Advert)) -> ClientId {
    let mut advert = (*target.adverts[0]).clone();
    change(&mut advert);
    let entry = target.list.entries.iter_mut().find(|entry| entry.client == advert.client());
    entry.expect("in the list").advert = advert.digest();
    target.adverts[0] = Arc::new(advert);
    target.adverts[0].client()
}

/// The advert that the first neighbour would have signed under other terms.
fn advert_under(target: &mut Target, change: impl FnOnce(&mut RoundTerms), parent: [u8; 32]) -> Advert {
    let client = target.adverts[0].client();
    let setup = target.fleet.setups.iter().find(|setup| setup.certificate.client == client);
    let mut setup = setup.expect("in the fleet").clone();
    let mut terms = (*setup.terms).clone();
    change(&mut terms);
    setup.terms = Arc::new(terms);
    setup.parent = parent;
    let other = Advertised::new(setup, NOW, &mut target.fleet.rng).expect("fine under those terms");
    (**other.advert()).clone()
}

#[test]
fn the_honest_case_is_accepted() {
    let Target { victim, list, adverts, .. } = target_of(fleet());
    victim.share(&list, &adverts, NOW).expect("no lie");
}

#[test]
fn a_lowered_threshold_degree_or_survivor_count() {
    let refused = |lie: fn(&mut CohortList)| match refusal(|target| lie(&mut target.list)) {
        ClientError::Parameters(error) => error,
        other => panic!("{other}"),
    };
    assert!(matches!(
        refused(|list| list.params.threshold -= 1),
        ParamsError::Threshold { offered: 4, min: 5, max: 7 }
    ));
    assert!(matches!(refused(|list| list.params.degree -= 1), ParamsError::Degree { .. }));
    assert!(matches!(
        refused(|list| list.params.n_min -= 1),
        ParamsError::SurvivorsBelowDropout { n_min: 7, floor: 8 }
    ));
}

#[test]
fn parameters_that_the_plan_fixes_otherwise() {
    let refused = |lie: fn(&mut CohortList)| match refusal(|target| lie(&mut target.list)) {
        ClientError::Parameters(ParamsError::DiffersFromPlan { parameter }) => parameter,
        other => panic!("{other}"),
    };
    assert_eq!(refused(|list| list.params.corrupt_bp -= 1), "corrupt_bp");
    assert_eq!(refused(|list| list.params.dropout_bp += 1), "dropout_bp");
    assert_eq!(refused(|list| list.params.threat = ThreatModel::HonestButCurious), "threat");
    assert_eq!(refused(|list| list.params.bits = 15), "bits");
    assert_eq!(refused(|list| list.params.dimension = 21), "dimension");
    assert_eq!(refused(|list| list.params.correctness_bits = 19), "correctness_bits");
}

#[test]
fn parameters_below_the_clients_own_floors() {
    let refused = |floors: Floors| {
        let mut fleet = fleet();
        fleet.setups.iter_mut().for_each(|setup| setup.floors = floors);
        let setup = fleet.setups[0].clone();
        match Advertised::new(setup, NOW, &mut fleet.rng) {
            Err(ClientError::ParameterBelowFloor(BelowFloor { parameter, .. })) => parameter,
            Err(other) => panic!("{other}"),
            Ok(_) => {
                let Target { victim, list, adverts, .. } = target_of(fleet);
                match victim.share(&list, &adverts, NOW) {
                    Err(ClientError::ParameterBelowFloor(BelowFloor { parameter, .. })) => parameter,
                    other => panic!("{other:?}"),
                }
            }
        }
    };
    let floors = Floors { n_min: 8, corrupt_bp: 500, threat: ThreatModel::SemiMalicious, roster: false };
    assert_eq!(refused(Floors { n_min: 9, ..floors }), "n_min");
    assert_eq!(refused(Floors { corrupt_bp: 501, ..floors }), "corrupt_bp");
    let mut curious = fleet();
    curious.setups[0].floors = floors;
    let terms = RoundTerms { threat: ThreatModel::HonestButCurious, ..(*curious.terms).clone() };
    curious.setups[0].terms = Arc::new(terms);
    assert!(matches!(
        Advertised::new(curious.setups[0].clone(), NOW, &mut curious.rng),
        Err(ClientError::ParameterBelowFloor(BelowFloor { parameter: "threat", .. }))
    ));
}

#[test]
fn a_cohort_list_that_is_short_out_of_order_or_without_the_client() {
    assert_eq!(
        refusal(|target| {
            target.list.entries.pop();
        }),
        ClientError::CohortSize { listed: 9, n: 10 }
    );
    assert!(matches!(refusal(|target| target.list.entries.swap(4, 5)), ClientError::CohortOrder { .. }));
    assert!(matches!(
        refusal(|target| target.list.entries[5] = target.list.entries[4]),
        ClientError::CohortOrder { .. }
    ));
    assert!(matches!(
        refusal(|target| target.list.entries[0].client.0 -= 1),
        ClientError::NotInCohort { .. }
    ));
    assert!(matches!(
        refusal(|target| target.list.entries[0].advert[0] ^= 1),
        ClientError::OwnAdvertReplaced { .. }
    ));
}

#[test]
fn two_cohort_lists() {
    let Target { victim, list, adverts, .. } = target_of(fleet());
    let (victim, message) = victim.share(&list, &adverts, NOW).expect("no lie yet");
    assert_eq!(victim.repeat(&list), Ok(message), "the same list gets the recorded answer");
    let mut other = list.clone();
    other.entries[3].advert[0] ^= 1;
    assert_eq!(victim.repeat(&other), Err(ClientError::TwoCohortLists));
    let mut other = list;
    other.params.threshold += 1;
    assert_eq!(victim.repeat(&other), Err(ClientError::TwoCohortLists));
}

#[test]
fn a_swapped_neighbour() {
    let refused = refusal(|target| target.adverts.swap(0, 1));
    assert!(matches!(refused, ClientError::SwappedNeighbour { expected, got } if expected != got));
    // The same client, but another advert of it than the list has.
    let refused = refusal(|target| {
        let advert = advert_under(target, |_| {}, PARENT);
        target.adverts[0] = Arc::new(advert);
    });
    assert!(matches!(refused, ClientError::SwappedNeighbour { expected, got } if expected == got));
    assert_eq!(
        refusal(|target| {
            target.adverts.pop();
        }),
        ClientError::AdvertCount { delivered: 8, due: 9 }
    );
}

#[test]
fn a_member_that_is_no_neighbour() {
    let n = 128;
    let mut terms = terms(ThreatModel::HonestButCurious, n, 16, 4);
    terms.dropout_bp = 500;
    let mut target = target_of(Fleet::new(n, terms, 4));
    let known: BTreeSet<ClientId> = target.adverts.iter().map(|advert| advert.client()).collect();
    assert_eq!(known.len() as u32, target.list.params.degree);
    assert!(known.len() < 20, "most members are no neighbours");
    let stranger = target.list.entries[1..].iter().find(|entry| !known.contains(&entry.client));
    let stranger = stranger.expect("most are").client;
    let between = target.server.adverts_for(stranger).expect("in the cohort")[0].client();
    let shown = target.server.adverts_for(between).expect("in the cohort");
    let advert = shown.iter().find(|advert| advert.client() == stranger).expect("symmetric");
    target.adverts[7] = Arc::clone(advert);
    assert!(matches!(
        target.victim.share(&target.list, &target.adverts, NOW),
        Err(ClientError::SwappedNeighbour { got, .. }) if got == stranger
    ));
}

#[test]
fn two_stories_for_two_parts_of_the_ring() {
    // A client's whole neighbourhood is told one story, the rest of the cohort another: that far-away members dropped out.
    let n = 128;
    let mut terms = terms(ThreatModel::SemiMalicious, n, 16, 4);
    (terms.dropout_bp, terms.correctness_bits) = (500, 40);
    let mut fleet = Fleet::new(n, terms, 7);
    let inputs = inputs(&mut fleet);
    let mut progress = shared(&mut fleet, &BTreeSet::new()).expect("nobody leaves");
    let params = *progress.clients.values().next().expect("somebody").params();
    assert!(params.degree + 1 < params.quorum() && params.needs_all_adverts(), "{params:?}");
    let id = *progress.clients.keys().next().expect("somebody");
    let near: BTreeSet<ClientId> =
        progress.server.deliveries(id).expect("it shared").iter().map(|delivery| delivery.from).collect();
    assert_eq!(near.len() as u32, params.degree);
    progress.clients.retain(|client, _| *client == id || near.contains(client));
    let ids: Vec<ClientId> = inputs.keys().copied().collect();
    let all = Bitmap::from_indices(n, 0..n);
    let far = ids.iter().position(|client| *client != id && !near.contains(client)).expect("most are far");
    let mut survived = all.clone();
    survived.set(far as u32, false);
    let maps = SurvivorMaps { shared: all, survived };
    let mut victim = None;
    let mut confirmations = Vec::new();
    for (client, uploaded) in mask_all(progress, &inputs, &BTreeSet::new()).clients {
        let (state, confirm) = uploaded.client.confirm(&maps).expect("plausible to its whole neighbourhood");
        if client == id {
            victim = Some(state);
        } else {
            confirmations.push(confirm);
        }
    }
    let request = UnmaskRequest { maps, confirmations };
    assert_eq!(
        victim.expect("it confirmed").unmask(&request).expect_err("the others may have heard another story"),
        ClientError::NoQuorum { confirmed: params.degree + 1, quorum: params.quorum() }
    );
}

#[test]
fn a_replayed_round_another_plan_ledger_or_model() {
    let refused = |change: fn(&mut RoundTerms), parent: [u8; 32]| {
        let mut culprit = None;
        let error = refusal(|target| {
            let advert = advert_under(target, change, parent);
            culprit = Some(replace_first_neighbour(target, |first| *first = advert));
        });
        (error, culprit.expect("replaced"))
    };
    let (error, client) = refused(|terms| terms.round = 6, PARENT);
    assert!(
        matches!(error, ClientError::Advert(AdvertFault::ReplayedRound { client: c, round: 6, .. }) if c == client)
    );
    let (error, client) = refused(|terms| terms.plan = [9; 32], PARENT);
    assert_eq!(error, ClientError::Advert(AdvertFault::PlanDiffers { client }));
    let (error, client) = refused(|terms| terms.ledger_head = [9; 32], PARENT);
    assert_eq!(error, ClientError::Advert(AdvertFault::LedgerDiffers { client }));
    let (error, client) = refused(|terms| terms.parents = vec![[9; 32]], [9; 32]);
    assert_eq!(error, ClientError::Advert(AdvertFault::ParentNotAdmitted { client }));
}

#[test]
fn adverts_and_certificates_that_nobody_signed() {
    let refused = |change: fn(&mut Advert)| {
        let mut culprit = None;
        let error = refusal(|target| culprit = Some(replace_first_neighbour(target, change)));
        (error, culprit.expect("replaced"))
    };
    // The server puts a key of its own into a neighbour's advert.
    let (error, client) = refused(|advert| advert.channel_key[0] ^= 1);
    assert_eq!(error, ClientError::AdvertSignature { client });
    let (error, client) = refused(|advert| advert.mask_key[0] ^= 1);
    assert_eq!(error, ClientError::AdvertSignature { client });
    let (error, client) = refused(|advert| advert.signature.0[9] ^= 1);
    assert_eq!(error, ClientError::AdvertSignature { client });
    let (error, client) = refused(|advert| advert.certificate.not_after += 1);
    assert_eq!(error, ClientError::Certificate(CertificateError::Signature { client }));
    // It runs an identity root of its own.
    let mut rng = fleet().rng;
    let own_root = IdentityRoot::from_bytes(&std::array::from_fn(|_| rng.next_u32() as u8));
    let error = refusal(|target| {
        replace_first_neighbour(target, |advert| {
            let certificate = &advert.certificate;
            advert.certificate = own_root.certify(certificate.client, certificate.public_key, NOW);
        });
    });
    assert!(matches!(error, ClientError::Certificate(CertificateError::Issuer { .. })));
    // A certificate that has expired.
    let Target { victim, list, adverts, .. } = target_of(fleet());
    assert!(matches!(
        victim.share(&list, &adverts, NOW + 2),
        Err(ClientError::Certificate(CertificateError::Expired { .. }))
    ));
}

#[test]
fn keys_that_contribute_nothing() {
    // A colluding neighbour signs them itself.
    let refused = |change: fn(&mut Advert)| {
        refusal(|target| {
            let client = target.adverts[0].client();
            let setup = target.fleet.setups.iter().find(|setup| setup.certificate.client == client);
            let identity = Arc::clone(&setup.expect("in the fleet").identity);
            replace_first_neighbour(target, |advert| {
                change(advert);
                advert.signature = identity.sign(&advert.payload());
            });
        })
    };
    assert!(matches!(refused(|advert| advert.channel_key = [0; 32]), ClientError::UselessKey { .. }));
    assert!(matches!(refused(|advert| advert.mask_key = [0; 32]), ClientError::UselessKey { .. }));
    assert!(matches!(refused(|advert| advert.mask_key = [0xff; 32]), ClientError::UselessKey { .. }));
}

/// A client that waits for deliveries, and what an honest server would deliver.
fn before_masking() -> (Fleet, Shared, Vec<ShareDelivery>, Progress<Collect, Shared>) {
    let mut fleet = fleet();
    let mut progress = shared(&mut fleet, &BTreeSet::new()).expect("nobody leaves");
    let (id, victim) = progress.clients.pop_first().expect("somebody");
    let deliveries = progress.server.deliveries(id).expect("it shared");
    assert_eq!(deliveries.len(), 9);
    (fleet, victim, deliveries, progress)
}

fn masking_refusal(lie: impl FnOnce(&mut Vec<ShareDelivery>)) -> ClientError {
    let (mut fleet, victim, mut deliveries, _) = before_masking();
    lie(&mut deliveries);
    victim.mask(&deliveries, fleet.vector()).expect_err("a lie")
}

#[test]
fn deliveries_that_are_foreign_repeated_or_altered() {
    let refused = masking_refusal(|deliveries| deliveries.swap(2, 3));
    assert!(matches!(refused, ClientError::NotANeighbour { .. }));
    let refused = masking_refusal(|deliveries| deliveries[3] = deliveries[2].clone());
    assert!(matches!(refused, ClientError::NotANeighbour { .. }));
    let refused = masking_refusal(|deliveries| deliveries[2].from.0 += 1);
    assert!(matches!(refused, ClientError::NotANeighbour { .. }));

    type Change = fn(&mut ShareDelivery);
    let changes: [Change; 4] = [
        // An altered envelope is not blamed on its sender: the signature covers it.
        |delivery| delivery.ciphertext[5] ^= 1,
        |delivery| delivery.signature.0[5] ^= 1,
        |delivery| delivery.path[0][5] ^= 1,
        |delivery| {
            delivery.path.pop();
        },
    ];
    for change in changes {
        let refused = masking_refusal(|deliveries| change(&mut deliveries[4]));
        assert!(matches!(refused, ClientError::WrongContext { step: Step::Share, .. }), "{refused}");
    }
    // Commitments of another client, or of other coefficients.
    let refused = masking_refusal(|deliveries| {
        deliveries[4].commitments = Arc::clone(&deliveries[5].commitments);
    });
    assert!(matches!(refused, ClientError::Commitments(CommitmentFault::NotMaskKey { .. })));
    let refused = masking_refusal(|deliveries| {
        let mut commitments = (*deliveries[4].commitments).clone();
        let mut points = commitments.self_mask.as_bytes().to_vec();
        points.pop();
        commitments.self_mask =
            tacit_aggregation::shamir::Commitments::from_bytes(points).expect("still points");
        deliveries[4].commitments = Arc::new(commitments);
    });
    assert!(matches!(
        refused,
        ClientError::Commitments(CommitmentFault::Count { count: 4, threshold: 5, .. })
    ));
}

#[test]
fn deliveries_of_an_old_round_are_replayed() {
    // The same clients in two rounds, with the same keys even: only the round number differs.
    let round = |number: u64| {
        let mut fleet = Fleet::new(N, terms(ThreatModel::SemiMalicious, N, 16, 20), 3);
        let terms = Arc::new(RoundTerms { round: number, ..(*fleet.terms).clone() });
        fleet.setups.iter_mut().for_each(|setup| setup.terms = Arc::clone(&terms));
        fleet.terms = terms;
        let mut progress = shared(&mut fleet, &BTreeSet::new()).expect("nobody leaves");
        let (id, victim) = progress.clients.pop_first().expect("somebody");
        (fleet, victim, progress.server.deliveries(id).expect("it shared"))
    };
    let (_, _, old) = round(6);
    let (mut fleet, victim, new) = round(7);
    assert_eq!(old[0].commitments.mask_key.secret(), new[0].commitments.mask_key.secret(), "the same keys");
    let from = old[0].from;
    assert_eq!(
        victim.mask(&old, fleet.vector()).expect_err("a replay"),
        ClientError::WrongContext { from, step: Step::Share }
    );
}

#[test]
fn one_client_is_shown_other_parameters() {
    // The last client is told a larger, equally valid threshold: nobody else can use what it shares.
    let mut fleet = fleet();
    let (server, mut clients) = closed(&mut fleet);
    let (last, odd) = clients.pop_last().expect("somebody");
    let (_, victim) = clients.pop_first().expect("somebody");
    let mut list = (**server.list()).clone();
    list.params.threshold = 6;
    let adverts = neighbours(&server, odd.advert());
    let (_, message) = odd.share(&list, &adverts, NOW).expect("valid by itself");
    let (victim, _) = share_one(&server, victim).expect("no lie");
    let tree = message.envelope_tree();
    let delivery = message.delivery(&tree, 0).expect("its first neighbour is the victim");
    assert_eq!(delivery.from, last);
    assert!(matches!(
        victim.mask(&[delivery], fleet.vector()),
        Err(ClientError::Commitments(CommitmentFault::Count { count: 6, threshold: 5, .. }))
    ));
}

#[test]
fn envelopes_are_withheld() {
    assert_eq!(
        masking_refusal(|deliveries| deliveries.truncate(4)),
        ClientError::TooFewShares { verified: 4, refused: 0, threshold: 5 }
    );
    let (mut fleet, victim, deliveries, _) = before_masking();
    victim.mask(&deliveries[..5], fleet.vector()).expect("t are enough");
}

#[test]
fn a_vector_of_another_shape_is_not_masked() {
    let (_, victim, deliveries, _) = before_masking();
    let vector = tacit_aggregation::ring_vector::RingVector::new(16, &[1; 19]).expect("fits");
    assert!(matches!(
        victim.mask(&deliveries, vector),
        Err(ClientError::InputShape { dimension: 19, round_dimension: 20, .. })
    ));
}

/// Clients that have masked, with the maps that an honest server would show.
fn before_confirming() -> (BTreeMap<ClientId, Masked>, SurvivorMaps, server::Confirm, server::Summation) {
    let mut fleet = fleet();
    let inputs = inputs(&mut fleet);
    let last_two: BTreeSet<ClientId> = inputs.keys().rev().take(1).copied().collect();
    let progress = shared(&mut fleet, &last_two).expect("one may leave");
    let third: BTreeSet<ClientId> = inputs.keys().skip(2).take(1).copied().collect();
    let collected = close_collect(mask_all(progress, &inputs, &third)).expect("two may leave");
    let maps = collected.server.maps().clone();
    assert_eq!(maps.shared.indices().collect::<Vec<_>>(), (0..9).collect::<Vec<_>>());
    assert_eq!(maps.survived.indices().collect::<Vec<_>>(), [0, 1, 3, 4, 5, 6, 7, 8]);
    (collected.clients, maps, collected.server, collected.summation)
}

#[test]
fn maps_that_contradict_what_the_client_saw() {
    let refused = |lie: fn(&mut SurvivorMaps)| {
        let (mut clients, mut maps, ..) = before_confirming();
        let (_, victim) = clients.pop_first().expect("somebody");
        lie(&mut maps);
        victim.confirm(&maps).expect_err("a lie")
    };
    assert!(matches!(refused(|maps| maps.shared.set(0, false)), ClientError::MarkedNotShared { .. }));
    // A client that is marked as dropped, and still asked.
    assert!(matches!(refused(|maps| maps.survived.set(0, false)), ClientError::MarkedDropped { .. }));
    assert!(matches!(refused(|maps| maps.survived.set(9, true)), ClientError::SurvivedNotShared { .. }));
    assert!(matches!(refused(|maps| maps.shared.set(3, false)), ClientError::SurvivedNotShared { .. }));
    assert_eq!(
        refused(|maps| maps.survived.set(1, false)),
        ClientError::TooFewSurvivors { survivors: 7, n_min: 8 }
    );
    assert!(matches!(refused(|maps| maps.shared.set(9, true)), ClientError::SharedMapDiffers { .. }));
    assert!(matches!(refused(|maps| maps.shared.set(2, false)), ClientError::SharedMapDiffers { .. }));
    assert_eq!(refused(|maps| maps.survived = Bitmap::new(9)), ClientError::MapSize { members: 9, n: 10 });
    let (mut clients, maps, ..) = before_confirming();
    clients.pop_first().expect("somebody").1.confirm(&maps).expect("no lie");
}

#[test]
fn two_survivor_maps_for_one_client() {
    let (mut clients, maps, ..) = before_confirming();
    let (_, victim) = clients.pop_first().expect("somebody");
    let (victim, confirm) = victim.confirm(&maps).expect("no lie yet");
    assert_eq!(victim.repeat(&maps), Ok(confirm), "the same maps get the recorded answer");
    let mut other = maps.clone();
    other.survived.set(2, true);
    assert_eq!(victim.repeat(&other), Err(ClientError::TwoSurvivorMaps));
    let request = UnmaskRequest { maps: other, confirmations: vec![] };
    assert!(matches!(victim.unmask(&request), Err(ClientError::TwoSurvivorMaps)));
}

#[test]
fn two_survivor_maps_for_two_halves() {
    // Half of the cohort is told that client 2 survived, the other half that it did not.
    let (clients, maps, ..) = before_confirming();
    let mut other = maps.clone();
    other.survived.set(2, true);
    let mut confirmed = Vec::new();
    for (place, (_, client)) in clients.into_iter().enumerate() {
        let shown = if place < 4 { &maps } else { &other };
        confirmed.push(client.confirm(shown).expect("plausible by itself"));
    }
    let (states, confirmations): (Vec<Confirmed>, Vec<_>) = confirmed.into_iter().unzip();
    let all = UnmaskRequest { maps: maps.clone(), confirmations: confirmations[1..].to_vec() };
    let honest_half = UnmaskRequest { maps, confirmations: confirmations[1..4].to_vec() };
    let mut states = states.into_iter();
    let from = confirmations[4].client;
    let refused = states.next().expect("the first client").unmask(&all).expect_err("different maps");
    assert_eq!(refused, ClientError::ConfirmationMismatch { from });
    let mut request = honest_half;
    request.confirmations[0] = confirmations[0].clone();
    let refused = states.next().expect("the second client").unmask(&request).expect_err("half is not enough");
    assert_eq!(refused, ClientError::TooFewConfirmations { confirmed: 3, threshold: 5 });
}

/// Clients that have confirmed, and a server that is about to ask them.
fn before_unmasking() -> Progress<Unmask, Confirmed> {
    let (clients, _, server, summation) = before_confirming();
    let collected = crate::fleet::Collected { server, summation, clients };
    confirm_all(collected, &BTreeSet::new()).expect("nobody leaves").0
}

#[test]
fn confirmations_that_are_foreign_repeated_or_too_few() {
    let refused = |lie: fn(&mut UnmaskRequest)| {
        let mut progress = before_unmasking();
        let (id, victim) = progress.clients.pop_first().expect("somebody");
        let mut request = progress.server.request_for(id).expect("it confirmed");
        assert_eq!(request.confirmations.len(), 5, "t are enough");
        lie(&mut request);
        victim.unmask(&request).expect_err("a lie")
    };
    assert_eq!(
        refused(|request| {
            request.confirmations.pop();
        }),
        ClientError::TooFewConfirmations { confirmed: 4, threshold: 5 }
    );
    let refused_foreign = |lie| matches!(refused(lie), ClientError::ForeignConfirmation { .. });
    assert!(refused_foreign(|request| request.confirmations[1] = request.confirmations[0].clone()));
    assert!(refused_foreign(|request| request.confirmations.swap(0, 1)));
    assert!(refused_foreign(|request| request.confirmations[2].client.0 += 1));
    assert!(matches!(
        refused(|request| request.confirmations[2].signature.0[0] ^= 1),
        ClientError::ConfirmationMismatch { .. }
    ));
}

#[test]
fn both_shares_of_one_client() {
    let mut progress = before_unmasking();
    let (id, victim) = progress.clients.pop_first().expect("somebody");
    let request = progress.server.request_for(id).expect("it confirmed");
    let (finished, answer) = victim.unmask(&request).expect("no lie yet");
    assert_eq!(answer.shares.len(), 8, "one per neighbour that shared");
    assert_eq!(finished.repeat(&request), Ok(answer.clone()), "the same request gets the recorded answer");
    // Now the server claims that a survivor dropped out, to get the other share.
    let exposed = answer.shares[0].of;
    let mut other = request.clone();
    other.maps.survived.set(1, false);
    assert_eq!(finished.repeat(&other), Err(ClientError::BothSharesRequested { client: exposed }));
    // Or that the one that dropped out is back.
    let mut other = request.clone();
    other.maps.survived.set(2, true);
    assert!(matches!(finished.repeat(&other), Err(ClientError::BothSharesRequested { .. })));
    let mut other = request;
    other.maps.shared.set(9, true);
    assert_eq!(finished.repeat(&other), Err(ClientError::TwoSurvivorMaps));
}

#[test]
fn drop_outs_are_declared_so_as_to_cut_the_ring() {
    // A sparse graph, in which the drop-outs allowed outnumber a client's neighbours.
    let n = 512;
    let mut terms = terms(ThreatModel::HonestButCurious, n, 16, 4);
    terms.dropout_bp = 1_000;
    let mut fleet = Fleet::new(n, terms, 6);
    let (mut server, mut clients) = closed(&mut fleet);
    let params = server.list().params;
    assert!(params.degree < params.dropouts(), "{params:?}");
    let (id, victim) = clients.pop_first().expect("somebody");
    let near: Vec<ClientId> =
        server.adverts_for(id).expect("in the cohort").iter().map(|advert| advert.client()).collect();
    let (victim, message) = share_one(&server, victim).expect("no lie");
    server.accept(message).expect("honest");
    let mut deliveries = Vec::new();
    for (sender, client) in clients {
        if !near.contains(&sender) {
            continue;
        }
        let (_, message) = share_one(&server, client).expect("no lie");
        let place = message.envelopes.iter().position(|envelope| envelope.to == id).expect("a neighbour");
        deliveries.push(message.delivery(&message.envelope_tree(), place).expect("in range"));
    }
    let (victim, _) = victim.mask(&deliveries, fleet.vector()).expect("no lie");
    let all = Bitmap::from_indices(n, 0..n);
    let mut survived = all.clone();
    for client in &near {
        let index = server.list().index_of(*client).expect("in the list");
        survived.set(index, false);
    }
    assert!(survived.count() >= params.n_min, "few enough for n_min");
    assert_eq!(
        victim.confirm(&SurvivorMaps { shared: all, survived }).expect_err("cut off"),
        ClientError::TooFewSurvivingNeighbours { survivors: 0, threshold: params.threshold }
    );
}
