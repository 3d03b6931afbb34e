//! The UserInfo answer: further claims about the person of an ID token.
//!
//! In: the answer, and the verified ID token whose person it must be about. Out: `Userinfo`, or a finding.
//! Never here: fetching; claims of another person (OpenID Connect Core 1.0 section 5.3; conformance.md OC15).

use crate::error_code::ErrorCode;
use crate::finding::{Finding, Step};
use crate::oidc::http_answer::HttpAnswer;
use crate::oidc::id_token::VerifiedIdToken;
use crate::oidc::strict_json::{Limits, parse_object};
use serde_json::{Map, Value};

const LIMITS: Limits = Limits { bytes: 128 * 1024, depth: 8 };

/// The claims of a UserInfo answer about the person of a verified ID token.
#[derive(Clone, PartialEq, Eq)]
pub struct Userinfo {
    claims: Map<String, Value>,
}

impl std::fmt::Debug for Userinfo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Userinfo(hidden)")
    }
}

impl Userinfo {
    /// A claim by its name. Its kind is not checked.
    pub fn claim(&self, name: &str) -> Option<&Value> {
        self.claims.get(name)
    }
}

/// Reads the UserInfo endpoint's answer. A signed one (`application/jwt`) is not asked for and not read.
pub fn parse_userinfo(answer: &HttpAnswer<'_>, id_token: &VerifiedIdToken) -> Result<Userinfo, Finding> {
    let finding = |code| Finding::new(Step::Userinfo, code);
    if answer.status != 200 {
        return Err(finding(ErrorCode::OidcUserinfoStatus).with("status", answer.status));
    }
    let malformed = |found: &str| finding(ErrorCode::OidcUserinfoMalformed).with("found", found);
    if !answer.says_json() {
        return Err(malformed(&answer.media_type().unwrap_or_else(|| "no content type".to_owned())));
    }
    let claims = parse_object(answer.bytes, LIMITS).map_err(|fault| malformed(&fault.to_string()))?;
    if claims.get("sub").and_then(Value::as_str) != Some(id_token.sub()) {
        return Err(finding(ErrorCode::OidcUserinfoSubjectMismatch));
    }
    Ok(Userinfo { claims })
}
