//! Where a browser may be sent back to: the input is a `next`.
//!
//! What is taken leads, as browsers read addresses, to our own host or an application's, by the scheme of the base URL,
//! and to a path that the gate would not refuse (conformance.md V20, V21).

use doorward_core::request_target::normalise_path;
use doorward_core::return_to::{RETURN_TO_BYTES_MAX, parse_return_to};
use url::{Position, Url};

const APPLICATIONS: [&str; 2] = ["hub.example.com", "data.example.com:8443"];

pub(super) fn check(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    for base in ["https://sso.example.com/", "http://localhost:8080/sso/"] {
        let base = Url::parse(base).unwrap();
        let Some(to) = parse_return_to(text, &base, |host| APPLICATIONS.contains(&host)) else { continue };
        let location = to.location();
        assert!(location.bytes().all(|b| b.is_ascii_graphic()), "{location:?}");
        assert!(text.len() <= RETURN_TO_BYTES_MAX);

        // A browser resolves `Location` against the page that it is on.
        let page = base.join("login").unwrap();
        let end = page.join(location).unwrap_or_else(|error| panic!("{location:?}: {error}"));
        assert_eq!(end.scheme(), base.scheme(), "{location:?}");
        assert!(end.username().is_empty() && end.password().is_none(), "{location:?}");
        let host = &end[Position::BeforeHost..Position::AfterPort];
        let own = &base[Position::BeforeHost..Position::AfterPort];
        assert!(host == own || APPLICATIONS.contains(&host), "{text:?} leads to {end}");
        assert_eq!(to.is_same_origin(), host == own, "{text:?}");
        assert!(
            normalise_path(&end[Position::BeforePath..Position::AfterQuery]).is_ok(),
            "the gate refuses {end}"
        );

        // It may go through the hand-over and come back: then it is the same address.
        assert_eq!(
            parse_return_to(location, &base, |host| APPLICATIONS.contains(&host)).as_ref(),
            Some(&to),
            "{text:?}"
        );
    }
}
