//! The streams of an HTTP/2 connection, of which each that stands still ends by itself.
//!
//! In: the answers that hyper sends, one task each. Out: the same, and an end for an answer of which the client takes
//! nothing: it grants no window, or a byte now and then. TCP sees nothing of that (`Watched` does for TCP).
//! Invariant: an answer that its client doesn't take is held for a bounded time, and costs no other answer of the
//! connection anything; one that we have nothing of yet (a slow application, an event stream) waits as long as it likes.

use super::{Progress, Stopwatch};
use crate::metrics::ConnectionFigures;
use bytes::Bytes;
use hyper::rt::Executor;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// What is handed to HTTP/2 at a time: one frame of the usual size. So taking 16 KiB within the limit is enough for an
/// answer to be going on, however much the application gives at once.
const PIECE: usize = 16 * 1024;

tokio::task_local! {
    /// How far the answer is taken that the running task sends. Tasks of HTTP/1 connections have none.
    static DELIVERY: Arc<Delivery>;
}

/// How far a client takes one answer.
pub(super) struct Delivery {
    began: Stopwatch,
    /// Since when a piece is waiting to be taken, in milliseconds after `began`; 0 while none is.
    offered_at: AtomicU64,
}

impl Delivery {
    /// That of the running task, if it sends an answer on a stream.
    pub(super) fn of_this_task() -> Option<Arc<Self>> {
        DELIVERY.try_with(Arc::clone).ok()
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX).max(1)
    }

    /// A piece waits for the client from now on.
    pub(super) fn offer(&self) {
        self.offered_at.store(self.now(), Ordering::Relaxed);
    }

    /// More is asked for: what was there is on its way.
    pub(super) fn taken(&self) {
        self.offered_at.store(0, Ordering::Relaxed);
    }

    /// For how long the client has taken nothing of what it could have.
    fn waits(&self) -> Duration {
        match self.offered_at.load(Ordering::Relaxed) {
            0 => Duration::ZERO,
            since => Duration::from_millis(self.now().saturating_sub(since)),
        }
    }

    /// Ends when the client has taken nothing for so long.
    async fn stands_still(&self, limit: Duration) {
        loop {
            let left = limit.saturating_sub(self.waits());
            if left.is_zero() {
                return;
            }
            tokio::time::sleep(left).await;
        }
    }
}

/// The beginning of `rest` that is handed out now.
pub(super) fn piece_of(rest: &mut Bytes) -> Bytes {
    rest.split_to(rest.len().min(PIECE))
}

/// Runs the streams of one connection.
#[derive(Clone)]
pub(super) struct Streams {
    pub(super) progress: Arc<Progress>,
    pub(super) stalled: Duration,
    pub(super) figures: ConnectionFigures,
}

impl<F> Executor<F> for Streams
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, stream: F) {
        let Self { progress, stalled, figures } = self.clone();
        let delivery = Arc::new(Delivery { began: progress.began, offered_at: AtomicU64::new(0) });
        let watched = Arc::clone(&delivery);
        tokio::spawn(DELIVERY.scope(delivery, async move {
            tokio::select! {
                () = stream => {}
                () = watched.stands_still(stalled) => {
                    // The stream is dropped, which resets it. Once nothing else is answered, the connection goes too.
                    figures.gave_up_answer();
                    progress.note_stall();
                }
            }
        }));
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "the test is the client")]
mod tests {
    use super::super::*;
    use axum::Router;
    use axum::routing::get;
    use std::convert::Infallible;
    use tokio::net::TcpStream;
    use tokio::sync::Notify;

    const SHORT: Duration = Duration::from_millis(60);

    /// Nothing ends by itself but what the test says.
    fn patient() -> Limits {
        let long = Duration::from_mins(10);
        Limits {
            connections: 8,
            per_address: 8,
            handshake: long,
            head: SHORT,
            idle: long,
            idle_when_crowded: long,
            stalled: long,
        }
    }

    /// HTTP/2 without TLS, which is not what is looked at here.
    async fn serve(router: Router, limits: Limits) -> (SocketAddr, Admission) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let admission = Admission::new(limits, &[], Clock::system(), ConnectionFigures::default());
        let shared = admission.clone();
        tokio::spawn(async move {
            let (stop, _) = watch::channel(false);
            loop {
                let (permit, stream, peer) = next(&listener, &shared).await.unwrap();
                let place = shared.admit(peer, permit).unwrap();
                let progress = Arc::new(Progress::new(&shared.clock));
                let answering =
                    Answering { door: door(router.clone()), peer, progress: Arc::clone(&progress) };
                let stopping = stop.subscribe();
                let running = Running {
                    admission: shared.clone(),
                    spared: false,
                    progress: Arc::clone(&progress),
                    stopping,
                };
                let stream = Watched::new(stream, progress, limits.stalled, place);
                tokio::spawn(running.http2(stream, answering));
            }
        });
        (address, admission)
    }

    /// A client that writes its frames by hand.
    struct Client(TcpStream);

    const DATA: u8 = 0;
    const HEADERS: u8 = 1;
    const RST_STREAM: u8 = 3;
    const SETTINGS: u8 = 4;
    const PING: u8 = 6;
    const GOAWAY: u8 = 7;
    const WINDOW_UPDATE: u8 = 8;
    const CONTINUATION: u8 = 9;
    const END_STREAM: u8 = 1;
    const END_HEADERS: u8 = 4;
    const INITIAL_WINDOW_SIZE: u8 = 4;

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let mut bytes = u32::try_from(payload.len()).unwrap().to_be_bytes()[1..].to_vec();
        bytes.extend([kind, flags]);
        bytes.extend(stream.to_be_bytes());
        bytes.extend(payload);
        bytes
    }

    /// `GET https://a.example/` (0x82, 0x87, 0x84 of HPACK's table, and a literal `:authority`).
    fn get_block(path: &str) -> Vec<u8> {
        let mut block = vec![0x82, 0x87, 0x04, u8::try_from(path.len()).unwrap()];
        block.extend(path.as_bytes());
        block.extend(b"\x01\x09a.example");
        block
    }

    impl Client {
        /// Says what each of its streams may be sent at first.
        async fn with_window(address: SocketAddr, window: u32) -> Self {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
            let mut setting = vec![0, INITIAL_WINDOW_SIZE];
            setting.extend(window.to_be_bytes());
            stream.write_all(&frame(SETTINGS, 0, 0, &setting)).await.unwrap();
            Self(stream)
        }

        async fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
            self.0.write_all(&frame(kind, flags, stream, payload)).await.unwrap();
        }

        async fn get(&mut self, stream: u32, path: &str) {
            self.send(HEADERS, END_STREAM | END_HEADERS, stream, &get_block(path)).await;
        }

        async fn grant(&mut self, stream: u32, bytes: u32) {
            self.send(WINDOW_UPDATE, 0, stream, &bytes.to_be_bytes()).await;
        }

        /// The next frame: kind, stream, payload. `None` when the server has closed the connection.
        async fn frame(&mut self) -> Option<(u8, u32, Vec<u8>)> {
            let mut head = [0; 9];
            let read = timeout(Duration::from_secs(20), self.0.read_exact(&mut head)).await;
            read.expect("a frame, or the end").ok()?;
            let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
            self.0.read_exact(&mut payload).await.ok()?;
            Some((head[3], u32::from_be_bytes([head[5], head[6], head[7], head[8]]), payload))
        }

        /// Reads on until the server closes; the kinds of what came, with their streams.
        async fn until_closed(&mut self) -> Vec<(u8, u32)> {
            let mut seen = Vec::new();
            while let Some((kind, stream, _)) = self.frame().await {
                seen.push((kind, stream));
            }
            seen
        }

        async fn until(&mut self, kind: u8, stream: u32) -> Vec<u8> {
            loop {
                let (found, on, payload) = self.frame().await.expect("the connection goes on");
                if (found, on) == (kind, stream) {
                    return payload;
                }
            }
        }
    }

    /// `/endless` never ends; `/quiet` says "one" at once, and "two" when told to.
    fn pages(go_on: &Arc<Notify>) -> Router {
        let endless = || async {
            let piece = Ok::<_, Infallible>(Bytes::from(vec![0; 1 << 18]));
            Body::from_stream(futures_util::stream::repeat_with(move || piece.clone()))
        };
        let go_on = Arc::clone(go_on);
        let quiet = move || async move {
            let two = async move {
                go_on.notified().await;
                Ok(Bytes::from_static(b"two"))
            };
            let one = futures_util::stream::iter([Ok::<_, Infallible>(Bytes::from_static(b"one"))]);
            Body::from_stream(futures_util::StreamExt::chain(one, futures_util::stream::once(two)))
        };
        Router::new().route("/endless", get(endless)).route("/quiet", get(quiet))
    }

    /// All but the one that is kept for whoever comes next.
    async fn all_places_are_free(admission: &Admission) {
        while admission.places.available_permits() + 1 < admission.limits.connections {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn v18_a_client_that_grants_no_window_loses_its_answers_and_its_place() {
        let (address, admission) =
            serve(pages(&Arc::default()), Limits { stalled: SHORT, ..patient() }).await;
        let mut client = Client::with_window(address, 0).await;
        for stream in [1, 3, 5] {
            client.get(stream, "/endless").await;
        }
        let seen = client.until_closed().await;
        for stream in [1, 3, 5] {
            assert!(seen.contains(&(HEADERS, stream)) && seen.contains(&(RST_STREAM, stream)), "{seen:?}");
        }
        all_places_are_free(&admission).await;
    }

    #[tokio::test]
    async fn v18_a_client_that_grants_a_byte_now_and_then_or_no_window_of_the_connection_is_no_better_off() {
        let (address, admission) =
            serve(pages(&Arc::default()), Limits { stalled: SHORT, ..patient() }).await;
        // Enough for each stream, but not for the connection, whose 64 KiB are soon used up.
        let mut client = Client::with_window(address, 1 << 30).await;
        client.get(1, "/endless").await;
        let seen = client.until_closed().await;
        assert!(seen.contains(&(DATA, 1)), "{seen:?}");
        all_places_are_free(&admission).await;

        let Client(stream) = Client::with_window(address, 0).await;
        let (read, mut write) = stream.into_split();
        write.write_all(&frame(HEADERS, END_STREAM | END_HEADERS, 1, &get_block("/endless"))).await.unwrap();
        // For as long as the server listens.
        while write.write_all(&frame(WINDOW_UPDATE, 0, 1, &1_u32.to_be_bytes())).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        all_places_are_free(&admission).await;
        drop(read);
    }

    #[tokio::test]
    async fn one_answer_that_is_not_taken_costs_the_others_of_its_connection_nothing_however_long_they_wait()
    {
        let go_on = Arc::new(Notify::new());
        let (address, _) = serve(pages(&go_on), Limits { stalled: SHORT, ..patient() }).await;
        let mut client = Client::with_window(address, 0).await;
        client.get(1, "/quiet").await;
        client.grant(1, 100).await;
        assert_eq!(client.until(DATA, 1).await, b"one");
        client.get(3, "/endless").await;
        client.until(RST_STREAM, 3).await;
        // The application has had nothing to say for longer than a client may take.
        go_on.notify_one();
        assert_eq!(client.until(DATA, 1).await, b"two");
    }

    #[tokio::test]
    async fn v18_more_resets_than_we_come_to_end_the_connection() {
        let (address, admission) = serve(pages(&Arc::default()), patient()).await;
        let mut client = Client::with_window(address, 0).await;
        let mut flood = Vec::new();
        for stream in (1..).step_by(2).take(PENDING_RESETS_MAX * 4) {
            flood.extend(frame(HEADERS, END_STREAM | END_HEADERS, stream, &get_block("/endless")));
            flood.extend(frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes()));
        }
        client.0.write_all(&flood).await.unwrap();
        let reason = client.until(GOAWAY, 0).await;
        assert_eq!(reason[4..8], 11_u32.to_be_bytes(), "enhance your calm");
        client.until_closed().await;
        all_places_are_free(&admission).await;
    }

    #[tokio::test]
    async fn v18_a_head_without_end_ends_the_connection_and_one_that_is_too_large_its_request() {
        let (address, admission) = serve(pages(&Arc::default()), patient()).await;
        // A field that is not indexed: x, with a value of 16,000 letters (0x7f and the rest in sevens of bits).
        let mut field = b"\x00\x01x\x7f\x81\x7c".to_vec();
        field.extend([b'v'; 16_000]);
        let mut client = Client::with_window(address, 100).await;
        client.send(HEADERS, END_STREAM, 1, &get_block("/quiet")).await;
        for _ in 0..3 {
            client.send(CONTINUATION, 0, 1, &field).await;
        }
        client.send(CONTINUATION, 0, 1, &field).await;
        client.send(CONTINUATION, END_HEADERS, 1, &field).await;
        let head = client.until(HEADERS, 1).await;
        assert_ne!(head[0], 0x88, "not 200: {head:x?}");
        client.get(3, "/quiet").await;
        assert_eq!(client.until(DATA, 3).await, b"one", "the connection goes on");

        client.send(HEADERS, END_STREAM, 5, &get_block("/quiet")).await;
        let mut sent = 0;
        while client.0.write_all(&frame(CONTINUATION, 0, 5, &field)).await.is_ok() {
            sent += 1;
            assert!(sent < 4096, "64 MiB were taken");
        }
        drop(client);
        all_places_are_free(&admission).await;
    }

    #[tokio::test]
    async fn v18_pings_and_settings_whose_answers_nobody_reads_end_the_connection() {
        let (address, admission) =
            serve(pages(&Arc::default()), Limits { stalled: SHORT, ..patient() }).await;
        for flood in [frame(PING, 0, 0, &[7; 8]), frame(SETTINGS, 0, 0, &[])] {
            let mut client = Client::with_window(address, 0).await;
            let flood = flood.repeat(256);
            while client.0.write_all(&flood).await.is_ok() {}
            drop(client);
            all_places_are_free(&admission).await;
        }
    }

    #[tokio::test]
    async fn v18_a_hundred_requests_may_be_open_and_one_more_is_refused_without_reaching_anybody() {
        let go_on = Arc::new(Notify::new());
        let (address, _) = serve(pages(&go_on), patient()).await;
        let mut client = Client::with_window(address, 100).await;
        let streams: Vec<u32> = (1..).step_by(2).take(STREAMS_MAX as usize).collect();
        for &stream in &streams {
            client.get(stream, "/quiet").await;
        }
        client.get(STREAMS_MAX * 2 + 1, "/quiet").await;
        let reason = client.until(RST_STREAM, STREAMS_MAX * 2 + 1).await;
        assert_eq!(reason, 7_u32.to_be_bytes(), "refused, so that a client may ask again");
        client.send(RST_STREAM, 0, 1, &8_u32.to_be_bytes()).await;
        client.get(STREAMS_MAX * 2 + 3, "/quiet").await;
        client.until(DATA, STREAMS_MAX * 2 + 3).await;
    }
}
