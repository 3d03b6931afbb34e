#!/usr/bin/env python3
"""What a check and a login cost over a large database, x over a small one, and what the cache holds.

    PEERS=/path/to/the/harness bench/at_size.py [--rounds 5] [--cached 100000]      (--rounds 0: the cache alone)
    PEERS=/path/to/the/harness bench/at_size.py --random 1000000 [--assertions]     (a check by random ones of so many: 10 minutes)

By turns each database is served for a round and asked by the harness's driver: checks by random sessions, then logins. CPU is
that of the service alone. At last, bytes for each host session that is cached with its account, by what the process's private
memory grew: first members of organizations of ten, then people who are alone in theirs, so that each brings an organization.
They are counted over half of the people and over all: two figures that differ show that more grew than the cache of facts.
Without assertions, whose signatures are another cache with a bound of its own (ADR 0045).
Stopped and started again, it finds its databases (stage.py says where).
"""
import argparse, socket, statistics, sys

import seed, stage

CHECKS, LOGINS = 20_000, 500
# Asked before bytes are counted: what else grows at first must be full, such as SQLite's pages of each connection.
FIRST = 100_000


def one_round(served):
    served.start()
    served.logins(LOGINS)
    login = served.logins(LOGINS)
    cookies = f"{served.folder}/signed-in"
    served.check(cookies, "--count", 2_000, "--seconds", 3600, "--conns", 8)
    check = served.check(cookies, "--count", CHECKS, "--seconds", 3600, "--conns", 8)["cpu_us_each"]
    served.stop()
    return check, login


def ask(members):
    """One check by each of these, one after the other on one connection."""
    with socket.create_connection(("127.0.0.1", 9301)) as connection:
        for account, organization in members:
            connection.sendall(
                f"GET /auth-request HTTP/1.1\r\nHost: localhost:9301\r\nX-Original-Method: GET\r\nCookie: doorward-app={seed.token(account, 'host')}\r\n"
                f"X-Original-URL: http://hub.localhost:9300/filler-{organization}-org/secret\r\n\r\n".encode()
            )
            answer = b""
            while not answer.endswith(b"\r\n\r\n"):
                answer += connection.recv(65536) or sys.exit("the gate hung up")
            if not answer.startswith(b"HTTP/1.1 200"):
                sys.exit(f"filler-{account} was refused: {answer.decode(errors='replace')}")


def cached(served, count):
    """Bytes for each of so many sessions whose organizations have ten members here, and for as many that are alone."""
    served.configure("assertion = false\n")
    served.start()
    organizations = stage.FILLER // 10
    count = min(count, stage.FILLER // 4)
    first = min(FIRST, stage.FILLER // 4)
    # Account i is in organization i modulo their number: the same few organizations, ten times.
    known = [(n + organizations * (i % 10), n) for i in range(first) for n in [i // 10]]
    by_ten = [(n + organizations * (i % 10), n) for i in range(count) for n in [(first + i) // 10]]
    from_organization = (first + count) // 10 + 1
    alone = [(n, n) for n in range(from_organization, min(organizations, from_organization + count))]
    ask(known)
    found = []
    for members in (by_ten, alone):
        before, cpu, grown = served.private_bytes(), served.cpu_us(), []
        half = len(members) // 2
        for some, so_far in ((members[:half], half), (members[half:], len(members))):
            ask(some)
            grown.append((served.private_bytes() - before) / so_far)
        found.append(grown[-1])
        print(f"bytes each over {half} {grown[0]:.0f}, over {len(members)} {grown[1]:.0f}; {(served.cpu_us() - cpu) / len(members):.0f} us for a first check", flush=True)
    served.stop()
    served.configure()
    served.start()
    ask(by_ten)
    ratio = among_many(served, by_ten)
    served.stop()
    return *found, ratio


def among_many(served, members):
    """CPU of a check by random ones of these, x by one of ten of them: misses of the processor's caches, and of our assertions."""
    each = {}
    # A session's first check in an hour notes its use and forgets its account, so the one after it loads that again: the first of
    # three pieces sees to it.
    checks = max(CHECKS, 3 * len(members))
    for few in (10, len(members)):
        cookies = f"{served.folder}/among-{few}"
        with open(cookies, "w") as file:
            for account, organization in members[:few]:
                file.write(f"filler-{organization}-org\tdoorward-app={seed.token(account, 'host')}\n")
        target = "http://hub.localhost:9300/{org}/secret"
        each[few] = [served.check(cookies, "--count", checks, "--seconds", 3600, "--conns", 8, target=target)["cpu_us_each"] for _ in range(3)]
    few, many = (statistics.median(times) for times in each.values())
    print(f"check by one of 10 sessions {few:.1f} us, by a random one of {len(members)} {many:.1f} us", flush=True)
    return many / few


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--cached", type=int, default=100_000)
    arguments.add_argument("--random", type=int)
    arguments.add_argument("--assertions", action="store_true")
    given = arguments.parse_args()
    if given.random:
        with stage.Served("large") as served:
            served.stop()
            served.configure("" if given.assertions else "assertion = false\n")
            served.start()
            organizations = stage.FILLER // 10
            members = [(n + organizations * (i % 10), n) for i in range(min(given.random, stage.FILLER)) for n in [i // 10]]
            ask(members)
            among = among_many(served, members)
        return stage.judged(f"check by a random one of {len(members)} sessions, x by one of ten", among, 1.4)
    ratios = {"check": [], "login": []}
    with stage.Served("small") as small:
        small.stop()
        small.stack.enter_context(large := Second("large"))
        for n in range(given.rounds):
            # By turns, and in the other order each time, because the machine's other work changes.
            order = [small, large] if n % 2 == 0 else [large, small]
            found = {served: one_round(served) for served in order}
            for what, at_ten, at_size in zip(ratios, found[small], found[large]):
                ratios[what].append(at_size / at_ten)
            print(f"round {n + 1}: check {found[small][0]:.1f} -> {found[large][0]:.1f} us, login {found[small][1]:.2f} -> {found[large][1]:.2f} ms; {stage.load()}", flush=True)
        by_ten, alone, among = cached(large, given.cached)
    for what, values in ratios.items() if given.rounds else ():
        stage.judged(f"{what} at size, x at ten", statistics.median(values), 1.25, f", {min(values):.2f} to {max(values):.2f}")
    stage.judged("bytes for a cached host session with its account, organizations of ten members", by_ten, 400)
    stage.judged("the same for people who are alone in their organization", alone, 400)
    stage.judged(f"check by a random one of {given.cached} sessions, x by one of ten", among, 1.4)


class Second(stage.Served):
    """A second copy, served by turns with the first; the provider runs already."""

    def __enter__(self):
        self.process = None
        return self

    def __exit__(self, *_):
        self.stop()
        stage.shutil.rmtree(self.folder)


if __name__ == "__main__":
    main()
