//! The one byte string that an entry has: what is hashed, and stored.
//! Must never accept two encodings of the same entry, nor one encoding of two.
//!
//! A sequence of fields, each a big-endian `u32` length and that many bytes: the tag, then the fields of
//! [`Entry`] in the order written below, the event's after its name. Integers are big-endian at their full width, real
//! numbers are the bits of their double, fractions are basis points, an absent integer is an empty field. A mechanism's fields
//! follow its name, those of an adaptive clip norm a field that says whether there is one. A later version of the entry
//! takes another tag.

use super::restart::{Restart, SignedRestart};
use super::{Commit, Debit, Entry, Event, LedgerError, Release, Reserve, Text};
use crate::central::{AdaptiveClip, CentralMechanism, CentralRequest};
use crate::mechanism::{Adjacency, Infeasible, Mechanism, MechanismRequest, NoiseLaw};
use crate::round_mechanism::RoundMechanism;
use crate::units::BasisPoints;

/// First field of every encoded entry; names format and version.
const TAG: &[u8] = b"tacit/ledger/v1";
/// Names of the events.
const RESERVE: &[u8] = b"reserve";
const COMMIT: &[u8] = b"commit";
const RELEASE: &[u8] = b"release";
const FORFEIT: &[u8] = b"forfeit";
const RESTART: &[u8] = b"restart";
/// Name of the mechanism whose noise the coordinator adds; the others have the name of their clients' noise law.
const CENTRAL: &[u8] = b"central";
/// Mechanisms that a decoder remembers.
const MOST_KNOWN: usize = 32;
/// Says that the clip norm stays.
const FIXED_CLIP: &[u8] = b"fixed-clip";
/// Says that the clip norm adapts: its rule follows.
const ADAPTIVE_CLIP: &[u8] = b"adaptive-clip";

impl Entry {
    /// The canonical encoding.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let Self { previous, time, task, round, event } = self;
        let mut writer = Writer(Vec::with_capacity(512));
        writer.field(TAG);
        writer.field(previous);
        writer.field(&time.to_be_bytes());
        writer.field(task.as_str().as_bytes());
        writer.field(&round.to_be_bytes());
        match event {
            Event::Reserve(Reserve { plan_digest, cohort_root, mechanism, delta }) => {
                writer.field(RESERVE);
                writer.field(plan_digest);
                writer.field(cohort_root);
                writer.mechanism(mechanism);
                writer.real(*delta);
            }
            Event::Commit(Commit { debit, clip_bits, adapter_digest }) => {
                writer.field(COMMIT);
                writer.debit(debit);
                writer.field(clip_bits.map(i32::to_be_bytes).as_ref().map_or(&[], |bytes| bytes));
                writer.field(adapter_digest);
            }
            Event::Release(Release { reservation, reason }) => {
                writer.field(RELEASE);
                writer.field(&reservation.to_be_bytes());
                writer.field(reason.as_str().as_bytes());
            }
            Event::Forfeit(debit) => {
                writer.field(FORFEIT);
                writer.debit(debit);
            }
            Event::Restart(signed) => {
                let Restart { coordinator, number, size, root } = signed.claimed();
                writer.field(RESTART);
                writer.field(coordinator);
                writer.field(&number.to_be_bytes());
                writer.field(&size.to_be_bytes());
                writer.field(root);
                writer.field(signed.signature());
            }
        }
        writer.0
    }

    /// Reads [`Self::encode`]'s bytes back.
    ///
    /// # Errors
    /// [`LedgerError::Malformed`] for anything but a whole canonical encoding of a feasible mechanism.
    pub fn decode(bytes: &[u8]) -> Result<Self, LedgerError> {
        Decoder::new().decode(bytes)
    }
}

/// Decodes many entries. Making a mechanism takes a thousand times longer than reading it, for its sampler is made with it;
/// and the entries of a round, and most rounds of a task, have the same one.
#[derive(Clone, Debug, Default)]
pub struct Decoder {
    /// Encodings that were read before, the latest last.
    known: Vec<(Vec<u8>, RoundMechanism)>,
}

impl Decoder {
    /// That knows no mechanism.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// As [`Entry::decode`].
    ///
    /// # Errors
    /// As [`Entry::decode`].
    pub fn decode(&mut self, bytes: &[u8]) -> Result<Entry, LedgerError> {
        let mut reader = Reader { bytes, offset: 0, known: &mut self.known };
        if reader.field("tag")? != TAG {
            return Err(reader.malformed("not a version 1 ledger entry"));
        }
        let entry = Entry {
            previous: reader.array("previous hash")?,
            time: u64::from_be_bytes(reader.array("time")?),
            task: reader.text("task")?,
            round: u64::from_be_bytes(reader.array("round")?),
            event: reader.event()?,
        };
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
        // Every field here is shorter than a kilobyte.
        self.0.extend_from_slice(&(bytes.len() as u32).to_be_bytes());
        self.0.extend_from_slice(bytes);
    }

    fn real(&mut self, value: f64) {
        self.field(&value.to_bits().to_be_bytes());
    }

    fn debit(&mut self, debit: &Debit) {
        let Debit { reservation, plan_digest, mechanism, survivors, participants_root, epsilon, delta } =
            debit;
        self.field(&reservation.to_be_bytes());
        self.field(plan_digest);
        self.mechanism(mechanism);
        self.field(&survivors.to_be_bytes());
        self.field(participants_root);
        self.real(*epsilon);
        self.real(*delta);
    }

    fn mechanism(&mut self, mechanism: &RoundMechanism) {
        match mechanism {
            RoundMechanism::Distributed(mechanism) => {
                self.field(mechanism.noise_law().name().as_bytes());
                self.distributed(mechanism);
            }
            RoundMechanism::Central(mechanism) => {
                self.field(CENTRAL);
                self.central(mechanism);
            }
        }
    }

    fn distributed(&mut self, mechanism: &Mechanism) {
        let request = mechanism.request();
        self.field(&request.clients.to_be_bytes());
        self.field(&request.n_min.to_be_bytes());
        self.field(&request.corrupt.get().to_be_bytes());
        self.field(&request.dropout.get().to_be_bytes());
        self.field(&(request.dimension as u64).to_be_bytes());
        self.real(request.clip);
        self.real(request.noise_multiplier);
        self.field(adjacency_name(request.adjacency).as_bytes());
        self.real(mechanism.scale());
        self.field(&mechanism.bits().to_be_bytes());
    }

    fn central(&mut self, mechanism: &CentralMechanism) {
        let request = mechanism.request();
        self.field(&request.clients.to_be_bytes());
        self.field(&request.n_min.to_be_bytes());
        self.field(&(request.dimension as u64).to_be_bytes());
        self.real(request.clip);
        self.real(request.noise_multiplier);
        self.field(adjacency_name(request.adjacency).as_bytes());
        self.real(mechanism.scale());
        self.field(&mechanism.bits().to_be_bytes());
        match &request.adaptive_clip {
            None => self.field(FIXED_CLIP),
            Some(rule) => {
                self.field(ADAPTIVE_CLIP);
                self.real(rule.target_quantile);
                self.real(rule.learning_rate);
                self.real(rule.count_noise);
            }
        }
    }
}

struct Reader<'a, 'k> {
    bytes: &'a [u8],
    offset: usize,
    known: &'k mut Vec<(Vec<u8>, RoundMechanism)>,
}

impl<'a> Reader<'a, '_> {
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

    fn text<const MOST: usize>(&mut self, name: &str) -> Result<Text<MOST>, LedgerError> {
        let text = std::str::from_utf8(self.field(name)?)
            .map_err(|_| self.malformed(&format!("the field \"{name}\" is not UTF-8")))?;
        Text::new(text).map_err(|reason| self.malformed(&format!("the field \"{name}\": {reason}")))
    }

    fn event(&mut self) -> Result<Event, LedgerError> {
        match self.field("event")? {
            RESERVE => Ok(Event::Reserve(Reserve {
                plan_digest: self.array("plan digest")?,
                cohort_root: self.array("cohort root")?,
                mechanism: self.mechanism()?,
                delta: self.real("delta")?,
            })),
            COMMIT => Ok(Event::Commit(Commit {
                debit: self.debit()?,
                clip_bits: self.clip_bits()?,
                adapter_digest: self.array("adapter digest")?,
            })),
            RELEASE => Ok(Event::Release(Release {
                reservation: u64::from_be_bytes(self.array("reservation")?),
                reason: self.text("reason")?,
            })),
            FORFEIT => self.debit().map(Event::Forfeit),
            RESTART => self.restart().map(Event::Restart),
            _ => {
                Err(self
                    .malformed("the field \"event\" is none of reserve, commit, release, forfeit, restart"))
            }
        }
    }

    fn debit(&mut self) -> Result<Debit, LedgerError> {
        Ok(Debit {
            reservation: u64::from_be_bytes(self.array("reservation")?),
            plan_digest: self.array("plan digest")?,
            mechanism: self.mechanism()?,
            survivors: u32::from_be_bytes(self.array("survivors")?),
            participants_root: self.array("participants root")?,
            epsilon: self.real("epsilon")?,
            delta: self.real("delta")?,
        })
    }

    fn restart(&mut self) -> Result<SignedRestart, LedgerError> {
        let restart = Restart {
            coordinator: self.array("coordinator")?,
            number: u32::from_be_bytes(self.array("number")?),
            size: u64::from_be_bytes(self.array("size")?),
            root: self.array("root")?,
        };
        Ok(restart.signed(self.array("signature")?))
    }

    fn clip_bits(&mut self) -> Result<Option<i32>, LedgerError> {
        let field = self.field("clip bits")?;
        if field.is_empty() {
            return Ok(None);
        }
        let bits = field
            .try_into()
            .map_err(|_| self.malformed("the field \"clip bits\" has neither 0 nor 4 bytes"))?;
        Ok(Some(i32::from_be_bytes(bits)))
    }

    fn mechanism(&mut self) -> Result<RoundMechanism, LedgerError> {
        // No encoding begins with another one, so what begins with a known one is that one.
        let rest = &self.bytes[self.offset..];
        if let Some((bytes, mechanism)) = self.known.iter().rev().find(|(bytes, _)| rest.starts_with(bytes)) {
            self.offset += bytes.len();
            return Ok(mechanism.clone());
        }
        let start = self.offset;
        let mechanism = self.new_mechanism()?;
        if self.known.len() == MOST_KNOWN {
            self.known.remove(0);
        }
        self.known.push((self.bytes[start..self.offset].to_vec(), mechanism.clone()));
        Ok(mechanism)
    }

    fn new_mechanism(&mut self) -> Result<RoundMechanism, LedgerError> {
        let name = self.field("mechanism")?;
        if name == CENTRAL {
            return Ok(self.central()?.into());
        }
        let noise_law = NoiseLaw::ALL.into_iter().find(|law| law.name().as_bytes() == name);
        let noise_law = noise_law.ok_or_else(|| self.malformed("no mechanism has this name"))?;
        Ok(self.distributed(noise_law)?.into())
    }

    fn dimension(&mut self) -> Result<usize, LedgerError> {
        usize::try_from(u64::from_be_bytes(self.array("dimension")?))
            .map_err(|_| self.malformed("the dimension does not fit this machine"))
    }

    fn distributed(&mut self, noise_law: NoiseLaw) -> Result<Mechanism, LedgerError> {
        let request = MechanismRequest {
            clients: u32::from_be_bytes(self.array("clients")?),
            n_min: u32::from_be_bytes(self.array("n_min")?),
            corrupt: self.fraction("corrupt")?,
            dropout: self.fraction("dropout")?,
            dimension: self.dimension()?,
            clip: self.real("clip")?,
            noise_multiplier: self.real("noise multiplier")?,
            adjacency: self.adjacency()?,
            noise_law,
        };
        let scale = self.real("scale")?;
        let bits = u32::from_be_bytes(self.array("bits")?);
        Mechanism::with_encoding(&request, bits, scale).map_err(|reason| self.no_mechanism(&reason))
    }

    fn central(&mut self) -> Result<CentralMechanism, LedgerError> {
        let mut request = CentralRequest {
            clients: u32::from_be_bytes(self.array("clients")?),
            n_min: u32::from_be_bytes(self.array("n_min")?),
            dimension: self.dimension()?,
            clip: self.real("clip")?,
            noise_multiplier: self.real("noise multiplier")?,
            adjacency: self.adjacency()?,
            adaptive_clip: None,
        };
        let scale = self.real("scale")?;
        let bits = u32::from_be_bytes(self.array("bits")?);
        match self.field("clip rule")? {
            FIXED_CLIP => {}
            ADAPTIVE_CLIP => {
                request.adaptive_clip = Some(AdaptiveClip {
                    target_quantile: self.real("target quantile")?,
                    learning_rate: self.real("learning rate")?,
                    count_noise: self.real("count noise")?,
                });
            }
            _ => {
                return Err(self.malformed("the field \"clip rule\" is neither fixed-clip nor adaptive-clip"));
            }
        }
        CentralMechanism::with_encoding(&request, bits, scale).map_err(|reason| self.no_mechanism(&reason))
    }

    fn no_mechanism(&self, reason: &Infeasible) -> LedgerError {
        self.malformed(&format!("no such mechanism: {reason}"))
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
