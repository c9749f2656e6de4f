//! Following the log: messages in, records out.
//!
//! A row's position is the commit LSN of its transaction and its number among the transaction's row messages, as the
//! slot delivers them and before any filter, so a repeated delivery repeats the positions.

mod beside;
mod boundary;

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use rustc_hash::FxHashMap;
use syncline_event::avro::encode::{SnapshotMarker, SourceInfo, TransactionBlock};
use syncline_event::header::BarrierKind;
use syncline_event::operation::Operation;
use syncline_event::position::{Phase, Position};
use syncline_event::table::TableDefinition;
use syncline_event::tuple::TupleCell;

use crate::beside::{Beside, Tally};
use crate::captured::CapturedTable;
use crate::clock;
use crate::context::Context;
use crate::emit::{Change, Emitter, Occasion, OldRow, key_changed, place};
use crate::error::ProducerError;
use crate::incremental::engine::Touch;
use crate::incremental::run::Incremental;
use crate::node::{Mark, Node, hashes};
use crate::reselect::Reselected;
use crate::signals::{Signal, SignalError};
use crate::sources::postgres::pgoutput::{Message, OldTuple, Relation, Truncate, Tuple};
use crate::sources::postgres::relation::{CellBuffer, Layout, definition_of, fill_unchanged};

/// The transaction whose messages arrive.
#[derive(Debug, Clone, Copy)]
struct Transaction {
    commit_lsn: u64,
    commit_us: i64,
    id: u32,
    /// Row messages so far.
    number: u64,
}

/// A relation as the current session knows it.
struct KnownRelation {
    /// Index into the captured tables; `None` for a table that is not ours.
    table: Option<usize>,
    layout: Layout,
}

/// Turns the slot's messages into records.
pub(crate) struct Stream {
    epoch: u32,
    tables: Vec<CapturedTable>,
    by_name: BTreeMap<(String, String), usize>,
    relations: FxHashMap<u32, KnownRelation>,
    transaction: Option<Transaction>,
    last_commit: Option<u64>,
    /// Commit time of the last transaction that began, microseconds since 1970.
    committed_us: Option<i64>,
    /// Incremental snapshots.
    pub(crate) incremental: Incremental,
    /// The signal table.
    signal_table: Option<usize>,
    /// What is published beside the tables' changes.
    pub(crate) beside: Beside,
    /// Counts the transaction's events, where that is asked for.
    tally: Option<Tally>,
    /// Stamps, where the database is a node of a topology.
    node: Option<Node>,
    emitter: Emitter,
    old_cells: CellBuffer,
    new_cells: CellBuffer,
}

impl Stream {
    /// Goes on with these tables in this epoch.
    #[must_use]
    pub(crate) fn new(
        epoch: u32,
        mut tables: Vec<CapturedTable>,
        mut incremental: Incremental,
        signal_table: Option<&str>,
        beside: Beside,
        node: Option<Node>,
    ) -> Self {
        incremental.refresh(&mut tables);
        let signal_table = tables.iter().position(|table| {
            Some(table.definition.qualified_name()) == signal_table.map(|name| name.replace('"', ""))
        });
        let by_name = tables.iter().enumerate().map(|(index, table)| {
            let definition = &table.definition;
            ((definition.schema.clone(), definition.table.clone()), index)
        });
        Self {
            epoch,
            by_name: by_name.collect(),
            tables,
            relations: FxHashMap::default(),
            transaction: None,
            last_commit: None,
            committed_us: None,
            incremental,
            signal_table,
            tally: beside.tells_transactions().then(Tally::default),
            beside,
            node,
            emitter: Emitter::default(),
            old_cells: CellBuffer::default(),
            new_cells: CellBuffer::default(),
        }
    }

    /// The captured tables.
    #[must_use]
    pub(crate) fn tables(&self) -> &[CapturedTable] {
        &self.tables
    }

    /// What the node knows behind everything delivered so far. Between transactions only.
    #[must_use]
    pub(crate) fn mark(&self) -> Option<Mark> {
        self.node.as_ref().map(Node::mark)
    }

    /// Whether no transaction is open: everything the slot delivered so far belongs to finished ones.
    #[must_use]
    pub(crate) fn is_between_transactions(&self) -> bool {
        self.transaction.is_none()
    }

    /// Takes one message. Gives the end LSN of a transaction that it finishes. `wal_start` is the message's place in
    /// the log, 0 where the server does not say.
    ///
    /// # Errors
    ///
    /// A change that cannot be published. Not cancel-safe.
    pub(crate) async fn take(
        &mut self,
        context: &mut Context,
        wal_start: u64,
        message: Message<'_>,
    ) -> Result<Option<u64>, ProducerError> {
        match message {
            Message::Begin(begin) => {
                self.boundary(context, begin.final_lsn).await?;
                self.committed_us = Some(begin.commit_us);
                self.transaction = Some(Transaction {
                    commit_lsn: begin.final_lsn,
                    commit_us: begin.commit_us,
                    id: begin.xid,
                    number: 0,
                });
                if let Some(node) = &mut self.node {
                    node.begin();
                }
                if self.tally.is_some() {
                    self.bound(context, TransactionBlock::id(begin.xid, begin.final_lsn), begin.commit_us, None)
                        .await?;
                }
            }
            Message::Commit(commit) => {
                if let (Some(tally), Some(transaction)) = (&mut self.tally, self.transaction) {
                    let tables = tally.finish();
                    let id = TransactionBlock::id(transaction.id, commit.end_lsn);
                    self.bound(context, id, transaction.commit_us, Some(&tables)).await?;
                }
                self.transaction = None;
                // Debezium notes the place of the commit message, which is the transaction's end.
                self.last_commit = Some(commit.end_lsn);
                self.boundary(context, commit.end_lsn).await?;
                return Ok(Some(commit.end_lsn));
            }
            Message::Relation(relation) => self.learn(context, &relation).await?,
            Message::Insert { relation, new } => {
                self.row(context, wal_start, relation, Row::Insert(new)).await?;
            }
            Message::Update { relation, old, new } => {
                self.row(context, wal_start, relation, Row::Update(old, new)).await?;
            }
            Message::Delete { relation, old } => {
                self.row(context, wal_start, relation, Row::Delete(old)).await?;
            }
            Message::Truncate(truncate) => self.truncate(context, wal_start, truncate).await?,
            Message::Logical(message) => self.message(context, message).await?,
            // Names of types are read from the catalog; origins carry no rows.
            Message::Type | Message::Origin => {}
        }
        Ok(None)
    }
}

/// A row message's tuples.
#[derive(Clone, Copy)]
enum Row<'a> {
    Insert(Tuple<'a>),
    Update(Option<OldTuple<'a>>, Tuple<'a>),
    Delete(OldTuple<'a>),
}

impl Stream {
    async fn row(
        &mut self,
        context: &mut Context,
        wal_start: u64,
        relation: u32,
        row: Row<'_>,
    ) -> Result<(), ProducerError> {
        let (position, source) = self.next_position(wal_start)?;
        let time = match &mut self.node {
            None => None,
            Some(node) => match node.change(source.ts_us) {
                // Neither are incremental snapshots told of it: their rows are stamped as from before the first sync, so
                // the change that was applied stays above them on every node, in whatever order they arrive.
                None => return Ok(()),
                time => time,
            },
        };
        let known = self
            .relations
            .get(&relation)
            .ok_or(ProducerError::Protocol("a row of a relation that was not described".to_owned()))?;
        let Some(index) = known.table else { return Ok(()) };
        let table = &mut self.tables[index];
        if table.muted {
            return Ok(());
        }
        table.stats.changes.fetch_add(1, Ordering::Relaxed);
        let layout = &known.layout;
        let transaction = u32::try_from(source.tx_id.unwrap_or_default()).unwrap_or_default();
        // Lives as long as the cells, which may hold parts of it.
        let again;
        let (mut old_cells, mut new_cells) = (self.old_cells.take(), self.new_cells.take());
        let (old, new) = match row {
            Row::Insert(new) => (None, Some(new)),
            Row::Update(old, new) => (old, Some(new)),
            Row::Delete(old) => (Some(old), None),
        };
        if let Some(OldTuple::Key(tuple) | OldTuple::Full(tuple)) = old {
            layout.arrange(tuple, &mut old_cells)?;
        }
        if let Some(tuple) = new {
            layout.arrange(tuple, &mut new_cells)?;
        }
        if let Some(OldTuple::Full(_)) = old {
            fill_unchanged(&mut new_cells, &old_cells);
        }
        if matches!(row, Row::Update(..)) && new_cells.contains(&TupleCell::Unchanged) {
            let is_rekeyed = old.is_some() && key_changed(table, &old_cells, &new_cells);
            again = Reselected::read(context, &table.definition, &new_cells, is_rekeyed, transaction).await?;
            let events = &context.config.events;
            let is_removed = is_rekeyed && !events.skipped.deletes && !events.skipped.truncates;
            again.fill(&table.definition, is_removed, &mut new_cells);
        }
        let events = &context.config.events;
        let is_skipped = match row {
            Row::Insert(_) => events.skipped.creates,
            Row::Update(..) => events.skipped.updates,
            Row::Delete(_) => events.skipped.deletes,
        };
        if self.incremental.watches(index) && !is_skipped {
            let touch = Touch { transaction, partial: new_cells.contains(&TupleCell::Unchanged) };
            let keys = [old.is_some().then_some(&old_cells[..]), new.is_some().then_some(&new_cells[..])];
            self.incremental.touch(table, keys, touch)?;
        }
        let signal = match row {
            Row::Insert(_) if self.signal_table == Some(index) => Some(signal_of(&new_cells)),
            _ => None,
        };
        let old = match old {
            None => OldRow::None,
            Some(OldTuple::Key(_)) => OldRow::Key(&old_cells),
            Some(OldTuple::Full(_)) => OldRow::Full(&old_cells),
        };
        let change = match row {
            Row::Insert(_) => Change::New(Operation::Create, &new_cells),
            Row::Update(..) => Change::Update(old, &new_cells),
            Row::Delete(_) => Change::Delete(old),
        };
        let keys = || hashes(&table.definition, [old.cells(), new.map(|_| &new_cells[..])]);
        let at = Occasion {
            position,
            source,
            now_ns: clock::now_ns(),
            skipped: events.skipped,
            tombstones: events.tombstones,
            transaction: self.tally.as_ref().map(|tally| tally.next(index, transaction, source.lsn)),
            stamped: self.node.as_mut().zip(time).map(|(node, time)| node.stamped(index, time, transaction, keys)),
        };
        loop {
            match self.emitter.change(&context.publisher, table, &at, change).await {
                // The catalog may be ahead of the log: the column was nullable when the row was written. Records
                // that were sent already are repeated at the same positions.
                Err(ProducerError::NullInNotNull { column, .. }) => {
                    let mut definition = (*table.definition).clone();
                    let Some(column) = definition.columns.iter_mut().find(|c| c.name == column && !c.nullable) else {
                        return Err(ProducerError::Protocol("a NULL in a column that cannot hold one".to_owned()));
                    };
                    column.nullable = true;
                    redefine(context, table, definition, &mut self.incremental).await?;
                }
                result => {
                    let events = result?;
                    if let Some(tally) = &mut self.tally {
                        tally.add(index, || table.definition.qualified_name(), events);
                    }
                    self.old_cells.give_back(old_cells);
                    self.new_cells.give_back(new_cells);
                    if let Some(signal) = signal {
                        self.incremental.take_row((position.lsn, position.number), signal, &mut self.tables);
                    }
                    return Ok(());
                }
            }
        }
    }

    async fn truncate(
        &mut self,
        context: &mut Context,
        wal_start: u64,
        truncate: Truncate<'_>,
    ) -> Result<(), ProducerError> {
        let (position, source) = self.next_position(wal_start)?;
        let time = match &mut self.node {
            None => None,
            Some(node) => match node.change(source.ts_us) {
                None => return Ok(()),
                time => time,
            },
        };
        if context.config.events.skipped.truncates {
            return Ok(());
        }
        for relation in truncate.relations() {
            let known = self
                .relations
                .get(&relation)
                .ok_or(ProducerError::Protocol("a truncate of a relation that was not described".to_owned()))?;
            let Some(index) = known.table else { continue };
            let table = &mut self.tables[index];
            if table.tails.are_behind(place(position, &source)) {
                tracing::warn!(
                    table = table.definition.qualified_name(),
                    "a truncate from before the takeover is left out: rows that came behind it are published already"
                );
                continue;
            }
            if table.muted {
                continue;
            }
            let transaction = u32::try_from(source.tx_id.unwrap_or_default()).unwrap_or_default();
            if self.incremental.watches(index) {
                self.incremental.truncated(transaction);
            }
            let block = self.tally.as_ref().map(|tally| tally.next(index, transaction, source.lsn));
            if let Some(tally) = &mut self.tally {
                tally.add(index, || table.definition.qualified_name(), 1);
            }
            let mut envelope = Vec::new();
            table.encoder.truncate(&source, block, clock::now_ns(), &mut envelope);
            let stamped =
                self.node.as_mut().zip(time).map(|(node, time)| node.stamped(index, time, transaction, || None));
            table.send_marker(&context.publisher, position, BarrierKind::Truncate, Some(&envelope), stamped).await?;
            table.stats.changes.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    fn next_position(&mut self, wal_start: u64) -> Result<(Position, SourceInfo<'static>), ProducerError> {
        let transaction =
            self.transaction.as_mut().ok_or(ProducerError::Protocol("a row outside of a transaction".to_owned()))?;
        transaction.number += 1;
        let lsn = if wal_start == 0 { transaction.commit_lsn } else { wal_start };
        let position = Position {
            epoch: self.epoch,
            phase: Phase::Stream,
            lsn: transaction.commit_lsn,
            number: transaction.number,
            sub: 0,
        };
        let source = SourceInfo {
            ts_us: transaction.commit_us,
            snapshot: SnapshotMarker::False,
            sequence: (self.last_commit, lsn),
            tx_id: Some(i64::from(transaction.id)),
            lsn,
            origin: None,
            origin_lsn: None,
        };
        Ok((position, source))
    }

    /// A relation's description: sent before its first row of a session and again when it changed.
    async fn learn(&mut self, context: &mut Context, relation: &Relation<'_>) -> Result<(), ProducerError> {
        let name = (relation.namespace.to_owned(), relation.name.to_owned());
        let Some(&index) = self.by_name.get(&name) else {
            self.relations.insert(relation.id, KnownRelation { table: None, layout: Layout::default() });
            return Ok(());
        };
        let table = &mut self.tables[index];
        let definition = definition_of(&mut context.control, relation, &table.definition, &context.config).await?;
        let layout = Layout::of(relation, &definition);
        let other_key = key_names(&definition) != key_names(&table.definition);
        redefine(context, table, definition, &mut self.incremental).await?;
        if other_key && !table.muted {
            // Keys before and behind cannot be told to be one row's: all partitions meet here.
            let transaction =
                self.transaction.ok_or(ProducerError::Protocol("a relation outside of a transaction".to_owned()))?;
            let position = Position {
                epoch: self.epoch,
                phase: Phase::Stream,
                lsn: transaction.commit_lsn,
                number: transaction.number,
                sub: u8::MAX,
            };
            table.send_marker(&context.publisher, position, BarrierKind::KeyColumns, None, None).await?;
        }
        self.relations.insert(relation.id, KnownRelation { table: Some(index), layout });
        Ok(())
    }
}

fn key_names(definition: &TableDefinition) -> Vec<String> {
    definition.key.iter().map(|column| definition.columns[*column].name.clone()).collect()
}

/// A row of the signal table: its first three columns are id, type and data, whatever their names.
fn signal_of(cells: &[TupleCell<'_>]) -> Result<Signal, SignalError> {
    let text = |index: usize| match cells.get(index) {
        Some(TupleCell::Text(text)) => String::from_utf8(text.to_vec()).ok(),
        _ => None,
    };
    let kind =
        text(1).ok_or_else(|| SignalError("a row of the signal table has no type in its second column".to_owned()))?;
    Ok(Signal { id: text(0), kind, data: text(2).map_or(serde_json::Value::Null, serde_json::Value::String) })
}

async fn redefine(
    context: &mut Context,
    table: &mut CapturedTable,
    definition: TableDefinition,
    incremental: &mut Incremental,
) -> Result<(), ProducerError> {
    if definition.same_shape(&table.definition) {
        return Ok(());
    }
    let other_key = key_names(&definition) != key_names(&table.definition);
    let definition = context.definitions.adopt(&context.publisher, definition).await?;
    table.redefine(definition, &context.registry, &context.connector, &context.config.events).await?;
    incremental.redefined(table.topic.name(), other_key);
    Ok(())
}
