//! Metrics, in Prometheus's text format for whoever asks over HTTP. Without [`serve`] nothing is kept.

use std::net::SocketAddr;
use std::time::Duration;

use metrics::{Unit, counter, describe_counter, describe_gauge, gauge};
use metrics_exporter_prometheus::PrometheusBuilder;
use metrics_util::MetricKindMask;

const LAG: &str = "sync_lag_seconds";
const CONFLICTS: &str = "conflict_count";
const CONFLICTS_OF_HOUR: &str = "conflicts_within_hour";
const THRESHOLD: &str = "conflict_threshold";

/// A value that nobody has set for so long is not shown any more: its table may be another process's by now.
const IDLE: Duration = Duration::from_secs(180);

/// Metrics cannot be served.
#[derive(Debug, thiserror::Error)]
#[error("metrics cannot be served at {address}: {reason}")]
pub struct MetricsError {
    /// Where.
    pub address: SocketAddr,
    /// Why.
    pub reason: String,
}

/// Listens at an address, for the whole process; the future answers and does not end by itself. Inside a tokio runtime.
///
/// # Errors
///
/// The address cannot be listened at.
pub fn serve(address: SocketAddr) -> Result<impl Future<Output = Result<(), MetricsError>>, MetricsError> {
    let failed = move |reason: String| MetricsError { address, reason };
    let builder = PrometheusBuilder::new().with_http_listener(address).idle_timeout(MetricKindMask::GAUGE, Some(IDLE));
    let (recorder, answers) = builder.build().map_err(|error| failed(error.to_string()))?;
    metrics::set_global_recorder(recorder).map_err(|error| failed(error.to_string()))?;
    describe_gauge!(LAG, Unit::Seconds, "Age of the last change applied to a table, while there are records to apply.");
    describe_counter!(CONFLICTS, "Conflicts between nodes that were written down, since the start of the process.");
    describe_gauge!(CONFLICTS_OF_HOUR, "Conflicts that a node has written down within the last hour.");
    describe_gauge!(THRESHOLD, "As many of them as this raise the alarm (conflict_log.alerting.threshold).");
    Ok(async move { answers.await.map_err(|error| failed(format!("{error:?}"))) })
}

/// How far a table is behind at its target. A job is a consumer group.
pub fn lag(job: &str, table: &str, seconds: f64) {
    gauge!(LAG, "sync_job" => job.to_owned(), "table_name" => table.to_owned()).set(seconds);
}

/// Conflicts that were written down, by the table's strategy and their type.
pub fn conflicts(job: &str, table: &str, strategy: &'static str, kind: &'static str, count: u64) {
    let counter = counter!(
        CONFLICTS,
        "sync_job" => job.to_owned(),
        "table_name" => table.to_owned(),
        "resolution_strategy" => strategy,
        "conflict_type" => kind
    );
    counter.increment(count);
}

/// Conflicts within the last hour, beside what raises the alarm.
#[expect(clippy::cast_precision_loss, reason = "nobody counts so many conflicts")]
pub fn conflicts_within_hour(job: &str, count: u64, threshold: u64) {
    gauge!(CONFLICTS_OF_HOUR, "sync_job" => job.to_owned()).set(count as f64);
    gauge!(THRESHOLD, "sync_job" => job.to_owned()).set(threshold as f64);
}
