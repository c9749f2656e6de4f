//! `run`, `produce` and `consume`: one or both sides, one shutdown, one answer.

use std::sync::Arc;
use std::time::Duration;

use syncline_consumer::config::ConsumerConfig;
use syncline_consumer::run::{RunOptions as ConsumerOptions, Until};
use syncline_producer::config::{ProducerConfig, SnapshotMode};
use syncline_producer::run::RunOptions as ProducerOptions;
use syncline_runtime::kafka::Admin;
use syncline_runtime::registry::Registry;
use syncline_runtime::shutdown::Shutdown;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::check;
use crate::config::{MappingsFile, Sides, SyncConfig};
use crate::failure::Failure;
use crate::mappings;
use crate::progress::{Counters, Display, Sampler};

/// Both parts end within 10 s after a signal; this is when patience ends. Dying is safe at any moment.
const PATIENCE: Duration = Duration::from_millis(9_500);

/// Runs until the shutdown, an error, or, if asked, until caught up.
///
/// # Errors
/// The error of the side that failed first; the other one has been stopped by then.
pub(crate) async fn run(
    config: SyncConfig,
    sides: Sides,
    until_caught_up: bool,
    display: Display,
) -> Result<(), Failure> {
    let mappings = config.mappings.clone();
    let (producer, consumer) = select(config, sides)?;
    let shutdown =
        Shutdown::on_signals().map_err(|source| Failure::System { what: "cannot listen for signals", source })?;
    let counters = Counters::new(producer.as_ref(), consumer.as_ref());
    tokio::select! {
        ready = ready(producer.as_ref(), consumer.as_ref(), &mappings) => ready?,
        () = shutdown.wait() => return if until_caught_up { Err(Failure::Interrupted) } else { Ok(()) },
    }
    let mut sampler = Sampler::new(counters.clone());
    let result = tokio::select! {
        result = supervise(producer, consumer, until_caught_up, &counters, &shutdown) => result,
        never = display.show(&mut sampler) => match never {},
    };
    display.finish(sampler);
    match result {
        Ok(()) if until_caught_up && shutdown.is_requested() => Err(Failure::Interrupted),
        result => result,
    }
}

/// Looks at every server before anything is changed on one of them: a password that is wrong at the target must not
/// leave a slot behind at the source. Later outages are waited out.
async fn ready(
    producer: Option<&ProducerConfig>,
    consumer: Option<&ConsumerConfig>,
    mappings: &MappingsFile,
) -> Result<(), Failure> {
    match (producer, consumer) {
        (Some(config), _) => {
            let report = syncline_producer::check::check(config).await?;
            mappings::refuse(mappings::faults(mappings, report.tables.iter()))?;
        }
        (None, Some(config)) => {
            Admin::connect(&config.kafka).await?;
            Registry::connect(&config.registry)?.check().await?;
            mappings::check_published(mappings, config).await?;
        }
        (None, None) => {}
    }
    if let Some(config) = consumer {
        check::open_target(config).await?;
    }
    Ok(())
}

fn select(config: SyncConfig, sides: Sides) -> Result<(Option<ProducerConfig>, Option<ConsumerConfig>), Failure> {
    let missing = |verb: &str, section: &str, other: &str| {
        Failure::Usage(format!(
            "`syncline {verb}` needs `{section}` in the sync file; without it there is `syncline {other}`"
        ))
    };
    let SyncConfig { producer, consumer, .. } = config;
    match sides {
        Sides::Both if producer.is_none() => Err(missing("run", "source", "consume")),
        Sides::Both if consumer.is_none() => Err(missing("run", "target", "produce")),
        Sides::Producer if producer.is_none() => Err(missing("produce", "source", "consume")),
        Sides::Consumer if consumer.is_none() => Err(missing("consume", "target", "produce")),
        Sides::Both => Ok((producer, consumer)),
        Sides::Producer => Ok((producer, None)),
        Sides::Consumer => Ok((None, consumer)),
    }
}

async fn supervise(
    producer: Option<ProducerConfig>,
    consumer: Option<ConsumerConfig>,
    until_caught_up: bool,
    counters: &Counters,
    shutdown: &Shutdown,
) -> Result<(), Failure> {
    // A producer that only reads rows ends by itself, and a consumer beside it once it has them.
    let ends = producer.as_ref().is_some_and(|config| config.snapshot_mode == SnapshotMode::InitialOnly);
    let until_caught_up = until_caught_up || ends;
    let (caught_up, signal) = watch::channel(false);
    let until = match (until_caught_up, &producer) {
        (false, _) => None,
        (true, None) => Some(Until::EndOffsetsAtStart),
        (true, Some(_)) => Some(Until::Signal(signal)),
    };
    let mut sides = JoinSet::new();
    if let Some(config) = producer {
        let options = ProducerOptions { until_caught_up, caught_up: None, stats: Arc::clone(&counters.producer) };
        let shutdown = shutdown.clone();
        sides.spawn(async move {
            syncline_producer::run::run(config, options, shutdown.clone()).await?;
            // After a shutdown nobody has caught up, and the consumer hears of the end by itself.
            if !shutdown.is_requested() {
                caught_up.send_replace(true);
            }
            Ok(())
        });
    }
    if let Some(config) = consumer {
        let options = ConsumerOptions { until, stats: Arc::clone(&counters.consumer) };
        let shutdown = shutdown.clone();
        sides.spawn(async move { Ok(syncline_consumer::run::run(config, options, shutdown).await?) });
    }
    join(sides, shutdown, PATIENCE).await
}

/// Waits for all sides. The first failure asks the others to end and is the answer.
async fn join(mut sides: JoinSet<Result<(), Failure>>, shutdown: &Shutdown, patience: Duration) -> Result<(), Failure> {
    let end = async {
        shutdown.wait().await;
        tokio::time::sleep(patience).await;
    };
    tokio::pin!(end);
    let mut answer = Ok(());
    loop {
        let ended = tokio::select! {
            ended = sides.join_next() => ended,
            () = &mut end => return answer.and(Err(Failure::Hung { seconds: patience.as_secs() })),
        };
        let failure = match ended {
            None => return answer,
            Some(Ok(Ok(()))) => continue,
            Some(Ok(Err(failure))) => failure,
            Some(Err(error)) => Failure::Broken { reason: error.to_string() },
        };
        shutdown.trigger();
        if answer.is_ok() {
            answer = Err(failure);
        } else {
            tracing::warn!(error = %failure.message(), "another part failed while it was being stopped");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure() -> Failure {
        Failure::Usage("first".to_owned())
    }

    #[tokio::test]
    async fn a_failure_stops_the_other_side_and_is_the_answer() {
        let shutdown = Shutdown::new();
        let mut sides = JoinSet::new();
        let other = shutdown.clone();
        sides.spawn(async move {
            other.wait().await;
            Err(Failure::Interrupted)
        });
        sides.spawn(async { Err(failure()) });
        assert!(matches!(join(sides, &shutdown, PATIENCE).await, Err(Failure::Usage(_))));
    }

    #[tokio::test]
    async fn a_side_that_panics_is_a_failure() {
        let shutdown = Shutdown::new();
        let mut sides = JoinSet::new();
        sides.spawn(async { panic!("boom") });
        assert!(matches!(join(sides, &shutdown, PATIENCE).await, Err(Failure::Broken { .. })));
        assert!(shutdown.is_requested());
    }

    #[tokio::test]
    async fn a_side_that_does_not_end_is_not_waited_for() {
        let shutdown = Shutdown::new();
        let mut sides = JoinSet::new();
        sides.spawn(std::future::pending());
        shutdown.trigger();
        assert!(matches!(join(sides, &shutdown, Duration::ZERO).await, Err(Failure::Hung { .. })));
    }
}
