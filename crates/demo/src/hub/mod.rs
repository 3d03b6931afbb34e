//! The sample application: a small hub with public and private repositories of two organizations.
//!
//! It has no login of its own. Who somebody is, it reads from the headers that Doorward sets, and from nothing else;
//! so it must be reachable through Doorward alone, which is why it listens on loopback. Never here: any rule about
//! who may see what, except the last line of defence that an application should have (`shows_private`).

mod echo_socket;
#[cfg(test)]
mod tests;

use crate::serving::{assets, method_not_allowed, page, refuse_foreign_forms};
use askama::Template;
use axum::extract::{Path, RawForm, Request, State};
use axum::middleware::from_fn;
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use futures_util::stream;
use http::{HeaderMap, StatusCode};
use serde_json::json;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Every header of Doorward's contract, in the order of the page that shows them.
const IDENTITY_HEADERS: [&str; 9] = [
    "Remote-User",
    "Remote-Name",
    "Remote-Email",
    "Remote-Groups",
    "Doorward-Account",
    "Doorward-Organization",
    "Doorward-Role",
    "Doorward-Sso",
    "Doorward-Assertion",
];
/// Most notes that a repository keeps, and the longest one.
const NOTES_MAX: usize = 20;
const NOTE_LENGTH_MAX: usize = 200;

/// One repository of the sample.
#[derive(Clone, Copy)]
pub(crate) struct Repository {
    /// Organization, as in the path.
    pub(crate) organization: &'static str,
    /// Name, as in the path.
    pub(crate) name: &'static str,
    /// Whether everybody may read it. Doorward is told so; the sample only repeats it on its pages.
    pub(crate) public: bool,
    about: &'static str,
}

/// Everything that the sample holds.
pub(crate) const REPOSITORIES: [Repository; 4] = [
    Repository {
        organization: "acme",
        name: "website",
        public: true,
        about: "The site that everybody sees.",
    },
    Repository { organization: "acme", name: "secret", public: false, about: "What Acme keeps to itself." },
    Repository {
        organization: "globex",
        name: "handbook",
        public: true,
        about: "How Globex works, for everybody.",
    },
    Repository { organization: "globex", name: "plans", public: false, about: "What Globex is up to." },
];

/// What a handler gets.
pub(crate) struct Hub {
    /// Where Doorward's own pages are, for the links to it.
    doorward_url: String,
    /// Notes by (organization, repository), oldest first.
    notes: Mutex<Vec<(&'static str, &'static str, String)>>,
}

impl Hub {
    /// A hub whose people sign in at `doorward_url`.
    pub(crate) fn new(doorward_url: String) -> Self {
        Self { doorward_url, notes: Mutex::new(Vec::new()) }
    }

    fn notes_of(&self, repository: Repository) -> Vec<String> {
        let notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        let of_this =
            |kept: &&(&str, &str, String)| (kept.0, kept.1) == (repository.organization, repository.name);
        notes.iter().filter(of_this).map(|(_, _, text)| text.clone()).collect()
    }
}

/// Every address of the hub.
pub(crate) fn router(hub: Arc<Hub>) -> Router {
    Router::new()
        .route("/", get(front))
        .route("/whoami", get(whoami))
        .route("/try", get(try_it))
        .merge(assets())
        .route("/{organization}", get(organization))
        .route("/{organization}/{repository}", get(repository))
        .route("/{organization}/{repository}/data", get(data))
        .route("/{organization}/{repository}/events", get(events))
        .route("/{organization}/{repository}/socket", get(socket))
        .route("/{organization}/{repository}/notes", post(add_note))
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(from_fn(refuse_foreign_forms))
        .with_state(hub)
}

/// Who the application thinks somebody is: what Doorward said with this request, empty where it said nothing.
#[derive(Clone, Default)]
struct Identity {
    /// Opaque and never re-used: the one thing to key on.
    account: String,
    user: String,
    name: String,
    /// Organization of this request, if the person may act in it.
    organization: String,
    role: String,
    sso: String,
    /// Whether the request came through Doorward, which always sets every header.
    through_doorward: bool,
    /// Where the hub's own pages are for this browser, to come back to after signing in.
    hub_url: String,
}

impl Identity {
    fn of(headers: &HeaderMap) -> Self {
        let value = |name: &str| shown(headers, name).unwrap_or_default();
        Self {
            account: value("Doorward-Account"),
            user: value("Remote-User"),
            name: value("Remote-Name"),
            organization: value("Doorward-Organization"),
            role: value("Doorward-Role"),
            sso: value("Doorward-Sso"),
            through_doorward: headers.contains_key("Doorward-Account"),
            hub_url: format!("http://{}", value("Host")),
        }
    }

    /// The last line of defence: private content only with the organization's name beside the account, even if a
    /// mistake in the proxy's configuration let the request through.
    fn shows_private(&self, organization: &str) -> bool {
        !self.account.is_empty() && self.organization.eq_ignore_ascii_case(organization)
    }
}

/// A header's value as text. Doorward's are UTF-8.
fn shown(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
}

#[derive(Template)]
#[template(path = "hub/front.html")]
struct FrontPage {
    who: Identity,
    doorward_url: String,
    repositories: [Repository; 4],
}

async fn front(State(hub): State<Arc<Hub>>, headers: HeaderMap) -> Response {
    let who = Identity::of(&headers);
    let doorward_url = hub.doorward_url.clone();
    page(StatusCode::OK, &FrontPage { who, doorward_url, repositories: REPOSITORIES })
}

#[derive(Template)]
#[template(path = "hub/whoami.html")]
struct WhoamiPage {
    who: Identity,
    doorward_url: String,
    /// Name, and the value if the header came at all.
    headers: Vec<(&'static str, Option<String>)>,
}

async fn whoami(State(hub): State<Arc<Hub>>, headers: HeaderMap) -> Response {
    let who = Identity::of(&headers);
    let headers = IDENTITY_HEADERS.map(|name| (name, shown(&headers, name))).to_vec();
    page(StatusCode::OK, &WhoamiPage { who, doorward_url: hub.doorward_url.clone(), headers })
}

#[derive(Template)]
#[template(path = "hub/try.html")]
struct TryPage {
    who: Identity,
    doorward_url: String,
    repositories: [Repository; 4],
}

async fn try_it(State(hub): State<Arc<Hub>>, headers: HeaderMap) -> Response {
    let who = Identity::of(&headers);
    page(StatusCode::OK, &TryPage { who, doorward_url: hub.doorward_url.clone(), repositories: REPOSITORIES })
}

#[derive(Template)]
#[template(path = "hub/organization.html")]
struct OrganizationPage {
    who: Identity,
    doorward_url: String,
    organization: &'static str,
    repositories: Vec<Repository>,
}

async fn organization(
    State(hub): State<Arc<Hub>>,
    Path(organization): Path<String>,
    headers: HeaderMap,
) -> Response {
    let who = Identity::of(&headers);
    let of_this = |repository: &&Repository| repository.organization.eq_ignore_ascii_case(&organization);
    let repositories: Vec<_> = REPOSITORIES.iter().filter(of_this).copied().collect();
    let Some(first) = repositories.first() else { return not_found().await };
    if !who.shows_private(first.organization) {
        return not_without_doorward(&hub, who);
    }
    let doorward_url = hub.doorward_url.clone();
    page(
        StatusCode::OK,
        &OrganizationPage { who, doorward_url, organization: first.organization, repositories },
    )
}

#[derive(Template)]
#[template(path = "hub/repository.html")]
struct RepositoryPage {
    who: Identity,
    doorward_url: String,
    repository: Repository,
    notes: Vec<String>,
}

async fn repository(
    State(hub): State<Arc<Hub>>,
    Path(path): Path<(String, String)>,
    headers: HeaderMap,
) -> Response {
    let (who, repository) = match open(&hub, &path, &headers).await {
        Ok(opened) => opened,
        Err(refused) => return refused,
    };
    let notes = hub.notes_of(repository);
    page(StatusCode::OK, &RepositoryPage { who, doorward_url: hub.doorward_url.clone(), repository, notes })
}

/// Finds the repository and makes sure that it may be shown to whoever asks.
async fn open(
    hub: &Hub,
    path: &(String, String),
    headers: &HeaderMap,
) -> Result<(Identity, Repository), Response> {
    let (organization, name) = path;
    let who = Identity::of(headers);
    let found = REPOSITORIES.iter().copied().find(|repository| {
        repository.organization.eq_ignore_ascii_case(organization)
            && repository.name.eq_ignore_ascii_case(name)
    });
    match found {
        None => Err(not_found().await),
        Some(repository) if repository.public || who.shows_private(repository.organization) => {
            Ok((who, repository))
        }
        Some(_) => Err(not_without_doorward(hub, who)),
    }
}

/// For the fetch button: the content as JSON.
async fn data(
    State(hub): State<Arc<Hub>>,
    Path(path): Path<(String, String)>,
    headers: HeaderMap,
) -> Response {
    match open(&hub, &path, &headers).await {
        Ok((who, repository)) => Json(json!({
            "organization": repository.organization,
            "repository": repository.name,
            "about": repository.about,
            "read_by": who.user,
            "role": who.role,
        }))
        .into_response(),
        Err(refused) => refused,
    }
}

/// For the stream button: one line a second, for as long as somebody listens.
async fn events(
    State(hub): State<Arc<Hub>>,
    Path(path): Path<(String, String)>,
    headers: HeaderMap,
) -> Response {
    let repository = match open(&hub, &path, &headers).await {
        Ok((_, repository)) => repository,
        Err(refused) => return refused,
    };
    let lines = stream::unfold(0_u64, move |count| async move {
        if count > 0 {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        let line = format!("{}/{}: line {}", repository.organization, repository.name, count + 1);
        Some((Ok::<_, Infallible>(Event::default().data(line)), count + 1))
    });
    Sse::new(lines).into_response()
}

/// For the WebSocket button: says back what it hears.
async fn socket(
    State(hub): State<Arc<Hub>>,
    Path(path): Path<(String, String)>,
    request: Request,
) -> Response {
    match open(&hub, &path, request.headers()).await {
        Ok((_, repository)) => {
            echo_socket::upgrade(request, format!("{}/{}", repository.organization, repository.name))
        }
        Err(refused) => refused,
    }
}

/// A note written by a form: by Doorward's default rule a POST needs the role write.
async fn add_note(
    State(hub): State<Arc<Hub>>,
    Path(path): Path<(String, String)>,
    headers: HeaderMap,
    RawForm(form): RawForm,
) -> Response {
    let (who, repository) = match open(&hub, &path, &headers).await {
        Ok(opened) => opened,
        Err(refused) => return refused,
    };
    let typed =
        form_urlencoded::parse(&form).find(|(name, _)| name == "note").map(|(_, note)| note.into_owned());
    let note: String = typed.unwrap_or_default().trim().chars().take(NOTE_LENGTH_MAX).collect();
    if !note.is_empty() {
        let author = if who.user.is_empty() { "somebody" } else { &who.user };
        let mut notes = hub.notes.lock().unwrap_or_else(PoisonError::into_inner);
        notes.push((repository.organization, repository.name, format!("{author}: {note}")));
        let surplus = notes.len().saturating_sub(NOTES_MAX);
        notes.drain(..surplus);
    }
    Redirect::to(&format!("/{}/{}", repository.organization, repository.name)).into_response()
}

#[derive(Template)]
#[template(path = "hub/notice.html")]
struct NoticePage {
    who: Identity,
    doorward_url: String,
    title: &'static str,
    text: &'static str,
}

async fn not_found() -> Response {
    (StatusCode::NOT_FOUND, "The hub has nothing at this address.\n").into_response()
}

fn not_without_doorward(hub: &Hub, who: Identity) -> Response {
    let notice = NoticePage {
        who,
        doorward_url: hub.doorward_url.clone(),
        title: "Only through Doorward",
        text: "The hub shows private content only when Doorward names an account and its organization in the \
               request's headers. This request names none.",
    };
    page(StatusCode::FORBIDDEN, &notice)
}
