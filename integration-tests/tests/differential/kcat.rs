//! kcat's `-s avro` on our records: a reader in C, which shares no code with ours or Debezium's. It cannot show NaN or
//! infinities, and reads no schema with a zero byte in a default, whoever wrote them.

use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use syncline_integration_tests::stack;

use crate::capture::Pair;

/// Fails unless kcat reads every key and value. Where there is no kcat with Avro, it says so.
pub(crate) fn check(pairs: &[Pair]) -> Result<()> {
    let kcat = std::env::var("KCAT").unwrap_or_else(|_| "kcat".to_owned());
    let reason = match Command::new(&kcat).arg("-V").output() {
        Ok(version) if String::from_utf8_lossy(&version.stdout).contains("Avro") => {
            return pairs.iter().try_for_each(|pair| check_topic(&kcat, pair));
        }
        Ok(_) => "was built without libserdes, as Debian's is",
        Err(_) => "is not here",
    };
    stack::not_run(&format!("{kcat} {reason}, so it does not read our records; name another by KCAT"));
    Ok(())
}

fn check_topic(kcat: &str, pair: &Pair) -> Result<()> {
    let topic = &pair.topic;
    let output = Command::new(kcat)
        .args(["-C", "-q", "-e", "-o", "beginning", "-s", "key=avro", "-s", "value=avro", "-f", "%K\t%k\t%S\t%s\n"])
        .args(["-b", &stack::variable("KAFKA_BOOTSTRAP")?, "-r", &stack::variable("SCHEMA_REGISTRY_URL")?, "-t", topic])
        .output()?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success() && error.trim().is_empty(), "kcat on {topic}: {error}");
    let (mut keys, mut values) = (0, 0);
    for line in String::from_utf8(output.stdout)?.lines() {
        let fields: Vec<&str> = line.split('\t').collect();
        let [key_length, key, value_length, value] = fields[..] else { bail!("kcat on {topic} printed {line}") };
        let read = |length: &str, text: &str| -> Result<Option<Value>> {
            let json = (length != "-1").then(|| serde_json::from_str(text)).transpose();
            json.with_context(|| format!("kcat on {topic} printed {text}"))
        };
        if let Some(key) = read(key_length, key)? {
            ensure!(key.is_object(), "kcat on {topic} printed the key {key}");
            keys += 1;
        }
        if let Some(value) = read(value_length, value)? {
            ensure!(value["source"]["table"].is_string(), "kcat on {topic} printed the value {value}");
            values += 1;
        }
    }
    let written = [
        pair.ours.iter().filter(|record| record.key.is_some()).count(),
        pair.ours.iter().filter(|record| record.value.is_some()).count(),
    ];
    ensure!([keys, values] == written, "kcat read {keys} keys and {values} values of {topic}, which holds {written:?}");
    Ok(())
}
