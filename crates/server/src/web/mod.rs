//! The main listener: our own pages, applications behind the built-in proxy, and the hand-over between the two.
//!
//! Every page is one line of the route list below, with what it asks of its visitor; `access.rs` enforces it.

pub mod access;
pub mod api;
mod applications;
pub mod assets;
mod banner;
pub mod body_start;
mod handover;
pub mod loops;
pub mod page;
pub mod pages;
pub mod throttle;
pub mod visit;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{MethodRouter, get, post};
use doorward_core::error_code::ErrorCode;
use doorward_core::request_target::{normalise_host, normalise_path};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, HOST};
use http::request::Parts;
use http::{HeaderValue, Method, StatusCode};
use http_body::Body as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use tower::{ServiceExt as _, service_fn};

use crate::app::SharedApp;
use crate::client_address::ClientAddress;
use crate::gate::Answer;
use crate::logging::{Arrival, RequestId};
use crate::refusal::Refusal;
use crate::security_headers;
use crate::store::StoreError;
use access::Access;
use applications::AnsweredBy;
use pages::{
    access_tokens, account, account_delete, audit_log, home, join, join_link, link_requests, members,
    organization, organization_tokens, recovery, sign_in, sso, sso_link, sso_settings, sso_users,
};
use visit::Visit;

/// One page or form: its path under the base URL, what it asks of its visitor, and who answers.
pub struct Route {
    /// Path, with `{org}` for an organization's name.
    pub path: &'static str,
    /// HTTP method.
    pub method: &'static str,
    /// What it asks of its visitor.
    pub access: Access,
    handler: MethodRouter<SharedApp>,
}

impl Route {
    /// The same route, answered by somebody else: for a proof that wants to see what becomes of a handler's fault.
    #[must_use]
    pub fn answered_by(self, handler: MethodRouter<SharedApp>) -> Self {
        Self { handler, ..self }
    }
}

impl std::fmt::Debug for Route {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} {:?}", self.method, self.path, self.access)
    }
}

macro_rules! routes {
    ($( $method:ident $path:literal $access:ident $handler:expr; )*) => {
        vec![$(Route {
            path: $path,
            method: stringify!($method),
            access: Access::$access,
            handler: $method($handler),
        }),*]
    };
}

/// Every page and form, with what it asks of its visitor.
#[rustfmt::skip]
pub fn routes() -> Vec<Route> {
    routes! {
        // Accounts.
        get  "/"                                             Account           home::show_home;
        get  "/login"                                        Anyone            sign_in::show_sign_in;
        post "/login"                                        Anyone            sign_in::sign_in;
        get  "/login/first"                                  Anyone            sign_in::show_first_operator;
        post "/login/first"                                  Anyone            sign_in::make_first_operator;
        get  "/join"                                         Anyone            join::show_sign_up;
        post "/join"                                         Anyone            join::sign_up;
        get  "/logout"                                       Anyone            sign_in::show_sign_out;
        post "/logout"                                       Anyone            sign_in::sign_out;
        get  "/settings/account"                             Account           account::show_account;
        post "/settings/account/name"                        Account           account::change_name;
        post "/settings/account/password"                    Account           account::change_password;
        post "/settings/account/sessions/end"                Account           account::end_sessions;
        // An admin's account ends as his membership does: with what `Leaving` asks for.
        get  "/settings/account/delete"                      Account           account_delete::show_delete;
        post "/settings/account/delete"                      Account           account_delete::delete;
        get  "/settings/tokens"                              Account           access_tokens::show_tokens;
        get  "/settings/tokens/new"                          FreshAccount      access_tokens::show_new_token;
        post "/settings/tokens/new"                          FreshAccount      access_tokens::make_token;
        post "/settings/tokens/revoke"                       Account           access_tokens::revoke_token;
        // Asks for the organization's SSO in this browser.
        post "/settings/tokens/authorize"                    Account           access_tokens::authorize_token;
        post "/settings/tokens/authorize/revoke"             Account           access_tokens::take_authorization_back;
        get  "/assets/{name}"                                Anyone            assets::serve;
        get  "/.well-known/jwks.json"                        Anyone            assertion_keys;

        // Organizations: general settings, members, audit log.
        get  "/organizations/new"                            Account           organization::show_new;
        post "/organizations/new"                            Account           organization::create;
        get  "/organizations/{org}/settings"                 Admin             organization::show_general;
        post "/organizations/{org}/settings"                 Admin             organization::change_general;
        get  "/organizations/{org}/settings/members"         Member            members::show_members;
        // For the role of an admin these two need what FreshAdminWithSso needs (`must_be_able_to_widen`).
        post "/organizations/{org}/settings/members"         Admin             members::add;
        post "/organizations/{org}/settings/members/role"    Admin             members::change_role;
        post "/organizations/{org}/settings/members/remove"  Admin             members::remove;
        post "/organizations/{org}/settings/members/links/approve" FreshAdminWithSso link_requests::approve_link;
        post "/organizations/{org}/settings/members/links/refuse"  Admin             link_requests::refuse_link;
        post "/organizations/{org}/settings/members/links/remove"  FreshAdminWithSso link_requests::remove_link;
        post "/organizations/{org}/settings/members/invitations" Admin         members::invite;
        post "/organizations/{org}/settings/members/invitations/revoke" Admin  members::revoke_invitation;
        get  "/organizations/{org}/leave"                    Leaving           members::show_leave;
        post "/organizations/{org}/leave"                    Leaving           members::leave;
        get  "/organizations/{org}/join"                     Account           join::show_confirm;
        post "/organizations/{org}/join"                     Account           join::confirm_join;
        get  "/organizations/{org}/join/{token}"             Anyone            join::show_join;
        post "/organizations/{org}/join/{token}"             Account           join::join;
        get  "/organizations/{org}/settings/tokens"          Admin             organization_tokens::show_tokens;
        // For more days this one needs what FreshAdminWithSso needs (`must_be_able_to_widen`).
        post "/organizations/{org}/settings/tokens"          Admin             organization_tokens::change_days;
        post "/organizations/{org}/settings/tokens/revoke"   Admin             organization_tokens::revoke_authorization;
        get  "/organizations/{org}/settings/audit-log"       Admin             audit_log::show_log;
        get  "/organizations/{org}/settings/audit-log/download" Admin          audit_log::download;

        // Single sign-on: its settings, and the way through it.
        // What is FreshAdmin needs no SSO, so on a live connection each takes another secret and nothing else, but with
        // SSO or a recovery code (`OrganizationVisit::may_widen`).
        get  "/organizations/{org}/settings/sso"             FreshAdmin        sso_settings::show_settings;
        get  "/organizations/{org}/settings/sso/users"       FreshAdminWithSso sso_users::show_users;
        post "/organizations/{org}/settings/sso/oidc"        FreshAdmin        sso::update_and_test;
        post "/organizations/{org}/settings/sso/test"        FreshAdmin        sso::test_again;
        post "/organizations/{org}/settings/sso/enable"      FreshAdmin        sso::enable_sso;
        post "/organizations/{org}/settings/sso/enforcement" FreshAdminWithSso sso::change_enforcement;
        post "/organizations/{org}/settings/sso/disable"     FreshAdminWithSso sso::disable_sso;
        post "/organizations/{org}/settings/sso/join-link"   FreshAdminWithSso join_link::make;
        post "/organizations/{org}/settings/sso/join-link/off" Admin           join_link::turn_off;
        post "/organizations/{org}/settings/sso/users"       FreshAdminWithSso sso::change_timeout;
        post "/organizations/{org}/settings/sso/users/guests" FreshAdminWithSso sso::change_guests;
        post "/organizations/{org}/settings/sso/users/collaborators" FreshAdminWithSso sso_users::add_collaborator;
        post "/organizations/{org}/settings/sso/users/collaborators/remove" Admin sso_users::remove_collaborator;
        get  "/organizations/{org}/settings/sso/recover"     FreshAdmin        recovery::show_recover;
        post "/organizations/{org}/settings/sso/recover"     FreshAdmin        recovery::use_code;
        post "/organizations/{org}/settings/sso/recovery-codes" FreshAdminWithSso recovery::make_new_codes;
        // API tokens belong here: making one widens entry, so FreshAdminWithSso.
        get  "/organizations/{org}/sso"                      Member            sso::show_sso;
        post "/organizations/{org}/sso"                      Member            sso::complete_sso;
        get  "/organizations/{org}/sso/link"                 Member            sso_link::show_link;
        post "/organizations/{org}/sso/link"                 Member            sso_link::ask_admins;
        get  "/organizations/{org}/oidc/consume"             Anyone            sso::consume;

        // The JSON API: the last segment is the scope that a token needs.
        get  "/api/openapi.json"                             Anyone            api::description;
        get  "/api/organizations/{org}/decision"             ApiToken          api::decision;
        get  "/api/organizations/{org}/members"              ApiToken          api::members;
        get  "/api/organizations/{org}/resources"            ApiToken          api::resources;
        get  "/api/organizations/{org}/audit-log"            ApiToken          api::audit_log;
    }
}

/// `GET /.well-known/jwks.json`: the keys that sign the identity assertion. Short-lived in caches, so that a key is known
/// long before it signs.
async fn assertion_keys(State(app): State<SharedApp>) -> Result<Response, Refusal> {
    let keys = app.assertions.key_set(&app, app.clock.now()).await?;
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static("application/jwk-set+json")),
        (CACHE_CONTROL, HeaderValue::from_static("public, max-age=300")),
    ];
    Ok((headers, keys.to_string()).into_response())
}

/// The pages under the base URL's path. Whole paths rather than a nested router, so that every handler sees the address
/// as it was asked.
fn pages_router(app: &SharedApp, routes: Vec<Route>) -> Router {
    let base = app.configuration.base_url.path.as_str();
    let mut router: Router<SharedApp> = Router::new();
    for Route { path, access, handler, .. } in routes {
        let handler = handler.route_layer(from_fn_with_state((app.clone(), access), access::enforce));
        // The front page answers without its last slash too.
        if path == "/" && !base.is_empty() {
            router = router.route(base, handler.clone());
        }
        router = router.route(&format!("{base}{path}"), handler);
    }
    router
        .method_not_allowed_fallback(|State(app): State<SharedApp>, request: Request| async move {
            plain_refusal(&app, request, ErrorCode::RequestMethodNotAllowed)
        })
        .fallback(not_a_page)
        .with_state(app.clone())
}

/// Not one of our pages: an application's, if one shares our host, else nothing.
async fn not_a_page(State(app): State<SharedApp>, request: Request) -> Response {
    let own_host = app.configuration.base_url.host.as_str();
    match (app.configuration.application_in_place(own_host), request.extensions().get().copied()) {
        (Some((place, _)), Some(arrival)) => {
            let host = own_host.to_owned();
            let served = applications::serve(Arc::clone(&app), place, host, request, arrival);
            let (mut response, by) = served.await;
            response.extensions_mut().insert(by);
            response
        }
        _ => plain_refusal(&app, request, ErrorCode::PageNotFound),
    }
}

fn plain_refusal(app: &SharedApp, request: Request, code: ErrorCode) -> Response {
    let (parts, _) = request.into_parts();
    let visit = Visit::of_stranger(&parts);
    access::finish(app, &visit, Refusal::new(code).into_response())
}

/// Answers the requests of the main listener.
pub type Answers = Arc<dyn Fn(Request, Arrival) -> BoxFuture<'static, Response> + Send + Sync>;

/// Who answers what on the main listener.
struct Main {
    app: SharedApp,
    /// `/healthz` and `/readyz`, on any host.
    probes: Router,
    pages: Router,
}

/// Everything on the main listener, by host. One function and not a router with layers: requests for applications pass
/// through here too, and each layer would cost them a future in a box and a copy of itself (bench/README.md).
pub fn answers(app: &SharedApp) -> Answers {
    answers_of(app, routes())
}

/// The same with another route list: for a proof that wants to know whether it would see a hole in it.
pub fn answers_of(app: &SharedApp, routes: Vec<Route>) -> Answers {
    let probes = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .with_state(app.clone());
    let main = Main { app: app.clone(), probes, pages: pages_router(app, routes) };
    Arc::new(move |request, arrival| Box::pin(answer(&main, request, arrival)))
}

/// `answers` as a router, for tests that ask without a listener: everybody comes from the same address.
pub fn router(app: &SharedApp) -> Router {
    let (answers, random) = (answers(app), app.random.clone());
    Router::new().fallback_service(service_fn(move |request: Request| {
        let peer = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let arrival = Arrival { id: RequestId::new(&random), peer, client: ClientAddress(peer.ip()) };
        answers(request, arrival).map(Ok)
    }))
}

/// Answers a request, whatever happens on the way.
fn answer(main: &Main, request: Request, arrival: Arrival) -> impl Future<Output = Response> + Send + use<> {
    let (https, is_head) = (main.app.https(), request.method() == Method::HEAD);
    let answering = catch_unwind(AssertUnwindSafe(|| dispatch(main, request, arrival)));
    async move {
        let answered = match answering {
            Ok(answering) => AssertUnwindSafe(answering).catch_unwind().await,
            Err(panic) => Err(panic),
        };
        let (mut response, by) = answered.unwrap_or_else(panicked);
        // Around everything else, so that no answer of ours can be without them.
        if by == AnsweredBy::Doorward {
            security_headers::set(response.headers_mut(), https);
            if is_head && !response.body().is_end_stream() {
                return without_body(response);
            }
        }
        response
    }
}

/// The answer to HEAD: the headers of the answer to GET. Over HTTP/2 nobody else takes the body off.
fn without_body(response: Response) -> Response {
    let (mut parts, body) = response.into_parts();
    if let (Some(length), false) = (body.size_hint().exact(), parts.headers.contains_key(CONTENT_LENGTH)) {
        parts.headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    Response::from_parts(parts, Body::empty())
}

/// Whether this node can serve: the store answers, its schema is ours, changes are read, and secrets can be sealed.
async fn ready(State(app): State<SharedApp>) -> Response {
    let now = app.clock.now();
    let reason = match app.store.ping().await {
        Err(StoreError::Schema(_)) => Some("the database's schema is not current"),
        Err(_) => Some("the database does not answer"),
        Ok(()) if !app.store.facts().is_trusted(now) => Some("changes have not been read lately"),
        Ok(()) if !app.sealing.can_seal() => {
            Some("the master key file is an older copy: copy it from a node that is ready")
        }
        Ok(()) => None,
    };
    match reason {
        None => axum::Json(serde_json::json!({ "ready": true })).into_response(),
        Some(reason) => {
            let body = axum::Json(serde_json::json!({ "ready": false, "reason": reason }));
            (StatusCode::SERVICE_UNAVAILABLE, body).into_response()
        }
    }
}

/// What answers a request. Only this is in a box, and only one of them is made: the future of every request would have
/// room for the largest, and be moved with it.
fn dispatch(
    main: &Main,
    mut request: Request,
    arrival: Arrival,
) -> BoxFuture<'static, (Response, AnsweredBy)> {
    let app = &main.app;
    let configuration = &app.configuration;
    let mut hosts = request.headers().get_all(HOST).iter();
    let host = match (hosts.next().and_then(|host| host.to_str().ok()), hosts.next()) {
        (Some(host), None) => normalise_host(host, app.https()).map(std::borrow::Cow::into_owned),
        _ => None,
    };
    let path = request.uri().path();
    let under_doorward = path.starts_with("/.doorward/");
    // Whatever could climb out of it is refused as it is elsewhere, not looked for here.
    let climbs = under_doorward && normalise_path(path).is_err();
    let is_probe = matches!(path, "/healthz" | "/readyz");
    let own = host.as_ref().is_some_and(|host| *host == configuration.base_url.host);
    let application = host.as_ref().and_then(|host| configuration.application_in_place(host));
    if let (Some((place, _)), false, false, false) = (application, own, under_doorward, is_probe) {
        return Box::pin(applications::serve(
            Arc::clone(app),
            place,
            host.unwrap_or_default(),
            request,
            arrival,
        ));
    }
    request.extensions_mut().insert(arrival);
    if is_probe || (own && !under_doorward) {
        let router = if is_probe { &main.probes } else { &main.pages };
        return Box::pin(router.clone().oneshot(request).map(|answered| {
            let mut response = answered.unwrap_or_else(|never| match never {});
            let by = response.extensions_mut().remove().unwrap_or(AnsweredBy::Doorward);
            (response, by)
        }));
    }
    let app = Arc::clone(app);
    Box::pin(async move {
        let response = match host {
            Some(_) if climbs => {
                let (parts, _) = request.into_parts();
                let visit = Visit::of_stranger(&parts);
                applications::refuse(&app, &visit, &Refusal::new(ErrorCode::GateAmbiguousTarget))
            }
            Some(_) if own => handover::serve(&app, None, request).await,
            Some(host) => match app.configuration.application_on(&host) {
                Some(application) => handover::serve(&app, Some((application, &host)), request).await,
                None => plain_refusal(&app, request, ErrorCode::RequestUnknownHost),
            },
            None => plain_refusal(&app, request, ErrorCode::RequestUnknownHost),
        };
        (response, AnsweredBy::Doorward)
    })
}

/// Writes an answer of the gate that is no allow, for a proxy that passes it on to the browser as it is.
pub fn write_answer(app: &SharedApp, asked: &Parts, answer: &Answer) -> Response {
    applications::write(app, &Visit::of_stranger(asked), answer)
}

#[expect(clippy::needless_pass_by_value, reason = "as `catch_unwind` gives it")]
fn panicked(panic: Box<dyn std::any::Any + Send + 'static>) -> (Response, AnsweredBy) {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
    tracing::error!(panic = text, "a handler panicked");
    (Refusal::new(ErrorCode::ServiceInternal).problem("", None), AnsweredBy::Doorward)
}
