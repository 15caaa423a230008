//! Replays the committed corpus, and random mutations of it, through the same checks that the fuzz targets run. Must never
//! depend on anything but the corpus and fixed seeds.

#![allow(clippy::panic, reason = "a broken promise stops the test where an assertion would")]

mod layout;
mod memory;
mod mutate;

use mutate::Mutator;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use tacit_tests::decoders::{Decoder, all};

/// Mutated inputs for each file of the corpus, unless `DECODER_MUTATIONS` says otherwise.
const MUTATIONS: usize = 150;

/// The folder of a decoder's corpus.
pub(crate) fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(name)
}

/// The committed files of a decoder, by name.
pub(crate) fn corpus(name: &str) -> BTreeMap<String, Vec<u8>> {
    let entries = std::fs::read_dir(folder(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    entries
        .map(|entry| {
            let path = entry.expect("an entry of the folder").path();
            let file = path.file_name().and_then(|name| name.to_str()).expect("a plain name").to_owned();
            (file, std::fs::read(&path).expect("a committed file"))
        })
        .collect()
}

/// Runs a check, and names the input that breaks a promise.
fn run(decoder: &Decoder, origin: &str, bytes: &[u8]) -> bool {
    catch_unwind(AssertUnwindSafe(|| (decoder.check)(bytes))).unwrap_or_else(|_| {
        let shown: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        panic!(
            "decoder {} broke a promise on {} bytes that came from {origin}; once it is mended, keep them in {}:\n{shown}",
            decoder.name,
            bytes.len(),
            folder(decoder.name).display()
        )
    })
}

fn mutations() -> usize {
    match std::env::var("DECODER_MUTATIONS") {
        Ok(count) => count.parse().expect("DECODER_MUTATIONS is a number"),
        Err(_) => MUTATIONS,
    }
}

#[test]
fn the_corpus_is_judged_as_its_file_names_say() {
    for decoder in all() {
        let files = corpus(decoder.name);
        let accepted = files.keys().filter(|file| file.starts_with("good")).count();
        assert!(accepted >= 1, "{} has no file that is accepted", decoder.name);
        for (file, bytes) in files {
            assert!(bytes.len() <= decoder.longest, "{}/{file} is longer than what is tried", decoder.name);
            let good = file.starts_with("good");
            assert!(good || file.starts_with("bad"), "{}/{file} says neither good nor bad", decoder.name);
            assert_eq!(run(&decoder, &file, &bytes), good, "{}/{file}", decoder.name);
        }
    }
}

#[test]
fn mutations_of_the_corpus_break_no_promise() {
    let mut accepted = 0_usize;
    let mut refused = 0_usize;
    for decoder in all() {
        let files: Vec<Vec<u8>> = corpus(decoder.name).into_values().collect();
        // Opening an envelope is a whole step of a round, restoring a journal several.
        let slow = ["envelope", "client_journal", "server_journal"].contains(&decoder.name);
        let count = if slow { mutations() / 4 } else { mutations() };
        for (place, file) in files.iter().enumerate() {
            let mut mutator = Mutator::new(decoder.name, place as u64);
            for number in 0..count {
                let bytes = mutator.mutate(file, &files, decoder.longest);
                let origin = format!("mutation {number} of file {place}");
                if run(&decoder, &origin, &bytes) { accepted += 1 } else { refused += 1 }
            }
        }
    }
    // Both ways through the decoders are taken often.
    let total = accepted + refused;
    assert!(
        20 * accepted > total && 20 * refused > total,
        "{accepted} of {total} mutated inputs were accepted"
    );
}

#[test]
fn bytes_that_mean_nothing_break_no_promise() {
    for decoder in all() {
        let mut mutator = Mutator::new(decoder.name, u64::MAX);
        for number in 0..20 {
            let bytes = mutator.noise(decoder.longest.min(600));
            run(&decoder, &format!("noise {number}"), &bytes);
        }
        for constant in [0, 1, 0x7f, 0x80, 0xff] {
            for length in [0, 1, 2, 3, 4, 5, 8, 16, 31, 32, 33, 64, 79, 80, 96, 128, 224, 300] {
                run(&decoder, "constant bytes", &vec![constant; length]);
            }
        }
    }
}
