//! Decides what the proxy does with one request.
