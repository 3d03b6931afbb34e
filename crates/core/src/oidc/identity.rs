//! What the provider says about a person, after every check: the key, and what is only shown.
//!
//! In: a `VerifiedIdToken`, perhaps `Userinfo`. Out: an `Identity`. Never here: linking to an account.
//! Invariant: (issuer, subject) identifies; an address or a name never does (architecture.md §3; conformance.md V36).

use crate::email::Email;
use crate::error_code::ErrorCode;
use crate::finding::{Finding, Step, bounded};
use crate::oidc::id_token::VerifiedIdToken;
use crate::oidc::userinfo::Userinfo;
use serde_json::Value;

/// A person at a provider.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Identity {
    /// The issuer; with the connection and the subject it is the key.
    pub issuer: String,
    /// The object id for an Entra-shaped issuer, else `sub`.
    pub subject: String,
    /// `sub`, kept beside the object id: Entra's changes when the app registration is made anew.
    pub sub: String,
    /// The address, if there is one plain address.
    pub email: Option<Email>,
    /// The claim that the address was taken from.
    pub email_claim_used: Option<String>,
    /// `email_verified`, if the provider says it of the claim `email`. Entra never does; absent is not false.
    pub email_verified: Option<bool>,
    /// A name to show: `name`, else given and family name, else `preferred_username`. At most 200 characters.
    pub display_name: Option<String>,
    /// Whether this is a guest of an Entra tenant.
    pub is_guest: bool,
}

/// What the provider itself says against linking a person for the first time. Either lasts until the provider says
/// otherwise; what an organization's settings make of it is `sso/linking.rs` in the server.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Doubts {
    /// A guest of an Entra tenant.
    pub guest: bool,
    /// The provider says that nobody has verified the address that it sent.
    pub email_unverified: bool,
}

impl Identity {
    /// What speaks against a first link.
    pub fn doubts(&self) -> Doubts {
        Doubts {
            guest: self.is_guest,
            email_unverified: self.email.is_some() && self.email_verified == Some(false),
        }
    }

    /// Reads the identity. `email_claim` is the claim that the connection names; `None` for the usual rule: `email`,
    /// and for an Entra-shaped issuer without it `preferred_username` if that is one address (decisions.md).
    ///
    /// The ID token's claim counts before UserInfo's. A list or an object in the claim is refused
    /// (`oidc.claim_invalid`, conformance.md V38); a text that is not one plain address gives no address.
    pub fn from_verified(
        id_token: &VerifiedIdToken,
        userinfo: Option<&Userinfo>,
        email_claim: Option<&str>,
    ) -> Result<Self, Finding> {
        let text = |name: &str| text_claim(id_token, userinfo, name);
        let claim = email_claim.unwrap_or("email");
        let mut address = text(claim)?;
        let mut claim_used = claim;
        if address.is_none() && email_claim.is_none() && id_token.is_entra() {
            claim_used = "preferred_username";
            address = text(claim_used)?;
        }
        let email = address.and_then(|address| Email::parse(address).ok());
        let email_verified = (claim_used == "email").then(|| email_verified(id_token, userinfo)).flatten();
        Ok(Self {
            issuer: id_token.issuer().to_owned(),
            subject: id_token.key_subject().to_owned(),
            sub: id_token.sub().to_owned(),
            email_claim_used: email.as_ref().map(|_| claim_used.to_owned()),
            email,
            email_verified,
            display_name: display_name(id_token, userinfo),
            is_guest: id_token.is_guest(),
        })
    }

    /// Whether the ID token alone gives no address, so that UserInfo is worth asking (`UserinfoMode::WhenNeeded`).
    pub fn needs_userinfo(id_token: &VerifiedIdToken, email_claim: Option<&str>) -> bool {
        Self::from_verified(id_token, None, email_claim).is_ok_and(|identity| identity.email.is_none())
    }
}

fn claim<'c>(id_token: &'c VerifiedIdToken, userinfo: Option<&'c Userinfo>, name: &str) -> Option<&'c Value> {
    // Providers write null for an attribute that a person does not have.
    id_token
        .claim(name)
        .filter(|value| !value.is_null())
        .or_else(|| userinfo?.claim(name).filter(|value| !value.is_null()))
}

fn text_claim<'c>(
    id_token: &'c VerifiedIdToken,
    userinfo: Option<&'c Userinfo>,
    name: &str,
) -> Result<Option<&'c str>, Finding> {
    match claim(id_token, userinfo, name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.trim()).filter(|text| !text.is_empty())),
        Some(_) => Err(Finding::new(Step::Policy, ErrorCode::OidcClaimInvalid)
            .with("claim", name)
            .with("found", "not one text")),
    }
}

/// `email_verified` of the place that gave `email`. Some providers write it as a text; what can't be read is false.
fn email_verified(id_token: &VerifiedIdToken, userinfo: Option<&Userinfo>) -> Option<bool> {
    let from_id_token = id_token.claim("email").is_some_and(|email| !email.is_null());
    let value = if from_id_token {
        id_token.claim("email_verified")
    } else {
        userinfo.and_then(|userinfo| userinfo.claim("email_verified"))
    }?;
    match value {
        Value::Null => None,
        Value::Bool(verified) => Some(*verified),
        other => Some(other == "true"),
    }
}

fn display_name(id_token: &VerifiedIdToken, userinfo: Option<&Userinfo>) -> Option<String> {
    let text = |name: &str| {
        let text = bounded(claim(id_token, userinfo, name)?.as_str()?, 200);
        (!text.is_empty()).then_some(text)
    };
    let both = || {
        let parts: Vec<_> = [text("given_name"), text("family_name")].into_iter().flatten().collect();
        (!parts.is_empty()).then(|| bounded(&parts.join(" "), 200))
    };
    text("name").or_else(both).or_else(|| text("preferred_username"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oidc::http_answer::HttpAnswer;
    use crate::oidc::test_provider::{
        ENTRA_ISSUER, ISSUER, OBJECT_ID, claims, entra_claims, sign, verify, verify_entra, with,
    };
    use crate::oidc::userinfo::parse_userinfo;
    use serde_json::json;

    fn token(name: &str, value: Value) -> VerifiedIdToken {
        verify(&sign(&with(claims(), name, value))).unwrap()
    }

    fn identity(name: &str, value: Value) -> Identity {
        Identity::from_verified(&token(name, value), None, None).unwrap()
    }

    fn entra(name: &str, value: Value) -> Identity {
        let id_token = verify_entra(&sign(&with(entra_claims(), name, value))).unwrap();
        Identity::from_verified(&id_token, None, None).unwrap()
    }

    fn userinfo(id_token: &VerifiedIdToken, more: Value) -> Userinfo {
        let mut body = more;
        body["sub"] = json!(id_token.sub());
        parse_userinfo(&HttpAnswer::json(body.to_string().as_bytes()), id_token).unwrap()
    }

    fn address(identity: &Identity) -> Option<&str> {
        identity.email.as_ref().map(Email::as_str)
    }

    #[test]
    fn an_ordinary_identity_is_keyed_by_issuer_and_subject() {
        let identity = identity("email_verified", json!(true));
        assert_eq!((identity.issuer.as_str(), identity.subject.as_str()), (ISSUER, "248289761001"));
        assert_eq!(address(&identity), Some("mira.holt@fjordline.example"));
        assert_eq!(identity.email_claim_used.as_deref(), Some("email"));
        assert_eq!(identity.email_verified, Some(true));
        assert_eq!(identity.display_name.as_deref(), Some("Mira Holt"));
        assert!(!identity.is_guest);
    }

    #[test]
    fn v36_entra_is_keyed_by_the_object_id_with_the_sub_beside_it() {
        let identity = entra("name", json!("Mira Holt"));
        assert_eq!((identity.issuer.as_str(), identity.subject.as_str()), (ENTRA_ISSUER, OBJECT_ID));
        assert_eq!(identity.sub, "hT3kq0Zx9vWc2LrUe7yBnA5sJdGfMpQi8oXwRtVuYzE");
        assert!(entra("acct", json!(1)).is_guest);
    }

    #[test]
    fn entra_without_a_mailbox_is_known_by_the_user_name_if_that_is_an_address() {
        let identity = entra("name", json!("Mira"));
        assert_eq!(address(&identity), Some("mira.holt@fjordline.example"));
        assert_eq!(identity.email_claim_used.as_deref(), Some("preferred_username"));
        assert_eq!(identity.email_verified, None);
        let with_mail = entra("email", json!("mira@mail.example"));
        assert_eq!(address(&with_mail), Some("mira@mail.example"));
        for name in ["+4790000000", "alice_home.com#EXT#@res@onmicrosoft.com", "mira"] {
            let identity = entra("preferred_username", json!(name));
            assert_eq!((address(&identity), identity.email_claim_used.as_deref()), (None, None), "{name}");
        }
    }

    #[test]
    fn elsewhere_the_user_name_is_never_taken_for_an_address() {
        let claims =
            with(with(claims(), "email", Value::Null), "preferred_username", json!("mira@evil.example"));
        let identity = Identity::from_verified(&verify(&sign(&claims)).unwrap(), None, None).unwrap();
        assert_eq!(address(&identity), None);
    }

    #[test]
    fn the_connection_may_name_another_claim_and_then_no_other_counts() {
        let id_token = token("upn", json!("mira@upn.example"));
        let identity = Identity::from_verified(&id_token, None, Some("upn")).unwrap();
        assert_eq!(address(&identity), Some("mira@upn.example"));
        assert_eq!(identity.email_claim_used.as_deref(), Some("upn"));
        let identity = Identity::from_verified(&id_token, None, Some("mail")).unwrap();
        assert_eq!(address(&identity), None);
        let entra = verify_entra(&sign(&entra_claims())).unwrap();
        assert_eq!(address(&Identity::from_verified(&entra, None, Some("upn")).unwrap()), None);
    }

    #[test]
    fn a_guest_and_an_unverified_address_are_doubts_and_an_absent_verdict_is_none() {
        assert_eq!(entra("acct", json!(1)).doubts(), Doubts { guest: true, email_unverified: false });
        assert_eq!(
            identity("email_verified", json!(false)).doubts(),
            Doubts { guest: false, email_unverified: true }
        );
        assert_eq!(identity("email_verified", json!(true)).doubts(), Doubts::default());
        assert_eq!(identity("x", json!(1)).doubts(), Doubts::default());
    }

    #[test]
    fn v38_a_list_or_an_object_is_refused_and_a_text_that_is_no_address_gives_none() {
        for wrong in [json!(["a@b.example"]), json!({"a": "a@b.example"}), json!(7), json!(true)] {
            let finding = Identity::from_verified(&token("email", wrong.clone()), None, None).unwrap_err();
            assert_eq!(finding.code, ErrorCode::OidcClaimInvalid, "{wrong}");
        }
        for text in
            ["a@evil.example@corp.example", "a@b.example,c@d.example", "\"a b\"@c.example", "", "mira"]
        {
            assert_eq!(address(&identity("email", json!(text))), None, "{text}");
        }
    }

    #[test]
    fn email_verified_is_what_the_provider_says_and_absent_is_not_false() {
        assert_eq!(identity("x", json!(1)).email_verified, None);
        for (value, read) in [
            (json!(false), Some(false)),
            (json!("true"), Some(true)),
            (json!("false"), Some(false)),
            (json!(1), Some(false)),
        ] {
            assert_eq!(identity("email_verified", value.clone()).email_verified, read, "{value}");
        }
    }

    #[test]
    fn userinfo_fills_what_the_id_token_lacks_and_overrides_nothing() {
        let bare = token("email", Value::Null);
        assert!(Identity::needs_userinfo(&bare, None));
        let more =
            userinfo(&bare, json!({"email": "mira@info.example", "email_verified": false, "name": "Other"}));
        let identity = Identity::from_verified(&bare, Some(&more), None).unwrap();
        assert_eq!(address(&identity), Some("mira@info.example"));
        assert_eq!(identity.email_verified, Some(false));
        assert_eq!(identity.display_name.as_deref(), Some("Mira Holt"));
        let full = token("x", json!(1));
        assert!(!Identity::needs_userinfo(&full, None));
        let more = userinfo(&full, json!({"email": "other@info.example", "email_verified": true}));
        let identity = Identity::from_verified(&full, Some(&more), None).unwrap();
        assert_eq!(address(&identity), Some("mira.holt@fjordline.example"));
        assert_eq!(identity.email_verified, None, "the other address's proof proves nothing here");
    }

    #[test]
    fn a_name_to_show_is_found_and_bounded() {
        assert_eq!(
            identity("name", json!("M\r\n\u{202e}H".repeat(300)))
                .display_name
                .map(|n| n.chars().count() <= 200),
            Some(true)
        );
        let parts = with(
            with(with(claims(), "name", Value::Null), "given_name", json!("Mira")),
            "family_name",
            json!("Holt"),
        );
        let id_token = verify(&sign(&parts)).unwrap();
        let shown = Identity::from_verified(&id_token, None, None).unwrap().display_name;
        assert_eq!(shown.as_deref(), Some("Mira Holt"));
        assert_eq!(identity("name", json!(["Mira"])).display_name, None);
    }
}
