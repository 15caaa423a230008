//! A fleet in one process: real clients and a real server, with a switch for whatever a test wants to break. Must never take
//! a short cut around the messages.

use rand_chacha::ChaCha20Rng;
use rand_core::{Rng as _, SeedableRng as _};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tacit_aggregation::client::{Advertised, ClientError, ClientSetup, Confirmed, Finished, Masked, Shared};
use tacit_aggregation::identity::{ClientId, IdentityKey, IdentityRoot};
use tacit_aggregation::messages::{Advert, MaskedUpload, ShareMessage};
use tacit_aggregation::params::{Floors, RoundTerms, TaskName, ThreatModel};
use tacit_aggregation::ring_vector::RingVector;
use tacit_aggregation::server::{
    self, Abort, Advertise, Collect, Confirm, Share, Sum, Summation, Unmask, VectorSummary,
};

/// The time at which everything happens, before any certificate expires.
pub(crate) const NOW: u64 = 1_700_000_000;

/// The parent model that everybody trained on.
pub(crate) const PARENT: [u8; 32] = [2; 32];

pub(crate) fn terms(threat: ThreatModel, n: u32, bits: u8, dimension: u32) -> RoundTerms {
    RoundTerms {
        roster: None,
        task: TaskName::new("rust-completion").expect("a plain name"),
        round: 7,
        plan: [1; 32],
        parents: vec![PARENT, [3; 32]],
        ledger_head: [4; 32],
        dimension,
        bits,
        threat,
        corrupt_bp: 500,
        dropout_bp: 2_000,
        correctness_bits: 20,
        cohort_min: 3,
        cohort_max: n.max(3),
        n_min: 2,
    }
}

/// Clients of one organisation.
pub(crate) struct Fleet {
    pub(crate) terms: Arc<RoundTerms>,
    pub(crate) root: IdentityRoot,
    pub(crate) setups: Vec<ClientSetup>,
    pub(crate) rng: ChaCha20Rng,
}

impl Fleet {
    pub(crate) fn new(n: u32, terms: RoundTerms, seed: u64) -> Self {
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        let root = IdentityRoot::generate(&mut rng);
        let terms = Arc::new(terms);
        let setups = (0..n)
            .map(|_| {
                let identity = Arc::new(IdentityKey::generate(&mut rng));
                let client = ClientId::random(&mut rng);
                ClientSetup {
                    membership: None,
                    terms: Arc::clone(&terms),
                    floors: Floors {
                        n_min: 2,
                        corrupt_bp: 0,
                        threat: ThreatModel::HonestButCurious,
                        roster: false,
                    },
                    root: root.public_key(),
                    certificate: root.certify(client, identity.public_key(), NOW + 1),
                    identity,
                    parent: PARENT,
                }
            })
            .collect();
        Self { terms, root, setups, rng }
    }

    pub(crate) fn advertise(&mut self) -> BTreeMap<ClientId, Advertised> {
        self.setups
            .iter()
            .map(|setup| {
                let state = Advertised::new(setup.clone(), NOW, &mut self.rng).expect("the plan is fine");
                (state.advert().client(), state)
            })
            .collect()
    }

    pub(crate) fn server(&self) -> Advertise {
        Advertise::new(Arc::clone(&self.terms), self.root.public_key()).expect("the terms are fine")
    }

    /// A random vector of the round's shape.
    pub(crate) fn vector(&mut self) -> RingVector {
        let bits = self.terms.bits;
        let values: Vec<u32> =
            (0..self.terms.dimension).map(|_| self.rng.next_u32() >> (32 - bits)).collect();
        RingVector::new(bits, &values).expect("reduced")
    }
}

/// Everything up to the end of Advertise.
pub(crate) fn closed(fleet: &mut Fleet) -> (Share, BTreeMap<ClientId, Advertised>) {
    let clients = fleet.advertise();
    let mut server = fleet.server();
    for client in clients.values() {
        assert_eq!(server.accept(Arc::clone(client.advert()), NOW), Ok(server::Receipt::Accepted));
    }
    (server.close().expect("feasible"), clients)
}

/// One client's step into Share, with what an honest server shows it.
pub(crate) fn share_one(
    server: &Share,
    client: Advertised,
) -> Result<(Shared, Arc<ShareMessage>), ClientError> {
    let neighbours = neighbours(server, client.advert());
    client.share(server.list(), &neighbours, NOW)
}

pub(crate) fn neighbours(server: &Share, advert: &Advert) -> Vec<Arc<Advert>> {
    server.adverts_for(advert.client()).expect("in the cohort")
}

/// Who leaves, and when: a client in `share` advertises but does not share, and so on.
#[derive(Clone, Debug, Default)]
pub(crate) struct Leaving {
    pub(crate) share: BTreeSet<ClientId>,
    pub(crate) collect: BTreeSet<ClientId>,
    pub(crate) confirm: BTreeSet<ClientId>,
    pub(crate) unmask: BTreeSet<ClientId>,
}

/// A round as far as it got.
pub(crate) struct Progress<S, C> {
    pub(crate) server: S,
    pub(crate) clients: BTreeMap<ClientId, C>,
}

pub(crate) fn shared(
    fleet: &mut Fleet,
    leaving: &BTreeSet<ClientId>,
) -> Result<Progress<Collect, Shared>, Abort> {
    let (mut server, advertised) = closed(fleet);
    let mut clients = BTreeMap::new();
    for (id, client) in advertised {
        if leaving.contains(&id) {
            continue;
        }
        let (client, message) = share_one(&server, client).expect("an honest server");
        assert_eq!(server.accept(message), Ok(server::Receipt::Accepted));
        clients.insert(id, client);
    }
    Ok(Progress { server: server.close()?, clients })
}

/// A client that has masked, and what it sent.
pub(crate) struct Uploaded {
    pub(crate) client: Masked,
    pub(crate) upload: MaskedUpload,
}

pub(crate) fn mask_all(
    progress: Progress<Collect, Shared>,
    inputs: &BTreeMap<ClientId, RingVector>,
    leaving: &BTreeSet<ClientId>,
) -> Progress<Collect, Uploaded> {
    let Progress { mut server, clients } = progress;
    let mut uploaded = BTreeMap::new();
    for (id, client) in clients {
        if leaving.contains(&id) {
            continue;
        }
        let Ok(deliveries) = server.deliveries(id) else { continue };
        let (client, upload) = client.mask(&deliveries, inputs[&id].clone()).expect("an honest server");
        assert_eq!(
            server.accept(&upload.header, &VectorSummary::of(&upload.packed)),
            Ok(server::Receipt::Accepted)
        );
        uploaded.insert(id, Uploaded { client, upload });
    }
    Progress { server, clients: uploaded }
}

/// A server that waits for confirmations, the running sum, and the clients.
pub(crate) struct Collected {
    pub(crate) server: Confirm,
    pub(crate) summation: Summation,
    pub(crate) clients: BTreeMap<ClientId, Masked>,
}

pub(crate) fn close_collect(progress: Progress<Collect, Uploaded>) -> Result<Collected, Abort> {
    let Progress { server, clients } = progress;
    let (server, mut summation) = server.close()?;
    let survivors: Vec<ClientId> = server.survivors().collect();
    let mut masked = BTreeMap::new();
    for (id, Uploaded { client, upload }) in clients {
        if survivors.contains(&id) {
            summation.add(id, &upload.packed).expect("the stored vector");
            masked.insert(id, client);
        }
    }
    Ok(Collected { server, summation, clients: masked })
}

pub(crate) fn confirm_all(
    collected: Collected,
    leaving: &BTreeSet<ClientId>,
) -> Result<(Progress<Unmask, Confirmed>, Summation), Abort> {
    let Collected { mut server, summation, clients } = collected;
    let maps = server.maps().clone();
    let mut confirmed = BTreeMap::new();
    for (id, client) in clients {
        if leaving.contains(&id) {
            continue;
        }
        let (client, confirm) = client.confirm(&maps).expect("an honest server");
        assert_eq!(server.accept(&confirm), Ok(server::Receipt::Accepted));
        confirmed.insert(id, client);
    }
    Ok((Progress { server: server.close()?, clients: confirmed }, summation))
}

pub(crate) fn unmask_all(
    progress: Progress<Unmask, Confirmed>,
    summation: Summation,
    leaving: &BTreeSet<ClientId>,
) -> Result<(Sum, BTreeMap<ClientId, Finished>), Abort> {
    let Progress { mut server, clients } = progress;
    let mut finished = BTreeMap::new();
    for (id, client) in clients {
        if leaving.contains(&id) {
            continue;
        }
        let Ok(request) = server.request_for(id) else { continue };
        let (client, shares) = client.unmask(&request).expect("an honest server");
        assert_eq!(server.accept(&shares), Ok(server::Receipt::Accepted));
        finished.insert(id, client);
    }
    Ok((server.close(summation.finish()?)?, finished))
}

/// A whole honest round in which some clients leave.
pub(crate) fn run(
    fleet: &mut Fleet,
    inputs: &BTreeMap<ClientId, RingVector>,
    leaving: &Leaving,
) -> Result<Sum, Abort> {
    let progress = shared(fleet, &leaving.share)?;
    let collected = close_collect(mask_all(progress, inputs, &leaving.collect))?;
    let (progress, summation) = confirm_all(collected, &leaving.confirm)?;
    Ok(unmask_all(progress, summation, &leaving.unmask)?.0)
}

/// One random vector per client.
pub(crate) fn inputs(fleet: &mut Fleet) -> BTreeMap<ClientId, RingVector> {
    let ids: Vec<ClientId> = fleet.setups.iter().map(|setup| setup.certificate.client).collect();
    ids.into_iter().map(|id| (id, fleet.vector())).collect()
}

/// The plain sum of some clients' vectors.
pub(crate) fn plain_sum<'a>(
    inputs: &BTreeMap<ClientId, RingVector>,
    of: impl IntoIterator<Item = &'a ClientId>,
) -> RingVector {
    let mut vectors = of.into_iter().map(|id| &inputs[id]);
    let mut sum = vectors.next().expect("somebody").clone();
    vectors.for_each(|vector| sum.add(vector).expect("same shape"));
    sum
}
