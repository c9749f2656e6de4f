//! `offsets get`, `alter`, `reset`.

use serde_json::{Value, json};

use crate::cli::Output;
use crate::failure::Failure;
use crate::resync::confirm;

use super::answer::OffsetList;
use super::error::ConnectorsError;
use super::files::read_json;
use super::options::Offsets;
use super::print;
use super::worker::Worker;

/// Does one of them.
///
/// # Errors
/// No such connector, one that is not stopped, or a file that holds no offsets.
pub(super) async fn offsets(worker: &Worker, options: Offsets, output: Output) -> Result<(), Failure> {
    match options {
        Offsets::Get { name } => {
            let list = worker.offsets(&name).await?;
            let value = serde_json::to_value(&list).expect("plain structs always serialise");
            print(output, &text(&list), &value);
        }
        Offsets::Alter { name, from, yes } => {
            let list: OffsetList = serde_json::from_value(read_json(&from)?).map_err(|error| ConnectorsError::File {
                file: from,
                reason: format!(
                    "holds no offsets ({error}): write {{\"offsets\": [{{\"partition\": {{…}}, \"offset\": {{…}}}}]}} \
                     as `offsets get --output json` prints it"
                ),
            })?;
            stopped(worker, &name).await?;
            let step = |entry: &super::answer::Offset| match &entry.offset {
                Value::Null => format!("{name}: forget the offset of {}", entry.partition),
                offset => format!("{name}: set {} to {offset}", entry.partition),
            };
            let steps: Vec<String> = list.offsets.iter().map(step).collect();
            confirm(&steps, yes)?;
            say(output, &worker.alter_offsets(&name, &list).await?);
        }
        Offsets::Reset { name, yes } => {
            stopped(worker, &name).await?;
            confirm(&[format!("forget all offsets of {name}: it starts over when it is resumed")], yes)?;
            say(output, &worker.reset_offsets(&name).await?);
        }
    }
    Ok(())
}

fn say(output: Output, message: &str) {
    print(output, &format!("{message}\n"), &json!({"message": message}));
}

/// The worker would say no too, but not what to do.
async fn stopped(worker: &Worker, name: &str) -> Result<(), ConnectorsError> {
    let Some(status) = worker.status(name).await? else { return Err(worker.unknown(name).await?) };
    let state = status.connector.state;
    if state == "STOPPED" {
        return Ok(());
    }
    Err(ConnectorsError::NotStopped { name: name.to_owned(), state })
}

fn text(list: &OffsetList) -> String {
    if list.offsets.is_empty() {
        return "no offsets yet\n".to_owned();
    }
    list.offsets.iter().map(|entry| format!("{}  {}\n", entry.partition, entry.offset)).collect()
}
