//! Rows that were read by COPY, encoded as Debezium's events.

use std::ops::Range;

use syncline_event::avro::encode::{RowChange, SourceInfo, TableEncoder};
use syncline_event::header::{Header, SourceText};
use syncline_event::operation::Operation;
use syncline_event::position::Position;
use syncline_event::table::TableDefinition;
use syncline_event::tuple::TupleCell;

use crate::clock;
use crate::error::ProducerError;
use crate::sources::postgres::copy::MalformedRow;

/// Where a row's key and value lie in its chunk, and what its header has to carry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodedRow {
    /// The key's bytes.
    pub key: Range<usize>,
    /// The envelope's bytes.
    pub value: Range<usize>,
    /// Values in the source's own text.
    pub texts: Vec<SourceText>,
}

/// The cells of a copied row in the order of the definition's columns: generated columns are not copied.
///
/// # Errors
///
/// The row has too few fields.
pub fn arrange<'a>(
    definition: &TableDefinition,
    mut copied: impl Iterator<Item = TupleCell<'a>>,
) -> Result<Vec<TupleCell<'a>>, MalformedRow> {
    let cells = definition
        .columns
        .iter()
        .map(|column| if column.generated.is_some() { Some(TupleCell::Null) } else { copied.next() });
    cells.collect::<Option<_>>().ok_or(MalformedRow)
}

/// Appends the key and the envelope (op `r`) of a row to `bytes`.
///
/// # Errors
///
/// A value that cannot be encoded.
pub fn encode_read(
    definition: &TableDefinition,
    encoder: &TableEncoder,
    cells: &[TupleCell<'_>],
    source: SourceInfo<'_>,
    bytes: &mut Vec<u8>,
) -> Result<EncodedRow, ProducerError> {
    let change = RowChange {
        operation: Operation::Read,
        before: None,
        before_is_key_only: false,
        after: Some(cells),
        source,
        transaction: None,
        now_ns: clock::now_ns(),
    };
    let failed = |error| ProducerError::encode(&definition.qualified_name(), &error);
    // The publisher gives the position; here the header only collects the texts.
    let mut header = Header::new(Position::opening(0), definition.number);
    let key = bytes.len();
    encoder.key(cells, bytes).map_err(failed)?;
    let value = bytes.len();
    encoder.envelope(&change, bytes, &mut header).map_err(failed)?;
    Ok(EncodedRow { key: key..value, value: value..bytes.len(), texts: header.texts })
}
