//! One host's container engine, from both sides: [`plugin`] is what the engine asks of a network
//! driver, [`engine`] is what a driver learns from the engine.
//!
//! It knows the words of Docker and nothing of clusters: values in, values out.

pub mod engine;
pub mod plugin;
