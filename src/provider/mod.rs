//! What the user cannot change and does not fully know: routing, stores, lifetimes, queues, prices.
//!
//! Reading order: [`routing`] finds the machine, [`mod@write`] says at which depths it may resume a prompt,
//! [`retention`] for how long; [`store`] holds one machine's live boundaries, [`capacity`] says which of them go
//! where room is limited, and [`cache`] puts all machines together; [`machine`] turns uncached tokens into time and
//! [`price`] into money; [`failure`] is how often calls fail. [`profile`] is one provider's contract,
//! read from TOML.

pub mod routing;
pub mod write;
pub mod retention;
pub mod store;
pub mod capacity;
pub mod cache;
pub mod machine;
pub mod price;
pub mod failure;
pub mod profile;
