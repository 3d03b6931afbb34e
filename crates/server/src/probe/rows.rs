//! Everything that the probe looks at, in this order: its name, what must be true, and what it takes to see it.

/// What has to be there before a look.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Needs {
    /// Nothing but the proxy.
    Nothing,
    /// That a private page was just refused, because it sends what must not reach an application.
    Refusal,
    /// A path that is open to everybody.
    Public,
    /// A listener in the application's place.
    Echo,
    /// And a member who is signed in.
    Member,
}

macro_rules! rows {
    ($( $variant:ident $name:literal $needs:ident $what:literal; )*) => {
        /// One look.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum Row { $( #[doc = $what] $variant ),* }

        impl Row {
            /// All, in the order in which they are looked at.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// Its name: stable, for scripts.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),* }
            }

            /// What must be true.
            pub const fn what(self) -> &'static str {
                match self { $(Self::$variant => $what),* }
            }

            /// What it takes to look.
            pub const fn needs(self) -> Needs {
                match self { $(Self::$variant => Needs::$needs),* }
            }
        }
    };
}

#[rustfmt::skip]
rows! {
    // What a stranger gets.
    Pages              "pages"              Nothing "Doorward's own pages are reached under base_url";
    PrivatePage        "private-page"       Nothing "a program without a session gets 401 and Doorward's problem document";
    Browser            "browser"            Nothing "a browser without a session is led to sign in";
    Handover           "handover"           Nothing "/.doorward/ on the application's host leads to Doorward";
    PublicPage         "public-page"        Public  "a public page is let through: the proxy may ask the gate";
    Fetch              "fetch"              Nothing "a fetch gets 401, no redirect";
    Preflight          "preflight"          Nothing "a preflight gets 401";
    Head               "head"               Nothing "HEAD gets 401 without a body";
    Range              "range"              Nothing "a range request gets 401";
    FormPost           "form-post"          Refusal "a form whose session has run out gets a page, no redirect";
    OddMethods         "odd-methods"        Refusal "TRACE, PROPFIND and get are refused";
    WebSocketStranger  "websocket-stranger" Nothing "a WebSocket without a session gets 401";
    PathTricks         "path-tricks"        Nothing "paths that servers read in two ways are refused, as they were sent";
    OverrideHeaders    "override-headers"   Nothing "X-Original-URL and its kin open nothing";
    ForwardedHeaders   "forwarded-headers"  Nothing "X-Forwarded-Host and its kin change nothing";
    BigCookies         "big-cookies"        Nothing "big cookies are judged or refused";
    ManyHeaders        "many-headers"       Nothing "a request of a hundred headers is judged or refused";
    TwoHosts           "two-hosts"          Nothing "a request with two hosts is refused";
    GateListener       "gate-listener"      Nothing "the gate's own answers are for the proxy alone";
    // What the application gets.
    Arrives            "arrives"            Echo    "an open page arrives at the application, once";
    ForgedIdentity     "forged-identity"              Echo "identity headers of the browser's making do not arrive";
    ForgedUnderscores  "forged-identity-underscores"  Echo "nor they and their kin, spelled with underscores";
    ForgedMixedCase    "forged-identity-mixed-case"   Echo "nor in mixed case";
    ForgedDoubled      "forged-identity-doubled"      Echo "nor doubled";
    ForgedDots         "forged-identity-dots"         Echo "nor they and their kin, spelled with dots";
    ForgedOverrides    "forged-overrides"   Echo    "nor headers that name another path or method";
    ForgedForwarded    "forged-forwarded"   Echo    "nor where the browser says that it comes from";
    ConnectionHeader   "connection-header"  Echo    "nor by way of the header Connection";
    PathAsJudged       "path"               Echo    "the path arrives letter by letter";
    HostArrives        "host"               Echo    "the host that was judged arrives, also beside an absolute target";
    SchemeArrives      "scheme"             Echo    "X-Forwarded-Proto says the browser's scheme, once";
    CookiesArrive      "cookies"            Echo    "others' cookies arrive, Doorward's do not";
    BigCookieArrives   "big-cookie"         Echo    "a cookie of 7000 bytes arrives whole";
    HeadAndRange       "head-and-range"     Echo    "HEAD and Range arrive";
    OtherUpgrades      "other-upgrades"     Echo    "no upgrade but to a WebSocket arrives";
    WebSocket          "websocket"          Echo    "a WebSocket is joined through";
    Identity           "identity"           Member  "every identity header arrives, once, with what the gate says";
    IdentityReplaced   "identity-replaced"  Member  "and replaces what the browser sent under its name";
    IdentityConnection "identity-connection" Member "and stays, although the browser names it in Connection";
    SessionCookie      "session-cookie"     Member  "the session's cookie stays out of the application";
}
