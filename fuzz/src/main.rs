//! One binary for every target: `FUZZ_TARGET` names the property that libFuzzer's inputs are given to.
#![no_main]

mod properties;

use properties::Check;
use std::sync::LazyLock;

static CHECK: LazyLock<Check> = LazyLock::new(|| {
    let name = std::env::var("FUZZ_TARGET").expect("FUZZ_TARGET: one of those in properties/mod.rs");
    properties::target(&name).unwrap_or_else(|| panic!("{name} is no target"))
});

libfuzzer_sys::fuzz_target!(|data: &[u8]| CHECK(data));
