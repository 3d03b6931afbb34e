//! The provider over its router: the happy flow, and each refusal by number, shape and place.
//!
//! Read first: `a_person_signs_in_and_the_token_holds_entras_claims`. Every other test changes one thing of it.

use super::directory::{ACME_TENANT, App, AppKind, GLOBEX_TENANT, Platform};
use super::fault::Fault;
use super::keys::SigningKeys;
use super::{Parameters, Provider, router};
use crate::clock::Clock;
use aws_lc_rs::signature::{RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents};
use axum::Router;
use axum::body::{Body, to_bytes};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use http::header::{AUTHORIZATION, CONTENT_TYPE, LOCATION};
use http::{Request, StatusCode};
use serde_json::Value;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;
use tower::ServiceExt as _;

const BASE: &str = "http://127.0.0.1:9400";
const CALLBACK: &str = "http://localhost:8080/organizations/acme/oidc/consume";
const NOW: i64 = 1_768_469_412;
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
const MIRA: &str = "7d2e9c41-0b5a-4f6e-8a37-5c1d2e3f4a5b";
const ADA: &str = "5b0e6a52-91c4-4d7e-8f33-2a6d1c9e7b01";
const ALEX: &str = "2c7f4b18-6e3d-4a95-b0c2-8d5e1f7a9c03";
const GUEST: &str = "1c0d2e3f-4a5b-4c6d-8e7f-9a0b1c2d3e4f";
const DISABLED: &str = "c3b8f5d1-7e94-4260-a1d8-6f0e3c7b2a06";
const BEN_OF_GLOBEX: &str = "f6a1d9c4-2b7e-4835-9d0a-3e8c5b1f7d07";

/// A provider with one application, and a clock that the test turns.
struct Stage {
    provider: Arc<Provider>,
    router: Router,
    clock: Arc<AtomicI64>,
    client_id: String,
    secret: String,
}

/// What came back.
struct Answer {
    status: StatusCode,
    location: Option<String>,
    body: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("not JSON: {}", self.body))
    }

    /// A parameter of the address that the browser is sent to.
    fn parameter(&self, name: &str) -> Option<String> {
        let location = self.location.as_deref().expect("a redirect");
        let query = location.split_once(['?', '#']).map_or("", |(_, query)| query);
        Parameters::parse(query.as_bytes()).get(name).map(str::to_owned)
    }

    /// On the provider's own page, which never redirects, with this number.
    #[track_caller]
    fn is_page(&self, code: u32) {
        assert!(self.location.is_none(), "redirected to {:?}", self.location);
        assert!(self.body.contains(&format!("AADSTS{code}: ")), "{}", self.body);
        assert!(self.body.contains("Correlation Id"), "{}", self.body);
        assert_eq!(self.status, StatusCode::BAD_REQUEST);
    }

    /// JSON of the token endpoint with this status, error and number.
    #[track_caller]
    fn is_token_error(&self, status: u16, error: &str, code: u32) {
        let body = self.json();
        assert_eq!((self.status.as_u16(), body["error"].as_str()), (status, Some(error)), "{body}");
        assert_eq!(body["error_codes"], serde_json::json!([code]));
        let description = body["error_description"].as_str().unwrap();
        let lines: Vec<_> = description.split("\r\n").collect();
        assert_eq!(lines.len(), 4, "{description:?}");
        assert!(lines[0].starts_with(&format!("AADSTS{code}: ")), "{description:?}");
        assert_eq!(lines[1], format!("Trace ID: {}", body["trace_id"].as_str().unwrap()));
        assert_eq!(lines[2], format!("Correlation ID: {}", body["correlation_id"].as_str().unwrap()));
        assert_eq!(lines[3], format!("Timestamp: {}", body["timestamp"].as_str().unwrap()));
        assert_eq!(body["error_uri"], format!("{BASE}/error?code={code}"));
    }
}

impl Stage {
    fn new() -> Self {
        Self::with_platform(Platform::Web)
    }

    fn with_platform(platform: Platform) -> Self {
        // Keys take a while to make: all stages share them.
        static KEYS: LazyLock<Arc<SigningKeys>> =
            LazyLock::new(|| Arc::new(SigningKeys::generate(NOW).unwrap()));
        let clock = Arc::new(AtomicI64::new(NOW));
        let mut provider = Provider::with_keys(BASE.to_owned(), Clock::Turned(clock.clone()), KEYS.clone());
        provider.slow_answer = Duration::ZERO;
        let mut app = App::new(ACME_TENANT, "Hub", AppKind::Developing);
        app.admin_consent = true;
        app.add_redirect_uri(platform, CALLBACK);
        let secret = app.add_secret("for the test", NOW + 1_000_000).unwrap().value.clone();
        let client_id = app.client_id.clone();
        provider.directory().add_app(app);
        let provider = Arc::new(provider);
        Self { router: router(provider.clone()), provider, clock, client_id, secret }
    }

    fn change(&self, change: impl FnOnce(&mut App)) {
        change(self.provider.directory().app_mut(ACME_TENANT, &self.client_id).unwrap());
    }

    async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let location = response.headers().get(LOCATION).map(|to| to.to_str().unwrap().to_owned());
        let status = response.status();
        let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
        Answer { status, location, body: String::from_utf8(body.to_vec()).unwrap() }
    }

    async fn get(&self, path: &str) -> Answer {
        self.send(Request::get(path).body(Body::empty()).unwrap()).await
    }

    async fn post(&self, path: &str, fields: &[(&str, &str)]) -> Answer {
        self.post_with(path, fields, &[]).await
    }

    async fn post_with(&self, path: &str, fields: &[(&str, &str)], headers: &[(&str, &str)]) -> Answer {
        let mut request = Request::post(path).header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.send(request.body(Body::from(encoded(fields))).unwrap()).await
    }

    /// The authorization request as Doorward sends it, with some parameters replaced or (empty) left out.
    fn request(&self, changes: &[(&str, &str)]) -> String {
        let mut fields = vec![
            ("client_id", self.client_id.as_str()),
            ("response_type", "code"),
            ("redirect_uri", CALLBACK),
            ("scope", "openid profile email"),
            ("state", "the state"),
            ("nonce", "the nonce"),
            ("code_challenge", CHALLENGE),
            ("code_challenge_method", "S256"),
        ];
        for (name, value) in changes {
            fields.retain(|(kept, _)| kept != name);
            fields.push((name, value));
        }
        fields.retain(|(_, value)| !value.is_empty());
        encoded(&fields)
    }

    async fn authorize(&self, tenant: &str, changes: &[(&str, &str)]) -> Answer {
        self.get(&format!("/{tenant}/oauth2/v2.0/authorize?{}", self.request(changes))).await
    }

    /// What happens when somebody is picked on the sign-in page.
    async fn pick(&self, person: &str) -> Answer {
        self.act(&[("person", person)], &[]).await
    }

    async fn act(&self, fields: &[(&str, &str)], changes: &[(&str, &str)]) -> Answer {
        let request = self.request(changes);
        let mut form = vec![("request", request.as_str())];
        form.extend_from_slice(fields);
        self.post(&format!("/{ACME_TENANT}/login"), &form).await
    }

    async fn code_for(&self, person: &str) -> String {
        self.pick(person).await.parameter("code").expect("a code")
    }

    /// The token request as Doorward sends it, with some parameters replaced or (empty) left out.
    async fn redeem(&self, code: &str, changes: &[(&str, &str)]) -> Answer {
        self.redeem_with(code, changes, &[]).await
    }

    async fn redeem_with(&self, code: &str, changes: &[(&str, &str)], headers: &[(&str, &str)]) -> Answer {
        let mut fields = vec![
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", CALLBACK),
            ("client_id", self.client_id.as_str()),
            ("client_secret", self.secret.as_str()),
            ("code_verifier", VERIFIER),
        ];
        for (name, value) in changes {
            fields.retain(|(kept, _)| kept != name);
            fields.push((name, value));
        }
        fields.retain(|(_, value)| !value.is_empty());
        self.post_with(&format!("/{ACME_TENANT}/oauth2/v2.0/token"), &fields, headers).await
    }

    /// The claims of the ID token that a person gets, its signature checked with the published keys.
    async fn claims_of(&self, person: &str) -> Value {
        let code = self.code_for(person).await;
        let body = self.redeem(&code, &[]).await.json();
        let token = body["id_token"].as_str().unwrap_or_else(|| panic!("no ID token: {body}")).to_owned();
        let keys = self.get(&format!("/{ACME_TENANT}/discovery/v2.0/keys")).await.json();
        assert!(is_signed_by(&token, &keys), "no published key signed {token}");
        claims(&token)
    }

    /// The ID token of Mira while a fault is on.
    async fn token_with(&self, fault: &str) -> String {
        self.change(|app| app.fault = Some(Fault::from_value(fault).unwrap()));
        let code = self.code_for(MIRA).await;
        self.redeem(&code, &[]).await.json()["id_token"].as_str().unwrap().to_owned()
    }
}

fn encoded(fields: &[(&str, &str)]) -> String {
    form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish()
}

fn part(token: &str, number: usize) -> Value {
    let part = token.split('.').nth(number).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}

fn claims(token: &str) -> Value {
    part(token, 1)
}

fn is_signed_by(token: &str, keys: &Value) -> bool {
    let header = part(token, 0);
    let Some(key) = keys["keys"].as_array().unwrap().iter().find(|key| key["kid"] == header["kid"]) else {
        return false;
    };
    let n = URL_SAFE_NO_PAD.decode(key["n"].as_str().unwrap()).unwrap();
    let (input, signature) = token.rsplit_once('.').unwrap();
    let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
    RsaPublicKeyComponents { n: n.as_slice(), e: [1, 0, 1].as_slice() }
        .verify(&RSA_PKCS1_2048_8192_SHA256, input.as_bytes(), &signature)
        .is_ok()
}

// The happy flow

#[tokio::test]
async fn a_person_signs_in_and_the_token_holds_entras_claims() {
    let stage = Stage::new();
    let picker = stage.authorize(ACME_TENANT, &[]).await;
    assert!(picker.body.contains("Mira Holt") && picker.body.contains("Not Microsoft"));
    let back = stage.pick(MIRA).await;
    assert_eq!(back.status, StatusCode::FOUND);
    assert!(back.location.as_deref().unwrap().starts_with(&format!("{CALLBACK}?")));
    assert_eq!(back.parameter("state").as_deref(), Some("the state"));

    let claims = stage.claims_of(MIRA).await;
    assert_eq!(claims["iss"], format!("{BASE}/{ACME_TENANT}/v2.0"));
    assert_eq!(claims["aud"], stage.client_id.as_str());
    assert_eq!(claims["tid"], ACME_TENANT);
    assert_eq!(claims["oid"], MIRA);
    assert_eq!(claims["preferred_username"], "mira.holt@acme.example");
    assert_eq!(claims["email"], "mira.holt@acme.example");
    assert_eq!(claims["nonce"], "the nonce");
    assert_eq!(claims["ver"], "2.0");
    assert_eq!(claims["iat"], NOW - 300, "back-dated by five minutes");
    assert_eq!(claims["nbf"], claims["iat"]);
    assert_eq!(claims["exp"], NOW - 300 + 3_900);
    assert_ne!(claims["sub"], claims["oid"], "pairwise");
    assert!(claims.get("email_verified").is_none());
}

#[tokio::test]
async fn the_subject_is_another_one_for_each_application_and_the_object_id_is_not() {
    let (one, other) = (Stage::new(), Stage::new());
    let (one, other) = (one.claims_of(MIRA).await, other.claims_of(MIRA).await);
    assert_ne!(one["sub"], other["sub"]);
    assert_eq!(one["oid"], other["oid"]);
}

#[tokio::test]
async fn a_person_without_a_mailbox_has_no_email_claim() {
    let claims = Stage::new().claims_of(ALEX).await;
    assert!(claims.get("email").is_none());
    assert_eq!(claims["preferred_username"], "alex@acme.example");
}

#[tokio::test]
async fn a_guest_is_marked_as_one() {
    let claims = Stage::new().claims_of(GUEST).await;
    assert!(claims["idp"].as_str().unwrap().starts_with("https://sts.windows.net/"));
    assert_eq!(claims["acct"], 1);
    assert_eq!(claims["preferred_username"], "alice@partner.example");
}

#[tokio::test]
async fn without_the_scope_profile_there_is_no_object_id() {
    let stage = Stage::new();
    let back = stage.act(&[("person", MIRA)], &[("scope", "openid email")]).await;
    let body = stage.redeem(&back.parameter("code").unwrap(), &[]).await.json();
    let claims = claims(body["id_token"].as_str().unwrap());
    assert!(claims.get("oid").is_none() && claims.get("name").is_none());
}

#[tokio::test]
async fn a_secret_is_taken_from_the_header_too() {
    let stage = Stage::new();
    let code = stage.code_for(MIRA).await;
    let id: String = form_urlencoded::byte_serialize(stage.client_id.as_bytes()).collect();
    let secret: String = form_urlencoded::byte_serialize(stage.secret.as_bytes()).collect();
    let basic = format!("Basic {}", STANDARD.encode(format!("{id}:{secret}")));
    let without = [("client_id", ""), ("client_secret", "")];
    let answer = stage.redeem_with(&code, &without, &[(AUTHORIZATION.as_str(), &basic)]).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
}

#[tokio::test]
async fn two_secrets_work_at_once() {
    let stage = Stage::new();
    let mut second = String::new();
    stage.change(|app| second = app.add_secret("second", NOW + 1_000).unwrap().value.clone());
    for secret in [stage.secret.clone(), second] {
        let code = stage.code_for(MIRA).await;
        let answer = stage.redeem(&code, &[("client_secret", &secret)]).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
    }
}

#[tokio::test]
async fn userinfo_gives_entras_short_list_to_the_access_token() {
    let stage = Stage::new();
    let code = stage.code_for(MIRA).await;
    let tokens = stage.redeem(&code, &[]).await.json();
    let bearer = format!("Bearer {}", tokens["access_token"].as_str().unwrap());
    let request = Request::get("/oidc/userinfo").header(AUTHORIZATION, bearer).body(Body::empty()).unwrap();
    let info = stage.send(request).await.json();
    assert_eq!(info["email"], "mira.holt@acme.example");
    assert_eq!(info["sub"], claims(tokens["id_token"].as_str().unwrap())["sub"]);
    assert_eq!(stage.get("/oidc/userinfo").await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn the_answer_can_come_by_form_and_in_the_fragment() {
    let stage = Stage::new();
    let form = stage.act(&[("person", MIRA)], &[("response_mode", "form_post")]).await;
    assert!(form.body.contains(r#"name="code""#) && form.body.contains(CALLBACK));
    let fragment = stage.act(&[("person", MIRA)], &[("response_mode", "fragment")]).await;
    assert!(fragment.location.unwrap().starts_with(&format!("{CALLBACK}#code=")));
}

// Discovery

#[tokio::test]
async fn the_metadata_has_entras_shape_by_guid_and_by_domain() {
    let stage = Stage::new();
    for name in [ACME_TENANT, "acme.example", "ACME.example"] {
        let metadata = stage.get(&format!("/{name}/v2.0/.well-known/openid-configuration")).await.json();
        let at = format!("{BASE}/{ACME_TENANT}");
        assert_eq!(metadata["issuer"], format!("{at}/v2.0"));
        assert_eq!(metadata["token_endpoint"], format!("{at}/oauth2/v2.0/token"));
        assert_eq!(metadata["jwks_uri"], format!("{at}/discovery/v2.0/keys"));
        assert_eq!(metadata["cloud_instance_name"], "microsoftonline.com");
        for absent in
            ["code_challenge_methods_supported", "revocation_endpoint", "backchannel_logout_supported"]
        {
            assert!(metadata.get(absent).is_none(), "{absent}");
        }
    }
}

#[tokio::test]
async fn shared_addresses_have_the_template_and_consumers_the_fixed_tenant() {
    let stage = Stage::new();
    for name in ["common", "organizations"] {
        let metadata = stage.get(&format!("/{name}/v2.0/.well-known/openid-configuration")).await.json();
        assert_eq!(metadata["issuer"], format!("{BASE}/{{tenantid}}/v2.0"));
    }
    let consumers = stage.get("/consumers/v2.0/.well-known/openid-configuration").await.json();
    assert_eq!(consumers["issuer"], format!("{BASE}/9188040d-6c67-4c5b-b112-36a304b66dad/v2.0"));
    let v1 = stage.get(&format!("/{ACME_TENANT}/.well-known/openid-configuration")).await.json();
    assert_eq!(v1["issuer"], format!("https://sts.windows.net/{ACME_TENANT}/"));
}

#[tokio::test]
async fn an_unknown_tenant_is_90002_at_discovery() {
    let answer = Stage::new().get("/nobody.example/v2.0/.well-known/openid-configuration").await;
    answer.is_token_error(400, "invalid_tenant", 90_002);
}

#[tokio::test]
async fn the_key_set_has_three_keys_without_alg_and_one_of_another_issuer() {
    let stage = Stage::new();
    let keys = stage.get(&format!("/{ACME_TENANT}/discovery/v2.0/keys")).await.json();
    let keys = keys["keys"].as_array().unwrap();
    assert!(keys.len() >= 3);
    assert!(keys.iter().all(|key| key.get("alg").is_none() && key["kid"] == key["x5t"]));
    let own = format!("{BASE}/{ACME_TENANT}/v2.0");
    assert_eq!(keys.iter().filter(|key| key["issuer"] != own.as_str()).count(), 1);
}

// Refusals on the provider's own page, which never redirects

#[tokio::test]
async fn a_redirect_uri_that_differs_by_one_letter_is_50011() {
    let stage = Stage::new();
    for wrong in
        [format!("{CALLBACK}/"), CALLBACK.replace("acme", "Acme"), CALLBACK.replace("http:", "https:")]
    {
        stage.authorize(ACME_TENANT, &[("redirect_uri", &wrong)]).await.is_page(50_011);
    }
    stage.change(|app| app.redirect_uris.clear());
    stage.authorize(ACME_TENANT, &[]).await.is_page(500_113);
}

#[tokio::test]
async fn an_unknown_client_id_or_the_object_id_is_700016() {
    let stage = Stage::new();
    let mut object_id = String::new();
    stage.change(|app| object_id.clone_from(&app.object_id));
    stage.authorize(ACME_TENANT, &[("client_id", &object_id)]).await.is_page(700_016);
    stage.authorize(GLOBEX_TENANT, &[]).await.is_page(700_016);
}

#[tokio::test]
async fn an_unknown_tenant_is_90002_and_a_shared_one_50194() {
    let stage = Stage::new();
    stage.authorize("nobody.example", &[]).await.is_page(90_002);
    stage.authorize("common", &[]).await.is_page(50_194);
}

#[tokio::test]
async fn where_assignment_is_required_an_unassigned_person_is_50105() {
    let stage = Stage::new();
    stage.change(|app| {
        app.assignment_required = true;
        app.assigned.insert(ADA.to_owned());
    });
    stage.pick(MIRA).await.is_page(50_105);
    assert!(stage.pick(ADA).await.parameter("code").is_some());
}

#[tokio::test]
async fn an_account_of_another_directory_is_50020_and_a_disabled_one_50057() {
    let stage = Stage::new();
    stage.pick(BEN_OF_GLOBEX).await.is_page(50_020);
    stage.pick(DISABLED).await.is_page(50_057);
}

#[tokio::test]
async fn a_disabled_application_is_7000112() {
    let stage = Stage::new();
    stage.change(|app| app.enabled = false);
    stage.pick(MIRA).await.is_page(7_000_112);
}

#[tokio::test]
async fn a_refusals_page_shows_what_was_sent_as_text() {
    let answer = Stage::new().authorize(ACME_TENANT, &[("redirect_uri", "https://x.example/<script>")]).await;
    answer.is_page(50_011);
    assert!(!answer.body.contains("<script>"), "{}", answer.body);
}

// Refusals that come back to the application

#[tokio::test]
async fn cancel_comes_back_with_a_subcode_and_no_description() {
    let back = Stage::new().act(&[("cancel", "yes")], &[]).await;
    assert_eq!(back.parameter("error").as_deref(), Some("access_denied"));
    assert_eq!(back.parameter("error_subcode").as_deref(), Some("cancel"));
    assert_eq!(back.parameter("state").as_deref(), Some("the state"));
    assert_eq!(back.parameter("error_description"), None);
}

#[tokio::test]
async fn who_declines_consent_comes_back_with_65004() {
    let stage = Stage::new();
    stage.change(|app| app.admin_consent = false);
    assert!(stage.pick(MIRA).await.body.contains("Permissions requested"));
    let back = stage.act(&[("person", MIRA), ("consent", "decline")], &[]).await;
    assert_eq!(back.parameter("error").as_deref(), Some("access_denied"));
    assert_eq!(back.parameter("state").as_deref(), Some("the state"));
    let description = back.parameter("error_description").unwrap();
    assert!(
        description.starts_with("AADSTS65004: ") && description.contains("\r\nTrace ID: "),
        "{description:?}"
    );
    assert!(back.location.unwrap().contains("%0D%0ATrace+ID"), "plus-encoded");

    let back = stage.act(&[("person", MIRA), ("consent", "accept")], &[]).await;
    assert!(back.parameter("code").is_some());
    assert!(stage.pick(MIRA).await.parameter("code").is_some(), "asked once");
}

#[tokio::test]
async fn without_consent_and_with_assignment_only_an_administrator_gets_through() {
    let stage = Stage::new();
    stage.change(|app| {
        app.admin_consent = false;
        app.assignment_required = true;
        app.assigned.extend([ADA.to_owned(), MIRA.to_owned()]);
    });
    stage.pick(MIRA).await.is_page(90_094);
    let back = stage.act(&[("person", ADA), ("consent", "accept"), ("for_everybody", "yes")], &[]).await;
    assert!(back.parameter("code").is_some());
    assert!(stage.pick(MIRA).await.parameter("code").is_some());
}

#[tokio::test]
async fn what_cannot_be_asked_for_comes_back_by_number() {
    let stage = Stage::new();
    let cases = [
        (("scope", "openid groups"), "invalid_client", "AADSTS650053"),
        (("scope", "profile"), "invalid_scope", "AADSTS70011"),
        (("response_type", "id_token"), "unsupported_response_type", "AADSTS70005"),
        (("code_challenge", "short"), "invalid_request", "AADSTS501491"),
        (("prompt", "none"), "login_required", "AADSTS50058"),
    ];
    for (change, error, number) in cases {
        let back = stage.authorize(ACME_TENANT, &[change]).await;
        assert_eq!(back.parameter("error").as_deref(), Some(error), "{number}");
        assert!(back.parameter("error_description").unwrap().starts_with(number));
    }
}

// Refusals of the token endpoint

#[tokio::test]
async fn a_wrong_secret_or_the_secrets_id_is_7000215() {
    let stage = Stage::new();
    let mut secret_id = String::new();
    stage.change(|app| secret_id.clone_from(&app.secrets[0].id));
    let code = stage.code_for(MIRA).await;
    for wrong in ["wrong", secret_id.as_str()] {
        let answer = stage.redeem(&code, &[("client_secret", wrong)]).await;
        answer.is_token_error(401, "invalid_client", 7_000_215);
    }
    assert_eq!(stage.redeem(&code, &[]).await.status, StatusCode::OK, "a wrong secret burns no code");
}

#[tokio::test]
async fn an_expired_secret_is_7000222() {
    let stage = Stage::new();
    stage.change(|app| app.secrets[0].expires_at = NOW - 1);
    let code = stage.code_for(MIRA).await;
    stage.redeem(&code, &[]).await.is_token_error(401, "invalid_client", 7_000_222);
}

#[tokio::test]
async fn no_secret_is_7000218() {
    let stage = Stage::new();
    let code = stage.code_for(MIRA).await;
    stage.redeem(&code, &[("client_secret", "")]).await.is_token_error(401, "invalid_client", 7_000_218);
}

#[tokio::test]
async fn a_secret_for_a_mobile_application_is_700025() {
    let stage = Stage::with_platform(Platform::Native);
    let code = stage.code_for(MIRA).await;
    stage.redeem(&code, &[]).await.is_token_error(401, "invalid_client", 700_025);
    assert_eq!(stage.redeem(&code, &[("client_secret", "")]).await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_single_page_application_is_9002325_without_pkce_and_9002327_from_a_server() {
    let stage = Stage::with_platform(Platform::SinglePage);
    let no_pkce = [("code_challenge", ""), ("code_challenge_method", "")];
    let code = stage.act(&[("person", MIRA)], &no_pkce).await.parameter("code").unwrap();
    stage.redeem(&code, &[("code_verifier", "")]).await.is_token_error(400, "invalid_request", 9_002_325);
    let code = stage.code_for(MIRA).await;
    stage.redeem(&code, &[]).await.is_token_error(400, "invalid_request", 9_002_327);
    let browser = [("origin", "http://localhost:8080")];
    assert_eq!(stage.redeem_with(&code, &[], &browser).await.status, StatusCode::OK);
}

#[tokio::test]
async fn an_origin_header_with_a_web_redirect_is_9002326() {
    let stage = Stage::new();
    let code = stage.code_for(MIRA).await;
    let answer = stage.redeem_with(&code, &[], &[("origin", "http://localhost:8080")]).await;
    answer.is_token_error(400, "invalid_request", 9_002_326);
}

#[tokio::test]
async fn a_code_works_once_then_it_is_54005() {
    let stage = Stage::new();
    let code = stage.code_for(MIRA).await;
    assert_eq!(stage.redeem(&code, &[]).await.status, StatusCode::OK);
    stage.redeem(&code, &[]).await.is_token_error(400, "invalid_grant", 54_005);
}

#[tokio::test]
async fn a_code_older_than_ten_minutes_is_70008() {
    let stage = Stage::new();
    let code = stage.code_for(MIRA).await;
    stage.clock.fetch_add(601, Ordering::Relaxed);
    stage.redeem(&code, &[]).await.is_token_error(400, "invalid_grant", 70_008);
}

#[tokio::test]
async fn a_wrong_or_missing_verifier_is_501481_and_burns_the_code() {
    let stage = Stage::new();
    for wrong in ["another-verifier-that-is-long-enough-to-be-one", ""] {
        let code = stage.code_for(MIRA).await;
        let answer = stage.redeem(&code, &[("code_verifier", wrong)]).await;
        answer.is_token_error(400, "invalid_grant", 501_481);
        stage.redeem(&code, &[]).await.is_token_error(400, "invalid_grant", 54_005);
    }
}

#[tokio::test]
async fn a_code_belongs_to_its_redirect_uri_and_an_unknown_one_is_70000() {
    let stage = Stage::new();
    let code = stage.code_for(MIRA).await;
    let elsewhere = [("redirect_uri", "http://localhost:8080/elsewhere")];
    stage.redeem(&code, &elsewhere).await.is_token_error(400, "invalid_grant", 500_112);
    stage.redeem("1.unknown", &[]).await.is_token_error(400, "invalid_grant", 70_000);
}

#[tokio::test]
async fn an_unknown_application_at_the_token_endpoint_is_700016() {
    let stage = Stage::new();
    let code = stage.code_for(MIRA).await;
    let answer = stage.redeem(&code, &[("client_id", "00000000-0000-4000-8000-000000000000")]).await;
    answer.is_token_error(400, "unauthorized_client", 700_016);
}

#[tokio::test]
async fn the_probe_without_a_person_tells_the_state_of_the_secret() {
    let stage = Stage::new();
    let path = format!("/{ACME_TENANT}/oauth2/v2.0/token");
    let probe = |secret: String| {
        let fields = [
            ("grant_type", "client_credentials"),
            ("client_id", &stage.client_id),
            ("client_secret", &secret),
        ];
        encoded(&fields)
    };
    for (secret, status) in [(stage.secret.clone(), 200), ("wrong".to_owned(), 401)] {
        let request = Request::post(&path)
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(Body::from(probe(secret)))
            .unwrap();
        assert_eq!(stage.send(request).await.status.as_u16(), status);
    }
}

#[tokio::test]
async fn garbage_is_refused_by_number() {
    let stage = Stage::new();
    let path = format!("/{ACME_TENANT}/oauth2/v2.0/token");
    stage.post(&path, &[]).await.is_token_error(400, "invalid_request", 900_144);
    let odd = [("grant_type", "password"), ("client_id", &stage.client_id)];
    stage.post(&path, &odd).await.is_token_error(400, "unsupported_grant_type", 70_003);
    let header = [("authorization", "Basic ***")];
    let answer = stage.post_with(&path, &[("grant_type", "authorization_code")], &header).await;
    answer.is_token_error(400, "invalid_request", 9_002_313);
}

// Faults that are switched on

#[tokio::test]
async fn every_offered_fault_changes_the_next_sign_in_and_only_that() {
    for offer in super::fault::OFFERS {
        let stage = Stage::new();
        stage.change(|app| app.fault = Some(offer.fault));
        let start = stage.authorize(ACME_TENANT, &[]).await;
        if start.status == StatusCode::OK {
            let back = stage.pick(MIRA).await;
            if let Some(code) = back.location.as_ref().and_then(|_| back.parameter("code")) {
                stage.redeem(&code, &[]).await;
            }
        }
        let mut left = None;
        stage.change(|app| left = app.fault);
        assert_eq!(left, None, "{} did not act", offer.value);
        stage.claims_of(MIRA).await;
    }
}

#[tokio::test]
async fn a_fault_of_the_id_token_spoils_one_thing() {
    let stage = Stage::new();
    let keys = stage.get(&format!("/{ACME_TENANT}/discovery/v2.0/keys")).await.json();
    assert_ne!(claims(&stage.token_with("wrong-audience").await)["aud"], stage.client_id.as_str());
    assert_ne!(claims(&stage.token_with("wrong-nonce").await)["nonce"], "the nonce");
    assert_eq!(claims(&stage.token_with("clock-ahead").await)["iat"], NOW + 600);
    assert!(claims(&stage.token_with("expired").await)["exp"].as_i64().unwrap() < NOW - 3_000);
    let v1 = claims(&stage.token_with("issuer-v1").await);
    assert_eq!(
        (v1["ver"].as_str(), v1["iss"].as_str().unwrap().contains("sts.windows.net")),
        (Some("1.0"), true)
    );
    assert_eq!(claims(&stage.token_with("wrong-tenant").await)["tid"], GLOBEX_TENANT);
    assert!(claims(&stage.token_with("no-oid").await).get("oid").is_none());
    assert_eq!(part(&stage.token_with("unsigned").await, 0)["alg"], "none");
    assert!(!is_signed_by(&stage.token_with("wrong-signature").await, &keys));
    assert!(!is_signed_by(&stage.token_with("unknown-key").await, &keys));
    let foreign = stage.token_with("foreign-key").await;
    assert!(is_signed_by(&foreign, &keys), "the signature is right, the key's issuer is not");
}

#[tokio::test]
async fn a_non_gallery_application_signs_with_a_key_of_its_own() {
    let stage = Stage::new();
    stage.change(|app| app.kind = AppKind::NonGallery);
    let code = stage.code_for(MIRA).await;
    let body = stage.redeem(&code, &[]).await.json();
    let token = body["id_token"].as_str().unwrap();
    let set = stage.get(&format!("/{ACME_TENANT}/discovery/v2.0/keys")).await.json();
    assert!(!is_signed_by(token, &set));
    let own =
        stage.get(&format!("/{ACME_TENANT}/discovery/v2.0/keys?appid={}", stage.client_id)).await.json();
    assert!(is_signed_by(token, &own));
}

#[tokio::test]
async fn faults_of_the_token_endpoint_have_their_shapes() {
    let stage = Stage::new();
    let redeem_with = async |fault: &str| {
        stage.change(|app| app.fault = Fault::from_value(fault));
        let code = stage.code_for(MIRA).await;
        stage.redeem(&code, &[]).await
    };
    redeem_with("token-9002325").await.is_token_error(400, "invalid_request", 9_002_325);
    redeem_with("token-90055").await.is_token_error(429, "temporarily_unavailable", 90_055);
    assert_eq!(redeem_with("token-503").await.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(redeem_with("token-not-json").await.body, "OK\n");
    assert!(redeem_with("token-no-id-token").await.json().get("id_token").is_none());
    assert!(redeem_with("token-slow").await.json().get("id_token").is_some());
}

// Keys that change

#[tokio::test]
async fn a_planned_change_uses_a_key_that_was_published_before_and_keeps_the_old_one() {
    let stage = Stage::new();
    let address = format!("/{ACME_TENANT}/discovery/v2.0/keys");
    let before = stage.get(&address).await.json();
    let code = stage.code_for(MIRA).await;
    let under_way = stage.redeem(&code, &[]).await.json()["id_token"].as_str().unwrap().to_owned();
    stage.post("/console/acme.example/keys", &[("rollover", "planned")]).await;
    let code = stage.code_for(MIRA).await;
    let token = stage.redeem(&code, &[]).await.json()["id_token"].as_str().unwrap().to_owned();
    assert!(is_signed_by(&token, &before), "whoever cached the old set goes on");
    assert!(is_signed_by(&under_way, &stage.get(&address).await.json()), "tokens under way still count");
}

#[tokio::test]
async fn an_emergency_leaves_none_of_the_old_keys() {
    let stage = Stage::new();
    let address = format!("/{ACME_TENANT}/discovery/v2.0/keys");
    let before = stage.get(&address).await.json();
    stage.post("/console/acme.example/keys", &[("rollover", "emergency")]).await;
    let code = stage.code_for(MIRA).await;
    let token = stage.redeem(&code, &[]).await.json()["id_token"].as_str().unwrap().to_owned();
    assert!(!is_signed_by(&token, &before));
    assert!(is_signed_by(&token, &stage.get(&address).await.json()));
}

// The console: the guide, clicked

/// The value of an input that a page shows under this id.
fn shown(page: &str, id: &str) -> String {
    let (_, after) =
        page.split_once(&format!("id=\"{id}\" value=\"")).unwrap_or_else(|| panic!("no {id} in {page}"));
    after.split_once('"').unwrap().0.to_owned()
}

#[tokio::test]
async fn the_guide_can_be_clicked_from_the_first_page_to_a_sign_in() {
    let mut stage = Stage::new();
    assert!(stage.get("/console/acme.example").await.body.contains("Enterprise applications"));
    let list = stage.get("/console/acme.example/enterprise-apps").await;
    assert!(list.body.contains("New application"));
    assert!(
        stage
            .get("/console/acme.example/enterprise-apps/new")
            .await
            .body
            .contains("Create your own application")
    );
    let created = stage
        .post("/console/acme.example/enterprise-apps/create", &[("name", "My hub"), ("kind", "developing")])
        .await;
    let form = stage.get(created.location.as_deref().unwrap()).await;
    assert!(form.body.contains("Register an application") && form.body.contains("My hub"));
    let registered = stage
        .post(
            "/console/acme.example/register",
            &[("name", "My hub"), ("audience", "single"), ("platform", "web"), ("redirect_uri", CALLBACK)],
        )
        .await;
    let enterprise = registered.location.unwrap();
    assert!(stage.get(&enterprise).await.body.contains("Users and groups"));
    let single_sign_on = stage.get(&format!("{enterprise}/single-sign-on")).await;
    assert!(single_sign_on.body.contains("Go to application"));
    let registration = enterprise.replace("enterprise-apps", "app-registrations");
    let overview = stage.get(&registration).await.body;
    let (client_id, object_id) = (shown(&overview, "client-id"), shown(&overview, "object-id"));
    assert_ne!(client_id, object_id);
    assert_eq!(shown(&overview, "tenant-id"), ACME_TENANT);
    let endpoints = stage.get(&format!("{registration}/endpoints")).await.body;
    assert!(endpoints.contains("OpenID Connect metadata document"));
    let metadata = shown(&endpoints, "metadata");
    assert_eq!(metadata, format!("{BASE}/{ACME_TENANT}/v2.0/.well-known/openid-configuration"));
    let secrets = format!("{registration}/secrets");
    stage.post(&secrets, &[("description", "for Doorward"), ("expires", "180")]).await;
    let value = shown(&stage.get(&secrets).await.body, "value-1");
    let again = stage.get(&secrets).await.body;
    assert!(!again.contains(&value), "the value is shown once");
    assert_ne!(shown(&again, "secret-id-1"), value);
    stage.post(&format!("{registration}/permissions"), &[]).await;

    (stage.client_id, stage.secret) = (client_id, value);
    assert_eq!(stage.claims_of(ADA).await["email"], "ada@acme.example");
}

#[tokio::test]
async fn the_non_gallery_choice_explains_why_it_is_the_wrong_one() {
    let stage = Stage::new();
    let form = [("name", "Wrong"), ("kind", "non-gallery")];
    let created = stage.post("/console/acme.example/enterprise-apps/create", &form).await;
    let page = stage.get(&format!("{}/single-sign-on", created.location.unwrap())).await.body;
    assert!(page.contains("made for SAML") && !page.contains("Go to application"));
}

#[tokio::test]
async fn a_registration_for_several_directories_shows_shared_endpoints() {
    let stage = Stage::new();
    let form = [("name", "Wrong"), ("audience", "any")];
    let registered = stage.post("/console/acme.example/register", &form).await.location.unwrap();
    let endpoints =
        stage.get(&format!("{}/endpoints", registered.replace("enterprise-apps", "app-registrations"))).await;
    assert!(shown(&endpoints.body, "metadata").contains("/organizations/v2.0/"));
}

#[tokio::test]
async fn a_form_with_a_mistake_keeps_what_was_typed() {
    let stage = Stage::new();
    let form = [("name", "My hub"), ("platform", "web"), ("redirect_uri", "http://127.0.0.1:8080/x")];
    let answer = stage.post("/console/acme.example/register", &form).await;
    assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(answer.body.contains("http://127.0.0.1:8080/x") && answer.body.contains("My hub"));
}

#[tokio::test]
async fn every_page_says_that_it_is_not_microsoft() {
    let stage = Stage::new();
    let mut object_id = String::new();
    stage.change(|app| object_id.clone_from(&app.object_id));
    let mut paths: Vec<String> = [
        "",
        "/users",
        "/keys",
        "/enterprise-apps",
        "/enterprise-apps/new",
        "/enterprise-apps/create",
        "/register",
    ]
    .map(|path| format!("/console/acme.example{path}"))
    .to_vec();
    for page in ["", "/properties", "/users", "/single-sign-on"] {
        paths.push(format!("/console/acme.example/enterprise-apps/{object_id}{page}"));
    }
    for page in ["", "/endpoints", "/authentication", "/secrets", "/permissions", "/faults"] {
        paths.push(format!("/console/acme.example/app-registrations/{object_id}{page}"));
    }
    paths.extend([
        "/error?code=50011".to_owned(),
        "/nowhere".to_owned(),
        "/console/nobody.example".to_owned(),
    ]);
    for path in paths {
        let page = stage.get(&path).await;
        assert!(page.body.contains("Not Microsoft"), "{path}: {}", page.body);
        assert_ne!(page.status, StatusCode::INTERNAL_SERVER_ERROR, "{path}");
    }
}

#[tokio::test]
async fn a_form_sent_by_another_sites_page_is_refused() {
    let stage = Stage::new();
    let form = [("name", "Evil"), ("kind", "non-gallery")];
    let path = "/console/acme.example/enterprise-apps/create";
    let answer = stage.post_with(path, &form, &[("sec-fetch-site", "cross-site")]).await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
}
