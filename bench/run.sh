#!/bin/bash
# Everything that is compared with a floor, in ten minutes; figures beside their bars. README.md says what they mean.
#
#   cargo build --release -p doorward && (cd bench/floor-proxy && cargo build --release)
#   PEERS=/path/to/the/harness bench/run.sh [ROUNDS]
#
# The harness must be built: cargo build --release --locked -p floor -p driver -p mock-op in its folder; wrk and nginx installed.
# A missed bar is printed, and is no error: on a machine that is not quiet it says little. Stopped, it can be started again.
set -euo pipefail
cd "$(dirname "$0")/.."
PEERS="$(realpath "${PEERS:?the folder of the comparison harness (compare.sh)}")"
export PEERS DOORWARD="${DOORWARD:-$PWD/target/release/doorward}"
export SYNCHRONOUS="${SYNCHRONOUS:-full}"
export PEERS_TMP="${PEERS_TMP:-/tmp/doorward-bench}"
rounds="${1:-5}"
[ "$SYNCHRONOUS" = full ] && durable=floor-sqlite-full || durable=floor-sqlite
mkdir -p "$PEERS_TMP"

echo "== Ways of the gate (ways.py) =="
python3 bench/ways.py --rounds "$rounds"

echo "== Checks, logins, memory and start beside the floors (the harness) =="
results="$PEERS_TMP/results-$(date +%s).jsonl"
"$PEERS/compare.sh" --product "$PWD/bench/product.sh" --peers "bare,full,floor-rp,floor-sqlite,floor-sqlite-full" \
  --rounds "$rounds" --out "$results"
echo
bench/first_logins.sh > "$PEERS_TMP/first.json"
python3 bench/bars.py "$results" "$durable" "$PEERS_TMP/first.json" "$DOORWARD"
