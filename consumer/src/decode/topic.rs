//! What a lane knows about one topic.

use std::sync::Arc;

use rustc_hash::FxHashMap;
use syncline_event::avro::decode::{EnvelopeDecoder, KeyDecoder};
use syncline_event::avro::frame::SchemaId;
use syncline_event::avro::schema::{common_envelope_schema, envelope_schema};
use syncline_event::table::TableDefinition;
use syncline_transforms::mapping::Route;

use super::wire::{Inline, SchemaRef};
use crate::targets::TablePlan;

/// The schemas of a record without our header: its key's, where that counts, and its value's.
pub(super) type Schemas = (Option<SchemaRef>, SchemaRef);

#[derive(Default)]
pub(super) struct Topic {
    pub(super) name: String,
    pub(super) definitions: FxHashMap<u32, Arc<TableDefinition>>,
    /// The newest definition, for a marker.
    pub(super) newest: Option<u32>,
    /// The ways of a definition's rows into target tables; none where they go to the table of their own name.
    pub(super) routes: FxHashMap<u32, Arc<[Route]>>,
    /// By definition number and way.
    pub(super) plans: FxHashMap<(u32, usize), Arc<dyn TablePlan>>,
    /// By value schema and definition number.
    pub(super) envelopes: FxHashMap<(SchemaRef, u32), Arc<EnvelopeDecoder>>,
    /// By key schema and definition number.
    pub(super) keys: FxHashMap<(SchemaRef, u32), Arc<KeyDecoder>>,
    /// Definition numbers of records without our header.
    pub(super) inferred: FxHashMap<Schemas, u32>,
    /// What the target has for the table, once it was asked for: the definition's number, if there is one.
    pub(super) described: Option<Option<u32>>,
    /// The newest schema of the topic's values, once the registry was asked for it.
    pub(super) newest_value: Option<Option<SchemaId>>,
    /// The schemas of the last event without our header.
    pub(super) last: Option<Schemas>,
    /// The decoder used last: nearly always the next one, too.
    pub(super) current: Option<Current>,
    /// JSON schemas met last.
    pub(super) key_hint: Option<u32>,
    pub(super) value_hint: Option<u32>,
    pub(super) source_time_us: i64,
    /// The schemas of JSON data that come without one, by definition number: indexes among those of JSON records.
    pub(super) bare: FxHashMap<u32, u32>,
}

#[derive(Clone)]
pub(super) struct Current {
    pub(super) schema: SchemaRef,
    pub(super) definition: u32,
    pub(super) decoder: Arc<EnvelopeDecoder>,
    pub(super) routes: Arc<[Route]>,
}

/// Numbers from here on are ours: definitions that no producer numbered, made from schemas or from the target.
pub(super) const INFERRED: u32 = 1 << 31;

impl Topic {
    /// The schema of JSON data that come without one, by their definition.
    pub(super) fn bare(&mut self, table: &TableDefinition, inline: &mut Inline) -> Result<SchemaRef, String> {
        if let Some(index) = self.bare.get(&table.number) {
            return Ok(SchemaRef::Inline(*index));
        }
        // What no producer numbered was described by the target.
        let index = match table.number {
            INFERRED.. => inline.add(&common_envelope_schema(table), true)?,
            _ => inline.add(&envelope_schema(table), false)?,
        };
        self.bare.insert(table.number, index);
        Ok(SchemaRef::Inline(index))
    }

    /// Keeps a definition that no producer numbered, under the number it has or gets.
    pub(super) fn keep(&mut self, mut definition: TableDefinition) -> u32 {
        let ours = || self.definitions.values().filter(|known| known.number >= INFERRED);
        if let Some(same) = ours().find(|known| known.same_shape(&definition)) {
            return same.number;
        }
        let number = INFERRED + u32::try_from(ours().count()).unwrap_or_default();
        definition.number = number;
        self.definitions.insert(number, Arc::new(definition));
        number
    }
}
