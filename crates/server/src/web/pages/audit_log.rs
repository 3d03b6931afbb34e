//! The audit log: who did what, when and from where (hub-sso.md A1 to A3).

use askama::Template;
use axum::body::Body;
use axum::extract::{Query, State};
use axum::response::Response;
use bytes::Bytes;
use doorward_core::audit_event::AuditAction;
use doorward_core::error_code::ErrorCode;
use futures_util::stream;
use http::HeaderValue;
use http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use serde::Deserialize;

use super::audited;
use super::sso::by;
use crate::app::SharedApp;
use crate::audit_export::AuditExport;
use crate::clock::Clock;
use crate::refusal::Refusal;
use crate::store::{AuditRecord, StoreError, count_audit_events};
use crate::web::access::redirect;
use crate::web::page::{Frame, Moment, OrganizationHead, Tab, show};
use crate::web::visit::{OrganizationVisit, Visit};

/// Entries on one page.
const PAGE: usize = 50;

/// One entry.
#[derive(Clone, Debug)]
pub struct AuditLine {
    /// Its number within the organization.
    pub sequence: i64,
    /// When.
    pub at: Moment,
    /// Who: the name at that time.
    pub actor: String,
    /// `account`, `operator` or `system`.
    pub actor_kind: String,
    /// The action's code.
    pub action: String,
    /// Named details.
    pub details: Vec<(String, String)>,
    /// The network that the request came from; empty if unknown.
    pub place: String,
    /// The request; empty if there was none.
    pub request_id: String,
}

impl AuditLine {
    /// What the action means; empty for a code of a newer version.
    fn meaning(&self) -> &'static str {
        AuditAction::from_code(&self.action).map_or("", AuditAction::meaning)
    }
}

/// `/organizations/ORG/settings/audit-log`.
#[derive(Template, Clone, Debug)]
#[template(path = "audit_log.html")]
pub struct AuditLogPage {
    /// The frame.
    pub frame: Frame,
    /// The organization.
    pub organization: OrganizationHead,
    /// The open tab.
    pub tab: Tab,
    /// The entries, the newest first.
    pub entries: Vec<AuditLine>,
    /// The chosen action; empty for all.
    pub action: String,
    /// Where the next, older page begins.
    pub next_before: Option<i64>,
    /// Whether newer entries lie before this page.
    pub has_newer: bool,
    /// An application shares our host (rule 11).
    pub same_host_trusted: bool,
}

impl AuditLogPage {
    fn is_chosen(&self, code: &str) -> bool {
        self.action == code
    }

    /// Actions that an organization's log can have.
    fn actions() -> Vec<&'static str> {
        let of_organizations = |action: &AuditAction| !action.as_str().starts_with("account.");
        AuditAction::ALL.iter().filter(|a| of_organizations(a)).map(|action| action.as_str()).collect()
    }
}

impl From<AuditRecord> for AuditLine {
    fn from(record: AuditRecord) -> Self {
        let text = |value: &serde_json::Value| match value {
            serde_json::Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        Self {
            sequence: record.sequence,
            at: record.at.into(),
            actor: record.actor_name,
            actor_kind: record.actor_kind,
            action: record.action,
            details: record
                .details
                .iter()
                .filter(|(_, value)| value.as_str() != Some(""))
                .map(|(name, value)| (name.clone(), text(value)))
                .collect(),
            place: record.address.unwrap_or_default(),
            request_id: record.request_id.unwrap_or_default(),
        }
    }
}

/// The query of the page.
#[derive(Debug, Default, Deserialize)]
pub struct AuditQuery {
    /// Keep one action; empty: all.
    #[serde(default)]
    action: String,
    /// Entries before this number.
    #[serde(default)]
    before: String,
}

/// `GET /organizations/ORG/settings/audit-log`.
pub async fn show_log(
    State(app): State<SharedApp>,
    visit: Visit,
    place: OrganizationVisit,
    Query(query): Query<AuditQuery>,
) -> Result<Response, Refusal> {
    // A code that nobody knows finds nothing anyway; it only must not be long.
    let action: String = query.action.chars().take(100).collect();
    let before: Option<i64> = query.before.parse().ok();
    let filter = (!action.is_empty()).then_some(action.as_str());
    let limit = i64::try_from(PAGE + 1).unwrap_or(i64::MAX);
    let mut records = app
        .store
        .reader()
        .audit_page(place.organization.id, filter, before.unwrap_or(i64::MAX), limit)
        .await?;
    let more = records.len() > PAGE;
    records.truncate(PAGE);
    Ok(show(&AuditLogPage {
        frame: Frame::of(&app, &visit),
        organization: OrganizationHead::of(&place),
        tab: Tab::AuditLog,
        next_before: records.last().filter(|_| more).map(|record| record.sequence),
        has_newer: before.is_some(),
        entries: records.into_iter().map(AuditLine::from).collect(),
        action,
        same_host_trusted: app.configuration.shares_host_with_application(),
    }))
}

/// Where the download stands.
struct Download {
    export: AuditExport,
    clock: Clock,
    after: i64,
    ended: bool,
}

impl Download {
    /// The next piece of a JSON array; `None` at the end.
    async fn next(&mut self) -> Result<Option<Bytes>, StoreError> {
        if self.ended {
            return Ok(None);
        }
        let is_first = self.after == 0;
        let mut pieces: Vec<String> =
            self.export.next(&mut self.after).await?.iter().map(ToString::to_string).collect();
        let end = if pieces.is_empty() {
            self.ended = true;
            let (end, wrong) = self.export.end(self.clock.now())?;
            if let Some(wrong) = wrong {
                tracing::error!(%wrong, "a downloaded audit log does not fit its chain");
            }
            pieces.push(end.to_string());
            "\n]\n"
        } else {
            ""
        };
        let start = if is_first { "[\n" } else { ",\n" };
        Ok(Some(format!("{start}{}{end}", pieces.join(",\n")).into()))
    }
}

/// `GET …/settings/audit-log/download`: the whole log as JSON, in its order, with a checkpoint at the end; itself an
/// event, written first.
pub async fn download(
    State(app): State<SharedApp>,
    visit: Visit,
    place: OrganizationVisit,
) -> Result<Response, Refusal> {
    let organization = &place.organization;
    // A link elsewhere must not put an event in an admin's name into the log, nor the log on his disk.
    if visit.from_foreign_site {
        return Ok(redirect(&app.page(&format!("/organizations/{}/settings/audit-log", organization.name))));
    }
    let now = app.clock.now();
    let mut tx = app.store.begin().await?;
    let may_widen = by(&visit)?.lock_as_fresh_admin(&mut tx, organization.id, now).await??;
    // Reading asks for less than a form of an admin's. Who was let in with single sign-on must have it still; who was let
    // in without, because he is spared it or it is optional, needs none here.
    if place.may_widen() && !may_widen {
        return Err(ErrorCode::SettingsSsoNeeded.into());
    }
    let count = count_audit_events(&mut tx, organization.id).await? + 1;
    let details = vec![("count", count.to_string())];
    let entry = audited(&visit, Some(organization.id), AuditAction::OrgAuditLogExport, details)?;
    let last = tx.audit(entry, now).await?;
    tx.commit(now).await?;
    let export =
        AuditExport::new(app.store.clone(), &organization.id.to_string(), organization.name.as_str(), last);
    let download = Download { export, clock: app.clock.clone(), after: 0, ended: false };
    let pieces = stream::try_unfold(download, |mut download| async move {
        let piece = download.next().await.inspect_err(|error| {
            tracing::error!(%error, "a download of the audit log broke off");
        })?;
        Ok::<_, StoreError>(piece.map(|piece| (piece, download)))
    });
    let mut response = Response::new(Body::from_stream(pieces));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let name = format!("attachment; filename=\"{}-audit-log.json\"", organization.name);
    if let Ok(name) = HeaderValue::try_from(name) {
        headers.insert(CONTENT_DISPOSITION, name);
    }
    Ok(response)
}
