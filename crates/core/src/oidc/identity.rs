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

impl Identity {
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
