//! OpenID Connect, the relying party's rules: bytes in, checked types or findings out.
//!
//! The trip in order: `issuer_input` (what the admin typed) → `idp_metadata` → `signing_keys` →
//! `authorization_request` → `authorization_response` → `token_exchange` → `id_token` → `userinfo` → `identity`.
//! Never here: I/O, a clock, randomness; the server's `idp/` and `sso/` bring them (rule 17).
//! Invariant: what names a person comes from a `VerifiedIdToken`, and only `verify_id_token` makes one (rule 3).

pub mod authorization_request;
pub mod authorization_response;
pub mod http_answer;
pub mod id_token;
pub mod identity;
pub mod idp_metadata;
pub mod issuer_input;
pub mod signing_keys;
mod strict_json;
#[cfg(test)]
mod test_provider;
pub mod token_exchange;
pub mod userinfo;

pub use authorization_request::{AuthorizationRequest, DEFAULT_SCOPES, code_challenge};
pub use authorization_response::{
    CallbackAnswer, CallbackParameters, explain_authorization_error, judge_issuer, parse_callback,
};
pub use http_answer::HttpAnswer;
pub use id_token::{Expected, TokenFault, VerifiedIdToken, verify_id_token};
pub use identity::{Doubts, Identity};
pub use idp_metadata::{Metadata, choose_auth_method, parse_metadata};
pub use issuer_input::{ExpectedIssuer, IssuerInput, parse_issuer_input};
pub use signing_keys::{KeySet, SignatureAlgorithm, parse_jwks};
pub use token_exchange::{
    CodeRedemption, TokenRequest, TokenResponse, parse_token_response, secret_looks_like_an_id,
};
pub use userinfo::{Userinfo, parse_userinfo};
