# The contract between the comparison harness ($PEERS) and Doorward: read by its bench.py with `bash` and `set -a`, once
# for every start of the service. run.sh says how. $OP, $ORGS, $PEERS, $TMP_BASE and $DIR come from the harness.

DOORWARD="${DOORWARD:?path of the release binary}"
BENCH="$(dirname "$(realpath "${BASH_SOURCE[0]}")")"
SYNCHRONOUS="${SYNCHRONOUS:-full}"   # as in doorward.toml: compare with the floor of the same setting
PEER_NAME="${PEER_NAME:-product}"
PEER_VERSION="$("$DOORWARD" --version)"

# Login i is that of account i mod 101 at organization i mod 100: 10,100 pairs, each used once, because a member who has
# an SSO session is not sent to the provider again.
ACCOUNTS=101
LOGIN_ORGS=100
N=$((ORGS > LOGIN_ORGS ? ORGS : LOGIN_ORGS))
OP_USER='user-{account}@example.test'

PEER_PREPARE='"$BENCH/prepare.sh"'
PEER_RUN='"$DOORWARD" serve --config "$DIR/doorward.toml"'
PEER_ACCOUNTS='python3 "$BENCH/sessions.py" cookies "$ACCOUNTS" > "$DIR/accounts"'
READY_URL=http://localhost:9300/readyz
READY_STATUS='^200$'

# A login is three requests to us, as it is to the floors: start, redirect URI, and the check where it ends. That is why
# the check's own address counts as an application here (prepare.sh): only those may be gone on to.
LOGIN_URL='http://localhost:9300/organizations/{org}/sso?next=http%3A%2F%2Flocalhost%3A9301%2Fauth-request'
CHECK_URL=http://localhost:9301/auth-request
CHECK_HEADERS='X-Original-Method: GET
X-Original-URL: http://localhost:9300/{org}/secret'

EXPECT=200
WANT_HEADER=remote-user
WANT_VALUE=user-
DENY_STATUS='^(302|303|307|401|403)$'
ORGS_SUPPORTED=1
