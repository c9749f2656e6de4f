//! Avro bytes into the JSON that Kafka Connect's `JsonConverter` writes without schemas: the way back of
//! [`super::transcode`].

use crate::avro::json::{base64, double_number, single_number, string};
use crate::avro::reader::{Problem, Reader};
use crate::avro::writer_schema::{NodeId, Shape, WriterSchema};

use super::MAP_ENTRY;

/// The writers of records' keys and values.
#[derive(Debug)]
pub struct JsonParts {
    /// For keys.
    pub key: JsonWriter,
    /// For values.
    pub value: JsonWriter,
}

impl JsonParts {
    /// For records of these Avro schemas.
    ///
    /// # Errors
    ///
    /// One of them is none.
    pub fn compile(key_schema: &str, value_schema: &str) -> Result<Self, String> {
        Ok(Self { key: JsonWriter::compile(key_schema)?, value: JsonWriter::compile(value_schema)? })
    }
}

/// Writes data of one schema. Compiled once a schema.
#[derive(Debug)]
pub struct JsonWriter {
    schema: WriterSchema,
}

impl JsonWriter {
    /// Takes the schema in its Avro form.
    ///
    /// # Errors
    ///
    /// It is none.
    pub fn compile(avro_schema: &str) -> Result<Self, String> {
        Ok(Self { schema: WriterSchema::parse(avro_schema)? })
    }

    /// Appends the JSON text of a datum, without its frame. `None` where the bytes are not of the schema; `out` then
    /// holds part of a text.
    #[must_use]
    pub fn write(&self, datum: &[u8], out: &mut Vec<u8>) -> Option<()> {
        let mut text = String::with_capacity(datum.len() * 2);
        let mut reader = Reader::new(datum);
        self.value(self.schema.root, &mut reader, &mut text).ok()?;
        out.extend_from_slice(text.as_bytes());
        reader.rest().is_empty().then_some(())
    }

    fn value(&self, node: NodeId, reader: &mut Reader<'_>, out: &mut String) -> Result<(), Problem> {
        match &self.schema.node(node).shape {
            Shape::Null => out.push_str("null"),
            Shape::Boolean => out.push_str(if reader.boolean()? { "true" } else { "false" }),
            Shape::Int | Shape::Long => out.push_str(&reader.long()?.to_string()),
            Shape::Float => single_number(reader.float()?, out),
            Shape::Double => double_number(reader.double()?, out),
            Shape::Bytes => base64(reader.bytes()?, out),
            Shape::Fixed(length) => base64(reader.take(*length)?, out),
            Shape::String => string(reader.text()?, out),
            Shape::Enum(symbols) => {
                let symbol = usize::try_from(reader.long()?).ok().and_then(|index| symbols.get(index));
                string(symbol.ok_or(Problem::Symbol)?, out);
            }
            Shape::Union(branches) => {
                let branch = reader.branch(branches.len())?;
                self.value(branches[branch], reader, out)?;
            }
            Shape::Record { name, fields } => {
                let is_pair = name == MAP_ENTRY;
                out.push(if is_pair { '[' } else { '{' });
                for (index, field) in fields.iter().enumerate() {
                    separate(index, out);
                    if !is_pair {
                        string(&field.name, out);
                        out.push(':');
                    }
                    self.value(field.node, reader, out)?;
                }
                out.push(if is_pair { ']' } else { '}' });
            }
            Shape::Array(items) => {
                out.push('[');
                let mut index = 0;
                while let Some(block) = reader.block()? {
                    for _ in 0..block.items {
                        separate(index, out);
                        index += 1;
                        self.value(*items, reader, out)?;
                    }
                }
                out.push(']');
            }
            Shape::Map(values) => {
                out.push('{');
                let mut index = 0;
                while let Some(block) = reader.block()? {
                    for _ in 0..block.items {
                        separate(index, out);
                        index += 1;
                        string(reader.text()?, out);
                        out.push(':');
                        self.value(*values, reader, out)?;
                    }
                }
                out.push('}');
            }
        }
        Ok(())
    }
}

fn separate(index: usize, out: &mut String) {
    if index > 0 {
        out.push(',');
    }
}

#[cfg(test)]
mod tests {
    use super::super::transcode::Transcoder;
    use super::*;

    const SCHEMA: &str = r#"{"type":"record","name":"r","fields":[
        {"name":"l","type":["null","long"]},{"name":"d","type":["double","null"]},{"name":"f","type":"float"},
        {"name":"s","type":"string"},{"name":"b","type":["null","bytes"]},{"name":"t","type":"boolean"},
        {"name":"a","type":{"type":"array","items":["null","int"]}},
        {"name":"m","type":{"type":"map","values":["null","string"]}},
        {"name":"n","type":{"type":"record","name":"inner","fields":[{"name":"x","type":"int"}]}},
        {"name":"v","type":{"type":"array","items":{"type":"record","name":"MapEntry","namespace":"io.confluent.connect.avro",
         "fields":[{"name":"key","type":"int"},{"name":"value","type":"double"}]}}}]}"#;

    #[test]
    fn what_is_written_is_read_back() {
        let (writer, reader) = (JsonWriter::compile(SCHEMA).unwrap(), Transcoder::compile(SCHEMA).unwrap());
        for text in [
            r#"{"l":-9223372036854775808,"d":0.1,"f":1.1,"s":"a\"\\\nü","b":"AP8=","t":true,"a":[1,null,-3],"m":{"k":"v","n":null},"n":{"x":7},"v":[[1,0.5],[3,-2.0]]}"#,
            r#"{"l":null,"d":null,"f":"NaN","s":"","b":null,"t":false,"a":[],"m":{},"n":{"x":0},"v":[]}"#,
            r#"{"l":1,"d":"-Infinity","f":"Infinity","s":"x","b":"","t":false,"a":[null],"m":{},"n":{"x":-1},"v":[[7,"NaN"]]}"#,
        ] {
            let (mut datum, mut json) = (Vec::new(), Vec::new());
            reader.transcode(text.as_bytes(), &mut datum).unwrap();
            writer.write(&datum, &mut json).unwrap();
            assert_eq!(String::from_utf8(json.clone()).unwrap(), text);
            for end in 0..datum.len() {
                assert_eq!(writer.write(&datum[..end], &mut json), None, "cut to {end} bytes");
            }
        }
    }
}
