//! Making a schema with references stand alone: each referenced definition is put where its name is first used, and
//! named from there on, as Avro's own schemas do.
//!
//! Names: <https://avro.apache.org/docs/1.12.0/specification/#names>.

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value};

/// Definitions by full name.
pub(super) type Referenced = HashMap<String, Value>;

/// The schema with every reference inlined, as JSON text; attributes and their order are kept.
pub(super) fn inline(schema: &str, referenced: &Referenced) -> Result<String, String> {
    let mut schema: Value = serde_json::from_str(schema).map_err(|error| error.to_string())?;
    let mut walk = Walk { referenced, defined: HashSet::new() };
    walk.schema(&mut schema, "")?;
    Ok(schema.to_string())
}

struct Walk<'a> {
    referenced: &'a Referenced,
    defined: HashSet<String>,
}

impl Walk<'_> {
    fn schema(&mut self, schema: &mut Value, namespace: &str) -> Result<(), String> {
        match schema {
            Value::String(name) => {
                if let Some(definition) = self.take(name, namespace)? {
                    *schema = definition;
                }
                Ok(())
            }
            Value::Array(branches) => branches.iter_mut().try_for_each(|branch| self.schema(branch, namespace)),
            Value::Object(attributes) => self.attributes(attributes, namespace),
            _ => Err("a schema is a name, a list or an object".to_owned()),
        }
    }

    fn attributes(&mut self, attributes: &mut Map<String, Value>, namespace: &str) -> Result<(), String> {
        let kind = attributes.get("type").and_then(Value::as_str).map(ToOwned::to_owned);
        match kind.as_deref() {
            Some("record" | "error" | "enum" | "fixed") => {
                let name = full_name_of(attributes, namespace).ok_or("a definition has no name")?;
                self.defined.insert(name.clone());
                let namespace = name.rsplit_once('.').map_or("", |(namespace, _)| namespace).to_owned();
                if let Some(Value::Array(fields)) = attributes.get_mut("fields") {
                    for field in fields {
                        let kind = field.get_mut("type").ok_or("a field has no type")?;
                        self.schema(kind, &namespace)?;
                    }
                }
                Ok(())
            }
            Some("array") => attributes.get_mut("items").map_or(Ok(()), |items| self.schema(items, namespace)),
            Some("map") => attributes.get_mut("values").map_or(Ok(()), |values| self.schema(values, namespace)),
            // A name with attributes around it, or an object around a schema.
            _ => attributes.get_mut("type").map_or(Ok(()), |kind| self.schema(kind, namespace)),
        }
    }

    /// The definition to put in a name's place; none for a primitive type and for what is defined already.
    fn take(&mut self, name: &str, namespace: &str) -> Result<Option<Value>, String> {
        if matches!(name, "null" | "boolean" | "int" | "long" | "float" | "double" | "bytes" | "string") {
            return Ok(None);
        }
        let local =
            if name.contains('.') || namespace.is_empty() { name.to_owned() } else { format!("{namespace}.{name}") };
        if self.defined.contains(&local) {
            return Ok(None);
        }
        let full = if self.referenced.contains_key(&local) { local } else { name.to_owned() };
        if self.defined.contains(&full) {
            return Ok(None);
        }
        let mut definition = self.referenced.get(&full).cloned().ok_or_else(|| format!("nothing defines {full}"))?;
        if let Value::Object(attributes) = &mut definition {
            // At its new place the definition must not fall into the namespace around it.
            let (own, _) = full.rsplit_once('.').unwrap_or(("", &full));
            let named = attributes.get("name").and_then(Value::as_str).is_some_and(|name| name.contains('.'));
            if !named && !attributes.contains_key("namespace") {
                attributes.insert("namespace".to_owned(), own.into());
            }
        }
        self.schema(&mut definition, "")?;
        Ok(Some(definition))
    }
}

fn full_name_of(attributes: &Map<String, Value>, around: &str) -> Option<String> {
    let name = attributes.get("name")?.as_str()?;
    if name.contains('.') {
        return Some(name.to_owned());
    }
    match attributes.get("namespace").and_then(Value::as_str).unwrap_or(around) {
        "" => Some(name.to_owned()),
        namespace => Some(format!("{namespace}.{name}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn referenced(definitions: &[(&str, &str)]) -> Referenced {
        definitions.iter().map(|(name, text)| ((*name).to_owned(), serde_json::from_str(text).unwrap())).collect()
    }

    #[test]
    fn a_definition_stands_where_its_name_is_first_used() {
        let referenced = referenced(&[
            (
                "shop.Address",
                r#"{"type":"record","name":"Address","namespace":"shop","fields":[{"name":"at","type":"geo.Point"}]}"#,
            ),
            (
                "geo.Point",
                r#"{"type":"record","name":"geo.Point","fields":[{"name":"x","type":{"type":"long","connect.name":"X"}}]}"#,
            ),
        ]);
        let schema = r#"{"type":"record","name":"User","namespace":"shop","fields":[{"name":"home","type":["null","Address"]},{"name":"work","type":"shop.Address"},{"name":"p","type":"geo.Point"}]}"#;
        assert_eq!(
            inline(schema, &referenced).unwrap(),
            r#"{"type":"record","name":"User","namespace":"shop","fields":[{"name":"home","type":["null",{"type":"record","name":"Address","namespace":"shop","fields":[{"name":"at","type":{"type":"record","name":"geo.Point","fields":[{"name":"x","type":{"type":"long","connect.name":"X"}}]}}]}]},{"name":"work","type":"shop.Address"},{"name":"p","type":"geo.Point"}]}"#
        );
    }

    #[test]
    fn a_name_without_a_namespace_keeps_it_so() {
        let referenced = referenced(&[("Flag", r#"{"type":"enum","name":"Flag","symbols":["A"]}"#)]);
        let schema = r#"{"type":"record","name":"a.R","fields":[{"name":"f","type":{"type":"array","items":"Flag"}}]}"#;
        let inlined = inline(schema, &referenced).unwrap();
        assert!(
            inlined.contains(r#""items":{"type":"enum","name":"Flag","symbols":["A"],"namespace":""}"#),
            "{inlined}"
        );
    }

    #[test]
    fn a_missing_definition_is_named() {
        assert_eq!(inline(r#"["null","x.Y"]"#, &Referenced::new()).unwrap_err(), "nothing defines x.Y");
    }
}
