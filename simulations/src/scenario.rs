//! What is simulated, as a TOML file says it; unknown fields are refused. Must never hold a default that changes what a
//! round costs in privacy: clip, noise, delta and threat model are always written out (the noise has a default law, but no
//! default size).

mod validate;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tacit_aggregation::params::ThreatModel;
use tacit_coordinator::optimizer::ServerOptimizer;
use tacit_model::{LocalTraining, LoraConfig};
use tacit_privacy::{AdaptiveClip, Adjacency, BasisPoints, NoiseLaw};

use crate::error::SimulationError;

/// A simulation: a fleet, a model, and the rounds that they go through.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// Name in the report; also the name of the learning task: `a-z`, `0-9`, `.`, `_` and `-`.
    pub name: String,
    /// Folder of the base model, relative to the folder of the scenario file.
    pub model: PathBuf,
    /// Seed of everything random: selection, drop-outs, training order, keys and noise. `--seed` replaces it.
    pub seed: u64,
    /// Rounds to run.
    pub rounds: u32,
    /// Shape of the adapter.
    pub lora: LoraConfig,
    /// What a client does between receiving an adapter and sending its delta.
    pub local: LocalTraining,
    /// What the coordinator does with the mean of the deltas.
    pub server: ServerOptimizer,
    /// What a round reveals.
    pub privacy: Privacy,
    /// Who takes part, and what is assumed of them.
    pub cohort: CohortSettings,
    /// Who disappears when.
    pub dropouts: Dropouts,
    /// What is measured after each round.
    pub evaluation: Evaluation,
    /// How the corpus is cut into developers.
    pub corpus: CorpusSettings,
}

/// The mechanism and its limit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Privacy {
    /// Euclidean norm that each client's delta is clipped to, in the units of the adapter; the first round's, where it adapts.
    pub clip: f64,
    /// Standard deviation of the noise in the sum that is guaranteed, over the sensitivity.
    pub noise_multiplier: f64,
    /// The delta at which epsilon is stated.
    pub delta: f64,
    /// Which cohorts count as neighbours: `zero-out` or `replace-one`.
    pub adjacency: Adjacency,
    /// Law of each client's noise share: `discrete-gaussian`, also when left out, or `skellam`.
    #[serde(default)]
    pub noise_law: NoiseLaw,
    /// Every client refuses a round that would take its own epsilon past this.
    pub epsilon_limit: f64,
    /// Who adds the noise, and is trusted for it: `distributed` (each client its share, so nobody) or `central` (the
    /// coordinator).
    #[serde(default)]
    pub trust: Trust,
    /// How the clip norm follows the deltas' norms, under central trust; left out, it stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adaptive_clip: Option<AdaptiveClip>,
}

/// Who adds the noise. What is left out of a scenario is the trust that asks for none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Trust {
    /// Each client adds its share before masking.
    #[default]
    Distributed,
    /// The coordinator adds it after the secure sum.
    Central,
}

/// Size and assumptions of a cohort.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CohortSettings {
    /// Clients in each round's cohort, n.
    pub size: u32,
    /// Fraction of the cohort that may drop out without the round failing.
    pub dropout: BasisPoints,
    /// Fraction of the cohort that is assumed to collude with the coordinator.
    pub corrupt: BasisPoints,
    /// Fewest survivors with which a sum is released; `n - floor(dropout n)` when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub n_min: Option<u32>,
    /// What the coordinator may do: `semi_malicious` or `honest_but_curious`.
    pub threat: ThreatModel,
    /// Rounds that a client sits out at least between two participations.
    #[serde(default)]
    pub separation: u32,
}

/// For each step the probability with which a client is gone before it answers, independently of all others.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dropouts {
    /// Before it announces itself; another client takes its place.
    pub advertise: f64,
    /// After the cohort closed, before its shares are sent.
    pub share: f64,
    /// After sharing, before its masked vector is sent.
    pub collect: f64,
    /// After uploading, before it confirms who survived.
    pub confirm: f64,
    /// After confirming, before it answers the unmask request.
    pub unmask: f64,
}

/// The held-out sample.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Evaluation {
    /// Held-out files in the sample.
    pub files: usize,
    /// Bytes of each file at most.
    pub bytes_per_file: usize,
    /// Tokens per window; each window is predicted from its own start.
    pub window: usize,
    /// Tokens written for each of the three completions.
    pub completion_tokens: usize,
}

/// Which code counts, and how it is divided.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CorpusSettings {
    /// Bytes of one developer's code at most.
    pub bytes_per_developer: u64,
    /// Developers with fewer bytes are left out.
    pub minimum_bytes: u64,
    /// Developers with fewer files are left out.
    pub minimum_files: usize,
    /// Fraction of the developers whose code is only measured on, chosen by the hash of their names.
    #[serde(default = "a_tenth")]
    pub held_out: BasisPoints,
}

fn a_tenth() -> BasisPoints {
    // Within the range of the type, so never the default.
    BasisPoints::new(1_000).unwrap_or_default()
}

impl Scenario {
    /// Reads and checks a scenario file; the model's folder becomes relative to the current folder.
    ///
    /// # Errors
    /// When the file cannot be read, has an unknown, missing or mistyped field, or a value that cannot work.
    pub fn load(path: &Path) -> Result<Self, SimulationError> {
        let text = std::fs::read_to_string(path).map_err(SimulationError::io(path))?;
        let mut scenario = Self::parse(&text).map_err(|error| match error {
            SimulationError::ScenarioSyntax { reason, .. } => {
                SimulationError::ScenarioSyntax { path: path.to_owned(), reason }
            }
            other => other,
        })?;
        if let Some(folder) = path.parent() {
            scenario.model = tidy(&folder.join(&scenario.model));
        }
        Ok(scenario)
    }

    /// Reads and checks the text of a scenario.
    ///
    /// # Errors
    /// As [`Scenario::load`].
    pub fn parse(text: &str) -> Result<Self, SimulationError> {
        let scenario: Self = toml::from_str(text).map_err(|error| SimulationError::ScenarioSyntax {
            path: PathBuf::from("scenario"),
            reason: error.to_string(),
        })?;
        scenario.validate()?;
        Ok(scenario)
    }

    /// Fewest survivors with which a sum is released.
    #[must_use]
    pub fn n_min(&self) -> u32 {
        self.cohort.n_min.unwrap_or(self.cohort.size - self.cohort.dropout.of(self.cohort.size))
    }
}

/// Takes out `x/..`, so that a path reads as a person would write it. Links are not resolved.
fn tidy(path: &Path) -> PathBuf {
    let mut tidied = PathBuf::new();
    for part in path.components() {
        let inside_a_folder =
            matches!(tidied.components().next_back(), Some(std::path::Component::Normal(_)));
        match part {
            std::path::Component::ParentDir if inside_a_folder => {
                tidied.pop();
            }
            std::path::Component::CurDir => {}
            other => tidied.push(other),
        }
    }
    tidied
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A scenario that is valid and small.
    pub(crate) const SMALL: &str = r#"
        name = "unit"
        model = "../models/tacit-base"
        seed = 1
        rounds = 2
        lora = { rank = 2, alpha = 4.0, targets = ["q_proj", "v_proj"], seed = 3 }
        server = { rule = "momentum", learning_rate = 1.0, momentum = 0.5 }

        [local]
        optimizer = { rule = "adam" }
        learning_rate = 0.01
        steps = 2
        batch = 2
        sequence = 32

        [privacy]
        clip = 0.5
        noise_multiplier = 2.0
        delta = 1e-5
        adjacency = "zero-out"
        epsilon_limit = 4.0

        [cohort]
        size = 12
        dropout = 0.25
        corrupt = 0.1
        threat = "semi_malicious"

        [dropouts]
        advertise = 0.05
        share = 0.02
        collect = 0.02
        confirm = 0.02
        unmask = 0.02

        [evaluation]
        files = 4
        bytes_per_file = 500
        window = 32
        completion_tokens = 16

        [corpus]
        bytes_per_developer = 20000
        minimum_bytes = 200
        minimum_files = 1
    "#;

    const LIMIT: &str = "epsilon_limit = 4.0";

    fn refusal(from: &str, to: &str) -> String {
        assert!(SMALL.contains(from), "{from}");
        Scenario::parse(&SMALL.replace(from, to)).expect_err("refused").to_string()
    }

    #[test]
    fn a_scenario_is_read_with_its_defaults() {
        let scenario = Scenario::parse(SMALL).expect("valid");
        assert_eq!(scenario.n_min(), 9);
        assert_eq!(scenario.corpus.held_out.to_string(), "0.1");
        assert_eq!(scenario.cohort.separation, 0);
        assert_eq!(scenario.privacy.noise_law, NoiseLaw::DiscreteGaussian);
        let skellam = SMALL.replace("clip = 0.5", "clip = 0.5\n noise_law = \"skellam\"");
        assert_eq!(Scenario::parse(&skellam).expect("valid").privacy.noise_law, NoiseLaw::Skellam);
        let json = serde_json::to_string(&scenario).expect("JSON");
        assert_eq!(serde_json::from_str::<Scenario>(&json).expect("the same"), scenario);
    }

    #[test]
    fn unknown_missing_and_mistyped_fields_are_refused() {
        assert!(refusal("rounds = 2", "rounds = 2\n surprise = 1").contains("surprise"));
        assert!(refusal("clip = 0.5", "clipp = 0.5").contains("clipp"));
        assert!(refusal("clip = 0.5", "clip = 0.5\n noise_law = \"laplace\"").contains("laplace"));
        assert!(refusal("share = 0.02", "shares = 0.02").contains("shares"));
        assert!(refusal("momentum = 0.5 }", "momentum = 0.5, decay = 1.0 }").contains("decay"));
        assert!(refusal("rank = 2, ", "").contains("rank"));
        assert!(refusal("delta = 1e-5", "").contains("delta"));
        assert!(refusal("rounds = 2", "rounds = \"two\"").contains("rounds"));
        assert!(refusal("dropout = 0.25", "dropout = 0.123456").contains("four digits"));
    }

    #[test]
    fn values_that_cannot_work_are_named() {
        for (from, to, field) in [
            ("name = \"unit\"", "name = \"Not a name\"", "name"),
            ("rounds = 2", "rounds = 0", "rounds"),
            ("clip = 0.5", "clip = -0.5", "privacy.clip"),
            ("clip = 0.5", "clip = nan", "privacy.clip"),
            ("noise_multiplier = 2.0", "noise_multiplier = 0.0", "privacy.noise_multiplier"),
            ("delta = 1e-5", "delta = 1.0", "privacy.delta"),
            ("epsilon_limit = 4.0", "epsilon_limit = 0.0", "privacy.epsilon_limit"),
            (
                LIMIT,
                "epsilon_limit = 4.0\n trust = \"distributed\"\n [privacy.adaptive_clip]\n target_quantile = 0.5\n \
                     learning_rate = 0.2\n count_noise = 3.0",
                "privacy.adaptive_clip",
            ),
            (
                LIMIT,
                "epsilon_limit = 4.0\n trust = \"central\"\n [privacy.adaptive_clip]\n target_quantile = 1.5\n \
                     learning_rate = 0.2\n count_noise = 3.0",
                "privacy.adaptive_clip.target_quantile",
            ),
            (
                LIMIT,
                "epsilon_limit = 4.0\n trust = \"central\"\n [privacy.adaptive_clip]\n target_quantile = 0.5\n \
                     learning_rate = 0.0\n count_noise = 3.0",
                "privacy.adaptive_clip.learning_rate",
            ),
            (
                LIMIT,
                "epsilon_limit = 4.0\n trust = \"central\"\n [privacy.adaptive_clip]\n target_quantile = 0.5\n \
                     learning_rate = 0.2\n count_noise = 1.0",
                "privacy.adaptive_clip.count_noise",
            ),
            ("size = 12", "size = 2", "cohort.size"),
            ("size = 12", "size = 12\n n_min = 13", "cohort.n_min"),
            ("size = 12", "size = 12\n n_min = 8", "cohort.n_min"),
            ("corrupt = 0.1", "corrupt = 1", "cohort.corrupt"),
            ("share = 0.02", "share = 1.5", "dropouts.share"),
            ("advertise = 0.05", "advertise = nan", "dropouts.advertise"),
            ("advertise = 0.05", "advertise = 1.0", "dropouts.advertise"),
            ("files = 4", "files = 0", "evaluation.files"),
            ("window = 32", "window = 1", "evaluation.window"),
            ("bytes_per_file = 500", "bytes_per_file = 0", "evaluation.bytes_per_file"),
            ("completion_tokens = 16", "completion_tokens = 0", "evaluation.completion_tokens"),
            ("bytes_per_developer = 20000", "bytes_per_developer = 100", "corpus.bytes_per_developer"),
            ("minimum_files = 1", "minimum_files = 0", "corpus.minimum_files"),
            ("minimum_files = 1", "minimum_files = 1\n held_out = 1", "corpus.held_out"),
            ("minimum_files = 1", "minimum_files = 1\n held_out = 0", "corpus.held_out"),
            ("steps = 2", "steps = 0", "local.steps"),
            ("batch = 2", "batch = 0", "local.batch"),
            ("learning_rate = 0.01", "learning_rate = -1.0", "local.learning_rate"),
            ("sequence = 32", "sequence = 1", "local.sequence"),
            ("rank = 2", "rank = 0", "lora.rank"),
            ("[\"q_proj\", \"v_proj\"]", "[]", "lora.targets"),
        ] {
            let message = refusal(from, to);
            assert!(message.contains(&format!("`{field}`")), "{to}: {message}");
        }
    }

    #[test]
    fn the_models_folder_is_relative_to_the_scenario() {
        let root = tempfile::tempdir().expect("a folder");
        let path = root.path().join("scenarios/unit.toml");
        std::fs::create_dir(root.path().join("scenarios")).expect("a folder");
        std::fs::write(&path, SMALL).expect("a file");
        assert_eq!(Scenario::load(&path).expect("valid").model, root.path().join("models/tacit-base"));
        assert_eq!(tidy(Path::new("../a/./b/../c")), Path::new("../a/c"));
        assert_eq!(tidy(Path::new("../../c")), Path::new("../../c"));
        std::fs::write(&path, "rounds = [").expect("a file");
        assert!(Scenario::load(&path).expect_err("refused").to_string().contains("unit.toml"));
        let missing = root.path().join("none.toml");
        assert!(Scenario::load(&missing).expect_err("refused").to_string().contains("none.toml"));
    }

    #[test]
    fn the_shipped_scenarios_are_valid() {
        for name in ["demo", "small", "central"] {
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../scenarios/{name}.toml"));
            let scenario = Scenario::load(&path).expect(name);
            assert!(scenario.cohort.size >= 64 || name == "central", "{name}");
            assert_eq!(scenario.privacy.delta, 1e-5, "{name}");
        }
    }
}
