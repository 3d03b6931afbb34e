#!/usr/bin/env python3
"""Compares Doorward over a small and over a large database: what a check and a login cost, and what the cache holds.

at_size.py SMALL LARGE DOORWARD PEERS [--rounds 5] [--filler N]

SMALL and LARGE are folders as `prepare.sh` makes them (`data`: doorward.db, master.key), both with the same ten
organizations and accounts, LARGE filled up by `seed.py`. By turns each is copied, served for a round and asked by the
harness's driver (PEERS, built): random sessions of the gate, then logins. CPU is that of the service alone, from /proc.
With --filler, at last: bytes for each of so many host sessions of LARGE in the cache, by what the process grew.
"""
import argparse, contextlib, json, os, shutil, signal, sqlite3, statistics, subprocess, sys, tempfile, time, urllib.request

import seed, sessions

CHECKS, LOGINS, KNOWN = 20_000, 500, 2_000
HUB = "http://hub.localhost:9300"
CONFIGURATION = """
base_url = "http://localhost:9300"
listen = "127.0.0.1:9300"
database = "sqlite:data/doorward.db"
master_key_file = "data/master.key"
[sqlite]
synchronous = "full"
[log]
level = "warn"
[gate]
listen = "127.0.0.1:9301"
trusted_proxies = ["127.0.0.1"]
[outbound]
allow = ["127.0.0.1:9100"]
[[app]]
name = "own"
host = "localhost:9300"
organization = ["/{org}/{resource}/**", "/{org}/**"]
[[app]]
name = "hub"
host = "hub.localhost:9300"
organization = ["/{org}/{resource}/**", "/{org}/**"]
"""


class Served:
    """One Doorward over a copy of a folder's data."""

    def __init__(self, given, data, password_of=None):
        self.folder = tempfile.mkdtemp(prefix="doorward-at-size-")
        shutil.copytree(data, f"{self.folder}/data")
        if password_of:
            # Hashing one for each account would take longer than all the rest.
            db = sqlite3.connect(f"{self.folder}/data/doorward.db")
            db.execute("UPDATE account SET password_hash = (SELECT password_hash FROM account WHERE name_key = ?) WHERE password_hash IS NULL", (password_of,))
            db.commit()
            db.close()
        with open(f"{self.folder}/doorward.toml", "w") as file:
            file.write(CONFIGURATION)
        self.driver = f"{given.peers}/target/release/driver"
        self.provider = subprocess.Popen([f"{given.peers}/target/release/mock-op", "--port", "9100"], cwd=given.peers, stdout=subprocess.DEVNULL)
        self.process = subprocess.Popen([given.doorward, "serve", "--config", "doorward.toml"], cwd=self.folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(1200):
            try:
                urllib.request.urlopen("http://localhost:9300/readyz")
                return
            except OSError:
                time.sleep(0.1)
        sys.exit(f"Doorward over {data} does not become ready")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in (self.process, self.provider):
            process.send_signal(signal.SIGKILL)
            process.wait()
        shutil.rmtree(self.folder)

    def cpu_ms(self):
        fields = open(f"/proc/{self.process.pid}/stat").read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) * 1000 / os.sysconf("SC_CLK_TCK")

    def resident_kb(self):
        lines = open(f"/proc/{self.process.pid}/smaps_rollup").read().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))

    def drive(self, *arguments):
        answer = subprocess.run([self.driver, *arguments], capture_output=True, text=True)
        if answer.returncode:
            sys.exit(answer.stderr)
        return json.loads(answer.stdout)

    def check(self, cookies, count, target):
        """CPU in µs of one check by a random one of these sessions."""
        headers = ["--header", "X-Original-Method: GET", "--header", f"X-Original-URL: {target}"]
        before = self.cpu_ms()
        done = self.drive("check", "--want-header", "remote-user", "--url", "http://localhost:9301/auth-request", "--cookies", cookies, "--count", str(count), "--seconds", "3600", "--conns", "8", *headers)
        if done["failed"]:
            sys.exit(f"checks failed: {done}")
        return (self.cpu_ms() - before) * 1000 / done["ok"]

    def logins(self, accounts, index):
        """CPU in ms of one login."""
        before = self.cpu_ms()
        done = self.drive(
            "logins", "--start", "http://localhost:9300/organizations/{org}/sso?next=/healthz", "--confirm", "http://localhost:9301/auth-request",
            "--header", "X-Original-Method: GET", "--header", "X-Original-URL: http://localhost:9300/{org}/secret", "--want-header", "remote-user",
            "--want-value", "user-", "--login-cookies", accounts, "--orgs", "10", "--op-user", "user-{account}@example.test", "--op-port", "9100",
            "--conc", "8", "--index", str(index), "--count", str(LOGINS), "--seconds", "3600", "--cookies-out", f"{self.folder}/signed-in",
        )
        return (self.cpu_ms() - before) / LOGINS, done


@contextlib.contextmanager
def accounts_file():
    """The driver's list of accounts with their cookies."""
    with tempfile.NamedTemporaryFile("w", suffix=".accounts") as file:
        for account in range(6007):
            file.write(f"{account}\tdoorward-session={sessions.token(account, 'session')}; doorward-browser={sessions.token(account, 'browser')}\n")
        file.flush()
        yield file.name


def one_round(given, data, accounts):
    with Served(given, data) as served:
        served.logins(accounts, 0)
        login, done = served.logins(accounts, LOGINS)
        if done.get("failed"):
            sys.exit(f"logins failed over {data}: {done}")
        signed_in = f"{served.folder}/signed-in"
        served.check(signed_in, 2_000, "http://localhost:9300/{org}/secret")
        check = served.check(signed_in, CHECKS, "http://localhost:9300/{org}/secret")
        return check, login


def cached_bytes(given, count):
    """Bytes that one host session with its account and organization takes in the cache."""
    with Served(given, given.large) as served:
        cookies = f"{served.folder}/filler"

        def fill(first, last):
            with open(cookies, "w") as file:
                for i in range(first, last):
                    file.write(f"filler-{i % 100_000}-org\tdoorward-app={seed.token(i, 'host')}\n")
            served.check(cookies, 6 * (last - first), f"{HUB}/{{org}}/secret")

        fill(0, KNOWN)
        before = served.resident_kb()
        fill(KNOWN, KNOWN + count)
        return (served.resident_kb() - before) * 1024 / count


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("small", "large", "doorward", "peers"):
        arguments.add_argument(name)
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--filler", type=int, default=0)
    given = arguments.parse_args()
    with accounts_file() as accounts:
        ratios = {"check": [], "login": []}
        for n in range(given.rounds):
            # By turns, and in the other order each time, because the machine's other work changes.
            order = [given.small, given.large] if n % 2 == 0 else [given.large, given.small]
            found = {data: one_round(given, data, accounts) for data in order}
            small, large = found[given.small], found[given.large]
            ratios["check"].append(large[0] / small[0])
            ratios["login"].append(large[1] / small[1])
            print(f"round {n + 1}: check {small[0]:.1f} -> {large[0]:.1f} us, login {small[1]:.2f} -> {large[1]:.2f} ms", flush=True)
    missed = 0
    for what, values in ratios.items():
        ratio = statistics.median(values)
        missed += ratio > 1.25
        print(f"{'MISSED' if ratio > 1.25 else 'ok':6}  {what} at size, x at ten: {ratio:.2f} (at most 1.25), {min(values):.2f} to {max(values):.2f}")
    if given.filler:
        size = cached_bytes(given, given.filler)
        missed += size > 400
        print(f"{'MISSED' if size > 400 else 'ok':6}  bytes for a cached host session with its account: {size:.0f} (at most 400)")
    sys.exit(missed > 0)


if __name__ == "__main__":
    main()
