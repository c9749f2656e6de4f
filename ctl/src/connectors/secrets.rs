//! What of a configuration may be shown. Placeholders of config providers (`${env:NAME}`, `${file:PATH:KEY}`) are
//! no secrets and are shown as they are.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::LazyLock;

use regex::Regex;

use super::answer::{Config, Validation};

/// Stands for a secret.
const HIDDEN: &str = "***";

/// Secrets shorter than this are not looked for in texts: they would be found everywhere.
const LOOKED_FOR: usize = 4;

static PLACEHOLDER: LazyLock<Regex> = LazyLock::new(|| pattern(r"\$\{[^}:]+:[^}]*\}"));
/// `scheme://user:password@`
static LOGIN: LazyLock<Regex> = LazyLock::new(|| pattern(r"(://[^/@\s:]*:)(\S*)(@)"));
/// `password=…` in a query string, and `password="…"` in a JAAS line.
static PARAMETER: LazyLock<Regex> =
    LazyLock::new(|| pattern(r#"(?i)((?:password|passwd|pwd|secret|token)=)("[^"]*"|[^&;,\s"]*)()"#));

fn pattern(text: &str) -> Regex {
    Regex::new(text).expect("the pattern is a constant")
}

/// Which keys of one connector hold secrets.
#[derive(Debug, Default)]
pub(super) struct Secrets {
    /// Those that the worker's plugin declares as passwords.
    declared: BTreeSet<String>,
    /// Values of secret keys that stand in the configuration itself.
    written: Vec<String>,
}

impl Secrets {
    /// From what the worker knows about the keys, and the configurations that texts may quote.
    pub(super) fn of(validation: Option<&Validation>, configs: &[&Config]) -> Self {
        let configurations = validation.map(|validation| validation.configs.as_slice()).unwrap_or_default();
        let definitions = configurations.iter().filter_map(|checked| checked.definition.as_ref());
        let passwords = definitions.filter(|definition| definition.kind == "PASSWORD");
        let declared = passwords.map(|definition| definition.name.clone()).collect();
        let mut secrets = Self { declared, written: Vec::new() };
        for config in configs {
            for (key, value) in *config {
                let value = value.as_str().unwrap_or_default();
                if secrets.is_secret(key) && value.len() >= LOOKED_FOR && !PLACEHOLDER.is_match(value) {
                    secrets.written.push(value.to_owned());
                }
            }
        }
        secrets.written.sort_by_key(|value| std::cmp::Reverse(value.len()));
        secrets
    }

    /// Whether a key holds a secret.
    pub(super) fn is_secret(&self, key: &str) -> bool {
        self.declared.contains(key) || sounds_secret(key)
    }

    /// A value as it may be shown.
    pub(super) fn show(&self, key: &str, value: &str) -> String {
        if self.is_secret(key) { without_literals(value) } else { without_logins(value) }
    }

    /// Whether the configuration itself holds a secret under this key.
    pub(super) fn is_written_out(&self, key: &str, value: &str) -> bool {
        self.is_secret(key) && !value.is_empty() && !PLACEHOLDER.is_match(value)
    }

    /// A text of the worker, which may quote a value.
    pub(super) fn scrub(&self, text: &str) -> String {
        let mut text = without_logins(text);
        for secret in &self.written {
            text = text.replace(secret, HIDDEN);
        }
        text
    }
}

/// Converters, transformations and clients have keys that no plugin declares.
fn sounds_secret(key: &str) -> bool {
    let key = key.to_lowercase();
    ["password", "passwd", "passphrase", "secret", "credential", "token", "jaas.config", "user.info", "api.key"]
        .iter()
        .any(|word| key.contains(word))
        || key.ends_with("keystore.key")
        || key.ends_with("private.key")
}

/// Only the placeholders of a secret value, and that there is something beside them.
fn without_literals(value: &str) -> String {
    let mut shown = String::new();
    let mut rest = 0;
    for found in PLACEHOLDER.find_iter(value) {
        if found.start() > rest {
            shown.push_str(HIDDEN);
        }
        shown.push_str(found.as_str());
        rest = found.end();
    }
    if rest < value.len() {
        shown.push_str(HIDDEN);
    }
    shown
}

/// Logins inside of addresses.
fn without_logins(value: &str) -> String {
    let mut value = Cow::Borrowed(value);
    for pattern in [&LOGIN, &PARAMETER] {
        let hidden = pattern.replace_all(&value, |found: &regex::Captures<'_>| {
            format!("{}{}{}", &found[1], without_literals(&found[2]), &found[3])
        });
        value = Cow::Owned(hidden.into_owned());
    }
    value.into_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn config(value: serde_json::Value) -> Config {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn secrets_are_hidden_and_placeholders_are_not() {
        let declares = json!({"error_count": 0, "configs": [
            {"definition": {"name": "odd.key", "type": "PASSWORD"}, "value": {"name": "odd.key", "errors": []}},
            {"value": {"name": "unknown", "errors": []}}]});
        let validation: Validation = serde_json::from_value(declares).unwrap();
        let secrets = Secrets::of(Some(&validation), &[]);
        for (key, value, shown) in [
            ("database.password", "hunter2", "***"),
            ("odd.key", "hunter2", "***"),
            ("database.password", "${env:PW}", "${env:PW}"),
            ("value.converter.basic.auth.user.info", "me:${file:/etc/pw:key}", "***${file:/etc/pw:key}"),
            ("database.password", "", ""),
            ("database.user", "hunter2", "hunter2"),
            ("mongodb.connection.string", "mongodb://me:hun/t@er2@h:1/?a=b", "mongodb://me:***@h:1/?a=b"),
            ("mongodb.connection.string", "mongodb://me:${env:PW}@h:1/", "mongodb://me:${env:PW}@h:1/"),
            (
                "connection.url",
                "jdbc:postgresql://h/d?user=x&password=hunter2",
                "jdbc:postgresql://h/d?user=x&password=***",
            ),
            ("primary.key.mode", "record_key", "record_key"),
            ("key.converter", "io.confluent.connect.avro.AvroConverter", "io.confluent.connect.avro.AvroConverter"),
        ] {
            assert_eq!(secrets.show(key, value), shown, "{key}");
        }
        assert!(secrets.is_written_out("odd.key", "x") && !secrets.is_written_out("odd.key", "${env:PW}"));
    }

    #[test]
    fn a_secret_that_the_worker_quotes_is_hidden_too() {
        let config = config(json!({"database.password": "hunter2", "x": "visible"}));
        let secrets = Secrets::of(None, &[&config]);
        let said = secrets.scrub("FATAL: cannot log in to jdbc://h?password=hunter3 with hunter2 and visible");
        assert_eq!(said, "FATAL: cannot log in to jdbc://h?password=*** with *** and visible");
    }
}
