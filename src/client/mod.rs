//! What the user can change: the traffic, how a prompt is put together, the key, the retention.
//!
//! Reading order: [`arrival`] says when sessions start, [`key`] which `prompt_cache_key` a request carries;
//! [`volatility`] is what changes inside a prompt and [`conversation`] how a prompt repeats what was said;
//! [`shared_prefix`], [`chat`], [`agent`] and [`fork_tree`] are models of traffic; [`reaction`] is what a session does
//! about what it sees, and [`gateway`] what stands between it and the provider, with the sessions it holds [`upstream`].
//! [`workload`] is what can be
//! configured; [`traffic`] plays it, one [`request`] at a time, or a [`sample`] of it.

pub mod arrival;
pub mod key;
pub mod volatility;
pub mod conversation;
pub mod shared_prefix;
pub mod chat;
pub mod agent;
pub mod fork_tree;
pub mod reaction;
pub mod gateway;
pub mod workload;
pub mod sample;
pub mod request;
pub mod upstream;
pub mod session;
mod source;
pub mod traffic;
