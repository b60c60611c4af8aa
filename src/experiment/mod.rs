//! The questions: a run, a sweep, a recommendation; and the answers, written as CSV.
//!
//! Reading order: a [`scenario`] is a TOML file; [`run`] plays one replication of it into one row of
//! [`metrics`], its requests one by one into a log of [`requests`]; [`sweep`] plays cells x seeds into [`results`], with the intervals of [`statistics`];
//! [`recommend`] asks how many buckets; [`preflight`] warns before a run whose answer is certain.

pub mod metrics;
pub mod preflight;
pub mod recommend;
pub mod requests;
pub mod results;
pub mod run;
pub mod scenario;
pub mod statistics;
pub mod sweep;
