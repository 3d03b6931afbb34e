//! Lets a test end the process at any statement of a transaction, as a power cut would. Not in a release build.
//!
//! `DOORWARD_TEST_CRASH_FILE` names a file. While it is there and holds a number, statements and the two sides of each
//! commit are counted, and the process dies before the one of that number.

#[cfg(debug_assertions)]
pub(super) fn point() {
    use std::path::PathBuf;
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};
    static FILE: OnceLock<Option<PathBuf>> = OnceLock::new();
    static PASSED: AtomicU64 = AtomicU64::new(0);
    let Some(file) = FILE.get_or_init(|| std::env::var_os("DOORWARD_TEST_CRASH_FILE").map(PathBuf::from))
    else {
        return;
    };
    let wanted: Option<u64> = std::fs::read_to_string(file).ok().and_then(|text| text.trim().parse().ok());
    match wanted {
        None => PASSED.store(0, Ordering::SeqCst),
        Some(wanted) if PASSED.fetch_add(1, Ordering::SeqCst) + 1 >= wanted => std::process::abort(),
        Some(_) => {}
    }
}

#[cfg(not(debug_assertions))]
pub(super) const fn point() {}
