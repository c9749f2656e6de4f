//! Progress of a snapshot in the log: percent, rate, what is left.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::captured::CapturedTable;

/// How often progress is logged.
const INTERVAL: Duration = Duration::from_secs(5);

pub(super) struct Progress {
    started: Instant,
    logged: Instant,
}

impl Progress {
    pub(super) fn start() -> Self {
        let now = Instant::now();
        Self { started: now, logged: now }
    }

    pub(super) fn log_if_due(&mut self, tables: &[CapturedTable]) {
        if self.logged.elapsed() < INTERVAL {
            return;
        }
        self.logged = Instant::now();
        let sum = |count: fn(&CapturedTable) -> u64| tables.iter().map(count).sum::<u64>();
        let rows = sum(|table| table.stats.snapshot_rows.load(Ordering::Relaxed));
        let estimate = sum(|table| {
            let read = table.stats.snapshot_rows.load(Ordering::Relaxed);
            table.stats.snapshot_estimate.load(Ordering::Relaxed).max(read)
        });
        let report = Report::new(rows, estimate, self.started.elapsed());
        tracing::info!(
            rows,
            percent = report.percent,
            rows_per_second = report.rate,
            eta_seconds = report.eta_seconds,
            "snapshot is under way"
        );
    }

    pub(super) fn log_end(&self, rows: u64) {
        let report = Report::new(rows, rows, self.started.elapsed());
        tracing::info!(
            rows,
            rows_per_second = report.rate,
            seconds = self.started.elapsed().as_secs(),
            "snapshot is complete"
        );
    }
}

/// What a person wants to know of a copy under way.
#[derive(Debug, PartialEq, Eq)]
struct Report {
    percent: u64,
    rate: u64,
    eta_seconds: u64,
}

impl Report {
    fn new(rows: u64, estimate: u64, elapsed: Duration) -> Self {
        let milliseconds = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX).max(1);
        let rate = rows.saturating_mul(1000) / milliseconds;
        let left = estimate.saturating_sub(rows);
        Self {
            percent: rows.saturating_mul(100).checked_div(estimate).unwrap_or(100).min(100),
            rate,
            eta_seconds: left.checked_div(rate).unwrap_or(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_says_percent_rate_and_what_is_left() {
        let report = Report::new(250, 1000, Duration::from_secs(5));
        assert_eq!(report, Report { percent: 25, rate: 50, eta_seconds: 15 });
    }

    #[test]
    fn an_empty_table_is_complete() {
        assert_eq!(Report::new(0, 0, Duration::ZERO), Report { percent: 100, rate: 0, eta_seconds: 0 });
    }
}
