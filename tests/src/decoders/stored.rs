//! What must hold of every type with a stored form. Must never compare real numbers but by their bits: a damaged file may
//! hold any.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Reads JSON. What is accepted can be written again as JSON that is accepted.
pub(super) fn json<T: Serialize + DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    let value: T = serde_json::from_slice(bytes).ok()?;
    let text = serde_json::to_string(&value).expect("what was read can be written");
    // Text may lose the last bit of a real number, so the two are not compared; but a value read back must be one as well.
    let _: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    Some(value)
}

/// Reads the compact binary form. What is accepted is written as bytes that give the same bytes again.
pub(super) fn binary<T: Serialize + DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    let value: T = postcard::from_bytes(bytes).ok()?;
    let form = postcard::to_stdvec(&value).expect("what was read can be written");
    let again: T = postcard::from_bytes(&form).expect("its own form");
    assert_eq!(postcard::to_stdvec(&again).expect("it was written before"), form);
    Some(value)
}

/// Both forms, told apart by how JSON begins.
pub(super) fn either<T: Serialize + DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    if !bytes.starts_with(b"{") {
        return binary(bytes);
    }
    let value: T = json(bytes)?;
    let form = postcard::to_stdvec(&value).expect("what was read can be written");
    binary::<T>(&form).expect("its own form");
    Some(value)
}
