//! The server.

pub mod configuration;
pub mod outbound;
