//! Every misbehaviour of the test kit's provider, one by one: refused ones end without a session, with one audit
//! entry and a page that names its code; odd but allowed ones let the member in (conformance.md §1, §2; rule 3).

use doorward_testkit::{Misbehavior, Personality, Stage, Verdict};

use crate::harness::{Options, World};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_3_each_misbehaviour_in_a_sign_in_ends_in_its_own_code_without_a_session() {
    for entra in [false, true] {
        let world = World::with(Options { entra, ..Options::default() }).await;
        world.enable_sso("acme", "ada").await;
        let mira = world.browser_of("mira").await;
        world.idp.signs_in("mira");
        mira.visit(&format!("{}/acme/secret", world.hub)).await;
        let mut wrong = Vec::new();
        for &fault in Misbehavior::ALL {
            let in_a_login = matches!(fault.stage(), Stage::Callback | Stage::Token | Stage::IdToken);
            let slow = format!("{fault:?}").contains("Slow")
                || format!("{fault:?}").contains("Never")
                || format!("{fault:?}").contains("Drip");
            let personality = if entra { Personality::EntraLike } else { Personality::Generic };
            if !in_a_login || slow || !fault.fits(personality) {
                continue;
            }
            // Keys are fetched at most twice a minute.
            world.pass(doorward_core::time::Lifetime::from_seconds(61));
            let browser = world.browser_of("mira").await;
            let entries = world.audit("acme").await.len();
            world.idp.misbehave_once(fault);
            let page = world.visit(&browser, &format!("{}/acme/secret", world.hub)).await;
            world.idp.behave();
            let let_in = page.says("the application's page");
            let code = page.code();
            if page.status == 500 {
                wrong.push(format!("{fault:?}: answers 500"));
            }
            match fault.verdict() {
                // Entra sends no `iss` that could come twice.
                Verdict::Refuse if let_in && entra && fault == Misbehavior::CallbackIssTwice => {}
                Verdict::Refuse if let_in => wrong.push(format!("{fault:?}: let in")),
                Verdict::Refuse => {
                    if code.is_none() {
                        wrong.push(format!("{fault:?}: no code; {} {}", page.status, page.text()));
                    }
                    // A callback that names no attempt of ours is a stranger's, and leaves no row (rule 9).
                    let new = world.audit("acme").await.len() - entries;
                    if new > 1 || (new == 0 && fault.stage() != Stage::Callback) {
                        wrong.push(format!("{fault:?}: {new} audit entries, {code:?}"));
                    }
                }
                // Allowed, but another person than the one who is linked.
                Verdict::Accept if fault == Misbehavior::SubLongest && !entra => {
                    assert_eq!(code.as_deref(), Some("sso.account_linked_elsewhere"));
                }
                // Entra's metadata promises RS256 and nothing else.
                Verdict::Accept if entra && code.as_deref() == Some("oidc.algorithm_refused") => {}
                Verdict::Accept if !let_in => wrong.push(format!("{fault:?}: refused with {code:?}")),
                Verdict::Accept | Verdict::Either | Verdict::RefuseIfAsked => {}
            }
        }
        assert!(wrong.is_empty(), "entra: {entra}\n{}", wrong.join("\n"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_misbehaviour_of_discovery_and_keys_is_explained_before_anybody_is_sent_away() {
    let world = World::new().await;
    let ada = world.browser_of("ada").await;
    let client = world.register("acme");
    let issuer = world.idp.issuer();
    let mut wrong = Vec::new();
    for &fault in Misbehavior::ALL {
        let name = format!("{fault:?}");
        if fault.stage() != Stage::Discovery
            || name.contains("Slow")
            || name.contains("Never")
            || name.contains("Drip")
        {
            continue;
        }
        // Twenty tests a minute are an organization's share.
        world.pass(doorward_core::time::Lifetime::from_seconds(30));
        world.sign_in(&ada, "ada").await;
        world.idp.misbehave(fault);
        let fields =
            [("client_id", &*client.id), ("client_secret", client.secret()), ("issuer_url", &*issuer)];
        let page = world.update_and_test(&ada, "acme", &fields).await;
        world.idp.behave();
        let state = world.state("acme").await;
        match fault.verdict() {
            Verdict::Refuse if page.status == 200 || state != "test_failed" => {
                wrong.push(format!("{fault:?}: {} {state} {}", page.status, page.text()));
            }
            Verdict::Accept if page.status != 200 => {
                wrong.push(format!("{fault:?}: {} {state} {}", page.status, page.text()));
            }
            _ => {}
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
