//! `/healthz`: the process lives. `/readyz`: it can serve. Both at the root of the main listener, for machines.

use crate::clock::Clock;
use crate::store::Store;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CACHE_CONTROL;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};

/// What readiness depends on.
#[derive(Clone, Debug)]
struct Readiness {
    store: Store,
    clock: Clock,
}

/// The two routes.
pub fn router(store: Store, clock: Clock) -> Router {
    Router::new()
        .route("/healthz", get(alive))
        .route("/readyz", get(ready))
        .with_state(Readiness { store, clock })
}

async fn alive() -> Response {
    answer(StatusCode::OK, &json!({ "status": "alive" }))
}

async fn ready(State(readiness): State<Readiness>) -> Response {
    let mut reasons = Vec::new();
    if readiness.store.ping().await.is_err() {
        reasons.push("the database does not answer");
    } else if readiness.store.check_schema().await.is_err() {
        reasons.push("the database's schema is not current");
    }
    if !readiness.store.facts().is_trusted(readiness.clock.now()) {
        reasons.push("changes have not been read lately");
    }
    if reasons.is_empty() {
        answer(StatusCode::OK, &json!({ "status": "ready" }))
    } else {
        answer(StatusCode::SERVICE_UNAVAILABLE, &json!({ "status": "not_ready", "reasons": reasons }))
    }
}

fn answer(status: StatusCode, body: &Value) -> Response {
    (status, [(CACHE_CONTROL, "no-store")], Json(body)).into_response()
}
