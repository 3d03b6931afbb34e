//! The rules of Doorward: pure functions and types.
//!
//! Never here: I/O, a clock, randomness, async, HTTP types, SQL. Time and random bytes are arguments (rule 17).
//! Start with `connection.rs` (a connection's life), `oidc/mod.rs` (the trip to the provider) and
//! `gate_decision.rs` (what happens to a request).

#![cfg_attr(test, allow(clippy::string_slice, reason = "tests slice texts of their own"))]

pub mod access_token;
pub mod api_scope;
pub mod assertion;
pub mod audit_event;
pub mod connection;
pub mod email;
pub mod error_code;
pub mod finding;
pub mod gate_decision;
pub mod identity_headers;
pub mod idp_quirks;
pub mod ids;
pub mod membership;
pub mod name;
pub mod oidc;
pub mod recovery_code;
pub mod request_target;
pub mod return_to;
pub mod secret;
pub mod time;
