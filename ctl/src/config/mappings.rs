//! `table_mappings`: which rows go to which tables, and how.

use serde::Deserialize;
use serde_json::{Map, Value};
use syncline_runtime::config::{Field, Kind, Preset};
use syncline_transforms::mapping::{Concatenate, Mapping, Mappings, SourceTable, Written, check_target};

use super::check::Check;
use Preset::{Absent, Is, Required};

/// The keys of an item of `table_mappings`.
pub(super) const MAPPING: &[Field] = &[
    Field::new(
        "source_table",
        Kind::Text,
        Required,
        "The source's table: `schema.table`, quoted as in SQL; no schema means `public`; `*` and `?` outside quotes match \
         many; `/…/` is a regular expression over `schema.table`. A mapping that names a table wins over patterns; a table \
         without a mapping goes as it is.",
    ),
    Field::new(
        "target_table",
        Kind::Text,
        Absent("the source's schema and table"),
        "The target's table; `$1` is the first group of a regular expression (`$$${1}` where letters follow). Several sources \
         may share a target, and a source may have several.",
    ),
    Field::new(
        "columns",
        Kind::Map,
        Is(""),
        "The source's columns and what they are called in the target. `\"*\": \"*\"` takes all others by their own names, \
         also those that come later; so does leaving `columns` out. Without it each column must be named here or in \
         `exclude_columns`.",
    ),
    Field::new("exclude_columns", Kind::Texts, Is(""), "Columns of the source that stay behind."),
    Field::new(
        "transformations",
        Kind::Sections(TRANSFORMATION),
        Is(""),
        "Columns that take their value from an expression; see [transforms.md](transforms.md).",
    ),
    Field::new(
        "filters",
        Kind::Texts,
        Is(""),
        "Conditions over the row after the change. A row for which one does not hold is not written, and is deleted where it \
         was.",
    ),
    Field::new("concatenate", Kind::Sections(CONCATENATE), Is(""), "New columns that join the texts of others."),
    Field::new(
        "add_metadata",
        Kind::Map,
        Is(""),
        "New columns and their expressions. `CURRENT_TIMESTAMP` is the source's commit time, and the clock in a column \
         called `_synced_at`; `OPERATION()` is `c`, `u`, `d` or `r`; `POSITION()` the change's place in the source's order.",
    ),
    Field::new("convert", Kind::Map, Is(""), "Columns and the type they are cast to."),
    Field::new("calculate", Kind::Map, Is(""), "New columns and their expressions."),
    Field::new(
        "clean",
        Kind::Map,
        Is(""),
        "Columns and what is done to their text, in order, separated by commas: `trim`, `lower`, `upper`, `collapse_spaces`, \
         `digits_only`, `empty_to_null`.",
    ),
    Field::new("static_values", Kind::Map, Is(""), "New columns and the text they hold."),
    Field::new(
        "soft_delete",
        Kind::Text,
        Absent("a delete removes the row"),
        "A new column: a deleted row stays, and holds the time of the delete here.",
    ),
    Field::new(
        "history",
        Kind::Boolean,
        Is("false"),
        "`true`: every change is a row of its own, with `_operation`, `_position` and `_changed_at`; nothing is overwritten.",
    ),
    Field::new(
        "key",
        Kind::Texts,
        Absent("the source's key columns"),
        "The target's key, as columns of the target. Rows that share it become one row.",
    ),
];

const TRANSFORMATION: &[Field] = &[
    Field::new("column", Kind::Text, Required, "The column; a source's name wins over a target's."),
    Field::new("transform", Kind::Text, Required, "Its value."),
];

const CONCATENATE: &[Field] = &[
    Field::new("column", Kind::Text, Required, "The new column."),
    Field::new("fields", Kind::Texts, Required, "The columns whose texts are joined; a NULL is left out."),
    Field::new("separator", Kind::Verbatim, Is(""), "What stands between them."),
];

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawMapping {
    source_table: String,
    target_table: Option<String>,
    columns: Map<String, Value>,
    exclude_columns: Vec<String>,
    transformations: Vec<RawTransformation>,
    filters: Vec<String>,
    concatenate: Vec<RawConcatenate>,
    add_metadata: Map<String, Value>,
    convert: Map<String, Value>,
    calculate: Map<String, Value>,
    clean: Map<String, Value>,
    static_values: Map<String, Value>,
    soft_delete: Option<String>,
    history: bool,
    #[serde(default)]
    key: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawTransformation {
    column: String,
    transform: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawConcatenate {
    column: String,
    fields: Vec<String>,
    separator: String,
}

impl Check<'_> {
    /// The mappings as far as they can be checked without the tables.
    pub(super) fn mappings(&mut self, raw: Vec<RawMapping>) -> Mappings {
        let list = raw.into_iter().enumerate().filter_map(|(number, raw)| self.mapping(number, raw)).collect();
        Mappings { list }
    }

    fn mapping(&mut self, number: usize, raw: RawMapping) -> Option<Mapping> {
        let path = |key: &str| format!("table_mappings[{number}].{key}");
        let source = match SourceTable::parse(&raw.source_table) {
            Ok(source) => source,
            Err(fault) => {
                self.refuse(&path("source_table"), format!("`{}` {fault}", raw.source_table));
                return None;
            }
        };
        if let Some(target) = &raw.target_table
            && let Err(fault) = check_target(target, &source)
        {
            self.refuse(&path("target_table"), format!("`{target}` {fault}"));
        }
        let written = |key: &str, value: String| Written { value, line: self.line(&path(key)) };
        let texts = |key: &str, texts: Vec<String>| -> Vec<Written<String>> {
            let texts = texts.into_iter().enumerate();
            texts.map(|(item, value)| Written { value, line: self.line(&format!("{}[{item}]", path(key))) }).collect()
        };
        let pairs = |key: &str, pairs: Map<String, Value>| -> Vec<(Written<String>, String)> {
            let text = |value: Value| value.as_str().unwrap_or_default().to_owned();
            let pairs = pairs.into_iter();
            pairs.map(|(name, value)| (written(&format!("{key}.{name}"), name), text(value))).collect()
        };
        let transformations = raw.transformations.into_iter().enumerate().map(|(item, raw)| {
            let at = |key: &str| self.line(&format!("{}[{item}].{key}", path("transformations")));
            let RawTransformation { column, transform } = raw;
            (Written { value: column, line: at("column") }, Written { value: transform, line: at("transform") })
        });
        let concatenate = raw.concatenate.into_iter().enumerate().map(|(item, raw)| {
            let line = self.line(&format!("{}[{item}]", path("concatenate")));
            let RawConcatenate { column, fields, separator } = raw;
            Written { value: Concatenate { column, fields, separator }, line }
        });
        Some(Mapping {
            source_table: Written { value: source, line: self.line(&path("source_table")) },
            target_table: raw.target_table.map(|target| written("target_table", target)),
            columns: pairs("columns", raw.columns),
            exclude_columns: texts("exclude_columns", raw.exclude_columns),
            transformations: transformations.collect(),
            filters: texts("filters", raw.filters),
            concatenate: concatenate.collect(),
            add_metadata: pairs("add_metadata", raw.add_metadata),
            convert: pairs("convert", raw.convert),
            calculate: pairs("calculate", raw.calculate),
            clean: pairs("clean", raw.clean),
            static_values: pairs("static_values", raw.static_values),
            soft_delete: raw.soft_delete.map(|column| written("soft_delete", column)),
            history: raw.history.then(|| Written { value: true, line: self.line(&path("history")) }),
            key: texts("key", raw.key),
        })
    }
}
