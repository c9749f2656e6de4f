//! Random schemas and values: our plan and `apache-avro` must read the same from the same bytes, whatever stands
//! between the fields that are wanted.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic, as tests may")]

use apache_avro::Schema;
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::types::Value as Avro;
use proptest::prelude::*;
use proptest::sample::select;
use syncline_event::avro::decode::{Envelope, EnvelopeDecoder};
use syncline_event::avro::value::Value;
use syncline_event::handling::Handling;
use syncline_event::table::{Column, ColumnType, ReplicaIdentity, TableDefinition, TypeKind};

const DECIMAL: &str = r#""connect.parameters":{"scale":"3"},"connect.name":"org.apache.kafka.connect.data.Decimal""#;
const VARIABLE: &str = r#"{"type":"record","name":"VariableScaleDecimal","namespace":"io.debezium.data","fields":[{"name":"scale","type":"int"},{"name":"value","type":"bytes"}],"connect.name":"io.debezium.data.VariableScaleDecimal"}"#;
const POINT: &str = r#"{"type":"record","name":"Point","namespace":"io.debezium.data.geometry","fields":[{"name":"x","type":"double"},{"name":"y","type":"double"},{"name":"wkb","type":["null","bytes"]},{"name":"srid","type":["null","int"]}],"connect.name":"io.debezium.data.geometry.Point"}"#;
const TREE: &str = r#"{"type":"record","name":"Tree","namespace":"other","fields":[{"name":"flag","type":"boolean"},{"name":"left","type":["null","Tree"]},{"name":"values","type":{"type":"array","items":["double","other.Tree","string"]}}]}"#;

/// What a field may be. The last four are never wanted, only passed over.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    Boolean,
    Int,
    Date,
    Long,
    TimeMillis,
    TimestampMillis,
    TimestampMicros,
    TimestampNanos,
    Float,
    Double,
    Text,
    ZonedTimestamp,
    Bytes,
    Bits,
    Decimal,
    Fixed,
    FixedDecimal,
    Enum,
    Variable,
    Point,
    Map,
    Union,
    Tree,
    Lists,
}

const WANTED: &[Kind] = &[
    Kind::Boolean,
    Kind::Int,
    Kind::Date,
    Kind::Long,
    Kind::TimeMillis,
    Kind::TimestampMillis,
    Kind::TimestampMicros,
    Kind::TimestampNanos,
    Kind::Float,
    Kind::Double,
    Kind::Text,
    Kind::ZonedTimestamp,
    Kind::Bytes,
    Kind::Bits,
    Kind::Decimal,
    Kind::Fixed,
    Kind::FixedDecimal,
    Kind::Enum,
    Kind::Variable,
    Kind::Point,
];

const PASSED_OVER: &[Kind] = &[Kind::Map, Kind::Union, Kind::Tree, Kind::Lists];

impl Kind {
    /// The schema; `#` stands for a number of its own, names between `@` for a record defined at its first use.
    fn schema(self) -> String {
        let named = |avro: &str, name: &str| format!(r#"{{"type":"{avro}","connect.name":"{name}"}}"#);
        match self {
            Self::Boolean => r#""boolean""#.into(),
            Self::Int => r#""int""#.into(),
            Self::Date => named("int", "io.debezium.time.Date"),
            Self::Long => r#""long""#.into(),
            Self::TimeMillis => named("int", "io.debezium.time.Time"),
            Self::TimestampMillis => named("long", "io.debezium.time.Timestamp"),
            Self::TimestampMicros => named("long", "io.debezium.time.MicroTimestamp"),
            Self::TimestampNanos => named("long", "io.debezium.time.NanoTimestamp"),
            Self::Float => r#""float""#.into(),
            Self::Double => r#""double""#.into(),
            Self::Text => r#""string""#.into(),
            Self::ZonedTimestamp => named("string", "io.debezium.time.ZonedTimestamp"),
            Self::Bytes => r#""bytes""#.into(),
            Self::Bits => named("bytes", "io.debezium.data.Bits"),
            Self::Decimal => format!(r#"{{"type":"bytes",{DECIMAL}}}"#),
            Self::Fixed => r#"{"type":"fixed","name":"Fixed#","size":3}"#.into(),
            Self::FixedDecimal => format!(r#"{{"type":"fixed","name":"Decimal#","size":2,{DECIMAL}}}"#),
            Self::Enum => r#"{"type":"enum","name":"Enum#","symbols":["red","green","blue"]}"#.into(),
            Self::Variable => "@variable@".into(),
            Self::Point => "@point@".into(),
            Self::Map => r#"{"type":"map","values":["null","long"]}"#.into(),
            Self::Union => r#"["string","null","double",{"type":"fixed","name":"Member#","size":5}]"#.into(),
            Self::Tree => "@tree@".into(),
            Self::Lists => r#"{"type":"array","items":{"type":"array","items":["null","int"]}}"#.into(),
        }
    }

    fn datum(self) -> BoxedStrategy<Datum> {
        match self {
            Self::Boolean => any::<bool>().prop_map(|value| Datum::Raw(vec![value.into()])).boxed(),
            Self::Int | Self::Date | Self::TimeMillis => {
                any::<i32>().prop_map(|value| Datum::Long(value.into())).boxed()
            }
            Self::Long | Self::TimestampMicros => any::<i64>().prop_map(Datum::Long).boxed(),
            Self::TimestampMillis => (-9_000_000_000_000_000_i64..9_000_000_000_000_000).prop_map(Datum::Long).boxed(),
            Self::TimestampNanos => {
                (-9_000_000_000_000_000_i64..9_000_000_000_000_000).prop_map(|us| Datum::Long(us * 1_000)).boxed()
            }
            Self::Float => any::<u32>().prop_map(|bits| Datum::Raw(bits.to_le_bytes().to_vec())).boxed(),
            Self::Double => any::<u64>().prop_map(|bits| Datum::Raw(bits.to_le_bytes().to_vec())).boxed(),
            Self::Text | Self::ZonedTimestamp => ".{0,20}".prop_map(|text| Datum::Bytes(text.into_bytes())).boxed(),
            Self::Bytes | Self::Bits | Self::Decimal => {
                proptest::collection::vec(any::<u8>(), 0..20).prop_map(Datum::Bytes).boxed()
            }
            Self::Fixed => any::<[u8; 3]>().prop_map(|bytes| Datum::Raw(bytes.to_vec())).boxed(),
            Self::FixedDecimal => any::<[u8; 2]>().prop_map(|bytes| Datum::Raw(bytes.to_vec())).boxed(),
            Self::Enum => (0_i64..3).prop_map(Datum::Long).boxed(),
            Self::Variable => {
                (Self::Int.datum(), Self::Bytes.datum()).prop_map(|(a, b)| Datum::All(vec![a, b])).boxed()
            }
            Self::Point => {
                let double = || Self::Double.datum();
                let optional =
                    |kind: Self| (any::<bool>(), kind.datum()).prop_map(|(null, it)| nullable(null, false, it));
                (double(), double(), optional(Self::Bytes), optional(Self::Int))
                    .prop_map(|(x, y, wkb, srid)| Datum::All(vec![x, y, wkb, srid]))
                    .boxed()
            }
            Self::Map => {
                let value = (any::<bool>(), Self::Long.datum()).prop_map(|(null, it)| nullable(null, false, it));
                blocks((Self::Text.datum(), value).prop_map(|(key, value)| Datum::All(vec![key, value])).boxed())
            }
            Self::Union => prop_oneof![
                Self::Text.datum().prop_map(|it| Datum::Branch(0, Box::new(it))),
                Just(Datum::Branch(1, Box::new(Datum::All(Vec::new())))),
                Self::Double.datum().prop_map(|it| Datum::Branch(2, Box::new(it))),
                any::<[u8; 5]>().prop_map(|it| Datum::Branch(3, Box::new(Datum::Raw(it.to_vec())))),
            ]
            .boxed(),
            Self::Tree => {
                let leaf = Self::Boolean.datum().prop_map(|flag| {
                    Datum::All(vec![
                        flag,
                        nullable(true, false, Datum::All(Vec::new())),
                        Datum::Blocks(Vec::new(), false),
                    ])
                });
                leaf.prop_recursive(3, 12, 3, |tree| {
                    let value = prop_oneof![
                        Self::Double.datum().prop_map(|it| Datum::Branch(0, Box::new(it))),
                        tree.clone().prop_map(|it| Datum::Branch(1, Box::new(it))),
                        Self::Text.datum().prop_map(|it| Datum::Branch(2, Box::new(it))),
                    ];
                    (Self::Boolean.datum(), tree, blocks(value.boxed()))
                        .prop_map(|(flag, left, values)| Datum::All(vec![flag, nullable(false, false, left), values]))
                })
                .boxed()
            }
            Self::Lists => {
                let item = (any::<bool>(), Self::Int.datum()).prop_map(|(null, it)| nullable(null, false, it));
                blocks(blocks(item.boxed()))
            }
        }
    }
}

/// A value as it is written.
#[derive(Debug, Clone)]
enum Datum {
    Raw(Vec<u8>),
    Long(i64),
    Bytes(Vec<u8>),
    Branch(i64, Box<Self>),
    All(Vec<Self>),
    /// Blocks of items, with their size noted or not.
    Blocks(Vec<Vec<Self>>, bool),
}

fn nullable(null: bool, null_last: bool, value: Datum) -> Datum {
    match (null, null_last) {
        (true, last) => Datum::Branch(last.into(), Box::new(Datum::All(Vec::new()))),
        (false, last) => Datum::Branch((!last).into(), Box::new(value)),
    }
}

fn blocks(item: BoxedStrategy<Datum>) -> BoxedStrategy<Datum> {
    (proptest::collection::vec(proptest::collection::vec(item, 1..3), 0..3), any::<bool>())
        .prop_map(|(blocks, sized)| Datum::Blocks(blocks, sized))
        .boxed()
}

impl Datum {
    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Raw(bytes) => out.extend_from_slice(bytes),
            Self::Long(value) => write_long(*value, out),
            Self::Bytes(bytes) => {
                write_long(i64::try_from(bytes.len()).unwrap(), out);
                out.extend_from_slice(bytes);
            }
            Self::Branch(branch, value) => {
                write_long(*branch, out);
                value.write(out);
            }
            Self::All(values) => values.iter().for_each(|value| value.write(out)),
            Self::Blocks(blocks, sized) => {
                for block in blocks {
                    let mut items = Vec::new();
                    block.iter().for_each(|item| item.write(&mut items));
                    let count = i64::try_from(block.len()).unwrap();
                    if *sized {
                        write_long(-count, out);
                        write_long(i64::try_from(items.len()).unwrap(), out);
                    } else {
                        write_long(count, out);
                    }
                    out.append(&mut items);
                }
                out.push(0);
            }
        }
    }
}

fn write_long(value: i64, out: &mut Vec<u8>) {
    let mut rest = ((value << 1) ^ (value >> 63)).cast_unsigned();
    while rest >= 0x80 {
        out.push((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Null {
    Never,
    First,
    Last,
}

impl Null {
    fn schema(self, of: &str) -> String {
        match self {
            Self::Never => of.to_owned(),
            Self::First => format!(r#"["null",{of}]"#),
            Self::Last => format!(r#"[{of},"null"]"#),
        }
    }

    fn datum(self, of: BoxedStrategy<Datum>) -> BoxedStrategy<Datum> {
        match self {
            Self::Never => of,
            _ => (any::<bool>(), of).prop_map(move |(null, it)| nullable(null, self == Self::Last, it)).boxed(),
        }
    }
}

/// A field of the row, its schema, and a row's values of it.
#[derive(Debug, Clone)]
struct Field {
    kind: Kind,
    wanted: bool,
    schema: String,
    before: Datum,
    after: Datum,
}

fn field() -> impl Strategy<Value = Field> {
    let null = || select(&[Null::Never, Null::First, Null::Last][..]);
    let kind = prop_oneof![4 => select(WANTED), 1 => select(PASSED_OVER)];
    let shape = (kind, null(), proptest::option::weighted(0.25, null()), any::<bool>());
    shape.prop_flat_map(|(kind, null, array, wanted)| {
        // A union may not hold a union.
        let null = if kind == Kind::Union { Null::Never } else { null };
        let (schema, datum) = match array {
            Some(element) if WANTED.contains(&kind) => (
                format!(r#"{{"type":"array","items":{}}}"#, element.schema(&kind.schema())),
                blocks(element.datum(kind.datum())),
            ),
            _ => (kind.schema(), kind.datum()),
        };
        let schema = null.schema(&schema);
        let datum = null.datum(datum);
        let wanted = wanted && WANTED.contains(&kind);
        (datum.clone(), datum).prop_map(move |(before, after)| Field {
            kind,
            wanted,
            schema: schema.clone(),
            before,
            after,
        })
    })
}

/// The envelope's schema; records with a name of their own are defined at their first use.
fn envelope_schema(fields: &[Field]) -> String {
    let row: Vec<_> = fields
        .iter()
        .enumerate()
        .map(|(index, field)| {
            let mut schema = field.schema.replace('#', &index.to_string());
            for (mark, name) in [
                ("@variable@", "io.debezium.data.VariableScaleDecimal"),
                ("@point@", "io.debezium.data.geometry.Point"),
                ("@tree@", "other.Tree"),
            ] {
                let seen = fields[..index].iter().any(|earlier| earlier.schema.contains(mark));
                let first = match mark {
                    "@variable@" => VARIABLE,
                    "@point@" => POINT,
                    _ => TREE,
                };
                let reference = format!("\"{name}\"");
                schema = schema.replace(mark, if seen { &reference } else { first });
            }
            format!(r#"{{"name":"f{index}","type":{schema}}}"#)
        })
        .collect();
    format!(
        r#"{{"type":"record","name":"Envelope","namespace":"p.s.t","fields":[
        {{"name":"before","type":["null",{{"type":"record","name":"Value","fields":[{}]}}]}},
        {{"name":"after","type":["null","Value"]}},
        {{"name":"source","type":{{"type":"record","name":"Source","namespace":"any","fields":[
          {{"name":"ts_ms","type":"long"}},{{"name":"note","type":["null","string"]}},
          {{"name":"ts_us","type":["null","long"]}}]}}}},
        {{"name":"op","type":"string"}}]}}"#,
        row.join(",")
    )
}

fn definition(fields: &[Field]) -> TableDefinition {
    let column = |index: usize| Column {
        name: format!("column {index}"),
        field: format!("f{index}"),
        column_type: ColumnType {
            oid: 25,
            name: "text".into(),
            schema: "pg_catalog".into(),
            modifier: -1,
            format: "text".into(),
            kind: TypeKind::Base,
            domain: None,
        },
        nullable: true,
        identity: None,
        generated: None,
        default: None,
        default_value: None,
        missing_value: None,
    };
    let wanted = fields.iter().enumerate().filter(|(_, field)| field.wanted);
    TableDefinition {
        topic: "p.s.t".into(),
        number: 1,
        schema: "s".into(),
        table: "t".into(),
        columns: wanted.map(|(index, _)| column(index)).collect(),
        key: vec![0],
        replica_identity: ReplicaIdentity::Default,
        handling: Handling::default(),
    }
}

fn agrees(kind: Kind, ours: Value<'_>, theirs: &Avro) -> bool {
    let theirs = match theirs {
        Avro::Union(_, inner) => inner.as_ref(),
        other => other,
    };
    let micros = |factor: i64, divisor: i64, n: i64| match ours {
        Value::Timestamp(us) | Value::Time(us) => us == n * factor / divisor,
        _ => false,
    };
    match (ours, theirs) {
        (Value::Null, Avro::Null) => true,
        (Value::Array(ours), Avro::Array(theirs)) => {
            ours.len() == theirs.len() && ours.iter().zip(theirs).all(|(ours, theirs)| agrees(kind, ours, theirs))
        }
        (Value::Boolean(a), Avro::Boolean(b)) => a == *b,
        (Value::Integer(a), Avro::Int(b)) => kind == Kind::Int && a == i64::from(*b),
        (Value::Integer(a), Avro::Long(b)) => kind == Kind::Long && a == *b,
        (Value::Date(a), Avro::Int(b)) => kind == Kind::Date && a == *b,
        (Value::Time(_), Avro::Int(n)) => kind == Kind::TimeMillis && micros(1_000, 1, i64::from(*n)),
        (Value::Timestamp(_), Avro::Long(n)) => match kind {
            Kind::TimestampMillis => micros(1_000, 1, *n),
            Kind::TimestampMicros => micros(1, 1, *n),
            Kind::TimestampNanos => micros(1, 1_000, *n),
            _ => false,
        },
        (Value::Float32(a), Avro::Float(b)) => a.to_bits() == b.to_bits(),
        (Value::Float64(a), Avro::Double(b)) => a.to_bits() == b.to_bits(),
        (Value::Text(a), Avro::String(b)) => kind == Kind::Text && a == b,
        (Value::Text(a), Avro::Enum(_, b)) => kind == Kind::Enum && a == b,
        (Value::ZonedTimestamp(a), Avro::String(b)) => a == b,
        (Value::Bytes(a), Avro::Bytes(b)) => kind == Kind::Bytes && a == b,
        (Value::Bytes(a), Avro::Fixed(_, b)) => kind == Kind::Fixed && a == b,
        (Value::Bits { bytes, .. }, Avro::Bytes(b)) => bytes == b,
        (Value::Decimal { unscaled, scale: 3 }, Avro::Bytes(b)) => kind == Kind::Decimal && unscaled == b,
        (Value::Decimal { unscaled, scale: 3 }, Avro::Fixed(_, b)) => kind == Kind::FixedDecimal && unscaled == b,
        (Value::Decimal { unscaled, scale }, Avro::Record(fields)) => {
            matches!(&fields[..], [(_, Avro::Int(s)), (_, Avro::Bytes(b))] if scale == *s && unscaled == b)
        }
        (Value::Point { x, y }, Avro::Record(fields)) => {
            matches!(&fields[..], [(_, Avro::Double(a)), (_, Avro::Double(b)), ..]
                if x.to_bits() == a.to_bits() && y.to_bits() == b.to_bits())
        }
        _ => false,
    }
}

/// A row image among the fields of an envelope read by `apache-avro`.
fn image<'a>(envelope: &'a Avro, name: &str) -> Option<&'a [(String, Avro)]> {
    let Avro::Record(fields) = envelope else { panic!("{envelope:?}") };
    let (_, value) = fields.iter().find(|(field, _)| field == name).unwrap();
    match value {
        Avro::Union(_, row) => match row.as_ref() {
            Avro::Record(fields) => Some(fields),
            _ => None,
        },
        _ => None,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn both_read_the_same(
        fields in proptest::collection::vec(field(), 1..8),
        has_before in any::<bool>(),
        ts_ms in -9_000_000_000_000_000_i64..9_000_000_000_000_000,
        ts_us in proptest::option::of(any::<i64>()),
    ) {
        let schema = envelope_schema(&fields);
        let definition = definition(&fields);
        let row = |side: fn(&Field) -> &Datum| Datum::All(fields.iter().map(|field| side(field).clone()).collect());
        let mut bytes = Vec::new();
        nullable(!has_before, false, row(|field| &field.before)).write(&mut bytes);
        nullable(false, false, row(|field| &field.after)).write(&mut bytes);
        Datum::Long(ts_ms).write(&mut bytes);
        nullable(false, false, Datum::Bytes(b"passed over".to_vec())).write(&mut bytes);
        nullable(ts_us.is_none(), false, Datum::Long(ts_us.unwrap_or(0))).write(&mut bytes);
        Datum::Bytes(b"u".to_vec()).write(&mut bytes);

        let decoder = EnvelopeDecoder::compile(&schema, &definition).unwrap();
        let mut ours = Envelope::new();
        decoder.decode(&bytes, &mut ours).unwrap();

        let schema = Schema::parse_str(&schema).unwrap();
        let theirs = GenericDatumReader::builder(&schema).build().unwrap().read_value(&mut &bytes[..]).unwrap();
        prop_assert_eq!(ours.source_ts_us, ts_us.unwrap_or(ts_ms * 1_000));
        prop_assert_eq!(ours.before.present, has_before);
        for (ours, theirs) in [(&ours.before, image(&theirs, "before")), (&ours.after, image(&theirs, "after"))] {
            prop_assert_eq!(ours.present, theirs.is_some());
            let Some(theirs) = theirs else { continue };
            let wanted = fields.iter().zip(theirs).filter(|(field, _)| field.wanted);
            for (ours, (field, (_, theirs))) in ours.values.iter().zip(wanted) {
                prop_assert!(agrees(field.kind, *ours, theirs), "{:?}: {:?} against {:?}", field.kind, ours, theirs);
            }
        }
        for length in 0..bytes.len() {
            prop_assert!(decoder.decode(&bytes[..length], &mut Envelope::new()).is_err());
        }
    }
}
