//! A base model as users have it: one folder with `config.json`, `tokenizer.json` and `model.safetensors`.

use std::path::{Path, PathBuf};

use burn::tensor::Device;
use rand::Rng;
use sha2::{Digest, Sha256};

use crate::config::DecoderConfig;
use crate::decoder::Decoder;
use crate::error::ModelError;
use crate::generate::{Choice, continue_tokens};
use crate::lora::AdapterTensors;
use crate::storage::{load_decoder, save_decoder};
use crate::tokenizer::Tokenizer;

const CONFIG: &str = "config.json";
const TOKENIZER: &str = "tokenizer.json";
const WEIGHTS: &str = "model.safetensors";

/// A frozen decoder and its tokenizer.
#[derive(Debug, Clone)]
pub struct BaseModel {
    decoder: Decoder,
    tokenizer: Tokenizer,
    digest: [u8; 32],
    folder: PathBuf,
}

impl BaseModel {
    /// Loads a model folder.
    ///
    /// # Errors
    /// When a file is missing, damaged or describes a model that cannot be run exactly.
    pub fn load(folder: &Path, device: &Device) -> Result<Self, ModelError> {
        let config = DecoderConfig::load(&folder.join(CONFIG))?;
        let tokenizer = Tokenizer::load(&folder.join(TOKENIZER))?;
        if tokenizer.vocabulary() > config.vocab_size {
            let reason =
                format!("{} tokens, but vocab_size is {}", tokenizer.vocabulary(), config.vocab_size);
            return Err(ModelError::Tokenizer(reason));
        }
        let decoder = load_decoder(config, &folder.join(WEIGHTS), device)?;
        Ok(Self { decoder, tokenizer, digest: digest(folder)?, folder: folder.to_owned() })
    }

    /// Writes a model folder: half precision, each file whole or not at all.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn save(decoder: &Decoder, tokenizer: &Tokenizer, folder: &Path) -> Result<(), ModelError> {
        std::fs::create_dir_all(folder).map_err(ModelError::io(folder))?;
        save_decoder(decoder, &folder.join(WEIGHTS))?;
        tokenizer.save(&folder.join(TOKENIZER))?;
        let path = folder.join(CONFIG);
        let text =
            serde_json::to_string_pretty(decoder.config()).map_err(|e| ModelError::config(&path, e))?;
        crate::storage::write_whole(&path, (text + "\n").as_bytes())
    }

    /// The weights.
    pub fn decoder(&self) -> &Decoder {
        &self.decoder
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// SHA-256 over the three files, each length-prefixed, in the order configuration, tokenizer, weights.
    pub fn digest(&self) -> [u8; 32] {
        self.digest
    }

    /// The name of the model's folder.
    pub fn name(&self) -> String {
        self.folder.file_name().map_or_else(|| "base".to_owned(), |name| name.to_string_lossy().into_owned())
    }

    /// Continues a text.
    ///
    /// # Errors
    /// As [`continue_tokens`].
    pub fn complete<R: Rng>(
        &self,
        adapter: Option<&AdapterTensors>,
        prompt: &str,
        limit: usize,
        choice: Choice,
        rng: &mut R,
    ) -> Result<String, ModelError> {
        let end = self.tokenizer.end_of_text();
        let mut tokens = vec![end];
        tokens.extend(self.tokenizer.encode(prompt)?);
        let written = continue_tokens(&self.decoder, adapter, &tokens, limit, end, choice, rng)?;
        self.tokenizer.decode(&written)
    }

    /// Fills the gap between two texts (fill-in-the-middle, prefix-suffix-middle order).
    ///
    /// # Errors
    /// When the vocabulary lacks the special tokens, or as [`continue_tokens`].
    pub fn fill<R: Rng>(
        &self,
        adapter: Option<&AdapterTensors>,
        before: &str,
        after: &str,
        limit: usize,
        choice: Choice,
        rng: &mut R,
    ) -> Result<String, ModelError> {
        let fim = self.tokenizer.fim().ok_or_else(|| {
            ModelError::Tokenizer("this model's vocabulary has no fill-in-the-middle tokens".to_owned())
        })?;
        let room = self.decoder.config().max_position_embeddings.saturating_sub(limit + 4);
        let before = self.tokenizer.encode(before)?;
        let after = self.tokenizer.encode(after)?;
        // What lies next to the gap matters most: cut the far ends, two thirds of the room to the left side.
        let after = &after[..after.len().min(room / 3)];
        let before = &before[before.len().saturating_sub(room - after.len())..];
        let end = self.tokenizer.end_of_text();
        let tokens = [&[end, fim.prefix], before, &[fim.suffix], after, &[fim.middle]].concat();
        let written = continue_tokens(&self.decoder, adapter, &tokens, limit, end, choice, rng)?;
        self.tokenizer.decode(&written)
    }
}

fn digest(folder: &Path) -> Result<[u8; 32], ModelError> {
    let mut hash = Sha256::new();
    for name in [CONFIG, TOKENIZER, WEIGHTS] {
        let path = folder.join(name);
        let bytes = std::fs::read(&path).map_err(ModelError::io(&path))?;
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(&bytes);
    }
    Ok(hash.finalize().into())
}
