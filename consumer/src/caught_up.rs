//! Waits until what Kafka held at some moment is applied, by whichever member of the group, or never will be.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use syncline_runtime::kafka::{Admin, KafkaError};
use tokio::time::Instant;
use tracing::{info, warn};

use crate::error::{ConsumerError, StoppedPartition};
use crate::start::{self, InKafka, Start};
use crate::stats::{PartitionStats, Stats};
use crate::targets::{PartitionKey, Progress, Target, TargetError};

/// How often to look.
const INTERVAL: Duration = Duration::from_millis(200);
/// How often the rows of other members' partitions are read.
const REMOTE_INTERVAL: Duration = Duration::from_secs(1);
/// How long a partition that is not ours must be stopped to count as that: its new owner tries again first.
const STOPPED_FOR: Duration = Duration::from_secs(15);

/// What is to be reached.
#[derive(Debug, Clone, Default)]
pub struct Ends {
    /// Offsets by topic and partition.
    pub offsets: BTreeMap<(String, i32), i64>,
    /// Partitions that hold nothing, with the offset of the record that they get next.
    empty: BTreeMap<(String, i32), i64>,
    /// The topics' ids: progress in a topic of the same name that was deleted says nothing.
    topic_ids: BTreeMap<String, String>,
}

/// Where the topics end now. Partitions that hold nothing have no end to reach.
///
/// # Errors
///
/// Kafka is away.
pub async fn ends(admin: &Admin, topics: &BTreeSet<String>) -> Result<Ends, ConsumerError> {
    let mut ends = Ends::default();
    for topic in topics {
        let marks = match admin.watermarks(topic).await {
            Err(KafkaError::MissingTopic { .. }) => {
                warn!(topic, "there is no such topic yet");
                continue;
            }
            marks => marks?,
        };
        if let Some(info) = admin.describe_topic(topic).await? {
            ends.topic_ids.insert(topic.clone(), info.id);
        }
        for (partition, marks) in (0..).zip(marks) {
            let which = if marks.high > marks.low { &mut ends.offsets } else { &mut ends.empty };
            which.insert((topic.clone(), partition), marks.high);
        }
    }
    Ok(ends)
}

/// How far a partition is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Standing {
    Done,
    Behind,
    /// At a marker that other partitions have not come to.
    Waiting,
    Stopped(StoppedPartition),
}

/// What is known of the group.
pub struct Group {
    /// Its name.
    pub group: String,
    /// Kafka's cluster id.
    pub cluster_id: String,
    /// The rows of other members' partitions are read from it.
    pub target: Arc<dyn Target>,
    /// Our own partitions.
    pub stats: Arc<Stats>,
}

impl Group {
    /// Returns once all ends are reached. Cancel safe.
    ///
    /// # Errors
    ///
    /// [`ConsumerError::Stopped`] once nothing but stopped partitions, and what waits for them, is left.
    pub async fn reaches(&self, ends: Ends) -> Result<(), ConsumerError> {
        let Ends { offsets: mut ends, empty, topic_ids } = ends;
        let unwelcome = self.unwelcome(empty, &topic_ids).await;
        let mut rows: BTreeMap<(String, i32), Progress> = BTreeMap::new();
        let mut rows_read: Option<Instant> = None;
        let mut stopped_since: BTreeMap<(String, i32), Instant> = BTreeMap::new();
        loop {
            let own = self.stats.snapshot().partitions;
            let remote: BTreeSet<&String> =
                ends.keys().filter(|key| !own.contains_key(*key)).map(|(topic, _)| topic).collect();
            if !remote.is_empty() && rows_read.is_none_or(|at| at.elapsed() >= REMOTE_INTERVAL) {
                rows = self.rows(&remote, &topic_ids).await;
                rows_read = Some(Instant::now());
            }
            let mut left = BTreeMap::new();
            for (key, end) in &ends {
                let standing = match own.get(key) {
                    Some(stats) => of_own(key, stats, *end),
                    None => of_row(key, rows.get(key), *end, &mut stopped_since),
                };
                if standing != Standing::Done {
                    left.insert(key.clone(), standing);
                }
            }
            left.extend(unwelcome.clone());
            if let Some(stopped) = only_stopped(&left) {
                return Err(ConsumerError::Stopped(stopped));
            }
            if left.is_empty() {
                // A partition may have stopped behind its end, or hold nothing and not start.
                let stopped: Vec<_> = own.iter().filter_map(|(key, stats)| stopped_own(key, stats)).collect();
                if !stopped.is_empty() {
                    return Err(ConsumerError::Stopped(stopped));
                }
                info!("caught up");
                return Ok(());
            }
            ends.retain(|key, _| left.contains_key(key));
            tokio::time::sleep(INTERVAL).await;
        }
    }

    /// Returns once no record of the group waits for changes of the node that is written to. Its producer has to bring
    /// them, so it has to run. Cancel safe.
    ///
    /// # Errors
    ///
    /// [`ConsumerError::Stopped`] once a partition of ours has stopped: what waits may wait for it.
    pub async fn settles(&self) -> Result<(), ConsumerError> {
        loop {
            let own = self.stats.snapshot().partitions;
            let stopped: Vec<_> = own.iter().filter_map(|(key, stats)| stopped_own(key, stats)).collect();
            if !stopped.is_empty() {
                return Err(ConsumerError::Stopped(stopped));
            }
            let waiting = async { self.target.writer().await?.waiting(&self.group, &self.cluster_id).await };
            match waiting.await {
                Ok(0) => return Ok(()),
                Ok(_) => {}
                Err(error) => warn!(%error, "counting what waits failed, trying again"),
            }
            tokio::time::sleep(REMOTE_INTERVAL).await;
        }
    }

    /// Empty partitions that will not start, since their topic was deleted and created again. They have no end to
    /// reach, so they would pass for applied before anyone has looked at them.
    async fn unwelcome(
        &self,
        empty: BTreeMap<(String, i32), i64>,
        topic_ids: &BTreeMap<String, String>,
    ) -> BTreeMap<(String, i32), Standing> {
        let topics: BTreeSet<&String> = empty.keys().map(|(topic, _)| topic).collect();
        let mut stopped = BTreeMap::new();
        for topic in topics {
            let Some(topic_id) = topic_ids.get(topic) else { continue };
            let rows = loop {
                match self.topic_rows(topic).await {
                    Ok(rows) => break rows,
                    Err(error) => warn!(%error, "reading the target's progress failed, trying again"),
                }
                tokio::time::sleep(REMOTE_INTERVAL).await;
            };
            let keys: Vec<PartitionKey> = rows.iter().map(|(key, _)| key.clone()).collect();
            for (place, high) in empty.iter().filter(|((name, _), _)| name == topic) {
                let key = PartitionKey {
                    group: self.group.clone(),
                    cluster_id: self.cluster_id.clone(),
                    topic: topic.clone(),
                    topic_id: topic_id.clone(),
                    partition: place.1,
                };
                let progress = rows.iter().find(|(found, _)| *found == key).map(|(_, progress)| progress.clone());
                let progress = progress.unwrap_or_else(Progress::untouched);
                let kafka = InKafka { low: *high, high: *high, committed: None };
                let recreated = keys.iter().any(|found| found.topic_id != *topic_id);
                if let (true, Start::Stop(reason)) = (recreated, start::decide(&key, &progress, &keys, kafka)) {
                    let at = StoppedPartition {
                        table: topic.clone(),
                        topic: topic.clone(),
                        partition: place.1,
                        offset: progress.next_offset,
                        reason,
                    };
                    stopped.insert(place.clone(), Standing::Stopped(at));
                }
            }
        }
        stopped
    }

    async fn topic_rows(&self, topic: &str) -> Result<Vec<(PartitionKey, Progress)>, TargetError> {
        self.target.writer().await?.topic_progress(&self.group, &self.cluster_id, topic).await
    }

    /// The rows of some topics. What cannot be read now is read later.
    async fn rows(
        &self,
        topics: &BTreeSet<&String>,
        topic_ids: &BTreeMap<String, String>,
    ) -> BTreeMap<(String, i32), Progress> {
        let read = async {
            let mut writer = self.target.writer().await?;
            let mut rows = BTreeMap::new();
            for topic in topics {
                for (key, progress) in writer.topic_progress(&self.group, &self.cluster_id, topic).await? {
                    if topic_ids.get(&key.topic) == Some(&key.topic_id) {
                        rows.insert((key.topic, key.partition), progress);
                    }
                }
            }
            Ok::<_, TargetError>(rows)
        };
        read.await.unwrap_or_else(|error| {
            warn!(%error, "reading other members' progress failed, trying again");
            BTreeMap::new()
        })
    }
}

fn of_own(key: &(String, i32), stats: &PartitionStats, end: i64) -> Standing {
    if stats.next_offset >= end {
        return Standing::Done;
    }
    match stopped_own(key, stats) {
        Some(stopped) => Standing::Stopped(stopped),
        None if stats.waiting => Standing::Waiting,
        None => Standing::Behind,
    }
}

fn stopped_own((topic, partition): &(String, i32), stats: &PartitionStats) -> Option<StoppedPartition> {
    let (offset, reason) = stats.stopped.clone()?;
    Some(StoppedPartition { table: stats.table.clone(), topic: topic.clone(), partition: *partition, offset, reason })
}

fn of_row(
    key: &(String, i32),
    row: Option<&Progress>,
    end: i64,
    stopped_since: &mut BTreeMap<(String, i32), Instant>,
) -> Standing {
    let Some(row) = row else { return Standing::Behind };
    if row.next_offset >= end {
        return Standing::Done;
    }
    let Some(reason) = &row.stopped else {
        stopped_since.remove(key);
        return if row.waits_for.is_some() { Standing::Waiting } else { Standing::Behind };
    };
    let since = stopped_since.entry(key.clone()).or_insert_with(Instant::now);
    if since.elapsed() < STOPPED_FOR {
        return Standing::Behind;
    }
    Standing::Stopped(StoppedPartition {
        table: key.0.clone(),
        topic: key.0.clone(),
        partition: key.1,
        offset: row.next_offset,
        reason: reason.clone(),
    })
}

/// The stopped partitions, if all others wait for one of them.
fn only_stopped(left: &BTreeMap<(String, i32), Standing>) -> Option<Vec<StoppedPartition>> {
    let stopped: Vec<StoppedPartition> = left
        .values()
        .filter_map(|standing| match standing {
            Standing::Stopped(stopped) => Some(stopped.clone()),
            _ => None,
        })
        .collect();
    let hopeless = |topic: &str, standing: &Standing| match standing {
        Standing::Stopped(_) => true,
        Standing::Waiting => stopped.iter().any(|stopped| stopped.topic == topic),
        Standing::Done | Standing::Behind => false,
    };
    let all = left.iter().all(|((topic, _), standing)| hopeless(topic, standing));
    (!stopped.is_empty() && all).then_some(stopped)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own(next_offset: i64, waiting: bool, stopped: bool) -> PartitionStats {
        let stopped = stopped.then(|| (next_offset, "bad".to_owned()));
        PartitionStats { table: "public.t".into(), next_offset, end_offset: None, waiting, stopped }
    }

    fn left(standings: Vec<(&str, Standing)>) -> BTreeMap<(String, i32), Standing> {
        (0..).zip(standings).map(|(partition, (topic, standing))| ((topic.to_owned(), partition), standing)).collect()
    }

    #[test]
    fn a_partition_is_done_at_its_end_whatever_follows() {
        let key = ("t".to_owned(), 0);
        assert_eq!(of_own(&key, &own(10, false, true), 10), Standing::Done);
        assert_eq!(of_own(&key, &own(9, true, false), 10), Standing::Waiting);
        assert!(matches!(of_own(&key, &own(9, false, true), 10), Standing::Stopped(_)));
    }

    #[test]
    fn what_waits_for_a_stopped_partition_is_not_waited_for() {
        let key = ("t".to_owned(), 0);
        let stopped = of_own(&key, &own(9, false, true), 10);
        assert!(only_stopped(&left(vec![("t", stopped.clone()), ("t", Standing::Waiting)])).is_some());
        assert!(only_stopped(&left(vec![("t", stopped.clone()), ("u", Standing::Waiting)])).is_none());
        assert!(only_stopped(&left(vec![("t", stopped), ("t", Standing::Behind)])).is_none());
        assert!(only_stopped(&left(vec![("t", Standing::Waiting)])).is_none());
        assert!(only_stopped(&left(Vec::new())).is_none());
    }
}
