//! Values to bytes and back, for storage only: fixed-size integers big-endian, lists and byte strings after their length.
//! Must never leave a copy of what was written behind, nor reserve memory that the bytes read do not fill.

use std::sync::Arc;
use zeroize::Zeroizing;

/// Bytes being written. A buffer that becomes too small is zeroised.
pub(crate) struct Writer(Zeroizing<Vec<u8>>);

impl Writer {
    pub(crate) fn new(capacity: usize) -> Self {
        Self(Zeroizing::new(Vec::with_capacity(capacity)))
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        let needed = self.0.len() + bytes.len();
        if needed > self.0.capacity() {
            // `Vec` would grow by itself and free the old buffer as it is.
            let mut larger = Zeroizing::new(Vec::with_capacity(needed.max(2 * self.0.capacity())));
            larger.extend_from_slice(&self.0);
            self.0 = larger;
        }
        self.0.extend_from_slice(bytes);
    }

    pub(crate) fn written(&self) -> &[u8] {
        &self.0
    }

    pub(crate) fn into_bytes(self) -> Zeroizing<Vec<u8>> {
        self.0
    }
}

/// Bytes being read.
pub(crate) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(crate) fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A value with a stored form. There is one form per value, and no other bytes are read.
pub(crate) trait Stored: Sized {
    /// Writes the form.
    fn write(&self, writer: &mut Writer);

    /// Reads it; none when it is not one.
    fn read(reader: &mut Reader<'_>) -> Option<Self>;
}

macro_rules! integers {
    ($($integer:ty),*) => {$(
        impl Stored for $integer {
            fn write(&self, writer: &mut Writer) {
                writer.bytes(&self.to_be_bytes());
            }

            fn read(reader: &mut Reader<'_>) -> Option<Self> {
                let bytes = reader.take(size_of::<Self>())?;
                Some(Self::from_be_bytes(bytes.try_into().ok()?))
            }
        }
    )*};
}

integers!(u8, u16, u32, u64);

impl<const N: usize> Stored for [u8; N] {
    fn write(&self, writer: &mut Writer) {
        writer.bytes(self);
    }

    fn read(reader: &mut Reader<'_>) -> Option<Self> {
        reader.take(N)?.try_into().ok()
    }
}

/// An empty form.
impl Stored for () {
    fn write(&self, _: &mut Writer) {}

    fn read(_: &mut Reader<'_>) -> Option<Self> {
        Some(())
    }
}

/// The form of a list.
pub(crate) fn write_list<T: Stored>(values: &[T], writer: &mut Writer) {
    (values.len() as u32).write(writer);
    values.iter().for_each(|value| value.write(writer));
}

impl<T: Stored> Stored for Vec<T> {
    fn write(&self, writer: &mut Writer) {
        write_list(self, writer);
    }

    fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let count = u32::read(reader)?;
        // Grows with what is read: the count alone reserves nothing.
        let mut values = Self::new();
        for _ in 0..count {
            values.push(T::read(reader)?);
        }
        Some(values)
    }
}

/// A byte that says whether there is one, and then the value's form.
impl<T: Stored> Stored for Option<T> {
    fn write(&self, writer: &mut Writer) {
        u8::from(self.is_some()).write(writer);
        if let Some(value) = self {
            value.write(writer);
        }
    }

    fn read(reader: &mut Reader<'_>) -> Option<Self> {
        match u8::read(reader)? {
            0 => Some(None),
            1 => T::read(reader).map(Some),
            _ => None,
        }
    }
}

impl<T: Stored> Stored for Arc<T> {
    fn write(&self, writer: &mut Writer) {
        T::write(self, writer);
    }

    fn read(reader: &mut Reader<'_>) -> Option<Self> {
        T::read(reader).map(Self::new)
    }
}

/// The form of a byte string, in one piece.
pub(crate) fn write_bytes(bytes: &[u8], writer: &mut Writer) {
    (bytes.len() as u64).write(writer);
    writer.bytes(bytes);
}

/// A byte string as it is read.
pub(crate) struct Bytes(pub(crate) Vec<u8>);

impl Stored for Bytes {
    fn write(&self, writer: &mut Writer) {
        write_bytes(&self.0, writer);
    }

    fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let length = usize::try_from(u64::read(reader)?).ok()?;
        reader.take(length).map(|bytes| Self(bytes.to_vec()))
    }
}

/// The stored form of a struct: its fields, in the order given.
macro_rules! stored {
    ($($type:ty { $($field:ident),* })*) => {$(
        impl $crate::journal::Stored for $type {
            fn write(&self, writer: &mut $crate::journal::Writer) {
                $($crate::journal::Stored::write(&self.$field, writer);)*
            }

            fn read(reader: &mut $crate::journal::Reader<'_>) -> Option<Self> {
                Some(Self { $($field: $crate::journal::Stored::read(reader)?),* })
            }
        }
    )*};
}
pub(crate) use stored;

#[cfg(test)]
mod tests {
    use super::{Bytes, Reader, Stored, Writer};

    #[test]
    fn a_count_reserves_nothing() {
        // Four billion elements are announced and none comes.
        assert!(Vec::<u64>::read(&mut Reader::new(&[0xff; 4])).is_none());
        assert!(Bytes::read(&mut Reader::new(&[0xff; 12])).is_none());
    }

    #[test]
    fn a_writer_that_grows_keeps_what_was_written() {
        let mut writer = Writer::new(1);
        for value in 0..500u16 {
            value.write(&mut writer);
        }
        let bytes = writer.into_bytes();
        let mut reader = Reader::new(&bytes);
        assert!((0..500).all(|value| u16::read(&mut reader) == Some(value)) && reader.is_empty());
    }
}
