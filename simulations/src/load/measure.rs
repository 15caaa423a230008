//! What the clients of a load run see: how long calls take, when steps begin, how much was uploaded. Must never grow with the
//! number of calls.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tacit_aggregation::Step;
use tacit_proto::fleet::RoundName;

/// Ratio between the upper ends of neighbouring buckets.
const GROWTH: f64 = 1.02;
/// Buckets of a histogram: from a microsecond to an hour and more.
const BUCKETS: usize = 1_120;

/// A unary call of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// To check in.
    CheckIn,
    /// To hand in a message of a step.
    Send,
}

/// How often something took how long, within two per cent.
#[derive(Debug)]
pub struct Histogram(Vec<AtomicU64>);

impl Default for Histogram {
    fn default() -> Self {
        Self((0..BUCKETS).map(|_| AtomicU64::new(0)).collect())
    }
}

impl Histogram {
    /// Counts a duration.
    pub fn note(&self, duration: Duration) {
        let micros = (duration.as_secs_f64() * 1e6).max(1.0);
        let bucket = (micros.ln() / GROWTH.ln()) as usize;
        self.0[bucket.min(BUCKETS - 1)].fetch_add(1, Ordering::Relaxed);
    }

    /// How many were counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }

    /// What a fraction of them did not exceed, in milliseconds; none where none were counted.
    #[must_use]
    pub fn quantile(&self, fraction: f64) -> Option<f64> {
        let wanted = ((self.count() as f64 * fraction).ceil() as u64).max(1);
        let mut seen = 0;
        let bucket = self.0.iter().position(|count| {
            seen += count.load(Ordering::Relaxed);
            seen >= wanted
        })?;
        Some(GROWTH.powi(bucket as i32 + 1) / 1e3)
    }

    /// Counts what another has counted.
    pub fn add(&self, other: &Self) {
        for (mine, theirs) in self.0.iter().zip(&other.0) {
            mine.fetch_add(theirs.load(Ordering::Relaxed), Ordering::Relaxed);
        }
    }
}

/// When the clients of one round first heard of its steps.
#[derive(Clone, Debug, Default)]
pub struct Marks {
    /// When the first client was told to join, then when it heard the message that begins a step.
    pub begun: BTreeMap<Step, Instant>,
    /// When the first client heard that the round is over.
    pub over: Option<Instant>,
}

impl Marks {
    /// How long each step was open, as the clients saw it.
    #[must_use]
    pub fn seconds(&self) -> BTreeMap<&'static str, f64> {
        let ends = self.begun.values().skip(1).copied().map(Some).chain([self.over]);
        let steps = self.begun.iter().zip(ends);
        steps.filter_map(|((step, begun), end)| Some((name(*step), (end? - *begun).as_secs_f64()))).collect()
    }
}

/// A step's name in reports.
#[must_use]
pub fn name(step: Step) -> &'static str {
    match step {
        Step::Advertise => "advertise",
        Step::Share => "share",
        Step::Collect => "collect",
        Step::Confirm => "confirm",
        Step::Unmask => "unmask",
    }
}

/// What all clients of a process see together.
#[derive(Debug, Default)]
pub struct Gauges {
    /// Of [`Call::CheckIn`].
    pub check_ins: Histogram,
    /// Of [`Call::Send`].
    pub sends: Histogram,
    /// Calls that were told to come back later.
    pub turned_away: AtomicU64,
    /// Calls that failed otherwise, and were made again.
    pub failed: AtomicU64,
    /// Bytes of vectors that the coordinator has acknowledged.
    pub uploaded: AtomicU64,
    uploading: Mutex<Option<(Instant, Instant)>>,
    rounds: Mutex<BTreeMap<RoundName, Marks>>,
}

impl Gauges {
    pub(super) fn call(&self, call: Call, took: Duration) {
        match call {
            Call::CheckIn => self.check_ins.note(took),
            Call::Send => self.sends.note(took),
        }
    }

    pub(super) fn begins(&self, round: &RoundName, step: Step) {
        let mut rounds = self.rounds.lock().unwrap_or_else(PoisonError::into_inner);
        rounds.entry(round.clone()).or_default().begun.entry(step).or_insert_with(Instant::now);
    }

    pub(super) fn is_over(&self, round: &RoundName) {
        let mut rounds = self.rounds.lock().unwrap_or_else(PoisonError::into_inner);
        rounds.entry(round.clone()).or_default().over.get_or_insert_with(Instant::now);
    }

    /// An upload that was acknowledged, and when it began.
    pub(super) fn uploaded(&self, bytes: u64, began: Instant) {
        self.uploaded.fetch_add(bytes, Ordering::Relaxed);
        let mut uploading = self.uploading.lock().unwrap_or_else(PoisonError::into_inner);
        let (first, last) = uploading.get_or_insert((began, began));
        *first = began.min(*first);
        *last = Instant::now();
    }

    /// What was seen of each round.
    #[must_use]
    pub fn rounds(&self) -> BTreeMap<RoundName, Marks> {
        self.rounds.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// From the beginning of the first upload to the end of the last.
    #[must_use]
    pub fn uploading(&self) -> Option<Duration> {
        let uploading = self.uploading.lock().unwrap_or_else(PoisonError::into_inner);
        uploading.map(|(first, last)| last - first)
    }
}

#[cfg(test)]
mod tests {
    use super::{Histogram, Marks, name};
    use std::time::{Duration, Instant};
    use tacit_aggregation::Step;

    #[test]
    fn quantiles_are_right_within_a_bucket() {
        let histogram = Histogram::default();
        assert_eq!(histogram.quantile(0.5), None);
        (1..=1_000).for_each(|millis| histogram.note(Duration::from_millis(millis)));
        let more = Histogram::default();
        more.note(Duration::from_secs(1 << 40));
        histogram.add(&more);
        for (fraction, millis) in [(0.0, 1.0), (0.5, 501.0), (0.99, 991.0)] {
            let found = histogram.quantile(fraction).expect("some were counted");
            assert!((0.98..1.03).contains(&(found / millis)), "{fraction}: {found}");
        }
        assert!(histogram.quantile(1.0).expect("counted") > 3_600_000.0);
        assert_eq!(histogram.count(), 1_001);
    }

    #[test]
    fn a_step_lasts_until_the_next_or_the_end() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let begun = Step::ALL.into_iter().zip([0, 1, 3, 7, 8]).map(|(step, at)| (step, after(at))).collect();
        let seconds = Marks { begun, over: Some(after(13)) }.seconds();
        let expected =
            [("advertise", 1.0), ("collect", 4.0), ("confirm", 1.0), ("share", 2.0), ("unmask", 5.0)];
        assert_eq!(seconds.into_iter().collect::<Vec<_>>(), expected);
        let begun = [(Step::Share, after(2))].into();
        assert!(Marks { begun, over: None }.seconds().is_empty());
        assert_eq!(Step::ALL.map(name).len(), 5);
    }
}
