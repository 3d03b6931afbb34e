//! Signing in and out, and the first operator's account.

use askama::Template;

use crate::web::page::{Frame, Problems, waiting};

/// `/login`.
#[derive(Template, Clone, Debug)]
#[template(path = "sign_in.html")]
pub struct SignInPage {
    /// The frame.
    pub frame: Frame,
    /// As typed before.
    pub username: String,
    /// Where to go on afterwards; empty: home.
    pub next: String,
    /// The host to go on to, if it is an application's.
    pub next_host: Option<String>,
    /// Why the page is shown again.
    pub problems: Problems,
    /// Seconds to wait after too many attempts.
    pub wait_seconds: Option<i64>,
    /// Said above the form when something asks for a fresh sign-in.
    pub fresh: bool,
}

impl SignInPage {
    fn wait(&self) -> Option<String> {
        self.wait_seconds.map(waiting)
    }
}

/// `GET /logout`: asks before it does.
#[derive(Template, Clone, Debug)]
#[template(path = "sign_out.html")]
pub struct SignOutPage {
    /// The frame.
    pub frame: Frame,
}

/// The one-time link of the first start.
#[derive(Template, Clone, Debug)]
#[template(path = "first_operator.html")]
pub struct FirstOperatorPage {
    /// The frame.
    pub frame: Frame,
    /// Where the form goes: the link's own address.
    pub action: String,
    /// As typed before.
    pub name: String,
    /// As typed before.
    pub full_name: String,
    /// As typed before.
    pub email: String,
    /// Mistakes.
    pub problems: Problems,
}
