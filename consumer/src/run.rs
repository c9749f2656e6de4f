//! One consumer process: the poll thread, the lanes, and what ends them.

use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;

use futures_util::future::BoxFuture;
use syncline_runtime::kafka::Admin;
use syncline_runtime::registry::Registry;
use syncline_runtime::retry::{Backoff, Classified, ErrorClass};
use syncline_runtime::shutdown::Shutdown;
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use tracing::{Instrument, info, warn};

use crate::alarm::Alarm;
use crate::batch::Limits;
use crate::caught_up::{self, Group};
use crate::config::{ConsumerConfig, TargetConfig};
use crate::definitions::Definitions;
use crate::error::ConsumerError;
use crate::handover::Command;
use crate::intake::{self, LaneDoor};
use crate::lane::{Lane, LaneSettings, Lookup};
use crate::outside::Outside;
use crate::own_rows;
use crate::stats::Stats;
use crate::targets::postgres::PostgresTarget;
use crate::targets::{Guarantees, Target};
use crate::topics::Topics;

/// How long to run, and where to count.
#[derive(Debug, Default)]
pub struct RunOptions {
    /// When to end by itself; `None` runs until the shutdown.
    pub until: Option<Until>,
    /// Counters for a display.
    pub stats: Arc<Stats>,
}

/// When a consumer ends by itself.
#[derive(Debug)]
pub enum Until {
    /// When what Kafka held at the start is applied, by any member of the group.
    EndOffsetsAtStart,
    /// The same, with the end offsets taken when the value becomes true: the producer has finished by then. A sender
    /// that is dropped without that means that the producer failed; the consumer then goes on until the shutdown.
    Signal(watch::Receiver<bool>),
}

/// Bytes a lane may hold, queued and in hand.
const LANE_BYTES: usize = 24 << 20;
/// Bytes of records in one transaction.
const BATCH_BYTES: usize = 8 << 20;
/// How often the target's housekeeping is done.
const MAINTENANCE_INTERVAL: Duration = Duration::from_secs(60);
/// How long the poll thread may take to commit the last offsets, and then to leave the group.
const LAST_COMMIT: Duration = Duration::from_secs(2);

/// Runs a consumer until the shutdown, or until `options.until`. Boxed, so that its code is generated here and not in each
/// program that awaits it.
///
/// # Errors
///
/// What cannot be waited out. With `options.until` also [`ConsumerError::Stopped`], once everything else is applied.
pub fn run(
    config: ConsumerConfig,
    options: RunOptions,
    shutdown: Shutdown,
) -> BoxFuture<'static, Result<(), ConsumerError>> {
    Box::pin(consume(config, options, shutdown))
}

async fn consume(config: ConsumerConfig, options: RunOptions, shutdown: Shutdown) -> Result<(), ConsumerError> {
    let target = open_target(&config);
    carries(target.guarantees(), config.node.as_ref().map(|node| node.name.as_str()))?;
    prepare(target.as_ref(), &shutdown).await?;
    let admin = Admin::connect(&config.kafka).await?;
    let registry = Registry::connect(&config.registry)?;
    registry.check().await?;
    if shutdown.is_requested() {
        return Ok(());
    }
    if let Some(node) = &config.node
        && let Some(prefix) = node.prefixes.get(&node.name)
        && !own_rows::are_read(&config.kafka, prefix, &shutdown).await?
    {
        return Ok(());
    }
    let definitions = Arc::new(Definitions::new(&config.kafka, &config.topics));
    let topics = Topics::new(&config.topics, admin.clone(), Arc::clone(&definitions))?;
    // Ends the tasks, whether the process ends or the work does.
    let stop = Shutdown::new();
    let outside =
        Outside::new(&config.kafka, &config.consumer_group, admin.clone(), registry, definitions, stop.clone())?;
    let group = Group {
        group: config.consumer_group.clone(),
        cluster_id: admin.cluster_id().to_owned(),
        target: Arc::clone(&target),
        stats: Arc::clone(&options.stats),
    };

    let (commands, orders) = std::sync::mpsc::channel();
    let mut tasks = JoinSet::new();
    let doors = spawn_lanes(&config, &group, Arc::new(outside), &commands, &stop, &mut tasks);
    let polling = intake::start(&config.kafka, &config.consumer_group, doors, orders, options.stats)?;
    tasks.spawn(topics.clone().follow(commands.clone(), stop.clone()).in_current_span());
    tasks.spawn(maintain(Arc::clone(&group.target), stop.clone()).in_current_span());
    if let Some(alarm) = config.node.as_ref().and_then(|node| Alarm::of(node, &config.consumer_group)) {
        tasks.spawn(alarm.watch(Arc::clone(&group.target), stop.clone()).in_current_span());
    }

    let mut ended = polling.ended;
    let mut polls = true;
    let result = tokio::select! {
        () = shutdown.wait() => Ok(()),
        result = until(options.until, &topics, &admin, &group, config.node.is_some()) => result,
        Some(task) = tasks.join_next() => task_result(task).and(Err(ended_early("lane"))),
        end = &mut ended => {
            polls = false;
            end.unwrap_or_else(|_| Err(ended_early("poll thread"))).and(Err(ended_early("poll thread")))
        }
    };

    stop.trigger();
    let mut last = Ok(());
    while let Some(task) = tasks.join_next().await {
        last = last.and(task_result(task));
    }
    if polls && commands.send(Command::End).is_ok() {
        if tokio::time::timeout(LAST_COMMIT, ended).await.is_err() {
            warn!("the last offsets were not committed in time; the target knows better anyway");
        } else if tokio::time::timeout(LAST_COMMIT, polling.left).await.is_err() {
            warn!("the group was not left in time");
        }
    }
    result.and(last)
}

/// Refuses a topology that a target with these guarantees cannot carry.
fn carries(guarantees: Guarantees, node: Option<&str>) -> Result<(), ConsumerError> {
    match (node, guarantees.missing_of_a_node()) {
        (Some(node), Some(missing)) => Err(ConsumerError::NoNode { node: node.to_owned(), missing }),
        _ => Ok(()),
    }
}

fn open_target(config: &ConsumerConfig) -> Arc<dyn Target> {
    let name = format!("syncline consume {}", config.consumer_group);
    match &config.target {
        TargetConfig::Postgresql(settings) => {
            let target = PostgresTarget::new(settings.clone(), name).writing(config.sink.clone());
            Arc::new(match &config.node {
                Some(node) => target.of_node(node.clone()),
                None => target,
            })
        }
    }
}

/// Keeps the target's house until the shutdown. Nothing else depends on it, so what fails is tried again next time.
async fn maintain(target: Arc<dyn Target>, stop: Shutdown) -> Result<(), ConsumerError> {
    loop {
        if let Err(error) = target.maintain().await {
            warn!(%error, "housekeeping in the target failed, trying again in a minute");
        }
        tokio::select! {
            () = stop.wait() => return Ok(()),
            () = tokio::time::sleep(MAINTENANCE_INTERVAL) => {}
        }
    }
}

/// Makes the bookkeeping ready, waiting out what passes.
async fn prepare(target: &dyn Target, shutdown: &Shutdown) -> Result<(), ConsumerError> {
    let mut backoff = Backoff::default();
    loop {
        match target.prepare().await {
            Err(error) if error.class == ErrorClass::Transient => {
                warn!(%error, "preparing the target failed, trying again");
                if !backoff.wait(shutdown).await {
                    return Ok(());
                }
            }
            result => return result.map_err(ConsumerError::Target),
        }
    }
}

fn spawn_lanes(
    config: &ConsumerConfig,
    group: &Group,
    lookup: Arc<dyn Lookup>,
    commands: &Sender<Command>,
    stop: &Shutdown,
    tasks: &mut JoinSet<Result<(), ConsumerError>>,
) -> Vec<LaneDoor> {
    let sink = Arc::new(config.sink.clone());
    let spawn = |_| {
        let (events, inbox) = tokio::sync::mpsc::unbounded_channel();
        let settings = LaneSettings {
            group: group.group.clone(),
            cluster_id: group.cluster_id.clone(),
            limits: Limits { changes: config.batch_rows.max(1), bytes: BATCH_BYTES },
            attempts: config.retry_attempts.max(1),
            sink: Arc::clone(&sink),
            mappings: Arc::clone(&config.mappings),
            node: config.node.clone().map(Arc::new),
        };
        let lane = Lane::new(
            settings,
            Arc::clone(&group.target),
            Arc::clone(&lookup),
            Arc::clone(&group.stats),
            inbox,
            commands.clone(),
            stop.clone(),
        );
        tasks.spawn(lane.run().in_current_span());
        LaneDoor { events, budget: Arc::default(), most: LANE_BYTES }
    };
    (0..config.writers.max(1)).map(spawn).collect()
}

/// Returns when the consumer is to end by itself; never, if it is not.
async fn until(
    until: Option<Until>,
    topics: &Topics,
    admin: &Admin,
    group: &Group,
    is_node: bool,
) -> Result<(), ConsumerError> {
    match until {
        None => return std::future::pending().await,
        Some(Until::EndOffsetsAtStart) => {}
        Some(Until::Signal(mut done)) => {
            if done.wait_for(|done| *done).await.is_err() {
                return std::future::pending().await;
            }
        }
    }
    let mut backoff = Backoff::default();
    let ends = loop {
        let attempt = async { caught_up::ends(admin, &topics.list().await?).await };
        match attempt.await {
            Err(error) if error.class() == ErrorClass::Transient => {
                warn!(%error, "reading end offsets failed, trying again");
                tokio::time::sleep(backoff.next_pause()).await;
            }
            ends => break ends?,
        }
    };
    info!(partitions = ends.offsets.len(), "ending once these partitions are applied");
    group.reaches(ends).await?;
    // What was set aside counts as reached; in a topology it has to be settled, too.
    if is_node { group.settles().await } else { Ok(()) }
}

fn task_result(task: Result<Result<(), ConsumerError>, JoinError>) -> Result<(), ConsumerError> {
    task.map_err(|error| ConsumerError::Task { task: "lane", reason: error.to_string() })?
}

fn ended_early(task: &'static str) -> ConsumerError {
    ConsumerError::Task { task, reason: "without an error".into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_that_cannot_be_a_node_is_refused_as_one() {
        let all = Guarantees { exactly_once: true, resolves_conflicts: true };
        let compares_nothing = Guarantees { resolves_conflicts: false, ..all };
        let repeats = Guarantees { exactly_once: false, ..all };
        for (guarantees, why) in [(compares_nothing, "its own writers' changes"), (repeats, "could count twice")] {
            let refused = carries(guarantees, Some("eu")).unwrap_err().to_string();
            assert!(refused.starts_with("node eu: it cannot") && refused.contains(why), "{refused}");
            assert!(refused.ends_with("make it the target of a one-way sync"), "{refused}");
            assert!(carries(guarantees, None).is_ok());
        }
        assert!(carries(all, Some("eu")).is_ok());
    }
}
