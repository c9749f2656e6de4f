//! One column of a state: joined with a change, and shown.

use std::cmp::{Ordering, Reverse};

use super::super::plan::{Plan, PlannedColumn};
use super::super::row::{Version, conflict};
use super::super::rules::ColumnRule;
use super::super::state::{Column, Valued};
use super::super::value::{add_difference, check_range, compare, items, union};
use super::{Conflict, Incoming, ResolveError};

/// A column's value and the change it is from.
type Shown = (Option<String>, Version);

impl Plan {
    /// Joins a change's values to a column; what a change leaves as it was is carried along. None where there is
    /// nothing to remember.
    pub(super) fn join(
        &self,
        planned: &PlannedColumn,
        known: Option<Column<Version>>,
        version: &Version,
        before: Option<Option<&str>>,
        after: Option<Option<&str>>,
    ) -> Result<Option<Column<Version>>, ResolveError> {
        let valued = |value: Option<&str>| Valued { value: value.map(str::to_owned), by: version.clone() };
        let written = after != before;
        Ok(Some(match (&planned.rule, known) {
            (Some(ColumnRule::Sum), known) => {
                let snapshot = version.stamp.clock_us == 0;
                let base = valued(if snapshot { after } else { before }.flatten());
                let (base, total) = match known {
                    None => (base, None),
                    Some(Column::Sum { base: known, total }) => {
                        (if age(&base.by) < age(&known.by) { base } else { known }, Some(total))
                    }
                    Some(_) => return Err(ResolveError::RuleChanged),
                };
                let (plus, minus) = if snapshot { (None, None) } else { (after.flatten(), before.flatten()) };
                let total = add_difference(total.as_deref(), plus, minus).map_err(|fault| planned.fault(fault))?;
                Column::Sum { base, total }
            }
            (Some(rule @ (ColumnRule::Max | ColumnRule::Min | ColumnRule::ConcatUnique)), known) => {
                let known = match known {
                    None => None,
                    Some(Column::Join(known)) => Some(known),
                    Some(_) => return Err(ResolveError::RuleChanged),
                };
                // What a change found counts too: it may have been there before the first sync.
                let values = [before, after].into_iter().flatten().map(valued);
                let joined = known.into_iter().chain(values).reduce(|a, b| match rule {
                    ColumnRule::ConcatUnique => {
                        let value = union(a.value.as_deref(), b.value.as_deref());
                        Valued { value, by: if a.by.order() < b.by.order() { b.by } else { a.by } }
                    }
                    _ => higher(planned, rule, a, b),
                });
                match joined {
                    Some(joined) => Column::Join(joined),
                    None => return Ok(None),
                }
            }
            // A removal writes no values.
            (_, known) if after.is_none() => return Ok(known),
            (Some(ColumnRule::LastWriteWins | ColumnRule::SourcePriority), known) => {
                let value = valued(after.flatten());
                match known {
                    None => Column::Register { written, value },
                    Some(Column::Register { written: was, value: known }) => {
                        let priority = |valued: &Valued<Version>| match planned.rule {
                            Some(ColumnRule::SourcePriority) => self.priority(&valued.by),
                            _ => 0,
                        };
                        let new = (written, priority(&value), value.by.order());
                        if new > (was, priority(&known), known.by.order()) {
                            Column::Register { written, value }
                        } else {
                            Column::Register { written: was, value: known }
                        }
                    }
                    Some(_) => return Err(ResolveError::RuleChanged),
                }
            }
            (Some(ColumnRule::PriorityOrder(_)) | None, known) => {
                let (mut values, mut carried) = match known {
                    None => (Vec::new(), None),
                    Some(Column::Concurrent { written, carried }) => (written, carried),
                    Some(_) => return Err(ResolveError::RuleChanged),
                };
                let value = valued(after.flatten());
                if written {
                    let origin = |other: &Valued<Version>| other.by.stamp.origin.cmp(&version.stamp.origin);
                    match values.binary_search_by(origin) {
                        Ok(place) => values[place] = value,
                        Err(place) => values.insert(place, value),
                    }
                    carried = None;
                } else if values.is_empty()
                    && carried.as_ref().is_none_or(|known: &Valued<Version>| known.by.order() < value.by.order())
                {
                    carried = Some(value);
                }
                Column::Concurrent { written: values, carried }
            }
        }))
    }

    /// What a column shows.
    pub(in super::super) fn shown(
        &self,
        planned: &PlannedColumn,
        column: &Column<Version>,
    ) -> Result<Shown, ResolveError> {
        Ok(match column {
            Column::Register { value, .. } | Column::Join(value) => (value.value.clone(), value.by.clone()),
            Column::Concurrent { written, carried } => {
                let unseen = |value: &&Valued<Version>| !written.iter().any(|other| other.by.saw(&value.by));
                let shown =
                    written.iter().filter(unseen).max_by(|a, b| self.rank(planned, a).cmp(&self.rank(planned, b)));
                let shown = shown.or(carried.as_ref()).ok_or(ResolveError::RuleChanged)?;
                (shown.value.clone(), shown.by.clone())
            }
            Column::Sum { base, total } => {
                let fault = |fault| planned.fault(fault);
                let sum = add_difference(base.value.as_deref(), Some(total), None).map_err(fault)?;
                check_range(planned.sql_type, &sum).map_err(fault)?;
                (Some(sum), base.by.clone())
            }
        })
    }

    /// Whether a later write of the column that has seen all of it would not notice it.
    pub(super) fn leaves_nothing(&self, planned: &PlannedColumn, column: &Column<Version>) -> bool {
        match column {
            Column::Register { .. } => planned.rule == Some(ColumnRule::LastWriteWins),
            Column::Concurrent { .. } => true,
            Column::Sum { .. } => {
                let sum = self.shown(planned, column).ok().and_then(|(sum, _)| sum);
                compare(planned.sql_type, sum.as_deref(), Some("0")).is_eq()
            }
            Column::Join(value) => value.value.is_none(),
        }
    }

    /// Which of several concurrent values shows: the highest.
    fn rank<'v>(&self, planned: &PlannedColumn, value: &'v Valued<Version>) -> impl Ord + use<'v> {
        let rank = match &planned.rule {
            Some(ColumnRule::PriorityOrder(order)) => {
                let place = order.iter().position(|named| Some(named) == value.value.as_ref());
                place.map_or(0, |place| order.len() - place)
            }
            _ => self.priority(&value.by) as usize,
        };
        (rank, value.by.order())
    }

    /// What was discarded where a change wrote `after` over `before`, if anything.
    pub(super) fn about_column(
        &self,
        column: usize,
        incoming: &Incoming,
        (before, after): (Option<&str>, Option<&str>),
        target: Option<Shown>,
        result: Shown,
    ) -> Option<Conflict> {
        let takes = match self.columns[column].rule {
            Some(ColumnRule::ConcatUnique) => {
                // Items that the change took away may be there again.
                let kept = items(after.unwrap_or_default());
                let now = items(result.0.as_deref().unwrap_or_default());
                let back = |item: &&str| !kept.contains(item) && now.contains(item);
                if !items(before.unwrap_or_default()).iter().any(back) {
                    return None;
                }
                false
            }
            _ => self.same(column, after, result.0.as_deref()),
        };
        let (against, other) = if takes { target.as_ref()? } else { &result };
        if self.same(column, after, against.as_deref()) {
            return None;
        }
        // What the change found, and nothing is known of.
        let found = other.order() == incoming.version.order();
        let (stays, goes) = if takes { (&incoming.version, other) } else { (other, &incoming.version) };
        if !found && stays.saw(goes) {
            return None;
        }
        Some(Conflict {
            kind: conflict(incoming.operation, false)?,
            column: Some(column),
            other: (!found).then(|| other.clone()),
            takes,
            source: after.map(str::to_owned),
            target: target.map_or_else(|| before.map(str::to_owned), |(value, _)| value),
            result: result.0,
        })
    }
}

/// Rows of a snapshot are older than any change, and the node of the highest priority says what they were.
fn age(version: &Version) -> impl Ord + '_ {
    let snapshot = version.stamp.clock_us == 0;
    (!snapshot, Reverse(if snapshot { version.stamp.counter } else { 0 }), version.order())
}

fn higher(planned: &PlannedColumn, rule: &ColumnRule, a: Valued<Version>, b: Valued<Version>) -> Valued<Version> {
    let by_value = match (a.value.as_deref(), b.value.as_deref()) {
        // As in SQL, NULL is neither the highest nor the lowest.
        (Some(low), Some(high)) if *rule == ColumnRule::Min => compare(planned.sql_type, Some(high), Some(low)),
        (a, b) => compare(planned.sql_type, a, b),
    };
    if by_value.then_with(|| a.by.order().cmp(&b.by.order())) == Ordering::Less { b } else { a }
}
