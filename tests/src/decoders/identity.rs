//! What crosses between the identity root's machine, the coordinator and its clients. Must never take a certificate for one that
//! the root has not signed.

use super::{Decoder, ROOT_KEY, stored};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt::Debug;
use tacit_aggregation::identity::{IdentityRoot, PublicKey, RevocationList};
use tacit_coordinator::identity::x509::{Claims, client_certificate};
use tacit_coordinator::identity::{
    Admission, Appointment, Issued, RestartForm, RestoredHead, Revocations, Roll,
};
use tacit_privacy::ledger::restart::SignedRestart;

pub(super) const DECODERS: &[Decoder] = &[
    Decoder { name: "admission", longest: 2 << 10, check: admission },
    Decoder { name: "appointment", longest: 4 << 10, check: appointment },
    Decoder { name: "issued", longest: 4 << 10, check: issued },
    Decoder { name: "restart", longest: 2 << 10, check: restart },
    Decoder { name: "restored_head", longest: 2 << 10, check: restored_head },
    Decoder { name: "revocations", longest: 2 << 10, check: revocations },
    Decoder { name: "roll", longest: 2 << 10, check: roll },
    Decoder { name: "transport_certificate", longest: 2 << 10, check: transport_certificate },
];

/// A root that has signed nothing.
const STRANGER: PublicKey = PublicKey([9; 32]);

/// Reads JSON. None of these forms holds a real number: what was read is written as JSON that is read as the same.
fn exactly<T: Serialize + DeserializeOwned + PartialEq + Debug>(bytes: &[u8]) -> Option<T> {
    let value: T = stored::json(bytes)?;
    let text = serde_json::to_string(&value).expect("what was read can be written");
    assert_eq!(serde_json::from_str::<T>(&text).expect("its own form"), value);
    Some(value)
}

fn admission(bytes: &[u8]) -> bool {
    exactly::<Admission>(bytes).is_some_and(|admission| admission.same(&admission))
}

fn appointment(bytes: &[u8]) -> bool {
    let Some(appointment) = exactly::<Appointment>(bytes) else { return false };
    if appointment.verify().is_ok() {
        let other = Appointment { coordinator: STRANGER.0, ..appointment };
        assert!(other.verify().is_err(), "one signature appoints two coordinators");
    }
    true
}

fn issued(bytes: &[u8]) -> bool {
    let Some(issued) = exactly::<Issued>(bytes) else { return false };
    transport_certificate(&issued.transport_certificate);
    true
}

fn restart(bytes: &[u8]) -> bool {
    let Some(form) = exactly::<RestartForm>(bytes) else { return false };
    let signed = SignedRestart::from(form.clone());
    assert_eq!(SignedRestart::from_bytes(&signed.to_bytes()), signed);
    if let Ok(restart) = signed.verify(&root().public_key().0) {
        assert_eq!((restart.number, restart.size), (form.number, form.size));
        assert!(signed.verify(&STRANGER.0).is_err(), "one signature is of two roots");
    }
    assert_eq!(RestartForm::from(signed), form);
    true
}

fn restored_head(bytes: &[u8]) -> bool {
    let Some(form) = exactly::<RestoredHead>(bytes) else { return false };
    if let Ok(head) = form.verify() {
        assert_eq!((head.size, head.root, head.time), (form.size, form.root, form.time));
        let other = RestoredHead { coordinator: STRANGER.0, ..form };
        assert!(other.verify().is_err(), "one signature is of two coordinators");
    }
    true
}

fn revocations(bytes: &[u8]) -> bool {
    let Some(form) = exactly::<Revocations>(bytes) else { return false };
    let list = RevocationList::from(form.clone());
    if list.verify(&root().public_key(), None).is_ok() {
        assert!(list.clients.is_sorted_by(|one, next| one < next), "a signed list is in order");
        assert!(form.clients.iter().all(|client| list.revokes(*client)));
        assert!(list.verify(&STRANGER, None).is_err(), "one signature is of two roots");
    }
    assert_eq!(Revocations::from(list), form);
    true
}

fn roll(bytes: &[u8]) -> bool {
    let Some(roll) = exactly::<Roll>(bytes) else { return false };
    let signed = roll.signed();
    assert_eq!(signed.size, roll.clients.len() as u64);
    if signed.verify(&root().public_key(), roll.not_before).is_ok() {
        assert!(signed.verify(&STRANGER, roll.not_before).is_err(), "one signature is of two roots");
    }
    true
}

fn root() -> IdentityRoot {
    IdentityRoot::from_bytes(&ROOT_KEY)
}

/// What is read is what a certificate of the root with the same claims says, and only what the root signed is its.
fn transport_certificate(bytes: &[u8]) -> bool {
    let Some(claims) = Claims::read(bytes) else {
        assert_eq!(Claims::verified(bytes, &root().public_key()), None);
        return false;
    };
    assert_eq!(Claims::verified(bytes, &STRANGER), None, "of a root that has signed nothing");
    let own = client_certificate(&root(), claims.client, claims.transport_key, claims.not_after);
    // The last second of a certificate may be one that the root would not write.
    let own = own.ok().and_then(|own| Claims::verified(&own, &root().public_key()));
    assert!(own.is_none_or(|own| own == claims), "{own:?} in place of {claims:?}");
    if let Some(signed) = Claims::verified(bytes, &root().public_key()) {
        assert_eq!((signed, own), (claims, Some(claims)), "the root signs what it can read");
    }
    true
}
