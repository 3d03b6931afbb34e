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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oidc::test_provider::{claims, sign, verify};
    use proptest::prelude::*;
    use serde_json::json;
    use std::sync::LazyLock;

    static ID_TOKEN: LazyLock<VerifiedIdToken> = LazyLock::new(|| verify(&sign(&claims())).unwrap());
    const SUB: &str = "248289761001";

    fn code(status: u16, content_type: Option<&str>, bytes: &[u8]) -> ErrorCode {
        parse_userinfo(&HttpAnswer { status, content_type, bytes }, &ID_TOKEN).unwrap_err().code
    }

    #[test]
    fn oc15_claims_of_the_same_person_are_read() {
        let body = json!({"sub": SUB, "email": "mira@fjordline.example"}).to_string();
        for content_type in ["application/json", "application/json;charset=UTF-8"] {
            let answer = HttpAnswer { status: 200, content_type: Some(content_type), bytes: body.as_bytes() };
            let userinfo = parse_userinfo(&answer, &ID_TOKEN).unwrap();
            assert_eq!(userinfo.claim("email"), Some(&json!("mira@fjordline.example")));
            assert!(!format!("{userinfo:?}").contains("mira"));
        }
    }

    #[test]
    fn oc15_another_persons_claims_are_dropped_whole() {
        for sub in [
            json!(format!("{SUB}1")),
            json!(&SUB[1..]),
            json!(248_289_761_001_i64),
            json!([SUB]),
            json!(""),
            json!(null),
        ] {
            let body = json!({"sub": sub, "email": "mira@fjordline.example"}).to_string();
            assert_eq!(
                code(200, Some("application/json"), body.as_bytes()),
                ErrorCode::OidcUserinfoSubjectMismatch,
                "{sub}"
            );
        }
        assert_eq!(code(200, Some("application/json"), b"{}"), ErrorCode::OidcUserinfoSubjectMismatch);
    }

    #[test]
    fn oc15_only_a_json_object_with_its_content_type_and_status_200_is_read() {
        let good = json!({"sub": SUB}).to_string();
        for (content_type, bytes) in [
            (Some("application/json"), &b"[]"[..]),
            (Some("application/json"), b"<html>"),
            (Some("application/json"), b""),
            (Some("text/html"), good.as_bytes()),
            (Some("application/jwt"), good.as_bytes()),
            (None, good.as_bytes()),
            (Some("application/json"), format!(r#"{{"sub":"x",{}"#, &good[1..]).as_bytes()),
            (
                Some("application/json"),
                json!({"sub": SUB, "x": "x".repeat(128 * 1024)}).to_string().as_bytes(),
            ),
        ] {
            assert_eq!(code(200, content_type, bytes), ErrorCode::OidcUserinfoMalformed, "{content_type:?}");
        }
        for status in [201, 204, 302, 401, 403, 500] {
            assert_eq!(
                code(status, Some("application/json"), good.as_bytes()),
                ErrorCode::OidcUserinfoStatus
            );
        }
    }

    proptest! {
        #[test]
        fn random_answers_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), content_type in "\\PC{0,20}") {
            for content_type in [content_type.as_str(), "application/json"] {
                let answer = HttpAnswer { status: 200, content_type: Some(content_type), bytes: &bytes };
                prop_assert!(parse_userinfo(&answer, &ID_TOKEN).is_err());
            }
        }
    }
}
