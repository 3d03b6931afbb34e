//! The second larger proof: a hostile provider harms nobody but the organization that connected it.
//!
//! Eve is admin of evilcorp, whose provider is hers: it names victims, misbehaves in every way that the test kit knows,
//! sends browsers on to the honest provider that acme uses, and has drafts and live revisions change places. Mira, a
//! member of acme, is lured into evilcorp too. Afterwards the store differs only in rows of eve and evilcorp, and
//! neither provider has seen the other's secret or code.

use std::collections::HashSet;

use doorward::store::{Plan, load_connection};
use doorward_core::membership::Role;
use doorward_core::time::Lifetime;
use doorward_testkit::{Browser, Client, Endpoint, FakeIdp, Misbehavior, Page, Person};
use url::Url;

use crate::harness::{On, Options, World};
use crate::stolen_password::{Dice, carries, from_environment};

const STEPS: &[&str] = &[
    "eve: single sign-on as a victim",
    "eve: test as a victim",
    "eve: single sign-on with a fault",
    "eve: test with a fault",
    "eve: draft at her provider",
    "eve: draft at the honest provider, with a client of her own",
    "eve: draft that claims the honest issuer",
    "eve: enables the newest draft",
    "eve: disables, and connects again",
    "eve: connects her provider and enables",
    "eve: starts at the draft, comes back at the live one",
    "eve: brings the honest provider's code of acme to her own address",
    "eve: brings her code to acme's address",
    "mira: is lured into evilcorp",
    "mira: is sent on from evilcorp to acme's provider",
    "mira: opens eve's way back",
    "eve: opens mira's way back",
    "eve: sends acme's forms",
];

struct Scene {
    world: World,
    eve: Browser,
    mira: Browser,
    acme_client: Client,
    evil_client: Client,
    honest_client: Client,
    /// Codes that the honest provider has given out for acme.
    codes: Vec<String>,
    ways_back: Vec<Url>,
    /// Ids whose rows may differ.
    own: HashSet<String>,
}

impl Scene {
    async fn set() -> Self {
        let world =
            World::with(Options { on: On::Sqlite, hasty: true, second_provider: true, ..Options::default() })
                .await;
        let (_, acme_client) = world.enable_sso("acme", "ada").await;
        let mira = world.browser_of("mira").await;
        world.idp.signs_in("mira");
        world.visit(&mira, &format!("{}/acme/secret", world.hub)).await;
        world.idp.signs_out();

        world.add_organization("evilcorp", "eve", Plan::Enterprise).await;
        world.set_role("evilcorp", "mira", Role::Read).await;
        let redirect = format!("{}/organizations/evilcorp/oidc/consume", world.base);
        let evil = world.second_idp();
        let evil_client = evil.new_client(&redirect);
        let honest_client = world.idp.new_client(&redirect);
        // Her provider knows victims by every claim that the honest one has of them.
        for name in ["ada", "mira", "ben"] {
            evil.add_person(Person::new(name, name, &format!("{name}@acme.example")));
        }
        evil.add_person(Person::new("eve", "Eve Else", "eve@acme.example"));
        world.idp.add_person(Person::new("eve", "Eve Else", "eve@acme.example"));

        let eve = world.browser_of("eve").await;
        let mut scene = Self {
            own: HashSet::new(),
            codes: Vec::new(),
            ways_back: Vec::new(),
            eve,
            mira,
            acme_client,
            evil_client,
            honest_client,
            world,
        };
        scene.evil().signs_in("eve");
        scene.save(&scene.evil_client.clone(), &scene.evil().issuer()).await;
        scene.enable().await;
        assert_eq!(scene.world.state("evilcorp").await, "live");
        scene.own = scene.own_ids().await;
        scene
    }

    fn evil(&self) -> &FakeIdp {
        self.world.second_idp()
    }

    /// Eve, her sessions, evilcorp and its connection.
    async fn own_ids(&self) -> HashSet<String> {
        let world = &self.world;
        let evilcorp = world.organization("evilcorp").await.id;
        let eve = world.account("eve").await;
        let connection = load_connection(&mut world.app.store.reader(), evilcorp).await.unwrap().unwrap();
        let mut own = HashSet::from([evilcorp.to_string(), eve.to_string(), connection.id.to_string()]);
        let mut reader = world.app.store.reader();
        let sessions = doorward::store::load_browser_sessions(&mut reader, eve);
        own.extend(sessions.await.unwrap().iter().map(|session| session.id.to_string()));
        own
    }

    /// Half a minute a step, so that no limit on tries stops her; she signs in again now and then.
    async fn some_time_passes(&mut self, number: u64) {
        self.world.pass(Lifetime::from_seconds(30));
        if number.is_multiple_of(20) {
            self.world.sign_in(&self.eve, "eve").await;
            self.own.extend(self.own_ids().await);
        }
    }

    async fn save(&mut self, client: &Client, issuer: &str) {
        let fields = [("client_id", &*client.id), ("client_secret", client.secret()), ("issuer_url", issuer)];
        let page = self.world.update_and_test(&self.eve, "evilcorp", &fields).await;
        let eve = self.eve.clone();
        self.follow(&eve, page).await;
    }

    async fn enable(&self) {
        let revision = self.world.draft("evilcorp").await;
        let page =
            self.eve.post(&self.world.settings("evilcorp", "/enable"), &[("revision", &revision)]).await;
        assert!(page.status != 500, "{}", page.text());
    }

    async fn follow(&mut self, browser: &Browser, page: Page) -> Page {
        if let Some(to) = page.location().or_else(|| page.meta_refresh()) {
            self.remember(&to);
        }
        let page = browser.follow_all(page).await;
        assert!(page.status != 500, "{}\n{}", page.text(), browser.history());
        page
    }

    fn remember(&mut self, url: &Url) {
        if url.path().ends_with("/oidc/consume") {
            self.ways_back.push(url.clone());
        }
    }

    /// Starts at evilcorp in this browser: the address at the provider.
    async fn start(&self, browser: &Browser) -> Option<Url> {
        let address = format!("{}/organizations/evilcorp/sso", self.world.base);
        let page = browser.post(&address, &[("next", "/")]).await;
        page.meta_refresh().or_else(|| page.location()).filter(|to| to.host_str() == Some("127.0.0.1"))
    }

    /// Through whichever provider an address leads to; the way back, not yet opened.
    async fn at_provider(&mut self, browser: &Browser, address: &Url) -> Option<Url> {
        let back = browser.get(address.as_str()).await.location()?;
        self.remember(&back);
        Some(back)
    }

    /// A request to a provider's authorization endpoint with another client and redirect URI, but the same state.
    fn redirected(to: &Url, endpoint: &str, client: &str, redirect_uri: &str) -> Url {
        let mut on = Url::parse(endpoint).unwrap();
        for (name, value) in to.query_pairs() {
            let value = match &*name {
                "client_id" => client.into(),
                "redirect_uri" => redirect_uri.into(),
                _ => value,
            };
            on.query_pairs_mut().append_pair(&name, &value);
        }
        on
    }

    /// A code of the honest provider for acme's client, got in `browser`'s name with evilcorp's state.
    async fn code_of_acme(&mut self, browser: &Browser, to: &Url) -> Option<Url> {
        let world = &self.world;
        world.idp.signs_in("mira");
        let acme = format!("{}/organizations/acme/oidc/consume", world.base);
        let on = Self::redirected(to, &world.idp.url_of(Endpoint::Authorize), &self.acme_client.id, &acme);
        let back = self.at_provider(browser, &on).await;
        self.world.idp.signs_out();
        let code =
            back.as_ref()?.query_pairs().find(|(name, _)| name == "code").map(|(_, code)| code.into_owned());
        self.codes.extend(code);
        back
    }

    async fn step(&mut self, step: &str, dice: &mut Dice) {
        let (eve, mira) = (self.eve.clone(), self.mira.clone());
        let victim = ["ada", "mira", "ben", "eve"][dice.roll(4)];
        let base = self.world.base.clone();
        match step {
            "eve: single sign-on as a victim" => {
                self.evil().signs_in(victim);
                if let Some(to) = self.start(&eve).await {
                    let page = eve.get(to.as_str()).await;
                    self.follow(&eve, page).await;
                }
            }
            "eve: test as a victim" => {
                self.evil().signs_in(victim);
                let page = eve.post(&self.world.settings("evilcorp", "/test"), &[]).await;
                self.follow(&eve, page).await;
            }
            "eve: single sign-on with a fault" | "eve: test with a fault" => {
                self.evil().signs_in(victim);
                let fault = Misbehavior::ALL[dice.roll(Misbehavior::ALL.len())];
                self.evil().misbehave_once(fault);
                if step.contains("test") {
                    let page = eve.post(&self.world.settings("evilcorp", "/test"), &[]).await;
                    self.follow(&eve, page).await;
                } else if let Some(to) = self.start(&eve).await {
                    let page = eve.get(to.as_str()).await;
                    self.follow(&eve, page).await;
                }
                self.evil().behave();
            }
            "eve: draft at her provider" => {
                self.evil().signs_in(victim);
                self.save(&self.evil_client.clone(), &self.evil().issuer()).await;
            }
            "eve: draft at the honest provider, with a client of her own" => {
                self.world.idp.signs_in("eve");
                self.save(&self.honest_client.clone(), &self.world.idp.issuer()).await;
                self.world.idp.signs_out();
            }
            "eve: draft that claims the honest issuer" => {
                self.evil().misbehave(Misbehavior::DiscoveryIssuerOther);
                self.save(&self.evil_client.clone(), &self.evil().issuer()).await;
                self.evil().behave();
            }
            "eve: enables the newest draft" => self.enable().await,
            "eve: disables, and connects again" | "eve: connects her provider and enables" => {
                if step.contains("disables") {
                    eve.post(&self.world.settings("evilcorp", "/disable"), &[]).await;
                }
                self.evil().signs_in("eve");
                self.save(&self.evil_client.clone(), &self.evil().issuer()).await;
                self.enable().await;
            }
            "eve: starts at the draft, comes back at the live one" => {
                self.evil().signs_in(victim);
                let page = eve.post(&self.world.settings("evilcorp", "/test"), &[]).await;
                let test = page.meta_refresh().or_else(|| page.location());
                let live = self.start(&eve).await;
                let (Some(test), Some(live)) = (test, live) else { return };
                if test.host_str() != Some("127.0.0.1") || test.path().contains("/settings/") {
                    return;
                }
                let (Some(of_test), Some(of_live)) =
                    (self.at_provider(&eve, &test).await, self.at_provider(&eve, &live).await)
                else {
                    return;
                };
                // The code of the one with the state of the other, and the reverse.
                for (code_of, state_of) in [(&of_test, &of_live), (&of_live, &of_test)] {
                    let one = |url: &Url, name: &str| {
                        url.query_pairs()
                            .find(|(n, _)| n == name)
                            .map_or_else(String::new, |(_, v)| v.into_owned())
                    };
                    let mut mixed = state_of.clone();
                    mixed
                        .query_pairs_mut()
                        .clear()
                        .append_pair("code", &one(code_of, "code"))
                        .append_pair("state", &one(state_of, "state"))
                        .append_pair("iss", &one(state_of, "iss"));
                    let page = eve.get(mixed.as_str()).await;
                    self.follow(&eve, page).await;
                }
            }
            "eve: brings the honest provider's code of acme to her own address" => {
                let Some(to) = self.start(&eve).await else { return };
                let Some(back) = self.code_of_acme(&eve, &to).await else { return };
                let own = back.as_str().replace("/organizations/acme/", "/organizations/evilcorp/");
                let page = eve.get(&own).await;
                self.follow(&eve, page).await;
            }
            "eve: brings her code to acme's address" => {
                self.evil().signs_in(victim);
                let Some(to) = self.start(&eve).await else { return };
                let Some(back) = self.at_provider(&eve, &to).await else { return };
                let page = eve.get(&back.as_str().replace("/evilcorp/", "/acme/")).await;
                self.follow(&eve, page).await;
            }
            "mira: is lured into evilcorp" => {
                self.evil().signs_in(victim);
                let lure = format!(
                    "{base}/organizations/evilcorp/sso?next=/&iss={}&login_hint=ada",
                    self.evil().issuer()
                );
                let page = mira.get(&lure).await;
                let page = if page.has_form("/sso") { mira.submit(page.form("/sso")).await } else { page };
                self.follow(&mira, page).await;
            }
            "mira: is sent on from evilcorp to acme's provider" => {
                let Some(to) = self.start(&mira).await else { return };
                let Some(back) = self.code_of_acme(&mira, &to).await else { return };
                let page = mira.get(back.as_str()).await;
                self.follow(&mira, page).await;
            }
            "mira: opens eve's way back" | "eve: opens mira's way back" => {
                if self.ways_back.is_empty() {
                    return;
                }
                let back = self.ways_back[dice.roll(self.ways_back.len())].clone();
                let browser = if step.starts_with("mira") { mira } else { eve };
                let page = browser.get(back.as_str()).await;
                self.follow(&browser, page).await;
            }
            "eve: sends acme's forms" => {
                for route in doorward::web::routes() {
                    if route.method == "post" && route.path.contains("{org}") {
                        let path = route.path.replace("{org}", "acme").replace("{token}", "AAAA");
                        let page = eve
                            .post(&format!("{base}{path}"), &[("account", "eve"), ("role", "admin")])
                            .await;
                        assert!(page.status.is_client_error(), "{path}: {} {}", page.status, page.text());
                    }
                }
            }
            other => panic!("no such step: {other}"),
        }
    }

    /// Rows that are gone or new and belong to nobody who attacks.
    async fn foreign_differences(&self, before: &[(String, Vec<String>)]) -> Vec<String> {
        let after = self.world.everything_stored().await;
        let mut differences = Vec::new();
        for ((table, old), (_, new)) in before.iter().zip(&after) {
            let (old, new): (HashSet<&String>, HashSet<&String>) =
                (old.iter().collect(), new.iter().collect());
            for row in old.symmetric_difference(&new) {
                let is_own = self.own.iter().any(|id| row.contains(id.as_str()));
                // The system's log has one counter for everybody.
                let is_counter = table == "audit_sequence" && row.contains("'system'");
                if !is_own && !is_counter {
                    differences.push(format!("{table}: {row}"));
                }
            }
        }
        differences
    }

    /// What one provider has seen of the other's.
    fn leaks(&self) -> Vec<String> {
        let acme_secret = self.acme_client.secret();
        let honest_secret = self.honest_client.secret();
        let mut leaks = Vec::new();
        for request in self.evil().requests() {
            let told = [acme_secret, honest_secret].iter().any(|secret| carries(&request, secret));
            if told || self.codes.iter().any(|code| carries(&request, code)) {
                leaks.push(format!("{request:?}"));
            }
        }
        let to_honest = self.world.idp.requests();
        let told = to_honest.iter().filter(|request| carries(request, self.evil_client.secret()));
        leaks.extend(told.map(|request| format!("{request:?}")));
        leaks
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[expect(clippy::print_stdout, reason = "the seed is printed")]
async fn rule_4_v35_v70_a_hostile_provider_changes_nothing_outside_its_own_organization() {
    let seed = from_environment("DOORWARD_SEED").unwrap_or(20_261_125);
    let steps = from_environment("DOORWARD_STEPS").unwrap_or(500);
    println!("seed {seed}, {steps} steps (DOORWARD_SEED, DOORWARD_STEPS)");
    let mut scene = Scene::set().await;
    let before = scene.world.everything_stored().await;
    let mut dice = Dice(seed);
    let mut done: Vec<&str> = Vec::new();
    for number in 0..steps {
        let step = STEPS[dice.roll(STEPS.len())];
        done.push(step);
        scene.some_time_passes(number).await;
        scene.step(step, &mut dice).await;
        if number % 20 == 19 || number + 1 == steps {
            let tail = &done[done.len().saturating_sub(20)..];
            let differences = scene.foreign_differences(&before).await;
            assert!(differences.is_empty(), "seed {seed}, step {number}: {differences:#?}, after {tail:#?}");
            let leaks = scene.leaks();
            assert!(leaks.is_empty(), "seed {seed}, step {number}: {leaks:#?}, after {tail:#?}");
            scene.evil().forget_requests();
            scene.world.idp.forget_requests();
        }
    }
    // The walk was worth something: her single sign-on was tried, completed and refused for many reasons.
    let log = scene.world.audit("evilcorp").await;
    let codes: HashSet<&str> = log.iter().filter_map(|event| event.details.get("code")?.as_str()).collect();
    println!("{} events, codes {codes:?}", log.len());
    assert!(steps < 400 || codes.len() >= 12, "{codes:?}");
    let logins = log.iter().filter(|event| event.action == "org.sso_login").count();
    assert!(steps < 400 || logins >= 5, "{logins} logins");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_comparison_sees_a_row_of_somebody_else() {
    let scene = Scene::set().await;
    let before = scene.world.everything_stored().await;
    assert!(scene.foreign_differences(&before).await.is_empty());
    // As a callback would that links by the address alone.
    scene
        .world
        .behind_its_back("UPDATE membership SET role = 'read' WHERE account_id = (SELECT owner_id FROM name WHERE name_key = 'ben')")
        .await;
    assert_eq!(scene.foreign_differences(&before).await.len(), 2, "the row before, the row after");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_watch_sees_a_secret_however_it_is_sent() {
    let scene = Scene::set().await;
    let to_evil = scene.evil().last_request(Endpoint::Token).unwrap();
    assert!(carries(&to_evil, scene.evil_client.secret()), "{to_evil:?}");
    assert!(!carries(&to_evil, scene.acme_client.secret()));
    let to_honest = scene.world.idp.last_request(Endpoint::Token).unwrap();
    assert!(carries(&to_honest, scene.acme_client.secret()), "{to_honest:?}");
}
