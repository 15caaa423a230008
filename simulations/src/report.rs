//! What a simulation found, as `report.json` holds it. Must never hold a value that would reveal nothing but look like
//! something: what was not measured is null.

pub mod html;
pub(crate) mod multiples;
pub mod network;
pub mod panel;
mod plot;

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::corpus::Skipped;
use crate::error::SimulationError;
use crate::report::network::NetworkReport;
use crate::sample::Excerpt;
use crate::scenario::Scenario;

/// The version of the file's layout.
pub const SCHEMA: &str = "tacit/report/v1";

/// Everything about one run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// [`SCHEMA`].
    pub schema: String,
    /// The scenario as it was run, seed included.
    pub scenario: Scenario,
    /// The seed of everything random.
    pub seed: u64,
    /// Whether vectors were masked; without, the same arithmetic summed them in the clear (`--plain`).
    pub masked: bool,
    /// True of every simulation: it draws noise, keys and shares from the seed, and whoever knows the seed could take the noise
    /// off. Real clients draw them from the operating system.
    pub simulated_noise_is_seeded: bool,
    /// Worker threads; changes the times and nothing else.
    pub threads: usize,
    /// The processes of a run over the network; left out of a simulation's report, whose clients are in its own process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<NetworkReport>,
    /// The code.
    pub corpus: CorpusReport,
    /// The sample that bits per byte are measured on.
    pub evaluation: EvaluationReport,
    /// What the plan's builder chose.
    pub parameters: Parameters,
    /// The rounds in order.
    pub rounds: Vec<RoundReport>,
    /// Why there were fewer rounds than the scenario wanted; null when all of them were attempted.
    pub stopped_early: Option<String>,
    /// The runs without privacy, with `--compare`.
    pub comparison: Option<Comparison>,
    /// Held-out functions continued by the base model and by the last adapter.
    pub completions: Vec<Completion>,
    /// The figures in short.
    pub summary: Summary,
}

/// Where the code came from and what was left out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CorpusReport {
    /// `cargo` or `folder`.
    pub source: String,
    /// SHA-256 over names, lengths and contents of everything that was read, in hexadecimal.
    pub digest: String,
    /// Developers who train.
    pub developers: u64,
    /// Their files.
    pub files: u64,
    /// Bytes of those.
    pub bytes: u64,
    /// Names of the developers who were held out.
    pub held_out: Vec<String>,
    /// Bytes of theirs.
    pub held_out_bytes: u64,
    /// What was left out, and why.
    pub skipped: Skipped,
}

/// The held-out sample.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EvaluationReport {
    /// The excerpts.
    pub files: Vec<Excerpt>,
    /// Bytes predicted.
    pub bytes: u64,
    /// Tokens predicted.
    pub tokens: u64,
}

/// The public parameters of every round.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Parameters {
    /// SHA-256 of the base model, in hexadecimal.
    pub base_model: String,
    /// Name of its folder.
    pub base_model_name: String,
    /// Coordinates of a delta, d.
    pub dimension: usize,
    /// Cohort size, n.
    pub cohort: u32,
    /// Fewest survivors with which a sum is released.
    pub n_min: u32,
    /// Members assumed to collude.
    pub corrupt: u32,
    /// Honest survivors guaranteed, whose noise counts.
    pub honest_minimum: u32,
    /// Neighbours of each client in the graph of masks.
    pub degree: u32,
    /// Shares that reconstruct a secret.
    pub threshold: u32,
    /// Bits per coordinate.
    pub bits: u32,
    /// Integer units per unit of the delta.
    pub scale: f64,
    /// Sensitivity with rounding over sensitivity without.
    pub sensitivity_inflation: f64,
    /// Standard deviation of one client's noise share, in integer units; null where the coordinator adds the noise.
    pub local_sigma: Option<f64>,
}

/// One round.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RoundReport {
    /// Number of the round, from 1.
    pub round: u64,
    /// Clients in the cohort.
    pub cohort: u32,
    /// Clients whose updates are in the sum; of a failed round, those that were left.
    pub survivors: u32,
    /// Bits per byte on the held-out sample after the round.
    pub heldout_bits_per_byte: f64,
    /// The largest epsilon over clients after the round: coordinator's view, no amplification.
    pub epsilon: f64,
    /// The delta at which epsilon is stated.
    pub delta: f64,
    /// Wall-clock seconds by phase.
    pub seconds: BTreeMap<String, f64>,
    /// Seconds of virtual time from the plan to the adapter; null over the network.
    pub virtual_seconds: Option<f64>,
    /// Why nothing was released; null for a round that released its sum.
    pub failure: Option<String>,
    /// Clients that dropped out at each step; empty over the network, where only the clients know.
    pub dropped: BTreeMap<String, u32>,
    /// The norm that deltas were clipped to.
    pub clip: f64,
    /// Share of the deltas that were not clipped, as the noised count has it; null where the clip norm stays, or nothing was
    /// released. Noise may take it below 0 or above 1.
    pub unclipped_share: Option<f64>,
    /// Norms of the deltas before clipping. Known to the simulation alone.
    pub norms: Option<Norms>,
    /// Norm of the mean delta as decoded, noise included.
    pub mean_norm: Option<f64>,
    /// Norm of the noise in the mean that is expected: `sigma sqrt(d) / survivors`, in the units of the delta.
    pub noise_norm: Option<f64>,
    /// Mean loss of the clients' first and last local steps, in nats per token. Known to the simulation alone.
    pub local_loss: Option<[f64; 2]>,
    /// Bytes on the wire; null over the network, where only the clients know.
    pub traffic: Option<Traffic>,
}

/// How long the deltas of one round were before clipping.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Norms {
    /// The shortest.
    pub minimum: f64,
    /// A quarter is shorter.
    pub lower_quartile: f64,
    /// Half are shorter.
    pub median: f64,
    /// Three quarters are shorter.
    pub upper_quartile: f64,
    /// The longest.
    pub maximum: f64,
    /// Share of the deltas that were clipped.
    pub clipped: f64,
}

/// Encoded protocol messages of one round; all zero without masking.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Traffic {
    /// Mean bytes that a client sent.
    pub sent_per_client: f64,
    /// Bytes that the busiest client sent.
    pub sent_maximum: u64,
    /// Mean bytes that a client received.
    pub received_per_client: f64,
    /// Bytes that the busiest client received.
    pub received_maximum: u64,
}

/// The runs that privacy is compared with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// Bits per byte after each round of the same cohorts without clipping, noise and masks.
    pub federated_plain: Vec<f64>,
    /// Central training on the pooled code, one run for each learning rate.
    pub central: Vec<CentralRun>,
    /// Tokens that each central run trained on: as many as the fleet.
    pub tokens: u64,
}

/// Central training with one learning rate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CentralRun {
    /// Adam's learning rate.
    pub learning_rate: f64,
    /// Bits per byte at its end; null when training diverged.
    pub heldout_bits_per_byte: Option<f64>,
}

/// A held-out function, continued greedily.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Completion {
    /// The held-out developer.
    pub developer: String,
    /// The file.
    pub path: String,
    /// What the model read.
    pub prompt: String,
    /// What the author wrote next.
    pub author: String,
    /// What the base model writes.
    pub before: String,
    /// What it writes with the last adapter.
    pub after: String,
}

/// The figures of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Held-out bits per byte of the base model.
    pub heldout_start: f64,
    /// Held-out bits per byte of the last adapter.
    pub heldout_private: f64,
    /// The same fleet without privacy; null without `--compare`.
    pub heldout_federated_plain: Option<f64>,
    /// The best central run; null without `--compare`.
    pub heldout_central: Option<f64>,
    /// `(start - private) / (start - central)`; null without `--compare`.
    pub recovered_share: Option<f64>,
    /// Coordinates of a delta.
    pub dimension: usize,
    /// The largest epsilon over clients.
    pub epsilon: f64,
    /// The delta at which it is stated.
    pub delta: f64,
    /// The noise multiplier.
    pub noise_multiplier: f64,
    /// Seconds from reading the corpus to the finished report.
    pub wall_seconds: f64,
    /// Client updates trained per second of training.
    pub client_updates_per_second: f64,
    /// The most memory that the process held; null where the operating system does not say.
    pub peak_rss_bytes: Option<u64>,
    /// Rounds that released their sum.
    pub rounds_released: u64,
    /// SHA-256 of the last adapter's values, little-endian, in hexadecimal.
    pub adapter_sha256: String,
}

impl Norms {
    /// Quartiles by linear interpolation between the two nearest values; none of an empty list.
    #[must_use]
    pub fn of(mut norms: Vec<f64>, clip: f64) -> Option<Self> {
        norms.sort_by(f64::total_cmp);
        let last = norms.len().checked_sub(1)?;
        let at = |share: f64| {
            let place = share * last as f64;
            let below = norms[place.floor() as usize];
            let above = norms[place.ceil() as usize];
            below + (above - below) * place.fract()
        };
        let clipped = norms.iter().filter(|norm| **norm > clip).count() as f64 / norms.len() as f64;
        Some(Self {
            minimum: norms[0],
            lower_quartile: at(0.25),
            median: at(0.5),
            upper_quartile: at(0.75),
            maximum: norms[last],
            clipped,
        })
    }
}

/// The figure, unless it is infinite or not a number: JSON would turn it into null.
///
/// # Errors
/// [`SimulationError::NotFinite`] with the name.
pub(crate) fn finite(figure: impl FnOnce() -> String, value: f64) -> Result<f64, SimulationError> {
    if value.is_finite() { Ok(value) } else { Err(SimulationError::NotFinite { figure: figure(), value }) }
}

impl RoundReport {
    /// Refuses a round with a figure that JSON cannot hold.
    ///
    /// # Errors
    /// [`SimulationError::NotFinite`] with the round and the figure.
    pub(crate) fn check(&self) -> Result<(), SimulationError> {
        let norms = self.norms.iter().flat_map(|norms| {
            [norms.minimum, norms.lower_quartile, norms.median, norms.upper_quartile, norms.maximum]
                .map(|value| ("a norm before clipping", value))
        });
        let figures = [
            ("held-out bits per byte", self.heldout_bits_per_byte),
            ("epsilon", self.epsilon),
            ("delta", self.delta),
            ("the clip norm", self.clip),
        ];
        let optional = [("the norm of the mean", self.mean_norm), ("the norm of its noise", self.noise_norm)]
            .into_iter()
            .filter_map(|(name, value)| Some((name, value?)));
        let losses = self.local_loss.into_iter().flatten().map(|loss| ("the mean local loss", loss));
        for (name, value) in figures.into_iter().chain(optional).chain(norms).chain(losses) {
            finite(|| format!("{name} of round {}", self.round), value)?;
        }
        Ok(())
    }
}

impl Report {
    /// Refuses a report with a figure that JSON would turn into null.
    ///
    /// # Errors
    /// [`SimulationError::NotFinite`] with the figure.
    pub(crate) fn check(&self) -> Result<(), SimulationError> {
        self.rounds.iter().try_for_each(RoundReport::check)?;
        let summary = &self.summary;
        let measured = [
            ("held-out bits per byte before training", Some(summary.heldout_start)),
            ("held-out bits per byte after training", Some(summary.heldout_private)),
            ("held-out bits per byte without privacy", summary.heldout_federated_plain),
            ("held-out bits per byte of central training", summary.heldout_central),
            ("the recovered share", summary.recovered_share),
            ("epsilon", Some(summary.epsilon)),
        ];
        let comparison = self.comparison.iter();
        let plain = comparison.clone().flat_map(|runs| runs.federated_plain.iter().copied().map(Some));
        let central = comparison.flat_map(|runs| runs.central.iter().map(|run| run.heldout_bits_per_byte));
        let measured = measured
            .into_iter()
            .chain(plain.map(|value| ("held-out bits per byte without privacy", value)))
            .chain(central.map(|value| ("held-out bits per byte of central training", value)));
        for (name, value) in measured {
            value.map(|value| finite(|| name.to_owned(), value)).transpose()?;
        }
        Ok(())
    }

    /// Reads a `report.json`.
    ///
    /// # Errors
    /// When the file cannot be read or is not a report of this version.
    pub fn load(path: &Path) -> Result<Self, SimulationError> {
        let text = std::fs::read_to_string(path).map_err(SimulationError::io(path))?;
        let refuse = |reason: String| SimulationError::ReportSyntax { path: path.to_owned(), reason };
        let report: Self = serde_json::from_str(&text).map_err(|error| refuse(error.to_string()))?;
        if report.schema != SCHEMA {
            return Err(refuse(format!("its schema is `{}`, not `{SCHEMA}`", report.schema)));
        }
        Ok(report)
    }

    /// The text of `report.json`.
    ///
    /// # Errors
    /// [`SimulationError::NotFinite`] when a figure is infinite or not a number; it would become null.
    pub fn to_json(&self) -> Result<String, SimulationError> {
        self.check()?;
        Ok(serde_json::to_string_pretty(self)? + "\n")
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A report with every field set, names that need escaping included.
    pub(crate) fn sample() -> Report {
        let scenario = Scenario::parse(crate::scenario::tests::SMALL).expect("valid");
        let seconds = |scale: f64| -> BTreeMap<String, f64> {
            ["train", "share", "collect", "evaluate"]
                .iter()
                .enumerate()
                .map(|(place, phase)| ((*phase).to_owned(), scale * (place + 1) as f64))
                .collect()
        };
        let rounds = (1..=3_u32)
            .map(|round| RoundReport {
                round: round.into(),
                cohort: 12,
                survivors: 12 - round,
                heldout_bits_per_byte: 3.0 - 0.05 * f64::from(round),
                epsilon: 0.9 * f64::from(round),
                delta: 1e-5,
                seconds: seconds(f64::from(round)),
                virtual_seconds: Some(31.5),
                failure: (round == 2).then(|| "too few <survivors>".to_owned()),
                dropped: BTreeMap::from([("collect".to_owned(), round)]),
                clip: 0.5,
                unclipped_share: Some(0.375),
                norms: Norms::of((0..9).map(|n| f64::from(n + round as i32) / 8.0).collect(), 0.5),
                mean_norm: Some(0.4),
                noise_norm: Some(0.3),
                local_loss: Some([3.1, 2.9]),
                traffic: Some(Traffic {
                    sent_per_client: 20_000.0,
                    sent_maximum: 21_000,
                    received_per_client: 9_000.0,
                    received_maximum: 9_100,
                }),
            })
            .collect();
        let excerpt = Excerpt {
            developer: "serde".to_owned(),
            path: "serde-1.0.0/src/lib.rs".to_owned(),
            start: 120,
            bytes: 500,
            text: String::new(),
        };
        Report {
            schema: SCHEMA.to_owned(),
            scenario,
            seed: 1,
            masked: true,
            simulated_noise_is_seeded: true,
            threads: 2,
            network: None,
            corpus: CorpusReport {
                source: "cargo".to_owned(),
                digest: "ab".repeat(32),
                developers: 100,
                files: 2_000,
                bytes: 7_000_000,
                held_out: vec!["serde".to_owned()],
                held_out_bytes: 90_000,
                skipped: Skipped::default(),
            },
            evaluation: EvaluationReport { files: vec![excerpt], bytes: 500, tokens: 160 },
            parameters: Parameters {
                base_model: "cd".repeat(32),
                base_model_name: "tacit-base".to_owned(),
                dimension: 6144,
                cohort: 12,
                n_min: 9,
                corrupt: 1,
                honest_minimum: 8,
                degree: 11,
                threshold: 7,
                bits: 14,
                scale: 900.0,
                sensitivity_inflation: 1.01,
                local_sigma: Some(7.5),
            },
            rounds,
            stopped_early: Some("before round 4: nobody is <rested>".to_owned()),
            comparison: Some(Comparison {
                federated_plain: vec![2.9, 2.85, 2.8],
                central: vec![
                    CentralRun { learning_rate: 0.01, heldout_bits_per_byte: Some(2.7) },
                    CentralRun { learning_rate: 1.0, heldout_bits_per_byte: None },
                ],
                tokens: 98_304,
            }),
            completions: vec![Completion {
                developer: "serde".to_owned(),
                path: "src/lib.rs".to_owned(),
                prompt: "fn take<T>(x: &T) -> bool {\n".to_owned(),
                author: "    x.is_some() && \"yes\" == 'y'\n".to_owned(),
                before: "    return x;\n".to_owned(),
                after: "    x.is_ok()\n".to_owned(),
            }],
            summary: Summary {
                heldout_start: 3.0,
                heldout_private: 2.85,
                heldout_federated_plain: Some(2.8),
                heldout_central: Some(2.7),
                recovered_share: Some(0.5),
                dimension: 6144,
                epsilon: 2.7,
                delta: 1e-5,
                noise_multiplier: 2.0,
                wall_seconds: 12.0,
                client_updates_per_second: 3.5,
                peak_rss_bytes: None,
                rounds_released: 2,
                adapter_sha256: "ef".repeat(32),
            },
        }
    }

    #[test]
    fn a_report_survives_its_file() {
        let report = sample();
        let root = tempfile::tempdir().expect("a folder");
        let path = root.path().join("report.json");
        std::fs::write(&path, report.to_json().expect("JSON")).expect("a file");
        assert_eq!(Report::load(&path).expect("the same"), report);
        std::fs::write(&path, report.to_json().expect("JSON").replace(SCHEMA, "other/v9")).expect("a file");
        assert!(Report::load(&path).expect_err("refused").to_string().contains("other/v9"));
        std::fs::write(&path, "{}").expect("a file");
        assert!(Report::load(&path).expect_err("refused").to_string().contains("report.json"));
    }

    #[test]
    fn a_figure_that_json_cannot_hold_is_refused() {
        type Spoil = fn(&mut Report, f64);
        let places: [(Spoil, &str); 11] = [
            (|report, value| report.rounds[1].heldout_bits_per_byte = value, "bits per byte of round 2"),
            (|report, value| report.rounds[2].epsilon = value, "epsilon of round 3"),
            (|report, value| report.rounds[0].mean_norm = Some(value), "norm of the mean of round 1"),
            (|report, value| report.rounds[0].local_loss = Some([1.0, value]), "local loss of round 1"),
            (
                |report, value| report.rounds[0].norms.as_mut().expect("set").maximum = value,
                "norm before clipping",
            ),
            (|report, value| report.summary.heldout_start = value, "before training"),
            (|report, value| report.summary.heldout_private = value, "after training"),
            (|report, value| report.summary.recovered_share = Some(value), "recovered share"),
            (|report, value| report.summary.epsilon = value, "epsilon"),
            (
                |report, value| report.comparison.as_mut().expect("set").federated_plain[1] = value,
                "without privacy",
            ),
            (
                |report, value| {
                    report.comparison.as_mut().expect("set").central[0].heldout_bits_per_byte = Some(value);
                },
                "central training",
            ),
        ];
        assert!(sample().to_json().is_ok());
        for (spoil, named) in places {
            for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
                let mut report = sample();
                spoil(&mut report, value);
                let error = report.to_json().expect_err(named);
                assert!(matches!(error, SimulationError::NotFinite { .. }), "{error}");
                let error = error.to_string();
                assert!(error.contains(named) && error.contains("learning_rate"), "{named}: {error}");
            }
        }
    }

    #[test]
    fn the_promised_fields_are_there_and_null_when_not_measured() {
        let mut report = sample();
        report.comparison = None;
        report.summary.heldout_federated_plain = None;
        report.summary.heldout_central = None;
        report.summary.recovered_share = None;
        assert!(serde_json::to_value(&report).expect("JSON")["stopped_early"].is_string());
        report.stopped_early = None;
        let value = serde_json::to_value(&report).expect("JSON");
        for field in ["round", "cohort", "survivors", "heldout_bits_per_byte", "epsilon", "delta"] {
            assert!(value["rounds"][0][field].is_number(), "{field}");
        }
        assert!(value["rounds"][0]["seconds"]["train"].is_number());
        assert!(value.as_object().expect("an object")["stopped_early"].is_null());
        let summary = value["summary"].as_object().expect("an object");
        for field in ["heldout_federated_plain", "heldout_central", "recovered_share"] {
            assert!(summary[field].is_null(), "{field}");
        }
        for field in [
            "heldout_start",
            "heldout_private",
            "dimension",
            "epsilon",
            "delta",
            "noise_multiplier",
            "wall_seconds",
            "client_updates_per_second",
        ] {
            assert!(summary[field].is_number(), "{field}");
        }
        assert!(summary.contains_key("peak_rss_bytes"));
    }

    #[test]
    fn quartiles_are_interpolated() {
        let norms = Norms::of(vec![4.0, 1.0, 2.0, 3.0], 2.5).expect("some");
        assert_eq!((norms.minimum, norms.median, norms.maximum), (1.0, 2.5, 4.0));
        assert_eq!((norms.lower_quartile, norms.upper_quartile, norms.clipped), (1.75, 3.25, 0.5));
        assert_eq!(Norms::of(vec![], 1.0), None);
        assert_eq!(Norms::of(vec![7.0], 1.0).map(|norms| norms.upper_quartile), Some(7.0));
    }
}
