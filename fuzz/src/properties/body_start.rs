//! An HTML page that the banner is put into: the page's bytes.
//!
//! Every byte of it goes on, in its order and however it is cut; and what is put in stands at the very beginning or behind
//! a tag, never in the middle of one or of a text.

use axum::body::Bytes;
use doorward::web::body_start::BodyStart;

/// A byte that no page below has, because a zero byte ends the search.
const MARKUP: &[u8] = b"\0[markup]\0";

pub(super) fn check(data: &[u8]) {
    let whole = passed([data].into_iter());
    let at = whole.windows(MARKUP.len()).position(|window| window == MARKUP);
    let page = match at {
        Some(at) => [&whole[..at], &whole[at + MARKUP.len()..]].concat(),
        None => whole.clone(),
    };
    // A page that brings the markup itself gets no second one before it, for it begins with a zero byte.
    assert!(page == data || whole == data, "bytes were lost or made up");
    if whole != data {
        let before = &whole[..at.unwrap_or_default()];
        let before = before.strip_prefix(b"\xef\xbb\xbf").unwrap_or(before).trim_ascii();
        let is_between = before.is_empty() || before.ends_with(b">") || before.len() < 3;
        assert!(is_between, "in the middle of {:?}", String::from_utf8_lossy(before));
    }
    for size in [1, 2, 7, 64] {
        assert_eq!(passed(data.chunks(size)), whole, "cut into pieces of {size}");
    }
}

fn passed<'p>(pieces: impl Iterator<Item = &'p [u8]>) -> Vec<u8> {
    let mut start = BodyStart::new(Bytes::from_static(MARKUP));
    let mut out = Vec::new();
    for piece in pieces {
        out.extend_from_slice(&start.take(Bytes::copy_from_slice(piece)));
    }
    out.extend_from_slice(&start.end());
    out
}
