//! Forecast what a hosted LLM prompt cache will do, before you deploy a keying strategy.
//!
//! cachecast is a discrete-event simulator of hosted prompt caching. Requests are routed to a machine by a hash of
//! their first 256 tokens and their `prompt_cache_key`; each machine keeps prefixes for minutes or for a day; a hot
//! key overflows to further machines; and what a request *writes* decides what the next one can *read*.
//!
//! # Two wings and a corridor
//!
//! * [`client`] is what the user can change: the traffic, how a prompt is put together, the key, the retention.
//! * [`provider`] is what the user cannot change and does not fully know: routing, stores, lifetimes, queues,
//!   prices. Every number of a profile says how sure it is.
//! * [`simulation`] is the corridor between them: one event queue, one clock, one outcome for each request.
//! * [`experiment`] asks the questions and writes the answers, and [`report`] draws them; [`input`] is the doorway for
//!   recorded traffic; [`cli`] is the command line.
//!
//! A module imports only from those above it in the list below, which is also the order to read them in.
//!
//! # Words
//!
//! * **boundary**: a depth in a prompt at which a later prompt may resume; a *write* stores some, a *read* takes the
//!   deepest live one on the prompt's own path.
//! * **machine**, **fleet**, **partition**: requests of one partition are spread over the machines of its fleet;
//!   nothing is shared across partitions. **backend**: one of several fleets behind a partition, a partition of its own.
//! * **regime**: another provider from some time on, behind the user's back.
//! * **routing key**: hash of partition, prompt head and `prompt_cache_key`; it ranks the machines. **home** is the
//!   first ranked. **overflow**: a request above the rate limit goes to a later rank.
//! * **retention**: the policy (`in_memory`, `24h`) from whose law each request draws the **lifetime** of what it
//!   touches.
//! * **request_hit_ratio**: share of requests with cached tokens; **token_hit_ratio**: share of prompt tokens cached.
//! * **ceiling**: what a better cache would have read. **cause**: why an uncached token was uncached.
//! * **replication**: one run with its own seed; intervals come from replications.
//! * **shard**: one of several shares of a long work, each done by a process of its own, which writes a **part**.
//! * **sample**: a share of the keys, each with all its requests, from which the whole run is estimated.
//!
//! # One run
//!
//! ```
//! use std::path::Path;
//! use cachecast::experiment::{run::replicate, scenario::Loaded};
//!
//! let text = r#"
//!     duration = "1h"
//!     [client.workload.support.shared_prefix]
//!     prefix_tokens = 5000
//!     tail_tokens = "uniform(50..150)"
//!     output_tokens = 300
//!     [client.workload.support.arrivals]
//!     process = "poisson"
//!     rate = "10/min"
//!     [provider]
//!     profile = "openai-classic"
//! "#;
//! let loaded = Loaded::from_text("support", "support.toml", text, Path::new(""), &[])?;
//! let report = replicate(&loaded, 0, |_outcome| ())?;
//! assert!(report.row.get("token_hit_ratio").unwrap() > 0.9);
//! # Ok::<(), cachecast::error::Error>(())
//! ```

pub mod units;
pub mod extent;
pub mod chunked;
pub mod random;
pub mod error;
pub mod document;
pub mod prompt;
pub mod queue;
pub mod provider;
pub mod input;
pub mod client;
pub mod simulation;
pub mod experiment;
pub mod report;
pub mod cli;
