//! The headers that tell the application who this is.
