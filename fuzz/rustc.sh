#!/bin/bash
# Stands between cargo and rustc (RUSTC_WRAPPER, run.sh): adds libFuzzer's coverage counters to our crates and to the
# parsers they lean on. Not to the rest: what a runtime's threads do by chance would look like progress.
# Stable rustc takes these flags; cargo-fuzz wants a nightly for the same.
set -euo pipefail
coverage=(-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters
    -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares)
# Build scripts and macros are built without --target, and don't link libFuzzer.
[[ " $* " == *" --target "* && "$*" =~ --crate-name\ (doorward[a-z_]*|serde_json|serde_urlencoded|toml|toml_parser|url|idna|form_urlencoded|percent_encoding|ipnet|base64)\  ]] && exec "$@" "${coverage[@]}"
exec "$@"
