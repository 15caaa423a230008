//! Round trips of every message, and decoders under arbitrary bytes.

use super::{CommitmentCache, DecodeError, Wire, generated, share_commitments};
use crate::admin::{FullRoster, MAX_LISTED, Order};
use crate::messages::{ClientMessage, ServerMessage};
use crate::plan::tests_support::{RULE, central_plan, drawn_plan, key, plan};
use crate::plan::{LocalRule, RoundPlan, SignedPlan, Trust};
use proptest::prelude::{Just, Strategy, any, prop_assert, prop_assert_eq, prop_oneof, proptest};
use std::fmt::Debug;
use std::sync::Arc;
use tacit_aggregation::bitmap::Bitmap;
use tacit_aggregation::identity::{Certificate, ClientId, Membership, PublicKey, Signature};
use tacit_aggregation::messages::{
    Advert, CIPHERTEXT_BYTES, CohortEntry, CohortList, Confirm, Envelope, MAX_CHUNK_BYTES, MaskedChunk,
    MaskedHeader, ShareCommitments, ShareDelivery, ShareKind, ShareMessage, ShareValue, SurvivorMaps,
    UnmaskRequest, UnmaskShare, UnmaskShares,
};
use tacit_aggregation::params::{RoundParams, TaskName, ThreatModel};
use tacit_aggregation::shamir::Commitments;
use tacit_privacy::AdaptiveClip;

/// Encodings of the generator of Ristretto255 and of twice it (RFC 9496, appendix A.1).
const POINTS: [[u8; 32]; 2] = [
    [
        0xe2, 0xf2, 0xae, 0x0a, 0x6a, 0xbc, 0x4e, 0x71, 0xa8, 0x84, 0xa9, 0x61, 0xc5, 0x00, 0x51, 0x5f, 0x58,
        0xe3, 0x0b, 0x6a, 0xa5, 0x82, 0xdd, 0x8d, 0xb6, 0xa6, 0x59, 0x45, 0xe0, 0x8d, 0x2d, 0x76,
    ],
    [
        0x6a, 0x49, 0x32, 0x10, 0xf7, 0x49, 0x9c, 0xd1, 0x7f, 0xec, 0xb5, 0x10, 0xae, 0x0c, 0xea, 0x23, 0xa1,
        0x10, 0xe8, 0xd5, 0xb9, 0x01, 0xf8, 0xac, 0xad, 0xd3, 0x09, 0x5c, 0x73, 0xa3, 0xb9, 0x19,
    ],
];

fn digest() -> impl Strategy<Value = [u8; 32]> {
    any::<[u8; 32]>()
}

fn signature() -> impl Strategy<Value = Signature> {
    (any::<[u8; 32]>(), any::<[u8; 32]>()).prop_map(|(left, right)| {
        let mut bytes = [0; 64];
        bytes[..32].copy_from_slice(&left);
        bytes[32..].copy_from_slice(&right);
        Signature(bytes)
    })
}

fn clients(most: usize) -> impl Strategy<Value = Vec<ClientId>> {
    proptest::collection::btree_set(any::<u64>(), 0..most)
        .prop_map(|ids| ids.into_iter().map(ClientId).collect())
}

fn certificate() -> impl Strategy<Value = Certificate> {
    (any::<u64>(), digest(), any::<u64>(), digest(), signature()).prop_map(
        |(client, public_key, not_after, issuer, signature)| Certificate {
            client: ClientId(client),
            public_key: PublicKey(public_key),
            not_after,
            issuer: PublicKey(issuer),
            signature,
        },
    )
}

fn advert() -> impl Strategy<Value = Advert> {
    let digests = proptest::array::uniform6(digest());
    let path = proptest::collection::vec(digest(), 0..=64);
    let membership =
        proptest::option::of((any::<u64>(), path).prop_map(|(index, path)| Membership { index, path }));
    (certificate(), "[a-z0-9._-]{0,63}[a-z0-9_-]", any::<u64>(), digests, signature(), membership).prop_map(
        |(certificate, task, round, digests, signature, membership)| {
            let [plan, ledger_head, parent, channel_key, mask_key, nonce] = digests;
            let task = TaskName::new(&task).expect("a plain name");
            Advert {
                certificate,
                task,
                round,
                plan,
                ledger_head,
                parent,
                channel_key,
                mask_key,
                nonce,
                membership,
                signature,
            }
        },
    )
}

fn params() -> impl Strategy<Value = RoundParams> {
    (any::<[u32; 5]>(), any::<[u16; 2]>(), any::<[u8; 2]>(), any::<bool>()).prop_map(
        |(
            [n, n_min, degree, threshold, dimension],
            [corrupt_bp, dropout_bp],
            [bits, correctness_bits],
            lies,
        )| {
            let threat = if lies { ThreatModel::SemiMalicious } else { ThreatModel::HonestButCurious };
            RoundParams {
                n,
                n_min,
                degree,
                threshold,
                bits,
                dimension,
                threat,
                corrupt_bp,
                dropout_bp,
                correctness_bits,
            }
        },
    )
}

fn cohort() -> impl Strategy<Value = CohortList> {
    let entry = (any::<u64>(), digest())
        .prop_map(|(client, advert)| CohortEntry { client: ClientId(client), advert });
    (params(), proptest::collection::vec(entry, 0..9))
        .prop_map(|(params, entries)| CohortList { params, entries })
}

fn ciphertext() -> impl Strategy<Value = [u8; CIPHERTEXT_BYTES]> {
    any::<u8>().prop_map(|first| std::array::from_fn(|index| first.wrapping_add(index as u8)))
}

fn commitments() -> impl Strategy<Value = Arc<ShareCommitments>> {
    let points = || {
        proptest::collection::vec(0..POINTS.len(), 1..5).prop_map(|places| {
            let points = places.into_iter().map(|place| POINTS[place]).collect();
            Commitments::from_bytes(points).expect("points of the group")
        })
    };
    (points(), points()).prop_map(|(mask_key, self_mask)| Arc::new(ShareCommitments { mask_key, self_mask }))
}

fn share() -> impl Strategy<Value = ShareMessage> {
    (any::<u64>(), commitments(), clients(7), ciphertext(), signature()).prop_map(
        |(client, commitments, to, ciphertext, signature)| ShareMessage {
            client: ClientId(client),
            commitments,
            envelopes: to.into_iter().map(|to| Envelope { to, ciphertext }).collect(),
            signature,
        },
    )
}

fn delivery() -> impl Strategy<Value = ShareDelivery> {
    let path = proptest::collection::vec(digest(), 0..14);
    (any::<u64>(), commitments(), ciphertext(), path, signature()).prop_map(
        |(from, commitments, ciphertext, path, signature)| ShareDelivery {
            from: ClientId(from),
            commitments,
            ciphertext,
            path,
            signature,
        },
    )
}

fn header() -> impl Strategy<Value = MaskedHeader> {
    (any::<[u64; 2]>(), digest(), clients(5), signature()).prop_map(
        |([client, length], digest, refused, signature)| MaskedHeader {
            client: ClientId(client),
            length,
            digest,
            refused,
            signature,
        },
    )
}

fn chunk() -> impl Strategy<Value = MaskedChunk> {
    (any::<u64>(), proptest::collection::vec(any::<u8>(), 0..99))
        .prop_map(|(offset, bytes)| MaskedChunk { offset, bytes: bytes.into() })
}

fn maps() -> impl Strategy<Value = SurvivorMaps> {
    (0u32..70, any::<[u64; 2]>()).prop_map(|(members, [shared, survived])| {
        let set = |bits: u64| Bitmap::from_indices(members, (0..64).filter(|index| bits >> index & 1 == 1));
        SurvivorMaps { shared: set(shared), survived: set(survived) }
    })
}

fn confirm() -> impl Strategy<Value = Confirm> {
    (any::<u64>(), signature())
        .prop_map(|(client, signature)| Confirm { client: ClientId(client), signature })
}

fn request() -> impl Strategy<Value = UnmaskRequest> {
    (maps(), clients(6), signature()).prop_map(|(maps, clients, signature)| UnmaskRequest {
        maps,
        confirmations: clients.into_iter().map(|client| Confirm { client, signature }).collect(),
    })
}

fn unmask() -> impl Strategy<Value = UnmaskShares> {
    let kind = prop_oneof![Just(ShareKind::SelfMask), Just(ShareKind::MaskKey)];
    (any::<u64>(), clients(6), kind, digest(), signature()).prop_map(
        |(client, of, kind, share, signature)| UnmaskShares {
            client: ClientId(client),
            shares: of.into_iter().map(|of| UnmaskShare { of, kind, share: ShareValue(share) }).collect(),
            signature,
        },
    )
}

fn client_message() -> impl Strategy<Value = ClientMessage> {
    prop_oneof![
        advert().prop_map(|advert| ClientMessage::Advert(Arc::new(advert))),
        share().prop_map(|share| ClientMessage::Share(Arc::new(share))),
        header().prop_map(ClientMessage::MaskedHeader),
        chunk().prop_map(ClientMessage::MaskedChunk),
        confirm().prop_map(ClientMessage::Confirm),
        unmask().prop_map(ClientMessage::Unmask),
    ]
}

fn server_message() -> impl Strategy<Value = ServerMessage> {
    let adverts = proptest::collection::vec(advert().prop_map(Arc::new), 0..3);
    let deliveries = proptest::collection::vec(delivery(), 0..4).prop_map(|mut deliveries| {
        deliveries.sort_by_key(|delivery| delivery.from);
        deliveries.dedup_by_key(|delivery| delivery.from);
        deliveries
    });
    prop_oneof![
        (cohort(), adverts)
            .prop_map(|(list, adverts)| ServerMessage::Cohort { list: Arc::new(list), adverts }),
        deliveries.prop_map(ServerMessage::Shares),
        maps().prop_map(ServerMessage::Maps),
        request().prop_map(ServerMessage::Unmask),
    ]
}

/// Its bytes give the value back; every prefix of them gives another value or an error, never a panic; so does a flipped
/// bit, unless what it gives is that other value's own form.
fn round_trip<M: Wire + PartialEq + Debug>(message: &M) {
    let bytes = message.to_wire();
    assert!(bytes.len() <= M::MAX_BYTES);
    assert_eq!(M::from_wire(&bytes).as_ref(), Ok(message));
    for end in 0..bytes.len() {
        if let Ok(other) = M::from_wire(&bytes[..end]) {
            assert_ne!(&other, message);
        }
    }
    let mut damaged = bytes.clone();
    for place in (0..bytes.len()).step_by(1 + bytes.len() / 64) {
        damaged[place] ^= 1 << (place % 8);
        if let Ok(other) = M::from_wire(&damaged) {
            assert_eq!(M::from_wire(&other.to_wire()), Ok(other));
        }
        damaged[place] = bytes[place];
    }
}

proptest! {
    #![proptest_config(proptest::test_runner::Config::with_cases(48))]

    #[test]
    fn what_clients_send_comes_back(message in client_message()) {
        round_trip(&message);
    }

    #[test]
    fn what_clients_receive_comes_back(message in server_message()) {
        round_trip(&message);
    }

    #[test]
    fn a_cache_changes_nothing(messages in proptest::collection::vec(server_message(), 1..6), limit in 0usize..3) {
        let cache = CommitmentCache::new(limit);
        for message in messages.iter().chain(&messages) {
            let bytes = message.to_wire();
            let read = ServerMessage::from_wire_cached(&bytes, &cache);
            prop_assert_eq!(read.as_ref(), Ok(message));
            prop_assert_eq!(
                ServerMessage::from_wire_cached(&bytes[..bytes.len() / 2], &cache),
                ServerMessage::from_wire(&bytes[..bytes.len() / 2])
            );
            prop_assert!(cache.len() <= limit);
        }
    }

    #[test]
    fn single_messages_come_back(
        certificate in certificate(), advert in advert(), list in cohort(), share in share(), delivery in delivery(),
        header in header(), chunk in chunk(), maps in maps(), confirm in confirm(), request in request(), shares in unmask(),
    ) {
        round_trip(&certificate);
        round_trip(&advert);
        round_trip(&list);
        round_trip(&share);
        round_trip(&delivery);
        round_trip(&header);
        round_trip(&chunk);
        round_trip(&maps);
        round_trip(&confirm);
        round_trip(&request);
        round_trip(&shares);
    }

    #[test]
    fn arbitrary_bytes_are_an_error_or_a_message(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        if let Ok(message) = ClientMessage::from_wire(&bytes) {
            prop_assert_eq!(ClientMessage::from_wire(&message.to_wire()), Ok(message));
        }
        if let Ok(message) = ServerMessage::from_wire(&bytes) {
            prop_assert_eq!(ServerMessage::from_wire(&message.to_wire()), Ok(message));
        }
        prop_assert!(SignedPlan::from_wire(&bytes).is_err());
    }

    #[test]
    fn plans_come_back_with_the_same_digest(
        round in any::<u64>(), reals in any::<[u64; 6]>(), numbers in any::<[u32; 8]>(), sgd in any::<bool>(),
        trust in 0..3_u8, targets in proptest::collection::vec("\\PC{0,20}", 0..6),
    ) {
        // Any bit pattern of a real number: whether a plan may hold it is another check.
        let mut plan = plan();
        plan.round = round;
        plan.adapter.alpha = f64::from_bits(reals[0]);
        plan.training.learning_rate = f64::from_bits(reals[1]);
        plan.privacy.clip = f64::from_bits(reals[2]);
        plan.privacy.scale = f64::from_bits(reals[3]);
        plan.privacy.delta = f64::from_bits(reals[4]);
        plan.privacy.epsilon = f64::from_bits(reals[5]);
        plan.adapter.rank = numbers[0];
        plan.training.steps = numbers[1];
        plan.cohort.min = numbers[2];
        plan.privacy.dimension = numbers[3];
        plan.adapter.targets = targets;
        if sgd {
            plan.training.rule = LocalRule::Sgd { momentum: 0.25 };
        }
        let count_noise = f64::from_bits(reals[0]);
        plan.privacy.trust = match trust {
            0 => Trust::Distributed,
            1 => central_plan(None).privacy.trust,
            _ => central_plan(Some(AdaptiveClip { count_noise, ..RULE })).privacy.trust,
        };
        let again = RoundPlan::from_wire(&plan.to_wire()).expect("its own form");
        prop_assert_eq!(again.canonical_bytes(), plan.canonical_bytes());
    }
}

#[test]
fn a_signed_plan_comes_back_and_still_verifies() {
    for plan in [plan(), drawn_plan()] {
        let signed = key().sign(plan.clone()).expect("a good plan");
        round_trip(&signed);
        let again = SignedPlan::from_wire(&signed.to_wire()).expect("its own form");
        assert_eq!(again.verify(&key().public_key()), Ok(&plan));
    }
}

#[test]
fn the_roster_of_a_large_fleet_is_one_order() {
    let terms = drawn_plan().roster.expect("it demands one");
    let clients = (0..1_000_000).map(|client| ClientId(client << 40 | 7)).collect();
    let order = Order::TakeRoster(FullRoster { signed: terms.roster, clients });
    round_trip(&order);
    type Generated = generated::Order;
    fn clients_of(order: &mut Generated) -> &mut Vec<u8> {
        match order.body.as_mut().expect("there") {
            generated::order::Body::TakeRoster(roster) => &mut roster.clients,
            other => panic!("{other:?}"),
        }
    }
    let cut = refused(&order, |order: &mut Generated| clients_of(order).truncate(15));
    assert!(matches!(cut, DecodeError::Length { field: "FullRoster.clients", .. }), "{cut}");
    let long = refused(&order, |order: &mut Generated| clients_of(order).resize(8 * MAX_LISTED + 2048, 0));
    assert!(matches!(long, DecodeError::TooLong { .. }), "{long}");
}

/// A generated message, spoilt, and what its decoder says.
fn refused<G, M>(message: &M, spoil: impl FnOnce(&mut G)) -> DecodeError
where
    G: prost::Message + Default,
    M: Wire + Debug,
{
    let mut generated = G::decode(message.to_wire().as_slice()).expect("its own form");
    spoil(&mut generated);
    M::from_wire(&generated.encode_to_vec()).expect_err("spoilt")
}

fn roster(plan: &mut generated::RoundPlan) -> &mut generated::SignedRoster {
    plan.roster.as_mut().and_then(|terms| terms.roster.as_mut()).expect("there")
}

#[test]
fn errors_name_the_field() {
    let signed = key().sign(plan()).expect("a good plan");
    let plan = plan();
    type Plan = generated::RoundPlan;
    let cases = [
        (refused(&plan, |p: &mut Plan| p.task = "Rust".into()), "RoundPlan.task"),
        (refused(&plan, |p: &mut Plan| p.parents[0].truncate(31)), "RoundPlan.parents"),
        (refused(&plan, |p: &mut Plan| p.ledger_head.clear()), "RoundPlan.ledger_head"),
        (refused(&plan, |p: &mut Plan| p.base_model.push(0)), "RoundPlan.base_model"),
        (refused(&plan, |p: &mut Plan| p.adapter = None), "RoundPlan.adapter"),
        (refused(&plan, |p: &mut Plan| p.deadlines = None), "RoundPlan.deadlines"),
        (refused(&drawn_plan(), |p: &mut Plan| roster(p).period_seconds = 0), "SignedRoster.period_seconds"),
        (refused(&drawn_plan(), |p: &mut Plan| roster(p).seed.truncate(31)), "SignedRoster.seed"),
        (
            refused(&plan, |p: &mut Plan| {
                p.training.as_mut().expect("there").rule = None;
            }),
            "LocalTraining.rule",
        ),
        (
            refused(&plan, |p: &mut Plan| {
                p.cohort.as_mut().expect("there").threat = 0;
            }),
            "CohortTerms.threat",
        ),
        (
            refused(&plan, |p: &mut Plan| {
                p.cohort.as_mut().expect("there").corrupt_bp = 70_000;
            }),
            "CohortTerms.corrupt_bp",
        ),
        (
            refused(&plan, |p: &mut Plan| {
                p.privacy.as_mut().expect("there").adjacency = 9;
            }),
            "PrivacyTerms.adjacency",
        ),
        (
            refused(&plan, |p: &mut Plan| {
                p.privacy.as_mut().expect("there").noise_law = 0;
            }),
            "PrivacyTerms.noise_law",
        ),
        (
            refused(&plan, |p: &mut Plan| {
                p.privacy.as_mut().expect("there").bits = 256;
            }),
            "PrivacyTerms.bits",
        ),
        (
            refused(&plan, |p: &mut Plan| {
                p.privacy.as_mut().expect("there").trust = None;
            }),
            "PrivacyTerms.trust",
        ),
        (
            refused(&plan, |p: &mut Plan| {
                let short = generated::Central { noise_commitment: vec![0; 31], adaptive_clip: None };
                let trust = generated::privacy_terms::Trust::Central(short);
                p.privacy.as_mut().expect("there").trust = Some(trust);
            }),
            "Central.noise_commitment",
        ),
        (refused(&signed, |p: &mut generated::SignedPlan| p.plan = None), "SignedPlan.plan"),
        (refused(&signed, |p: &mut generated::SignedPlan| p.signature.push(1)), "SignedPlan.signature"),
    ];
    for (error, field) in cases {
        assert!(error.to_string().starts_with(&format!("{field} ")), "{field}: {error}");
    }
    let many = refused(&plan, |p: &mut Plan| p.parents = vec![vec![0; 32]; 65]);
    assert_eq!(many, DecodeError::TooMany { field: "RoundPlan.parents", count: 65, limit: 64 });
}

#[test]
fn minus_zero_is_refused_for_it_would_come_back_as_zero() {
    let bytes = plan().to_wire();
    // The number of the field noise_multiplier and its kind, then the value, little-endian.
    let field = |value: f64| [&[3 << 3 | 1][..], &value.to_le_bytes()].concat();
    let good = field(plan().privacy.noise_multiplier);
    let places: Vec<usize> = (0..bytes.len()).filter(|&at| bytes[at..].starts_with(&good)).collect();
    let [at] = places[..] else { panic!("{places:?}") };
    let with = |value: f64| {
        let mut changed = bytes.clone();
        changed[at..at + good.len()].copy_from_slice(&field(value));
        RoundPlan::from_wire(&changed)
    };
    assert_eq!(with(0.0).map(|plan| plan.privacy.noise_multiplier.to_bits()), Ok(0));
    let refused =
        DecodeError::Invalid { field: "PrivacyTerms.noise_multiplier", reason: "it is minus zero".into() };
    assert_eq!(with(-0.0), Err(refused));
}

#[test]
fn what_is_too_long_or_out_of_order_is_refused() {
    let chunk = MaskedChunk { offset: 0, bytes: vec![1; MAX_CHUNK_BYTES + 1].into() };
    assert!(matches!(
        MaskedChunk::from_wire(&chunk.to_wire()),
        Err(DecodeError::TooMany { field: "MaskedChunk.bytes", .. })
    ));
    let huge = vec![0; Advert::MAX_BYTES + 1];
    assert!(matches!(Advert::from_wire(&huge), Err(DecodeError::TooLong { message: "Advert", .. })));

    let signature = Signature([1; 64]);
    let header =
        |refused| MaskedHeader { client: ClientId(1), length: 2, digest: [0; 32], refused, signature };
    let twice = header(vec![ClientId(4), ClientId(4)]);
    assert_eq!(
        MaskedHeader::from_wire(&twice.to_wire()),
        Err(DecodeError::Order { field: "MaskedHeader.refused", client: 4 })
    );
    let identity = Arc::new(ShareCommitments {
        mask_key: Commitments::from_bytes(vec![POINTS[0]]).expect("a point"),
        self_mask: Commitments::from_bytes(vec![POINTS[1]]).expect("a point"),
    });
    let message =
        ShareMessage { client: ClientId(1), commitments: identity, envelopes: Vec::new(), signature };
    let bad = refused(&message, |m: &mut generated::ShareMessage| {
        m.commitments.as_mut().expect("there").mask_key = vec![0; 32];
    });
    assert!(matches!(bad, DecodeError::Invalid { field: "ShareCommitments.mask_key", .. }), "{bad}");
    let bad = refused(&message, |m: &mut generated::ShareMessage| m.envelopes = vec![0; 87]);
    assert!(matches!(bad, DecodeError::Length { field: "ShareMessage.envelopes", .. }), "{bad}");
    let maps = SurvivorMaps { shared: Bitmap::new(9), survived: Bitmap::new(9) };
    let bad = refused(&maps, |m: &mut generated::SurvivorMaps| m.survived = vec![0, 2]);
    assert!(matches!(bad, DecodeError::Invalid { field: "SurvivorMaps.survived", .. }), "{bad}");
    let empty = ClientMessage::from_wire(&[]);
    assert_eq!(empty, Err(DecodeError::Missing { field: "ClientMessage.body" }));
}

#[test]
fn what_was_decoded_once_is_shared() {
    let list = |place: usize| Commitments::from_bytes(vec![POINTS[place]; 3]).expect("points");
    let delivery = |from, mask_key, self_mask| ShareDelivery {
        from: ClientId(from),
        commitments: Arc::new(ShareCommitments { mask_key: list(mask_key), self_mask: list(self_mask) }),
        ciphertext: [0; CIPHERTEXT_BYTES],
        path: Vec::new(),
        signature: Signature([0; 64]),
    };
    let cache = CommitmentCache::new(9);
    let message = ServerMessage::Shares(vec![delivery(1, 0, 1), delivery(2, 1, 0), delivery(3, 0, 1)]);
    let first = ServerMessage::from_wire_cached(&message.to_wire(), &cache).expect("its own form");
    assert_eq!(first, message);
    assert_eq!(cache.len(), 2);
    let ServerMessage::Shares(deliveries) = first else { panic!("{first:?}") };
    assert!(Arc::ptr_eq(&deliveries[0].commitments, &deliveries[2].commitments));
    assert!(!Arc::ptr_eq(&deliveries[0].commitments, &deliveries[1].commitments));

    // Where a process shares them, also what comes without a cache being named.
    share_commitments(64);
    let receive = || match ServerMessage::from_wire(&message.to_wire()).expect("its own form") {
        ServerMessage::Shares(deliveries) => deliveries,
        other => panic!("{other:?}"),
    };
    assert!(Arc::ptr_eq(&receive()[0].commitments, &receive()[2].commitments));
    // When there is no room it begins anew.
    let cache = CommitmentCache::new(1);
    assert_eq!(ServerMessage::from_wire_cached(&message.to_wire(), &cache).as_ref(), Ok(&message));
    assert_eq!(cache.len(), 1);
}

#[test]
fn an_error_never_shows_a_share() {
    let shares = UnmaskShares {
        client: ClientId(1),
        shares: vec![UnmaskShare {
            of: ClientId(2),
            kind: ShareKind::MaskKey,
            share: ShareValue([0xab; 32]),
        }],
        signature: Signature([1; 64]),
    };
    let bad = refused(&shares, |m: &mut generated::UnmaskShares| m.shares[0].share.truncate(31));
    assert_eq!(bad, DecodeError::Length { field: "UnmaskShare.share", length: 31, expected: 32 });
}
