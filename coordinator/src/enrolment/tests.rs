//! Enrolment against a store in memory and a real identity root in a folder. Must never sign in the root's place.
#![allow(clippy::unwrap_used)]

use super::tables::{Revoked, RevokedBefore, StoredRevocations};
use super::*;
use crate::identity::{Issued, Office, Revocations};
use crate::store::MemoryStore;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng as _;
use tacit_aggregation::identity::{IdentityKey, PublicKey};

const NOW: u64 = 1_000_000;
const DAY: u64 = 86_400;

struct World {
    store: Arc<MemoryStore>,
    epoch: Epoch,
    office: Office,
    appointment: Appointment,
    enrolment: Enrolment,
    rng: ChaCha20Rng,
    _folder: tempfile::TempDir,
}

impl World {
    fn new(seed: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        let office = Office::init(&folder.path().join("root"), &mut rng).unwrap();
        let coordinator = IdentityKey::generate(&mut rng).public_key();
        let appointment = office.appoint(coordinator.0).unwrap();
        let store = Arc::new(MemoryStore::new());
        let epoch = store.lease().unwrap();
        let enrolment = Enrolment::new(store.clone(), epoch, appointment.clone()).unwrap();
        Self { store, epoch, office, appointment, enrolment, rng, _folder: folder }
    }

    fn token(&mut self) -> String {
        self.enrolment.invite(1, DAY, "Ada's laptop", NOW, &mut self.rng).unwrap().remove(0)
    }

    /// A request with fresh keys.
    fn request(&mut self, token: &str) -> Enrol {
        let keys = [(); 2].map(|()| IdentityKey::generate(&mut self.rng));
        signed(token, &keys)
    }

    fn again(&self) -> Enrolment {
        Enrolment::new(self.store.clone(), self.epoch, self.appointment.clone()).unwrap()
    }

    /// A client that went all the way.
    fn client(&mut self) -> (Digest, Issued) {
        let token = self.token();
        let request = self.request(&token);
        let ticket = self.enrolment.enrol(&request, NOW).unwrap();
        let admissions = self.enrolment.pending().unwrap();
        let issued = self.office.issue(&admissions, NOW + DAY, NOW, &mut self.rng).unwrap().remove(0);
        assert_eq!(self.enrolment.admit(std::slice::from_ref(&issued), NOW).unwrap(), 1);
        (ticket, issued)
    }
}

fn signed(token: &str, keys: &[IdentityKey; 2]) -> Enrol {
    let [identity_key, transport_key] = [keys[0].public_key(), keys[1].public_key()];
    let payload = Enrol::payload(token, &identity_key, &transport_key);
    Enrol {
        token: token.into(),
        identity_key,
        transport_key,
        version: "0.2.0".into(),
        signatures: [keys[0].sign(&payload), keys[1].sign(&payload)],
    }
}

#[test]
fn a_machine_becomes_a_client() {
    let mut world = World::new(1);
    let token = world.token();
    let request = world.request(&token);
    let ticket = world.enrolment.enrol(&request, NOW).unwrap();
    assert!(matches!(world.enrolment.fetch(&ticket), Err(EnrolmentError::Undecided)));
    assert!(matches!(world.enrolment.fetch(&[0; 32]), Err(EnrolmentError::Ticket)));
    let pending = world.enrolment.pending().unwrap();
    let [admission] = pending.as_slice() else { panic!("one waits: {pending:?}") };
    assert_eq!((admission.ticket, admission.identity_key), (ticket, request.identity_key.0));
    assert_eq!(admission.note, "Ada's laptop");

    let issued = world.office.issue(&pending, NOW + DAY, NOW, &mut world.rng).unwrap();
    assert_eq!(world.enrolment.admit(&issued, NOW + 5).unwrap(), 1);
    assert_eq!(world.enrolment.admit(&issued, NOW + 9).unwrap(), 0, "a repeat changes nothing");
    assert_eq!(world.enrolment.pending().unwrap(), []);
    let credentials = world.enrolment.fetch(&ticket).unwrap();
    assert!(credentials.appoints_coordinator());
    assert_eq!(credentials.root, world.office.public_key());
    assert_eq!(credentials.certificate.verify(&credentials.root, NOW + DAY), Ok(()));
    assert_eq!(credentials.certificate.public_key, request.identity_key);
    assert_eq!(credentials.transport_certificate, issued[0].transport_certificate);
    let client = world.enrolment.client(issued[0].client).unwrap().unwrap();
    assert_eq!((client.version.as_str(), client.enrolled_at, client.ticket), ("0.2.0", NOW + 5, ticket));
    assert_eq!(world.enrolment.clients(ClientId(0), 10).unwrap(), [(issued[0].client, client)]);
    assert_eq!(world.enrolment.enrol(&request, NOW + 9 * DAY).unwrap(), ticket, "it may ask again, for ever");
}

#[test]
fn a_request_that_the_identity_root_must_refuse_does_not_hold_up_the_others() {
    let mut world = World::new(21);
    let (tokens, honest) = ([(); 4].map(|()| world.token()), world.token());
    let [one, two, three] = [(); 3].map(|()| IdentityKey::generate(&mut world.rng).to_bytes());
    let keys = |one: &[u8; 32], two: &[u8; 32]| [IdentityKey::from_bytes(one), IdentityKey::from_bytes(two)];
    let ticket = world.enrolment.enrol(&signed(&tokens[0], &keys(&one, &two)), NOW).unwrap();
    let twice = signed(&tokens[1], &keys(&one, &three));
    let swapped = signed(&tokens[2], &keys(&three, &one));
    for request in [&twice, &swapped] {
        assert!(matches!(world.enrolment.enrol(request, NOW), Err(EnrolmentError::Keys)));
    }
    let honest = world.request(&honest);
    world.enrolment.enrol(&honest, NOW).unwrap();
    let pending = world.enrolment.pending().unwrap();
    let issued = world.office.issue(&pending, NOW + DAY, NOW, &mut world.rng).unwrap();
    assert_eq!(world.enrolment.admit(&issued, NOW).unwrap(), 2);
    // Nor does a client that asks in again with the keys that it has.
    let again = signed(&tokens[3], &keys(&one, &two));
    assert!(matches!(world.again().enrol(&again, NOW), Err(EnrolmentError::Keys)));
    assert_eq!(world.enrolment.enrol(&signed(&tokens[0], &keys(&one, &two)), NOW).unwrap(), ticket);
}

#[test]
fn a_token_takes_one_machine_in() {
    let mut world = World::new(2);
    let token = world.token();
    let (first, second) = (world.request(&token), world.request(&token));
    let ticket = world.enrolment.enrol(&first, NOW).unwrap();
    assert_eq!(world.enrolment.enrol(&first, NOW + 1).unwrap(), ticket);
    assert!(matches!(world.enrolment.enrol(&second, NOW), Err(EnrolmentError::Used)));
    let restarted = world.again();
    assert_eq!(restarted.enrol(&first, NOW).unwrap(), ticket);
    assert!(matches!(restarted.enrol(&second, NOW), Err(EnrolmentError::Used)));
    assert_eq!(restarted.pending().unwrap().len(), 1);
}

#[test]
fn wrong_and_expired_tokens_are_refused_alike() {
    let mut world = World::new(3);
    let token = world.token();
    let request = world.request(&token);
    let expired = world.enrolment.enrol(&request, NOW + DAY + 1).unwrap_err();
    let mut guess = token.clone();
    guess.replace_range(token.len() - 1.., if token.ends_with('0') { "1" } else { "0" });
    let wrong = world.request(&guess);
    let wrong = world.enrolment.enrol(&wrong, NOW).unwrap_err();
    assert!(matches!(expired, EnrolmentError::Token));
    assert_eq!(wrong.to_string(), expired.to_string());
    assert!(world.enrolment.enrol(&request, NOW + DAY).is_ok(), "its last second");
    assert_eq!(world.enrolment.pending().unwrap().len(), 1);
}

#[test]
fn who_has_not_both_keys_is_refused() {
    let mut world = World::new(4);
    let token = world.token();
    let (good, other) = (world.request(&token), world.request(&token));
    let one = IdentityKey::generate(&mut world.rng);
    let keys = [IdentityKey::from_bytes(&one.to_bytes()), one];
    let bad = [
        Enrol { identity_key: other.identity_key, ..good.clone() },
        Enrol { transport_key: other.transport_key, ..good.clone() },
        Enrol { signatures: [good.signatures[1], good.signatures[0]], ..good.clone() },
        signed(&token, &keys),
        Enrol { identity_key: PublicKey([0; 32]), ..good.clone() },
    ];
    for bad in bad {
        assert!(matches!(world.enrolment.enrol(&bad, NOW), Err(EnrolmentError::Signatures)), "{bad:?}");
    }
    assert_eq!(world.enrolment.pending().unwrap(), []);
    assert!(world.enrolment.enrol(&good, NOW).is_ok(), "the token is still good");
}

#[test]
fn tokens_are_kept_as_hashes_and_forgotten_when_they_expire() {
    let mut world = World::new(5);
    let tokens = world.enrolment.invite(3, 10, "", NOW, &mut world.rng).unwrap();
    assert!(tokens[0] != tokens[1] && tokens[0].len() == TOKEN_PREFIX.len() + 2 * TOKEN_BYTES);
    let rows = world.store.scan("tokens", b"", b"", 10).unwrap();
    assert_eq!(rows.len(), 3);
    for (key, value) in &rows {
        let row = [key.as_slice(), value].concat();
        for token in &tokens {
            let bytes = hex::decode(token.strip_prefix(TOKEN_PREFIX).unwrap()).unwrap();
            assert!(!row.windows(8).any(|window| bytes.windows(8).any(|part| part == window)));
        }
    }
    world.enrolment.invite(1, 10, "", NOW + 11, &mut world.rng).unwrap();
    assert_eq!(world.store.scan("tokens", b"", b"", 10).unwrap().len(), 1);
    let asked = MOST_INVITED + 1;
    let refused = world.enrolment.invite(asked, 10, "", NOW, &mut world.rng);
    assert!(matches!(refused, Err(EnrolmentError::TooMany { .. })));
}

#[test]
fn requests_that_wait_are_bounded() {
    let mut world = World::new(6);
    let token = world.token();
    let request = world.request(&token);
    let waits = Request {
        identity_key: [1; 32],
        transport_key: [2; 32],
        version: String::new(),
        note: String::new(),
        asked_at: NOW,
    };
    let mut batch = Batch::new();
    for number in 0..MOST_PENDING as u64 {
        batch.put::<Requests>(&Sha256::digest(number.to_be_bytes()).into(), &waits);
    }
    batch.commit(&*world.store, world.epoch).unwrap();
    let enrolment = world.again();
    assert!(matches!(enrolment.enrol(&request, NOW), Err(EnrolmentError::Full)));
    let pending = enrolment.pending().unwrap();
    assert_eq!(pending.len(), MOST_PENDING, "all pages are read");
    enrolment.refuse(&pending[0].ticket).unwrap();
    assert!(matches!(enrolment.fetch(&pending[0].ticket), Err(EnrolmentError::Refused)));
    assert!(matches!(enrolment.refuse(&pending[0].ticket), Err(EnrolmentError::Ticket)));
    assert!(enrolment.enrol(&request, NOW).is_ok());
    let token = enrolment.invite(1, DAY, "", NOW, &mut world.rng).unwrap().remove(0);
    let another = world.request(&token);
    assert!(matches!(enrolment.enrol(&another, NOW), Err(EnrolmentError::Full)), "the count is kept");
}

#[test]
fn only_the_root_admits() {
    let mut world = World::new(7);
    let mut other = World::new(8);
    let (token, foreign) = (world.token(), other.client().1);
    let request = world.request(&token);
    world.enrolment.enrol(&request, NOW).unwrap();
    let pending = world.enrolment.pending().unwrap();
    let good = world.office.issue(&pending, NOW + DAY, NOW, &mut world.rng).unwrap().remove(0);
    let other_key = [9; 32];
    let mut rekeyed = good.clone();
    rekeyed.admission.identity_key = other_key;
    let mut retransported = good.clone();
    retransported.admission.transport_key = other_key;
    let mut longer = good.clone();
    longer.not_after += 1;
    let mut mixed = good.clone();
    mixed.transport_certificate = foreign.transport_certificate.clone();
    let mut renamed = good.clone();
    renamed.client.0 ^= 1;
    for (index, bad) in [foreign, rekeyed, retransported, longer, mixed, renamed].into_iter().enumerate() {
        let refused = world.enrolment.admit(&[good.clone(), bad], NOW);
        assert!(refused.is_err(), "{index}");
        assert_eq!(world.enrolment.client(good.client).unwrap(), None, "{index}: all or none");
    }
    let refused = Enrolment::new(
        world.store.clone(),
        world.epoch,
        Appointment { root: other.appointment.root, ..world.appointment.clone() },
    );
    assert!(matches!(refused, Err(EnrolmentError::Appointment(_))));
}

#[test]
fn an_answer_belongs_to_its_request() {
    let mut world = World::new(12);
    let token = world.token();
    let request = world.request(&token);
    world.enrolment.enrol(&request, NOW).unwrap();
    let asked = world.enrolment.pending().unwrap().remove(0);
    let [identity_key, transport_key] =
        [(); 2].map(|()| IdentityKey::generate(&mut world.rng).public_key().0);
    let swapped = Admission { identity_key, transport_key, ..asked.clone() };
    let both = world.office.issue(&[asked, swapped], NOW + DAY, NOW, &mut world.rng).unwrap();
    let [good, swapped] = both.as_slice() else { panic!("two answers") };
    let refused = |answer: &Issued, reason: &str| {
        let refused = world.enrolment.admit(std::slice::from_ref(answer), NOW).unwrap_err().to_string();
        assert!(refused.contains(reason), "{refused}");
    };
    refused(swapped, "its keys are not the request's");
    world.enrolment.admit(std::slice::from_ref(good), NOW).unwrap();
    refused(swapped, "answered with another client or other keys");
    let mut elsewhere = good.clone();
    elsewhere.admission.ticket = [9; 32];
    refused(&elsewhere, "came with another request");
}

#[test]
fn a_refused_request_is_not_admitted() {
    let mut world = World::new(9);
    let token = world.token();
    let request = world.request(&token);
    let ticket = world.enrolment.enrol(&request, NOW).unwrap();
    let pending = world.enrolment.pending().unwrap();
    let issued = world.office.issue(&pending, NOW + DAY, NOW, &mut world.rng).unwrap();
    world.enrolment.refuse(&ticket).unwrap();
    assert!(matches!(world.enrolment.admit(&issued, NOW), Err(EnrolmentError::Answer { .. })));
    assert!(matches!(world.enrolment.fetch(&ticket), Err(EnrolmentError::Refused)));
}

#[test]
fn a_renewal_replaces_and_an_older_answer_does_not() {
    let mut world = World::new(10);
    let (ticket, first) = world.client();
    let renewed = world.office.renew(&[first.client], NOW + 9 * DAY, NOW + DAY).unwrap().remove(0);
    assert_eq!(world.enrolment.admit(std::slice::from_ref(&renewed), NOW + DAY).unwrap(), 1);
    assert_eq!(world.enrolment.admit(std::slice::from_ref(&first), NOW + DAY).unwrap(), 0);
    let credentials = world.enrolment.fetch(&ticket).unwrap();
    assert_eq!(credentials.certificate.not_after, NOW + 9 * DAY);
    let client = world.enrolment.client(first.client).unwrap().unwrap();
    assert_eq!((client.not_after, client.enrolled_at), (NOW + 9 * DAY, NOW));

    // The root's record alone restores a coordinator that has nothing, whatever the order of its lines.
    let empty = Arc::new(MemoryStore::new());
    let epoch = empty.lease().unwrap();
    let restored = Enrolment::new(empty, epoch, world.appointment.clone()).unwrap();
    restored.admit(&[renewed, first], NOW).unwrap();
    assert_eq!(restored.fetch(&ticket).unwrap(), credentials);
}

#[test]
fn who_is_shut_out_stays_out_after_a_restart() {
    let mut world = World::new(11);
    let (first, second) = (world.client().1.client, world.client().1.client);
    let seen = world.enrolment.excluded();
    assert_eq!(seen.borrow().reason(first), None);
    world.enrolment.ban(first, "sends nonsense", NOW).unwrap();
    assert!(matches!(world.enrolment.ban(ClientId(1), "", NOW), Err(EnrolmentError::Client { .. })));
    let older = Revocations::from(world.office.revoked().clone());
    let list = Revocations::from(world.office.revoke(&[second]).unwrap().clone());
    world.enrolment.set_revocations(list.clone()).unwrap();
    for excluded in [seen.clone(), world.again().excluded()] {
        assert_eq!(excluded.borrow().reason(first), Some(Exclusion::Banned));
        assert_eq!(excluded.borrow().reason(second), Some(Exclusion::Revoked));
    }
    assert_eq!(world.enrolment.banned(first).unwrap().unwrap().reason, "sends nonsense");
    world.enrolment.set_revocations(list.clone()).unwrap();
    let refused = world.again().set_revocations(older);
    assert!(matches!(refused, Err(EnrolmentError::Revocations(RevocationError::Older { .. }))));
    let forged = Revocations { number: 9, ..list.clone() };
    let refused = world.enrolment.set_revocations(forged);
    assert!(matches!(refused, Err(EnrolmentError::Revocations(RevocationError::Signature { .. }))));
    let mut other = World::new(13);
    // Appointed by another root it begins with that one's list, and keeps the first one's for the case that it comes back.
    let appointed = Enrolment::new(world.store.clone(), world.epoch, other.appointment.clone()).unwrap();
    assert_eq!(appointed.excluded().borrow().revoked(), None);
    let theirs = other.client().1.client;
    let theirs = Revocations::from(other.office.revoke(&[theirs]).unwrap().clone());
    assert!(world.again().set_revocations(theirs.clone()).is_err(), "another root's list");
    appointed.set_revocations(theirs).unwrap();
    assert!(appointed.set_revocations(list).is_err(), "the first root's list");
    assert_eq!(world.again().excluded().borrow().reason(second), Some(Exclusion::Revoked));
    // A list that was kept before roots were told apart is still found, and a damaged one of this root's is refused.
    let kept = StoredRevocations::new(world.again().excluded().borrow().revoked().unwrap());
    let root = world.appointment.root().0;
    let mut batch = Batch::new();
    batch.delete::<Revoked>(&root);
    batch.put::<RevokedBefore>(&(), &kept);
    batch.commit(&*world.store, world.epoch).unwrap();
    assert_eq!(world.again().excluded().borrow().reason(second), Some(Exclusion::Revoked));
    let mut batch = Batch::new();
    batch.put::<Revoked>(&root, &StoredRevocations { number: 9, ..kept });
    batch.commit(&*world.store, world.epoch).unwrap();
    let damaged = Enrolment::new(world.store.clone(), world.epoch, world.appointment.clone()).map(|_| ());
    assert!(matches!(damaged, Err(EnrolmentError::Revocations(_))), "{damaged:?}");
    let mut batch = Batch::new();
    batch.delete::<Revoked>(&root);
    batch.commit(&*world.store, world.epoch).unwrap();
    world.enrolment.unban(first).unwrap();
    assert_eq!(seen.borrow().reason(first), None);
    assert_eq!(world.again().excluded().borrow().reason(first), None);
}

#[test]
fn clients_are_listed_with_when_they_were_last_heard_of_and_by_how_long_they_are_silent() {
    let mut world = World::new(60);
    let presence = Presence::new(world.store.clone(), world.epoch);
    let mut clients: Vec<ClientId> = (0..4).map(|_| world.client().1.client).collect();
    clients.sort_unstable();
    // One was heard of lately, two long ago, and one never since it enrolled.
    let seen = [NOW + 90 * DAY, NOW + 10 * DAY, NOW + 50 * DAY].map(|second| second / 60 * 60);
    clients.iter().zip(seen).for_each(|(client, second)| presence.note(*client, second * 1000));
    let listed = |from, limit, silent_since| {
        let rows = world.enrolment.listed(&presence, from, limit, silent_since).unwrap();
        rows.into_iter().map(|(client, _, last)| (client, last)).collect::<Vec<_>>()
    };
    let all = [Some(seen[0]), Some(seen[1]), Some(seen[2]), None];
    let all: Vec<_> = clients.iter().copied().zip(all).collect();
    for _ in 0..2 {
        assert_eq!(listed(ClientId(0), 100, None), all);
        assert_eq!(listed(clients[1], 2, None), all[1..3]);
        assert_eq!(listed(ClientId(0), 100, Some(NOW + 40 * DAY)), [all[1], all[3]]);
        assert_eq!(listed(ClientId(0), 1, Some(NOW + 60 * DAY)), all[1..2]);
        assert_eq!(listed(ClientId(0), 100, Some(NOW - 1)), []);
        presence.write().unwrap();
    }
}
