//! Records that our producer did not write: what their schemas, or the target's table, say of their columns.

use syncline_event::avro::decode::{Envelope, EnvelopeDecoder};
use syncline_event::avro::infer;
use syncline_event::handling::Handling;
use syncline_event::operation::Operation;
use syncline_event::table::{ReplicaIdentity, TableDefinition};

use super::need::Need;
use super::row::TRUNCATED;
use super::wire::{SchemaRef, Wire};
use super::{Asked, Decoders, bad};
use crate::chunk::Record;
use crate::config::{KeyColumns, Truncates};
use crate::draft::{Obstacle, Shape};

impl Decoders {
    /// A record that our producer did not write.
    pub(super) fn foreign_shape(&mut self, topic: usize, record: &Record<'_>) -> Asked<Shape> {
        let value = self.value_of(topic, record).map_err(Obstacle::Bad)?;
        let value_schema = match value {
            Wire::Null => return self.tombstone_shape(topic, record),
            Wire::Bare { .. } => return self.bare_shape(topic),
            Wire::Avro { schema, .. } | Wire::Json { schema, .. } => schema,
        };
        let key = match &self.settings.key {
            KeyColumns::Named(_) => None,
            KeyColumns::OfKey => match self.key_of(topic, record).map_err(Obstacle::Bad)? {
                Wire::Null => return self.keyless_shape(topic, &value, value_schema),
                Wire::Bare { .. } => return Err(bad(BARE)),
                Wire::Avro { schema, .. } | Wire::Json { schema, .. } => Some(schema),
            },
        };
        let definition = self.inferred(topic, (key, value_schema))?;
        self.envelope_decoder(topic, value_schema, definition)?;
        Ok(Shape::Row { definition })
    }

    /// A JSON value alone: the target's table tells its types, where that was asked for.
    fn bare_shape(&mut self, topic: usize) -> Asked<Shape> {
        if !self.settings.json_of_target {
            return Err(bad(BARE));
        }
        let definition = match self.topics[topic].described {
            Some(Some(described)) => described,
            Some(None) => return Err(bad(NO_TABLE)),
            None => return self.ask(Need::Described { topic }),
        };
        self.bare_row(topic, definition)
    }

    /// A value without a key: Debezium's truncate, or a table that has no key.
    fn keyless_shape(&mut self, topic: usize, value: &Wire<'_>, schema: SchemaRef) -> Asked<Shape> {
        let text = self.schema(schema)?;
        let name = self.topics[topic].name.clone();
        let nothing = TableDefinition {
            topic: name.clone(),
            number: 0,
            schema: String::new(),
            table: String::new(),
            columns: Vec::new(),
            key: Vec::new(),
            replica_identity: ReplicaIdentity::Nothing,
            handling: Handling::default(),
        };
        let decoder = EnvelopeDecoder::compile(&text, &nothing).map_err(bad)?;
        let mut envelope = Envelope::new();
        let datum = self.inline.datum(value, &mut self.scratch).map_err(Obstacle::Bad)?;
        decoder.decode(datum, &mut envelope).map_err(bad)?;
        match (envelope.operation, self.settings.truncates) {
            (Operation::Truncate, Truncates::Ignore) => Ok(Shape::Nothing),
            (Operation::Truncate, Truncates::Stop) => Err(bad(TRUNCATED)),
            _ => Err(bad(infer::InferError::NoKey { topic: name })),
        }
    }

    /// A key without a value. Behind a delete it says nothing new, but it may come alone.
    fn tombstone_shape(&mut self, topic: usize, record: &Record<'_>) -> Asked<Shape> {
        let by_key = matches!(self.settings.key, KeyColumns::OfKey);
        if record.key.is_none() || !by_key || !self.settings.deletes {
            return Ok(Shape::Nothing);
        }
        let schema = match self.key_of(topic, record).map_err(Obstacle::Bad)? {
            Wire::Null => return Ok(Shape::Nothing),
            // It stands behind a delete, whose row has told the key.
            Wire::Bare { .. } if self.settings.json_of_target => return Ok(Shape::Nothing),
            Wire::Bare { .. } => return Err(bad(BARE)),
            Wire::Avro { schema, .. } | Wire::Json { schema, .. } => schema,
        };
        let is_mapped = self.is_mapped(topic);
        let definition = match (self.topics[topic].last, self.topics[topic].described) {
            // The target's table is not the source's: the key's way there depends on the row's columns.
            (last, _) if is_mapped => {
                let newest = self.topics[topic].newest_value;
                let schemas = match (last, newest) {
                    (Some(schemas), _) => schemas,
                    (None, Some(Some(newest))) => (Some(schema), SchemaRef::Registry(newest)),
                    (None, Some(None)) => return Err(bad(NO_ROW_YET)),
                    (None, None) => return self.ask(Need::ValueSchema { topic }),
                };
                let definition = self.inferred(topic, schemas)?;
                self.envelope_decoder(topic, schemas.1, definition)?;
                definition
            }
            (Some(schemas), _) => self.inferred(topic, schemas)?,
            (None, Some(Some(described))) => described,
            // No table, no row.
            (None, Some(None)) => return Ok(Shape::Nothing),
            (None, None) => return self.ask(Need::Described { topic }),
        };
        self.key_decoder(topic, schema, definition)?;
        Ok(Shape::Row { definition })
    }

    /// Whether a mapping is about the topic's table.
    fn is_mapped(&self, topic: usize) -> bool {
        if self.mappings.list.is_empty() {
            return false;
        }
        let (schema, table) = self.target_table(topic);
        !self.mappings.of(&schema, &table).is_empty()
    }
}

/// Why JSON data alone are not enough.
const BARE: &str = "the record is JSON without a schema, which does not tell the types of its columns; have the connector \
    write schemas (key.converter.schemas.enable=true, value.converter.schemas.enable=true) or Avro, or have them taken from the \
    target's table with target.properties: {json.types: target}";

/// Why JSON cannot be read by the target's table.
const NO_TABLE: &str = "the record is JSON without a schema, and target.properties.json.types: target takes the types of its \
    columns from the target's table, which is not there; create it with the source's columns and types";

/// Why a tombstone cannot be mapped.
const NO_ROW_YET: &str = "a tombstone comes before any row, and the registry has no schema of the topic's values, so what its \
    key is mapped to cannot be told; go on behind it with `syncline resync --topic … --from …`";
