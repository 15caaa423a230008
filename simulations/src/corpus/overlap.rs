//! Keeps copies of held-out code out of the training files: vendored files, renamed crates, families written from one
//! template. Must never look at a held-out file's name, only at its lines.

use std::collections::HashSet;

use sha2::{Digest, Sha256};

use super::{Developer, SourceFile};

/// Consecutive lines that count as copied when a held-out file has them too.
const WINDOW: usize = 6;
/// Windows with fewer bytes say too little: closing braces, attributes.
const WINDOW_BYTES: usize = 80;
/// A training file is a copy when at least this share of its windows is in held-out files.
const SHARE: f64 = 0.2;

/// Takes every file out of `training` that copies held-out code; gives how many.
pub(super) fn take_out_copies(training: &mut [Developer], held_out: &[Developer]) -> u64 {
    let known: HashSet<[u8; 32]> = held_out.iter().flat_map(|owner| &owner.files).flat_map(windows).collect();
    let whole: HashSet<&str> =
        held_out.iter().flat_map(|owner| &owner.files).map(|file| file.text.as_str()).collect();
    let mut taken_out = 0;
    for developer in training {
        let before = developer.files.len();
        developer.files.retain(|file| !whole.contains(file.text.as_str()) && !is_copy(file, &known));
        taken_out += (before - developer.files.len()) as u64;
    }
    taken_out
}

fn is_copy(file: &SourceFile, known: &HashSet<[u8; 32]>) -> bool {
    let windows = windows(file);
    let copied = windows.iter().filter(|window| known.contains(*window)).count();
    copied > 0 && copied as f64 >= SHARE * windows.len() as f64
}

/// Hashes of all runs of lines, blank lines and indentation left out.
fn windows(file: &SourceFile) -> Vec<[u8; 32]> {
    let lines: Vec<&str> = file.text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let long = |window: &&[&str]| window.iter().map(|line| line.len()).sum::<usize>() >= WINDOW_BYTES;
    lines.windows(WINDOW).filter(long).map(|window| Sha256::digest(window.join("\n")).into()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn developer(name: &str, texts: &[&str]) -> Developer {
        let file = |(index, text): (usize, &&str)| SourceFile {
            path: format!("{index}.rs"),
            text: (*text).to_owned(),
        };
        Developer { name: name.to_owned(), files: texts.iter().enumerate().map(file).collect() }
    }

    fn code(from: usize, to: usize) -> String {
        (from..to).map(|line| format!("    let value_{line} = compute({line}) + {};\n", line * 7)).collect()
    }

    #[test]
    fn copies_go_and_everything_else_stays() {
        let held_out = [developer("held", &[&code(0, 40), "tiny\n"])];
        let renamed = code(0, 40).replace("    let", "\tlet").replace(";\n", ";\n\n");
        let mostly = code(20, 40) + &code(100, 130);
        let hardly = code(34, 40) + &code(200, 290);
        let other = code(300, 340);
        let mut training =
            [developer("copier", &[&renamed, &mostly, "tiny\n"]), developer("other", &[&hardly, &other])];
        assert_eq!(take_out_copies(&mut training, &held_out), 3);
        assert!(training[0].files.is_empty());
        assert_eq!(training[1].files.len(), 2);
    }
}
