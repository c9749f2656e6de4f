//! The shape of a database: describe, diff, plan DDL; and its rows, in the order of their keys.

pub mod connect;
pub mod ddl;
mod default_value;
pub mod describe;
pub mod ident;
pub mod rows;
pub mod target_plan;
pub mod target_table;
