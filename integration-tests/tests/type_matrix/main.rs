//! What becomes of a value of each type on each path; `docs/types.md` holds the answers as tables, which are made here
//! and compared.

mod arrival;
mod geometries;
mod page;
mod paths;

use std::collections::BTreeMap;

use anyhow::Result;
use syncline_integration_tests::mariadb::Database;
use syncline_integration_tests::sql::execute;
use syncline_integration_tests::stack;
use syncline_integration_tests::sync::Sync;
use syncline_integration_tests::values;

use crate::arrival::Tried;

#[tokio::test]
async fn values_of_postgresql_fare_on_every_path_as_the_page_says() -> Result<()> {
    let tried: Vec<Tried> = values::postgres::COLUMNS
        .iter()
        .enumerate()
        .map(|(number, (column_type, values))| Tried {
            table: format!("m_{number}"),
            column_type,
            values: values.to_vec(),
        })
        .collect();
    let tables: Vec<&str> = tried.iter().map(|tried| tried.table.as_str()).collect();
    let sync = Sync::create("matrix", &tables).await?;
    let mut source = sync.source(values::postgres::DEFINITIONS).await?;
    for tried in &tried {
        execute(&mut source, tried.create()).await?;
        execute(&mut source, tried.insert(0)).await?;
    }

    // The first copy of both captures, then the same values by the log.
    let mut run = sync.start(&["run"])?;
    let connector = paths::debezium_postgresql(&sync, &tables).await?;
    sync.converge(&tables, &mut [&mut run]).await?;
    for tried in &tried {
        execute(&mut source, tried.insert(100)).await?;
    }
    sync.converge(&tables, &mut [&mut run]).await?;
    run.stop().await?;

    let events = page::events(&sync, &tried).await?;
    let expected = arrival::expected(&mut source, &tried).await?;
    let ours = arrival::arrivals(&mut sync.target().await?, &tried, &expected, None).await?;
    let from_debezium =
        paths::debezium_to_syncline(&sync, &connector, "public", Some(&mut source), &tried, &expected).await?;
    connector.delete().await?;
    let to_jdbc_sink = paths::syncline_to_jdbc_sink(&sync, &mut source, &tried, &expected).await?;

    page::compare("postgresql", &page::postgresql(&tried, &events, &from_debezium, &ours, &to_jdbc_sink))?;
    sync.finish().await
}

#[tokio::test]
async fn values_of_mariadb_fare_as_the_page_says() -> Result<()> {
    let mut tried = Vec::new();
    let mut expected = Vec::new();
    for (number, (column_type, values)) in values::mariadb::COLUMNS.iter().enumerate() {
        let table = format!("m_{number}");
        tried.push(Tried { table, column_type, values: values.iter().map(|(written, _)| *written).collect() });
        let mut rows = BTreeMap::new();
        for first in [0, 100] {
            rows.insert(first, None);
            rows.extend((first + 1..).zip(values.iter().map(|(_, text)| Some((*text).to_owned()))));
        }
        expected.push(rows);
    }
    let sync = Sync::create("mariadb", &[]).await?;
    let database = Database::create(&stack::mariadb()?, &sync.name)?;
    let tables: String = tried.iter().map(|tried| tried.create() + &tried.insert(0)).collect();
    database.execute(&tables)?;
    let connector = paths::debezium_mariadb(&sync, &database.name).await?;
    let rows: String = tried.iter().map(|tried| tried.insert(100)).collect();
    database.execute(&rows)?;
    let found = paths::debezium_to_syncline(&sync, &connector, &database.name, None, &tried, &expected).await?;
    connector.delete().await?;

    page::compare("mariadb", &page::mariadb(&tried, &found))?;
    sync.finish().await
}
