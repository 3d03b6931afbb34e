//! `/settings/account/delete`: a person deletes the own account.
//!
//! Invariant: whoever governs an organization goes as he would leave it: not as its last admin, and not by his password
//! alone where its single sign-on is live (ADR 0037).

use askama::Template;
use axum::Form;
use axum::extract::State;
use axum::response::Response;
use doorward_core::error_code::ErrorCode;
use doorward_core::membership::Role;
use doorward_core::secret::Secret;
use http::StatusCode;
use http::header::SET_COOKIE;
use serde::Deserialize;

use super::account::prove_password;
use super::sso::by;
use crate::account_end::{delete_account, load_ties};
use crate::app::{App, SharedApp};
use crate::cookies::Cookie;
use crate::refusal::Refusal;
use crate::sso::enable::NotDone;
use crate::store::load_owing_sso;
use crate::web::access::redirect;
use crate::web::page::{Done, Frame, Problem, Problems, role_label, show, show_with};
use crate::web::visit::Visit;

/// Why the account can't go yet, as far as one organization is concerned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Obstacle {
    /// It would be left without an admin.
    LastAdmin,
    /// An admin's going asks for its single sign-on first.
    SsoNeeded,
}

/// One organization that the account belongs to.
#[derive(Clone, Debug)]
pub struct TieLine {
    /// Its name.
    pub organization: String,
    /// What it is called on pages.
    pub display_name: String,
    /// The role that ends.
    pub role: Role,
    /// What has to be done first.
    pub obstacle: Option<Obstacle>,
}

impl TieLine {
    fn role_label(&self) -> &'static str {
        role_label(self.role)
    }

    fn is_left_without_admin(&self) -> bool {
        self.obstacle == Some(Obstacle::LastAdmin)
    }
}

/// The page.
#[derive(Template, Clone, Debug)]
#[template(path = "account_delete.html")]
pub struct AccountDeletePage {
    /// The frame.
    pub frame: Frame,
    /// The account's name.
    pub username: String,
    /// Its organizations.
    pub ties: Vec<TieLine>,
    /// Mistakes.
    pub problems: Problems,
}

impl AccountDeletePage {
    fn is_free(&self) -> bool {
        self.ties.iter().all(|tie| tie.obstacle.is_none())
    }
}

async fn load(app: &App, visit: &Visit, problems: Problems) -> Result<AccountDeletePage, Refusal> {
    let visitor = visit.account()?;
    let now = app.clock.now();
    let session = visitor.session().map(|session| session.id);
    let mut reader = app.store.reader();
    // An external collaborator owes it too: what he is spared is the way in.
    let owing = load_owing_sso(&mut reader, visitor.account.id, session, now).await?;
    let mut ties = Vec::new();
    for tie in load_ties(&mut reader, visitor.account.id, now).await? {
        let obstacle = if tie.is_last_admin {
            Some(Obstacle::LastAdmin)
        } else if owing.contains(&tie.member.organization.id) {
            Some(Obstacle::SsoNeeded)
        } else {
            None
        };
        ties.push(TieLine {
            organization: tie.member.organization.name.as_str().to_owned(),
            display_name: tie.member.organization.display_name,
            role: tie.member.role,
            obstacle,
        });
    }
    Ok(AccountDeletePage {
        frame: Frame::of(app, visit),
        username: visitor.account.name().to_owned(),
        ties,
        problems,
    })
}

/// `GET /settings/account/delete`: says what goes, and what has to be done first.
pub async fn show_delete(State(app): State<SharedApp>, visit: Visit) -> Result<Response, Refusal> {
    Ok(show(&load(&app, &visit, Problems::default()).await?))
}

/// The form.
#[derive(Deserialize)]
pub struct DeleteForm {
    #[serde(default)]
    current_password: String,
}

impl std::fmt::Debug for DeleteForm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DeleteForm")
    }
}

async fn again(app: &App, visit: &Visit, problem: Problem) -> Result<Response, Refusal> {
    let status = StatusCode::from_u16(problem.code.status()).unwrap_or(StatusCode::UNPROCESSABLE_ENTITY);
    Ok(show_with(status, &load(app, visit, Problems(vec![problem])).await?))
}

/// `POST /settings/account/delete`.
pub async fn delete(
    State(app): State<SharedApp>,
    visit: Visit,
    Form(form): Form<DeleteForm>,
) -> Result<Response, Refusal> {
    let page = load(&app, &visit, Problems::default()).await?;
    if let Some(obstacle) = page.ties.iter().find_map(|tie| tie.obstacle) {
        let code = match obstacle {
            Obstacle::LastAdmin => ErrorCode::OrganizationLastAdmin,
            Obstacle::SsoNeeded => ErrorCode::SettingsSsoNeeded,
        };
        return again(&app, &visit, Problem::new("", code)).await;
    }
    // However fresh the login is: a browser left open must not be enough to end an account.
    let Some(proved) = prove_password(&app, &visit, Secret::new(form.current_password)).await? else {
        return again(&app, &visit, Problem::new("current_password", ErrorCode::AccountWrongPassword)).await;
    };
    let account = &visit.account()?.account;
    let now = app.clock.now();
    let deleted =
        delete_account(&app.store, (account.id, account.name()), Some(&proved), &by(&visit)?, now).await;
    match deleted {
        Ok(()) => {}
        // Another admin was quicker, it is in an organization that the page does not show, or he is the last operator.
        Err(NotDone::Refused(
            code @ (ErrorCode::OrganizationLastAdmin
            | ErrorCode::SettingsSsoNeeded
            | ErrorCode::AccountLastOperator),
        )) => {
            return again(&app, &visit, Problem::new("", code)).await;
        }
        Err(reason) => return Err(reason.into()),
    }
    let mut response = redirect(&app.page(&format!("/login?done={}", Done::AccountDeleted.as_str())));
    if let Some(cookie) = Cookie::Session.clear(app.https()) {
        response.headers_mut().append(SET_COOKIE, cookie);
    }
    Ok(response)
}
