use serde::Deserialize;

use super::*;

const DATABASE: &[Field] = &[
    Field::new("host", Kind::Text, Preset::Required, ""),
    Field::new("port", Kind::Integer { min: 1, max: 65535 }, Preset::Is("5432"), ""),
    Field::new("password", Kind::Secret, Preset::Absent("none"), ""),
];
const SETTINGS: &[Field] = &[
    Field::new("interval", Kind::Duration { min_s: 1, max_s: 3600 }, Preset::Is("5m"), ""),
    Field::new("mode", Kind::Choice { works: &["incremental"], later: &["full"] }, Preset::Is("incremental"), ""),
    Field::new("deep", Kind::Boolean, Preset::Is("true"), ""),
];
const FIELDS: &[Field] = &[
    Field::new("name", Kind::Text, Preset::Required, ""),
    Field::new("source", Kind::Section(DATABASE), Preset::Absent("none"), ""),
    Field::new("settings", Kind::Section(SETTINGS), Preset::Is(""), ""),
    Field::new("tables", Kind::Texts, Preset::Is(""), ""),
    Field::new("properties", Kind::Map, Preset::Is(""), ""),
    Field::new("replicas", Kind::Named(DATABASE), Preset::Is(""), ""),
    Field::later("schedule", ""),
    Field::elsewhere("hostname", "source.host"),
];

#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    name: String,
    source: Option<RawDatabase>,
    settings: RawSettings,
    tables: Vec<String>,
    properties: BTreeMap<String, String>,
    replicas: Vec<(String, RawDatabase)>,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawDatabase {
    host: String,
    port: u16,
    password: Option<String>,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSettings {
    interval: std::time::Duration,
    mode: String,
    deep: bool,
}

fn environment(name: &str) -> Option<String> {
    match name {
        "PORT" => Some("6000".to_owned()),
        "PASSWORD" => Some("it's: {a} # \"secret\"\n- x".to_owned()),
        "WORD" => Some("hunter2".to_owned()),
        _ => None,
    }
}

fn parse(text: &str) -> Result<Loaded<Raw>, ConfigError> {
    let environment = Environment { variables: &environment, secrets: None, unused: &|_| false };
    super::parse(Path::new("sync.yaml"), text, FIELDS, &environment)
}

fn refusal(text: &str) -> String {
    parse(text).unwrap_err().to_string()
}

#[test]
fn what_is_not_written_has_its_default() {
    let raw = parse("name: shop\nsource: {host: db, port: '${PORT}', password: '${PASSWORD}'}\ntables: [a, 'b.*']")
        .unwrap()
        .value;
    assert_eq!(raw.name, "shop");
    assert_eq!(raw.tables, ["a", "b.*"]);
    let source = raw.source.unwrap();
    assert_eq!((source.host.as_str(), source.port), ("db", 6000));
    assert_eq!(source.password.as_deref(), Some("it's: {a} # \"secret\"\n- x"));
    assert_eq!(raw.settings.interval.as_secs(), 300);
    assert_eq!(raw.settings.mode, "incremental");
    assert!(raw.settings.deep && raw.properties.is_empty());
    assert_eq!(parse("name: shop\nsource: ~").unwrap().value.source, None);
}

#[test]
fn scalars_keep_the_text_that_was_written() {
    let raw = parse("name: 0123\nsource: {host: no, password: 1e3}\nproperties: {a.b: true, c: 1.50}").unwrap().value;
    assert_eq!(raw.name, "0123");
    let source = raw.source.unwrap();
    assert_eq!((source.host.as_str(), source.password.as_deref()), ("no", Some("1e3")));
    assert_eq!(raw.properties["a.b"], "true");
    assert_eq!(raw.properties["c"], "1.50");
}

#[test]
fn named_sections_keep_their_order() {
    let raw = parse("name: a\nreplicas: {west: {host: w}, east: {host: e, port: 6000}}").unwrap().value;
    let replicas: Vec<_> = raw.replicas.iter().map(|(name, database)| (name.as_str(), database.port)).collect();
    assert_eq!(replicas, [("west", 5432), ("east", 6000)]);
}

#[test]
fn an_alias_stands_for_its_anchor() {
    let raw = parse("name: &n shop\ntables: [*n]").unwrap().value;
    assert_eq!(raw.tables, ["shop"]);
}

#[test]
fn each_refusal_names_file_line_key_and_remedy() {
    for (text, expected) in [
        ("nam: shop", "sync.yaml:1: nam: unknown key: did you mean `name`?"),
        ("name: a\nport: 1", "sync.yaml:2: port: unknown key here: did you mean `source.port`?"),
        (
            "name: a\nzzz: 1",
            "sync.yaml:2: zzz: unknown key; known here: name, source, settings, tables, properties, replicas",
        ),
        ("name: a\nschedule: x", "sync.yaml:2: schedule: is not supported yet"),
        ("name: a\nhostname: x", "sync.yaml:2: hostname: has a key of its own: set `source.host` instead"),
        ("tables: []", "sync.yaml:1: name: is required"),
        ("name: a\nsource:\n  port: 1", "sync.yaml:3: source.host: is required"),
        (
            "name: a\nsource:\n  host: h\n  port: 0",
            "sync.yaml:4: source.port: `0` is not a whole number from 1 to 65535",
        ),
        ("name: a\nsettings: {mode: full}", "settings.mode: `full` is not supported yet; supported: incremental"),
        ("name: a\nsettings: {mode: incremntal}", "did you mean `incremental`?"),
        ("name: a\nsettings: {interval: 5}", "settings.interval: `5` has no unit: write 5s, 5m or 5h"),
        ("name: a\nsettings: {interval: 2h}", "settings.interval: `2h` is out of range"),
        ("name: a\nsettings: {deep: yes}", "settings.deep: `yes` is neither true nor false"),
        ("name: ${NOBODY}", "sync.yaml:1: name: environment variable NOBODY is not set"),
        ("name: ${file:/x}", "`${file:…}` is not supported yet"),
        ("name: [a]", "sync.yaml:1: name: expected a single value"),
        ("name: a\nsettings: x", "settings: expected keys and values"),
        ("name: a\nreplicas: [a]", "replicas: expected names, each with keys and values below it"),
        ("name: a\nreplicas:\n  b: c", "sync.yaml:3: replicas.b: expected keys and values"),
        ("name: a\nreplicas:\n  b:", "sync.yaml:3: replicas.b: expected keys and values"),
        ("name: a\nreplicas:\n  b: {port: 1}", "sync.yaml:3: replicas.b.host: is required"),
        (
            "name: a\nreplicas:\n  b: {hots: c, host: d}",
            "sync.yaml:3: replicas.b.hots: unknown key: did you mean `host`?",
        ),
        ("name: a\ntables: [{a: b}]", "tables[0]: expected a text"),
        ("name: a\nname: b", "sync.yaml:2: the key `name` stands here twice (first on line 1)"),
        ("name: !!str a", "YAML tags are not used here"),
        ("", "the file is empty"),
        ("- a", "expected keys and values at the top"),
        ("name: a\n---\nname: b", "more than one YAML document"),
        ("name: [a", "not valid YAML"),
        ("name: 'a", "not valid YAML"),
        ("name: a\nsource: {host: ${HOST}}", "quotes around `${…}`"),
    ] {
        let message = refusal(text);
        assert!(message.contains(expected), "{text:?} gave {message:?}, expected {expected:?}");
    }
}

#[test]
fn all_problems_are_told_at_once() {
    let message = refusal("nam: a\nsource: {host: h, port: x}\nschedule: x");
    assert_eq!(message.lines().count(), 4, "{message}");
}

#[test]
fn the_value_of_a_variable_never_shows_up() {
    let message = refusal("name: a\nsource: {host: h, port: '${WORD}'}\nsettings: {mode: '${WORD}', deep: '${WORD}'}");
    assert!(message.contains("`${WORD}`") && !message.contains("hunter2"), "{message}");
}

#[test]
fn variables_of_an_unused_section_may_be_unset() {
    let text = "name: a\nsource: {host: h, port: '${NOBODY}', password: '${NOBODY}'}";
    let environment =
        Environment { variables: &environment, secrets: None, unused: &|path| path.starts_with("source.") };
    let raw: Raw = super::parse(Path::new("sync.yaml"), text, FIELDS, &environment).unwrap().value;
    assert_eq!(raw.source.unwrap().password, None);
    let text = "name: ${NOBODY}\nsource: {host: h, port: 0}";
    let message = super::parse::<Raw>(Path::new("sync.yaml"), text, FIELDS, &environment).unwrap_err().to_string();
    assert_eq!(message.lines().count(), 2, "{message}");
}

#[test]
fn a_bomb_of_aliases_is_refused() {
    let mut text = "name: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..9 {
        let below = format!("*a{}, ", level - 1).repeat(10);
        text.push_str(&format!("k{level}: &a{level} [{below}]\n"));
    }
    assert!(refusal(&text).contains("too large"));
    let deep = format!("name: {}{}", "[".repeat(40), "]".repeat(40));
    assert!(refusal(&deep).contains("nested too deeply"));
}

proptest::proptest! {
    #[test]
    fn no_text_breaks_the_loader(text in "(name|source|settings|[:{}\\[\\]&*!|>'\"#,?%@`~ \n\t$-]|\\PC){0,60}") {
        // Refused or not, but never a panic.
        let answer = parse(&text);
        proptest::prop_assert!(answer.is_ok() || !answer.unwrap_err().to_string().is_empty());
    }

    #[test]
    fn every_password_arrives_as_it_is(password in "\\PC{0,40}") {
        let variables = |name: &str| (name == "PASSWORD").then(|| password.clone());
        let environment = Environment { variables: &variables, secrets: None, unused: &|_| false };
        let text = "name: a\nsource:\n  host: h\n  password: ${PASSWORD}";
        let raw: Raw = super::parse(Path::new("sync.yaml"), text, FIELDS, &environment).unwrap().value;
        proptest::prop_assert_eq!(raw.source.unwrap().password, Some(password.clone()));
    }
}
