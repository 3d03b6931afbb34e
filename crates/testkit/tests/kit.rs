//! The kit proves itself: its browser against its provider, by way of a small hand-written relying party.
//!
//! The relying party below checks almost nothing: it is the channel through which a test sees what was sent.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "a test"
)]

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA512,
    RSA_PSS_2048_8192_SHA256, RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey,
};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use doorward_testkit::{
    Browser, Client, ClientAuth, Endpoint, FakeIdp, Misbehavior, Page, Person, Personality, SharedClock,
    Stage, TempDir, clock_at, free_port,
};
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpListener;
use url::Url;

const NOW_MS: i64 = 1_768_469_412_345;
const VERIFIER: &str = "a-verifier-of-forty-three-characters-or-more-0123456789";

// --- a small server: a table of paths ---------------------------------------------------------------------------

/// What a site was asked: head and body.
type SeenRequests = Arc<Mutex<Vec<(Request<()>, String)>>>;
type Handler = dyn Fn(&Request<Incoming>) -> Response<Full<Bytes>> + Send + Sync;

/// Serves what `handler` answers, on a free port, until the runtime ends. Also returns what was asked.
async fn site(handler: Arc<Handler>) -> (SocketAddr, SeenRequests) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let log: SeenRequests = Arc::default();
    let seen = Arc::clone(&log);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (handler, seen) = (Arc::clone(&handler), Arc::clone(&seen));
            tokio::spawn(async move {
                let service = service_fn(move |request: Request<Incoming>| {
                    let (handler, seen) = (Arc::clone(&handler), Arc::clone(&seen));
                    async move {
                        let answer = handler(&request);
                        let (head, body) = request.into_parts();
                        let body =
                            String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
                        seen.lock().unwrap().push((Request::from_parts(head, ()), body));
                        Ok::<_, Infallible>(answer)
                    }
                });
                drop(
                    hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await,
                );
            });
        }
    });
    (address, log)
}

fn html(body: &str) -> Response<Full<Bytes>> {
    Response::builder().header("content-type", "text/html").body(Full::from(body.to_owned())).unwrap()
}

// --- the relying party ------------------------------------------------------------------------------------------

/// Starts attempts, receives callbacks, redeems codes. No judgement beyond `state`.
struct RelyingParty {
    redirect_uri: String,
    client: Client,
    browser: Browser,
}

impl RelyingParty {
    async fn at(idp: &FakeIdp) -> Self {
        let (address, _) = site(Arc::new(|_: &Request<Incoming>| html("<h1>Back</h1>"))).await;
        let redirect_uri = format!("http://{address}/callback");
        let client = idp.new_client(&redirect_uri);
        Self { redirect_uri, client, browser: Browser::new() }
    }

    fn authorization_url(&self, idp: &FakeIdp, state: &str, more: &[(&str, &str)]) -> Url {
        let challenge = URL_SAFE_NO_PAD.encode(digest(&SHA256, VERIFIER.as_bytes()));
        let mut url = Url::parse(&idp.url_of(Endpoint::Authorize)).unwrap();
        url.query_pairs_mut()
            .append_pair("response_type", "code")
            .append_pair("client_id", &self.client.id)
            .append_pair("redirect_uri", &self.redirect_uri)
            .append_pair("scope", "openid email profile")
            .append_pair("state", state)
            .append_pair("nonce", &format!("nonce-of-{state}"))
            .append_pair("code_challenge", &challenge)
            .append_pair("code_challenge_method", "S256")
            .extend_pairs(more);
        url
    }

    /// The parameters with which the browser comes back.
    async fn authorize(&self, idp: &FakeIdp, state: &str, more: &[(&str, &str)]) -> Vec<(String, String)> {
        let page = self.browser.visit(self.authorization_url(idp, state, more).as_str()).await;
        assert!(page.says("Back"), "{}", self.browser.history());
        page.url.query_pairs().into_owned().collect()
    }

    fn token_form<'a>(&'a self, code: &'a str) -> Vec<(&'a str, &'a str)> {
        vec![
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", &self.redirect_uri),
            ("code_verifier", VERIFIER),
        ]
    }

    async fn redeem_by_post(&self, idp: &FakeIdp, code: &str, secret: &str) -> Page {
        let mut form = self.token_form(code);
        form.extend([("client_id", self.client.id.as_str()), ("client_secret", secret)]);
        post_form(&idp.url_of(Endpoint::Token), &[], &form).await
    }

    async fn redeem_by_basic(&self, idp: &FakeIdp, code: &str) -> Page {
        let encode = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
        let pair = format!("{}:{}", encode(&self.client.id), encode(self.client.secret()));
        let basic = format!("Basic {}", STANDARD.encode(pair));
        post_form(&idp.url_of(Endpoint::Token), &[("authorization", &basic)], &self.token_form(code)).await
    }

    /// A whole sign-in; the token answer.
    async fn signs_in(&self, idp: &FakeIdp, state: &str) -> Value {
        let callback = self.authorize(idp, state, &[]).await;
        let page = self.redeem_by_post(idp, value(&callback, "code"), self.client.secret()).await;
        page.json().unwrap_or_else(|| panic!("{} {}", page.status, page.body))
    }

    /// The ID token of a sign-in with one misbehaviour.
    async fn token_with(&self, idp: &FakeIdp, misbehavior: Misbehavior) -> String {
        idp.misbehave_once(misbehavior);
        self.signs_in(idp, "token_with").await["id_token"].as_str().unwrap().to_owned()
    }
}

/// A POST as a server sends it: without a browser's `Origin`.
async fn post_form(url: &str, headers: &[(&str, &str)], form: &[(&str, &str)]) -> Page {
    let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
    let mut all = vec![("content-type", "application/x-www-form-urlencoded")];
    all.extend_from_slice(headers);
    Browser::new().request(Method::POST, url, &all, &body).await
}

fn value<'a>(pairs: &'a [(String, String)], name: &str) -> &'a str {
    pairs.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value)
}

fn count(pairs: &[(String, String)], name: &str) -> usize {
    pairs.iter().filter(|(key, _)| key == name).count()
}

fn part(token: &str, at: usize) -> Value {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token.split('.').nth(at).unwrap()).unwrap()).unwrap()
}

fn clock() -> SharedClock {
    clock_at(NOW_MS)
}

/// Whether the signature is that of the key with the token's `kid` in the provider's set, by the header's `alg`.
async fn verifies(idp: &FakeIdp, token: &str) -> bool {
    let keys = Browser::new().get(&idp.url_of(Endpoint::Jwks)).await.json().unwrap();
    let header = part(token, 0);
    let key = keys["keys"].as_array().unwrap().iter().find(|key| key["kid"] == header["kid"]);
    let Some(key) = key else { return false };
    let bytes = |name: &str| URL_SAFE_NO_PAD.decode(key[name].as_str().unwrap()).unwrap();
    let (input, signature) = token.rsplit_once('.').unwrap();
    let rsa = |parameters: &RsaParameters, signature: &[u8]| {
        let key = RsaPublicKeyComponents { n: bytes("n"), e: bytes("e") };
        key.verify(parameters, input.as_bytes(), signature).is_ok()
    };
    let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
    match header["alg"].as_str().unwrap() {
        "RS256" => rsa(&RSA_PKCS1_2048_8192_SHA256, &signature),
        "RS512" => rsa(&RSA_PKCS1_2048_8192_SHA512, &signature),
        "PS256" => rsa(&RSA_PSS_2048_8192_SHA256, &signature),
        "ES256" => {
            let point = [vec![4], bytes("x"), bytes("y")].concat();
            UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point)
                .verify(input.as_bytes(), &signature)
                .is_ok()
        }
        "EdDSA" | "Ed25519" => {
            UnparsedPublicKey::new(&ED25519, bytes("x")).verify(input.as_bytes(), &signature).is_ok()
        }
        other => panic!("no check for {other}"),
    }
}

// --- the provider when it is right ------------------------------------------------------------------------------

#[tokio::test]
async fn the_generic_provider_signs_a_person_in_by_both_ways_to_show_the_secret() {
    let idp = FakeIdp::generic(&clock());
    let rp = RelyingParty::at(&idp).await;
    let callback = rp.authorize(&idp, "first", &[]).await;
    assert_eq!((value(&callback, "state"), value(&callback, "iss")), ("first", idp.issuer().as_str()));
    let page = rp.redeem_by_basic(&idp, value(&callback, "code")).await;
    assert_eq!(page.status, 200, "{}", page.body);
    assert_eq!(page.header("cache-control"), Some("no-store"));
    let tokens = page.json().unwrap();
    let token = tokens["id_token"].as_str().unwrap();
    let claims = part(token, 1);
    assert_eq!(claims["iss"], idp.issuer());
    assert_eq!(claims["aud"], rp.client.id);
    assert_eq!(claims["nonce"], "nonce-of-first");
    assert_eq!(claims["iat"], NOW_MS / 1000);
    assert_eq!(claims["email"], "mira.holt@fjordline.example");
    assert_eq!(claims["email_verified"], true);
    assert!(verifies(&idp, token).await);

    let again = rp.signs_in(&idp, "second").await;
    assert_eq!(part(again["id_token"].as_str().unwrap(), 1)["sub"], claims["sub"]);
    assert_eq!((idp.calls(Endpoint::Authorize), idp.calls(Endpoint::Token)), (2, 2));

    let bearer = format!("Bearer {}", tokens["access_token"].as_str().unwrap());
    let url = idp.url_of(Endpoint::Userinfo);
    let userinfo = Browser::new().request(Method::GET, &url, &[("authorization", &bearer)], "").await;
    assert_eq!(userinfo.json().unwrap()["sub"], claims["sub"]);
}

#[tokio::test]
async fn the_metadata_leads_to_every_endpoint_and_lies_under_the_issuer() {
    for personality in [Personality::Generic, Personality::EntraLike, Personality::GoogleLike] {
        let idp = FakeIdp::start(personality, &clock());
        let page = Browser::new().get(&format!("{}/.well-known/openid-configuration", idp.issuer())).await;
        assert_eq!(page.header("content-type"), Some("application/json"));
        let metadata = page.json().unwrap();
        assert_eq!(metadata["issuer"], idp.issuer());
        for (member, endpoint) in [
            ("authorization_endpoint", Endpoint::Authorize),
            ("token_endpoint", Endpoint::Token),
            ("jwks_uri", Endpoint::Jwks),
            ("userinfo_endpoint", Endpoint::Userinfo),
        ] {
            assert_eq!(metadata[member], idp.url_of(endpoint), "{personality:?} {member}");
        }
        assert_eq!(idp.calls(Endpoint::Discovery), 1);
        assert_ne!(idp.issuer(), idp.issuer_named("other"));
        assert_ne!(idp.issuer(), FakeIdp::start(personality, &clock()).issuer(), "paths come from the seed");
    }
}

#[tokio::test]
async fn the_entra_like_provider_has_entras_habits() {
    let idp = FakeIdp::entra_like(&clock());
    assert!(idp.issuer().ends_with(&format!("/{}/v2.0", idp.tenant_id("main"))));
    let metadata = Browser::new().get(&idp.url_of(Endpoint::Discovery)).await.json().unwrap();
    assert!(metadata["code_challenge_methods_supported"].is_null());
    assert_eq!(metadata["cloud_instance_name"], "microsoftonline.com");

    let keys = Browser::new().get(&idp.url_of(Endpoint::Jwks)).await.json().unwrap();
    let keys = keys["keys"].as_array().unwrap();
    assert!(keys.len() >= 3 && keys.iter().all(|key| key["alg"].is_null() && key["x5t"] == key["kid"]));
    assert!(keys[0]["issuer"].as_str().unwrap().contains("9188040d-6c67-4c5b-b112-36a304b66dad"));

    let rp = RelyingParty::at(&idp).await;
    let callback = rp.authorize(&idp, "one", &[]).await;
    assert_eq!((count(&callback, "iss"), count(&callback, "session_state")), (0, 1));
    let tokens = rp.signs_in(&idp, "two").await;
    let token = tokens["id_token"].as_str().unwrap();
    let claims = part(token, 1);
    assert_eq!(claims["tid"], idp.tenant_id("main"));
    assert_eq!(claims["ver"], "2.0");
    assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), 3900);
    assert!(
        claims["email_verified"].is_null() && claims["oid"].is_string() && claims["oid"] != claims["sub"]
    );
    assert!(verifies(&idp, token).await);

    idp.expire_secrets(&rp.client.id);
    let callback = rp.authorize(&idp, "three", &[]).await;
    let page = rp.redeem_by_post(&idp, value(&callback, "code"), rp.client.secret()).await;
    assert_eq!(page.status, 401);
    assert_eq!(page.json().unwrap()["error_codes"][0], 7_000_222);

    idp.add_person(Person::new("nils", "Nils Berg", "nils@fjordline.example").without_mailbox());
    let secret = idp.add_secret(&rp.client.id);
    let callback = rp.authorize(&idp, "four", &[("login_hint", "nils@fjordline.example")]).await;
    let page = rp.redeem_by_post(&idp, value(&callback, "code"), &secret).await;
    let claims = part(page.json().unwrap()["id_token"].as_str().unwrap(), 1);
    assert_eq!(
        (&claims["preferred_username"], &claims["email"]),
        (&"nils@fjordline.example".into(), &Value::Null)
    );
}

#[tokio::test]
async fn the_google_like_provider_names_the_hosted_domain() {
    let idp = FakeIdp::google_like(&clock());
    let rp = RelyingParty::at(&idp).await;
    let tokens = rp.signs_in(&idp, "one").await;
    let token = tokens["id_token"].as_str().unwrap();
    let claims = part(token, 1);
    assert_eq!(claims["hd"], "fjordline.example");
    assert_eq!(claims["azp"], rp.client.id);
    assert!(claims["at_hash"].is_string());
    assert!(verifies(&idp, token).await);
    let other = part(&rp.token_with(&idp, Misbehavior::HdOther).await, 1);
    assert_eq!(other["hd"], "stranger.example");
    assert!(part(&rp.token_with(&idp, Misbehavior::HdMissing).await, 1)["hd"].is_null());
}

#[tokio::test]
async fn a_careless_token_request_is_refused() {
    let idp = FakeIdp::generic(&clock());
    let rp = RelyingParty::at(&idp).await;
    let refused =
        |page: Page| page.json().unwrap()["error"].as_str().unwrap_or_else(|| panic!("accepted")).to_owned();

    let callback = rp.authorize(&idp, "one", &[]).await;
    let code = value(&callback, "code");
    assert_eq!(refused(rp.redeem_by_post(&idp, code, "wrong").await), "invalid_client");
    assert_eq!(rp.redeem_by_post(&idp, code, rp.client.secret()).await.status, 200);
    assert_eq!(
        refused(rp.redeem_by_post(&idp, code, rp.client.secret()).await),
        "invalid_grant",
        "a code counts once"
    );

    let callback = rp.authorize(&idp, "two", &[]).await;
    let code = value(&callback, "code").to_owned();
    let mut form = rp.token_form(&code);
    form.extend([("client_id", rp.client.id.as_str()), ("client_secret", rp.client.secret())]);
    let raw = STANDARD.encode(format!("{}:{}", rp.client.id, rp.client.secret()));
    let basic = format!("Basic {raw}");
    let url = idp.url_of(Endpoint::Token);
    assert_eq!(
        refused(post_form(&url, &[("authorization", &basic)], &form).await),
        "invalid_request",
        "both ways"
    );
    let plain = rp.token_form(&code);
    assert_eq!(
        refused(post_form(&url, &[("authorization", &basic)], &plain).await),
        "invalid_request",
        "Basic without form encoding"
    );
    assert_eq!(refused(post_form(&url, &[("origin", "http://rp.example")], &form).await), "invalid_request");
    form.retain(|(name, _)| *name != "code_verifier");
    assert_eq!(refused(post_form(&url, &[], &form).await), "invalid_grant", "no verifier");

    idp.add_client(rp.client.clone().demanding(ClientAuth::Basic));
    let callback = rp.authorize(&idp, "three", &[]).await;
    let page = rp.redeem_by_post(&idp, value(&callback, "code"), rp.client.secret()).await;
    assert_eq!(refused(page), "invalid_client", "this client has to use Basic");
}

#[tokio::test]
async fn a_code_dies_after_ten_minutes_of_the_tests_clock() {
    let clock = clock();
    let idp = FakeIdp::generic(&clock);
    let rp = RelyingParty::at(&idp).await;
    let callback = rp.authorize(&idp, "one", &[]).await;
    clock.fetch_add(601_000, std::sync::atomic::Ordering::SeqCst);
    let page = rp.redeem_by_post(&idp, value(&callback, "code"), rp.client.secret()).await;
    assert_eq!(page.json().unwrap()["error"], "invalid_grant");
}

#[tokio::test]
async fn a_careless_authorization_request_never_reaches_the_redirect_uri() {
    let idp = FakeIdp::generic(&clock());
    let rp = RelyingParty::at(&idp).await;
    let good = rp.authorization_url(&idp, "s", &[]);
    let spoiled = |from: &str, to: &str| good.as_str().replacen(from, to, 1);
    for bad in [
        spoiled("client_id=doorward", "client_id=dooorward"),
        spoiled("callback", "callback%2F"),
        format!("{good}&state=twice"),
    ] {
        let page = rp.browser.visit(&bad).await;
        assert_eq!(page.status, 400, "{bad}");
        assert!(page.says("Request refused"));
    }
    let page = rp.browser.visit(&spoiled("S256", "plain")).await;
    assert!(page.url.as_str().contains("error=invalid_request"), "no PKCE S256, no code");
    idp.signs_out();
    let page = rp.browser.visit(&format!("{good}&prompt=none")).await;
    assert!(page.url.as_str().contains("error=login_required"));
}

#[tokio::test]
async fn a_rotated_key_signs_and_the_old_one_stays_only_with_overlap() {
    let idp = FakeIdp::generic(&clock());
    let rp = RelyingParty::at(&idp).await;
    let old = rp.signs_in(&idp, "one").await["id_token"].as_str().unwrap().to_owned();
    let new = rp.token_with(&idp, Misbehavior::KeysRotatedWithOverlap).await;
    assert_ne!(part(&old, 0)["kid"], part(&new, 0)["kid"]);
    assert!(verifies(&idp, &old).await && verifies(&idp, &new).await);
    idp.rotate_keys(false);
    assert!(!verifies(&idp, &new).await);
    idp.roll_keys_back();
    assert!(verifies(&idp, &new).await);
}

#[tokio::test]
async fn a_provider_that_is_down_refuses_connections_and_comes_back_on_the_same_port() {
    let idp = FakeIdp::generic(&clock());
    let url = idp.url_of(Endpoint::Discovery);
    idp.goes_down().await;
    assert!(std::net::TcpStream::connect(idp.address()).is_err());
    idp.comes_back();
    assert_eq!(Browser::new().get(&url).await.status, 200);
    let address = idp.address();
    drop(idp);
    tokio::task::yield_now().await;
    assert!(std::net::TcpStream::connect(address).is_err(), "a dropped provider is gone");
}

// --- the provider when it is wrong ------------------------------------------------------------------------------

#[tokio::test]
async fn every_misbehavior_of_the_id_token_changes_it_and_leaves_nothing_behind() {
    for personality in [Personality::Generic, Personality::EntraLike] {
        let idp = FakeIdp::start(personality, &clock());
        let rp = RelyingParty::at(&idp).await;
        // What can be left out must be asked for first.
        let sign_in = async || {
            let asked = [("max_age", "300"), ("acr_values", "urn:example:strong")];
            let callback = rp.authorize(&idp, "s", &asked).await;
            let page = rp.redeem_by_post(&idp, value(&callback, "code"), rp.client.secret()).await;
            page.json().unwrap()["id_token"].as_str().unwrap().to_owned()
        };
        let mut right = sign_in().await;
        for misbehavior in Misbehavior::ALL.iter().copied() {
            if misbehavior.stage() != Stage::IdToken || !misbehavior.fits(personality) {
                continue;
            }
            if misbehavior == Misbehavior::NonceOfPrevious {
                rp.authorize(&idp, "earlier", &[]).await;
            }
            idp.misbehave(misbehavior);
            let wrong = sign_in().await;
            idp.behave();
            assert_ne!(right, wrong, "{personality:?} {misbehavior:?}");
            let again = sign_in().await;
            let rotates = format!("{misbehavior:?}").starts_with("KeysRotated");
            assert!(right == again || rotates, "{personality:?} {misbehavior:?} outlives itself");
            right = again;
        }
        assert!(verifies(&idp, &right).await);
    }
}

#[test]
fn every_check_of_the_conformance_list_has_a_misbehavior() {
    let covered: Vec<&str> = Misbehavior::ALL.iter().flat_map(|m| m.covers().split(' ')).collect();
    let checks = (1..=17).map(|n| format!("OC{n}"));
    let faults = (1..=8).map(|n| format!("F{n}"));
    let others =
        ["D1", "D2", "D3", "D4", "D5", "D6", "D7", "I1", "I2", "B2", "B3", "B5", "J4", "J5", "J6", "J7"];
    // The negative modules of the OIDF plans B and C. The good ones need a provider that is right.
    let modules = [
        "-invalid-iss",
        "-missing-sub",
        "-invalid-aud",
        "-missing-aud",
        "-missing-iat",
        "-nonce-invalid",
        "-kid-absent-single-jwks",
        "-kid-absent-multiple-jwks",
        "-idtoken-sig-none",
        "-invalid-sig-rs256",
        "-invalid-sig-es256",
        "-invalid-sig-hs256",
        "-userinfo-invalid-sub",
        "-discovery-issuer-mismatch",
        "-signing-key-rotation",
        "-signing-key-rotation-just-before-signing",
    ];
    let all = checks.chain(faults).chain(others.map(str::to_owned)).chain(modules.map(str::to_owned));
    let missing: Vec<String> = all.filter(|id| !covered.contains(&id.as_str())).collect();
    assert_eq!(missing, Vec::<String>::new());
}

#[tokio::test]
async fn entra_answers_for_shared_and_unknown_tenants_as_it_does() {
    let idp = FakeIdp::entra_like(&clock());
    let at =
        |tenant: &str| format!("http://{}/{tenant}/v2.0/.well-known/openid-configuration", idp.address());
    let browser = Browser::new();
    let shared = browser.get(&at("common")).await.json().unwrap();
    assert_eq!(shared["issuer"], format!("http://{}/{{tenantid}}/v2.0", idp.address()));
    let unknown = browser.get(&at("11111111-2222-4333-8444-555555555555")).await;
    assert_eq!((unknown.status.as_u16(), &unknown.json().unwrap()["error"]), (400, &"invalid_tenant".into()));
    assert_eq!(
        browser.get(&at(&idp.tenant_id("other"))).await.json().unwrap()["issuer"],
        idp.issuer_named("other")
    );
}

#[tokio::test]
async fn the_hinted_person_signs_in_until_a_test_says_who() {
    let idp = FakeIdp::generic(&clock());
    idp.add_person(Person::new("nils", "Nils Berg", "nils@fjordline.example").unverified());
    let rp = RelyingParty::at(&idp).await;
    let name = async |hint: &str| {
        let callback = rp.authorize(&idp, "s", &[("login_hint", hint)]).await;
        let page = rp.redeem_by_post(&idp, value(&callback, "code"), rp.client.secret()).await;
        part(page.json().unwrap()["id_token"].as_str().unwrap(), 1)["name"].as_str().unwrap().to_owned()
    };
    assert_eq!(name("nobody@fjordline.example").await, "Mira Holt");
    assert_eq!(name("nils@fjordline.example").await, "Nils Berg");
    idp.signs_in("mira");
    assert_eq!(name("nils@fjordline.example").await, "Mira Holt");
}

#[tokio::test]
async fn the_providers_clock_can_be_wrong_and_its_claims_can_be_at_userinfo_only() {
    let idp = FakeIdp::generic(&clock());
    let rp = RelyingParty::at(&idp).await;
    idp.set_clock_error_ms(120_000);
    idp.set_claims_at_userinfo_only(true);
    let tokens = rp.signs_in(&idp, "s").await;
    let claims = part(tokens["id_token"].as_str().unwrap(), 1);
    assert_eq!((&claims["iat"], &claims["email"]), (&(NOW_MS / 1000 + 120).into(), &Value::Null));
    let bearer = format!("Bearer {}", tokens["access_token"].as_str().unwrap());
    let url = idp.url_of(Endpoint::Userinfo);
    let userinfo =
        Browser::new().request(Method::GET, &url, &[("authorization", &bearer)], "").await.json().unwrap();
    assert_eq!(userinfo["email"], "mira.holt@fjordline.example");
    assert_eq!(Browser::new().get(&url).await.status, 401, "no token, no claims");
}

#[tokio::test]
async fn a_misbehavior_of_the_id_token_does_what_it_says() {
    use Misbehavior as M;
    let idp = FakeIdp::generic(&clock());
    let rp = RelyingParty::at(&idp).await;
    let now = NOW_MS / 1000;
    let claims = async |misbehavior| {
        let token = rp.token_with(&idp, misbehavior).await;
        assert!(
            verifies(&idp, &token).await,
            "{misbehavior:?}: only the claim is wrong, the signature is good"
        );
        part(&token, 1)
    };
    assert_eq!(claims(M::IssWrong).await["iss"], format!("{}1", idp.issuer()));
    assert_eq!(claims(M::IssOfOtherIssuer).await["iss"], idp.issuer_named("other"));
    assert_eq!(claims(M::AudArrayOwn).await["aud"], serde_json::json!([rp.client.id]));
    assert_eq!(claims(M::AudMissing).await.get("aud"), None);
    assert_eq!(claims(M::ExpPast).await["exp"], now - 61);
    assert_eq!(claims(M::IatAhead).await["iat"], now + 61);
    assert_eq!(claims(M::NonceWrong).await["nonce"], "nonce-of-token_with1");
    assert_eq!(claims(M::SubTooLong).await["sub"].as_str().unwrap().len(), 256);

    for good in [
        M::SignedEs256,
        M::SignedEdDsa,
        M::SignedEd25519,
        M::SignedPs256,
        M::SignedRs512,
        M::KeysRotatedWithoutOverlap,
    ] {
        assert!(verifies(&idp, &rp.token_with(&idp, good).await).await, "{good:?}");
    }
    for forged in [
        M::SignatureBit,
        M::HeaderBit,
        M::PayloadBit,
        M::SignatureTruncated,
        M::SignatureEmpty,
        M::SignedByStranger,
        M::KidUnknown,
        M::HeaderJku,
        M::Es256SignatureBit,
        M::Es256SignatureZero,
        M::Es256SignatureDer,
        M::AlgEs256WithRsaKey,
    ] {
        let token = rp.token_with(&idp, forged).await;
        let header = part(&token, 0);
        if forged == M::AlgEs256WithRsaKey {
            assert_eq!(header["alg"], "ES256");
        } else {
            assert!(!verifies(&idp, &token).await, "{forged:?}");
        }
    }
    assert_eq!(part(&rp.token_with(&idp, M::AlgNoneMixed).await, 0)["alg"], "nOnE");
    assert_eq!(rp.token_with(&idp, M::Jwe).await.split('.').count(), 5);
    let double = rp.token_with(&idp, M::DuplicateClaim).await;
    let text = URL_SAFE_NO_PAD.decode(double.split('.').nth(1).unwrap()).unwrap();
    assert_eq!(String::from_utf8(text).unwrap().matches("\"sub\"").count(), 2);
}

#[tokio::test]
async fn every_misbehavior_of_the_callback_changes_what_the_browser_brings() {
    use Misbehavior as M;
    let idp = FakeIdp::generic(&clock());
    let rp = RelyingParty::at(&idp).await;
    for misbehavior in M::ALL.iter().copied().filter(|m| m.stage() == Stage::Callback) {
        rp.authorize(&idp, "earlier", &[]).await;
        idp.misbehave_once(misbehavior);
        let callback = rp.authorize(&idp, "state-A", &[]).await;
        let right = callback.len() == 3
            && count(&callback, "code") == 1
            && value(&callback, "state") == "state-A"
            && value(&callback, "iss") == idp.issuer()
            && idp.requests().last().is_some_and(|request| request.kind == Endpoint::Authorize)
            && ![M::CallbackCodeOfPrevious, M::CallbackCodeUnknown, M::CallbackCodeEmpty]
                .contains(&misbehavior);
        assert!(!right, "{misbehavior:?} {callback:?}");
        match misbehavior {
            M::CallbackStateTwice => assert_eq!(count(&callback, "state"), 2),
            M::CallbackStateChanged => assert_eq!(value(&callback, "state"), "state-B"),
            M::CallbackStateOfPrevious => assert_eq!(value(&callback, "state"), "earlier"),
            M::CallbackCancelled => {
                assert_eq!((value(&callback, "error"), count(&callback, "code")), ("access_denied", 0));
            }
            M::CallbackErrorWithoutState => {
                assert_eq!((count(&callback, "error"), count(&callback, "state")), (1, 0));
            }
            _ => {}
        }
    }
}

#[tokio::test]
async fn every_misbehavior_of_documents_and_answers_changes_them() {
    use Misbehavior as M;
    let idp = FakeIdp::generic(&clock());
    let rp = RelyingParty::at(&idp).await;
    let reader = Browser::new();
    let discovery = reader.get(&idp.url_of(Endpoint::Discovery)).await;
    let jwks = reader.get(&idp.url_of(Endpoint::Jwks)).await;
    let endless = |m: M| {
        let name = format!("{m:?}");
        ["OneGiB", "SlowDrip", "NeverAnswers", "Reset"].iter().any(|end| name.ends_with(end))
    };
    for misbehavior in M::ALL.iter().copied().filter(|m| !endless(*m)) {
        let same = |one: &Page, two: &Page| {
            let kind = |page: &Page| page.header("content-type").map(str::to_owned);
            one.status == two.status && one.body == two.body && kind(one) == kind(two)
        };
        match misbehavior.stage() {
            Stage::Discovery => {
                idp.misbehave_once(misbehavior);
                let page = reader.get(&idp.url_of(Endpoint::Discovery)).await;
                assert!(!same(&page, &discovery), "{misbehavior:?}");
                assert!(same(&reader.get(&idp.url_of(Endpoint::Discovery)).await, &discovery), "once only");
            }
            Stage::Jwks => {
                idp.misbehave_once(misbehavior);
                let page = reader.get(&idp.url_of(Endpoint::Jwks)).await;
                assert!(!same(&page, &jwks), "{misbehavior:?}");
            }
            Stage::Token => {
                idp.misbehave_once(misbehavior);
                let callback = rp.authorize(&idp, "s", &[]).await;
                let page = rp.redeem_by_post(&idp, value(&callback, "code"), rp.client.secret()).await;
                let tokens: HashMap<String, Value> = serde_json::from_str(&page.body).unwrap_or_default();
                let plain = page.status == 200
                    && tokens.len() == 5
                    && tokens["token_type"] == "Bearer"
                    && tokens["id_token"].is_string()
                    && page.body.matches("id_token").count() == 1
                    && page.header("cache-control").is_some();
                assert!(!plain, "{misbehavior:?}");
            }
            Stage::Userinfo => {
                let tokens = rp.signs_in(&idp, "s").await;
                let sub = part(tokens["id_token"].as_str().unwrap(), 1)["sub"].clone();
                let bearer = format!("Bearer {}", tokens["access_token"].as_str().unwrap());
                idp.misbehave_once(misbehavior);
                let url = idp.url_of(Endpoint::Userinfo);
                let page = reader.request(Method::GET, &url, &[("authorization", &bearer)], "").await;
                let plain = page.status == 200
                    && page.header("content-type") == Some("application/json")
                    && page.json().is_some_and(|claims| claims["sub"] == sub);
                assert!(!plain, "{misbehavior:?}");
            }
            Stage::Callback | Stage::IdToken => {}
        }
    }
    assert_eq!(reader.get(&idp.url_of(Endpoint::Jwks)).await.body, jwks.body, "all of it is over");
}

#[tokio::test]
async fn an_endless_answer_claims_its_size_and_a_silent_one_is_still_counted() {
    use std::io::{Read, Write};
    use std::time::Duration;
    let idp = FakeIdp::generic(&clock());
    let path = Url::parse(&idp.url_of(Endpoint::Discovery)).unwrap().path().to_owned();
    // A raw client on a thread of its own: it sees bytes where a library would see an error.
    let ask = async |limit: usize, patience: Duration| {
        let (path, address) = (path.clone(), idp.address());
        let (tell, told) = tokio::sync::oneshot::channel();
        std::thread::spawn(move || {
            let mut stream = std::net::TcpStream::connect(address).unwrap();
            stream.set_read_timeout(Some(patience)).unwrap();
            write!(stream, "GET {path} HTTP/1.1\r\nhost: {address}\r\n\r\n").unwrap();
            let mut answer = Vec::new();
            let mut chunk = vec![0; 65_536];
            while answer.len() < limit {
                match stream.read(&mut chunk) {
                    Ok(0) | Err(_) => break,
                    Ok(size) => answer.extend_from_slice(&chunk[..size]),
                }
            }
            tell.send(answer).unwrap();
        });
        told.await.unwrap()
    };
    idp.misbehave_once(Misbehavior::DiscoveryOneGiB);
    let answer = ask(1 << 20, Duration::from_secs(5)).await;
    assert!(answer.len() >= 1 << 20);
    assert!(String::from_utf8_lossy(&answer[..300]).contains("content-length: 1073741824"));

    idp.misbehave_once(Misbehavior::DiscoverySlowDrip);
    let answer = String::from_utf8(ask(1, Duration::from_secs(5)).await).unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 200") && !answer.ends_with("0\r\n\r\n"),
        "begun, not ended: {answer}"
    );

    idp.misbehave_once(Misbehavior::DiscoveryNeverAnswers);
    assert!(ask(1, Duration::from_millis(50)).await.is_empty());
    idp.misbehave_once(Misbehavior::DiscoveryReset);
    assert!(ask(1, Duration::from_secs(5)).await.is_empty());
    assert_eq!(idp.calls(Endpoint::Discovery), 4);
}

#[tokio::test]
async fn whoever_follows_a_redirect_of_the_token_endpoint_is_seen() {
    let idp = FakeIdp::generic(&clock());
    let rp = RelyingParty::at(&idp).await;
    idp.misbehave_once(Misbehavior::TokenRedirect307);
    let callback = rp.authorize(&idp, "s", &[]).await;
    let page = rp.redeem_by_post(&idp, value(&callback, "code"), rp.client.secret()).await;
    assert_eq!((page.status.as_u16(), idp.calls(Endpoint::Moved)), (307, 0));
    let mut form = rp.token_form(value(&callback, "code"));
    form.extend([("client_id", rp.client.id.as_str()), ("client_secret", rp.client.secret())]);
    let followed = post_form(page.location().unwrap().as_str(), &[], &form).await;
    assert!(followed.json().unwrap()["id_token"].is_string());
    assert_eq!(idp.calls(Endpoint::Moved), 1);
}

// --- the browser ------------------------------------------------------------------------------------------------

/// Answers a cookie for `/set?…` (the query is the Set-Cookie value), a page elsewhere.
async fn cookie_site() -> (SocketAddr, SeenRequests) {
    site(Arc::new(|request: &Request<Incoming>| {
        let mut answer = html("<h1>Page</h1>");
        if let (Some(query), "/set") = (request.uri().query(), request.uri().path()) {
            let text: String =
                form_urlencoded::parse(query.as_bytes()).map(|(key, _)| key.into_owned()).collect();
            answer.headers_mut().append("set-cookie", text.parse().unwrap());
        }
        if let Some(to) = request.uri().path().strip_prefix("/to/") {
            *answer.status_mut() = http::StatusCode::from_u16(to[..3].parse().unwrap()).unwrap();
            answer.headers_mut().insert("location", to[4..].parse().unwrap());
        }
        answer
    }))
    .await
}

async fn set_cookie(browser: &Browser, host: &str, port: u16, cookie: &str) {
    let value: String = form_urlencoded::byte_serialize(cookie.as_bytes()).collect();
    browser.get(&format!("http://{host}:{port}/set?{value}")).await;
}

#[tokio::test]
async fn cookies_follow_the_host_and_ignore_the_port() {
    let ((one, _), (two, seen)) = (cookie_site().await, cookie_site().await);
    let browser = Browser::new();
    set_cookie(&browser, "hub.localhost", one.port(), "session=abc; Path=/; HttpOnly; SameSite=Lax").await;
    set_cookie(&browser, "localhost", one.port(), "other=def; Path=/").await;
    browser.get(&format!("http://hub.localhost:{}/x", two.port())).await;
    assert_eq!(seen.lock().unwrap()[0].0.headers()["cookie"], "session=abc");
    set_cookie(&browser, "hub.localhost", one.port(), "session=; Path=/; Max-Age=0").await;
    assert_eq!(browser.cookie("hub.localhost", "session"), None);
    assert_eq!(browser.cookie("localhost", "other").as_deref(), Some("def"));
}

#[tokio::test]
async fn what_a_browser_refuses_never_enters_the_jar() {
    let (address, seen) = cookie_site().await;
    let browser = Browser::new();
    for bad in [
        "__Host-session=1; Path=/; Secure",
        "a=1; SameSite=None",
        "b=1; Domain=example.com",
        "c=1; Domain=localhost",
    ] {
        set_cookie(&browser, "hub.localhost", address.port(), bad).await;
    }
    assert_eq!((browser.cookies(), browser.refused_cookies().len()), (Vec::new(), 4));
    set_cookie(&browser, "hub.localhost", address.port(), "d=1; Secure").await;
    assert_eq!(browser.cookies().len(), 1, "Secure is taken on localhost");

    browser.serves("https://sso.example.com", address);
    let value = "__Host-session%3D1%3B+Path%3D%2F%3B+Secure";
    browser.get(&format!("https://sso.example.com/set?{value}")).await;
    assert_eq!(browser.cookie("sso.example.com", "__Host-session").as_deref(), Some("1"));
    browser.get("https://sso.example.com/deep/page").await;
    let seen = seen.lock().unwrap();
    let last = &seen.last().unwrap().0;
    assert_eq!(
        (&last.headers()["host"], &last.headers()["cookie"]),
        (&"sso.example.com".parse().unwrap(), &"__Host-session=1".parse().unwrap())
    );
}

#[tokio::test]
async fn a_cookie_expires_by_the_tests_clock_and_keeps_to_its_path() {
    let (address, seen) = cookie_site().await;
    let clock = clock();
    let browser = Browser::new().with_clock(&clock);
    set_cookie(&browser, "localhost", address.port(), "short=1; Path=/a; Max-Age=60").await;
    for path in ["/a/b", "/ab", "/a"] {
        browser.get(&format!("http://localhost:{}{path}", address.port())).await;
    }
    clock.fetch_add(60_000, std::sync::atomic::Ordering::SeqCst);
    browser.get(&format!("http://localhost:{}/a", address.port())).await;
    let seen = seen.lock().unwrap();
    let had: Vec<bool> =
        seen[1..].iter().map(|(request, _)| request.headers().contains_key("cookie")).collect();
    assert_eq!(had, [true, false, true, false]);
}

#[tokio::test]
async fn a_foreign_site_can_navigate_with_lax_cookies_but_not_post_with_them() {
    let (address, seen) = cookie_site().await;
    let browser = Browser::new();
    let base = format!("http://localhost:{}", address.port());
    set_cookie(&browser, "localhost", address.port(), "lax=1; Path=/; SameSite=Lax").await;
    set_cookie(&browser, "localhost", address.port(), "strict=1; Path=/; SameSite=Strict").await;
    let foreign = browser.get(&format!("http://127.0.0.1:{}/", address.port())).await;
    browser.go(&foreign, &format!("{base}/page").parse().unwrap()).await;
    browser.post_from("http://evil.example", &format!("{base}/act"), &[("a", "b")]).await;
    browser.post(&format!("{base}/act"), &[("a", "b c")]).await;
    browser.fetch(&format!("{base}/api")).await;
    browser.get(&format!("{base}/typed")).await;
    let seen = seen.lock().unwrap();
    let facts: Vec<(&str, &str, &str, &str)> = seen[3..]
        .iter()
        .map(|(request, _)| {
            let get = |name: &str| request.headers().get(name).map_or("", |value| value.to_str().unwrap());
            (get("cookie"), get("sec-fetch-site"), get("sec-fetch-mode"), get("origin"))
        })
        .collect();
    assert_eq!(
        facts,
        [
            ("lax=1", "cross-site", "navigate", ""),
            ("", "cross-site", "navigate", "http://evil.example"),
            ("lax=1; strict=1", "same-origin", "navigate", base.as_str()),
            ("lax=1; strict=1", "same-origin", "cors", ""),
            ("lax=1; strict=1", "none", "navigate", ""),
        ]
    );
    assert_eq!(seen[5].1, "a=b+c");
    assert!(seen[3].0.headers()["accept"].to_str().unwrap().starts_with("text/html"));
}

#[tokio::test]
async fn redirects_are_followed_as_a_browser_does() {
    let (address, seen) = cookie_site().await;
    let browser = Browser::new();
    let base = format!("http://localhost:{}", address.port());
    let page = browser.post(&format!("{base}/to/303/end"), &[("a", "b")]).await;
    assert_eq!(page.location().unwrap().path(), "/to/303/end", "relative to the page");
    let page = browser.post(&format!("{base}/to/303/{base}/x"), &[("a", "b")]).await;
    let page = browser.follow(page).await;
    assert!(page.says("Page"));
    let page = browser.post(&format!("{base}/to/307/{base}/y"), &[("a", "b")]).await;
    browser.follow(page).await;
    let page = browser.visit(&format!("{base}/to/302/https://sso.example.com/login")).await;
    assert_eq!(
        page.location().unwrap().as_str(),
        "https://sso.example.com/login",
        "stays where nothing serves"
    );
    assert!(browser.history().contains("nothing serves https://sso.example.com/login"));
    let seen = seen.lock().unwrap();
    let methods: Vec<(&str, &str)> =
        seen.iter().map(|(request, body)| (request.method().as_str(), body.as_str())).collect();
    assert_eq!(
        methods,
        [("POST", "a=b"), ("POST", "a=b"), ("GET", ""), ("POST", "a=b"), ("POST", "a=b"), ("GET", "")]
    );
}

const SETTINGS: &str = r#"<!doctype html><html><head><title>SSO &amp; more</title><style>p { color: red }</style></head>
<body><nav><a href="/home">Back  to <b>home</b></a></nav>
<div data-error-code="oidc.issuer_mismatch"><h2>Issuer &lt;wrong&gt;</h2><p>The issuer
is another&nbsp;one: é < ü.</p></div><!-- <p>unseen 1</p> --><script>document.write("<p>unseen 2</p>")</script>
<p hidden>unseen <b>3</b></p>
<form method="post" action="/organizations/acme/settings/sso/oidc">
<input type=hidden name="revision" value="r7"><input name="client_id" value="old &quot;id&quot;">
<input type="password" name="client_secret"><input type="checkbox" name="guests" checked> Guests
<input type="radio" name="enforcement" value="enforced" checked><input type="radio" name="enforcement" value="optional">
<textarea name="note">
one
two</textarea><select name="claim"><option value="email">E-mail<option selected>upn</select>
<input name="off" value="x" disabled>
<button>Update and Test OIDC configuration</button>
<button name="then" value="enable" formaction="/organizations/acme/settings/sso/enable">Enable</button></form>
<form action="/search"><input name="q"></form></body></html>"#;

#[tokio::test]
async fn a_page_is_read_filled_in_and_sent_as_a_person_does() {
    let (address, seen) = site(Arc::new(|_: &Request<Incoming>| html(SETTINGS))).await;
    let browser = Browser::new();
    let page = browser.get(&format!("http://localhost:{}/settings", address.port())).await;
    assert_eq!(page.code().as_deref(), Some("oidc.issuer_mismatch"));
    assert_eq!(page.title(), "SSO & more");
    assert!(page.says("Issuer <wrong> The issuer is another one: é < ü."), "{}", page.text());
    assert!(!page.says("unseen") && !page.says("color"), "{}", page.text());
    assert_eq!(page.link("Back to home").path(), "/home");

    let form = page.form("sso/oidc");
    assert_eq!(form.value("client_id"), Some("old \"id\""));
    assert_eq!(form.value("note"), Some("one\ntwo"));
    assert_eq!(form.value("claim"), Some("upn"));
    let form = form.fill("client_id", "new").fill("enforcement", "optional").tick("guests", false);
    browser.submit(form.clone()).await;
    browser.submit(form.press("Enable")).await;
    browser.submit(page.form("/search").fill("q", "a b")).await;
    let seen = seen.lock().unwrap();
    assert_eq!(seen[1].0.uri().path(), "/organizations/acme/settings/sso/oidc");
    assert_eq!(
        seen[1].1,
        "revision=r7&client_id=new&client_secret=&enforcement=optional&note=one%0Atwo&claim=upn"
    );
    assert_eq!(seen[2].0.uri().path(), "/organizations/acme/settings/sso/enable");
    assert!(seen[2].1.ends_with("&then=enable"));
    assert_eq!(seen[3].0.uri(), "/search?q=a+b");
}

#[tokio::test]
async fn a_page_that_navigates_on_by_itself_is_followed_when_asked() {
    let (address, _) = site(Arc::new(|request: &Request<Incoming>| match request.uri().path() {
        "/on" => {
            html("<meta http-equiv=refresh content=\"0; url=/end?a=1&amp;b=2\"><a href=\"/end\">Go on</a>")
        }
        _ => html("<p>The end"),
    }))
    .await;
    let browser = Browser::new();
    let page = browser.get(&format!("http://localhost:{}/on", address.port())).await;
    assert_eq!(browser.follow(page.clone()).await.url.path(), "/on", "no redirect");
    assert_eq!(browser.follow_all(page.clone()).await.url.query(), Some("a=1&b=2"));
    assert!(browser.click(&page, "Go on").await.says("The end"));
}

// --- the small helpers ------------------------------------------------------------------------------------------

#[test]
fn a_temporary_folder_goes_with_everything_in_it() {
    let folder = TempDir::new();
    let file = folder.join("some.db");
    std::fs::write(&file, "x").unwrap();
    assert_ne!(folder.path(), TempDir::new().path());
    drop(folder);
    assert!(!file.exists());
    assert_ne!(free_port(), 0);
}
