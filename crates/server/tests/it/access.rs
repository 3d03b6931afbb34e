//! Who may decide on whose entry: Enable's own link, joining again, an admin's leaving, external collaborators, the end of
//! an account, and the races in which two of these meet.

use doorward_testkit::Person;

use crate::harness::{On, Options, World};

async fn world_on(on: On) -> World {
    World::with(Options { on, ..Options::default() }).await
}

/// Which account each of the provider's people is linked to, as `subject account`.
async fn links(world: &World) -> Vec<String> {
    use doorward::store::Query as _;
    let sql = "SELECT i.subject || ' ' || a.name_key AS line FROM identity i \
               JOIN account a ON a.id = i.account_id ORDER BY line";
    let rows = world.app.store.reader().fetch_all(sql, Vec::new()).await.unwrap();
    rows.iter().map(|row| row.text("line").unwrap()).collect()
}

// Enable.

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn v37_enable_links_the_identity_that_its_page_showed_or_nobody() {
    for on in On::all() {
        let world = world_on(on).await;
        world.idp.add_person(Person::new("ada-at-work", "Ada Admin", "ada@corp.example"));
        world.idp.add_person(Person::new("colleague", "Con Colleague", "con@corp.example"));
        let ada = world.browser_of("ada").await;
        world.connect_and_test(&ada, "acme", "ada-at-work").await;
        let shown = ada.get(&world.settings("acme", "")).await;
        assert!(shown.says("linked to Ada Admin (ada@corp.example)"), "{}", shown.text());

        // In another tab the same settings are tested once more, and somebody else is signed in at the provider now.
        world.idp.signs_in("colleague");
        let page = ada.submit(ada.get(&world.settings("acme", "")).await.form("/sso/test")).await;
        ada.follow_all(page).await;

        let page = ada.submit(shown.form("/enable")).await;
        assert_eq!(
            (page.status.as_u16(), page.code().as_deref()),
            (409, Some("settings.identity_changed")),
            "{}",
            page.text()
        );
        assert!(links(&world).await.is_empty(), "{:?}", links(&world).await);
        assert_eq!(world.state("acme").await, "tested", "nothing was done");

        // The answer is the page itself, with whom it would be now; whoever presses again means it.
        assert!(page.says("linked to Con Colleague (con@corp.example)"), "{}", page.text());
        assert!(page.says("Test passed"), "the settings are as good as before: {}", page.text());
        let page = ada.submit(page.form("/enable")).await;
        assert_eq!(page.status, 200, "{}", page.text());
        assert_eq!(links(&world).await, ["colleague ada"]);
    }
}
