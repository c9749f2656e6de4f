//! Locks what changes are about, and decides what becomes of each row.

use std::ops::Range;

use sqlx::{AssertSqlSafe, PgConnection, Row as _};
use syncline_event::stamp::{Seen, Stamp};
use syncline_runtime::retry::ErrorClass;
use syncline_transforms::resolve::row::{Operation, Version};
use syncline_transforms::resolve::rules::TableRule;
use syncline_transforms::resolve::show::Write;

use super::super::error::Doing;
use super::columns::{self, Resolution};
use super::fold::{Found, Outcome, Turn, Waited, fold, likely};
use super::table::{CellArray, ContestTable, Image, RowAt, texts};
use super::{described, entries};
use crate::config::NodeSettings;
use crate::targets::{PartitionKey, TargetError};

/// A change in its key's order.
pub(super) struct Entrant<'a> {
    /// The new row, of a delete the old one.
    pub(super) row: RowAt<'a>,
    /// The old row of an update.
    pub(super) old: Option<RowAt<'a>>,
    pub(super) key: &'a [u8],
    pub(super) operation: Operation,
    pub(super) version: &'a Version,
    pub(super) transaction: u32,
    pub(super) own: bool,
    pub(super) partition: &'a PartitionKey,
    pub(super) waited: Waited,
}

/// A table's changes by key, with what becomes of each.
pub(super) struct Decided<'a> {
    pub(super) name: &'a str,
    pub(super) entrants: Vec<Entrant<'a>>,
    /// In their order.
    pub(super) keys: Vec<Decision<'a>>,
    /// Where the table's rule looks at more than stamps.
    pub(super) by_columns: Option<ByColumns>,
}

/// A key, with what was found and what becomes of its row.
pub(super) struct Decision<'a> {
    pub(super) key: &'a [u8],
    /// Of which the key's columns count.
    pub(super) row: RowAt<'a>,
    /// Its changes among the entrants; none where the row is only looked at again.
    pub(super) turns: Range<usize>,
    pub(super) found: Found,
    pub(super) verdict: Verdict,
}

/// What deciding by columns needs of a table.
pub(super) struct ByColumns {
    /// The table with all values as texts.
    pub(super) table: ContestTable,
    /// Of each entrant: its row and its old one.
    pub(super) images: Vec<(Image, Option<Image>)>,
}

/// What becomes of a row.
pub(super) enum Verdict {
    Row(Outcome),
    Columns(Resolution),
}

impl Verdict {
    /// Turns that wait.
    pub(super) fn waits(&self) -> &[usize] {
        match self {
            Self::Row(outcome) => &outcome.waits,
            Self::Columns(_) => &[],
        }
    }

    /// Whether a fence has to be sent.
    pub(super) fn asks(&self) -> bool {
        match self {
            Self::Row(outcome) => outcome.asks,
            Self::Columns(resolution) => resolution.asks,
        }
    }

    /// Whether the row does not show all of its state.
    pub(super) fn is_unsettled(&self) -> bool {
        matches!(self, Self::Columns(Resolution { entry: Some(entry), .. }) if entry.unsettled.is_some())
    }

    pub(super) fn writes(&self) -> bool {
        match self {
            Self::Row(outcome) => outcome.write.is_some(),
            Self::Columns(resolution) => resolution.write != Write::None,
        }
    }
}

impl Decided<'_> {
    /// The highest time among other nodes' changes.
    pub(super) fn highest(&self) -> (u64, u32) {
        let times = self.entrants.iter().filter(|entrant| !entrant.own).map(|entrant| &entrant.version.stamp);
        times.map(|stamp| (stamp.clock_us, stamp.counter)).max().unwrap_or_default()
    }

    pub(super) fn asks(&self) -> bool {
        self.keys.iter().any(|decision| decision.verdict.asks())
    }
}

/// Whether a table's rows are decided by their changes' stamps alone.
fn is_by_stamps(node: &NodeSettings, table: &str) -> bool {
    matches!(node.rules.of(table), TableRule::LastWriteWins | TableRule::Manual)
}

/// Decides a table's changes. `settles` where they are those that wait.
pub(super) async fn decide<'a>(
    conn: &mut PgConnection,
    node: &NodeSettings,
    name: &'a str,
    mut entrants: Vec<Entrant<'a>>,
    settles: bool,
) -> Result<Decided<'a>, TargetError> {
    // Stable: changes of one partition stay in their order; the node's own come first.
    entrants.sort_by(|a, b| a.key.cmp(b.key).then(b.own.cmp(&a.own)));
    let mut contests = Vec::new();
    for same in entrants.chunk_by(|a, b| a.key == b.key) {
        let start = contests.last().map_or(0, |contest: &Contest<'_>| contest.turns.end);
        // Rows of this node's own changes are compared, not written, unless they have to go.
        let quiet = same.iter().all(|entrant| entrant.own && entrant.operation != Operation::Delete);
        let (key, row, turns) = (same[0].key, same[0].row, start..start + same.len());
        contests.push(Contest { key, row, turns, quiet });
    }
    let keys: Vec<&[u8]> = contests.iter().map(|contest| contest.key).collect();
    if !is_by_stamps(node, name) {
        let found = entries::lock(conn, name, &keys, |_| None).await?;
        return by_columns(conn, node, name, (entrants, contests, found)).await;
    }
    let (mine, before) = (entries::my_xmin(conn).await?, before_the_first_sync(node));
    let guess = |place: usize| {
        let contest: &Contest<'_> = &contests[place];
        likely(&as_turns(&entrants[contest.turns.clone()]), mine, &before)
    };
    let mut found = entries::lock(conn, name, &keys, guess).await?;
    found.iter_mut().for_each(|found| found.waits &= !settles);
    by_stamps(conn, name, (mine, &before), (entrants, contests, found)).await
}

/// A key before it is decided.
pub(super) struct Contest<'a> {
    pub(super) key: &'a [u8],
    pub(super) row: RowAt<'a>,
    pub(super) turns: Range<usize>,
    /// Whether its row most likely stays as it is.
    pub(super) quiet: bool,
}

type Parts<'a> = (Vec<Entrant<'a>>, Vec<Contest<'a>>, Vec<Found>);

async fn by_stamps<'a>(
    conn: &mut PgConnection,
    name: &'a str,
    (mine, before): (u32, &Version),
    (entrants, contests, mut found): Parts<'a>,
) -> Result<Decided<'a>, TargetError> {
    let (quiet, loud): (Vec<usize>, Vec<usize>) = (0..contests.len()).partition(|index| contests[*index].quiet);
    look(conn, name, &contests, &mut found, &loud, (true, false)).await?;
    look(conn, name, &contests, &mut found, &quiet, (false, false)).await?;
    let keys = contests.into_iter().zip(found).map(|(Contest { key, row, turns, .. }, found)| {
        let verdict = Verdict::Row(fold(&found, &as_turns(&entrants[turns.clone()]), mine, before));
        Decision { key, row, turns, found, verdict }
    });
    let keys = keys.collect();
    Ok(Decided { name, entrants, keys, by_columns: None })
}

async fn by_columns<'a>(
    conn: &mut PgConnection,
    node: &NodeSettings,
    name: &'a str,
    (entrants, contests, mut found): Parts<'a>,
) -> Result<Decided<'a>, TargetError> {
    let (mine, before) = (entries::my_xmin(conn).await?, before_the_first_sync(node));
    let Some(first) = contests.first().map(|contest| contest.row.table) else {
        return Ok(Decided { name, entrants, keys: Vec::new(), by_columns: None });
    };
    let (table, plan) = described::planned(conn, node, name, &first.names).await?;
    let images = images(conn, &entrants, &first.names).await?;
    let resolve = |contest: &Contest<'_>, found: &Found| {
        let turns = as_turns(&entrants[contest.turns.clone()]);
        let images = &images[contest.turns.clone()];
        let resolved = columns::resolve(&plan, found, (&turns, images), (mine, &before));
        resolved.map_err(|error| incomparable(name, entrants.get(contest.turns.start), &error))
    };
    let (mut quiet, mut loud): (Vec<usize>, Vec<usize>) = (0..contests.len()).partition(|index| contests[*index].quiet);
    // Nothing is written over what is read without a lock; a write that comes between leaves another `xmin`.
    look(conn, name, &contests, &mut found, &quiet, (false, true)).await?;
    let mut resolutions: Vec<Option<Resolution>> = contests.iter().map(|_| None).collect();
    for index in quiet.drain(..) {
        let resolution = resolve(&contests[index], &found[index])?;
        if resolution.write == Write::None && !resolution.asks {
            resolutions[index] = Some(resolution);
        } else {
            loud.push(index);
        }
    }
    look(conn, name, &contests, &mut found, &loud, (true, true)).await?;
    for index in loud {
        resolutions[index] = Some(resolve(&contests[index], &found[index])?);
    }
    let keys = contests.into_iter().zip(found).zip(resolutions).filter_map(|((contest, found), resolution)| {
        let Contest { key, row, turns, .. } = contest;
        Some(Decision { key, row, turns, found, verdict: Verdict::Columns(resolution?) })
    });
    let keys = keys.collect();
    Ok(Decided { name, entrants, keys, by_columns: Some(ByColumns { table, images }) })
}

/// Decides keys whose rows are looked at again. `rows` have the keys' columns.
pub(super) async fn look_again<'a>(
    conn: &mut PgConnection,
    node: &NodeSettings,
    name: &'a str,
    rows: Vec<(&'a [u8], RowAt<'a>)>,
) -> Result<Decided<'a>, TargetError> {
    let keys: Vec<&[u8]> = rows.iter().map(|(key, _)| *key).collect();
    let found = entries::lock(conn, name, &keys, |_| None).await?;
    let contests = rows.into_iter().map(|(key, row)| Contest { key, row, turns: 0..0, quiet: false }).collect();
    by_columns(conn, node, name, (Vec::new(), contests, found)).await
}

fn as_turns<'t>(entrants: &'t [Entrant<'_>]) -> Vec<Turn<'t>> {
    let turn = |entrant: &'t Entrant<'_>| Turn {
        operation: entrant.operation,
        version: entrant.version,
        transaction: entrant.transaction,
        own: entrant.own,
        waited: entrant.waited,
    };
    entrants.iter().map(turn).collect()
}

/// Of each change: its row and its old one.
async fn images(
    conn: &mut PgConnection,
    entrants: &[Entrant<'_>],
    columns: &[String],
) -> Result<Vec<(Image, Option<Image>)>, TargetError> {
    let rows: Vec<RowAt<'_>> = entrants.iter().flat_map(|entrant| [Some(entrant.row), entrant.old]).flatten().collect();
    let mut texts = texts(conn, &rows).await?.into_iter();
    let mut images = Vec::with_capacity(entrants.len());
    for entrant in entrants {
        let arranged = |image| arranged(image, &entrant.row.table.names, columns);
        let row = arranged(texts.next().unwrap_or_default());
        images.push((row, entrant.old.and_then(|_| texts.next()).map(arranged)));
    }
    Ok(images)
}

/// A row's values in the order of other columns, which nodes may have in other places; nothing where they are not the
/// same ones.
fn arranged(image: Image, from: &[String], to: &[String]) -> Image {
    if from == to {
        return image;
    }
    let value = |name: &String| from.iter().position(|other| other == name).and_then(|place| image.get(place).cloned());
    let values = to.iter().map(value).collect::<Option<Image>>();
    values.filter(|_| from.len() == to.len()).unwrap_or_default()
}

fn incomparable(
    name: &str,
    entrant: Option<&Entrant<'_>>,
    error: &syncline_transforms::resolve::columns::ResolveError,
) -> TargetError {
    let from = entrant.map_or_else(String::new, |entrant| {
        format!(" from {}/{}", entrant.partition.topic, entrant.partition.partition)
    });
    TargetError {
        class: ErrorClass::BadRecord,
        message: format!("table {name}: a change{from} cannot be compared with what is known of its row: {error}"),
        table: None,
        source: None,
    }
}

/// The stamp of a row that was there before the first sync.
fn before_the_first_sync(node: &NodeSettings) -> Version {
    let stamp = Stamp { clock_us: 0, counter: node.rules.priority_of(&node.name), origin: node.name.clone() };
    Version { stamp, seen: Seen::default(), partition: 0, offset: 0 }
}

/// Finds some keys' rows, on demand with their values. Those that are to be locked are, unless somebody else has them.
async fn look(
    conn: &mut PgConnection,
    name: &str,
    contests: &[Contest<'_>],
    found: &mut [Found],
    wanted: &[usize],
    (lock, values): (bool, bool),
) -> Result<(), TargetError> {
    let doing = Doing::Writing { table: name, index: None, what: "locking rows of" };
    if !lock {
        return look_at(conn, doing, contests, found, wanted, (false, values)).await;
    }
    for index in wanted {
        (found[*index].row, found[*index].values) = (None, None);
    }
    // Rows that nothing is known of are most likely not there.
    let is_known = |found: &Found| found.entry.is_some() || found.state.is_some();
    let (mut wanted, unknown): (Vec<usize>, Vec<usize>) = wanted.iter().partition(|index| is_known(&found[**index]));
    look_at(conn, doing, contests, found, &unknown, (false, false)).await?;
    wanted.extend(unknown.into_iter().filter(|index| found[*index].row.take().is_some()));
    look_at(conn, doing, contests, found, &wanted, (true, values)).await?;
    // What is there all the same is somebody else's just now.
    let rest = wanted.iter().copied().filter(|index| found[*index].row.is_none()).collect::<Vec<_>>();
    look_at(conn, doing, contests, found, &rest, (false, values)).await?;
    for index in rest {
        found[index].locked = found[index].row.is_none();
    }
    Ok(())
}

async fn look_at(
    conn: &mut PgConnection,
    doing: Doing<'_>,
    contests: &[Contest<'_>],
    found: &mut [Found],
    wanted: &[usize],
    (lock, values): (bool, bool),
) -> Result<(), TargetError> {
    let rows: Vec<RowAt<'_>> = wanted.iter().map(|index| contests[*index].row).collect();
    let Some(first) = rows.first() else { return Ok(()) };
    let mut query = sqlx::query(AssertSqlSafe(first.table.look(lock, values)));
    for array in CellArray::key(first.table, &rows) {
        query = query.bind(array);
    }
    for row in query.fetch_all(conn).await.map_err(|error| doing.error(error))? {
        let read = || Ok((row.try_get::<i64, _>(0)?, row.try_get::<i64, _>(1)?));
        let (number, xmin) = read().map_err(|error| doing.error(error))?;
        let place = usize::try_from(number - 1).ok().and_then(|number| wanted.get(number));
        if let Some(place) = place {
            found[*place].row = u32::try_from(xmin).ok();
            found[*place].row_place = row.try_get(2).map_err(|error| doing.error(error))?;
            if values {
                let values: Image = row.try_get(3).map_err(|error| doing.error(error))?;
                let columns = &contests[0].row.table.names;
                found[*place].values = Some(arranged(values, &first.table.names, columns));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_keep_to_their_columns_wherever_those_are() {
        let names = |names: [&str; 3]| names.map(str::to_owned);
        let image = ["1", "x", "-"].map(|value| (value != "-").then(|| value.to_owned())).to_vec();
        let here = names(["id", "name", "note"]);
        assert_eq!(arranged(image.clone(), &here, &here), image);
        let there = arranged(image.clone(), &here, &names(["note", "id", "name"]));
        assert_eq!(there, [None, Some("1".into()), Some("x".into())]);
        // Such a change is refused for lack of its row.
        assert_eq!(arranged(image.clone(), &here, &names(["id", "name", "other"])), Image::new());
        assert_eq!(arranged(image, &here, &here[..2]), Image::new());
    }
}
