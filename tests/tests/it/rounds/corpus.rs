//! Makes the corpus of the decoders from real rounds, when `UPDATE_CORPUS` is set; and always checks that what such rounds
//! send and store is accepted. Must never write otherwise.

use super::entries;
use super::fleet::{Fleet, Leaves, Out, START};
use crate::decoders::folder;
use std::collections::{BTreeMap, VecDeque};
use std::num::NonZeroU64;
use tacit_aggregation::bitmap::Bitmap;
use tacit_aggregation::client::RoundSecrets;
use tacit_aggregation::identity::{ClientId, EpochTerms, IdentityKey, IdentityRoot, Rate, Roster};
use tacit_aggregation::merkle;
use tacit_aggregation::params::TaskName;
use tacit_aggregation::ring_vector::RingVector;
use tacit_client::{Participant, Participation};
use tacit_coordinator::identity::x509::{client_certificate, root_certificate};
use tacit_coordinator::identity::{
    Admission, Appointment, Issued, RestartForm, RestoredHead, Revocations, Roll,
};
use tacit_coordinator::{Event, History, OptimizerState, ServerOptimizer};
use tacit_privacy::ledger::export::{FIRST_LINE, entry_line, head_line};
use tacit_privacy::ledger::head::Head;
use tacit_privacy::ledger::restart::Restart;
use tacit_privacy::ledger::{Commit, Debit, Entry, Event as Happened, Ledger, Reason, Release};
use tacit_privacy::{
    AdaptiveClip, Adjacency, CentralMechanism, CentralRequest, ParticipationBook, RdpCurve, RoundMechanism,
};
use tacit_proto::adapter::{AdapterLayout, TrainedTensor};
use tacit_proto::manifest::{Origin, PublishedFile};
use tacit_proto::{
    AdapterShape, Channel, ClientMessage, CoordinatorKey, Manifest, ServerMessage, SignedManifest, Wire,
};
use tacit_tests::decoders;

/// Most files of one kind.
const KEPT: usize = 3;

/// Inputs by decoder, those that are accepted and those that are not.
#[derive(Default)]
struct Corpus(BTreeMap<&'static str, [Vec<Vec<u8>>; 2]>);

impl Corpus {
    fn good(&mut self, decoder: &'static str, bytes: Vec<u8>) {
        self.keep(decoder, 0, bytes);
    }

    /// Keeps one of a kind that comes late, however many there are.
    fn one_more(&mut self, decoder: &'static str, bytes: Vec<u8>) {
        self.0.entry(decoder).or_default()[0].push(bytes);
    }

    fn bad(&mut self, decoder: &'static str, bytes: Vec<u8>) {
        self.keep(decoder, 1, bytes);
    }

    fn keep(&mut self, decoder: &'static str, kind: usize, bytes: Vec<u8>) {
        let kept = &mut self.0.entry(decoder).or_default()[kind];
        if kept.len() < KEPT && !kept.contains(&bytes) {
            kept.push(bytes);
        }
    }

    fn json(&mut self, decoder: &'static str, value: &impl serde::Serialize) {
        self.good(decoder, serde_json::to_vec(value).expect("plain data"));
    }

    fn stored(&mut self, decoder: &'static str, value: &impl serde::Serialize) {
        self.good(decoder, postcard::to_stdvec(value).expect("plain data"));
    }

    fn client_message(&mut self, message: &ClientMessage) {
        match message {
            ClientMessage::Advert(advert) => {
                self.good("wire_advert", advert.to_wire());
                self.good("wire_certificate", advert.certificate.to_wire());
                let certificate = &advert.certificate;
                let signed = [&certificate.issuer.0[..], &certificate.signature.0, &certificate.payload()];
                self.good("signature", signed.concat());
            }
            ClientMessage::Share(share) => {
                self.good("wire_share_message", share.to_wire());
                self.good("commitments", share.commitments.mask_key.as_bytes().as_flattened().to_vec());
                self.good("commitments", share.commitments.self_mask.as_bytes()[0].to_vec());
                let tree = share.envelope_tree();
                let count = share.envelopes.len() as u32;
                for (place, envelope) in share.envelopes.iter().enumerate() {
                    let numbers = [(place as u32).to_be_bytes(), count.to_be_bytes()].concat();
                    let path = tree.path(place).concat();
                    self.good("merkle_path", [&envelope.leaf()[..], &numbers, &path].concat());
                }
            }
            ClientMessage::MaskedHeader(header) => {
                self.good("wire_masked_header", header.to_wire());
            }
            ClientMessage::MaskedChunk(chunk) => {
                self.good("wire_masked_chunk", chunk.to_wire());
            }
            ClientMessage::Confirm(confirm) => {
                self.good("wire_confirm", confirm.to_wire());
            }
            ClientMessage::Unmask(shares) => {
                self.good("wire_unmask_shares", shares.to_wire());
            }
        }
        self.one_of_each("wire_client_message", message.to_wire());
    }

    fn server_message(&mut self, message: &ServerMessage) {
        match message {
            ServerMessage::Cohort { list, .. } => {
                self.good("wire_cohort_list", list.to_wire());
                self.json("round_params", &list.params);
                self.stored("round_params", &list.params);
            }
            ServerMessage::Shares(deliveries) => {
                deliveries.iter().for_each(|delivery| self.good("wire_share_delivery", delivery.to_wire()));
            }
            ServerMessage::Maps(maps) => {
                self.good("wire_survivor_maps", maps.to_wire());
                for map in [&maps.shared, &maps.survived] {
                    self.good("bitmap", [&map.members().to_be_bytes()[..], map.as_bytes()].concat());
                }
            }
            ServerMessage::Unmask(request) => {
                self.good("wire_unmask_request", request.to_wire());
            }
        }
        self.one_of_each("wire_server_message", message.to_wire());
    }

    /// Of the messages that may be any step's, one of each step.
    fn one_of_each(&mut self, decoder: &'static str, bytes: Vec<u8>) {
        let kept = &mut self.0.entry(decoder).or_default()[0];
        // The first byte is the number of the step's field.
        if kept.iter().all(|other| other[0] != bytes[0]) {
            kept.push(bytes);
        }
    }
}

/// A round of five small clients, one of which drops out after it shared.
fn round(corpus: &mut Corpus) {
    let mut fleet = Fleet::with_dimension(5, 77, 6);
    let (plan, mut driver) = fleet.open(1);
    corpus.good("wire_signed_plan", plan.to_wire());
    let verified = plan.verify(&fleet.key.public_key()).expect("its own plan").clone();
    corpus.good("wire_round_plan", verified.to_wire());
    corpus.good("task_name", verified.task.as_str().as_bytes().to_vec());
    corpus.json("plan_settings", &fleet.settings);
    let gone = fleet.clients()[2];
    let mut inbox = VecDeque::new();
    let mut participants = BTreeMap::new();
    for client in fleet.clients() {
        let joined = fleet.join(&plan, 1, client);
        let secrets = joined.secrets();
        corpus.good("join_secrets", secrets.to_vec());
        corpus.good("round_secrets", secrets[..RoundSecrets::BYTES].to_vec());
        inbox.push_back((client, joined.advert()));
        participants.insert(client, Participant::Joined(joined));
    }
    let mut now = START;
    while let Some(deadline) = driver.deadline() {
        let outgoing = match inbox.pop_front() {
            Some((from, message)) => {
                corpus.client_message(&message);
                driver.handle(Event::Message { from, message }, now)
            }
            None => {
                now = deadline;
                driver.handle(Event::Tick, now)
            }
        };
        for out in outgoing {
            match out {
                Out::Send { to, message } => {
                    corpus.server_message(&message);
                    if to == gone && !Leaves::Upload.answers(&message) {
                        continue;
                    }
                    let budget = &mut fleet.machines.get_mut(&to).expect("a member").budget;
                    let state = participants.remove(&to).expect("a member");
                    let (next, answers) = state.answer(&message, budget, now).expect("honest");
                    participants.insert(to, next);
                    inbox.extend(answers.into_iter().map(|answer| (to, answer)));
                }
                Out::Refuse(refusal) => panic!("{refusal:?}"),
                Out::End => {}
            }
        }
    }
    let (_, account) = driver.finish();
    let entries = entries(&account);
    corpus.stored("participation_book", account.book());
    let [opened, ended] = entries.as_slice() else { panic!("{entries:?}") };
    let (Happened::Reserve(reserve), Happened::Commit(commit)) = (&opened.event, &ended.event) else {
        panic!("{entries:?}")
    };
    let debit = &commit.debit;
    corpus.json("mechanism", &debit.mechanism);
    corpus.good("ledger_entry", ended.encode());
    let lost = Release { reservation: 0, reason: Reason::shortened("too few clients shared") };
    corpus.good("ledger_entry", Entry { event: Happened::Release(lost.clone()), ..opened.clone() }.encode());
    let adaptive_clip = Some(AdaptiveClip { target_quantile: 0.5, learning_rate: 0.2, count_noise: 3.0 });
    for (adaptive_clip, clip_bits) in [(None, None), (adaptive_clip, Some(-2))] {
        let central = CentralRequest {
            clients: 40,
            n_min: 30,
            dimension: 6,
            clip: 0.5,
            noise_multiplier: 2.0,
            adjacency: Adjacency::ReplaceOne,
            adaptive_clip,
        };
        let mechanism = RoundMechanism::from(CentralMechanism::build(&central).expect("feasible"));
        corpus.json("mechanism", &mechanism);
        let debit = Debit { mechanism, survivors: 30, ..debit.clone() };
        let event = Happened::Commit(Commit { debit, clip_bits, ..commit.clone() });
        corpus.good("ledger_entry", Entry { event, ..ended.clone() }.encode());
    }
    // A round that is released, one that is aborted, one that is lost.
    let mut chain = Ledger::new();
    let mut framed = Vec::new();
    for round in 1..=3 {
        for ending in [false, true] {
            let debit = Debit { reservation: chain.size().saturating_sub(1), ..debit.clone() };
            let reservation = debit.reservation;
            let event = match (ending, round) {
                (false, _) => Happened::Reserve(reserve.clone()),
                (true, 1) => Happened::Commit(Commit { debit, ..commit.clone() }),
                (true, 2) => Happened::Release(Release { reservation, ..lost.clone() }),
                (true, _) => Happened::Forfeit(debit),
            };
            let entry = chain.append(round, opened.task.clone(), round, event).expect("one after the other");
            let entry = entry.encode();
            framed.extend_from_slice(&(entry.len() as u32).to_be_bytes());
            framed.extend(entry);
        }
        corpus.good("ledger_chain", framed.clone());
    }
    // The ledger goes on after a backup was restored.
    let root = IdentityRoot::from_bytes(&decoders::ROOT_KEY);
    let restart = Restart {
        coordinator: CoordinatorKey::from_bytes(&decoders::EXPORT_KEY).public_key().0,
        number: 2,
        size: chain.size(),
        root: chain.tree().root(),
    };
    let restarted = chain.append_restart(4, restart.signed(root.sign(&restart.payload()).0));
    let reserved =
        chain.append(5, opened.task.clone(), restart.first_round(), Happened::Reserve(reserve.clone()));
    let added = [restarted, reserved].map(|entry| entry.expect("of this ledger").encode());
    for entry in &added {
        framed.extend_from_slice(&(entry.len() as u32).to_be_bytes());
        framed.extend(entry);
    }
    let [restarted, _] = added;
    corpus.one_more("ledger_entry", restarted);
    corpus.one_more("ledger_chain", framed);
    let key = CoordinatorKey::from_bytes(&decoders::EXPORT_KEY);
    let signed = key.sign_head(Head { size: 2, root: account.ledger().tree().root(), time: START });
    let numbers: Vec<u64> = account.book().clients().map(|(client, _)| client).collect();
    let export =
        [FIRST_LINE, &entry_line(opened, &[]), &entry_line(ended, &numbers), &head_line(&signed)].concat();
    corpus.bad("ledger_export", export.trim_end().into());
    corpus.good("ledger_export", export.into());
    corpus.stored("rdp_curve", &debit.cost().expect("released"));
    let client = fleet.clients()[0];
    let budget = &fleet.machines[&client].budget;
    corpus.stored("budget", budget);
    corpus.json("limits", budget.limits());
    corpus.stored("limits", budget.limits());
}

/// A plan that demands a roster, and an advert with a proof.
fn drawn(corpus: &mut Corpus) {
    let fleet = Fleet::new(6, 9).with_roster(1, Rate::ONE);
    let signed = fleet.plan(1);
    let plan = signed.verify(&fleet.key.public_key()).expect("its own plan");
    corpus.good("wire_round_plan", plan.to_wire());
    corpus.good("wire_signed_plan", signed.to_wire());
    let ClientMessage::Advert(advert) = fleet.join(&signed, 1, fleet.clients()[0]).advert() else { return };
    corpus.good("wire_advert", advert.to_wire());
}

/// What no round of five sends or stores.
fn pieces(corpus: &mut Corpus) {
    corpus.good("envelope", decoders::genuine_envelope());
    let mut altered = decoders::genuine_envelope();
    altered[40] ^= 1;
    corpus.bad("envelope", altered);
    for (name, journals) in ["client_journal", "server_journal"].into_iter().zip(decoders::genuine_journals())
    {
        corpus.bad(name, [&journals[1][..], &journals[1]].concat());
        journals.into_iter().for_each(|journal| corpus.good(name, journal));
    }
    for bits in [5, 16, 21] {
        let values: Vec<u32> =
            (0_u32..11).map(|value| value.wrapping_mul(2_654_435_761) % (1 << bits)).collect();
        let packed = RingVector::new(bits, &values).expect("reduced").to_packed();
        corpus.good("ring_vector", [&[bits][..], &11_u32.to_be_bytes(), &packed].concat());
    }
    corpus.bad("ring_vector", [&[16][..], &(1_u32 << 28).to_be_bytes(), &[0; 8]].concat());
    corpus.bad("ring_vector", [&[5][..], &3_u32.to_be_bytes(), &[0xff, 0xff]].concat());
    corpus.good("bitmap", [&16_u32.to_be_bytes()[..], Bitmap::from_indices(16, [0, 9]).as_bytes()].concat());
    corpus.bad("bitmap", [&u32::MAX.to_be_bytes()[..], &[1; 8]].concat());
    corpus.bad("commitments", vec![0; 64]);
    corpus.bad("merkle_path", [&merkle::leaf(b"x")[..], &[0; 8]].concat());
    corpus.bad("round_secrets", vec![0xff; RoundSecrets::BYTES]);
    corpus.bad("join_secrets", vec![0xff; RoundSecrets::BYTES + 96]);
    for bad in ["Rust", ".."] {
        corpus.bad("task_name", bad.into());
    }
    let key = IdentityKey::from_bytes(&[3; 32]);
    let signed = [&key.public_key().0[..], &key.sign(b"payload").0, b"payload"].concat();
    corpus.good("signature", signed.clone());
    corpus.bad("signature", [&signed[..], b"?"].concat());
    for text in ["0.05", "1", "0"] {
        corpus.good("basis_points", text.into());
    }
    corpus.bad("basis_points", b"0.12345".to_vec());
    corpus.stored("rdp_curve", &RdpCurve::gaussian(1.5));
    corpus.stored("participation_book", &ParticipationBook::new());
    published(corpus);
    issued(corpus);
    let mut history = History::new();
    history.record(4, &[ClientId(3), ClientId(u64::MAX)]);
    corpus.json("history", &history);
    corpus.stored("history", &history);
    for optimizer in [
        ServerOptimizer::FedAvg { learning_rate: 1.0 },
        ServerOptimizer::Momentum { learning_rate: 0.5, momentum: 0.9, nesterov: true },
        ServerOptimizer::Adam { learning_rate: 0.01, beta1: 0.9, beta2: 0.99, epsilon: 1e-3 },
    ] {
        corpus.json("optimizer_state", &OptimizerState::new(optimizer, 3).expect("settings"));
    }
    let participation = Participation {
        task: TaskName::new("rust-completion").expect("a plain name"),
        round: 7,
        context: [9; 32],
    };
    corpus.json("participation", &participation);
    corpus.stored("participation", &participation);
}

/// What is said of published adapters.
fn published(corpus: &mut Corpus) {
    let layout = AdapterLayout {
        base: "tacit-base".into(),
        base_model: [4; 32],
        adapter: AdapterShape { rank: 2, alpha: 4.0, targets: vec!["v_proj".into()], seed: 5 },
        tensors: vec![TrainedTensor { name: "layers.0.self_attn.v_proj.lora_B".into(), shape: [2, 16] }],
    };
    corpus.json("adapter_layout", &layout);
    let key = CoordinatorKey::from_bytes(&[7; 32]);
    let first = Manifest {
        task: TaskName::new("rust-completion").expect("a plain name"),
        channel: Channel::Training,
        serial: 0,
        version: 0,
        adapter: [1; 32],
        parent: [4; 32],
        base_model: [4; 32],
        origin: None,
        files: vec![PublishedFile { name: "trained.safetensors".into(), digest: [2; 32], size: 9 }],
        created: 12,
        coordinator: key.public_key(),
    };
    let origin = Some(Origin { plan: [5; 32], round: 6, entry: 11, entry_hash: [6; 32] });
    let later = Manifest { channel: Channel::Stable, serial: 3, version: 2, origin, ..first.clone() };
    for manifest in [first, later] {
        let bytes = SignedManifest::sign(manifest, &key).expect("a manifest").to_bytes();
        corpus.bad("signed_manifest", bytes[1..].to_vec());
        corpus.good("signed_manifest", bytes);
    }
}

/// What an identity root issues.
fn issued(corpus: &mut Corpus) {
    let root = IdentityRoot::from_bytes(&decoders::ROOT_KEY);
    let clients = [ClientId(7), ClientId(u64::MAX)];
    for client in clients {
        let (identity, transport) = (IdentityKey::from_bytes(&[4; 32]), IdentityKey::from_bytes(&[5; 32]));
        let not_after = 4_000_000_000;
        let admission = Admission {
            ticket: [1; 32],
            identity_key: identity.public_key().0,
            transport_key: transport.public_key().0,
            note: "Ada's laptop".into(),
        };
        let x509 = client_certificate(&root, client, admission.transport_key, not_after).expect("it can be");
        corpus.good("transport_certificate", x509.clone());
        corpus.bad("transport_certificate", [&x509[..], &[0]].concat());
        corpus.json("admission", &admission);
        let certificate = root.certify(client, identity.public_key(), not_after).to_wire();
        let issued =
            Issued { admission, client, not_after, issued_at: 9, certificate, transport_certificate: x509 };
        corpus.json("issued", &issued);
    }
    corpus.bad("transport_certificate", root_certificate(&root).expect("it can be"));
    let coordinator = CoordinatorKey::from_bytes(&[7; 32]).public_key();
    corpus.json(
        "appointment",
        &Appointment {
            root: root.public_key().0,
            root_certificate: root_certificate(&root).expect("it can be"),
            coordinator: coordinator.0,
            signature: root.sign(&tacit_proto::enrolment::appointment(&coordinator)).0,
        },
    );
    let key = CoordinatorKey::from_bytes(&decoders::EXPORT_KEY);
    let head = key.sign_head(Head { size: 3, root: [6; 32], time: START });
    let restored = RestoredHead::new(key.public_key().0, &head).expect("its own");
    corpus.json("restored_head", &restored);
    let restart = Restart { coordinator: restored.coordinator, number: 1, size: 3, root: restored.root };
    let restart = restart.signed(root.sign(&restart.payload()).0);
    corpus.json("restart", &RestartForm::from(restart));
    corpus.json("revocations", &Revocations::from(root.revoke(3, clients.to_vec())));
    let roster = Roster::new(clients.to_vec());
    let epoch = EpochTerms {
        number: 2,
        not_before: 10,
        not_after: 20,
        period_seconds: NonZeroU64::new(3).expect("not zero"),
        rate: Rate::new(1, 2).expect("a rate"),
        seed: [8; 32],
    };
    corpus.json("roll", &Roll::new(roster.clients().to_vec(), &root.sign_roster(&roster, epoch)));
}

#[test]
fn what_real_rounds_send_and_store_is_accepted() {
    let mut corpus = Corpus::default();
    drawn(&mut corpus);
    round(&mut corpus);
    pieces(&mut corpus);
    let update = std::env::var_os("UPDATE_CORPUS").is_some();
    let table = decoders::all();
    for decoder in &table {
        let [good, bad] = corpus.0.remove(decoder.name).unwrap_or_default();
        assert!(!good.is_empty(), "nothing was recorded for {}", decoder.name);
        let folder = folder(decoder.name);
        for (kind, (files, accepted)) in [("good", (&good, true)), ("bad", (&bad, false))] {
            for (place, bytes) in files.iter().enumerate() {
                assert_eq!((decoder.check)(bytes), accepted, "{} {kind}-{place}", decoder.name);
                if update {
                    std::fs::create_dir_all(&folder).expect("a folder");
                    std::fs::write(folder.join(format!("{kind}-{place}")), bytes).expect("a file");
                }
            }
        }
    }
    assert!(corpus.0.is_empty(), "no decoder is there for {:?}", corpus.0.keys());
}
