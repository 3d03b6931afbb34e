//! Recognises a browser that is led round in circles, and says why.
//!
//! In: a start (of a hand-over, or of SSO that is complete already) and its target. Out: whether it is the third for that
//! target within 30 seconds, and the cookie that remembers. The cookie has four places of constant size, so nothing piles
//! up, and other tabs don't make it forget. It decides nothing: whoever forges it sees a page that he asked for.

use doorward_core::error_code::ErrorCode;
use doorward_core::secret::TokenHash;
use doorward_core::time::{Lifetime, Timestamp};
use http::{HeaderMap, HeaderValue};

use crate::app::App;
use crate::cookies::Cookie;

/// Starts for one target that belong together.
const WINDOW: Lifetime = Lifetime::from_seconds(30);
/// The start that is one too many.
const THIRD: u32 = 3;
/// How many targets are remembered.
const PLACES: usize = 4;
/// A place: 8 hexadecimal digits of the target's hash, 9 of the first start in seconds, one for the count.
const PLACE_CHARS: usize = 18;
/// Length of the cookie's value.
pub const STARTS_CHARS: usize = PLACES * PLACE_CHARS;

/// What a start is.
#[derive(Debug)]
pub struct Start {
    /// The third or a later one for its target within 30 seconds.
    pub goes_in_circles: bool,
    /// What remembers it.
    pub cookie: Option<HeaderValue>,
}

/// Counts a start for `target`.
pub fn count(app: &App, headers: &HeaderMap, target: &str) -> Start {
    let known = Cookie::Starts.text(headers, app.https());
    let (value, nth) = counted(known, target, app.clock.now());
    Start { goes_in_circles: nth >= THIRD, cookie: Cookie::Starts.set_text(&value, app.https()) }
}

fn counted(known: Option<&str>, target: &str, now: Timestamp) -> (String, u32) {
    let hash = TokenHash::of(target);
    let [first, second, third, fourth, ..] = hash.as_bytes();
    let key = format!("{first:02x}{second:02x}{third:02x}{fourth:02x}");
    let place = usize::from(*first) % PLACES;
    let known = known.filter(|known| known.len() == STARTS_CHARS && known.is_ascii());
    let empty = || "0".repeat(PLACE_CHARS);
    let mut value = String::with_capacity(STARTS_CHARS);
    let mut nth = 1;
    for n in 0..PLACES {
        let at = n * PLACE_CHARS;
        let text = known.and_then(|known| known.get(at..at + PLACE_CHARS)).map_or_else(empty, str::to_owned);
        if n != place {
            value.push_str(&text);
            continue;
        }
        let mut began = now.seconds();
        if let (Some(their_key), Some(at), Some(count)) = (text.get(..8), text.get(8..17), text.get(17..))
            && their_key == key
            && let (Ok(at), Ok(count)) = (i64::from_str_radix(at, 16), u32::from_str_radix(count, 16))
            && (0..WINDOW.seconds()).contains(&(began - at))
        {
            began = at;
            nth = count.saturating_add(1).min(15);
        }
        let began = began.clamp(0, 0xf_ffff_ffff);
        value.extend([key.clone(), format!("{began:09x}{nth:x}")]);
    }
    (value, nth)
}

/// What the application's host saw of a browser that starts a hand-over there: what a loop most likely comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sight {
    /// The proxy says another scheme than `base_url`'s.
    OtherScheme,
    /// The proxy says another host than the application's.
    OtherHost,
    /// Our cookie came back, but is no session.
    UnknownSession,
    /// Our cookie did not come back.
    NoCookie,
}

impl Sight {
    const ALL: [Self; 4] = [Self::OtherScheme, Self::OtherHost, Self::UnknownSession, Self::NoCookie];

    /// Of a request on an application's host.
    pub fn of(app: &App, host: &str, headers: &HeaderMap) -> Self {
        let said = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let scheme = if app.https() { "https" } else { "http" };
        if said("x-forwarded-proto").is_some_and(|said| said != scheme) {
            Self::OtherScheme
        } else if said("x-forwarded-host").is_some_and(|said| !said.eq_ignore_ascii_case(host)) {
            Self::OtherHost
        } else if Cookie::App.read(headers, app.https()).is_some() {
            Self::UnknownSession
        } else {
            Self::NoCookie
        }
    }

    /// As the hand-over carries it to our own host.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OtherScheme => "scheme",
            Self::OtherHost => "host",
            Self::UnknownSession => "session",
            Self::NoCookie => "none",
        }
    }

    /// The sight of that name.
    pub fn from_text(text: &str) -> Self {
        Self::ALL.into_iter().find(|known| known.as_str() == text).unwrap_or(Self::NoCookie)
    }

    /// What the page says.
    pub const fn code(self) -> ErrorCode {
        match self {
            Self::OtherScheme => ErrorCode::GateHttpSeen,
            Self::OtherHost => ErrorCode::GateLoopOtherHost,
            Self::UnknownSession => ErrorCode::GateLoopClock,
            Self::NoCookie => ErrorCode::GateLoopCookieNotKept,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_seconds(1_768_467_600 + seconds)
    }

    #[test]
    fn the_third_start_for_one_target_within_thirty_seconds_is_recognised_in_constant_size() {
        let (value, nth) = counted(None, "a", at(0));
        assert_eq!((value.len(), nth), (STARTS_CHARS, 1));
        let (value, nth) = counted(Some(&value), "a", at(10));
        assert_eq!((value.len(), nth), (STARTS_CHARS, 2));
        let (third, nth) = counted(Some(&value), "a", at(29));
        assert_eq!((third.len(), nth), (STARTS_CHARS, THIRD));
        assert_eq!(counted(Some(&value), "a", at(30)).1, 1, "too late to belong together");
        assert_eq!(counted(Some(&value), "another", at(11)).1, 1, "another target");
    }

    #[test]
    fn another_tab_does_not_make_a_loop_forgotten_and_nonsense_counts_for_nothing() {
        // Targets in two different places of the four.
        let other = ["b", "c", "d", "e", "f"]
            .into_iter()
            .find(|other| {
                let place = |text| usize::from(TokenHash::of(text).as_bytes()[0]) % PLACES;
                place(other) != place("a")
            })
            .unwrap();
        let (mut value, _) = counted(None, "a", at(0));
        for (target, expected) in [(other, 1), ("a", 2), (other, 2), ("a", 3)] {
            let (next, nth) = counted(Some(&value), target, at(1));
            assert_eq!(nth, expected, "{target}");
            value = next;
        }
        for nonsense in ["", "x", &"z".repeat(STARTS_CHARS), &"é".repeat(STARTS_CHARS / 2)] {
            assert_eq!(counted(Some(nonsense), "a", at(0)).1, 1);
        }
    }
}
