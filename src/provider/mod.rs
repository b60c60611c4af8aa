//! What the user cannot change and does not fully know: routing, stores, lifetimes, queues, prices.
//!
//! Reading order: [`routing`] finds the machine, [`write`] says at which depths it may resume a prompt,
//! [`retention`] for how long, [`store`] holds one
//! machine's live boundaries and [`cache`] all machines', [`machine`] turns uncached tokens
//! into time and [`price`] into money. [`profile`] is one provider's contract, read from TOML.

pub mod cache;
pub mod machine;
pub mod price;
pub mod profile;
pub mod retention;
pub mod routing;
pub mod store;
pub mod write;
