//! Doorward: per-organization single sign-on in front of any multi-tenant application.
//!
//! The library and the one binary. Directions: `web` → `sso` → `idp`, `store` → core; `gate` → `store` → core. `store`
//! knows no HTTP; only `main` loads the configuration. Start with `web/mod.rs` (the route list), `sso/mod.rs` (the
//! trip to the provider) and `gate/mod.rs` (what happens to a request).

pub mod access_token;
pub mod account_end;
pub mod app;
pub mod audit_chain;
pub mod audit_export;
pub mod check;
pub mod client_address;
pub mod clock;
pub mod command_line;
pub mod commands;
pub mod configuration;
pub mod connections;
pub mod cookies;
pub mod failure;
pub mod gate;
pub(crate) mod header_names;
pub mod idp;
pub mod joining;
pub mod key_file;
pub mod logging;
pub mod metrics;
pub mod opening;
pub mod outbound;
pub mod passwords;
pub mod probe;
pub mod proxy;
pub mod proxy_config;
pub mod random;
pub mod refusal;
pub mod sealing;
pub mod security_headers;
pub mod serve;
pub mod session;
pub mod sso;
pub mod store;
pub mod tls;
pub mod web;
