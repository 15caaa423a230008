//! One bit per member of a cohort. Must never have a bit set beyond the last member.

use std::fmt;

/// A set of cohort indices below n; member i is bit i mod 8 of byte i / 8.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Bitmap {
    members: u32,
    bytes: Vec<u8>,
}

/// Bytes that are not the canonical form of a set over n members.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{length} bytes are not a canonical bitmap of {members} members")]
pub struct BitmapError {
    /// Members due.
    pub members: u32,
    /// Bytes given.
    pub length: usize,
}

impl Bitmap {
    /// The empty set over `members`.
    #[must_use]
    pub fn new(members: u32) -> Self {
        Self { members, bytes: vec![0; (members as usize).div_ceil(8)] }
    }

    /// The set of the given indices; those at or beyond `members` are left out.
    #[must_use]
    pub fn from_indices(members: u32, indices: impl IntoIterator<Item = u32>) -> Self {
        let mut set = Self::new(members);
        indices.into_iter().for_each(|index| set.set(index, true));
        set
    }

    /// Reads the canonical form: ceil(n/8) bytes, bits beyond the last member zero.
    ///
    /// # Errors
    /// [`BitmapError`] for any other form.
    pub fn from_bytes(members: u32, bytes: &[u8]) -> Result<Self, BitmapError> {
        let error = BitmapError { members, length: bytes.len() };
        if bytes.len() != (members as usize).div_ceil(8) {
            return Err(error);
        }
        match bytes.last() {
            Some(last) if !members.is_multiple_of(8) && last >> (members % 8) != 0 => Err(error),
            _ => Ok(Self { members, bytes: bytes.to_vec() }),
        }
    }

    /// The canonical form.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Members that the set is over, n.
    #[must_use]
    pub fn members(&self) -> u32 {
        self.members
    }

    /// Whether a member is in the set.
    #[must_use]
    pub fn contains(&self, index: u32) -> bool {
        index < self.members && self.bytes[index as usize / 8] >> (index % 8) & 1 == 1
    }

    /// Puts a member in or takes it out; an index beyond the last member changes nothing.
    pub fn set(&mut self, index: u32, present: bool) {
        if index < self.members {
            let (byte, bit) = (&mut self.bytes[index as usize / 8], 1 << (index % 8));
            if present { *byte |= bit } else { *byte &= !bit }
        }
    }

    /// How many members are in the set.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.bytes.iter().map(|byte| byte.count_ones()).sum()
    }

    /// The indices in the set, increasing.
    pub fn indices(&self) -> impl Iterator<Item = u32> + '_ {
        (0..self.members).filter(|&index| self.contains(index))
    }

    /// The first index in this set that is not in the other.
    #[must_use]
    pub fn first_outside(&self, other: &Self) -> Option<u32> {
        self.indices().find(|&index| !other.contains(index))
    }
}

impl fmt::Debug for Bitmap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bitmap({} of {})", self.count(), self.members)
    }
}

#[cfg(test)]
mod tests {
    use super::{Bitmap, BitmapError};

    #[test]
    fn sets_are_canonical() {
        let mut set = Bitmap::from_indices(11, [0, 7, 8, 10, 11, 90]);
        assert_eq!(set.as_bytes(), [0b1000_0001, 0b101]);
        assert_eq!(set.indices().collect::<Vec<_>>(), [0, 7, 8, 10]);
        assert_eq!(set.count(), 4);
        assert_eq!(Bitmap::from_bytes(11, set.as_bytes()), Ok(set.clone()));
        assert_eq!(Bitmap::from_bytes(11, &[0, 0b1000]), Err(BitmapError { members: 11, length: 2 }));
        assert_eq!(Bitmap::from_bytes(11, &[0]), Err(BitmapError { members: 11, length: 1 }));
        assert_eq!(Bitmap::from_bytes(11, &[0; 3]), Err(BitmapError { members: 11, length: 3 }));
        assert!(Bitmap::from_bytes(16, &[255; 2]).is_ok());
        set.set(7, false);
        assert!(!set.contains(7) && !set.contains(11));
        assert_eq!(Bitmap::from_indices(11, [0, 3]).first_outside(&set), Some(3));
        assert_eq!(Bitmap::from_indices(11, [0, 10]).first_outside(&set), None);
    }
}
