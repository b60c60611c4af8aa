//! What the user can change: the traffic, how a prompt is put together, the key, the retention.
//!
//! Reading order: [`arrival`] says when sessions start, [`key`] which `prompt_cache_key` a request carries;
//! [`volatility`] is what changes inside a prompt and [`conversation`] how a prompt repeats what was said;
//! [`shared_prefix`], [`chat`] and [`agent`] are models of traffic; [`workload`] is what can be configured, and
//! [`session`] plays it.

pub mod arrival;
pub mod key;
pub mod volatility;
pub mod conversation;
pub mod shared_prefix;
pub mod chat;
pub mod agent;
pub mod workload;
pub mod session;
