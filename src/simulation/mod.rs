//! The corridor between client and provider: one event queue, one clock, one outcome for each request.
//!
//! Reading order: an [`outcome`] is what happened to one request, [`attribution`] why its uncached tokens were
//! uncached, the [`agenda`] what comes next, a [`regime`] a provider, `side` a request at its side, and [`engine`] the loop
//! that makes it happen; [`lifetimes`] is the same loop under many lifetimes at once, [`variants`] with the same requests at
//! many sides.

pub mod outcome;
mod reached;
pub mod attribution;
pub mod agenda;
pub mod regime;
mod side;
pub mod engine;
pub mod lifetimes;
pub mod variants;
#[cfg(test)]
mod naive;
