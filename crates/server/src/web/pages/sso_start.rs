//! Before the trip to the provider: whose single sign-on it is, and why; and the page that leads to another origin.

use askama::Template;

use crate::web::page::Frame;

/// `/organizations/ORG/sso`, for a signed-in member.
#[derive(Template, Clone, Debug)]
#[template(path = "sso_start.html")]
pub struct SsoStartPage {
    /// The frame.
    pub frame: Frame,
    /// The organization's name.
    pub organization: String,
    /// What it is called on pages.
    pub display_name: String,
    /// The host that the browser is sent to.
    pub provider_host: String,
    /// The account that will have completed it.
    pub account: String,
    /// Where to go on afterwards.
    pub next: String,
    /// Whom a portal said that this is; may be empty.
    pub login_hint: String,
    /// How long it lasts, in words.
    pub session_timeout: String,
    /// May be left out (hub-sso.md M3): where to go on without it.
    pub skip_to: Option<String>,
    /// It was done before in this browser, and has run out.
    pub expired: bool,
}

/// After a POST that leads to another origin: a redirect would meet `form-action` (rule 10).
#[derive(Template, Clone, Debug)]
#[template(path = "going_on.html")]
pub struct GoingOnPage {
    /// The frame.
    pub frame: Frame,
    /// The address; checked before it comes here.
    pub location: String,
    /// Its host, for the person.
    pub host: String,
}
