//! Debezium's PostgreSQL connector and our producer on the same statements: what they write is compared byte by byte.

mod beside;
mod capture;
mod case;
mod compare;
mod datum;
mod defaults;
mod extensions;
mod json;
mod kcat;
mod tables;
mod types;

use anyhow::{Context, Result};

use syncline_integration_tests::stack;

use crate::capture::{Options, capture};

#[tokio::test]
async fn every_type_is_debeziums() -> Result<()> {
    let (sync, pairs) = capture("types", types::cases(&[types::DATES, types::MICROS]), Options::default()).await?;
    compare::check(&pairs).await?;
    compare::check_subjects(&pairs).await?;
    sync.finish().await
}

/// Handling modes, and how the values then differ.
struct Modes {
    properties: &'static [(&'static str, &'static str)],
    deviations: &'static [&'static [case::Deviation]],
}

const MODES: [Modes; 3] = [
    Modes {
        properties: &[
            ("decimal.handling.mode", "string"),
            ("time.precision.mode", "isostring"),
            ("binary.handling.mode", "hex"),
            ("interval.handling.mode", "string"),
        ],
        deviations: &[types::TEXTS],
    },
    Modes {
        properties: &[
            ("decimal.handling.mode", "double"),
            ("time.precision.mode", "connect"),
            ("binary.handling.mode", "base64"),
            ("tombstones.on.delete", "false"),
        ],
        deviations: &[types::DATES, types::LOSSY],
    },
    Modes {
        properties: &[
            ("time.precision.mode", "microseconds"),
            ("binary.handling.mode", "base64-url-safe"),
            ("unavailable.value.placeholder", "gone"),
            ("skipped.operations", "t"),
        ],
        deviations: &[types::DATES, types::MICROS],
    },
];

#[tokio::test]
async fn every_type_is_debeziums_in_other_modes() -> Result<()> {
    for Modes { properties, deviations } in MODES {
        let options = Options { properties, ..Options::default() };
        let (sync, pairs) = capture("modes", types::cases(deviations), options).await?;
        compare::check(&pairs).await.with_context(|| format!("{properties:?}"))?;
        compare::check_subjects(&pairs).await?;
        sync.finish().await?;
    }
    Ok(())
}

#[tokio::test]
async fn every_default_is_debeziums() -> Result<()> {
    let (sync, pairs) = capture("defaults", defaults::cases(), Options::default()).await?;
    compare::check(&pairs).await?;
    compare::check_subjects(&pairs).await?;
    sync.finish().await
}

#[tokio::test]
async fn tables_and_their_changes_are_debeziums() -> Result<()> {
    let (sync, pairs) = capture("tables", tables::CASES, Options::default()).await?;
    compare::check(&pairs).await?;
    compare::check_subjects(&pairs).await?;
    kcat::check(&pairs)?;
    sync.finish().await
}

#[tokio::test]
async fn types_of_extensions_are_debeziums() -> Result<()> {
    for properties in [&[][..], &[("hstore.handling.mode", "map")]] {
        let options = Options { properties, ..Options::default() };
        let (sync, pairs) = capture("extensions", extensions::CASES, options).await?;
        compare::check(&pairs).await?;
        compare::check_subjects(&pairs).await?;
        sync.finish().await?;
    }
    Ok(())
}

/// Where the source's server has PostGIS and pgvector, which the stack's own does not.
#[tokio::test]
async fn types_of_postgis_and_pgvector_are_debeziums() -> Result<()> {
    for extensions::Lacking { extension, cases } in extensions::LACKING {
        if !stack::has_extension("SOURCE_PG_ADMIN", extension).await? {
            stack::not_run(&format!(
                "the source's PostgreSQL has no extension {extension}, whose types are not compared"
            ));
            continue;
        }
        let (sync, pairs) = capture(extension, cases, Options::default()).await?;
        compare::check(&pairs).await?;
        compare::check_subjects(&pairs).await?;
        sync.finish().await?;
        let options = Options { is_json: true, ..Options::default() };
        let (sync, pairs) = capture(extension, &cases[..1], options).await?;
        json::check(&pairs)?;
        sync.finish().await?;
    }
    Ok(())
}

#[tokio::test]
async fn messages_transactions_and_headers_are_debeziums() -> Result<()> {
    let (sync, pairs) = capture("beside", beside::CASES, beside::OPTIONS).await?;
    compare::check(&pairs).await?;
    compare::check_subjects(&pairs).await?;
    beside::check_heartbeats(&sync).await?;
    sync.finish().await
}

#[tokio::test]
async fn json_is_debeziums() -> Result<()> {
    let options = Options { is_json: true, ..Options::default() };
    let (sync, pairs) = capture("json", tables::AS_DEBEZIUM, options).await?;
    json::check(&pairs)?;
    sync.finish().await
}
