//! One page for every error code: what happened, whose move it is, the next step, the provider's words, a reference.

use askama::Template;
use doorward_core::error_code::{ErrorCode, Fault as Whose};

use crate::web::page::{Fault, Frame};

/// The main link of an error page.
#[derive(Clone, Debug)]
pub struct Action {
    /// On the button.
    pub label: String,
    /// Where it leads.
    pub href: String,
}

/// An error as a page.
#[derive(Template, Clone, Debug)]
#[template(path = "error.html")]
pub struct ErrorPage {
    /// The frame.
    pub frame: Frame,
    /// What happened.
    pub fault: Fault,
    /// What to do here and now; without one the page leads home.
    pub action: Option<Action>,
    /// Names the request in the log.
    pub request_id: String,
}

impl ErrorPage {
    /// An error with nothing but its code.
    pub fn new(frame: Frame, code: ErrorCode, request_id: String) -> Self {
        Self { frame, fault: Fault::new(code), action: None, request_id }
    }

    /// Whose move it is, as a sentence; empty where it is nobody's.
    fn whose_move(&self) -> &'static str {
        match self.fault.code.fault() {
            Whose::Admin => "An admin of the organization",
            Whose::Provider => "Whoever runs the identity provider",
            Whose::Member => "You",
            Whose::Operator => "The operator of this site",
            Whose::Nobody => "",
        }
    }
}
