//! Schema text as Debezium's PostgreSQL connector 3.6 and Confluent's AvroConverter register it, byte for byte.
//!
//! The text is built, not serialised from a schema: attributes stand in the converter's order (`AvroData`), records
//! are written in full where they first occur and by name later, and a namespace is left out where it is that of the
//! record around it.

use super::column::{Form, Spatial, TextForm};
use super::{defaults, json};
use crate::handling::Handling;
use crate::name::adjust_schema;
use crate::table::{Column, TableDefinition};

/// The key's schema: the key's columns in key order.
///
/// Minified JSON, to be registered as it is: a parsed and re-serialised Avro schema loses the `connect.*` attributes.
#[must_use]
pub fn key_schema(definition: &TableDefinition) -> String {
    let name = RecordName::new(definition, "Key");
    let mut schema = Schema::new(&definition.handling);
    schema.open_record(&name, true);
    schema.fields(definition.key.iter().map(|index| &definition.columns[*index]));
    schema.push("],");
    schema.connect_name(&name.full);
    schema.push("}");
    schema.text
}

/// The value's schema: Debezium's envelope around every supported column in table order. Generated columns are not in
/// the log and have no field.
///
/// Minified JSON, to be registered as it is.
#[must_use]
pub fn envelope_schema(definition: &TableDefinition) -> String {
    let envelope = RecordName::new(definition, "Envelope");
    let value = RecordName::new(definition, "Value");
    let mut schema = Schema::new(&definition.handling);
    schema.open_record(&envelope, true);
    schema.push(r#"{"name":"before","type":["null","#);
    schema.open_record(&value, false);
    schema.fields(definition.columns.iter().filter(|column| column.generated.is_none()));
    schema.push("],");
    schema.connect_name(&value.full);
    schema.push(r#"}],"default":null},{"name":"after","type":["null","Value"],"default":null},"#);
    for part in [SOURCE_BLOCK, ",", TRANSACTION_BLOCK, ",", CLOCKS] {
        schema.push(part);
    }
    schema.push(r#","connect.version":2,"#);
    schema.connect_name(&envelope.full);
    schema.push("}");
    schema.text
}

/// The schema of what an envelope of any of Debezium's connectors has in common, around the same columns: for JSON that
/// came without its schema.
#[must_use]
pub fn common_envelope_schema(definition: &TableDefinition) -> String {
    let value = RecordName::new(definition, "Value");
    let mut schema = Schema::new(&definition.handling);
    schema.open_record(&RecordName::new(definition, "Envelope"), true);
    schema.push(r#"{"name":"before","type":["null","#);
    schema.open_record(&value, false);
    schema.fields(definition.columns.iter().filter(|column| column.generated.is_none()));
    schema.push("]}]},");
    schema
        .push(r#"{"name":"after","type":["null","Value"]},{"name":"source","type":{"type":"record","name":"Source","#);
    schema.push(r#""fields":[{"name":"ts_ms","type":"long"}]}},{"name":"op","type":"string"}]}"#);
    schema.text
}

/// The columns that Debezium's form leaves out, as indexes into the definition, with a reason that names the type.
#[must_use]
pub fn unsupported_columns(definition: &TableDefinition) -> Vec<(usize, String)> {
    let reasons = definition.columns.iter().enumerate().filter(|(_, column)| column.generated.is_none());
    reasons
        .filter_map(|(index, column)| Form::of(column, &definition.handling).err().map(|reason| (index, reason)))
        .collect()
}

/// The source block of `io.debezium.connector.postgresql.PostgresSourceInfoStructMaker`.
pub(super) const SOURCE_BLOCK: &str = concat!(
    r#"{"name":"source","type":{"type":"record","name":"Source","namespace":"io.debezium.connector.postgresql","fields":["#,
    r#"{"name":"version","type":"string"},"#,
    r#"{"name":"connector","type":"string"},"#,
    r#"{"name":"name","type":"string"},"#,
    r#"{"name":"ts_ms","type":"long"},"#,
    r#"{"name":"snapshot","type":[{"type":"string","connect.version":1,"connect.parameters":{"allowed":"#,
    r#""true,first,first_in_data_collection,last_in_data_collection,last,false,incremental"},"#,
    r#""connect.default":"false","connect.name":"io.debezium.data.Enum"},"null"],"default":"false"},"#,
    r#"{"name":"db","type":"string"},"#,
    r#"{"name":"sequence","type":["null","string"],"default":null},"#,
    r#"{"name":"ts_us","type":["null","long"],"default":null},"#,
    r#"{"name":"ts_ns","type":["null","long"],"default":null},"#,
    r#"{"name":"schema","type":"string"},"#,
    r#"{"name":"table","type":"string"},"#,
    r#"{"name":"txId","type":["null","long"],"default":null},"#,
    r#"{"name":"lsn","type":["null","long"],"default":null},"#,
    r#"{"name":"xmin","type":["null","long"],"default":null},"#,
    r#"{"name":"origin","type":["null","string"],"default":null},"#,
    r#"{"name":"origin_lsn","type":["null","long"],"default":null}],"#,
    r#""connect.version":1,"connect.name":"io.debezium.connector.postgresql.Source"}}"#,
);

/// The transaction block (`TransactionStructMaker`).
pub(super) const TRANSACTION_BLOCK: &str = concat!(
    r#"{"name":"transaction","type":["null",{"type":"record","name":"block","namespace":"event","fields":["#,
    r#"{"name":"id","type":"string"},"#,
    r#"{"name":"total_order","type":"long"},"#,
    r#"{"name":"data_collection_order","type":"long"}],"#,
    r#""connect.version":1,"connect.name":"event.block"}],"default":null}"#,
);

/// What follows the blocks in an envelope.
const CLOCKS: &str = concat!(
    r#"{"name":"op","type":"string"},"#,
    r#"{"name":"ts_ms","type":["null","long"],"default":null},"#,
    r#"{"name":"ts_us","type":["null","long"],"default":null},"#,
    r#"{"name":"ts_ns","type":["null","long"],"default":null}]"#,
);

const VARIABLE_DECIMAL: &str = concat!(
    r#"{"type":"record","name":"VariableScaleDecimal","namespace":"io.debezium.data","#,
    r#""fields":[{"name":"scale","type":"int"},{"name":"value","type":"bytes"}],"#,
    r#""connect.doc":"Variable scaled decimal","connect.version":1,"#,
    r#""connect.name":"io.debezium.data.VariableScaleDecimal"}"#,
);

const POINT: &str = concat!(
    r#"{"type":"record","name":"Point","namespace":"io.debezium.data.geometry","#,
    r#""fields":[{"name":"x","type":"double"},{"name":"y","type":"double"},"#,
    r#"{"name":"wkb","type":["null","bytes"],"default":null},{"name":"srid","type":["null","int"],"default":null}],"#,
    r#""connect.doc":"Geometry (POINT)","connect.version":1,"connect.name":"io.debezium.data.geometry.Point"}"#,
);

const GEOMETRY: &str = concat!(
    r#"{"type":"record","name":"Geometry","namespace":"io.debezium.data.geometry","#,
    r#""fields":[{"name":"wkb","type":"bytes"},{"name":"srid","type":["null","int"],"default":null}],"#,
    r#""connect.doc":"Geometry","connect.version":1,"connect.name":"io.debezium.data.geometry.Geometry"}"#,
);

const GEOGRAPHY: &str = concat!(
    r#"{"type":"record","name":"Geography","namespace":"io.debezium.data.geometry","#,
    r#""fields":[{"name":"wkb","type":"bytes"},{"name":"srid","type":["null","int"],"default":null}],"#,
    r#""connect.doc":"Geography","connect.version":1,"connect.name":"io.debezium.data.geometry.Geography"}"#,
);

/// Avro's maps have texts for keys; the converter writes others as arrays of pairs.
const SPARSE_VECTOR: &str = concat!(
    r#"{"type":"record","name":"SparseDoubleVector","namespace":"io.debezium.data","#,
    r#""fields":[{"name":"dimensions","type":{"type":"int","connect.type":"int16"}},"#,
    r#"{"name":"vector","type":{"type":"array","items":"#,
    r#"{"type":"record","name":"MapEntry","namespace":"io.confluent.connect.avro","#,
    r#""fields":[{"name":"key","type":{"type":"int","connect.type":"int16"}},{"name":"value","type":"double"}]}}}],"#,
    r#""connect.doc":"Sparse double vector","connect.version":1,"#,
    r#""connect.name":"io.debezium.data.SparseDoubleVector"}"#,
);

struct RecordName {
    full: String,
    /// Where the part behind the last point begins.
    simple: usize,
}

impl RecordName {
    fn new(definition: &TableDefinition, part: &str) -> Self {
        let full = adjust_schema(&format!("{}.{part}", definition.topic), definition.handling.schema_names);
        let simple = full.len() - part.len();
        Self { full, simple }
    }

    fn parts(&self) -> (&str, &str) {
        let (namespace, simple) = self.full.split_at(self.simple);
        (namespace.trim_end_matches('.'), simple)
    }
}

struct Schema<'a> {
    handling: &'a Handling,
    text: String,
    /// Debezium's own records that have been written in full.
    seen: Vec<&'static str>,
}

impl<'h> Schema<'h> {
    fn new(handling: &'h Handling) -> Self {
        Self { handling, text: String::new(), seen: Vec::new() }
    }

    fn push(&mut self, text: &str) {
        self.text.push_str(text);
    }

    fn string(&mut self, text: &str) {
        json::string(text, &mut self.text);
    }

    /// Up to and with the bracket that opens the fields.
    fn open_record(&mut self, name: &RecordName, with_namespace: bool) {
        let (namespace, simple) = name.parts();
        self.push(r#"{"type":"record","name":"#);
        self.string(simple);
        if with_namespace {
            self.push(r#","namespace":"#);
            self.string(namespace);
        }
        self.push(r#","fields":["#);
    }

    fn connect_name(&mut self, name: &str) {
        self.push(r#""connect.name":"#);
        self.string(name);
    }

    fn fields<'a>(&mut self, columns: impl Iterator<Item = &'a Column>) {
        let mut first = true;
        for column in columns {
            let Ok(form) = Form::of(column, self.handling) else { continue };
            if !std::mem::take(&mut first) {
                self.push(",");
            }
            self.field(column, &form);
        }
    }

    fn field(&mut self, column: &Column, form: &Form) {
        let default = defaults::default_value(column, form);
        let default = default.and_then(|value| json::default_value(form, &value));
        self.push(r#"{"name":"#);
        self.string(&column.field);
        self.push(r#","type":"#);
        let handling = self.handling;
        let changed: Vec<(&str, String)> = handling.parameters.get(&column.name).map_or_else(Vec::new, |parameters| {
            parameters.iter().map(|(name, value)| (name.as_str(), value.clone())).collect()
        });
        let nullable = form.is_nullable(column);
        match (nullable, &default) {
            (false, _) => self.form(form, default.as_deref(), &changed),
            (true, None) => {
                self.push(r#"["null","#);
                self.form(form, None, &changed);
                self.push("]");
            }
            (true, Some(default)) => {
                self.push("[");
                self.form(form, Some(default), &changed);
                self.push(r#","null"]"#);
            }
        }
        let default = default.as_deref().or(nullable.then_some("null"));
        if let Some(default) = default {
            self.push(r#","default":"#);
            // Apicurio finds no Avro in a schema with the string default `{}`, which many JSON columns have. With a
            // space it is the same JSON, and Debezium's own form stays in `connect.default`.
            self.push(if default == r#""{}""# { r#""{ }""# } else { default });
        }
        self.push("}");
    }

    /// One of Debezium's own records: in full where it first occurs, then by name.
    fn record(&mut self, name: &'static str, text: &str) {
        if self.seen.contains(&name) {
            self.string(name);
        } else {
            self.seen.push(name);
            self.push(text);
        }
    }

    /// `changed` are the parameters of a column whose values are changed on the way; records and arrays carry none.
    fn form(&mut self, form: &Form, default: Option<&str>, changed: &[(&str, String)]) {
        let plain = Attributes::default();
        let named = |name: &'static str| Attributes { name: Some(name), ..Attributes::default() };
        let connect = |name: &'static str, logical_type: &'static str| Attributes {
            name: Some(name),
            logical_type: Some(logical_type),
            ..Attributes::default()
        };
        let with = |name: &'static str, parameter: &'static str, value: String| Attributes {
            name: Some(name),
            parameters: vec![(parameter, value)],
            ..Attributes::default()
        };
        let (base, mut attributes) = match form {
            Form::Boolean | Form::Bit => ("boolean", plain),
            Form::Int16 => ("int", Attributes { connect_type: Some("int16"), ..plain }),
            Form::Int32 => ("int", plain),
            Form::Int64 | Form::Oid => ("long", plain),
            Form::Float32 => ("float", plain),
            Form::Float64 | Form::DecimalDouble | Form::MoneyDouble => ("double", plain),
            Form::Bytes => ("bytes", plain),
            Form::BytesText(_) | Form::DecimalText { .. } | Form::MoneyText => ("string", plain),
            Form::Text(TextForm::Plain) => ("string", plain),
            Form::Text(TextForm::Json) => ("string", named("io.debezium.data.Json")),
            Form::Text(TextForm::Xml) => ("string", named("io.debezium.data.Xml")),
            Form::Text(TextForm::Uuid) => ("string", named("io.debezium.data.Uuid")),
            Form::Text(TextForm::Ltree) => ("string", named("io.debezium.data.Ltree")),
            Form::Hstore => ("string", named("io.debezium.data.Json")),
            Form::Text(TextForm::Tsvector) => ("string", named("io.debezium.data.Tsvector")),
            Form::Enum { allowed } => ("string", with("io.debezium.data.Enum", "allowed", allowed.clone())),
            Form::Decimal { precision, scale } => ("bytes", Attributes::decimal(*scale, Some(*precision))),
            Form::Money => ("bytes", Attributes::decimal(2, None)),
            Form::Date => ("int", named("io.debezium.time.Date")),
            Form::ConnectDate => ("int", connect("org.apache.kafka.connect.data.Date", "date")),
            Form::IsoDate => ("string", named("io.debezium.time.IsoDate")),
            Form::TimeMillis => ("int", named("io.debezium.time.Time")),
            Form::TimeMicros => ("long", named("io.debezium.time.MicroTime")),
            Form::TimeNanos => ("long", named("io.debezium.time.NanoTime")),
            Form::ConnectTime => ("int", connect("org.apache.kafka.connect.data.Time", "time-millis")),
            Form::IsoTime => ("string", named("io.debezium.time.IsoTime")),
            Form::TimestampMillis => ("long", named("io.debezium.time.Timestamp")),
            Form::TimestampMicros => ("long", named("io.debezium.time.MicroTimestamp")),
            Form::TimestampNanos => ("long", named("io.debezium.time.NanoTimestamp")),
            Form::ConnectTimestamp => ("long", connect("org.apache.kafka.connect.data.Timestamp", "timestamp-millis")),
            Form::IsoTimestamp => ("string", named("io.debezium.time.IsoTimestamp")),
            Form::ZonedTimestamp { .. } => ("string", named("io.debezium.time.ZonedTimestamp")),
            Form::ZonedTime => ("string", named("io.debezium.time.ZonedTime")),
            Form::Interval => ("long", named("io.debezium.time.MicroDuration")),
            Form::IsoInterval => ("string", named("io.debezium.time.Interval")),
            Form::Bits { length } => ("bytes", with("io.debezium.data.Bits", "length", length.to_string())),
            Form::VariableDecimal => return self.record("io.debezium.data.VariableScaleDecimal", VARIABLE_DECIMAL),
            Form::Point => return self.record("io.debezium.data.geometry.Point", POINT),
            Form::Spatial(Spatial::Geometry) => return self.record("io.debezium.data.geometry.Geometry", GEOMETRY),
            Form::Spatial(Spatial::Geography) => return self.record("io.debezium.data.geometry.Geography", GEOGRAPHY),
            Form::SparseVector => return self.record("io.debezium.data.SparseDoubleVector", SPARSE_VECTOR),
            Form::DoubleVector | Form::FloatVector => {
                let (items, name) = match form {
                    Form::DoubleVector => ("double", "DoubleVector"),
                    _ => ("float", "FloatVector"),
                };
                return self.push(&format!(
                    r#"{{"type":"array","items":"{items}","connect.version":1,"connect.name":"io.debezium.data.{name}"}}"#
                ));
            }
            Form::HstoreMap => return self.push(r#"{"type":"map","values":["null","string"]}"#),
            Form::Array(element) => {
                self.push(r#"{"type":"array","items":"#);
                if element.null_in_arrays() {
                    self.push(r#"["null","#);
                    self.form(element, None, &[]);
                    self.push("]");
                } else {
                    self.form(element, None, &[]);
                }
                return self.push("}");
            }
        };
        attributes.parameters.extend(changed.iter().cloned());
        if attributes == Attributes::default() && default.is_none() {
            self.string(base);
        } else {
            self.attributes(base, default, &attributes);
        }
    }

    fn attributes(&mut self, base: &str, default: Option<&str>, attributes: &Attributes<'_>) {
        self.push(r#"{"type":"#);
        self.string(base);
        if let Some((scale, precision)) = attributes.decimal {
            self.push(&format!(r#","scale":{scale},"precision":{precision}"#));
        }
        if attributes.name.is_some() {
            self.push(r#","connect.version":1"#);
        }
        for (index, (name, value)) in attributes.parameters.iter().enumerate() {
            self.push(if index == 0 { r#","connect.parameters":{"# } else { "," });
            self.string(name);
            self.push(":");
            self.string(value);
        }
        if !attributes.parameters.is_empty() {
            self.push("}");
        }
        if let Some(default) = default {
            self.push(r#","connect.default":"#);
            // Connect keeps the float; Avro's library makes a double of it for the field.
            match base {
                "float" => self.push(&json::single(default)),
                _ => self.push(default),
            }
        }
        if let Some(name) = attributes.name {
            self.push(",");
            self.connect_name(name);
        }
        for (key, value) in [("connect.type", attributes.connect_type), ("logicalType", attributes.logical_type)] {
            if let Some(value) = value {
                self.push(&format!(r#","{key}":"{value}""#));
            }
        }
        self.push("}");
    }
}

/// What Connect knows about a type beside Avro's own.
#[derive(Default, PartialEq, Eq)]
struct Attributes<'a> {
    /// The Connect schema's name; named schemas have version 1.
    name: Option<&'a str>,
    parameters: Vec<(&'a str, String)>,
    /// Scale and precision.
    decimal: Option<(i32, u32)>,
    connect_type: Option<&'static str>,
    logical_type: Option<&'static str>,
}

impl Attributes<'_> {
    /// Connect's `Decimal`; a precision that is not declared is 64.
    fn decimal(scale: i32, precision: Option<u32>) -> Self {
        let scale_parameter = ("scale", scale.to_string());
        let precision_parameter = precision.map(|precision| ("connect.decimal.precision", precision.to_string()));
        Self {
            name: Some("org.apache.kafka.connect.data.Decimal"),
            parameters: std::iter::once(scale_parameter).chain(precision_parameter).collect(),
            decimal: Some((scale, precision.unwrap_or(64))),
            connect_type: None,
            logical_type: Some("decimal"),
        }
    }
}
