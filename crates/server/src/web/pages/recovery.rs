//! Recovery codes: shown once when they are made, and used by an admin whose provider is gone (rule 12).

use askama::Template;
use axum::Form;
use axum::extract::State;
use axum::response::Response;
use doorward_core::error_code::ErrorCode;
use doorward_core::secret::Secret;
use doorward_core::time::Lifetime;
use http::StatusCode;
use serde::Deserialize;

use super::sso::{by, plan_allows, settings_page};
use super::to_its_end;
use crate::app::{App, SharedApp};
use crate::refusal::Refusal;
use crate::sso::enable::NotDone;
use crate::sso::recovery::{new_codes, recover};
use crate::store::{FailureCount, count_recovery_codes};
use crate::web::access::redirect;
use crate::web::page::{Done, Frame, OrganizationHead, Problems, Tab, show, show_with};
use crate::web::throttle::Budget;
use crate::web::visit::{OrganizationVisit, Visit};

/// The answer that shows new codes, once.
#[derive(Template, Clone, Debug)]
#[template(path = "recovery_codes.html")]
pub struct RecoveryCodesPage {
    /// The frame.
    pub frame: Frame,
    /// The organization.
    pub organization: OrganizationHead,
    /// The open tab.
    pub tab: Tab,
    /// The codes.
    pub codes: Vec<Secret>,
    /// They come with Enable.
    pub just_enabled: bool,
}

impl RecoveryCodesPage {
    /// One a line, for the clipboard.
    fn lines(&self) -> String {
        self.codes.iter().map(Secret::expose).collect::<Vec<_>>().join("\n")
    }
}

/// The codes as an answer: nothing that could show them again is kept.
pub(super) fn show_codes(
    app: &App,
    visit: &Visit,
    place: &OrganizationVisit,
    codes: &[Secret],
    just_enabled: bool,
) -> Response {
    show(&RecoveryCodesPage {
        frame: Frame { done: just_enabled.then_some(Done::SsoEnabled), ..Frame::of(app, visit) },
        organization: OrganizationHead::of(place),
        tab: Tab::Sso,
        codes: codes.to_vec(),
        just_enabled,
    })
}

/// `POST …/settings/sso/recovery-codes`: makes new codes and voids the old.
pub async fn make_new_codes(
    State(app): State<SharedApp>,
    visit: Visit,
    place: OrganizationVisit,
) -> Result<Response, Refusal> {
    plan_allows(&place.organization)?;
    let codes = new_codes(&app, &place.organization, Some(visit.account()?), &by(&visit)?).await?;
    Ok(show_codes(&app, &visit, &place, &codes, false))
}

/// `/organizations/ORG/settings/sso/recover`.
#[derive(Template, Clone, Debug)]
#[template(path = "recover.html")]
pub struct RecoverPage {
    /// The frame.
    pub frame: Frame,
    /// The organization.
    pub organization: OrganizationHead,
    /// The open tab.
    pub tab: Tab,
    /// Unused codes.
    pub left: i64,
    /// A mistake.
    pub problems: Problems,
}

async fn recover_page(
    app: &App,
    visit: &Visit,
    place: &OrganizationVisit,
    problems: Problems,
) -> Result<RecoverPage, Refusal> {
    let codes = count_recovery_codes(&mut app.store.reader(), place.organization.id).await?;
    Ok(RecoverPage {
        frame: Frame::of(app, visit),
        organization: OrganizationHead::of(place),
        tab: Tab::Sso,
        left: codes.map_or(0, |(left, _)| left),
        problems,
    })
}

/// `GET …/settings/sso/recover`. Where nothing needs a code, the settings page is the place.
pub async fn show_recover(
    State(app): State<SharedApp>,
    visit: Visit,
    place: OrganizationVisit,
) -> Result<Response, Refusal> {
    if place.may_widen() {
        return Ok(redirect(&settings_page(&app, &place.organization)));
    }
    Ok(show(&recover_page(&app, &visit, &place, Problems::default()).await?))
}

/// The form with a code.
#[derive(Deserialize)]
pub struct RecoverForm {
    #[serde(default)]
    code: String,
}

impl std::fmt::Debug for RecoverForm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RecoverForm").finish_non_exhaustive()
    }
}

/// `POST …/settings/sso/recover`: uses a code. Guesses are throttled like passwords, of this browser session alone: a code
/// is what an admin has left when nothing else works, and no neighbour's mistakes keep him from it.
pub async fn use_code(
    State(app): State<SharedApp>,
    visit: Visit,
    place: OrganizationVisit,
    Form(form): Form<RecoverForm>,
) -> Result<Response, Refusal> {
    let signed_in = visit.account()?;
    let now = app.clock.now();
    if place.may_widen() {
        return Ok(redirect(&settings_page(&app, &place.organization)));
    }
    let again = app.page(&format!("/organizations/{}/settings/sso/recover", place.organization.name));
    let throttled = |wait: Lifetime| {
        Refusal::new(ErrorCode::AccountThrottled)
            .with_action("Back to the recovery code", again)
            .with_retry_after(wait.seconds() + 1)
    };
    let session = signed_in.session().ok_or(ErrorCode::AccountSignInNeeded)?.id;
    let guess =
        app.sign_ins.take(Budget::Recovery(session), FailureCount::default(), now).map_err(throttled)?;
    // Whoever hangs up meanwhile is in the log as everybody is.
    let trying = {
        let (app, organization, admin) =
            (SharedApp::clone(&app), place.organization.clone(), signed_in.clone());
        let (by, code) = (by(&visit)?, Secret::new(form.code));
        async move { recover(&app, &organization, &admin, code.expose(), &by).await }
    };
    match to_its_end(trying).await? {
        Ok(()) => {
            app.sign_ins.forget(guess);
            let page = settings_page(&app, &place.organization);
            Ok(redirect(&format!("{page}?done={}", Done::Recovered.as_str())))
        }
        Err(NotDone::Refused(code @ ErrorCode::SettingsRecoveryCodeWrong)) => {
            let page = recover_page(&app, &visit, &place, Problems::one("code", code)).await?;
            Ok(show_with(StatusCode::UNPROCESSABLE_ENTITY, &page))
        }
        Err(reason) => Err(reason.into()),
    }
}
