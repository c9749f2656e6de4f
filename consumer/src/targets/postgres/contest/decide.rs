//! Locks what changes are about, and decides what becomes of each row.

use std::ops::Range;
use std::time::Duration;

use sqlx::PgConnection;
use syncline_event::stamp::{Seen, Stamp};
use syncline_transforms::resolve::row::{Operation, Version};
use syncline_transforms::resolve::rules::TableRule;
use syncline_transforms::resolve::show::Write;

use super::by_columns::{ByColumns, by_columns};
use super::columns::Resolution;
use super::entries;
use super::fold::{Found, Outcome, Turn, Waited, fold, likely};
use super::look::look;
use super::table::RowAt;
use super::trial::taken;
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
    /// How the keys were looked at, and are inserted.
    pub(super) known: Keys,
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
    /// The latest stamp among other nodes' changes.
    pub(super) fn latest(&self) -> Option<&Stamp> {
        self.entrants.iter().filter(|entrant| !entrant.own).map(|entrant| &entrant.version.stamp).max()
    }

    /// Its time.
    pub(super) fn highest(&self) -> (u64, u32) {
        self.latest().map(|stamp| (stamp.clock_us, stamp.counter)).unwrap_or_default()
    }

    /// Whether an open transaction has inserted any of the keys.
    pub(super) fn meets_taken_keys(&self) -> bool {
        self.keys.iter().any(|decision| decision.found.row.is_none() && !decision.found.locked)
    }

    pub(super) fn asks(&self) -> bool {
        self.keys.iter().any(|decision| decision.verdict.asks())
    }
}

/// Whether a table's rows are decided by their changes' stamps alone.
fn is_by_stamps(node: &NodeSettings, table: &str) -> bool {
    matches!(node.rules.of(table), TableRule::LastWriteWins | TableRule::Manual)
}

/// What is known of the keys that changes are about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Keys {
    /// A key without a row is taken for free, and one without an entry for nobody else's.
    Fresh,
    /// The same changes met one that somebody else has inserted just now.
    Shared,
    /// The same changes met one that an open transaction has inserted: which ones it has is found out.
    Contended,
    /// Their changes have waited; it is found out as well, in this time.
    Due(Duration),
}

impl Keys {
    /// How long it may take to find out which keys an open transaction has inserted.
    pub(super) fn trial(self) -> Option<Duration> {
        match self {
            Self::Fresh | Self::Shared => None,
            Self::Contended => Some(Duration::from_secs(2)),
            Self::Due(longest) => Some(longest),
        }
    }
}

/// Decides a table's changes.
pub(super) async fn decide<'a>(
    conn: &mut PgConnection,
    node: &NodeSettings,
    name: &'a str,
    mut entrants: Vec<Entrant<'a>>,
    known: Keys,
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
        let found = entries::lock(conn, name, &keys, known, |_| None).await?;
        return by_columns(conn, node, name, (entrants, contests, found), known).await;
    }
    let (mine, before) = (entries::my_xmin(conn).await?, before_the_first_sync(node));
    let guess = |place: usize| {
        let contest: &Contest<'_> = &contests[place];
        likely(&as_turns(&entrants[contest.turns.clone()]), mine, &before)
    };
    let mut found = entries::lock(conn, name, &keys, known, guess).await?;
    found.iter_mut().for_each(|found| found.waits &= !matches!(known, Keys::Due(_)));
    by_stamps(conn, name, (mine, &before), (entrants, contests, found), known).await
}

/// A key before it is decided.
pub(super) struct Contest<'a> {
    pub(super) key: &'a [u8],
    pub(super) row: RowAt<'a>,
    pub(super) turns: Range<usize>,
    /// Whether its row most likely stays as it is.
    pub(super) quiet: bool,
}

pub(super) type Parts<'a> = (Vec<Entrant<'a>>, Vec<Contest<'a>>, Vec<Found>);

async fn by_stamps<'a>(
    conn: &mut PgConnection,
    name: &'a str,
    (mine, before): (u32, &Version),
    (entrants, contests, mut found): Parts<'a>,
    known: Keys,
) -> Result<Decided<'a>, TargetError> {
    let (quiet, loud): (Vec<usize>, Vec<usize>) = (0..contests.len()).partition(|index| contests[*index].quiet);
    look(conn, name, &contests, &mut found, &loud, (true, false)).await?;
    look(conn, name, &contests, &mut found, &quiet, (false, false)).await?;
    let decided =
        |contest: &Contest<'_>, found: &Found| fold(found, &as_turns(&entrants[contest.turns.clone()]), mine, before);
    let mut outcomes: Vec<Outcome> =
        contests.iter().zip(&found).map(|(contest, found)| decided(contest, found)).collect();
    if let Some(longest) = known.trial() {
        let inserted = |index: usize| {
            let turn = outcomes[index].inserted()?;
            Some((index, entrants[contests[index].turns.start + turn].row))
        };
        let (indexes, rows): (Vec<usize>, Vec<RowAt<'_>>) = (0..contests.len()).filter_map(inserted).unzip();
        for index in taken(conn, &rows, longest).await?.into_iter().map(|place| indexes[place]) {
            found[index].locked = false;
            outcomes[index] = decided(&contests[index], &found[index]);
        }
    }
    let keys = contests.into_iter().zip(found).zip(outcomes).map(|((contest, found), outcome)| {
        let Contest { key, row, turns, .. } = contest;
        Decision { key, row, turns, found, verdict: Verdict::Row(outcome) }
    });
    let keys = keys.collect();
    Ok(Decided { name, entrants, keys, by_columns: None, known })
}

pub(super) fn as_turns<'t>(entrants: &'t [Entrant<'_>]) -> Vec<Turn<'t>> {
    let turn = |entrant: &'t Entrant<'_>| Turn {
        operation: entrant.operation,
        version: entrant.version,
        transaction: entrant.transaction,
        own: entrant.own,
        waited: entrant.waited,
    };
    entrants.iter().map(turn).collect()
}

/// The stamp of a row that was there before the first sync.
pub(super) fn before_the_first_sync(node: &NodeSettings) -> Version {
    let stamp = Stamp { clock_us: 0, counter: node.rules.priority_of(&node.name), origin: node.name.clone() };
    Version { stamp, seen: Seen::default(), partition: 0, offset: 0 }
}
