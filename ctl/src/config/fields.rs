//! Every key of a sync file. The loader reads files along this table and `docs/configuration.md` is made from it.

use syncline_runtime::config::{Field, Kind, Preset};

use super::conflict_log::LOG;
use super::debezium::PROPERTIES;
use super::jdbc_sink::SINK_PROPERTIES;
use super::mappings::MAPPING;
use super::nodes::NODE;
use super::rules::RULES;
use Preset::{Absent, Is, Required};

const NAME: &str = "Name of the sync, and the default for topic prefix, consumer group, slot and publication; each of \
    them gets it in the letters it allows.";

/// The top of the file.
pub(crate) const FIELDS: &[Field] = &[
    Field::new("name", Kind::Text, Required, NAME),
    Field::new("kafka", Kind::Section(KAFKA), Required, "Kafka."),
    Field::new("schema_registry", Kind::Section(REGISTRY), Is(""), "A registry that speaks Confluent's API."),
    Field::new(
        "source",
        Kind::Section(DATABASE),
        Absent("nothing is captured"),
        "The database that changes are captured from. `syncline produce` and `syncline run` need it.",
    ),
    Field::new(
        "target",
        Kind::Section(TARGET),
        Absent("nothing is written"),
        "The database that changes are written to. `syncline consume` and `syncline run` need it.",
    ),
    Field::new("sync_settings", Kind::Section(SETTINGS), Is(""), "How much at once, and how often."),
    Field::new("cdc_config", Kind::Section(CDC), Is(""), "What is captured, and how."),
    Field::new(
        "table_mappings",
        Kind::Sections(MAPPING),
        Is(""),
        "Renames, transformations and filters on the way to the target; see [transforms.md](transforms.md).",
    ),
    Field::new(
        "topology",
        Kind::Choice { works: &["one_way", "bidirectional", "hub_and_spoke"], later: &[] },
        Is("one_way"),
        "`one_way`: from `source` to `target`. `bidirectional`: two writable databases, `nodes`, each gets the other's changes. \
         `hub_and_spoke`: any number of them, each gets the changes of all others.",
    ),
    Field::new(
        "hub",
        Kind::Text,
        Absent("required with `hub_and_spoke`"),
        "The node in the middle of a `hub_and_spoke`.",
    ),
    Field::new(
        "nodes",
        Kind::Named(NODE),
        Is(""),
        "The databases of a topology, each under its name: letters, digits, `_` and `-`, at most 63. Instead of `source` and \
         `target`. `syncline run` runs both sides of all, `--node` picks one.",
    ),
    Field::new(
        "conflict_resolution",
        Kind::Section(RULES),
        Is(""),
        "Which side stays where a row was changed on two nodes.",
    ),
    Field::new("conflict_log", Kind::Section(LOG), Is(""), "How conflicts are written down, and who is told."),
    Field::later("schema_sync", "What a change of a source table's shape does to the target table."),
    Field::later("schedule", "Periodic runs."),
];

const KAFKA: &[Field] = &[
    Field::new(
        "bootstrap_servers",
        Kind::Texts,
        Required,
        "Brokers to ask first, `host:port`: a list, or one text with commas.",
    ),
    Field::new(
        "topic_prefix",
        Kind::Text,
        Absent("`name`, other characters than letters, digits, `.`, `_` and `-` replaced by `_`"),
        "First part of every topic's name: `<topic_prefix>.<schema>.<table>`. Debezium's `topic.prefix`.",
    ),
    Field::new(
        "consumer_group",
        Kind::Text,
        Absent("`name`, made legal like `topic_prefix`"),
        "The group that all consumers of this sync share.",
    ),
    Field::new(
        "partitions",
        Kind::Integer { min: 1, max: 10_000 },
        Is("4"),
        "Partitions of the topics that Syncline creates; an existing topic keeps its count.",
    ),
    Field::new(
        "replication_factor",
        Kind::Integer { min: 1, max: 32 },
        Is("1"),
        "Replicas of the topics that Syncline creates. In production at least 3.",
    ),
    Field::new(
        "topics",
        Kind::Texts,
        Is(""),
        "Topics to read, by name. Only in a file without `source`; without it a consumer reads all tables under `topic_prefix`.",
    ),
    Field::new(
        "topics_regex",
        Kind::Text,
        Absent("not used"),
        "Topics to read, as a regular expression. Instead of `topics`.",
    ),
    Field::new(
        "properties",
        Kind::Map,
        Is(""),
        "Further librdkafka properties, handed on as they are: `security.protocol`, `sasl.mechanisms` and so on. What \
         the guarantees rest on (acknowledgements, idempotence, partitioner, offsets, timeouts) is refused.",
    ),
];

const REGISTRY: &[Field] = &[
    Field::new(
        "url",
        Kind::Texts,
        Is(""),
        "Required unless what is read and written is JSON. Base address of the registry, such as `http://localhost:8081/apis/ccompat/v7`; a list is tried in order.",
    ),
    Field::new("username", Kind::Text, Absent("no authentication"), "For basic authentication."),
    Field::new("password", Kind::Secret, Absent("no authentication"), "For basic authentication."),
];

pub(super) const SOURCES: &[&str] = &["mysql", "mariadb", "sqlserver", "mongodb"];
const TARGETS: &[&str] = &[
    "mysql",
    "mariadb",
    "bigquery",
    "elasticsearch",
    "mongodb",
    "dynamodb",
    "cassandra",
    "redis",
    "sqlserver",
    "synapse",
    "parquet",
];

const DATABASE: &[Field] = &database(SOURCES);
const TARGET: &[Field] = &with_properties(database(TARGETS));

/// A target's keys: those of any database, and how it is written to.
const fn with_properties(database: [Field; 12]) -> [Field; 13] {
    let properties = Field::new(
        "properties",
        Kind::Section(SINK_PROPERTIES),
        Is(""),
        "How the target is written to, under the names of Debezium's JDBC sink; see [jdbc-sink.md](jdbc-sink.md).",
    );
    let [a, b, c, d, e, f, g, h, i, j, k, l] = database;
    [a, b, c, d, e, f, g, h, i, j, k, l, properties]
}

pub(super) const fn database(later: &'static [&'static str]) -> [Field; 12] {
    [
        Field::new("type", Kind::Choice { works: &["postgresql"], later }, Required, "The kind of database."),
        Field::new(
            "connection",
            Kind::Secret,
            Absent("`host`, `port`, … are used"),
            "All in one: `postgresql://user:password@host:port/database?sslmode=require`. Then the keys below must not be written.",
        ),
        Field::new("host", Kind::Text, Absent("required without `connection`"), "Host name or address."),
        Field::new("port", Kind::Integer { min: 1, max: 65_535 }, Absent("`5432`"), "Port."),
        Field::new("database", Kind::Text, Absent("required without `connection`"), "Database."),
        Field::new("username", Kind::Text, Absent("required without `connection`"), "Role to log in as."),
        Field::new(
            "password",
            Kind::Secret,
            Absent("no password"),
            "Its password; `${NAME}` takes it from the environment.",
        ),
        Field::new(
            "ssl",
            Kind::Choice { works: &["disabled", "required"], later: &["verify-ca", "verify-full"] },
            Absent("`disabled` for this machine's loopback addresses, `required` for all others"),
            "`disabled`: plain text. `required`: encrypted, the server's certificate is not checked.",
        ),
        Field::later("ca", "Certificates that are trusted."),
        Field::later("cert", "The client's certificate."),
        Field::later("key", "The client's private key."),
        Field::later("credentials", "Credentials from a secret manager."),
    ]
}

const SETTINGS: &[Field] = &[
    Field::new(
        "mode",
        Kind::Choice { works: &["incremental"], later: &["full", "snapshot"] },
        Is("incremental"),
        "`incremental`: a first copy, then changes as they happen.",
    ),
    Field::new(
        "batch_size",
        Kind::Integer { min: 1, max: 1_000_000 },
        Is("10000"),
        "Most rows in one transaction of the target.",
    ),
    Field::new(
        "parallel_tables",
        Kind::Integer { min: 1, max: 64 },
        Is("4"),
        "Tables that the first copy reads at once, and writers of a consumer; each takes a connection.",
    ),
    Field::new(
        "retry_attempts",
        Kind::Integer { min: 1, max: 100 },
        Is("3"),
        "Attempts at a record that fails by itself, before its table stops. Outages are waited out, however long.",
    ),
    Field::new(
        "checkpoint_interval",
        Kind::Duration { min_s: 1, max_s: 86_400 },
        Is("5_minutes"),
        "At the latest after this long the source is told what it need not keep any more. Progress is safe at every batch regardless.",
    ),
];

const CDC: &[Field] = &[
    Field::new(
        "method",
        Kind::Choice { works: &["logical_replication"], later: &["trigger", "polling"] },
        Is("logical_replication"),
        "How changes are captured.",
    ),
    Field::new("postgresql", Kind::Section(POSTGRESQL), Is(""), "What is specific to a PostgreSQL source."),
    Field::new("change_tracking", Kind::Section(TRACKING), Is(""), "What a change carries."),
    Field::new("output_format", Kind::Section(FORMAT), Is(""), "The form of keys and values in Kafka."),
    Field::new(
        "properties",
        Kind::Section(PROPERTIES),
        Is(""),
        "Properties of Debezium's PostgreSQL connector, under Debezium's names and with its values.",
    ),
];

const POSTGRESQL: &[Field] = &[
    Field::new(
        "publication",
        Kind::Text,
        Absent("`name`, made legal like `slot`"),
        "Publication for exactly the captured tables. Created if missing and allowed. Debezium's `publication.name`.",
    ),
    Field::new(
        "slot",
        Kind::Text,
        Absent("`name` in lower case, other characters than letters, digits and `_` replaced by `_`, at most 63"),
        "Replication slot. Created if missing and allowed. Debezium's `slot.name`.",
    ),
    Field::new(
        "tables",
        Kind::Texts,
        Absent("required with `source`"),
        "Tables to capture. `schema.table`, each part quoted as in SQL where it is not lower case (`'\"Sch ema\".\"Select\"'`); \
         no schema means `public`; `*` and `?` outside quotes match many; `/…/` is a regular expression over `schema.table`.",
    ),
];

const TRACKING: &[Field] = &[
    Field::new(
        "capture_deletes",
        Kind::Boolean,
        Is("true"),
        "`false` leaves out deletes and truncates: the target keeps the rows.",
    ),
    Field::new(
        "capture_before_values",
        Kind::Boolean,
        Is("false"),
        "`true` asks for REPLICA IDENTITY FULL on every captured table and names those that lack it.",
    ),
];

const FORMAT: &[Field] = &[Field::new(
    "type",
    Kind::Choice { works: &["avro", "json"], later: &[] },
    Is("avro"),
    "`avro`: Debezium's envelope in Confluent's wire format, schemas in the registry. `json`: the same envelope as Connect's \
     `JsonConverter` writes it without schemas; slower and larger, and no registry is needed.",
)];
