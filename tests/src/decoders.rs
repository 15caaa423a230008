//! Every decoder of bytes that come from elsewhere, with what must hold of it whatever the bytes are. Must never look at more
//! than the public interfaces, nor accept less than they promise.
//!
//! One table serves two readers: the fuzz targets in `fuzz/`, which search for bytes that break a promise, and the test
//! suite, which replays the committed corpus and random mutations of it.

#[cfg(feature = "client")]
mod client;
mod coordinator;
mod envelope;
mod identity;
mod journal;
mod privacy;
mod secagg;
mod stored;
mod wire;

/// A decoder, and what must hold of it.
#[derive(Clone, Copy, Debug)]
pub struct Decoder {
    /// Name of the fuzz target and of its folder in the corpus.
    pub name: &'static str,
    /// Longest input worth trying, in bytes.
    pub longest: usize,
    /// Decodes bytes, checks the result, and says whether they were accepted. Panics when a promise is broken.
    pub check: fn(&[u8]) -> bool,
}

/// All of them, in the order of their names.
#[must_use]
pub fn all() -> Vec<Decoder> {
    let mut all: Vec<Decoder> = [
        wire::DECODERS,
        secagg::DECODERS,
        privacy::DECODERS,
        coordinator::DECODERS,
        identity::DECODERS,
        #[cfg(feature = "client")]
        client::DECODERS,
    ]
    .concat();
    all.sort_unstable_by_key(|decoder| decoder.name);
    all
}

/// The secret key of the coordinator whose signed heads `ledger_export` accepts.
pub const EXPORT_KEY: [u8; 32] = [7; 32];

/// The secret key of the identity root whose certificates and lists the decoders of what it issues know.
pub const ROOT_KEY: [u8; 32] = [8; 32];

/// Runs the decoder of a name, for a fuzz target.
///
/// # Panics
/// When the decoder breaks a promise on these bytes, and for a name that is not in the table.
pub fn run(name: &str, bytes: &[u8]) {
    let decoder = all().into_iter().find(|decoder| decoder.name == name).expect("a name in the table");
    (decoder.check)(bytes);
}

/// The one input that the `envelope` decoder accepts, for its corpus.
#[must_use]
pub fn genuine_envelope() -> Vec<u8> {
    envelope::genuine()
}

/// Inputs that `client_journal`, and that `server_journal` accepts, for their corpus.
#[must_use]
pub fn genuine_journals() -> [Vec<Vec<u8>>; 2] {
    journal::genuine()
}

/// Takes a big-endian number off the front.
fn number(bytes: &mut &[u8]) -> Option<u32> {
    let (first, rest) = bytes.split_first_chunk::<4>()?;
    *bytes = rest;
    Some(u32::from_be_bytes(*first))
}
