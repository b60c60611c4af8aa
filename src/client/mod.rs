//! What the user can change: the traffic, how a prompt is put together, the key, the retention.
//!
//! Reading order: [`arrival`] says when sessions start, [`key`] which `prompt_cache_key` a request carries;
//! [`shared_prefix`] and [`chat`] are models of traffic; [`workload`] is what can be configured, and [`session`]
//! plays it.

pub mod arrival;
pub mod key;
pub mod shared_prefix;
pub mod chat;
pub mod workload;
pub mod session;
