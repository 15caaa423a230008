//! Checks that every decoder uses. Must never copy more than the field's own length.

use super::DecodeError;
use std::fmt::Display;
use tacit_aggregation::identity::{ClientId, PublicKey, Signature};
use tacit_aggregation::params::{MAX_COHORT, TaskName};

/// A nested message, which protobuf lets be absent.
pub(super) fn present<T>(field: &'static str, value: Option<T>) -> Result<T, DecodeError> {
    value.ok_or(DecodeError::Missing { field })
}

pub(super) fn array<const N: usize>(field: &'static str, bytes: &[u8]) -> Result<[u8; N], DecodeError> {
    bytes.try_into().map_err(|_| DecodeError::Length { field, length: bytes.len(), expected: N })
}

/// Arrays of the same length, one after the other.
pub(super) fn arrays<const N: usize>(
    field: &'static str,
    bytes: &[u8],
    limit: usize,
) -> Result<Vec<[u8; N]>, DecodeError> {
    let (chunks, rest) = bytes.as_chunks::<N>();
    if !rest.is_empty() {
        return Err(DecodeError::Length { field, length: bytes.len(), expected: chunks.len() * N });
    }
    at_most(field, chunks.len(), limit)?;
    Ok(chunks.to_vec())
}

pub(super) fn at_most(field: &'static str, count: usize, limit: usize) -> Result<(), DecodeError> {
    if count <= limit { Ok(()) } else { Err(DecodeError::TooMany { field, count, limit }) }
}

/// A list about clients of one cohort: no longer than the largest cohort, ids strictly increasing.
pub(super) fn increasing(
    field: &'static str,
    clients: impl ExactSizeIterator<Item = ClientId>,
) -> Result<(), DecodeError> {
    at_most(field, clients.len(), MAX_COHORT as usize)?;
    let mut before = None;
    for client in clients {
        if before.is_some_and(|before| before >= client) {
            return Err(DecodeError::Order { field, client: client.0 });
        }
        before = Some(client);
    }
    Ok(())
}

pub(super) fn key(field: &'static str, bytes: &[u8]) -> Result<PublicKey, DecodeError> {
    array(field, bytes).map(PublicKey)
}

pub(super) fn signature(field: &'static str, bytes: &[u8]) -> Result<Signature, DecodeError> {
    array(field, bytes).map(Signature)
}

pub(super) fn task(field: &'static str, name: &str) -> Result<TaskName, DecodeError> {
    TaskName::new(name).map_err(|reason| invalid(field, reason))
}

/// A real number. Minus zero is refused: protobuf leaves a zero of either sign out, so that it would come back as another
/// number, and a plan with another digest.
pub(super) fn real<T: Into<f64> + Copy>(field: &'static str, value: T) -> Result<T, DecodeError> {
    let number: f64 = value.into();
    if number == 0.0 && number.is_sign_negative() {
        return Err(invalid(field, "it is minus zero"));
    }
    Ok(value)
}

/// A number whose domain type is narrower than protobuf's.
pub(super) fn narrow<T: TryFrom<u32>>(field: &'static str, value: u32) -> Result<T, DecodeError> {
    T::try_from(value).map_err(|_| invalid(field, format!("{value} is out of range")))
}

pub(super) fn invalid(field: &'static str, reason: impl Display) -> DecodeError {
    DecodeError::Invalid { field, reason: reason.to_string() }
}

/// A text for people or a name: not too long, and nothing in it that would upset a terminal or a log.
pub(super) fn text(field: &'static str, text: String, limit: usize) -> Result<String, DecodeError> {
    at_most(field, text.len(), limit)?;
    match text.chars().find(|character| character.is_control()) {
        Some(character) => Err(invalid(field, format!("it holds the control character {character:?}"))),
        None => Ok(text),
    }
}
