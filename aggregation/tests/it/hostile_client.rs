//! Clients that lie: each is refused by name, and the round goes on where the protocol allows.

use crate::fleet::{
    Collected, Fleet, NOW, Progress, Uploaded, close_collect, closed, confirm_all, inputs, mask_all,
    neighbours, plain_sum, share_one, shared, terms, unmask_all,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tacit_aggregation::Step;
use tacit_aggregation::client::{Advertised, ClientError, RoundSecrets, Shared};
use tacit_aggregation::identity::{CertificateError, ClientId, IdentityKey};
use tacit_aggregation::messages::{
    Advert, AdvertFault, CommitmentFault, ShareKind, ShareMessage, ShareValue, UnmaskShares,
};
use tacit_aggregation::params::{RoundTerms, ThreatModel};
use tacit_aggregation::ring_vector::RingVector;
use tacit_aggregation::server::{Abort, AbortReason, Collect, Receipt, ServerError, Share, VectorSummary};

const N: u32 = 12;

fn fleet() -> Fleet {
    Fleet::new(N, terms(ThreatModel::SemiMalicious, N, 16, 20), 11)
}

fn identity_of(fleet: &Fleet, client: ClientId) -> Arc<IdentityKey> {
    let setup = fleet.setups.iter().find(|setup| setup.certificate.client == client);
    Arc::clone(&setup.expect("in the fleet").identity)
}

fn ids(fleet: &Fleet) -> Vec<ClientId> {
    let sorted: BTreeSet<ClientId> = fleet.setups.iter().map(|setup| setup.certificate.client).collect();
    sorted.into_iter().collect()
}

#[test]
fn adverts_that_do_not_hold() {
    let mut fleet = fleet();
    let clients = fleet.advertise();
    let honest: &Advert = clients.values().next().expect("somebody").advert();
    let identity = identity_of(&fleet, honest.client());
    let client = honest.client();
    let refused = |change: &dyn Fn(&mut Advert), resign: bool| {
        let mut advert = honest.clone();
        change(&mut advert);
        if resign {
            advert.signature = identity.sign(&advert.payload());
        }
        fleet.server().accept(Arc::new(advert), NOW).expect_err("a bad advert")
    };
    let signature = ServerError::Signature { client, step: Step::Advertise };
    assert_eq!(refused(&|advert| advert.nonce[0] ^= 1, false), signature);
    assert_eq!(refused(&|advert| advert.plan[0] ^= 1, true), AdvertFault::PlanDiffers { client }.into());
    assert_eq!(
        refused(&|advert| advert.ledger_head[0] ^= 1, true),
        AdvertFault::LedgerDiffers { client }.into()
    );
    assert_eq!(
        refused(&|advert| advert.parent[0] ^= 1, true),
        AdvertFault::ParentNotAdmitted { client }.into()
    );
    assert!(matches!(
        refused(&|advert| advert.round = 6, true),
        ServerError::Advert(AdvertFault::ReplayedRound { round: 6, .. })
    ));
    assert_eq!(refused(&|advert| advert.channel_key = [0; 32], true), ServerError::UselessKey { client });
    assert_eq!(refused(&|advert| advert.mask_key = [0; 32], true), ServerError::UselessKey { client });
    assert_eq!(
        refused(&|advert| advert.certificate.client.0 ^= 1, true),
        CertificateError::Signature { client: ClientId(client.0 ^ 1) }.into()
    );
    let late = fleet.server().accept(Arc::new(honest.clone()), NOW + 2).expect_err("expired");
    assert!(matches!(late, ServerError::Certificate(CertificateError::Expired { .. })));
}

#[test]
fn repeats_are_answered_and_second_messages_refused() {
    let mut fleet = fleet();
    let first = fleet.advertise();
    let second = fleet.advertise();
    let mut server = fleet.server();
    for (id, state) in &first {
        assert_eq!(server.accept(Arc::clone(state.advert()), NOW), Ok(Receipt::Accepted));
        assert_eq!(server.accept(Arc::clone(state.advert()), NOW), Ok(Receipt::Repeated));
        assert_eq!(
            server.accept(Arc::clone(second[id].advert()), NOW),
            Err(ServerError::TwoMessages { client: *id, step: Step::Advertise })
        );
    }
    assert_eq!(server.count(), N);
    let mut crowd = Fleet::new(N + 1, (*fleet.terms).clone(), 99);
    let latecomer = crowd.advertise().pop_first().expect("somebody").1;
    let foreign = server.accept(Arc::clone(latecomer.advert()), NOW).expect_err("another organisation");
    assert!(matches!(foreign, ServerError::Certificate(CertificateError::Issuer { .. })));
}

#[test]
fn a_full_cohort_takes_nobody_more() {
    let mut fleet = fleet();
    let full = RoundTerms { cohort_max: N - 1, ..(*fleet.terms).clone() };
    fleet.terms = Arc::new(full);
    fleet.setups.iter_mut().for_each(|setup| setup.terms = Arc::clone(&fleet.terms));
    let clients = fleet.advertise();
    let mut server = fleet.server();
    let answers: Vec<_> =
        clients.values().map(|client| server.accept(Arc::clone(client.advert()), NOW)).collect();
    assert!(answers[..11].iter().all(|answer| *answer == Ok(Receipt::Accepted)));
    let client = ids(&fleet)[11];
    assert_eq!(answers[11], Err(ServerError::CohortFull { client, max: 11 }));
}

/// A server in Share with everybody's message but the first client's, which is handed out.
fn before_sharing() -> (Fleet, Share, Arc<ShareMessage>) {
    let mut fleet = fleet();
    let (server, mut clients) = closed(&mut fleet);
    let (_, state) = clients.pop_first().expect("somebody");
    let (_, message) = share_one(&server, state).expect("no lie");
    (fleet, server, message)
}

#[test]
fn share_messages_that_do_not_hold() {
    type Change = dyn Fn(&mut ShareMessage);
    let refused = |change: &Change, resign: bool| {
        let (fleet, mut server, message) = before_sharing();
        let mut bad = (*message).clone();
        change(&mut bad);
        if resign {
            bad.signature = identity_of(&fleet, bad.client).sign(&bad.payload(server.context()));
        }
        let error = server.accept(Arc::new(bad)).expect_err("a bad message");
        // Whoever signed the bad message is excluded; whoever did not may still send a good one.
        let next = server.accept(Arc::clone(&message));
        let client = message.client;
        let expected = if resign { Err(ServerError::Excluded { client }) } else { Ok(Receipt::Accepted) };
        assert_eq!(next, expected, "{error}");
        error
    };
    let swap = |message: &mut ShareMessage| message.envelopes.swap(0, 1);
    let missing = |message: &mut ShareMessage| {
        message.envelopes.pop();
    };
    let (_, _, message) = before_sharing();
    let client = message.client;
    assert_eq!(refused(&swap, false), ServerError::Signature { client, step: Step::Share });
    assert_eq!(refused(&swap, true), ServerError::Envelopes { client });
    assert_eq!(refused(&missing, true), ServerError::Envelopes { client });
    let other_key = |message: &mut ShareMessage| {
        let mut commitments = (*message.commitments).clone();
        commitments.mask_key = commitments.self_mask.clone();
        message.commitments = Arc::new(commitments);
    };
    assert_eq!(refused(&other_key, true), CommitmentFault::NotMaskKey { from: client }.into());
    let lower_degree = |message: &mut ShareMessage| {
        let mut commitments = (*message.commitments).clone();
        let points = commitments.self_mask.as_bytes()[1..].to_vec();
        commitments.self_mask =
            tacit_aggregation::shamir::Commitments::from_bytes(points).expect("still points");
        message.commitments = Arc::new(commitments);
    };
    let threshold = before_sharing().1.list().params.threshold;
    assert_eq!(
        refused(&lower_degree, true),
        CommitmentFault::Count { from: client, count: threshold as usize - 1, threshold }.into()
    );
    // A second message, and one by somebody who is not in the cohort.
    let (fleet, mut server, message) = before_sharing();
    server.accept(Arc::clone(&message)).expect("good");
    assert_eq!(server.accept(Arc::clone(&message)), Ok(Receipt::Repeated));
    let mut second = (*message).clone();
    second.envelopes[0].ciphertext[0] ^= 1;
    second.signature = identity_of(&fleet, client).sign(&second.payload(server.context()));
    assert_eq!(
        server.accept(Arc::new(second.clone())),
        Err(ServerError::TwoMessages { client, step: Step::Share })
    );
    second.client = ClientId(client.0 ^ 1);
    assert!(matches!(server.accept(Arc::new(second)), Err(ServerError::NotTakingPart { .. })));
}

/// What a liar does to its shares for the neighbours at some places.
enum Lie {
    /// Envelopes that cannot be opened.
    Garbage,
    /// Envelopes sealed properly, over another polynomial than the one committed to.
    OtherPolynomial,
}

/// Everybody shares; the members with lies send bad shares to the given places among their neighbours.
fn share_with_liars(
    fleet: &mut Fleet,
    liars: &BTreeMap<ClientId, (Lie, Vec<usize>)>,
) -> Progress<Collect, Shared> {
    let (mut server, advertised) = closed(fleet);
    let mut clients = BTreeMap::new();
    for (id, client) in advertised {
        let secrets = client.secrets().to_bytes();
        let (client, message) = share_one(&server, client).expect("no lie");
        let mut message = (*message).clone();
        if let Some((lie, places)) = liars.get(&id) {
            let setup = fleet.setups.iter().find(|setup| setup.certificate.client == id).expect("there");
            // The same keys with another seed give another polynomial under the same mask key.
            let mut other = *secrets;
            other[64] ^= 1;
            let other = RoundSecrets::from_bytes(&other).expect("still secrets");
            let other = Advertised::resume(setup.clone(), other, NOW).expect("the plan is fine");
            let adverts = neighbours(&server, other.advert());
            let (_, other) = other.share(server.list(), &adverts, NOW).expect("the same advert");
            for &place in places {
                message.envelopes[place].ciphertext = match lie {
                    Lie::Garbage => [7; 80],
                    Lie::OtherPolynomial => other.envelopes[place].ciphertext,
                };
            }
            message.signature = setup.identity.sign(&message.payload(server.context()));
        }
        assert_eq!(server.accept(Arc::new(message)), Ok(Receipt::Accepted), "the server cannot tell");
        clients.insert(id, client);
    }
    Progress { server: server.close().expect("everybody shared"), clients }
}

fn finish(
    collected: Collected,
    inputs: &BTreeMap<ClientId, RingVector>,
    survivors: &[ClientId],
) -> Vec<ServerError> {
    let (progress, summation) = confirm_all(collected, &BTreeSet::new()).expect("enough confirm");
    let (sum, _) = unmask_all(progress, summation, &BTreeSet::new()).expect("enough answer");
    assert_eq!(sum.survivors, survivors);
    assert_eq!(sum.vector, plain_sum(inputs, survivors), "exact in spite of the liars");
    sum.faults
}

#[test]
fn bad_shares_are_named_by_their_receivers_and_cost_the_sender_its_place() {
    for lie in [Lie::Garbage, Lie::OtherPolynomial] {
        let mut fleet = fleet();
        let inputs = inputs(&mut fleet);
        let ids = ids(&fleet);
        let liar = ids[4];
        let progress = share_with_liars(&mut fleet, &BTreeMap::from([(liar, (lie, vec![0, 2, 7]))]));
        let uploaded = mask_all(progress, &inputs, &BTreeSet::new());
        let naming: Vec<ClientId> = uploaded
            .clients
            .iter()
            .filter(|(_, Uploaded { client, upload })| {
                let named: Vec<ClientError> = client.bad_shares().collect();
                assert_eq!(named.len(), upload.header.refused.len());
                named == [ClientError::BadShare { from: liar }]
            })
            .map(|(id, _)| *id)
            .collect();
        assert_eq!(naming, [ids[0], ids[2], ids[8]], "exactly the receivers of the bad shares");
        let collected = close_collect(uploaded).expect("one lost");
        let expected = [ServerError::SentBadShares { client: liar, accusers: 3 }];
        assert_eq!(collected.server.faults(), expected);
        let survivors: Vec<ClientId> = ids.iter().filter(|id| **id != liar).copied().collect();
        assert_eq!(finish(collected, &inputs, &survivors), expected);
    }
}

/// One member sends bad shares to all neighbours but some, and uploads or not; everybody else is honest. Collect is closed.
fn close_with_a_liar(
    good: &[usize],
    uploads: bool,
) -> (Result<Collected, Abort>, BTreeMap<ClientId, RingVector>, Vec<ClientId>, ClientId) {
    let mut fleet = fleet();
    let inputs = inputs(&mut fleet);
    let ids = ids(&fleet);
    let liar = ids[4];
    let bad = (0..ids.len() - 1).filter(|place| !good.contains(place)).collect();
    let progress = share_with_liars(&mut fleet, &BTreeMap::from([(liar, (Lie::OtherPolynomial, bad))]));
    let leaves = if uploads { BTreeSet::new() } else { BTreeSet::from([liar]) };
    let collected = close_collect(mask_all(progress, &inputs, &leaves));
    (collected, inputs, ids, liar)
}

#[test]
fn bad_shares_for_everybody_cost_the_sender_alone_its_place() {
    for uploads in [true, false] {
        let (collected, inputs, ids, liar) = close_with_a_liar(&[], uploads);
        let collected = collected.expect("nobody masked with it, so nothing is to be recovered");
        let survivors: Vec<ClientId> = ids.iter().filter(|id| **id != liar).copied().collect();
        let faults = [ServerError::SentBadShares { client: liar, accusers: 11 }];
        assert_eq!(finish(collected, &inputs, &survivors), faults, "uploads: {uploads}");
    }
}

#[test]
fn whoever_alone_holds_good_shares_of_a_liar_is_left_out_where_n_min_allows() {
    for uploads in [true, false] {
        // Place 6 among the neighbours of member 4 is member 7. Ten of twelve must survive.
        let (collected, inputs, ids, liar) = close_with_a_liar(&[6], uploads);
        let collected = collected.expect("ten are left");
        let survivors: Vec<ClientId> =
            ids.iter().filter(|id| **id != liar && **id != ids[7]).copied().collect();
        let faults = [
            ServerError::SentBadShares { client: liar, accusers: 10 },
            ServerError::Stranded { client: ids[7], with: liar },
        ];
        assert_eq!(finish(collected, &inputs, &survivors), faults, "uploads: {uploads}");

        // With two of them nine would be left: the round is aborted, naming the liar.
        for holders in 2..=5 {
            let good: Vec<usize> = (0..holders).collect();
            let (collected, _, _, liar) = close_with_a_liar(&good, uploads);
            let abort = collected.err().expect("too few would be left");
            let (holders, accusers) = (holders as u32, 11 - holders as u32);
            let reason = AbortReason::Neighbourhood { client: liar, holders, accusers, threshold: 6 };
            assert_eq!(abort, Abort { step: Step::Collect, reason });
            assert!(!abort.costs_budget());
        }

        // From t holders its mask key is recovered, and nobody else is lost.
        let (collected, inputs, ids, liar) = close_with_a_liar(&[0, 1, 2, 3, 4, 5], uploads);
        let survivors: Vec<ClientId> = ids.iter().filter(|id| **id != liar).copied().collect();
        let named = [ServerError::SentBadShares { client: liar, accusers: 5 }];
        let faults = finish(collected.expect("t hold its shares"), &inputs, &survivors);
        assert_eq!(faults, if uploads { &named[..] } else { &[] });
    }
}

#[test]
fn a_false_claim_of_bad_shares_costs_the_claimant_its_place() {
    let mut fleet = fleet();
    let inputs = inputs(&mut fleet);
    let ids = ids(&fleet);
    let liar = ids[3];
    let progress = shared(&mut fleet, &BTreeSet::new()).expect("nobody leaves");
    let Progress { server, clients } = mask_all(progress, &inputs, &BTreeSet::from([liar]));
    let mut server = server;
    // The liar's own masked vector does not matter: it claims two bad shares.
    let mut header = clients[&ids[0]].upload.header.clone();
    header.client = liar;
    header.refused = vec![ids[0], ids[1]];
    let context = *clients[&ids[0]].client.context();
    header.signature = identity_of(&fleet, liar).sign(&header.payload(&context));
    assert_eq!(
        server.accept(&header, &VectorSummary::of(&clients[&ids[0]].upload.packed)),
        Ok(Receipt::Accepted)
    );
    let collected = close_collect(Progress { server, clients }).expect("one lost");
    let survivors: Vec<ClientId> = ids.iter().filter(|id| **id != liar).copied().collect();
    assert_eq!(
        finish(collected, &inputs, &survivors),
        [ServerError::RefusesManyShares { client: liar, accused: 2 }]
    );
}

#[test]
fn headers_and_vectors_that_do_not_hold() {
    let mut fleet = fleet();
    let inputs = inputs(&mut fleet);
    let ids = ids(&fleet);
    let progress = shared(&mut fleet, &BTreeSet::new()).expect("nobody leaves");
    let context = *progress.clients[&ids[0]].context();
    let Progress { server, clients } = progress;
    let mut fresh = server.clone();
    let mut clients = clients.into_iter();
    let (client, state) = clients.next().expect("somebody");
    let (_, good) =
        state.mask(&server.deliveries(client).expect("shared"), inputs[&client].clone()).expect("no lie");
    let identity = identity_of(&fleet, client);
    let refused = |change: &dyn Fn(&mut tacit_aggregation::messages::MaskedUpload), resign: bool| {
        let mut server = server.clone();
        let mut bad = good.clone();
        change(&mut bad);
        if resign {
            bad.header.signature = identity.sign(&bad.header.payload(&context));
        }
        server.accept(&bad.header, &VectorSummary::of(&bad.packed)).expect_err("a bad upload")
    };
    assert_eq!(
        refused(&|bad| bad.header.digest[0] ^= 1, false),
        ServerError::Signature { client, step: Step::Collect }
    );
    assert_eq!(
        refused(&|bad| bad.packed = changed(&bad.packed, 0, 1), false),
        ServerError::VectorDigest { client }
    );
    assert_eq!(refused(&|bad| bad.header.digest[0] ^= 1, true), ServerError::VectorDigest { client });
    assert_eq!(
        refused(&|bad| bad.header.length += 2, true),
        ServerError::VectorLength { client, length: 42, expected: 40 }
    );
    let stranger = ClientId(client.0 ^ 1);
    let strangers = ServerError::RefusedStrangers { client };
    assert_eq!(refused(&|bad| bad.header.refused = vec![stranger], true), strangers);
    assert_eq!(refused(&|bad| bad.header.refused = vec![client], true), strangers);
    assert_eq!(refused(&|bad| bad.header.refused = vec![ids[2], ids[1]], true), strangers);
    assert_eq!(refused(&|bad| bad.header.refused = vec![ids[2], ids[2]], true), strangers);
    let threshold = good.header.refused.len() as u32 + server.clone().count();
    assert_eq!(threshold, 0, "nothing has been accepted, nobody refused");
    assert!(matches!(
        refused(&|bad| bad.header.refused = ids[1..8].to_vec(), true),
        ServerError::TooFewShares { verified: 4, .. }
    ));
    // Repeats, second messages, and the sum itself.
    assert_eq!(fresh.accept(&good.header, &VectorSummary::of(&good.packed)), Ok(Receipt::Accepted));
    assert_eq!(fresh.accept(&good.header, &VectorSummary::of(&good.packed)), Ok(Receipt::Repeated));
    let mut second = good.header.clone();
    second.digest[0] ^= 1;
    second.signature = identity.sign(&second.payload(&context));
    assert_eq!(
        fresh.accept(&second, &VectorSummary::of(&good.packed)),
        Err(ServerError::TwoMessages { client, step: Step::Collect })
    );
    let mut upload = fresh.begin(&good.header).expect("the announcement holds");
    for chunk in tacit_aggregation::messages::chunks(&good.packed, 0) {
        upload.append(&chunk).expect("in order");
    }
    assert_eq!(upload.finish(), Ok((good.header.clone(), good.packed.to_vec())));
}

#[test]
fn a_vector_with_dirty_padding_is_refused() {
    // 3 coordinates of 5 bits leave one bit of padding.
    let mut fleet = Fleet::new(N, terms(ThreatModel::SemiMalicious, N, 5, 3), 12);
    let inputs = inputs(&mut fleet);
    let Progress { mut server, mut clients } = shared(&mut fleet, &BTreeSet::new()).expect("nobody leaves");
    let (client, state) = clients.pop_first().expect("somebody");
    let context = *state.context();
    let deliveries = server.deliveries(client).expect("it shared");
    let (_, mut bad) = state.mask(&deliveries, inputs[&client].clone()).expect("no lie");
    bad.packed = changed(&bad.packed, 1, !bad.packed[1] & 0x80);
    bad.header.digest =
        ring::digest::digest(&ring::digest::SHA256, &bad.packed).as_ref().try_into().expect("32 bytes");
    bad.header.signature = identity_of(&fleet, client).sign(&bad.header.payload(&context));
    assert!(matches!(
        server.accept(&bad.header, &VectorSummary::of(&bad.packed)),
        Err(ServerError::Vector { .. })
    ));
    assert_eq!(
        server.accept(&bad.header, &VectorSummary::of(&bad.packed)),
        Err(ServerError::Excluded { client })
    );
}

/// A vector with some bits of one byte flipped.
fn changed(packed: &[u8], at: usize, bits: u8) -> bytes::Bytes {
    let mut packed = packed.to_vec();
    packed[at] ^= bits;
    packed.into()
}

#[test]
fn only_the_survivors_signed_vectors_are_summed_each_once() {
    let mut fleet = fleet();
    let inputs = inputs(&mut fleet);
    let ids = ids(&fleet);
    let progress = shared(&mut fleet, &BTreeSet::new()).expect("nobody leaves");
    let Progress { server, clients } = mask_all(progress, &inputs, &BTreeSet::from([ids[5]]));
    let (_, mut summation) = server.close().expect("one lost");
    let packed = |id: &ClientId| clients[id].upload.packed.clone();
    let client = ids[0];
    assert_eq!(summation.add(client, &packed(&ids[1])), Err(ServerError::VectorDigest { client }));
    assert_eq!(summation.add(client, &packed(&client)), Ok(()));
    assert_eq!(summation.add(client, &packed(&client)), Err(ServerError::AddedTwice { client }));
    assert_eq!(
        summation.add(ids[5], &packed(&client)),
        Err(ServerError::NotTakingPart { client: ids[5], step: Step::Collect })
    );
    assert_eq!(summation.missing().next(), Some(ids[1]));
    let abort = summation.finish().expect_err("ten are missing");
    assert_eq!(abort.reason, AbortReason::VectorMissing { client: ids[1] });
    assert!(!abort.costs_budget());
}

#[test]
fn the_sum_of_another_round_is_not_unmasked() {
    let sums = [21, 22].map(|seed| {
        let mut fleet = Fleet::new(N, terms(ThreatModel::SemiMalicious, N, 16, 20), seed);
        let inputs = inputs(&mut fleet);
        let progress = shared(&mut fleet, &BTreeSet::new()).expect("nobody leaves");
        let collected = close_collect(mask_all(progress, &inputs, &BTreeSet::new())).expect("nobody leaves");
        confirm_all(collected, &BTreeSet::new()).expect("nobody leaves")
    });
    let [(progress, _), (_, foreign)] = sums;
    let abort = unmask_all(progress, foreign, &BTreeSet::new()).expect_err("another round");
    assert_eq!(abort.reason, AbortReason::ForeignSum);
    assert!(abort.costs_budget(), "the requests had gone out");
}

/// A whole round in which some clients alter their unmasking shares and sign them.
fn unmask_with_liars(
    liars: &[usize],
    change: impl Fn(&mut UnmaskShares),
) -> (Result<tacit_aggregation::server::Sum, AbortReason>, Vec<Option<ServerError>>, Vec<ClientId>) {
    unmask_among(fleet(), liars, change)
}

fn unmask_among(
    mut fleet: Fleet,
    liars: &[usize],
    change: impl Fn(&mut UnmaskShares),
) -> (Result<tacit_aggregation::server::Sum, AbortReason>, Vec<Option<ServerError>>, Vec<ClientId>) {
    let inputs = inputs(&mut fleet);
    let ids = ids(&fleet);
    let gone = BTreeSet::from([ids[ids.len() - 1]]);
    let progress = shared(&mut fleet, &BTreeSet::new()).expect("nobody leaves");
    let context = *progress.clients[&ids[0]].context();
    let collected = close_collect(mask_all(progress, &inputs, &gone)).expect("one lost");
    let (progress, summation) = confirm_all(collected, &BTreeSet::new()).expect("nobody leaves");
    let Progress { mut server, clients } = progress;
    let mut answers = Vec::new();
    for (place, (id, client)) in clients.into_iter().enumerate() {
        let request = server.request_for(id).expect("it confirmed");
        let (_, mut shares) = client.unmask(&request).expect("no lie");
        if liars.contains(&place) {
            change(&mut shares);
            shares.signature = identity_of(&fleet, id).sign(&shares.payload(&context));
        }
        answers.push(server.accept(&shares).err());
    }
    let sum = server.close(summation.finish().expect("all added")).map_err(|abort| abort.reason);
    if let Ok(sum) = &sum {
        assert_eq!(sum.vector, plain_sum(&inputs, &ids[..ids.len() - 1]), "exact in spite of the liars");
    }
    (sum, answers, ids)
}

#[test]
fn unmasking_shares_that_do_not_match_are_named_and_done_without() {
    let one_more = |shares: &mut UnmaskShares| {
        // Both a survivor's share and that of the client that dropped out, off by one in the lowest byte.
        for share in [0, 10] {
            let mut bytes = shares.shares[share].share.0;
            bytes[0] ^= 1;
            shares.shares[share].share = ShareValue(bytes);
        }
    };
    let (sum, answers, ids) = unmask_with_liars(&[1, 4], one_more);
    assert!(answers.iter().all(Option::is_none), "the server cannot tell yet");
    let (survivor, dropped) = (ShareKind::SelfMask, ShareKind::MaskKey);
    let fault = |client, of, kind| ServerError::BadUnmaskShare { client, of, kind };
    assert_eq!(
        sum.expect("enough good shares").faults,
        [
            fault(ids[1], ids[0], survivor),
            fault(ids[4], ids[0], survivor),
            fault(ids[1], ids[11], dropped),
            fault(ids[4], ids[11], dropped),
        ]
    );
    // With too many liars the round aborts, and names them.
    let (sum, _, ids) = unmask_with_liars(&[1, 2, 3, 4, 5, 6], one_more);
    match sum.expect_err("too few good shares") {
        AbortReason::Unrecoverable { client, good: 4, threshold: 6, liars } => {
            assert_eq!(client, ids[0]);
            assert_eq!(liars, ids[1..7]);
        }
        other => panic!("{other}"),
    }
}

#[test]
fn a_liar_makes_the_server_check_the_shares_of_a_few_owners_only() {
    let n = 70;
    let fleet = Fleet::new(n, terms(ThreatModel::SemiMalicious, n, 16, 3), 13);
    let (sum, _, ids) = unmask_among(fleet, &[0], |shares| {
        for share in &mut shares.shares {
            let mut bytes = share.share.0;
            bytes[0] ^= 1;
            share.share = ShareValue(bytes);
        }
    });
    let faults = sum.expect("enough good shares").faults;
    // Sixty-four owners are taken at a time, of whom the liar itself is one; after them its shares are not needed.
    assert_eq!(faults.len(), 63);
    let by_the_liar = |fault: &ServerError| matches!(fault, ServerError::BadUnmaskShare { client, .. } if *client == ids[0]);
    assert!(faults.iter().all(by_the_liar));
}

#[test]
fn unmasking_shares_other_than_those_due_are_refused() {
    type Change = fn(&mut UnmaskShares);
    let lists: [Change; 4] = [
        |shares| {
            shares.shares.pop();
        },
        |shares| shares.shares.swap(0, 1),
        |shares| shares.shares[0].kind = ShareKind::MaskKey,
        |shares| shares.shares[1] = shares.shares[0].clone(),
    ];
    for change in lists {
        let (sum, answers, ids) = unmask_with_liars(&[2], change);
        assert_eq!(answers[2], Some(ServerError::ShareList { client: ids[2] }));
        sum.expect("enough others");
    }
    let (sum, answers, ids) =
        unmask_with_liars(&[2], |shares| shares.shares[3].share = ShareValue([0xff; 32]));
    let expected = ServerError::NotAScalar { client: ids[2], of: ids[4], kind: ShareKind::SelfMask };
    assert_eq!(answers[2], Some(expected));
    sum.expect("enough others");
}

#[test]
fn confirmations_and_shares_by_others_are_refused() {
    let mut fleet = fleet();
    let inputs = inputs(&mut fleet);
    let ids = ids(&fleet);
    let progress = shared(&mut fleet, &BTreeSet::new()).expect("nobody leaves");
    let mut collected =
        close_collect(mask_all(progress, &inputs, &BTreeSet::from([ids[1]]))).expect("one lost");
    let maps = collected.server.maps().clone();
    let (client, state) = collected.clients.pop_first().expect("somebody");
    let (_, good) = state.confirm(&maps).expect("no lie");
    let mut bad = good.clone();
    bad.signature.0[0] ^= 1;
    let server = &mut collected.server;
    assert_eq!(server.accept(&bad), Err(ServerError::Signature { client, step: Step::Confirm }));
    assert_eq!(server.accept(&good), Ok(Receipt::Accepted));
    assert_eq!(server.accept(&good), Ok(Receipt::Repeated));
    bad.client = ids[1];
    assert_eq!(
        server.accept(&bad),
        Err(ServerError::NotTakingPart { client: ids[1], step: Step::Confirm }),
        "it dropped out"
    );
    assert_eq!(server.count(), 1);
}
