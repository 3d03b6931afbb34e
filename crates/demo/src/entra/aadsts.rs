//! Entra's refusals: the number, the OAuth error that goes with it, a text, and the three places where they appear.
//!
//! In: a number and the facts of the request. Out: JSON of the token endpoint, parameters of a redirect, or a page.
//! The texts are our own words around the values that Entra names; programs read the number. Never here: when a
//! refusal is due. Which number appears where: `entra.md` section 8.

use crate::clock::entra_time;
use crate::random;
use http::StatusCode;
use serde_json::{Value, json};

/// What a refusal's text may name. Empty where it is not known.
#[derive(Clone, Default, Debug)]
pub(crate) struct Facts {
    /// Application (client) ID as sent.
    pub(crate) client_id: String,
    /// Tenant as the address names it, or its display name.
    pub(crate) tenant: String,
    /// Who signs in.
    pub(crate) person: String,
    /// Redirect URI as sent.
    pub(crate) redirect_uri: String,
    /// The parameter, scope or value at fault.
    pub(crate) detail: String,
}

/// One refusal, with the identifiers under which Entra would log it.
#[derive(Clone, Debug)]
pub(crate) struct Refusal {
    /// The AADSTS number.
    pub(crate) code: u32,
    /// What happened, without number and trailer.
    pub(crate) text: String,
    /// For the log of the provider.
    pub(crate) trace_id: String,
    /// One for all requests of one sign-in.
    pub(crate) correlation_id: String,
    /// When, as Entra prints it.
    pub(crate) timestamp: String,
}

impl Refusal {
    /// A refusal that happens now.
    pub(crate) fn new(code: u32, facts: &Facts, now: i64) -> Self {
        Self {
            code,
            text: text_of(code, facts),
            trace_id: random::guid(),
            correlation_id: random::guid(),
            timestamp: entra_time(now),
        }
    }

    /// `error_description`: number, text, and the trailer of three lines separated by CR LF.
    pub(crate) fn description(&self) -> String {
        format!(
            "AADSTS{}: {}\r\nTrace ID: {}\r\nCorrelation ID: {}\r\nTimestamp: {}",
            self.code, self.text, self.trace_id, self.correlation_id, self.timestamp
        )
    }

    /// The body of an error answer of the token endpoint and of discovery.
    pub(crate) fn to_json(&self, base_url: &str) -> Value {
        json!({
            "error": oauth_error(self.code),
            "error_description": self.description(),
            "error_codes": [self.code],
            "timestamp": self.timestamp,
            "trace_id": self.trace_id,
            "correlation_id": self.correlation_id,
            "error_uri": error_uri(self.code, base_url),
        })
    }

    /// The status of an error answer of the token endpoint.
    pub(crate) fn status(&self) -> StatusCode {
        match oauth_error(self.code) {
            "invalid_client" => StatusCode::UNAUTHORIZED,
            "temporarily_unavailable" => StatusCode::TOO_MANY_REQUESTS,
            _ => StatusCode::BAD_REQUEST,
        }
    }

    /// The parameters of a redirect to the application, `state` excepted.
    pub(crate) fn to_redirect(&self, base_url: &str) -> Vec<(&'static str, String)> {
        vec![
            ("error", oauth_error(self.code).to_owned()),
            ("error_description", self.description()),
            ("error_uri", error_uri(self.code, base_url)),
        ]
    }
}

fn error_uri(code: u32, base_url: &str) -> String {
    format!("{base_url}/error?code={code}")
}

/// The OAuth error that Entra sends with a number. Applications act on this one, not on the number.
pub(crate) fn oauth_error(code: u32) -> &'static str {
    match code {
        7_000_215 | 7_000_216 | 7_000_222 | 7_000_218 | 700_025 | 650_053 => "invalid_client",
        54_005 | 70_000 | 70_008 | 501_481 | 700_005 | 7_000_110 | 500_112 => "invalid_grant",
        700_016 | 7_000_112 => "unauthorized_client",
        90_002 => "invalid_tenant",
        65_004 => "access_denied",
        50_058 => "login_required",
        50_105 => "interaction_required",
        70_003 => "unsupported_grant_type",
        70_005 => "unsupported_response_type",
        70_011 => "invalid_scope",
        90_055 => "temporarily_unavailable",
        _ => "invalid_request",
    }
}

/// What happened, in our words.
fn text_of(code: u32, facts: &Facts) -> String {
    let Facts { client_id, tenant, person, redirect_uri, detail } = facts;
    match code {
        50_011 => format!(
            "The redirect URI '{redirect_uri}' in this request is none of those configured for the application \
             '{client_id}'. They have to agree letter by letter, on the platform Web."
        ),
        500_113 => format!("The application '{client_id}' has no reply address registered at all."),
        500_112 => format!("The reply address '{redirect_uri}' is not the one that the code was asked for with."),
        700_016 => format!(
            "No application with the identifier '{client_id}' exists in the directory '{tenant}'. Either the \
             identifier or the directory of this request is a wrong one."
        ),
        90_002 => format!("Tenant '{tenant}' not found. Check the tenant's ID or domain, and the cloud it lives in."),
        50_105 => format!(
            "'{person}' holds no assignment to the application '{client_id}', and the application admits only \
             people who were assigned. An administrator can add the assignment under Users and groups."
        ),
        50_020 => format!(
            "The account '{person}' belongs to another directory and is not known in the directory '{tenant}', so \
             it cannot use the application '{client_id}' there. It would have to be invited as a guest first."
        ),
        50_057 => format!("The account '{person}' is disabled."),
        50_058 => "A silent sign-in was asked for, but nobody is signed in.".to_owned(),
        50_194 => format!(
            "Application '{client_id}' is registered for one directory alone and can't be used through the shared \
             address '{tenant}'. Use the address of its own tenant."
        ),
        53_003 => "A Conditional Access policy does not allow this sign-in.".to_owned(),
        65_004 => format!("'{person}' declined to consent to what the application '{client_id}' asks for."),
        90_094 => format!("An administrator has to consent to the application '{client_id}' before it can be used."),
        7_000_112 => format!("Application '{client_id}' is disabled in this directory."),
        7_000_215 => format!(
            "Invalid client secret provided. Send the secret's value, not the secret's ID, of a secret that was \
             added to app '{client_id}'."
        ),
        7_000_216 => "'client_assertion' or 'client_secret' is needed for this grant.".to_owned(),
        7_000_222 => format!("The client secret keys provided for app '{client_id}' are expired. Make a new one."),
        7_000_218 => "The request body must contain 'client_assertion' or 'client_secret'.".to_owned(),
        700_025 => format!(
            "Client is public, so neither 'client_assertion' nor 'client_secret' should be presented: the redirect \
             URI of app '{client_id}' is registered as one of a mobile or desktop application."
        ),
        9_002_325 => "A cross-origin redemption of an authorization code needs Proof Key for Code Exchange.".to_owned(),
        9_002_326 => "Cross-origin token redemption is permitted to the 'Single-Page Application' type only.".to_owned(),
        9_002_327 => {
            "Tokens for a 'Single-Page Application' redirect URI can be redeemed by cross-origin requests only."
                .to_owned()
        }
        54_005 => "The authorization code was redeemed already. Ask for a new one.".to_owned(),
        70_000 => "The authorization code is malformed or not one of ours.".to_owned(),
        70_008 => "The authorization code has expired. Codes live ten minutes.".to_owned(),
        501_481 => "The 'code_verifier' does not match the 'code_challenge' of the authorization request.".to_owned(),
        501_491 => "The 'code_challenge' has an invalid method or size.".to_owned(),
        700_005 => "The authorization code was issued on the address of another tenant.".to_owned(),
        7_000_110 => "The authorization code was issued to another application.".to_owned(),
        70_003 => format!("The grant type '{detail}' is not supported."),
        70_005 => format!("The response type '{detail}' is not enabled for this application."),
        70_011 => format!("The scope '{detail}' is not valid: a sign-in asks for 'openid' at least."),
        650_053 => format!("The application asked for the scope '{detail}', which the resource does not have."),
        900_144 => format!("The request must contain the parameter '{detail}'."),
        9_002_313 => "The request is malformed.".to_owned(),
        90_055 => "This tenant sends too many requests at the moment. Try again later.".to_owned(),
        90_014 => "A required field is missing.".to_owned(),
        _ => "The sign-in did not work.".to_owned(),
    }
}
