//! Debezium's property names under `cdc_config.properties`: what works, what has a key of its own here, and what is
//! refused by name until it works. Names as in the reference of Debezium's PostgreSQL connector, 3.6.

use syncline_runtime::config::{Field, Kind, Preset};

/// A property of which one value works so far.
const fn fixed(
    key: &'static str,
    value: &'static [&'static str],
    later: &'static [&'static str],
    meaning: &'static str,
) -> Field {
    Field::new(key, Kind::Choice { works: value, later }, Preset::Is(value[0]), meaning)
}

/// A property of which every value works; the first is the default.
const fn choice(key: &'static str, values: &'static [&'static str], meaning: &'static str) -> Field {
    Field::new(key, Kind::Choice { works: values, later: &[] }, Preset::Is(values[0]), meaning)
}

const fn later(key: &'static str) -> Field {
    Field::later(key, "")
}

/// The section's table.
pub(super) const PROPERTIES: &[Field] = &[
    fixed(
        "snapshot.mode",
        &["initial", "initial_only", "no_data", "when_needed"],
        &["always", "never", "configuration_based", "custom", "schema_only", "recovery"],
        "`initial`: on the first start read all rows, then stream. `initial_only`: read all rows once and end; no slot stays \
         behind. `no_data`: stream from the first start on. \
         `when_needed`: as `initial`, and where the log that has to be followed is lost, read all rows again by itself, behind a \
         marker that drops ghost rows.",
    ),
    choice(
        "decimal.handling.mode",
        &["precise", "double", "string"],
        "How `numeric` and `money` travel: exactly as Connect's `Decimal`, as the nearest double (lossy: the digits that \
         a double has no room for are gone), or as text.",
    ),
    choice(
        "time.precision.mode",
        &["adaptive", "adaptive_time_microseconds", "connect", "isostring", "microseconds", "nanoseconds"],
        "How `date`, `time` and `timestamp` travel: in the precision of their column, as Connect's types (lossy: \
         milliseconds), as ISO 8601 text, or in one precision throughout. `nanoseconds` reaches from 1677 to 2262.",
    ),
    choice(
        "binary.handling.mode",
        &["bytes", "base64", "base64-url-safe", "hex"],
        "How `bytea` travels: as bytes or as text in that encoding.",
    ),
    choice(
        "interval.handling.mode",
        &["numeric", "string"],
        "How `interval` travels: in microseconds (the exact value travels beside it), or as ISO 8601 text.",
    ),
    Field::new(
        "tombstones.on.delete",
        Kind::Boolean,
        Preset::Is("true"),
        "Whether a delete is followed by a record of the same key without a value, for compacted topics.",
    ),
    Field::new(
        "message.key.columns",
        Kind::Text,
        Preset::Absent("the primary key, else the index of REPLICA IDENTITY USING INDEX"),
        "Other keys: `schema.table:column,column;schema.table:column`, each a regular expression. The columns must be NOT \
         NULL and in the log of old rows (`REPLICA IDENTITY FULL`). Rows that share a key become one row in a target.",
    ),
    Field::new(
        "column.include.list",
        Kind::Text,
        Preset::Absent("all columns"),
        "The columns that travel: regular expressions over `schema.table.column`, separated by commas. Those of the key \
         always do.",
    ),
    Field::new(
        "column.exclude.list",
        Kind::Text,
        Preset::Absent("none"),
        "The columns that stay behind, as above. Instead of `column.include.list`.",
    ),
    Field::new(
        "reselect.columns.include.list",
        Kind::Text,
        Preset::Absent("none"),
        "Columns, as above, whose large values are read again from the table where an update left them out, at the cost of a \
         query for each such update; of Debezium's `ReselectColumnsPostProcessor`. Where the key changes they always are.",
    ),
    Field::family(
        "column.mask.hash.",
        "`column.mask.hash.ALGORITHM.with.salt.SALT`, or `column.mask.hash.v2.…`: texts of these columns travel as the \
         hexadecimal digits of a hash (`MD5`, `SHA-1`, `SHA-224`, `SHA-256`, `SHA-384`, `SHA-512`), cut to the column's length. \
         `v2` hashes the text alone, so that other programs find the same hash. The value lists columns as above.",
    ),
    Field::family(
        "column.mask.with.",
        "`column.mask.with.LENGTH.chars`: values of these columns travel as so many asterisks.",
    ),
    Field::family(
        "column.truncate.to.",
        "`column.truncate.to.LENGTH.chars`: texts of these columns travel cut to so many characters.",
    ),
    Field::new(
        "skipped.operations",
        Kind::Text,
        Preset::Is("none"),
        "Kinds of changes that are not published, separated by commas: `c` create, `u` update, `d` delete, `t` truncate; \
         or `none`. Debezium's default is `t`. A change of the key is a delete and a create.",
    ),
    Field::new(
        "unavailable.value.placeholder",
        Kind::Text,
        Preset::Is("__debezium_unavailable_value"),
        "What stands for a large value that an update did not touch.",
    ),
    choice(
        "schema.name.adjustment.mode",
        &["avro", "none", "avro_unicode"],
        "What becomes of characters in schema names that Avro does not allow: `_`, as they are (the registry refuses \
         such names), or `_uxxxx`. Debezium's default is `none`.",
    ),
    choice("field.name.adjustment.mode", &["avro", "none", "avro_unicode"], "As above, for columns."),
    choice(
        "hstore.handling.mode",
        &["json", "map"],
        "How `hstore` travels: as JSON text, or as a map from text to text.",
    ),
    Field::new(
        "extended.headers.enabled",
        Kind::Boolean,
        Preset::Is("false"),
        "Whether changes have Debezium's four headers `__debezium.context.*`. Debezium's default is `true`.",
    ),
    Field::new(
        "provide.transaction.metadata",
        Kind::Boolean,
        Preset::Is("false"),
        "Whether changes tell their place in their transaction (field `transaction`), and transactions their begin and end \
         on a topic of their own.",
    ),
    Field::new(
        "topic.transaction",
        Kind::Text,
        Preset::Is("transaction"),
        "That topic's name behind `<kafka.topic_prefix>.`.",
    ),
    Field::new(
        "message.prefix.include.list",
        Kind::Text,
        Preset::Absent("all prefixes"),
        "Which messages of `pg_logical_emit_message` are published, on the topic `<kafka.topic_prefix>.message`: regular \
         expressions over their prefixes, separated by commas.",
    ),
    Field::new(
        "message.prefix.exclude.list",
        Kind::Text,
        Preset::Absent("none"),
        "Which of these messages are not published, as above. Instead of `message.prefix.include.list`.",
    ),
    Field::new(
        "heartbeat.interval.ms",
        Kind::Integer { min: 0, max: 86_400_000 },
        Preset::Is("0"),
        "How often a record tells that the producer lives, in milliseconds; 0: never. An idle database holds no log back \
         without it.",
    ),
    Field::new(
        "topic.heartbeat.prefix",
        Kind::Text,
        Preset::Is("__debezium-heartbeat"),
        "The topic of these records is this, a point and `kafka.topic_prefix`.",
    ),
    Field::new(
        "heartbeat.action.query",
        Kind::Text,
        Preset::Absent("none"),
        "SQL that is run on the source as often, in a session of its own; each run may take ten seconds.",
    ),
    Field::new(
        "slot.failover",
        Kind::Boolean,
        Preset::Is("false"),
        "Whether the slot, when it is created, is one that synchronised standbys keep (PostgreSQL 17 and newer).",
    ),
    fixed("plugin.name", &["pgoutput"], &["decoderbufs"], "The server's output plugin."),
    Field::new(
        "incremental.snapshot.chunk.size",
        Kind::Integer { min: 1, max: 1_000_000 },
        Preset::Is("1024"),
        "Most rows that an incremental snapshot reads at once; fewer where rows are large.",
    ),
    Field::new(
        "signal.enabled.channels",
        Kind::Text,
        Preset::Is("source,kafka"),
        "Where signals come from: `source` is the signal table, `kafka` the signal topic, which `syncline snapshot` \
         needs.",
    ),
    Field::new(
        "signal.data.collection",
        Kind::Text,
        Preset::Absent("no signal table"),
        "The signal table, `schema.table`, with columns for id, type and data. It is captured like a listed table.",
    ),
    Field::new(
        "signal.kafka.topic",
        Kind::Text,
        Preset::Absent("`<kafka.topic_prefix>-signal`"),
        "The signal topic; its first partition is read.",
    ),
    Field::new(
        "skip.unsupported.columns",
        Kind::Boolean,
        Preset::Is("false"),
        "Not Debezium's. A column of a type that Syncline cannot carry yet stops the start; `true` leaves such columns out.",
    ),
    Field::elsewhere("include.unknown.datatypes", "cdc_config.properties.skip.unsupported.columns"),
    Field::elsewhere("topic.prefix", "kafka.topic_prefix"),
    Field::elsewhere("slot.name", "cdc_config.postgresql.slot"),
    Field::elsewhere("publication.name", "cdc_config.postgresql.publication"),
    Field::elsewhere("table.include.list", "cdc_config.postgresql.tables"),
    Field::elsewhere("database.hostname", "source.host"),
    Field::elsewhere("database.port", "source.port"),
    Field::elsewhere("database.user", "source.username"),
    Field::elsewhere("database.password", "source.password"),
    Field::elsewhere("database.dbname", "source.database"),
    Field::elsewhere("database.sslmode", "source.ssl"),
    Field::elsewhere("snapshot.max.threads", "sync_settings.parallel_tables"),
    Field::elsewhere("key.converter.schema.registry.url", "schema_registry.url"),
    Field::elsewhere("value.converter.schema.registry.url", "schema_registry.url"),
    later("column.propagate.source.type"),
    later("connector.class"),
    later("converters"),
    later("custom.metric.tags"),
    later("database.initial.statements"),
    later("database.query.timeout.ms"),
    later("database.sslcert"),
    later("database.sslfactory"),
    later("database.sslkey"),
    later("database.sslpassword"),
    later("database.sslrootcert"),
    later("database.tcpKeepAlive"),
    later("datatype.propagate.source.type"),
    later("errors.max.retries"),
    later("event.processing.failure.handling.mode"),
    later("executor.shutdown.timeout.ms"),
    later("heartbeat.topics.prefix"),
    later("include.schema.comments"),
    later("incremental.snapshot.watermarking.strategy"),
    later("key.converter"),
    later("lsn.flush.mode"),
    later("lsn.flush.timeout.ms"),
    later("max.batch.size"),
    later("max.queue.size"),
    later("max.queue.size.in.bytes"),
    later("money.fraction.digits"),
    later("notification.enabled.channels"),
    later("notification.sink.topic.name"),
    later("openlineage.integration.enabled"),
    later("poll.interval.ms"),
    later("post.processors"),
    later("predicates"),
    later("publication.autocreate.mode"),
    later("publish.via.partition.root"),
    later("read.only"),
    later("replica.identity.autoset.values"),
    later("retriable.restart.connector.wait.ms"),
    later("schema.exclude.list"),
    later("schema.include.list"),
    later("schema.refresh.mode"),
    later("signal.kafka.bootstrap.servers"),
    later("slot.drop.on.stop"),
    later("slot.max.retries"),
    later("slot.retry.delay.ms"),
    later("slot.seek.to.known.offset.on.start"),
    later("slot.stream.params"),
    later("snapshot.delay.ms"),
    later("snapshot.fetch.size"),
    later("snapshot.include.collection.list"),
    later("snapshot.isolation.mode"),
    later("snapshot.lock.timeout.ms"),
    later("snapshot.locking.mode"),
    later("snapshot.query.mode"),
    later("snapshot.select.statement.overrides"),
    later("snapshot.tables.order.by.row.count"),
    later("sourceinfo.struct.maker"),
    later("status.update.interval.ms"),
    later("streaming.delay.ms"),
    later("table.exclude.list"),
    later("tasks.max"),
    later("topic.cache.size"),
    later("topic.creation.default.partitions"),
    later("topic.creation.default.replication.factor"),
    later("topic.delimiter"),
    later("topic.naming.strategy"),
    later("transaction.metadata.factory"),
    later("transforms"),
    later("value.converter"),
    later("xmin.fetch.interval.ms"),
];
