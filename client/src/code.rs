//! Reads source code from folders up to a size cap, the same way for a client and for a simulated one. Must never follow a link
//! or depend on the order of a listing.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::collections::HashSet;
use std::path::PathBuf;
use walkdir::WalkDir;

/// Larger files are tables or generated code; they are skipped unread.
pub const MAX_FILE_BYTES: u64 = 4 << 20;

/// One text file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceFile {
    /// Path inside its root with `/` between its parts, after the root's prefix.
    pub path: String,
    /// Contents, cut at a line's end where the size cap fell into this file.
    pub text: String,
}

/// A folder, and what its files' paths are prefixed with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Root {
    /// What the paths begin with.
    pub prefix: String,
    /// The folder.
    pub path: PathBuf,
}

/// Files by what became of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileCounts {
    /// Taken, whole or cut.
    pub taken: u64,
    /// Cut at a line's end where the size cap fell.
    pub cut: u64,
    /// Not looked at because the size cap was reached.
    pub beyond_cap: u64,
    /// Binary (with a zero byte) or not UTF-8, names included.
    pub not_text: u64,
    /// Nothing but white space.
    pub empty: u64,
    /// The same contents as another file of that developer.
    pub duplicate: u64,
    /// Taken out of the training files because a fifth or more of it is in a held-out file.
    pub held_out_copies: u64,
    /// Larger than 4 MB.
    pub too_large: u64,
    /// Could not be opened or read.
    pub unreadable: u64,
}

impl FileCounts {
    /// Adds the counts of other files.
    pub fn add(&mut self, other: &Self) {
        self.taken += other.taken;
        self.cut += other.cut;
        self.beyond_cap += other.beyond_cap;
        self.not_text += other.not_text;
        self.empty += other.empty;
        self.duplicate += other.duplicate;
        self.held_out_copies += other.held_out_copies;
        self.too_large += other.too_large;
        self.unreadable += other.unreadable;
    }
}

/// A file found but not yet read.
struct Found {
    order: [u8; 32],
    path: String,
    location: PathBuf,
    bytes: u64,
}

/// Takes text files in the order of the SHA-256 of their paths until there are `cap` bytes, and identical ones once. Of an
/// empty list of extensions any file is taken. The files come in the order of their paths.
#[must_use]
pub fn take(roots: &[Root], extensions: &[String], cap: u64) -> (Vec<SourceFile>, FileCounts) {
    let mut counts = FileCounts::default();
    let mut found = list(roots, extensions, &mut counts);
    found.sort_by_key(|file| file.order);
    let mut files: Vec<SourceFile> = Vec::new();
    let mut seen = HashSet::new();
    let mut room = cap;
    for file in found {
        if room == 0 {
            counts.beyond_cap += 1;
            continue;
        }
        let Some(text) = read_text(&file, &mut counts) else { continue };
        if !seen.insert(<[u8; 32]>::from(Sha256::digest(&text))) {
            counts.duplicate += 1;
            continue;
        }
        let text = if text.len() as u64 > room {
            // The cap falls into this file: keep its whole lines that fit, and stop.
            let fitting = text.floor_char_boundary(room as usize);
            room = 0;
            match text[..fitting].rfind('\n') {
                Some(end) => {
                    counts.cut += 1;
                    text[..=end].to_owned()
                }
                None => {
                    counts.beyond_cap += 1;
                    continue;
                }
            }
        } else {
            room -= text.len() as u64;
            text
        };
        counts.taken += 1;
        files.push(SourceFile { path: file.path, text });
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    (files, counts)
}

fn list(roots: &[Root], extensions: &[String], counts: &mut FileCounts) -> Vec<Found> {
    let mut found = Vec::new();
    for root in roots {
        let walk = WalkDir::new(&root.path).follow_links(false).into_iter();
        let visible = |entry: &walkdir::DirEntry| {
            entry.depth() == 0 || !entry.file_name().to_string_lossy().starts_with('.')
        };
        for entry in walk.filter_entry(visible) {
            let Ok(entry) = entry else {
                counts.unreadable += 1;
                continue;
            };
            let extension = entry.path().extension();
            let fits = extensions.is_empty()
                || extension.is_some_and(|found| extensions.iter().any(|wanted| found == wanted.as_str()));
            if !entry.file_type().is_file() || !fits {
                continue;
            }
            let relative = entry.path().strip_prefix(&root.path).unwrap_or(entry.path());
            let parts: Option<Vec<&str>> = relative.iter().map(|part| part.to_str()).collect();
            let (Some(parts), Ok(metadata)) = (parts, entry.metadata()) else {
                counts.not_text += 1;
                continue;
            };
            let path = format!("{}{}", root.prefix, parts.join("/"));
            let order = order_of(&path);
            found.push(Found { order, path, location: entry.path().to_owned(), bytes: metadata.len() });
        }
    }
    found
}

/// Where a path stands in the order in which files are taken.
fn order_of(path: &str) -> [u8; 32] {
    Sha256::new().chain_update("tacit/corpus-order/v1").chain_update([0]).chain_update(path).finalize().into()
}

fn read_text(file: &Found, counts: &mut FileCounts) -> Option<String> {
    if file.bytes > MAX_FILE_BYTES {
        counts.too_large += 1;
        return None;
    }
    let Ok(bytes) = std::fs::read(&file.location) else {
        counts.unreadable += 1;
        return None;
    };
    if bytes.contains(&0) {
        counts.not_text += 1;
        return None;
    }
    let Ok(text) = String::from_utf8(bytes) else {
        counts.not_text += 1;
        return None;
    };
    if text.trim().is_empty() {
        counts.empty += 1;
        return None;
    }
    Some(text)
}
