//! What a row has been through, where a rule other than last write wins decides: enough to resolve any change that
//! may still come, in whatever order changes come.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use syncline_event::stamp::{Seen, Stamp};

use super::row::Version;

/// A row's values as PostgreSQL's texts, in the order of the table's columns.
pub type Image = Vec<Option<String>>;

/// What is known of a key. Compact as JSON: versions stand there once, and are referred to by number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "Form", try_from = "Form")]
pub struct State(pub(super) Kind<Version>);

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Kind<V> {
    /// Decided by whole rows.
    Row(Winner<V>),
    /// Decided by columns.
    Columns(Columns<V>),
}

/// The change that made the row what it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Winner<V> {
    pub(super) by: V,
    /// The value that rows are ordered by; of a row that is gone, the one it had.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) rank: Option<String>,
    /// By the columns' names; none where the row is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) row: Option<BTreeMap<String, Option<String>>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Columns<V> {
    /// The last change of each node, by the node's name. The latest of all says whether the row is there.
    pub(super) latest: Vec<Touch<V>>,
    /// By the column's name, so that columns may be added and dropped.
    pub(super) columns: BTreeMap<String, Column<V>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Touch<V> {
    pub(super) by: V,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) deleted: bool,
}

/// One column, by its rule. A value that a change only carried along is kept as well: the change that wrote it may
/// come later, or have been made before the first sync. It gives way to any value that was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Column<V> {
    /// One value stays.
    Register { written: bool, value: Valued<V> },
    /// The last value each node has written, by the node's name; which of them shows follows from who had seen whom.
    Concurrent { written: Vec<Valued<V>>, carried: Option<Valued<V>> },
    /// What was there before the first known change, and all differences since.
    Sum { base: Valued<V>, total: String },
    /// The highest or lowest value, or all items of lists, with the latest change that had it.
    Join(Valued<V>),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Valued<V> {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) value: Option<String>,
    pub(super) by: V,
}

impl State {
    /// Whether the row is gone.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        match &self.0 {
            Kind::Row(winner) => winner.row.is_none(),
            Kind::Columns(columns) => columns.newest().is_none_or(|touch| touch.deleted),
        }
    }

    /// Whether anything is known of a column: it may have been added later.
    pub(super) fn knows(&self, column: &str) -> bool {
        match &self.0 {
            Kind::Row(winner) => winner.row.as_ref().is_some_and(|row| row.contains_key(column)),
            Kind::Columns(columns) => columns.columns.contains_key(column),
        }
    }

    /// The changes that it remembers.
    #[must_use]
    pub fn versions(&self) -> Vec<Version> {
        let mut all = Vec::new();
        self.0.clone().map(&mut |version| all.push(version));
        all
    }
}

impl Columns<Version> {
    /// The latest change of all nodes.
    pub(super) fn newest(&self) -> Option<&Touch<Version>> {
        self.latest.iter().max_by(|a, b| a.by.order().cmp(&b.by.order()))
    }
}

impl<V> Kind<V> {
    fn map<W>(self, f: &mut impl FnMut(V) -> W) -> Kind<W> {
        match self {
            Self::Row(Winner { by, rank, row }) => Kind::Row(Winner { by: f(by), rank, row }),
            Self::Columns(Columns { latest, columns }) => Kind::Columns(Columns {
                latest: latest.into_iter().map(|touch| Touch { by: f(touch.by), deleted: touch.deleted }).collect(),
                columns: columns.into_iter().map(|(name, column)| (name, column.map(f))).collect(),
            }),
        }
    }
}

impl<V> Column<V> {
    fn map<W>(self, f: &mut impl FnMut(V) -> W) -> Column<W> {
        match self {
            Self::Register { written, value } => Column::Register { written, value: value.map(f) },
            Self::Concurrent { written, carried } => Column::Concurrent {
                written: written.into_iter().map(|value| value.map(f)).collect(),
                carried: carried.map(|value| value.map(f)),
            },
            Self::Sum { base, total } => Column::Sum { base: base.map(f), total },
            Self::Join(value) => Column::Join(value.map(f)),
        }
    }
}

impl<V> Valued<V> {
    fn map<W>(self, f: &mut impl FnMut(V) -> W) -> Valued<W> {
        Valued { value: self.value, by: f(self.by) }
    }
}

/// The JSON.
#[derive(Serialize, Deserialize)]
struct Form {
    /// Clock, counter, origin, partition, offset, what had been seen.
    versions: Vec<(u64, u32, String, u32, u64, Seen)>,
    #[serde(flatten)]
    kind: Kind<usize>,
}

impl From<State> for Form {
    fn from(state: State) -> Self {
        let mut known: Vec<Version> = Vec::new();
        let kind = state.0.map(&mut |version| {
            known.iter().position(|other| *other == version).unwrap_or_else(|| {
                known.push(version);
                known.len() - 1
            })
        });
        let versions = known.into_iter().map(|version| {
            let Stamp { clock_us, counter, origin } = version.stamp;
            (clock_us, counter, origin, version.partition, version.offset, version.seen)
        });
        Self { versions: versions.collect(), kind }
    }
}

/// A state whose JSON refers to a version that is not there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the state of a row names version {0}, which it does not hold")]
struct Dangling(usize);

impl TryFrom<Form> for State {
    type Error = Dangling;

    fn try_from(form: Form) -> Result<Self, Dangling> {
        let versions = form.versions.into_iter().map(|(clock_us, counter, origin, partition, offset, seen)| Version {
            stamp: Stamp { clock_us, counter, origin },
            seen,
            partition,
            offset,
        });
        let versions: Vec<Version> = versions.collect();
        let mut missing = None;
        let kind = form.kind.map(&mut |number| {
            let found = versions.get(number).cloned();
            missing = missing.or(found.is_none().then_some(number));
            found
        });
        match missing {
            Some(number) => Err(Dangling(number)),
            // None is left over.
            None => Ok(Self(kind.map(&mut |version| version.expect("every number was found")))),
        }
    }
}
