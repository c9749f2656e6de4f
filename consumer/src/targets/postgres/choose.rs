//! An operator's choice of where a topic goes on: the rows are written anew, and what the choice passes over goes.

use sqlx::{Connection, PgConnection};
use syncline_runtime::retry::ErrorClass;

use super::error::Doing;
use super::{PostgresTarget, layout};
use crate::targets::TargetError;

/// Where partitions of a topic go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// The consumer group.
    pub group: String,
    /// Kafka's cluster id.
    pub cluster_id: String,
    /// The topic's name.
    pub topic: String,
    /// The topic's id.
    pub topic_id: String,
    /// Partitions with the offset to read next.
    pub offsets: Vec<(i32, i64)>,
    /// Whether these are all partitions of the topic.
    pub whole: bool,
}

const CHOOSING: Doing<'static> = Doing::Bookkeeping("writing the chosen progress");

impl PostgresTarget {
    /// Writes the progress rows of a choice. With all partitions of a topic its markers are met anew, and what a
    /// deleted topic of the same name left behind goes. No member of the group may run.
    ///
    /// # Errors
    ///
    /// The target refuses, or a marker is in the way of a single partition.
    pub async fn choose(&self, choice: &Choice) -> Result<(), TargetError> {
        let mut conn = self.connector.connect().await?;
        layout::prepare(&mut conn).await?;
        let mut transaction = conn.begin().await.map_err(|error| CHOOSING.error(error))?;
        if choice.whole {
            forget(&mut transaction, choice).await?;
        } else {
            admit(&mut transaction, choice).await?;
        }
        write(&mut transaction, choice).await?;
        transaction.commit().await.map_err(|error| Doing::Transaction("COMMIT").error(error))
    }
}

impl PostgresTarget {
    /// Whether anything of a topic has been applied or chosen. Changes nothing, so that there may be no bookkeeping.
    ///
    /// # Errors
    ///
    /// The target cannot be asked.
    pub async fn has_progress(&self, group: &str, cluster_id: &str, topic: &str) -> Result<bool, TargetError> {
        let reading = Doing::Bookkeeping("reading progress");
        let mut conn = self.connector.connect().await?;
        let made: bool = sqlx::query_scalar("SELECT pg_catalog.to_regclass('_syncline.progress') IS NOT NULL")
            .fetch_one(&mut conn)
            .await
            .map_err(|error| reading.error(error))?;
        if !made {
            return Ok(false);
        }
        sqlx::query_scalar(
            "SELECT EXISTS (SELECT FROM _syncline.progress WHERE consumer_group = $1 AND cluster_id = $2 \
             AND topic = $3 AND (next_offset > 0 OR position IS NOT NULL))",
        )
        .bind(group)
        .bind(cluster_id)
        .bind(topic)
        .fetch_one(&mut conn)
        .await
        .map_err(|error| reading.error(error))
    }
}

/// Markers that were met will be met again, and a truncate has to be done again behind the rows before it.
async fn forget(conn: &mut PgConnection, choice: &Choice) -> Result<(), TargetError> {
    sqlx::query(
        "WITH markers AS (DELETE FROM _syncline.barriers WHERE consumer_group = $1 AND cluster_id = $2 AND topic = $3) \
         DELETE FROM _syncline.progress WHERE consumer_group = $1 AND cluster_id = $2 AND topic = $3 AND topic_id <> $4",
    )
    .bind(&choice.group)
    .bind(&choice.cluster_id)
    .bind(&choice.topic)
    .bind(&choice.topic_id)
    .execute(conn)
    .await
    .map_err(|error| CHOOSING.error(error))?;
    Ok(())
}

/// A marker concerns all partitions together: one alone may neither leave the others waiting at it nor bring back rows
/// from before it.
async fn admit(conn: &mut PgConnection, choice: &Choice) -> Result<(), TargetError> {
    let (partition, offset) = choice.offsets.first().copied().unwrap_or_default();
    let in_the_way: bool = sqlx::query_scalar(
        "SELECT EXISTS (SELECT FROM _syncline.progress WHERE consumer_group = $1 AND cluster_id = $2 AND topic = $3 \
         AND topic_id <> $4) OR EXISTS (SELECT FROM _syncline.barriers b WHERE b.consumer_group = $1 \
         AND b.cluster_id = $2 AND b.topic_id = $4 AND (NOT (b.released OR b.dropped) OR EXISTS ( \
         SELECT FROM _syncline.progress p WHERE p.consumer_group = $1 AND p.cluster_id = $2 AND p.topic_id = $4 \
         AND p.partition = $5 AND p.next_offset > $6)))",
    )
    .bind(&choice.group)
    .bind(&choice.cluster_id)
    .bind(&choice.topic)
    .bind(&choice.topic_id)
    .bind(partition)
    .bind(offset)
    .fetch_one(conn)
    .await
    .map_err(|error| CHOOSING.error(error))?;
    if !in_the_way {
        return Ok(());
    }
    let topic = &choice.topic;
    Err(TargetError {
        class: ErrorClass::Fatal,
        message: format!(
            "topic {topic} was truncated, copied anew or created anew, which concerns all its partitions: leave out \
             --partition, as in `syncline resync --topic {topic} --from earliest`; nothing was changed"
        ),
        table: None,
        source: None,
    })
}

async fn write(conn: &mut PgConnection, choice: &Choice) -> Result<(), TargetError> {
    let (partitions, offsets): (Vec<i32>, Vec<i64>) = choice.offsets.iter().copied().unzip();
    sqlx::query(
        "INSERT INTO _syncline.progress AS p (consumer_group, cluster_id, topic, topic_id, partition, next_offset) \
         SELECT $1, $2, $3, $4, c.partition, c.next_offset FROM unnest($5::int4[], $6::int8[]) AS c (partition, \
         next_offset) ON CONFLICT (consumer_group, cluster_id, topic_id, partition) DO UPDATE SET \
         next_offset = excluded.next_offset, position = NULL, waits_for = NULL, stopped = NULL, \
         updated_at = pg_catalog.clock_timestamp()",
    )
    .bind(&choice.group)
    .bind(&choice.cluster_id)
    .bind(&choice.topic)
    .bind(&choice.topic_id)
    .bind(partitions)
    .bind(offsets)
    .execute(conn)
    .await
    .map_err(|error| CHOOSING.error(error))?;
    Ok(())
}
