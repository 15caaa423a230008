//! A crash at any instant: the stored records bring both sides back to the same answers, and no other bytes do.

use crate::fleet::{Fleet, NOW, inputs, plain_sum, terms};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use tacit_aggregation::Step;
use tacit_aggregation::client::{self, ClientError, ClientSetup, RoundSecrets};
use tacit_aggregation::identity::ClientId;
use tacit_aggregation::journal::{JournalError, Key, Record, Slot, Unanswered};
use tacit_aggregation::messages::{Advert, CohortList, ShareDelivery, SurvivorMaps, UnmaskRequest};
use tacit_aggregation::params::{RoundTerms, ThreatModel};
use tacit_aggregation::ring_vector::RingVector;
use tacit_aggregation::server::{self, Phase, Receipt, ServerError, VectorSummary};

type Disk = BTreeMap<[u8; Key::BYTES], Vec<u8>>;

fn keep(disk: &mut Disk) -> impl FnMut(&Record) -> Result<(), Infallible> {
    |record| {
        if record.replaces_all() {
            disk.clear();
        }
        disk.insert(record.key().to_bytes(), record.bytes().to_vec());
        Ok(())
    }
}

fn full(_: &Record) -> Result<(), &'static str> {
    Err("disk full")
}

/// What one client was told.
struct Told {
    list: Arc<CohortList>,
    adverts: Vec<Arc<Advert>>,
    deliveries: Vec<ShareDelivery>,
    maps: SurvivorMaps,
    request: UnmaskRequest,
}

/// A whole round, and what lies on the disks of the server and of one client.
struct Played {
    fleet: Fleet,
    setup: ClientSetup,
    secrets: [u8; RoundSecrets::BYTES],
    input: RingVector,
    told: Told,
    /// The client's disk after each of its five steps.
    client: Vec<Disk>,
    server: Disk,
    vectors: BTreeMap<ClientId, Vec<u8>>,
    expected: RingVector,
}

fn play(seed: u64, terms: RoundTerms) -> Played {
    let n = terms.cohort_max;
    let mut fleet = Fleet::new(n, terms, seed);
    let inputs = inputs(&mut fleet);
    let setups = fleet.setups.clone();
    let mut secrets = Vec::new();
    let mut disks: Vec<Disk> = vec![Disk::new(); setups.len()];
    let mut history = Vec::new();
    let mut server_disk = Disk::new();
    let mut server =
        server::Session::open(Arc::clone(&fleet.terms), fleet.root.public_key()).expect("the terms are fine");
    let mut sessions = Vec::new();
    for (setup, disk) in setups.iter().zip(&mut disks) {
        let drawn = RoundSecrets::generate(&mut fleet.rng);
        secrets.push(*drawn.to_bytes());
        let (session, advert) =
            client::Session::begin(setup.clone(), drawn, NOW, keep(disk)).expect("honest");
        assert_eq!(server.advert(advert, NOW, keep(&mut server_disk)), Ok(Receipt::Accepted));
        sessions.push((setup.certificate.client, session));
    }
    history.push(disks[0].clone());
    let Ok(Phase::Share(share)) = server.close(keep(&mut server_disk)) else { panic!("feasible") };
    let (list, first) = (Arc::clone(share.list()), sessions[0].0);
    let shown: Vec<_> = sessions.iter().map(|(id, _)| share.adverts_for(*id).expect("member")).collect();
    for (((_, session), disk), adverts) in sessions.iter_mut().zip(&mut disks).zip(&shown) {
        let message = session.share(&list, adverts, NOW, keep(disk)).expect("honest");
        assert_eq!(server.share(message, keep(&mut server_disk)), Ok(Receipt::Accepted));
    }
    history.push(disks[0].clone());
    let Ok(Phase::Collect(collect)) = server.close(keep(&mut server_disk)) else { panic!("all shared") };
    let delivered: Vec<_> = sessions.iter().map(|(id, _)| collect.deliveries(*id).expect("shared")).collect();
    let mut vectors = BTreeMap::new();
    for (((id, session), disk), deliveries) in sessions.iter_mut().zip(&mut disks).zip(&delivered) {
        let upload = session.mask(deliveries, inputs[id].clone(), keep(disk)).expect("honest");
        let taken = server.vector(&upload.header, &VectorSummary::of(&upload.packed), keep(&mut server_disk));
        assert_eq!(taken, Ok(Receipt::Accepted));
        vectors.insert(*id, upload.packed.to_vec());
    }
    history.push(disks[0].clone());
    let Ok(Phase::Confirm(confirm, _)) = server.close(keep(&mut server_disk)) else { panic!("all survived") };
    let maps = confirm.maps().clone();
    for ((_, session), disk) in sessions.iter_mut().zip(&mut disks) {
        let message = session.confirm(&maps, keep(disk)).expect("honest");
        assert_eq!(server.confirm(&message, keep(&mut server_disk)), Ok(Receipt::Accepted));
    }
    history.push(disks[0].clone());
    vectors.iter().for_each(|(id, packed)| server.add(*id, packed).expect("stored"));
    let Ok(Phase::Unmask(unmask, _)) = server.close(keep(&mut server_disk)) else { panic!("all confirmed") };
    let requests: Vec<_> =
        sessions.iter().map(|(id, _)| unmask.request_for(*id).expect("confirmed")).collect();
    for (((_, session), disk), request) in sessions.iter_mut().zip(&mut disks).zip(&requests) {
        let shares = session.unmask(request, keep(disk)).expect("honest");
        assert_eq!(server.unmask(&shares, keep(&mut server_disk)), Ok(Receipt::Accepted));
    }
    history.push(disks[0].clone());
    let expected = plain_sum(&inputs, inputs.keys());
    let Ok(Phase::Released(sum)) = server.close(keep(&mut server_disk)) else { panic!("all answered") };
    assert_eq!(sum.vector, expected);
    Played {
        setup: setups[0].clone(),
        secrets: secrets[0],
        input: inputs[&first].clone(),
        told: Told {
            list,
            adverts: shown[0].clone(),
            deliveries: delivered[0].clone(),
            maps,
            request: requests[0].clone(),
        },
        client: history,
        server: server_disk,
        vectors,
        expected,
        fleet,
    }
}

fn played() -> Played {
    play(14, terms(ThreatModel::SemiMalicious, 5, 12, 9))
}

impl Played {
    fn restore_client(&self, disk: &Disk) -> Result<client::Session, JournalError> {
        client::Session::restore(self.setup.clone(), disk.values())
    }

    fn restore_server(&self, disk: &Disk) -> Result<server::Session, JournalError> {
        server::Session::restore(Arc::clone(&self.fleet.terms), self.fleet.root.public_key(), disk.values())
    }

    /// The client's answer to the event of a step, with the disk that it leaves.
    fn answer(
        &self,
        session: &mut client::Session,
        disk: &mut Disk,
        step: Step,
    ) -> Result<String, ClientError> {
        let Told { list, adverts, deliveries, maps, request } = &self.told;
        let late = NOW + 1_000_000;
        let answer = match step {
            Step::Advertise => Ok(session.advert().map(|advert| format!("{:02x?}", advert.digest()))),
            Step::Share if session.due() == Some(Step::Share) => session
                .share(list, adverts, NOW, keep(disk))
                .map(|said| Some(format!("{:02x?}", said.signature.0))),
            Step::Share => session
                .share(list, adverts, late, keep(disk))
                .map(|said| Some(format!("{:02x?}", said.signature.0))),
            Step::Collect => session
                .mask(deliveries, self.input.clone(), keep(disk))
                .map(|said| Some(format!("{:02x?} {:02x?}", said.header.signature.0, said.packed))),
            Step::Confirm => {
                session.confirm(maps, keep(disk)).map(|said| Some(format!("{:02x?}", said.signature.0)))
            }
            Step::Unmask => {
                session.unmask(request, keep(disk)).map(|said| Some(format!("{:02x?}", said.signature.0)))
            }
        };
        match answer {
            Ok(answer) => Ok(answer.unwrap_or_default()),
            Err(Unanswered::Refused(error)) => Err(error),
            Err(Unanswered::NotStored(never)) => match never {},
        }
    }
}

#[test]
fn a_client_comes_back_after_each_step_and_goes_on_as_before() {
    let played = played();
    // The nonce, which comes last, is public.
    let parts = played.secrets[..96].chunks(8);
    let secrets: Vec<String> = parts.map(|part| format!("{part:?}").replace(['[', ']'], "")).collect();
    let answers = |from: usize| {
        let mut disk = played.client[from].clone();
        let mut session = played.restore_client(&disk).expect("its own records");
        let shown = format!("{session:?}");
        assert!(secrets.iter().all(|secret| !shown.contains(secret)), "a secret is printed: {shown}");
        let mut answers = Vec::new();
        for (index, step) in Step::ALL.into_iter().enumerate() {
            let answer = played.answer(&mut session, &mut disk, step).expect("accepted before");
            assert_eq!(
                played.answer(&mut session, &mut disk, step).as_ref(),
                Ok(&answer),
                "a repeat in {step}"
            );
            assert_eq!(disk, played.client[index.max(from)], "the records after {step}");
            answers.push(answer);
        }
        answers
    };
    let first = answers(0);
    for from in 1..4 {
        assert_eq!(answers(from), first, "restored after step {from}");
    }
    // After Unmask only that answer is left.
    let mut disk = played.client[4].clone();
    let mut session = played.restore_client(&disk).expect("its own record");
    assert_eq!(played.answer(&mut session, &mut disk, Step::Unmask).as_ref(), Ok(&first[4]));
}

#[test]
fn a_renewed_certificate_does_not_change_what_was_announced() {
    let played = played();
    let renewed = played.fleet.root.certify(
        played.setup.certificate.client,
        played.setup.identity.public_key(),
        NOW + 9_000_000,
    );
    let setup = ClientSetup { certificate: renewed, ..played.setup.clone() };
    let session = client::Session::restore(setup, played.client[0].values()).expect("its own record");
    let advert = session.advert().expect("still in the round");
    let listed = played.told.list.entries.iter().find(|entry| entry.client == advert.client());
    assert_eq!(listed.map(|entry| entry.advert), Some(advert.digest()));
    let setup = ClientSetup { parent: [3; 32], ..played.setup.clone() };
    let refused = client::Session::restore(setup, played.client[0].values());
    assert!(matches!(refused, Err(JournalError::Refused { .. })), "{refused:?}");
}

#[test]
fn after_unmask_nothing_is_left_but_the_answer() {
    let played = played();
    assert_eq!(played.client[3].len(), 4);
    assert_eq!(played.client[4].len(), 1, "one record replaces all others");
    let last = played.client[4].values().next().expect("one");
    assert!(played.client[3].values().any(|record| record.windows(32).any(|w| w == &played.secrets[..32])));
    for secret in played.secrets.chunks(32) {
        assert!(!last.windows(32).any(|window| window == secret), "a secret of the round is still stored");
    }
    let mut session = played.restore_client(&played.client[4]).expect("its own record");
    assert!(session.advert().is_none() && session.upload().is_none() && session.due().is_none());
    let mut disk = Disk::new();
    for step in [Step::Share, Step::Collect, Step::Confirm] {
        let deleted = Err(ClientError::AnswerDeleted { step });
        assert_eq!(played.answer(&mut session, &mut disk, step), deleted);
    }
    // Others for the same steps are still told from repeats.
    let mut list = CohortList::clone(&played.told.list);
    list.params.n_min += 1;
    let refused = session.share(&list, &played.told.adverts, NOW, keep(&mut disk));
    assert_eq!(refused, Err(Unanswered::Refused(ClientError::TwoCohortLists)));
    let refused = session.mask(&played.told.deliveries[1..], played.input.clone(), keep(&mut disk));
    assert_eq!(refused, Err(Unanswered::Refused(ClientError::TwoDeliveries)));
    let own = played.told.list.index_of(session.client()).expect("a member");
    let mut maps = played.told.maps.clone();
    let other = (own + 1) % maps.survived.members();
    maps.survived.set(other, false);
    let refused = session.confirm(&maps, keep(&mut disk));
    assert_eq!(refused, Err(Unanswered::Refused(ClientError::TwoSurvivorMaps)));
    let request = UnmaskRequest { maps, ..played.told.request.clone() };
    let exposed = played.told.list.entries[other as usize].client;
    let refused = session.unmask(&request, keep(&mut disk));
    assert_eq!(refused, Err(Unanswered::Refused(ClientError::BothSharesRequested { client: exposed })));
    assert!(disk.is_empty());
}

#[test]
fn a_refusal_ends_the_part_of_a_client_for_good() {
    let played = played();
    let mut disk = played.client[1].clone();
    let mut session = played.restore_client(&disk).expect("its own records");
    // Too early changes nothing.
    let early = ClientError::NotYet { step: Step::Confirm, due: Step::Collect };
    assert_eq!(session.confirm(&played.told.maps, keep(&mut disk)), Err(Unanswered::Refused(early)));
    assert_eq!(disk, played.client[1]);
    let mut forged = played.told.deliveries.clone();
    forged[0].signature.0[0] ^= 1;
    let refused = session.mask(&forged, played.input.clone(), keep(&mut disk)).expect_err("forged");
    assert!(matches!(refused, Unanswered::Refused(ClientError::WrongContext { .. })), "{refused}");
    assert_eq!(disk.len(), 1, "the secrets are gone with it");
    let mut back = played.restore_client(&disk).expect("its own record");
    for session in [&mut session, &mut back] {
        let refused = played.answer(session, &mut disk, Step::Collect).expect_err("it has left");
        let ClientError::LeftRound { reason } = refused else { panic!("{refused}") };
        assert!(reason.contains("is not signed for this context"), "{reason}");
    }
    // Where the old records were not deleted with it, the last one still counts.
    let mut both = played.client[1].clone();
    both.extend(disk);
    assert_eq!(played.restore_client(&both).expect("its own records").due(), None);
}

#[test]
fn a_failed_write_holds_the_answer_back() {
    let played = played();
    let begun = client::Session::begin(
        played.setup.clone(),
        RoundSecrets::from_bytes(&played.secrets).expect("secrets"),
        NOW,
        full,
    );
    assert!(matches!(begun, Err(Unanswered::NotStored("disk full"))));
    let mut session = played.restore_client(&played.client[2]).expect("its own records");
    assert_eq!(session.confirm(&played.told.maps, full), Err(Unanswered::NotStored("disk full")));
    let interrupted = Err(Unanswered::Refused(ClientError::Interrupted));
    assert_eq!(session.confirm(&played.told.maps, keep(&mut Disk::new())), interrupted);
    assert!(session.advert().is_none() && session.upload().is_none());

    let disk: Disk = played.server.clone().into_iter().filter(|(key, _)| key[0] < 2).collect();
    let mut server = played.restore_server(&disk).expect("its own records");
    let mut client = played.restore_client(&played.client[0]).expect("its own records");
    let Told { list, adverts, .. } = &played.told;
    let message = client.share(list, adverts, NOW, keep(&mut Disk::new())).expect("honest");
    assert_eq!(server.share(Arc::clone(&message), full), Err(Unanswered::NotStored("disk full")));
    let interrupted = Unanswered::Refused(ServerError::Interrupted);
    assert_eq!(server.share(Arc::clone(&message), keep(&mut Disk::new())), Err(interrupted.clone()));
    assert_eq!(server.close(keep(&mut Disk::new())).map(drop), Err(interrupted));
    let mut server = played.restore_server(&disk).expect("its own records");
    assert_eq!(server.share(message, keep(&mut Disk::new())), Ok(Receipt::Accepted));
}

#[test]
fn a_server_comes_back_after_every_record() {
    let played = played();
    let records: Vec<(&[u8; Key::BYTES], &Vec<u8>)> = played.server.iter().collect();
    for count in 0..=records.len() {
        let disk: Disk = records[..count].iter().map(|(key, record)| (**key, (*record).clone())).collect();
        let mut server = played.restore_server(&disk).expect("its own records");
        let step = records.get(count).map(|(key, _)| key[0]);
        assert_eq!(server.phase().step().map(|step| step as u8), step, "after {count} records");
        let Phase::Confirm(_, summation) = server.phase() else { continue };
        // A checkpoint saves adding the vectors again.
        let missing: Vec<ClientId> = summation.missing().collect();
        let checkpoint = Key { step: Step::Confirm, slot: Slot::Checkpoint }.to_bytes();
        assert_eq!(missing.is_empty(), disk.contains_key(&checkpoint));
        missing.iter().for_each(|id| server.add(*id, &played.vectors[id]).expect("stored"));
        assert!(server.add(*played.vectors.keys().next().expect("one"), &[]).is_err(), "added twice");
    }
    let Ok(Phase::Released(sum)) = played.restore_server(&played.server).map(|server| match server.phase() {
        Phase::Released(sum) => Phase::Released(sum.clone()),
        _ => Phase::Interrupted,
    }) else {
        panic!("the sum is known")
    };
    assert_eq!(sum.vector, played.expected);
}

#[test]
fn a_checkpoint_covers_the_vectors_in_it_and_no_others() {
    let played = played();
    let mut disk: Disk = played.server.clone().into_iter().filter(|(key, _)| key[0] < 4).collect();
    let mut server = played.restore_server(&disk).expect("its own records");
    let mut added: Vec<ClientId> = Vec::new();
    for (id, packed) in &played.vectors {
        let refused = server.close(keep(&mut disk)).map(drop).expect_err("vectors are missing");
        assert!(matches!(refused, Unanswered::Refused(ServerError::VectorNotAdded { .. })), "{refused}");
        server.add(*id, packed).expect("stored");
        added.push(*id);
        server.checkpoint(keep(&mut disk)).expect("in Confirm");
        server = played.restore_server(&disk).expect("its own records");
        let Phase::Confirm(_, summation) = server.phase() else { panic!("in Confirm") };
        let left: Vec<ClientId> = summation.missing().collect();
        assert!(left.iter().all(|id| !added.contains(id)) && left.len() + added.len() == 5);
        assert_eq!(server.add(*id, packed), Err(ServerError::AddedTwice { client: *id }));
    }
    // With the confirmations the round ends as it did, and no vector was needed again.
    disk.extend(
        played.server.iter().filter(|(key, _)| key[0] >= 4).map(|(key, record)| (*key, record.clone())),
    );
    let server = played.restore_server(&disk).expect("its own records");
    let Phase::Released(sum) = server.phase() else { panic!("released") };
    assert_eq!(sum.vector, played.expected);
    disk.remove(&Key { step: Step::Confirm, slot: Slot::Checkpoint }.to_bytes());
    let key = Key { step: Step::Confirm, slot: Slot::Checkpoint };
    assert_eq!(played.restore_server(&disk).map(drop), Err(JournalError::Missing { key }));
}

#[test]
fn records_that_are_lost_repeated_or_out_of_order_are_named() {
    let played = played();
    let member = Key { step: Step::Share, slot: Slot::Member(played.setup.certificate.client) };
    let mut disk = played.server.clone();
    disk.remove(&member.to_bytes());
    let lost = JournalError::Incomplete { step: Step::Share, closed: 5, found: 4 };
    assert_eq!(played.restore_server(&disk).map(drop), Err(lost));

    let closed = Key { step: Step::Share, slot: Slot::Closed };
    let mut disk = played.server.clone();
    disk.remove(&closed.to_bytes());
    let refused = played.restore_server(&disk).map(drop);
    assert!(matches!(refused, Err(JournalError::OutOfOrder { due: Step::Share, .. })), "{refused:?}");

    let twice = played.server.values().take(1).chain(played.server.values());
    let refused =
        server::Session::restore(Arc::clone(&played.fleet.terms), played.fleet.root.public_key(), twice);
    assert!(matches!(refused, Err(JournalError::Repeated { .. })), "{refused:?}");

    let records = &played.client[3];
    let twice = records.values().chain(records.values().take(1));
    let refused = client::Session::restore(played.setup.clone(), twice);
    assert!(matches!(refused, Err(JournalError::Repeated { .. })), "{refused:?}");
    let mut disk = records.clone();
    let second = *disk.keys().nth(1).expect("four");
    disk.remove(&second);
    let refused = played.restore_client(&disk);
    assert!(matches!(refused, Err(JournalError::OutOfOrder { due: Step::Share, .. })), "{refused:?}");
    assert!(matches!(played.restore_client(&Disk::new()), Err(JournalError::Missing { .. })));
}

#[test]
fn records_of_another_round_cohort_or_owner_are_refused() {
    let played = played();
    let other_round = play(14, RoundTerms { round: 8, ..terms(ThreatModel::SemiMalicious, 5, 12, 9) });
    assert_eq!(played.setup.certificate.client, other_round.setup.certificate.client);
    for (kind, disk) in [("client", &other_round.client[3]), ("finished client", &other_round.client[4])] {
        let refused = played.restore_client(disk);
        assert!(matches!(refused, Err(JournalError::ForeignRound { .. })), "{kind}: {refused:?}");
    }
    let refused = played.restore_server(&other_round.server);
    assert!(matches!(refused, Err(JournalError::ForeignRound { .. })), "{refused:?}");
    // The server's records are not a client's, nor one client's another's.
    assert!(matches!(played.restore_client(&played.server), Err(JournalError::ForeignRound { .. })));
    let neighbour = played.fleet.setups[1].clone();
    let refused = client::Session::restore(neighbour, played.client[3].values());
    assert!(matches!(refused, Err(JournalError::ForeignRound { .. })), "{refused:?}");

    // The same clients come together in another cohort of the same round.
    let mut fewer = Fleet::new(5, terms(ThreatModel::SemiMalicious, 5, 12, 9), 14);
    let _ = inputs(&mut fewer);
    let mut disk = Disk::new();
    let mut server = server::Session::open(Arc::clone(&fewer.terms), fewer.root.public_key()).expect("fine");
    let mut own = None;
    for setup in fewer.setups.clone().into_iter().take(4) {
        let secrets = RoundSecrets::generate(&mut fewer.rng);
        let mut own_disk = Disk::new();
        let (session, advert) =
            client::Session::begin(setup, secrets, NOW, keep(&mut own_disk)).expect("honest");
        server.advert(advert, NOW, keep(&mut disk)).expect("honest");
        own.get_or_insert((session, own_disk));
    }
    let Ok(Phase::Share(share)) = server.close(keep(&mut disk)) else { panic!("feasible") };
    let (mut session, mut own_disk) = own.expect("four clients");
    let adverts = share.adverts_for(session.client()).expect("a member");
    session.share(share.list(), &adverts, NOW, keep(&mut own_disk)).expect("honest");
    let mut mixed = played.client[2].clone();
    mixed.extend(own_disk);
    let refused = played.restore_client(&mixed);
    assert!(matches!(refused, Err(JournalError::ForeignContext { .. })), "{refused:?}");
}

#[test]
fn no_damaged_record_is_read() {
    let played = played();
    for (disk, is_client) in [(&played.client[3], true), (&played.client[4], true), (&played.server, false)] {
        let restores = |disk: &Disk| {
            if is_client {
                played.restore_client(disk).map(drop)
            } else {
                played.restore_server(disk).map(drop)
            }
        };
        assert_eq!(restores(disk), Ok(()));
        for (key, record) in disk {
            // Of the server's many alike, one of each kind.
            if !is_client && key[1] == 1 && disk.range(..*key).any(|(k, _)| k[..2] == key[..2]) {
                continue;
            }
            let damaged = |bytes: Vec<u8>| {
                let mut disk = disk.clone();
                disk.insert(*key, bytes);
                restores(&disk)
            };
            for length in (0..record.len()).step_by(1 + record.len() / 50) {
                let refused = damaged(record[..length].to_vec());
                let named =
                    matches!(refused, Err(JournalError::Truncated { .. } | JournalError::Corrupted { .. }));
                assert!(named, "{refused:?}");
            }
            for place in (0..record.len()).step_by(1 + record.len() / 150).chain([1, 2, 3, record.len() - 1])
            {
                let mut bytes = record.clone();
                bytes[place] ^= 1 << (place % 8);
                let refused = damaged(bytes);
                match (place, refused) {
                    (0, Err(JournalError::Version { .. })) => {}
                    (1.., Err(JournalError::Corrupted { .. })) => {}
                    (_, other) => panic!("byte {place} of {}: {other:?}", record.len()),
                }
            }
            let mut longer = record.clone();
            longer.push(0);
            assert!(matches!(damaged(longer), Err(JournalError::Corrupted { .. })));
        }
    }
}
