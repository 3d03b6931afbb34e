//! The signed identity assertion, as an application meets it: verified by the published keys, for one application, one
//! organization and a minute. `e2e/journeys/assertion.test.js` verifies it by libraries that are not ours.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, UnparsedPublicKey,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use doorward_core::membership::Role;
use doorward_core::time::Lifetime;
use doorward_testkit::Browser;
use serde_json::Value;

use crate::harness::{On, Options, World};

/// The assertion that the application got last; empty if it got none.
fn last_assertion(world: &World) -> String {
    world.last_seen().unwrap().header("doorward-assertion").expect("always set").to_owned()
}

async fn key_set(world: &World) -> Value {
    Browser::new().get(&format!("{}/.well-known/jwks.json", world.base)).await.json().unwrap()
}

/// The claims, if the signature is that of a key of this set.
fn verified(assertion: &str, keys: &Value) -> Option<Value> {
    let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).unwrap();
    let (signed, signature) = assertion.rsplit_once('.')?;
    let (header, claims) = signed.split_once('.')?;
    let header: Value = serde_json::from_slice(&decode(header)).unwrap();
    assert_eq!(header["alg"], "ES256");
    let key = keys["keys"].as_array()?.iter().find(|key| key["kid"] == header["kid"])?;
    assert!(key.get("d").is_none(), "{key}");
    let mut point = vec![4];
    point.extend(decode(key["x"].as_str()?));
    point.extend(decode(key["y"].as_str()?));
    let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point);
    key.verify(signed.as_bytes(), &decode(signature)).ok()?;
    serde_json::from_slice(&decode(claims)).ok()
}

async fn opens(world: &World, browser: &Browser, path: &str) -> Value {
    let page = world.visit(browser, &format!("{}{path}", world.hub)).await;
    assert!(page.body.contains("the application's page"), "{}", browser.history());
    verified(&last_assertion(world), &key_set(world).await).expect("a signature of ours")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_application_verifies_who_this_is_in_which_organization() {
    for on in On::all() {
        let world = World::with(Options { on, ..Options::default() }).await;
        world.enable_sso("acme", "ada").await;
        let mira = world.browser_of("mira").await;
        world.idp.signs_in("mira");
        let claims = opens(&world, &mira, "/acme/secret").await;
        let now = world.app.clock.now().millis() / 1000;
        for (name, expected) in [
            ("iss", Value::from(world.base.clone())),
            ("aud", "hub".into()),
            ("sub", world.account("mira").await.to_string().into()),
            ("preferred_username", "mira".into()),
            ("name", "Mira Holt".into()),
            ("email", "mira@acme.example".into()),
            ("organization", "acme".into()),
            ("organization_id", world.organization("acme").await.id.to_string().into()),
            ("role", "write".into()),
            ("sso", "complete".into()),
            ("organizations", serde_json::json!({ "acme": "write", "globex": "read" })),
            ("iat", now.into()),
            ("exp", (now + 60).into()),
        ] {
            assert_eq!(claims[name], expected, "{on:?}: {name}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_assertion_is_signed_once_and_used_again_while_it_has_half_its_life() {
    let world = World::new().await;
    let mira = world.browser_of("mira").await;
    opens(&world, &mira, "/globex/secret").await;
    let first = last_assertion(&world);
    let pass = async |seconds| {
        world.pass(Lifetime::from_seconds(seconds));
        world.app.store.read_changes(world.app.clock.now()).await.unwrap();
    };
    pass(29).await;
    opens(&world, &mira, "/globex/secret/other").await;
    assert_eq!(last_assertion(&world), first);
    // Loaded anew, and the same as before: what was signed counts.
    world.set_role("globex", "mira", Role::Read).await;
    opens(&world, &mira, "/globex/secret").await;
    assert_eq!(last_assertion(&world), first);
    pass(2).await;
    opens(&world, &mira, "/globex/secret").await;
    assert_ne!(last_assertion(&world), first);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_is_known_gets_his_next_assertion_without_a_question_to_the_store() {
    use sqlx::ConnectOptions as _;
    let world = World::with(Options { on: On::Sqlite, ..Options::default() }).await;
    let mira = world.browser_of("mira").await;
    let before = opens(&world, &mira, "/globex/secret").await;
    // From here on, whoever asks for memberships or organizations gets an error.
    let file = sqlx::sqlite::SqliteConnectOptions::new().filename(world.folder().join("doorward.db"));
    let mut connection = file.connect().await.unwrap();
    for table in ["membership", "organization"] {
        let gone = format!("ALTER TABLE {table} RENAME TO {table}_gone");
        sqlx::query(sqlx::AssertSqlSafe(gone)).execute(&mut connection).await.unwrap();
    }
    world.pass(Lifetime::from_seconds(31));
    world.app.store.read_changes(world.app.clock.now()).await.unwrap();
    let after = opens(&world, &mira, "/globex/secret").await;
    assert_ne!(after["iat"], before["iat"]);
    assert_eq!(after["organizations"], serde_json::json!({ "acme": "write", "globex": "read" }));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_organization_that_changed_is_told_as_it_is_now() {
    for on in On::all() {
        let world = World::with(Options { on, ..Options::default() }).await;
        let mira = world.browser_of("mira").await;
        let both = serde_json::json!({ "acme": "write", "globex": "read" });
        assert_eq!(opens(&world, &mira, "/globex/secret").await["organizations"], both);
        world.enable_sso("acme", "ada").await;
        let open = &opens(&world, &mira, "/globex/secret").await["organizations"];
        assert_eq!(*open, serde_json::json!({ "globex": "read" }), "{on:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_that_closes_nothing_to_the_person_needs_no_other_signature() {
    let world = World::new().await;
    let mira = world.browser_of("mira").await;
    opens(&world, &mira, "/globex/secret").await;
    let first = last_assertion(&world);
    let acme = world.organization("acme").await;
    let now = world.app.clock.now();
    let mut tx = world.app.store.begin().await.unwrap();
    tx.update_display_name(&acme, "Acme and Daughters").await.unwrap();
    tx.commit(now).await.unwrap();
    opens(&world, &mira, "/globex/secret").await;
    // Signatures are not the same twice, so this one was used again.
    assert_eq!(last_assertion(&world), first);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_application_that_reads_no_assertion_gets_an_empty_one_and_the_other_headers() {
    let quiet = "[[app]]\nname = \"quiet\"\nhost = \"quiet.localhost:PORT\"\nupstream = \"http://UPSTREAM\"\n\
                 organization = [\"/{org}/**\"]\nassertion = false\n";
    let world = World::with(Options { configuration: quiet.to_owned(), ..Options::default() }).await;
    let mira = world.browser_of("mira").await;
    let page = world.visit(&mira, &format!("{}/globex/secret", world.hub.replace("hub.", "quiet."))).await;
    assert!(page.body.contains("the application's page"), "{}", mira.history());
    let seen = world.last_seen().unwrap();
    for (name, value) in [
        ("doorward-assertion", ""),
        ("remote-user", "mira"),
        ("doorward-organization", "globex"),
        ("doorward-role", "read"),
    ] {
        assert_eq!(seen.header(name), Some(value), "{name}");
    }
    // The other application is told as ever.
    assert_eq!(opens(&world, &mira, "/globex/secret").await["aud"], "hub");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn v14_one_organizations_role_is_never_told_at_another() {
    let world = World::new().await;
    world.enable_sso("acme", "ada").await;
    let mira = world.browser_of("mira").await;
    world.idp.signs_in("mira");
    for _ in 0..3 {
        let acme = opens(&world, &mira, "/acme/secret").await;
        assert_eq!((&acme["organization"], &acme["role"]), (&"acme".into(), &"write".into()));
        let globex = opens(&world, &mira, "/globex/secret").await;
        assert_eq!((&globex["organization"], &globex["role"]), (&"globex".into(), &"read".into()));
        let neither = opens(&world, &mira, "/").await;
        assert_eq!((neither.get("organization"), neither.get("role")), (None, None));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_role_is_in_the_next_assertion() {
    let world = World::new().await;
    let mira = world.browser_of("mira").await;
    assert_eq!(opens(&world, &mira, "/globex/secret").await["role"], "read");
    world.set_role("globex", "mira", Role::Admin).await;
    assert_eq!(opens(&world, &mira, "/globex/secret").await["role"], "admin");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_single_sign_on_an_assertion_speaks_of_neither_the_organization_nor_the_role() {
    let world = World::new().await;
    let mira = world.browser_of("mira").await;
    // Only a private page asks who she is.
    opens(&world, &mira, "/globex/secret").await;
    assert_eq!(opens(&world, &mira, "/acme/website").await["organization"], "acme");
    world.enable_sso("acme", "ada").await;
    let claims = opens(&world, &mira, "/acme/website").await;
    assert_eq!((claims.get("organization"), claims.get("role")), (None, None));
    assert_eq!(claims["sso"], "missing");
    assert_eq!(claims["organizations"], serde_json::json!({ "globex": "read" }));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn v01_a_stranger_has_no_assertion_and_brings_none() {
    let world = World::new().await;
    let stranger = Browser::new();
    let page = stranger
        .request(
            http::Method::GET,
            &format!("{}/acme/website", world.hub),
            &[("doorward-assertion", "forged"), ("doorward_assertion", "forged")],
            "",
        )
        .await;
    assert_eq!(page.status, 200);
    let seen = world.last_seen().unwrap();
    assert!(seen.headers.iter().all(|(_, value)| value != "forged"), "{seen:?}");
    assert_eq!(last_assertion(&world), "");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_assertion_ends_with_the_single_sign_on_that_it_speaks_of() {
    let world = World::new().await;
    world.enable_sso("acme", "ada").await;
    let mira = world.browser_of("mira").await;
    world.idp.signs_in("mira");
    opens(&world, &mira, "/acme/secret").await;
    let timeout = world.organization("acme").await.session_timeout;
    world.pass(Lifetime::from_millis(timeout.millis() - 20_000));
    let claims = opens(&world, &mira, "/acme/secret").await;
    assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), 20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_change_without_a_gap() {
    for on in On::all() {
        let world = World::with(Options { on, ..Options::default() }).await;
        let kid = async || {
            let mira = world.browser_of("mira").await;
            opens(&world, &mira, "/globex/secret").await;
            let assertion = last_assertion(&world);
            let header = URL_SAFE_NO_PAD.decode(assertion.split('.').next().unwrap()).unwrap();
            serde_json::from_slice::<Value>(&header).unwrap()["kid"].as_str().unwrap().to_owned()
        };
        let kids = async || {
            let set = key_set(&world).await;
            let keys = set["keys"].as_array().unwrap();
            keys.iter().map(|key| key["kid"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        let first = kid().await;
        assert_eq!(kids().await, std::slice::from_ref(&first));

        // The next key is published for a day before it signs.
        world.pass(Lifetime::from_days(90));
        assert_eq!(kid().await, first, "{on:?}");
        let both = kids().await;
        assert!(both.len() == 2 && both.contains(&first), "{both:?}");
        // Then it signs, and the old one stays published.
        world.pass(Lifetime::from_days(1));
        let second = kid().await;
        assert!(second != first && both.contains(&second), "{on:?}");
        assert_eq!(kids().await.len(), 2);
        // The third takes the first one's place.
        world.pass(Lifetime::from_days(90));
        kid().await;
        let later = kids().await;
        assert!(later.contains(&second) && !later.contains(&first) && later.len() == 2, "{later:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t12_a_key_that_somebody_wrote_into_the_database_is_never_published() {
    for on in On::all() {
        let world = World::with(Options { on, ..Options::default() }).await;
        let mira = world.browser_of("mira").await;
        opens(&world, &mira, "/globex/secret").await;
        let ours = key_set(&world).await;
        let forger = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        let [x, y] = [1..33, 33..65].map(|half| URL_SAFE_NO_PAD.encode(&forger.public_key().as_ref()[half]));
        let private = URL_SAFE_NO_PAD.encode(forger.to_pkcs8v1().unwrap());
        let row = |kid: &str, private: &str| {
            format!(
                "INSERT INTO assertion_key (kid, private_key, public_x, public_y, created_at, signs_from) \
                 SELECT '{kid}', {private}, '{x}', '{y}', created_at, signs_from FROM assertion_key LIMIT 1"
            )
        };
        for (what, forged) in [
            (
                "his public half in our row",
                format!("UPDATE assertion_key SET public_x = '{x}', public_y = '{y}'"),
            ),
            ("his whole key in a row of his", row("-his", &format!("'{private}'"))),
            ("our sealed half in a row of his", row("-moved", "private_key")),
        ] {
            world.behind_its_back(forged.leak()).await;
            // Longer than a node goes by what it has read.
            world.pass(Lifetime::from_minutes(6));
            world.app.store.read_changes(world.app.clock.now()).await.unwrap();
            assert_eq!(key_set(&world).await, ours, "{on:?}: {what}");
            opens(&world, &mira, "/globex/secret").await;
        }
        let figures = world.app.metrics.to_text();
        assert!(figures.contains("doorward_store_errors_total 3"), "each is told: {figures}");
    }
}
