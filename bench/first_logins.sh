#!/bin/bash
# A hundred members of one organization sign in at the same moment at a process that has just started; prints how often
# the provider was asked for what. $PEERS, $DOORWARD and $PEERS_TMP as in run.sh, which calls this.
set -euo pipefail
export OP=http://127.0.0.1:9100 ORGS=1 BIN="$PEERS/target/release" TMP_BASE="$PEERS_TMP" DIR="$PEERS_TMP/first"
set -a; . "$(dirname "$0")/product.sh"; set +a
rm -rf "$DIR"
mkdir -p "$DIR"
"$BIN/mock-op" --port 9100 > "$DIR/op.log" 2>&1 & provider=$!
trap 'kill $provider ${server:-} 2> /dev/null || true' EXIT
until curl -fs "$OP/stats" > /dev/null; do sleep 0.1; done
bash -c "$PEER_PREPARE"
"$DOORWARD" serve --config "$DIR/doorward.toml" > "$DIR/server.log" 2>&1 & server=$!
until curl -fs "$READY_URL" > /dev/null; do sleep 0.1; done
bash -c "$PEER_ACCOUNTS"
before="$(curl -fs "$OP/stats")"
headers=()
while IFS= read -r line; do headers+=(--header "$line"); done <<< "$CHECK_HEADERS"
logins="$("$BIN/driver" logins --start "$LOGIN_URL" --confirm "$CHECK_URL" "${headers[@]}" --want-header "$WANT_HEADER" \
  --want-value "$WANT_VALUE" --login-cookies "$DIR/accounts" --orgs 1 --op-user "$OP_USER" --op-port 9100 --count 100 --conc 100)"
printf '{"logins": %s, "before": %s, "after": %s}\n' "$logins" "$before" "$(curl -fs "$OP/stats")"
