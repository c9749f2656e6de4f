//! The property names of Debezium's JDBC sink under `target.properties`: what works, what has a key of its own here, and
//! what is refused by name. Names as in `JdbcSinkConnectorConfig` and `SinkConnectorConfig`, 3.6.

use syncline_consumer::config::{FieldFilter, InsertMode, KeyColumns, SinkSettings, TableName, Truncates};
use syncline_runtime::config::{Field, Kind, Preset};

use super::check::split_all;
use super::raw::{RawEvolution, RawInsertMode, RawJsonTypes, RawKeyMode, RawSinkProperties};

const fn later(key: &'static str) -> Field {
    Field::later(key, "")
}

/// The section's table.
pub(super) const SINK_PROPERTIES: &[Field] = &[
    Field::new(
        "collection.name.format",
        Kind::Text,
        Preset::Absent("the source's schema and table: the last two parts of the topic's name"),
        "The target's table, `schema.table` or `table` (in `public`): text with `$${topic}` (dots become `_`), `$${source.schema}` \
         (the database, for MySQL and MariaDB) and `$${source.table}`; the second `$` tells them from the environment.",
    ),
    Field::new(
        "insert.mode",
        Kind::Choice { works: &["upsert", "insert", "update"], later: &[] },
        Preset::Is("upsert"),
        "`upsert`: inserted, or overwritten where the key is there. `insert`: a key that is there stops the table. `update`: \
         overwritten where the key is there, and else passed over.",
    ),
    Field::new(
        "primary.key.mode",
        Kind::Choice { works: &["record_key", "record_value"], later: &["none", "kafka", "record_header"] },
        Preset::Is("record_key"),
        "`record_key`: the fields of the record's key. `record_value`: `primary.key.fields` of the row; records without a value \
         then delete nothing.",
    ),
    Field::new(
        "primary.key.fields",
        Kind::Texts,
        Preset::Is(""),
        "The fields of the row that make the key. With `record_value` they are required.",
    ),
    Field::new(
        "delete.enabled",
        Kind::Boolean,
        Preset::Is("true"),
        "`false`: deletes and records without a value are passed over, and the target keeps the rows.",
    ),
    Field::new(
        "truncate.enabled",
        Kind::Boolean,
        Preset::Absent("a truncate of Debezium's stops its partition"),
        "`false`: truncates that Debezium wrote are passed over. `true` is refused: such a truncate has no order against the rows \
         of other partitions. Truncates of Syncline's own producer are always applied.",
    ),
    Field::new(
        "schema.evolution",
        Kind::Choice { works: &["basic", "none"], later: &[] },
        Preset::Is("basic"),
        "`basic`: missing tables and columns are made. `none`: a table that lacks something stops.",
    ),
    Field::new(
        "field.include.list",
        Kind::Texts,
        Preset::Is(""),
        "Fields that become columns, `field` or `topic:field`; all others do not.",
    ),
    Field::new(
        "field.exclude.list",
        Kind::Texts,
        Preset::Is(""),
        "Fields that do not become columns, `field` or `topic:field`.",
    ),
    Field::new(
        "json.types",
        Kind::Choice { works: &["schema", "target"], later: &[] },
        Preset::Is("schema"),
        "Not Debezium's. What tells the types of JSON. `schema`: the schema beside the data; without one the partition stops. \
         `target`: where there is no schema, the columns of the target's table, which has to be there with the columns and types \
         of a PostgreSQL source and Debezium's default handling modes: a `timestamp(3)` column takes milliseconds, a `timestamp` \
         column microseconds. A field without a column stops the partition, and so does a column without a field.",
    ),
    Field::new(
        "quote.identifiers",
        Kind::Choice { works: &["true"], later: &["false"] },
        Preset::Is("true"),
        "Names are always quoted, so that they stay as they are.",
    ),
    Field::elsewhere("table.name.format", "target.properties.collection.name.format"),
    Field::elsewhere("pk.mode", "target.properties.primary.key.mode"),
    Field::elsewhere("pk.fields", "target.properties.primary.key.fields"),
    Field::elsewhere("batch.size", "sync_settings.batch_size"),
    Field::elsewhere("connection.url", "target.connection"),
    Field::elsewhere("connection.username", "target.username"),
    Field::elsewhere("connection.user", "target.username"),
    Field::elsewhere("connection.password", "target.password"),
    Field::elsewhere("connection.pool.max_size", "sync_settings.parallel_tables"),
    Field::elsewhere("flush.max.retries", "sync_settings.retry_attempts"),
    Field::elsewhere("tasks.max", "sync_settings.parallel_tables"),
    Field::elsewhere("topics", "kafka.topics"),
    Field::elsewhere("topics.regex", "kafka.topics_regex"),
    later("auto.create"),
    later("auto.evolve"),
    later("collection.naming.strategy"),
    later("column.naming.strategy"),
    later("connection.pool.acquire_increment"),
    later("connection.pool.min_size"),
    later("connection.pool.timeout"),
    later("connection.provider"),
    later("connection.restart.on.errors"),
    later("database.time_zone"),
    later("dialect.postgres.postgis.schema"),
    later("dialect.postgres.unnest.insert.enabled"),
    later("dialect.sqlserver.identity.insert"),
    later("flush.retry.delay.ms"),
    later("table.naming.strategy"),
    later("use.reduction.buffer"),
    later("use.time.zone"),
];

/// Checks the section; problems are told with their keys.
pub(super) fn settings(raw: &RawSinkProperties, mut refuse: impl FnMut(&str, String)) -> SinkSettings {
    let mut table_name = TableName::default();
    if let Some(format) = &raw.collection_name_format {
        match TableName::parse(format) {
            Ok(parsed) => table_name = parsed,
            Err(reason) => refuse("collection.name.format", reason),
        }
    }
    let [key_fields, included, excluded] =
        [&raw.primary_key_fields, &raw.field_include_list, &raw.field_exclude_list].map(|texts| split_all(texts));
    if raw.primary_key_mode == RawKeyMode::RecordValue && key_fields.is_empty() {
        refuse("primary.key.fields", "is required with `primary.key.mode: record_value`".to_owned());
    }
    if raw.truncate_enabled == Some(true) {
        refuse(
            "truncate.enabled",
            "cannot be true: a truncate of Debezium's has no order against the rows of other partitions; write false to \
             have them passed over, or leave it out to have them stop their partition"
                .to_owned(),
        );
    }
    if !included.is_empty() && !excluded.is_empty() {
        refuse("field.exclude.list", "stands beside `field.include.list`: write one of them".to_owned());
    }
    let is_shaped = raw.primary_key_mode == RawKeyMode::RecordValue
        || !(key_fields.is_empty() && included.is_empty() && excluded.is_empty());
    if raw.json_types == RawJsonTypes::Target && is_shaped {
        let text = "`target` takes columns and key from the target's table: it cannot stand beside `primary.key.*` and \
                    `field.*.list`";
        refuse("json.types", text.to_owned());
    }
    SinkSettings {
        table_name,
        key: if key_fields.is_empty() { KeyColumns::OfKey } else { KeyColumns::Named(key_fields) },
        insert: match raw.insert_mode {
            RawInsertMode::Upsert => InsertMode::Upsert,
            RawInsertMode::Insert => InsertMode::Insert,
            RawInsertMode::Update => InsertMode::Update,
        },
        deletes: raw.delete_enabled,
        truncates: if raw.truncate_enabled == Some(false) { Truncates::Ignore } else { Truncates::Stop },
        evolves: raw.schema_evolution == RawEvolution::Basic,
        fields: FieldFilter::new(&included, &excluded),
        json_of_target: raw.json_types == RawJsonTypes::Target,
    }
}
