//! The doorway: recorded traffic -> the same sessions that generated workloads make.

pub mod trace;
pub mod recording;
