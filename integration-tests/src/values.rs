//! Column types, each with values to try.

pub mod mariadb;
pub mod postgres;
