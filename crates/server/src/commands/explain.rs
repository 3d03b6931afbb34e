//! `explain`: what the gate would answer to one request, and why. It changes nothing and asks nobody.

use super::{Context, account};
use crate::app::App;
use crate::command_line::{Explain, SsoChoice};
use crate::failure::Failure;
use crate::gate::Question;
use crate::gate::explain::{Address, Asker, SsoTried, explain as explain_question, split_url};
use doorward_core::error_code::ErrorCode;
use http::header::{ACCEPT, HeaderMap, HeaderName, HeaderValue};
use std::io::Write;

/// `explain`.
pub async fn explain(context: Context, explain: Explain, output: &mut dyn Write) -> Result<(), Failure> {
    let app = context.app().await?;
    let headers = headers(&explain)?;
    let url = with_path(&explain.url);
    let Address { application, host, target } =
        split_url(&app, &url).map_err(|code| not_found(&app, &explain.url, code))?;
    let asker = match &explain.account {
        None => Asker::Stranger,
        Some(name) => {
            let id = account(&mut app.store.reader(), name).await?.id;
            let facts = app.store.account_facts(id, app.clock.now()).await?;
            facts.map_or(Asker::Stranger, |facts| Asker::Account(facts, tried(explain.sso)))
        }
    };
    let question = Question { application, host, method: &explain.method, target, headers: &headers };
    let explanation = explain_question(&app, &question, &asker).await?;
    if explain.json {
        writeln!(output, "{}", serde_json::json!(explanation))?;
    } else {
        write!(output, "{explanation}")?;
    }
    Ok(())
}

/// A URL that ends with its host means the front page, as in a browser.
fn with_path(url: &str) -> String {
    let bare = url.split_once("://").is_some_and(|(_, rest)| !rest.contains('/'));
    if bare { format!("{url}/") } else { url.to_owned() }
}

fn tried(choice: Option<SsoChoice>) -> SsoTried {
    match choice {
        None => SsoTried::AsItIs,
        Some(SsoChoice::Complete) => SsoTried::Complete,
        Some(SsoChoice::Missing) => SsoTried::Missing,
        Some(SsoChoice::None) => SsoTried::None,
    }
}

/// The headers that matter. Unless they say otherwise, a browser's address bar asks.
fn headers(explain: &Explain) -> Result<HeaderMap, Failure> {
    let mut headers = HeaderMap::new();
    for text in &explain.header {
        let parsed = text.split_once(':').and_then(|(name, value)| {
            let name = name.trim().parse::<HeaderName>().ok()?;
            Some((name, value.trim().parse::<HeaderValue>().ok()?))
        });
        let (name, value) = parsed.ok_or_else(|| {
            Failure::new(
                ErrorCode::RequestMalformed,
                format!("{text:?} is not a header"),
                "Write it like --header 'Upgrade: websocket'.",
            )
        })?;
        headers.append(name, value);
    }
    if !headers.contains_key(ACCEPT) && !headers.contains_key("sec-fetch-mode") {
        headers.insert(ACCEPT, HeaderValue::from_static("text/html"));
    }
    Ok(headers)
}

/// The failure that says what could have been meant.
fn not_found(app: &App, url: &str, code: ErrorCode) -> Failure {
    let scheme = if app.https() { "https" } else { "http" };
    match code {
        ErrorCode::RequestUnknownHost => {
            let known: Vec<&str> = app.application_hosts().collect();
            let remedy = if known.is_empty() {
                "Give the application's [[app]] in doorward.toml, and name the file with --config.".to_owned()
            } else {
                format!("Applications are on: {}", known.join(", "))
            };
            Failure::new(code, format!("no application is on the host of {url:?}"), remedy)
        }
        _ => Failure::new(
            code,
            format!("{url:?} is not an address that browsers use here"),
            format!("Write the whole address, as in {scheme}://hub.example.com/acme/secret"),
        ),
    }
}
