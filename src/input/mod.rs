//! The doorway: recorded traffic -> the same sessions that generated workloads make.
//!
//! [`calls`] reads the calls of whatever people have, one file of this folder for each form. A [`trace`] is read one
//! request at a time, from [`lines`] or from [`columns`]; a [`recording`] plays it in simulated time; a [`writer`]
//! writes one. An [`anonymized`] log has hashes of [`stretches`] in place of text.

pub mod call;
pub mod render;
mod text_lines;
mod fields;
mod usage;
mod parts;
mod openai;
mod anthropic;
mod body;
mod request_log;
mod gateway;
mod codex;
mod claude_code;
mod usage_table;
pub mod salt;
mod public_words;
pub mod anonymized;
mod detect;
pub mod calls;
pub mod token_tree;
pub mod stretches;
pub mod log;
pub mod trace;
pub mod lines;
pub mod columns;
pub mod recording;
pub mod writer;
