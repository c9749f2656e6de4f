//! A record's Avro bytes taken apart by its schema: each field's path, bytes and a form to show.
//!
//! Only what Connect's converter registers is known here: no enums, no fixed.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

/// A field that holds no record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Field {
    /// Names from the outermost record inwards, joined by points.
    pub(crate) path: String,
    /// All of it, the branch of its union as well.
    pub(crate) bytes: Vec<u8>,
    /// For people.
    pub(crate) shown: String,
}

/// A schema as it is registered, with its named types.
pub(crate) struct Schema {
    root: Value,
    named: BTreeMap<String, Value>,
}

impl Schema {
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let root = serde_json::from_str(text)?;
        let mut named = BTreeMap::new();
        collect(&root, "", &mut named);
        Ok(Self { root, named })
    }

    /// Takes a datum apart; all of its bytes have to be used.
    pub(crate) fn fields(&self, datum: &[u8]) -> Result<Vec<Field>> {
        let mut reader = Reader { rest: datum };
        let mut fields = Vec::new();
        self.record(&self.root, "", &mut reader, &mut fields)?;
        ensure!(reader.rest.is_empty(), "{} bytes too many", reader.rest.len());
        Ok(fields)
    }

    fn record(&self, schema: &Value, path: &str, reader: &mut Reader<'_>, out: &mut Vec<Field>) -> Result<()> {
        for field in schema["fields"].as_array().context("no fields")? {
            let name = field["name"].as_str().context("no name")?;
            let path = if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
            self.field(&field["type"], path, reader, out)?;
        }
        Ok(())
    }

    fn field(&self, schema: &Value, path: String, reader: &mut Reader<'_>, out: &mut Vec<Field>) -> Result<()> {
        let before = reader.rest;
        let schema = match schema.as_array() {
            Some(branches) => self.resolve(branch(branches, reader)?),
            None => self.resolve(schema),
        };
        let is_record = schema["type"] == "record";
        let shown = if is_record { "a record".to_owned() } else { self.shown(schema, reader)? };
        out.push(Field { path: path.clone(), bytes: consumed(before, reader), shown });
        if is_record {
            self.record(schema, &path, reader, out)?;
        }
        Ok(())
    }

    /// Reads a value.
    fn shown(&self, schema: &Value, reader: &mut Reader<'_>) -> Result<String> {
        if let Some(branches) = schema.as_array() {
            return self.shown(branch(branches, reader)?, reader);
        }
        let schema = self.resolve(schema);
        let name = schema.as_str().or_else(|| schema["type"].as_str()).context("a schema without a type")?;
        Ok(match name {
            "null" => "null".to_owned(),
            "boolean" => (reader.take(1)?[0] != 0).to_string(),
            "int" | "long" => reader.long()?.to_string(),
            "float" => f32::from_le_bytes(reader.take(4)?.try_into()?).to_string(),
            "double" => f64::from_le_bytes(reader.take(8)?.try_into()?).to_string(),
            "string" => format!("{:?}", std::str::from_utf8(reader.bytes()?)?),
            "bytes" => reader.bytes()?.iter().fold("0x".to_owned(), |mut text, byte| {
                write!(text, "{byte:02x}").ok();
                text
            }),
            "array" => self.items(&schema["items"], reader, "[", "]", false)?,
            "map" => self.items(&schema["values"], reader, "{", "}", true)?,
            "record" => {
                let mut parts = Vec::new();
                for field in schema["fields"].as_array().context("no fields")? {
                    parts.push(format!("{}: {}", field["name"], self.shown(&field["type"], reader)?));
                }
                format!("{{{}}}", parts.join(", "))
            }
            other => bail!("a schema of type {other}"),
        })
    }

    fn items(&self, items: &Value, reader: &mut Reader<'_>, open: &str, close: &str, keys: bool) -> Result<String> {
        let mut parts = Vec::new();
        loop {
            let count = reader.long()?;
            if count == 0 {
                return Ok(format!("{open}{}{close}", parts.join(", ")));
            }
            ensure!(count > 0, "a block with its size, which Java's encoder does not write");
            for _ in 0..count {
                let key = if keys { format!("{:?}: ", std::str::from_utf8(reader.bytes()?)?) } else { String::new() };
                parts.push(key + &self.shown(items, reader)?);
            }
        }
    }

    fn resolve<'a>(&'a self, schema: &'a Value) -> &'a Value {
        match schema.as_str() {
            Some(name) => self.named.get(name).unwrap_or(schema),
            None => schema,
        }
    }
}

/// Records by full and by simple name; no two of an envelope share the latter.
fn collect(schema: &Value, namespace: &str, named: &mut BTreeMap<String, Value>) {
    match schema {
        Value::Array(branches) => branches.iter().for_each(|branch| collect(branch, namespace, named)),
        Value::Object(object) => {
            let namespace = object.get("namespace").and_then(Value::as_str).unwrap_or(namespace);
            if let (Some("record"), Some(name)) = (schema["type"].as_str(), schema["name"].as_str()) {
                named.insert(format!("{namespace}.{name}"), schema.clone());
                named.insert(name.to_owned(), schema.clone());
            }
            for inner in ["items", "values", "type"] {
                collect(&schema[inner], namespace, named);
            }
            for field in schema["fields"].as_array().into_iter().flatten() {
                collect(&field["type"], namespace, named);
            }
        }
        _ => {}
    }
}

fn branch<'a>(branches: &'a [Value], reader: &mut Reader<'_>) -> Result<&'a Value> {
    let index = usize::try_from(reader.long()?)?;
    branches.get(index).context("a union has no such branch")
}

fn consumed(before: &[u8], reader: &Reader<'_>) -> Vec<u8> {
    before[..before.len() - reader.rest.len()].to_vec()
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(count).context("too few bytes")?;
        self.rest = rest;
        Ok(taken)
    }

    fn bytes(&mut self) -> Result<&'a [u8]> {
        let length = usize::try_from(self.long()?)?;
        self.take(length)
    }

    fn long(&mut self) -> Result<i64> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1)?[0];
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok((value >> 1).cast_signed() ^ -(value & 1).cast_signed());
            }
        }
        bail!("a number of more than 64 bits")
    }
}
