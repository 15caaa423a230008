//! Developers from a `Cargo.lock`: each crate that cargo downloaded is one, its versions merged.
//! Must never read a package that the lock file does not name.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use tacit_client::code::Root;

use super::{CorpusError, Folder};

/// The developers that a lock file names.
pub(super) struct Listed {
    pub(super) developers: Vec<Folder>,
    /// Registry packages whose sources are not there.
    pub(super) missing: u64,
}

#[derive(Deserialize)]
struct Lock {
    #[serde(default)]
    package: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    version: String,
    source: Option<String>,
}

/// The `Cargo.lock` in `start` or the nearest folder above it.
#[must_use]
pub fn find_lock(start: &Path) -> Option<PathBuf> {
    start.ancestors().map(|folder| folder.join("Cargo.lock")).find(|path| path.is_file())
}

pub(super) fn developers(lock: &Path, cargo_home: &Path) -> Result<Listed, CorpusError> {
    let text =
        std::fs::read_to_string(lock).map_err(|source| CorpusError::Io { path: lock.to_owned(), source })?;
    let parsed: Lock = toml::from_str(&text)
        .map_err(|error| CorpusError::Lock { path: lock.to_owned(), reason: error.to_string() })?;
    let from_registry = |package: &Package| {
        package
            .source
            .as_deref()
            .is_some_and(|source| source.starts_with("registry+") || source.starts_with("sparse+"))
    };
    let packages: Vec<Package> = parsed.package.into_iter().filter(from_registry).collect();
    let sources = cargo_home.join("registry").join("src");
    let registries = registries(&sources);
    let mut developers: BTreeMap<&str, Vec<Root>> = BTreeMap::new();
    let mut missing = 0;
    for package in &packages {
        let folder = format!("{}-{}", package.name, package.version);
        match registries.iter().map(|registry| registry.join(&folder)).find(|path| path.is_dir()) {
            Some(path) => {
                developers.entry(&package.name).or_default().push(Root { prefix: folder + "/", path });
            }
            None => missing += 1,
        }
    }
    if developers.is_empty() {
        let packages = packages.len();
        return Err(CorpusError::NothingFetched { lock: lock.to_owned(), packages, sources });
    }
    let developers = developers
        .into_iter()
        .map(|(name, roots)| Folder { name: name.to_owned(), roots, extensions: vec!["rs".to_owned()] })
        .collect();
    Ok(Listed { developers, missing })
}

/// The folders of cargo's registries, in the order of their names; none when cargo never fetched.
fn registries(sources: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(sources).into_iter().flatten().flatten();
    let mut folders: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
    folders.sort_unstable();
    folders
}
