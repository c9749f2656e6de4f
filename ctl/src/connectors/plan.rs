//! What `apply` would do: the worker's opinion of each configuration, and the difference to what runs.

use serde::Serialize;
use serde_json::{Value, json};
use syncline_runtime::config::nearest;

use super::answer::{Config, Plugin, Validation};
use super::error::ConnectorsError;
use super::files::Connector;
use super::secrets::Secrets;
use super::worker::Worker;

/// Keys that differ by so many letters are one and the same key, misspelt.
const MISSPELT: usize = 2;

/// What would be done, connector by connector.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) steps: Vec<Step>,
}

/// What would be done with one connector.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) connector: Connector,
    pub(super) action: Action,
    pub(super) secrets: Secrets,
    changes: Vec<Change>,
    faults: Vec<Fault>,
    notes: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Action {
    /// There is none of that name.
    Create,
    /// It runs with other settings.
    Change,
    /// It runs with these settings.
    None,
    /// The worker does not accept the settings.
    Refused,
}

/// A setting that would change; values as they may be shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Change {
    key: String,
    from: Option<String>,
    to: Option<String>,
}

/// What the worker says against a setting.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Fault {
    /// Empty where it is not about one setting.
    key: String,
    errors: Vec<String>,
}

impl Plan {
    /// Asks the worker about every connector. Changes nothing.
    ///
    /// # Errors
    /// The worker cannot be asked. What it has against a configuration is part of the plan.
    pub(super) async fn make(worker: &Worker, connectors: Vec<Connector>) -> Result<Self, ConnectorsError> {
        let plugins = worker.plugins().await?;
        let mut steps = Vec::new();
        for connector in connectors {
            steps.push(step(worker, &plugins, connector).await?);
        }
        Ok(Self { steps })
    }

    /// How many connectors `apply` would touch.
    pub(super) fn changes(&self) -> usize {
        self.count(Action::Create) + self.count(Action::Change)
    }

    fn count(&self, action: Action) -> usize {
        self.steps.iter().filter(|step| step.action == action).count()
    }

    /// The error if the worker refuses a configuration.
    ///
    /// # Errors
    /// It refuses one.
    pub(super) fn accepted(&self) -> Result<(), ConnectorsError> {
        match self.count(Action::Refused) {
            0 => Ok(()),
            1 => Err(ConnectorsError::Invalid("1 configuration".to_owned())),
            count => Err(ConnectorsError::Invalid(format!("{count} configurations"))),
        }
    }

    /// For people.
    pub(super) fn text(&self) -> String {
        let mut out: String = self.steps.iter().map(Step::text).collect();
        let counts = [
            (Action::Create, "to create"),
            (Action::Change, "to change"),
            (Action::None, "unchanged"),
            (Action::Refused, "refused"),
        ];
        let counts =
            counts.into_iter().map(|(action, word)| (self.count(action), word)).filter(|(count, _)| *count > 0);
        let counts: Vec<String> = counts.map(|(count, word)| format!("{count} {word}")).collect();
        out.push_str(&format!("plan: {}\n", counts.join(", ")));
        out
    }

    /// For scripts.
    pub(super) fn json(&self) -> Value {
        let steps: Vec<Value> = self.steps.iter().map(Step::json).collect();
        json!({"changes": self.changes(), "connectors": steps})
    }
}

impl Step {
    fn text(&self) -> String {
        let head = match self.action {
            Action::Create => "would be created",
            Action::Change => "would be changed",
            Action::None => "no changes",
            Action::Refused => "refused",
        };
        let mut out = format!("{} ({}): {head}\n", self.connector.name, self.connector.file.display());
        for Fault { key, errors } in &self.faults {
            for error in errors {
                let key = if key.is_empty() { String::new() } else { format!("{key}: ") };
                out.push_str(&format!("  ! {key}{}\n", error.trim().replace('\n', "\n    ")));
            }
        }
        for change in &self.changes {
            out.push_str(&format!("  {}\n", change.text()));
        }
        for note in &self.notes {
            out.push_str(&format!("  note: {note}\n"));
        }
        out
    }

    fn json(&self) -> Value {
        json!({
            "name": self.connector.name,
            "file": self.connector.file.display().to_string(),
            "class": self.connector.class(),
            "action": self.action,
            "changes": self.changes,
            "errors": self.faults,
            "notes": self.notes,
        })
    }
}

impl Change {
    fn text(&self) -> String {
        let Self { key, from, to } = self;
        match (from, to) {
            (Some(from), Some(to)) if from == to => format!("~ {key}: {to} (another value)"),
            (Some(from), Some(to)) => format!("~ {key}: {from} -> {to}"),
            (None, Some(to)) => format!("+ {key}: {to}"),
            (Some(from), None) => format!("- {key}: {from}"),
            (None, None) => String::new(),
        }
    }
}

async fn step(worker: &Worker, plugins: &[Plugin], connector: Connector) -> Result<Step, ConnectorsError> {
    let running = worker.config(&connector.name).await?;
    let mut faults = Vec::new();
    let mut validation = None;
    if is_installed(connector.class(), plugins) {
        match worker.validate(connector.class(), &connector.config).await {
            Ok(answer) => validation = Some(answer),
            // It could not even look at the settings one by one.
            Err(ConnectorsError::Refused { reason, .. }) => {
                faults.push(Fault { key: String::new(), errors: vec![reason] });
            }
            Err(error) => return Err(error),
        }
    } else {
        let errors = vec![not_installed(connector.class(), plugins)];
        faults.push(Fault { key: "connector.class".to_owned(), errors });
    }
    let configs: Vec<&Config> = [Some(&connector.config), running.as_ref()].into_iter().flatten().collect();
    let secrets = Secrets::of(validation.as_ref(), &configs);
    faults.extend(validation.iter().flat_map(found));
    for fault in &mut faults {
        fault.errors.iter_mut().for_each(|error| *error = secrets.scrub(error));
    }
    let changes = difference(running.as_ref(), &connector.config, &secrets);
    let action = match running {
        _ if !faults.is_empty() => Action::Refused,
        None => Action::Create,
        Some(_) if changes.is_empty() => Action::None,
        Some(_) => Action::Change,
    };
    let written = connector.config.iter().filter(|(key, value)| secrets.is_written_out(key, text(value)));
    let written = written.map(|(key, _)| {
        format!("`{key}` is written out in the file: let the worker resolve it, for example ${{env:NAME}}")
    });
    let misspelt = validation.iter().flat_map(|validation| misspelt(&connector.config, validation));
    let notes = misspelt.chain(written).collect();
    Ok(Step { connector, action, secrets, changes, faults, notes })
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn found(validation: &Validation) -> Vec<Fault> {
    let values = validation.configs.iter().filter_map(|checked| checked.value.as_ref());
    let mut faults: Vec<Fault> = values
        .filter(|value| !value.errors.is_empty())
        .map(|value| Fault { key: value.name.clone(), errors: value.errors.clone() })
        .collect();
    if faults.is_empty() && validation.error_count > 0 {
        let errors = vec![format!("the worker counts {} errors and names none", validation.error_count)];
        faults.push(Fault { key: String::new(), errors });
    }
    faults
}

/// A worker takes every key and a plugin ignores those it does not know, so a misspelt one does nothing, silently.
/// Plugins do not declare all that they read; only a key that is almost a declared one is named.
fn misspelt(config: &Config, validation: &Validation) -> Vec<String> {
    let definitions = validation.configs.iter().filter_map(|checked| checked.definition.as_ref());
    let declared: Vec<&str> = definitions.map(|definition| definition.name.as_str()).collect();
    let unknown = config.keys().filter(|key| !declared.contains(&key.as_str()));
    let near = unknown.filter_map(|key| {
        let near = declared.iter().find(|name| strsim::damerau_levenshtein(key, name) <= MISSPELT)?;
        Some(format!("the plugin declares no `{key}`: did you mean `{near}`?"))
    });
    near.collect()
}

fn difference(running: Option<&Config>, wanted: &Config, secrets: &Secrets) -> Vec<Change> {
    let nothing = Config::new();
    let running = running.unwrap_or(&nothing);
    let show = |key: &str, value: &Value| Some(secrets.show(key, text(value)));
    let set = wanted.iter().filter(|(key, value)| running.get(*key) != Some(value)).map(|(key, value)| Change {
        key: key.clone(),
        from: running.get(key).and_then(|value| show(key, value)),
        to: show(key, value),
    });
    let removed = running.iter().filter(|(key, _)| !wanted.contains_key(*key)).map(|(key, value)| Change {
        key: key.clone(),
        from: show(key, value),
        to: None,
    });
    set.chain(removed).collect()
}

/// The worker also knows a class by the end of its name, with or without what every connector ends with.
fn is_installed(class: &str, plugins: &[Plugin]) -> bool {
    let endings = ["", "Connector", "SourceConnector", "SinkConnector"];
    plugins.iter().any(|plugin| {
        let short = plugin.class.rsplit('.').next().unwrap_or_default();
        plugin.class == class || short.strip_prefix(class).is_some_and(|rest| endings.contains(&rest))
    })
}

fn not_installed(class: &str, plugins: &[Plugin]) -> String {
    let classes = plugins.iter().map(|plugin| plugin.class.as_str());
    let meant = match nearest(class, classes) {
        Some(near) => format!(" (did you mean {near}?)"),
        None => String::new(),
    };
    let named = plugins.iter().map(|plugin| match plugin.version.as_deref() {
        Some(version) if !version.is_empty() => format!("{} {version}", plugin.class),
        _ => plugin.class.clone(),
    });
    let installed: Vec<String> = named.collect();
    format!("plugin {class} is not installed on the worker{meant}; installed: {}", installed.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(value: Value) -> Config {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn the_difference_names_what_comes_changes_and_goes() {
        let running = config(json!({"name": "a", "same": "1", "password": "old secret", "other": "x", "gone": "y"}));
        let wanted = config(json!({"name": "a", "same": "1", "password": "${env:PW}", "other": "z", "new": "n"}));
        let changes = difference(Some(&running), &wanted, &Secrets::default());
        let shown: Vec<String> = changes.iter().map(Change::text).collect();
        assert_eq!(shown, ["~ password: *** -> ${env:PW}", "~ other: x -> z", "+ new: n", "- gone: y"]);
        assert_eq!(difference(Some(&running), &running, &Secrets::default()), []);
        let secret = config(json!({"name": "a", "same": "1", "password": "new secret", "other": "x", "gone": "y"}));
        let changes = difference(Some(&running), &secret, &Secrets::default());
        assert_eq!(changes[0].text(), "~ password: *** (another value)");
    }

    #[test]
    fn a_key_that_is_almost_a_declared_one_is_named() {
        let names = ["table.include.list", "schema.name.adjustment.mode"];
        let configs: Vec<Value> =
            names.iter().map(|name| json!({"definition": {"name": name, "type": "STRING"}, "value": null})).collect();
        let validation: Validation = serde_json::from_value(json!({"error_count": 0, "configs": configs})).unwrap();
        let written = config(json!({
            "table.includ.list": "a", "schema.name.adjustment.mode": "avro", "field.name.adjustment.mode": "avro"
        }));
        let notes = misspelt(&written, &validation);
        assert_eq!(notes, ["the plugin declares no `table.includ.list`: did you mean `table.include.list`?"]);
    }

    #[test]
    fn a_class_is_known_by_its_names_and_a_missing_one_is_named_beside_those_that_are_there() {
        let plugin = |class: &str| Plugin { class: class.to_owned(), version: Some("3.6".to_owned()) };
        let plugins = [plugin("io.debezium.connector.postgresql.PostgresConnector"), plugin("io.x.JdbcSinkConnector")];
        for class in ["io.debezium.connector.postgresql.PostgresConnector", "PostgresConnector", "Postgres", "Jdbc"] {
            assert!(is_installed(class, &plugins), "{class}");
        }
        assert!(!is_installed("io.debezium.connector.mysql.MySqlConnector", &plugins));
        let said = not_installed("io.debezium.connector.postgres.PostgresConnector", &plugins);
        assert!(said.contains("did you mean io.debezium.connector.postgresql.PostgresConnector"), "{said}");
        assert!(said.contains("io.x.JdbcSinkConnector 3.6"), "{said}");
    }
}
