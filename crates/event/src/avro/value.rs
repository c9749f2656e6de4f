//! A decoded value: borrowed from the record, typed by what the event means, ignorant of any target.

use super::base64;
use crate::handling::BinaryHandling;

/// Bytes as text in an encoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BytesText<'a> {
    pub(super) text: &'a str,
    pub(super) encoding: BinaryHandling,
}

impl BytesText<'_> {
    /// Appends the bytes; `None` where the text is not in its encoding, and `out` then holds part of them.
    pub fn decode(&self, out: &mut Vec<u8>) -> Option<()> {
        match self.encoding {
            BinaryHandling::Base64 => base64::decode(self.text.as_bytes(), false, out),
            BinaryHandling::Base64UrlSafe => base64::decode(self.text.as_bytes(), true, out),
            BinaryHandling::Bytes | BinaryHandling::Hex => {
                let (pairs, []) = self.text.as_bytes().as_chunks::<2>() else { return None };
                for [high, low] in pairs {
                    let nibble = |digit: u8| char::from(digit).to_digit(16);
                    out.push((nibble(*high)? << 4 | nibble(*low)?) as u8);
                }
                Some(())
            }
        }
    }
}

/// One column's value in one row image.
///
/// What reads it knows the column from the table definition; the variants say how the bytes are to be understood.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value<'a> {
    /// NULL.
    Null,
    /// Not in the event: an unchanged TOASTed value. The target's value stays.
    Unknown,
    /// A boolean.
    Boolean(bool),
    /// An integer of up to 64 bits.
    Integer(i64),
    /// A 32-bit float.
    Float32(f32),
    /// A 64-bit float.
    Float64(f64),
    /// Text, also JSON, XML, UUID, enum labels and network addresses: whatever PostgreSQL prints for the value.
    Text(&'a str),
    /// Raw bytes (`bytea`).
    Bytes(&'a [u8]),
    /// Raw bytes as text, under another `binary.handling.mode` than `bytes`.
    EncodedBytes(BytesText<'a>),
    /// `unscaled × 10^-scale`; `unscaled` is big-endian two's complement.
    Decimal {
        /// The unscaled value, big-endian two's complement, possibly empty (zero).
        unscaled: &'a [u8],
        /// Digits behind the point.
        scale: i32,
    },
    /// Days since 1970-01-01. Debezium's infinities are `Text("infinity")` and `Text("-infinity")`.
    Date(i32),
    /// Microseconds since midnight.
    Time(i64),
    /// Microseconds since 1970-01-01 00:00:00 without a zone. Infinities are text, as for dates.
    Timestamp(i64),
    /// Milliseconds since 1970-01-01 00:00:00, of a time so late that its microseconds do not fit: the last 29 years of
    /// PostgreSQL's calendar, which counts from 2000.
    TimestampMillis(i64),
    /// `io.debezium.time.ZonedTimestamp`: ISO 8601 text in UTC, or `infinity`, `-infinity`.
    ZonedTimestamp(&'a str),
    /// `io.debezium.time.ZonedTime`: ISO 8601 text in UTC.
    ZonedTime(&'a str),
    /// `io.debezium.time.MicroDuration`: microseconds. From our producer it is a time alone, `26:00:00`; an interval
    /// with months or days is a [`Self::SourceText`].
    Duration(i64),
    /// `io.debezium.data.Bits`: little-endian bytes with trailing zero bytes cut; `length` is the declared length
    /// (`i32::MAX` for an unbounded `varbit`).
    Bits {
        /// The bytes.
        bytes: &'a [u8],
        /// The declared number of bits.
        length: i32,
    },
    /// `io.debezium.data.geometry.Point`.
    Point {
        /// First coordinate.
        x: f64,
        /// Second coordinate.
        y: f64,
    },
    /// PostGIS's `geometry` or `geography`.
    Spatial(super::decode::SpatialValue<'a>),
    /// pgvector's `sparsevec`.
    SparseVector(super::decode::SparseVectorValue<'a>),
    /// An array: the undecoded Avro blocks with the plan of the element at hand; see [`super::decode`].
    Array(super::decode::ArrayValue<'a>),
    /// A map from text to text or null.
    Map(super::decode::MapValue<'a>),
    /// The source's own text of the value, from the header; takes the place of a form that cannot be turned back.
    SourceText(&'a str),
}
