//! `/settings/account`: the account's own names, addresses, password and sessions.

use askama::Template;

use crate::web::page::{Frame, Moment, Problems};

/// One address of the account.
#[derive(Clone, Debug)]
pub struct AccountEmailLine {
    /// As written.
    pub address: String,
    /// Whether it is proved; an unproved one counts for nothing (rule 13).
    pub proved: bool,
    /// The one that applications are told.
    pub primary: bool,
}

/// One browser session of the account.
#[derive(Clone, Debug)]
pub struct SessionLine {
    /// Its id.
    pub id: String,
    /// The one that looks.
    pub current: bool,
    /// When the password was last typed in it.
    pub signed_in: Moment,
    /// When it was last used.
    pub last_seen: Moment,
}

/// The page.
#[derive(Template, Clone, Debug)]
#[template(path = "account.html")]
pub struct AccountPage {
    /// The frame.
    pub frame: Frame,
    /// The account's name.
    pub username: String,
    /// The person's name, as typed or stored.
    pub full_name: String,
    /// Addresses.
    pub emails: Vec<AccountEmailLine>,
    /// Sessions, the last used first.
    pub sessions: Vec<SessionLine>,
    /// Mistakes, by field.
    pub problems: Problems,
}
