//! Ledger entries, mechanisms, cost curves and books. Must never let a damaged one be taken for cheaper than it is.

use super::{Decoder, EXPORT_KEY, number, stored};
use tacit_privacy::ledger::{Entry, Event, export, verify};
use tacit_privacy::{
    BasisPoints, CentralMechanism, CentralRequest, Mechanism, MechanismRequest, ParticipationBook, RdpCurve,
    RoundMechanism,
};
use tacit_proto::CoordinatorKey;

pub(super) const DECODERS: &[Decoder] = &[
    Decoder { name: "basis_points", longest: 64, check: basis_points },
    Decoder { name: "ledger_chain", longest: 4 << 10, check: ledger_chain },
    Decoder { name: "ledger_entry", longest: 1 << 10, check: ledger_entry },
    Decoder { name: "ledger_export", longest: 4 << 10, check: ledger_export },
    Decoder { name: "mechanism", longest: 1 << 10, check: mechanism },
    Decoder { name: "participation_book", longest: 32 << 10, check: participation_book },
    Decoder { name: "rdp_curve", longest: 32 << 10, check: rdp_curve },
];

fn basis_points(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    let Ok(points) = text.parse::<BasisPoints>() else { return false };
    assert!(points.get() <= 10_000);
    assert_eq!(points.to_string().parse::<BasisPoints>().map(BasisPoints::get), Ok(points.get()));
    true
}

fn ledger_entry(bytes: &[u8]) -> bool {
    let Ok(entry) = Entry::decode(bytes) else { return false };
    assert_eq!(entry.encode(), bytes, "each entry has one encoding");
    assert_eq!(Entry::decode(&entry.encode()).as_ref(), Ok(&entry));
    assert_eq!(entry.hash(), entry.clone().hash());
    // An entry by itself may be refused by the chain, but says why.
    let _ = verify(std::slice::from_ref(&entry));
    true
}

/// Entries, each preceded by its length.
fn ledger_chain(mut bytes: &[u8]) -> bool {
    let mut entries = Vec::new();
    while let Some(length) = number(&mut bytes) {
        let Some((encoded, rest)) = bytes.split_at_checked(length as usize) else { return false };
        let Ok(entry) = Entry::decode(encoded) else { return false };
        entries.push(entry);
        bytes = rest;
    }
    let Ok(ledger) = verify(&entries) else { return false };
    assert_eq!(ledger.size(), entries.len() as u64);
    // Each round that was opened has ended once, or is open.
    let opened = entries.iter().filter(|entry| matches!(entry.event, Event::Reserve(_))).count();
    let ended = entries.len() - opened - ledger.restarts().len();
    assert_eq!(opened, ended + ledger.open().count());
    if let Some(last) = entries.pop() {
        // Without its last entry, or with it twice, it is another chain or none.
        assert_ne!(verify(&entries).map(|ledger| ledger.head()), Ok(ledger.head()));
        entries.extend([last.clone(), last]);
        assert!(verify(&entries).is_err());
    }
    bytes.is_empty()
}

fn ledger_export(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    let coordinator = CoordinatorKey::from_bytes(&EXPORT_KEY).public_key();
    let Ok(audited) = export::verify(text, &coordinator.0) else { return false };
    let signed = audited.head.verify(&coordinator.0).expect("it was just verified");
    assert_eq!((signed.size, signed.root), (audited.ledger.size(), audited.ledger.tree().root()));
    // A ledger and its head have one export: nothing can be added at its ends.
    for other in [format!("{text}\n"), format!(" {text}"), text.trim_end().to_owned()] {
        assert!(export::verify(&other, &coordinator.0).is_err());
    }
    true
}

fn mechanism(bytes: &[u8]) -> bool {
    if let Some(request) = stored::json::<MechanismRequest>(bytes) {
        let _ = format!("{request:?}");
    }
    if let Some(request) = stored::json::<CentralRequest>(bytes) {
        let _ = format!("{request:?}");
    }
    let Some(mechanism) = stored::json::<RoundMechanism>(bytes) else { return false };
    let again = match &mechanism {
        RoundMechanism::Distributed(own) => {
            assert!(own.local_variance() >= 0.25);
            Mechanism::with_encoding(own.request(), own.bits(), own.scale()).map(RoundMechanism::from)
        }
        RoundMechanism::Central(own) => {
            CentralMechanism::with_encoding(own.request(), own.bits(), own.scale()).map(RoundMechanism::from)
        }
    };
    assert_eq!(again.as_ref(), Ok(&mechanism), "nothing but the request and the encoding is believed");
    assert!(mechanism.n_min() <= mechanism.clients());
    true
}

fn rdp_curve(bytes: &[u8]) -> bool {
    let Some(curve) = stored::either::<RdpCurve>(bytes) else { return false };
    if let Ok(epsilon) = curve.epsilon(1e-5) {
        assert!(epsilon >= 0.0, "{epsilon}");
    }
    let mut twice = curve.clone();
    twice.compose(&curve);
    let _ = twice.epsilon(1e-5);
    true
}

fn participation_book(bytes: &[u8]) -> bool {
    let Some(book) = stored::either::<ParticipationBook>(bytes) else { return false };
    let clients: Vec<(u64, u64)> = book.clients().collect();
    for &(client, rounds) in clients.iter().take(4) {
        assert_eq!(book.rounds_of(client), rounds);
        let _ = book.curve_of(client);
        if let Ok(epsilon) = book.epsilon_of(client, 1e-5) {
            assert!(epsilon >= 0.0, "{epsilon}");
        }
    }
    true
}
