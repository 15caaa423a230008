//! Developers from a folder: each folder inside is one. Must never look outside it.

use std::path::Path;

use tacit_client::code::Root;

use super::{CorpusError, Folder};

pub(super) fn developers(path: &Path) -> Result<Vec<Folder>, CorpusError> {
    let failed = |source| CorpusError::Io { path: path.to_owned(), source };
    let mut developers = Vec::new();
    for entry in std::fs::read_dir(path).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        // A link is not followed: what it points to may lie outside, or be another developer.
        if entry.file_type().map_err(failed)?.is_dir() && !name.starts_with('.') {
            let root = Root { prefix: String::new(), path: entry.path() };
            developers.push(Folder { name, roots: vec![root], extensions: Vec::new() });
        }
    }
    if developers.is_empty() {
        return Err(CorpusError::NoDevelopers { path: path.to_owned() });
    }
    developers.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(developers)
}
