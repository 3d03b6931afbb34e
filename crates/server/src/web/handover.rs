//! Hands a browser session over to an application's host (rule 11).
//!
//! ```text
//!  application's host                         our own host
//!  /.doorward/start   sets a nonce cookie ──▶ /.doorward/handover   makes a ticket, bound to host and nonce
//!  /.doorward/ticket  takes it, once      ◀──
//! ```
//!
//! The host's session is a child of the browser session: it counts on that host alone and ends with its parent.

use axum::extract::Request;
use axum::response::{IntoResponse as _, Response};
use doorward_core::error_code::ErrorCode;
use doorward_core::request_target::normalise_host;
use doorward_core::secret::{Secret, TokenHash};
use doorward_core::time::Lifetime;
use http::header::SET_COOKIE;
use http::request::Parts;
use std::collections::HashMap;

use super::access::{finish, query, redirect, sign_in_page};
use super::applications::{refuse, write};
use super::assets;
use super::banner;
use super::loops::{self, Sight};
use super::visit::Visit;
use crate::app::{App, SharedApp};
use crate::client_address::is_trusted_proxy;
use crate::configuration::Application;
use crate::cookies::Cookie;
use crate::gate::auth_request::read as read_question;
use crate::gate::{Outcome, ask, origin};
use crate::header_names::DOORWARD_CODE;
use crate::logging::Arrival;
use crate::refusal::Refusal;
use crate::session::signed_in;
use crate::store::{NewTicket, ticket_is_there};

/// A ticket is worth nothing after this (decisions.md).
const TICKET_LIFETIME: Lifetime = Lifetime::from_seconds(60);

/// An application's host: the one that was asked, or that a hand-over is for.
type OnHost<'h> = (&'h Application, &'h str);

/// Answers what lies under `/.doorward/` on the main listener. `on`: the application's host that was asked, if it was one.
pub(super) async fn serve(app: &SharedApp, on: Option<OnHost<'_>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let visit = Visit::of_stranger(&parts);
    // Style and script of the pages that appear on an application's host.
    if let Some(asset) = parts.uri.path().strip_prefix("/.doorward/assets/") {
        let answer = assets::answer(asset, parts.uri.query());
        return finish(
            app,
            &visit,
            answer.unwrap_or_else(|| Refusal::new(ErrorCode::PageNotFound).into_response()),
        );
    }
    let answered = match (parts.uri.path(), on) {
        ("/.doorward/start", Some((_, host))) => start(app, host, &visit, &parts),
        ("/.doorward/ticket", Some((_, host))) => ticket(app, host, &visit, &parts).await,
        ("/.doorward/sign-out", Some(_)) => Ok(redirect(&app.configuration.base_url.join("/logout"))),
        ("/.doorward/banner", _) => match on.map(|(_, host)| host).or_else(|| shared_host(app)) {
            Some(host) => banner::dismiss(app, host, &parts, body).await,
            None => Err(ErrorCode::PageNotFound.into()),
        },
        ("/.doorward/answer", Some(_)) => return answer(app, &visit, &parts).await,
        ("/.doorward/handover", None) => handover(app, &parts).await,
        _ => Err(ErrorCode::PageNotFound.into()),
    };
    match answered {
        Ok(response) => finish(app, &visit, response),
        Err(refusal) => refuse(app, &visit, &refusal),
    }
}

/// Our own host, if an application shares it.
fn shared_host(app: &App) -> Option<&str> {
    let own = app.configuration.base_url.host.as_str();
    app.configuration.application_in_place(own).map(|_| own)
}

fn parameters(parts: &Parts) -> HashMap<String, String> {
    let query = parts.uri.query().unwrap_or_default();
    form_urlencoded::parse(query.as_bytes()).take(8).map(|(n, v)| (n.into_owned(), v.into_owned())).collect()
}

/// A path of the application's host to go on to (our own host, if it shares that); anything else is its front page.
pub(super) fn next_on(app: &App, host: &str, parameters: &HashMap<String, String>) -> String {
    let front = || "/".to_owned();
    let Some(next) = parameters.get("next").filter(|next| next.starts_with('/')) else { return front() };
    let base = origin(app, host);
    match app.return_to(&format!("{base}{next}")) {
        Some(to) if to.is_same_origin() => to.location().to_owned(),
        Some(to) => to.location().strip_prefix(base.as_str()).map_or_else(front, str::to_owned),
        None => front(),
    }
}

/// On the application's host: sets the nonce cookie, unless the browser has one, and goes to our own host.
fn start(app: &App, host: &str, visit: &Visit, parts: &Parts) -> Result<Response, Refusal> {
    if !visit.navigation {
        return Err(ErrorCode::AccountSignInNeeded.into());
    }
    let next = next_on(app, host, &parameters(parts));
    let (nonce, new) = match Cookie::Handover.read(&parts.headers, app.https()) {
        Some(hash) => (hash, None),
        None => {
            let token = app.random.token()?;
            (token.hash(), Some(token))
        }
    };
    let parameters = query(&[
        ("host", host),
        ("handover", &nonce.to_text()),
        ("next", &next),
        ("seen", Sight::of(app, host, &parts.headers).as_str()),
    ]);
    // Our own host's root: hand-over lies beside the base URL's path, not under it (decisions.md).
    let mut response =
        redirect(&format!("{}/.doorward/handover?{parameters}", app.configuration.base_url.origin));
    if let Some(cookie) = new.and_then(|token| Cookie::Handover.set(&token, app.https())) {
        response.headers_mut().append(SET_COOKIE, cookie);
    }
    Ok(response)
}

/// On our own host: makes a ticket for whoever is signed in, after asking him to sign in if need be.
async fn handover(app: &SharedApp, parts: &Parts) -> Result<Response, Refusal> {
    let visit = Visit::of(app, parts).await?;
    if !visit.navigation {
        return Err(ErrorCode::AccountSignInNeeded.into());
    }
    let parameters = parameters(parts);
    let text = |name: &str| parameters.get(name).map_or("", String::as_str);
    let host = normalise_host(text("host"), app.https()).ok_or(ErrorCode::GateReturnRefused)?;
    let application = app.configuration.application_on(&host).ok_or(ErrorCode::GateReturnRefused)?;
    let handover = TokenHash::from_text(text("handover")).ok_or(ErrorCode::RequestMalformed)?;
    let next = next_on(app, &host, &parameters);
    let Some((account, session)) =
        visit.signed_in.as_ref().and_then(|who| Some((&who.account, who.session()?)))
    else {
        return Ok(redirect(&sign_in_page(app, &visit.target)));
    };
    // A label of a wildcard host may lead anywhere: somebody's session goes to his own organizations' hosts alone. What
    // nobody owns is answered like what others own.
    if let Some(label) = application.gate.organization_in(&host) {
        let organization = app.store.organization_facts(label, app.clock.now()).await?;
        let is_member = organization.is_some_and(|organization| {
            account.memberships.iter().any(|membership| membership.organization == organization.id)
        });
        if !is_member {
            return Err(ErrorCode::GateForbidden.into());
        }
    }
    let start = loops::count(app, &parts.headers, &format!("{host}{next}"));
    if start.goes_in_circles {
        let code = Sight::from_text(text("seen")).code();
        tracing::warn!(%code, application = application.name(), "a browser goes in circles between two hosts");
        let again = format!("{}{next}", origin(app, &host));
        return Err(Refusal::new(code).with("host", &*host).with_action("Try again", again));
    }
    let now = app.clock.now();
    app.sign_ins.take_beginning(account.id, now).map_err(|wait| {
        let again = format!("{}{next}", origin(app, &host));
        Refusal::new(ErrorCode::AccountBeginsTooOften)
            .with_action("Go on", again)
            .with_retry_after(wait.seconds() + 1)
    })?;
    let ticket = app.random.token()?;
    let mut tx = app.store.begin().await?;
    tx.insert_ticket(&NewTicket {
        hash: ticket.hash(),
        session: session.id,
        host: host.as_ref().to_owned(),
        handover,
        next,
        expires_at: now.plus(TICKET_LIFETIME),
    })
    .await?;
    tx.commit(now).await?;
    let parameters = query(&[("ticket", ticket.expose())]);
    let mut response = redirect(&format!("{}/.doorward/ticket?{parameters}", origin(app, &host)));
    if let Some(cookie) = start.cookie {
        response.headers_mut().append(SET_COOKIE, cookie);
    }
    Ok(response)
}

/// On the application's host again: takes the ticket and begins the host's session.
async fn ticket(app: &SharedApp, host: &str, visit: &Visit, parts: &Parts) -> Result<Response, Refusal> {
    if !visit.navigation {
        return Err(ErrorCode::AccountSignInNeeded.into());
    }
    let parameters = parameters(parts);
    let sent = Secret::new(parameters.get("ticket").cloned().unwrap_or_default());
    let again = || {
        let start = format!("{}/.doorward/start?{}", origin(app, host), query(&[("next", "/")]));
        Refusal::new(ErrorCode::GateTicketExpired).with_action("Continue", start)
    };
    let now = app.clock.now();
    // Read first: a ticket that a stranger made up never takes the writer (rule 9).
    if let Some(nonce) = Cookie::Handover.read(&parts.headers, app.https())
        && ticket_is_there(&mut app.store.reader(), sent.hash(), host, nonce).await?
    {
        let mut tx = app.store.begin().await?;
        let taken = tx.take_ticket(sent.hash(), host, nonce, now).await?;
        let mut session = None;
        if let Some(ticket) = &taken {
            let token = app.random.token()?;
            tx.insert_host_session(token.hash(), ticket.session, ticket.account, host, now).await?;
            session = Some(token);
        }
        tx.commit(now).await?;
        if let (Some(ticket), Some(token)) = (taken, session) {
            let mut response = redirect(&ticket.next);
            if let Some(cookie) = Cookie::App.set(&token, app.https()) {
                response.headers_mut().append(SET_COOKIE, cookie);
            }
            return Ok(response);
        }
    }
    // A reload, or the slower of two tabs: whoever is through already is taken on (rule 18).
    match signed_in(app, Cookie::App.read(&parts.headers, app.https()), Some(host)).await? {
        Some(_) => Ok(redirect("/")),
        None => Err(again()),
    }
}

/// For nginx: the page or the problem document that its `auth_request` could not carry (decisions.md). It looks again, so
/// where the gate had refused the proxy itself, it would allow, and the browser would come back for ever.
async fn answer(app: &SharedApp, visit: &Visit, parts: &Parts) -> Response {
    if !may_ask(app, parts) {
        return refuse(app, visit, &Refusal::new(ErrorCode::GateUntrustedProxy));
    }
    match read_question(app, &parts.headers) {
        Err(code) => refuse(app, visit, &Refusal::new(code)),
        Ok(question) => {
            let (target, answer) = (question.target, ask(app, &question).await);
            match answer.outcome {
                // In the meantime he may: the page only has to be loaded again.
                Outcome::Allow => redirect(target),
                Outcome::Authenticate { .. } | Outcome::Refuse(_) => write(app, visit, &answer),
            }
        }
    }
}

/// Whether the proxy may ask the gate, as the gate has told it and as it is seen here: proxies whose configuration is from
/// before they passed the code on tell nothing.
fn may_ask(app: &App, parts: &Parts) -> bool {
    let refused = ErrorCode::GateUntrustedProxy.as_str();
    let peer = parts.extensions.get::<Arrival>().map(|arrival| arrival.peer.ip());
    parts.headers.get(DOORWARD_CODE).is_none_or(|code| code != refused)
        && peer.is_some_and(|peer| is_trusted_proxy(peer, &app.configuration.trusted_proxies))
}
