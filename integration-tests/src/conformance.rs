//! What every target must do, whatever it is. A target's own tests hand a [`Site`] to each function here.

use std::sync::Arc;

use anyhow::{Context, Result, anyhow, ensure};
use async_trait::async_trait;
use syncline_consumer::rows::{Cell, Rows};
use syncline_consumer::targets::{
    Arrival, Batch, Clear, Clearing, Contest, Move, PartitionKey, TableBatch, TablePlan, Target, TargetError, Writer,
    Written,
};
use syncline_event::avro::value::Value;
use syncline_event::handling::Handling;
use syncline_event::header::BarrierKind;
use syncline_event::position::{Phase, Position};
use syncline_event::table::{Column, ColumnType, ReplicaIdentity, TableDefinition, TypeKind};
use syncline_runtime::retry::ErrorClass;

/// A target that is empty but for its bookkeeping, and a way to look into it.
#[async_trait]
pub trait Site: Send + Sync {
    /// The target, prepared.
    fn target(&self) -> &dyn Target;

    /// The columns of all rows of a table as text, in the order of the columns' texts.
    async fn rows(&self, schema: &str, table: &str, columns: &[&str]) -> Result<Vec<Vec<Option<String>>>>;
}

/// What to do with one row; values as wide as the definition.
#[derive(Debug, Clone)]
pub enum Change<'a> {
    /// Insert or overwrite.
    Upsert(Vec<Value<'a>>),
    /// Only the key's values count.
    Delete(Vec<Value<'a>>),
    /// Unknown values stay as they are.
    Update(Vec<Value<'a>>),
}

/// Encodes changes as the consumer would, in the order given.
///
/// # Errors
///
/// A value that does not fit.
pub fn table_batch(plan: &Arc<dyn TablePlan>, changes: &[Change<'_>]) -> Result<TableBatch> {
    let width = plan.definition().columns.len();
    let mut batch = TableBatch {
        plan: Arc::clone(plan),
        rows: Rows::new(width),
        deletes: Vec::new(),
        upserts: Vec::new(),
        updates: Vec::new(),
        fills: Vec::new(),
        contest: Contest::default(),
    };
    for change in changes {
        let row = u32::try_from(batch.rows.len())?;
        let (values, list) = match change {
            Change::Upsert(values) => (values, &mut batch.upserts),
            Change::Delete(values) => (values, &mut batch.deletes),
            Change::Update(values) => (values, &mut batch.updates),
        };
        ensure!(values.len() == width, "a row of {} values for {width} columns", values.len());
        list.push(row);
        for (column, value) in values.iter().enumerate() {
            batch
                .rows
                .push(|out| plan.encode(column, value, out))
                .map_err(|reason| anyhow!("column {column}: {reason}"))?;
        }
    }
    Ok(batch)
}

/// A partition of the topic that all scenarios use.
#[must_use]
pub fn partition(partition: i32) -> PartitionKey {
    PartitionKey {
        group: "conformance".into(),
        cluster_id: "cluster".into(),
        topic: "shop.public.t".into(),
        topic_id: "topic-id".into(),
        partition,
    }
}

/// A position in the log.
#[must_use]
pub fn at(number: u64) -> Position {
    Position { epoch: 1, phase: Phase::Stream, lsn: number, number: 1, sub: 0 }
}

/// The move of a partition's row.
#[must_use]
pub fn step(number: i32, from: i64, to: i64) -> Move {
    Move {
        partition: partition(number),
        from,
        to,
        position: Some(at(to.unsigned_abs())),
        table: "public.t".into(),
        records: (to - from).unsigned_abs(),
        last_key: Some(format!("{to}")),
    }
}

/// A built-in type without a modifier.
#[must_use]
pub fn column_type(name: &str, format: &str) -> ColumnType {
    ColumnType {
        oid: 0,
        name: name.into(),
        schema: "pg_catalog".into(),
        modifier: -1,
        format: format.into(),
        kind: TypeKind::Base,
        domain: None,
    }
}

/// A nullable column.
#[must_use]
pub fn column(name: &str, column_type: ColumnType) -> Column {
    Column {
        name: name.into(),
        field: name.into(),
        column_type,
        nullable: true,
        identity: None,
        generated: None,
        default: None,
        default_value: None,
        missing_value: None,
    }
}

/// A column of the key, or another that takes no NULL.
#[must_use]
pub fn required(name: &str, column_type: ColumnType) -> Column {
    Column { nullable: false, ..column(name, column_type) }
}

/// A table with this key.
#[must_use]
pub fn definition(schema: &str, table: &str, columns: Vec<Column>, key: Vec<usize>) -> TableDefinition {
    TableDefinition {
        topic: format!("shop.{schema}.{table}"),
        number: 1,
        schema: schema.into(),
        table: table.into(),
        columns,
        key,
        replica_identity: ReplicaIdentity::Default,
        handling: Handling::default(),
    }
}

/// `public.t (id bigint primary key, name text, note text)`.
#[must_use]
pub fn simple() -> Arc<TableDefinition> {
    let columns = vec![
        required("id", column_type("int8", "bigint")),
        column("name", column_type("text", "text")),
        column("note", column_type("text", "text")),
    ];
    Arc::new(definition("public", "t", columns, vec![0]))
}

/// A row of [`simple`].
#[must_use]
pub fn row<'a>(id: i64, name: &'a str, note: &'a str) -> Vec<Value<'a>> {
    vec![Value::Integer(id), Value::Text(name), Value::Text(note)]
}

/// A writer with progress rows for `partitions`.
///
/// # Errors
///
/// What the target answers.
pub async fn writer(site: &dyn Site, partitions: i32) -> Result<Box<dyn Writer>> {
    let mut writer = site.target().writer().await?;
    for number in 0..partitions {
        writer.progress(&partition(number)).await?;
    }
    Ok(writer)
}

/// Writes one table's changes, moving one partition.
///
/// # Errors
///
/// What the target answers.
pub async fn write(writer: &mut dyn Writer, movement: Move, table: TableBatch) -> Result<Written, TargetError> {
    writer.write(&Batch { moves: &[movement], tables: &[table], arrivals: &[], fences: &[] }).await
}

fn applied() -> Written {
    Written::released(Vec::new())
}

async fn expect_rows(site: &dyn Site, columns: &[&str], expected: &[&[Option<&str>]]) -> Result<()> {
    let found = site.rows("public", "t", columns).await?;
    let expected: Vec<Vec<Option<String>>> =
        expected.iter().map(|row| row.iter().map(|cell| cell.map(str::to_owned)).collect()).collect();
    ensure!(found == expected, "the table holds {found:?}, expected {expected:?}");
    Ok(())
}

/// Inserts, overwrites, deletes; deleting what is not there is harmless; a delete goes before an upsert of its key.
///
/// # Errors
///
/// The target does otherwise.
pub async fn inserts_updates_and_deletes(site: &dyn Site) -> Result<()> {
    let mut writer = writer(site, 1).await?;
    let plan = writer.plan(&simple()).await?;
    let first = table_batch(
        &plan,
        &[Change::Upsert(row(1, "a", "x")), Change::Upsert(row(2, "b", "y")), Change::Upsert(row(3, "c", "z"))],
    )?;
    ensure!(write(&mut *writer, step(0, 0, 3), first).await? == applied());
    let second = table_batch(
        &plan,
        &[
            Change::Delete(row(2, "", "")),
            Change::Delete(row(3, "", "")),
            Change::Delete(row(99, "", "")),
            Change::Upsert(row(1, "a2", "x")),
            Change::Upsert(row(3, "c2", "z2")),
        ],
    )?;
    ensure!(write(&mut *writer, step(0, 3, 8), second).await? == applied());
    expect_rows(site, &["id", "name"], &[&[Some("1"), Some("a2")], &[Some("3"), Some("c2")]]).await
}

/// A partition's place is kept, and the same batch again changes nothing.
///
/// # Errors
///
/// The target does otherwise.
pub async fn a_repeated_batch_is_fenced(site: &dyn Site) -> Result<()> {
    let mut writer = site.target().writer().await?;
    let (progress, inserted) = writer.progress(&partition(0)).await?;
    ensure!(inserted && progress.next_offset == 0 && progress.position.is_none(), "a new row: {progress:?}");
    let plan = writer.plan(&simple()).await?;
    ensure!(
        write(&mut *writer, step(0, 0, 1), table_batch(&plan, &[Change::Upsert(row(1, "a", "x"))])?).await?
            == applied()
    );
    let again = write(&mut *writer, step(0, 0, 1), table_batch(&plan, &[Change::Upsert(row(1, "b", "x"))])?).await?;
    ensure!(again == Written::Fenced, "a repeated batch was {again:?}");
    let (progress, inserted) = writer.progress(&partition(0)).await?;
    ensure!(!inserted && progress.next_offset == 1 && progress.position == Some(at(1)), "{progress:?}");
    let rows = writer.topic_progress("conformance", "cluster", "shop.public.t").await?;
    ensure!(rows.len() == 1 && rows[0].0 == partition(0) && rows[0].1 == progress, "{rows:?}");
    expect_rows(site, &["name"], &[&[Some("a")]]).await
}

/// A batch over several partitions is applied wholly or not at all.
///
/// # Errors
///
/// The target does otherwise.
pub async fn one_foreign_partition_fences_the_whole_batch(site: &dyn Site) -> Result<()> {
    let mut writer = writer(site, 2).await?;
    let plan = writer.plan(&simple()).await?;
    ensure!(write(&mut *writer, step(1, 0, 5), table_batch(&plan, &[])?).await? == applied());
    let table = table_batch(&plan, &[Change::Upsert(row(1, "a", "x"))])?;
    let batch = Batch { moves: &[step(0, 0, 1), step(1, 0, 1)], tables: &[table], arrivals: &[], fences: &[] };
    ensure!(writer.write(&batch).await? == Written::Fenced);
    ensure!(writer.progress(&partition(0)).await?.0.next_offset == 0);
    expect_rows(site, &["id"], &[]).await
}

/// Of two writers that race for a partition exactly one wins each step.
///
/// # Errors
///
/// The target does otherwise.
pub async fn two_writers_race(site: &dyn Site) -> Result<()> {
    let (mut first, mut second) = (writer(site, 1).await?, writer(site, 1).await?);
    let (plan, other) = (first.plan(&simple()).await?, second.plan(&simple()).await?);
    for turn in 0..20 {
        let left = table_batch(&plan, &[Change::Upsert(row(turn, "left", ""))])?;
        let right = table_batch(&other, &[Change::Upsert(row(turn, "right", ""))])?;
        let (left, right) = tokio::join!(
            write(&mut *first, step(0, turn, turn + 1), left),
            write(&mut *second, step(0, turn, turn + 1), right)
        );
        let (left, right) = (left?, right?);
        ensure!((left == Written::Fenced) != (right == Written::Fenced), "turn {turn}: {left:?} and {right:?}");
    }
    let rows = site.rows("public", "t", &["id"]).await?;
    ensure!(rows.len() == 20, "{} rows", rows.len());
    Ok(())
}

/// Unknown values stay, NULLs are written, and a missing row is an error that names the table and changes nothing.
///
/// # Errors
///
/// The target does otherwise.
pub async fn partial_updates(site: &dyn Site) -> Result<()> {
    let mut writer = writer(site, 1).await?;
    let plan = writer.plan(&simple()).await?;
    let rows = [row(1, "a", "x"), row(2, "b", "y"), row(3, "c", "z")].map(Change::Upsert);
    write(&mut *writer, step(0, 0, 3), table_batch(&plan, &rows)?).await?;
    let partial = table_batch(
        &plan,
        &[
            Change::Update(vec![Value::Integer(1), Value::Text("a2"), Value::Unknown]),
            Change::Update(vec![Value::Integer(2), Value::Unknown, Value::Null]),
            Change::Update(vec![Value::Integer(3), Value::Unknown, Value::Unknown]),
        ],
    )?;
    ensure!(partial.rows.row(0)[2] == Cell::Unknown);
    ensure!(write(&mut *writer, step(0, 3, 6), partial).await? == applied());
    let expected: [&[Option<&str>]; 3] =
        [&[Some("1"), Some("a2"), Some("x")], &[Some("2"), Some("b"), None], &[Some("3"), Some("c"), Some("z")]];
    expect_rows(site, &["id", "name", "note"], &expected).await?;
    for missing in [Value::Text("n"), Value::Unknown] {
        let changes = [
            Change::Upsert(row(8, "not to stay", "")),
            Change::Update(vec![Value::Integer(9), missing, Value::Unknown]),
        ];
        let error = write(&mut *writer, step(0, 6, 8), table_batch(&plan, &changes)?)
            .await
            .err()
            .context("an update of a missing row was accepted")?;
        ensure!(error.class == ErrorClass::BadRecord && error.table == Some(0), "{error:?}");
        ensure!(error.message.contains("public.t") && error.message.contains("resync"), "{error}");
    }
    expect_rows(site, &["id", "name", "note"], &expected).await?;
    ensure!(writer.progress(&partition(0)).await?.0.next_offset == 6, "an error must not move the row");
    Ok(())
}

fn arrival(number: i32, position: Position, kind: BarrierKind, plan: &Arc<dyn TablePlan>) -> Arrival {
    Arrival { partition: partition(number), position, kind, partitions: 2, clears: clears(kind, plan) }
}

/// What a marker of the kind does to a table.
fn clears(kind: BarrierKind, plan: &Arc<dyn TablePlan>) -> Vec<Clearing> {
    let clearing = Clearing { plan: Arc::clone(plan), how: Clear::Delete };
    kind.empties_table().then_some(clearing).into_iter().collect()
}

/// A truncate empties the table once, with the last partition that arrives, and holds the others until then.
///
/// # Errors
///
/// The target does otherwise.
pub async fn a_barrier_waits_for_all_partitions(site: &dyn Site) -> Result<()> {
    let (mut first, mut second) = (writer(site, 2).await?, writer(site, 2).await?);
    let plan = first.plan(&simple()).await?;
    let marker = at(50);
    let arrive = |number, plan| [arrival(number, marker, BarrierKind::Truncate, plan)];
    let to_marker = |number, from| Move { position: Some(marker), ..step(number, from, from + 2) };

    let table = table_batch(&plan, &[Change::Upsert(row(1, "a", ""))])?;
    let batch = Batch { moves: &[to_marker(0, 0)], tables: &[table], arrivals: &arrive(0, &plan), fences: &[] };
    ensure!(first.write(&batch).await? == Written::released(vec![false]));
    expect_rows(site, &["id"], &[&[Some("1")]]).await?;
    ensure!(first.progress(&partition(0)).await?.0.waits_for == Some(marker));
    ensure!(!first.barrier_released(&partition(0), marker).await?);

    // A new owner inherits the wait: nothing behind the marker is applied, even by one that does not know of it.
    let other = second.plan(&simple()).await?;
    let beyond = table_batch(&other, &[Change::Upsert(row(7, "behind the marker", ""))])?;
    ensure!(write(&mut *second, step(0, 2, 3), beyond).await? == Written::Fenced);

    let table = table_batch(&other, &[Change::Upsert(row(2, "b", ""))])?;
    let batch = Batch { moves: &[to_marker(1, 0)], tables: &[table], arrivals: &arrive(1, &other), fences: &[] };
    ensure!(second.write(&batch).await? == Written::released(vec![true]));
    expect_rows(site, &["id"], &[]).await?;

    ensure!(first.barrier_released(&partition(0), marker).await?);
    ensure!(first.progress(&partition(0)).await?.0.waits_for.is_none());
    for number in [0, 1] {
        let movement = Move { position: Some(at(60)), ..step(number, 2, 3) };
        let table = table_batch(&plan, &[Change::Upsert(row(10 + i64::from(number), "after", ""))])?;
        ensure!(write(&mut *first, movement, table).await? == applied());
    }
    expect_rows(site, &["id"], &[&[Some("10")], &[Some("11")]]).await
}

/// Both partitions may arrive in one batch; a change of the key's columns waits but empties nothing.
///
/// # Errors
///
/// The target does otherwise.
pub async fn one_batch_may_bring_all_arrivals(site: &dyn Site) -> Result<()> {
    let mut writer = writer(site, 2).await?;
    let plan = writer.plan(&simple()).await?;
    for (from, kind, left) in [(0_i64, BarrierKind::KeyColumns, 1), (2, BarrierKind::Snapshot, 0)] {
        let marker = at(50 + from.unsigned_abs());
        let table = table_batch(&plan, &[Change::Upsert(row(1, "a", ""))])?;
        let moves = [0, 1].map(|number| Move { position: Some(marker), ..step(number, from, from + 2) });
        let arrivals = [1, 0].map(|number| arrival(number, marker, kind, &plan));
        let written =
            writer.write(&Batch { moves: &moves, tables: &[table], arrivals: &arrivals, fences: &[] }).await?;
        ensure!(written == Written::released(vec![true, true]), "{kind:?}: {written:?}");
        let rows = site.rows("public", "t", &["id"]).await?;
        ensure!(rows.len() == left, "{kind:?} left {rows:?}");
    }
    Ok(())
}

/// A partition that arrives at a later marker, or is beyond one without having arrived, drops the earlier barrier:
/// nobody waits for ever, and its work is not done.
///
/// # Errors
///
/// The target does otherwise.
pub async fn an_overtaken_barrier_is_dropped(site: &dyn Site) -> Result<()> {
    let mut writer = writer(site, 2).await?;
    let plan = writer.plan(&simple()).await?;
    let (early, late) = (at(50), at(60));
    let table = table_batch(&plan, &[Change::Upsert(row(1, "stays", ""))])?;
    let moves = [Move { position: Some(early), ..step(0, 0, 2) }];
    let arrivals = [arrival(0, early, BarrierKind::Truncate, &plan)];
    writer.write(&Batch { moves: &moves, tables: &[table], arrivals: &arrivals, fences: &[] }).await?;

    // Partition 1 never sees the early marker.
    let moves = [Move { position: Some(late), ..step(1, 0, 9) }];
    let arrivals = [arrival(1, late, BarrierKind::Snapshot, &plan)];
    let written = writer.write(&Batch { moves: &moves, tables: &[], arrivals: &arrivals, fences: &[] }).await?;
    ensure!(written == Written::released(vec![false]), "{written:?}");
    ensure!(writer.barrier_released(&partition(0), early).await?, "the early barrier still holds");
    ensure!(!writer.barrier_released(&partition(1), late).await?);
    expect_rows(site, &["id"], &[&[Some("1")]]).await?;

    let moves = [Move { position: Some(late), ..step(0, 2, 4) }];
    let arrivals = [arrival(0, late, BarrierKind::Snapshot, &plan)];
    let written = writer.write(&Batch { moves: &moves, tables: &[], arrivals: &arrivals, fences: &[] }).await?;
    ensure!(written == Written::released(vec![true]), "{written:?}");
    expect_rows(site, &["id"], &[]).await?;

    // Partition 1 starts behind a third marker that partition 0 then arrives at.
    let third = at(70);
    write(&mut *writer, Move { position: Some(at(80)), ..step(1, 9, 20) }, table_batch(&plan, &[])?).await?;
    let moves = [Move { position: Some(third), ..step(0, 4, 5) }];
    let arrivals = [arrival(0, third, BarrierKind::Truncate, &plan)];
    let table = table_batch(&plan, &[Change::Upsert(row(2, "stays", ""))])?;
    let written = writer.write(&Batch { moves: &moves, tables: &[table], arrivals: &arrivals, fences: &[] }).await?;
    ensure!(written == Written::released(vec![true]), "{written:?}");
    expect_rows(site, &["id"], &[&[Some("2")]]).await
}

/// Keys of several columns, in another order than the table's.
///
/// # Errors
///
/// The target does otherwise.
pub async fn composite_keys(site: &dyn Site) -> Result<()> {
    let columns = vec![
        required("a", column_type("int4", "integer")),
        required("b", column_type("varchar", "character varying")),
        column("v", column_type("text", "text")),
        required("c", column_type("uuid", "uuid")),
    ];
    let mut writer = writer(site, 1).await?;
    let plan = writer.plan(&Arc::new(definition("public", "t", columns, vec![1, 3, 0]))).await?;
    let uuid = "6f1c2b1e-3f0a-4c57-9d0e-0a1b2c3d4e5f";
    let row = |a, b, v| vec![Value::Integer(a), Value::Text(b), v, Value::Text(uuid)];
    let rows = [row(1, "x", Value::Text("1x")), row(1, "y", Value::Text("1y")), row(2, "x", Value::Text("2x"))];
    write(&mut *writer, step(0, 0, 3), table_batch(&plan, &rows.map(Change::Upsert))?).await?;
    let changes = [
        Change::Delete(row(1, "x", Value::Null)),
        Change::Upsert(row(2, "x", Value::Null)),
        Change::Update(row(1, "y", Value::Text("1y2"))),
    ];
    write(&mut *writer, step(0, 3, 6), table_batch(&plan, &changes)?).await?;
    expect_rows(site, &["a", "b", "v"], &[&[Some("1"), Some("y"), Some("1y2")], &[Some("2"), Some("x"), None]]).await?;
    let key = |a: i64, b: &str| -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        for (column, value) in [(1, Value::Text(b)), (3, Value::Text(uuid)), (0, Value::Integer(a))] {
            plan.encode_key(column, &value, &mut bytes).map_err(|reason| anyhow!(reason))?;
        }
        Ok(bytes)
    };
    ensure!(key(1, "x")? == key(1, "x")? && key(1, "x")? != key(1, "xx")? && key(-1, "x")? < key(1, "x")?);
    Ok(())
}

/// A table that is all key, and names that need quotes.
///
/// # Errors
///
/// The target does otherwise.
pub async fn odd_identifiers(site: &dyn Site) -> Result<()> {
    let columns =
        vec![required("Order \"By\"", column_type("int8", "bigint")), required("größe ☃", column_type("text", "text"))];
    let odd = Arc::new(definition("Sch ema", "Sel\"ect.x", columns, vec![0, 1]));
    let mut writer = writer(site, 1).await?;
    let plan = writer.plan(&odd).await?;
    let rows = [vec![Value::Integer(1), Value::Text("it's")], vec![Value::Integer(2), Value::Text("\\")]];
    write(&mut *writer, step(0, 0, 2), table_batch(&plan, &rows.clone().map(Change::Upsert))?).await?;
    write(&mut *writer, step(0, 2, 4), table_batch(&plan, &rows.map(Change::Upsert))?).await?;
    let changes = [
        Change::Delete(vec![Value::Integer(1), Value::Text("it's")]),
        Change::Update(vec![Value::Integer(2), Value::Text("\\")]),
    ];
    write(&mut *writer, step(0, 4, 6), table_batch(&plan, &changes)?).await?;
    let found = site.rows("Sch ema", "Sel\"ect.x", &["Order \"By\"", "größe ☃"]).await?;
    ensure!(found == [[Some("2".to_owned()), Some("\\".to_owned())]], "{found:?}");
    Ok(())
}

/// Stopping is noted and taken back.
///
/// # Errors
///
/// The target does otherwise.
pub async fn stops_are_noted(site: &dyn Site) -> Result<()> {
    let mut writer = writer(site, 2).await?;
    writer.note_stop(&partition(1), Some("column x is missing")).await?;
    ensure!(writer.progress(&partition(1)).await?.0.stopped.as_deref() == Some("column x is missing"));
    ensure!(writer.progress(&partition(0)).await?.0.stopped.is_none());
    writer.note_stop(&partition(1), None).await?;
    ensure!(writer.progress(&partition(1)).await?.0.stopped.is_none());
    Ok(())
}
