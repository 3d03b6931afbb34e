#!/bin/bash
# Compares Doorward with the floors and prints the figures beside their bars. README.md says what they mean.
#
#   cargo build --release -p doorward
#   PEERS=/path/to/the/harness bench/run.sh [more options of the harness's bench.py]
#
# The harness must be built: cargo build --release --locked -p floor -p driver -p mock-op in its folder, and wrk installed.
set -euo pipefail
cd "$(dirname "$0")/.."
PEERS="$(realpath "${PEERS:?the folder of the comparison harness (compare.sh)}")"
export DOORWARD="${DOORWARD:-$PWD/target/release/doorward}"
export SYNCHRONOUS="${SYNCHRONOUS:-full}"
export PEERS_TMP="${PEERS_TMP:-/tmp/doorward-bench}"
[ "$SYNCHRONOUS" = full ] && durable=floor-sqlite-full || durable=floor-sqlite

mkdir -p "$PEERS_TMP"
results="$PEERS_TMP/results-$(date +%s).jsonl"
"$PEERS/compare.sh" --product "$PWD/bench/product.sh" --peers "bare,full,floor-rp,floor-sqlite,floor-sqlite-full" \
  --rounds 5 --out "$results" "$@"
echo
bench/first_logins.sh > "$PEERS_TMP/first.json"
python3 bench/bars.py "$results" "$durable" "$PEERS_TMP/first.json" "$DOORWARD"
