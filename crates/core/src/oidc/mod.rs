//! The OpenID Connect exchange as pure functions: bytes and `now` in, types out.
