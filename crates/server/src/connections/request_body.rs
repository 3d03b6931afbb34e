//! The body of a request over HTTP/1.1, and what nobody has read of it when the answer is ready.
//!
//! In: what hyper reads. Out: the same for whoever answers; afterwards what is left of it is read and thrown away, or the
//! answer says that the connection ends.
//! Why: hyper closes a connection with something unread, and says nothing of it. A proxy that keeps connections for whoever
//! comes next (Traefik, Caddy) may have sent the next request by then, and a POST that is lost so is sent by nobody again.
//! Invariant: what is left costs a connection at most `LEFT_BYTES_MAX` and `LEFT_TIME_MAX`.

use bytes::Bytes;
use http::header::EXPECT;
use http::{Request, Version};
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::Sleep;

/// Most that is read past, in bytes: more than any form may have.
const LEFT_BYTES_MAX: usize = 1024 * 1024;
/// For as long an answer waits at most for what is left of its request.
const LEFT_TIME_MAX: Duration = Duration::from_millis(250);

/// A request's body. Whatever is not read of it goes to its `Left` when it is dropped.
#[derive(Debug)]
pub struct RequestBody {
    body: Option<Incoming>,
    left: Option<Arc<Mutex<State>>>,
}

#[derive(Debug)]
enum State {
    /// Whoever answers has the body.
    Held,
    /// It was dropped, perhaps with something unread.
    Dropped(Incoming),
    /// All of it was read.
    Over,
}

/// What is left of a request's body.
pub(super) struct Left {
    state: Arc<Mutex<State>>,
    /// A client that waits for our word before it sends its body gets the answer instead.
    is_awaited: bool,
    bytes: usize,
    deadline: Option<Pin<Box<Sleep>>>,
}

/// The request for whoever answers it, and what will be left of its body, if that matters: over HTTP/2 an answer ends its
/// stream alone.
pub(super) fn split(request: Request<Incoming>) -> (Request<RequestBody>, Option<Left>) {
    if request.body().is_end_stream() || request.version() == Version::HTTP_2 {
        return (request.map(|body| RequestBody { body: Some(body), left: None }), None);
    }
    let state = Arc::new(Mutex::new(State::Held));
    let is_awaited = request.headers().contains_key(EXPECT);
    let left = Left { state: Arc::clone(&state), is_awaited, bytes: 0, deadline: None };
    (request.map(|body| RequestBody { body: Some(body), left: Some(state) }), Some(left))
}

impl Left {
    /// Reads what is left. `false` when that is too much, takes too long, or is still being read by somebody: then the
    /// connection can take no further request.
    pub(super) fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<bool> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let body = match &mut *state {
                State::Over => return Poll::Ready(true),
                State::Held => return Poll::Ready(false),
                State::Dropped(_) if self.is_awaited => return Poll::Ready(false),
                State::Dropped(body) => body,
            };
            match Pin::new(body).poll_frame(context) {
                Poll::Ready(None) => *state = State::Over,
                Poll::Ready(Some(Ok(frame))) => {
                    self.bytes += frame.data_ref().map_or(0, Bytes::len);
                    if self.bytes > LEFT_BYTES_MAX {
                        return Poll::Ready(false);
                    }
                }
                Poll::Ready(Some(Err(_))) => return Poll::Ready(false),
                Poll::Pending => {
                    let deadline =
                        self.deadline.get_or_insert_with(|| Box::pin(tokio::time::sleep(LEFT_TIME_MAX)));
                    return deadline.as_mut().poll(context).map(|()| false);
                }
            }
        }
    }
}

impl RequestBody {
    fn leave(&mut self, state: State) {
        if let Some(left) = self.left.take() {
            *left.lock().unwrap_or_else(PoisonError::into_inner) = state;
        }
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        if let Some(body) = self.body.take() {
            self.leave(if body.is_end_stream() { State::Over } else { State::Dropped(body) });
        }
    }
}

impl HttpBody for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        let frame = std::task::ready!(Pin::new(body).poll_frame(context));
        if frame.is_none() {
            // A body of unknown length does not say by itself that this was its end.
            self.body = None;
            self.leave(State::Over);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), HttpBody::size_hint)
    }
}
