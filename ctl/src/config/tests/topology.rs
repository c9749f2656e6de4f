//! Files with `nodes`.

use std::collections::BTreeMap;

use syncline_consumer::config::{Alerting, ConflictLog, Notify};
use syncline_runtime::settings::Secret;
use syncline_transforms::resolve::rules::{ColumnRule, Rules, TableRule};

use super::*;

const TWO: &str = "name: Shop
kafka: {bootstrap_servers: 'k:1', consumer_group: apply}
schema_registry: {url: http://r}
topology: bidirectional
nodes:
  hq: {type: postgresql, host: hq.example, database: shop, username: a}
  eu-1: {type: postgresql, connection: 'postgresql://a:pw@eu.example:6000/shop', tables: [users]}
cdc_config:
  postgresql: {tables: [users, orders]}
";

const THREE: &str = "name: Shop
kafka: {bootstrap_servers: 'k:1'}
schema_registry: {url: http://r}
topology: hub_and_spoke
hub: hq
nodes:
  eu: {type: postgresql, host: db, database: eu, username: a, password: '${EU_PASSWORD}', tables: [t]}
  hq: {type: postgresql, host: db, database: hq, username: a, password: '${HQ_PASSWORD}', tables: [t]}
  us: {type: postgresql, host: db, database: us, username: a, password: pw, tables: [t]}
";

fn rules_of(text: &str) -> Rules {
    let config = config(text).unwrap();
    Rules::clone(&config.nodes[0].consumer.as_ref().unwrap().node.as_ref().unwrap().rules)
}

fn log_of(text: &str) -> ConflictLog {
    config(text).unwrap().nodes.remove(0).consumer.unwrap().node.unwrap().log
}

fn set_passwords(text: &str) -> String {
    text.replace("${EU_PASSWORD}", "pw").replace("${HQ_PASSWORD}", "pw")
}

#[test]
fn two_nodes_are_filled_with_defaults() {
    let SyncConfig { producer, consumer, nodes, mappings } = config(TWO).unwrap();
    assert!(producer.is_none() && consumer.is_none() && mappings.mappings.list.is_empty());
    let names: Vec<&str> = nodes.iter().map(|node| node.name.as_str()).collect();
    assert_eq!(names, ["hq", "eu-1"]);
    let (captured, applied) = (nodes[1].producer.as_ref().unwrap(), nodes[1].consumer.as_ref().unwrap());
    assert_eq!((captured.topic_prefix.as_str(), captured.slot.as_str()), ("Shop.eu-1", "shop_eu_1"));
    assert_eq!(captured.publication, "shop_eu_1");
    assert_eq!((captured.source.host.as_str(), captured.source.port), ("eu.example", 6000));
    assert_eq!(
        (&captured.tables, &nodes[0].producer.as_ref().unwrap().tables),
        (&vec!["users".to_owned()], &vec!["users".to_owned(), "orders".to_owned()])
    );
    // Nothing can ask a node to read its tables anew.
    assert!(captured.signals.table.is_none() && captured.signals.topic.is_none());
    let node = captured.node.as_ref().unwrap();
    assert_eq!((node.topology.as_str(), node.name.as_str(), node.priority), ("Shop", "eu-1", 1));
    assert_eq!(nodes[0].producer.as_ref().unwrap().node.as_ref().unwrap().priority, 2);
    assert_eq!(applied.consumer_group, "apply.eu-1");
    assert!(matches!(&applied.topics, TopicSelection::Prefixes(prefixes) if *prefixes == ["Shop.hq", "Shop.eu-1"]));
    let TargetConfig::Postgresql(target) = &applied.target;
    assert_eq!(target.host, "eu.example");
    assert_eq!((applied.sink.clone(), applied.mappings.list.len()), (SinkSettings::default(), 0));
    let node = applied.node.as_ref().unwrap();
    assert_eq!((node.topology.as_str(), node.name.as_str()), ("Shop", "eu-1"));
    let prefixes = BTreeMap::from([("hq".into(), "Shop.hq".into()), ("eu-1".into(), "Shop.eu-1".into())]);
    assert_eq!(node.prefixes, prefixes);
    let priority = vec!["hq".to_owned(), "eu-1".to_owned()];
    let rules = Rules { priority, default: TableRule::LastWriteWins, tables: BTreeMap::new() };
    assert_eq!(*node.rules, rules);
    let log = ConflictLog { retention_days: 90, largest_value: 65_536, masked: Vec::new(), alerting: None };
    assert_eq!(node.log, log);
}

#[test]
fn the_hub_counts_most_unless_priority_says_otherwise() {
    let three = set_passwords(THREE);
    assert_eq!(rules_of(&three).priority, ["hq", "eu", "us"]);
    let other = format!("{three}conflict_resolution: {{priority: [us, hq, eu]}}");
    assert_eq!(rules_of(&other).priority, ["us", "hq", "eu"]);
}

#[test]
fn rules_are_taken_by_table_and_column() {
    let text = format!(
        "{TWO}conflict_resolution:
  order_by: updated_at
  tables:
    stock:
      strategy: custom_rules
      custom_rules:
        - {{field: quantity, strategy: sum}}
        - {{field: status, strategy: priority_order, order: [active, pending]}}
    '\"Big\".\"T\"': {{strategy: source_priority}}
    sales.notes: {{strategy: manual}}
    sales.plain: {{}}
"
    );
    let rules = rules_of(&text);
    assert_eq!(rules.default, TableRule::LastWriteWinsBy("updated_at".into()));
    let order = vec!["active".to_owned(), "pending".to_owned()];
    let columns = BTreeMap::from([
        ("quantity".to_owned(), ColumnRule::Sum),
        ("status".to_owned(), ColumnRule::PriorityOrder(order)),
    ]);
    assert_eq!(rules.of("public.stock"), &TableRule::Columns(columns));
    assert_eq!(rules.of("Big.T"), &TableRule::SourcePriority);
    assert_eq!((rules.of("sales.notes"), rules.of("sales.plain")), (&TableRule::Manual, &TableRule::LastWriteWins));
}

#[test]
fn the_conflict_log_tells_whom_it_is_asked_to() {
    let text = format!(
        "{TWO}conflict_log:
  storage: {{type: table, name: sync_conflicts}}
  retention_days: 7
  largest_value: 100
  mask: [email]
  alerting:
    notify: ['slack:#data-alerts', 'webhook:https://hooks.example/hunter2', log]
    slack_webhook_url: https://hooks.slack.example/hunter2
"
    );
    let log = log_of(&text);
    assert_eq!((log.retention_days, log.largest_value, log.masked.clone()), (7, 100, vec!["email".to_owned()]));
    let secret = |text: &str| Secret::new(text.to_owned());
    let webhook = secret("https://hooks.slack.example/hunter2");
    let notify = vec![
        Notify::Slack { channel: "#data-alerts".into(), webhook },
        Notify::Webhook(secret("https://hooks.example/hunter2")),
        Notify::Log,
    ];
    assert!(!format!("{log:?}").contains("hunter2"));
    assert_eq!(log.alerting, Some(Alerting { threshold: 100, notify }));
}

#[test]
fn each_refusal_of_a_topology_names_the_key_and_the_remedy() {
    let edit = |from: &str, to: &str| {
        assert!(TWO.contains(from), "{from}");
        TWO.replacen(from, to, 1)
    };
    let eu = "eu-1: {type: postgresql, connection: 'postgresql://a:pw@eu.example:6000/shop', tables: [users]}";
    for (text, expected) in [
        (TWO.replace("topology: bidirectional\n", ""), "sync.yaml: topology: is needed with `nodes`"),
        (TWO.replace(eu, ""), "sync.yaml:4: topology: `bidirectional` has exactly two `nodes`, not 1"),
        (SYNC.to_owned() + "topology: bidirectional", "`bidirectional` has exactly two `nodes`, not 0"),
        (SYNC.to_owned() + "hub: hq", "hub: belongs to `topology: hub_and_spoke`"),
        (SYNC.to_owned() + "nodes: {}", "nodes: belongs to a topology"),
        (SYNC.to_owned() + "conflict_resolution: {}", "conflict_resolution: belongs to a topology"),
        (SYNC.to_owned() + "conflict_log: {}", "conflict_log: belongs to a topology"),
        (edit("bidirectional", "bidirektional"), "did you mean `bidirectional`?"),
        (edit("bidirectional", "hub_and_spoke"), "sync.yaml: hub: is required with `topology: hub_and_spoke`"),
        (
            edit("bidirectional", "hub_and_spoke\nhub: hqq"),
            "sync.yaml:5: hub: `hqq` is no node; the nodes are hq, eu-1",
        ),
        (edit("bidirectional", "hub_and_spoke\nhub: eu1"), "did you mean `eu-1`?"),
        (edit("bidirectional", "bidirectional\nhub: hq"), "hub: belongs to `topology: hub_and_spoke`"),
        (set_passwords(THREE).replace("hub_and_spoke\nhub: hq", "bidirectional"), "two `nodes`, not 3"),
        (edit("  hq:", "  h q:"), "sync.yaml:6: nodes.h q: `h q` is no name of a node: it may hold letters"),
        (edit("  hq:", &format!("  {}:", "x".repeat(64))), "may be 63 characters long at most"),
        (edit("host: hq.example, ", ""), "sync.yaml: nodes.hq.host: is required (or `connection`"),
        (edit("hq: {type: postgresql,", "hq: {"), "sync.yaml:6: nodes.hq.type: is required"),
        (edit("hq: {type: postgresql", "hq: {type: mysql"), "nodes.hq.type: `mysql` is not supported yet"),
        (edit("connection: 'postgresql", "host: x, connection: 'postgresql"), "nodes.eu-1.host: stands beside"),
        (
            edit("tables: [users]}", "topic_prefx: a}"),
            "nodes.eu-1.topic_prefx: unknown key: did you mean `topic_prefix`?",
        ),
        (edit("tables: [users]}", "topic_prefix: a b}"), "nodes.eu-1.topic_prefix: `a b` may hold"),
        (edit("tables: [users]}", "topic_prefix: Shop.hq}"), "`Shop.hq` is the prefix of node `hq` too"),
        (edit("tables: [users]}", "topic_prefix: Shop}"), "`Shop` and `Shop.hq`, which is node `hq`'s, begin alike"),
        (edit("tables: [users]}", "topic_prefix: Shop.hq.a}"), "begin alike"),
        (edit("tables: [users]}", "slot: A}"), "nodes.eu-1.slot: `A` may hold lower-case"),
        (edit("cdc_config:\n  postgresql: {tables: [users, orders]}\n", ""), "nodes.hq.tables: is required"),
        (edit("tables: [users]}", "tables: ['']}"), "nodes.eu-1.tables: holds an empty name"),
        (edit("eu.example:6000", "HQ.example"), "sync.yaml:7: nodes.eu-1: is the same database as node `hq`"),
        (
            edit("eu.example:6000/shop'", "hq.example/other', slot: shop_hq"),
            "nodes.eu-1.slot: `shop_hq` is the slot of node `hq` too",
        ),
        (TWO.to_owned() + "source: {type: postgresql, connection: x}", "source: stands beside `nodes`"),
        (TWO.to_owned() + "target: {type: postgresql, connection: x}", "target: stands beside `nodes`"),
        (edit("'k:1'", "'k:1', topics: [a]"), "kafka.topics: stands beside `nodes`"),
        (edit("'k:1'", "'k:1', topics_regex: a"), "kafka.topics_regex: stands beside `nodes`"),
        (TWO.to_owned() + "table_mappings: [{source_table: a}]", "table_mappings: cannot stand beside `nodes`"),
        (edit("orders]}", "orders], slot: a}"), "cdc_config.postgresql.slot: stands beside `nodes`"),
        (edit("orders]}", "orders], publication: a}"), "cdc_config.postgresql.publication: stands beside `nodes`"),
        (TWO.to_owned() + "sync_settings: {mode: full}", "sync_settings.mode: `full` is not supported yet"),
        (TWO.replace("schema_registry: {url: http://r}\n", ""), "schema_registry.url: is required"),
    ] {
        let message = refusal(&text);
        assert!(message.contains(expected), "{text}\ngave {message:?}, expected {expected:?}");
        assert!(!message.contains("pw@"), "{message}");
    }
    // The machine itself has several names.
    let same = edit("eu.example:6000/shop", "localhost:5432/shop").replace("host: hq.example", "host: 127.0.0.1");
    assert!(refusal(&same).contains("is the same database as node `hq`"), "{}", refusal(&same));
}

#[test]
fn what_would_make_nodes_differ_is_refused() {
    for (key, value) in [
        ("skipped.operations", "t"),
        ("column.include.list", "public.users.id"),
        ("column.exclude.list", "public.users.id"),
        ("column.mask.with.3.chars", "public.users.name"),
        ("column.truncate.to.3.chars", "public.users.name"),
        ("message.key.columns", "public.users:id"),
        ("reselect.columns.include.list", "public.users.name"),
        ("skip.unsupported.columns", "true"),
        ("snapshot.mode", "initial_only"),
        ("snapshot.mode", "when_needed"),
        ("decimal.handling.mode", "double"),
        ("time.precision.mode", "connect"),
        ("binary.handling.mode", "hex"),
        ("interval.handling.mode", "string"),
        ("signal.data.collection", "public.signals"),
        ("signal.kafka.topic", "signals"),
        ("signal.enabled.channels", "kafka"),
    ] {
        let message = refusal(&format!("{TWO}  properties: {{{key}: '{value}'}}"));
        assert!(message.starts_with(&format!("sync.yaml:10: cdc_config.properties.{key}: ")), "{message}");
        // The same for both nodes, so once.
        assert_eq!(message.lines().count(), 1, "{message}");
    }
    let salted = "column.mask.hash.SHA-256.with.salt.pepper: public.users.name";
    let message = refusal(&format!("{TWO}  properties: {{{salted}}}"));
    assert!(message.contains("changes values on the way") && !message.contains("pepper"), "{message}");
    let deletes = refusal(&format!("{TWO}  change_tracking: {{capture_deletes: false}}"));
    assert!(deletes.contains("cdc_config.change_tracking.capture_deletes: leaves a part"), "{deletes}");
    let fine = "snapshot.mode: no_data, tombstones.on.delete: false, provide.transaction.metadata: true, skipped.operations: none";
    assert!(config(&format!("{TWO}  output_format: {{type: json}}\n  properties: {{{fine}}}")).is_ok());
}

#[test]
fn rules_that_cannot_be_are_refused() {
    for (rules, expected) in [
        ("{strategy: newest}", "conflict_resolution.strategy: `newest` is not known"),
        ("{strategie: merge}", "did you mean `strategy`?"),
        ("{priority: [hq]}", "conflict_resolution.priority: must name all nodes; eu-1 is missing"),
        ("{priority: [hq, eu_1]}", "conflict_resolution.priority[1]: `eu_1` is no node: did you mean `eu-1`?"),
        ("{priority: [hq, hq, eu-1]}", "conflict_resolution.priority[1]: `hq` stands here twice"),
        ("{strategy: merge, order_by: a}", "conflict_resolution.order_by: orders `last_write_wins` only"),
        ("{strategy: custom_rules}", "conflict_resolution.custom_rules: is required"),
        ("{custom_rules: [{field: a, strategy: sum}]}", "custom_rules: stands without `strategy: custom_rules`"),
        (
            "{strategy: custom_rules, custom_rules: [{field: a, strategy: add}]}",
            "custom_rules[0].strategy: `add` is not known",
        ),
        ("{strategy: custom_rules, custom_rules: [{strategy: sum}]}", "custom_rules[0].field: is required"),
        (
            "{strategy: custom_rules, custom_rules: [{field: a, strategy: sum}, {field: a, strategy: max}]}",
            "custom_rules[1].field: `a` has a rule already",
        ),
        (
            "{strategy: custom_rules, custom_rules: [{field: a, strategy: priority_order}]}",
            "custom_rules[0].order: is required",
        ),
        (
            "{strategy: custom_rules, custom_rules: [{field: a, strategy: priority_order, order: [x, y, x]}]}",
            "custom_rules[0].order[2]: `x` stands here twice",
        ),
        (
            "{strategy: custom_rules, custom_rules: [{field: a, strategy: sum, order: [x]}]}",
            "custom_rules[0].order: stands without `strategy: priority_order`",
        ),
        ("{tables: {a: {priority: [hq]}}}", "set `conflict_resolution.priority` instead"),
        ("{tables: {a: {strategy: merge, order_by: b}}}", "conflict_resolution.tables.a.order_by: orders"),
        ("{tables: {'sales.*': {strategy: merge}}}", "`sales.*` must be one table's name"),
        ("{tables: {a.b.c: {strategy: merge}}}", "`a.b.c` is no table's name"),
        ("{tables: {a: {}, public.a: {}}}", "conflict_resolution.tables.public.a: `public.a` is named twice"),
        ("{tables: [a]}", "conflict_resolution.tables: expected names"),
    ] {
        let message = refusal(&format!("{TWO}conflict_resolution: {rules}"));
        assert!(message.contains(expected), "{rules}\ngave {message:?}, expected {expected:?}");
    }
}

#[test]
fn alarms_that_nobody_would_hear_are_refused() {
    for (log, expected) in [
        (
            "{storage: {name: conflicts}}",
            "conflict_log.storage.name: `conflicts` is not known; supported: sync_conflicts",
        ),
        ("{storage: {type: topic}}", "conflict_log.storage.type: `topic` is not known; supported: table"),
        ("{retention_days: 0}", "conflict_log.retention_days: `0` is not a whole number from 1"),
        ("{alerting: {threshold: 5}}", "conflict_log.alerting.notify: is required"),
        ("{alerting: {notify: []}}", "conflict_log.alerting.notify: names nobody"),
        ("{alerting: {notify: ['slack:#hunter2']}}", "notify[0]: needs `conflict_log.alerting.slack_webhook_url`"),
        (
            "{alerting: {notify: ['slack:hunter2'], slack_webhook_url: 'https://hunter2'}}",
            "notify[0]: names no channel",
        ),
        (
            "{alerting: {notify: log, slack_webhook_url: 'https://hunter2'}}",
            "slack_webhook_url: is used by `slack:#channel` only",
        ),
        ("{alerting: {notify: 'slack:#a', slack_webhook_url: hunter2}}", "slack_webhook_url: is not a URL"),
        ("{alerting: {notify: ['webhook:ftp://hunter2']}}", "notify[0]: must begin with https://"),
        ("{alerting: {notify: ['webhook:hunter2']}}", "notify[0]: is not a URL"),
        ("{alerting: {notify: [log, 'email:hunter2']}}", "notify[1]: is not known: write slack:#channel"),
    ] {
        let message = refusal(&format!("{TWO}conflict_log: {log}"));
        assert!(message.contains(expected), "{log}\ngave {message:?}, expected {expected:?}");
        assert!(!message.contains("hunter2"), "{message}");
    }
}

#[test]
fn one_file_serves_the_hosts_of_all_nodes() {
    for sides in [Sides::Both, Sides::Producer, Sides::Consumer] {
        let us = load_part(THREE, Scope { sides, node: Some("us") }).unwrap();
        let here: Vec<_> = us.nodes.iter().map(|node| (node.producer.is_some(), node.consumer.is_some())).collect();
        assert_eq!(here, [(false, false), (false, false), (sides.captures(), sides.applies())]);
        let message = load_part(THREE, Scope { sides, node: Some("eu") }).unwrap_err().to_string();
        assert!(message.contains("nodes.eu.password: environment variable EU_PASSWORD is not set"), "{message}");
        assert_eq!(message.lines().count(), 1, "{message}");
    }
    assert_eq!(load_part(THREE, Scope::ALL).unwrap_err().to_string().lines().count(), 2);
    // Without a node there is nothing to run, which is not the file's fault.
    assert!(
        load_part(THREE, Scope { sides: Sides::Producer, node: None })
            .unwrap()
            .nodes
            .iter()
            .all(|node| node.producer.is_none())
    );
    // What others need to know of a node they need to know everywhere.
    let text = THREE.replace("database: eu,", "database: eu, topic_prefix: '${EU_PREFIX}',");
    let message = load_part(&text, Scope { sides: Sides::Both, node: Some("us") }).unwrap_err().to_string();
    assert!(message.contains("nodes.eu.topic_prefix: environment variable EU_PREFIX is not set"), "{message}");
}
