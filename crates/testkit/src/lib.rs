//! What Doorward's tests need. Never shipped, and knows nothing of Doorward's own code.
//!
//! | to | use |
//! |---|---|
//! | have an identity provider that is right, or wrong in one chosen way | [`FakeIdp`], [`Misbehavior`] |
//! | walk through every way to be wrong | [`Misbehavior::ALL`] with `stage`, `verdict` and `covers` |
//! | act as a person with a browser: cookies, redirects, forms | [`Browser`], [`Page`], [`Form`] |
//! | have a folder for one test | [`TempDir`] |
//! | have a port on which nobody listens | [`free_port`] |
//! | turn the time of product and provider together | [`SharedClock`] |
//!
//! A failing helper panics with what it knows: it *is* the test that fails.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::let_underscore_must_use,
    reason = "never shipped: a helper that can't go on has to fail the test"
)]

mod browser;
mod endpoints;
mod fake_idp;
mod id_token;
mod metadata;
mod misbehavior;
mod odd_answers;
mod page;
mod registry;
mod signing;
mod spoiled_answers;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};

pub use browser::Browser;
pub use fake_idp::{FakeIdp, SharedClock};
pub use metadata::Personality;
pub use misbehavior::{Misbehavior, Stage, Verdict};
pub use page::{Form, Page};
pub use registry::{Client, ClientAuth, Endpoint, Person, Request};

/// A clock that stands still at a point in time (milliseconds since 1970) until a test turns it.
pub fn clock_at(now_ms: i64) -> SharedClock {
    SharedClock::new(now_ms.into())
}

/// A folder of its own, removed with all its content when dropped.
#[derive(Debug)]
pub struct TempDir(PathBuf);

impl TempDir {
    /// Makes the folder under the system's place for temporary files.
    #[expect(clippy::new_without_default, reason = "making a folder is no default value")]
    pub fn new() -> Self {
        static MADE: AtomicU64 = AtomicU64::new(0);
        loop {
            let number = MADE.fetch_add(1, Ordering::Relaxed);
            let path = std::env::temp_dir().join(format!("doorward-test-{}-{number}", std::process::id()));
            // What an earlier process with the same id left behind is somebody else's: take the next number.
            match std::fs::create_dir(&path) {
                Ok(()) => return Self(path),
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(error) => panic!("no temporary folder {}: {error}", path.display()),
            }
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The path of something in it.
    pub fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        // A folder that can't be removed must not hide why a test failed.
        drop(std::fs::remove_dir_all(&self.0));
    }
}

/// A port of 127.0.0.1 that nobody listens on, this process's until it ends. Prefer to bind port 0 where you can.
///
/// It is below the range that the kernel gives to outgoing connections, and a UDP socket (on a port that is never given
/// out) keeps it from other processes of the tests, those of e2e/ among them (`freePort` in processes.js).
pub fn free_port() -> u16 {
    const PORTS: std::ops::Range<u16> = 10_240..21_240;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let ports = u16::try_from(PORTS.len()).expect("some thousand");
    let first = u16::try_from(std::process::id() * 97 % u32::from(ports)).expect("less than their number");
    loop {
        let next = NEXT.fetch_add(1, Ordering::Relaxed) % ports;
        let port = PORTS.start + (first + next) % ports;
        let Ok(claim) = std::net::UdpSocket::bind(("127.0.0.1", port + ports)) else { continue };
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            std::mem::forget(claim);
            return port;
        }
    }
}
