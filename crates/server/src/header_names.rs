//! Names of headers that `http::header` has no constant for, read once: a name given as a text is read at each use.

use http::HeaderName;

macro_rules! names {
    ($($constant:ident $name:literal;)*) => {
        $(pub(crate) const $constant: HeaderName = HeaderName::from_static($name);)*
    };
}

names! {
    DOORWARD_CODE "doorward-code";
    DOORWARD_STATUS "doorward-status";
    SEC_FETCH_MODE "sec-fetch-mode";
    SEC_FETCH_SITE "sec-fetch-site";
    X_FORWARDED_FOR "x-forwarded-for";
    X_FORWARDED_HOST "x-forwarded-host";
    X_FORWARDED_METHOD "x-forwarded-method";
    X_FORWARDED_PROTO "x-forwarded-proto";
    X_FORWARDED_URI "x-forwarded-uri";
    X_ORIGINAL_METHOD "x-original-method";
    X_ORIGINAL_URL "x-original-url";
    X_REQUEST_ID "x-request-id";
    X_REQUESTED_WITH "x-requested-with";
}
