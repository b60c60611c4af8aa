//! The doorway: recorded traffic -> the same sessions that generated workloads make.
//!
//! A [`trace`] is read one request at a time, from [`lines`] or from [`columns`]; a [`recording`] plays it in simulated
//! time; a [`writer`] writes one.

pub mod call;
pub mod render;
pub mod calls;
pub mod token_tree;
pub mod log;
pub mod trace;
pub mod lines;
pub mod columns;
pub mod recording;
pub mod writer;
