//! Debezium's records beside ours: key, value, headers, schema. What must differ between two captures of one log is
//! passed over; everything else that differs is reported with its case, record and field.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write as _};

use anyhow::{Context, Result, bail, ensure};
use syncline_event::avro::frame;
use syncline_event::header::{HEADER_NAME, Header};
use syncline_integration_tests::records::Record;
use syncline_integration_tests::stack;

use crate::beside;
use crate::capture::Pair;
use crate::case::{Case, Deviation};
use crate::datum::{Field, Schema};

/// Debezium's own four headers, which ours have where `extended.headers.enabled` asks for them.
const CONTEXT: &str = "__debezium.context.";
/// The one of them that is another in every run.
const RUN: &str = "__debezium.context.runId";

/// One place in which the two differ.
pub(crate) struct Difference {
    pub(crate) table: String,
    /// Which record of the topic.
    record: String,
    /// What the record says, where it has a value.
    pub(crate) operation: String,
    pub(crate) path: String,
    pub(crate) debezium: String,
    pub(crate) ours: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { table, record: _, operation, path, debezium, ours } = self;
        write!(f, "{table}, {operation}, {path}:\n    debezium {debezium}\n    syncline {ours}")
    }
}

/// Fails unless the pairs of records are equal but for the cases' deviations, and those are all there.
pub(crate) async fn check(pairs: &[Pair]) -> Result<()> {
    let mut schemas = Schemas::default();
    let mut report = String::new();
    let mut compared = 0;
    let mut found: BTreeMap<&str, Vec<Difference>> = BTreeMap::new();
    for pair in pairs {
        let case = pair.case.map_or("beside the tables", |case| case.name);
        ensure!(!pair.debezium.is_empty(), "case {case}: Debezium wrote nothing for {}", pair.about);
        compared += pair.debezium.len();
        let differences = compare(pair, &mut schemas).await.with_context(|| format!("case {case}, {}", pair.about))?;
        found.entry(case).or_default().extend(differences);
    }
    for case in pairs.iter().filter_map(|pair| pair.case) {
        let Some(differences) = found.remove(case.name) else { continue };
        judge(case.name, case.deviations, &differences, &mut report)?;
    }
    for (name, differences) in found {
        judge(name, &[], &differences, &mut report)?;
    }
    ensure!(report.is_empty(), "our records are not Debezium's, {compared} records compared:\n{report}");
    Ok(())
}

fn judge(case: &str, deviations: &[Deviation], differences: &[Difference], report: &mut String) -> Result<()> {
    let mut unexpected: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for difference in differences {
        if !deviations.iter().any(|deviation| fits(deviation, difference)) {
            unexpected.entry(difference.to_string()).or_default().push(&difference.record);
        }
    }
    for (difference, records) in unexpected {
        writeln!(report, "case {case}: {difference}\n    in {}", records.join(", "))?;
    }
    for deviation in deviations {
        for operation in deviation.operations.chars() {
            let shows =
                |difference: &Difference| fits(deviation, difference) && difference.operation.contains(operation);
            if !differences.iter().any(shows) {
                writeln!(report, "case {case}, operation {operation}: this deviation did not show: {deviation:?}")?;
            }
        }
    }
    Ok(())
}

fn fits(deviation: &Deviation, difference: &Difference) -> bool {
    let is = |expected: &str, found: &str| match expected.strip_suffix('*') {
        Some(start) => found.starts_with(start),
        None => found == expected,
    };
    is(deviation.debezium, &difference.debezium)
        && is(deviation.ours, &difference.ours)
        && deviation.operations.contains(&difference.operation)
        && [format!("value.before.{}", deviation.column), format!("value.after.{}", deviation.column)]
            .contains(&difference.path)
}

/// Our records of a pair that Debezium has too.
pub(crate) fn records_of(pair: &Pair) -> Result<Vec<&Record>> {
    let mut ours = Vec::new();
    for record in &pair.ours {
        if pair.case.is_none() {
            ours.push(record);
            continue;
        }
        let header = record.header(HEADER_NAME).context("a record without our header")?;
        let header = Header::decode(header)?;
        // A marker that stands in every partition; a truncate's first copy is Debezium's record.
        if header.barrier.is_none() || record.value.is_some() {
            ours.push(record);
        }
    }
    Ok(ours)
}

async fn compare(pair: &Pair, schemas: &mut Schemas) -> Result<Vec<Difference>> {
    let mut differences = Vec::new();
    let debezium = by_place(pair.debezium.iter());
    let ours = by_place(records_of(pair)?.into_iter());
    let places: BTreeSet<_> = debezium.keys().chain(ours.keys()).collect();
    for place in places {
        let (debezium, ours) = (debezium.get(place), ours.get(place));
        let (debezium, ours) = (debezium.map_or(&[][..], Vec::as_slice), ours.map_or(&[][..], Vec::as_slice));
        let longest = debezium.len().max(ours.len());
        for number in 0..longest {
            let operation = schemas.operation(debezium.get(number).or(ours.get(number))).await?;
            let mut found = Found { pair, place: *place, number, operation, differences: &mut differences };
            match (debezium.get(number), ours.get(number)) {
                (Some(debezium), Some(ours)) => found.records(debezium, ours, schemas).await?,
                (debezium, ours) => {
                    let (debezium, ours) = (outline(debezium, schemas).await?, outline(ours, schemas).await?);
                    found.add("record", debezium, ours);
                }
            }
        }
    }
    Ok(differences)
}

/// Records in their order by partition; those without a key, which may stand in any, by themselves.
pub(crate) fn by_place<'a>(records: impl Iterator<Item = &'a Record>) -> BTreeMap<Option<i32>, Vec<&'a Record>> {
    let mut places: BTreeMap<Option<i32>, Vec<&Record>> = BTreeMap::new();
    for record in records {
        places.entry(record.key.is_some().then_some(record.partition)).or_default().push(record);
    }
    places
}

struct Found<'a> {
    pair: &'a Pair,
    place: Option<i32>,
    number: usize,
    operation: String,
    differences: &'a mut Vec<Difference>,
}

impl Found<'_> {
    fn add(&mut self, path: &str, debezium: String, ours: String) {
        if debezium == ours {
            return;
        }
        let record = match self.place {
            Some(partition) => format!("{partition}:{}", self.number),
            None => format!("without a key:{}", self.number),
        };
        let (table, operation, path) = (self.pair.about.clone(), self.operation.clone(), path.to_owned());
        self.differences.push(Difference { table, record, operation, path, debezium, ours });
    }

    async fn records(&mut self, debezium: &Record, ours: &Record, schemas: &mut Schemas) -> Result<()> {
        self.payloads("key", debezium.key.as_deref(), ours.key.as_deref(), schemas).await?;
        self.payloads("value", debezium.value.as_deref(), ours.value.as_deref(), schemas).await?;
        let told = ours.headers.iter().any(|(name, _)| name.starts_with(CONTEXT));
        let without = if told { HEADER_NAME } else { CONTEXT };
        self.add("headers", headers(debezium, without), headers(ours, HEADER_NAME));
        Ok(())
    }

    async fn payloads(
        &mut self,
        part: &str,
        debezium: Option<&[u8]>,
        ours: Option<&[u8]>,
        schemas: &mut Schemas,
    ) -> Result<()> {
        let (Some(debezium), Some(ours)) = (debezium, ours) else {
            let shown =
                |bytes: Option<&[u8]>| bytes.map_or("null".to_owned(), |bytes| format!("{} bytes", bytes.len()));
            self.add(part, shown(debezium), shown(ours));
            return Ok(());
        };
        let ((debezium_id, debezium), (ours_id, ours)) = (frame::split(debezium)?, frame::split(ours)?);
        schemas.read_plainly(ours_id, ours).await.with_context(|| format!("{part} read by another Avro reader"))?;
        if debezium_id != ours_id {
            let (debezium, ours) =
                (schemas.get(debezium_id).await?.text.clone(), schemas.get(ours_id).await?.text.clone());
            let at = debezium.bytes().zip(ours.bytes()).take_while(|(a, b)| a == b).count();
            self.add(&format!("{part} schema"), around(&debezium, at), around(&ours, at));
            if debezium == ours {
                bail!("one schema text has two ids: {debezium_id} and {ours_id}");
            }
        }
        let debezium = schemas.get(debezium_id).await?.schema.fields(debezium).context("Debezium's")?;
        let ours = schemas.get(ours_id).await?.schema.fields(ours).context("ours")?;
        self.fields(part, debezium, ours);
        Ok(())
    }

    fn fields(&mut self, part: &str, debezium: Vec<Field>, ours: Vec<Field>) {
        let is_snapshot = |fields: &[Field]| fields.iter().any(|field| field.path == "op" && field.shown == "\"r\"");
        let snapshot = part == "value" && is_snapshot(&debezium) && is_snapshot(&ours);
        let mut ours: BTreeMap<String, Field> = ours.into_iter().map(|field| (field.path.clone(), field)).collect();
        for theirs in debezium {
            let path = format!("{part}.{}", theirs.path);
            let Some(field) = ours.remove(&theirs.path) else {
                self.add(&path, theirs.shown, "no such field".to_owned());
                continue;
            };
            let (mut debezium, mut ours) = (common(&path, theirs, snapshot), common(&path, field, snapshot));
            if self.pair.about == "transaction" {
                (debezium, ours) = (beside::common(debezium), beside::common(ours));
            }
            if debezium.bytes != ours.bytes {
                let same = if debezium.shown == ours.shown { " in other bytes" } else { "" };
                self.add(&path, debezium.shown, ours.shown + same);
            }
        }
        for (path, field) in ours {
            self.add(&format!("{part}.{path}"), "no such field".to_owned(), field.shown);
        }
    }
}

/// The field without what two captures of one log cannot have in common.
fn common(path: &str, field: Field, snapshot: bool) -> Field {
    let masked = |shown: &str| Field { path: field.path.clone(), bytes: Vec::new(), shown: shown.to_owned() };
    match path {
        // When the event was made.
        "value.ts_ms" | "value.ts_us" | "value.ts_ns" if field.shown != "null" => masked("a time"),
        // Each takes its snapshot at its own time.
        "value.source.ts_ms" | "value.source.ts_us" | "value.source.ts_ns" if snapshot => masked("a time"),
        "value.source.lsn" | "value.source.txId" | "value.source.sequence" if snapshot && field.shown != "null" => {
            masked("a position")
        }
        // Tables that are read beside each other have no first and no last one.
        "value.source.snapshot" if snapshot => match field.shown.as_str() {
            "\"first\"" => masked("\"first_in_data_collection\""),
            "\"last\"" => masked("\"last_in_data_collection\""),
            shown => masked(shown),
        },
        _ => field,
    }
}

fn headers(record: &Record, without: &str) -> String {
    let kept = record.headers.iter().filter(|(name, _)| !name.starts_with(without));
    let shown = kept.map(|(name, value)| {
        let value = value.as_ref().filter(|_| name != RUN);
        format!("{name}={}", value.map_or("null".into(), |value| String::from_utf8_lossy(value)))
    });
    shown.collect::<Vec<_>>().join(" ")
}

/// Where the texts part.
fn around(text: &str, at: usize) -> String {
    let characters: Vec<char> = text.chars().collect();
    let (start, end) = (at.saturating_sub(150), (at + 150).min(characters.len()));
    format!("…{}…", characters[start.min(end)..end].iter().collect::<String>())
}

/// A record that the other side does not have.
async fn outline(record: Option<&&Record>, schemas: &mut Schemas) -> Result<String> {
    let Some(record) = record else { return Ok("none".to_owned()) };
    let mut parts = Vec::new();
    for (part, bytes) in [("key", &record.key), ("value", &record.value)] {
        let Some(bytes) = bytes else {
            parts.push(format!("{part} null"));
            continue;
        };
        let (id, datum) = frame::split(bytes)?;
        for field in schemas.get(id).await?.schema.fields(datum)? {
            parts.push(format!("{part}.{} {}", field.path, field.shown));
        }
    }
    Ok(parts.join(", "))
}

/// Registered schemas by id.
#[derive(Default)]
struct Schemas {
    known: BTreeMap<u32, Registered>,
}

struct Registered {
    text: String,
    schema: Schema,
    plain: apache_avro::Schema,
}

impl Schemas {
    async fn get(&mut self, id: u32) -> Result<&Registered> {
        match self.known.entry(id) {
            Entry::Occupied(known) => Ok(known.into_mut()),
            Entry::Vacant(place) => {
                let url = format!("{}/schemas/ids/{id}", stack::variable("SCHEMA_REGISTRY_URL")?);
                let answer: serde_json::Value = reqwest::get(url).await?.error_for_status()?.json().await?;
                let text = answer["schema"].as_str().context("no schema in the registry's answer")?.to_owned();
                let plain = apache_avro::Schema::parse_str(&text).with_context(|| format!("schema {id}: {text}"))?;
                Ok(place.insert(Registered { schema: Schema::parse(&text)?, text, plain }))
            }
        }
    }

    /// An envelope's operation.
    async fn operation(&mut self, record: Option<&&Record>) -> Result<String> {
        let Some(value) = record.and_then(|record| record.value.as_deref()) else { return Ok("null".to_owned()) };
        let (id, datum) = frame::split(value)?;
        let fields = self.get(id).await?.schema.fields(datum)?;
        let operation = fields.into_iter().find(|field| field.path == "op");
        Ok(operation.map_or_else(|| "no op".to_owned(), |field| field.shown.replace('"', "")))
    }

    /// Any Avro reader makes sense of it with the registered schema.
    async fn read_plainly(&mut self, id: u32, mut datum: &[u8]) -> Result<()> {
        let registered = self.get(id).await?;
        apache_avro::reader::datum::GenericDatumReader::builder(&registered.plain).build()?.read_value(&mut datum)?;
        ensure!(datum.is_empty(), "it leaves {} bytes", datum.len());
        Ok(())
    }
}

/// Fails unless both sides registered the same schema texts, version by version, under their topics.
pub(crate) async fn check_subjects(pairs: &[Pair]) -> Result<()> {
    for pair in pairs {
        for part in ["key", "value"] {
            let debezium = versions(&format!("{}-{part}", pair.debezium_topic)).await?;
            let ours = versions(&format!("{}-{part}", pair.topic)).await?;
            let case = pair.case.map_or("beside the tables", |case: &Case| case.name);
            ensure!(
                debezium == ours,
                "case {case}, {}: the {part} schemas are\n{debezium:#?}\nand ours\n{ours:#?}",
                pair.about
            );
        }
    }
    Ok(())
}

async fn versions(subject: &str) -> Result<Vec<(u64, String)>> {
    let subject = format!("{}/subjects/{subject}/versions", stack::variable("SCHEMA_REGISTRY_URL")?);
    let answer = reqwest::get(&subject).await?;
    if answer.status() == reqwest::StatusCode::NOT_FOUND {
        return Ok(Vec::new());
    }
    let numbers: Vec<u32> = answer.error_for_status()?.json().await?;
    let mut found = Vec::new();
    for number in numbers {
        let version: serde_json::Value =
            reqwest::get(format!("{subject}/{number}")).await?.error_for_status()?.json().await?;
        let text = version["schema"].as_str().context("a version without a schema")?;
        found.push((version["id"].as_u64().context("a version without an id")?, text.to_owned()));
    }
    Ok(found)
}
