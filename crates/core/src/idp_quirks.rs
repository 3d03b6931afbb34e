//! Named deviations of identity providers, as data, with sources.
