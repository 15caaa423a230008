//! Known answers for other implementations: one round of four clients from fixed secrets, in `tests/vectors/kat.json`, and
//! corrupted pieces of it. Must never be written again without a change of protocol: `TACIT_WRITE_VECTORS=1` does it.

use crate::bitmap::Bitmap;
use crate::client::{Advertised, ClientSetup, RoundSecrets, UniformScalars};
use crate::context::Context;
use crate::graph::Graph;
use crate::identity::{ClientId, IdentityKey, IdentityRoot, PublicKey, Signature};
use crate::kdf;
use crate::keys::{Channel, SecretScalar, channel_key_contributes, mask_point, pair_mask_key, self_mask_key};
use crate::mask::{self, Mask, MaskKey, Sign};
use crate::messages::{CIPHERTEXT_BYTES, ShareKind};
use crate::params::{Floors, RoundTerms, TaskName, ThreatModel};
use crate::ring_vector::RingVector;
use crate::server::{Advertise, Sum, VectorSummary};
use crate::shamir::{Basis, Commitments, Polynomial, evaluation_point};
use serde_json::{Value, json};
use std::sync::Arc;
use x25519_dalek::StaticSecret;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/kat.json");

/// The file as it is stored.
pub(super) fn stored() -> Value {
    let text = std::fs::read_to_string(FILE).expect("the vectors are committed");
    serde_json::from_str(&text).expect("JSON")
}

const CLIENTS: [u64; 4] = [3, 70, 1_000, 0xffff_ffff_ffff_fff0];
const DROPPED: u32 = 2;
const NOW: u64 = 1_700_000_000;

fn pattern<const L: usize>(first: u8) -> [u8; L] {
    std::array::from_fn(|i| first.wrapping_add(i as u8))
}

fn terms() -> Arc<RoundTerms> {
    Arc::new(RoundTerms {
        task: TaskName::new("rust-completion").expect("a plain name"),
        round: 7,
        plan: pattern(0x10),
        parents: vec![pattern(0x20), pattern(0x30)],
        ledger_head: pattern(0x40),
        dimension: 5,
        bits: 12,
        threat: ThreatModel::SemiMalicious,
        corrupt_bp: 0,
        dropout_bp: 2_500,
        correctness_bits: 40,
        cohort_min: 4,
        cohort_max: 4,
        n_min: 3,
        roster: None,
    })
}

fn setup(place: usize) -> ClientSetup {
    let root = IdentityRoot::from_bytes(&pattern(0x50));
    let identity = IdentityKey::from_bytes(&pattern(0x60 + place as u8));
    ClientSetup {
        membership: None,
        terms: terms(),
        floors: Floors { n_min: 3, corrupt_bp: 0, threat: ThreatModel::SemiMalicious, roster: false },
        root: root.public_key(),
        certificate: root.certify(ClientId(CLIENTS[place]), identity.public_key(), NOW),
        identity: Arc::new(identity),
        parent: pattern(0x20),
    }
}

/// Channel secret, mask key (its top byte cleared, so that it is canonical), seed, nonce.
fn secrets(place: usize) -> [u8; RoundSecrets::BYTES] {
    let mut bytes = pattern(0x80 + 17 * place as u8);
    bytes[63] = 0;
    bytes
}

fn input(place: usize) -> RingVector {
    RingVector::new(12, &[1 << place, 4_095, 100 * place as u32, 7, 2_048]).expect("fits")
}

fn hex_of(bytes: impl AsRef<[u8]>) -> Value {
    Value::String(hex::encode(bytes))
}

/// The whole round, as the states play it, with the intermediate values that they do not show.
fn round() -> (Value, Context, Sum) {
    let mut advertise = Advertise::new(terms(), setup(0).root).expect("fine terms");
    let mut entries: Vec<Value> = Vec::new();
    let mut states = Vec::new();
    for (place, id) in CLIENTS.iter().enumerate() {
        let restored = RoundSecrets::from_bytes(&secrets(place)).expect("canonical");
        let state = Advertised::resume(setup(place), restored, NOW).expect("the plan is fine");
        let advert = Arc::clone(state.advert());
        entries.push(json!({
            "client": id.to_string(),
            "identity_secret": hex_of(pattern::<32>(0x60 + place as u8)),
            "certificate_payload": hex_of(advert.certificate.payload()),
            "certificate_signature": hex_of(advert.certificate.signature.0),
            "round_secrets": hex_of(secrets(place)),
            "channel_key": hex_of(advert.channel_key),
            "mask_key": hex_of(advert.mask_key),
            "advert_payload": hex_of(advert.payload()),
            "advert_signature": hex_of(advert.signature.0),
            "advert_digest": hex_of(advert.digest()),
        }));
        advertise.accept(advert, NOW).expect("honest");
        states.push(state);
    }
    let mut share = advertise.close().expect("feasible");
    let list = Arc::clone(share.list());
    let context = *share.context();
    let rotation = share.rotation_seed();
    let mut shared = Vec::new();
    for (place, state) in states.into_iter().enumerate() {
        let restored = RoundSecrets::from_bytes(&secrets(place)).expect("canonical");
        let mut scalars = restored.polynomials(&context);
        let drawn: Vec<SecretScalar> = (0..3).map(|_| scalars.draw()).collect();
        let shown = share.adverts_for(ClientId(CLIENTS[place])).expect("in the cohort");
        let (state, message) = state.share(&list, &shown, NOW).expect("honest");
        entries[place]["self_mask_seed"] = hex_of(drawn[0].to_bytes());
        entries[place]["coefficients"] =
            json!({ "mask_key": [hex_of(drawn[1].to_bytes())], "self_mask": [hex_of(drawn[2].to_bytes())] });
        let points =
            |commitments: &Commitments| -> Vec<Value> { commitments.as_bytes().iter().map(hex_of).collect() };
        entries[place]["commitments"] = json!({
            "mask_key": points(&message.commitments.mask_key),
            "self_mask": points(&message.commitments.self_mask),
        });
        entries[place]["self_mask_key"] = hex_of(self_mask_key(&context, &drawn[0]).as_bytes());
        let sent: Vec<Value> = message
            .envelopes
            .iter()
            .zip(&shown)
            .map(|(envelope, advert)| {
                let index = list.index_of(envelope.to).expect("in the list");
                let channel = restored.channel(&context, message.client, envelope.to, &advert.channel_key);
                let (self_mask, mask_key) =
                    channel.sealing.open(&context, &envelope.ciphertext).expect("its own envelope");
                let secret =
                    SecretScalar::from_canonical(secrets(place)[32..64].try_into().expect("32 bytes"))
                        .expect("canonical");
                let other = mask_point(&advert.mask_key).expect("a point");
                let pair = pair_mask_key(&context, &secret, message.client, envelope.to, &other);
                json!({
                    "to": envelope.to.0.to_string(),
                    "evaluation_point": evaluation_point(index),
                    "share_of_self_mask": hex_of(self_mask.to_bytes()),
                    "share_of_mask_key": hex_of(mask_key.to_bytes()),
                    "envelope_key": hex_of(channel.sealing.as_bytes()),
                    "ciphertext": hex_of(envelope.ciphertext),
                    "pair_mask_key": hex_of(pair.as_bytes()),
                })
            })
            .collect();
        entries[place]["neighbours"] = Value::Array(sent);
        entries[place]["share_payload"] = hex_of(message.payload(&context));
        entries[place]["share_signature"] = hex_of(message.signature.0);
        share.accept(message).expect("honest");
        shared.push(state);
    }
    let mut collect = share.close().expect("everybody shared");
    let mut masked = Vec::new();
    for (place, state) in shared.into_iter().enumerate() {
        let deliveries = collect.deliveries(ClientId(CLIENTS[place])).expect("shared");
        let (state, upload) = state.mask(&deliveries, input(place)).expect("honest");
        entries[place]["input"] = json!(input(place).to_values());
        entries[place]["masked"] = hex_of(&upload.packed);
        entries[place]["masked_payload"] = hex_of(upload.header.payload(&context));
        entries[place]["masked_signature"] = hex_of(upload.header.signature.0);
        if place as u32 != DROPPED {
            collect.accept(&upload.header, &VectorSummary::of(&upload.packed)).expect("honest");
            masked.push((place, state, upload));
        }
    }
    let (mut confirm, mut summation) = collect.close().expect("three survive");
    let maps = confirm.maps().clone();
    let mut confirmed = Vec::new();
    for (place, state, upload) in masked {
        summation.add(ClientId(CLIENTS[place]), &upload.packed).expect("honest");
        let (state, message) = state.confirm(&maps).expect("honest");
        entries[place]["confirm_signature"] = hex_of(message.signature.0);
        confirm.accept(&message).expect("honest");
        confirmed.push((place, state));
    }
    let mut unmask = confirm.close().expect("three confirm");
    for (place, state) in confirmed {
        let request = unmask.request_for(ClientId(CLIENTS[place])).expect("confirmed");
        let (_, answer) = state.unmask(&request).expect("honest");
        let shares: Vec<Value> = answer
            .shares
            .iter()
            .map(|share| {
                json!({
                    "of": share.of.0.to_string(),
                    "kind": share.kind.to_string(),
                    "share": hex_of(share.share.0),
                })
            })
            .collect();
        entries[place]["unmask_shares"] = Value::Array(shares);
        entries[place]["unmask_payload"] = hex_of(answer.payload(&context));
        entries[place]["unmask_signature"] = hex_of(answer.signature.0);
        unmask.accept(&answer).expect("honest");
    }
    let sum = unmask.close(summation.finish().expect("all added")).expect("complete");
    let params = &list.params;
    let value = json!({
        "terms": {
            "task": terms().task.as_str(), "round": terms().round, "plan": hex_of(terms().plan),
            "parents": terms().parents.iter().map(hex_of).collect::<Vec<_>>(),
            "ledger_head": hex_of(terms().ledger_head), "dimension": 5, "bits": 12, "threat": "semi_malicious",
            "corrupt_bp": 0, "dropout_bp": 2_500, "correctness_bits": 40,
        },
        "params": {
            "n": params.n, "n_min": params.n_min, "degree": params.degree, "threshold": params.threshold,
        },
        "identity_root_secret": hex_of(pattern::<32>(0x50)),
        "cohort_root": hex_of(list.root()),
        "context": hex_of(context.as_bytes()),
        "graph_seed": hex_of(kdf::derive(&context, &list.root(), kdf::GRAPH)),
        "rotation_seed": hex_of(rotation),
        "clients": entries,
        "shared": hex_of(maps.shared.as_bytes()),
        "survived": hex_of(maps.survived.as_bytes()),
        "confirm_payload": hex_of(maps.payload(&context)),
        "sum": sum.vector.to_values(),
    });
    (value, context, sum)
}

/// Small known answers that do not need a round.
fn pieces(context: &Context) -> Value {
    let secret = pattern::<32>(0xa0);
    let (one, other) = (ClientId(CLIENTS[3]), ClientId(CLIENTS[0]));
    let labels = [
        kdf::share_enc(one, other),
        kdf::share_enc(other, one),
        kdf::pair_mask(one, other),
        kdf::SELF_MASK.to_owned(),
        kdf::GRAPH.to_owned(),
        kdf::ROTATION.to_owned(),
        kdf::POLYNOMIALS.to_owned(),
        kdf::SHARE_CHECK.to_owned(),
    ];
    let derived: Vec<Value> = labels
        .iter()
        .map(|label| json!({ "label": label, "key": hex_of(kdf::derive(context, &secret, label)) }))
        .collect();
    let mut scalars = UniformScalars::new(&pattern(0xb0));
    let polynomial = Polynomial::new(scalars.draw(), 3, || scalars.draw());
    let mut again = UniformScalars::new(&pattern(0xb0));
    let coefficients: Vec<Value> = (0..3).map(|_| hex_of(again.draw().to_bytes())).collect();
    let indices = [0u32, 5, 99, 16_383];
    let shares: Vec<Value> = indices
        .iter()
        .map(|&index| json!({ "index": index, "share": hex_of(polynomial.share_of(index).to_bytes()) }))
        .collect();
    let expanded = |bits: u8, sign: Sign| {
        let mut vector = RingVector::zeros(bits, 9).expect("in range");
        mask::apply(&mut vector, &[Mask { key: MaskKey::from_bytes(secret), sign }]);
        vector.to_values()
    };
    json!({
        "kdf": { "secret": hex_of(secret), "keys": derived },
        "shamir": {
            "stream_key": hex_of(pattern::<32>(0xb0)),
            "coefficients": coefficients,
            "commitments": polynomial.commit().as_bytes().iter().map(hex_of).collect::<Vec<_>>(),
            "shares": shares,
        },
        "mask": {
            "key": hex_of(secret),
            "bits_16": expanded(16, Sign::Add),
            "bits_12_subtracted": expanded(12, Sign::Subtract),
            "bits_20": expanded(20, Sign::Add),
            "bits_32": expanded(32, Sign::Add),
        },
        "graph": { "n": 12, "degree": 4, "seed": hex_of(secret), "ring": Graph::new(12, 4, &secret).ring() },
    })
}

/// Pieces that must be refused.
fn corrupted(round: &Value, pieces: &Value) -> Value {
    let text = |value: &Value| value.as_str().expect("a string").to_owned();
    let flipped = |value: &Value, at: usize| {
        let mut bytes = hex::decode(text(value)).expect("hexadecimal");
        bytes[at] ^= 1;
        hex_of(bytes)
    };
    let sent = &round["clients"][0]["neighbours"][0]["ciphertext"];
    let envelopes: Vec<Value> = [0, 40, 79].iter().map(|&at| flipped(sent, at)).collect();
    let (first, second) = (&pieces["shamir"]["shares"][0], &pieces["shamir"]["shares"][1]);
    let shares = [
        json!({ "index": first["index"], "share": flipped(&first["share"], 0) }),
        json!({ "index": first["index"], "share": second["share"] }),
        json!({ "index": second["index"], "share": first["share"] }),
    ];
    // The group order, one more, and the largest 255-bit number.
    let order = "edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010";
    let above = "eed3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010";
    let largest = "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f";
    let (zero, one) = ("00".repeat(32), format!("01{}", "00".repeat(31)));
    let point = text(&pieces["shamir"]["commitments"][0]);
    let client = &round["clients"][0];
    let signature = |payload: Value, signature: Value| {
        json!({
            "identity_secret": client["identity_secret"], "payload": payload, "signature": signature,
        })
    };
    let good = (&client["share_payload"], &client["share_signature"]);
    let signatures = [
        signature(flipped(good.0, 0), good.1.clone()),
        signature(good.0.clone(), flipped(good.1, 0)),
        signature(good.0.clone(), flipped(good.1, 63)),
        signature(good.0.clone(), round["clients"][1]["share_signature"].clone()),
        signature(good.0.clone(), client["masked_signature"].clone()),
        signature(client["masked_payload"].clone(), good.1.clone()),
    ];
    json!({
        "envelopes_from_client_0_to_1": envelopes,
        "shares_under_the_commitments_of_shamir": shares,
        "scalars": [order, above, largest],
        "commitment_lists": [[], [point, zero], [largest, point], [one]],
        "mask_keys": [zero, largest, one],
        "channel_keys": [zero, one, largest.replacen("ff", "ee", 1)],
        "signatures": signatures,
        "packed_vectors": [
            { "bits": 12, "dimension": 5, "packed": "ff".repeat(8) },
            { "bits": 12, "dimension": 5, "packed": "00".repeat(7) },
            { "bits": 12, "dimension": 5, "packed": "00".repeat(9) },
            { "bits": 12, "dimension": 5, "packed": format!("{}10", "00".repeat(7)) },
        ],
        "bitmaps": [
            { "members": 4, "bytes": "10" }, { "members": 4, "bytes": "" }, { "members": 4, "bytes": "0f00" },
        ],
    })
}

fn computed() -> Value {
    let (round, context, _) = round();
    let pieces = pieces(&context);
    let corrupted = corrupted(&round, &pieces);
    let forms = super::forms::forms(&context);
    json!({ "round": round, "pieces": pieces, "forms": forms, "corrupted": corrupted })
}

#[test]
fn the_known_answers_are_reproduced() {
    let computed = computed();
    if std::env::var_os("TACIT_WRITE_VECTORS").is_some() {
        let text = serde_json::to_string_pretty(&computed).expect("plain JSON");
        std::fs::write(FILE, text + "\n").expect("the folder is there");
    }
    let stored = stored();
    assert_eq!(stored["pieces"], computed["pieces"]);
    assert_eq!(stored["forms"], computed["forms"]);
    assert_eq!(stored["round"], computed["round"]);
    assert_eq!(stored["corrupted"], computed["corrupted"]);
}

#[test]
fn every_corrupted_piece_in_the_file_is_refused() {
    let stored = stored();
    let list = |name: &str| stored["corrupted"][name].as_array().expect("a list").clone();
    let raw = |value: &Value| hex::decode(value.as_str().expect("a string")).expect("hexadecimal");
    let round = &stored["round"];
    let mut refused = 0;
    let mut check = |is_refused: bool, what: &Value| {
        assert!(is_refused, "{what}");
        refused += 1;
    };

    let context = Context::from_bytes(bytes(&round["context"]));
    let receiver: [u8; RoundSecrets::BYTES] = bytes(&round["clients"][1]["round_secrets"]);
    let receiver = RoundSecrets::from_bytes(&receiver).expect("canonical");
    let (to, from) = (ClientId(CLIENTS[1]), ClientId(CLIENTS[0]));
    let channel = receiver.channel(&context, to, from, &bytes(&round["clients"][0]["channel_key"]));
    for envelope in list("envelopes_from_client_0_to_1") {
        check(channel.opening.open(&context, &bytes(&envelope)).is_none(), &envelope);
    }
    let points = stored["pieces"]["shamir"]["commitments"].as_array().expect("a list");
    let commitments = Commitments::from_bytes(points.iter().map(bytes).collect()).expect("points");
    for share in list("shares_under_the_commitments_of_shamir") {
        let index = share["index"].as_u64().expect("a number") as u32;
        let scalar = SecretScalar::from_canonical(&bytes(&share["share"])).expect("canonical");
        check(commitments.at(evaluation_point(index)) != scalar.public(), &share);
    }
    for scalar in list("scalars") {
        check(SecretScalar::from_canonical(&bytes(&scalar)).is_none(), &scalar);
    }
    for points in list("commitment_lists") {
        let encoded = points.as_array().expect("a list").iter().map(bytes).collect();
        check(Commitments::from_bytes(encoded).is_err(), &points);
    }
    for key in list("mask_keys") {
        check(mask_point(&bytes(&key)).is_none(), &key);
    }
    for key in list("channel_keys") {
        check(!channel_key_contributes(&bytes(&key)), &key);
    }
    for signed in list("signatures") {
        let signer = IdentityKey::from_bytes(&bytes(&signed["identity_secret"])).public_key();
        let signature = Signature(bytes(&signed["signature"]));
        check(!signer.verify(&raw(&signed["payload"]), &signature), &signed);
    }
    for vector in list("packed_vectors") {
        let bits = vector["bits"].as_u64().expect("a number") as u8;
        let dimension = vector["dimension"].as_u64().expect("a number") as usize;
        check(RingVector::from_packed(bits, dimension, &raw(&vector["packed"])).is_err(), &vector);
    }
    for map in list("bitmaps") {
        let members = map["members"].as_u64().expect("a number") as u32;
        check(Bitmap::from_bytes(members, &raw(&map["bytes"])).is_err(), &map);
    }
    assert_eq!(refused, 3 + 3 + 3 + 4 + 3 + 3 + 6 + 4 + 3);
}

#[test]
fn the_round_sums_the_survivors() {
    let (_, _, sum) = round();
    let mut expected = input(0);
    expected.add(&input(1)).expect("same shape");
    expected.add(&input(3)).expect("same shape");
    assert_eq!(sum.vector, expected);
    assert_eq!(sum.survived, Bitmap::from_indices(4, [0, 1, 3]));
}

/// Bytes of a hexadecimal string in the file.
fn bytes<const L: usize>(value: &Value) -> [u8; L] {
    let decoded = hex::decode(value.as_str().expect("a string")).expect("hexadecimal");
    decoded.try_into().expect("the right length")
}

#[test]
fn every_signature_in_the_file_holds_and_no_corrupted_one_does() {
    let stored = stored();
    let round = &stored["round"];
    let root = IdentityRoot::from_bytes(&bytes(&round["identity_root_secret"])).public_key();
    let mut checked = 0;
    for client in round["clients"].as_array().expect("a list") {
        let own = IdentityKey::from_bytes(&bytes(&client["identity_secret"])).public_key();
        for (step, signer) in [
            ("certificate", root),
            ("advert", own),
            ("share", own),
            ("masked", own),
            ("confirm", own),
            ("unmask", own),
        ] {
            let Some(signature) = client.get(format!("{step}_signature")) else {
                continue;
            };
            let payload = client.get(format!("{step}_payload")).unwrap_or(&round["confirm_payload"]);
            let payload = hex::decode(payload.as_str().expect("a string")).expect("hexadecimal");
            check_signature(&signer, &payload, Signature(bytes(signature)));
            checked += 1;
        }
    }
    assert_eq!(checked, 4 * 4 + 3 * 2);
}

fn check_signature(signer: &PublicKey, payload: &[u8], signature: Signature) {
    assert!(signer.verify(payload, &signature));
    for at in [0, payload.len() / 2, payload.len() - 1] {
        let mut altered = payload.to_vec();
        altered[at] ^= 1;
        assert!(!signer.verify(&altered, &signature));
    }
    for at in [0, 31, 32, 63] {
        let mut altered = signature;
        altered.0[at] ^= 1;
        assert!(!signer.verify(payload, &altered));
    }
}

#[test]
fn every_envelope_and_share_in_the_file_holds_and_no_corrupted_one_does() {
    let stored = stored();
    let clients = stored["round"]["clients"].as_array().expect("a list");
    let context = Context::from_bytes(bytes(&stored["round"]["context"]));
    let mut opened = 0;
    for sender in clients {
        for sent in sender["neighbours"].as_array().expect("a list") {
            let receiver = clients.iter().find(|client| client["client"] == sent["to"]).expect("there");
            let secret: [u8; RoundSecrets::BYTES] = bytes(&receiver["round_secrets"]);
            let id = |client: &Value| -> ClientId {
                ClientId(client["client"].as_str().expect("a string").parse().expect("a number"))
            };
            let channel_secret: [u8; 32] = secret[..32].try_into().expect("32 bytes");
            let channel = Channel::agree(
                &context,
                &StaticSecret::from(channel_secret),
                id(receiver),
                id(sender),
                &bytes(&sender["channel_key"]),
            )
            .expect("contributes");
            assert_eq!(channel.opening.as_bytes(), &bytes::<32>(&sent["envelope_key"]));
            let ciphertext: [u8; CIPHERTEXT_BYTES] = bytes(&sent["ciphertext"]);
            let (self_mask, mask_key) = channel.opening.open(&context, &ciphertext).expect("good");
            let point = sent["evaluation_point"].as_u64().expect("a number") as u32;
            for (share, kind) in [(self_mask, "self_mask"), (mask_key, "mask_key")] {
                assert_eq!(*share.to_bytes(), bytes::<32>(&sent[format!("share_of_{kind}")]));
                let points = sender["commitments"][kind].as_array().expect("a list");
                let commitments =
                    Commitments::from_bytes(points.iter().map(bytes).collect()).expect("points");
                assert_eq!(commitments.at(point), share.public());
                assert_ne!(commitments.at(point + 1), share.public(), "another evaluation point");
            }
            for at in [0, 31, 32, 63, 64, 79] {
                let mut altered = ciphertext;
                altered[at] ^= 0x80;
                assert!(channel.opening.open(&context, &altered).is_none());
            }
            let foreign = Context::from_bytes([0; 32]);
            assert!(channel.opening.open(&foreign, &ciphertext).is_none(), "another round's context");
            opened += 1;
        }
    }
    assert_eq!(opened, 12);
}

#[test]
fn the_shares_handed_over_in_the_file_give_the_secrets_and_corrupted_ones_do_not() {
    let stored = stored();
    let clients = stored["round"]["clients"].as_array().expect("a list");
    let mut recovered = 0;
    for owner in clients {
        let mut indices = Vec::new();
        let mut shares = Vec::new();
        let mut kind = String::new();
        for (index, holder) in clients.iter().enumerate() {
            let handed = holder.get("unmask_shares").and_then(Value::as_array).into_iter().flatten();
            for share in handed.filter(|share| share["of"] == owner["client"]) {
                share["kind"].as_str().expect("a string").clone_into(&mut kind);
                indices.push(index as u32);
                shares.push(SecretScalar::from_canonical(&bytes(&share["share"])).expect("canonical"));
            }
        }
        let threshold = 2;
        let secret: [u8; 32] = if kind == ShareKind::SelfMask.to_string() {
            bytes(&owner["self_mask_seed"])
        } else {
            bytes::<{ RoundSecrets::BYTES }>(&owner["round_secrets"])[32..64].try_into().expect("32 bytes")
        };
        let basis = Basis::new(&indices[..threshold]);
        assert_eq!(*basis.reconstruct(&shares[..threshold]).to_bytes(), secret);
        shares.swap(0, 1);
        assert_ne!(
            *basis.reconstruct(&shares[..threshold]).to_bytes(),
            secret,
            "shares of each other's owner"
        );
        recovered += 1;
    }
    assert_eq!(recovered, 4);
}
