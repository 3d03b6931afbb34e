//! Our own pages: for each a context, its template, and samples that a test renders.
//!
//! Each file holds the pages of one area. In: values that were loaded and checked elsewhere. Out: HTML.

pub mod access_tokens;
pub mod account;
pub mod account_delete;
pub mod answer;
pub mod audit_log;
pub mod home;
pub mod join;
pub mod join_link;
pub mod link_requests;
pub mod members;
pub mod organization;
pub mod organization_tokens;
pub mod recovery;
pub mod sign_in;
pub mod sso;
pub mod sso_link;
pub mod sso_settings;
pub mod sso_start;
pub mod sso_users;

#[cfg(test)]
mod samples;
#[cfg(test)]
mod tests;

use doorward_core::audit_event::AuditAction;
use doorward_core::error_code::ErrorCode;
use doorward_core::finding::Step;
use doorward_core::ids::OrganizationId;

use crate::logging;
use crate::refusal::Refusal;
use crate::store::AuditEntry;
use crate::web::visit::Visit;

/// What a deed of the signed-in visitor leaves in the audit log.
pub(super) fn audited(
    visit: &Visit,
    organization: Option<OrganizationId>,
    action: AuditAction,
    details: Vec<(&'static str, String)>,
) -> Result<AuditEntry, Refusal> {
    Ok(AuditEntry {
        organization,
        action,
        actor: visit.account()?.actor(),
        details,
        address: visit.address,
        request_id: Some(visit.request_id.clone()),
    })
}

/// Carries work to its end on a task of its own, whether or not anybody waits for the answer: a client that hangs up drops
/// the handler of its request wherever that waits, and with it what it would have counted and written down.
async fn to_its_end<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> Result<T, Refusal> {
    logging::spawn(work).await.map_err(|error| {
        tracing::error!(%error, "the work of a request broke off");
        Refusal::new(ErrorCode::ServiceInternal)
    })
}

/// A step of a trip, in words.
pub const fn step_label(step: Step) -> &'static str {
    match step {
        Step::Settings => "Settings",
        Step::Discovery => "Discovery",
        Step::Authorization => "Authorization",
        Step::Token => "Token",
        Step::IdToken => "ID token",
        Step::Userinfo => "UserInfo",
        Step::Policy => "Policy",
    }
}
