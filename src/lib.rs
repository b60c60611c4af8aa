//! cachecast
pub mod cli;
pub mod client;
pub mod document;
pub mod error;
pub mod experiment;
pub mod input;
pub mod prompt;
pub mod provider;
pub mod random;
pub mod simulation;
pub mod units;
