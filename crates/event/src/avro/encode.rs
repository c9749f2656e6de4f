//! Rows into Debezium's keys and envelopes, through a plan compiled once per table definition.
//!
//! Values that Debezium's form cannot give back travel as PostgreSQL's text in the record's `syncline` header, beside
//! the form that Debezium would write: see [`TableEncoder::envelope`]. Two forms differ from Debezium's on purpose: a
//! real NULL in a nullable column with a default takes the null branch (its converter writes the default), and arrays
//! of several dimensions are flattened (it has no form for them).

use std::sync::Arc;

pub use super::source::{SnapshotMarker, SourceInfo, TransactionBlock};

use super::cell::{self, Fidelity};
use super::row_plan::{Slot, slots};
use super::schema::{envelope_schema, key_schema};
use super::source::{self, SourceBlock};
use super::{json, write};
use crate::header::{Header, Image, SourceText};
use crate::json::write::{JsonParts, JsonWriter};
use crate::mask::Mask;
use crate::operation::Operation;
use crate::table::TableDefinition;
use crate::tuple::TupleCell;

/// The parts of the source block that are the same for every record of a producer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectorInfo {
    /// Debezium's version that the record claims, such as `3.6.3.Final`.
    pub version: String,
    /// The topic prefix.
    pub name: String,
    /// The source database.
    pub db: String,
}

/// One row change to encode.
#[derive(Debug, Clone, Copy)]
pub struct RowChange<'a> {
    /// Read, create, update or delete.
    pub operation: Operation,
    /// The old row: all columns of the definition in table order.
    pub before: Option<&'a [TupleCell<'a>]>,
    /// Whether only the key's columns of `before` mean something (`K` in pgoutput). The others get Debezium's
    /// stand-ins, which nobody may read.
    pub before_is_key_only: bool,
    /// The new row: all columns of the definition in table order.
    pub after: Option<&'a [TupleCell<'a>]>,
    /// Where it comes from.
    pub source: SourceInfo<'a>,
    /// Its place in its transaction, where `provide.transaction.metadata` asks for it.
    pub transaction: Option<TransactionBlock>,
    /// The producer's clock, nanoseconds since 1970.
    pub now_ns: i64,
}

/// A row that cannot be encoded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// The definition is ahead of the row: the column may have been nullable when the row was written.
    #[error("column {column} of {table} is NULL but defined as NOT NULL")]
    NullInNotNull {
        /// The source's table.
        table: String,
        /// The column.
        column: String,
    },
    /// An unchanged TOASTed value stands in the key.
    #[error("key column {column} of {table} is an unchanged TOASTed value; set REPLICA IDENTITY FULL")]
    UnknownInKey {
        /// The source's table.
        table: String,
        /// The column.
        column: String,
    },
    /// The text is not what PostgreSQL prints for the type.
    #[error("column {column} of {table} is not a {type_name} as PostgreSQL prints it")]
    Malformed {
        /// The source's table.
        table: String,
        /// The column.
        column: String,
        /// The column's type.
        type_name: String,
    },
    /// The row does not belong to the definition.
    #[error("a row of {table} has {found} columns, its definition {expected}")]
    ColumnCount {
        /// The source's table.
        table: String,
        /// Columns in the definition.
        expected: usize,
        /// Columns in the row.
        found: usize,
    },
}

/// A table that cannot be encoded at all.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EncoderError {
    /// A key column has a type without a form in events.
    #[error("key column {column} of {table} cannot be captured: {reason}")]
    UnsupportedKey {
        /// The source's table.
        table: String,
        /// The column.
        column: String,
        /// Why.
        reason: String,
    },
}

/// The plan for one table definition. Built once, used for every row; shared between threads.
#[derive(Debug)]
pub struct TableEncoder {
    definition: Arc<TableDefinition>,
    /// The supported columns in table order.
    slots: Vec<Slot>,
    /// The key's columns in key order, as indexes into `slots`.
    key: Vec<usize>,
    key_frame: [u8; 5],
    value_frame: [u8; 5],
    source: SourceBlock,
    /// Writes JSON in the place of framed Avro.
    json: Option<JsonParts>,
}

impl TableEncoder {
    /// Compiles the plan.
    ///
    /// # Errors
    ///
    /// A key column's type is unsupported.
    pub fn new(
        definition: Arc<TableDefinition>,
        connector: &ConnectorInfo,
        key_schema_id: u32,
        value_schema_id: u32,
    ) -> Result<Self, EncoderError> {
        let (slots, key) = slots(&definition)?;
        let source = SourceBlock::new(connector, &definition);
        Ok(Self {
            definition,
            slots,
            key,
            key_frame: frame(key_schema_id),
            value_frame: frame(value_schema_id),
            source,
            json: None,
        })
    }

    /// The same plan, with masks for the definition's columns in their order; columns beyond them have none.
    #[must_use]
    pub fn with_masks(mut self, masks: &[Option<Mask>]) -> Self {
        for slot in &mut self.slots {
            slot.mask = masks.get(slot.index).cloned().flatten();
        }
        self
    }

    /// The same plan, whose keys and envelopes are JSON without schemas.
    ///
    /// # Panics
    ///
    /// Never: the schemas are those of this crate.
    #[must_use]
    pub fn as_json(mut self) -> Self {
        let parts = JsonParts::compile(&key_schema(&self.definition), &envelope_schema(&self.definition));
        self.json = Some(parts.expect("the schemas of a definition are well formed"));
        self
    }

    /// Whether keys and envelopes are JSON, without the frame of a registry's schema.
    #[must_use]
    pub fn is_json(&self) -> bool {
        self.json.is_some()
    }

    /// The definition the plan was compiled from.
    #[must_use]
    pub fn definition(&self) -> &Arc<TableDefinition> {
        &self.definition
    }

    /// Appends the key of `row` with its frame (a zero byte and the schema id), or as JSON.
    ///
    /// # Errors
    ///
    /// The row does not fit the definition; `out` then holds part of a key.
    pub fn key(&self, row: &[TupleCell<'_>], out: &mut Vec<u8>) -> Result<(), EncodeError> {
        self.check_count(row)?;
        let start = out.len();
        out.extend_from_slice(&self.key_frame);
        for slot in self.key.iter().map(|index| &self.slots[*index]) {
            self.write_known(slot, row[slot.index], out)?;
        }
        if let Some(json) = &self.json {
            replace(start, &json.key, out);
        }
        Ok(())
    }

    /// Appends the envelope with its frame, and sets `header.unchanged` and `header.texts`; the rest of the header is
    /// the caller's. An unchanged TOASTed column of `after` is taken from `before` where that holds it.
    ///
    /// `header.texts` gets a value's own text where the Avro form says less: `timetz` outside UTC, `interval` with
    /// months or days, `NaN` and infinities of `numeric` (null, or zero where null cannot be), trailing zeros of
    /// `numeric` without a scale, a scale that is negative or beyond the precision, `varbit` shorter than declared,
    /// times that ISO 8601 with four digits of year or 64 bits of microseconds do not reach, infinite `timestamp(3)`,
    /// `money` of other locales, and arrays of several dimensions, with another lower bound than 1, or with such
    /// elements. A column of a key-only `before` outside the key has none.
    ///
    /// # Errors
    ///
    /// The row does not fit the definition; `out` then holds part of an envelope.
    pub fn envelope(&self, change: &RowChange<'_>, out: &mut Vec<u8>, header: &mut Header) -> Result<(), EncodeError> {
        header.unchanged.clear();
        header.texts.clear();
        let start = out.len();
        out.extend_from_slice(&self.value_frame);
        match change.before {
            Some(row) => {
                out.push(2);
                self.write_before(row, change.before_is_key_only, out, header)?;
            }
            None => out.push(0),
        }
        match change.after {
            Some(row) => {
                out.push(2);
                self.write_after(row, change, out, header)?;
            }
            None => out.push(0),
        }
        self.write_tail(change.operation, &change.source, change.transaction, change.now_ns, out);
        if let Some(json) = &self.json {
            replace(start, &json.value, out);
        }
        Ok(())
    }

    /// Appends a truncate's envelope with its frame; its key is null.
    pub fn truncate(
        &self,
        source: &SourceInfo<'_>,
        transaction: Option<TransactionBlock>,
        now_ns: i64,
        out: &mut Vec<u8>,
    ) {
        let start = out.len();
        out.extend_from_slice(&self.value_frame);
        out.extend_from_slice(&[0, 0]);
        self.write_tail(Operation::Truncate, source, transaction, now_ns, out);
        if let Some(json) = &self.json {
            replace(start, &json.value, out);
        }
    }

    /// Appends the key of `row` as JSON text, the form of the headers `__debezium.newkey` and `__debezium.oldkey`.
    ///
    /// # Errors
    ///
    /// The row does not fit the definition; `out` then holds part of a key.
    pub fn key_json(&self, row: &[TupleCell<'_>], out: &mut Vec<u8>) -> Result<(), EncodeError> {
        self.check_count(row)?;
        let mut text = String::from("{");
        let mut value = Vec::new();
        for slot in self.key.iter().map(|index| &self.slots[*index]) {
            if text.len() > 1 {
                text.push(',');
            }
            json::string(&self.definition.columns[slot.index].field, &mut text);
            text.push(':');
            value.clear();
            let masked;
            let cell = match &slot.mask {
                Some(mask) => {
                    masked = self.masked(slot, mask, row[slot.index])?;
                    masked.cell()
                }
                None => row[slot.index],
            };
            match cell {
                TupleCell::Text(cell) if self.write_text(slot, cell, &mut value)? != Fidelity::Absent => {
                    json::key_value(&slot.form, cell, slot.without_branch(&value), &mut text);
                }
                TupleCell::Unchanged => return Err(self.unknown_in_key(slot)),
                TupleCell::Null | TupleCell::Text(_) => text.push_str("null"),
            }
        }
        text.push('}');
        out.extend_from_slice(text.as_bytes());
        Ok(())
    }

    fn write_before(
        &self,
        row: &[TupleCell<'_>],
        key_only: bool,
        out: &mut Vec<u8>,
        header: &mut Header,
    ) -> Result<(), EncodeError> {
        self.check_count(row)?;
        for slot in &self.slots {
            // A replica identity may have more columns than the key; what it lacks comes as NULL.
            let known = slot.in_key || matches!(row[slot.index], TupleCell::Text(_));
            if key_only && !known {
                out.extend_from_slice(&slot.stand_in);
            } else {
                self.write_cell(slot, row[slot.index], Image::Before, out, header)?;
            }
        }
        Ok(())
    }

    fn write_after(
        &self,
        row: &[TupleCell<'_>],
        change: &RowChange<'_>,
        out: &mut Vec<u8>,
        header: &mut Header,
    ) -> Result<(), EncodeError> {
        self.check_count(row)?;
        for slot in &self.slots {
            let cell = match (row[slot.index], change.before) {
                (TupleCell::Unchanged, Some(before)) if slot.in_key || !change.before_is_key_only => before[slot.index],
                (cell, _) => cell,
            };
            self.write_cell(slot, cell, Image::After, out, header)?;
            // Asterisks are the same whatever they hide.
            if cell == TupleCell::Unchanged && !matches!(slot.mask, Some(Mask::Asterisks(_))) {
                header.unchanged.push(slot.number);
            }
        }
        Ok(())
    }

    #[inline]
    fn write_cell(
        &self,
        slot: &Slot,
        cell: TupleCell<'_>,
        image: Image,
        out: &mut Vec<u8>,
        header: &mut Header,
    ) -> Result<(), EncodeError> {
        let masked;
        let cell = match &slot.mask {
            Some(mask) => {
                masked = self.masked(slot, mask, cell)?;
                masked.cell()
            }
            None => cell,
        };
        match cell {
            TupleCell::Text(text) => {
                if self.write_text(slot, text, out)? != Fidelity::Exact {
                    let text = String::from_utf8(text.to_vec()).map_err(|_| self.malformed(slot))?;
                    header.texts.push(SourceText { image, column: slot.number, text });
                }
                Ok(())
            }
            TupleCell::Null => self.write_null(slot, out),
            TupleCell::Unchanged => {
                out.extend_from_slice(&slot.placeholder);
                Ok(())
            }
        }
    }

    #[cold]
    fn masked(&self, slot: &Slot, mask: &Mask, cell: TupleCell<'_>) -> Result<Masked, EncodeError> {
        let text = match cell {
            TupleCell::Text(text) => Some(std::str::from_utf8(text).map_err(|_| self.malformed(slot))?),
            TupleCell::Unchanged if !matches!(mask, Mask::Asterisks(_)) => return Ok(Masked::Unchanged),
            TupleCell::Null | TupleCell::Unchanged => None,
        };
        Ok(mask.apply(text).map_or(Masked::Null, Masked::Text))
    }

    /// A value of a key, which has no header and no placeholder.
    fn write_known(&self, slot: &Slot, cell: TupleCell<'_>, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let masked;
        let cell = match &slot.mask {
            Some(mask) => {
                masked = self.masked(slot, mask, cell)?;
                masked.cell()
            }
            None => cell,
        };
        match cell {
            TupleCell::Text(text) => self.write_text(slot, text, out).map(|_| ()),
            TupleCell::Null => self.write_null(slot, out),
            TupleCell::Unchanged => Err(self.unknown_in_key(slot)),
        }
    }

    #[inline]
    fn write_text(&self, slot: &Slot, text: &[u8], out: &mut Vec<u8>) -> Result<Fidelity, EncodeError> {
        let branch = out.len();
        out.extend_from_slice(slot.union.value());
        let fidelity = cell::write(&slot.form, text, out).map_err(|_| self.malformed(slot))?;
        if fidelity == Fidelity::Absent {
            out.truncate(branch);
            match slot.union.null() {
                Some(null) => out.push(null),
                None => cell::write_zero(&slot.form, out),
            }
        }
        Ok(fidelity)
    }

    fn write_null(&self, slot: &Slot, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let Some(null) = slot.union.null() else {
            let column = self.definition.columns[slot.index].name.clone();
            return Err(EncodeError::NullInNotNull { table: self.definition.qualified_name(), column });
        };
        out.push(null);
        Ok(())
    }

    fn write_tail(
        &self,
        operation: Operation,
        source: &SourceInfo<'_>,
        transaction: Option<TransactionBlock>,
        now_ns: i64,
        out: &mut Vec<u8>,
    ) {
        self.source.write(source, out);
        TransactionBlock::write(transaction, out);
        write::bytes(out, operation.code().as_bytes());
        source::write_clocks(now_ns, out);
    }

    fn check_count(&self, row: &[TupleCell<'_>]) -> Result<(), EncodeError> {
        let (expected, found) = (self.definition.columns.len(), row.len());
        if expected == found {
            return Ok(());
        }
        Err(EncodeError::ColumnCount { table: self.definition.qualified_name(), expected, found })
    }

    #[cold]
    fn malformed(&self, slot: &Slot) -> EncodeError {
        let column = &self.definition.columns[slot.index];
        EncodeError::Malformed {
            table: self.definition.qualified_name(),
            column: column.name.clone(),
            type_name: column.column_type.format.clone(),
        }
    }

    #[cold]
    fn unknown_in_key(&self, slot: &Slot) -> EncodeError {
        let column = self.definition.columns[slot.index].name.clone();
        EncodeError::UnknownInKey { table: self.definition.qualified_name(), column }
    }
}

/// A cell behind its column's mask.
enum Masked {
    Null,
    Unchanged,
    Text(String),
}

impl Masked {
    fn cell(&self) -> TupleCell<'_> {
        match self {
            Self::Null => TupleCell::Null,
            Self::Unchanged => TupleCell::Unchanged,
            Self::Text(text) => TupleCell::Text(text.as_bytes()),
        }
    }
}

/// Puts the JSON of the framed Avro data from `start` on in its place.
#[inline(never)]
pub(super) fn replace(start: usize, writer: &JsonWriter, out: &mut Vec<u8>) {
    let framed = out.split_off(start);
    writer.write(&framed[FRAME..], out).expect("the data were written for the schema");
}

/// Bytes of [`frame`].
const FRAME: usize = 5;

/// Confluent's frame: a zero byte and the schema's id.
pub(super) fn frame(schema_id: u32) -> [u8; 5] {
    let [a, b, c, d] = schema_id.to_be_bytes();
    [0, a, b, c, d]
}
