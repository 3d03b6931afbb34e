//! The claims of an ID token, v2, and the ways in which a fault spoils them.
//!
//! In: who signed in, to which application, by which grant. Out: a compact token. `entra.md` section 5.
//! Invariant: without a fault the token holds what Entra's would, and nothing that Entra leaves out
//! (`email_verified`).

use super::Provider;
use super::directory::{ACME_TENANT, App, AppKind, GLOBEX_TENANT, Grant, Person, Tenant};
use super::fault::TokenFault;
use super::keys::{KeyError, Signer, unsigned};
use crate::random;
use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value, json};

/// `iat` and `nbf` lie this far back, so that a clock a little late takes the token.
const BACKDATED_SECONDS: i64 = 300;
/// From `iat` to `exp`.
const LIFE_SECONDS: i64 = 3_900;

/// The pairwise subject: another one for each application, and never the object ID.
pub(super) fn subject(client_id: &str, oid: &str) -> String {
    let hash = digest::digest(&digest::SHA256, format!("{client_id}|{oid}").as_bytes());
    URL_SAFE_NO_PAD.encode(hash)
}

/// The ID token for a grant.
pub(super) fn make(
    provider: &Provider,
    app: &App,
    tenant: &Tenant,
    person: &Person,
    grant: &Grant,
    fault: Option<TokenFault>,
) -> Result<String, KeyError> {
    let mut claims = honest_claims(provider, tenant, person, grant);
    if let Some(fault) = fault {
        spoil(&mut claims, fault, provider, tenant, person);
    }
    let claims = Value::Object(claims);
    let signer = match fault {
        Some(TokenFault::Unsigned) => return Ok(unsigned(&claims)),
        Some(TokenFault::ForeignKey) => Signer::Foreign,
        Some(TokenFault::UnknownKey) => Signer::OfApplication,
        // A non-gallery application is made for SAML: its tokens are signed with a key of its own, which the
        // tenant's key set does not hold.
        _ if app.kind == AppKind::NonGallery => Signer::OfApplication,
        _ => Signer::Current,
    };
    let token = provider.keys().sign(&claims, signer)?;
    Ok(match fault {
        Some(TokenFault::WrongSignature) => with_damaged_signature(&token),
        _ => token,
    })
}

fn honest_claims(provider: &Provider, tenant: &Tenant, person: &Person, grant: &Grant) -> Map<String, Value> {
    let issued_at = provider.clock.now().saturating_sub(BACKDATED_SECONDS);
    let scope = |name: &str| grant.scopes.iter().any(|asked| asked == name);
    let mut claims = Map::new();
    let mut set = |name: &str, value: Value| claims.insert(name.to_owned(), value);
    set("aud", grant.client_id.as_str().into());
    set("iss", provider.issuer(&tenant.id).into());
    set("iat", issued_at.into());
    set("nbf", issued_at.into());
    set("exp", issued_at.saturating_add(LIFE_SECONDS).into());
    set("aio", random::opaque().into());
    set("rh", "1.".into());
    set("sub", subject(&grant.client_id, &person.oid).into());
    set("tid", tenant.id.as_str().into());
    set("uti", URL_SAFE_NO_PAD.encode(random::bytes::<16>()).into());
    set("ver", "2.0".into());
    if scope("profile") {
        set("oid", person.oid.as_str().into());
        set("name", person.name.as_str().into());
        set("preferred_username", person.sign_in_name().into());
    }
    if let Some(mail) = person.mail.as_deref().filter(|_| scope("email")) {
        set("email", mail.into());
    }
    if let Some(home) = &person.guest_of {
        set("idp", format!("https://sts.windows.net/{home}/").into());
        set("acct", 1.into());
    }
    if let Some(nonce) = &grant.nonce {
        set("nonce", nonce.as_str().into());
    }
    claims
}

fn spoil(
    claims: &mut Map<String, Value>,
    fault: TokenFault,
    provider: &Provider,
    tenant: &Tenant,
    person: &Person,
) {
    let other_tenant = if tenant.id == ACME_TENANT { GLOBEX_TENANT } else { ACME_TENANT };
    let mut shift = |names: &[&str], seconds: i64| {
        for name in names {
            if let Some(at) = claims.get(*name).and_then(Value::as_i64) {
                claims.insert((*name).to_owned(), at.saturating_add(seconds).into());
            }
        }
    };
    match fault {
        // The token says ten minutes more than our clock, so the back-dating is added too.
        TokenFault::ClockAhead => return shift(&["iat", "nbf", "exp"], 600 + BACKDATED_SECONDS),
        TokenFault::Expired => return shift(&["exp"], -(2 * 3_600)),
        _ => {}
    }
    let changes: Vec<(&str, Value)> = match fault {
        TokenFault::WrongAudience => vec![("aud", random::guid().into())],
        TokenFault::WrongNonce => vec![("nonce", random::opaque().into())],
        TokenFault::IssuerV1 => {
            vec![("iss", format!("https://sts.windows.net/{}/", tenant.id).into()), ("ver", "1.0".into())]
        }
        TokenFault::WrongTenant => {
            vec![("iss", provider.issuer(other_tenant).into()), ("tid", other_tenant.into())]
        }
        TokenFault::SomebodyElsesEmail => vec![("email", "ada@acme.example".into())],
        TokenFault::Guest => {
            vec![("idp", format!("https://sts.windows.net/{other_tenant}/").into()), ("acct", 1.into())]
        }
        TokenFault::GroupOverage => {
            let link =
                format!("https://graph.windows.net/{}/users/{}/getMemberObjects", tenant.id, person.oid);
            vec![
                ("_claim_names", json!({"groups": "src1"})),
                ("_claim_sources", json!({"src1": {"endpoint": link}})),
            ]
        }
        TokenFault::NoNonce => vec![("nonce", Value::Null)],
        TokenFault::NoEmail => vec![("email", Value::Null)],
        TokenFault::NoObjectId => {
            vec![("oid", Value::Null), ("name", Value::Null), ("preferred_username", Value::Null)]
        }
        _ => Vec::new(),
    };
    for (name, value) in changes {
        if value.is_null() {
            claims.remove(name);
        } else {
            claims.insert(name.to_owned(), value);
        }
    }
}

/// The same token with the first letter of its signature exchanged.
fn with_damaged_signature(token: &str) -> String {
    let Some((input, signature)) = token.rsplit_once('.') else { return token.to_owned() };
    let mut letters = signature.chars();
    let first = if letters.next() == Some('A') { 'B' } else { 'A' };
    format!("{input}.{first}{}", letters.as_str())
}
