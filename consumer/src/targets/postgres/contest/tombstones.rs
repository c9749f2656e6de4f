//! Tombstones, the entries of rows that are gone, and when they may go too: once every node has said, behind all that it
//! wrote before, that it has seen the change that removed the row. Nothing that comes later can be older than it, so
//! nothing can bring the row back by mistake ([`Version::is_passed`]).
//!
//! Nodes say so by the markers that answer fences. Whoever has a tombstone that its own node's markers do not cover asks
//! for one; so every node does for each delete of another, and then falls silent.

use std::collections::BTreeMap;

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

/// Tombstones looked at in one transaction, and transactions in one round, of each table.
const MOST: usize = 1_000;
const MOST_STEPS: usize = 100;

/// Where the next round goes on in tables that one round did not get through, by their names.
pub(in super::super) type Places = BTreeMap<String, Vec<u8>>;

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

/// Takes tombstones away that are not needed any longer, and asks for markers where there are others.
pub(in super::super) async fn collect(
    conn: &mut PgConnection,
    node: &NodeSettings,
    places: &mut Places,
) -> Result<(), TargetError> {
    let mut table = String::new();
    while let Some(next) = next_table(conn, &table).await? {
        table = next;
        let markers = Markers::read(conn, node, &table).await?;
        let mut asks = false;
        for _ in 0..MOST_STEPS {
            let place = places.remove(&table).unwrap_or_default();
            let (last, unmarked) = step(conn, (node, &table), &markers, &place).await?;
            asks |= unmarked;
            match last {
                Some(last) => drop(places.insert(table.clone(), last)),
                None => break,
            }
        }
        if asks && !is_asking(conn, &table).await? {
            // Behind a crash in between, its markers clear it away.
            let mut transaction = conn.begin().await.map_err(|error| DOING.error(error))?;
            fences::send(&mut transaction, &table, &node.topology, (0, 0)).await?;
            transaction.commit().await.map_err(|error| DOING.error(error))?;
        }
    }
    fences::forget(conn).await
}

/// The next table with tombstones, by name.
async fn next_table(conn: &mut PgConnection, behind: &str) -> Result<Option<String>, TargetError> {
    sqlx::query_scalar("SELECT min(table_name) FROM _syncline.row_stamps WHERE deleted AND table_name > $1")
        .bind(behind)
        .fetch_one(conn)
        .await
        .map_err(|error| DOING.error(error))
}

/// Looks at some tombstones behind a place. Gives the last one's, unless they were the last of all, and whether this
/// node's own markers do not cover some.
async fn step(
    conn: &mut PgConnection,
    (node, table): (&NodeSettings, &str),
    markers: &Markers,
    place: &[u8],
) -> Result<(Option<Vec<u8>>, bool), TargetError> {
    let mut transaction = conn.begin().await.map_err(|error| DOING.error(error))?;
    let keys: Vec<Vec<u8>> = sqlx::query_scalar(
        "SELECT key FROM _syncline.row_stamps WHERE table_name = $1 AND deleted AND row_key IS NULL AND key > $2 \
         ORDER BY key LIMIT $3 FOR UPDATE SKIP LOCKED",
    )
    .bind(table)
    .bind(place)
    .bind(i64::try_from(MOST).unwrap_or(i64::MAX))
    .fetch_all(&mut *transaction)
    .await
    .map_err(|error| DOING.error(error))?;
    let keys: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
    // Read behind the lock: what waits for a key was set aside by whoever had it before.
    let found = entries::lock(&mut transaction, table, &keys, Keys::Shared, |_| None).await?;
    let (mut passed, mut unmarked) = (Vec::new(), false);
    for (key, found) in keys.iter().zip(&found) {
        let versions = versions(found);
        if !found.waits && markers.have_passed(&versions) {
            passed.push(*key);
        }
        unmarked |= !markers.own_have_passed(&node.name, &versions);
    }
    if !passed.is_empty() {
        sqlx::query("DELETE FROM _syncline.row_stamps WHERE table_name = $1 AND key = ANY ($2::bytea[])")
            .bind(table)
            .bind(&passed)
            .execute(&mut *transaction)
            .await
            .map_err(|error| DOING.error(error))?;
    }
    let last = keys.last().filter(|_| keys.len() == MOST).map(|key| key.to_vec());
    transaction.commit().await.map_err(|error| DOING.error(error))?;
    Ok((last, unmarked))
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
