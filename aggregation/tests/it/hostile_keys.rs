//! Two identities with one key: the second is named and left out by the server, and by every client that is shown both.

use crate::fleet::{Fleet, Leaving, NOW, closed, inputs, neighbours, plain_sum, run, terms};
use std::collections::BTreeMap;
use std::sync::Arc;
use tacit_aggregation::Step;
use tacit_aggregation::client::{Advertised, ClientError};
use tacit_aggregation::identity::{ClientId, IdentityKey};
use tacit_aggregation::messages::{Advert, AdvertFault, KeyKind};
use tacit_aggregation::params::ThreatModel;
use tacit_aggregation::server::{Receipt, ServerError};

const N: u32 = 8;

fn fleet() -> Fleet {
    Fleet::new(N, terms(ThreatModel::SemiMalicious, N, 16, 10), 61)
}

fn identity_of(fleet: &Fleet, client: ClientId) -> Arc<IdentityKey> {
    let setup = fleet.setups.iter().find(|setup| setup.certificate.client == client);
    Arc::clone(&setup.expect("in the fleet").identity)
}

/// The advert of a client that has taken one key of another, as well signed as the client can.
fn copied(fleet: &Fleet, own: &Advert, other: &Advert, key: KeyKind) -> Advert {
    let mut advert = own.clone();
    let mut signer = identity_of(fleet, own.client());
    match key {
        KeyKind::Identity => {
            // The root was made to certify one key under two ids.
            let certificate = &own.certificate;
            advert.certificate =
                fleet.root.certify(certificate.client, other.certificate.public_key, certificate.not_after);
            signer = identity_of(fleet, other.client());
        }
        KeyKind::Channel => advert.channel_key = other.channel_key,
        KeyKind::Mask => advert.mask_key = other.mask_key,
    }
    advert.signature = signer.sign(&advert.payload());
    advert
}

const KINDS: [KeyKind; 3] = [KeyKind::Identity, KeyKind::Channel, KeyKind::Mask];

#[test]
fn the_server_admits_one_of_two_identities_with_one_key() {
    for key in KINDS {
        let mut fleet = fleet();
        let clients: BTreeMap<ClientId, Advertised> = fleet.advertise();
        let ids: Vec<ClientId> = clients.keys().copied().collect();
        let (first, second) = (clients[&ids[1]].advert(), clients[&ids[6]].advert());
        let copy = Arc::new(copied(&fleet, second, first, key));
        let mut server = fleet.server();
        assert_eq!(server.accept(Arc::clone(first), NOW), Ok(Receipt::Accepted));
        let fault = AdvertFault::SharedKey { client: ids[6], other: ids[1], key };
        assert_eq!(server.accept(Arc::clone(&copy), NOW), Err(ServerError::Advert(fault)));
        assert_eq!(server.count(), 1, "nothing of it is kept");
        // The first is still the first, and the second may come with a key of its own.
        assert_eq!(server.accept(Arc::clone(first), NOW), Ok(Receipt::Repeated));
        assert_eq!(server.accept(Arc::clone(second), NOW), Ok(Receipt::Accepted));
        assert_eq!(server.count(), 2);
    }
}

#[test]
fn a_copied_channel_key_is_refused_in_other_encodings_too() {
    // X25519 ignores the highest bit of a key, so these two agree on the same secrets with everybody.
    let mut fleet = fleet();
    let (honest, mut clients) = closed(&mut fleet);
    let (_, victim) = clients.pop_first().expect("somebody");
    let mut adverts = neighbours(&honest, victim.advert());
    let mut copy = copied(&fleet, &adverts[4], &adverts[1], KeyKind::Channel);
    let client = copy.client();
    copy.channel_key[31] |= 0x80;
    copy.signature = identity_of(&fleet, client).sign(&copy.payload());
    let copy = Arc::new(copy);
    assert_eq!(
        fleet.server().accept(Arc::clone(&copy), NOW),
        Err(ServerError::UselessKey { client }),
        "the server"
    );
    let mut list = (**honest.list()).clone();
    let entry = list.entries.iter_mut().find(|entry| entry.client == client);
    entry.expect("in the list").advert = copy.digest();
    adverts[4] = copy;
    assert_eq!(
        victim.share(&list, &adverts, NOW).expect_err("a lie"),
        ClientError::UselessKey { client },
        "a neighbour"
    );
}

#[test]
fn whoever_only_knows_a_public_identity_key_does_not_keep_its_owner_out() {
    // The root was talked into certifying an honest client's key under another id. Without the secret nothing can be signed
    // with it, so the copy is refused and the owner comes in after it.
    let mut fleet = fleet();
    let clients = fleet.advertise();
    let ids: Vec<ClientId> = clients.keys().copied().collect();
    let (owner, thief) = (clients[&ids[1]].advert(), clients[&ids[6]].advert());
    let mut copy = copied(&fleet, thief, owner, KeyKind::Identity);
    copy.signature = identity_of(&fleet, ids[6]).sign(&copy.payload());
    let mut server = fleet.server();
    assert_eq!(
        server.accept(Arc::new(copy), NOW),
        Err(ServerError::Signature { client: ids[6], step: Step::Advertise })
    );
    assert_eq!(server.accept(Arc::clone(owner), NOW), Ok(Receipt::Accepted));
}

#[test]
fn the_round_goes_on_without_the_second_identity() {
    // One client's certificate is for another's key, so it never gets beyond Advertise.
    let mut fleet = fleet();
    let inputs = inputs(&mut fleet);
    let (own, other) = (fleet.setups[5].certificate.clone(), fleet.setups[2].clone());
    fleet.setups[5].certificate = fleet.root.certify(own.client, other.identity.public_key(), own.not_after);
    fleet.setups[5].identity = Arc::clone(&other.identity);
    let mut server = fleet.server();
    let mut refused = Vec::new();
    for (id, client) in fleet.advertise() {
        if server.accept(Arc::clone(client.advert()), NOW).is_err() {
            refused.push(id);
        }
    }
    let expected = own.client.max(other.certificate.client);
    assert_eq!(refused, [expected], "whoever comes second, here in the order of ids");
    fleet.setups.retain(|setup| setup.certificate.client != expected);
    let survivors: Vec<ClientId> = inputs.keys().copied().filter(|id| *id != expected).collect();
    let sum = run(&mut fleet, &inputs, &Leaving::default()).expect("seven are enough");
    assert_eq!(sum.survivors, survivors);
    assert_eq!(sum.vector, plain_sum(&inputs, &survivors));
}

#[test]
fn a_client_refuses_a_cohort_in_which_two_members_have_one_key() {
    // The server, which colludes, admits them all the same. The other is a neighbour, or the client itself.
    for key in KINDS {
        for with_own in [false, true] {
            let mut fleet = fleet();
            let (server, mut clients) = closed(&mut fleet);
            let (id, victim) = clients.pop_first().expect("somebody");
            let mut adverts = neighbours(&server, victim.advert());
            let other = if with_own { Arc::clone(victim.advert()) } else { Arc::clone(&adverts[1]) };
            let copy = copied(&fleet, &adverts[4], &other, key);
            let client = copy.client();
            let mut list = (**server.list()).clone();
            let entry = list.entries.iter_mut().find(|entry| entry.client == client);
            entry.expect("in the list").advert = copy.digest();
            adverts[4] = Arc::new(copy);
            let fault = AdvertFault::SharedKey { client, other: other.client(), key };
            assert_eq!(with_own, other.client() == id);
            assert_eq!(victim.share(&list, &adverts, NOW).expect_err("a lie"), ClientError::Advert(fault));
        }
    }
}
