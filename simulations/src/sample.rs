//! The held-out sample: which excerpts are measured, and which function beginnings are completed.
//! Must never look at a training developer's file, and must choose by hashes alone, the same at every run.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::corpus::{Developer, SourceFile, hash};

/// Lines before a function that its prompt begins with, at most.
const PROMPT_LINES: usize = 12;
/// Lines that a function's body has at least, blank ones not counted among them.
const SHORTEST_BODY: usize = 3;
/// Bytes of a prompt at most; about half of the model's positions.
const PROMPT_BYTES: usize = 480;
/// Lines shown of what the author wrote.
const AUTHOR_LINES: usize = 6;

/// A piece of a held-out file that bits per byte are measured on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Excerpt {
    /// The held-out developer.
    pub developer: String,
    /// The file.
    pub path: String,
    /// First byte of the excerpt in the file.
    pub start: u64,
    /// Bytes of the excerpt.
    pub bytes: u64,
    /// The text; not in the report.
    #[serde(skip)]
    pub text: String,
}

/// The beginning of a held-out function, and what its author wrote next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prompt {
    /// The held-out developer.
    pub developer: String,
    /// The file.
    pub path: String,
    /// Some lines before the function, its first line, and the first line of its body.
    pub text: String,
    /// The author's next lines.
    pub author: String,
}

/// Picks `files` excerpts of at most `bytes`: one file of each developer in turn, developers and files in the order of
/// their hashes, each excerpt from the beginning of a line that the file's hash points to.
#[must_use]
pub fn excerpts(held_out: &[Developer], files: usize, bytes: usize) -> Vec<Excerpt> {
    let order = in_turn(held_out, "tacit/sample/v1");
    order.into_iter().take(files).map(|(developer, file)| excerpt(developer, file, bytes)).collect()
}

fn excerpt(developer: &Developer, file: &SourceFile, bytes: usize) -> Excerpt {
    let text = &file.text;
    let spare = text.len().saturating_sub(bytes);
    let point = if spare == 0 { 0 } else { number(&hash("tacit/sample-start/v1", &file.path)) % (spare + 1) };
    let point = text.floor_char_boundary(point);
    let start = text[..point].rfind('\n').map_or(0, |end| end + 1);
    let end = text.floor_char_boundary((start + bytes).min(text.len()));
    Excerpt {
        developer: developer.name.clone(),
        path: file.path.clone(),
        start: start as u64,
        bytes: (end - start) as u64,
        text: text[start..end].to_owned(),
    }
}

/// Picks `count` beginnings of functions, each of another developer as far as there are, then of another file, then another of
/// the same file; of code without functions that this can tell, the beginnings of any lines.
#[must_use]
pub fn prompts(held_out: &[Developer], count: usize) -> Vec<Prompt> {
    let order = in_turn(held_out, "tacit/prompts/v1");
    let any = |line: &str| !line.trim().is_empty();
    let mut prompts = Vec::with_capacity(count);
    for begins in [is_function, any] {
        for turn in 0..count {
            let missing = count - prompts.len();
            prompts.extend(order.iter().filter_map(|(d, file)| prompt(d, file, begins, turn)).take(missing));
        }
    }
    prompts
}

/// Whether a line begins the body of a function in Rust or a language like it.
fn is_function(line: &str) -> bool {
    let line = line.trim();
    let opens = line.ends_with('{') || line.ends_with(':');
    let words = ["fn ", "def ", "func ", "function "];
    opens
        && line.contains('(')
        && words.iter().any(|word| line.starts_with(word) || line.contains(&format!(" {word}")))
}

/// The prompt of the `turn`th place in a file, counted from the one that its hash points to.
fn prompt(developer: &Developer, file: &SourceFile, begins: fn(&str) -> bool, turn: usize) -> Option<Prompt> {
    let lines: Vec<&str> = file.text.split_inclusive('\n').collect();
    let candidates: Vec<usize> = (1..lines.len())
        .filter(|&index| {
            // A body of which the prompt takes the first line, and of which something is left.
            let body = lines.get(index + 1..index + 1 + SHORTEST_BODY);
            begins(lines[index]) && body.is_some_and(|body| body.iter().all(|line| !line.trim().is_empty()))
        })
        .map(|index| index + 1)
        .filter(|&last| lines[last - 1].len() + lines[last].len() <= PROMPT_BYTES)
        .collect();
    let chosen = number(&hash("tacit/prompt-line/v1", &file.path));
    if turn >= candidates.len() {
        return None;
    }
    let last = candidates[(chosen + turn) % candidates.len()];
    let mut first = last;
    let mut bytes = lines[last].len();
    while first > 0 && last - first < PROMPT_LINES && bytes + lines[first - 1].len() <= PROMPT_BYTES {
        first -= 1;
        bytes += lines[first].len();
    }
    Some(Prompt {
        developer: developer.name.clone(),
        path: file.path.clone(),
        text: lines[first..=last].concat(),
        author: lines[last + 1..(last + 1 + AUTHOR_LINES).min(lines.len())].concat(),
    })
}

/// Every file, the first of each developer before the second of any; both orders by hash.
fn in_turn<'a>(developers: &'a [Developer], purpose: &str) -> Vec<(&'a Developer, &'a SourceFile)> {
    let key = |developer: &Developer, file: &SourceFile| {
        hash(purpose, &format!("{}\0{}", developer.name, file.path))
    };
    let mut all: Vec<([u8; 32], &Developer, &SourceFile)> = developers
        .iter()
        .flat_map(|developer| developer.files.iter().map(move |file| (developer, file)))
        .map(|(developer, file)| (key(developer, file), developer, file))
        .collect();
    all.sort_by_key(|(order, ..)| *order);
    let mut turns: HashMap<&str, usize> = HashMap::new();
    let mut ranked: Vec<(usize, &Developer, &SourceFile)> = all
        .into_iter()
        .map(|(_, developer, file)| {
            let turn = turns.entry(developer.name.as_str()).or_default();
            *turn += 1;
            (*turn, developer, file)
        })
        .collect();
    // Stable, so files of the same turn stay in the order of their hashes.
    ranked.sort_by_key(|(turn, ..)| *turn);
    ranked.into_iter().map(|(_, developer, file)| (developer, file)).collect()
}

fn number(hash: &[u8; 32]) -> usize {
    hash[..4].iter().fold(0, |sum, &byte| sum << 8 | usize::from(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn developers(count: usize) -> Vec<Developer> {
        let source = |owner: usize, file: usize| {
            let function = |n: usize| {
                format!(
                    "/// Number {n} of {owner}.\npub fn f{n}(x: u32) -> u32 {{\n    let é = x + {n};\n    é * {file}\n}}\n\n"
                )
            };
            SourceFile { path: format!("src/{file}.rs"), text: (0..20).map(function).collect() }
        };
        (0..count)
            .map(|owner| Developer {
                name: format!("crate{owner}"),
                files: (0..3).map(|file| source(owner, file)).collect(),
            })
            .collect()
    }

    #[test]
    fn excerpts_take_turns_and_fit() {
        let held_out = developers(4);
        let sample = excerpts(&held_out, 6, 100);
        assert_eq!(sample.len(), 6);
        let owners: std::collections::BTreeSet<&str> =
            sample[..4].iter().map(|excerpt| excerpt.developer.as_str()).collect();
        assert_eq!(owners.len(), 4, "every developer once before any twice");
        for excerpt in &sample {
            assert!(excerpt.bytes <= 100 && excerpt.bytes > 80, "{excerpt:?}");
            assert_eq!(excerpt.bytes as usize, excerpt.text.len());
            let file = held_out.iter().find(|d| d.name == excerpt.developer).map(|d| &d.files);
            let file = file.and_then(|files| files.iter().find(|f| f.path == excerpt.path)).expect("there");
            let start = excerpt.start as usize;
            assert_eq!(file.text[start..start + excerpt.text.len()], excerpt.text);
            assert!(start == 0 || file.text.as_bytes()[start - 1] == b'\n');
        }
        assert_eq!(excerpts(&held_out, 6, 100), sample);
        assert_eq!(excerpts(&held_out, 1_000, 100_000).len(), 12, "no more files than there are");
    }

    #[test]
    fn prompts_end_in_a_functions_first_line() {
        let prompts = prompts(&developers(5), 3);
        assert_eq!(prompts.len(), 3);
        for prompt in &prompts {
            let before_last = prompt.text.lines().rev().nth(1);
            assert!(before_last.is_some_and(|line| line.ends_with("-> u32 {")), "{}", prompt.text);
            assert!(prompt.text.lines().last().is_some_and(|line| line.starts_with("    let é")));
            assert!(prompt.author.starts_with("    é * "), "{}", prompt.author);
            assert!(prompt.text.len() <= PROMPT_BYTES);
        }
    }

    #[test]
    fn code_without_functions_is_prompted_too() {
        let poem = SourceFile { path: "poem.txt".to_owned(), text: "a line of words\n".repeat(10) };
        let held_out = [Developer { name: "poet".to_owned(), files: vec![poem] }];
        let prompts = prompts(&held_out, 3);
        assert_eq!(prompts.len(), 3);
        let distinct: std::collections::BTreeSet<&str> = prompts.iter().map(|p| p.text.as_str()).collect();
        assert_eq!(distinct.len(), 3, "three different places");
        assert!(prompts.iter().all(|p| p.text.ends_with("words\n") && p.author.starts_with("a line")));
        assert!(super::prompts(&[], 3).is_empty());
    }
}
