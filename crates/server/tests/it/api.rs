//! The JSON API: whom it answers, what it says, and that its description is true.

use doorward::web::api::{CALLS_A_MINUTE, openapi};
use doorward::web::{access::Access, routes};
use doorward_core::time::Lifetime;
use doorward_testkit::{Browser, Page};
use http::Method;
use serde_json::Value;
use url::form_urlencoded::Serializer;

use crate::harness::{Options, World};

/// A token that the operator makes for an organization.
async fn token(world: &World, organization: &str, more: &str) -> String {
    let line = format!("token create --organization {organization} --name desk {more}");
    world.good_command(line.trim_end()).await.trim_end().to_owned()
}

/// Calls an address below `/api/organizations/` with a token; as a browser's address bar, which gets no page either.
async fn call(world: &World, token: &str, address: &str) -> Page {
    let bearer = format!("Bearer {token}");
    let headers = [("authorization", &*bearer), ("accept", "text/html")];
    let url = format!("{}/api/organizations/{address}", world.base);
    Browser::new().request(Method::GET, &url, &headers, "").await
}

/// The address that asks for the decision on a URL.
fn decision(organization: &str, url: &str, more: &[(&str, &str)]) -> String {
    let query = query_of(&[&[("url", url)], more].concat());
    format!("{organization}/decision?{query}")
}

fn query_of(pairs: &[(&str, &str)]) -> String {
    Serializer::new(String::new()).extend_pairs(pairs).finish()
}

fn refused(page: &Page) -> (u16, String) {
    assert_eq!(page.header("content-type"), Some("application/problem+json"), "{}", page.body);
    (page.status.as_u16(), page.code().unwrap_or_default())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_decision_is_explained_as_the_command_line_explains_it() {
    let world = World::new().await;
    world.enable_sso("acme", "ada").await;
    let token = token(&world, "acme", "").await;
    let file = world.folder().join("doorward.toml");
    for (method, path, account, sso) in [
        ("GET", "/acme/secret", None, None),
        ("GET", "/ACME/secret", Some("mira"), None),
        ("GET", "/acme/secret", Some("mira"), Some("complete")),
        ("DELETE", "/acme/settings/x", Some("ada"), None),
        ("GET", "/acme/website", None, None),
        ("GET", "/acme/..%2fglobex", Some("mira"), None),
    ] {
        let url = format!("{}{path}", world.hub);
        let mut more = vec![("method", method)];
        more.extend(account.map(|account| ("account", account)));
        more.extend(sso.map(|sso| ("sso", sso)));
        let page = call(&world, &token, &decision("acme", &url, &more)).await;
        assert_eq!(
            (page.status.as_u16(), page.header("cache-control")),
            (200, Some("no-store")),
            "{}",
            page.body
        );
        let option = |name: &str, value: Option<&str>| {
            value.map(|value| format!(" --{name} {value}")).unwrap_or_default()
        };
        let line = format!(
            "explain {method} {url}{}{} --json --config {}",
            option("account", account),
            option("sso", sso),
            file.display()
        );
        let by_command: Value = serde_json::from_str(&world.good_command(&line).await).unwrap();
        assert_eq!(page.json().unwrap(), by_command, "{line}");
    }
    let page = call(
        &world,
        &token,
        &decision("acme", &format!("{}/acme/secret", world.hub), &[("client", "program")]),
    )
    .await;
    assert_eq!(page.json().unwrap()["answer"]["status"], 401, "a program is not redirected");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_7_a_token_tells_nothing_of_other_organizations_nor_of_accounts_that_are_not_members() {
    let world = World::new().await;
    let token = token(&world, "acme", "--scope decision --scope members").await;
    let hub = &world.hub;
    let unknown =
        call(&world, &token, &decision("acme", &format!("{hub}/nobody/secret"), &[("account", "mira")]))
            .await;
    assert_eq!(refused(&unknown), (404, "api.target_elsewhere".to_owned()));
    for url in [
        format!("{hub}/globex/secret"),
        format!("{hub}/globex/website"),
        format!("{hub}/static/x"),
        "http://elsewhere.localhost/acme/x".to_owned(),
        format!("{}/acme", world.base),
        "nonsense".to_owned(),
    ] {
        let page = call(&world, &token, &decision("acme", &url, &[("account", "mira")])).await;
        let without_id = |page: &Page| {
            let mut body = page.json().unwrap();
            body.as_object_mut().unwrap().remove("request_id");
            body
        };
        assert_eq!(without_id(&page), without_id(&unknown), "{url}");
    }
    // Ben has an account and is no member, nobody has the other one: both are answered alike.
    let url = format!("{hub}/acme/secret");
    let mut answers = Vec::new();
    for account in ["ben", "zoe"] {
        let page = call(&world, &token, &decision("acme", &url, &[("account", account)])).await;
        let mut body = page.json().unwrap();
        assert_eq!(
            (body["ground"].as_str(), body["account"]["name"].as_str()),
            (Some("not_member"), Some(account))
        );
        body["account"]["name"].take();
        answers.push(body);
    }
    assert_eq!(answers[0], answers[1]);
    let page = call(&world, &token, "acme/members").await;
    assert!(!page.body.contains("ben") && page.body.contains("\"mira\""), "{}", page.body);
    // The token's own organization is the only one it is good for, there or not.
    for organization in ["globex", "nobody"] {
        let page = call(&world, &token, &format!("{organization}/members")).await;
        assert_eq!(refused(&page), (401, "api.token_needed".to_owned()), "{organization}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_7_an_unreadable_address_tells_nothing_of_a_host_of_another_organization() {
    let configuration = "[[app]]\nname = \"by-host\"\nhost = \"{org}.apps.localhost:PORT\"\nupstream = \"http://UPSTREAM\"\n\
                         [[app]]\nname = \"wiki\"\nhost = \"wiki.localhost:PORT\"\nupstream = \"http://UPSTREAM\"\n\
                         belongs_to = \"globex\"\n";
    let world = World::with(Options { configuration: configuration.to_owned(), ..Options::default() }).await;
    let token = token(&world, "acme", "--scope decision").await;
    for (host, path, is_told) in [
        ("acme.apps.localhost", "/a%2fb", true),
        ("globex.apps.localhost", "/a%2fb", false),
        ("nobody.apps.localhost", "/a%2fb", false),
        ("wiki.localhost", "/a%2fb", false),
        ("wiki.localhost", "/a", false),
        ("hub.localhost", "/globex/a%2fb", true),
    ] {
        let url = format!("{}{path}", world.hub.replace("hub.localhost", host));
        let page = call(&world, &token, &decision("acme", &url, &[])).await;
        if is_told {
            assert_eq!(page.json().unwrap()["ground"], "ambiguous_path", "{url}");
        } else {
            assert_eq!(refused(&page), (404, "api.target_elsewhere".to_owned()), "{url}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_14_a_token_is_scoped_ends_and_is_refused_at_once_when_it_is_revoked() {
    let world = World::new().await;
    let narrow = token(&world, "acme", "--days 30").await;
    assert_eq!(refused(&call(&world, &narrow, "acme/members").await), (403, "api.scope_missing".to_owned()));
    let wide = token(&world, "acme", "--days 365 --scope members --scope resources --scope audit-log").await;
    assert_eq!(refused(&call(&world, &wide, &decision("acme", "x", &[])).await).1, "api.scope_missing");
    for address in ["acme/members", "acme/resources", "acme/audit-log"] {
        assert_eq!(call(&world, &wide, address).await.status, 200, "{address}");
    }
    // Nothing but GET is there, and no cookie stands in for a token.
    let url = format!("{}/api/organizations/acme/members", world.base);
    let bearer = format!("Bearer {wide}");
    let page = Browser::new().request(Method::POST, &url, &[("authorization", &*bearer)], "").await;
    assert_eq!(page.status, 405);
    let ada = world.browser_of("ada").await;
    assert_eq!(refused(&ada.get(&url).await).1, "api.token_needed");

    let garbage =
        ["", "dwo_", "dwo_short", "dwp_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"].map(str::to_owned);
    let unknown = format!("dwo_{}", "A".repeat(43));
    for token in garbage.iter().chain([&unknown]) {
        assert_eq!(refused(&call(&world, token, "acme/members").await).1, "api.token_needed", "{token}");
    }
    let twice = [("authorization", &*bearer), ("authorization", &*bearer)];
    let page = Browser::new().request(Method::GET, &url, &twice, "").await;
    assert_eq!(refused(&page).1, "api.token_needed", "two tokens are none");

    let list = world.good_command("token list --organization acme").await;
    assert_eq!(list.lines().count(), 2);
    assert!(!list.contains(&narrow) && !list.contains(&wide), "a token is shown once");
    let id = list.lines().find(|line| line.contains("audit-log")).unwrap().split('\t').next().unwrap();
    world.good_command(&format!("token revoke --organization acme {id}")).await;
    assert_eq!(refused(&call(&world, &wide, "acme/members").await).1, "api.token_needed");
    for (organization, id) in [("acme", id), ("globex", list.split('\t').next().unwrap()), ("acme", "x")] {
        let (status, _, errors) =
            world.operate(&format!("token revoke --organization {organization} {id}")).await;
        assert!(status == 1 && errors.contains("api.token_missing"), "{errors}");
    }

    world.pass(Lifetime::from_days(30));
    let page = call(&world, &narrow, &decision("acme", &format!("{}/acme/x", world.hub), &[])).await;
    assert_eq!(refused(&page).1, "api.token_needed", "its days are over");
    let actions: Vec<String> = world.audit("acme").await.into_iter().map(|event| event.action).collect();
    assert_eq!(actions.iter().filter(|action| *action == "org.api_token.create").count(), 2);
    assert_eq!(actions.iter().filter(|action| *action == "org.api_token.revoke").count(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_is_good_for_so_many_calls_a_minute_and_a_parameter_must_be_known() {
    let world = World::new().await;
    let one = token(&world, "acme", "--scope resources").await;
    for n in 0..CALLS_A_MINUTE {
        assert_eq!(call(&world, &one, "acme/resources").await.status, 200, "{n}");
    }
    let page = call(&world, &one, "acme/resources").await;
    assert_eq!(refused(&page), (429, "api.too_many_calls".to_owned()));
    let wait: i64 = page.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=61).contains(&wait));
    let other = token(&world, "acme", "--scope decision --scope members --scope audit-log").await;
    assert_eq!(call(&world, &other, "acme/members").await.status, 200, "another token has calls of its own");
    world.pass(Lifetime::from_minutes(1));
    assert_eq!(call(&world, &one, "acme/resources").await.status, 200);

    let long = "x".repeat(3000);
    for address in [
        "acme/decision".to_owned(),
        decision("acme", "http://x/", &[("methd", "GET")]),
        decision("acme", "http://x/", &[("sso", "perhaps")]),
        decision("acme", &format!("{}/acme/{long}", world.hub), &[]),
        "acme/members?offset=3".to_owned(),
        "acme/audit-log?after=x".to_owned(),
    ] {
        assert_eq!(
            refused(&call(&world, &other, &address).await),
            (422, "api.parameter_invalid".to_owned()),
            "{address}"
        );
    }
    for _ in 2..50 {
        token(&world, "acme", "").await;
    }
    let (status, _, errors) = world.operate("token create --organization acme --name desk").await;
    assert!(status == 1 && errors.contains("api.too_many_tokens"), "{errors}");
}

/// Whether a value has the shape of a schema, member by member; else where it differs.
fn has_shape(value: &Value, schema: &Value, at: &str) -> Result<(), String> {
    if let Some(choices) = schema["oneOf"].as_array() {
        let ok = choices.iter().any(|choice| has_shape(value, choice, at).is_ok());
        return if ok { Ok(()) } else { Err(format!("{at}: {value} is none of {choices:?}")) };
    }
    let right = match schema["type"].as_str().unwrap_or_default() {
        "string" => value.is_string() && schema["enum"].as_array().is_none_or(|words| words.contains(value)),
        "integer" => value.is_i64() || value.is_u64(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => return Err(format!("{at}: {other:?} is no type")),
    };
    if !right {
        return Err(format!("{at}: {value} is no {schema}"));
    }
    for (n, item) in value.as_array().into_iter().flatten().enumerate() {
        has_shape(item, &schema["items"], &format!("{at}/{n}"))?;
    }
    if let (Some(members), Some(known)) = (value.as_object(), schema["properties"].as_object()) {
        let (members_named, known_named): (Vec<_>, Vec<_>) =
            (members.keys().collect(), known.keys().collect());
        if members_named != known_named {
            return Err(format!("{at}: {members_named:?} instead of {known_named:?}"));
        }
        for (name, member) in members {
            has_shape(member, &known[name], &format!("{at}/{name}"))?;
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_description_names_every_address_and_each_answer_has_the_shape_that_it_says() {
    let world = World::new().await;
    world.enable_sso("acme", "ada").await;
    let page = Browser::new().get(&format!("{}/api/openapi.json", world.base)).await;
    let document = page.json().unwrap();
    assert_eq!(document, openapi::document(&world.base));
    let described: Vec<&String> = document["paths"].as_object().unwrap().keys().collect();
    let mut served: Vec<&str> =
        routes().iter().filter(|route| route.access == Access::ApiToken).map(|route| route.path).collect();
    served.sort_unstable();
    assert_eq!(described, served);

    let all = "--scope decision --scope members --scope resources --scope audit-log";
    let token = token(&world, "acme", all).await;
    let problem = &document["components"]["schemas"]["Problem"];
    let hub = &world.hub;
    let decisions = [
        (format!("{hub}/acme/secret"), vec![("account", "ada")]),
        (format!("{hub}/acme/website"), vec![]),
        (format!("{hub}/acme/settings/x"), vec![("method", "DELETE"), ("account", "mira")]),
        (format!("{hub}/acme//x"), vec![]),
        (format!("{hub}/acme/x"), vec![("method", "TRACE")]),
    ];
    let mut addresses: Vec<(&str, String)> =
        decisions.iter().map(|(url, more)| ("decision", decision("acme", url, more))).collect();
    for name in ["members", "resources", "audit-log"] {
        addresses.push((name, format!("acme/{name}")));
    }
    for (name, address) in addresses {
        let get = &document["paths"][format!("/api/organizations/{{org}}/{name}")]["get"];
        let schema = &get["responses"]["200"]["content"]["application/json"]["schema"];
        let page = call(&world, &token, &address).await;
        assert_eq!(page.status, 200, "{address} {}", page.body);
        has_shape(&page.json().unwrap(), schema, name)
            .unwrap_or_else(|differs| panic!("{address}: {differs}"));
        let page = call(&world, "none", &address).await;
        has_shape(&page.json().unwrap(), problem, "problem")
            .unwrap_or_else(|differs| panic!("{address}: {differs}"));
    }
}
