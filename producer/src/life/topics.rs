//! Whether topics and schemas still are what they were.

use std::collections::BTreeSet;

use syncline_event::avro::schema::{envelope_schema, key_schema};
use syncline_event::table::TableDefinition;
use syncline_runtime::kafka::{Admin, TopicInfo};
use syncline_runtime::registry::Registry;

use crate::checkpoint::TopicCheckpoint;
use crate::config::Format;
use crate::error::ProducerError;

/// A schema that the registry forbids is known before anything is created for it.
pub(crate) async fn schemas_fit(
    registry: &Registry,
    subjects: &BTreeSet<String>,
    definition: &TableDefinition,
) -> Result<(), ProducerError> {
    let schemas = [("key", key_schema(definition)), ("value", envelope_schema(definition))];
    for (part, schema) in schemas {
        let subject = format!("{}-{part}", definition.topic);
        if subjects.contains(&subject) {
            registry.would_register(&subject, &schema).await?;
        }
    }
    Ok(())
}

/// A row's key is placed by its bytes, so its records would go on in another partition than those before.
pub(super) fn same_form(name: &str, last: &TopicCheckpoint, format: Format) -> Result<(), ProducerError> {
    let (was, is) = match (last.form(), format) {
        (Format::Avro, Format::Json) => ("Avro", "json"),
        (Format::Json, Format::Avro) => ("JSON", "avro"),
        _ => return Ok(()),
    };
    let what = format!(
        "its records are {was}, and cdc_config.output_format.type is {is}: keys would move to other partitions and lose \
         their order. Write the former type, or run `syncline resync --source -f <file>` to go on in the other form \
         behind a new snapshot"
    );
    Err(ProducerError::Topic { topic: name.to_owned(), what })
}

/// The topic of a checkpoint, if it still is what it was.
pub(super) async fn same_topic(admin: &Admin, name: &str, last: &TopicCheckpoint) -> Result<TopicInfo, ProducerError> {
    let misfit = |what: String| Err(ProducerError::Topic { topic: name.to_owned(), what });
    match admin.describe_topic(name).await? {
        Some(info) if info.id != last.topic_id => misfit(
            "it was deleted and created again since the checkpoint, so what it held is gone: run `syncline resync --source \
             -f <file>` to fill it by a new snapshot"
                .to_owned(),
        ),
        Some(info) if u32::try_from(info.partitions) != Ok(last.partitions) => misfit(format!(
            "it has {} partitions, at the checkpoint it had {}: keys would move to other partitions and lose their \
             order. Delete the topic, then run `syncline resync --source -f <file>`; it is created with kafka.partitions",
            info.partitions, last.partitions
        )),
        Some(info) => Ok(info),
        None => {
            misfit("it was deleted: run `syncline resync --source -f <file>` to create and fill it anew".to_owned())
        }
    }
}
