//! The questions: a run, a sweep, a recommendation; and the answers, written as CSV.
//!
//! Reading order: a [`scenario`] is a TOML file, whose paths are the [`axes`] of a sweep, and of which [`coupling`] says
//! whether it can be sampled; [`run`] plays one replication into one row of [`metrics`], with the intervals of
//! [`statistics`], or of a [`sample`], and its requests one by one into a log of [`requests`], or into a trace
//! ([`trace_log`]; [`convert`] makes one of another); a [`sweep`] is cells x seeds, which [`play`] plays, many [`lifetimes`]
//! in one pass, or cells of the [`same_traffic`]; [`unknown_lifetime`] averages over these; the answers go into [`tables`] of
//! a [`folder`], written as [`results`] are. A [`shard`] of it writes a [`part`] into a [`part_file`], and [`merge`] puts parts together in a
//! [`spool`]; longer questions get their runs from a [`desk`]. A [`schema`] tells editors what a file may hold, and [`init`]
//! writes one to start from. [`recommend`] asks what a client should do: [`choices`] from a [`grid`] are judged by an
//! [`objective`] in a [`race`], under an [`ensemble`] of plausible providers; [`sensitivity`] asks which unknown of the
//! provider moves the answer most.
//!
//! A user's own requests: the [`contract`] says which provider a model is judged by; [`diff`] finds where two requests
//! part, [`breaks`] where the prefixes of a log broke; a [`rule`] is what can be wrong with requests, of which
//! [`preflight`] warns before a run whose answer is certain, and for which [`check`] looks; [`what_if`] plays a log as it
//! was sent and under other choices; [`anonymize`] makes one that can be shared.
//!
//! What the provider is doing: [`observations`] are read, a user's own log by [`observed_log`]; the [`report_rule`] is
//! exact, latency goes by [`least_squares`]; [`rivals`] are played on a [`stage`] into [`summaries`], whose
//! [`plausibility`] makes a [`point`], judged by [`fit`], and written by [`fitted`].

pub mod coupling;
pub mod scenario;
pub mod axes;
pub mod rule;
pub mod preflight;
pub mod contract;
pub mod check;
pub mod diff;
pub mod breaks;
pub mod statistics;
pub mod metrics;
pub mod sample;
pub mod run;
pub mod results;
pub mod requests;
pub mod convert;
pub mod anonymize;
pub mod trace_log;
pub mod sweep;
pub mod what_if;
pub mod lifetimes;
pub mod same_traffic;
pub mod play;
pub mod shard;
pub mod part;
mod part_columns;
pub mod part_file;
pub mod spool;
pub mod desk;
pub mod merge;
pub mod unknown_lifetime;
pub mod tables;
pub mod schema;
pub mod init;
pub mod folder;
pub mod grid;
pub mod objective;
pub mod choices;
pub mod race;
pub mod ensemble;
pub mod recommend;
pub mod sensitivity;
pub mod observations;
pub mod observed_log;
pub mod report_rule;
pub mod least_squares;
pub mod rivals;
pub mod summaries;
pub mod plausibility;
pub mod stage;
pub mod point;
pub mod fit;
pub mod fitted;
