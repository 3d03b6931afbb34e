#!/usr/bin/env python3
"""bars.py RESULTS DURABLE FIRST BINARY: the figures of a run beside their bars."""
import json, os, statistics, sys

results, durable, first, binary = sys.argv[1:5]
rows = [row for row in map(json.loads, open(results)) if "error" not in row]
first = json.load(open(first))


def of(peer, *path):
    values = []
    for row in rows:
        if row["peer"] == peer:
            for key in path:
                row = row[key]
            values.append(row)
    if not values:
        sys.exit(f"{peer} has no good round in {results}")
    return values


def paired(peer, phase):
    """Median of the ratios to the reference that was measured in the same seconds."""
    return statistics.median(of(peer, phase, "ratio"))


def asked(what):
    return first["after"].get(what, 0) - first["before"].get(what, 0)


calls = of("product", "login", "op_requests_each")
print("provider, 100 first logins together:", {key: asked(key) for key in first["after"] if key != "open_codes"})
print("provider, each login in steady state:", calls[-1])
for name, value, bar in [
    ("CPU of a check, x full", paired("product", "check") / paired("full", "check"), 1.25),
    (f"CPU of a login, x {durable}", paired("product", "login") / paired(durable, "login"), 3),
    ("provider's token endpoint, calls a login", max(call["tokens"] for call in calls), 1),
    ("provider, all calls a login", max(sum(call.values()) - call.get("authorize", 0) for call in calls), 1),
    ("keys, calls at 100 first logins", asked("jwks"), 1),
    ("discovery, calls at 100 first logins", asked("discovery"), 1),
    ("failed among 100 first logins", first["logins"]["failed"], 0),
    ("idle memory, MiB PSS", statistics.median(of("product", "idle", "pss_kb")) / 1024, 20),
    ("start to first answer, ms", statistics.median(of("product", "ready_ms")), 100),
    ("binary, MB", os.path.getsize(binary) / 1e6, 20),
]:
    print(f"{'MISSED' if value > bar else 'ok':6}  {name}: {value:.2f} (at most {bar})")
