use syncline_consumer::config::{InsertMode, KeyColumns, SinkSettings, TargetConfig, TopicSelection, Truncates};
use syncline_event::handling::{
    BinaryHandling, DecimalHandling, Handling, IntervalHandling, NameAdjustment, TimePrecision,
};
use syncline_event::mask::{HashAlgorithm, HashVersion, Mask};
use syncline_producer::config::{Format, SkippedOperations, SnapshotMode};
use syncline_runtime::config::parse;
use syncline_runtime::settings::SslMode;
use syncline_transforms::mapping::Written;

use super::*;

mod node_names;
mod topology;

const SYNC: &str = r#"
name: Shop-Analytics
kafka:
  bootstrap_servers: localhost:9092
schema_registry:
  url: http://localhost:8081/apis/ccompat/v7/
source:
  type: postgresql
  host: localhost
  database: shop
  username: syncline
  password: ${SOURCE_PASSWORD}
target: {type: postgresql, host: db.example, port: 5433, database: analytics, username: syncline}
cdc_config:
  postgresql: {tables: [users, "sales.*", '"Sch ema"."Select"']}
"#;

fn environment(name: &str) -> Option<String> {
    (name == "SOURCE_PASSWORD").then(|| "p: {w} # \"x".to_owned())
}

fn config(text: &str) -> Result<SyncConfig, ConfigError> {
    load_text(text, Sides::Both)
}

fn load_text(text: &str, sides: Sides) -> Result<SyncConfig, ConfigError> {
    load_part(text, Scope { sides, node: None })
}

fn load_part(text: &str, scope: Scope<'_>) -> Result<SyncConfig, ConfigError> {
    let unused = |path: &str| scope.leaves_out(path);
    let environment = Environment { variables: &environment, secrets: None, unused: &unused };
    SyncConfig::check(parse(Path::new("sync.yaml"), text, fields::FIELDS, &environment)?, scope)
}

fn refusal(text: &str) -> String {
    config(text).unwrap_err().to_string()
}

#[test]
fn a_short_file_is_filled_with_defaults() {
    let SyncConfig { producer, consumer, .. } = config(SYNC).unwrap();
    let (producer, consumer) = (producer.unwrap(), consumer.unwrap());
    assert_eq!(producer.topic_prefix, "Shop-Analytics");
    assert_eq!((producer.slot.as_str(), producer.publication.as_str()), ("shop_analytics", "shop_analytics"));
    assert_eq!(producer.tables, ["users", "sales.*", "\"Sch ema\".\"Select\""]);
    assert_eq!(producer.source.password.as_ref().unwrap().expose(), "p: {w} # \"x");
    assert_eq!((producer.source.port, producer.source.ssl), (5432, SslMode::Disabled));
    assert_eq!((producer.kafka.partitions, producer.kafka.replication_factor), (4, 1));
    assert_eq!(producer.registry.urls, ["http://localhost:8081/apis/ccompat/v7"]);
    assert_eq!(producer.snapshot_mode, SnapshotMode::Initial);
    assert_eq!(producer.checkpoint_interval.as_secs(), 300);
    assert_eq!(producer.events.skipped, SkippedOperations::default());
    assert!(producer.events.tombstones && producer.events.handling == Handling::default());
    assert!(!producer.capture_before_values && !producer.skip_unsupported_columns);
    let TargetConfig::Postgresql(target) = consumer.target;
    assert_eq!((target.port, target.ssl, target.password), (5433, SslMode::Required, None));
    assert_eq!((consumer.writers, consumer.batch_rows, consumer.retry_attempts), (4, 10_000, 3));
    assert_eq!(consumer.consumer_group, "Shop-Analytics");
    assert!(matches!(consumer.topics, TopicSelection::Prefix(prefix) if prefix == "Shop-Analytics"));
}

#[test]
fn debezium_names_are_taken_where_they_work() {
    let text = format!(
        "{SYNC}  properties:\n    snapshot.mode: no_data\n    skip.unsupported.columns: true\n    decimal.handling.mode: precise\n"
    );
    let producer = config(&text).unwrap().producer.unwrap();
    assert_eq!(producer.snapshot_mode, SnapshotMode::NoData);
    assert!(producer.skip_unsupported_columns);
}

fn with_properties(properties: &str) -> String {
    let lines: Vec<String> = properties.lines().map(|line| format!("    {}\n", line.trim())).collect();
    format!("{SYNC}  properties:\n{}", lines.concat())
}

#[test]
fn handling_modes_have_debeziums_names() {
    let text = with_properties(
        "decimal.handling.mode: string
         time.precision.mode: adaptive_time_microseconds
         binary.handling.mode: base64-url-safe
         interval.handling.mode: string
         schema.name.adjustment.mode: avro_unicode
         field.name.adjustment.mode: none
         unavailable.value.placeholder: hex:c3a9
         tombstones.on.delete: false
         skipped.operations: u, t",
    );
    let events = config(&text).unwrap().producer.unwrap().events;
    let expected = Handling {
        decimal: DecimalHandling::String,
        time: TimePrecision::AdaptiveTimeMicroseconds,
        binary: BinaryHandling::Base64UrlSafe,
        interval: IntervalHandling::String,
        schema_names: NameAdjustment::AvroUnicode,
        field_names: NameAdjustment::None,
        placeholder: "é".to_owned(),
        ..Handling::default()
    };
    assert_eq!(events.handling, expected);
    assert!(!events.tombstones);
    assert_eq!(events.skipped, SkippedOperations { updates: true, truncates: true, ..SkippedOperations::default() });
}

#[test]
fn masks_carry_their_setting_in_their_name() {
    let text = with_properties(
        "column.mask.hash.v2.SHA-256.with.salt.pepper: public.users.email
         column.mask.with.3.chars: public.users.phone, public.users.name
         column.truncate.to.20.chars: public.users.about
         message.key.columns: public.users:email
         column.exclude.list: public.users.age",
    );
    let columns = config(&text).unwrap().producer.unwrap().events.columns;
    assert!(columns.exclude.is_some() && columns.include.is_none() && columns.keys.len() == 1);
    let masks: Vec<&Mask> = columns.masks.iter().map(|rule| &rule.mask).collect();
    let (algorithm, version) = (HashAlgorithm::Sha256, HashVersion::V2);
    let hash = Mask::Hash { algorithm, salt: "pepper".to_owned(), version, length: None };
    assert_eq!(masks, [&hash, &Mask::Asterisks(3), &Mask::Truncate(20)]);
    assert!(!format!("{columns:?}").contains("pepper"));
}

#[test]
fn properties_that_cannot_be_are_refused_with_what_can() {
    for (properties, expected) in [
        ("column.mask.hash.SHA-3.with.salt.pepper: public.users.email", "`SHA-3` is no hash; supported: MD5, SHA-1"),
        ("column.mask.hash.SHA-256.pepper: public.users.email", "column.mask.hash.ALGORITHM.with.salt.SALT"),
        ("column.mask.with.ten.chars: public.users.email", "must end with LENGTH.chars"),
        ("column.truncate.to.10: public.users.email", "must end with LENGTH.chars"),
        ("column.mask.with.3.chars: '('", "is no regular expression"),
        ("message.key.columns: users", "is not of the form schema.table:column,column"),
        ("column.include.list: a\ncolumn.exclude.list: b", "stands beside `column.include.list`"),
        ("column.maks.with.3.chars: a", "unknown key"),
        ("decimal.handling.mode: doubel", "did you mean `double`?"),
        ("time.precision.mode: structured", "supported: adaptive, adaptive_time_microseconds, connect"),
        ("skipped.operations: r", "`r` is no operation; supported: c, u, d, t, none"),
        ("skipped.operations: 'none,t'", "`none` stands beside others"),
        ("unavailable.value.placeholder: hex:abc", "`hex:` must be followed by pairs"),
    ] {
        let refused = refusal(&with_properties(properties));
        assert!(refused.contains(expected), "{refused}");
    }
}

#[test]
fn one_side_is_enough() {
    let consume = "name: a\nkafka: {bootstrap_servers: 'a:1, b:2', topics: [shop.public.users]}\n\
        schema_registry: {url: [http://a, http://b]}\n\
        target: {type: postgresql, connection: 'postgresql://ada:pw@db/x?sslmode=disable'}";
    let SyncConfig { producer, consumer, .. } = config(consume).unwrap();
    let consumer = consumer.unwrap();
    assert!(producer.is_none());
    assert_eq!(consumer.kafka.bootstrap_servers, "a:1,b:2");
    assert!(matches!(consumer.topics, TopicSelection::Names(names) if names == ["shop.public.users"]));
}

#[test]
fn json_needs_no_registry() {
    let text = SYNC.replace("schema_registry:\n  url: http://localhost:8081/apis/ccompat/v7/\n", "")
        + "  output_format: {type: json}";
    let producer = config(&text).unwrap().producer.unwrap();
    assert_eq!(producer.events.format, Format::Json);
    assert!(producer.registry.urls.is_empty());
}

#[test]
fn each_refusal_names_the_key_and_the_remedy() {
    let edit = |from: &str, to: &str| SYNC.replacen(from, to, 1);
    for (text, expected) in [
        (edit("  host: localhost\n", ""), "sync.yaml: source.host: is required"),
        (
            edit("host: localhost", "host: localhost\n  connection: x"),
            "sync.yaml:9: source.host: stands beside `source.connection`",
        ),
        (edit("type: postgresql", "type: mysql"), "source.type: `mysql` is not supported yet"),
        (edit("type: postgresql", "type: postgres"), "did you mean `postgresql`?"),
        (edit("{type: postgresql", "{type: redis"), "target.type: `redis` is not supported yet"),
        (edit("localhost:9092", "localhost"), "kafka.bootstrap_servers: `localhost` has no port"),
        (edit("http://localhost:8081/apis", "ftp://x/"), "schema_registry.url: must begin with http"),
        (edit("http://localhost:8081/apis", "http://u:p@x/"), "schema_registry.username"),
        (edit("kafka:\n", "kafka:\n  topics: [a]\n"), "kafka.topics: only a file without `source`"),
        (edit("kafka:\n", "kafka:\n  topic_prefix: a b\n"), "kafka.topic_prefix: `a b` may hold"),
        (edit("kafka:\n", "kafka:\n  properties: {acks: 1}\n"), "kafka.properties.acks: cannot be set"),
        (
            edit("kafka:\n", "kafka:\n  properties: {linger.mss: 1}\n"),
            "kafka.properties.linger.mss: is refused by librdkafka",
        ),
        (edit("{tables: [users, \"sales.*\", '\"Sch ema\".\"Select\"']}", "{slot: Big-Slot}"), "may hold lower-case"),
        (
            edit("{tables: [users, \"sales.*\", '\"Sch ema\".\"Select\"']}", "{}"),
            "cdc_config.postgresql.tables: is required",
        ),
        (
            edit("username: syncline\n", "username: syncline\n  ssl: verify-full\n"),
            "source.ssl: `verify-full` is not supported yet",
        ),
        (
            edit("${SOURCE_PASSWORD}", "${SOURCE_PASWORD}"),
            "sync.yaml:12: source.password: environment variable SOURCE_PASWORD is not set",
        ),
        (
            edit("schema_registry:\n  url: http://localhost:8081/apis/ccompat/v7/\n", ""),
            "schema_registry.url: is required",
        ),
        (format!("{SYNC}  method: polling"), "`polling` is not supported yet"),
        (
            format!("{SYNC}  properties: {{snapshot.mode: always}}"),
            "`always` is not supported yet; supported: initial, initial_only, no_data, when_needed",
        ),
        (
            format!("{SYNC}  properties: {{heartbeat.action.query: SELECT 1}}"),
            "never runs: write `heartbeat.interval.ms`",
        ),
        (
            format!("{SYNC}  properties: {{provide.transaction.metadata: true, topic.transaction: a b}}"),
            "topic.transaction: makes the topic `Shop-Analytics.a b`, which may hold letters",
        ),
        (format!("{SYNC}  properties: {{lsn.flush.mode: a}}"), "lsn.flush.mode: is not supported yet"),
        (format!("{SYNC}  properties: {{slot.name: a}}"), "set `cdc_config.postgresql.slot` instead"),
        (format!("{SYNC}  properties: {{snapshot.mod: a}}"), "did you mean `snapshot.mode`?"),
        (format!("{SYNC}sync_settings: {{mode: full}}"), "sync_settings.mode: `full` is not supported yet"),
        (format!("{SYNC}sync_settings: {{batch_sise: 1}}"), "did you mean `batch_size`?"),
        (format!("{SYNC}table_mappings: users"), "table_mappings: expected a list"),
        (format!("{SYNC}table_mappings: [{{target_table: a}}]"), "table_mappings[0].source_table: is required"),
        (format!("{SYNC}table_mappings: [{{source_table: a.b.c}}]"), "`a.b.c` is no table's name"),
        (format!("{SYNC}table_mappings: [{{source_table: a, target_table: 'b_$1'}}]"), "names a group such as $1"),
        (format!("{SYNC}table_mappings: [{{source_table: a, colums: {{}}}}]"), "did you mean `columns`?"),
        (
            format!("{SYNC}table_mappings: [{{source_table: a, transformations: [{{column: b}}]}}]"),
            "table_mappings[0].transformations[0].transform: is required",
        ),
        (format!("{SYNC}schedule: daily"), "schedule: is not supported yet"),
        (format!("{SYNC}publication: x"), "did you mean `cdc_config.postgresql.publication`?"),
        (
            "name: a\nkafka: {bootstrap_servers: 'a:1'}\nschema_registry: {url: http://a}".to_owned(),
            "neither `source` nor `target`",
        ),
    ] {
        let message = refusal(&text);
        assert!(message.contains(expected), "{text}\ngave {message:?}, expected {expected:?}");
        assert!(!message.contains("{w}"), "{message}");
    }
}

#[test]
fn mappings_know_their_lines() {
    let text = format!(
        "{SYNC}table_mappings:\n  - source_table: users\n    columns:\n      id: user_id\n      \"*\": \"*\"\n    \
         transformations:\n      - {{column: status, transform: UPPER(status)}}\n    filters:\n      - status <> 'x'\n"
    );
    let first = text.lines().position(|line| line.contains("source_table")).unwrap() + 1;
    let config = config(&text).unwrap();
    let mapping = &config.consumer.unwrap().mappings.list[0];
    assert!(mapping.source_table.value.matches("public", "users"));
    let lines = [mapping.source_table.line, mapping.columns[0].0.line, mapping.transformations[0].1.line];
    assert_eq!(lines, [first, first + 2, first + 5]);
    assert_eq!(mapping.filters[0].line, first + 7);
    assert_eq!(mapping.columns[1], (Written { value: "*".to_owned(), line: first + 3 }, "*".to_owned()));
}

#[test]
fn a_secret_does_not_print_itself() {
    let text = SYNC.replace(
        "host: db.example, port: 5433, database: analytics, username: syncline",
        "connection: 'postgresql://a:hunter2@h/d'",
    );
    let shown = format!("{:?}", config(&text).unwrap());
    assert!(!shown.contains("hunter2") && !shown.contains("{w}"), "{shown}");
    let broken = text.replace("postgresql://a:hunter2@h/d", "postgresql://a:hunter2@h");
    assert!(!refusal(&broken).contains("hunter2"));
}

#[test]
fn the_examples_are_valid() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/examples");
    // Whatever an example takes from the environment; a port where it needs a number.
    let variables = |name: &str| {
        Some(if name.contains("URL") {
            "http://a".to_owned()
        } else if name.contains("CONNECTION") {
            format!("postgresql://a:b@{}/c", name.to_lowercase().replace('_', "-"))
        } else if name.contains("PORT") {
            "5432".to_owned()
        } else {
            "localhost:1".to_owned()
        })
    };
    let environment = Environment { variables: &variables, secrets: None, unused: &|_| false };
    for entry in std::fs::read_dir(folder).unwrap() {
        let file = entry.unwrap().path();
        if file.extension().is_none_or(|extension| extension != "yaml") {
            continue;
        }
        SyncConfig::check(load(&file, fields::FIELDS, &environment).unwrap(), Scope::ALL).unwrap();
    }
}

#[test]
fn one_file_serves_hosts_that_know_different_passwords() {
    let text = SYNC.replace("SOURCE_PASSWORD", "UNSET").replace("host: localhost\n", "host: ${UNSET}\n");
    let config = load_text(&text, Sides::Consumer).unwrap();
    assert!(config.producer.is_none() && config.consumer.is_some());
    assert!(load_text(&text, Sides::Producer).is_err() && load_text(&text, Sides::Both).is_err());
}

#[test]
fn a_jdbc_sinks_properties_are_taken_under_their_names() {
    let with = |properties: &str| {
        SYNC.replace("database: analytics,", &format!("properties: {{{properties}}}, database: analytics,"))
    };
    let sink = config(SYNC).unwrap().consumer.unwrap().sink;
    assert_eq!(sink, SinkSettings::default());
    let text = "collection.name.format: 'dwh.$${source.table}', insert.mode: update, primary.key.mode: record_value, \
                primary.key.fields: 'a,b', delete.enabled: false, truncate.enabled: false, schema.evolution: none, \
                field.exclude.list: [secret]";
    let sink = config(&with(text)).unwrap().consumer.unwrap().sink;
    assert_eq!(sink.table_of("p.s.t"), ("dwh".to_owned(), "t".to_owned()));
    assert_eq!(sink.key, KeyColumns::Named(vec!["a".into(), "b".into()]));
    assert_eq!((sink.insert, sink.truncates), (InsertMode::Update, Truncates::Ignore));
    assert!(!sink.deletes && !sink.evolves);
    for (text, words) in [
        ("truncate.enabled: true", "has no order"),
        ("json.types: target, field.exclude.list: [secret]", "cannot stand beside"),
        ("primary.key.mode: record_value", "primary.key.fields"),
        ("primary.key.mode: kafka", "kafka"),
        ("quote.identifiers: false", "quote.identifiers"),
        ("collection.name.format: '$${source.db}'", "source.schema"),
        ("batch.size: 5", "sync_settings.batch_size"),
        ("use.time.zone: UTC", "use.time.zone"),
        ("insert.mod: upsert", "insert.mode"),
        ("field.include.list: a, field.exclude.list: b", "field.include.list"),
    ] {
        assert!(refusal(&with(text)).contains(words), "{text}: {}", refusal(&with(text)));
    }
    let mapped = with("json.types: target") + "table_mappings: [{source_table: users, target_table: people}]\n";
    assert!(refusal(&mapped).contains("have the connector write schemas"), "{}", refusal(&mapped));
}
