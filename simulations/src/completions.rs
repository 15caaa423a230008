//! Held-out functions, continued greedily by the base model and by an adapter.

use tacit_model::generate::{Choice, continue_tokens};
use tacit_model::{Adapter, BaseModel};

use crate::error::SimulationError;
use crate::random::{Purpose, generator};
use crate::report::Completion;
use crate::sample::Prompt;
use crate::workers::Workers;

/// Continues every prompt by at most `limit` tokens, before (an adapter of zeros changes nothing) and after.
pub(crate) fn complete(
    workers: &mut Workers,
    model: &BaseModel,
    adapter: &Adapter,
    prompts: &[Prompt],
    limit: usize,
) -> Result<Vec<Completion>, SimulationError> {
    let config = model.decoder().config();
    let tokenizer = model.tokenizer();
    let written = workers.map(prompts.len() * 2, "completing", |tools, job| {
        let end = tokenizer.end_of_text();
        let mut tokens = vec![end];
        tokens.extend(tokenizer.encode(&prompts[job / 2].text)?);
        let trained = (job % 2 == 1).then(|| adapter.tensors(config, &tools.decoder.device()));
        let mut rng = generator(0, Purpose::Completion, 0, 0);
        let written =
            continue_tokens(&tools.decoder, trained.as_ref(), &tokens, limit, end, Choice::Greedy, &mut rng)?;
        Ok(tokenizer.decode(&written)?)
    })?;
    let pairs = prompts.iter().zip(written.chunks_exact(2));
    let completion = |(prompt, pair): (&Prompt, &[String])| Completion {
        developer: prompt.developer.clone(),
        path: prompt.path.clone(),
        prompt: prompt.text.clone(),
        author: prompt.author.clone(),
        before: pair[0].clone(),
        after: pair[1].clone(),
    };
    Ok(pairs.map(completion).collect())
}
