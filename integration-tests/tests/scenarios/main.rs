//! Whole-system scenarios: the real program between real servers, judged by what stands in the target.

mod alter;
mod columns;
mod consumers;
mod crashes;
mod gate;
mod handling;
mod incremental;
mod json;
mod keys;
mod mappings;
mod outages;
mod place;
mod refusals;
mod snapshot;
mod topics;
mod transactions;
mod truncate;
mod types;
