//! Where a browser may be sent back to.
