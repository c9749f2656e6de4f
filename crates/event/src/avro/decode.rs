//! From the bytes of a record to values: Debezium's envelope and key, read through a plan compiled once a schema.

use std::collections::HashMap;
use std::sync::Arc;

use crate::operation::Operation;
use crate::table::{Column, TableDefinition, TypeKind};

use super::flat::FlatPlan;
use super::item::{Item, is_null};
use super::plan::{RowPlan, Unsupported};
use super::reader::Reader;
use super::skip::SkipTable;
use super::value::Value;
use super::writer_schema::{Branches, NodeId, WriterSchema};

pub use super::array::{ArrayIter, ArrayValue};
pub use super::envelope::{Envelope, HeaderMismatch, PLACEHOLDER, RowImage, recycle};
pub use super::extension::{SparseVectorValue, SpatialValue};
pub use super::map::MapValue;
pub use super::reader::Problem;

/// A schema that no decoder can be made for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecoderError {
    /// Not an Avro schema.
    #[error("malformed avro schema: {0}")]
    Schema(String),
    /// The schema is neither an envelope nor a row.
    #[error("schema {schema} is neither a debezium envelope nor a flattened row ({reason}); leave its topic out")]
    NotAChange {
        /// The schema's full name.
        schema: String,
        /// What it lacks.
        reason: String,
    },
    /// A field's type has no meaning here.
    #[error("field {field} of schema {schema} has unsupported type {found}; exclude the column from the source")]
    Unsupported {
        /// The record's full name.
        schema: String,
        /// The field.
        field: String,
        /// Its type.
        found: String,
    },
    /// The key's fields are not the key columns of the table's definition.
    #[error("key schema {schema} has fields {found:?}, the definition of {table} has key columns {expected:?}")]
    Key {
        /// The key schema's full name.
        schema: String,
        /// The table.
        table: String,
        /// The schema's fields.
        found: Vec<String>,
        /// The definition's key columns as fields.
        expected: Vec<String>,
    },
}

/// Bytes that do not fit the schema they name, or a header that does not fit them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}record {schema}: {problem}", place(field))]
pub struct DecodeError {
    /// The schema's full name.
    pub schema: String,
    /// The field in which decoding stopped, such as `after.price`; empty where the whole datum is meant.
    pub field: String,
    /// What is wrong.
    pub problem: Problem,
}

fn place(field: &str) -> String {
    if field.is_empty() { String::new() } else { format!("field {field} of ") }
}

/// Reads changes of one writer schema, envelopes or flattened rows, into rows of one table definition. Compiled once per
/// pair of them.
#[derive(Debug)]
pub struct EnvelopeDecoder {
    name: Box<str>,
    form: Form,
    skips: Arc<SkipTable>,
}

#[derive(Debug)]
enum Form {
    Envelope(Box<[Step]>),
    Flat(FlatPlan),
}

/// A field of the envelope.
#[derive(Debug)]
struct Step {
    field: Box<str>,
    read: Read,
}

#[derive(Debug)]
enum Read {
    Before(Branches, Arc<RowPlan>),
    After(Branches, Arc<RowPlan>),
    Operation(Item),
    Source(Branches, Box<[SourceStep]>),
    Skip(NodeId),
}

#[derive(Debug)]
enum SourceStep {
    Micros(Item),
    Millis(Item),
    Skip(NodeId),
}

impl EnvelopeDecoder {
    /// Compiles the plan. Fields are matched by [`Column::field`](crate::table::Column::field); a column the schema
    /// lacks decodes as [`Value::Unknown`], a field without a column is skipped.
    ///
    /// # Errors
    ///
    /// The schema is malformed, no change, or gives a column a type that has no meaning here.
    pub fn compile(writer_schema: &str, definition: &TableDefinition) -> Result<Self, DecoderError> {
        Self::compile_for(writer_schema, definition, |_| true)
    }

    /// Compiles a plan that skips the columns (by their index) that nobody reads; they decode as [`Value::Unknown`].
    ///
    /// # Errors
    ///
    /// As for [`EnvelopeDecoder::compile`]; the type of a skipped column does not matter.
    pub fn compile_for(
        writer_schema: &str,
        definition: &TableDefinition,
        is_read: impl Fn(usize) -> bool,
    ) -> Result<Self, DecoderError> {
        let schema = WriterSchema::parse(writer_schema).map_err(DecoderError::Schema)?;
        let skips = Arc::new(SkipTable::compile(&schema));
        let columns = definition.columns.iter().enumerate().filter(|(index, _)| is_read(*index));
        let slots: HashMap<_, _> = columns.map(|(index, column)| (column.field.as_str(), index)).collect();
        let compiler = Compiler { schema: &schema, slots, definition, skips: &skips };
        let form = match change_row(&schema)? {
            ChangeRow::Envelope(row) => Form::Envelope(compiler.envelope(row)?),
            ChangeRow::Flat => Form::Flat(compiler.flat()?),
        };
        Ok(Self { name: schema.name().into(), form, skips })
    }

    /// Whether the changes are envelopes, and not flattened rows.
    #[must_use]
    pub fn reads_envelopes(&self) -> bool {
        matches!(self.form, Form::Envelope(_))
    }

    /// The writer schema's full name, such as `prefix.schema.table.Envelope`.
    #[must_use]
    pub fn schema_name(&self) -> &str {
        &self.name
    }

    /// Decodes a datum (without its frame) into `out`, whose allocations are reused. Nothing is allocated once the
    /// rows have their width. Values borrow from the datum and, for arrays and enums, from the decoder.
    ///
    /// # Errors
    ///
    /// The bytes do not fit the schema; `out` is then in an unspecified state.
    pub fn decode<'a>(&'a self, datum: &'a [u8], out: &mut Envelope<'a>) -> Result<(), DecodeError> {
        let mut reader = Reader::new(datum);
        out.before.clear();
        out.after.clear();
        match &self.form {
            Form::Envelope(steps) => self.envelope(steps, &mut reader, out)?,
            Form::Flat(plan) => plan.read(&mut reader, out).map_err(|(field, problem)| self.failed(field, problem))?,
        }
        if reader.rest().is_empty() { Ok(()) } else { Err(self.failed("", Problem::Trailing)) }
    }

    fn envelope<'a>(
        &'a self,
        steps: &'a [Step],
        reader: &mut Reader<'a>,
        out: &mut Envelope<'a>,
    ) -> Result<(), DecodeError> {
        let (mut operation, mut micros, mut millis) = (None, None, None);
        for step in steps {
            let failed = |problem| self.failed(&step.field, problem);
            match &step.read {
                Read::Before(branches, plan) => self.row(step, *branches, plan, reader, &mut out.before)?,
                Read::After(branches, plan) => self.row(step, *branches, plan, reader, &mut out.after)?,
                Read::Operation(item) => {
                    if let Value::Text(code) = item.read(reader).map_err(failed)? {
                        operation = Operation::from_code(code);
                    }
                }
                Read::Source(branches, steps) => {
                    if !is_null(*branches, reader).map_err(failed)? {
                        (micros, millis) = self.source(steps, reader).map_err(failed)?;
                    }
                }
                Read::Skip(node) => self.skips.skip(*node, reader).map_err(failed)?,
            }
        }
        out.operation = operation.ok_or_else(|| self.failed("op", Problem::Operation))?;
        if matches!(out.operation, Operation::Read | Operation::Create | Operation::Update) && !out.after.present {
            return Err(self.failed("after", Problem::NoRow));
        }
        out.source_ts_us = micros.or_else(|| millis.map(|millis: i64| millis.saturating_mul(1_000))).unwrap_or(0);
        Ok(())
    }

    #[inline]
    fn row<'a>(
        &self,
        step: &Step,
        branches: Branches,
        plan: &'a RowPlan,
        reader: &mut Reader<'a>,
        image: &mut RowImage<'a>,
    ) -> Result<(), DecodeError> {
        image.present = !is_null(branches, reader).map_err(|problem| self.failed(&step.field, problem))?;
        if image.present {
            plan.read(reader, &mut image.values).map_err(|fault| {
                let field = format!("{}.{}", step.field, plan.field(fault));
                self.failed(&field, fault.problem)
            })?;
        }
        Ok(())
    }

    #[inline]
    fn source<'a>(
        &'a self,
        steps: &'a [SourceStep],
        reader: &mut Reader<'a>,
    ) -> Result<(Option<i64>, Option<i64>), Problem> {
        let (mut micros, mut millis) = (None, None);
        for step in steps {
            match step {
                SourceStep::Micros(item) => micros = integer(item.read(reader)?),
                SourceStep::Millis(item) => millis = integer(item.read(reader)?),
                SourceStep::Skip(node) => self.skips.skip(*node, reader)?,
            }
        }
        Ok((micros, millis))
    }

    #[cold]
    fn failed(&self, field: &str, problem: Problem) -> DecodeError {
        DecodeError { schema: self.name.to_string(), field: field.to_owned(), problem }
    }
}

fn integer(value: Value<'_>) -> Option<i64> {
    if let Value::Integer(value) = value { Some(value) } else { None }
}

/// What the parts of a plan are compiled from.
struct Compiler<'a> {
    schema: &'a WriterSchema,
    slots: HashMap<&'a str, usize>,
    definition: &'a TableDefinition,
    skips: &'a Arc<SkipTable>,
}

impl Compiler<'_> {
    fn row(&self, record: NodeId) -> Result<RowPlan, DecoderError> {
        let columns = &self.definition.columns;
        let compiled = RowPlan::compile(self.schema, record, &self.slots, columns.len(), self.skips);
        let mut compiled = compiled.map_err(|Unsupported { field, found }| {
            let (record, _) = self.schema.record(record).unwrap_or_default();
            DecoderError::Unsupported { schema: record.to_owned(), field, found }
        })?;
        compiled.take_texts_for_bytes(self.definition.handling.binary, |slot| is_bytea(&columns[slot]));
        Ok(compiled)
    }

    fn envelope(&self, row: NodeId) -> Result<Box<[Step]>, DecoderError> {
        let schema = self.schema;
        let (name, fields) = schema.record(schema.root).unwrap_or_default();
        let row_plan = Arc::new(self.row(row)?);
        let mut steps = Vec::with_capacity(fields.len());
        for field in fields {
            let image = |image: &str| match schema.strip_null(field.node) {
                Some((branches, record)) if record == row => Ok((branches, Arc::clone(&row_plan))),
                Some((branches, record)) if schema.record(record).is_some() => {
                    Ok((branches, Arc::new(self.row(record)?)))
                }
                _ => Err(not_a_change(schema, format!("its {image} is no row"))),
            };
            let read = match field.name.as_str() {
                "before" => image("before").map(|(branches, plan)| Read::Before(branches, plan))?,
                "after" => image("after").map(|(branches, plan)| Read::After(branches, plan))?,
                "op" => Read::Operation(Item::compile(schema, field.node, self.skips).map_err(|found| {
                    DecoderError::Unsupported { schema: name.to_owned(), field: field.name.clone(), found }
                })?),
                "source" => source(schema, field.node, self.skips).unwrap_or(Read::Skip(field.node)),
                _ => Read::Skip(field.node),
            };
            steps.push(Step { field: field.name.as_str().into(), read });
        }
        Ok(steps.into())
    }

    fn flat(&self) -> Result<FlatPlan, DecoderError> {
        let (name, _) = self.schema.record(self.schema.root).unwrap_or_default();
        FlatPlan::compile(self.schema, &self.slots, self.definition.columns.len(), self.skips)
            .map_err(|Unsupported { field, found }| DecoderError::Unsupported { schema: name.to_owned(), field, found })
    }
}

/// The plan of the source block; `None` where it is no record or its times are no integers, which is then skipped.
fn source(schema: &WriterSchema, node: NodeId, skips: &Arc<SkipTable>) -> Option<Read> {
    let (branches, record) = schema.strip_null(node)?;
    let (_, fields) = schema.record(record)?;
    let steps = fields.iter().map(|field| {
        Some(match field.name.as_str() {
            "ts_us" => SourceStep::Micros(Item::compile(schema, field.node, skips).ok()?),
            "ts_ms" => SourceStep::Millis(Item::compile(schema, field.node, skips).ok()?),
            _ => SourceStep::Skip(field.node),
        })
    });
    Some(Read::Source(branches, steps.collect::<Option<_>>()?))
}

/// Where a change has its row.
pub(super) enum ChangeRow {
    /// The record of an envelope's rows.
    Envelope(NodeId),
    /// The value itself, as `ExtractNewRecordState` leaves it.
    Flat,
}

/// Where the row of a change is.
pub(super) fn change_row(schema: &WriterSchema) -> Result<ChangeRow, DecoderError> {
    let Some((name, fields)) = schema.record(schema.root) else {
        return Err(not_a_change(schema, "it is no record".into()));
    };
    if name.starts_with("io.debezium.connector.") {
        return Err(not_a_change(schema, "it is one of the connector's own records".into()));
    }
    let field = |name: &str| fields.iter().find(|field| field.name == name);
    match (field("op"), field("after"), field("source")) {
        (Some(_), Some(after), _) => match schema.strip_null(after.node) {
            Some((_, record)) if schema.record(record).is_some() => Ok(ChangeRow::Envelope(record)),
            _ => Err(not_a_change(schema, "its after is no row".into())),
        },
        // Part of an envelope: a schema change, a logical message, or an envelope that someone has cut.
        (_, Some(after), _) if schema.strip_null(after.node).is_some_and(|(_, id)| schema.record(id).is_some()) => {
            Err(not_a_change(schema, "it has an after and no op".into()))
        }
        (op, _, Some(source)) if schema.strip_null(source.node).is_some_and(|(_, id)| schema.record(id).is_some()) => {
            let lacks = if op.is_some() { "it has an op and no after" } else { "it has a source and no row" };
            Err(not_a_change(schema, lacks.into()))
        }
        _ => Ok(ChangeRow::Flat),
    }
}

/// Whether the column's texts are bytes where they travel as text.
fn is_bytea(column: &Column) -> bool {
    match &column.column_type.kind {
        TypeKind::Array { element } => element.name == "bytea",
        TypeKind::Base | TypeKind::Enum { .. } => column.column_type.name == "bytea",
    }
}

fn not_a_change(schema: &WriterSchema, reason: String) -> DecoderError {
    DecoderError::NotAChange { schema: schema.name().to_owned(), reason }
}

/// Reads keys of one writer schema: the values of the definition's key columns.
#[derive(Debug)]
pub struct KeyDecoder {
    name: Box<str>,
    plan: RowPlan,
}

impl KeyDecoder {
    /// Compiles the plan.
    ///
    /// # Errors
    ///
    /// The schema is malformed, its fields are not the definition's key columns, or one has an unsupported type.
    pub fn compile(writer_schema: &str, definition: &TableDefinition) -> Result<Self, DecoderError> {
        let schema = WriterSchema::parse(writer_schema).map_err(DecoderError::Schema)?;
        let key = definition.key.iter().filter_map(|&column| definition.columns.get(column));
        let expected: Vec<&str> = key.map(|column| column.field.as_str()).collect();
        let (name, fields) = schema.record(schema.root).unwrap_or((schema.name(), &[]));
        let slots: HashMap<_, _> = expected.iter().enumerate().map(|(slot, field)| (*field, slot)).collect();
        if fields.len() != expected.len() || !fields.iter().all(|field| slots.contains_key(field.name.as_str())) {
            return Err(DecoderError::Key {
                schema: name.to_owned(),
                table: definition.qualified_name(),
                found: fields.iter().map(|field| field.name.clone()).collect(),
                expected: expected.into_iter().map(str::to_owned).collect(),
            });
        }
        let skips = Arc::new(SkipTable::compile(&schema));
        let mut plan = RowPlan::compile(&schema, schema.root, &slots, expected.len(), &skips).map_err(
            |Unsupported { field, found }| DecoderError::Unsupported { schema: name.to_owned(), field, found },
        )?;
        plan.take_texts_for_bytes(definition.handling.binary, |slot| {
            is_bytea(&definition.columns[definition.key[slot]])
        });
        Ok(Self { name: name.into(), plan })
    }

    /// Decodes a datum (without its frame) into `out`, in the order of the definition's key.
    ///
    /// # Errors
    ///
    /// The bytes do not fit the schema; `out` is then in an unspecified state.
    pub fn decode<'a>(&'a self, datum: &'a [u8], out: &mut Vec<Value<'a>>) -> Result<(), DecodeError> {
        let failed = |field: &str, problem| DecodeError { schema: self.name.to_string(), field: field.into(), problem };
        let mut reader = Reader::new(datum);
        self.plan.read(&mut reader, out).map_err(|fault| failed(self.plan.field(fault), fault.problem))?;
        if reader.rest().is_empty() { Ok(()) } else { Err(failed("", Problem::Trailing)) }
    }
}
