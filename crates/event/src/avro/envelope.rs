//! A decoded envelope: operation and row images, completed by the record's header.

use crate::header::{Header, Image};
use crate::operation::Operation;

use super::value::Value;

pub use crate::handling::DEFAULT_PLACEHOLDER as PLACEHOLDER;

/// `java.util.UUID.nameUUIDFromBytes` of the placeholder: the element of an unavailable `uuid[]`.
const PLACEHOLDER_UUID: &str = "b68a35a7-17ad-35b3-af2a-ae46edb4545a";

/// What stands for an unavailable `hstore` in its JSON form.
const PLACEHOLDER_HSTORE: &str = r#"{"__debezium_unavailable_value":"__debezium_unavailable_value"}"#;

/// One row image.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RowImage<'a> {
    /// Whether the envelope has the image.
    pub present: bool,
    /// One value a column of the table definition; empty where the image is not present.
    pub values: Vec<Value<'a>>,
}

/// A decoded envelope. Meant to be reused: see [`Envelope::recycle`].
#[derive(Debug, Clone, PartialEq)]
pub struct Envelope<'a> {
    /// What happened to the row.
    pub operation: Operation,
    /// The row before. With replica identity `DEFAULT` only its key columns are data, the others are made up.
    pub before: RowImage<'a>,
    /// The row after.
    pub after: RowImage<'a>,
    /// When the source committed: `source.ts_us`, else `source.ts_ms` in microseconds since 1970, else 0.
    pub source_ts_us: i64,
}

/// A header that names a column the record does not have: it belongs to another table definition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "syncline header names column {column}, the row image has {width}; the record's table definition is not the one it was decoded with"
)]
pub struct HeaderMismatch {
    /// The index in the header.
    pub column: u16,
    /// How many columns the image has.
    pub width: usize,
}

impl Default for Envelope<'_> {
    fn default() -> Self {
        Self { operation: Operation::Read, before: RowImage::default(), after: RowImage::default(), source_ts_us: 0 }
    }
}

impl<'a> Envelope<'a> {
    /// An empty envelope to decode into.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The same allocations for records of another lifetime.
    #[must_use]
    pub fn recycle<'b>(self) -> Envelope<'b> {
        Envelope {
            operation: self.operation,
            before: self.before.recycle(),
            after: self.after.recycle(),
            source_ts_us: self.source_ts_us,
        }
    }

    /// Puts in what the record's header says: unknown values of the new row, and the source's own texts.
    ///
    /// # Errors
    ///
    /// The header names a column the images do not have.
    pub fn apply_header(&mut self, header: &'a Header) -> Result<(), HeaderMismatch> {
        for &column in &header.unchanged {
            *self.after.column(column)? = Value::Unknown;
        }
        for text in &header.texts {
            let image = match text.image {
                Image::After => &mut self.after,
                Image::Before => &mut self.before,
            };
            *image.column(text.column)? = Value::SourceText(&text.text);
        }
        Ok(())
    }

    /// For a record without our header: turns Debezium's placeholder for unchanged TOASTed values into
    /// [`Value::Unknown`]. User data equal to the placeholder cannot be told apart.
    ///
    /// Source: `io.debezium.connector.postgresql.UnchangedToastedPlaceholder`.
    pub fn apply_placeholder(&mut self) {
        for value in self.before.values.iter_mut().chain(&mut self.after.values) {
            if is_placeholder(value) {
                *value = Value::Unknown;
            }
        }
    }
}

impl<'a> RowImage<'a> {
    /// The same allocation for values of another lifetime.
    #[must_use]
    pub fn recycle<'b>(mut self) -> RowImage<'b> {
        RowImage { present: false, values: recycle(std::mem::take(&mut self.values)) }
    }

    pub(super) fn clear(&mut self) {
        self.present = false;
        self.values.clear();
    }

    fn column(&mut self, column: u16) -> Result<&mut Value<'a>, HeaderMismatch> {
        let width = self.values.len();
        self.values.get_mut(usize::from(column)).ok_or(HeaderMismatch { column, width })
    }
}

fn is_placeholder(value: &Value<'_>) -> bool {
    match value {
        Value::Text(text) => *text == PLACEHOLDER || *text == PLACEHOLDER_HSTORE,
        Value::Bytes(bytes) => *bytes == PLACEHOLDER.as_bytes(),
        Value::Map(map) => map.to_json() == PLACEHOLDER_HSTORE,
        Value::Array(array) if array.len() == 1 => array.iter().all(|element| match element {
            Value::Text(text) => text == PLACEHOLDER || text == PLACEHOLDER_UUID,
            Value::Bytes(bytes) => bytes == PLACEHOLDER.as_bytes(),
            _ => false,
        }),
        // Arrays of numbers and of dates hold the text's bytes one by one.
        Value::Array(array) if array.len() == PLACEHOLDER.len() => {
            array.iter().zip(PLACEHOLDER.bytes()).all(|(element, byte)| match element {
                Value::Integer(number) => number == i64::from(byte),
                Value::Date(days) => days == i32::from(byte),
                _ => false,
            })
        }
        _ => false,
    }
}

/// The same allocation, empty, for values of another lifetime: collecting a vector's own iterator into the same
/// element layout happens in place.
#[must_use]
pub fn recycle<'b>(mut values: Vec<Value<'_>>) -> Vec<Value<'b>> {
    values.clear();
    values.into_iter().map(|_| Value::Null).collect()
}
