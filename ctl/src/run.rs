//! `run`, `produce` and `consume`: one or both sides of one or several databases, one shutdown, one answer.

use std::sync::Arc;
use std::time::Duration;

use syncline_consumer::run::{RunOptions as ConsumerOptions, Until};
use syncline_producer::config::SnapshotMode;
use syncline_producer::run::RunOptions as ProducerOptions;
use syncline_runtime::kafka::Admin;
use syncline_runtime::registry::Registry;
use syncline_runtime::shutdown::Shutdown;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tracing::{Instrument, Span, info_span};

use crate::config::MappingsFile;
use crate::failure::Failure;
use crate::parts::{Part, Parts};
use crate::progress::{Counters, Display, Sampler};
use crate::{check, mappings, rules};

/// Both parts end within 10 s after a signal; this is when patience ends. Dying is safe at any moment.
const PATIENCE: Duration = Duration::from_millis(9_500);

/// Runs until the shutdown, an error, or, if asked, until caught up.
///
/// # Errors
/// The error of the side that failed first; the others have been stopped by then.
pub(crate) async fn run(parts: Parts, until_caught_up: bool, display: Display) -> Result<(), Failure> {
    let Parts { list: parts, mappings } = parts;
    let shutdown =
        Shutdown::on_signals().map_err(|source| Failure::System { what: "cannot listen for signals", source })?;
    tokio::select! {
        ready = ready(&parts, &mappings) => ready?,
        () = shutdown.wait() => return if until_caught_up { Err(Failure::Interrupted) } else { Ok(()) },
    }
    let several = parts.len() > 1;
    let counters = parts.iter().map(|Part { node, producer, consumer }| {
        Counters::new(node.as_deref().filter(|_| several), producer.as_ref(), consumer.as_ref())
    });
    let counters: Vec<Counters> = counters.collect();
    let mut sampler = Sampler::new(counters.clone());
    let result = tokio::select! {
        result = supervise(parts, until_caught_up, &counters, &shutdown) => result,
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
async fn ready(parts: &[Part], mappings: &MappingsFile) -> Result<(), Failure> {
    for part in parts {
        is_ready(part, mappings).await.map_err(|failure| failure.of(part.node.as_deref()))?;
    }
    Ok(())
}

async fn is_ready(Part { node, producer, consumer }: &Part, mappings: &MappingsFile) -> Result<(), Failure> {
    match (producer, consumer) {
        (Some(config), _) => {
            let report = syncline_producer::check::check(config).await?;
            mappings::refuse(mappings::faults(mappings, node.as_deref(), report.tables.iter()))?;
            if let Some(node) = consumer.as_ref().and_then(|config| config.node.as_ref()) {
                mappings::refuse(rules::faults(&node.rules, &report.tables))?;
            }
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

async fn supervise(
    parts: Vec<Part>,
    until_caught_up: bool,
    counters: &[Counters],
    shutdown: &Shutdown,
) -> Result<(), Failure> {
    // A producer that only reads rows ends by itself, and a consumer beside it once it has them.
    let reads_once =
        |part: &Part| part.producer.as_ref().is_some_and(|config| config.snapshot_mode == SnapshotMode::InitialOnly);
    let until_caught_up = until_caught_up || parts.iter().any(reads_once);
    let mut sides = JoinSet::new();
    let mut publishing = Vec::new();
    let (published, signal) = watch::channel(false);
    let (applying, mut applied) = mpsc::channel::<()>(1);
    // Asks the producers to end that consumers beside them need until then.
    let finish = Shutdown::new();
    for (Part { node, producer, consumer }, counters) in parts.into_iter().zip(counters) {
        let span = node.as_ref().map_or_else(Span::none, |node| info_span!("node", name = node));
        let until = match (until_caught_up, &producer) {
            (false, _) => None,
            (true, None) => Some(Until::EndOffsetsAtStart),
            (true, Some(_)) => Some(Until::Signal(signal.clone())),
        };
        // What a node's consumer has set aside waits for changes that its producer brings.
        let is_needed = node.is_some() && consumer.is_some();
        if let Some(config) = producer {
            let (caught_up, heard) = watch::channel(false);
            publishing.push(heard);
            let options = ProducerOptions {
                until_caught_up: until_caught_up && !is_needed,
                caught_up: (until_caught_up && is_needed).then(|| caught_up.clone()),
                stats: Arc::clone(&counters.producer),
            };
            let shutdown = if is_needed { finish.clone() } else { shutdown.clone() };
            let node = node.clone();
            let side = async move {
                let result = syncline_producer::run::run(config, options, shutdown.clone()).await;
                result.map_err(|error| Failure::from(error).of(node.as_deref()))?;
                // After a shutdown nobody has caught up, and the consumer hears of the end by itself.
                if !shutdown.is_requested() {
                    caught_up.send_replace(true);
                }
                Ok(())
            };
            sides.spawn(side.instrument(span.clone()));
        }
        if let Some(config) = consumer {
            let options = ConsumerOptions { until, stats: Arc::clone(&counters.consumer) };
            let (shutdown, applying) = (shutdown.clone(), applying.clone());
            let side = async move {
                let result = syncline_consumer::run::run(config, options, shutdown).await;
                drop(applying);
                result.map_err(|error| Failure::from(error).of(node.as_deref()))
            };
            sides.spawn(side.instrument(span));
        }
    }
    drop(applying);
    sides.spawn(async move {
        // Only the ends of all nodes' topics stand for everything that was committed anywhere.
        for mut caught_up in publishing {
            if caught_up.wait_for(|caught_up| *caught_up).await.is_err() {
                return Ok(());
            }
        }
        published.send_replace(true);
        Ok(())
    });
    let all = shutdown.clone();
    sides.spawn(async move {
        tokio::select! {
            () = all.wait() => {}
            // Nobody ever sends: this is the end of the last consumer.
            _ = applied.recv() => {}
        }
        finish.trigger();
        Ok(())
    });
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
