//! Host and path of a request, normalised strictly.
