//! Short texts in entries: names of tasks and reasons. Must never be long, empty, or hold what a terminal obeys.

use std::fmt;

use serde::Serialize;

/// The name of a task.
pub type Task = Text<64>;
/// Why a round ended without cost.
pub type Reason = Text<200>;

/// A text of 1 to `MOST` bytes without control characters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Text<const MOST: usize>(String);

/// A text that no entry can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the text has {bytes} bytes or a control character; an entry holds 1 to {most} bytes of plain text here"
)]
pub struct TextError {
    /// Its length.
    pub bytes: usize,
    /// The most that fit.
    pub most: usize,
}

impl<const MOST: usize> Text<MOST> {
    /// Checks a text.
    ///
    /// # Errors
    /// [`TextError`].
    pub fn new(text: impl Into<String>) -> Result<Self, TextError> {
        let text = text.into();
        if (1..=MOST).contains(&text.len()) && !text.chars().any(char::is_control) {
            return Ok(Self(text));
        }
        Err(TextError { bytes: text.len(), most: MOST })
    }

    /// Makes a text of any other: control characters become spaces, and the end is cut off where it does not fit.
    #[must_use]
    pub fn shortened(text: &str) -> Self {
        let plain = |c: char| if c.is_control() { ' ' } else { c };
        let mut kept = String::new();
        for c in text.chars().map(plain) {
            if kept.len() + c.len_utf8() > MOST {
                break;
            }
            kept.push(c);
        }
        if kept.is_empty() { Self("-".to_owned()) } else { Self(kept) }
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<const MOST: usize> fmt::Display for Text<MOST> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_short_and_plain() {
        for good in ["a", "rust-completion", "zu wenige Clients: 3 < 5 ✓", &"x".repeat(64)] {
            assert_eq!(Task::new(good).unwrap().as_str(), good);
            assert_eq!(Task::shortened(good).as_str(), good);
        }
        for (bad, shortened) in
            [("", "-"), ("a\nb", "a b"), ("\x1b[2J", " [2J"), (&*"y".repeat(65), &*"y".repeat(64))]
        {
            assert_eq!(Task::new(bad), Err(TextError { bytes: bad.len(), most: 64 }));
            assert_eq!(Task::shortened(bad).as_str(), shortened);
        }
        // A character is not cut in two.
        let long = Task::shortened(&format!("{}ü", "z".repeat(63)));
        assert_eq!(long.as_str(), "z".repeat(63));
    }
}
