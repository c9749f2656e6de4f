//! The shape of a database: describe, diff, plan DDL.

pub mod connect;
pub mod ddl;
mod default_value;
pub mod describe;
pub mod ident;
pub mod target_plan;
pub mod target_table;
