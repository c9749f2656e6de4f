//! `docs/configuration.md` holds a table of every key; it is made from the table of keys and compared here.

use std::fmt::Write as _;
use std::path::PathBuf;

use serde::de::{DeserializeOwned, Deserializer, Visitor, value::Error};
use serde::{de::Error as _, forward_to_deserialize_any};
use syncline_runtime::config::{Field, Kind, Preset};

use super::fields::FIELDS;
use super::{conflict_log, mappings, node_names, nodes, raw, rules};

const BEGIN: &str = "<!-- keys: begin; made from ctl/src/config/fields.rs, see below -->\n";
const END: &str = "<!-- keys: end -->\n";

#[test]
fn the_reference_holds_every_key() {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/configuration.md");
    let text = std::fs::read_to_string(&file).unwrap();
    let (before, rest) = text.split_once(BEGIN).expect("the page has a place for the keys");
    let (_, after) = rest.split_once(END).expect("the page has an end of the keys");
    let expected = format!("{before}{BEGIN}{}{END}{after}", reference());
    if std::env::var_os("SYNCLINE_UPDATE_DOCS").is_some() {
        std::fs::write(&file, &expected).unwrap();
        return;
    }
    let remedy = "run SYNCLINE_UPDATE_DOCS=1 cargo test --release -p syncline-ctl reference";
    assert!(text == expected, "docs/configuration.md is not up to date: {remedy}");
}

/// The table of keys reads what the raw structs hold, no more and no less.
#[test]
fn the_table_and_the_structs_agree() {
    assert_eq!(keys(FIELDS), struct_keys::<raw::RawSync>());
    for (path, expected) in [
        ("kafka", struct_keys::<raw::RawKafka>()),
        ("schema_registry", struct_keys::<raw::RawRegistry>()),
        ("source", struct_keys::<raw::RawDatabase>()),
        ("target", struct_keys::<raw::RawTarget>()),
        ("sync_settings", struct_keys::<raw::RawSettings>()),
        ("cdc_config", struct_keys::<raw::RawCdc>()),
        ("cdc_config.postgresql", struct_keys::<raw::RawPostgresql>()),
        ("cdc_config.change_tracking", struct_keys::<raw::RawTracking>()),
        ("table_mappings", struct_keys::<mappings::RawMapping>()),
        ("table_mappings.transformations", struct_keys::<mappings::RawTransformation>()),
        ("table_mappings.concatenate", struct_keys::<mappings::RawConcatenate>()),
        ("nodes", struct_keys::<nodes::RawNode>()),
        ("nodes.table_mappings", struct_keys::<node_names::RawNames>()),
        ("conflict_resolution", struct_keys::<rules::RawRules>()),
        ("conflict_resolution.custom_rules", struct_keys::<rules::RawColumnRule>()),
        ("conflict_resolution.tables", struct_keys::<rules::RawTableRule>()),
        ("conflict_log", struct_keys::<conflict_log::RawLog>()),
        ("conflict_log.storage", struct_keys::<conflict_log::RawStorage>()),
        ("conflict_log.alerting", struct_keys::<conflict_log::RawAlerting>()),
        ("cdc_config.output_format", struct_keys::<raw::RawFormat>()),
    ] {
        assert_eq!(keys(section(path)), expected, "{path}");
    }
    for (path, struct_keys) in [
        ("cdc_config.properties", struct_keys::<raw::RawProperties>()),
        ("target.properties", struct_keys::<raw::RawSinkProperties>()),
    ] {
        let properties = keys(section(path));
        for key in struct_keys {
            assert!(properties.contains(&key), "{key}");
        }
    }
}

#[test]
fn every_key_that_works_is_explained() {
    fn walk(fields: &[Field], prefix: &str) {
        for field in fields {
            if let Kind::Section(below) | Kind::Sections(below) | Kind::Named(below) = field.kind {
                walk(below, field.key);
            }
            assert!(is_refused(field) || !field.meaning.is_empty(), "{prefix}.{}", field.key);
        }
    }
    walk(FIELDS, "");
}

fn is_refused(field: &Field) -> bool {
    field.kind.is_refused()
}

fn keys(fields: &[Field]) -> Vec<String> {
    let mut keys: Vec<String> = fields.iter().filter(|f| !is_refused(f)).map(|f| f.key.to_owned()).collect();
    keys.sort();
    keys
}

fn section(path: &str) -> &'static [Field] {
    path.split('.').fold(FIELDS, |fields, key| {
        match fields.iter().find(|field| field.key == key).map(|field| &field.kind) {
            Some(Kind::Section(below) | Kind::Sections(below) | Kind::Named(below)) => below,
            _ => panic!("{path} is not a section"),
        }
    })
}

/// The names serde asks for, caught before it reads a value.
fn struct_keys<T: DeserializeOwned>() -> Vec<String> {
    struct Catch;
    impl<'de> Deserializer<'de> for Catch {
        type Error = Error;
        fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Error> {
            Err(Error::custom(""))
        }
        fn deserialize_struct<V: Visitor<'de>>(
            self,
            _: &'static str,
            fields: &'static [&'static str],
            _: V,
        ) -> Result<V::Value, Error> {
            Err(Error::custom(fields.join("\n")))
        }
        forward_to_deserialize_any! {
            bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf option unit unit_struct
            newtype_struct seq tuple tuple_struct map enum identifier ignored_any
        }
    }
    let listed = T::deserialize(Catch).err().expect("nothing is read").to_string();
    let mut keys: Vec<String> = listed.lines().map(str::to_owned).collect();
    keys.sort();
    keys
}

fn reference() -> String {
    let mut out = String::new();
    let mut refused = String::new();
    section_table(&mut out, &mut refused, FIELDS, "");
    write!(out, "### Refused by name\n\n{refused}\n").unwrap();
    out
}

fn section_table(out: &mut String, refused: &mut String, fields: &'static [Field], prefix: &str) {
    let title = if prefix.is_empty() { "The top of the file".to_owned() } else { format!("`{prefix}`") };
    write!(out, "### {title}\n\n| key | value | default | meaning |\n|---|---|---|---|\n").unwrap();
    let path = |field: &Field| if prefix.is_empty() { field.key.to_owned() } else { format!("{prefix}.{}", field.key) };
    for field in fields.iter().filter(|field| !is_refused(field)) {
        let (kind, preset, meaning) = (kind(field), preset(field), field.meaning.replace('|', "\\|"));
        let more = if matches!(field.kind, Kind::Family) { "…" } else { "" };
        writeln!(out, "| `{}{more}` | {kind} | {preset} | {meaning} |", path(field)).unwrap();
    }
    out.push('\n');
    for field in fields.iter().filter(|field| is_refused(field)) {
        match field.kind {
            Kind::Elsewhere(home) => writeln!(refused, "- `{}`: set `{home}` instead.", path(field)).unwrap(),
            Kind::Refused(why) => writeln!(refused, "- `{}`: {why}.", path(field)).unwrap(),
            _ if field.meaning.is_empty() => writeln!(refused, "- `{}`: not supported yet.", path(field)).unwrap(),
            _ => writeln!(refused, "- `{}`: not supported yet. {}", path(field), field.meaning).unwrap(),
        }
    }
    for field in fields {
        match field.kind {
            Kind::Section(below) | Kind::Sections(below) => section_table(out, refused, below, &path(field)),
            Kind::Named(below) => section_table(out, refused, below, &format!("{}.<name>", path(field))),
            _ => {}
        }
    }
}

fn kind(field: &Field) -> String {
    match &field.kind {
        Kind::Section(_) => "section".to_owned(),
        Kind::Sections(_) => "list of sections".to_owned(),
        Kind::Named(_) => "names and sections".to_owned(),
        Kind::Text | Kind::Verbatim => "text".to_owned(),
        Kind::Secret => "text, kept out of messages".to_owned(),
        Kind::Integer { min, max } => format!("{min} to {max}"),
        Kind::Boolean => "`true` or `false`".to_owned(),
        Kind::Duration { .. } => "duration".to_owned(),
        Kind::Choice { works, later } => {
            let list = |words: &[&str]| words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ");
            if later.is_empty() { list(works) } else { format!("{}; not supported yet: {}", list(works), list(later)) }
        }
        Kind::Texts => "list of texts".to_owned(),
        Kind::Map => "names and values".to_owned(),
        Kind::Family => "list of columns".to_owned(),
        Kind::Later | Kind::Refused(_) | Kind::Elsewhere(_) => String::new(),
    }
}

fn preset(field: &Field) -> String {
    match (field.preset, &field.kind) {
        (Preset::Required, _) => "required".to_owned(),
        (Preset::Absent(text), _) => text.to_owned(),
        (Preset::Is(_), Kind::Section(_)) => "its defaults".to_owned(),
        (Preset::Is(""), _) => "empty".to_owned(),
        (Preset::Is(text), _) => format!("`{text}`"),
    }
}
