//! What the hardware and the primitives allow, measured in the same run as what is compared with it. Must never do more work
//! than the comparison names.

use aes::cipher::{BlockCipherEncrypt as _, KeyInit as _};
use aes::{Aes256Enc, Block};
use rayon::iter::{IntoParallelIterator as _, ParallelIterator as _};
use std::hint::black_box;
use std::time::{Duration, Instant};

/// The shortest of several runs.
pub(crate) fn fastest(runs: usize, mut run: impl FnMut()) -> Duration {
    let mut once = || {
        let start = Instant::now();
        run();
        start.elapsed()
    };
    (0..runs).map(|_| once()).min().unwrap_or_default()
}

/// Keystream of `masks` masks of `bytes` bytes from block `first` on, produced and thrown away: the least that masking can
/// cost.
fn keystream(masks: usize, first: u64, bytes: usize) {
    let mut counters = [Block::default(); 512];
    let mut keystream = [Block::default(); 512];
    let (first, blocks) = (first, (bytes / 16) as u64);
    for start in (first..first + blocks).step_by(counters.len()) {
        for (counter, block) in (start..).zip(&mut counters) {
            block[8..].copy_from_slice(&counter.to_be_bytes());
        }
        for index in 0..masks {
            let cipher = Aes256Enc::new(&[index as u8; 32].into());
            cipher.encrypt_blocks_b2b(&counters, &mut keystream).expect("as many blocks out as in");
            black_box(&keystream);
        }
    }
}

/// Bare AES-256-CTR of `masks` masks of `bytes` bytes on this thread.
pub(crate) fn bare_keystream(masks: usize, bytes: usize) {
    keystream(masks, 0, bytes);
}

/// The same on all threads of rayon's pool, the masks' bytes divided among them.
pub(crate) fn bare_keystream_on_all_cores(masks: usize, bytes: usize) {
    const SEGMENT: usize = 128 << 10;
    (0..bytes / SEGMENT).into_par_iter().for_each(|segment| {
        keystream(masks, (segment * SEGMENT / 16) as u64, SEGMENT);
    });
}

/// A field of this process's status, in bytes; none where the operating system has no such file.
pub(crate) fn memory(field: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

/// Makes the peak of the resident memory what it is now.
pub(crate) fn forget_peak() {
    // Where this is not possible the peak only shows more.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

/// Prints a line of figures.
#[expect(clippy::print_stderr, reason = "the figures are what this benchmark is for")]
pub(crate) fn say(text: &str) {
    eprintln!("{text}");
}
