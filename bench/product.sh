# The contract between the comparison harness ($PEERS) and Doorward: read by its bench.py with `bash` and `set -a`, once
# for every start of the service. run.sh says how. $OP, $ORGS, $PEERS, $TMP_BASE and $DIR come from the harness.

DOORWARD="${DOORWARD:?path of the release binary}"
BENCH="$(dirname "$(realpath "${BASH_SOURCE[0]}")")"
SYNCHRONOUS="${SYNCHRONOUS:-full}"   # as in doorward.toml: compare with the floor of the same setting
PEER_NAME="${PEER_NAME:-product}"
PEER_VERSION="$("$DOORWARD" --version)"

# Login i is that of account i mod ACCOUNTS at organization i mod LOGIN_ORGS. A member who has an SSO session is not sent to
# the provider again, so there are more accounts than a run has logins: a morning on which each member comes once. (With
# few accounts the driver, which works on several at a time, meets the same pair twice.)
ACCOUNTS="${BENCH_ACCOUNTS:-6007}"
LOGIN_ORGS="${BENCH_ORGANIZATIONS:-10}"
N=$((ORGS > LOGIN_ORGS ? ORGS : LOGIN_ORGS))
OP_USER='user-{account}@example.test'

PEER_PREPARE='"$BENCH/prepare.sh"'
PEER_RUN='"$DOORWARD" serve --config "$DIR/doorward.toml"'
PEER_ACCOUNTS='python3 "$BENCH/sessions.py" cookies "$ACCOUNTS" > "$DIR/accounts"'
READY_URL=http://localhost:9300/readyz
READY_STATUS='^200$'

# A login is four requests to us: start, redirect URI, the page where it ends (the smallest there is), and the check. The
# floors are spared the third: they end at the check itself, which is on another listener here.
LOGIN_URL='http://localhost:9300/organizations/{org}/sso?next=/healthz'
CHECK_URL=http://localhost:9301/auth-request
CHECK_HEADERS='X-Original-Method: GET
X-Original-URL: http://localhost:9300/{org}/secret'

EXPECT=200
WANT_HEADER=remote-user
WANT_VALUE=user-
DENY_STATUS='^(302|303|307|401|403)$'
ORGS_SUPPORTED=1
