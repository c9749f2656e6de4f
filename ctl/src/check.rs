//! `check`: are the servers ready for this file? Nothing is created or changed anywhere.

use std::io::Write;
use std::path::Path;

use serde::Serialize;
use syncline_consumer::config::{ConsumerConfig, TargetConfig};
use syncline_consumer::targets::postgres::PostgresTarget;
use syncline_consumer::targets::{Target, TargetError, Writer};
use syncline_event::table::TableDefinition;
use syncline_producer::config::ProducerConfig;
use syncline_producer::error::ProducerError;
use syncline_runtime::kafka::Admin;
use syncline_runtime::registry::Registry;
use syncline_runtime::settings::{DatabaseSettings, KafkaSettings, RegistrySettings};

use crate::cli::Output;
use crate::config::{MappingsFile, Sides, SyncConfig};
use crate::failure::{Failure, chain};
use crate::parts::{self, Part, Parts};
use crate::{mappings, rules};

/// Everything that was looked at.
#[derive(Debug, Default, Serialize)]
struct Report {
    ok: bool,
    checks: Vec<Finding>,
}

/// One thing that was looked at.
#[derive(Debug, Serialize)]
struct Finding {
    /// `configuration`, `kafka`, `schema_registry`, `source` or `target`.
    name: &'static str,
    /// Of a topology; then details, notes and faults begin with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    node: Option<String>,
    ok: bool,
    /// Where.
    detail: String,
    /// What a start would find or do.
    notes: Vec<String>,
    /// Each with its remedy.
    faults: Vec<String>,
}

impl Finding {
    fn new(name: &'static str, detail: String, faults: Vec<String>) -> Self {
        Self { name, node: None, ok: faults.is_empty(), detail, notes: Vec::new(), faults }
    }

    /// The same, about a node of a topology.
    fn of(self, node: Option<&str>) -> Self {
        let Some(node) = node else { return self };
        let prefixed = |text: String| format!("{node}: {text}");
        Self {
            node: Some(node.to_owned()),
            detail: prefixed(self.detail),
            notes: self.notes.into_iter().map(prefixed).collect(),
            faults: self.faults.into_iter().map(prefixed).collect(),
            ..self
        }
    }
}

/// Looks at everything, prints what was found to standard output.
///
/// # Errors
/// The file cannot be used, or something was found.
pub(crate) async fn check(file: &Path, node: Option<String>, output: Output) -> Result<(), Failure> {
    let config = match SyncConfig::load(file, Sides::Both, node.as_deref()) {
        Ok(config) => config,
        Err(error) => {
            if output == Output::Json {
                let faults = error.to_string().lines().map(str::to_owned).collect();
                print(vec![Finding::new("configuration", file.display().to_string(), faults)], output);
            }
            return Err(error.into());
        }
    };
    let mut checks = vec![Finding::new("configuration", file.display().to_string(), Vec::new())];
    let Parts { list: parts, mappings } = parts::to_check(config, node.as_deref())?;
    let mut settings = parts.iter().filter_map(|Part { producer, consumer, .. }| {
        let producer = producer.as_ref().map(|config| (&config.kafka, &config.registry));
        producer.or(consumer.as_ref().map(|config| (&config.kafka, &config.registry)))
    });
    // All parts have the same ones.
    if let Some((kafka_settings, registry_settings)) = settings.next() {
        let (kafka, registry) = tokio::join!(kafka(kafka_settings), registry(registry_settings));
        checks.push(kafka);
        // Where everything is JSON there may be none.
        checks.extend((!registry_settings.urls.is_empty()).then_some(registry));
    }
    let shared: Vec<String> = checks.iter().flat_map(|finding| finding.faults.clone()).collect();
    for Part { node, producer, consumer } in &parts {
        if let Some(config) = producer {
            let mut finding = source(node.as_deref(), config, consumer.as_ref(), &mappings).await;
            // Kafka and the registry are looked at there too; once is enough.
            finding.faults.retain(|fault| !shared.contains(fault));
            finding.ok = finding.faults.is_empty();
            checks.push(finding.of(node.as_deref()));
        }
        if let Some(config) = consumer {
            checks.push(target(config).await.of(node.as_deref()));
        }
    }
    let faults: usize = checks.iter().map(|finding| finding.faults.len()).sum();
    print(checks, output);
    match faults {
        0 => Ok(()),
        1 => Err(Failure::Found("1 fault".to_owned())),
        count => Err(Failure::Found(format!("{count} faults"))),
    }
}

async fn kafka(settings: &KafkaSettings) -> Finding {
    match Admin::connect(settings).await {
        Ok(admin) => {
            let detail = format!("{}, cluster {}", settings.bootstrap_servers, admin.cluster_id());
            Finding::new("kafka", detail, Vec::new())
        }
        Err(error) => Finding::new("kafka", settings.bootstrap_servers.clone(), vec![chain(&error)]),
    }
}

async fn registry(settings: &RegistrySettings) -> Finding {
    let answer = match Registry::connect(settings) {
        Ok(registry) => registry.check().await,
        Err(error) => Err(error),
    };
    let faults = answer.err().map(|error| chain(&error)).into_iter().collect();
    Finding::new("schema_registry", settings.urls.join(", "), faults)
}

async fn source(
    node: Option<&str>,
    config: &ProducerConfig,
    consumer: Option<&ConsumerConfig>,
    mappings: &MappingsFile,
) -> Finding {
    let place = place(&config.source);
    match syncline_producer::check::check(config).await {
        Ok(report) => {
            let mut faults = mappings::faults(mappings, node, report.tables.iter());
            if let Some(node) = consumer.and_then(|config| config.node.as_ref()) {
                faults.extend(rules::faults(&node.rules, &report.tables));
            }
            let mut finding = Finding::new("source", place, faults);
            let tables: Vec<String> = report.tables.iter().map(TableDefinition::qualified_name).collect();
            finding.notes = vec![format!("captures {}", tables.join(", "))];
            finding.notes.extend(report.notes);
            finding
        }
        Err(ProducerError::Preflight(faults)) => Finding::new("source", place, faults),
        Err(error) => Finding::new("source", place, vec![chain(&error)]),
    }
}

async fn target(config: &ConsumerConfig) -> Finding {
    let TargetConfig::Postgresql(settings) = &config.target;
    let faults = open_target(config).await.err().map(|error| chain(&error)).into_iter().collect();
    Finding::new("target", place(settings), faults)
}

/// Logs in to the target and changes nothing.
///
/// # Errors
/// Unreachable or refused.
pub(crate) async fn open_target(config: &ConsumerConfig) -> Result<Box<dyn Writer>, TargetError> {
    let TargetConfig::Postgresql(settings) = &config.target;
    PostgresTarget::new(settings.clone(), "syncline-check".to_owned()).writer().await
}

fn place(settings: &DatabaseSettings) -> String {
    let DatabaseSettings { host, port, database, username, .. } = settings;
    format!("{username} at {host}:{port}/{database}")
}

fn print(checks: Vec<Finding>, output: Output) {
    let report = Report { ok: checks.iter().all(|finding| finding.ok), checks };
    let shown = match output {
        Output::Text => text(&report),
        Output::Json => serde_json::to_string_pretty(&report).expect("plain structs always serialise") + "\n",
    };
    // Whoever reads may have stopped reading; the exit code still tells.
    std::io::stdout().write_all(shown.as_bytes()).ok();
}

fn text(report: &Report) -> String {
    let mut out = String::new();
    for finding in &report.checks {
        let mark = if finding.ok { "ok" } else { "FAULT" };
        out.push_str(&format!("{:16} {mark:6} {}\n", finding.name, finding.detail));
        for fault in finding.notes.iter().chain(&finding.faults) {
            out.push_str(&format!("    {}\n", fault.replace('\n', "\n    ")));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_stands_in_front_of_its_faults() {
        let finding = Finding::new("target", "a at b:1/c".to_owned(), vec!["away".to_owned()]).of(Some("eu"));
        let shown = text(&Report { ok: false, checks: vec![finding] });
        assert_eq!(shown, "target           FAULT  eu: a at b:1/c\n    eu: away\n");
    }

    #[test]
    fn a_report_lists_every_fault_with_its_remedy() {
        let checks = vec![
            Finding::new("kafka", "localhost:9092".to_owned(), Vec::new()),
            Finding::new("source", "db".to_owned(), vec!["wal_level is replica:\nset it to logical".to_owned()]),
        ];
        let shown = text(&Report { ok: false, checks });
        assert_eq!(
            shown,
            "kafka            ok     localhost:9092\n\
             source           FAULT  db\n    wal_level is replica:\n    set it to logical\n"
        );
    }
}
