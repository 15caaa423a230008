//! The fuzz targets, the corpus and the table of decoders must name each other. Must never write.

use super::folder;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use tacit_tests::decoders::all;

/// Bytes of the whole corpus, so that it stays a few files and not what a fuzzer collected.
const CORPUS_BYTES: u64 = 512 << 10;

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz")
}

fn names_in(folder: &Path, suffix: &str) -> BTreeSet<String> {
    let entries = std::fs::read_dir(folder).expect("the folder is committed");
    let names =
        entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("a plain name"));
    names.filter_map(|name| name.strip_suffix(suffix).map(str::to_owned)).collect()
}

#[test]
fn every_decoder_has_a_fuzz_target_and_a_corpus_and_nothing_else_has() {
    let table: BTreeSet<String> = all().iter().map(|decoder| decoder.name.to_owned()).collect();
    assert_eq!(table.len(), all().len(), "two decoders have one name");
    assert_eq!(names_in(&fuzz().join("fuzz_targets"), ".rs"), table);
    assert_eq!(names_in(&fuzz().join("corpus"), ""), table);
    let manifest = std::fs::read_to_string(fuzz().join("Cargo.toml")).expect("the manifest");
    let listed: BTreeSet<String> = manifest
        .lines()
        .filter_map(|line| Some(line.strip_prefix("name = \"")?.strip_suffix('"')?.to_owned()))
        .filter(|name| name != "tacit-fuzz")
        .collect();
    assert_eq!(listed, table);
    for name in &table {
        let target = std::fs::read_to_string(fuzz().join("fuzz_targets").join(format!("{name}.rs")));
        let target = target.expect("the target");
        assert!(
            target.contains(&format!("decoders::run(\"{name}\", bytes)")),
            "{name} fuzzes something else"
        );
    }
}

#[test]
fn the_corpus_is_small() {
    let bytes = |name: &str| -> u64 {
        let entries = std::fs::read_dir(folder(name)).expect("the folder is committed");
        entries.map(|entry| entry.and_then(|entry| entry.metadata()).expect("a file").len()).sum()
    };
    let total: u64 = all().iter().map(|decoder| bytes(decoder.name)).sum();
    assert!(total < CORPUS_BYTES, "{total} bytes");
}
