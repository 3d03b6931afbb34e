//! `Cookie` headers: lines of the input are lines of the header.
//!
//! A cookie of ours is read by its octets, once or not at all (conformance.md V24), and none of ours is among those
//! that an application gets (rule 11).

use doorward::cookies::{Cookie, names, without_ours};
use doorward_core::secret::TokenHash;
use http::header::COOKIE;
use http::{HeaderMap, HeaderValue};

pub(super) fn check(data: &[u8]) {
    let mut headers = HeaderMap::new();
    for line in data.split(|b| *b == b'\n').take(16) {
        if let Ok(value) = HeaderValue::from_bytes(line) {
            headers.append(COOKIE, value);
        }
    }
    for https in [true, false] {
        for cookie in Cookie::ALL {
            read_by_its_octets(cookie, &headers, https);
        }
        ours_are_taken_out(&headers, https);
    }
}

/// Each cookie of the header, with its blanks.
fn sent(headers: &HeaderMap) -> Vec<&[u8]> {
    headers.get_all(COOKIE).iter().flat_map(|line| line.as_bytes().split(|b| *b == b';')).collect()
}

fn read_by_its_octets(cookie: Cookie, headers: &HeaderMap, https: bool) {
    let name = format!("{}=", cookie.name(https));
    let values: Vec<&[u8]> = sent(headers)
        .into_iter()
        .map(|pair| pair.strip_prefix(b" ").unwrap_or(pair))
        .filter_map(|pair| pair.strip_prefix(name.as_bytes()))
        .collect();
    let only = match values.as_slice() {
        [value] if value.len() == 43 => std::str::from_utf8(value).ok(),
        _ => None,
    };
    let read = cookie.read(headers, https);
    assert_eq!(read, only.map(TokenHash::of), "{name} {headers:?}");

    // Whoever plants a second one gains nothing.
    let mut planted = headers.clone();
    planted.append(COOKIE, HeaderValue::from_str(&format!("{name}{}", "A".repeat(43))).unwrap());
    assert!(values.is_empty() || cookie.read(&planted, https).is_none(), "{planted:?}");
}

fn ours_are_taken_out(headers: &HeaderMap, https: bool) {
    // A comma joins what were two cookies: one of ours goes with what it was joined to.
    let is_ours = |pair: &[u8]| {
        pair.split(|b| *b == b',').any(|cookie| {
            let name = cookie.split(|b| *b == b'=').next().unwrap_or_default().trim_ascii();
            names(https).iter().any(|ours| ours.as_bytes().eq_ignore_ascii_case(name))
        })
    };
    let kept = without_ours(headers, https);
    let expected: Vec<&[u8]> = sent(headers)
        .into_iter()
        .map(<[u8]>::trim_ascii)
        .filter(|pair| !pair.is_empty() && !is_ours(pair))
        .collect();
    assert_eq!(
        kept.as_ref().map_or(&b""[..], HeaderValue::as_bytes),
        expected.join(&b"; "[..]),
        "{headers:?}"
    );

    let mut left = HeaderMap::new();
    left.extend(kept.clone().map(|value| (COOKIE, value)));
    assert!(Cookie::ALL.iter().all(|cookie| cookie.read(&left, https).is_none()), "{left:?}");
    assert_eq!(without_ours(&left, https), kept, "taking ours out again changes nothing");
}
