//! The corridor between client and provider: one event queue, one clock, one outcome for each request.

pub mod attribution;
pub mod engine;
#[cfg(test)]
mod naive;
pub mod outcome;
