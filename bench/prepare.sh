#!/bin/bash
# Writes $DIR/doorward.toml, and a database with $ACCOUNTS accounts that are members of $N organizations with SSO enabled.
# Organizations and settings are made with the command line; accounts, memberships and browser sessions, of which there
# are thousands, by sessions.py. Kept under $TMP_BASE for as long as the migrations are the same.
# The log has no line for each request: no service of the comparison writes one.
set -euo pipefail
cat > "$DIR/doorward.toml" <<TOML
base_url = "http://localhost:9300"
listen = "127.0.0.1:9300"
database = "sqlite:$DIR/data/doorward.db"
master_key_file = "$DIR/data/master.key"
[sqlite]
synchronous = "$SYNCHRONOUS"
[log]
level = "warn"
[gate]
listen = "127.0.0.1:9301"
trusted_proxies = ["127.0.0.1"]
[outbound]
allow = ["127.0.0.1:9100"]
[[app]]
name = "hub"
host = "localhost:9300"
organization = ["/{org}/{resource}/**", "/{org}/**"]
TOML

kept="$TMP_BASE/doorward-$(cat "$BENCH"/../migrations/*.sql | sha256sum | cut -c1-12)-$ACCOUNTS-$N"
if [ ! -d "$kept" ]; then
  mkdir -p "$DIR/data"
  d() { "$DOORWARD" "$@" --config "$DIR/doorward.toml" > /dev/null; }
  d account create ada --email ada@example.test --password-stdin <<< "correct horse battery staple 7"
  for ((k = 0; k < N; k++)); do
    d org create "org-$k" --name "org-$k" --admin ada --plan enterprise
    d sso set "org-$k" --issuer-url "$OP/org-$k" --client-id bench --client-secret-stdin \
      <<< "bench-secret-0123456789abcdef0123456789abcdef"
    d sso enable "org-$k" --untested
  done
  python3 "$BENCH/sessions.py" store "$ACCOUNTS" "$DIR/data/doorward.db"
  cp -r "$DIR/data" "$kept.new"
  mv "$kept.new" "$kept"
fi
rm -rf "$DIR/data"
cp -r "$kept" "$DIR/data"
