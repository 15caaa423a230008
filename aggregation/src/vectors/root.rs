//! Known answers for what the identity root signs: lists of revoked clients, rosters; and who is eligible. Must never be
//! checked by the code alone that wrote them.

use crate::identity::{ClientId, IdentityRoot, Rate, Roster, eligible, ticket};
use serde_json::{Value, json};

/// Numbers out of order, the least and the greatest among them.
const CLIENTS: [u64; 5] = [70, 0, u64::MAX, 3, 1_000];
const PERIOD: u64 = 9;

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
    let signed = root.sign_roster(4, &roster, 1_700_000_000, 1_702_592_000);
    let proof = |client: &ClientId| {
        let membership = roster.prove(*client).expect("listed");
        let path: Vec<String> = membership.path.iter().map(hex::encode).collect();
        json!({
            "client": client.to_string(), "index": membership.index, "path": path,
            "ticket": hex::encode(ticket(&signed.root, PERIOD, *client)),
        })
    };
    json!({
        "secret": hex::encode(root.to_bytes().as_slice()),
        "revocations": {
            "number": list.number, "clients": names(&list.clients),
            "payload": hex::encode(list.payload()), "signature": hex::encode(list.signature.0),
        },
        "roster": {
            "epoch": signed.epoch, "root": hex::encode(signed.root), "not_before": signed.not_before,
            "not_after": signed.not_after, "payload": hex::encode(signed.payload()),
            "signature": hex::encode(signed.signature.0), "period": PERIOD,
            "members": roster.clients().iter().map(proof).collect::<Vec<_>>(),
        },
    })
}

#[test]
fn a_ticket_in_the_file_decides_who_is_eligible() {
    let stored = super::tests::stored();
    let roster = &stored["forms"]["root"]["roster"];
    let digest = |value: &Value| -> [u8; 32] {
        hex::decode(value.as_str().expect("a string")).expect("hexadecimal").try_into().expect("32 bytes")
    };
    let members = roster["members"].as_array().expect("a list");
    assert_eq!(members.len(), CLIENTS.len());
    for member in members {
        let client = ClientId(member["client"].as_str().expect("a string").parse().expect("a number"));
        let first = u64::from_be_bytes(*digest(&member["ticket"]).first_chunk().expect("8 bytes"));
        let admits = |rate: Rate| eligible(&digest(&roster["root"]), PERIOD, client, rate);
        // The lowest rate above the ticket, give or take the rounding of a quotient, and the highest below it.
        let rate = |part: u64| Rate::new(part, u64::MAX).expect("a rate");
        assert!(admits(rate(first.saturating_add(2))));
        assert!(!admits(rate(first - 2)));
    }
}
