//! `takeover jdbc-sink`: the sink stops, its group's offsets become progress.

use std::time::{Duration, Instant};

use syncline_consumer::config::ConsumerConfig;
use syncline_consumer::error::ConsumerError;
use syncline_consumer::takeover::{Plan, Sink, execute, plan};

use super::NO_NODES;
use super::connector::{Settings, is_stopped, still_runs, stop};
use super::options::JdbcSink;
use crate::config::{Sides, SyncConfig};
use crate::connectors::{Worker, WorkerOptions};
use crate::failure::Failure;
use crate::resync::{confirm, say};

/// How long a group may keep members behind the end of its tasks.
const LEAVING: Duration = Duration::from_secs(60);

/// Says what will be done and does it.
///
/// # Errors
/// The file does not fit the sink, or something is in the way.
pub(super) async fn takeover(worker: &WorkerOptions, options: JdbcSink) -> Result<(), Failure> {
    let JdbcSink { common, group } = options;
    let name = &common.connector;
    let config = SyncConfig::load_one_way(&common.file.path, Sides::Consumer, NO_NODES)?.consumer;
    let config = config.ok_or_else(|| Failure::Usage("the sync file has no `target` to write to".to_owned()))?;
    let mut running = None;
    let mut topics = Vec::new();
    let group = match group {
        Some(group) => group,
        None => {
            let worker = Worker::new(worker)?;
            let settings = Settings::of(&worker, name).await?;
            settings.expect_class(name, "JdbcSinkConnector", "a JDBC sink")?;
            topics.extend(settings.get("topics").iter().flat_map(|list| list.split(',')).map(|t| t.trim().to_owned()));
            let group = settings.get("consumer.override.group.id").map(str::to_owned);
            if !is_stopped(&worker, name).await? {
                running = Some(worker);
            }
            group.unwrap_or_else(|| format!("connect-{name}"))
        }
    };
    if running.is_some() && !common.stop && !common.dry_run {
        return Err(still_runs(name));
    }
    let sink = Sink { name: name.clone(), group, running: running.is_some() };
    let mut found = plan(&config, &sink).await?;
    if running.is_some() {
        found.steps.insert(0, format!("connector {name} is stopped; the offsets it stores then count"));
    }
    topics.retain(|topic| !topic.is_empty() && !found.topics().any(|ours| ours == topic));
    found.steps.extend(
        topics
            .iter()
            .map(|topic| format!("topic {topic} of the sink is not read by this sync: nobody applies it then")),
    );
    if common.dry_run {
        say("This would be done:");
        found.steps.iter().for_each(|step| say(&format!("  - {step}")));
        say("nothing was changed");
        return Ok(());
    }
    confirm(&found.steps, common.yes)?;
    let sink = Sink { running: false, ..sink };
    if let Some(worker) = &running {
        stop(worker, name).await?;
        found = behind_its_members(&config, &sink).await?;
    }
    execute(&config, &sink, &found).await?;
    say("done: go on with `syncline run` or `syncline consume`");
    Ok(())
}

/// Plans anew with the offsets that were stored last. The group's members leave a little behind their tasks.
async fn behind_its_members(config: &ConsumerConfig, sink: &Sink) -> Result<Plan, Failure> {
    let deadline = Instant::now() + LEAVING;
    loop {
        match plan(config, sink).await {
            Err(ConsumerError::Resync(_)) if Instant::now() < deadline => {
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
            done => return Ok(done?),
        }
    }
}
