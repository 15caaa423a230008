//! Known answers for what the identity root signs: lists of revoked clients, rosters; and who is eligible. Must never be
//! checked by the code alone that wrote them.

use crate::identity::{ClientId, EpochTerms, IdentityRoot, Rate, Roster, SignedRoster, ticket};
use serde_json::{Value, json};

/// Numbers out of order, the least and the greatest among them.
const CLIENTS: [u64; 5] = [70, 0, u64::MAX, 3, 1_000];
const PERIOD: u64 = 9;

fn signed(rate: Rate) -> SignedRoster {
    let epoch = EpochTerms {
        number: 4,
        not_before: 1_700_000_000,
        not_after: 1_702_591_999,
        period_seconds: std::num::NonZeroU64::new(86_400).expect("not zero"),
        rate,
        seed: [0x17; 32],
    };
    root().sign_roster(&Roster::new(clients()), epoch)
}

fn root() -> IdentityRoot {
    IdentityRoot::from_bytes(&[0x42; 32])
}

fn clients() -> Vec<ClientId> {
    CLIENTS.map(ClientId).to_vec()
}

fn names(clients: &[ClientId]) -> Vec<String> {
    clients.iter().map(ToString::to_string).collect()
}

pub(super) fn root_forms() -> Value {
    let root = root();
    let list = root.revoke(6, clients());
    let roster = Roster::new(clients());
    let signed = signed(Rate::new(1, 3).expect("a rate"));
    let proof = |client: &ClientId| {
        let membership = roster.prove(*client).expect("listed");
        let path: Vec<String> = membership.path.iter().map(hex::encode).collect();
        json!({
            "client": client.to_string(), "index": membership.index, "path": path,
            "ticket": hex::encode(ticket(&signed.digest(), PERIOD, *client)), "drawn": signed.draws(PERIOD, *client),
        })
    };
    json!({
        "secret": hex::encode(root.to_bytes().as_slice()),
        "revocations": {
            "number": list.number, "clients": names(&list.clients),
            "payload": hex::encode(list.payload()), "signature": hex::encode(list.signature.0),
        },
        "roster": {
            "epoch": signed.epoch.number, "root": hex::encode(signed.root), "not_before": signed.epoch.not_before,
            "not_after": signed.epoch.not_after, "period_seconds": signed.epoch.period_seconds,
            "rate": signed.epoch.rate.parts().to_string(), "seed": hex::encode(signed.epoch.seed),
            "payload": hex::encode(signed.payload()), "digest": hex::encode(signed.digest()),
            "signature": hex::encode(signed.signature.0), "period": PERIOD,
            "members": roster.clients().iter().map(proof).collect::<Vec<_>>(),
        },
    })
}

#[test]
fn a_ticket_in_the_file_decides_who_is_drawn() {
    let stored = super::tests::stored();
    let roster = &stored["forms"]["root"]["roster"];
    let members = roster["members"].as_array().expect("a list");
    assert_eq!(members.len(), CLIENTS.len());
    // q of the file, in parts of 2^-64 less one.
    let rate: u64 = roster["rate"].as_str().expect("a string").parse().expect("a number");
    let digest = |value: &Value| -> [u8; 32] {
        hex::decode(value.as_str().expect("a string")).expect("hexadecimal").try_into().expect("32 bytes")
    };
    let mut drawn = 0;
    for member in members {
        let first = u64::from_be_bytes(*digest(&member["ticket"]).first_chunk().expect("8 bytes"));
        assert_eq!(member["drawn"], json!(first <= rate));
        drawn += usize::from(first <= rate);
    }
    assert!((1..CLIENTS.len()).contains(&drawn), "{drawn} of them are drawn");
}
