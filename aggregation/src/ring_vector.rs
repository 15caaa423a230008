//! Vectors over Z/2^b, in memory and packed on the wire. Must never print a coordinate: before masking they are secret.

mod packed;

use crate::params::{MAX_BITS, MAX_DIMENSION};
use std::fmt;
use zeroize::{Zeroize, ZeroizeOnDrop};

/// Bytes of `dimension` coordinates of `bits` bits each, packed: ceil(d b / 8).
#[must_use]
pub fn packed_bytes(bits: u8, dimension: usize) -> usize {
    (dimension * usize::from(bits)).div_ceil(8)
}

/// A vector of integers mod 2^b. Kept in lanes of 16 bits when b <= 16, else of 32 bits. Zeroised on drop.
#[derive(Clone, PartialEq, Eq)]
pub struct RingVector {
    bits: u8,
    lanes: Lanes,
}

/// The lanes of a [`RingVector`]; bits above b are zero outside of `mask.rs`.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Lanes {
    Narrow(Vec<u16>),
    Wide(Vec<u32>),
}

/// A vector that is not one over Z/2^b.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RingError {
    /// Ring bits out of range.
    #[error("{bits} bits per coordinate are outside 1..={MAX_BITS}")]
    Bits {
        /// The value given.
        bits: u8,
    },
    /// Dimension out of range.
    #[error("a dimension of {dimension} is outside 1..={MAX_DIMENSION}")]
    Dimension {
        /// The value given.
        dimension: usize,
    },
    /// A coordinate that does not fit.
    #[error("coordinate {index} does not fit into {bits} bits")]
    Range {
        /// Index of the first one.
        index: usize,
        /// Ring bits.
        bits: u8,
    },
    /// Packed bytes of the wrong length.
    #[error("a packed vector has {length} bytes where {expected} are due")]
    Length {
        /// Bytes given.
        length: usize,
        /// Bytes due, ceil(d b / 8).
        expected: usize,
    },
    /// Bits after the last coordinate are set.
    #[error("the padding after the last coordinate is not zero")]
    Padding,
    /// Two vectors of different shape.
    #[error("vectors of {left} and {right} coordinates, or of different rings, cannot be added")]
    Shape {
        /// Coordinates of one.
        left: usize,
        /// Coordinates of the other.
        right: usize,
    },
}

impl RingVector {
    /// From coordinates, each below 2^`bits`.
    ///
    /// # Errors
    /// [`RingError`] when a coordinate, the ring or the dimension is out of range.
    pub fn new(bits: u8, values: &[u32]) -> Result<Self, RingError> {
        let mut vector = Self::zeros(bits, values.len())?;
        if let Some(index) = values.iter().position(|&value| u64::from(value) >> bits != 0) {
            return Err(RingError::Range { index, bits });
        }
        match &mut vector.lanes {
            Lanes::Narrow(lanes) => {
                lanes.iter_mut().zip(values).for_each(|(lane, &value)| *lane = value as u16)
            }
            Lanes::Wide(lanes) => lanes.copy_from_slice(values),
        }
        Ok(vector)
    }

    /// The zero vector.
    ///
    /// # Errors
    /// [`RingError`] when the ring or the dimension is out of range.
    pub fn zeros(bits: u8, dimension: usize) -> Result<Self, RingError> {
        check_shape(bits, dimension)?;
        let lanes =
            if bits <= 16 { Lanes::Narrow(vec![0; dimension]) } else { Lanes::Wide(vec![0; dimension]) };
        Ok(Self { bits, lanes })
    }

    /// Ring bits b.
    #[must_use]
    pub fn bits(&self) -> u8 {
        self.bits
    }

    /// Coordinates d.
    #[must_use]
    pub fn dimension(&self) -> usize {
        match &self.lanes {
            Lanes::Narrow(lanes) => lanes.len(),
            Lanes::Wide(lanes) => lanes.len(),
        }
    }

    /// The coordinates, each below 2^b.
    #[must_use]
    pub fn to_values(&self) -> Vec<u32> {
        match &self.lanes {
            Lanes::Narrow(lanes) => lanes.iter().map(|&lane| u32::from(lane)).collect(),
            Lanes::Wide(lanes) => lanes.clone(),
        }
    }

    pub(crate) fn lanes_mut(&mut self) -> &mut Lanes {
        &mut self.lanes
    }

    /// Clears the bits above b, which wrapping lane arithmetic leaves behind.
    pub(crate) fn reduce(&mut self) {
        let bits = self.bits;
        match &mut self.lanes {
            Lanes::Narrow(_) if bits == 16 => {}
            Lanes::Wide(_) if bits == 32 => {}
            Lanes::Narrow(lanes) => lanes.iter_mut().for_each(|lane| *lane &= (1 << bits) - 1),
            Lanes::Wide(lanes) => lanes.iter_mut().for_each(|lane| *lane &= (1 << bits) - 1),
        }
    }

    /// The wire form: coordinates of b bits, least significant bit first, without gaps; the padding is zero.
    #[must_use]
    pub fn to_packed(&self) -> Vec<u8> {
        match &self.lanes {
            Lanes::Narrow(lanes) if self.bits == 16 => {
                lanes.iter().flat_map(|lane| lane.to_le_bytes()).collect()
            }
            Lanes::Wide(lanes) if self.bits == 32 => {
                lanes.iter().flat_map(|lane| lane.to_le_bytes()).collect()
            }
            Lanes::Narrow(lanes) => packed::pack(self.bits, lanes.iter().map(|&lane| u32::from(lane))),
            Lanes::Wide(lanes) => packed::pack(self.bits, lanes.iter().copied()),
        }
    }

    /// Reads the wire form.
    ///
    /// # Errors
    /// [`RingError`] when the length is not exactly ceil(d b / 8) or the padding is not zero.
    pub fn from_packed(bits: u8, dimension: usize, packed: &[u8]) -> Result<Self, RingError> {
        check_shape(bits, dimension)?;
        // The length is checked before the lanes are allocated: it bounds them by what was received.
        check_packed(bits, dimension, packed)?;
        let mut vector = Self::zeros(bits, dimension)?;
        vector.add_packed(packed)?;
        Ok(vector)
    }

    /// Adds a vector in wire form, mod 2^b, without unpacking it first.
    ///
    /// # Errors
    /// As [`Self::from_packed`]; the sum is then unchanged.
    pub fn add_packed(&mut self, packed: &[u8]) -> Result<(), RingError> {
        check_packed(self.bits, self.dimension(), packed)?;
        match &mut self.lanes {
            Lanes::Narrow(lanes) if self.bits == 16 => {
                for (lane, bytes) in lanes.iter_mut().zip(packed.chunks_exact(2)) {
                    *lane = lane.wrapping_add(u16::from_le_bytes([bytes[0], bytes[1]]));
                }
            }
            Lanes::Wide(lanes) if self.bits == 32 => {
                for (lane, bytes) in lanes.iter_mut().zip(packed.chunks_exact(4)) {
                    *lane = lane.wrapping_add(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]));
                }
            }
            Lanes::Narrow(lanes) => packed::add(lanes, self.bits, packed),
            Lanes::Wide(lanes) => packed::add(lanes, self.bits, packed),
        }
        self.reduce();
        Ok(())
    }

    /// Adds another vector, mod 2^b.
    ///
    /// # Errors
    /// [`RingError::Shape`] when they differ in ring or dimension.
    pub fn add(&mut self, other: &Self) -> Result<(), RingError> {
        let shape = RingError::Shape { left: self.dimension(), right: other.dimension() };
        if self.bits != other.bits || self.dimension() != other.dimension() {
            return Err(shape);
        }
        match (&mut self.lanes, &other.lanes) {
            (Lanes::Narrow(sum), Lanes::Narrow(more)) => {
                sum.iter_mut().zip(more).for_each(|(sum, &more)| *sum = sum.wrapping_add(more));
            }
            (Lanes::Wide(sum), Lanes::Wide(more)) => {
                sum.iter_mut().zip(more).for_each(|(sum, &more)| *sum = sum.wrapping_add(more));
            }
            _ => return Err(shape),
        }
        self.reduce();
        Ok(())
    }
}

impl Drop for RingVector {
    fn drop(&mut self) {
        match &mut self.lanes {
            Lanes::Narrow(lanes) => lanes.zeroize(),
            Lanes::Wide(lanes) => lanes.zeroize(),
        }
    }
}

impl ZeroizeOnDrop for RingVector {}

impl fmt::Debug for RingVector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RingVector {{ bits: {}, dimension: {}, .. }}", self.bits, self.dimension())
    }
}

fn check_shape(bits: u8, dimension: usize) -> Result<(), RingError> {
    if !(1..=MAX_BITS).contains(&bits) {
        return Err(RingError::Bits { bits });
    }
    if !(1..=MAX_DIMENSION as usize).contains(&dimension) {
        return Err(RingError::Dimension { dimension });
    }
    Ok(())
}

/// Checks that bytes are the wire form of some vector of this shape.
///
/// # Errors
/// [`RingError`] when the length is not exactly ceil(d b / 8) or the padding is not zero.
pub fn check_packed(bits: u8, dimension: usize, packed: &[u8]) -> Result<(), RingError> {
    check_ends(bits, dimension, packed.len(), packed.last().copied())
}

/// The same from the number of bytes and the last of them, which is all that can be wrong.
pub(crate) fn check_ends(
    bits: u8,
    dimension: usize,
    length: usize,
    last: Option<u8>,
) -> Result<(), RingError> {
    let expected = packed_bytes(bits, dimension);
    if length != expected {
        return Err(RingError::Length { length, expected });
    }
    let used = (dimension * usize::from(bits)) % 8;
    match last {
        Some(last) if used != 0 && last >> used != 0 => Err(RingError::Padding),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::{RingError, RingVector, packed_bytes};
    use proptest::prelude::{any, prop_assert_eq, proptest};

    fn reduced(bits: u8, raw: &[u32]) -> Vec<u32> {
        raw.iter().map(|&value| (u64::from(value) & ((1u64 << bits) - 1)) as u32).collect()
    }

    proptest! {
        #[test]
        fn packing_is_exact_and_adds(bits in 1u8..=32, raw in proptest::collection::vec(any::<(u32, u32)>(), 1..70)) {
            let (left, right): (Vec<u32>, Vec<u32>) = raw.into_iter().unzip();
            let (left, right) = (reduced(bits, &left), reduced(bits, &right));
            let vector = RingVector::new(bits, &left).expect("reduced");
            prop_assert_eq!(&vector.to_values(), &left);
            let packed = vector.to_packed();
            prop_assert_eq!(packed.len(), packed_bytes(bits, left.len()));
            let mut sum = RingVector::from_packed(bits, left.len(), &packed).expect("its own packing");
            prop_assert_eq!(&sum, &vector);
            let other = RingVector::new(bits, &right).expect("reduced");
            let mut direct = sum.clone();
            direct.add(&other).expect("same shape");
            sum.add_packed(&other.to_packed()).expect("same shape");
            prop_assert_eq!(&sum, &direct);
            let expected: Vec<u32> = left.iter().zip(&right)
                .map(|(&a, &b)| ((u64::from(a) + u64::from(b)) & ((1u64 << bits) - 1)) as u32).collect();
            prop_assert_eq!(sum.to_values(), expected);
        }
    }

    #[test]
    fn only_the_canonical_form_is_read() {
        assert_eq!(
            RingVector::from_packed(12, 2, &[0; 2]),
            Err(RingError::Length { length: 2, expected: 3 })
        );
        assert_eq!(
            RingVector::from_packed(12, 2, &[0; 4]),
            Err(RingError::Length { length: 4, expected: 3 })
        );
        assert_eq!(RingVector::from_packed(5, 3, &[0xff, 0x7f]).map(|v| v.to_values()), Ok(vec![31; 3]));
        assert_eq!(RingVector::from_packed(5, 3, &[0xff, 0x80]), Err(RingError::Padding));
        assert_eq!(RingVector::new(16, &[0, 65_536]), Err(RingError::Range { index: 1, bits: 16 }));
        assert_eq!(RingVector::new(33, &[0]), Err(RingError::Bits { bits: 33 }));
        assert_eq!(RingVector::new(16, &[]), Err(RingError::Dimension { dimension: 0 }));
        let mut sum = RingVector::new(16, &[1]).expect("fits");
        assert!(sum.add(&RingVector::new(17, &[1]).expect("fits")).is_err());
        assert!(sum.add(&RingVector::new(16, &[1, 2]).expect("fits")).is_err());
        assert_eq!(sum.to_values(), [1]);
    }

    #[test]
    fn the_wire_form_is_least_significant_bit_first() {
        let packed = RingVector::new(12, &[0xabc, 0x123, 0xfff]).expect("fits").to_packed();
        assert_eq!(packed, [0xbc, 0x3a, 0x12, 0xff, 0x0f]);
    }

    #[test]
    fn debug_shows_no_coordinate() {
        let shown = format!("{:?}", RingVector::new(16, &[54_321; 3]).expect("fits"));
        assert_eq!(shown, "RingVector { bits: 16, dimension: 3, .. }");
    }
}
