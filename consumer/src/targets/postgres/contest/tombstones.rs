//! Tombstones, the entries of rows that are gone, and when they may go too: once every node has said, behind all that it
//! wrote before, that it has seen the change that removed the row. Nothing that comes later can be older than it, so
//! nothing can bring the row back by mistake ([`Version::is_passed`]).
//!
//! Nodes say so by the markers that answer fences. Whoever has a tombstone that its own node's markers do not cover asks
//! for one; so every node does for each delete of another, and then falls silent.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::{Connection, PgConnection};
use syncline_event::stamp::Seen;
use syncline_transforms::resolve::row::Version;

use super::super::error::Doing;
use super::decide::Keys;
use super::fold::Found;
use super::{entries, fences};
use crate::config::NodeSettings;
use crate::targets::{FenceArrival, TargetError};

const DOING: Doing<'static> = Doing::Bookkeeping("forgetting rows that are gone (_syncline.row_stamps)");

/// Tombstones looked at in one transaction, and transactions in one round.
const MOST: usize = 1_000;
const MOST_STEPS: usize = 100;

/// A tombstone's number: later ones have higher numbers.
pub(in super::super) type TombstoneId = i64;

/// Notes keys whose rows are gone. They are looked at until they may be forgotten.
pub(super) async fn list(conn: &mut PgConnection, table: &str, keys: &[&[u8]]) -> Result<(), TargetError> {
    if keys.is_empty() {
        return Ok(());
    }
    sqlx::query("INSERT INTO _syncline.tombstones (table_name, key) SELECT $1, unnest($2::bytea[])")
        .bind(table)
        .bind(keys)
        .execute(conn)
        .await
        .map_err(|error| DOING.error(error))?;
    Ok(())
}

/// Notes what nodes' markers say.
pub(super) async fn hear(conn: &mut PgConnection, arrivals: &[FenceArrival]) -> Result<(), TargetError> {
    let mut last = BTreeMap::new();
    for FenceArrival { partition, partitions, seen, .. } in arrivals {
        if let Some(seen) = seen {
            last.insert((partition.topic.as_str(), partition.partition), (*partitions, seen));
        }
    }
    if last.is_empty() {
        return Ok(());
    }
    let seen = |(_, seen): &(u32, &Seen)| serde_json::to_string(seen).expect("names and numbers can be written");
    sqlx::query(
        "INSERT INTO _syncline.markers (topic, partition, partitions, seen) \
         SELECT * FROM unnest($1::text[], $2::int4[], $3::int4[], $4::text[]) \
         ON CONFLICT (topic, partition) DO UPDATE SET partitions = excluded.partitions, seen = excluded.seen",
    )
    .bind(last.keys().map(|(topic, _)| *topic).collect::<Vec<_>>())
    .bind(last.keys().map(|(_, partition)| *partition).collect::<Vec<_>>())
    .bind(last.values().map(|(partitions, _)| i32::try_from(*partitions).unwrap_or(i32::MAX)).collect::<Vec<_>>())
    .bind(last.values().map(seen).collect::<Vec<_>>())
    .execute(conn)
    .await
    .map_err(|error| DOING.error(error))?;
    Ok(())
}

/// Takes tombstones away that are not needed any longer, and asks for markers where there are others. `place` is the one
/// behind which the next round goes on, if this one does not get through.
pub(in super::super) async fn collect(
    conn: &mut PgConnection,
    node: &NodeSettings,
    place: &mut TombstoneId,
) -> Result<(), TargetError> {
    let mut round = Round { node, markers: BTreeMap::new(), unmarked: BTreeSet::new() };
    for _ in 0..MOST_STEPS {
        *place = round.step(conn, *place).await?.unwrap_or_default();
        if *place == 0 {
            break;
        }
    }
    for table in &round.unmarked {
        if !is_asking(conn, table).await? {
            // Behind a crash in between, its markers clear it away.
            let mut transaction = conn.begin().await.map_err(|error| DOING.error(error))?;
            fences::send(&mut transaction, table, &node.topology, (0, 0)).await?;
            transaction.commit().await.map_err(|error| DOING.error(error))?;
        }
    }
    fences::forget(conn).await
}

/// A round through the tombstones.
struct Round<'n> {
    node: &'n NodeSettings,
    /// By table.
    markers: BTreeMap<String, Markers>,
    /// Tables of which this node's own markers do not cover all tombstones.
    unmarked: BTreeSet<String>,
}

impl Round<'_> {
    /// Looks at some tombstones behind a place. Gives the last one's, unless they were the last of all.
    async fn step(&mut self, conn: &mut PgConnection, place: TombstoneId) -> Result<Option<TombstoneId>, TargetError> {
        let mut transaction = conn.begin().await.map_err(|error| DOING.error(error))?;
        let listed: Vec<(TombstoneId, String, Vec<u8>)> = sqlx::query_as(
            "SELECT id, table_name, key FROM _syncline.tombstones WHERE id > $1 ORDER BY id LIMIT $2 FOR UPDATE SKIP LOCKED",
        )
        .bind(place)
        .bind(i64::try_from(MOST).unwrap_or(i64::MAX))
        .fetch_all(&mut *transaction)
        .await
        .map_err(|error| DOING.error(error))?;
        let mut by_table: BTreeMap<&str, BTreeMap<&[u8], TombstoneId>> = BTreeMap::new();
        for (id, table, key) in &listed {
            by_table.entry(table).or_default().insert(key, *id);
        }
        let mut done: Vec<TombstoneId> = Vec::new();
        for (table, ids) in by_table {
            let keys: Vec<&[u8]> = ids.keys().copied().collect();
            let over = self.look_at(&mut transaction, table, &keys).await?;
            done.extend(over.iter().filter_map(|key| ids.get(key.as_slice()).copied()));
        }
        sqlx::query("DELETE FROM _syncline.tombstones WHERE id = ANY ($1::int8[])")
            .bind(&done)
            .execute(&mut *transaction)
            .await
            .map_err(|error| DOING.error(error))?;
        transaction.commit().await.map_err(|error| DOING.error(error))?;
        Ok(listed.last().filter(|_| listed.len() == MOST).map(|(id, _, _)| *id))
    }

    /// Forgets the rows among a table's tombstones that may be forgotten. Gives the keys that are tombstones no longer: of
    /// those, and of rows that have come back.
    async fn look_at(
        &mut self,
        conn: &mut PgConnection,
        table: &str,
        keys: &[&[u8]],
    ) -> Result<Vec<Vec<u8>>, TargetError> {
        let locked: Vec<(Vec<u8>, bool)> = sqlx::query_as(
            "SELECT key, deleted FROM _syncline.row_stamps WHERE table_name = $1 AND key = ANY ($2::bytea[]) ORDER BY key \
             FOR UPDATE SKIP LOCKED",
        )
        .bind(table)
        .bind(keys)
        .fetch_all(&mut *conn)
        .await
        .map_err(|error| DOING.error(error))?;
        let (gone, back): (Vec<_>, Vec<_>) = locked.into_iter().partition(|(_, deleted)| *deleted);
        let mut over: Vec<Vec<u8>> = back.into_iter().map(|(key, _)| key).collect();
        let unlist =
            "UPDATE _syncline.row_stamps SET in_tombstones = false WHERE table_name = $1 AND key = ANY ($2::bytea[])";
        write(conn, unlist, table, &over).await?;
        let passed = self.passed(conn, table, gone.into_iter().map(|(key, _)| key).collect()).await?;
        let forget = "DELETE FROM _syncline.row_stamps WHERE table_name = $1 AND key = ANY ($2::bytea[])";
        write(conn, forget, table, &passed).await?;
        over.extend(passed);
        Ok(over)
    }

    /// Those among locked tombstones that all nodes have seen.
    async fn passed(
        &mut self,
        conn: &mut PgConnection,
        table: &str,
        gone: Vec<Vec<u8>>,
    ) -> Result<Vec<Vec<u8>>, TargetError> {
        if !self.markers.contains_key(table) {
            self.markers.insert(table.to_owned(), Markers::read(conn, self.node, table).await?);
        }
        let markers = &self.markers[table];
        // Read behind the lock: what waits for a key was set aside by whoever had it before.
        let keys: Vec<&[u8]> = gone.iter().map(Vec::as_slice).collect();
        let all = entries::lock(conn, table, &keys, Keys::Shared, |_| None).await?;
        let is_passed =
            |found: &Found| !found.waits && found.unsettled.is_none() && markers.have_passed(&versions(found));
        let is_unmarked =
            |found: &Found| found.unsettled.is_none() && !markers.own_have_passed(&self.node.name, &versions(found));
        if all.iter().any(is_unmarked) {
            self.unmarked.insert(table.to_owned());
        }
        Ok(gone.into_iter().zip(&all).filter(|(_, found)| is_passed(found)).map(|(key, _)| key).collect())
    }
}

/// Runs a statement over a table's keys.
async fn write(conn: &mut PgConnection, text: &'static str, table: &str, keys: &[Vec<u8>]) -> Result<(), TargetError> {
    if !keys.is_empty() {
        let query = sqlx::query(text).bind(table).bind(keys);
        query.execute(conn).await.map_err(|error| DOING.error(error))?;
    }
    Ok(())
}

/// The changes that an entry remembers.
fn versions(found: &Found) -> Vec<Version> {
    match (&found.state, &found.entry) {
        (Some(state), _) => state.versions(),
        (None, Some(entry)) => vec![entry.stored.version.clone()],
        (None, None) => Vec::new(),
    }
}

/// What the last markers of a table's topics say.
struct Markers {
    /// By the node: of each of its topic's partitions, and none where a marker is missing in one of them.
    nodes: BTreeMap<String, Vec<Option<Seen>>>,
}

impl Markers {
    async fn read(conn: &mut PgConnection, node: &NodeSettings, table: &str) -> Result<Self, TargetError> {
        let topics = node.topics_of(table);
        let mut rows = sqlx::query_as::<_, (String, i32, String)>(
            "SELECT topic, partitions, seen FROM _syncline.markers WHERE topic = ANY ($1::text[])",
        )
        .bind(topics.values().collect::<Vec<_>>())
        .fetch_all(conn)
        .await
        .map_err(|error| DOING.error(error))?;
        let mut nodes = BTreeMap::new();
        for (name, topic) in topics {
            let of_topic = rows.extract_if(.., |(of, _, _)| *of == topic);
            let (mut seen, mut partitions) = (Vec::new(), 1);
            for (_, count, text) in of_topic {
                let said = serde_json::from_str::<Seen>(&text).map_err(|error| sqlx::Error::Decode(Box::new(error)));
                seen.push(Some(said.map_err(|error| DOING.error(error))?));
                partitions = partitions.max(usize::try_from(count).unwrap_or(usize::MAX));
            }
            if seen.len() < partitions {
                seen.push(None);
            }
            nodes.insert(name.to_owned(), seen);
        }
        Ok(Self { nodes })
    }

    /// Whether all nodes have seen all these changes.
    fn have_passed(&self, versions: &[Version]) -> bool {
        versions.iter().all(|version| version.is_passed(self.nodes.iter().flat_map(of_node)))
    }

    /// The same of one node.
    fn own_have_passed(&self, name: &str, versions: &[Version]) -> bool {
        let own = || self.nodes.get_key_value(name).into_iter().flat_map(of_node);
        versions.iter().all(|version| version.is_passed(own()))
    }
}

fn of_node<'m>((name, seen): (&'m String, &'m Vec<Option<Seen>>)) -> impl Iterator<Item = (&'m str, Option<&'m Seen>)> {
    seen.iter().map(move |seen| (name.as_str(), seen.as_ref()))
}

/// Whether a fence of a table is under way. One that does not come back is not waited for.
async fn is_asking(conn: &mut PgConnection, table: &str) -> Result<bool, TargetError> {
    sqlx::query_scalar(
        "SELECT EXISTS (SELECT FROM _syncline.fences WHERE table_name = $1 AND since > pg_catalog.now() - interval '1 hour' \
         AND (partitions IS NULL OR pg_catalog.cardinality(arrived) < partitions))",
    )
    .bind(table)
    .fetch_one(conn)
    .await
    .map_err(|error| DOING.error(error))
}

#[cfg(test)]
mod tests {
    use syncline_event::stamp::Stamp;

    use super::*;

    fn seen(origin: &str, next_offset: u64) -> Option<Seen> {
        let mut seen = Seen::default();
        seen.raise(origin, 1, next_offset);
        Some(seen)
    }

    #[test]
    fn all_partitions_of_all_other_nodes_have_to_pass_a_change() {
        let stamp = Stamp { clock_us: 9, counter: 0, origin: "a".into() };
        let removed = [Version { stamp, seen: Seen::default(), partition: 1, offset: 7 }];
        let markers = |b: [Option<Seen>; 2], c: [Option<Seen>; 1]| Markers {
            nodes: [("a".into(), vec![None]), ("b".into(), b.into()), ("c".into(), c.into())].into(),
        };
        let all = markers([seen("a", 8), seen("a", 9)], [seen("a", 8)]);
        assert!(all.have_passed(&removed) && all.own_have_passed("a", &removed) && all.own_have_passed("b", &removed));
        let behind = markers([seen("a", 8), seen("a", 7)], [seen("a", 8)]);
        assert!(!behind.have_passed(&removed) && !behind.own_have_passed("b", &removed));
        let silent = markers([seen("a", 8), seen("a", 8)], [None]);
        assert!(!silent.have_passed(&removed) && silent.own_have_passed("b", &removed));
    }
}
