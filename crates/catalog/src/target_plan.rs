//! What it takes to make a target's table fit a definition: a function of the two, so that a dry run and the real one
//! cannot disagree.

use syncline_event::table::{Column, ColumnType, TableDefinition, TypeKind};

use crate::ddl::{Change, LabelPlace};
use crate::ident::{IdentError, qualified, quote_identifier};
use crate::target_table::{TargetColumn, TargetIndex, TargetState, TargetTable, enums_of};

/// A target table that does not fit and may not be made to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("target table {table}: {reason}; {remedy}")]
pub struct Mismatch {
    /// `schema.table`.
    pub table: String,
    /// What does not fit.
    pub reason: String,
    /// What to do.
    pub remedy: String,
}

/// What it takes to make the target fit the definition, in the order it has to be done; nothing where it fits.
///
/// # Errors
///
/// It does not fit and may not be made to.
pub fn plan(definition: &TableDefinition, state: &TargetState) -> Result<Vec<Change>, Mismatch> {
    let mut changes = Vec::new();
    if !state.schema_exists {
        changes.push(Change::CreateSchema { schema: definition.schema.clone() });
    }
    match &state.table {
        None => {
            plan_enums(definition, state, |_| true, &mut changes);
            changes.push(Change::CreateTable { definition: definition.clone() });
        }
        Some(table) => {
            check_table(definition, table)?;
            // A column of another type (an enum kept as text) needs no enum type.
            let needs = |name: &str, type_name: &str| {
                table
                    .columns
                    .iter()
                    .find(|column| column.name == name)
                    .is_none_or(|column| column.type_name == type_name)
            };
            plan_enums(
                definition,
                state,
                |column: &Column| needs(&column.name, &column.column_type.name),
                &mut changes,
            );
            plan_columns(definition, table, &mut changes)?;
            let alters =
                changes.iter().any(|change| matches!(change, Change::AddColumn { .. } | Change::DropNotNull { .. }));
            if alters && !table.is_owner {
                return Err(mismatch(
                    definition,
                    format!("it has to be altered and role {} does not own it", table.role),
                    format!("have its owner run: {}", crate::ddl::script(&changes).unwrap_or_default().trim_end()),
                ));
            }
        }
    }
    Ok(changes)
}

fn plan_enums(
    definition: &TableDefinition,
    state: &TargetState,
    needed: impl Fn(&Column) -> bool,
    changes: &mut Vec<Change>,
) {
    let mut narrowed = definition.clone();
    narrowed.columns.retain(|column| needed(column));
    for (schema, name, labels) in enums_of(&narrowed) {
        let Some(existing) = state.enums.get(&(schema.to_owned(), name.to_owned())) else {
            if schema != definition.schema
                && !changes
                    .iter()
                    .any(|change| matches!(change, Change::CreateSchema { schema: created } if created == schema))
            {
                changes.push(Change::CreateSchema { schema: schema.to_owned() });
            }
            changes.push(Change::CreateEnum { schema: schema.into(), name: name.into(), labels: labels.to_vec() });
            continue;
        };
        for (index, label) in labels.iter().enumerate() {
            if existing.contains(label) {
                continue;
            }
            // The label before it is there, or was just added.
            let place = match index.checked_sub(1) {
                Some(before) => LabelPlace::After(labels[before].clone()),
                None => existing.first().map_or(LabelPlace::Last, |first| LabelPlace::Before(first.clone())),
            };
            changes.push(Change::AddLabel { schema: schema.into(), name: name.into(), label: label.clone(), place });
        }
    }
}

fn check_table(definition: &TableDefinition, table: &TargetTable) -> Result<(), Mismatch> {
    let name = definition.qualified_name();
    if !matches!(table.kind, 'r' | 'p') {
        return Err(mismatch(definition, "it is no table".into(), "drop or rename it".into()));
    }
    if !table.missing_privileges.is_empty() {
        return Err(mismatch(
            definition,
            format!("role {} lacks {}", table.role, table.missing_privileges.join(", ")),
            grants(definition, table).unwrap_or_else(|_| "grant it".into()),
        ));
    }
    let mut key: Vec<&str> = definition.key.iter().map(|index| definition.columns[*index].name.as_str()).collect();
    key.sort_unstable();
    let is_key = |index: &TargetIndex| {
        let mut columns: Vec<&str> = index.columns.iter().map(String::as_str).collect();
        columns.sort_unstable();
        index.is_arbiter && columns == key
    };
    let Some(arbiter) = table.indexes.iter().position(is_key) else {
        let has = match table.indexes.iter().find(|index| index.primary) {
            Some(index) if index.is_arbiter => format!("its primary key is ({})", index.columns.join(", ")),
            Some(_) => "its primary key is deferrable".into(),
            None => "it has no primary key".into(),
        };
        return Err(mismatch(
            definition,
            format!("{has}, the source's key is ({})", key.join(", ")),
            format!("give it the source's primary key, not deferrable, or {}", resync()),
        ));
    };
    if let Some((_, other)) = table.indexes.iter().enumerate().find(|(index, _)| *index != arbiter) {
        return Err(mismatch(
            definition,
            format!("unique index {} besides the key is not supported yet", other.name),
            format!("drop it (a plain index is fine), or leave {name} out"),
        ));
    }
    if let Some(constraint) = table.foreign_keys.first() {
        return Err(mismatch(
            definition,
            format!("foreign key {constraint} is not supported yet: changes of other tables arrive in another order"),
            format!("drop the constraint, or leave {name} out"),
        ));
    }
    Ok(())
}

fn grants(definition: &TableDefinition, table: &TargetTable) -> Result<String, IdentError> {
    let (schema, rest): (Vec<&str>, Vec<&str>) =
        table.missing_privileges.iter().copied().partition(|privilege| *privilege == "USAGE");
    let role = quote_identifier(&table.role)?;
    let mut grants = String::from("run:");
    if !schema.is_empty() {
        grants.push_str(&format!(" GRANT USAGE ON SCHEMA {} TO {role};", quote_identifier(&definition.schema)?));
    }
    if !rest.is_empty() {
        let name = qualified(&definition.schema, &definition.table)?;
        grants.push_str(&format!(" GRANT {} ON {name} TO {role};", rest.join(", ")));
    }
    Ok(grants)
}

fn plan_columns(definition: &TableDefinition, table: &TargetTable, changes: &mut Vec<Change>) -> Result<(), Mismatch> {
    let drop_not_null = |column: &str| Change::DropNotNull {
        schema: definition.schema.clone(),
        table: definition.table.clone(),
        column: column.to_owned(),
    };
    for (index, column) in definition.columns.iter().enumerate() {
        let in_key = definition.key.contains(&index);
        let Some(existing) = table.columns.iter().find(|existing| existing.name == column.name) else {
            if let Some(reason) = cannot_add(column, in_key) {
                return Err(mismatch(
                    definition,
                    format!("column {} is missing and {reason}", column.name),
                    format!("add it with the source's values, or {}", resync()),
                ));
            }
            changes.push(Change::AddColumn {
                schema: definition.schema.clone(),
                table: definition.table.clone(),
                column: column.clone(),
            });
            continue;
        };
        match (column.generated.is_some(), existing.generated) {
            (true, true) => continue,
            (false, false) => {}
            (true, false) => {
                return Err(mismatch(
                    definition,
                    format!(
                        "column {} is generated in the source, which sends no values of it, and is not here",
                        column.name
                    ),
                    "make it a generated column here too, or drop it to have it made".into(),
                ));
            }
            (false, true) => {
                return Err(mismatch(
                    definition,
                    format!("column {} is generated here and is not in the source", column.name),
                    format!("run: ALTER TABLE … ALTER COLUMN {} DROP EXPRESSION", column.name),
                ));
            }
        }
        if existing.identity_always && !in_key {
            return Err(mismatch(
                definition,
                format!(
                    "column {} is GENERATED ALWAYS AS IDENTITY and no part of the key, so it cannot be updated",
                    column.name
                ),
                format!("run: ALTER TABLE … ALTER COLUMN {} SET GENERATED BY DEFAULT", column.name),
            ));
        }
        if !fits(&column.column_type, existing) {
            return Err(mismatch(
                definition,
                format!(
                    "column {} has type {} here and {} in the source",
                    column.name, existing.format, column.column_type.format
                ),
                format!("change its type here as in the source, or {}", resync()),
            ));
        }
        if column.nullable && !existing.nullable {
            changes.push(drop_not_null(&column.name));
        }
    }
    for existing in &table.columns {
        let known = definition.columns.iter().any(|column| column.name == existing.name);
        // Dropped in the source, or added here by hand: no longer written, so it must take NULL.
        if !known && !existing.nullable && !existing.generated {
            changes.push(drop_not_null(&existing.name));
        }
    }
    Ok(())
}

/// Why rows that are already there could not be given the source's values.
fn cannot_add(column: &Column, in_key: bool) -> Option<&'static str> {
    if in_key {
        return Some("is part of the key");
    }
    if column.generated.is_some() {
        return None;
    }
    if column.identity.is_some() {
        return Some("is an identity column, whose values the source has made for older rows");
    }
    if column.missing_value.is_some() {
        return None;
    }
    if column.default.is_some() && column.default_value.is_none() {
        return Some("has a default that is no constant, whose values the source may have written to older rows");
    }
    if !column.nullable {
        return Some("takes no NULL, and there is no value for older rows");
    }
    None
}

/// Whether every value of the source's type is a value of the target's column.
fn fits(source: &ColumnType, target: &TargetColumn) -> bool {
    let same_type = match &source.kind {
        // `format_type` names the schema of such a type only where the search path hides it.
        TypeKind::Enum { .. } | TypeKind::Array { .. } => {
            source.name == target.type_name && (source.schema == target.type_schema)
        }
        TypeKind::Base => source.name == target.type_name && source.schema == target.type_schema,
    };
    if same_type {
        return source.modifier == target.modifier
            || target.modifier == -1
            || widens_modifier(&source.name, source.modifier, target.modifier);
    }
    if target.type_schema != "pg_catalog" {
        return false;
    }
    let unlimited_text = target.type_name == "text" || target.type_name == "varchar" && target.modifier == -1;
    if matches!(source.kind, TypeKind::Enum { .. }) {
        return unlimited_text;
    }
    if source.kind != TypeKind::Base || source.schema != "pg_catalog" {
        return false;
    }
    let unlimited_numeric = target.type_name == "numeric" && target.modifier == -1;
    match source.name.as_str() {
        "int2" => matches!(target.type_name.as_str(), "int4" | "int8") || unlimited_numeric,
        "int4" => target.type_name == "int8" || unlimited_numeric,
        "int8" => unlimited_numeric,
        "oid" => target.type_name == "int8",
        "float4" => target.type_name == "float8",
        "varchar" if target.type_name == "varchar" => true,
        "text" | "varchar" | "bpchar" | "name" | "uuid" | "xml" | "json" => unlimited_text,
        _ => false,
    }
}

/// Whether a modifier of the same type leaves every value as it is.
fn widens_modifier(type_name: &str, source: i32, target: i32) -> bool {
    if source == -1 {
        return false;
    }
    match type_name {
        "varchar" | "varbit" => target >= source,
        "time" | "timetz" | "timestamp" | "timestamptz" => target >= source,
        // ((precision << 16) | scale) + 4; the scale has eleven bits and a sign (`make_numeric_typmod`).
        "numeric" => {
            let parts = |modifier: i32| (((modifier - 4) >> 16) & 0xFFFF, (((modifier - 4) & 0x7FF) ^ 1024) - 1024);
            let ((precision, scale), (target_precision, target_scale)) = (parts(source), parts(target));
            target_scale >= scale && target_precision - target_scale >= precision - scale
        }
        _ => false,
    }
}

fn resync() -> String {
    "drop the table here and run `syncline resync`, which makes and fills it anew".into()
}

fn mismatch(definition: &TableDefinition, reason: String, remedy: String) -> Mismatch {
    Mismatch { table: definition.qualified_name(), reason, remedy }
}

#[cfg(test)]
#[path = "target_plan_tests.rs"]
mod tests;
