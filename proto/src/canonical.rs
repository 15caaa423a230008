//! Canonical bytes: a list of length-prefixed fields, so that no two lists share their bytes.
//! Must never take a field without its length, nor a number in more than one form.

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

#[cfg(test)]
mod tests {
    use super::Fields;

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
}
