#!/usr/bin/env python3
"""Instructions and allocations of one warm check, counted by callgrind: the same on a busy machine as on a quiet one.

    PEERS=/path/to/the/harness DOORWARD=/binary/with/symbols bench/profile.py [--adapter auth-request|forward-auth|proxy] [--top 12] [--callers NAME]

Doorward is served under callgrind twice, and asked for 2,000 and for 6,000 checks by one session on one connection; what the
second run has more, divided by 4,000, is what a check costs, without start and warm-up. Instructions are those of the process;
the kernel's are not seen. --callers tells on whose behalf a function with NAME in its own works. Build with CARGO_PROFILE_RELEASE_STRIP=none, or functions have no names. Needs valgrind.
"""
import argparse, collections, glob, re, signal, socket, sys

import stage

FEW, MANY = 2_000, 6_000


def request(adapter, cookie):
    head = {
        "auth-request": ["GET /auth-request HTTP/1.1", "Host: localhost:9301", "X-Original-Method: GET", "X-Original-URL: http://localhost:9300/org-0/secret"],
        "forward-auth": ["GET /forward-auth HTTP/1.1", "Host: localhost:9301", "X-Forwarded-Method: GET", "X-Forwarded-Proto: http", "X-Forwarded-Host: localhost:9300", "X-Forwarded-Uri: /org-0/secret"],
        "proxy": ["GET /org-0/secret HTTP/1.1", "Host: hub.localhost:9300"],
    }[adapter]
    return "\r\n".join([*head, f"Cookie: {cookie}", "", ""]).encode()


def ask(adapter, cookie, count):
    with socket.create_connection(("127.0.0.1", 9300 if adapter == "proxy" else 9301)) as connection:
        for _ in range(count):
            connection.sendall(request(adapter, cookie))
            answer = b""
            while b"\r\n\r\n" not in answer:
                answer += connection.recv(65536) or sys.exit("the service hung up")
            if not answer.startswith(b"HTTP/1.1 200"):
                sys.exit(answer.decode(errors="replace"))


def read(path):
    """Instructions of each function itself, how often each was called, and what (caller, called) cost with all below."""
    own, calls, below, names, function = collections.Counter(), collections.Counter(), collections.Counter(), {}, None

    def named(text):
        number, _, name = text.partition(" ")
        if name:
            names[number] = name
        return names.get(number, number)

    after_call = False
    for line in open(path):
        line = line.rstrip("\n")
        if line.startswith("fn="):
            function = named(line[3:])
        elif line.startswith("cfn="):
            called = named(line[4:])
        elif line.startswith("calls="):
            calls[called] += int(line[6:].split()[0])
            after_call = True
        elif re.match(r"[+*\d-]", line):
            if after_call:
                below[function, called] += int(line.split()[1])
            else:
                own[function] += int(line.split()[1])
            after_call = False
    return own, calls, below


def run(served, adapter, cookie, count):
    out = f"{served.folder}/callgrind.{count}"
    served.start("env", "TOKIO_WORKER_THREADS=1", "valgrind", "--tool=callgrind", f"--callgrind-out-file={out}", "--")
    ask(adapter, cookie, count)
    served.stop(signal.SIGTERM)
    found = [collections.Counter() for _ in range(3)]
    for part in glob.glob(f"{out}*"):
        for counter, more in zip(found, read(part)):
            counter.update(more)
    return found


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--adapter", default="auth-request", choices=["auth-request", "forward-auth", "proxy"])
    arguments.add_argument("--top", type=int, default=12)
    arguments.add_argument("--callers")
    given = arguments.parse_args()
    upstream = [f"{stage.BIN}/floor", "--hyper", str(stage.UPSTREAM)]
    with stage.Served("small") as served, stage.running(upstream, stage.LOAD_CPU):
        served.logins(50)
        lines = (line.rstrip("\n").split("\t") for line in open(f"{served.folder}/signed-in"))
        cookie = next(cookie for organization, cookie in lines if organization == "org-0")
        if given.adapter == "proxy":
            cookie = served.hand_over(cookie, "/org-0/secret")
        cookie += "; sid=0123456789abcdef0123456789abcdef0123456789a"
        served.stop(signal.SIGTERM)
        few, many = (run(served, given.adapter, cookie, count) for count in (FEW, MANY))
    each = lambda of, name: (many[of][name] - few[of][name]) / (MANY - FEW)
    total = sum(each(0, name) for name in many[0])
    print(f"{given.adapter}: {total:,.0f} instructions a check")
    for name in ("malloc", "calloc", "realloc", "free"):
        print(f"  {sum(each(1, one) for one in many[1] if one == name):6.1f} calls of {name}")
    for name, _ in sorted(((name, each(0, name)) for name in many[0]), key=lambda pair: -pair[1])[: given.top]:
        print(f"  {each(0, name):8,.0f}  {100 * each(0, name) / total:4.1f} %  {name[:110]}")
    if given.callers:
        callers = [(pair, each(2, pair)) for pair in many[2] if given.callers in pair[1]]
        for (caller, called), cost in sorted(callers, key=lambda pair: -pair[1])[: given.top]:
            print(f"  {cost:8,.0f}  {caller[:90]} -> {called[:40]}")


if __name__ == "__main__":
    main()
