//! Replays what fuzzing has found worth keeping (`fuzz/corpus/`), with the very properties that the fuzzer asks for.
//!
//! A finding comes here first: its input goes into the folder of its target, and the test is red until it is mended.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

#[path = "../../../../fuzz/src/properties/mod.rs"]
mod properties;

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus")
}

fn replay(target: &str) {
    let check = properties::target(target).expect("a target");
    let mut inputs: Vec<_> =
        std::fs::read_dir(corpus().join(target)).unwrap().map(|entry| entry.unwrap().path()).collect();
    inputs.sort();
    assert!(inputs.len() >= 10, "{target}: only {} inputs", inputs.len());
    for input in inputs {
        let bytes = std::fs::read(&input).unwrap();
        let held = std::panic::catch_unwind(|| check(&bytes));
        assert!(held.is_ok(), "{} breaks a property of {target}", input.display());
    }
}

macro_rules! replayed {
    ($($target:ident)*) => {
        $(
            #[test]
            fn $target() {
                replay(stringify!($target));
            }
        )*
        const REPLAYED: &[&str] = &[$(stringify!($target)),*];
    };
}
replayed! {
    request_target cookies headers metadata keys tokens callback forms configuration return_to typed
    body_start
}

#[test]
fn every_target_is_replayed_and_has_a_corpus() {
    let targets: BTreeSet<&str> = properties::TARGETS.iter().map(|(name, _)| *name).collect();
    assert_eq!(REPLAYED.iter().copied().collect::<BTreeSet<_>>(), targets);
    let folders =
        std::fs::read_dir(corpus()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert_eq!(folders.collect::<BTreeSet<_>>(), targets.into_iter().map(str::to_owned).collect());
}
