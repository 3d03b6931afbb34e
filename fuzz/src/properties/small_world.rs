//! A Doorward without listeners, for parsers that can't be reached without one: its answers are asked for in place.
//!
//! Accounts ada (admin of acme) and mira (writes at acme, reads at globex), both signed in with the tokens below; a
//! public resource `website` and a private one `secret` at acme; the application hub. No SSO, no provider, and nothing
//! that could be reached: names resolve to nothing. The clock stands still.

use doorward::app::{App, SharedApp};
use doorward::clock::Clock;
use doorward::configuration::Configuration;
use doorward::outbound::OutboundSettings;
use doorward::random::Random;
use doorward::sealing::Sealing;
use doorward::store::{NewAccount, Plan, Store, Synchronous};
use doorward_core::email::Email;
use doorward_core::ids::{AccountId, OrganizationId, SessionId};
use doorward_core::membership::Role;
use doorward_core::name::Name;
use doorward_core::secret::Secret;
use doorward_testkit::TempDir;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use tokio::runtime::Runtime;

/// Ada's cookie on our own host.
pub(super) const ADA: &str = "ada_ada_ada_ada_ada_ada_ada_ada_ada_ada_ada";
/// Mira's cookie on the application's host.
pub(super) const MIRA: &str = "mira-mira-mira-mira-mira-mira-mira-mira-mir";

pub(super) struct SmallWorld {
    pub(super) app: SharedApp,
    pub(super) runtime: Runtime,
    // Removed with its database when the world ends.
    _folder: TempDir,
}

impl SmallWorld {
    pub(super) fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let folder = TempDir::new();
        let app = runtime.block_on(furnished(&folder));
        Self { app, runtime, _folder: folder }
    }
}

async fn furnished(folder: &TempDir) -> SharedApp {
    let text = r#"
        base_url = "http://localhost:8080"
        [gate]
        trusted_proxies = ["127.0.0.1", "10.0.0.0/8"]
        [[app]]
        name = "hub"
        host = "hub.localhost:8080"
        organization = ["/{org}/{resource}/**", "/{org}/**"]
        public = ["/", "/static/**"]
        rules = [{ methods = ["DELETE"], path = "/{org}/settings/**", role = "admin" }]
    "#;
    let configuration = Configuration::parse(None, text, []).unwrap();
    let store = Store::open_sqlite(&folder.join("doorward.db"), Synchronous::Normal).await.unwrap();
    let random = Random::seeded(7);
    let sealing = Sealing::open_or_create(&folder.join("master.key"), &random).unwrap();
    let clock = Clock::turned(Arc::new(AtomicI64::new(1_768_467_600_000)));
    store.open_audit(&sealing, &random, clock.now()).await.unwrap();
    let mut outbound = OutboundSettings::new(Vec::new());
    outbound.lookup = Arc::new(|_, _| Box::pin(async { Err(std::io::Error::other("no names here")) }));
    let app = App::new(configuration, store, sealing, clock, random, outbound).unwrap();

    let now = app.clock.now();
    app.store.read_changes(now).await.unwrap();
    let mut tx = app.store.begin().await.unwrap();
    let mut accounts = Vec::new();
    for (at, (name, token)) in [("ada", ADA), ("mira", MIRA)].into_iter().enumerate() {
        let seed = u8::try_from(at).unwrap();
        let account = NewAccount {
            id: AccountId::new(now.millis(), [seed; 10]),
            name: Name::parse(name).unwrap(),
            full_name: format!("{name} of acme"),
            email: Some(Email::parse(&format!("{name}@acme.example")).unwrap()),
            email_proved: true,
            password_hash: None,
            operator: false,
        };
        tx.insert_account(&account, now).await.unwrap();
        let session = SessionId::new(now.millis(), [seed; 10]);
        let token = Secret::new(token.to_owned()).hash();
        if name == "ada" {
            tx.insert_browser_session(session, token, account.id, now).await.unwrap();
        } else {
            let own = Secret::token([9; 32]).hash();
            tx.insert_browser_session(session, own, account.id, now).await.unwrap();
            tx.insert_host_session(token, session, account.id, "hub.localhost:8080", now).await.unwrap();
        }
        accounts.push(account.id);
    }
    for (at, name) in ["acme", "globex"].into_iter().enumerate() {
        let id = OrganizationId::new(now.millis(), [100 + u8::try_from(at).unwrap(); 10]);
        tx.insert_organization(id, &Name::parse(name).unwrap(), name, Plan::Enterprise, now).await.unwrap();
        let roles = if name == "acme" { [Role::Admin, Role::Write] } else { [Role::NoAccess, Role::Read] };
        for (account, role) in accounts.iter().zip(roles) {
            tx.set_role(id, *account, role, now).await.unwrap();
        }
        tx.set_resource(id, "", "website", name == "acme").await.unwrap();
        tx.set_resource(id, "", "secret", false).await.unwrap();
    }
    tx.commit(now).await.unwrap();
    app
}
