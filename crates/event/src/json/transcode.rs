//! JSON data into the Avro bytes of the same values, field by field along the schema.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::ops::Range;

use serde::Deserializer;
use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::avro::text::decimal::{self, Numeric};
use crate::avro::write;
use crate::avro::writer_schema::{Branches, Field, Node, NodeId, Shape, WriterSchema};

use super::MAP_ENTRY;

const DECIMAL: &str = "org.apache.kafka.connect.data.Decimal";

/// What is wrong with the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// Not JSON, or not whole.
    #[error("the JSON text is malformed or cut off")]
    Malformed,
    /// Another kind of JSON than the schema says.
    #[error("the value is not of the type that the schema says")]
    Type,
    /// A null that the schema does not allow.
    #[error("the value is null, and the schema does not allow it")]
    Null,
    /// A field that the schema has and the data lack.
    #[error("the field is missing")]
    Missing,
    /// A number outside its type.
    #[error("the number is outside the range of its type")]
    Range,
    /// Text that is no Base64.
    #[error("the text is no base64")]
    Base64,
    /// A field that the schema lacks.
    #[error("the field is no column of the table that tells the types")]
    Unknown,
    /// A decimal with more digits than the schema says.
    #[error("the decimal does not fit the scale that the schema says")]
    Scale,
}

/// Data that do not fit their schema. Names the place, not the value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{problem}", place(field))]
pub struct Misfit {
    /// The field, such as `after.price`; empty where the whole is meant.
    pub field: String,
    /// What is wrong.
    pub problem: Problem,
}

fn place(field: &str) -> String {
    if field.is_empty() { String::new() } else { format!("field {field}: ") }
}

/// Writes data of one schema. Compiled once a schema.
#[derive(Debug)]
pub struct Transcoder {
    schema: WriterSchema,
    /// The record whose fields the data have to have, all of them and no others.
    exact: Option<NodeId>,
}

impl Transcoder {
    /// Takes the schema in its Avro form.
    ///
    /// # Errors
    ///
    /// It is none.
    pub fn compile(avro_schema: &str) -> Result<Self, String> {
        Ok(Self { schema: WriterSchema::parse(avro_schema)?, exact: None })
    }

    /// The same for data that came without a schema: rows (the records `before` and `after`) must have every field of
    /// the schema and no other, since nobody said that these are theirs.
    #[must_use]
    pub fn with_exact_rows(mut self) -> Self {
        let (_, fields) = self.schema.record(self.schema.root).unwrap_or_default();
        let row = fields.iter().find(|field| field.name == "after").map(|field| field.node);
        self.exact = row.and_then(|row| self.schema.strip_null(row)).map(|(_, record)| record);
        self
    }

    /// Replaces `out` by the Avro bytes of `payload`. Fields that the schema lacks are passed over; optional ones that
    /// the data lack are null.
    ///
    /// # Errors
    ///
    /// The data do not fit the schema; `out` is then in an unspecified state.
    pub fn transcode(&self, payload: &[u8], out: &mut Vec<u8>) -> Result<(), Misfit> {
        out.clear();
        let faults = Faults::default();
        let mut json = serde_json::Deserializer::from_slice(payload);
        let seed = Seed { of: self, node: self.schema.root, faults: &faults, out };
        let result = seed.deserialize(&mut json).and_then(|()| json.end());
        result.map_err(|_| {
            let mut path = faults.path.into_inner();
            path.reverse();
            Misfit { field: path.join("."), problem: faults.problem.get().unwrap_or(Problem::Malformed) }
        })
    }
}

/// Where it went wrong. The JSON library's own messages show values.
#[derive(Default)]
struct Faults {
    path: RefCell<Vec<String>>,
    problem: Cell<Option<Problem>>,
}

impl Faults {
    fn because<E: serde::de::Error>(&self, problem: Problem) -> E {
        self.problem.set(self.problem.get().or(Some(problem)));
        E::custom("misfit")
    }

    fn within<E>(&self, name: &str, error: E) -> E {
        self.path.borrow_mut().push(name.to_owned());
        error
    }
}

struct Seed<'a> {
    of: &'a Transcoder,
    node: NodeId,
    faults: &'a Faults,
    out: &'a mut Vec<u8>,
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        let Self { of, node, faults, out } = self;
        let (branches, node) = of.schema.strip_null(node).ok_or_else(|| faults.because(Problem::Type))?;
        let start = out.len();
        let null = match branches {
            Branches::Bare => None,
            Branches::Single => {
                out.push(0);
                None
            }
            Branches::NullFirst => {
                out.push(2);
                Some(0)
            }
            Branches::NullLast => {
                out.push(0);
                Some(2)
            }
        };
        if is_decimal(of.schema.node(node)) {
            return decimal(of.schema.node(node), null.map(|null| (start, null)), deserializer, faults, out);
        }
        deserializer.deserialize_any(ValueVisitor { of, node, null: null.map(|null| (start, null)), faults, out })
    }
}

fn is_decimal(node: &Node) -> bool {
    node.connect_name.as_deref() == Some(DECIMAL) && matches!(node.shape, Shape::Bytes)
}

/// A decimal in either of the converter's forms: Base64 of the unscaled number, or a JSON number, whose digits count.
fn decimal<'de, D: Deserializer<'de>>(
    node: &Node,
    null: Option<(usize, u8)>,
    deserializer: D,
    faults: &Faults,
    out: &mut Vec<u8>,
) -> Result<(), D::Error> {
    let raw: &RawValue = serde::Deserialize::deserialize(deserializer)?;
    let raw = raw.get().trim();
    if raw == "null" {
        return write_null(null, out).ok_or_else(|| faults.because(Problem::Null));
    }
    if let Some(text) = raw.strip_prefix('"').and_then(|raw| raw.strip_suffix('"')) {
        // JSON may escape the solidus.
        let text = text.replace("\\/", "/");
        return base64(text.as_bytes(), out).ok_or_else(|| faults.because(Problem::Base64));
    }
    let scale = node.parameter("scale").and_then(|scale| scale.parse().ok()).unwrap_or(0);
    match decimal::numeric(raw.as_bytes()) {
        Ok(Numeric::Finite(number)) => number.write(scale, out).ok_or_else(|| faults.because(Problem::Scale)),
        _ => Err(faults.because(Problem::Type)),
    }
}

fn base64(text: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let start = out.len();
    crate::avro::base64::decode(text, false, out)?;
    let end = out.len();
    // The length is known only now, and comes first.
    write::length(out, end - start);
    let length = out.len() - end;
    out[start..].rotate_right(length);
    Some(())
}

/// Takes back what was written for a value that is null.
fn write_null(null: Option<(usize, u8)>, out: &mut Vec<u8>) -> Option<()> {
    let (start, branch) = null?;
    out.truncate(start);
    out.push(branch);
    Some(())
}

struct ValueVisitor<'a> {
    of: &'a Transcoder,
    /// Not a union.
    node: NodeId,
    /// Where the union's branch stands, and what it is for null.
    null: Option<(usize, u8)>,
    faults: &'a Faults,
    out: &'a mut Vec<u8>,
}

impl ValueVisitor<'_> {
    fn float<E: serde::de::Error>(self, value: f64) -> Result<(), E> {
        match self.of.schema.node(self.node).shape {
            Shape::Double => write::double(self.out, value),
            // The digits were those of a float, so nothing is lost.
            Shape::Float => self.out.extend_from_slice(&(value as f32).to_le_bytes()),
            _ => return Err(self.faults.because(Problem::Type)),
        }
        Ok(())
    }
}

impl<'de> Visitor<'de> for ValueVisitor<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value of the schema's type")
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<(), E> {
        if matches!(self.of.schema.node(self.node).shape, Shape::Null) {
            return Ok(());
        }
        write_null(self.null, self.out).ok_or_else(|| self.faults.because(Problem::Null))
    }

    fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<(), E> {
        match self.of.schema.node(self.node).shape {
            Shape::Boolean => self.out.push(u8::from(value)),
            _ => return Err(self.faults.because(Problem::Type)),
        }
        Ok(())
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<(), E> {
        match self.of.schema.node(self.node).shape {
            Shape::Int if i32::try_from(value).is_err() => return Err(self.faults.because(Problem::Range)),
            Shape::Int | Shape::Long => write::long(self.out, value),
            Shape::Float | Shape::Double => return self.float(value as f64),
            _ => return Err(self.faults.because(Problem::Type)),
        }
        Ok(())
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<(), E> {
        match (i64::try_from(value), &self.of.schema.node(self.node).shape) {
            (Ok(value), _) => self.visit_i64(value),
            (Err(_), Shape::Float | Shape::Double) => self.float(value as f64),
            (Err(_), _) => Err(self.faults.because(Problem::Range)),
        }
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<(), E> {
        self.float(value)
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<(), E> {
        match (&self.of.schema.node(self.node).shape, text) {
            (Shape::String, text) => write::bytes(self.out, text.as_bytes()),
            (Shape::Bytes, text) => {
                return base64(text.as_bytes(), self.out).ok_or_else(|| self.faults.because(Problem::Base64));
            }
            // What JSON has no number for.
            (Shape::Float | Shape::Double, "NaN") => return self.float(f64::NAN),
            (Shape::Float | Shape::Double, "Infinity") => return self.float(f64::INFINITY),
            (Shape::Float | Shape::Double, "-Infinity") => return self.float(f64::NEG_INFINITY),
            _ => return Err(self.faults.because(Problem::Type)),
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let Self { of, node, faults, out, .. } = self;
        let element = match &of.schema.node(node).shape {
            Shape::Array(element) => *element,
            Shape::Record { name, fields } if name == MAP_ENTRY => {
                for field in fields {
                    let part = items.next_element_seed(Seed { of, node: field.node, faults, out })?;
                    part.ok_or_else(|| faults.because(Problem::Missing))?;
                }
                return match items.next_element::<IgnoredAny>()? {
                    None => Ok(()),
                    Some(_) => Err(faults.because(Problem::Type)),
                };
            }
            _ => return Err(faults.because(Problem::Type)),
        };
        // Their number is not known before the end, so each is a block of its own.
        loop {
            let start = out.len();
            write::length(out, 1);
            if items.next_element_seed(Seed { of, node: element, faults, out })?.is_none() {
                out.truncate(start);
                out.push(0);
                return Ok(());
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<(), A::Error> {
        match &self.of.schema.node(self.node).shape {
            Shape::Map(values) => self.map(*values, map),
            Shape::Record { fields, .. } => self.record(fields, map),
            _ => Err(self.faults.because(Problem::Type)),
        }
    }
}

impl ValueVisitor<'_> {
    fn map<'de, A: MapAccess<'de>>(self, values: NodeId, mut map: A) -> Result<(), A::Error> {
        let Self { of, faults, out, .. } = self;
        while let Some(name) = map.next_key::<std::borrow::Cow<'de, str>>()? {
            write::length(out, 1);
            write::bytes(out, name.as_bytes());
            map.next_value_seed(Seed { of, node: values, faults, out })?;
        }
        out.push(0);
        Ok(())
    }

    /// The converter writes fields in the schema's order; others are put into it at the end.
    fn record<'de, A: MapAccess<'de>>(self, fields: &[Field], mut map: A) -> Result<(), A::Error> {
        let Self { of, node, faults, out, .. } = self;
        let is_exact = of.exact == Some(node);
        let start = out.len();
        let mut next = 0;
        let mut strays: Vec<(usize, Range<usize>)> = Vec::new();
        while let Some(found) = map.next_key_seed(FieldName { fields, next })? {
            let index = match found {
                Ok(index) => index,
                Err(name) if is_exact => return Err(faults.within(&name, faults.because(Problem::Unknown))),
                Err(_) => {
                    map.next_value::<IgnoredAny>()?;
                    continue;
                }
            };
            let (at, field) = (out.len(), &fields[index]);
            let value = map.next_value_seed(Seed { of, node: field.node, faults, out });
            value.map_err(|error| faults.within(&field.name, error))?;
            if index == next && strays.is_empty() {
                next += 1;
            } else {
                strays.push((index, at..out.len()));
            }
        }
        if next == fields.len() {
            return Ok(());
        }
        let in_order = strays.first().map_or(out.len(), |(_, first)| first.start);
        let written = out.split_off(in_order);
        for (index, field) in fields.iter().enumerate().skip(next) {
            // Of a name that occurs twice, the last one counts.
            match strays.iter().rfind(|(stray, _)| *stray == index) {
                Some((_, range)) => out.extend_from_slice(&written[range.start - in_order..range.end - in_order]),
                None if is_exact => return Err(faults.within(&field.name, faults.because(Problem::Missing))),
                None => match of.schema.strip_null(field.node) {
                    Some((Branches::NullFirst, _)) => out.push(0),
                    Some((Branches::NullLast, _)) => out.push(2),
                    _ => return Err(faults.within(&field.name, faults.because(Problem::Missing))),
                },
            }
        }
        debug_assert!(out.len() >= start);
        Ok(())
    }
}

/// The index of a field by its name; the name where the schema lacks it.
struct FieldName<'a> {
    fields: &'a [Field],
    next: usize,
}

impl<'de> DeserializeSeed<'de> for FieldName<'_> {
    type Value = Result<usize, String>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for FieldName<'_> {
    type Value = Result<usize, String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a field's name")
    }

    fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<Self::Value, E> {
        if self.fields.get(self.next).is_some_and(|field| field.name == name) {
            return Ok(Ok(self.next));
        }
        Ok(self.fields.iter().position(|field| field.name == name).ok_or_else(|| name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::avro::item::Item;
    use crate::avro::reader::Reader;
    use crate::avro::skip::SkipTable;
    use std::sync::Arc;

    const ROW: &str = r#"{"type":"record","name":"R","fields":[
        {"name":"id","type":"long"},
        {"name":"s","type":["null","string"]},
        {"name":"price","type":["null",{"type":"bytes","connect.name":"org.apache.kafka.connect.data.Decimal","connect.parameters":{"scale":"2"}}]},
        {"name":"f","type":"float"},
        {"name":"b","type":["bytes","null"]},
        {"name":"a","type":{"type":"array","items":["null","int"]}}]}"#;

    fn fields(payload: &str) -> Result<String, Misfit> {
        let mut out = Vec::new();
        Transcoder::compile(ROW).unwrap().transcode(payload.as_bytes(), &mut out)?;
        let schema = WriterSchema::parse(ROW).unwrap();
        let skips = Arc::new(SkipTable::compile(&schema));
        let mut reader = Reader::new(&out);
        let (_, fields) = schema.record(schema.root).unwrap();
        let items: Vec<Item> = fields.iter().map(|field| Item::compile(&schema, field.node, &skips).unwrap()).collect();
        let text = items.iter().map(|item| format!("{:?}", item.read(&mut reader).unwrap())).collect::<Vec<_>>();
        assert!(reader.rest().is_empty());
        Ok(text.join(" "))
    }

    #[test]
    fn rows_without_a_schema_of_their_own_have_to_fit_exactly() {
        let schema = r#"{"type":"record","name":"E","fields":[{"name":"before","type":["null",{"type":"record","name":"V","fields":[
            {"name":"id","type":"int"},{"name":"s","type":["null","string"]}]}]},{"name":"after","type":["null","V"]},
            {"name":"op","type":"string"}]}"#;
        let exact = Transcoder::compile(schema).unwrap().with_exact_rows();
        let write = |payload: &str| exact.transcode(payload.as_bytes(), &mut Vec::new());
        write(r#"{"before":null,"after":{"s":null,"id":1},"source":{"x":1},"op":"c"}"#).unwrap();
        for (payload, field, problem) in [
            (r#"{"after":{"id":1},"op":"c"}"#, "after.s", Problem::Missing),
            (r#"{"after":{"id":1,"s":null,"new":1},"op":"c"}"#, "after.new", Problem::Unknown),
            (r#"{"before":{"id":1,"s":"a","new":1},"op":"d"}"#, "before.new", Problem::Unknown),
        ] {
            assert_eq!(write(payload), Err(Misfit { field: field.into(), problem }), "{payload}");
        }
    }

    #[test]
    fn fields_in_any_order_become_the_same_bytes() {
        let expected = r#"Integer(9223372036854775807) Text("a\"ü") Decimal { unscaled: [1, 226, 58], scale: 2 } Float32(1.1) Bytes([0, 255]) Array([Integer(1), Null])"#;
        for payload in [
            r#"{"id":9223372036854775807,"s":"a\"\u00fc","price":"AeI6","f":1.1,"b":"AP8=","a":[1,null]}"#,
            r#"{"a":[1,null],"x":{"y":[]},"f":1.1,"price":1234.50,"b":"AP8=","s":"a\"ü","id":9223372036854775807}"#,
            r#"{"id":9223372036854775807,"price":"AeI6","s":"a\"ü","f":1.1,"b":"AP8=","a":[1,null]}"#,
        ] {
            assert_eq!(fields(payload).unwrap(), expected, "{payload}");
        }
        assert_eq!(fields(r#"{"id":0,"f":"NaN","a":[]}"#).unwrap(), "Integer(0) Null Null Float32(NaN) Null Array([])");
        assert_eq!(
            fields(r#"{"id":0,"s":null,"price":null,"f":-0.5,"b":null,"a":[]}"#).unwrap(),
            "Integer(0) Null Null Float32(-0.5) Null Array([])"
        );
    }

    #[test]
    fn a_map_whose_keys_are_no_texts_is_a_list_of_pairs() {
        let schema = r#"{"type":"record","name":"R","fields":[{"name":"v","type":{"type":"array","items":
            {"type":"record","name":"io.confluent.connect.avro.MapEntry","fields":[{"name":"key","type":"int"},{"name":"value","type":"boolean"}]}}}]}"#;
        let transcoder = Transcoder::compile(schema).unwrap();
        let mut out = Vec::new();
        transcoder.transcode(br#"{"v":[[1,true],[2,false]]}"#, &mut out).unwrap();
        assert_eq!(out, [2, 2, 1, 2, 4, 0, 0]);
        for (payload, problem) in [
            (r#"{"v":[[1]]}"#, Problem::Missing),
            (r#"{"v":[[1,true,2]]}"#, Problem::Type),
            (r#"{"v":[1]}"#, Problem::Type),
        ] {
            let misfit = transcoder.transcode(payload.as_bytes(), &mut out).unwrap_err();
            assert_eq!(misfit, Misfit { field: "v".into(), problem }, "{payload}");
        }
    }

    #[test]
    fn what_does_not_fit_is_named_without_its_value() {
        for (payload, field, problem) in [
            (r#"{"id":"secret","f":1,"a":[]}"#, "id", Problem::Type),
            (r#"{"id":null,"f":1,"a":[]}"#, "id", Problem::Null),
            (r#"{"id":9223372036854775808,"f":1,"a":[]}"#, "id", Problem::Range),
            (r#"{"id":1,"f":1,"a":[2147483648]}"#, "a", Problem::Range),
            (r#"{"id":1,"f":1,"b":"secret!","a":[]}"#, "b", Problem::Base64),
            (r#"{"id":1,"price":1.234,"f":1,"a":[]}"#, "price", Problem::Scale),
            (r#"{"id":1,"a":[]}"#, "f", Problem::Missing),
            (r#"{"id":1,"f":1,"a":["#, "a", Problem::Malformed),
            (r#"[]"#, "", Problem::Type),
        ] {
            let misfit = fields(payload).unwrap_err();
            assert_eq!((misfit.field.as_str(), misfit.problem), (field, problem), "{payload}");
            assert!(!misfit.to_string().contains("secret"));
        }
    }
}
