//! Whether the relative links of the documents lead to files of the checkout. Never looks at the network.

use std::io;
use std::path::{Path, PathBuf};

/// A Markdown document.
#[derive(Debug)]
pub(super) struct Page {
    /// From the root of the workspace.
    pub(super) path: PathBuf,
    text: String,
}

/// The documents at the root and below `docs/`.
pub(super) fn pages(root: &Path) -> io::Result<Vec<Page>> {
    let mut pages = Vec::new();
    let mut folders = vec![root.join("docs")];
    let mut files: Vec<PathBuf> = entries(root)?;
    while let Some(folder) = folders.pop() {
        for path in entries(&folder)? {
            if path.is_dir() { folders.push(path) } else { files.push(path) }
        }
    }
    for file in files.into_iter().filter(|file| file.extension().is_some_and(|extension| extension == "md")) {
        let path = file.strip_prefix(root).map_err(io::Error::other)?.to_path_buf();
        pages.push(Page { path, text: std::fs::read_to_string(&file)? });
    }
    pages.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(pages)
}

fn entries(folder: &Path) -> io::Result<Vec<PathBuf>> {
    std::fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect()
}

/// The links of a page whose file does not exist, one sentence each.
pub(super) fn broken(page: &Page, root: &Path) -> Vec<String> {
    let here = page.path.parent().unwrap_or(Path::new(""));
    let leads_nowhere = |target: &&str| {
        let elsewhere = target.contains("://") || target.starts_with("mailto:") || target.starts_with('#');
        let file = target.split('#').next().unwrap_or_default();
        !elsewhere && !root.join(here).join(file).exists()
    };
    targets(&page.text)
        .filter(leads_nowhere)
        .map(|target| format!("{}: {target} does not exist", page.path.display()))
        .collect()
}

/// What stands in the round brackets of `[words](target)`.
fn targets(text: &str) -> impl Iterator<Item = &str> {
    text.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(target, _)| target.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_links_that_lead_nowhere_are_named() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("docs/decisions")).unwrap();
        std::fs::write(root.path().join("README.md"), "").unwrap();
        let text = "[a](../README.md) [b](../README.md#part) [c](decisions/) [d](#here) [e](https://example.org/x)\n\
                    [f](README.md) and [g](decisions/0001.md).";
        std::fs::write(root.path().join("docs/page.md"), text).unwrap();

        let pages = pages(root.path()).unwrap();
        assert_eq!(
            pages.iter().map(|page| page.path.as_path()).collect::<Vec<_>>(),
            [Path::new("README.md"), Path::new("docs/page.md")]
        );
        assert!(broken(&pages[0], root.path()).is_empty());
        let page = Path::new("docs/page.md").display();
        let expected =
            ["README.md", "decisions/0001.md"].map(|target| format!("{page}: {target} does not exist"));
        assert_eq!(broken(&pages[1], root.path()), expected);
    }
}
