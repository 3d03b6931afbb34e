//! Doorward as a whole, in one process: real listeners, real databases, the test kit's provider and browser.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "tests"
)]
#![allow(clippy::format_push_string, clippy::format_collect, clippy::type_complexity, reason = "tests")]
#![allow(missing_docs, unreachable_pub, reason = "nobody but tests uses it")]

mod access;
mod access_tokens;
mod api;
mod assertion;
mod at_size;
mod attack;
mod audit;
mod bad_input;
mod banner;
mod command_line;
mod conformance;
mod docs;
mod error_codes;
mod explain;
mod faults;
mod fuzz_corpus;
mod gate;
mod harness;
mod hostile_provider;
mod keeping;
mod lessons;
mod linking;
mod oidf;
mod pages;
mod people;
mod probe;
mod provider_faults;
mod proxy_attacks;
mod proxy_config;
mod query_plans;
mod recovery;
mod routes;
mod rules;
mod secrets;
mod serving;
mod several;
mod sso;
mod stolen_password;
mod store;
mod streams;
