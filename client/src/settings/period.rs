//! The limit on a stretch of days as the owner writes it: a table, or `"none"`. Must never take a missing word for no limit.

use crate::budget::Period;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess, Unexpected, Visitor};
use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer};
use std::fmt;

/// No limit, said on purpose.
const NONE: &str = "none";

pub(super) fn serialize<S: Serializer>(period: &Option<Period>, serializer: S) -> Result<S::Ok, S::Error> {
    match period {
        Some(period) => period.serialize(serializer),
        None => serializer.serialize_str(NONE),
    }
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Period>, D::Error> {
    deserializer.deserialize_any(PeriodOrNone)
}

struct PeriodOrNone;

impl<'de> Visitor<'de> for PeriodOrNone {
    type Value = Option<Period>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a table with `days` and `epsilon`, or \"{NONE}\"")
    }

    fn visit_str<E: Error>(self, word: &str) -> Result<Self::Value, E> {
        if word == NONE { Ok(None) } else { Err(E::invalid_value(Unexpected::Str(word), &self)) }
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        Period::deserialize(MapAccessDeserializer::new(map)).map(Some)
    }
}
