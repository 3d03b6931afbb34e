//! The banner that the built-in proxy puts into pages where single sign-on is optional and missing (hub-sso.md M3).

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use doorward_core::connection::Enforcement;
use doorward_testkit::{Browser, Page};
use http::{HeaderMap, Method};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use crate::harness::{Options, World};

const PAGE: &str =
    "<!doctype html><html><head><title>T</title></head><body class=\"x\"><h1>Plans</h1></body></html>";
/// Where its body begins.
const HEAD: &str = "<!doctype html><html><head><title>T</title></head><body class=\"x\">";

/// The headers that the application was asked with, oldest first.
type Asked = Arc<Mutex<Vec<HeaderMap>>>;

/// An application that likes caches. Every path has the same page, as its last segment says, in two pieces.
async fn application(asked: &Asked) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let asked = Arc::clone(asked);
    let router = Router::new().fallback(move |request: Request| {
        let asked = Arc::clone(&asked);
        async move {
            asked.lock().unwrap().push(request.headers().clone());
            let answer = Response::builder()
                .header("etag", "\"1\"")
                .header("last-modified", "Thu, 15 Jan 2026 09:00:00 GMT")
                .header("cache-control", "max-age=60")
                .header("content-length", PAGE.len())
                .header("content-security-policy", "default-src 'self'");
            let answer = match request.uri().path().rsplit('/').next() {
                Some("data") => answer.header("content-type", "application/json"),
                Some("utf-16") => answer.header("content-type", "text/html; charset=utf-16"),
                Some("gzip") => answer.header("content-type", "text/html").header("content-encoding", "gzip"),
                Some("error") => answer.header("content-type", "text/html").status(500),
                Some("download") => answer
                    .header("content-type", "text/html")
                    .header("content-disposition", "attachment; filename=\"page.html\""),
                _ => answer.header("content-type", "text/html; charset=utf-8"),
            };
            let pieces = PAGE.as_bytes().chunks(60).map(|piece| Ok::<_, std::io::Error>(piece.to_vec()));
            answer.body(Body::from_stream(futures_util::stream::iter(pieces.collect::<Vec<_>>()))).unwrap()
        }
    });
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    address
}

/// A world whose organizations only ask for single sign-on. Mira, a member of both, has a session on the host that shows
/// banners.
struct Optional {
    world: World,
    mira: Browser,
    /// The origin of the application that shows banners.
    host: String,
    asked: Asked,
}

impl Optional {
    async fn new() -> Self {
        let asked = Asked::default();
        let address = application(&asked).await;
        let configuration = format!(
            "[[app]]\nname = \"pages\"\nhost = \"pages.localhost:PORT\"\nupstream = \"http://{address}\"\n\
             organization = [\"/{{org}}/**\"]\nbanner = \"on\"\n\
             [[app]]\nname = \"own\"\nhost = \"localhost:PORT\"\nupstream = \"http://{address}\"\n\
             organization = [\"/p/{{org}}/**\"]\nbanner = \"on\"\n\
             [[app]]\nname = \"quiet\"\nhost = \"quiet.localhost:PORT\"\nupstream = \"http://{address}\"\n\
             organization = [\"/{{org}}/**\"]\n"
        );
        let world = World::with(Options { configuration, ..Options::default() }).await;
        for (organization, admin) in [("globex", "ben"), ("acme", "ada")] {
            world.enable_sso(organization, admin).await;
            let organization = world.organization(organization).await;
            let mut tx = world.app.store.begin().await.unwrap();
            assert!(tx.update_enforcement(&organization, Enforcement::Optional).await.unwrap());
            tx.commit(world.app.clock.now()).await.unwrap();
        }
        world.idp.signs_in("mira");
        let mira = world.browser_of("mira").await;
        let host = world.hub.replace("hub.", "pages.");
        let page = world.visit(&mira, &format!("{host}/globex/plans")).await;
        assert_eq!(page.status, 200, "{}", mira.history());
        Self { world, mira, host, asked }
    }

    async fn page(&self, path: &str) -> Page {
        self.mira.get(&format!("{}{path}", self.host)).await
    }

    /// A request as a navigation with these headers besides.
    async fn ask(&self, method: Method, path: &str, more: &[(&str, &str)]) -> Page {
        let headers = [&[("accept", "text/html")], more].concat();
        self.mira.request(method, &format!("{}{path}", self.host), &headers, "").await
    }
}

fn has_banner(page: &Page) -> bool {
    page.body.contains("doorward-banner")
}

/// The application's own answer, to the last header.
fn is_untouched(page: &Page) -> bool {
    let header = |name| page.header(name);
    page.body == PAGE
        && header("content-length") == Some(&PAGE.len().to_string())
        && (header("etag"), header("cache-control")) == (Some("\"1\""), Some("max-age=60"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn m3_a_page_has_the_banner_until_single_sign_on_is_completed() {
    let stage = Optional::new().await;
    let path = "/globex/plans?a=b%22&c";
    let sent = [("if-none-match", "\"1\""), ("if-modified-since", "x"), ("accept-encoding", "gzip")];
    let page = stage.ask(Method::GET, path, &sent).await;
    let asked = stage.asked.lock().unwrap().last().unwrap().clone();
    assert_eq!(asked.get("accept-encoding").unwrap(), "identity");
    assert!(!asked.contains_key("if-none-match") && !asked.contains_key("if-modified-since"));

    let (before, after) = page.body.split_once("<aside").expect("a banner");
    assert_eq!(before, HEAD);
    assert_eq!(
        after.split_once("</aside>").unwrap().1,
        &PAGE[HEAD.len()..],
        "every byte of the page is there"
    );
    assert!(page.says("globex asks its members to complete single sign-on."));
    assert!(
        !page.body.contains("<script") && !page.body.contains("style="),
        "nothing that a page's policy refuses"
    );
    for gone in ["etag", "content-length", "last-modified"] {
        assert_eq!(page.header(gone), None, "{gone}");
    }
    assert_eq!(page.headers_named("cache-control"), ["no-store"]);
    assert_eq!(page.header("content-security-policy"), Some("default-src 'self'"), "the page's own");

    // Its style sheet is on this host, its link leads through single sign-on and back to this very page.
    let style = page.body.split("href=\"").nth(1).unwrap().split('"').next().unwrap();
    assert!(style.starts_with(&stage.host), "{style}");
    let css = stage.mira.get(style).await;
    assert_eq!((css.status.as_u16(), css.header("content-type")), (200, Some("text/css; charset=utf-8")));
    let complete =
        page.body.split("<a href=\"").nth(1).unwrap().split('"').next().unwrap().replace("&#38;", "&");
    let page = stage.world.visit(&stage.mira, &complete).await;
    assert_eq!(page.url.as_str(), format!("{}{path}", stage.host), "{}", stage.mira.history());
    assert!(is_untouched(&page));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn m3_nothing_but_a_page_that_a_person_waits_for_is_touched() {
    let stage = Optional::new().await;
    for path in ["/globex/data", "/globex/utf-16", "/globex/gzip", "/globex/error", "/globex/download"] {
        assert!(is_untouched(&stage.page(path).await), "{path}");
    }
    let url = format!("{}/globex/plans", stage.host);
    assert!(is_untouched(&stage.mira.fetch(&url).await), "a fetch");
    for more in [("range", "bytes=0-5"), ("sec-fetch-dest", "iframe"), ("x-requested-with", "XMLHttpRequest")]
    {
        let page = stage.ask(Method::GET, "/globex/plans", &[more, ("if-none-match", "\"1\"")]).await;
        assert!(is_untouched(&page), "{more:?}");
        let asked = stage.asked.lock().unwrap().last().unwrap().clone();
        assert_eq!(asked.get("if-none-match").unwrap(), "\"1\"", "{more:?}");
    }
    let head = stage.ask(Method::HEAD, "/globex/plans", &[]).await;
    assert_eq!((&*head.body, head.header("content-length")), ("", Some(&*PAGE.len().to_string())));
    // An application that has not asked for banners has none, whoever comes.
    let quiet = stage.world.hub.replace("hub.", "quiet.");
    assert!(is_untouched(&stage.world.visit(&stage.mira, &format!("{quiet}/globex/plans")).await));
    // Nor is there one where single sign-on is complete, or there is none.
    let ben = stage.world.browser_of("ben").await;
    stage.world.idp.signs_in("ben");
    stage.world.visit(&ben, &format!("{}/organizations/globex/sso?next=/", stage.world.base)).await;
    assert!(is_untouched(&stage.world.visit(&ben, &url).await), "{}", ben.history());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn m3_not_now_lasts_as_long_as_the_session_and_holds_for_its_own_organization() {
    let stage = Optional::new().await;
    let page = stage.page("/globex/plans").await;
    let page = stage.mira.submit(page.form("/.doorward/banner")).await;
    assert_eq!((page.status.as_u16(), page.header("location")), (303, Some("/globex/plans")));
    assert!(is_untouched(&stage.page("/globex/plans").await));
    assert!(is_untouched(&stage.page("/GLOBEX/other").await));
    assert!(has_banner(&stage.page("/acme/plans").await), "another organization asks for itself");
    // It is no proof of anything: it says no more than a few letters of a hash, and the application never sees it.
    let cookie = stage.mira.cookie("pages.localhost", "doorward-banner").unwrap();
    assert_eq!(cookie.len(), 8);
    let asked = stage.asked.lock().unwrap().last().unwrap().clone();
    assert!(!asked.contains_key("cookie"), "{asked:?}");

    // A new session is asked again.
    stage.mira.lose_cookie("pages.localhost", "doorward-app");
    let page = stage.world.visit(&stage.mira, &format!("{}/globex/plans", stage.host)).await;
    assert!(has_banner(&page));
    // Where an application shares Doorward's own host it is the same, by the session of that host.
    let own = format!("{}/p/globex/plans", stage.world.base);
    let page = stage.mira.get(&own).await;
    let page = stage.mira.submit(page.form("/.doorward/banner")).await;
    assert_eq!(page.header("location"), Some("/p/globex/plans"));
    assert!(is_untouched(&stage.mira.get(&own).await));
    stage.world.sign_in(&stage.mira, "mira").await;
    assert!(has_banner(&stage.mira.get(&own).await));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_10_a_banner_is_dismissed_by_a_form_of_its_own_host_alone() {
    let stage = Optional::new().await;
    let dismiss = format!("{}/.doorward/banner", stage.host);
    let form = "organization=globex&next=%2Fglobex%2Fplans";
    let kind = ("content-type", "application/x-www-form-urlencoded");
    let post = async |more: &[(&str, &str)], form: &str| {
        stage.mira.request(Method::POST, &dismiss, &[&[kind], more].concat(), form).await
    };
    let (site, own) = ("sec-fetch-site", ("origin", &*stage.host));
    for foreign in [
        &[][..],
        &[("origin", "https://evil.example"), (site, "same-origin")],
        &[("origin", &*stage.world.hub)],
        &[("origin", "null")],
        &[("origin", "null"), (site, "cross-site")],
        &[(site, "same-site")],
    ] {
        let page = post(foreign, form).await;
        assert_eq!((page.status.as_u16(), page.code().as_deref()), (403, Some("request.foreign_origin")));
    }
    assert_eq!(stage.page("/.doorward/banner").await.status, 405);
    assert_eq!(post(&[own], &"x".repeat(70_000)).await.code().as_deref(), Some("request.too_large"));
    assert!(has_banner(&stage.page("/globex/plans").await));

    // It leads to its own host alone, and remembers no more than the last few.
    for (next, to) in
        [("https://evil.example/", "/"), ("//evil.example/x", "/"), ("/\\evil.example", "/"), ("/a", "/a")]
    {
        let page = post(&[own], &format!("organization=x&next={next}")).await;
        assert_eq!((page.status.as_u16(), page.header("location")), (303, Some(to)), "{next}");
    }
    for n in 0..12 {
        post(&[own], &format!("organization=org{n}&next=/")).await;
    }
    assert_eq!(stage.mira.cookie("pages.localhost", "doorward-banner").unwrap().len(), 64);
    // A page that sends no referrer sends no origin either: its form counts by the browser's own word.
    assert_eq!(post(&[("origin", "null"), (site, "same-origin")], form).await.status, 303);
    assert!(is_untouched(&stage.page("/globex/plans").await));
    // Whoever has no session has nothing to dismiss, and gets no cookie.
    let stranger = Browser::new();
    let page = stranger.request(Method::POST, &dismiss, &[kind, own], form).await;
    assert_eq!((page.status.as_u16(), page.header("set-cookie")), (303, None));
}
