//! A key or value taken apart: which schema it was written with, and its data. One reader per form: Avro with the
//! schema's id in front or in a header, JSON with its schema, JSON alone.

use std::sync::Arc;

use rustc_hash::FxHashMap;
use syncline_event::avro::frame::{self, SchemaId};
use syncline_event::json::frame as json;
use syncline_event::json::schema::to_avro;
use syncline_event::json::transcode::Transcoder;

/// A schema that a record was written with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum SchemaRef {
    /// In the registry.
    Registry(SchemaId),
    /// In the record, as JSON: the index among those met.
    Inline(u32),
}

/// A key or value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wire<'a> {
    /// None: a tombstone's value, or the key of a table without one.
    Null,
    /// Avro data.
    Avro { schema: SchemaRef, datum: &'a [u8] },
    /// JSON data with their schema.
    Json { schema: SchemaRef, payload: &'a [u8] },
    /// JSON data alone.
    Bare { payload: &'a [u8] },
}

impl Wire<'_> {
    /// The schema, where there is one.
    pub(super) fn schema(&self) -> Option<SchemaRef> {
        match self {
            Self::Avro { schema, .. } | Self::Json { schema, .. } => Some(*schema),
            Self::Null | Self::Bare { .. } => None,
        }
    }
}

/// The schemas that came with JSON records.
#[derive(Default)]
pub(super) struct Inline {
    by_text: FxHashMap<Box<[u8]>, u32>,
    known: Vec<InlineSchema>,
}

struct InlineSchema {
    text: Box<[u8]>,
    avro: Arc<str>,
    transcoder: Arc<Transcoder>,
}

impl Inline {
    /// Takes a key or value apart. `named` is the schema that a header names; `hint` the JSON schema met last in its
    /// place, which is nearly always the next one too.
    pub(super) fn take_apart<'a>(
        &mut self,
        bytes: Option<&'a [u8]>,
        named: Option<SchemaId>,
        hint: &mut Option<u32>,
    ) -> Result<Wire<'a>, String> {
        let Some(bytes) = bytes else { return Ok(Wire::Null) };
        if named.is_some() || !json::is_json(bytes) {
            let (schema, datum) = frame::take_apart(bytes, named).map_err(|error| error.to_string())?;
            return Ok(Wire::Avro { schema: SchemaRef::Registry(schema), datum });
        }
        let known = hint.and_then(|hint| self.known.get(hint as usize));
        let frame = json::split(bytes, known.map(|known| &*known.text)).map_err(|error| error.to_string())?;
        let Some(text) = frame.schema else {
            return Ok(if frame.is_null() { Wire::Null } else { Wire::Bare { payload: frame.payload } });
        };
        if frame.is_null() {
            return Ok(Wire::Null);
        }
        let index = match (known, *hint) {
            (Some(known), Some(hint)) if *known.text == *text => hint,
            _ => self.index(text)?,
        };
        *hint = Some(index);
        Ok(Wire::Json { schema: SchemaRef::Inline(index), payload: frame.payload })
    }

    fn index(&mut self, text: &[u8]) -> Result<u32, String> {
        if let Some(index) = self.by_text.get(text) {
            return Ok(*index);
        }
        let avro: Arc<str> = to_avro(text)?.into();
        self.keep(text, avro, false)
    }

    fn keep(&mut self, text: &[u8], avro: Arc<str>, is_guess: bool) -> Result<u32, String> {
        let transcoder = Transcoder::compile(&avro)?;
        let transcoder = Arc::new(if is_guess { transcoder.with_exact_rows() } else { transcoder });
        let index = u32::try_from(self.known.len()).map_err(|_| "too many schemas".to_owned())?;
        self.known.push(InlineSchema { text: text.into(), avro, transcoder });
        self.by_text.insert(text.into(), index);
        Ok(index)
    }

    /// The index of an Avro schema of JSON data that come without one, and of which nobody said that it is theirs where
    /// `is_guess`.
    pub(super) fn add(&mut self, avro: &str, is_guess: bool) -> Result<u32, String> {
        match self.by_text.get(avro.as_bytes()) {
            Some(index) => Ok(*index),
            None => self.keep(avro.as_bytes(), avro.into(), is_guess),
        }
    }

    /// The Avro form of a schema that was met.
    pub(super) fn avro(&self, index: u32) -> Arc<str> {
        Arc::clone(&self.known[index as usize].avro)
    }

    /// The Avro bytes of data, in `scratch` where they have to be made.
    pub(super) fn datum<'b>(&self, wire: &Wire<'b>, scratch: &'b mut Vec<u8>) -> Result<&'b [u8], String> {
        match *wire {
            Wire::Avro { datum, .. } => Ok(datum),
            Wire::Json { schema: SchemaRef::Inline(index), payload } => {
                let transcoder = Arc::clone(&self.known[index as usize].transcoder);
                transcoder.transcode(payload, scratch).map_err(|error| error.to_string())?;
                Ok(scratch)
            }
            Wire::Json { .. } | Wire::Null | Wire::Bare { .. } => Err("the record has no data with a schema".into()),
        }
    }
}
