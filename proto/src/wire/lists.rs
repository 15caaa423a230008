//! How many nested messages an encoded list has, counted before any is decoded. Must never let a list through that no cohort
//! makes: an empty entry costs two bytes on the wire, and hundreds in memory.

use super::DecodeError;
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};
use tacit_aggregation::params::MAX_COHORT;

/// A list of messages within a message: its name in errors, and the field numbers that lead to it.
type List = (&'static str, &'static [u32]);

const ADVERTS: &str = "CohortClosed.adverts";
const CONFIRMATIONS: &str = "UnmaskRequest.confirmations";
const DELIVERIES: &str = "ShareDeliveries.deliveries";
const PROVED_ENTRIES: &str = "RoundEntries.entries";
const PROVED_ROUNDS: &str = "LedgerProof.rounds";
const SHARES: &str = "UnmaskShares.shares";

/// Every list of messages in a message of this name; a test compares it with the .proto files.
fn lists_of(message: &str) -> &'static [List] {
    match message {
        "ClientMessage" => &[(SHARES, &[6, 2])],
        "ServerMessage" => &[(ADVERTS, &[1, 2]), (DELIVERIES, &[2, 1]), (CONFIRMATIONS, &[4, 2])],
        "ReceiveResponse" => &[(ADVERTS, &[1, 1, 2]), (DELIVERIES, &[1, 2, 1]), (CONFIRMATIONS, &[1, 4, 2])],
        "SendRequest" => &[(SHARES, &[2, 6, 2])],
        "CheckInRequest" => &[("CheckInRequest.ready", &[3])],
        "CheckInResponse" => {
            &[(PROVED_ROUNDS, &[2, 3]), (PROVED_ENTRIES, &[2, 3, 2]), ("CheckInResponse.offers", &[3])]
        }
        "LedgerProof" => &[(PROVED_ROUNDS, &[3]), (PROVED_ENTRIES, &[3, 2])],
        "ProveRequest" => &[("ProveRequest.rounds", &[2])],
        "UnmaskRequest" => &[(CONFIRMATIONS, &[2])],
        "UnmaskShares" => &[(SHARES, &[2])],
        _ => &[],
    }
}

/// Refuses an encoded message in which a list of messages is longer than the largest cohort makes it.
pub(super) fn check(message: &'static str, bytes: &[u8]) -> Result<(), DecodeError> {
    for &(field, path) in lists_of(message) {
        let count = count(bytes, path)
            .map_err(|reason| DecodeError::Malformed { message, reason: reason.to_owned() })?;
        super::check::at_most(field, count, MAX_COHORT as usize)?;
    }
    Ok(())
}

/// How often the field at the end of a path of field numbers occurs. A message that comes in several parts is merged by the
/// decoder, so all parts count.
fn count(mut bytes: &[u8], path: &[u32]) -> Result<usize, &'static str> {
    let Some((&wanted, deeper)) = path.split_first() else { return Ok(1) };
    let mut found = 0;
    while !bytes.is_empty() {
        let (number, wire_type) = decode_key(&mut bytes).map_err(|_| "a field has no number")?;
        if number == wanted && wire_type == WireType::LengthDelimited {
            let length = decode_varint(&mut bytes).map_err(|_| "a field has no length")?;
            let length = usize::try_from(length).ok().filter(|&length| length <= bytes.len());
            let (inner, rest) = bytes.split_at(length.ok_or("a field is longer than its message")?);
            found += count(inner, deeper)?;
            bytes = rest;
        } else {
            skip_field(wire_type, number, &mut bytes, DecodeContext::default())
                .map_err(|_| "a field cannot be skipped")?;
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::{count, lists_of};
    use crate::wire::{DecodeError, Wire as _};
    use crate::{ClientMessage, ServerMessage};
    use std::collections::BTreeMap;
    use tacit_aggregation::messages::{UnmaskRequest, UnmaskShares};
    use tacit_aggregation::params::MAX_COHORT;

    /// `entries` empty messages under a field number, within the fields of `path`, outermost first.
    fn nested(path: &[u8], entries: usize) -> Vec<u8> {
        let (last, outer) = path.split_last().expect("a path");
        let mut bytes = [last << 3 | 2, 0].repeat(entries);
        for number in outer.iter().rev() {
            let mut framed = vec![number << 3 | 2];
            prost::encoding::encode_varint(bytes.len() as u64, &mut framed);
            framed.extend_from_slice(&bytes);
            bytes = framed;
        }
        bytes
    }

    #[test]
    fn a_list_longer_than_any_cohort_is_refused_before_it_is_decoded() {
        let limit = MAX_COHORT as usize;
        let refused = |field| DecodeError::TooMany { field, count: limit + 1, limit };
        let server =
            |path: &[u8]| ServerMessage::from_wire(&nested(path, limit + 1)).expect_err("far too many");
        assert_eq!(server(&[1, 2]), refused("CohortClosed.adverts"));
        assert_eq!(server(&[2, 1]), refused("ShareDeliveries.deliveries"));
        assert_eq!(server(&[4, 2]), refused("UnmaskRequest.confirmations"));
        let client = ClientMessage::from_wire(&nested(&[6, 2], limit + 1)).expect_err("far too many");
        assert_eq!(client, refused("UnmaskShares.shares"));
        let request = UnmaskRequest::from_wire(&nested(&[2], limit + 1)).expect_err("far too many");
        assert_eq!(request, refused("UnmaskRequest.confirmations"));
        let shares = UnmaskShares::from_wire(&nested(&[2], limit + 1)).expect_err("far too many");
        assert_eq!(shares, refused("UnmaskShares.shares"));
        // As many as the largest cohort has are decoded, and then refused for what they lack.
        let empty = ServerMessage::from_wire(&nested(&[2, 1], limit)).expect_err("empty deliveries");
        assert_eq!(empty, DecodeError::Missing { field: "ShareDelivery.commitments" });
        // A message in two parts is one message.
        let halves = nested(&[2, 1], limit / 2 + 1).repeat(2);
        let refused = DecodeError::TooMany { field: "ShareDeliveries.deliveries", count: limit + 2, limit };
        assert_eq!(ServerMessage::from_wire(&halves), Err(refused));
    }

    #[test]
    fn what_cannot_be_counted_is_malformed() {
        assert_eq!(count(&nested(&[1, 2], 3), &[1, 2]), Ok(3));
        assert_eq!(count(&nested(&[1, 2], 3), &[1, 1]), Ok(0));
        // A fixed 64-bit field, a fixed 32-bit field, a varint and a group with a varint in it are skipped.
        let skipped = [0x09, 1, 2, 3, 4, 5, 6, 7, 8, 0x0d, 1, 2, 3, 4, 0x08, 0x81, 1, 0x0b, 0x08, 5, 0x0c];
        assert_eq!(count(&[&skipped[..], &[0x12, 0]].concat(), &[2]), Ok(1));
        for bad in
            [&[0x12][..], &[0x12, 1], &[0x12, 0xff, 0xff, 0xff, 0xff, 0x0f], &[0x00], &[0x0b], &[0x09, 1]]
        {
            assert!(count(bad, &[2]).is_err(), "{bad:?}");
            assert!(matches!(UnmaskRequest::from_wire(bad), Err(DecodeError::Malformed { .. })), "{bad:?}");
        }
    }

    /// Fields of each message in the .proto files: number, type, and whether it is a list.
    fn schema() -> BTreeMap<String, Vec<(u32, String, bool)>> {
        let mut messages: BTreeMap<String, Vec<(u32, String, bool)>> = BTreeMap::new();
        let mut current = String::new();
        for file in ["admin", "enrolment", "fleet", "ledger", "plan", "secagg"] {
            let path = format!("{}/proto/tacit/v1/{file}.proto", env!("CARGO_MANIFEST_DIR"));
            for line in std::fs::read_to_string(path).expect("the .proto file").lines() {
                let words: Vec<&str> = line.split_whitespace().collect();
                match words[..] {
                    ["message", name, "{"] => current = name.to_owned(),
                    ["repeated", kind, _, "=", number] => add(&mut messages, &current, kind, number, true),
                    [kind, _, "=", number] if kind != "//" => {
                        add(&mut messages, &current, kind, number, false)
                    }
                    _ => {}
                }
            }
        }
        messages
    }

    fn add(
        messages: &mut BTreeMap<String, Vec<(u32, String, bool)>>,
        message: &str,
        kind: &str,
        number: &str,
        list: bool,
    ) {
        if let Ok(number) = number.trim_end_matches(';').parse() {
            messages.entry(message.to_owned()).or_default().push((number, kind.to_owned(), list));
        }
    }

    /// Paths to all lists of messages in a message.
    fn paths(schema: &BTreeMap<String, Vec<(u32, String, bool)>>, message: &str) -> Vec<Vec<u32>> {
        let mut found = Vec::new();
        for (number, kind, list) in schema.get(message).into_iter().flatten() {
            if *list && schema.contains_key(kind) {
                found.push(vec![*number]);
            }
            // A list within a list is counted over all of them together.
            let deeper = paths(schema, kind).into_iter();
            found.extend(deeper.map(|path| [vec![*number], path].concat()));
        }
        found
    }

    #[test]
    fn every_list_of_messages_in_the_schema_is_counted() {
        let schema = schema();
        assert!(schema.len() > 20, "{} messages were found", schema.len());
        let mut lists = 0;
        for message in schema.keys() {
            let known: Vec<Vec<u32>> = lists_of(message).iter().map(|(_, path)| path.to_vec()).collect();
            // What is only ever a part of another message is counted there.
            let part = ["CohortClosed", "RoundEntries", "ShareDeliveries"].contains(&message.as_str());
            if !part {
                assert_eq!(paths(&schema, message), known, "{message}");
                lists += known.len();
            }
        }
        assert_eq!(lists, 17);
    }
}
