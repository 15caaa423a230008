//! Updates that were trained and wait for a cohort, one for each task. Must never leave the machine as they are, nor be
//! uploaded twice.

use crate::Millis;
use crate::folder::{Folder, FolderError, Kind};
use tacit_aggregation::Digest;
use tacit_aggregation::params::TaskName;
use tacit_proto::RoundPlan;
use tacit_proto::fleet::ReadyUpdate;
use zeroize::Zeroizing;

/// The folder inside that holds them, a file for each task.
const INSIDE: &str = "updates";
/// Ends the names of the files: a task may have a name that is none for a file.
const SUFFIX: &str = ".update";
const KIND: Kind = Kind { code: 2, version: 2 };
/// The first form did not say by which recipe: an update in it serves the round that it is in, and no other.
const WITHOUT_RECIPE: Kind = Kind { version: 1, ..KIND };
/// Bytes before the coordinates, and after the recipe: parent, time, tokens, first loss, last loss.
const HEAD: usize = 32 + 8 + 8 + 8 + 8;

/// An update: what local training made of the parent version.
pub struct Update {
    /// The learning task.
    pub task: TaskName,
    /// Digest of the adapter version that it was trained on.
    pub parent: Digest,
    /// [`RoundPlan::recipe`] of the plan that it was trained for.
    pub recipe: Digest,
    /// When training ended, in Unix milliseconds.
    pub trained_at: Millis,
    /// Tokens that it was trained on, repetitions counted.
    pub tokens: u64,
    /// Loss of the first and of the last step, in nats per token.
    pub losses: [f64; 2],
    /// New adapter minus parent, in the adapter's flat layout.
    pub delta: Zeroizing<Vec<f32>>,
}

impl std::fmt::Debug for Update {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Update of {} ({} coordinates, redacted)", self.task, self.delta.len())
    }
}

impl Update {
    fn file(task: &TaskName) -> String {
        format!("{INSIDE}/{task}{SUFFIX}")
    }

    /// Stores the update, in place of an earlier one of its task.
    ///
    /// # Errors
    /// [`FolderError`].
    pub fn store(&self, folder: &Folder) -> Result<(), FolderError> {
        let mut bytes = Zeroizing::new(Vec::with_capacity(self.recipe.len() + HEAD + 4 * self.delta.len()));
        bytes.extend_from_slice(&self.recipe);
        bytes.extend_from_slice(&self.parent);
        bytes.extend_from_slice(&self.trained_at.to_be_bytes());
        bytes.extend_from_slice(&self.tokens.to_be_bytes());
        self.losses.iter().for_each(|loss| bytes.extend_from_slice(&loss.to_be_bytes()));
        self.delta.iter().for_each(|value| bytes.extend_from_slice(&value.to_le_bytes()));
        folder.write(&Self::file(&self.task), KIND, &bytes)
    }

    /// The stored update of a task; none where there is none.
    ///
    /// # Errors
    /// [`FolderError`].
    pub fn load(folder: &Folder, task: &TaskName) -> Result<Option<Self>, FolderError> {
        let name = Self::file(task);
        let (bytes, has_recipe) = match folder.read(&name, KIND) {
            Err(FolderError::Version { found, .. }) if found == WITHOUT_RECIPE.version => {
                (folder.read(&name, WITHOUT_RECIPE)?, false)
            }
            read => (read?, true),
        };
        let Some(bytes) = bytes else { return Ok(None) };
        let fields = |bytes: &[u8]| {
            let (recipe, bytes) =
                if has_recipe { bytes.split_first_chunk::<32>()? } else { (&Digest::default(), bytes) };
            let (head, values) = bytes.split_first_chunk::<HEAD>()?;
            let (values, []) = values.as_chunks::<4>() else { return None };
            let (parent, numbers) = head.split_first_chunk::<32>()?;
            let ([trained_at, tokens, first, last], []) = numbers.as_chunks::<8>() else { return None };
            let mut delta = Zeroizing::new(Vec::with_capacity(values.len()));
            delta.extend(values.iter().map(|value| f32::from_le_bytes(*value)));
            Some(Self {
                task: task.clone(),
                parent: *parent,
                recipe: *recipe,
                trained_at: u64::from_be_bytes(*trained_at),
                tokens: u64::from_be_bytes(*tokens),
                losses: [f64::from_be_bytes(*first), f64::from_be_bytes(*last)],
                delta,
            })
        };
        let damaged = || folder.damaged(&name, "it is no update");
        fields(&bytes).map(Some).ok_or_else(damaged)
    }

    /// Whether a plan admits it: made by the plan's recipe, of a version that the plan lists.
    #[must_use]
    pub fn serves(&self, plan: &RoundPlan) -> bool {
        serves(plan, &self.parent, &self.recipe)
    }

    /// What is ready, as it is announced.
    ///
    /// # Errors
    /// [`FolderError`].
    pub fn ready(folder: &Folder) -> Result<Vec<ReadyUpdate>, FolderError> {
        let mut ready = Vec::new();
        for name in folder.list(INSIDE)? {
            let foreign = || folder.damaged(&format!("{INSIDE}/{name}"), "it is not named after a task");
            let task =
                name.strip_suffix(SUFFIX).and_then(|task| TaskName::new(task).ok()).ok_or_else(foreign)?;
            if let Some(update) = Self::load(folder, &task)? {
                ready.push(ReadyUpdate { task, parent: update.parent });
            }
        }
        Ok(ready)
    }

    /// Wipes the update of a task.
    ///
    /// # Errors
    /// [`FolderError`].
    pub fn shred(folder: &Folder, task: &TaskName) -> Result<(), FolderError> {
        folder.shred(&Self::file(task))
    }
}

/// Whether a plan admits what is made of a version by a recipe.
pub(crate) fn serves(plan: &RoundPlan, parent: &Digest, recipe: &Digest) -> bool {
    plan.parents.binary_search(parent).is_ok() && plan.recipe() == *recipe
}

#[cfg(test)]
mod tests {
    use super::Update;
    use crate::folder::{Folder, FolderError};
    use tacit_aggregation::params::TaskName;
    use zeroize::Zeroizing;

    #[test]
    fn an_update_comes_back_bit_for_bit_and_is_wiped_when_asked() {
        let root = tempfile::tempdir().expect("a folder");
        let folder = Folder::open(root.path()).expect("a folder");
        let task = TaskName::new("rust-completion").expect("a plain name");
        assert!(Update::load(&folder, &task).expect("none").is_none());
        let delta = Zeroizing::new(vec![1.5, -0.0, f32::MIN_POSITIVE, 1e30]);
        let update = Update {
            task: task.clone(),
            parent: [7; 32],
            recipe: [8; 32],
            trained_at: 12,
            tokens: 34,
            losses: [3.0, 2.5],
            delta,
        };
        update.store(&folder).expect("written");
        let again = Update::load(&folder, &task).expect("good").expect("there");
        let bits = |update: &Update| update.delta.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&again), bits(&update));
        assert_eq!(
            (again.parent, again.recipe, again.trained_at, again.tokens, again.losses),
            ([7; 32], [8; 32], 12, 34, [3.0, 2.5])
        );
        assert_eq!(Update::ready(&folder).expect("one")[0].parent, [7; 32]);
        assert!(!format!("{update:?}").contains("1.5"));

        // As the form before had it: it can be come back to, and serves no other plan.
        let file = "updates/rust-completion.update";
        let bytes = folder.read(file, super::KIND).expect("good").expect("there");
        folder.write(file, super::WITHOUT_RECIPE, &bytes[32..]).expect("written");
        let old = Update::load(&folder, &task).expect("good").expect("there");
        assert_eq!((bits(&old), old.parent, old.recipe), (bits(&update), [7; 32], [0; 32]));

        folder.write(file, super::KIND, &[0; 97]).expect("written");
        assert!(matches!(Update::load(&folder, &task), Err(FolderError::Damaged { .. })));
        Update::shred(&folder, &task).expect("wiped");
        assert!(Update::ready(&folder).expect("none").is_empty());
    }
}
