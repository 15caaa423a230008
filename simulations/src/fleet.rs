//! The simulated clients: one for each training developer, with an identity, a budget and its own text.
//! Must never let one client see another's text or budget.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use tacit_aggregation::identity::{ClientId, IdentityKey, IdentityRoot, PublicKey};
use tacit_aggregation::params::Floors;
use tacit_client::{Budget, Limits, Member};
use tacit_model::Tokenizer;
use tacit_model::dataset::TokenStream;
use tacit_proto::CoordinatorKey;

use crate::corpus::Developer;
use crate::error::SimulationError;
use crate::random::{Purpose, generator};
use crate::scenario::{Scenario, Trust};

/// Certificates outlast every simulation: the last second of the year 2999, Unix time.
const NOT_AFTER: u64 = 32_503_679_999;

/// One simulated client.
pub(crate) struct Client {
    /// Its developer's name.
    pub(crate) name: String,
    pub(crate) member: Member,
    pub(crate) budget: Budget,
    developer: Developer,
    text: OnceLock<TokenStream>,
}

/// All clients, and the keys that they trust.
pub(crate) struct Fleet {
    pub(crate) clients: Vec<Client>,
    pub(crate) coordinator: CoordinatorKey,
    pub(crate) root: PublicKey,
    /// The seed that keys and noise are drawn from.
    pub(crate) seed: u64,
    places: HashMap<ClientId, usize>,
}

impl Client {
    pub(crate) fn id(&self) -> ClientId {
        self.member.certificate.client
    }

    /// Its text as tokens, made when it is first asked for.
    pub(crate) fn text(&self, tokenizer: &Tokenizer) -> Result<&TokenStream, SimulationError> {
        if let Some(text) = self.text.get() {
            return Ok(text);
        }
        let stream = tokens([&self.developer].into_iter(), tokenizer)?;
        Ok(self.text.get_or_init(|| stream))
    }
}

/// The files of some developers as one stream of tokens, in their order.
pub(crate) fn tokens<'a>(
    developers: impl Iterator<Item = &'a Developer>,
    tokenizer: &Tokenizer,
) -> Result<TokenStream, SimulationError> {
    let files = developers.flat_map(|developer| &developer.files);
    let documents = files.map(|file| tokenizer.encode(&file.text)).collect::<Result<Vec<Vec<u32>>, _>>()?;
    Ok(TokenStream::new(documents.iter().map(Vec::as_slice), tokenizer.end_of_text())?)
}

impl Fleet {
    /// Draws keys and numbers, and certifies one client for each developer.
    pub(crate) fn new(
        scenario: &Scenario,
        developers: Vec<Developer>,
        base_model: [u8; 32],
    ) -> Result<Self, SimulationError> {
        let mut rng = generator(scenario.seed, Purpose::Identities, 0, 0);
        let root = IdentityRoot::generate(&mut rng);
        let coordinator = CoordinatorKey::generate(&mut rng);
        let limits = Limits {
            epsilon: scenario.privacy.epsilon_limit,
            delta: scenario.privacy.delta,
            floors: Floors {
                n_min: scenario.n_min(),
                corrupt_bp: scenario.cohort.corrupt.get(),
                threat: scenario.cohort.threat,
                roster: false,
            },
            adjacency: scenario.privacy.adjacency,
            // Whoever writes the scenario owns the clients too.
            allow_central: scenario.privacy.trust == Trust::Central,
            period: None,
            per_task: None,
        };
        let mut places = HashMap::with_capacity(developers.len());
        let mut clients = Vec::with_capacity(developers.len());
        for developer in developers {
            let mut id = ClientId::random(&mut rng);
            while places.contains_key(&id) {
                id = ClientId::random(&mut rng);
            }
            places.insert(id, clients.len());
            let identity = Arc::new(IdentityKey::generate(&mut rng));
            let certificate = root.certify(id, identity.public_key(), NOT_AFTER);
            let member = Member {
                membership: None,
                root: root.public_key(),
                coordinator: coordinator.public_key(),
                identity,
                certificate,
                base_model,
            };
            clients.push(Client {
                name: developer.name.clone(),
                member,
                budget: Budget::new(id, limits)?,
                developer,
                text: OnceLock::new(),
            });
        }
        Ok(Self { clients, coordinator, root: root.public_key(), seed: scenario.seed, places })
    }

    /// Where a client is in [`Fleet::clients`].
    pub(crate) fn place(&self, client: ClientId) -> Option<usize> {
        self.places.get(&client).copied()
    }

    /// The developers behind the clients, in their order.
    pub(crate) fn developers(&self) -> impl Iterator<Item = &Developer> {
        self.clients.iter().map(|client| &client.developer)
    }
}
