//! From a record to a row: schemas, definitions and plans by what the record names, each asked for once.

mod foreign;
mod need;
mod routed;
mod row;
#[cfg(test)]
mod tests;
mod topic;
mod wire;

use std::sync::Arc;

use rustc_hash::FxHashMap;
use syncline_event::avro::decode::{Envelope, EnvelopeDecoder, KeyDecoder, recycle};
use syncline_event::avro::frame::SchemaId;
use syncline_event::avro::infer;
use syncline_event::avro::value::Value;
use syncline_event::header::{BarrierKind, Header};
use syncline_event::table::TableDefinition;
use syncline_transforms::expression::Context as MappingContext;
use syncline_transforms::mapping::{Mappings, Route};

pub use self::need::Need;
use self::routed::{Routed, unfit};
use self::row::{UNSTAMPED, changes_a_row, node_clears, stage_change, stage_key, text};
use self::topic::{Current, Schemas, Topic};
use self::wire::{Inline, SchemaRef, Wire};
use crate::chunk::Record;
use crate::coalesce::Change;
use crate::config::{KeyColumns, NodeSettings, SinkSettings};
use crate::definitions::NEWEST;
use crate::draft::{Decode, Obstacle, Shape};
use crate::table_draft::TableDraft;
use crate::targets::{Clearing, TablePlan};

/// What a lane knows about the records of its topics.
#[derive(Default)]
pub struct Decoders {
    settings: Arc<SinkSettings>,
    mappings: Arc<Mappings>,
    /// Set in a topology of several writable nodes.
    node: Option<Arc<NodeSettings>>,
    /// For mappings: microseconds since 1970.
    clock_us: i64,
    topics: Vec<Topic>,
    schemas: FxHashMap<SchemaId, Arc<str>>,
    inline: Inline,
    /// Needs that nothing can meet, and why.
    hopeless: FxHashMap<Need, String>,
    envelope: Envelope<'static>,
    key_values: Vec<Value<'static>>,
    routed: Routed,
    /// Data in another form than Avro, turned into it.
    scratch: Vec<u8>,
}

type Asked<T> = Result<T, Obstacle<Need>>;

fn bad(error: impl std::fmt::Display) -> Obstacle<Need> {
    Obstacle::Bad(error.to_string())
}

impl Decoders {
    /// Knows nothing yet.
    #[must_use]
    pub fn new(settings: Arc<SinkSettings>, mappings: Arc<Mappings>, node: Option<Arc<NodeSettings>>) -> Self {
        Self { settings, mappings, node, ..Self::default() }
    }

    /// Sets the clock that mappings see, in microseconds since 1970.
    pub fn set_clock(&mut self, micros: i64) {
        self.clock_us = micros;
    }

    /// The lane's index of a topic, given when first asked.
    pub fn topic(&mut self, name: &str) -> usize {
        if let Some(index) = self.topics.iter().position(|topic| topic.name == name) {
            return index;
        }
        self.topics.push(Topic { name: name.to_owned(), ..Topic::default() });
        self.topics.len() - 1
    }

    /// The name of a topic.
    #[must_use]
    pub fn name(&self, topic: usize) -> &str {
        &self.topics[topic].name
    }

    /// A definition that is known.
    #[must_use]
    pub fn definition(&self, topic: usize, number: u32) -> Option<&Arc<TableDefinition>> {
        self.topics[topic].definitions.get(&number)
    }

    /// The target table of one of a definition's ways.
    #[must_use]
    pub fn routed(&self, topic: usize, number: u32, route: usize) -> Option<&Arc<TableDefinition>> {
        match self.topics[topic].routes.get(&number)?.get(route) {
            Some(route) => Some(route.definition()),
            None => self.definition(topic, number),
        }
    }

    /// The source's name of the topic's table, by the newest definition that is known.
    #[must_use]
    pub fn table_name(&self, topic: usize) -> Option<String> {
        let newest = self.topics[topic].definitions.values().max_by_key(|definition| definition.number)?;
        Some(newest.qualified_name())
    }

    /// The target's schema and table for a topic.
    #[must_use]
    pub fn target_table(&self, topic: usize) -> (String, String) {
        self.settings.table_of(&self.topics[topic].name)
    }

    /// The latest commit time at the source among the topic's decoded records, in microseconds since 1970.
    #[must_use]
    pub fn source_time_us(&self, topic: usize) -> i64 {
        self.topics[topic].source_time_us
    }

    /// A schema has come.
    pub fn add_schema(&mut self, id: SchemaId, text: Arc<str>) {
        self.schemas.insert(id, text);
    }

    /// A definition has come; `asked` is the number that was asked for.
    pub fn add_definition(&mut self, topic: usize, asked: u32, definition: Arc<TableDefinition>) {
        let definition = self.settings.renamed(definition);
        let topic = &mut self.topics[topic];
        if asked == NEWEST {
            topic.newest = Some(definition.number);
        }
        topic.definitions.insert(definition.number, definition);
    }

    /// What the target has for a topic's table has come.
    pub fn add_described(&mut self, topic: usize, definition: Option<TableDefinition>) {
        let topic = &mut self.topics[topic];
        topic.described = Some(definition.map(|definition| topic.keep(definition)));
    }

    /// The id of the newest schema of a topic's values has come, if there is one.
    pub fn add_newest_value(&mut self, topic: usize, schema: Option<SchemaId>) {
        self.topics[topic].newest_value = Some(schema);
    }

    /// A plan of one of a definition's ways has come.
    pub fn add_plan(&mut self, topic: usize, route: usize, plan: Arc<dyn TablePlan>) {
        let number = plan.definition().number;
        self.topics[topic].plans.insert((number, route), plan);
    }

    /// A need will never be met. Says why and what to do.
    pub fn give_up(&mut self, need: Need, reason: String) {
        self.hopeless.insert(need, reason);
    }

    /// Tries again what was given up: someone may have acted.
    pub fn retry(&mut self) {
        self.hopeless.clear();
    }

    /// Forgets how the target writes: its tables may have changed.
    pub fn forget_plans(&mut self) {
        for topic in &mut self.topics {
            topic.plans.clear();
            topic.current = None;
            topic.described = None;
        }
    }

    fn ask<T>(&self, need: Need) -> Asked<T> {
        Err(self.hopeless.get(&need).map_or(Obstacle::Needs(need), |reason| Obstacle::Bad(reason.clone())))
    }

    /// The Avro text of a schema.
    fn schema(&self, schema: SchemaRef) -> Asked<Arc<str>> {
        match schema {
            SchemaRef::Inline(index) => Ok(self.inline.avro(index)),
            SchemaRef::Registry(id) => {
                self.schemas.get(&id).map_or_else(|| self.ask(Need::Schema(id)), |text| Ok(Arc::clone(text)))
            }
        }
    }

    fn known(&self, topic: usize, number: u32) -> Asked<Arc<TableDefinition>> {
        let found = self.topics[topic].definitions.get(&number);
        found.map_or_else(|| self.ask(Need::Definition { topic, number }), |found| Ok(Arc::clone(found)))
    }

    /// The ways of a definition that is known, each with a plan.
    fn planned(&mut self, topic: usize, definition: u32) -> Asked<Arc<[Route]>> {
        let routes = match self.topics[topic].routes.get(&definition) {
            Some(routes) => Arc::clone(routes),
            None => {
                let table = self.known(topic, definition)?;
                let routes = match &self.node {
                    Some(node) => node.routes(&self.topics[topic].name, &table),
                    None => self.mappings.routes(&table),
                };
                let routes: Arc<[Route]> = routes.map_err(|misfits| unfit(&misfits))?.into();
                self.topics[topic].routes.insert(definition, Arc::clone(&routes));
                routes
            }
        };
        for route in 0..routes.len().max(1) {
            if !self.topics[topic].plans.contains_key(&(definition, route)) {
                return self.ask(Need::Plan { topic, definition, route });
            }
        }
        Ok(routes)
    }

    /// The definition of a marker.
    fn marked(&mut self, topic: usize, number: u32) -> Asked<u32> {
        let number = match number {
            NEWEST => match self.topics[topic].newest {
                Some(newest) => newest,
                None => return self.ask(Need::Definition { topic, number: NEWEST }),
            },
            number => number,
        };
        self.known(topic, number)?;
        self.planned(topic, number)?;
        // Asked for anew at the next marker: there may be a newer one by then.
        self.topics[topic].newest = None;
        Ok(number)
    }

    /// The definition that the schemas of a record without our header come to.
    fn inferred(&mut self, topic: usize, schemas: Schemas) -> Asked<u32> {
        self.topics[topic].last = Some(schemas);
        if let Some(number) = self.topics[topic].inferred.get(&schemas) {
            return Ok(*number);
        }
        let key = schemas.0.map(|key| self.schema(key)).transpose()?;
        let value = self.schema(schemas.1)?;
        let name = &self.topics[topic].name;
        let key = match &self.settings.key {
            KeyColumns::OfKey => infer::Key::Schema(key.as_deref()),
            KeyColumns::Named(fields) => infer::Key::Fields(fields),
        };
        let (schema, table) = self.settings.table_of(name);
        let mut definition = infer::definition_of(name, &schema, &table, key, &value).map_err(bad)?;
        self.settings.keep_fields(&mut definition).map_err(bad)?;
        let topic = &mut self.topics[topic];
        let number = topic.keep(definition);
        topic.inferred.insert(schemas, number);
        Ok(number)
    }

    fn envelope_decoder(&mut self, topic: usize, schema: SchemaRef, definition: u32) -> Asked<()> {
        let current = self.topics[topic].current.as_ref();
        if current.is_some_and(|current| current.schema == schema && current.definition == definition) {
            return Ok(());
        }
        let table = self.known(topic, definition)?;
        let routes = self.planned(topic, definition)?;
        let decoder = match self.topics[topic].envelopes.get(&(schema, definition)) {
            Some(decoder) => Arc::clone(decoder),
            None => {
                let text = self.schema(schema)?;
                let is_read = |column| routes.is_empty() || routes.iter().any(|route| route.reads(column));
                let compiled = Arc::new(EnvelopeDecoder::compile_for(&text, &table, is_read).map_err(bad)?);
                self.topics[topic].envelopes.insert((schema, definition), Arc::clone(&compiled));
                compiled
            }
        };
        self.topics[topic].current = Some(Current { schema, definition, decoder, routes });
        Ok(())
    }

    fn key_decoder(&mut self, topic: usize, schema: SchemaRef, definition: u32) -> Asked<()> {
        let table = self.known(topic, definition)?;
        self.planned(topic, definition)?;
        if self.topics[topic].keys.contains_key(&(schema, definition)) {
            return Ok(());
        }
        let text = self.schema(schema)?;
        let compiled = KeyDecoder::compile(&text, &table).map_err(bad)?;
        self.topics[topic].keys.insert((schema, definition), Arc::new(compiled));
        Ok(())
    }

    fn key_of<'a>(&mut self, topic: usize, record: &Record<'a>) -> Result<Wire<'a>, String> {
        let named = record.named.map_err(|error| error.to_string())?.key;
        self.inline.take_apart(record.key, named, &mut self.topics[topic].key_hint)
    }

    fn value_of<'a>(&mut self, topic: usize, record: &Record<'a>) -> Result<Wire<'a>, String> {
        let named = record.named.map_err(|error| error.to_string())?.value;
        self.inline.take_apart(record.value, named, &mut self.topics[topic].value_hint)
    }

    /// A row of JSON data alone, by the schema that its definition comes to.
    fn bare_row(&mut self, topic: usize, definition: u32) -> Asked<Shape> {
        let table = self.known(topic, definition)?;
        let schema = self.topics[topic].bare(&table, &mut self.inline).map_err(Obstacle::Bad)?;
        self.envelope_decoder(topic, schema, definition)?;
        Ok(Shape::Row { definition })
    }

    /// A value; JSON data alone with the schema of their definition, which [`Self::bare_row`] has made.
    fn described<'a>(&mut self, topic: usize, definition: u32, record: &Record<'a>) -> Result<Wire<'a>, String> {
        let wire = self.value_of(topic, record)?;
        match (wire, self.topics[topic].bare.get(&definition)) {
            (Wire::Bare { payload }, Some(index)) => Ok(Wire::Json { schema: SchemaRef::Inline(*index), payload }),
            (wire, _) => Ok(wire),
        }
    }

    fn decode_tombstone(
        &mut self,
        topic: usize,
        definition: u32,
        record: &Record<'_>,
        tables: &mut [TableDraft],
    ) -> Result<(), String> {
        let wire = self.key_of(topic, record)?;
        let topic = &self.topics[topic];
        let table = topic.definitions.get(&definition).expect("shape() asked for the definition first");
        let routes = topic.routes.get(&definition).expect("shape() asked for the plans first");
        let schema = wire.schema().expect("shape() found a schema");
        let decoder = topic.keys.get(&(schema, definition)).expect("shape() compiled the decoder first");
        let mut scratch = std::mem::take(&mut self.scratch);
        let mut values = recycle(std::mem::take(&mut self.key_values));
        let result = self.inline.datum(&wire, &mut scratch).and_then(|datum| {
            decoder.decode(datum, &mut values).map_err(|error| error.to_string())?;
            if routes.is_empty() {
                return stage_key(&mut tables[0], |index, _| values.get(index));
            }
            // Behind the delete of an envelope it says nothing new; where rows are flattened it may be the delete.
            let repeats = topic.current.as_ref().is_some_and(|current| current.decoder.reads_envelopes());
            // The delete that it stands behind, or stands for, was committed last.
            let context = MappingContext { commit_us: topic.source_time_us, clock_us: self.clock_us };
            self.routed.stage_tombstone(routes, table, &values, (context, repeats), tables)
        });
        self.key_values = recycle(values);
        self.scratch = scratch;
        result
    }
}

impl Decode for Decoders {
    type Need = Need;

    fn shape(&mut self, topic: usize, record: &Record<'_>, header: Option<&Header>) -> Asked<Shape> {
        let Some(header) = header else { return self.foreign_shape(topic, record) };
        if header.barrier.is_some() {
            let definition = self.marked(topic, header.definition)?;
            return Ok(Shape::Row { definition });
        }
        match self.value_of(topic, record).map_err(Obstacle::Bad)? {
            // Ours always follow the delete that they repeat.
            Wire::Null => Ok(Shape::Nothing),
            Wire::Bare { .. } => self.bare_row(topic, header.definition),
            Wire::Avro { schema, .. } | Wire::Json { schema, .. } => {
                self.envelope_decoder(topic, schema, header.definition)?;
                Ok(Shape::Row { definition: header.definition })
            }
        }
    }

    fn plans(&self, topic: usize, definition: u32) -> Vec<Arc<dyn TablePlan>> {
        let topic = &self.topics[topic];
        let routes = topic.routes.get(&definition).map_or(1, |routes| routes.len().max(1));
        let plan = |route| topic.plans.get(&(definition, route)).expect("shape() asked for the plans first");
        (0..routes).map(|route| Arc::clone(plan(route))).collect()
    }

    fn clears(&self, topic: usize, definition: u32, kind: BarrierKind) -> Result<Vec<Clearing>, String> {
        if let Some(node) = self.node.as_deref() {
            return node_clears(kind, node.is_own(&self.topics[topic].name));
        }
        let plans = self.plans(topic, definition);
        let topic = &self.topics[topic];
        let routes = topic.routes.get(&definition).expect("shape() asked for the plans first");
        routed::clears(routes, plans, &topic.name)
    }

    fn decode(
        &mut self,
        topic: usize,
        definition: u32,
        record: &Record<'_>,
        header: Option<&Header>,
        tables: &mut [TableDraft],
    ) -> Result<(), String> {
        let wire = self.described(topic, definition, record)?;
        if wire == Wire::Null {
            return self.decode_tombstone(topic, definition, record, tables);
        }
        let topic = &mut self.topics[topic];
        let Current { decoder, routes, .. } = topic.current.as_ref().expect("shape() compiled the decoder first");
        let mut scratch = std::mem::take(&mut self.scratch);
        let mut envelope = std::mem::take(&mut self.envelope).recycle();
        let result = self.inline.datum(&wire, &mut scratch).and_then(|datum| {
            decoder.decode(datum, &mut envelope).map_err(|error| error.to_string())?;
            match header {
                Some(header) => envelope.apply_header(header).map_err(|error| error.to_string())?,
                None => envelope.apply_placeholder(),
            }
            // A row that an incremental snapshot has yet to bring need not be there.
            let update = if header.is_some_and(|header| header.filling) { Change::Fill } else { Change::Update };
            if !changes_a_row(&envelope, &self.settings)? {
                return Ok(());
            }
            if let Some(node) = &self.node {
                let stamped = header.and_then(|header| header.stamped.as_ref()).ok_or(UNSTAMPED)?;
                let own = stamped.stamp.origin == node.name;
                return self.routed.contend(routes.first(), &envelope, (stamped, own), &mut tables[0]);
            }
            if routes.is_empty() {
                return stage_change(&envelope, update, &mut tables[0]);
            }
            let position = header.map(|header| header.position);
            let context = MappingContext { commit_us: envelope.source_ts_us, clock_us: self.clock_us };
            let deletes = self.settings.deletes;
            self.routed.stage(routes, &envelope, (position, context), (update, deletes), tables)
        });
        topic.source_time_us = topic.source_time_us.max(envelope.source_ts_us);
        self.envelope = envelope.recycle();
        self.scratch = scratch;
        result
    }

    fn key_text(&mut self, topic: usize, definition: u32, record: &Record<'_>) -> Option<String> {
        let wire = self.described(topic, definition, record).ok()?;
        let topic = &self.topics[topic];
        let table = topic.definitions.get(&definition)?;
        let decoder = topic.envelopes.get(&(wire.schema()?, definition))?;
        let mut scratch = Vec::new();
        let mut envelope = Envelope::new();
        decoder.decode(self.inline.datum(&wire, &mut scratch).ok()?, &mut envelope).ok()?;
        let image = if envelope.after.present { &envelope.after } else { &envelope.before };
        let texts: Vec<String> = table.key.iter().filter_map(|column| image.values.get(*column)).map(text).collect();
        Some(texts.join(","))
    }
}
