//! An envelope whose bytes a neighbour chooses and signs: its receiver opens it with its own key. Must never let any bytes but
//! the genuine ones pass, nor stop the receiver from going on with its other neighbours.

use std::sync::{Arc, OnceLock};
use tacit_aggregation::client::{Advertised, ClientError, ClientSetup, RoundSecrets};
use tacit_aggregation::identity::{ClientId, IdentityKey, IdentityRoot};
use tacit_aggregation::messages::{Advert, CIPHERTEXT_BYTES, CohortList, ShareMessage};
use tacit_aggregation::params::{Floors, RoundTerms, TaskName, ThreatModel};
use tacit_aggregation::ring_vector::RingVector;
use tacit_aggregation::server::{Advertise, Share};

const MEMBERS: u64 = 5;
/// Place of the neighbour that chooses the bytes; the receiver is the first member.
const SENDER: usize = 2;

/// A round of five, as far as the deliveries to its first member.
struct Cohort {
    setups: Vec<ClientSetup>,
    list: Arc<CohortList>,
    adverts: Vec<Arc<Advert>>,
    messages: Vec<Arc<ShareMessage>>,
    server: Share,
}

pub(super) fn setups() -> Vec<ClientSetup> {
    let root = IdentityRoot::from_bytes(&[0x50; 32]);
    let terms = Arc::new(RoundTerms {
        roster: None,
        task: TaskName::new("envelopes").expect("a plain name"),
        round: 1,
        plan: [1; 32],
        parents: vec![[2; 32]],
        ledger_head: [3; 32],
        dimension: 4,
        bits: 16,
        threat: ThreatModel::SemiMalicious,
        corrupt_bp: 0,
        dropout_bp: 2_000,
        correctness_bits: 20,
        cohort_min: 3,
        cohort_max: MEMBERS as u32,
        n_min: 2,
    });
    let setup = |client: u64| {
        let identity = IdentityKey::from_bytes(&[0x60 + client as u8; 32]);
        ClientSetup {
            membership: None,
            terms: Arc::clone(&terms),
            floors: Floors::default(),
            root: root.public_key(),
            certificate: root.certify(ClientId(client), identity.public_key(), u64::MAX),
            identity: Arc::new(identity),
            parent: [2; 32],
        }
    };
    (1..=MEMBERS).map(setup).collect()
}

pub(super) fn secrets(setup: &ClientSetup) -> RoundSecrets {
    let mut stored = [setup.certificate.client.0 as u8; RoundSecrets::BYTES];
    stored[63] = 0;
    RoundSecrets::from_bytes(&stored).expect("a canonical scalar")
}

fn advertised(setup: &ClientSetup) -> Advertised {
    Advertised::resume(setup.clone(), secrets(setup), 0).expect("the plan is fine")
}

fn cohort() -> &'static Cohort {
    static COHORT: OnceLock<Cohort> = OnceLock::new();
    COHORT.get_or_init(|| {
        let setups = setups();
        let mut server = Advertise::new(Arc::clone(&setups[0].terms), setups[0].root).expect("fine terms");
        for setup in &setups {
            server.accept(Arc::clone(advertised(setup).advert()), 0).expect("honest");
        }
        let server = server.close().expect("feasible");
        let list = Arc::clone(server.list());
        let shown = |setup: &ClientSetup| server.adverts_for(setup.certificate.client).expect("a member");
        let share = |setup: &ClientSetup| advertised(setup).share(&list, &shown(setup), 0).expect("honest").1;
        let messages = setups.iter().map(share).collect();
        Cohort { adverts: shown(&setups[0]), list, messages, setups, server }
    })
}

/// The envelope that the sender sealed for the receiver.
pub(super) fn genuine() -> Vec<u8> {
    cohort().messages[SENDER].envelopes[0].ciphertext.to_vec()
}

pub(super) fn check(bytes: &[u8]) -> bool {
    let Ok(ciphertext) = <[u8; CIPHERTEXT_BYTES]>::try_from(bytes) else { return false };
    let Cohort { setups, list, adverts, messages, server } = cohort();
    let receiver = setups[0].certificate.client;
    let deliveries: Vec<_> = messages
        .iter()
        .enumerate()
        .skip(1)
        .map(|(place, message)| {
            let mut message = (**message).clone();
            assert_eq!(message.envelopes[0].to, receiver);
            if place == SENDER {
                message.envelopes[0].ciphertext = ciphertext;
                message.signature = setups[place].identity.sign(&message.payload(server.context()));
            }
            message.delivery(&message.envelope_tree(), 0).expect("an envelope")
        })
        .collect();
    let (state, _) = advertised(&setups[0]).share(list, adverts, 0).expect("honest");
    let input = RingVector::new(16, &[1, 2, 3, 4]).expect("fits");
    let (masked, upload) = state.mask(&deliveries, input).expect("the others are enough");
    let accepted = upload.header.refused.is_empty();
    assert_eq!(accepted, bytes == genuine(), "only what was sealed under the key opens");
    let from = setups[SENDER].certificate.client;
    let named: Vec<ClientError> = masked.bad_shares().collect();
    assert_eq!(named, if accepted { vec![] } else { vec![ClientError::BadShare { from }] });
    accepted
}
