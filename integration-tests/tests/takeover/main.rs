//! Beside Debezium: one half of ours with the other of Debezium's, and `syncline takeover` under load, from a running
//! Debezium connector and from its JDBC sink.

mod connector;
mod debezium;
mod halves;
mod history;
mod load;
mod refusals;
mod sink;
