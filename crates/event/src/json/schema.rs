//! The schema in a JSON record as the Avro schema that Connect's Avro converter would register for it.
//!
//! Source: `JsonConverter.asJsonSchema` in Apache Kafka, `AvroData.fromConnectSchema` in Confluent's converter.

use serde::Deserialize;
use serde_json::{Map, Value as Json, json};

use super::MAP_ENTRY;

/// A schema as `JsonConverter` writes it.
#[derive(Debug, Deserialize)]
struct ConnectSchema {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    optional: bool,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    parameters: Option<Map<String, Json>>,
    #[serde(default)]
    fields: Vec<ConnectField>,
    #[serde(default)]
    items: Option<Box<ConnectSchema>>,
    #[serde(default)]
    keys: Option<Box<ConnectSchema>>,
    #[serde(default)]
    values: Option<Box<ConnectSchema>>,
}

#[derive(Debug, Deserialize)]
struct ConnectField {
    field: String,
    #[serde(flatten)]
    schema: ConnectSchema,
}

/// The Avro schema's text. The error says what is wrong with the JSON schema.
///
/// # Errors
///
/// The text is no schema of Connect's.
pub fn to_avro(schema: &[u8]) -> Result<String, String> {
    let schema: ConnectSchema = serde_json::from_slice(schema).map_err(|error| {
        format!("the record's schema is none of Kafka Connect's (line {}, column {})", error.line(), error.column())
    })?;
    Ok(bare(&schema)?.to_string())
}

/// A type with its union, where it is optional.
fn of(schema: &ConnectSchema) -> Result<Json, String> {
    let bare = bare(schema)?;
    Ok(if schema.optional { json!(["null", bare]) } else { bare })
}

fn bare(schema: &ConnectSchema) -> Result<Json, String> {
    let missing = |part: &str| format!("the record's schema has a type {} without {part}", schema.kind);
    let part = |part: &Option<Box<ConnectSchema>>, name: &str| of(part.as_deref().ok_or_else(|| missing(name))?);
    let mut avro = Map::new();
    match schema.kind.as_str() {
        kind @ ("int8" | "int16") => {
            avro.insert("type".into(), "int".into());
            avro.insert("connect.type".into(), kind.into());
        }
        "int32" => drop(avro.insert("type".into(), "int".into())),
        "int64" => drop(avro.insert("type".into(), "long".into())),
        kind @ ("float" | "double" | "boolean" | "string" | "bytes") => drop(avro.insert("type".into(), kind.into())),
        "array" => {
            avro.insert("type".into(), "array".into());
            avro.insert("items".into(), part(&schema.items, "items")?);
        }
        "map" => {
            let keys = schema.keys.as_deref().ok_or_else(|| missing("keys"))?;
            if keys.kind != "string" || keys.optional {
                return Ok(entries(schema, of(keys)?, part(&schema.values, "values")?));
            }
            avro.insert("type".into(), "map".into());
            avro.insert("values".into(), part(&schema.values, "values")?);
        }
        "struct" => {
            avro.insert("type".into(), "record".into());
            avro.insert("name".into(), schema.name.as_deref().unwrap_or("ConnectDefault").into());
            let field =
                |field: &ConnectField| Ok::<_, String>(json!({"name": field.field, "type": of(&field.schema)?}));
            avro.insert("fields".into(), schema.fields.iter().map(field).collect::<Result<_, _>>()?);
        }
        other => return Err(format!("the record's schema has an unknown type {other}")),
    }
    attributes(schema, &mut avro);
    Ok(Json::Object(avro))
}

fn attributes(schema: &ConnectSchema, avro: &mut Map<String, Json>) {
    if let Some(name) = &schema.name {
        avro.insert("connect.name".into(), name.as_str().into());
    }
    if let Some(parameters) = &schema.parameters {
        avro.insert("connect.parameters".into(), Json::Object(parameters.clone()));
    }
}

/// A map whose keys are no plain strings: a list of pairs.
fn entries(schema: &ConnectSchema, keys: Json, values: Json) -> Json {
    let fields = json!([{"name": "key", "type": keys}, {"name": "value", "type": values}]);
    let entry = json!({"type": "record", "name": MAP_ENTRY, "fields": fields});
    let mut avro = Map::new();
    avro.insert("type".into(), "array".into());
    avro.insert("items".into(), entry);
    attributes(schema, &mut avro);
    Json::Object(avro)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_keep_their_meaning() {
        let schema = br#"{"type":"struct","fields":[
            {"type":"int16","optional":true,"field":"small"},
            {"type":"bytes","optional":false,"name":"org.apache.kafka.connect.data.Decimal","version":1,
             "parameters":{"scale":"2","connect.decimal.precision":"12"},"field":"price"},
            {"type":"map","keys":{"type":"string","optional":false},"values":{"type":"string","optional":true},
             "optional":true,"field":"h"},
            {"type":"array","items":{"type":"int64","optional":true},"optional":false,"field":"a"}],
            "optional":false,"name":"p.s.t.Value"}"#;
        assert_eq!(
            to_avro(schema).unwrap(),
            r#"{"type":"record","name":"p.s.t.Value","fields":[{"name":"small","type":["null",{"type":"int","connect.type":"int16"}]},{"name":"price","type":{"type":"bytes","connect.name":"org.apache.kafka.connect.data.Decimal","connect.parameters":{"scale":"2","connect.decimal.precision":"12"}}},{"name":"h","type":["null",{"type":"map","values":["null",{"type":"string"}]}]},{"name":"a","type":{"type":"array","items":["null",{"type":"long"}]}}],"connect.name":"p.s.t.Value"}"#
        );
    }

    #[test]
    fn what_is_no_schema_is_refused() {
        for schema in
            [r#"{"fields":[]}"#, r#"{"type":"array"}"#, r#"{"type":"struct","fields":[{"type":"x","field":"f"}]}"#]
        {
            assert!(to_avro(schema.as_bytes()).is_err(), "{schema}");
        }
    }
}
