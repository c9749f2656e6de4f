//! What a node's start must find, and how its interrupted snapshot is taken again.

use sqlx::PgConnection;
use syncline_runtime::kafka::Admin;

use crate::checkpoint::{Checkpoint, Found};
use crate::config::{NodeSettings, ProducerConfig};
use crate::error::ProducerError;
use crate::sources::postgres::preflight::Ready;
use crate::start::Start;

/// How a node begins where nothing that is there can be gone on with.
const ANEW: &str = "give the node an empty kafka.topic_prefix, another slot and another publication";

/// Whoever wrote the checkpoint is who goes on from it: stamps name the node, and other nodes know its records by its
/// topics.
///
/// # Errors
///
/// It was somebody else.
pub(super) fn same_node(config: &ProducerConfig, latest: Option<&Checkpoint>) -> Result<(), ProducerError> {
    let Some(latest) = latest else { return Ok(()) };
    let slot = &config.slot;
    let (name, what) = match (&latest.node, &config.node) {
        (None, None) => return Ok(()),
        (Some(was), Some(is)) if was.topology == is.topology && was.name == is.name => return Ok(()),
        (Some(was), Some(is)) => (
            &is.name,
            format!(
                "the checkpoint of slot {slot} was written as node {} of the topology {}, and this is node {} of the \
                 topology {}: write the former names, or {ANEW}",
                was.name, was.topology, is.name, is.topology
            ),
        ),
        (Some(was), None) => (
            &was.name,
            format!(
                "the checkpoint of slot {slot} was written as this node of the topology {}, and the configuration names no \
                 node: its changes would be published without stamps. Name the node again, or capture the database under \
                 an empty kafka.topic_prefix, another slot and another publication",
                was.topology
            ),
        ),
        (None, Some(is)) => (
            &is.name,
            format!(
                "the checkpoint of slot {slot} is that of a sync in one direction, whose records carry no stamps, so other \
                 nodes could not tell what is later: {ANEW}"
            ),
        ),
    };
    Err(ProducerError::Node { name: name.clone(), what })
}

/// A node's rows are read once, in topics that nobody else has written.
///
/// # Errors
///
/// A topic holds records that the node's checkpoint does not know, or the slot that belongs to an interrupted snapshot
/// is gone.
pub(super) async fn goes_on(
    config: &ProducerConfig,
    node: &NodeSettings,
    admin: &Admin,
    (ready, found): (&Ready, &Found),
    start: &Start,
) -> Result<(), ProducerError> {
    let refused = |what: String| Err(ProducerError::Node { name: node.name.clone(), what });
    let mut used = Vec::new();
    for (topic, definition) in &ready.tables {
        if admin.describe_topic(topic).await?.is_some()
            && admin.watermarks(topic).await?.iter().any(|marks| marks.high > 0)
        {
            used.push((topic, definition.qualified_name()));
        }
    }
    let is_known = |topic: &str| found.latest.as_ref().is_some_and(|latest| latest.topics.contains_key(topic));
    if let Some((topic, table)) = used.iter().find(|(topic, _)| !is_known(topic)) {
        return refused(format!(
            "topic {topic} holds records, and table {table} is not among those that this node captured last: what was \
             changed meanwhile has no stamps, and a snapshot would lose to what is older. Leave the table out, or {ANEW}"
        ));
    }
    let may_go_on = matches!(start, Start::Resume { .. }) || ready.slot.as_ref().is_some_and(|slot| !slot.lost);
    if let (false, Some((topic, _))) = (may_go_on, used.first()) {
        return refused(format!(
            "topic {topic} holds rows of a snapshot that did not end, and the log since then is lost with slot {}: {ANEW}",
            config.slot
        ));
    }
    Ok(())
}

/// A snapshot beside the slot that an interrupted one was begun with. Rows of the first attempt may be with other nodes
/// already; the slot still has whatever was changed since, deletes included, and its stamps are above those of both
/// snapshots.
///
/// # Errors
///
/// The source.
pub(super) async fn export_snapshot(control: &mut PgConnection) -> Result<String, ProducerError> {
    let failed = |error| ProducerError::source("a snapshot cannot be exported", error);
    // The session is idle while others copy.
    let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL idle_in_transaction_session_timeout = 0";
    sqlx::raw_sql(begin).execute(&mut *control).await.map_err(failed)?;
    sqlx::query_scalar("SELECT pg_export_snapshot()").fetch_one(control).await.map_err(failed)
}

/// Ends it.
///
/// # Errors
///
/// The source.
pub(super) async fn end_snapshot(control: &mut PgConnection) -> Result<(), ProducerError> {
    let failed = |error| ProducerError::source("the exported snapshot cannot be ended", error);
    sqlx::raw_sql("COMMIT").execute(control).await.map_err(failed)?;
    Ok(())
}
