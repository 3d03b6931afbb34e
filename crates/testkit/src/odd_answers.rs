//! Answers that no decent server gives: endless, dripping, exploding, silent.
//!
//! Used at every endpoint alike. Never here: what a right answer would have been.
//! Invariant: nothing is built in memory that is larger than 1 MiB; what is endless is made while it is read.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, LOCATION};
use http::{HeaderValue, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Frame};
use tokio::time::Sleep;

/// The body of every answer of the fake provider.
pub(crate) type AnswerBody = BoxBody<Bytes, Infallible>;
/// An answer of the fake provider.
pub(crate) type Answer = Response<AnswerBody>;

/// Status, content type and body in one go.
pub(crate) fn answer(status: u16, content_type: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut response = Response::new(Full::new(body.into()).boxed());
    *response.status_mut() = StatusCode::from_u16(status).expect("a status");
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// JSON that must not be stored.
pub(crate) fn json(status: u16, body: &serde_json::Value) -> Answer {
    json_text(status, body.to_string())
}

/// JSON as text, for what `serde_json` would not write.
pub(crate) fn json_text(status: u16, body: String) -> Answer {
    let mut response = answer(status, "application/json", body);
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// A small HTML page.
pub(crate) fn page(status: u16, title: &str, text: &str) -> Answer {
    let body = format!("<!doctype html><title>{title}</title><h1>{title}</h1><p>{text}</p>");
    answer(status, "text/html; charset=utf-8", body)
}

/// A redirect.
pub(crate) fn redirect(status: u16, location: &str) -> Answer {
    let mut response = answer(status, "text/plain", "");
    response.headers_mut().insert(LOCATION, HeaderValue::from_str(location).expect("an ASCII location"));
    response
}

/// Ways to answer that don't depend on the endpoint.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Odd {
    Html,
    NotJson,
    Empty,
    Array,
    NotFound,
    ServerError,
    OneGiB,
    GzipBomb,
    SlowDrip,
    NeverAnswers,
    Reset,
}

/// The connection is to be closed without an answer.
#[derive(Debug)]
pub(crate) struct HangUp;

impl std::fmt::Display for HangUp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the fake provider hangs up")
    }
}

impl std::error::Error for HangUp {}

/// Gives the odd answer; waits for ever if that is the oddity.
pub(crate) async fn odd_answer(odd: Odd) -> Result<Answer, HangUp> {
    Ok(match odd {
        Odd::Html => page(200, "Sign in", "Please sign in to go on."),
        Odd::NotJson => json_text(200, "this is { not JSON".into()),
        Odd::Empty => json_text(200, String::new()),
        Odd::Array => json_text(200, "[]".into()),
        Odd::NotFound => page(404, "Not found", "There is nothing here."),
        Odd::ServerError => page(500, "Server error", "Something went wrong."),
        Odd::OneGiB => {
            const LENGTH: u64 = 1 << 30;
            let mut response = json_text(200, String::new())
                .map(|_| Trickle::new(vec![b' '; 1 << 16], LENGTH, None).boxed());
            response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(LENGTH));
            response
        }
        Odd::GzipBomb => {
            let mut response = json_text(200, String::new());
            *response.body_mut() = Full::new(Bytes::from(gzip_of_spaces().repeat(32))).boxed();
            response.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            response
        }
        Odd::SlowDrip => json_text(200, String::new())
            .map(|_| Trickle::new(vec![b' '], 36_000, Some(Duration::from_millis(100))).boxed()),
        Odd::NeverAnswers => std::future::pending().await,
        Odd::Reset => return Err(HangUp),
    })
}

/// One gzip member of 1,052 bytes that unpacks to 1 MiB of blanks: a fixed head, zeros, a fixed tail.
fn gzip_of_spaces() -> Vec<u8> {
    const HEAD: [u8; 27] = [
        0x1f, 0x8b, 0x08, 0, 0, 0, 0, 0, 0x02, 0x03, 0xed, 0xc1, 0x31, 0x01, 0, 0, 0, 0xc2, 0xa0, 0x2a, 0xeb,
        0x9f, 0xd2, 0x10, 0xbe, 0x40, 0x01,
    ];
    const TAIL: [u8; 10] = [0x7c, 0x06, 0xa7, 0x02, 0x03, 0xf1, 0x00, 0x00, 0x10, 0x00];
    [HEAD.as_slice(), &[0; 1015], TAIL.as_slice()].concat()
}

/// A body that repeats one chunk until `left` bytes are sent, resting before each if told to.
struct Trickle {
    chunk: Bytes,
    left: u64,
    rest: Option<Duration>,
    resting: Option<Pin<Box<Sleep>>>,
}

impl Trickle {
    fn new(chunk: Vec<u8>, left: u64, rest: Option<Duration>) -> Self {
        Self { chunk: chunk.into(), left, rest, resting: rest.map(|time| Box::pin(tokio::time::sleep(time))) }
    }
}

impl Body for Trickle {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if let Some(resting) = &mut self.resting {
            if resting.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
            self.resting = self.rest.map(|time| Box::pin(tokio::time::sleep(time)));
        }
        let size = self.left.min(self.chunk.len() as u64);
        if size == 0 {
            return Poll::Ready(None);
        }
        self.left -= size;
        let chunk = self.chunk.slice(..usize::try_from(size).expect("a chunk's size"));
        Poll::Ready(Some(Ok(Frame::data(chunk))))
    }
}
