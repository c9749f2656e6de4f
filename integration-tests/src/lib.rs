//! Conformance suites and whole-system scenarios against real servers.

pub mod compare;
pub mod conformance;
pub mod connect;
pub mod database;
pub mod generator;
pub mod mariadb;
pub mod postgres_site;
pub mod process;
pub mod proxy;
pub mod random;
pub mod records;
pub mod registry_proxy;
pub mod shop;
pub mod sql;
pub mod stack;
pub mod stage;
pub mod sync;
pub mod topology;
pub mod traces;
pub mod values;
