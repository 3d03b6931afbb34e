//! Figures for Prometheus: what is counted, and the page `/metrics` on a listener of its own.
//!
//! In: what happened, as types. Out: OpenMetrics text.
//! Invariant: every label comes from a closed set (our types, our error codes, the configured applications), so no
//! request can make a new series. Never a label: an organization, an account, an address.

use crate::configuration::Configuration;
use crate::store::Purpose;
use axum::Router;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;
use doorward_core::error_code::ErrorCode;
use doorward_core::time::Timestamp;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Upper bounds of the gate's latency histogram, in seconds: it answers in microseconds from its cache and in
/// milliseconds from the store.
const GATE_SECONDS: [f64; 10] = [0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.01, 0.05, 0.25, 1.0];

/// How the gate answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum GateOutcome {
    /// Let through.
    Allow,
    /// Sent to sign in.
    SignIn,
    /// Sent to complete single sign-on.
    CompleteSso,
    /// Denied.
    Deny,
    /// Not understood in one way only, or not a method that is passed on.
    Refused,
    /// Asked by somebody who is not a trusted proxy.
    UntrustedProxy,
    /// The store could not be reached.
    Unavailable,
}

/// A counter for each outcome.
struct GateCounters([(GateOutcome, Counter); 7]);

impl GateCounters {
    fn new(family: &Family<GateLabels, Counter>, application: &str) -> Self {
        let application: Arc<str> = Arc::from(application);
        Self(GateOutcome::ALL.map(|outcome| {
            let labels = GateLabels { application: Arc::clone(&application), outcome: outcome.as_str() };
            (outcome, family.get_or_create(&labels).clone())
        }))
    }

    fn count(&self, outcome: GateOutcome) {
        for (_, counter) in self.0.iter().filter(|(known, _)| *known == outcome) {
            counter.inc();
        }
    }
}

impl GateOutcome {
    const ALL: [Self; 7] = [
        Self::Allow,
        Self::SignIn,
        Self::CompleteSso,
        Self::Deny,
        Self::Refused,
        Self::UntrustedProxy,
        Self::Unavailable,
    ];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::SignIn => "sign_in",
            Self::CompleteSso => "complete_sso",
            Self::Deny => "deny",
            Self::Refused => "refused",
            Self::UntrustedProxy => "untrusted_proxy",
            Self::Unavailable => "unavailable",
        }
    }
}

/// What an outbound request was for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OutboundKind {
    /// A provider's metadata.
    Metadata,
    /// A provider's signing keys.
    Keys,
    /// A code was redeemed.
    Token,
    /// A person's details.
    UserInfo,
}

impl OutboundKind {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Metadata => "metadata",
            Self::Keys => "keys",
            Self::Token => "token",
            Self::UserInfo => "userinfo",
        }
    }
}

/// The limit by which we ended a connection (ADR 0027, 0038).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ConnectionLimit {
    /// TLS was not agreed on in time.
    Handshake,
    /// A request's head was not complete in time.
    Head,
    /// Nothing was asked for.
    Idle,
    /// The client took nothing of what was there for it.
    Stalled,
    /// It spoke neither HTTP/1.1 nor HTTP/2, exceeded a limit of the protocol (resets, heads, frames), or broke off.
    Broken,
}

impl ConnectionLimit {
    const ALL: [Self; 5] = [Self::Handshake, Self::Head, Self::Idle, Self::Stalled, Self::Broken];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Handshake => "handshake",
            Self::Head => "head",
            Self::Idle => "idle",
            Self::Stalled => "stalled",
            Self::Broken => "broken",
        }
    }
}

/// One of our listeners.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ListenerKind {
    /// Pages, API, built-in proxy.
    Main,
    /// The adapters of the gate.
    Gate,
    /// `/metrics`.
    Metrics,
}

impl ListenerKind {
    const ALL: [Self; 3] = [Self::Main, Self::Gate, Self::Metrics];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Main => "main",
            Self::Gate => "gate",
            Self::Metrics => "metrics",
        }
    }
}

/// The figures of one listener's connections. A clone counts into the same ones; the default's are nobody's.
#[derive(Clone, Debug, Default)]
pub struct ConnectionFigures {
    open: Gauge,
    refused_address: Counter,
    refused_system: Counter,
    closed: [Counter; ConnectionLimit::ALL.len()],
    answers_given_up: Counter,
}

impl ConnectionFigures {
    /// A connection has its place.
    pub fn began(&self) {
        self.open.inc();
    }

    /// The place of one is free again.
    pub fn ended(&self) {
        self.open.dec();
    }

    /// One was closed at once, because its address has too many.
    pub fn refused(&self) {
        self.refused_address.inc();
    }

    /// One could not be accepted: it broke before, or no file descriptor was left.
    pub fn not_accepted(&self) {
        self.refused_system.inc();
    }

    /// One ended by a limit.
    pub fn closed(&self, limit: ConnectionLimit) {
        for (_, counter) in ConnectionLimit::ALL.iter().zip(&self.closed).filter(|(one, _)| **one == limit) {
            counter.inc();
        }
    }

    /// One answer of an HTTP/2 connection was given up, because its client took nothing of it.
    pub fn gave_up_answer(&self) {
        self.answers_given_up.inc();
    }
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ListenerLabels {
    listener: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RefusalLabels {
    listener: &'static str,
    reason: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct LimitLabels {
    listener: &'static str,
    limit: &'static str,
}

/// Registers the figures of connections, those of each listener in the order of `ListenerKind::ALL`.
fn connection_figures(registry: &mut Registry) -> [ConnectionFigures; 3] {
    let open: Family<ListenerLabels, Gauge> = Family::default();
    registry.register("connections", "Connections that are open", open.clone());
    let refused: Family<RefusalLabels, Counter> = Family::default();
    registry.register("connections_refused", "Connections that were closed at once", refused.clone());
    let closed: Family<LimitLabels, Counter> = Family::default();
    registry.register("connections_closed", "Connections that ended by a limit", closed.clone());
    let given_up: Family<ListenerLabels, Counter> = Family::default();
    registry.register(
        "answers_given_up",
        "Answers of HTTP/2 that their clients did not take",
        given_up.clone(),
    );
    ListenerKind::ALL.map(|kind| {
        let listener = kind.as_str();
        let refusals = |reason| refused.get_or_create(&RefusalLabels { listener, reason }).clone();
        ConnectionFigures {
            open: open.get_or_create(&ListenerLabels { listener }).clone(),
            refused_address: refusals("address"),
            refused_system: refusals("system"),
            closed: ConnectionLimit::ALL
                .map(|limit| closed.get_or_create(&LimitLabels { listener, limit: limit.as_str() }).clone()),
            answers_given_up: given_up.get_or_create(&ListenerLabels { listener }).clone(),
        }
    })
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct GateLabels {
    application: Arc<str>,
    outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OutcomeLabels {
    outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct KindLabels {
    kind: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct PurposeLabels {
    purpose: &'static str,
    outcome: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct CacheLabels {
    hit: bool,
}

/// All figures of this process. Cheap to share in an `Arc`; every method takes `&self`.
pub struct Metrics {
    registry: Registry,
    /// The gate's counters by application, and those of no application: looked up once and not at each answer.
    gate_applications: Vec<(Arc<str>, GateCounters)>,
    gate_no_application: GateCounters,
    gate_seconds: Histogram,
    sign_ins: Family<OutcomeLabels, Counter>,
    sso_attempts: Family<PurposeLabels, Counter>,
    outbound: Family<KindLabels, Counter>,
    store_errors: Counter,
    gate_cache: Family<CacheLabels, Counter>,
    change_reader_stale: Gauge,
    certificate_expires: Gauge,
    connections: [ConnectionFigures; 3],
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

impl Metrics {
    /// New figures, all zero. Applications are counted by their configured names, everything else as `none`.
    pub fn new(configuration: &Configuration) -> Self {
        let mut registry = Registry::with_prefix("doorward");
        let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "Version of this binary", build);
        let hash = Info::new([("hash", configuration.fingerprint())]);
        registry.register("configuration", "Must be the same on every node of one version", hash);
        let gate_decisions: Family<GateLabels, Counter> = Family::default();
        registry.register("gate_decisions", "Answers of the gate", gate_decisions.clone());
        let gate_seconds = Histogram::new(GATE_SECONDS);
        registry.register_with_unit(
            "gate_answer",
            "Time from the gate's question to its answer",
            Unit::Seconds,
            gate_seconds.clone(),
        );
        let sign_ins = Family::default();
        registry.register("sign_ins", "Account sign-ins, ok or the error code", sign_ins.clone());
        let sso_attempts = Family::default();
        registry.register(
            "sso_attempts",
            "Ended trips to identity providers, ok or the area of the error code",
            sso_attempts.clone(),
        );
        let outbound = Family::default();
        registry.register(
            "outbound_requests",
            "Requests to identity providers, ok or the error code",
            outbound.clone(),
        );
        let store_errors = Counter::default();
        registry.register("store_errors", "Failed uses of the database", store_errors.clone());
        let gate_cache = Family::default();
        registry.register("gate_cache_lookups", "Lookups in the gate's cache", gate_cache.clone());
        let change_reader_stale = Gauge::default();
        registry.register(
            "change_reader_stale",
            "1 while changes can't be read and the cache is not trusted",
            change_reader_stale.clone(),
        );
        let certificate_expires = Gauge::default();
        registry.register_with_unit(
            "tls_certificate_expires_timestamp",
            "Until when the certificate of [tls] is valid, in seconds since 1970; 0 without [tls]",
            Unit::Seconds,
            certificate_expires.clone(),
        );
        let connections = connection_figures(&mut registry);
        Self {
            registry,
            connections,
            gate_applications: configuration
                .applications
                .iter()
                .map(|app| (Arc::from(app.name()), GateCounters::new(&gate_decisions, app.name())))
                .collect(),
            gate_no_application: GateCounters::new(&gate_decisions, "none"),
            gate_seconds,
            sign_ins,
            sso_attempts,
            outbound,
            store_errors,
            gate_cache,
            change_reader_stale,
            certificate_expires,
        }
    }

    /// One answer of the gate and how long it took.
    pub fn gate_answer(&self, application: Option<&str>, outcome: GateOutcome, took: Duration) {
        let known =
            application.and_then(|name| self.gate_applications.iter().find(|known| *known.0 == *name));
        known.map_or(&self.gate_no_application, |(_, counters)| counters).count(outcome);
        self.gate_seconds.observe(took.as_secs_f64());
    }

    /// One account sign-in.
    pub fn sign_in(&self, outcome: Result<(), ErrorCode>) {
        self.sign_ins.get_or_create(&OutcomeLabels { outcome: code_or_ok(outcome) }).inc();
    }

    /// One ended SSO attempt.
    pub fn sso_attempt(&self, purpose: Purpose, outcome: Result<(), ErrorCode>) {
        let code = code_or_ok(outcome);
        let area = code.split('.').next().unwrap_or(code).to_owned();
        self.sso_attempts.get_or_create(&PurposeLabels { purpose: purpose.as_str(), outcome: area }).inc();
    }

    /// One outbound request.
    pub fn outbound(&self, kind: OutboundKind, outcome: Result<(), ErrorCode>) {
        self.outbound.get_or_create(&KindLabels { kind: kind.as_str(), outcome: code_or_ok(outcome) }).inc();
    }

    /// The database failed once.
    pub fn store_error(&self) {
        self.store_errors.inc();
    }

    /// The gate looked into its cache.
    pub fn gate_cache(&self, hit: bool) {
        self.gate_cache.get_or_create(&CacheLabels { hit }).inc();
    }

    /// Whether this node has lost touch with the store's changes for its lease (rule 16).
    pub fn change_reader_stale(&self, stale: bool) {
        self.change_reader_stale.set(i64::from(stale));
    }

    /// Until when the certificate of `[tls]` is valid.
    pub fn certificate_expires(&self, not_after: Timestamp) {
        self.certificate_expires.set(not_after.seconds());
    }

    /// The figures of one listener's connections.
    pub fn connections(&self, listener: ListenerKind) -> ConnectionFigures {
        let mut all = ListenerKind::ALL.iter().zip(&self.connections);
        all.find(|(kind, _)| **kind == listener).map(|(_, figures)| figures.clone()).unwrap_or_default()
    }

    /// All figures as OpenMetrics text.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        // Writing into a String can't fail.
        encode(&mut text, &self.registry).unwrap_or_default();
        text
    }
}

fn code_or_ok(outcome: Result<(), ErrorCode>) -> &'static str {
    outcome.map_or_else(ErrorCode::as_str, |()| "ok")
}

/// The routes of the metrics listener: `/metrics` and nothing else. `is_stale` says, when the figures are asked for,
/// whether this node has lost touch with the store's changes.
pub fn router(metrics: Arc<Metrics>, is_stale: impl Fn() -> bool + Clone + Send + Sync + 'static) -> Router {
    let page = move |State(metrics): State<Arc<Metrics>>| async move {
        metrics.change_reader_stale(is_stale());
        let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
        ([(CONTENT_TYPE, kind)], metrics.to_text())
    };
    Router::new().route("/metrics", get(page)).with_state(metrics)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_hub() -> Metrics {
        let text = "[[app]]\nname = \"hub\"\nhost = \"hub.localhost\"\n";
        Metrics::new(&Configuration::parse(None, text, []).unwrap())
    }

    #[test]
    fn each_figure_is_told_with_its_labels() {
        let metrics = with_hub();
        metrics.gate_answer(Some("hub"), GateOutcome::Allow, Duration::from_micros(70));
        metrics.gate_answer(Some("hub"), GateOutcome::Allow, Duration::from_micros(700));
        metrics.gate_answer(None, GateOutcome::UntrustedProxy, Duration::from_micros(7));
        metrics.sign_in(Ok(()));
        metrics.sign_in(Err(ErrorCode::AccountWrongPassword));
        metrics.sso_attempt(Purpose::Test, Err(ErrorCode::OidcNonceMismatch));
        metrics.outbound(OutboundKind::Token, Err(ErrorCode::OutboundTimeout));
        metrics.store_error();
        metrics.gate_cache(true);
        let connections = metrics.connections(ListenerKind::Main);
        connections.began();
        connections.began();
        connections.ended();
        connections.refused();
        connections.closed(ConnectionLimit::Idle);
        connections.gave_up_answer();
        metrics.connections(ListenerKind::Gate).not_accepted();
        let text = metrics.to_text();
        for line in [
            "doorward_gate_decisions_total{application=\"hub\",outcome=\"allow\"} 2",
            "doorward_gate_decisions_total{application=\"none\",outcome=\"untrusted_proxy\"} 1",
            "doorward_gate_answer_seconds_bucket{le=\"0.0001\"} 2",
            "doorward_gate_answer_seconds_count 3",
            "doorward_sign_ins_total{outcome=\"ok\"} 1",
            "doorward_sign_ins_total{outcome=\"account.wrong_password\"} 1",
            "doorward_sso_attempts_total{purpose=\"test\",outcome=\"oidc\"} 1",
            "doorward_outbound_requests_total{kind=\"token\",outcome=\"outbound.timeout\"} 1",
            "doorward_store_errors_total 1",
            "doorward_gate_cache_lookups_total{hit=\"true\"} 1",
            "doorward_change_reader_stale 0",
            "doorward_connections{listener=\"main\"} 1",
            "doorward_connections{listener=\"gate\"} 0",
            "doorward_connections_refused_total{listener=\"main\",reason=\"address\"} 1",
            "doorward_connections_refused_total{listener=\"gate\",reason=\"system\"} 1",
            "doorward_connections_closed_total{listener=\"main\",limit=\"idle\"} 1",
            "doorward_connections_closed_total{listener=\"main\",limit=\"stalled\"} 0",
            "doorward_answers_given_up_total{listener=\"main\"} 1",
        ] {
            assert!(text.lines().any(|have| have == line), "{line}\n{text}");
        }
        assert!(text.contains("doorward_configuration_info{hash=\""));
        assert!(text.contains(concat!("doorward_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"} 1")));
    }

    #[test]
    fn a_name_from_a_request_makes_no_series() {
        let metrics = with_hub();
        metrics.gate_answer(Some("evil"), GateOutcome::Deny, Duration::ZERO);
        assert!(!metrics.to_text().contains("evil"));
    }
}
