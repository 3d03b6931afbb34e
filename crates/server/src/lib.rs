//! The server.

pub mod configuration;
