//! The questions: a run, a sweep, a recommendation; and the answers, written as CSV.
//!
//! Reading order: a [`scenario`] is a TOML file, whose paths are the [`axes`] of a sweep; [`preflight`] warns before a
//! run whose answer is certain; [`run`] plays one replication into one row of [`metrics`], with the intervals of
//! [`statistics`], and its requests one by one into a log of [`requests`]; [`sweep`] plays cells x seeds; the answers go
//! into [`tables`] of a [`folder`], written as [`results`] are; [`recommend`] asks how many buckets.
//!
//! What the provider is doing: [`observations`] are read; the [`report_rule`] is exact, latency goes by [`least_squares`];
//! [`rivals`] are played on a [`stage`] into [`summaries`], whose [`plausibility`] is judged by [`fit`], and written by
//! [`fitted`].

pub mod scenario;
pub mod axes;
pub mod preflight;
pub mod statistics;
pub mod metrics;
pub mod run;
pub mod results;
pub mod requests;
pub mod sweep;
pub mod tables;
pub mod folder;
pub mod recommend;
pub mod observations;
pub mod report_rule;
pub mod least_squares;
pub mod rivals;
pub mod summaries;
pub mod plausibility;
pub mod stage;
pub mod fit;
pub mod fitted;
