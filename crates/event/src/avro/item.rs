//! The plan of one value: how it stands in the bytes, and what it becomes.

use std::sync::Arc;

use super::array::ArrayValue;
use super::extension::{SparseVectorRead, SpatialValue};
use super::map::MapValue;
use super::reader::{Problem, Reader};
use super::record::{RecordRead, Wanted};
use super::semantic::{self, Meaning, Unit, is_vector, meaning};
use super::skip::SkipTable;
use super::value::{BytesText, Value};
use super::writer_schema::{Branches, NodeId, Shape, WriterSchema};
use crate::handling::BinaryHandling;

/// A value that may be null.
#[derive(Debug)]
pub(crate) struct Item {
    branches: Branches,
    read: Read,
}

/// A value that is there.
#[derive(Debug)]
enum Read {
    Boolean,
    Int,
    Long,
    Float,
    Double,
    Text,
    BytesText(BinaryHandling),
    TextWithoutZone,
    Symbol(Box<[Box<str>]>),
    Bytes,
    Fixed(usize),
    Decimal(i32),
    FixedDecimal { length: usize, scale: i32 },
    VariableScaleDecimal(Box<RecordRead>),
    Date,
    Time(Unit),
    Timestamp(Unit),
    ZonedTimestamp,
    ZonedTime,
    Duration(Unit),
    Bits(i32),
    Point(Box<RecordRead>),
    Array(Box<Item>),
    TextMap(Box<Item>),
    Spatial(Box<RecordRead>),
    SparseVector(Box<SparseVectorRead>),
}

impl Item {
    /// Compiles the plan of a type. The error names the type that has no meaning here.
    pub(crate) fn compile(schema: &WriterSchema, id: NodeId, skips: &Arc<SkipTable>) -> Result<Self, String> {
        let Some((branches, id)) = schema.strip_null(id) else {
            return Err("a union other than of one type and null".into());
        };
        Ok(Self { branches, read: Read::compile(schema, id, skips)? })
    }

    /// The texts of this plan, or of the elements of its array, are bytes.
    pub(super) fn take_texts_for_bytes(&mut self, encoding: BinaryHandling) {
        match &mut self.read {
            read @ Read::Text => *read = Read::BytesText(encoding),
            Read::Array(element) => element.take_texts_for_bytes(encoding),
            _ => {}
        }
    }

    /// Reads a value, which has at least one byte.
    #[inline]
    pub(crate) fn read<'a>(&'a self, reader: &mut Reader<'a>) -> Result<Value<'a>, Problem> {
        if is_null(self.branches, reader)? { Ok(Value::Null) } else { self.read.value(reader) }
    }
}

/// Reads the branch of a union with null, where there is one.
#[inline]
pub(crate) fn is_null(branches: Branches, reader: &mut Reader<'_>) -> Result<bool, Problem> {
    Ok(match branches {
        Branches::Bare => false,
        Branches::Single => reader.branch(1)? != 0,
        Branches::NullFirst => reader.branch(2)? == 0,
        Branches::NullLast => reader.branch(2)? == 1,
    })
}

impl Read {
    fn compile(schema: &WriterSchema, id: NodeId, skips: &Arc<SkipTable>) -> Result<Self, String> {
        let shape = &schema.node(id).shape;
        Ok(match meaning(schema, id)? {
            Meaning::Boolean => Self::Boolean,
            Meaning::Int16 | Meaning::Int32 => Self::Int,
            Meaning::Int64 => Self::Long,
            Meaning::Float32 => Self::Float,
            Meaning::Float64 => Self::Double,
            Meaning::Text | Meaning::Uuid | Meaning::Json | Meaning::Xml | Meaning::Tsvector | Meaning::Interval => {
                match shape {
                    Shape::Enum(symbols) => Self::Symbol(symbols.iter().map(|symbol| symbol.as_str().into()).collect()),
                    _ => Self::Text,
                }
            }
            Meaning::IsoDate | Meaning::IsoTime | Meaning::IsoTimestamp => Self::TextWithoutZone,
            Meaning::Bytes => match shape {
                Shape::Fixed(length) => Self::Fixed(*length),
                _ => Self::Bytes,
            },
            Meaning::Decimal { scale, .. } => match shape {
                Shape::Fixed(length) => Self::FixedDecimal { length: *length, scale },
                _ => Self::Decimal(scale),
            },
            Meaning::VariableScaleDecimal => {
                let (scale, value) = (Wanted::required("scale", "int"), Wanted::required("value", "bytes"));
                Self::VariableScaleDecimal(Box::new(RecordRead::compile(schema, id, scale, value, skips)?))
            }
            Meaning::Date => Self::Date,
            Meaning::Time(unit) => Self::Time(unit),
            Meaning::Timestamp(unit) => Self::Timestamp(unit),
            Meaning::ZonedTimestamp => Self::ZonedTimestamp,
            Meaning::ZonedTime => Self::ZonedTime,
            Meaning::Duration(unit) => Self::Duration(unit),
            Meaning::Bits(length) => Self::Bits(length),
            Meaning::Point => {
                let (x, y) = (Wanted::required("x", "double"), Wanted::required("y", "double"));
                Self::Point(Box::new(RecordRead::compile(schema, id, x, y, skips)?))
            }
            Meaning::Array(items) => {
                let element = Item::compile(schema, items, skips)?;
                // Those of our producer's `vector[]` have the source's text beside them.
                if matches!(element.read, Self::Array(_)) && !is_vector(schema, items) {
                    return Err("an array of arrays".into());
                }
                Self::Array(Box::new(element))
            }
            Meaning::Spatial(_) => {
                let (wkb, srid) = (Wanted::required("wkb", "bytes"), Wanted::optional("srid", "int"));
                Self::Spatial(Box::new(RecordRead::compile(schema, id, wkb, srid, skips)?))
            }
            Meaning::SparseVector => Self::SparseVector(Box::new(SparseVectorRead::compile(schema, id, skips)?)),
            Meaning::TextMap(values) => Self::TextMap(Box::new(Item::compile(schema, values, skips)?)),
        })
    }

    #[inline]
    fn value<'a>(&'a self, reader: &mut Reader<'a>) -> Result<Value<'a>, Problem> {
        Ok(match self {
            Self::Boolean => Value::Boolean(reader.boolean()?),
            Self::Int => Value::Integer(i64::from(reader.int()?)),
            Self::Long => Value::Integer(reader.long()?),
            Self::Float => Value::Float32(reader.float()?),
            Self::Double => Value::Float64(reader.double()?),
            Self::Text => Value::Text(reader.text()?),
            Self::BytesText(encoding) => Value::EncodedBytes(BytesText { text: reader.text()?, encoding: *encoding }),
            Self::TextWithoutZone => Value::Text(semantic::without_zone(reader.text()?)),
            Self::Symbol(symbols) => {
                let symbol = usize::try_from(reader.long()?).ok().and_then(|index| symbols.get(index));
                Value::Text(symbol.ok_or(Problem::Symbol)?)
            }
            Self::Bytes => Value::Bytes(reader.bytes()?),
            Self::Fixed(length) => Value::Bytes(reader.take(*length)?),
            Self::Decimal(scale) => Value::Decimal { unscaled: reader.bytes()?, scale: *scale },
            Self::FixedDecimal { length, scale } => Value::Decimal { unscaled: reader.take(*length)?, scale: *scale },
            Self::VariableScaleDecimal(record) => {
                let (scale, unscaled) = record.read(reader, Reader::int, Reader::bytes)?;
                Value::Decimal { unscaled, scale }
            }
            Self::Date => semantic::date(reader.int()?),
            Self::Time(unit) => Value::Time(semantic::micros(*unit, reader.long()?)?),
            Self::Timestamp(unit) => semantic::timestamp(*unit, reader.long()?)?,
            Self::ZonedTimestamp => Value::ZonedTimestamp(reader.text()?),
            Self::ZonedTime => Value::ZonedTime(reader.text()?),
            Self::Duration(unit) => Value::Duration(semantic::micros(*unit, reader.long()?)?),
            Self::Bits(length) => Value::Bits { bytes: reader.bytes()?, length: *length },
            Self::Point(record) => {
                let (x, y) = record.read(reader, Reader::double, Reader::double)?;
                Value::Point { x, y }
            }
            Self::Array(element) => Value::Array(ArrayValue::read(element, reader)?),
            Self::Spatial(record) => {
                let (wkb, srid) = record.read(reader, Reader::bytes, |reader| reader.int().map(Some))?;
                Value::Spatial(SpatialValue { wkb, srid })
            }
            Self::SparseVector(plan) => Value::SparseVector(plan.read(reader)?),
            Self::TextMap(value) => Value::Map(MapValue::read(value, reader)?),
        })
    }
}
