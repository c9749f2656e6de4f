//! Changes that go through mappings: to other tables, in other columns, under conditions.

use std::sync::Arc;

use bumpalo::Bump;
use syncline_event::avro::decode::{Envelope, recycle};
use syncline_event::avro::value::Value;
use syncline_event::header::Stamped;
use syncline_event::operation::Operation;
use syncline_event::position::Position;
use syncline_event::table::TableDefinition;
use syncline_transforms::expression::Context;
use syncline_transforms::mapping::{Change as SourceChange, Emptied, Misfit, Route, Write};

use super::row::{stage_contender, stage_key, stage_row};
use crate::coalesce::Change;
use crate::draft::Obstacle;
use crate::table_draft::TableDraft;
use crate::targets::{Clear, Clearing, TablePlan};

/// What is kept between records, so that a change allocates nothing in the long run.
#[derive(Default)]
pub(super) struct Routed {
    /// Texts that expressions make.
    bump: Bump,
    old: Vec<Value<'static>>,
    new: Vec<Value<'static>>,
    before: Vec<Value<'static>>,
}

impl Routed {
    /// Stages what the routes make of a change, each in its table. `update` is what an update with unknown columns is;
    /// without `deletes` no row is removed.
    pub(super) fn stage(
        &mut self,
        routes: &[Route],
        envelope: &Envelope<'_>,
        (position, context): (Option<Position>, Context),
        (update, deletes): (Change, bool),
        tables: &mut [TableDraft],
    ) -> Result<(), String> {
        self.bump.reset();
        let Envelope { operation, before, after, .. } = envelope;
        for (route, table) in routes.iter().zip(tables) {
            let before_is_whole = before.present && route.has_whole_rows();
            let (before, after) = (&before.values[..], &after.values[..]);
            let change = SourceChange { operation: *operation, before, before_is_whole, after, position, context };
            stage_one(route, &change, &self.bump, (&mut self.old, &mut self.new), (update, deletes), table)?;
        }
        Ok(())
    }

    /// Stages a change that is to be compared with those of other nodes, under this node's names.
    pub(super) fn contend(
        &mut self,
        route: Option<&Route>,
        envelope: &Envelope<'_>,
        stamped: (&Stamped, bool),
        table: &mut TableDraft,
    ) -> Result<(), String> {
        let Envelope { operation, before, after, .. } = envelope;
        let Some(route) = route else {
            let before = before.present.then_some(&before.values[..]);
            return stage_contender(*operation, (before, &after.values), stamped, table);
        };
        let (mut old, mut new) = (recycle(std::mem::take(&mut self.old)), recycle(std::mem::take(&mut self.new)));
        route.rename(&before.values, &mut old);
        route.rename(&after.values, &mut new);
        let staged = stage_contender(*operation, (before.present.then_some(&old[..]), &new), stamped, table);
        (self.old, self.new) = (recycle(old), recycle(new));
        staged
    }

    /// Stages the delete that a lone tombstone is; `key` is in the order of the definition's key. One that `repeats` the
    /// delete before it is passed over where the key alone does not tell what to do.
    pub(super) fn stage_tombstone(
        &mut self,
        routes: &[Route],
        definition: &TableDefinition,
        key: &[Value<'_>],
        (context, repeats): (Context, bool),
        tables: &mut [TableDraft],
    ) -> Result<(), String> {
        self.bump.reset();
        let mut before = recycle(std::mem::take(&mut self.before));
        before.resize(definition.columns.len(), Value::Unknown);
        for (column, value) in definition.key.iter().zip(key) {
            before[*column] = *value;
        }
        let change = SourceChange {
            operation: Operation::Delete,
            before: &before,
            before_is_whole: false,
            after: &[],
            position: None,
            context,
        };
        let told = |(route, _): &(&Route, &mut TableDraft)| !repeats || route.deletes_by_key();
        let staged = routes.iter().zip(tables).filter(told).try_for_each(|(route, table)| {
            stage_one(route, &change, &self.bump, (&mut self.old, &mut self.new), (Change::Update, true), table)
        });
        self.before = recycle(before);
        staged
    }
}

fn stage_one(
    route: &Route,
    change: &SourceChange<'_, '_>,
    bump: &Bump,
    (kept_old, kept_new): (&mut Vec<Value<'static>>, &mut Vec<Value<'static>>),
    (update, deletes): (Change, bool),
    table: &mut TableDraft,
) -> Result<(), String> {
    let (mut old, mut new) = (recycle(std::mem::take(kept_old)), recycle(std::mem::take(kept_new)));
    let staged =
        route.apply(change, bump, &mut old, &mut new).map_err(|refusal| refusal.to_string()).and_then(|outcome| {
            if outcome.deletes && deletes {
                stage_key(table, |_, column| old.get(column))?;
            }
            match outcome.write {
                Some(Write::Upsert) => stage_row(table, Change::Upsert, &new),
                Some(Write::Update) => stage_row(table, update, &new),
                Some(Write::Fill) => stage_row(table, Change::Fill, &new),
                None => Ok(()),
            }
        });
    (*kept_old, *kept_new) = (recycle(old), recycle(new));
    staged
}

/// What a marker that empties the source's table does to the target's.
pub(super) fn clears(routes: &[Route], plans: Vec<Arc<dyn TablePlan>>, topic: &str) -> Result<Vec<Clearing>, String> {
    if routes.is_empty() {
        return Ok(plans.into_iter().map(|plan| Clearing { plan, how: Clear::Delete }).collect());
    }
    let mut clears = Vec::new();
    for (route, plan) in routes.iter().zip(plans) {
        let how = match route.emptied() {
            Emptied::Deleted => Clear::Delete,
            Emptied::Marked(column) => Clear::Mark(column),
            Emptied::Stays => continue,
            Emptied::Unclear => {
                return Err(format!(
                    "the source's table was emptied (a truncate, or the start of a new snapshot), and target {} holds \
                     rows of other sources, too: delete this source's rows there, then go on behind this record with \
                     `syncline resync --topic {topic} --from …`",
                    route.definition().qualified_name()
                ));
            }
        };
        clears.push(Clearing { plan, how });
    }
    Ok(clears)
}

/// Why a table cannot go on under its mappings.
pub(super) fn unfit<N>(misfits: &[Misfit]) -> Obstacle<N> {
    let lines: Vec<String> = misfits.iter().map(Misfit::to_string).collect();
    Obstacle::Bad(format!("table_mappings do not fit the table: {}", lines.join("; ")))
}
