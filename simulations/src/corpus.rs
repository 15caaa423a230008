//! The fleet's code: one developer per crate or per folder, size capped, a part held out by the hash of its name.
//! Must never put a held-out developer's file among the training files, nor read a file in an order that depends on
//! the file system.

mod cargo;
mod folder;
mod overlap;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use rayon::prelude::*;
use tacit_client::code::{MAX_FILE_BYTES, Root, take};

use crate::scenario::CorpusSettings;

pub use cargo::find_lock;
pub use tacit_client::code::{FileCounts, SourceFile};

/// Where the fleet's code comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CorpusSource {
    /// The `.rs` sources that cargo keeps of exactly the packages in a `Cargo.lock`; one developer per crate.
    Cargo {
        /// The lock file.
        lock: PathBuf,
        /// `$CARGO_HOME`.
        cargo_home: PathBuf,
    },
    /// One folder per developer, in any language: every file that is UTF-8 text.
    Folder(PathBuf),
}

/// One simulated developer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Developer {
    /// Name of the crate or folder.
    pub name: String,
    /// Files in the order of their paths; at least one.
    pub files: Vec<SourceFile>,
}

impl Developer {
    /// Bytes of text.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.text.len() as u64).sum()
    }
}

/// What was left out of a corpus, and why.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skipped {
    /// Files.
    pub files: FileCounts,
    /// Packages of the lock file whose sources are not on this machine.
    pub packages_missing: u64,
    /// Developers without a single text file.
    pub developers_without_text: u64,
    /// Developers with fewer files than `corpus.minimum_files`.
    pub developers_with_few_files: u64,
    /// Developers with fewer bytes than `corpus.minimum_bytes`.
    pub developers_too_small: u64,
    /// Training developers of whom too little is left without copies of held-out code.
    pub developers_of_copies: u64,
}

/// The code of a fleet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Corpus {
    /// Developers who train, in the order of their names.
    pub training: Vec<Developer>,
    /// Developers whose code is only measured on, in the order of their names; at least one.
    pub held_out: Vec<Developer>,
    /// SHA-256 over the developers held out and then those who train, each in the order of their names: name, number of files, and of each file path and
    /// contents; every text preceded by its length and every number as eight bytes, little-endian.
    pub digest: [u8; 32],
    /// What was left out.
    pub skipped: Skipped,
}

/// Why a corpus cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CorpusError {
    /// A folder or file could not be read.
    #[error("{path}: {source}")]
    Io {
        /// Which.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The lock file is not one.
    #[error("{path} is not a Cargo.lock: {reason}")]
    Lock {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// None of the locked packages' sources are there.
    #[error(
        "{sources} holds the sources of none of the {packages} registry packages in {lock}; \
         run `cargo fetch --locked` in that workspace, or give --corpus DIR"
    )]
    NothingFetched {
        /// The lock file.
        lock: PathBuf,
        /// Registry packages in it.
        packages: usize,
        /// Cargo's source folder.
        sources: PathBuf,
    },
    /// A corpus folder without developers.
    #[error(
        "{path} has no folders inside; --corpus wants one folder per developer, each with that developer's files"
    )]
    NoDevelopers {
        /// The folder.
        path: PathBuf,
    },
    /// Nothing that can be read as text.
    #[error(
        "no readable text files in {path}: of the files there, {} are binary or not UTF-8, {} empty, \
         {} larger than {MEGABYTES} MB and {} could not be opened",
        .counts.not_text, .counts.empty, .counts.too_large, .counts.unreadable,
        MEGABYTES = MAX_FILE_BYTES >> 20
    )]
    NoText {
        /// Where files were looked for.
        path: PathBuf,
        /// Why each file was left out.
        counts: Box<FileCounts>,
    },
    /// Too few developers remain.
    #[error(
        "{found} developers with enough code, but at least {needed} are needed: one to train and one to hold out; \
         {small} have fewer than {minimum_bytes} bytes and {few} fewer than {minimum_files} files \
         (`corpus.minimum_bytes`, `corpus.minimum_files`)"
    )]
    TooFewDevelopers {
        /// Developers that remain.
        found: usize,
        /// How many are needed.
        needed: usize,
        /// How many were too small.
        small: u64,
        /// How many had too few files.
        few: u64,
        /// The size demanded.
        minimum_bytes: u64,
        /// The number of files demanded.
        minimum_files: usize,
    },
}

impl Corpus {
    /// Reads a corpus. Files are read in parallel, and the result depends on their names and contents alone.
    ///
    /// Of each developer, files are taken in the order of the SHA-256 of their paths until the size cap.
    /// Identical files of one developer (two versions of a crate) are taken once.
    ///
    /// # Errors
    /// [`CorpusError`] when nothing can be read or fewer than two developers remain.
    pub fn read(source: &CorpusSource, settings: &CorpusSettings) -> Result<Self, CorpusError> {
        let mut skipped = Skipped::default();
        let (folders, place) = match source {
            CorpusSource::Cargo { lock, cargo_home } => {
                let listed = cargo::developers(lock, cargo_home)?;
                skipped.packages_missing = listed.missing;
                (listed.developers, lock)
            }
            CorpusSource::Folder(path) => (folder::developers(path)?, path),
        };
        let mut developers = Vec::with_capacity(folders.len());
        let mut any_text = false;
        for (developer, counts) in take_all(folders, settings.bytes_per_developer) {
            skipped.files.add(&counts);
            any_text |= !developer.files.is_empty();
            if developer.files.is_empty() {
                skipped.developers_without_text += 1;
            } else if developer.files.len() < settings.minimum_files {
                skipped.developers_with_few_files += 1;
            } else if developer.bytes() < settings.minimum_bytes {
                skipped.developers_too_small += 1;
            } else {
                developers.push(developer);
            }
        }
        if !any_text {
            return Err(CorpusError::NoText { path: place.clone(), counts: Box::new(skipped.files) });
        }
        if developers.len() < 2 {
            return Err(CorpusError::TooFewDevelopers {
                found: developers.len(),
                needed: 2,
                small: skipped.developers_too_small,
                few: skipped.developers_with_few_files,
                minimum_bytes: settings.minimum_bytes,
                minimum_files: settings.minimum_files,
            });
        }
        developers.sort_by(|a, b| a.name.cmp(&b.name));
        let (held_out, mut training) = hold_out(developers, settings.held_out.as_f64());
        skipped.files.held_out_copies = overlap::take_out_copies(&mut training, &held_out);
        training.retain(|developer| {
            let enough = developer.bytes() >= settings.minimum_bytes
                && developer.files.len() >= settings.minimum_files.max(1);
            skipped.developers_of_copies += u64::from(!enough);
            enough
        });
        let digest = digest(held_out.iter().chain(&training));
        Ok(Self { training, held_out, digest, skipped })
    }

    /// Bytes and files of a set of developers.
    #[must_use]
    pub fn size(developers: &[Developer]) -> (u64, u64) {
        let bytes = developers.iter().map(Developer::bytes).sum();
        (bytes, developers.iter().map(|developer| developer.files.len() as u64).sum())
    }
}

/// Where one developer's files lie.
struct Folder {
    name: String,
    roots: Vec<Root>,
    /// Take only files with these extensions; any when there are none.
    extensions: Vec<String>,
}

/// Reads all developers in parallel; the answers are in the order given, and may be without files.
fn take_all(folders: Vec<Folder>, cap: u64) -> Vec<(Developer, FileCounts)> {
    let read = |Folder { name, roots, extensions }| {
        let (files, counts) = take(&roots, &extensions, cap);
        (Developer { name, files }, counts)
    };
    folders.into_par_iter().map(read).collect()
}

/// Splits off the share of developers with the smallest hashes of their names, rounded to whole developers, at least one and
/// never all; both parts keep their order.
fn hold_out(developers: Vec<Developer>, share: f64) -> (Vec<Developer>, Vec<Developer>) {
    let wanted = (developers.len() as f64 * share).round() as usize;
    let count = wanted.clamp(1, developers.len() - 1);
    let mut hashes: Vec<[u8; 32]> = developers.iter().map(|developer| name_hash(&developer.name)).collect();
    hashes.sort_unstable();
    let last = hashes[count - 1];
    developers.into_iter().partition(|developer| name_hash(&developer.name) <= last)
}

fn name_hash(name: &str) -> [u8; 32] {
    hash("tacit/held-out/v1", name)
}

/// SHA-256 of a purpose, a zero byte and a text.
pub(crate) fn hash(purpose: &str, text: &str) -> [u8; 32] {
    Sha256::new().chain_update(purpose).chain_update([0]).chain_update(text).finalize().into()
}

fn digest<'a>(developers: impl Iterator<Item = &'a Developer>) -> [u8; 32] {
    let mut state = Sha256::new();
    let text = |state: &mut Sha256, text: &str| {
        state.update((text.len() as u64).to_le_bytes());
        state.update(text);
    };
    for developer in developers {
        text(&mut state, &developer.name);
        state.update((developer.files.len() as u64).to_le_bytes());
        for file in &developer.files {
            text(&mut state, &file.path);
            text(&mut state, &file.text);
        }
    }
    state.finalize().into()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;

    use tacit_privacy::BasisPoints;

    use super::*;

    fn settings() -> CorpusSettings {
        CorpusSettings {
            bytes_per_developer: 1_000,
            minimum_bytes: 20,
            minimum_files: 1,
            held_out: BasisPoints::new(1_000).expect("a tenth"),
        }
    }

    fn write(path: &Path, contents: impl AsRef<[u8]>) {
        fs::create_dir_all(path.parent().expect("inside a folder")).expect("a folder");
        fs::write(path, contents).expect("a file");
    }

    fn folder_corpus(root: &Path, developers: usize) -> CorpusSource {
        for number in 0..developers {
            let folder = root.join(format!("dev{number:02}"));
            write(&folder.join("a.py"), format!("print({number})\nprint('two lines')\n"));
            write(&folder.join("deep/b.txt"), format!("text of {number}\n"));
        }
        CorpusSource::Folder(root.to_owned())
    }

    #[test]
    fn a_tenth_is_held_out_by_name_and_the_digest_sees_everything() {
        let root = tempfile::tempdir().expect("a folder");
        let source = folder_corpus(root.path(), 20);
        let corpus = Corpus::read(&source, &settings()).expect("a corpus");
        assert_eq!((corpus.training.len(), corpus.held_out.len()), (18, 2));
        let names = |developers: &[Developer]| -> BTreeSet<String> {
            developers.iter().map(|developer| developer.name.clone()).collect()
        };
        assert!(names(&corpus.training).is_disjoint(&names(&corpus.held_out)));
        let worst_held_out = corpus.held_out.iter().map(|d| name_hash(&d.name)).max().expect("some");
        assert!(corpus.training.iter().all(|d| name_hash(&d.name) > worst_held_out));
        assert_eq!(corpus.training[0].files[0].path, "a.py");
        assert_eq!(corpus.training[0].files[1].path, "deep/b.txt");
        assert_eq!(Corpus::read(&source, &settings()).expect("again"), corpus);
        write(&root.path().join("dev07/deep/b.txt"), "text of 8\n");
        let changed = Corpus::read(&source, &settings()).expect("a corpus");
        assert_ne!(changed.digest, corpus.digest);
        write(&root.path().join("dev07/deep/b.txt"), "text of 7\n");
        assert_eq!(Corpus::read(&source, &settings()).expect("a corpus").digest, corpus.digest);
    }

    #[test]
    fn what_is_not_text_is_skipped_and_counted() {
        let root = tempfile::tempdir().expect("a folder");
        let source = folder_corpus(root.path(), 2);
        write(&root.path().join("dev00/latin1.py"), b"# caf\xe9\n");
        write(&root.path().join("dev00/image.bin"), b"text\0with a zero byte");
        write(&root.path().join("dev00/empty.py"), " \n");
        write(&root.path().join("dev01/copy.py"), "print(1)\nprint('two lines')\n");
        write(&root.path().join("dev01/.hidden/config"), "not a source\n");
        write(&root.path().join("tiny/one.py"), "x\n");
        write(&root.path().join("blob/one.bin"), b"\0\0");
        let corpus = Corpus::read(&source, &settings()).expect("a corpus");
        let skipped = &corpus.skipped;
        assert_eq!((skipped.files.not_text, skipped.files.empty, skipped.files.duplicate), (3, 1, 1));
        assert_eq!((skipped.developers_too_small, skipped.developers_without_text), (1, 1));
        assert_eq!(corpus.training.len() + corpus.held_out.len(), 2);
        let paths = corpus.training.iter().chain(&corpus.held_out).flat_map(|d| &d.files);
        assert!(paths.clone().all(|file| file.path.ends_with(".py") || file.path.ends_with(".txt")));
        assert_eq!(paths.count(), 4);
    }

    #[test]
    fn a_developer_is_capped_at_a_lines_end() {
        let root = tempfile::tempdir().expect("a folder");
        let source = folder_corpus(root.path(), 3);
        write(&root.path().join("dev00/long.py"), "0123456789\n".repeat(500));
        let capped = Corpus::read(&source, &CorpusSettings { bytes_per_developer: 105, ..settings() });
        let capped = capped.expect("a corpus");
        for developer in capped.training.iter().chain(&capped.held_out) {
            assert!(developer.bytes() <= 105, "{}: {}", developer.name, developer.bytes());
            assert!(developer.files.iter().all(|file| file.text.ends_with('\n')));
        }
        assert_eq!(capped.skipped.files.cut, 1);
    }

    #[test]
    fn useless_corpora_are_named() {
        let root = tempfile::tempdir().expect("a folder");
        let source = CorpusSource::Folder(root.path().to_owned());
        let refuse =
            |settings: &CorpusSettings| Corpus::read(&source, settings).expect_err("refused").to_string();
        assert!(refuse(&settings()).contains("no folders inside"));
        write(&root.path().join("stray.py"), "print()\n");
        assert!(refuse(&settings()).contains("no folders inside"));
        write(&root.path().join("blob/one.bin"), b"\0\0");
        let error = refuse(&settings());
        assert!(error.contains("no readable text files") && error.contains("1 are binary"), "{error}");
        write(&root.path().join("dev/a.py"), "print('one developer only')\n");
        assert!(refuse(&settings()).contains("1 developers with enough code"));
        write(&root.path().join("dev2/a.py"), "print('a second developer')\n");
        assert!(Corpus::read(&source, &settings()).is_ok());
        let error = refuse(&CorpusSettings { minimum_files: 2, ..settings() });
        assert!(error.contains("2 fewer than 2 files"), "{error}");
        let missing = CorpusSource::Folder(root.path().join("nowhere"));
        let error = Corpus::read(&missing, &settings()).expect_err("refused").to_string();
        assert!(error.contains("nowhere"), "{error}");
    }

    #[test]
    fn versions_of_a_crate_are_one_developer() {
        let root = tempfile::tempdir().expect("a folder");
        let sources = root.path().join("home/registry/src/index.crates.io-0000");
        let code = |text: &str| format!("//! {text}\nfn main() {{}}\n");
        write(&sources.join("one-1.0.0/src/lib.rs"), code("first of one"));
        write(&sources.join("one-2.0.0/src/lib.rs"), code("second of one"));
        write(&sources.join("one-2.0.0/README.md"), "not Rust\n");
        write(&sources.join("two-0.1.0/src/lib.rs"), code("only version of two"));
        write(&sources.join("unused-0.1.0/src/lib.rs"), code("not in the lock file"));
        let package = |name: &str, version: &str, source: &str| {
            format!("[[package]]\nname = \"{name}\"\nversion = \"{version}\"\n{source}\n")
        };
        let registry = "source = \"registry+https://github.com/rust-lang/crates.io-index\"\n";
        let lock = [
            "version = 4\n".to_owned(),
            package("one", "1.0.0", registry),
            package("one", "2.0.0", registry),
            package("two", "0.1.0", registry),
            package("gone", "0.1.0", registry),
            package("ours", "0.1.0", ""),
        ];
        write(&root.path().join("work/Cargo.lock"), lock.concat());
        let below = root.path().join("work/a/b");
        fs::create_dir_all(&below).expect("a folder");
        let lock = find_lock(&below).expect("found upwards");
        let cargo_home = root.path().join("home");
        let source = CorpusSource::Cargo { lock: lock.clone(), cargo_home };
        let corpus = Corpus::read(&source, &settings()).expect("a corpus");
        let mut developers: Vec<&Developer> = corpus.training.iter().chain(&corpus.held_out).collect();
        developers.sort_by_key(|developer| &developer.name);
        let paths: Vec<Vec<&str>> =
            developers.iter().map(|d| d.files.iter().map(|f| f.path.as_str()).collect()).collect();
        assert_eq!(
            paths,
            [vec!["one-1.0.0/src/lib.rs", "one-2.0.0/src/lib.rs"], vec!["two-0.1.0/src/lib.rs"]]
        );
        assert_eq!(corpus.skipped.packages_missing, 1);

        let empty = CorpusSource::Cargo { lock, cargo_home: root.path().join("elsewhere") };
        let error = Corpus::read(&empty, &settings()).expect_err("refused").to_string();
        assert!(error.contains("none of the 4") && error.contains("cargo fetch"), "{error}");
    }
}
