//! What a run shows while it works: a table on a terminal, log lines elsewhere.

mod sample;
mod terminal;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use syncline_consumer::config::{ConsumerConfig, TopicSelection};
use syncline_producer::config::ProducerConfig;
use syncline_runtime::telemetry::{self, LogFormat, TelemetryError};
use tracing::info;

pub(crate) use terminal::Terminal;

use sample::{Row, Sample};

pub(crate) use sample::Sampler;

/// The counters of a part's two sides; a side that does not run leaves its own at zero.
#[derive(Debug, Clone, Default)]
pub(crate) struct Counters {
    /// Shown in front of its tables, where there are several nodes.
    node: Option<String>,
    /// Moved by the producer.
    pub(crate) producer: Arc<syncline_producer::stats::Stats>,
    /// Moved by the consumer.
    pub(crate) consumer: Arc<syncline_consumer::stats::Stats>,
    /// What topics begin with, so that they can be shown beside their tables.
    topic_prefixes: Vec<String>,
    /// The consumer group, where there is a consumer.
    job: Option<String>,
}

impl Counters {
    /// Counters at zero.
    pub(crate) fn new(
        node: Option<&str>,
        producer: Option<&ProducerConfig>,
        consumer: Option<&ConsumerConfig>,
    ) -> Self {
        let topic_prefixes = match consumer.map(|config| &config.topics) {
            Some(TopicSelection::Prefix(prefix)) => vec![prefix.clone()],
            Some(TopicSelection::Prefixes(prefixes)) => prefixes.clone(),
            Some(TopicSelection::Names(_) | TopicSelection::Regex(_)) | None => {
                producer.map(|config| config.topic_prefix.clone()).into_iter().collect()
            }
        };
        let job = consumer.map(|config| config.consumer_group.clone());
        Self { node: node.map(str::to_owned), topic_prefixes, job, ..Self::default() }
    }
}

/// Where the progress goes.
#[derive(Debug, Clone)]
pub(crate) enum Display {
    /// A table that is drawn over and over.
    Terminal(Terminal),
    /// A log line per table that moved.
    Log,
}

/// Often enough to see it move, seldom enough to read it.
const REDRAW: Duration = Duration::from_millis(500);
const LOG: Duration = Duration::from_secs(5);

impl Display {
    /// What suits where standard error goes, and sets up logging so that the two get along.
    ///
    /// # Errors
    /// Logging cannot be set up.
    pub(crate) fn open(format: LogFormat) -> Result<Self, TelemetryError> {
        match Terminal::open().filter(|_| format == LogFormat::Text) {
            Some(terminal) => {
                let writer = terminal.clone();
                telemetry::init_to(format, move || writer.clone())?;
                Ok(Self::Terminal(terminal))
            }
            None => {
                telemetry::init(format)?;
                Ok(Self::Log)
            }
        }
    }

    /// Shows the counters over and over. Safe to drop at any time.
    pub(crate) async fn show(&self, sampler: &mut Sampler) -> Infallible {
        let period = if matches!(self, Self::Terminal(_)) { REDRAW } else { LOG };
        let mut ticks = tokio::time::interval(period);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        ticks.tick().await;
        loop {
            ticks.tick().await;
            let sample = sampler.sample();
            match self {
                Self::Terminal(terminal) => terminal.draw(&sample),
                Self::Log => log(&sample),
            }
        }
    }

    /// Leaves the sums behind.
    pub(crate) fn finish(self, mut sampler: Sampler) {
        let sample = sampler.sample();
        match self {
            Self::Terminal(terminal) => terminal.leave(&sample),
            Self::Log => total(&sample, sampler.age()),
        }
    }
}

fn total(sample: &Sample, age: Duration) {
    let sum = |count: fn(&Row) -> u64| sample.rows.iter().map(count).sum::<u64>();
    let (captured, applied) = (sum(|row| row.captured), sum(|row| row.applied));
    let seconds = age.as_secs_f64();
    info!(tables = sample.rows.len(), captured, applied, seconds, "ended");
}

fn log(sample: &Sample) {
    for row in sample.rows.iter().filter(|row| row.moved) {
        info!(
            table = row.table,
            captured = row.captured,
            snapshot_percent = row.snapshot_percent,
            applied = row.applied,
            rate = row.rate,
            lag_records = row.lag_records,
            lag_seconds = row.lag_seconds,
            conflicts = (row.conflicts > 0).then_some(row.conflicts),
            "progress"
        );
    }
}
