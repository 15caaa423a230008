//! Byte-level BPE through the `tokenizers` crate, with the special tokens of fill-in-the-middle.

use std::path::Path;

use tokenizers::models::TrainerWrapper;
use tokenizers::models::bpe::{BPE, BpeTrainerBuilder};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::{AddedToken, PreTokenizerWrapper};

use crate::error::ModelError;

/// Ends a document; also what a document starts from.
pub const END_OF_TEXT: &str = "<|endoftext|>";
/// Before the text to the left of the gap.
pub const FIM_PREFIX: &str = "<|fim_prefix|>";
/// Before the text to the right of the gap.
pub const FIM_SUFFIX: &str = "<|fim_suffix|>";
/// Before the text that fills the gap.
pub const FIM_MIDDLE: &str = "<|fim_middle|>";

/// Text to token ids and back; special tokens in the text itself are never recognised as such.
#[derive(Debug, Clone)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    end_of_text: u32,
    fim: Option<FimTokens>,
    /// Bytes of text that each id stands for; none for special tokens.
    byte_lengths: Vec<u32>,
}

/// Ids of the fill-in-the-middle tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FimTokens {
    /// [`FIM_PREFIX`]
    pub prefix: u32,
    /// [`FIM_SUFFIX`]
    pub suffix: u32,
    /// [`FIM_MIDDLE`]
    pub middle: u32,
}

fn failed(error: impl ToString) -> ModelError {
    ModelError::Tokenizer(error.to_string())
}

impl Tokenizer {
    /// Learns `vocabulary` tokens from the texts.
    ///
    /// # Errors
    /// When the vocabulary is smaller than the 256 bytes and the special tokens, or training fails.
    pub fn train<'a>(
        vocabulary: usize,
        texts: impl Iterator<Item = &'a str> + Send,
    ) -> Result<Self, ModelError> {
        if vocabulary < 260 {
            return Err(ModelError::setting(
                "vocabulary",
                vocabulary,
                "at least 260: 256 bytes and 4 special tokens",
            ));
        }
        let specials = [END_OF_TEXT, FIM_PREFIX, FIM_SUFFIX, FIM_MIDDLE];
        let special = |text: &str| AddedToken::from(text.to_owned(), true);
        let trainer = BpeTrainerBuilder::new()
            .vocab_size(vocabulary)
            .min_frequency(2)
            .show_progress(false)
            .special_tokens(specials.map(special).to_vec())
            .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
            .build();
        let mut inner = tokenizers::Tokenizer::new(BPE::default());
        // Digits one by one, so that numbers do not crowd out words.
        let split: Vec<PreTokenizerWrapper> = vec![
            PreTokenizerWrapper::Digits(Digits::new(true)),
            PreTokenizerWrapper::ByteLevel(ByteLevel::new(false, true, true)),
        ];
        inner.with_pre_tokenizer(Some(Sequence::new(split)));
        inner.with_decoder(Some(ByteLevel::default()));
        inner.train(&mut TrainerWrapper::BpeTrainer(trainer), texts).map_err(failed)?;
        Self::from_inner(inner)
    }

    /// Reads a `tokenizer.json`.
    ///
    /// # Errors
    /// When the file cannot be read, is not a tokenizer, or has no end-of-text token.
    pub fn load(path: &Path) -> Result<Self, ModelError> {
        let inner = tokenizers::Tokenizer::from_file(path)
            .map_err(|error| ModelError::Tokenizer(format!("{}: {error}", path.display())))?;
        Self::from_inner(inner)
    }

    /// Writes a `tokenizer.json`.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save(&self, path: &Path) -> Result<(), ModelError> {
        self.inner
            .save(path, false)
            .map_err(|error| ModelError::Tokenizer(format!("{}: {error}", path.display())))
    }

    fn from_inner(mut inner: tokenizers::Tokenizer) -> Result<Self, ModelError> {
        let end_of_text = inner
            .token_to_id(END_OF_TEXT)
            .ok_or_else(|| ModelError::Tokenizer(format!("the vocabulary lacks {END_OF_TEXT}")))?;
        let id = |token| inner.token_to_id(token);
        let fim = match (id(FIM_PREFIX), id(FIM_SUFFIX), id(FIM_MIDDLE)) {
            (Some(prefix), Some(suffix), Some(middle)) => Some(FimTokens { prefix, suffix, middle }),
            _ => None,
        };
        // Source code that happens to spell a special token is text, not a command.
        inner.set_encode_special_tokens(true);
        let specials = [END_OF_TEXT, FIM_PREFIX, FIM_SUFFIX, FIM_MIDDLE];
        let byte_lengths = (0..inner.get_vocab_size(true) as u32)
            .map(|id| inner.id_to_token(id))
            // The byte-level alphabet writes one character for each byte.
            .map(|token| {
                token.filter(|t| !specials.contains(&t.as_str())).map_or(0, |t| t.chars().count() as u32)
            })
            .collect();
        Ok(Self { inner, end_of_text, fim, byte_lengths })
    }

    /// Bytes of text that these ids stand for.
    pub fn byte_length(&self, ids: &[u32]) -> u64 {
        ids.iter().filter_map(|&id| self.byte_lengths.get(id as usize)).map(|&bytes| u64::from(bytes)).sum()
    }

    /// Number of token ids.
    pub fn vocabulary(&self) -> usize {
        self.inner.get_vocab_size(true)
    }

    /// Id of [`END_OF_TEXT`].
    pub fn end_of_text(&self) -> u32 {
        self.end_of_text
    }

    /// Ids of the fill-in-the-middle tokens, when the vocabulary has them.
    pub fn fim(&self) -> Option<FimTokens> {
        self.fim
    }

    /// Token ids of a text; exactly its bytes, nothing added.
    ///
    /// # Errors
    /// When the library refuses the text.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, ModelError> {
        Ok(self.inner.encode_fast(text, false).map_err(failed)?.get_ids().to_vec())
    }

    /// Token ids of many texts, on all cores.
    ///
    /// # Errors
    /// When the library refuses a text.
    pub fn encode_all(&self, texts: Vec<&str>) -> Result<Vec<Vec<u32>>, ModelError> {
        let encodings = self.inner.encode_batch_fast(texts, false).map_err(failed)?;
        Ok(encodings.into_iter().map(|encoding| encoding.get_ids().to_vec()).collect())
    }

    /// The text of token ids; bytes that are not UTF-8 become replacement characters, special tokens vanish.
    ///
    /// # Errors
    /// When the library refuses an id.
    pub fn decode(&self, ids: &[u32]) -> Result<String, ModelError> {
        self.inner.decode(ids, true).map_err(failed)
    }
}
