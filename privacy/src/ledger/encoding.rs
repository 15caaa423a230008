//! The one byte string that an entry has: what is hashed, and later signed.
//! Must never accept two encodings of the same entry, nor one encoding of two.
//!
//! A sequence of fields, each a big-endian `u32` length and that many bytes: the tag, then the fields of
//! [`Entry`] in the order written below. Integers are big-endian at their full width, real numbers are the
//! bits of their double, fractions are basis points. A later version of the entry takes another tag.

use super::{Entry, Hash, LedgerError, Record};
use crate::mechanism::{Adjacency, Mechanism, MechanismRequest, NoiseLaw};
use crate::units::BasisPoints;

/// First field of every encoded entry; names format and version, and the law of the noise.
fn tag(law: NoiseLaw) -> &'static [u8] {
    match law {
        NoiseLaw::DiscreteGaussian => b"tacit/ledger/v1",
        NoiseLaw::Skellam => b"tacit/ledger/skellam/v1",
    }
}

impl Entry {
    /// The canonical encoding.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let Record {
            round,
            plan_digest,
            mechanism,
            survivors,
            participants_root,
            epsilon,
            delta,
            adapter_digest,
        } = &self.record;
        let request = mechanism.request();
        let mut writer = Writer(Vec::with_capacity(512));
        writer.field(tag(request.noise_law));
        writer.field(&round.to_be_bytes());
        writer.field(plan_digest);
        writer.field(&request.clients.to_be_bytes());
        writer.field(&request.n_min.to_be_bytes());
        writer.field(&request.corrupt.get().to_be_bytes());
        writer.field(&request.dropout.get().to_be_bytes());
        writer.field(&(request.dimension as u64).to_be_bytes());
        writer.real(request.clip);
        writer.real(request.noise_multiplier);
        writer.field(adjacency_name(request.adjacency).as_bytes());
        writer.real(mechanism.scale());
        writer.field(&mechanism.bits().to_be_bytes());
        writer.field(&survivors.to_be_bytes());
        writer.field(participants_root);
        writer.real(*epsilon);
        writer.real(*delta);
        writer.field(adapter_digest);
        writer.field(&self.previous);
        writer.0
    }

    /// Reads [`Self::encode`]'s bytes back.
    ///
    /// # Errors
    /// [`LedgerError::Malformed`] for anything but a whole canonical encoding of a feasible mechanism.
    pub fn decode(bytes: &[u8]) -> Result<Self, LedgerError> {
        let mut reader = Reader { bytes, offset: 0 };
        let found = reader.field("tag")?;
        let noise_law = NoiseLaw::ALL
            .into_iter()
            .find(|law| tag(*law) == found)
            .ok_or_else(|| reader.malformed("not a version 1 ledger entry of a known noise law"))?;
        let round = u64::from_be_bytes(reader.array("round")?);
        let plan_digest: Hash = reader.array("plan digest")?;
        let request = MechanismRequest {
            clients: u32::from_be_bytes(reader.array("clients")?),
            n_min: u32::from_be_bytes(reader.array("n_min")?),
            corrupt: reader.fraction("corrupt")?,
            dropout: reader.fraction("dropout")?,
            dimension: usize::try_from(u64::from_be_bytes(reader.array("dimension")?))
                .map_err(|_| reader.malformed("the dimension does not fit this machine"))?,
            clip: reader.real("clip")?,
            noise_multiplier: reader.real("noise multiplier")?,
            adjacency: reader.adjacency()?,
            noise_law,
        };
        let scale = reader.real("scale")?;
        let bits = u32::from_be_bytes(reader.array("bits")?);
        let mechanism = Mechanism::with_encoding(&request, bits, scale)
            .map_err(|reason| reader.malformed(&format!("no such mechanism: {reason}")))?;
        let record = Record {
            round,
            plan_digest,
            mechanism,
            survivors: u32::from_be_bytes(reader.array("survivors")?),
            participants_root: reader.array("participants root")?,
            epsilon: reader.real("epsilon")?,
            delta: reader.real("delta")?,
            adapter_digest: reader.array("adapter digest")?,
        };
        let entry = Self { record, previous: reader.array("previous hash")? };
        if reader.offset != bytes.len() {
            return Err(reader.malformed("bytes after the end of the entry"));
        }
        Ok(entry)
    }
}

fn adjacency_name(adjacency: Adjacency) -> &'static str {
    match adjacency {
        Adjacency::ZeroOut => "zero-out",
        Adjacency::ReplaceOne => "replace-one",
    }
}

struct Writer(Vec<u8>);

impl Writer {
    fn field(&mut self, bytes: &[u8]) {
        // Every field here is shorter than a hundred bytes.
        self.0.extend_from_slice(&(bytes.len() as u32).to_be_bytes());
        self.0.extend_from_slice(bytes);
    }

    fn real(&mut self, value: f64) {
        self.field(&value.to_bits().to_be_bytes());
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    offset: usize,
}

impl<'a> Reader<'a> {
    fn malformed(&self, problem: &str) -> LedgerError {
        LedgerError::Malformed { offset: self.offset, problem: problem.to_owned() }
    }

    fn take(&mut self, count: usize, name: &str) -> Result<&'a [u8], LedgerError> {
        let end = self.offset.checked_add(count).filter(|end| *end <= self.bytes.len());
        let end =
            end.ok_or_else(|| self.malformed(&format!("the entry ends inside the field \"{name}\"")))?;
        let taken = &self.bytes[self.offset..end];
        self.offset = end;
        Ok(taken)
    }

    fn field(&mut self, name: &str) -> Result<&'a [u8], LedgerError> {
        let length = self.take(4, name)?.iter().fold(0_usize, |sum, byte| (sum << 8) | usize::from(*byte));
        self.take(length, name)
    }

    fn array<const N: usize>(&mut self, name: &str) -> Result<[u8; N], LedgerError> {
        let field = self.field(name)?;
        field
            .try_into()
            .map_err(|_| self.malformed(&format!("the field \"{name}\" has {} bytes, not {N}", field.len())))
    }

    /// A double; NaN and negative zero have no place in an entry.
    fn real(&mut self, name: &str) -> Result<f64, LedgerError> {
        let value = f64::from_bits(u64::from_be_bytes(self.array(name)?));
        if value.is_finite() && !value.is_sign_negative() {
            return Ok(value);
        }
        Err(self.malformed(&format!("the field \"{name}\" is {value:?}")))
    }

    fn fraction(&mut self, name: &str) -> Result<BasisPoints, LedgerError> {
        let points = u16::from_be_bytes(self.array(name)?);
        BasisPoints::new(points).map_err(|reason| self.malformed(&format!("the field \"{name}\": {reason}")))
    }

    fn adjacency(&mut self) -> Result<Adjacency, LedgerError> {
        let name = self.field("adjacency")?;
        [Adjacency::ZeroOut, Adjacency::ReplaceOne]
            .into_iter()
            .find(|adjacency| adjacency_name(*adjacency).as_bytes() == name)
            .ok_or_else(|| self.malformed("the field \"adjacency\" is neither zero-out nor replace-one"))
    }
}
