//! How source files are laid out, and what the two pure crates may not mention.

use std::io;
use std::path::Path;

/// Lines that a file may have before its tests.
const MOST_LINES: usize = 500;

/// What pure crates may not mention in code: input and output, ambient time, ambient randomness, threads of their own.
const AMBIENT: &[&str] = &[
    "std::fs",
    "std::io",
    "std::net",
    "std::env",
    "std::process",
    "std::thread",
    "SystemTime",
    "Instant::now",
    "SystemRandom",
    "OsRng",
    "SysRng",
    "ThreadRng",
    "thread_rng",
    "rand::rng(",
    "rand::random",
    "make_rng",
    "getrandom",
    "println!",
    "eprintln!",
];

/// Folders whose code must be pure.
const PURE: &[&str] = &["privacy/src/", "aggregation/src/"];

/// Folders of command-line programs, which live by input and output.
const PROGRAMS: &[&str] = &["privacy/src/bin/"];

/// A Rust source file.
#[derive(Debug)]
pub(super) struct Source {
    /// From the root of the workspace, with `/` on every system.
    pub(super) path: String,
    text: String,
}

/// Every Rust source of the checkout that people write.
pub(super) fn read(root: &Path) -> io::Result<Vec<Source>> {
    let mut sources = Vec::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder)? {
            let entry = entry?;
            let path = entry.path();
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if entry.file_type()?.is_dir() {
                // Hidden folders, generated code, and whatever cargo builds into (it leaves this tag there).
                let written =
                    !name.starts_with('.') && name != "generated" && !path.join("CACHEDIR.TAG").exists();
                if written {
                    folders.push(path);
                }
            } else if name.ends_with(".rs") {
                let relative = path.strip_prefix(root).map_err(io::Error::other)?;
                let parts: Vec<_> = relative.iter().map(|part| part.to_string_lossy()).collect();
                sources.push(Source { path: parts.join("/"), text: std::fs::read_to_string(&path)? });
            }
        }
    }
    sources.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(sources)
}

/// What in a file breaks the house rules, one sentence each.
pub(super) fn violations(source: &Source) -> Vec<String> {
    let mut broken = Vec::new();
    let path = &source.path;
    if path.ends_with("/mod.rs") {
        broken.push(format!("{path}: module files are named after their module, never mod.rs"));
    }
    if !source.text.starts_with("//! ") {
        broken.push(format!("{path}: the first line must be a `//!` that says what the file is for"));
    }
    let code = before_tests(source);
    if code.len() > MOST_LINES {
        broken.push(format!("{path}: {} lines before its tests, at most {MOST_LINES}", code.len()));
    }
    let inside = |folders: &[&str]| folders.iter().any(|folder| path.starts_with(folder));
    if inside(PURE) && !inside(PROGRAMS) {
        for (number, line) in code.iter().enumerate() {
            let line = line.trim_start();
            if line.starts_with("//") {
                continue;
            }
            for ambient in AMBIENT.iter().filter(|ambient| line.contains(*ambient)) {
                broken.push(format!("{path}:{}: a pure crate may not use {ambient}", number + 1));
            }
        }
    }
    for (number, line) in source.text.lines().enumerate() {
        if line.trim_start().starts_with(concat!("#[", "ignore")) {
            broken.push(format!("{path}:{}: a test that does not run proves nothing", number + 1));
        }
    }
    broken
}

/// The lines above the test module; none of a file that is nothing but tests.
fn before_tests(source: &Source) -> Vec<&str> {
    let mut folders = source.path.split('/').rev().skip(1);
    if source.path.ends_with("/tests.rs") || folders.any(|folder| folder == "tests" || folder == "benches") {
        // `tests/src` is a crate like any other.
        if !source.path.starts_with("tests/src/") {
            return Vec::new();
        }
    }
    let lines: Vec<&str> = source.text.lines().collect();
    let end = (0..lines.len()).find(|&at| {
        let item = lines[at + 1..].iter().find(|line| !line.starts_with("#["));
        lines[at] == "#[cfg(test)]"
            && item.is_some_and(|item| {
                item.starts_with("mod ") || item.starts_with("pub") && item.contains(" mod ")
            })
    });
    lines[..end.unwrap_or(lines.len())].to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(path: &str, text: &str) -> Vec<String> {
        violations(&Source { path: path.to_owned(), text: text.to_owned() })
    }

    #[test]
    fn a_good_file_passes() {
        let tests = "#[cfg(test)]\n#[allow(clippy::unwrap_used)]\nmod tests {\n    use std::fs;\n}\n";
        let code = "let x = 1;\n".repeat(MOST_LINES - 2);
        let good = format!("//! What it is for.\n// Not a word about std::fs.\n{code}{tests}{code}");
        assert_eq!(judge("privacy/src/clip.rs", &good), Vec::<String>::new());
        let shared = good.replace("\nmod tests", "\npub(crate) mod tests");
        assert_ne!(shared, good);
        assert_eq!(judge("privacy/src/clip.rs", &shared), Vec::<String>::new());
    }

    #[test]
    fn each_broken_rule_is_named() {
        let long = format!("//! Long.\n{}", "let x = 1;\n".repeat(MOST_LINES));
        let only_a_helper =
            format!("//! Long.\n#[cfg(test)]\nfn helper() {{}}\n{}", "let x = 1;\n".repeat(MOST_LINES));
        let ignored = concat!("//! Tests.\n    #[", "ignore = \"slow\"]\n");
        let cases = [
            ("client/src/a.rs", "use std::fs;\n", "client/src/a.rs: the first line must be a `//!`"),
            ("client/src/a.rs", "\n//! Late.\n", "client/src/a.rs: the first line must be a `//!`"),
            ("client/src/a/mod.rs", "//! Fine.\n", "client/src/a/mod.rs: module files are named"),
            ("client/src/a.rs", &long, "client/src/a.rs: 501 lines before its tests"),
            ("client/src/a.rs", &only_a_helper, "client/src/a.rs: 503 lines before its tests"),
            ("tests/src/a.rs", &long, "tests/src/a.rs: 501 lines before its tests"),
            (
                "privacy/src/a.rs",
                "//! Pure.\nuse std::fs::File;\n",
                "privacy/src/a.rs:2: a pure crate may not use std::fs",
            ),
            (
                "aggregation/src/a.rs",
                "//! Pure.\nlet now = SystemTime::now();\n",
                "aggregation/src/a.rs:2: a pure",
            ),
            (
                "aggregation/src/a/b.rs",
                "//! Pure.\nlet mut rng = OsRng;\n",
                "aggregation/src/a/b.rs:2: a pure",
            ),
            ("tests/tests/it/a.rs", ignored, "tests/tests/it/a.rs:2: a test that does not run"),
        ];
        for (path, text, expected) in cases {
            let broken = judge(path, text);
            assert_eq!(broken.len(), 1, "{path}: {broken:?}");
            assert!(broken[0].starts_with(expected), "{} is not {expected}", broken[0]);
        }
    }

    #[test]
    fn only_the_layout_of_test_files_is_free() {
        let long = format!("//! Long.\n{}", "let x = 1;\n".repeat(MOST_LINES));
        for path in ["privacy/tests/it.rs", "privacy/benches/pipeline.rs", "privacy/src/mechanism/tests.rs"] {
            assert_eq!(judge(path, &long), Vec::<String>::new(), "{path}");
        }
        assert_eq!(judge("simulations/src/a.rs", "//! May.\nuse std::fs;\n"), Vec::<String>::new());
    }
}
