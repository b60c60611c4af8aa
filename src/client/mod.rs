//! What the user can change: the traffic, how a prompt is put together, the key, the retention.
//!
//! Reading order: [`arrival`] says when sessions start, [`key`] which `prompt_cache_key` a request carries,
//! [`workload`] who sends what.

pub mod arrival;
pub mod key;
pub mod workload;
