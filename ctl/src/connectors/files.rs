//! Connector configurations in files: `{"name": …, "config": {…}}`, a list of those, or the bare settings.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use syncline_runtime::config::yaml;

use super::answer::Config;
use super::error::ConnectorsError;

/// A connector as a file describes it. Its settings hold its `name` too, as the worker's do.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Connector {
    pub(super) name: String,
    pub(super) file: PathBuf,
    pub(super) config: Config,
}

/// Standard input, on the command line.
const STANDARD_INPUT: &str = "-";

impl Connector {
    /// `connector.class`.
    pub(super) fn class(&self) -> &str {
        self.config.get("connector.class").and_then(Value::as_str).unwrap_or_default()
    }
}

/// Reads files and folders, in the order given, those of a folder by name.
///
/// # Errors
/// A file that cannot be read or holds no connector, a folder without files, a connector that two files describe.
pub(super) fn read(paths: &[PathBuf]) -> Result<Vec<Connector>, ConnectorsError> {
    let mut connectors = Vec::new();
    for path in paths {
        for file in listing(path)? {
            let text = text(&file)?;
            connectors.extend(parse(&file, &text).map_err(|reason| fault(&file, reason))?);
        }
    }
    let mut first: BTreeMap<&str, &Path> = BTreeMap::new();
    for connector in &connectors {
        if let Some(other) = first.insert(&connector.name, &connector.file) {
            let reason = format!("describes connector `{}`, and so does {}", connector.name, other.display());
            return Err(fault(&connector.file, reason));
        }
    }
    Ok(connectors)
}

/// Reads JSON from a file or standard input.
///
/// # Errors
/// It cannot be read or is no JSON.
pub(super) fn read_json(path: &Path) -> Result<Value, ConnectorsError> {
    Strict::read(&text(path)?).map_err(|reason| fault(path, reason))
}

fn fault(file: &Path, reason: impl Into<String>) -> ConnectorsError {
    let file = if is_standard_input(file) { PathBuf::from("standard input") } else { file.to_owned() };
    ConnectorsError::File { file, reason: reason.into() }
}

fn is_standard_input(path: &Path) -> bool {
    path.as_os_str() == STANDARD_INPUT
}

fn text(file: &Path) -> Result<String, ConnectorsError> {
    let mut text = String::new();
    let read = if is_standard_input(file) {
        std::io::stdin().read_to_string(&mut text).map(drop)
    } else {
        std::fs::read_to_string(file).map(|all| text = all)
    };
    read.map_err(|error| fault(file, format!("cannot be read: {error}")))?;
    Ok(text)
}

fn listing(path: &Path) -> Result<Vec<PathBuf>, ConnectorsError> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let entries = std::fs::read_dir(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let entries = entries.map_err(|error| fault(path, format!("cannot be read: {error}")))?;
    let mut files: Vec<PathBuf> = entries.iter().map(std::fs::DirEntry::path).filter(|path| is_ours(path)).collect();
    files.sort();
    if files.is_empty() {
        return Err(fault(path, "holds no *.json, *.yaml or *.yml"));
    }
    Ok(files)
}

fn is_ours(path: &Path) -> bool {
    let hidden = path.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
    !hidden && path.is_file() && (is_yaml(path) || path.extension().is_some_and(|end| end == "json"))
}

fn is_yaml(path: &Path) -> bool {
    path.extension().is_some_and(|end| end == "yaml" || end == "yml")
}

fn parse(file: &Path, text: &str) -> Result<Vec<Connector>, String> {
    let content = if is_yaml(file) { yaml(text)? } else { Strict::read(text)? };
    match content {
        Value::Array(items) if items.is_empty() => Err("is an empty list".to_owned()),
        Value::Array(items) => {
            let several = items.len() > 1;
            let connectors = items.into_iter().enumerate().map(|(number, item)| {
                let stem = if several { None } else { stem(file) };
                connector(file, item, stem).map_err(|reason| format!("item {}: {reason}", number + 1))
            });
            connectors.collect()
        }
        content => Ok(vec![connector(file, content, stem(file))?]),
    }
}

fn stem(file: &Path) -> Option<String> {
    let stem = file.file_stem().filter(|_| !is_standard_input(file));
    stem.and_then(|stem| stem.to_str()).map(str::to_owned)
}

/// `stem` names bare settings without a name of their own.
fn connector(file: &Path, content: Value, stem: Option<String>) -> Result<Connector, String> {
    let Value::Object(mut content) = content else {
        return Err("expected {\"name\": …, \"config\": {…}} or names and values".to_owned());
    };
    let mut outer = None;
    if let Some(Value::Object(_)) = content.get("config") {
        let Some(Value::Object(config)) = content.remove("config") else { return Err("has no `config`".to_owned()) };
        outer = Some(text_of("name", content.remove("name").ok_or("has no `name` beside its `config`")?)?);
        // What `GET /connectors/NAME` adds: people save its answer.
        content.remove("tasks");
        content.remove("type");
        if let Some(key) = content.keys().next() {
            return Err(format!("has `{key}` beside `name` and `config`, which cannot be applied: remove it"));
        }
        content = config;
    }
    let mut config = Config::new();
    for (key, value) in content {
        let text = text_of(&key, value)?;
        config.insert(key, Value::String(text));
    }
    let inner = config.get("name").and_then(Value::as_str).map(str::to_owned);
    let name = match (outer, inner) {
        (Some(outer), Some(inner)) if outer != inner => {
            return Err(format!("is called `{outer}`, and `{inner}` in its settings: make them equal"));
        }
        (outer, inner) => outer.or(inner).or(stem).ok_or("has no `name`")?,
    };
    if name.trim().is_empty() {
        return Err("has an empty name".to_owned());
    }
    config.insert("name".to_owned(), Value::String(name.clone()));
    if config.get("connector.class").is_none() {
        return Err("has no `connector.class`, so it is no connector configuration".to_owned());
    }
    Ok(Connector { name, file: file.to_owned(), config })
}

/// The worker takes texts; numbers and truth values are as good.
fn text_of(key: &str, value: Value) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(text),
        Value::Number(number) => Ok(number.to_string()),
        Value::Bool(truth) => Ok(truth.to_string()),
        Value::Null => Err(format!("`{key}` has no value: write one or remove the key")),
        Value::Array(_) | Value::Object(_) => {
            Err(format!("`{key}` must be a single value; lists are written with commas"))
        }
    }
}

/// JSON in which no key stands twice: the first of two would be dropped without a word.
struct Strict(Value);

impl Strict {
    fn read(text: &str) -> Result<Value, String> {
        serde_json::from_str::<Self>(text).map(|strict| strict.0).map_err(|error| format!("not valid JSON: {error}"))
    }
}

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StrictVisitor)
    }
}

struct StrictVisitor;

impl<'de> Visitor<'de> for StrictVisitor {
    type Value = Strict;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Strict, E> {
        Ok(Strict(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Strict, E> {
        Ok(Strict(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Strict, E> {
        Ok(Strict(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Strict, E> {
        Ok(Strict(value.into()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Strict, E> {
        Ok(Strict(value.into()))
    }

    fn visit_unit<E>(self) -> Result<Strict, E> {
        Ok(Strict(Value::Null))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Strict, A::Error> {
        let mut list = Vec::new();
        while let Some(Strict(item)) = items.next_element()? {
            list.push(item);
        }
        Ok(Strict(Value::Array(list)))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Strict, A::Error> {
        let mut map = Config::new();
        while let Some((key, Strict(value))) = entries.next_entry::<String, Strict>()? {
            if map.contains_key(&key) {
                return Err(A::Error::custom(format!("the key `{key}` stands here twice")));
            }
            map.insert(key, value);
        }
        Ok(Strict(Value::Object(map)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(file: &str, text: &str) -> Result<Connector, String> {
        parse(Path::new(file), text).map(|mut all| all.remove(0))
    }

    #[test]
    fn every_form_gives_the_same_connector() {
        let wrapped = one("x.json", r#"{"name":"a","config":{"connector.class":"C","tasks.max":1,"b":true}}"#).unwrap();
        let saved = r#"{"name":"a","config":{"connector.class":"C","tasks.max":"1","b":"true","name":"a"},"tasks":[],"type":"sink"}"#;
        let bare = one("a.json", r#"{"connector.class":"C","tasks.max":1,"b":true}"#).unwrap();
        let named = one("x.json", r#"{"name":"a","connector.class":"C","tasks.max":1,"b":true}"#).unwrap();
        let yaml = one("x.yaml", "name: a\nconfig:\n  connector.class: C\n  tasks.max: 1\n  b: true\n").unwrap();
        let list = one("x.json", r#"[{"name":"a","config":{"connector.class":"C","tasks.max":1,"b":true}}]"#).unwrap();
        assert_eq!(wrapped.class(), "C");
        for other in [one("x.json", saved).unwrap(), bare, named, yaml, list] {
            assert_eq!((other.name.as_str(), &other.config), ("a", &wrapped.config));
        }
    }

    #[test]
    fn what_is_no_configuration_is_refused_with_the_reason() {
        for (text, expected) in [
            ("", "not valid JSON"),
            ("3", "expected"),
            ("[]", "empty list"),
            (r#"{"a":"1"}"#, "connector.class"),
            (r#"{"config":{"connector.class":"C"}}"#, "no `name`"),
            (r#"{"name":"a","config":{"connector.class":"C","name":"b"}}"#, "make them equal"),
            (r#"{"name":"a","config":{"connector.class":"C"},"initial_state":"STOPPED"}"#, "`initial_state`"),
            (r#"{"connector.class":"C","a":null}"#, "`a` has no value"),
            (r#"{"connector.class":"C","a":["x"]}"#, "commas"),
            (r#"{"connector.class":"C","a":"1","a":"2"}"#, "`a` stands here twice"),
            (r#"[{"connector.class":"C"},{"connector.class":"C"}]"#, "item 1: has no `name`"),
        ] {
            let error = one("x.json", text).unwrap_err();
            assert!(error.contains(expected), "{text} gave {error}");
        }
        assert!(one("x.yaml", "a: [").unwrap_err().contains("YAML"));
    }

    #[test]
    fn a_folder_is_read_by_name_and_a_connector_is_described_once() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        let paths = [folder.path().to_owned()];
        assert!(read(&paths).unwrap_err().to_string().contains("holds no *.json"));
        write("b.json", r#"{"connector.class":"C"}"#);
        write("a.yml", "connector.class: C\n");
        write("notes.txt", "not ours");
        write(".hidden.json", "not ours");
        let names: Vec<String> = read(&paths).unwrap().into_iter().map(|connector| connector.name).collect();
        assert_eq!(names, ["a", "b"]);
        write("c.json", r#"{"name":"a","connector.class":"C"}"#);
        let error = read(&paths).unwrap_err().to_string();
        assert!(error.contains("c.json") && error.contains("a.yml") && error.contains("`a`"), "{error}");
        let missing = read(&[folder.path().join("none.json")]).unwrap_err();
        assert!(missing.to_string().contains("none.json: cannot be read"), "{missing}");
    }
}
