//! The JSON API of an organization: what its own programs may read with its token (docs/adr/0041).
//!
//! In: `Authorization: Bearer dwo_…`. Out: JSON, or an RFC 9457 problem document; never a page, whoever asks.
//! Invariant: a handler gets its organization from the token, which the route's access rule compared with the path
//! (rule 7); nothing here changes anything but the note of when a token was last used.

pub mod openapi;

use axum::extract::{Query, State};
use axum::response::{IntoResponse as _, Response};
use doorward_core::api_scope::ApiScope;
use doorward_core::error_code::ErrorCode;
use doorward_core::ids::ApiTokenId;
use doorward_core::secret::Secret;
use doorward_core::time::{Lifetime, Timestamp};
use http::header::{ACCEPT, AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE};
use http::request::Parts;
use http::{HeaderMap, HeaderValue};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::app::{App, SharedApp};
use crate::audit_export::event_as_json;
use crate::gate::Question;
use crate::gate::explain::{Address, Asker, SsoTried, explain, split_url};
pub use doorward_core::access_token::API_TOKEN_PREFIX;

use crate::random::{NoRandomness, Random};
use crate::refusal::Refusal;
use crate::store::{
    AccountFacts, ApiToken, Organization, load_account_by_name, load_api_token, load_members, load_resources,
};

/// Calls a minute with one token.
pub const CALLS_A_MINUTE: u32 = 120;
/// Longest address that is asked about, in bytes.
const URL_BYTES_MAX: usize = 2048;
/// Entries of a page of members or events.
const PAGE: i64 = 200;

/// A new token, to be shown once.
pub fn new_api_token(random: &Random) -> Result<Secret, NoRandomness> {
    Ok(Secret::new(format!("{API_TOKEN_PREFIX}{}", random.token()?.expose())))
}

/// A call that the route's access rule has let in.
#[derive(Clone, Debug)]
pub struct ApiCall {
    organization: Organization,
}

/// Whether the request carries a good token of the organization in its path, with the scope that the path asks for.
/// Whoever has none learns nothing of which organizations exist.
pub(super) async fn admit(app: &SharedApp, parts: &Parts, organization: &str) -> Result<ApiCall, Refusal> {
    let needed = || Refusal::new(ErrorCode::ApiTokenNeeded);
    let now = app.clock.now();
    let token = bearer(&parts.headers).ok_or_else(needed)?;
    let found = load_api_token(&mut app.store.reader(), token.hash()).await?;
    let (token, own) = found.filter(|(token, _)| token.is_good(now)).ok_or_else(needed)?;
    if !own.name.as_str().eq_ignore_ascii_case(organization) {
        return Err(needed());
    }
    if let Err(seconds) = app.api_calls.take(token.id, now) {
        return Err(Refusal::new(ErrorCode::ApiTooManyCalls).with_retry_after(seconds));
    }
    let scope = parts.uri.path().rsplit('/').next().and_then(ApiScope::from_text);
    if scope.is_none_or(|scope| !token.scopes.contains(&scope)) {
        return Err(Refusal::new(ErrorCode::ApiScopeMissing));
    }
    note_use(app, &token, now);
    Ok(ApiCall { organization: own })
}

/// Notes beside the call that a token was used, as with a session: a store that can't write is no reason to refuse.
fn note_use(app: &SharedApp, token: &ApiToken, now: Timestamp) {
    if !token.is_to_be_touched(now) {
        return;
    }
    let Ok(place) = Arc::clone(&app.notes_of_use).try_acquire_owned() else { return };
    let (app, id) = (Arc::clone(app), token.id);
    crate::logging::spawn(async move {
        let _place = place;
        let noted = async {
            let mut tx = app.store.begin().await?;
            tx.touch_api_token(id, now).await?;
            tx.commit(now).await
        };
        if let Err(error) = noted.await {
            tracing::warn!(%error, "a token's use could not be noted");
        }
    });
}

/// The one token of a request, if it has the form of ours: nothing else is looked up.
fn bearer(headers: &HeaderMap) -> Option<Secret> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return None };
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    let random = token.strip_prefix(API_TOKEN_PREFIX)?;
    let formed =
        random.len() == 43 && random.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
    (scheme.eq_ignore_ascii_case("bearer") && formed).then(|| Secret::new(token.to_owned()))
}

/// Counts calls of tokens within a minute. Only good tokens come here, so the table is as small as their number.
#[derive(Debug, Default)]
pub struct ApiCalls(Mutex<HashMap<ApiTokenId, (Timestamp, u32)>>);

/// Tokens that are counted at the same time; beyond, the counts of past minutes are dropped.
const COUNTED_MAX: usize = 10_000;

impl ApiCalls {
    /// Takes one call, or says in how many seconds there is one again.
    fn take(&self, token: ApiTokenId, now: Timestamp) -> Result<(), i64> {
        let minute = Lifetime::from_minutes(1);
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.len() >= COUNTED_MAX {
            counts.retain(|_, (began, _)| now.since(*began) < minute);
        }
        let (began, calls) = counts.entry(token).or_insert((now, 0));
        let age = now.since(*began);
        // A clock that went back begins a new minute too.
        if age >= minute || age < Lifetime::from_millis(0) {
            (*began, *calls) = (now, 0);
        }
        if *calls >= CALLS_A_MINUTE {
            return Err(began.plus(minute).since(now).seconds() + 1);
        }
        *calls += 1;
        Ok(())
    }
}

type Answered = Result<Response, Refusal>;

fn answer(body: &impl serde::Serialize) -> Response {
    let mut response = axum::Json(body).into_response();
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// The parameters of an address; an unknown one is refused, so that a slip of the pen is not taken for a wish.
fn parameters<T>(query: Result<Query<T>, axum::extract::rejection::QueryRejection>) -> Result<T, Refusal> {
    query.map(|Query(parameters)| parameters).map_err(|_| Refusal::new(ErrorCode::ApiParameterInvalid))
}

/// What `…/decision` takes.
#[derive(Deserialize, Debug)]
#[serde(deny_unknown_fields)]
pub struct DecisionParameters {
    url: String,
    #[serde(default = "get")]
    method: String,
    account: Option<String>,
    sso: Option<SsoParameter>,
    #[serde(default)]
    client: ClientParameter,
}

fn get() -> String {
    "GET".to_owned()
}

#[derive(Deserialize, Clone, Copy, Debug)]
#[serde(rename_all = "snake_case")]
enum SsoParameter {
    Complete,
    Missing,
    None,
}

#[derive(Deserialize, Clone, Copy, PartialEq, Eq, Default, Debug)]
#[serde(rename_all = "snake_case")]
enum ClientParameter {
    #[default]
    Browser,
    Program,
}

/// `GET …/decision`: what the gate would answer, and why. About this organization's targets alone: another's is answered
/// as one that nobody has.
pub async fn decision(
    State(app): State<SharedApp>,
    call: ApiCall,
    query: Result<Query<DecisionParameters>, axum::extract::rejection::QueryRejection>,
) -> Answered {
    let asked = parameters(query)?;
    if asked.url.len() > URL_BYTES_MAX || asked.method.len() > 32 {
        return Err(ErrorCode::ApiParameterInvalid.into());
    }
    let elsewhere = || Refusal::new(ErrorCode::ApiTargetElsewhere);
    let Address { application, host, target } = split_url(&app, &asked.url).map_err(|_| elsewhere())?;
    // A host of another organization's is nobody's, even where its address can't be read.
    let of_host = application.gate.organization_of_host(&host);
    if of_host.is_some_and(|name| name != call.organization.name.key()) {
        return Err(elsewhere());
    }
    let mut headers = HeaderMap::new();
    let accept = if asked.client == ClientParameter::Browser { "text/html" } else { "*/*" };
    headers.insert(ACCEPT, HeaderValue::from_static(accept));
    let question = Question { application, host, method: &asked.method, target, headers: &headers };
    let asker = match &asked.account {
        None => Asker::Stranger,
        Some(name) => Asker::Account(known_to(&app, &call, name).await?, tried(asked.sso)),
    };
    let explanation = explain(&app, &question, &asker).await?;
    // What can't be read on a host that organizations share is nobody's, and says nothing of anybody.
    if explanation.refused.is_none() && explanation.owner != Some(call.organization.id) {
        return Err(elsewhere());
    }
    Ok(answer(&explanation))
}

fn tried(sso: Option<SsoParameter>) -> SsoTried {
    match sso {
        None => SsoTried::AsItIs,
        Some(SsoParameter::Complete) => SsoTried::Complete,
        Some(SsoParameter::Missing) => SsoTried::Missing,
        Some(SsoParameter::None) => SsoTried::None,
    }
}

/// The account of that name as the organization may know it: its member, or somebody of whom nothing is said, not even
/// whether he exists.
async fn known_to(app: &App, call: &ApiCall, name: &str) -> Result<Arc<AccountFacts>, Refusal> {
    let now = app.clock.now();
    if let Some(account) = load_account_by_name(&mut app.store.reader(), name).await?
        && let Some(facts) = app.store.account_facts(account.id, now).await?
        && facts.memberships.iter().any(|membership| membership.organization == call.organization.id)
    {
        return Ok(facts);
    }
    Ok(Arc::new(AccountFacts::of_nobody(&name.chars().take(100).collect::<String>())))
}

/// What a list takes: the last entry of the page before.
#[derive(Deserialize, Debug)]
#[serde(deny_unknown_fields)]
pub struct MembersParameters {
    #[serde(default)]
    after: String,
}

/// `GET …/members`: members by name, in pages.
pub async fn members(
    State(app): State<SharedApp>,
    call: ApiCall,
    query: Result<Query<MembersParameters>, axum::extract::rejection::QueryRejection>,
) -> Answered {
    let after = parameters(query)?.after.to_ascii_lowercase();
    if after.len() > 200 || after.contains('\0') {
        return Err(ErrorCode::ApiParameterInvalid.into());
    }
    let now = app.clock.now();
    let members = load_members(&mut app.store.reader(), call.organization.id, "", &after, PAGE).await?;
    let next = next_page(members.len(), members.last().map(|last| json!(last.name.key())));
    let members: Vec<Value> = members
        .iter()
        .map(|member| {
            json!({
                "account": member.account.to_string(),
                "name": member.name.as_str(),
                "full_name": member.full_name,
                "role": member.role.as_str(),
                "external_collaborator": member.external_collaborator.spares(now),
            })
        })
        .collect();
    Ok(answer(&json!({ "members": members, "next": next })))
}

/// `GET …/resources`: resources that are registered; every other one is private.
pub async fn resources(State(app): State<SharedApp>, call: ApiCall) -> Answered {
    let resources = load_resources(&mut app.store.reader(), call.organization.id).await?;
    let resources: Vec<Value> = resources
        .iter()
        .map(
            |resource| json!({ "prefix": resource.prefix, "name": resource.name, "public": resource.public }),
        )
        .collect();
    Ok(answer(&json!({ "resources": resources })))
}

/// What the audit log takes: the number of the last event of the page before.
#[derive(Deserialize, Debug)]
#[serde(deny_unknown_fields)]
pub struct AuditLogParameters {
    #[serde(default)]
    after: i64,
}

/// `GET …/audit-log`: events in their order, in pages, each as the export has it.
pub async fn audit_log(
    State(app): State<SharedApp>,
    call: ApiCall,
    query: Result<Query<AuditLogParameters>, axum::extract::rejection::QueryRejection>,
) -> Answered {
    let after = parameters(query)?.after.max(0);
    let Organization { id, name, .. } = &call.organization;
    let records = app.store.reader().audit_after(*id, after, PAGE).await?;
    let next = next_page(records.len(), records.last().map(|last| json!(last.sequence)));
    let events: Vec<Value> =
        records.iter().map(|record| event_as_json(name.as_str(), &id.to_string(), record)).collect();
    Ok(answer(&json!({ "events": events, "next": next })))
}

/// What to give as `after` for the next page; nothing on the last.
fn next_page(entries: usize, last: Option<Value>) -> Option<Value> {
    last.filter(|_| i64::try_from(entries).is_ok_and(|entries| entries >= PAGE))
}

/// `GET /api/openapi.json`.
pub async fn description(State(app): State<SharedApp>) -> Response {
    let document = openapi::document(&app.configuration.base_url.to_string());
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static("application/json")),
        (CACHE_CONTROL, HeaderValue::from_static("public, max-age=300")),
    ];
    (headers, document.to_string()).into_response()
}
