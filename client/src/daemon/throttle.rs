//! Keeps a stream of bytes below a rate. Must never let more than one part through ahead of time.

use std::time::Duration;
use tokio::time::Instant;

/// Parts are at most as long as what passes in this time, so that a slow line does not stall in bursts.
const SLICE: Duration = Duration::from_millis(250);
/// Shortest part, in bytes.
const SMALLEST: usize = 4 << 10;

/// A limit in bytes per second; 0 for none.
#[derive(Clone, Copy, Debug)]
pub(super) struct Throttle {
    rate: u64,
    free_at: Instant,
}

impl Throttle {
    pub(super) fn new(rate: u64) -> Self {
        Self { rate, free_at: Instant::now() }
    }

    /// Longest part to send at once, of at most `most` bytes.
    pub(super) fn part(&self, most: usize) -> usize {
        if self.rate == 0 {
            return most;
        }
        let slice = self.rate.saturating_mul(SLICE.as_millis() as u64) / 1000;
        usize::try_from(slice).unwrap_or(most).clamp(SMALLEST.min(most), most)
    }

    /// Waits until `bytes` more may pass.
    pub(super) async fn pass(&mut self, bytes: usize) {
        if self.rate == 0 {
            return;
        }
        tokio::time::sleep_until(self.free_at).await;
        let takes = Duration::from_secs_f64(bytes as f64 / self.rate as f64);
        self.free_at = self.free_at.max(Instant::now()) + takes;
    }
}

#[cfg(test)]
mod tests {
    use super::Throttle;
    use std::time::{Duration, Instant};

    #[tokio::test]
    async fn bytes_take_their_time() {
        let mut throttle = Throttle::new(100_000);
        let part = throttle.part(1 << 20);
        assert_eq!(part, 25_000);
        let began = Instant::now();
        for _ in 0..3 {
            throttle.pass(part).await;
        }
        // The first passes at once, the third when two have had their time.
        assert!(began.elapsed() >= Duration::from_millis(490), "{:?}", began.elapsed());
        let mut free = Throttle::new(0);
        assert_eq!(free.part(7), 7);
        free.pass(1 << 40).await;
        assert!(began.elapsed() < Duration::from_secs(20));
    }
}
