//! A writer schema as its raw JSON has it.
//!
//! Parsed here and not by `apache-avro`, which drops the attributes of primitive types: what a `long` means stands in
//! its `connect.name` alone.

use std::collections::HashMap;

use serde_json::{Map, Value as Json};

/// An index into [`WriterSchema::nodes`].
pub(crate) type NodeId = usize;

/// A parsed schema: its types in an arena, named types once.
#[derive(Debug)]
pub(crate) struct WriterSchema {
    nodes: Vec<Node>,
    pub(crate) root: NodeId,
}

/// One type with Connect's attributes.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) shape: Shape,
    /// `connect.name`: Debezium's or Connect's semantic type.
    pub(crate) connect_name: Option<String>,
    /// `connect.type`: `int8` or `int16` on an `int`.
    pub(crate) connect_type: Option<String>,
    /// Avro's own `logicalType`.
    pub(crate) logical_type: Option<String>,
    /// `connect.parameters`.
    parameters: HashMap<String, String>,
    /// `scale` and `precision` of a decimal.
    pub(crate) scale: Option<i64>,
    pub(crate) precision: Option<i64>,
}

impl Node {
    pub(crate) fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.get(name).map(String::as_str)
    }
}

/// Avro's types.
#[derive(Debug)]
pub(crate) enum Shape {
    Null,
    Boolean,
    Int,
    Long,
    Float,
    Double,
    Bytes,
    String,
    Fixed(usize),
    Enum(Vec<String>),
    Array(NodeId),
    Map(NodeId),
    Union(Vec<NodeId>),
    Record { name: String, fields: Vec<Field> },
}

impl Shape {
    /// The type's name for messages.
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Null => "null",
            Self::Boolean => "boolean",
            Self::Int => "int",
            Self::Long => "long",
            Self::Float => "float",
            Self::Double => "double",
            Self::Bytes => "bytes",
            Self::String => "string",
            Self::Fixed(_) => "fixed",
            Self::Enum(_) => "enum",
            Self::Array(_) => "array",
            Self::Map(_) => "map",
            Self::Union(_) => "union",
            Self::Record { name, .. } => name,
        }
    }
}

/// A field of a record.
#[derive(Debug)]
pub(crate) struct Field {
    pub(crate) name: String,
    pub(crate) node: NodeId,
}

/// How a value that may be null is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Branches {
    /// No union.
    Bare,
    /// `[T]`.
    Single,
    /// `["null", T]`.
    NullFirst,
    /// `[T, "null"]`: Connect's form where there is a default.
    NullLast,
}

impl Branches {
    pub(crate) fn nullable(self) -> bool {
        matches!(self, Self::NullFirst | Self::NullLast)
    }
}

impl WriterSchema {
    /// Parses a schema. The text says what is wrong with it.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let json: Json = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let mut parser = Parser { nodes: Vec::new(), names: HashMap::new() };
        let root = parser.node(&json, "")?;
        Ok(Self { nodes: parser.nodes, root })
    }

    pub(crate) fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id]
    }

    pub(crate) fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The root's name.
    pub(crate) fn name(&self) -> &str {
        self.node(self.root).shape.name()
    }

    /// The fields of a record; `None` for another type.
    pub(crate) fn record(&self, id: NodeId) -> Option<(&str, &[Field])> {
        match &self.node(id).shape {
            Shape::Record { name, fields } => Some((name, fields)),
            _ => None,
        }
    }

    /// The type itself, without a union with null; `None` for a union of several types.
    pub(crate) fn strip_null(&self, id: NodeId) -> Option<(Branches, NodeId)> {
        let Shape::Union(branches) = &self.node(id).shape else { return Some((Branches::Bare, id)) };
        let null = |id: NodeId| matches!(self.node(id).shape, Shape::Null);
        match branches[..] {
            [only] if !null(only) => Some((Branches::Single, only)),
            [first, second] if null(first) && !null(second) => Some((Branches::NullFirst, second)),
            [first, second] if null(second) && !null(first) => Some((Branches::NullLast, first)),
            _ => None,
        }
    }
}

struct Parser {
    nodes: Vec<Node>,
    names: HashMap<String, NodeId>,
}

impl Parser {
    /// Recursion is bounded: `serde_json` refuses text nested deeper than 128 levels.
    fn node(&mut self, json: &Json, namespace: &str) -> Result<NodeId, String> {
        match json {
            Json::String(name) => self.named(name, namespace),
            Json::Array(branches) => {
                let branches = branches.iter().map(|branch| self.node(branch, namespace)).collect::<Result<_, _>>()?;
                Ok(self.add(Shape::Union(branches), &Map::new()))
            }
            Json::Object(object) => self.object(object, namespace),
            _ => Err("a type is neither a name, a list nor an object".into()),
        }
    }

    fn named(&mut self, name: &str, namespace: &str) -> Result<NodeId, String> {
        if let Some(shape) = primitive(name) {
            return Ok(self.add(shape, &Map::new()));
        }
        let known =
            if name.contains('.') || namespace.is_empty() { None } else { self.names.get(&qualify(namespace, name)) };
        known.or_else(|| self.names.get(name)).copied().ok_or_else(|| format!("unknown type {name}"))
    }

    fn object(&mut self, object: &Map<String, Json>, namespace: &str) -> Result<NodeId, String> {
        let kind = match object.get("type") {
            Some(Json::String(kind)) => kind.as_str(),
            Some(inner @ (Json::Object(_) | Json::Array(_))) => return self.node(inner, namespace),
            _ => return Err("a type has no \"type\"".into()),
        };
        match kind {
            "record" | "error" => self.record(object, namespace),
            "enum" => {
                let name = full_name(object, namespace)?;
                let symbols = object.get("symbols").and_then(Json::as_array).ok_or("an enum has no symbols")?;
                let symbols = symbols.iter().map(|symbol| symbol.as_str().map(str::to_owned));
                let symbols = symbols.collect::<Option<_>>().ok_or("an enum's symbol is not a string")?;
                let id = self.add(Shape::Enum(symbols), object);
                self.names.insert(name, id);
                Ok(id)
            }
            "fixed" => {
                let name = full_name(object, namespace)?;
                let size = object.get("size").and_then(Json::as_u64).and_then(|size| usize::try_from(size).ok());
                let id = self.add(Shape::Fixed(size.ok_or("a fixed type has no size")?), object);
                self.names.insert(name, id);
                Ok(id)
            }
            "array" => {
                let items = self.node(object.get("items").ok_or("an array has no items")?, namespace)?;
                Ok(self.add(Shape::Array(items), object))
            }
            "map" => {
                let values = self.node(object.get("values").ok_or("a map has no values")?, namespace)?;
                Ok(self.add(Shape::Map(values), object))
            }
            name => match primitive(name) {
                Some(shape) => Ok(self.add(shape, object)),
                None => self.named(name, namespace),
            },
        }
    }

    fn record(&mut self, object: &Map<String, Json>, namespace: &str) -> Result<NodeId, String> {
        let name = full_name(object, namespace)?;
        let namespace = name.rsplit_once('.').map_or("", |(namespace, _)| namespace).to_owned();
        // Known before its fields are, since they may refer to it.
        let id = self.add(Shape::Record { name: name.clone(), fields: Vec::new() }, object);
        self.names.insert(name.clone(), id);
        let json =
            object.get("fields").and_then(Json::as_array).ok_or_else(|| format!("record {name} has no fields"))?;
        let mut fields = Vec::with_capacity(json.len());
        for field in json {
            let field_name = field.get("name").and_then(Json::as_str);
            let field_name = field_name.ok_or_else(|| format!("a field of record {name} has no name"))?;
            let kind = field.get("type").ok_or_else(|| format!("field {field_name} of record {name} has no type"))?;
            fields.push(Field { name: field_name.to_owned(), node: self.node(kind, &namespace)? });
        }
        self.nodes[id].shape = Shape::Record { name, fields };
        Ok(id)
    }

    fn add(&mut self, shape: Shape, attributes: &Map<String, Json>) -> NodeId {
        let text = |name: &str| attributes.get(name).and_then(Json::as_str).map(str::to_owned);
        let number = |name: &str| attributes.get(name).and_then(Json::as_i64);
        let parameters = attributes.get("connect.parameters").and_then(Json::as_object);
        self.nodes.push(Node {
            shape,
            connect_name: text("connect.name"),
            connect_type: text("connect.type"),
            logical_type: text("logicalType"),
            parameters: parameters
                .into_iter()
                .flatten()
                .filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())))
                .collect(),
            scale: number("scale"),
            precision: number("precision"),
        });
        self.nodes.len() - 1
    }
}

fn primitive(name: &str) -> Option<Shape> {
    Some(match name {
        "null" => Shape::Null,
        "boolean" => Shape::Boolean,
        "int" => Shape::Int,
        "long" => Shape::Long,
        "float" => Shape::Float,
        "double" => Shape::Double,
        "bytes" => Shape::Bytes,
        "string" => Shape::String,
        _ => return None,
    })
}

fn full_name(object: &Map<String, Json>, enclosing: &str) -> Result<String, String> {
    let name = object.get("name").and_then(Json::as_str).ok_or("a named type has no name")?;
    if name.contains('.') {
        return Ok(name.to_owned());
    }
    let namespace = object.get("namespace").and_then(Json::as_str).unwrap_or(enclosing);
    Ok(qualify(namespace, name))
}

fn qualify(namespace: &str, name: &str) -> String {
    if namespace.is_empty() { name.to_owned() } else { format!("{namespace}.{name}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(schema: &WriterSchema, record: NodeId, name: &str) -> NodeId {
        let (_, fields) = schema.record(record).unwrap();
        fields.iter().find(|field| field.name == name).unwrap().node
    }

    #[test]
    fn references_resolve_by_short_and_by_full_name() {
        let schema = WriterSchema::parse(
            r#"{"type":"record","name":"Envelope","namespace":"p.t","fields":[
              {"name":"before","type":["null",{"type":"record","name":"Value","fields":[
                 {"name":"point","type":{"type":"record","name":"Point","namespace":"geo","fields":[{"name":"self","type":["null","Point"]}]}},
                 {"name":"again","type":"geo.Point"},
                 {"name":"own","type":["null","Value"]}]}]},
              {"name":"after","type":["null","Value"]},
              {"name":"full","type":["p.t.Value","null"]}]}"#,
        )
        .unwrap();
        let (branches, value) = schema.strip_null(field(&schema, schema.root, "before")).unwrap();
        assert_eq!(branches, Branches::NullFirst);
        assert_eq!(schema.node(value).shape.name(), "p.t.Value");
        assert_eq!(schema.strip_null(field(&schema, schema.root, "after")), Some((Branches::NullFirst, value)));
        assert_eq!(schema.strip_null(field(&schema, schema.root, "full")), Some((Branches::NullLast, value)));
        assert_eq!(schema.strip_null(field(&schema, value, "own")), Some((Branches::NullFirst, value)));
        let point = field(&schema, value, "point");
        assert_eq!(field(&schema, value, "again"), point);
        assert_eq!(schema.strip_null(field(&schema, point, "self")), Some((Branches::NullFirst, point)));
    }

    #[test]
    fn attributes_of_primitive_types_are_kept() {
        let schema = WriterSchema::parse(
            r#"{"type":"bytes","scale":2,"precision":12,"connect.version":1,
                "connect.parameters":{"scale":"2","connect.decimal.precision":"12"},
                "connect.name":"org.apache.kafka.connect.data.Decimal","logicalType":"decimal"}"#,
        )
        .unwrap();
        let node = schema.node(schema.root);
        assert_eq!(node.connect_name.as_deref(), Some("org.apache.kafka.connect.data.Decimal"));
        assert_eq!(node.parameter("connect.decimal.precision"), Some("12"));
        assert_eq!((node.scale, node.precision), (Some(2), Some(12)));
    }

    #[test]
    fn malformed_schemas_are_refused() {
        for text in [
            "",
            "7",
            r#""nothing.like.it""#,
            r#"{"type":"record","name":"R"}"#,
            r#"{"type":"record","fields":[]}"#,
            r#"{"type":"enum","name":"E"}"#,
            r#"{"type":"fixed","name":"F","size":-1}"#,
            r#"{"type":"array"}"#,
            r#"{"name":"x"}"#,
        ] {
            assert!(WriterSchema::parse(text).is_err(), "{text}");
        }
        let deep = format!("{}\"int\"{}", "[".repeat(10_000), "]".repeat(10_000));
        assert!(WriterSchema::parse(&deep).is_err());
    }
}
