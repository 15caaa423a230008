//! Pretraining text: JSON lines in, one packed token stream out, a share of it rearranged for fill-in-the-middle.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use rand::{Rng, RngExt};
use serde::Deserialize;

use crate::error::ModelError;
use crate::tokenizer::{FimTokens, Tokenizer};

/// Texts tokenised together; bounds memory and gives every core work.
const CHUNK: usize = 512;
/// Bytes of the pieces that are rearranged for fill-in-the-middle; about one training window.
const FIM_PIECE: usize = 700;

#[derive(Deserialize)]
struct Line {
    text: String,
}

/// Reads the `text` field of the first `limit` lines of a JSON-lines file.
///
/// # Errors
/// When the file cannot be read, a line is not such an object, or there is no text at all.
pub(super) fn read_texts(path: &Path, limit: usize) -> Result<Vec<String>, ModelError> {
    let file = File::open(path).map_err(ModelError::io(path))?;
    let mut texts = Vec::new();
    for (number, line) in BufReader::new(file).lines().take(limit).enumerate() {
        let line = line.map_err(ModelError::io(path))?;
        let line: Line = serde_json::from_str(&line)
            .map_err(|error| ModelError::config(path, format!("line {}: {error}", number + 1)))?;
        texts.push(line.text);
    }
    if texts.iter().all(String::is_empty) {
        return Err(ModelError::NoText(format!("{}: no text", path.display())));
    }
    Ok(texts)
}

/// Packs texts into one stream, each followed by the end-of-text token; `fim_rate` of the texts are cut into
/// pieces and rearranged as prefix, suffix, middle (Bavarian et al. 2022).
///
/// # Errors
/// When the tokenizer fails, or rearranging is asked for and its vocabulary has no such tokens.
pub(super) fn pack<R: Rng>(
    texts: &[String],
    tokenizer: &Tokenizer,
    fim_rate: f64,
    rng: &mut R,
) -> Result<Vec<u32>, ModelError> {
    let fim =
        tokenizer.fim().ok_or_else(|| ModelError::Tokenizer("no fill-in-the-middle tokens".to_owned()))?;
    let mut stream = Vec::new();
    for chunk in texts.chunks(CHUNK) {
        let mut pieces: Vec<&str> = Vec::new();
        let mut gaps = Vec::new();
        for text in chunk {
            if rng.random_bool(fim_rate) {
                for piece in split_every(text, FIM_PIECE) {
                    let (prefix, middle, suffix) = split_gap(piece, rng);
                    pieces.extend([prefix, middle, suffix]);
                    gaps.push(true);
                }
            } else {
                pieces.push(text);
                gaps.push(false);
            }
        }
        let mut encoded = tokenizer.encode_all(pieces)?.into_iter();
        for gap in gaps {
            let first = encoded.next().unwrap_or_default();
            if gap {
                let middle = encoded.next().unwrap_or_default();
                let suffix = encoded.next().unwrap_or_default();
                arrange(&mut stream, fim, &first, &middle, &suffix);
            } else {
                stream.extend(first);
            }
            stream.push(tokenizer.end_of_text());
        }
    }
    Ok(stream)
}

fn arrange(stream: &mut Vec<u32>, fim: FimTokens, prefix: &[u32], middle: &[u32], suffix: &[u32]) {
    stream.push(fim.prefix);
    stream.extend_from_slice(prefix);
    stream.push(fim.suffix);
    stream.extend_from_slice(suffix);
    stream.push(fim.middle);
    stream.extend_from_slice(middle);
}

/// Cuts a text into pieces of about `bytes`, at character boundaries.
fn split_every(text: &str, bytes: usize) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let (piece, after) = rest.split_at(rest.ceil_char_boundary(bytes));
        rest = after;
        Some(piece)
    })
}

/// Cuts a text at two random character boundaries.
fn split_gap<'a, R: Rng>(text: &'a str, rng: &mut R) -> (&'a str, &'a str, &'a str) {
    let mut place = || text.floor_char_boundary(rng.random_range(0..=text.len()));
    let (a, b) = (place(), place());
    let (start, end) = (a.min(b), a.max(b));
    (&text[..start], &text[start..end], &text[end..])
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;

    #[test]
    fn cutting_loses_nothing() {
        let text = "fn é() { ß }".repeat(300);
        assert_eq!(split_every(&text, 700).collect::<String>(), text);
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        for _ in 0..100 {
            let (prefix, middle, suffix) = split_gap(&text, &mut rng);
            assert_eq!(format!("{prefix}{middle}{suffix}"), text);
        }
    }
}
