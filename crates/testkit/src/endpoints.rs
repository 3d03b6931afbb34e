//! What the fake provider's endpoints do with a request, by the book first.
//!
//! In: one HTTP request and the state behind the lock. Out: one answer.
//! Never here: how a wrong answer is made; that is asked of `metadata.rs`, `id_token.rs` and `spoiled_answers.rs`.
//! Invariant: a misbehaviour shows only where the right answer would have been a good one.

use std::sync::atomic::Ordering;
use std::sync::{MutexGuard, PoisonError};

use http::header::{AUTHORIZATION, CONTENT_TYPE, ORIGIN, WWW_AUTHENTICATE};
use http::{HeaderValue, Method};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use serde_json::{Map, Value, json};

use crate::fake_idp::{Grant, LastAttempt, Shared, SignedIn, State};
use crate::id_token::{self, Draft};
use crate::metadata::{Issuer, Personality, with};
use crate::misbehavior::{Misbehavior, Stage};
use crate::odd_answers::{Answer, HangUp, answer, json as json_answer, odd_answer, page, redirect};
use crate::registry::{Client, Endpoint, Person, Problem, Request, judge_client, pairs};
use crate::signing::{RSA_STRANGER, base64url, guid, sha256, word};
use crate::spoiled_answers::{odd, spoil_callback, spoil_token_answer};

/// A code may be redeemed for ten minutes.
const CODE_LIFE_MS: i64 = 600_000;
/// Nobody sends more than this to a provider.
const REQUEST_BYTES_MAX: usize = 1 << 20;

impl State {
    pub(crate) fn next(&mut self) -> u64 {
        self.counter += 1;
        self.counter
    }

    /// The misbehaviours for an answer of this stage. Those for one answer are used up.
    fn faults(&mut self, stage: Stage) -> Vec<Misbehavior> {
        let mut faults: Vec<Misbehavior> =
            self.always.iter().copied().filter(|m| m.stage() == stage).collect();
        if let Some(at) = self.once.iter().position(|m| m.stage() == stage) {
            faults.extend(self.once.remove(at));
        }
        faults
    }

    /// Who signs in now.
    fn person(&self, hint: &str) -> Option<&Person> {
        let named = |name: &str| self.people.iter().find(|person| person.name == name);
        let hinted = |person: &&Person| {
            [Some(person.name.as_str()), Some(person.username.as_str()), person.email.as_deref()]
                .contains(&Some(hint))
        };
        match &self.signed_in {
            SignedIn::Nobody => None,
            SignedIn::Person(name) => named(name),
            SignedIn::Hinted => self.people.iter().find(hinted).or_else(|| self.people.first()),
        }
    }

    pub(crate) fn issuer(&self, name: &str) -> Issuer {
        self.issuers.iter().find(|issuer| issuer.name == name).expect("a known issuer").clone()
    }
}

impl Shared {
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now_ms(&self) -> i64 {
        self.clock.load(Ordering::SeqCst)
    }

    pub(crate) fn client(&self, id: &str, change: impl FnOnce(&mut Client)) {
        let mut state = self.lock();
        change(state.clients.iter_mut().find(|client| client.id == id).expect("a registered client"));
    }

    pub(crate) async fn answer(&self, request: http::Request<Incoming>) -> Result<Answer, HangUp> {
        let (head, body) = request.into_parts();
        let Ok(body) = Limited::new(body, REQUEST_BYTES_MAX).collect().await else {
            return Ok(page(413, "Too large", "That is more than anybody sends here."));
        };
        let is_form = head
            .headers
            .get(CONTENT_TYPE)
            .is_some_and(|value| value.as_bytes().starts_with(b"application/x-www-form-urlencoded"));
        let form = if is_form { pairs(&body.to_bytes()) } else { Vec::new() };
        let path = head.uri.path();
        let (moved, path) = path.strip_prefix("/moved").map_or((false, path), |rest| (true, rest));
        let (issuer, kind) = self.place(path);
        let request = Request {
            kind: if moved { Endpoint::Moved } else { kind },
            issuer: issuer.clone(),
            method: head.method,
            target: head.uri.to_string(),
            headers: head.headers,
            query: pairs(head.uri.query().unwrap_or_default().as_bytes()),
            form,
        };
        self.lock().log.push(request.clone());
        match kind {
            Endpoint::Discovery => self.discovery(&issuer, moved).await,
            Endpoint::Jwks => self.jwks(&issuer, moved).await,
            Endpoint::Authorize => Ok(self.authorize(&issuer, &request)),
            Endpoint::Token => self.token(&issuer, &request, moved).await,
            Endpoint::Userinfo => self.userinfo(&request, moved).await,
            Endpoint::Claims => Ok(json_answer(200, &json!({"groups": ["fetched-from-a-stranger"]}))),
            Endpoint::Stray if path == "/strangers-keys" => {
                let key = with(RSA_STRANGER.jwk(), json!({"kid": "stranger", "use": "sig"}));
                Ok(json_answer(200, &json!({ "keys": [key] })))
            }
            Endpoint::Stray
                if self.personality == Personality::EntraLike && path.ends_with("/openid-configuration") =>
            {
                Ok(self.entra_shared_document(path))
            }
            Endpoint::Moved | Endpoint::Stray => Ok(page(404, "Not found", "There is nothing here.")),
        }
    }

    fn place(&self, path: &str) -> (String, Endpoint) {
        for issuer in &self.lock().issuers {
            for (known, kind) in [
                (&issuer.discovery, Endpoint::Discovery),
                (&issuer.jwks, Endpoint::Jwks),
                (&issuer.authorize, Endpoint::Authorize),
                (&issuer.token, Endpoint::Token),
                (&issuer.userinfo, Endpoint::Userinfo),
                (&issuer.claims, Endpoint::Claims),
            ] {
                if known == path {
                    return (issuer.name.clone(), kind);
                }
            }
        }
        (String::new(), Endpoint::Stray)
    }

    async fn discovery(&self, issuer: &str, moved: bool) -> Result<Answer, HangUp> {
        let (issuer, fault) = {
            let mut state = self.lock();
            let fault = if moved { None } else { state.faults(Stage::Discovery).pop() };
            (state.issuer(issuer), fault)
        };
        if let Some(odd) = fault.and_then(odd) {
            return odd_answer(odd).await;
        }
        Ok(match fault {
            Some(Misbehavior::DiscoveryRedirect) => {
                redirect(302, &format!("{}/moved{}", self.base, issuer.discovery))
            }
            Some(Misbehavior::DiscoveryWrongContentType) => {
                answer(200, "text/html; charset=utf-8", issuer.metadata_text(None))
            }
            _ => answer(200, "application/json", issuer.metadata_text(fault)),
        })
    }

    /// What Entra answers for `common` and `organizations`, and for a tenant that it does not know.
    fn entra_shared_document(&self, path: &str) -> Answer {
        if path.starts_with("/common/v2.0/") || path.starts_with("/organizations/v2.0/") {
            let main = self.lock().issuer("main");
            let text = main.metadata_text(Some(Misbehavior::DiscoveryIssuerTemplate));
            return answer(200, "application/json", text);
        }
        json_answer(
            400,
            &json!({"error": "invalid_tenant", "error_description": "AADSTS90002: Tenant not found.", "error_codes": [90_002]}),
        )
    }

    async fn jwks(&self, issuer: &str, moved: bool) -> Result<Answer, HangUp> {
        let (issuer, fault, generation, overlap) = {
            let mut state = self.lock();
            let fault = if moved { None } else { state.faults(Stage::Jwks).pop() };
            let held = state.always.iter().copied().find(|m| m.holds());
            (state.issuer(issuer), fault.or(held), state.generation, state.overlap)
        };
        if let Some(odd) = fault.and_then(odd) {
            return odd_answer(odd).await;
        }
        if fault == Some(Misbehavior::JwksRedirect) {
            return Ok(redirect(302, &format!("{}/moved{}", self.base, issuer.jwks)));
        }
        Ok(answer(200, "application/json", issuer.jwks_text(generation, overlap, fault)))
    }

    // --- authorize --------------------------------------------------------------------------------------------

    fn authorize(&self, issuer: &str, request: &Request) -> Answer {
        let mut state = self.lock();
        let issuer = state.issuer(issuer);
        let field = |name: &str| request.field(name).unwrap_or_default();
        // Errors about client or address must never redirect.
        if let Some(name) = request.doubled_field() {
            return page(400, "Request refused", &format!("The parameter {name} came twice."));
        }
        let Some(client) = state.clients.iter().find(|client| client.id == field("client_id")).cloned()
        else {
            return page(400, "Request refused", &self.text("AADSTS700016: ", "Unknown client_id."));
        };
        let redirect_uri = field("redirect_uri").to_owned();
        if !client.redirect_uris.contains(&redirect_uri) {
            let text = self.text("AADSTS50011: ", "This redirect_uri is not registered for the application.");
            return page(400, "Request refused", &text);
        }
        let scope = field("scope").to_owned();
        let knows = |wanted: &str| scope.split(' ').any(|one| one == wanted);
        if self.personality == Personality::EntraLike && knows("groups") {
            return page(400, "Request refused", "AADSTS650053: The scope 'groups' does not exist.");
        }
        let person = state.person(field("login_hint")).cloned();
        let problem = if field("response_type") != "code" {
            Some(("unsupported_response_type", "Only the code flow is open."))
        } else if !knows("openid") {
            Some(("invalid_scope", "The scope openid is missing."))
        } else if field("code_challenge_method") != "S256" || field("code_challenge").len() != 43 {
            Some(("invalid_request", "A code_challenge with S256 is demanded."))
        } else if !field("response_mode").is_empty() && field("response_mode") != "query" {
            Some(("invalid_request", "Only response_mode query is offered."))
        } else if person.is_none() && field("prompt") == "none" {
            Some(("login_required", "Nobody is signed in."))
        } else {
            None
        };
        let Some(person) = person.or_else(|| problem.map(|_| Person::new("nobody", "", ""))) else {
            return page(200, "Sign in", "Nobody is signed in here: call signs_in first.");
        };

        let mut answer: Vec<(String, String)> = Vec::new();
        let mut add = |name: &str, value: &str| answer.push((name.into(), value.into()));
        let code = format!("c-{}", word(self.seed, &format!("code/{}", state.next())));
        let previous = state.last_attempt.clone();
        if let Some((error, description)) = problem {
            add("error", error);
            add("error_description", description);
        } else {
            add("code", &code);
            let nonce = request.field("nonce").map(str::to_owned);
            let grant = Grant {
                issuer: issuer.name.clone(),
                client_id: client.id,
                redirect_uri: redirect_uri.clone(),
                challenge: field("code_challenge").into(),
                scope,
                nonce: nonce.clone(),
                previous_nonce: previous.as_ref().and_then(|last| last.nonce.clone()),
                max_age: request.field("max_age").is_some(),
                acr: field("acr_values").split(' ').next().filter(|acr| !acr.is_empty()).map(str::to_owned),
                person,
                given_at_ms: self.now_ms(),
                spent: false,
            };
            state.grants.insert(code.clone(), grant);
            let last = LastAttempt { state: field("state").into(), code, nonce };
            state.last_attempt = Some(last);
        }
        if let Some(value) = request.field("state") {
            add("state", value);
        }
        if self.personality == Personality::EntraLike {
            add("session_state", &guid(self.seed, "session_state"));
        } else {
            add("iss", &issuer.url);
        }
        if problem.is_none() {
            let other = state.issuer("other").url;
            for fault in state.faults(Stage::Callback) {
                spoil_callback(fault, &mut answer, &issuer.url, &other, previous.as_ref());
            }
        }
        let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(answer).finish();
        let joint = if redirect_uri.contains('?') { '&' } else { '?' };
        redirect(302, &format!("{redirect_uri}{joint}{query}"))
    }

    /// A text for people, with Entra's number in front if this is Entra.
    fn text(&self, entra: &str, text: &str) -> String {
        if self.personality == Personality::EntraLike { format!("{entra}{text}") } else { text.into() }
    }

    // --- token ------------------------------------------------------------------------------------------------

    async fn token(&self, issuer: &str, request: &Request, moved: bool) -> Result<Answer, HangUp> {
        let grant = match self.redeem(issuer, request) {
            Ok(grant) => grant,
            Err(problem) => return Ok(self.refusal(&problem, request)),
        };
        let (good, fault) = self.issue(&grant, moved);
        if let Some(odd) = fault.and_then(odd) {
            return odd_answer(odd).await;
        }
        if matches!(fault, Some(Misbehavior::TokenRedirect | Misbehavior::TokenRedirect307)) {
            // Whoever follows shall succeed, so that only not following saves the code.
            let code = request.field("code").unwrap_or_default();
            self.lock().grants.entry(code.into()).and_modify(|grant| grant.spent = false);
        }
        let moved_to = format!("{}/moved{}", self.base, request.target);
        Ok(spoil_token_answer(fault, good, &moved_to, |problem| self.refusal(&problem, request)))
    }

    /// Judges a token request; a good one spends its code.
    fn redeem(&self, issuer: &str, request: &Request) -> Result<Grant, Problem> {
        let mut state = self.lock();
        let field = |name: &str| request.field(name).unwrap_or_default();
        let invalid = |text| Problem { status: 400, error: "invalid_request", aadsts: 900_144, text };
        if request.method != Method::POST || !request.query.is_empty() {
            return Err(invalid("Send a form by POST, and nothing in the query."));
        }
        if request.doubled_field().is_some() {
            return Err(invalid("A parameter came twice."));
        }
        if request.headers.contains_key(ORIGIN) {
            return Err(Problem { aadsts: 9_002_326, ..invalid("Cross-origin redemption is for browsers.") });
        }
        if field("grant_type") != "authorization_code" {
            return Err(Problem {
                error: "unsupported_grant_type",
                aadsts: 70_003,
                ..invalid("Only codes.")
            });
        }
        let client = judge_client(&state.clients, request)?.id.clone();
        let now_ms = self.now_ms();
        let grant = state.grants.get_mut(field("code")).filter(|grant| grant.client_id == client);
        let denied = |aadsts, text| Problem { status: 400, error: "invalid_grant", aadsts, text };
        let Some(grant) = grant else { return Err(denied(70_008, "The code is unknown.")) };
        if std::mem::replace(&mut grant.spent, true) {
            return Err(denied(54_005, "The code was redeemed already."));
        }
        if grant.issuer != issuer {
            return Err(denied(700_005, "The code is another tenant's."));
        }
        if now_ms - grant.given_at_ms > CODE_LIFE_MS {
            return Err(denied(70_008, "The code has expired."));
        }
        if grant.redirect_uri != field("redirect_uri") {
            return Err(denied(50_011, "The redirect_uri is not the one of the authorization request."));
        }
        let verifier = field("code_verifier");
        if !(43..=128).contains(&verifier.len()) || base64url(sha256(verifier)) != grant.challenge {
            return Err(denied(501_481, "The code_verifier does not fit the code_challenge."));
        }
        Ok(grant.clone())
    }

    /// The token answer's members, and what is to be done to it as a whole.
    fn issue(&self, grant: &Grant, moved: bool) -> (Map<String, Value>, Option<Misbehavior>) {
        let mut state = self.lock();
        let faults = state.faults(Stage::IdToken);
        for (fault, overlap) in
            [(Misbehavior::KeysRotatedWithOverlap, true), (Misbehavior::KeysRotatedWithoutOverlap, false)]
        {
            if faults.contains(&fault) {
                state.generation += 1;
                state.overlap = overlap;
            }
        }
        let fault = if moved { None } else { state.faults(Stage::Token).pop() };
        let access_token = format!("at-{}", word(self.seed, &format!("access/{}", state.next())));
        let now = (self.now_ms() + state.clock_error_ms).div_euclid(1000);
        let issuer = state.issuer(&grant.issuer);
        let secret = state.clients.iter().find(|client| client.id == grant.client_id);
        let secret = secret.map(|client| client.secret().to_owned()).unwrap_or_default();
        let other_client =
            state.clients.iter().map(|client| client.id.clone()).find(|id| *id != grant.client_id);
        let draft = Draft {
            issuer: &issuer,
            other_issuer: &state.issuer("other"),
            claims: self.claims(&issuer, grant, &access_token, now, state.claims_at_userinfo_only),
            client_id: &grant.client_id,
            client_secret: &secret,
            other_client: other_client.as_deref().unwrap_or("another client"),
            access_token: &access_token,
            previous_nonce: grant.previous_nonce.as_deref(),
            now,
            generation: state.generation,
            base: &self.base,
        };
        let id_token = draft.make(&faults);
        state.access_tokens.insert(access_token.clone(), grant.clone());
        let good = json!({
            "token_type": "Bearer",
            "scope": grant.scope,
            "expires_in": 3599,
            "access_token": access_token,
            "id_token": id_token,
        });
        let good = if self.personality == Personality::EntraLike {
            with(good, json!({"ext_expires_in": 3599}))
        } else {
            good
        };
        (good.as_object().cloned().unwrap_or_default(), fault)
    }

    /// The right claims of an ID token.
    fn claims(
        &self,
        issuer: &Issuer,
        grant: &Grant,
        access_token: &str,
        now: i64,
        only_core: bool,
    ) -> Map<String, Value> {
        let mut claims = json!({"iss": issuer.url, "aud": grant.client_id});
        let (issued_at, life) = match self.personality {
            Personality::EntraLike => (now - 300, 3900),
            Personality::Generic | Personality::GoogleLike => (now, 3600),
        };
        claims["iat"] = json!(issued_at);
        claims["exp"] = json!(issued_at + life);
        if let Some(nonce) = &grant.nonce {
            claims["nonce"] = json!(nonce);
        }
        if grant.max_age {
            claims["auth_time"] = json!(now);
        }
        if let Some(acr) = &grant.acr {
            claims["acr"] = json!(acr);
        }
        match self.personality {
            Personality::Generic => {}
            Personality::EntraLike => {
                claims["nbf"] = json!(issued_at);
                claims["ver"] = json!("2.0");
                claims["uti"] = json!(word(self.seed, grant.nonce.as_deref().unwrap_or("uti")));
                claims["rh"] = json!("1.AXkA");
                claims["aio"] = json!("AYQAe/8ZAAAA");
                if grant.scope.split(' ').any(|scope| scope == "profile") {
                    claims["tid"] = json!(issuer.tenant);
                    claims["oid"] = json!(grant.person.oid);
                }
            }
            Personality::GoogleLike => {
                claims["azp"] = json!(grant.client_id);
                claims["at_hash"] = json!(id_token::at_hash(access_token));
            }
        }
        let person = self.person_claims(grant, only_core);
        with(claims, Value::Object(person)).as_object().cloned().unwrap_or_default()
    }

    /// What is said about the person, as far as the scope goes.
    fn person_claims(&self, grant: &Grant, only_core: bool) -> Map<String, Value> {
        let person = &grant.person;
        let asked = |wanted: &str| grant.scope.split(' ').any(|scope| scope == wanted);
        let entra = self.personality == Personality::EntraLike;
        let sub = if entra {
            base64url(sha256(format!("{}/{}", person.sub, grant.client_id)))
        } else {
            person.sub.clone()
        };
        let mut claims = json!({ "sub": sub });
        if only_core {
            return claims.as_object().cloned().unwrap_or_default();
        }
        if asked("profile") {
            claims["name"] = json!(person.full_name);
            if self.personality != Personality::GoogleLike {
                claims["preferred_username"] = json!(person.username);
            }
        }
        if let (true, Some(email)) = (asked("email"), &person.email) {
            claims["email"] = json!(email);
            if !entra {
                claims["email_verified"] = json!(person.email_verified);
            }
        }
        with(claims, Value::Object(person.claims.clone())).as_object().cloned().unwrap_or_default()
    }

    /// An error of the token endpoint in the personality's form.
    fn refusal(&self, problem: &Problem, request: &Request) -> Answer {
        let body = if self.personality == Personality::EntraLike {
            let ids = ["trace", "correlation"].map(|label| guid(self.seed, label));
            json!({
                "error": problem.error,
                "error_description": format!(
                    "AADSTS{}: {}\r\nTrace ID: {}\r\nCorrelation ID: {}\r\nTimestamp: 2026-01-15 09:30:12Z",
                    problem.aadsts, problem.text, ids[0], ids[1]
                ),
                "error_codes": [problem.aadsts],
                "timestamp": "2026-01-15 09:30:12Z",
                "trace_id": ids[0],
                "correlation_id": ids[1],
                "error_uri": format!("{}/error?code={}", self.base, problem.aadsts),
            })
        } else {
            json!({"error": problem.error, "error_description": problem.text})
        };
        let mut answer = json_answer(problem.status, &body);
        if problem.status == 401 && request.headers.contains_key(AUTHORIZATION) {
            answer.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"token\""));
        }
        answer
    }

    // --- userinfo ---------------------------------------------------------------------------------------------

    async fn userinfo(&self, request: &Request, moved: bool) -> Result<Answer, HangUp> {
        let token = request.header("authorization").and_then(|value| value.strip_prefix("Bearer "));
        let (grant, fault) = {
            let mut state = self.lock();
            let grant = token.and_then(|token| state.access_tokens.get(token).cloned());
            let fault = if moved || grant.is_none() { None } else { state.faults(Stage::Userinfo).pop() };
            (grant, fault)
        };
        let Some(grant) = grant.filter(|_| fault != Some(Misbehavior::UserinfoUnauthorized)) else {
            let mut answer = json_answer(401, &json!({"error": "invalid_token"}));
            let challenge = HeaderValue::from_static("Bearer error=\"invalid_token\"");
            answer.headers_mut().insert(WWW_AUTHENTICATE, challenge);
            return Ok(answer);
        };
        if let Some(odd) = fault.and_then(odd) {
            return odd_answer(odd).await;
        }
        let mut claims = self.person_claims(&grant, false);
        let sub = claims.get("sub").and_then(Value::as_str).unwrap_or_default().to_owned();
        match fault {
            Some(Misbehavior::UserinfoOtherSub) => drop(claims.insert("sub".into(), json!(sub + "1"))),
            Some(Misbehavior::UserinfoSubMissing) => drop(claims.remove("sub")),
            Some(Misbehavior::UserinfoArray) => {
                return Ok(json_answer(200, &json!([claims])));
            }
            Some(Misbehavior::UserinfoWrongContentType) => {
                return Ok(answer(200, "text/html", Value::Object(claims).to_string()));
            }
            Some(Misbehavior::UserinfoRedirect) => {
                return Ok(redirect(302, &format!("{}/moved{}", self.base, request.target)));
            }
            _ => {}
        }
        Ok(json_answer(200, &Value::Object(claims)))
    }
}
