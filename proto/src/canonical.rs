//! Canonical bytes: a list of length-prefixed fields, so that no two lists share their bytes.
//! Must never take or give a field without its length, nor a number in more than one form.

/// A list of fields, each prefixed with its length as four bytes, big-endian. Integers are eight bytes, big-endian; real
/// numbers are the eight bytes of their double, big-endian.
pub(crate) struct Fields(Vec<u8>);

impl Fields {
    /// Starts a list with the tag that names format and version.
    pub(crate) fn new(tag: &str) -> Self {
        Self(Vec::with_capacity(1024)).text(tag)
    }

    /// Fields are far shorter than 4 GiB: the longest is a name of a few dozen bytes.
    pub(crate) fn bytes(mut self, field: &[u8]) -> Self {
        self.0.extend_from_slice(&(field.len() as u32).to_be_bytes());
        self.0.extend_from_slice(field);
        self
    }

    pub(crate) fn text(self, field: &str) -> Self {
        self.bytes(field.as_bytes())
    }

    pub(crate) fn integer(self, field: impl Into<u64>) -> Self {
        self.bytes(&field.into().to_be_bytes())
    }

    pub(crate) fn real(self, field: impl Into<f64>) -> Self {
        self.bytes(&field.into().to_bits().to_be_bytes())
    }

    /// The number of fields of a list, then each of them.
    pub(crate) fn list<'a>(self, fields: impl ExactSizeIterator<Item = &'a [u8]>) -> Self {
        let count = fields.len() as u64;
        fields.fold(self.integer(count), Self::bytes)
    }

    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}

/// Takes fields off a list in their order. None where the bytes are no such list.
pub(crate) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// Of a list that starts with this tag.
    pub(crate) fn new(bytes: &'a [u8], tag: &str) -> Option<Self> {
        let mut reader = Self(bytes);
        (reader.bytes()? == tag.as_bytes()).then_some(reader)
    }

    pub(crate) fn bytes(&mut self) -> Option<&'a [u8]> {
        let (length, rest) = self.0.split_first_chunk()?;
        let (field, rest) = rest.split_at_checked(u32::from_be_bytes(*length) as usize)?;
        self.0 = rest;
        Some(field)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.bytes()?.try_into().ok()
    }

    pub(crate) fn text(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.bytes()?).ok()
    }

    pub(crate) fn integer(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }

    /// Whether nothing is left.
    pub(crate) fn is_at_end(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::{Fields, Reader};

    #[test]
    fn every_field_has_its_length() {
        let bytes = Fields::new("t").integer(1_u32).real(1.0_f32).list([&b"ab"[..], b""].into_iter());
        let expected = [
            &[0, 0, 0, 1, b't'][..],
            &[0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 1],
            &[0, 0, 0, 8, 0x3f, 0xf0, 0, 0, 0, 0, 0, 0],
            &[0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 2],
            &[0, 0, 0, 2, b'a', b'b', 0, 0, 0, 0],
        ];
        assert_eq!(bytes.into_bytes(), expected.concat());
    }

    #[test]
    fn what_was_written_is_read() {
        let bytes = Fields::new("t").integer(7_u32).text("ab").bytes(&[1, 2]).into_bytes();
        assert!(Reader::new(&bytes, "u").is_none());
        let read = |bytes: &[u8]| {
            let mut reader = Reader::new(bytes, "t")?;
            let fields = (reader.integer()?, reader.text()?.to_owned(), reader.array::<2>()?);
            reader.is_at_end().then_some(fields)
        };
        assert_eq!(read(&bytes), Some((7, "ab".to_owned(), [1, 2])));
        assert_eq!(read(&[bytes.as_slice(), &[0]].concat()), None);
        for length in 0..bytes.len() {
            assert_eq!(read(&bytes[..length]), None, "{length} bytes");
        }
    }
}
