#!/bin/bash
# Fuzzes each target for a number of seconds of CPU and keeps what is worth keeping.
#
#   fuzz/run.sh SECONDS [TARGET…]      all of them by default; Ctrl-C keeps what was found
#   fuzz/run.sh merge [TARGET…]        makes corpus/ small again: the fewest inputs with the same coverage
#
# FUZZ_BINARY: one that is built already, so that several of these can run at once, each with a FUZZ_WORK of its own.
# New inputs go to $FUZZ_WORK/TARGET, findings to $FUZZ_WORK/findings; CPU time that was spent is added to $FUZZ_WORK/spent.
# A finding becomes a test first (crates/server/tests/it/fuzz_corpus.rs replays corpus/), then a fix. README.md says more.
set -euo pipefail
cd "$(dirname "$0")"
seconds=${1:?seconds of CPU for each target, or merge}
shift
work=${FUZZ_WORK:-/tmp/doorward-fuzz}
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$work/target}
binary=${FUZZ_BINARY:-$CARGO_TARGET_DIR/x86_64-unknown-linux-gnu/release/doorward-fuzz}
[ -n "${FUZZ_BINARY:-}" ] || RUSTC_WRAPPER=$PWD/rustc.sh cargo build --locked --release --target x86_64-unknown-linux-gnu
[ $# -gt 0 ] || set -- request_target cookies headers metadata keys tokens callback forms configuration return_to typed body_start

# Longest input in bytes, long enough for what each target is about.
longest() { case $1 in metadata | keys | tokens | configuration | headers) echo 4096 ;; *) echo 1024 ;; esac; }

# Most inputs that are kept: what the tests replay must stay quick, and a form is a round through a whole server.
kept() { case $1 in forms) echo 150 ;; request_target) echo 1500 ;; *) echo 300 ;; esac; }

# Seconds of CPU that this script's processes have used. (In $(…) `times` would tell of that shell alone.)
spent() { awk 'NR == 2 { gsub(/[ms]/, " "); print $1 * 60 + $2 + $3 * 60 + $4 }' "$work/times"; }

mkdir -p "$work/findings"
failed=0
for target; do
    mkdir -p "$work/$target" "corpus/$target"
    export FUZZ_TARGET=$target
    if [ "$seconds" = merge ]; then
        small=$work/$target.small
        rm -rf "$small" && mkdir "$small"
        "$binary" -merge=1 -max_len="$(longest "$target")" "$small" "corpus/$target" "$work/$target" 2>&1 | tail -1
        # Large inputs are left out where small ones say nearly as much.
        find "$small" -type f -size -3k -printf '%s %f\n' | sort -n | awk -v most="$(kept "$target")" '{ total += $1 } total <= 250000 && NR <= most { print $2 }' > "$small.names"
        rm -rf "corpus/$target" && mkdir "corpus/$target"
        (cd "$small" && xargs -a "$small.names" cp -t "$OLDPWD/corpus/$target")
        echo "$target: $(ls "corpus/$target" | wc -l) inputs"
        continue
    fi
    # CPU, not clock: on a busy machine a target runs for longer.
    times > "$work/times"
    before=$(spent)
    (
        ulimit -t "$seconds"
        exec nice -n 19 "$binary" -max_len="$(longest "$target")" -timeout=20 -rss_limit_mb=3000 -print_final_stats=1 \
            -artifact_prefix="$work/findings/$target-" -max_total_time=$((seconds * 20)) "$work/$target" "corpus/$target"
    ) > "$work/$target.log" 2>&1 || true
    times > "$work/times"
    after=$(spent)
    echo "$target $(awk "BEGIN { print int($after - $before) }") $(date -u +%FT%TZ)" | tee -a "$work/spent"
    if compgen -G "$work/findings/$target-*" > /dev/null; then
        echo "FOUND: $(ls "$work/findings/$target-"*)"
        failed=1
    fi
done
exit $failed
