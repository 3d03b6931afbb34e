//! A refusal on its way to whoever asked: a page for a person, an RFC 9457 problem document for a program.
//!
//! Handlers return a `Refusal`; the route's middleware, which knows who asked, turns it into a body. The log gets the
//! cause, the answer the code, the remedy and the request id, and neither a secret.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use doorward_core::error_code::ErrorCode;
use doorward_core::finding::Finding;
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, StatusCode};
use serde_json::json;

use crate::passwords::PasswordError;
use crate::random::NoRandomness;
use crate::sealing::SealingError;
use crate::store::StoreError;

/// Why a request was not carried out.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// What and who must act.
    pub code: ErrorCode,
    /// Named values that help: expected, found, address.
    pub values: Vec<(String, String)>,
    /// The provider's own words.
    pub provider_words: Option<String>,
    /// What the person can press: a label and a path or URL of ours.
    pub action: Option<(String, String)>,
    /// When to come back, in seconds.
    pub retry_after: Option<i64>,
}

impl Refusal {
    /// A refusal with nothing but its code.
    pub const fn new(code: ErrorCode) -> Self {
        Self { code, values: Vec::new(), provider_words: None, action: None, retry_after: None }
    }

    /// From a finding, with its values and the provider's words.
    pub fn of(finding: &Finding) -> Self {
        Self {
            values: finding.values.clone(),
            provider_words: finding.provider_words.clone(),
            ..Self::new(finding.code)
        }
    }

    /// Adds what the person can press.
    #[must_use]
    pub fn with_action(mut self, label: &str, href: String) -> Self {
        self.action = Some((label.to_owned(), href));
        self
    }

    /// Adds a named value.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.values.push((name.to_owned(), value.into()));
        self
    }

    /// Adds when to come back.
    #[must_use]
    pub const fn with_retry_after(mut self, seconds: i64) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    /// The status of the answer.
    pub fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// For a program: `application/problem+json` (RFC 9457). `helps`: the name and the address of a page that helps.
    pub fn problem(&self, request_id: &str, helps: Option<(&str, &str)>) -> Response {
        let mut body = json!({
            "type": format!("urn:doorward:error:{}", self.code),
            "title": self.code.title(),
            "status": self.code.status(),
            "detail": self.code.meaning(),
            "code": self.code.as_str(),
            "next_step": self.code.remedy(),
            "request_id": request_id,
        });
        if let (Some((name, address)), Some(members)) = (helps, body.as_object_mut()) {
            members.insert(name.to_owned(), json!(address));
        }
        let mut response = Response::new(Body::from(body.to_string()));
        *response.status_mut() = self.status();
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        self.finish(response)
    }

    /// Sets what every answer of a refusal carries beside its body.
    pub fn finish(&self, mut response: Response) -> Response {
        let usual = match self.code.status() {
            503 => Some(5),
            // What is counted is counted by the minute, unless somebody says otherwise.
            429 => Some(60),
            _ => None,
        };
        if let Some(seconds) = self.retry_after.or(usual) {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds.max(1)));
        }
        response
    }
}

/// The body follows in the middleware; should it be missing there, the bare status stays.
impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = self.status().into_response();
        response.extensions_mut().insert(self);
        response
    }
}

impl From<ErrorCode> for Refusal {
    fn from(code: ErrorCode) -> Self {
        Self::new(code)
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        if let StoreError::Sealing(error) = error {
            return error.into();
        }
        tracing::error!(%error, "the store did not do what was asked");
        match error {
            StoreError::Unavailable(_) | StoreError::Schema(_) => Self::new(ErrorCode::ServiceUnavailable),
            StoreError::Conflict
            | StoreError::Corrupt(_)
            | StoreError::NoRandomness(_)
            | StoreError::AuditKeys(_)
            | StoreError::AuditKeysMissing(_)
            | StoreError::Sealing(_) => Self::new(ErrorCode::ServiceInternal),
        }
    }
}

impl From<NoRandomness> for Refusal {
    fn from(error: NoRandomness) -> Self {
        tracing::error!(%error, "no random bytes");
        Self::new(ErrorCode::ServiceUnavailable)
    }
}

impl From<SealingError> for Refusal {
    fn from(error: SealingError) -> Self {
        tracing::error!(remedy = error.remedy(), %error, "a secret could not be sealed or opened");
        match error {
            // This node's file lacks a key: good again as soon as it is copied, and at other nodes meanwhile.
            SealingError::OlderCopy { .. } | SealingError::OtherKey { .. } => {
                Self::new(ErrorCode::ServiceUnavailable)
            }
            _ => Self::new(ErrorCode::ServiceInternal),
        }
    }
}

impl From<PasswordError> for Refusal {
    fn from(error: PasswordError) -> Self {
        match error {
            PasswordError::Busy => Self::new(ErrorCode::AccountBusy).with_retry_after(5),
            PasswordError::Library => {
                tracing::error!(%error, "a password could not be hashed");
                Self::new(ErrorCode::ServiceUnavailable)
            }
        }
    }
}
