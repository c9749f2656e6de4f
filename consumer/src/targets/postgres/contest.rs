//! Changes of rows that several nodes write: compared with what each row has been through, then written.
//!
//! In the transaction that moves the progress rows: lock the keys' entries, then the rows; decide ([`fold`]); set aside
//! what waits for a change of this node that has not come by yet; tell this node's producer that the transaction is
//! ours; write rows, entries and the log of conflicts. Everything is set-based: a batch costs a handful of statements a
//! table.

mod columns;
mod entries;
mod fold;
mod log;
mod settle;
mod table;
mod waiting;
mod write;

use std::collections::BTreeMap;
use std::ops::Range;

use sqlx::{AssertSqlSafe, PgConnection};
use syncline_event::stamp::{APPLIED_PREFIX, Applied, AppliedProgress, Seen, Stamp};
use syncline_event::table::TableDefinition;
use syncline_runtime::retry::ErrorClass;
use syncline_transforms::resolve::row::{Operation, Version};
use syncline_transforms::resolve::rules::TableRule;

pub(super) use self::settle::{insist, settle};
pub(in crate::targets::postgres) use self::table::ContestTable;
pub(super) use self::waiting::of_group as waiting;

use self::columns::Resolution;
use self::fold::{Found, Outcome, Turn, Waited, fold};
use self::table::{CellArray, Image, RowAt, texts, texts_in_table};
use self::waiting::Aside;
use self::write::write;
use super::error::Doing;
use crate::config::NodeSettings;
use crate::targets::{Batch, Contested, Move, PartitionKey, TableBatch, TargetError};

/// A change in its key's order.
struct Entrant<'a> {
    /// The new row, of a delete the old one.
    row: RowAt<'a>,
    /// The old row of an update.
    old: Option<RowAt<'a>>,
    key: &'a [u8],
    operation: Operation,
    version: &'a Version,
    transaction: u32,
    own: bool,
    partition: &'a PartitionKey,
    waited: Waited,
}

/// Compares and writes a batch's changes. `tables` are the batch's, each with its plan.
pub(super) async fn apply(
    conn: &mut PgConnection,
    node: &NodeSettings,
    batch: &Batch<'_>,
    tables: &[(&TableBatch, ContestTable)],
) -> Result<Contested, TargetError> {
    see_own(conn, tables).await?;
    waiting::arrive(conn, batch.fences).await?;
    let mut contested = Contested::default();
    let mut by_table: BTreeMap<&str, Vec<Entrant<'_>>> = BTreeMap::new();
    for (table, plan) in tables {
        let entrants = by_table.entry(plan.name.as_str()).or_default();
        entrants.extend(table.contest.changes.iter().map(|change| Entrant {
            row: RowAt { table: plan, rows: &table.rows, row: change.row },
            old: change.old.map(|row| RowAt { table: plan, rows: &table.rows, row }),
            key: &table.contest.keys[change.key.clone()],
            operation: change.operation,
            version: &change.version,
            transaction: change.transaction,
            own: change.own,
            partition: &change.partition,
            waited: Waited::No,
        }));
    }
    let mut decided = Vec::with_capacity(by_table.len());
    for (name, entrants) in by_table {
        decided.push(decide(conn, node, name, entrants, false).await?);
    }
    for decided in &decided {
        contested.set_aside += set_aside(conn, node, decided).await?;
    }
    let moved = moved(node, batch.moves, &decided);
    tell(conn, node, &decided, moved).await?;
    for decided in decided {
        write(conn, node, decided, &mut contested).await?;
    }
    Ok(contested)
}

/// Waits until this node's own changes are visible.
async fn see_own(conn: &mut PgConnection, tables: &[(&TableBatch, ContestTable)]) -> Result<(), TargetError> {
    let changes = tables.iter().flat_map(|(table, _)| &table.contest.changes);
    let own = changes.filter(|change| change.own && change.transaction != 0);
    let mut transactions: Vec<i64> = own.map(|change| i64::from(change.transaction)).collect();
    transactions.dedup();
    if transactions.is_empty() { Ok(()) } else { entries::see(conn, &transactions).await }
}

/// A table's changes by key, with what becomes of each.
struct Decided<'a> {
    name: &'a str,
    entrants: Vec<Entrant<'a>>,
    /// Ranges of `entrants`, with what was found and what becomes of it.
    keys: Vec<(Range<usize>, Found, Verdict)>,
    /// Where the table's rule looks at more than stamps.
    by_columns: Option<ByColumns>,
    /// This transaction's id.
    mine: u32,
}

/// What deciding by columns needs of a table.
struct ByColumns {
    /// The table with all values as texts.
    table: ContestTable,
    /// Of each entrant: its row and its old one.
    images: Vec<(Image, Option<Image>)>,
}

/// What becomes of a row.
enum Verdict {
    Row(Outcome),
    Columns(Resolution),
}

impl Verdict {
    fn waits(&self) -> &[usize] {
        match self {
            Self::Row(outcome) => &outcome.waits,
            Self::Columns(resolution) => &resolution.waits,
        }
    }

    fn asks(&self) -> bool {
        match self {
            Self::Row(outcome) => outcome.asks,
            Self::Columns(resolution) => resolution.asks,
        }
    }

    fn writes(&self) -> bool {
        match self {
            Self::Row(outcome) => outcome.write.is_some(),
            Self::Columns(resolution) => resolution.write.is_some(),
        }
    }
}

/// Whether a table's rows are decided by their changes' stamps alone.
fn is_by_stamps(node: &NodeSettings, table: &str) -> bool {
    matches!(node.rules.of(table), TableRule::LastWriteWins | TableRule::Manual)
}

/// Locks what the changes are about, and decides. `settles` where the changes are those that wait.
async fn decide<'a>(
    conn: &mut PgConnection,
    node: &NodeSettings,
    name: &'a str,
    mut entrants: Vec<Entrant<'a>>,
    settles: bool,
) -> Result<Decided<'a>, TargetError> {
    // Stable: changes of one partition stay in their order; the node's own come first.
    entrants.sort_by(|a, b| a.key.cmp(b.key).then(b.own.cmp(&a.own)));
    let mut ranges = Vec::new();
    for same in entrants.chunk_by(|a, b| a.key == b.key) {
        let start = ranges.last().map_or(0, |range: &Range<usize>| range.end);
        ranges.push(start..start + same.len());
    }
    let keys: Vec<&[u8]> = ranges.iter().map(|range| entrants[range.start].key).collect();
    let mut found = entries::lock(conn, name, &keys).await?;
    look(conn, name, &entrants, &ranges, &mut found).await?;
    found.iter_mut().for_each(|found| found.waits &= !settles);
    let before = (entries::my_xmin(conn).await?, before_the_first_sync(node));
    if !is_by_stamps(node, name) {
        return decide_by_columns(conn, node, name, (entrants, ranges, found), before).await;
    }
    let (mine, before) = before;
    let keys = ranges.into_iter().zip(found).map(|(range, found)| {
        let outcome = fold(&found, &turns(&entrants[range.clone()]), mine, &before);
        (range, found, Verdict::Row(outcome))
    });
    let keys = keys.collect();
    Ok(Decided { name, entrants, keys, by_columns: None, mine })
}

fn turns<'t>(entrants: &'t [Entrant<'_>]) -> Vec<Turn<'t>> {
    let turn = |entrant: &'t Entrant<'_>| Turn {
        operation: entrant.operation,
        version: entrant.version,
        transaction: entrant.transaction,
        own: entrant.own,
        waited: entrant.waited,
    };
    entrants.iter().map(turn).collect()
}

async fn decide_by_columns<'a>(
    conn: &mut PgConnection,
    node: &NodeSettings,
    name: &'a str,
    (entrants, ranges, found): (Vec<Entrant<'a>>, Vec<Range<usize>>, Vec<Found>),
    (mine, before): (u32, Version),
) -> Result<Decided<'a>, TargetError> {
    let Some(first) = entrants.first().map(|entrant| entrant.row.table) else {
        return Ok(Decided { name, entrants, keys: Vec::new(), by_columns: None, mine });
    };
    let (table, plan) = settle::planned(conn, node, name, &first.names).await?;
    let rows: Vec<RowAt<'_>> = entrants.iter().flat_map(|entrant| [Some(entrant.row), entrant.old]).flatten().collect();
    let mut texts = texts(conn, &rows).await?.into_iter();
    let mut images = Vec::with_capacity(entrants.len());
    for entrant in &entrants {
        let row = texts.next().unwrap_or_default();
        images.push((row, entrant.old.and_then(|_| texts.next())));
    }
    let of_keys: Vec<RowAt<'_>> = ranges.iter().map(|range| entrants[range.start].row).collect();
    let shown = texts_in_table(conn, first, &of_keys).await?;
    let mut keys = Vec::with_capacity(ranges.len());
    for ((range, found), shown) in ranges.into_iter().zip(found).zip(shown) {
        let turns = (&turns(&entrants[range.clone()])[..], &images[range.clone()]);
        let resolution = columns::resolve(&plan, &found, shown, turns, (mine, &before)).map_err(|error| {
            let entrant = &entrants[range.start];
            TargetError {
                class: ErrorClass::BadRecord,
                message: format!(
                    "table {name}: a change from {}/{} cannot be compared with what is known of its row: {error}",
                    entrant.partition.topic, entrant.partition.partition
                ),
                table: None,
                source: None,
            }
        })?;
        keys.push((range, found, Verdict::Columns(resolution)));
    }
    Ok(Decided { name, entrants, keys, by_columns: Some(ByColumns { table, images }), mine })
}

/// The stamp of a row that was there before the first sync.
fn before_the_first_sync(node: &NodeSettings) -> Version {
    let stamp = Stamp { clock_us: 0, counter: node.rules.priority_of(&node.name), origin: node.name.clone() };
    Version { stamp, seen: Seen::default(), partition: 0, offset: 0 }
}

/// Finds the rows; those that another node changes are locked, unless somebody else has them.
async fn look(
    conn: &mut PgConnection,
    name: &str,
    entrants: &[Entrant<'_>],
    ranges: &[Range<usize>],
    found: &mut [Found],
) -> Result<(), TargetError> {
    let doing = Doing::Writing { table: name, index: None, what: "locking rows of" };
    // Rows of this node's own changes are compared, not written, unless they have to go.
    let is_others = |range: &Range<usize>| {
        entrants[range.clone()].iter().any(|entrant| !entrant.own || entrant.operation == Operation::Delete)
    };
    let all = 0..ranges.len();
    let (contested, own): (Vec<usize>, Vec<usize>) = all.partition(|index| is_others(&ranges[*index]));
    look_at(conn, doing, (entrants, ranges, &contested), found, true).await?;
    // What is there all the same is somebody else's just now.
    let rest = contested.into_iter().filter(|index| found[*index].row.is_none()).collect::<Vec<_>>();
    look_at(conn, doing, (entrants, ranges, &rest), found, false).await?;
    for index in rest {
        found[index].locked = found[index].row.is_none();
    }
    look_at(conn, doing, (entrants, ranges, &own), found, false).await
}

/// Finds the rows of some keys.
async fn look_at(
    conn: &mut PgConnection,
    doing: Doing<'_>,
    (entrants, ranges, indexes): (&[Entrant<'_>], &[Range<usize>], &[usize]),
    found: &mut [Found],
    lock: bool,
) -> Result<(), TargetError> {
    let rows: Vec<RowAt<'_>> = indexes.iter().map(|index| entrants[ranges[*index].start].row).collect();
    let Some(first) = rows.first() else { return Ok(()) };
    let mut query = sqlx::query_as::<_, (i64, i64)>(AssertSqlSafe(first.table.look(lock)));
    for array in CellArray::key(first.table, &rows) {
        query = query.bind(array);
    }
    for (number, xmin) in query.fetch_all(conn).await.map_err(|error| doing.error(error))? {
        let index = usize::try_from(number - 1).ok().and_then(|number| indexes.get(number));
        if let Some(index) = index {
            found[*index].row = u32::try_from(xmin).ok();
        }
    }
    Ok(())
}

/// Sets aside what waits, behind a fence where one has to be sent. Gives the number of records.
async fn set_aside(conn: &mut PgConnection, node: &NodeSettings, decided: &Decided<'_>) -> Result<u64, TargetError> {
    let waits = decided.keys.iter().filter(|(_, _, verdict)| !verdict.waits().is_empty());
    let asks = waits.clone().any(|(_, _, verdict)| verdict.asks());
    let fence = if asks { Some(send_fence(conn, node, decided).await?) } else { None };
    let all: Vec<(&Entrant<'_>, &Found, bool)> = waits
        .flat_map(|(range, found, verdict)| {
            verdict.waits().iter().map(move |turn| (&decided.entrants[range.start + turn], found, verdict.asks()))
        })
        .collect();
    let rows: Vec<RowAt<'_>> =
        all.iter().flat_map(|(entrant, _, _)| [Some(entrant.row), entrant.old]).flatten().collect();
    let mut images = texts(conn, &rows).await?.into_iter();
    let asides = all.iter().map(|(entrant, found, asks)| Aside {
        table: entrant.row.table,
        image: images.next().unwrap_or_default(),
        old: entrant.old.and_then(|_| images.next()),
        key: entrant.key,
        operation: entrant.operation,
        version: entrant.version,
        partition: entrant.partition,
        fence: fence.filter(|_| *asks),
        xmin: found.row.filter(|_| *asks),
    });
    let asides: Vec<Aside<'_>> = asides.collect();
    waiting::set_aside(conn, &asides).await?;
    Ok(all.len() as u64)
}

async fn send_fence(conn: &mut PgConnection, node: &NodeSettings, decided: &Decided<'_>) -> Result<u64, TargetError> {
    waiting::send_fence(conn, decided.name, &node.topology, highest(decided.entrants.iter())).await
}

/// The highest time among other nodes' changes.
fn highest<'e>(entrants: impl Iterator<Item = &'e Entrant<'e>>) -> (u64, u32) {
    let times = entrants.filter(|entrant| !entrant.own).map(|entrant| &entrant.version.stamp);
    times.map(|stamp| (stamp.clock_us, stamp.counter)).max().unwrap_or_default()
}

/// How far the batch comes with other nodes' partitions, with the table that their records go to.
fn moved<'b>(node: &NodeSettings, moves: &'b [Move], decided: &[Decided<'b>]) -> Vec<(&'b PartitionKey, i64, String)> {
    let table_of = |partition: &PartitionKey| {
        let of_partition = |decided: &&Decided<'_>| {
            decided.entrants.iter().any(|entrant| !entrant.own && entrant.partition.topic == partition.topic)
        };
        decided.iter().find(of_partition).map(|decided| decided.name.to_owned())
    };
    let others = moves.iter().filter(|step| origin_of(node, &step.partition.topic) != Some(node.name.as_str()));
    others.filter_map(|step| Some((&step.partition, step.to, table_of(&step.partition)?))).collect()
}

/// The node whose topic it is.
fn origin_of<'n>(node: &'n NodeSettings, topic: &str) -> Option<&'n str> {
    let is_of = |prefix: &str| topic.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('.'));
    node.prefixes.iter().find(|(_, prefix)| is_of(prefix)).map(|(name, _)| name.as_str())
}

/// Tells this node's producer, in the log, that what follows in this transaction came from other nodes, and how far
/// the node has come with them. What waits has not been applied.
async fn tell(
    conn: &mut PgConnection,
    node: &NodeSettings,
    decided: &[Decided<'_>],
    moved: Vec<(&PartitionKey, i64, String)>,
) -> Result<(), TargetError> {
    let redone = decided.iter().any(|decided| decided.keys.iter().any(|(_, _, verdict)| verdict.writes()));
    if moved.is_empty() && !redone {
        return Ok(());
    }
    let partitions: Vec<&PartitionKey> = moved.iter().map(|(partition, _, _)| *partition).collect();
    let lowest = waiting::lowest(conn, &partitions).await?;
    let progress = moved.iter().zip(lowest).filter_map(|((partition, to, table), waits)| {
        Some(AppliedProgress {
            origin: origin_of(node, &partition.topic)?.to_owned(),
            table: table.clone(),
            partition: partition.partition.unsigned_abs(),
            next_offset: waits.map_or(*to, |waits| waits.min(*to)).unsigned_abs(),
        })
    });
    let progress = progress.collect();
    let (clock_us, counter) = highest(decided.iter().flat_map(|decided| &decided.entrants));
    let message = Applied { topology: node.topology.clone(), clock_us, counter, progress, held: Vec::new() };
    let content = serde_json::to_string(&message).expect("names and numbers can be written");
    sqlx::query("SELECT pg_catalog.pg_logical_emit_message(true, $1, $2)")
        .bind(APPLIED_PREFIX)
        .bind(content)
        .execute(conn)
        .await
        .map_err(|error| Doing::Bookkeeping("marking a transaction in the log").error(error))?;
    Ok(())
}

/// Refuses a table whose triggers would fire for what was written on other nodes: they have fired there.
pub(super) async fn check_triggers(conn: &mut PgConnection, definition: &TableDefinition) -> Result<(), TargetError> {
    let name = definition.qualified_name();
    let doing = Doing::Writing { table: &name, index: None, what: "describing" };
    let trigger: Option<String> = sqlx::query_scalar(
        "SELECT t.tgname::text FROM pg_catalog.pg_trigger t JOIN pg_catalog.pg_class c ON c.oid = t.tgrelid \
         JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
         WHERE n.nspname = $1 AND c.relname = $2 AND t.tgenabled IN ('O', 'A') ORDER BY t.tgname LIMIT 1",
    )
    .bind(&definition.schema)
    .bind(&definition.table)
    .fetch_optional(conn)
    .await
    .map_err(|error| doing.error(error))?;
    let Some(trigger) = trigger else { return Ok(()) };
    Err(TargetError {
        class: ErrorClass::BadRecord,
        message: format!(
            "target table {name}: trigger {trigger} would fire for changes that other nodes have made; run as a superuser: \
             GRANT SET ON PARAMETER session_replication_role TO the role Syncline connects as (PostgreSQL 15), or ALTER \
             TABLE … DISABLE TRIGGER"
        ),
        table: None,
        source: None,
    })
}
