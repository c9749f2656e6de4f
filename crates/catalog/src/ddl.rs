//! DDL for target tables as text. Pure: what is printed here is what a dry run shows and what is executed.

use syncline_event::table::{Column, ColumnType, Identity, TableDefinition, TypeKind};

use crate::ident::{IdentError, qualified, quote_identifier, quote_literal};

/// One step towards a target table that fits a definition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The schema is missing.
    CreateSchema {
        /// Its name.
        schema: String,
    },
    /// An enum type is missing.
    CreateEnum {
        /// Its schema.
        schema: String,
        /// Its name.
        name: String,
        /// Its labels in order.
        labels: Vec<String>,
    },
    /// An enum type lacks a label. A transaction cannot use a label that it has added, so this is a step of its own.
    AddLabel {
        /// The type's schema.
        schema: String,
        /// The type's name.
        name: String,
        /// The new label.
        label: String,
        /// Where it goes.
        place: LabelPlace,
    },
    /// The table is missing.
    CreateTable {
        /// What it looks like in the source.
        definition: TableDefinition,
    },
    /// A column is missing.
    AddColumn {
        /// The table's schema.
        schema: String,
        /// The table.
        table: String,
        /// The column.
        column: Column,
    },
    /// A column takes no NULL but must.
    DropNotNull {
        /// The table's schema.
        schema: String,
        /// The table.
        table: String,
        /// The column.
        column: String,
    },
}

/// Where a label is put among those that are there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LabelPlace {
    /// Behind this label.
    After(String),
    /// Before this label.
    Before(String),
    /// At the end.
    Last,
}

impl Change {
    /// Whether the step has to be committed before a transaction that depends on it begins.
    #[must_use]
    pub fn stands_alone(&self) -> bool {
        matches!(self, Self::AddLabel { .. })
    }

    /// The statement, without a semicolon.
    ///
    /// # Errors
    ///
    /// A name that PostgreSQL cannot keep.
    pub fn render(&self) -> Result<String, IdentError> {
        Ok(match self {
            Self::CreateSchema { schema } => format!("CREATE SCHEMA IF NOT EXISTS {}", quote_identifier(schema)?),
            Self::CreateEnum { schema, name, labels } => {
                let labels: Vec<String> = labels.iter().map(|label| quote_literal(label)).collect();
                format!("CREATE TYPE {} AS ENUM ({})", qualified(schema, name)?, labels.join(", "))
            }
            Self::AddLabel { schema, name, label, place } => {
                let place = match place {
                    LabelPlace::After(label) => format!(" AFTER {}", quote_literal(label)),
                    LabelPlace::Before(label) => format!(" BEFORE {}", quote_literal(label)),
                    LabelPlace::Last => String::new(),
                };
                let label = quote_literal(label);
                format!("ALTER TYPE {} ADD VALUE IF NOT EXISTS {label}{place}", qualified(schema, name)?)
            }
            Self::CreateTable { definition } => create_table(definition)?,
            Self::AddColumn { schema, table, column } => add_column(schema, table, column)?,
            Self::DropNotNull { schema, table, column } => format!(
                "ALTER TABLE {} ALTER COLUMN {} DROP NOT NULL",
                qualified(schema, table)?,
                quote_identifier(column)?
            ),
        })
    }
}

/// All steps as a script, for a person to read and run.
///
/// # Errors
///
/// A name that PostgreSQL cannot keep.
pub fn script(changes: &[Change]) -> Result<String, IdentError> {
    changes.iter().map(|change| Ok(format!("{};\n", change.render()?))).collect()
}

fn create_table(definition: &TableDefinition) -> Result<String, IdentError> {
    let mut text = format!("CREATE TABLE {} (", qualified(&definition.schema, &definition.table)?);
    for (index, column) in definition.columns.iter().enumerate() {
        text.push_str("\n  ");
        text.push_str(&quote_identifier(&column.name)?);
        text.push(' ');
        text.push_str(&type_text(&column.column_type)?);
        if let Some(expression) = &column.generated {
            text.push_str(&format!(" GENERATED ALWAYS AS ({expression}) STORED"));
        } else if let Some(identity) = column.identity {
            text.push_str(identity_text(identity, definition.key.contains(&index)));
        } else if let Some(value) = &column.default_value {
            text.push_str(&default_text(value, &column.column_type)?);
        }
        if !column.nullable {
            text.push_str(" NOT NULL");
        }
        text.push(',');
    }
    let key: Result<Vec<String>, _> =
        definition.key.iter().map(|index| quote_identifier(&definition.columns[*index].name)).collect();
    text.push_str(&format!("\n  PRIMARY KEY ({})\n)", key?.join(", ")));
    Ok(text)
}

/// A column that is no part of the key and `GENERATED ALWAYS` could not be updated, not even to the value the source
/// has; `BY DEFAULT` takes the source's values and still generates those of local rows.
fn identity_text(identity: Identity, in_key: bool) -> &'static str {
    match identity {
        Identity::Always if in_key => " GENERATED ALWAYS AS IDENTITY",
        Identity::Always | Identity::ByDefault => " GENERATED BY DEFAULT AS IDENTITY",
    }
}

/// The default is the value that the source's older rows show in the column, and stays so: rows from before the
/// change may still be on their way, written without the column. Where the source has declared another default since,
/// only rows inserted here by hand could tell.
fn add_column(schema: &str, table: &str, column: &Column) -> Result<String, IdentError> {
    let mut text = format!(
        "ALTER TABLE {} ADD COLUMN {} {}",
        qualified(schema, table)?,
        quote_identifier(&column.name)?,
        type_text(&column.column_type)?
    );
    if let Some(expression) = &column.generated {
        text.push_str(&format!(" GENERATED ALWAYS AS ({expression}) STORED"));
    } else if let Some(value) = &column.missing_value {
        text.push_str(&default_text(value, &column.column_type)?);
        if !column.nullable {
            text.push_str(" NOT NULL");
        }
    }
    Ok(text)
}

fn default_text(value: &str, column_type: &ColumnType) -> Result<String, IdentError> {
    Ok(format!(" DEFAULT {}::{}", quote_literal(value), type_text(column_type)?))
}

/// The type as DDL names it. What `format_type` prints depends on the session's search path for types of other
/// schemas, so those are spelled out; built-in types keep their modifiers by it.
///
/// # Errors
///
/// A name that PostgreSQL cannot keep.
pub fn type_text(column_type: &ColumnType) -> Result<String, IdentError> {
    match &column_type.kind {
        TypeKind::Array { element } => Ok(format!("{}[]", type_text(element)?)),
        TypeKind::Base | TypeKind::Enum { .. } if column_type.schema == "pg_catalog" => Ok(column_type.format.clone()),
        TypeKind::Base | TypeKind::Enum { .. } => {
            // `vector(3)`, `geometry(Point,4326)`.
            let modifiers = column_type.format.find('(').filter(|_| column_type.modifier != -1);
            let modifiers = modifiers.and_then(|start| column_type.format.get(start..)).unwrap_or_default();
            Ok(qualified(&column_type.schema, &column_type.name)? + modifiers)
        }
    }
}

#[cfg(test)]
mod tests {
    use syncline_event::handling::Handling;

    use super::*;
    use syncline_event::table::ReplicaIdentity;

    fn column_type(name: &str, format: &str) -> ColumnType {
        ColumnType {
            oid: 0,
            name: name.into(),
            schema: "pg_catalog".into(),
            modifier: -1,
            format: format.into(),
            kind: TypeKind::Base,
            domain: None,
        }
    }

    fn column(name: &str, column_type: ColumnType) -> Column {
        Column {
            name: name.into(),
            field: name.into(),
            column_type,
            nullable: true,
            identity: None,
            generated: None,
            default: None,
            default_value: None,
            missing_value: None,
        }
    }

    fn mood() -> ColumnType {
        ColumnType {
            schema: "Sch ema".into(),
            kind: TypeKind::Enum { labels: vec!["sad".into(), "it's".into()] },
            ..column_type("mood", "\"Sch ema\".mood")
        }
    }

    #[test]
    fn types_of_extensions_keep_their_modifiers() {
        let own = |name: &str, format: &str, modifier| ColumnType {
            schema: "gis".into(),
            modifier,
            ..column_type(name, format)
        };
        assert_eq!(
            type_text(&own("geometry", "gis.geometry(Point,4326)", 1_107_460)).unwrap(),
            r#""gis"."geometry"(Point,4326)"#
        );
        assert_eq!(type_text(&own("hstore", "gis.hstore", -1)).unwrap(), r#""gis"."hstore""#);
    }

    #[test]
    fn a_table_keeps_names_types_and_key_order() {
        let definition = TableDefinition {
            topic: "t".into(),
            number: 1,
            schema: "Sch ema".into(),
            table: "Sel\"ect".into(),
            columns: vec![
                Column {
                    nullable: false,
                    identity: Some(Identity::Always),
                    ..column("id", column_type("int8", "bigint"))
                },
                Column { nullable: false, ..column("b", column_type("varchar", "character varying(4)")) },
                Column { default_value: Some("it's".into()), ..column("c", column_type("text", "text")) },
                Column { generated: Some("id * 2".into()), ..column("g", column_type("int8", "bigint")) },
                Column {
                    nullable: false,
                    identity: Some(Identity::Always),
                    ..column("n", column_type("int4", "integer"))
                },
                column("m", mood()),
                column(
                    "ms",
                    ColumnType {
                        kind: TypeKind::Array { element: Box::new(mood()) },
                        schema: "Sch ema".into(),
                        ..column_type("_mood", "\"Sch ema\".mood[]")
                    },
                ),
            ],
            key: vec![1, 0],
            replica_identity: ReplicaIdentity::Default,
            handling: Handling::default(),
        };
        assert_eq!(
            Change::CreateTable { definition }.render().unwrap(),
            r#"CREATE TABLE "Sch ema"."Sel""ect" (
  "id" bigint GENERATED ALWAYS AS IDENTITY NOT NULL,
  "b" character varying(4) NOT NULL,
  "c" text DEFAULT 'it''s'::text,
  "g" bigint GENERATED ALWAYS AS (id * 2) STORED,
  "n" integer GENERATED BY DEFAULT AS IDENTITY NOT NULL,
  "m" "Sch ema"."mood",
  "ms" "Sch ema"."mood"[],
  PRIMARY KEY ("b", "id")
)"#
        );
    }

    #[test]
    fn an_added_column_shows_what_old_rows_show_in_the_source() {
        let add = |column| Change::AddColumn { schema: "public".into(), table: "t".into(), column }.render().unwrap();
        let base = column("n", column_type("int4", "integer"));
        assert_eq!(add(base.clone()), r#"ALTER TABLE "public"."t" ADD COLUMN "n" integer"#);
        assert_eq!(
            add(Column {
                nullable: false,
                missing_value: Some("5".into()),
                default_value: Some("7".into()),
                ..base.clone()
            }),
            r#"ALTER TABLE "public"."t" ADD COLUMN "n" integer DEFAULT '5'::integer NOT NULL"#
        );
        assert_eq!(
            add(Column { default_value: Some("7".into()), ..base }),
            r#"ALTER TABLE "public"."t" ADD COLUMN "n" integer"#
        );
    }

    #[test]
    fn enums_are_made_and_extended() {
        let create =
            Change::CreateEnum { schema: "s".into(), name: "mood".into(), labels: vec!["a".into(), "it's".into()] };
        assert_eq!(create.render().unwrap(), r#"CREATE TYPE "s"."mood" AS ENUM ('a', 'it''s')"#);
        let add = Change::AddLabel {
            schema: "s".into(),
            name: "mood".into(),
            label: "b\\".into(),
            place: LabelPlace::After("a".into()),
        };
        assert!(add.stands_alone());
        assert_eq!(add.render().unwrap(), r#"ALTER TYPE "s"."mood" ADD VALUE IF NOT EXISTS 'b\' AFTER 'a'"#);
    }
}
