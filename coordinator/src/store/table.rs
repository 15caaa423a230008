//! Typed tables over a store: which records there are, and what their keys and values look like as bytes.
//! Must never let two types share a table, nor read a record of another format as if it were of this one.

use serde::Serialize;
use serde::de::DeserializeOwned;
use tacit_aggregation::identity::ClientId;

use super::{Change, Epoch, Store, StoreError};

/// A kind of record.
pub trait Table {
    /// Name in [`super::TABLES`].
    const NAME: &'static str;
    /// What a record is found by.
    type Key: Key;
    /// What it holds.
    type Value: Serialize + DeserializeOwned;
}

/// A key whose bytes are ordered as the keys are.
pub trait Key: Sized {
    /// Appends the key's bytes.
    fn write(&self, bytes: &mut Vec<u8>);

    /// Takes a key off the front of some bytes; none when it is not one.
    fn read(bytes: &mut &[u8]) -> Option<Self>;

    /// The key's bytes.
    fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.write(&mut bytes);
        bytes
    }
}

macro_rules! integer_key {
    ($($integer:ty),*) => {$(
        impl Key for $integer {
            fn write(&self, bytes: &mut Vec<u8>) {
                bytes.extend_from_slice(&self.to_be_bytes());
            }

            fn read(bytes: &mut &[u8]) -> Option<Self> {
                let (first, rest) = bytes.split_first_chunk()?;
                *bytes = rest;
                Some(Self::from_be_bytes(*first))
            }
        }
    )*};
}

integer_key!(u8, u32, u64);

impl Key for ClientId {
    fn write(&self, bytes: &mut Vec<u8>) {
        self.0.write(bytes);
    }

    fn read(bytes: &mut &[u8]) -> Option<Self> {
        u64::read(bytes).map(Self)
    }
}

impl<const N: usize> Key for [u8; N] {
    fn write(&self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(self);
    }

    fn read(bytes: &mut &[u8]) -> Option<Self> {
        let (first, rest) = bytes.split_first_chunk()?;
        *bytes = rest;
        Some(*first)
    }
}

/// A name without zero bytes, which end it.
impl Key for String {
    fn write(&self, bytes: &mut Vec<u8>) {
        debug_assert!(!self.contains('\0'), "a name in a key holds no zero byte");
        bytes.extend_from_slice(self.as_bytes());
        bytes.push(0);
    }

    fn read(bytes: &mut &[u8]) -> Option<Self> {
        let end = bytes.iter().position(|byte| *byte == 0)?;
        let name = std::str::from_utf8(&bytes[..end]).ok()?.to_owned();
        *bytes = &bytes[end + 1..];
        Some(name)
    }
}

macro_rules! tuple_key {
    ($($name:ident: $place:tt),*) => {
        impl<$($name: Key),*> Key for ($($name,)*) {
            fn write(&self, bytes: &mut Vec<u8>) {
                $(self.$place.write(bytes);)*
            }

            fn read(bytes: &mut &[u8]) -> Option<Self> {
                Some(($($name::read(bytes)?,)*))
            }
        }
    };
}

tuple_key!(A: 0);
tuple_key!(A: 0, B: 1);
tuple_key!(A: 0, B: 1, C: 2);
tuple_key!(A: 0, B: 1, C: 2, D: 3);

/// A record's key and value.
pub type TypedRow<T> = (<T as Table>::Key, <T as Table>::Value);

/// Reading typed records.
#[derive(Clone, Copy)]
pub struct Records<'a>(pub &'a dyn Store);

impl Records<'_> {
    /// One record.
    ///
    /// # Errors
    /// As [`Store::get`]; [`StoreError::Corrupted`] when it is not a value of the table's.
    pub fn get<T: Table>(&self, key: &T::Key) -> Result<Option<T::Value>, StoreError> {
        let key = key.to_bytes();
        self.0.get(T::NAME, &key)?.map(|value| decode::<T>(&key, &value)).transpose()
    }

    /// The first `limit` records whose keys begin as `prefix` does, from `from` on if it is given.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub fn scan<T: Table>(
        &self,
        prefix: &impl Key,
        from: Option<&T::Key>,
        limit: usize,
    ) -> Result<Vec<TypedRow<T>>, StoreError> {
        let from = from.map(Key::to_bytes).unwrap_or_default();
        let rows = self.0.scan(T::NAME, &prefix.to_bytes(), &from, limit)?;
        rows.into_iter().map(|(key, value)| Ok((typed::<T>(&key)?, decode::<T>(&key, &value)?))).collect()
    }
}

impl Records<'_> {
    /// The keys of the first `limit` records, as [`Self::scan`] finds them.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub fn keys<T: Table>(
        &self,
        prefix: &impl Key,
        from: Option<&T::Key>,
        limit: usize,
    ) -> Result<Vec<T::Key>, StoreError> {
        let from = from.map(Key::to_bytes).unwrap_or_default();
        let rows = self.0.scan(T::NAME, &prefix.to_bytes(), &from, limit)?;
        rows.into_iter().map(|(key, _)| typed::<T>(&key)).collect()
    }
}

fn typed<T: Table>(key: &[u8]) -> Result<T::Key, StoreError> {
    let mut rest = key;
    let typed = T::Key::read(&mut rest).filter(|_| rest.is_empty());
    typed.ok_or_else(|| corrupted::<T>(key, "its key has another form"))
}

/// The prefix that every key has.
impl Key for () {
    fn write(&self, _bytes: &mut Vec<u8>) {}

    fn read(_bytes: &mut &[u8]) -> Option<Self> {
        Some(())
    }
}

/// Changes that are made together.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch(Vec<Change>);

impl Batch {
    /// No changes.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Writes a record.
    pub fn put<T: Table>(&mut self, key: &T::Key, value: &T::Value) -> &mut Self {
        let mut bytes = vec![super::FORMAT as u8];
        bytes.extend(postcard::to_allocvec(value).expect("records hold plain data, which always has a form"));
        self.0.push(Change::Put { table: T::NAME, key: key.to_bytes(), value: bytes });
        self
    }

    /// Removes a record.
    pub fn delete<T: Table>(&mut self, key: &T::Key) -> &mut Self {
        self.0.push(Change::Delete { table: T::NAME, key: key.to_bytes() });
        self
    }

    /// Keys of a table that are written so far.
    pub fn keys<T: Table>(&self) -> impl Iterator<Item = T::Key> + '_ {
        self.0.iter().filter_map(|change| match change {
            Change::Put { table, key, .. } if *table == T::NAME => typed::<T>(key).ok(),
            _ => None,
        })
    }

    /// Whether there is nothing to change.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes another's changes over, after its own.
    pub fn append(&mut self, other: &mut Self) {
        self.0.append(&mut other.0);
    }

    /// Makes the changes, durably.
    ///
    /// # Errors
    /// As [`Store::commit`].
    pub fn commit(self, store: &dyn Store, epoch: Epoch) -> Result<(), StoreError> {
        store.commit(epoch, self.0)
    }
}

fn decode<T: Table>(key: &[u8], bytes: &[u8]) -> Result<T::Value, StoreError> {
    let problem = match bytes.split_first() {
        Some((&format, value)) if u32::from(format) == super::FORMAT => {
            match postcard::take_from_bytes(value) {
                Ok((value, [])) => return Ok(value),
                Ok(_) => "there are bytes after its end".to_owned(),
                Err(error) => error.to_string(),
            }
        }
        Some((format, _)) => format!("its format is {format}"),
        None => "it is empty".to_owned(),
    };
    Err(corrupted::<T>(key, &problem))
}

fn corrupted<T: Table>(key: &[u8], problem: &str) -> StoreError {
    let key = key.iter().map(|byte| format!("{byte:02x}")).collect();
    StoreError::Corrupted { table: T::NAME, key, problem: problem.to_owned() }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::store::MemoryStore;

    struct Rounds;

    impl Table for Rounds {
        const NAME: &'static str = "rounds";
        type Key = (String, u64);
        type Value = (u32, Vec<u8>);
    }

    #[test]
    fn records_come_back_in_the_order_of_their_keys() {
        let store = MemoryStore::new();
        let epoch = store.lease().unwrap();
        let mut batch = Batch::new();
        for (task, round) in [("b", 1), ("a", 300), ("a", 2), ("ab", 0), ("a", u64::MAX)] {
            batch.put::<Rounds>(&(task.to_owned(), round), &(round as u32, vec![1]));
        }
        batch.delete::<Rounds>(&("b".into(), 1));
        batch.commit(&store, epoch).unwrap();
        let records = Records(&store);
        assert_eq!(records.get::<Rounds>(&("a".into(), 300)), Ok(Some((300, vec![1]))));
        assert_eq!(records.get::<Rounds>(&("b".into(), 1)), Ok(None));
        let keys = |prefix: &str, from: Option<u64>| {
            let from = from.map(|round| (prefix.to_owned(), round));
            let found = records.scan::<Rounds>(&(prefix.to_owned(),), from.as_ref(), 9).unwrap();
            found.into_iter().map(|((_, round), _)| round).collect::<Vec<_>>()
        };
        assert_eq!(keys("a", None), [2, 300, u64::MAX]);
        assert_eq!(keys("a", Some(3)), [300, u64::MAX]);
        assert_eq!(keys("ab", None), [0]);
        assert_eq!(records.scan::<Rounds>(&(), None, 9).unwrap().len(), 4);
    }

    #[test]
    fn a_record_of_another_form_is_named() {
        let store = MemoryStore::new();
        let epoch = store.lease().unwrap();
        let mut batch = Batch::new();
        batch.put::<Rounds>(&("a".into(), 1), &(7, vec![1, 2, 3]));
        batch.commit(&store, epoch).unwrap();
        let key = ("a".to_owned(), 1_u64).to_bytes();
        let good = store.get("rounds", &key).unwrap().unwrap();
        let longer = [good.as_slice(), &[0]].concat();
        let mut later = good.clone();
        later[0] = 2;
        for bad in [&longer, &later, &good[..good.len() - 1].to_vec(), &vec![]] {
            let change = Change::Put { table: "rounds", key: key.clone(), value: bad.clone() };
            store.commit(epoch, vec![change]).unwrap();
            let refused = Records(&store).get::<Rounds>(&("a".into(), 1));
            assert!(
                matches!(&refused, Err(StoreError::Corrupted { table: "rounds", key, .. }) if key == "61000000000000000001"),
                "{refused:?}"
            );
        }
    }
}
