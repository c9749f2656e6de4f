//! `syncline takeover` under load: from a running Debezium connector, and from its JDBC sink.

mod connector;
mod debezium;
mod history;
mod load;
mod refusals;
mod sink;
