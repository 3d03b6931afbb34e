//! Who is known to the fake provider, and what it is asked: clients, people, requests.
//!
//! In: what a test registers, what a product sends. Out: which client shows itself, or why it is refused.
//! Never here: misbehaviour; a request is always judged by the book.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, Method};
use serde_json::{Map, Value};

use crate::signing::{guid, word};

/// A place of the provider that can be asked.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Endpoint {
    /// The metadata document.
    Discovery,
    /// The key set.
    Jwks,
    /// Where browsers come to.
    Authorize,
    /// Where codes are redeemed.
    Token,
    /// Claims for an access token.
    Userinfo,
    /// The source of distributed claims; nobody should ever come here.
    Claims,
    /// What a redirect of a misbehaving endpoint leads to; nobody should ever come here.
    Moved,
    /// Any other path, such as one that a token's header names; nobody should ever come here.
    Stray,
}

/// One request that the provider received.
#[derive(Clone, Debug)]
pub struct Request {
    /// What was asked.
    pub kind: Endpoint,
    /// The name of the issuer that was asked; empty for `Stray`.
    pub issuer: String,
    /// The method.
    pub method: Method,
    /// The path and query as sent.
    pub target: String,
    /// The headers.
    pub headers: HeaderMap,
    /// The decoded query.
    pub query: Vec<(String, String)>,
    /// The decoded form in the body.
    pub form: Vec<(String, String)>,
}

impl Request {
    /// The value of a form or query field; `None` if it is missing. The first one counts.
    pub fn field(&self, name: &str) -> Option<&str> {
        let mut fields = self.form.iter().chain(&self.query);
        fields.find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The value of a header as text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    pub(crate) fn doubled_field(&self) -> Option<&str> {
        let all: Vec<&str> = self.form.iter().chain(&self.query).map(|(key, _)| key.as_str()).collect();
        all.iter().enumerate().find(|(at, key)| all[..*at].contains(key)).map(|(_, key)| *key)
    }
}

/// How a client must show its secret.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ClientAuth {
    /// Only `client_secret_basic`.
    Basic,
    /// Only `client_secret_post`.
    Post,
    /// Either, but never both at once.
    Either,
}

/// An application registered at the provider: normally Doorward, for one organization.
#[derive(Clone, Debug)]
pub struct Client {
    /// `client_id`.
    pub id: String,
    /// The secrets that open; Entra has up to two at once.
    pub secrets: Vec<String>,
    /// Secrets that did.
    pub expired_secrets: Vec<String>,
    /// Compared octet by octet.
    pub redirect_uris: Vec<String>,
    /// How the secret must be shown.
    pub auth: ClientAuth,
}

impl Client {
    /// A client with one secret and one redirect URI that may use either way to show the secret.
    pub fn new(id: &str, secret: &str, redirect_uri: &str) -> Self {
        Self {
            id: id.into(),
            secrets: vec![secret.into()],
            expired_secrets: Vec::new(),
            redirect_uris: vec![redirect_uri.into()],
            auth: ClientAuth::Either,
        }
    }

    /// The same client, with a way to show the secret demanded.
    #[must_use]
    pub fn demanding(mut self, auth: ClientAuth) -> Self {
        self.auth = auth;
        self
    }

    /// The newest secret that opens.
    pub fn secret(&self) -> &str {
        self.secrets.last().map(String::as_str).unwrap_or_default()
    }
}

/// Somebody who can sign in at the provider.
#[derive(Clone, Debug)]
pub struct Person {
    /// What tests call this person: `mira`.
    pub name: String,
    /// `sub`. The Entra-like provider makes a pairwise one from it for each client.
    pub sub: String,
    /// `oid`, in the Entra-like provider.
    pub oid: String,
    /// `email`; `None` for somebody without a mailbox.
    pub email: Option<String>,
    /// `email_verified`; never sent by the Entra-like provider.
    pub email_verified: bool,
    /// `name`.
    pub full_name: String,
    /// `preferred_username`; the user principal name of Entra.
    pub username: String,
    /// Further claims; they win over those above. `hd`, `idp`, `acct`, `groups`, `roles` go here.
    pub claims: Map<String, Value>,
}

impl Person {
    /// A person with a verified address. `sub` and `oid` follow from the name.
    pub fn new(name: &str, full_name: &str, email: &str) -> Self {
        Self {
            name: name.into(),
            sub: format!("sub-{}", word(7, name)),
            oid: guid(7, name),
            email: Some(email.into()),
            email_verified: true,
            full_name: full_name.into(),
            username: email.into(),
            claims: Map::new(),
        }
    }

    /// The same person with one more claim.
    #[must_use]
    pub fn claim(mut self, name: &str, value: Value) -> Self {
        self.claims.insert(name.into(), value);
        self
    }

    /// The same person without a mailbox, as in a directory that has none.
    #[must_use]
    pub fn without_mailbox(mut self) -> Self {
        self.email = None;
        self
    }

    /// The same person with an address that nobody verified.
    #[must_use]
    pub fn unverified(mut self) -> Self {
        self.email_verified = false;
        self
    }
}

/// Why a token request is refused.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Problem {
    pub(crate) status: u16,
    pub(crate) error: &'static str,
    pub(crate) aadsts: u32,
    pub(crate) text: &'static str,
}

/// Which client shows itself, by exactly one method and with a secret that opens.
pub(crate) fn judge_client<'a>(clients: &'a [Client], request: &Request) -> Result<&'a Client, Problem> {
    let refused = |aadsts, text| Problem { status: 401, error: "invalid_client", aadsts, text };
    let invalid = |text| Problem { status: 400, error: "invalid_request", aadsts: 900_144, text };
    let (id, secret, method) = match (request.header("authorization"), request.field("client_secret")) {
        (Some(_), Some(_)) => return Err(invalid("Two ways to authenticate at once.")),
        (Some(value), None) => {
            let (id, secret) = basic(value)
                .ok_or_else(|| invalid("The Authorization header is not Basic, or malformed."))?;
            if request.field("client_id").is_some_and(|other| other != id) {
                return Err(invalid("Two client ids."));
            }
            (id, secret, ClientAuth::Basic)
        }
        (None, Some(secret)) => {
            (request.field("client_id").unwrap_or_default().to_owned(), secret.to_owned(), ClientAuth::Post)
        }
        (None, None) => return Err(refused(7_000_218, "The request must hold a client secret.")),
    };
    let client = clients.iter().find(|client| client.id == id);
    let client = client.ok_or_else(|| refused(700_016, "The client is unknown."))?;
    if client.auth != ClientAuth::Either && client.auth != method {
        return Err(refused(7_000_218, "This client has to authenticate in the other way."));
    }
    if client.expired_secrets.contains(&secret) {
        return Err(refused(7_000_222, "The provided client secret keys are expired."));
    }
    if !client.secrets.contains(&secret) {
        return Err(refused(7_000_215, "Invalid client secret provided."));
    }
    Ok(client)
}

/// Id and secret out of `Authorization: Basic`, form-decoded (RFC 6749 section 2.3.1).
fn basic(header: &str) -> Option<(String, String)> {
    let bytes = STANDARD.decode(header.strip_prefix("Basic ")?).ok()?;
    let text = String::from_utf8(bytes).ok()?;
    let (id, secret) = text.split_once(':')?;
    let decoded = |part: &str| {
        // Raw '=', '&' or a colon show that the part was not encoded.
        let encoded = !part.contains(['=', '&', ' ', ':', '/']);
        encoded.then(|| pairs(format!("x={part}").as_bytes()).pop().map(|(_, value)| value)).flatten()
    };
    Some((decoded(id)?, decoded(secret)?))
}

pub(crate) fn pairs(text: &[u8]) -> Vec<(String, String)> {
    form_urlencoded::parse(text).into_owned().collect()
}
