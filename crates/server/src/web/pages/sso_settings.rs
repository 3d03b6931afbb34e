//! Placeholder until the pages land.

use axum::response::Response;
use doorward_core::error_code::ErrorCode;
use doorward_core::finding::Finding;

use crate::app::App;
use crate::refusal::Refusal;
use crate::sso::settings::{FieldMistake, SettingsForm};
use crate::web::visit::{OrganizationVisit, Visit};

/// The settings page with the fields as typed and what is wrong with them (422).
pub async fn show_mistakes(
    _app: &App,
    _visit: &Visit,
    _place: &OrganizationVisit,
    _form: &SettingsForm,
    mistakes: &[FieldMistake],
    finding: Option<&Finding>,
) -> Result<Response, Refusal> {
    let code =
        mistakes.first().map(|m| m.code).or(finding.map(|f| f.code)).unwrap_or(ErrorCode::ServiceInternal);
    Err(code.into())
}
