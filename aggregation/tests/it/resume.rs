//! A crash at any instant: secrets and stored messages bring both sides back to the same states and the same answers.

use crate::fleet::{Fleet, NOW, Progress, inputs, neighbours, plain_sum, terms};
use std::collections::BTreeMap;
use std::sync::Arc;
use tacit_aggregation::client::{Advertised, ClientSetup, RoundSecrets};
use tacit_aggregation::messages::{
    Advert, CohortList, Confirm, MaskedUpload, ShareDelivery, ShareMessage, SurvivorMaps, UnmaskRequest,
    UnmaskShares,
};
use tacit_aggregation::params::ThreatModel;
use tacit_aggregation::ring_vector::RingVector;

/// What a client stores.
struct Journal {
    setup: ClientSetup,
    secrets: [u8; RoundSecrets::BYTES],
    input: RingVector,
    list: Arc<CohortList>,
    adverts: Vec<Arc<Advert>>,
    deliveries: Vec<ShareDelivery>,
    maps: SurvivorMaps,
    request: UnmaskRequest,
}

impl Journal {
    /// Everything that the client says in the round, from what it stored alone.
    fn replay(&self) -> (Arc<Advert>, Arc<ShareMessage>, MaskedUpload, Confirm, UnmaskShares) {
        let secrets = RoundSecrets::from_bytes(&self.secrets).expect("stored secrets");
        let state = Advertised::resume(self.setup.clone(), secrets, NOW).expect("the plan is fine");
        let advert = Arc::clone(state.advert());
        let (state, shares) = state.share(&self.list, &self.adverts, NOW).expect("accepted before");
        let (state, upload) = state.mask(&self.deliveries, self.input.clone()).expect("accepted before");
        let (state, confirm) = state.confirm(&self.maps).expect("accepted before");
        let (_, unmask) = state.unmask(&self.request).expect("accepted before");
        (advert, shares, upload, confirm, unmask)
    }
}

#[test]
fn both_sides_come_back_with_the_same_answers() {
    let n = 11;
    let mut fleet = Fleet::new(n, terms(ThreatModel::SemiMalicious, n, 12, 9), 14);
    let inputs = inputs(&mut fleet);
    let mut advertise = fleet.server();
    let advertised = fleet.advertise();
    let mut secrets = BTreeMap::new();
    for (id, client) in &advertised {
        secrets.insert(*id, *client.secrets().to_bytes());
        advertise.accept(Arc::clone(client.advert()), NOW).expect("honest");
    }
    let mut share = advertise.close().expect("feasible");
    let list = Arc::clone(share.list());
    let mut clients = BTreeMap::new();
    let mut said = BTreeMap::new();
    let mut adverts = BTreeMap::new();
    for (id, client) in advertised {
        let advert = Arc::clone(client.advert());
        let shown = neighbours(&share, &advert);
        let (client, message) = client.share(&list, &shown, NOW).expect("honest");
        share.accept(Arc::clone(&message)).expect("honest");
        adverts.insert(id, shown);
        said.insert(id, (advert, message));
        clients.insert(id, client);
    }
    let mut collect = share.close().expect("everybody shared");
    let mut deliveries = BTreeMap::new();
    let mut uploads = BTreeMap::new();
    let mut masked = BTreeMap::new();
    for (id, client) in clients {
        let shown = collect.deliveries(id).expect("shared");
        let (client, upload) = client.mask(&shown, inputs[&id].clone()).expect("honest");
        collect.accept(&upload.header, &upload.packed).expect("honest");
        deliveries.insert(id, shown);
        uploads.insert(id, upload);
        masked.insert(id, client);
    }
    let (mut confirm, mut summation) = collect.close().expect("everybody survived");
    let maps = confirm.maps().clone();
    let mut confirmations = BTreeMap::new();
    let mut confirmed = BTreeMap::new();
    for (id, client) in masked {
        summation.add(id, &uploads[&id].packed).expect("honest");
        let (client, message) = client.confirm(&maps).expect("honest");
        confirm.accept(&message).expect("honest");
        confirmations.insert(id, message);
        confirmed.insert(id, client);
    }
    let progress = Progress { server: confirm.close().expect("everybody confirmed"), clients: confirmed };
    let mut unmask = progress.server;
    let mut replayed = 0;
    // The server comes back from its stored messages, in another order, and ends with the same sum.
    let mut again = fleet.server();
    for (advert, _) in said.values().rev() {
        again.accept(Arc::clone(advert), NOW).expect("stored");
    }
    let mut again = again.close().expect("feasible");
    for (_, message) in said.values().rev() {
        again.accept(Arc::clone(message)).expect("stored");
    }
    let mut again = again.close().expect("everybody shared");
    for upload in uploads.values().rev() {
        again.accept(&upload.header, &upload.packed).expect("stored");
    }
    let (mut again, mut summation_again) = again.close().expect("everybody survived");
    for (id, upload) in uploads.iter().rev() {
        summation_again.add(*id, &upload.packed).expect("stored");
    }
    for message in confirmations.values().rev() {
        again.accept(message).expect("stored");
    }
    let mut again = again.close().expect("everybody confirmed");

    for (id, client) in progress.clients {
        let request = unmask.request_for(id).expect("confirmed");
        assert_eq!(again.request_for(id), Ok(request.clone()));
        let (_, answer) = client.unmask(&request).expect("honest");
        unmask.accept(&answer).expect("honest");
        again.accept(&answer).expect("stored");
        let setup = fleet.setups.iter().find(|setup| setup.certificate.client == id).expect("there");
        let journal = Journal {
            setup: setup.clone(),
            secrets: secrets[&id],
            input: inputs[&id].clone(),
            list: Arc::clone(&list),
            adverts: adverts[&id].clone(),
            deliveries: deliveries[&id].clone(),
            maps: maps.clone(),
            request,
        };
        let (advert, message) = said[&id].clone();
        assert_eq!(
            journal.replay(),
            (advert, message, uploads[&id].clone(), confirmations[&id].clone(), answer)
        );
        replayed += 1;
    }
    assert_eq!(replayed, n);
    let sum = unmask.close(summation.finish().expect("all added")).expect("complete");
    let sum_again = again.close(summation_again.finish().expect("all added")).expect("complete");
    assert_eq!(sum.vector, plain_sum(&inputs, inputs.keys()));
    assert_eq!(sum.vector, sum_again.vector);
}

#[test]
fn secrets_are_drawn_afresh_and_not_printed() {
    let mut fleet = Fleet::new(4, terms(ThreatModel::SemiMalicious, 4, 12, 9), 15);
    let (first, second) = (fleet.advertise(), fleet.advertise());
    for (id, client) in &first {
        let bytes = client.secrets().to_bytes();
        let other = second[id].secrets().to_bytes();
        assert!(bytes.chunks(32).zip(other.chunks(32)).all(|(one, other)| one != other));
        let shown = format!("{client:?}");
        let secret = hex::encode(&bytes[..96]);
        let decimal = format!("{}, {}, {}", bytes[0], bytes[1], bytes[2]);
        assert!(shown.contains("redacted"));
        assert!(!shown.contains(&secret[..12]) && !shown.contains(&decimal));
    }
}
